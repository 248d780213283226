//! Compaction over small machines whose pages have an owner.

extern crate std;

use crate::Mm;
use crate::flags::{GFP_HIGHUSER_MOVABLE, GFP_KERNEL, Gfp, ZoneKind};
use crate::frame::{NodeId, Order, PAGEBLOCK_PAGES, Pfn};
use crate::page::tests::is_movable;
use crate::page::tests::tenant::{During, Renting};
use crate::page::{
    BootConfig, Compacted, Ground, Locking, MigrateMode, Migrated, Need, PageRequest,
};
use crate::policy::compaction::{Met, PageFacts};
use crate::policy::effort::{Caller, CompactOutcome, CompactPriority, Effort, Machine};
use crate::reclaim::CompactEvents;
use crate::testing::{Rng, TestPlatform, region};
use std::sync::atomic::Ordering::Relaxed;
use std::vec::Vec;

const MIB: usize = 32;

pub(super) fn machine() -> Mm<TestPlatform> {
    let start = 4u64 << 30;
    let platform = TestPlatform::new(start, MIB << 20);
    let map = [region(start, start + (MIB << 20) as u64)];
    let config = BootConfig {
        // Background works on its own account.
        watermark_boost_factor: 0,
        ..BootConfig::default()
    };
    Mm::boot(platform, &map, &config).unwrap()
}

pub(super) fn events(mm: &Mm<TestPlatform>) -> CompactEvents {
    mm.slabs().reclaim().events().compact
}

/// Takes all memory in blocks of up to `top`, and gives every second pageful back.
pub(super) fn fragment(tenant: &Renting<'_>, top: u8) {
    let mut rng = Rng::new(7);
    let mut order = || rng.below(usize::from(top) + 1) as u8;
    let easy = GFP_HIGHUSER_MOVABLE.without(Gfp::DIRECT_RECLAIM) | Gfp::NOWARN;
    while tenant.take_with(easy, order()).is_some() || tenant.take_with(easy, 0).is_some() {}
    let frames = tenant.frames();
    // What was borrowed from blocks of another type would be that type's again.
    let own = |pfn: &&Pfn| is_movable(tenant.mm.pages(), **pfn);
    let own = frames.iter().filter(own).skip(1).step_by(2);
    own.for_each(|pfn| tenant.give(*pfn));
    tenant.mm.pages().drain_all();
    // What is below min is in one piece.
    assert!(largest_free(tenant.mm) < 9, "fragmented");
}

pub(super) fn largest_free(mm: &Mm<TestPlatform>) -> usize {
    let by_order = mm.pages().nr_free_by_order();
    by_order.iter().rposition(|n| *n != 0).unwrap_or(0)
}

/// Compacts once for a request.
pub(super) fn compact(mm: &Mm<TestPlatform>, order: u8, priority: CompactPriority) -> Compacted {
    let request = PageRequest::new(GFP_KERNEL, Order::new(order).unwrap());
    let effort = Effort::of(
        GFP_KERNEL,
        order.into(),
        &Caller::default(),
        &Machine::LINUX,
    );
    let need = Need {
        request: &request,
        effort: &effort,
    };
    let reclaim = mm.slabs().reclaim();
    reclaim.compact_directly(&need, order.into(), priority)
}

pub(super) fn outcome(compacted: Compacted) -> CompactOutcome {
    match compacted {
        Compacted::Ended(outcome) => outcome,
        Compacted::Captured(_) => CompactOutcome::Success,
    }
}

pub(super) fn free(mm: &Mm<TestPlatform>, pfn: Pfn, order: u8) {
    // SAFETY: tests free what they took.
    unsafe { mm.free_frames(pfn, order) };
}

#[test]
fn a_large_request_is_served_by_moving_pages_together() {
    // P119, P420, P424: pages of one order, and of several
    for top in [0, 3] {
        let mm = machine();
        let tenant = Renting::new(&mm);
        fragment(&tenant, top);
        let pages = tenant.frames().len();
        let block = mm.alloc_pages(GFP_KERNEL | Gfp::RETRY_MAYFAIL, 9).unwrap();
        let done = events(&mm);
        assert!(
            done.migrated > 0 && done.migrated == moved_pages(&tenant),
            "{done:?}"
        );
        assert!(done.isolated >= 2 * done.migrated);
        assert!(done.migrate_scanned > 0 && done.stalls > 0 && done.success > 0);
        assert_eq!(done.stalls, done.success + done.fail);
        // P409: to move a page takes the tenant a microsecond, and the request waits for it.
        let stalled = mm.memory_stall_us();
        assert!(stalled >= tenant.moved.load(Relaxed) as u64, "{stalled}");
        // Everybody has what he had, wherever it is.
        assert_eq!(tenant.frames().len(), pages);
        tenant.check();
        mm.verify().unwrap();
        free(&mm, block, 9);
    }
}

