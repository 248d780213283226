//! Certain frames, and many side by side.

use crate::Mm;
use crate::flags::{GFP_ATOMIC, GFP_HIGHUSER_MOVABLE, GFP_KERNEL, Gfp};
use crate::frame::{FrameKind, Order, PAGE_SIZE, PAGEBLOCK_PAGES, Pfn};
use crate::page::tests::tenant::{During, Renting};
use crate::page::{BootConfig, ContigError, IsolateError, Migrated, Obstacle, RegionKind};
use crate::testing::{Rng, TestPlatform, region};
use core::ops::Range;
use std::string::String;
use std::sync::atomic::Ordering::Relaxed;
use std::vec::Vec;

const BASE: u64 = 4 << 30;
const FIRST: usize = (BASE as usize) / PAGE_SIZE;

/// A zone of so many MiB.
fn machine(mib: u64) -> Mm<TestPlatform> {
    let platform = TestPlatform::new(BASE, (mib as usize) << 20);
    let map = [region(BASE, BASE + (mib << 20))];
    Mm::boot(platform, &map, &BootConfig::default()).unwrap()
}

/// Frames of the zone, counted from its first.
fn range(from: usize, to: usize) -> Range<Pfn> {
    Pfn(FIRST + from)..Pfn(FIRST + to)
}

/// The types of all pageblocks and what is free, all caches emptied.
fn shown(mm: &Mm<TestPlatform>) -> String {
    mm.pages().drain_all();
    let stats = mm.pages().zone_stats().next().unwrap();
    std::format!(
        "{:?} {:?} {:?}",
        stats.free,
        stats.nr_free,
        stats.blocks_by_type
    )
}

/// Pages that were allocated, and freed.
fn events(mm: &Mm<TestPlatform>) -> (u64, u64) {
    let events = mm.pages().zone_stats().next().unwrap().events;
    (events.alloc_pages, events.free_pages)
}

fn free(mm: &Mm<TestPlatform>, range: &Range<Pfn>) {
    // SAFETY: tests free what they own.
    unsafe { mm.free_contig_range(range.start, range.end.0 - range.start.0) };
}

fn free_page(mm: &Mm<TestPlatform>, pfn: Pfn) {
    // SAFETY: as above.
    unsafe { mm.free_frames(pfn, 0) };
}

#[test]
fn free_frames_are_given_out_as_single_pages_and_the_rest_stays_free() {
    // P500, P502, P504
    let mm = machine(32);
    free_page(&mm, mm.alloc_pages(GFP_KERNEL, 0).unwrap()); // this CPU has its caches now
    let before = shown(&mm);
    for wanted in [
        range(2100, 3700),
        range(512, 1024),
        range(1000, 1001),
        range(1023, 2049),
    ] {
        let pages = wanted.end.0 - wanted.start.0;
        let counts = events(&mm);
        mm.alloc_contig_range(wanted.clone(), GFP_KERNEL).unwrap();
        mm.verify().unwrap();
        for pfn in (wanted.start.0..wanted.end.0).map(Pfn) {
            assert!(!mm.pages().is_free(pfn));
            let word = mm.pages().frames().get(pfn);
            assert!(word.is_block(FrameKind::Page, Order::ZERO) && word.payload() == 1);
        }
        assert!(mm.pages().is_free(wanted.end) && mm.pages().is_free(Pfn(wanted.start.0 - 1)));
        let taken = events(&mm);
        assert_eq!(taken.0 - counts.0, pages as u64);
        free(&mm, &wanted);
        assert_eq!(events(&mm).1 - counts.1, pages as u64);
        assert_eq!(shown(&mm), before);
        mm.verify().unwrap();
    }
    assert!(mm.platform().reports().is_empty());
}

#[test]
fn what_has_an_owner_moves_away_with_its_content_and_out_of_range_too() {
    // P500
    let mm = machine(32);
    let tenant = Renting::new(&mm);
    let mut large = Vec::new();
    for order in [0, 0, 3, 9, 9, 10, 2] {
        for _ in 0..3 {
            let pfn = tenant.take(order).unwrap();
            large.extend((order == 9).then_some(pfn));
        }
    }
    large.sort();
    // From the middle of one large block to the middle of another: there is room for two.
    let wanted = large[1].add(100)..large[2].add(100);
    mm.alloc_contig_range(wanted.clone(), GFP_KERNEL).unwrap();
    mm.verify().unwrap();
    tenant.check();
    assert!(tenant.moved.load(Relaxed) >= 2);
    assert!(tenant.frames().iter().all(|pfn| !wanted.contains(pfn)));
    assert!(mm.pages().is_free(large[1]) && mm.pages().is_free(wanted.end));
    free(&mm, &wanted);
    mm.verify().unwrap();
}

