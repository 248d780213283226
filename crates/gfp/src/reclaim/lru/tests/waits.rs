//! Reclaimers that wait inside a pass (P407).

use super::{Keeper, Machine, NODE, boot, last_pass, lists};
use crate::flags::{GFP_KERNEL, GFP_NOIO, ZoneKind};
use crate::page::GivenUp;
use crate::policy::reclaim::Priority;
use crate::policy::reclaim::lru::Kind::Droppable;
use crate::reclaim::lru::{ListPass, Who};
use crate::testing::{OnSleep, TestPlatform};
use std::boxed::Box;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::vec::Vec;

/// Runs `work` while tasks can sleep. How often they did, and ns that passed.
fn naps(
    mm: &Machine,
    mut on_sleep: impl FnMut() + Send + 'static,
    work: impl FnOnce(),
) -> (usize, u64) {
    let naps = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&naps);
    let sleep = move |platform: &TestPlatform, deadline: Option<u64>| {
        counted.fetch_add(1, Relaxed);
        on_sleep();
        let left = deadline
            .unwrap()
            .saturating_sub(crate::Platform::now_ns(platform));
        platform.pass_ns(left);
    };
    *mm.platform().on_sleep.lock().unwrap() = Some(Box::new(sleep) as OnSleep);
    let start = crate::Platform::now_ns(mm.platform());
    work();
    let ns = crate::Platform::now_ns(mm.platform()) - start;
    *mm.platform().on_sleep.lock().unwrap() = None;
    (naps.load(Relaxed), ns)
}

#[test]
fn a_request_waits_20_ms_while_others_have_too_many_and_then_takes_none() {
    // P407
    let mm = boot();
    let keeper = Keeper::new(&mm);
    keeper.with(|id| {
        for _ in 0..64 {
            keeper.add(id, Droppable, GivenUp::Busy).unwrap();
        }
        let reclaim = mm.slabs().reclaim();
        let node = reclaim.lru.get().unwrap().node(NODE).unwrap();
        let others = reclaim.take(node, Droppable, ZoneKind::Movable, 32);
        assert_eq!((lists(&mm).isolated[0], lists(&mm).inactive[0]), (32, 32));
        let request = ListPass {
            priority: Priority::new(1).unwrap(),
            ..last_pass()
        };
        let scanned = Cell::new(0);
        let scan = |pass: ListPass| {
            let done = reclaim.scan_lists(NODE, &pass);
            scanned.set(done.pages.scanned);
        };
        let (waits, ns) = naps(&mm, || {}, || scan(request));
        assert_eq!((waits, scanned.get()), (1, 0));
        assert!((20_000_000..20_010_000).contains(&ns), "{ns}");
        for pass in [
            // An eighth is for those who may enter file systems; others have all.
            ListPass {
                gfp: GFP_NOIO,
                ..request
            },
            ListPass {
                priority: Priority::LAST,
                ..request
            },
            ListPass {
                who: Who::Background,
                ..request
            },
        ] {
            let (waits, _) = naps(&mm, || {}, || scan(pass));
            assert!(waits == 0 && scanned.get() != 0);
        }
        others.put_back();
        let (waits, _) = naps(&mm, || {}, || scan(request));
        assert_eq!((waits, scanned.get()), (0, 32));
    });
}

#[test]
fn a_pass_that_finds_all_being_written_waits_for_the_end_of_a_write() {
    // P407
    let machine = Box::into_raw(Box::new(boot()));
    // SAFETY: freed at the end, when nobody has a reference.
    let mm: &'static Machine = unsafe { &*machine };
    let keeper = Keeper::new(mm);
    keeper.with(|id| {
        let add = |_| keeper.add(id, Droppable, GivenUp::Busy).unwrap();
        let pages: Vec<_> = (0..8).map(add).collect();
        pages
            .iter()
            .for_each(|page| assert!(mm.start_page_writeback(*page)));
        let scan = |gfp| {
            let pass = ListPass { gfp, ..last_pass() };
            mm.slabs().reclaim().scan_lists(NODE, &pass);
        };
        let (waits, ns) = naps(mm, || {}, || scan(GFP_KERNEL));
        assert!(
            waits == 1 && (100_000_000..100_010_000).contains(&ns),
            "{waits} {ns}"
        );
        let (waits, _) = naps(mm, || {}, || scan(GFP_NOIO));
        assert_eq!(waits, 0, "it may hold what the write needs");
        let first = pages[0];
        let ends = move || assert!(mm.end_page_writeback(first));
        let (waits, _) = naps(mm, ends, || scan(GFP_KERNEL));
        assert_eq!(waits, 1);
        let (waits, _) = naps(mm, || {}, || scan(GFP_KERNEL));
        assert_eq!(waits, 0, "one of them could go");
    });
    drop(keeper);
    // SAFETY: as above.
    drop(unsafe { Box::from_raw(machine) });
}

#[test]
fn who_dies_does_not_wait() {
    // P407: as at the entry
    let mm = boot();
    let keeper = Keeper::new(&mm);
    keeper.with(|id| {
        let page = keeper.add(id, Droppable, GivenUp::Busy).unwrap();
        assert!(mm.start_page_writeback(page));
        let task = crate::Platform::this_task(mm.platform()).unwrap();
        task.note(crate::platform::Fact::FatalSignal);
        let scan = || _ = mm.slabs().reclaim().scan_lists(NODE, &last_pass());
        assert_eq!(naps(&mm, || {}, scan).0, 0);
    });
}

#[test]
fn a_request_that_gains_nothing_waits_a_tick_before_its_last_pass() {
    // P407
    let mm = boot();
    let keeper = Keeper::new(&mm);
    keeper.with(|id| {
        keeper.fill(id, Droppable, GivenUp::Busy);
        let gfp = GFP_KERNEL | crate::flags::Gfp::NORETRY | crate::flags::Gfp::NOWARN;
        let stalls = || mm.slabs().reclaim().events().stalls.iter().sum::<u64>();
        let before = stalls();
        let (waits, ns) = naps(&mm, || {}, || assert!(mm.alloc_pages(gfp, 0).is_err()));
        let ladders = (stalls() - before) as usize;
        assert_eq!(waits, ladders);
        let ticks = 4_000_000 * ladders as u64;
        assert!((ticks..ticks + 1_000_000).contains(&ns), "{ns}");
    });
}