fn moved_pages(tenant: &Renting<'_>) -> u64 {
    tenant.moved_pages.load(Relaxed) as u64
}

#[test]
fn what_is_made_is_captured_by_who_made_it() {
    // P320, P428: the block is in no zone when the compaction returns
    let mm = machine();
    let tenant = Renting::new(&mm);
    fragment(&tenant, 0);
    let free_before = mm.pages().free_page_count();
    let Compacted::Captured(pfn) = compact(&mm, 9, CompactPriority::SyncLight) else {
        panic!("a block is made and taken");
    };
    assert!(pfn.0.is_multiple_of(PAGEBLOCK_PAGES));
    assert!(!mm.pages().is_free(pfn));
    assert_eq!(mm.pages().free_page_count(), free_before - PAGEBLOCK_PAGES);
    assert!((0..PAGEBLOCK_PAGES).all(|i| !tenant.frames().contains(&pfn.add(i))));
    // P320: of movable blocks a request that is not movable gets whole ones only.
    let small = compact(&mm, 4, CompactPriority::SyncLight);
    assert!(matches!(small, Compacted::Ended(CompactOutcome::Success)));
    let word = crate::frame::FrameWord::new(crate::frame::FrameKind::Page, Order::PAGEBLOCK, 1);
    mm.pages().set_word(pfn, word);
    free(&mm, pfn, 9);
    mm.verify().unwrap();
}

#[test]
fn an_asynchronous_compaction_leaves_what_it_would_wait_for() {
    // P424
    let mm = machine();
    let tenant = Renting::new(&mm);
    fragment(&tenant, 0);
    let dirty = PageFacts {
        movable: true,
        dirty: true,
        ..PageFacts::default()
    };
    let all = tenant.frames();
    tenant
        .facts
        .lock()
        .unwrap()
        .extend(all.iter().map(|pfn| (*pfn, dirty)));
    let request = PageRequest::new(GFP_HIGHUSER_MOVABLE, Order::PAGEBLOCK);
    let effort = Effort::of(request.gfp, 9, &Caller::default(), &Machine::LINUX);
    let need = Need {
        request: &request,
        effort: &effort,
    };
    let reclaim = mm.slabs().reclaim();
    for (priority, modes) in [
        (CompactPriority::Async, None),
        (CompactPriority::SyncLight, Some(MigrateMode::SyncLight)),
    ] {
        let ended = reclaim.compact_directly(&need, 9, priority);
        let made = matches!(ended, Compacted::Captured(_));
        assert_eq!(made, modes.is_some(), "{priority:?}");
        let seen = tenant.modes.lock().unwrap();
        assert!(seen.iter().all(|mode| Some(*mode) == modes));
        assert_eq!(seen.is_empty(), modes.is_none());
        drop(seen);
        if let Compacted::Captured(pfn) = ended {
            let kind = crate::frame::FrameKind::Page;
            let word = crate::frame::FrameWord::new(kind, Order::PAGEBLOCK, 1);
            mm.pages().set_word(pfn, word);
            free(&mm, pfn, 9);
        }
    }
    mm.verify().unwrap();
}

#[test]
fn pages_that_cannot_be_moved_end_the_request_and_stay_where_they_are() {
    // P125, P132: all priorities are tried; the request ends.
    let mm = machine();
    let tenant = Renting::new(&mm);
    fragment(&tenant, 0);
    *tenant.refuses.lock().unwrap() = Some(Migrated::Busy);
    let before = tenant.frames();
    let free_before = mm.pages().free_page_count();
    assert!(mm.alloc_pages(GFP_KERNEL | Gfp::RETRY_MAYFAIL, 9).is_err());
    assert_eq!(tenant.frames(), before);
    assert_eq!(mm.pages().free_page_count(), free_before);
    let done = events(&mm);
    assert_eq!((done.migrated, done.success), (0, 0));
    assert!(done.not_migrated > 0 && done.fail > 0);
    assert!(tenant.put_back.load(Relaxed) as u64 >= done.not_migrated);
    mm.verify().unwrap();
    // And pages that are in use now are not even isolated.
    let asked = tenant.modes.lock().unwrap().len();
    let pinned = PageFacts {
        movable: true,
        pinned: true,
        ..PageFacts::default()
    };
    tenant
        .facts
        .lock()
        .unwrap()
        .extend(before.iter().map(|pfn| (*pfn, pinned)));
    assert_eq!(
        outcome(compact(&mm, 9, CompactPriority::SyncFull)),
        CompactOutcome::Complete
    );
    assert_eq!(tenant.modes.lock().unwrap().len(), asked);
}