#[test]
fn what_has_none_makes_the_range_busy_and_all_is_as_before() {
    // P501, P511
    let mm = machine(32);
    let tenant = Renting::new(&mm);
    let page = mm.alloc_pages(GFP_KERNEL, 3).unwrap();
    tenant.take(9).unwrap();
    let before = shown(&mm);
    let wanted = page.add(4)..page.add(2 * PAGEBLOCK_PAGES);
    let error = mm.alloc_contig_range(wanted, GFP_KERNEL).unwrap_err();
    let why = IsolateError::Unmovable { at: page };
    assert_eq!(error, ContigError::Isolate(why));
    assert!(error.is_busy());
    assert_eq!(shown(&mm), before);
    mm.verify().unwrap();
    // The frames beside it can be had.
    let beside = page.add(8)..page.add(100);
    mm.alloc_contig_range(beside.clone(), GFP_KERNEL).unwrap();
    free(&mm, &beside);
    // SAFETY: ours.
    unsafe { mm.free_frames(page, 3) };
    mm.verify().unwrap();
}

#[test]
fn an_owner_is_asked_five_times_and_then_the_range_is_busy() {
    // P501
    let mm = machine(32);
    let tenant = Renting::new(&mm);
    let page = tenant.take(2).unwrap();
    let before = shown(&mm);
    let wanted = page..page.add(4);
    for (answer, why) in [
        (Migrated::Busy, Obstacle::Busy),
        (Migrated::Failed, Obstacle::Refused),
    ] {
        *tenant.refuses.lock().unwrap() = Some(answer);
        tenant.modes.lock().unwrap().clear();
        let error = mm
            .alloc_contig_range(wanted.clone(), GFP_KERNEL)
            .unwrap_err();
        assert_eq!(error, ContigError::Busy { at: page, why });
        assert_eq!(tenant.modes.lock().unwrap().len(), 5);
        assert_eq!(shown(&mm), before);
        mm.verify().unwrap();
    }
    *tenant.refuses.lock().unwrap() = None;
    // Pinned: it is not even asked to move it.
    let pinned = crate::policy::compaction::PageFacts {
        movable: true,
        pinned: true,
        ..Default::default()
    };
    tenant.facts.lock().unwrap().insert(page, pinned);
    let error = mm
        .alloc_contig_range(wanted.clone(), GFP_KERNEL)
        .unwrap_err();
    assert_eq!(
        error,
        ContigError::Busy {
            at: page,
            why: Obstacle::Busy
        }
    );
    tenant.facts.lock().unwrap().clear();
    assert_eq!(shown(&mm), before);
    mm.alloc_contig_range(wanted.clone(), GFP_KERNEL).unwrap();
    tenant.check();
    free(&mm, &wanted);
}

#[test]
fn a_page_that_its_owner_frees_meanwhile_is_no_obstacle() {
    // P500
    for call in [During::Isolate, During::Migrate] {
        let mm = machine(32);
        let tenant = Renting::new(&mm);
        let page = tenant.take(0).unwrap();
        *tenant.frees.lock().unwrap() = Some(call);
        let wanted = page..page.add(1);
        mm.alloc_contig_range(wanted.clone(), GFP_KERNEL).unwrap();
        assert!(tenant.frames().is_empty());
        free(&mm, &wanted);
        mm.verify().unwrap();
    }
}

#[test]
fn with_nowhere_to_move_pages_to_it_ends_at_once() {
    // P501
    let mm = machine(16);
    let tenant = Renting::new(&mm);
    while tenant
        .take_with(GFP_HIGHUSER_MOVABLE | Gfp::NOWARN, 9)
        .is_some()
    {}
    while tenant
        .take_with(GFP_HIGHUSER_MOVABLE | Gfp::NOWARN, 0)
        .is_some()
    {}
    let before = shown(&mm);
    let blocks: Vec<_> = tenant.frames();
    let first = *blocks.iter().find(|pfn| pfn.0 % 512 == 0).unwrap();
    tenant.modes.lock().unwrap().clear();
    let wanted = first..first.add(512);
    let error = mm.alloc_contig_range(wanted, GFP_KERNEL).unwrap_err();
    assert!(matches!(error, ContigError::NoMemory(_)), "{error}");
    assert!(!error.is_busy() && tenant.modes.lock().unwrap().is_empty());
    assert_eq!(shown(&mm), before);
    mm.verify().unwrap();
}

