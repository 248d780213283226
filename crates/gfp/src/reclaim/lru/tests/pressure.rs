//! Requests and the background over the lists.

use super::{Keeper, Machine, NODE, boot, events, lists};
use crate::Mm;
use crate::flags::{GFP_DMA32, GFP_KERNEL, GFP_NOWAIT, Gfp, ZoneKind};
use crate::frame::{Order, PhysAddr};
use crate::page::{BootConfig, GivenUp, PageRequest, WakeUp};
use crate::policy::reclaim::Priority;
use crate::policy::reclaim::kswapd::{Balance, Wake};
use crate::policy::reclaim::lru::Kind::{Droppable, Storable};
use crate::reclaim::lru::ListPass;
use crate::testing::{TestPlatform, region};
use std::boxed::Box;
use std::format;
use std::string::String;
use std::vec::Vec;

/// One request for a page: whether there was one.
fn ask(mm: &Machine, gfp: Gfp) -> bool {
    match mm.alloc_pages(gfp | Gfp::NOWARN, 0) {
        // SAFETY: freed once.
        Ok(pfn) => unsafe { mm.free_frames(pfn, 0) },
        Err(_) => return false,
    }
    true
}

#[test]
fn a_page_cache_gives_way_to_a_request_and_only_as_much_as_it_wants() {
    // P405, P410
    let mm = boot();
    let keeper = Keeper::new(&mm);
    keeper.with(|id| {
        let full = keeper.fill(id, Droppable, GivenUp::Now);
        assert!(full > 3000, "{full}");
        assert!(!ask(&mm, GFP_NOWAIT & !Gfp::RECLAIM));
        assert!(keeper.take_asked().is_empty());
        let stalls = mm.slabs().reclaim().events().stalls;
        assert!(ask(&mm, GFP_KERNEL));
        let left = keeper.frames().len();
        // Down the ladder it takes a 4096th, a 2048th ... until it has 32: less than as many more.
        assert!(
            (full - 64..=full - 32).contains(&left),
            "{left} of {full} are left"
        );
        let seen = events(&mm);
        assert_eq!(seen.scanned, [0, (full - left) as u64]);
        assert_eq!(
            (seen.freed, seen.freed_of),
            (seen.scanned, [seen.scanned[1], 0])
        );
        let now = mm.slabs().reclaim().events().stalls;
        assert_eq!(now.iter().sum::<u64>(), stalls.iter().sum::<u64>() + 1);
    });
}

#[test]
fn an_owner_that_gives_nothing_is_asked_a_bounded_number_of_times() {
    // P405, P961: one ladder asks 1/4096, 1/2048 ... of the list and at last all of it.
    let mm = boot();
    let keeper = Keeper::new(&mm);
    keeper.with(|id| {
        let full = keeper.fill(id, Droppable, GivenUp::Busy);
        let ladder = |list: usize| (0..=12).map(|p| Priority::new(p).unwrap().part(list)).sum();
        let one: usize = ladder(full);
        assert!(!ask(&mm, GFP_KERNEL | Gfp::NORETRY));
        let asked = keeper.take_asked().len();
        assert_eq!(asked % one, 0);
        assert!((1..=2).contains(&(asked / one)), "{asked} of {one} each");
        // A request that retries stops after 16 rounds without a page.
        assert!(!ask(&mm, GFP_KERNEL));
        let asked = keeper.take_asked().len();
        assert_eq!(asked % one, 0);
        assert!((2..=18).contains(&(asked / one)), "{asked} of {one} each");
        // Pages that were used lately are looked at once more by force.
        keeper
            .pages
            .lock()
            .unwrap()
            .values_mut()
            .for_each(|answer| {
                *answer = GivenUp::Referenced;
            });
        assert!(!ask(&mm, GFP_KERNEL | Gfp::NORETRY));
        assert_eq!(lists(&mm).of(Droppable), full);
        assert!(events(&mm).deactivated > 0);
    });
}