#[test]
fn failures_thin_attempts_out() {
    // P426, P964: 1, 2, 4 ... 64; success resets
    let mm = machine();
    let tenant = Renting::new(&mm);
    fragment(&tenant, 0);
    *tenant.refuses.lock().unwrap() = Some(Migrated::Failed);
    let light = || outcome(compact(&mm, 9, CompactPriority::SyncLight));
    let deferred = || {
        let mut n = 0;
        while light() == CompactOutcome::Deferred {
            n += 1;
        }
        n // the attempt that ended it has failed too
    };
    assert!(light() != CompactOutcome::Deferred);
    let left_out: Vec<_> = (0..8).map(|_| deferred()).collect();
    assert_eq!(left_out, [1, 2, 4, 8, 16, 32, 64, 64]);
    // Smaller orders are not concerned; the highest priority ignores it and is not counted.
    assert!(outcome(compact(&mm, 3, CompactPriority::SyncLight)) != CompactOutcome::Deferred);
    *tenant.refuses.lock().unwrap() = None;
    let full = compact(&mm, 9, CompactPriority::SyncFull);
    let Compacted::Captured(pfn) = full else {
        panic!("{full:?}");
    };
    *tenant.refuses.lock().unwrap() = Some(Migrated::Failed);
    assert!(light() != CompactOutcome::Deferred, "success resets");
    let word = crate::frame::FrameWord::new(crate::frame::FrameKind::Page, Order::PAGEBLOCK, 1);
    mm.pages().set_word(pfn, word);
    free(&mm, pfn, 9);
}

#[test]
fn owners_may_free_pages_while_they_are_being_moved() {
    for call in [During::Isolate, During::Migrate] {
        let mm = machine();
        let tenant = Renting::new(&mm);
        fragment(&tenant, 0);
        let pages = tenant.frames().len();
        let free_before = mm.pages().free_page_count() + mm.pages().cached_page_count();
        *tenant.frees.lock().unwrap() = Some(call);
        mm.compact_memory();
        *tenant.frees.lock().unwrap() = None;
        let gone = pages - tenant.frames().len();
        assert!(gone > 0, "{call:?}");
        let left = mm.pages().free_page_count() + mm.pages().cached_page_count();
        assert_eq!(left, free_before + gone);
        mm.verify().unwrap();
        tenant.check();
    }
}

#[test]
fn an_administrator_has_everything_compacted() {
    // P708
    let mm = machine();
    let tenant = Renting::new(&mm);
    fragment(&tenant, 2);
    mm.compact_memory();
    tenant.check();
    mm.verify().unwrap();
    let by_order = mm.pages().nr_free_by_order();
    let whole = by_order[9] + 2 * by_order[10];
    let free = mm.pages().free_page_count();
    assert!(
        whole >= free / PAGEBLOCK_PAGES / 2,
        "{by_order:?} of {free}"
    );
    mm.compact_node(NodeId(7)); // there is none
}

#[test]
fn a_machine_whose_pages_have_no_owner_does_not_compact() {
    // P110, P126
    let mm = machine();
    let easy = GFP_HIGHUSER_MOVABLE.without(Gfp::DIRECT_RECLAIM) | Gfp::NOWARN;
    let taken: Vec<_> = core::iter::from_fn(|| mm.alloc_pages(easy, 0).ok()).collect();
    taken.iter().step_by(2).for_each(|pfn| free(&mm, *pfn, 0));
    assert!(mm.alloc_pages(GFP_KERNEL | Gfp::RETRY_MAYFAIL, 9).is_err());
    assert_eq!(events(&mm), CompactEvents::default());
    assert!(!mm.slabs().reclaim().pages().has_page_owners());
    taken
        .iter()
        .skip(1)
        .step_by(2)
        .for_each(|pfn| free(&mm, *pfn, 0));
    mm.verify().unwrap();
}

