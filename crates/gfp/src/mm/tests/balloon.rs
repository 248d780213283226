//! The balloon (P522): what the device is told, what the views say, and what moves.
//!
//! Seen to fail with: an inflation that may call the killer; a page that is in no set after a
//! refusal or a panic of the device; a move that does not change the counts of nodes.

use crate::Mm;
use crate::flags::{GFP_KERNEL, Gfp};
use crate::frame::{NodeId, PAGE_SIZE, PAGEBLOCK_PAGES, Pfn};
use crate::mm::{Balloon, BalloonDevice, BalloonError, UnderPressure};
use crate::page::tests::tenant::Renting;
use crate::page::{
    BootConfig, MemoryRegion, MigrateError, MigrateMode, Migrated, OWNERS_MAX, PageOwnerError,
};
use crate::policy::oom::Candidate;
use crate::reclaim::oom::{OomId, OomSource};
use crate::stat::View;
use crate::testing::{TestPlatform, region};
use core::ops::ControlFlow;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::string::String;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::vec::Vec;

const BASE: u64 = 4 << 30;
const MIB: u64 = 1 << 20;

fn boot(map: &[MemoryRegion]) -> Mm<TestPlatform> {
    Mm::boot(
        TestPlatform::new(BASE, 32 << 20),
        map,
        &BootConfig::default(),
    )
    .unwrap()
}

fn machine() -> Mm<TestPlatform> {
    boot(&[region(BASE, BASE + 32 * MIB)])
}

/// What the device does next instead of what it should.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Whim {
    Refuse(Migrated),
    Panic,
}

/// A device that knows its pages.
#[derive(Default)]
struct Host {
    has: Mutex<BTreeSet<Pfn>>,
    whim: Mutex<Option<Whim>>,
    moves: AtomicUsize,
}

impl Host {
    fn pages(&self) -> Vec<Pfn> {
        self.has.lock().unwrap().iter().copied().collect()
    }

    fn has_next(&self, whim: Option<Whim>) {
        *self.whim.lock().unwrap() = whim;
    }

    fn panics_at_times(&self) {
        if self
            .whim
            .lock()
            .unwrap()
            .take_if(|whim| *whim == Whim::Panic)
            .is_some()
        {
            panic!("meant to be: the device panics");
        }
    }
}

impl BalloonDevice for Host {
    fn inflate(&self, pages: &[Pfn]) {
        assert!((1..=Balloon::<TestPlatform>::BATCH).contains(&pages.len()));
        for page in pages {
            assert!(self.has.lock().unwrap().insert(*page), "told twice");
        }
        self.panics_at_times();
    }

    fn deflate(&self, pages: &[Pfn]) {
        assert!((1..=Balloon::<TestPlatform>::BATCH).contains(&pages.len()));
        self.panics_at_times();
        for page in pages {
            assert!(self.has.lock().unwrap().remove(page), "not its own");
        }
    }

    fn migrate(&self, from: Pfn, to: Pfn) -> Migrated {
        self.moves.fetch_add(1, Relaxed);
        if let Some(Whim::Refuse(answer)) = *self.whim.lock().unwrap() {
            return answer;
        }
        assert!(self.has.lock().unwrap().insert(to), "told twice");
        self.panics_at_times();
        assert!(self.has.lock().unwrap().remove(&from), "not its own");
        Migrated::Done
    }
}

/// The numbers of a line of a view, without the unit.
fn line(mm: &Mm<TestPlatform>, view: View, name: &str) -> Vec<usize> {
    let mut text = String::new();
    view.write(mm, &mut text).unwrap();
    let of = |line: &str| {
        let mut words = line.split_whitespace();
        (words.next() == Some(name)).then(|| words.next().unwrap().parse().unwrap())
    };
    text.lines().filter_map(of).collect()
}

/// `nr_balloon_pages`, and the events of `vmstat`: inflated, deflated, migrated.
fn counters(mm: &Mm<TestPlatform>) -> [usize; 4] {
    let names = [
        "nr_balloon_pages",
        "balloon_inflate",
        "balloon_deflate",
        "balloon_migrate",
    ];
    names.map(|name| {
        let all = line(mm, View::Vmstat, name);
        assert_eq!(all.len(), 1, "{name}");
        all[0]
    })
}