#[test]
fn an_owner_that_allocates_is_not_entered_again() {
    // P133, P962
    let mm = boot();
    let keeper = Keeper::new(&mm);
    keeper.with(|id| {
        keeper.fill(id, Droppable, GivenUp::Now);
        let mm = &mm;
        let depth = std::sync::atomic::AtomicUsize::new(0);
        *keeper.in_call.lock().unwrap() = Some(Box::new(move |_, _| {
            use std::sync::atomic::Ordering::Relaxed;
            assert_eq!(
                depth.fetch_add(1, Relaxed),
                0,
                "it is asked in its own request"
            );
            assert!(ask(mm, GFP_KERNEL), "reserves are its");
            depth.fetch_sub(1, Relaxed);
        }));
        let before = mm.slabs().reclaim().events().stalls;
        assert!(ask(mm, GFP_KERNEL));
        let after = mm.slabs().reclaim().events().stalls;
        assert_eq!(after.iter().sum::<u64>(), before.iter().sum::<u64>() + 1);
        *keeper.in_call.lock().unwrap() = None;
    });
}

#[test]
fn a_scope_without_io_narrows_what_owners_are_asked() {
    // P150, P416
    let mm = boot();
    let keeper = Keeper::new(&mm);
    keeper.with(|id| {
        keeper.fill(id, Droppable, GivenUp::Writeback);
        for pfn in keeper.frames() {
            mm.set_page_dirty(pfn);
        }
        let scope = mm.scope_noio(&"test").unwrap();
        assert!(!ask(&mm, GFP_KERNEL | Gfp::NORETRY));
        assert!(keeper.take_asked().is_empty());
        drop(scope);
        assert!(!ask(&mm, GFP_KERNEL | Gfp::NORETRY));
        assert!(!keeper.take_asked().is_empty());
        for pfn in keeper.frames() {
            mm.end_page_writeback(pfn);
            keeper.pages.lock().unwrap().insert(pfn, GivenUp::Now);
        }
        assert!(ask(&mm, GFP_KERNEL));
    });
}

#[test]
fn the_background_gives_the_lists_up_to_high_and_is_counted_apart() {
    // P400-P402, P617
    let mm = boot();
    let keeper = Keeper::new(&mm);
    keeper.with(|id| {
        let full = keeper.fill(id, Droppable, GivenUp::Now);
        let reclaim = mm.slabs().reclaim();
        assert_eq!(
            mm.pages().balance(NODE, 0, ZoneKind::Normal),
            Balance::Unbalanced
        );
        let called = core::cell::Cell::new(false);
        let stop = || {
            if !called.replace(true) {
                let call = WakeUp {
                    order: 0,
                    highest: ZoneKind::Normal,
                    direct_reclaim: true,
                };
                let woken = reclaim.wake_background(NODE, &call);
                assert_eq!(woken, Wake::Kswapd);
            }
            mm.platform().advance(33);
            mm.pages().balance(NODE, 0, ZoneKind::Normal) == Balance::Balanced
        };
        reclaim.kswapd(NODE, mm.slabs(), stop).unwrap();
        let seen = events(&mm);
        let left = keeper.frames().len();
        assert_eq!(seen.freed, [(full - left) as u64, 0]);
        assert!(
            seen.scanned[0] >= seen.freed[0] && left > full * 3 / 4,
            "{left} of {full}"
        );
        assert!(ask(&mm, GFP_NOWAIT));
    });
}

#[test]
fn pages_of_zones_that_a_request_cannot_use_are_passed_over() {
    // P617: pgskip
    const START: u64 = (4 << 30) - (8 << 20);
    let platform = TestPlatform::new(START, 16 << 20);
    let map = [region(START, START + (16 << 20))];
    let config = BootConfig {
        dma32_end: Some(PhysAddr(4 << 30)),
        lowmem_reserve_ratio: [0; ZoneKind::COUNT],
        ..BootConfig::default()
    };
    let mm = Mm::boot(platform, &map, &config).unwrap();
    let keeper = Keeper::new(&mm);
    keeper.with(|id| {
        keeper.fill(id, Droppable, GivenUp::Now);
        let kind = |pfn| mm.pages().place_of(pfn).unwrap().1;
        let low = |frames: Vec<_>| {
            let low = frames.iter().filter(|pfn| kind(**pfn) == ZoneKind::Dma32);
            low.count()
        };
        let (all, lows) = (keeper.frames().len(), low(keeper.frames()));
        assert!(lows > 100 && all - lows > 100, "{lows} of {all}");
        assert!(ask(&mm, GFP_DMA32 | GFP_KERNEL));
        let gone = all - keeper.frames().len();
        assert_eq!(lows - low(keeper.frames()), gone, "only of use");
        assert!(gone >= 32);
        assert!(events(&mm).skipped[ZoneKind::Normal as usize] > 0);
        assert!(
            keeper
                .take_asked()
                .iter()
                .all(|pfn| kind(*pfn) == ZoneKind::Dma32)
        );
        // All of the wrong zone: the pass ends.
        keeper
            .frames()
            .into_iter()
            .filter(|pfn| kind(*pfn) == ZoneKind::Dma32)
            .for_each(|pfn| {
                keeper.free(pfn);
            });
        let pass = ListPass {
            highest: ZoneKind::Dma32,
            ..super::last_pass()
        };
        let done = mm.slabs().reclaim().scan_lists(NODE, &pass);
        assert_eq!(done.pages, Default::default());
    });
}