#[test]
fn a_compound_range_is_one_aligned_block() {
    // P502
    let mm = machine(32);
    let comp = GFP_KERNEL | Gfp::COMP;
    for wrong in [
        range(1024, 1027),
        range(1026, 1030),
        range(1024, 1024),
        range(2048, 4096),
    ] {
        let error = mm.alloc_contig_range(wrong, comp).unwrap_err();
        assert_eq!(error, ContigError::BadRange);
    }
    for (from, order) in [(1024, 10), (1536, 9), (1028, 2), (1029, 0)] {
        let wanted = range(from, from + (1 << order));
        mm.alloc_contig_range(wanted.clone(), comp | Gfp::ZERO)
            .unwrap();
        mm.verify().unwrap();
        // SAFETY: ours.
        unsafe { mm.free_frames(wanted.start, order) };
        assert!(mm.platform().reports().is_empty());
    }
    mm.verify().unwrap();
}

#[test]
fn zeroes_are_zeroes_on_every_page() {
    // P61
    let mm = machine(32);
    let wanted = range(1000, 1100);
    mm.alloc_contig_range(wanted.clone(), GFP_KERNEL).unwrap();
    let bytes = |pfn: Pfn| {
        let start = mm.page_address(pfn).as_ptr();
        // SAFETY: pages that the test owns.
        unsafe { core::slice::from_raw_parts_mut(start, 100 * PAGE_SIZE) }
    };
    bytes(wanted.start).fill(0xa5);
    free(&mm, &wanted);
    mm.alloc_contig_range(wanted.clone(), GFP_KERNEL | Gfp::ZERO)
        .unwrap();
    assert!(bytes(wanted.start).iter().all(|byte| *byte == 0));
    free(&mm, &wanted);
}

#[test]
fn flags_and_ranges_that_mean_nothing_are_refused() {
    // P58, P502
    let mm = machine(32);
    for gfp in [
        GFP_ATOMIC,
        GFP_KERNEL | Gfp::NOFAIL,
        GFP_KERNEL | Gfp::ACCOUNT,
    ] {
        let range_error = mm.alloc_contig_range(range(1024, 1025), gfp).unwrap_err();
        let pages_error = mm.alloc_contig_pages(1, gfp, None).unwrap_err();
        assert!(matches!(range_error, ContigError::BadFlags(_)), "{gfp}");
        assert_eq!(pages_error, range_error);
    }
    // Placement and mobility are ignored.
    let wanted = range(1024, 1025);
    mm.alloc_contig_range(
        wanted.clone(),
        GFP_HIGHUSER_MOVABLE.without(Gfp::SKIP_KASAN),
    )
    .unwrap();
    free(&mm, &wanted);
    let outside = range(8191, 8193);
    let error = mm.alloc_contig_range(outside, GFP_KERNEL).unwrap_err();
    let why = IsolateError::NotOneZone {
        at: Pfn(FIRST + 8192),
    };
    assert_eq!(error, ContigError::Isolate(why));
    assert!(!error.is_busy());
    // What boot took for its tables is nobody's.
    let last = range(8190, 8192);
    let error = mm.alloc_contig_range(last.clone(), GFP_KERNEL).unwrap_err();
    assert_eq!(
        error,
        ContigError::Busy {
            at: last.start,
            why: Obstacle::Unknown
        }
    );
    mm.verify().unwrap();
}

#[test]
fn a_task_that_is_to_end_gets_nothing() {
    // P501
    let mm = machine(32);
    let before = shown(&mm);
    let task = crate::platform::Platform::this_task(mm.platform()).unwrap();
    task.note(crate::platform::Fact::FatalSignal);
    let error = mm
        .alloc_contig_range(range(1024, 1030), GFP_KERNEL)
        .unwrap_err();
    assert_eq!(error, ContigError::Interrupted);
    assert_eq!(shown(&mm), before);
    mm.verify().unwrap();
}