fn free_pages(mm: &Mm<TestPlatform>) -> usize {
    mm.pages().drain_all();
    mm.verify().unwrap();
    mm.pages().free_page_count()
}

/// A machine whose CPU has its caches, and what is free then.
fn warm(mm: &Mm<TestPlatform>) -> usize {
    mm.with_balloon(&Host::default(), UnderPressure::Deflate, |balloon| {
        assert_eq!(balloon.inflate(100), 100);
    })
    .unwrap();
    free_pages(mm)
}

fn migrate(mm: &Mm<TestPlatform>, page: Pfn) -> Result<Pfn, MigrateError> {
    mm.migrate_page(page, 0, GFP_KERNEL | Gfp::MOVABLE, MigrateMode::Sync)
}

#[test]
fn pages_go_to_the_device_and_come_back_and_all_views_say_so() {
    // P522
    let mm = machine();
    let before = warm(&mm);
    let [_, inflated, deflated, _] = counters(&mm);
    let host = Host::default();
    let ended = mm.with_balloon(&host, UnderPressure::Keep, |balloon| {
        let with_none = free_pages(&mm);
        assert_eq!(
            before - with_none,
            2,
            "the bits of 128 MiB and where they stand"
        );
        assert_eq!(balloon.inflate(1000), 1000);
        assert_eq!((balloon.pages(), host.pages().len()), (1000, 1000));
        assert!(host.pages().iter().all(|page| !mm.pages().is_free(*page)));
        assert_eq!(free_pages(&mm), with_none - 1000);
        assert_eq!(counters(&mm), [1000, inflated + 1000, deflated, 0]);
        assert_eq!(line(&mm, View::Meminfo, "Balloon:"), [4000]);
        assert_eq!(balloon.deflate(300), 300);
        assert_eq!(free_pages(&mm), with_none - 700);
        assert_eq!(counters(&mm), [700, inflated + 1000, deflated + 300, 0]);
        assert_eq!(line(&mm, View::Meminfo, "Balloon:"), [2800]);
        assert_eq!(balloon.deflate(0) + balloon.inflate(0), 0);
        assert_eq!(balloon.deflate(5000), 700);
        assert_eq!(balloon.deflate(1), 0);
        assert_eq!(balloon.inflate(70), 70);
        "what the closure says"
    });
    assert_eq!(ended, Ok("what the closure says"));
    assert!(host.pages().is_empty(), "the end gives all back");
    assert_eq!(free_pages(&mm), before);
    assert_eq!(counters(&mm), [0, inflated + 1070, deflated + 1070, 0]);
    assert!(mm.platform().reports().is_empty());
}

#[test]
fn each_node_counts_its_own_pages() {
    // P522
    let node = |n, from, to| MemoryRegion {
        node: NodeId(n),
        ..region(BASE + from * MIB, BASE + to * MIB)
    };
    let mm = boot(&[node(0, 0, 16), node(1, 16, 32)]);
    let host = Host::default();
    mm.with_balloon(&host, UnderPressure::Keep, |balloon| {
        balloon.inflate(5000);
        let far = |page: &&Pfn| page.phys().0 >= BASE + 16 * MIB;
        let of = |pages: &[Pfn]| {
            let far = pages.iter().filter(far).count();
            [pages.len() - far, far]
        };
        let split = of(&host.pages());
        assert!(split[0] > 1000 && split[1] > 1000, "{split:?}");
        assert_eq!(line(&mm, View::Zoneinfo, "nr_balloon_pages"), split);
        // One from the first node to the second.
        balloon.deflate(2000);
        let pages = host.pages();
        let split = of(&pages);
        let near = pages[0];
        let gfp = GFP_KERNEL | Gfp::MOVABLE | Gfp::THISNODE;
        let room = mm.alloc_pages_node(NodeId(1), gfp, 0).unwrap();
        // SAFETY: ours.
        unsafe { mm.free_frames(room, 0) };
        let take = || mm.alloc_pages_node(NodeId(1), gfp, 0);
        let order = crate::frame::Order::ZERO;
        let moved = mm
            .pages()
            .migrate_page(near, order, MigrateMode::Sync, take, |_| ());
        assert!(moved.unwrap().phys().0 >= BASE + 16 * MIB);
        let expected = [split[0] - 1, split[1] + 1];
        assert_eq!(line(&mm, View::Zoneinfo, "nr_balloon_pages"), expected);
        assert_eq!(of(&host.pages()), expected);
    })
    .unwrap();
    assert_eq!(line(&mm, View::Zoneinfo, "nr_balloon_pages"), [0, 0]);
}