#[test]
fn a_request_is_not_given_up_while_lists_could_serve_it() {
    // P121: what is on the lists counts as reclaimable
    let mm = boot();
    let keeper = Keeper::new(&mm);
    keeper.with(|id| {
        let full = keeper.fill(id, Storable, GivenUp::Busy);
        let asked = std::sync::atomic::AtomicUsize::new(0);
        // After three ladders its pages can go.
        *keeper.in_call.lock().unwrap() = Some(Box::new(move |keeper, page| {
            use std::sync::atomic::Ordering::Relaxed;
            if asked.fetch_add(1, Relaxed) > 6 * full {
                keeper.pages.lock().unwrap().insert(page, GivenUp::Now);
            }
        }));
        assert!(ask(&mm, GFP_KERNEL));
        *keeper.in_call.lock().unwrap() = None;
    });
}

#[test]
fn the_views_show_the_lists() {
    // P606, P612, P614, P616, P617, P620
    let mm = boot();
    let keeper = Keeper::new(&mm);
    keeper.with(|id| {
        for (n, kind, answer) in [
            (40, Droppable, GivenUp::Referenced),
            (30, Storable, GivenUp::Referenced),
        ] {
            (0..n).for_each(|_| _ = keeper.add(id, kind, answer).unwrap());
        }
        super::pass_at(&mm, 0);
        for (n, kind) in [(7, Droppable), (5, Storable)] {
            for _ in 0..n {
                let page = keeper.add(id, kind, GivenUp::Now).unwrap();
                mm.set_page_dirty(page);
                if kind == Storable {
                    mm.start_page_writeback(page);
                }
            }
        }
        let text = |view: crate::stat::View| {
            let mut text = String::new();
            view.write(&mm, &mut text).unwrap();
            text
        };
        let vmstat = text(crate::stat::View::Vmstat);
        for (name, n) in [
            ("nr_zone_active_file", 40),
            ("nr_zone_active_anon", 30),
            ("nr_zone_inactive_file", 7),
            ("nr_zone_inactive_anon", 5),
            ("nr_zone_write_pending", 12),
            ("nr_active_file", 40),
            ("nr_inactive_anon", 5),
            ("nr_file_pages", 47),
            ("nr_anon_pages", 35),
            ("nr_dirty", 7),
            ("nr_writeback", 5),
            ("nr_dirtied", 12),
            ("pgactivate", 70),
            ("pgscan_direct", 70),
            ("pgscan_file", 40),
            ("pgscan_anon", 30),
            ("pgsteal_direct", 0),
        ] {
            let line = format!("\n{name} {n}\n");
            assert!(vmstat.contains(&line), "{line} in {vmstat}");
        }
        let meminfo = text(crate::stat::View::Meminfo);
        for (name, kib) in [
            ("Active(file):", 160),
            ("Inactive(anon):", 20),
            ("Dirty:", 28),
        ] {
            let line = format!("{name:<16}{kib:>8} kB\n");
            assert!(meminfo.contains(&line), "{line} in {meminfo}");
        }
        let zoneinfo = text(crate::stat::View::Zoneinfo);
        assert!(zoneinfo.contains("nr_active_file 40") && zoneinfo.contains("nr_writeback 5"));
        let mut show = String::new();
        let all = crate::stat::MemFilter::ALL;
        crate::stat::show_mem(&mm, &all, &mut show).unwrap();
        assert!(
            show.contains("active_anon:30 inactive_anon:5 isolated_anon:0\n"),
            "{show}"
        );
    });
    let request = PageRequest::new(GFP_KERNEL, Order::ZERO);
    assert!(mm.pages().alloc(&request).is_ok());
}