#[test]
fn windows_are_searched_for_that_are_free_or_can_be_emptied() {
    // P503
    let mm = machine(32);
    let tenant = Renting::new(&mm);
    let all: Vec<_> = core::iter::from_fn(|| tenant.take(9)).take(5).collect();
    let kept = mm.alloc_pages(GFP_KERNEL, 0).unwrap();
    let mut windows = Vec::new();
    while let Ok(first) = mm.alloc_contig_pages(1024, GFP_KERNEL, None) {
        assert!(first.0.is_multiple_of(1024));
        let window = first..first.add(1024);
        assert!(!window.contains(&kept));
        windows.push(window);
        mm.verify().unwrap();
        tenant.check();
    }
    assert!(windows.len() >= 2 && tenant.moved.load(Relaxed) > 0 && !all.is_empty());
    windows.iter().for_each(|window| free(&mm, window));
    let error = mm.alloc_contig_pages(8192, GFP_KERNEL, None).unwrap_err();
    assert_eq!(error, ContigError::NoWindow);
    let error = mm.alloc_contig_pages(0, GFP_KERNEL, None).unwrap_err();
    assert_eq!(error, ContigError::BadRange);
    let order = mm
        .alloc_contig_pages(1024, GFP_KERNEL | Gfp::COMP, None)
        .unwrap();
    // SAFETY: ours.
    unsafe { mm.free_frames(order, 10) };
    free_page(&mm, kept);
    mm.verify().unwrap();
}

#[test]
fn a_window_with_memory_that_is_not_there_is_none() {
    // P502, P503
    let platform = TestPlatform::new(BASE, 32 << 20);
    let mut hole = region(BASE + (12 << 20), BASE + (20 << 20));
    hole.kind = RegionKind::Reserved;
    let low = region(BASE, BASE + (12 << 20));
    let high = region(BASE + (20 << 20), BASE + (32 << 20));
    let mm = Mm::boot(platform, &[low, hole, high], &BootConfig::default()).unwrap();
    let error = mm
        .alloc_contig_range(range(3000, 3100), GFP_KERNEL)
        .unwrap_err();
    assert!(matches!(
        error,
        ContigError::Isolate(IsolateError::NotOneZone { .. })
    ));
    let mut got = Vec::new();
    while let Ok(first) = mm.alloc_contig_pages(1000, GFP_KERNEL, None) {
        got.push(first.0 - FIRST);
    }
    got.sort();
    let beside = |first: &usize| first + 1000 <= 3072 || *first >= 5120;
    assert!(got.len() >= 3 && got.iter().all(beside), "{got:?}");
    mm.verify().unwrap();
}

#[test]
fn ranges_at_random_between_tenants_lose_nothing_and_give_nothing_twice() {
    // P500-P504
    let mm = machine(32);
    let tenant = Renting::new(&mm);
    let mut rng = Rng::new(41);
    let mut held: Vec<Range<Pfn>> = Vec::new();
    let mut kept: Vec<Pfn> = Vec::new();
    let (mut given, mut busy) = (0, 0);
    for step in 0..2000 {
        mm.platform().on(rng.below(4) as u32);
        match rng.below(10) {
            0..4 => _ = tenant.take([0, 0, 1, 3, 9][rng.below(5)]),
            4 | 5 => {
                let frames = tenant.frames();
                if !frames.is_empty() {
                    tenant.give(frames[rng.below(frames.len())]);
                }
            }
            6 if kept.len() < 20 => kept.extend(mm.alloc_pages(GFP_KERNEL, 0)),
            6 => free_page(&mm, kept.swap_remove(rng.below(kept.len()))),
            7 | 8 => {
                let from = rng.below(8000);
                let wanted = range(from, from + 1 + rng.below(1500));
                match mm.alloc_contig_range(wanted.clone(), GFP_KERNEL | Gfp::NOWARN) {
                    Ok(()) => {
                        let apart = |h: &Range<Pfn>| h.end <= wanted.start || wanted.end <= h.start;
                        assert!(held.iter().all(apart), "step {step}");
                        let out = |pfn: &Pfn| !wanted.contains(pfn);
                        assert!(kept.iter().all(out) && tenant.frames().iter().all(out));
                        held.push(wanted);
                        given += 1;
                    }
                    Err(_) => busy += 1,
                }
            }
            _ if !held.is_empty() => free(&mm, &held.swap_remove(rng.below(held.len()))),
            _ => {}
        }
        if step % 10 == 0 {
            mm.verify().unwrap();
            tenant.check();
        }
    }
    assert!(given > 40 && busy > 40, "{given} {busy}");
    held.iter().for_each(|range| free(&mm, range));
    kept.into_iter().for_each(|pfn| free_page(&mm, pfn));
    mm.verify().unwrap();
    assert!(mm.platform().reports().is_empty());
}