#[test]
fn a_range_full_of_balloon_pages_is_emptied_by_telling_the_device() {
    // P522, P500
    let mm = machine();
    let before = warm(&mm);
    let host = Host::default();
    mm.with_balloon(&host, UnderPressure::Keep, |balloon| {
        balloon.inflate(4000);
        let in_block = |pages: &[Pfn], first: Pfn| {
            let range = first..first.add(PAGEBLOCK_PAGES);
            pages.iter().filter(|page| range.contains(page)).count()
        };
        let pages = host.pages();
        let mut blocks = (0..16).map(|n| Pfn(BASE as usize / PAGE_SIZE + n * PAGEBLOCK_PAGES));
        let full = |first: &Pfn| in_block(&pages, *first) == PAGEBLOCK_PAGES;
        let first = blocks.find(full).expect("a block full of them");
        let range = first..first.add(PAGEBLOCK_PAGES);
        mm.alloc_contig_range(range, GFP_KERNEL).unwrap();
        assert_eq!(in_block(&host.pages(), first), 0);
        assert_eq!((balloon.pages(), host.pages().len()), (4000, 4000));
        let [pages, _, _, migrated] = counters(&mm);
        assert_eq!((pages, migrated), (4000, PAGEBLOCK_PAGES));
        // SAFETY: allocated above.
        unsafe { mm.free_contig_range(first, PAGEBLOCK_PAGES) };
        mm.verify().unwrap();
        // What moved can be moved again, and given back.
        migrate(&mm, host.pages()[7]).unwrap();
        assert_eq!(balloon.deflate(4000), 4000);
    })
    .unwrap();
    assert_eq!(free_pages(&mm), before);
    assert!(mm.platform().reports().is_empty());
}

#[test]
fn after_a_refusal_all_is_as_before() {
    // P522
    let mm = machine();
    warm(&mm);
    let host = Host::default();
    mm.with_balloon(&host, UnderPressure::Keep, |balloon| {
        balloon.inflate(100);
        let (pages, counts, free) = (host.pages(), counters(&mm), free_pages(&mm));
        for (answer, error) in [
            (Migrated::Busy, MigrateError::Busy),
            (Migrated::Failed, MigrateError::Refused),
        ] {
            host.has_next(Some(Whim::Refuse(answer)));
            assert_eq!(migrate(&mm, pages[40]), Err(error));
            let range = pages[40]..pages[40].add(1);
            assert!(
                mm.alloc_contig_range(range, GFP_KERNEL)
                    .unwrap_err()
                    .is_busy()
            );
            assert!(host.moves.swap(0, Relaxed) >= 2);
            assert_eq!((host.pages(), balloon.pages()), (pages.clone(), 100));
            assert_eq!((counters(&mm), free_pages(&mm)), (counts, free));
        }
        host.has_next(None);
        let to = migrate(&mm, pages[40]).unwrap();
        assert!(host.pages().contains(&to) && !host.pages().contains(&pages[40]));
        assert_eq!(balloon.deflate(1000), 100, "also the one that was refused");
    })
    .unwrap();
}

#[test]
fn a_device_that_panics_loses_no_page() {
    // P522
    let mm = machine();
    let before = warm(&mm);
    let host = Host::default();
    let panics = |work: &mut dyn FnMut()| {
        host.has_next(Some(Whim::Panic));
        assert!(catch_unwind(AssertUnwindSafe(work)).is_err());
    };
    mm.with_balloon(&host, UnderPressure::Keep, |balloon| {
        balloon.inflate(10);
        panics(&mut || {
            balloon.inflate(5);
        });
        assert_eq!((balloon.pages(), host.pages().len()), (15, 15));
        panics(&mut || {
            balloon.deflate(5);
        });
        assert_eq!((balloon.pages(), host.pages().len()), (15, 15));
        let from = host.pages()[3];
        panics(&mut || {
            _ = migrate(&mm, from);
        });
        // It has both.
        assert_eq!((balloon.pages(), host.pages().len()), (16, 16));
        assert_eq!(counters(&mm)[0], 16);
    })
    .unwrap();
    assert!(host.pages().is_empty());
    assert_eq!(free_pages(&mm), before);
    let [pages, inflated, deflated, _] = counters(&mm);
    assert_eq!((pages, inflated), (0, deflated));
    // The one who uses it may panic as well.
    let ended = catch_unwind(AssertUnwindSafe(|| {
        mm.with_balloon(&host, UnderPressure::Deflate, |balloon| {
            balloon.inflate(200);
            panic!("meant to be: the driver panics");
        })
    }));
    assert!(ended.is_err() && host.pages().is_empty());
    assert_eq!(free_pages(&mm), before);
}