#[test]
fn a_zone_without_room_is_left_alone() {
    // P422: nothing free to move to
    let mm = machine();
    let tenant = Renting::new(&mm);
    let easy = GFP_HIGHUSER_MOVABLE.without(Gfp::DIRECT_RECLAIM) | Gfp::NOWARN;
    while tenant.take_with(easy, 0).is_some() {}
    mm.pages().drain_all();
    for priority in [CompactPriority::Async, CompactPriority::SyncFull] {
        assert_eq!(outcome(compact(&mm, 9, priority)), CompactOutcome::Skipped);
    }
    assert_eq!(events(&mm), CompactEvents::default());
}

#[test]
fn an_owner_that_panics_costs_no_memory_but_its_own() {
    // Seen to fail: targets that nobody gives back.
    let mm = machine();
    let tenant = Renting::new(&mm);
    fragment(&tenant, 0);
    let free_before = mm.pages().free_page_count();
    *tenant.panics_after.lock().unwrap() = Some(3);
    let request = std::panic::AssertUnwindSafe(|| compact(&mm, 9, CompactPriority::SyncLight));
    assert!(std::panic::catch_unwind(request).is_err());
    *tenant.panics_after.lock().unwrap() = None;
    // The page that it was to use is its own.
    let to = tenant.panicked.lock().unwrap().take().unwrap();
    assert_eq!(mm.pages().free_page_count(), free_before - 1);
    mm.verify().unwrap();
    tenant.check();
    free(&mm, to, 0);
    // And nothing is held: everything can be moved.
    let Compacted::Captured(pfn) = compact(&mm, 9, CompactPriority::SyncLight) else {
        panic!("a block is made and taken");
    };
    let word = crate::frame::FrameWord::new(crate::frame::FrameKind::Page, Order::PAGEBLOCK, 1);
    mm.pages().set_word(pfn, word);
    free(&mm, pfn, 9);
}

#[test]
fn the_scanners_begin_at_the_ends_wherever_a_zone_begins() {
    // P420. Seen to fail: frame 0 as the place where nobody has been.
    let platform = TestPlatform::new(0, MIB << 20);
    let map = [region(0, (MIB << 20) as u64)];
    let mm = Mm::boot(platform, &map, &BootConfig::default()).unwrap();
    let mut zones = 0;
    for ground in mm.pages().grounds_of(NodeId(0), ZoneKind::Movable) {
        assert_eq!(ground.scanners(), ground.ends(), "zone {zones}");
        assert_eq!(ground.ends().met(), Met::No);
        zones += 1;
    }
    assert_eq!(zones, 2);
}

#[test]
fn what_pages_move_to_leaves_the_zone_at_min() {
    // P349
    let mm = machine();
    let tenant = Renting::new(&mm);
    let easy = GFP_HIGHUSER_MOVABLE.without(Gfp::DIRECT_RECLAIM) | Gfp::NOWARN;
    while tenant.take_with(easy, 0).is_some() {}
    mm.pages().drain_all();
    let room = |ground: &Ground<'_, _>| ground.room(ZoneKind::Movable);
    let mut zones = mm.pages().grounds_of(NodeId(0), ZoneKind::Movable);
    let ground = zones.next().unwrap();
    assert!(zones.next().is_none());
    // Ten pages more than min.
    let frames = tenant.frames();
    let mut next = frames.iter();
    while room(&ground).state.free < room(&ground).marks.min + 10 {
        tenant.give(*next.next().unwrap());
        mm.pages().drain_all();
    }
    let spare = room(&ground).state.free - room(&ground).marks.min;
    assert!((10..32).contains(&spare), "{spare}");
    let (mut at, mut got) = (ground.ends(), Vec::new());
    while at.met() == Met::No {
        let most = 32 - got.len();
        let found = |pfn| got.push(Some(pfn));
        let _ = ground.take_targets(Pfn(at.migrate), Order::ZERO, most, Locking::Wait, found);
        at.pass_migrate();
    }
    assert_eq!(got.len(), spare - 1, "above min");
    assert!(room(&ground).state.free > room(&ground).marks.min);
    ground.give_back(&got, Order::ZERO, Pfn(0), None);
    mm.verify().unwrap();
}