/// Tasks that nobody may even look for.
struct Tasks;

impl OomSource for Tasks {
    fn for_each(&self, _: &mut dyn FnMut(OomId, &Candidate) -> ControlFlow<()>) {
        panic!("the OOM killer was called");
    }

    fn mark(&self, _: OomId) {}

    fn kill(&self, _: OomId) {}

    fn has_ended(&self, _: OomId) -> bool {
        true
    }
}

#[test]
fn an_inflation_takes_no_reserves_and_kills_nobody() {
    // P522
    let mm = machine();
    let id = mm.register_oom_source(&Tasks).unwrap();
    let host = Host::default();
    mm.with_balloon(&host, UnderPressure::Keep, |balloon| {
        let got = balloon.inflate(1 << 20);
        assert_eq!((got, balloon.pages()), (host.pages().len(), got));
        assert!(got > 7000, "{got} of 8192");
        assert_eq!(balloon.inflate(1), 0, "no more");
        mm.pages().drain_all();
        let zone = mm.pages().zone_stats().last().unwrap();
        assert!(zone.free.free >= zone.watermarks.min / 2, "reserves");
        assert!(mm.platform().reports().is_empty(), "not a word was said");
    })
    .unwrap();
    mm.unregister_oom_source(id);
}

#[test]
fn who_needs_memory_gets_it_from_a_balloon_that_lets_go() {
    // P522, P412
    for (pressure, gets_it) in [(UnderPressure::Keep, false), (UnderPressure::Deflate, true)] {
        let mm = machine();
        let host = Host::default();
        mm.with_balloon(&host, pressure, |balloon| {
            balloon.inflate(7000);
            let full = balloon.pages();
            let mut got = Vec::new();
            let gfp = GFP_KERNEL | Gfp::NOWARN | Gfp::NORETRY;
            while got.len() < 3000
                && let Ok(page) = mm.alloc_pages(gfp, 0)
            {
                got.push(page);
            }
            assert_eq!(got.len() == 3000, gets_it, "{pressure:?}: {}", got.len());
            assert_eq!(balloon.pages() < full, gets_it);
            assert_eq!(host.pages().len(), balloon.pages());
            assert_eq!(counters(&mm)[0], balloon.pages());
            // SAFETY: ours.
            got.into_iter()
                .for_each(|page| unsafe { mm.free_frames(page, 0) });
        })
        .unwrap();
        assert!(host.pages().is_empty());
        mm.verify().unwrap();
    }
}

#[test]
fn a_balloon_that_there_is_no_place_for_leaves_nothing_behind() {
    // P522
    let mm = machine();
    let before = warm(&mm);
    let host = Host::default();
    let tenants: Vec<_> = (0..OWNERS_MAX).map(|_| Renting::new(&mm)).collect();
    let error = mm
        .with_balloon(&host, UnderPressure::Deflate, |_| ())
        .unwrap_err();
    assert_eq!(error, BalloonError::Owner(PageOwnerError::TooMany));
    drop(tenants);
    assert_eq!(free_pages(&mm), before);
    // Several balloons are counted together.
    mm.with_balloon(&host, UnderPressure::Keep, |one| {
        mm.with_balloon(&host, UnderPressure::Deflate, |other| {
            one.inflate(100);
            other.inflate(50);
            assert_eq!(one.deflate(1000), 100, "its own only");
            assert_eq!((other.pages(), counters(&mm)[0]), (50, 50));
        })
    })
    .unwrap()
    .unwrap();
    assert_eq!(free_pages(&mm), before);
}
