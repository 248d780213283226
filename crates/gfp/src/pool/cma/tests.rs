//! Areas for contiguous allocations.

mod boot;

use super::bits::Bits;
use super::{CMA_AREAS_MAX, CmaAllocError, CmaError, CmaId, CmaSpec};
use crate::Mm;
use crate::flags::{GFP_HIGHUSER_MOVABLE, GFP_KERNEL, Gfp, MigrateType};
use crate::frame::{NodeId, Order, Pfn, PhysAddr};
use crate::page::tests::tenant::Renting;
use crate::page::{BootConfig, ContigError, IsolateError, IsolateMode, Migrated};
use crate::stat::{Source, VmEvent, ZoneCounter};
use crate::sync::Carved;
use crate::sync::atomic::AtomicU64;
use crate::testing::{Rng, TestPlatform, region};
use std::ptr::NonNull;
use std::string::String;
use std::sync::atomic::Ordering::Relaxed;
use std::vec::Vec;

const MIB: u64 = 1 << 20;
const BASE: u64 = 4 << 30;

fn machine(mib: u64) -> Mm<TestPlatform> {
    let platform = TestPlatform::new(BASE, (mib * MIB) as usize);
    let map = [region(BASE, BASE + mib * MIB)];
    Mm::boot(platform, &map, &BootConfig::default()).unwrap()
}

/// An area from a byte of the machine's memory on.
fn fixed(mib: u64, at_mib: u64) -> CmaSpec {
    CmaSpec {
        at: Some(PhysAddr(BASE + at_mib * MIB)),
        ..CmaSpec::new("test", mib * MIB)
    }
}

fn first_of(mm: &Mm<TestPlatform>, id: CmaId) -> Pfn {
    mm.cma_stats(id).unwrap().first
}

fn release(mm: &Mm<TestPlatform>, id: CmaId, first: Pfn, pages: usize) -> bool {
    // SAFETY: tests release what they own, or what is refused.
    unsafe { mm.cma_release(id, first, pages) }
}

/// Movable pages with nobody who could move them, until none is left: what was pinned.
fn take_movable(mm: &Mm<TestPlatform>, most: usize) -> Vec<Pfn> {
    let one = || mm.alloc_pages(GFP_HIGHUSER_MOVABLE | Gfp::NOWARN | Gfp::NORETRY, 0);
    core::iter::from_fn(|| one().ok()).take(most).collect()
}

fn free_all(mm: &Mm<TestPlatform>, pages: Vec<Pfn>) {
    // SAFETY: the test's own.
    pages
        .into_iter()
        .for_each(|pfn| unsafe { mm.free_frames(pfn, 0) });
}

fn free_cma(mm: &Mm<TestPlatform>) -> usize {
    mm.pages().drain_all();
    mm.pages().zone_stats().map(|zone| zone.free.free_cma).sum()
}

#[test]
fn an_area_is_kept_where_it_was_wanted_and_its_blocks_have_the_type() {
    // P505
    let mm = machine(64);
    let before = mm.pages().managed_pages();
    let id = mm.cma_create(&fixed(8, 16)).unwrap();
    mm.verify().unwrap();
    let stats = mm.cma_stats(id).unwrap();
    assert_eq!(
        (stats.name, stats.total_pages, stats.available_pages),
        ("test", 2048, 2048)
    );
    assert_eq!(stats.first, PhysAddr(BASE + 16 * MIB).pfn());
    let zone = mm.pages().zone_stats().next().unwrap();
    assert_eq!(zone.blocks_by_type[MigrateType::Cma as usize], 4);
    assert_eq!(
        (zone.free.free_cma, mm.pages().managed_pages()),
        (2048, before)
    );
    // Anywhere: aligned.
    let spec = CmaSpec {
        alignment: 8 * MIB,
        order_per_bit: Order::new(3).unwrap(),
        ..CmaSpec::new("anywhere", 8 * MIB)
    };
    let other = mm.cma_create(&spec).unwrap();
    assert!(first_of(&mm, other).phys().0.is_multiple_of(8 * MIB));
    assert_eq!(mm.cma_areas().count(), 2);
    mm.verify().unwrap();
}

#[test]
fn what_cannot_be_an_area_is_refused_with_its_reason_and_nothing_changes() {
    // P505
    let mm = machine(64);
    let kept = mm.alloc_pages(GFP_KERNEL, 9).unwrap();
    let free = || {
        mm.pages().drain_all();
        mm.pages().free_page_count()
    };
    let before = free();
    let with = |change: &dyn Fn(&mut CmaSpec)| {
        let mut spec = CmaSpec::new("wrong", 8 * MIB);
        change(&mut spec);
        mm.cma_create(&spec).unwrap_err()
    };
    assert_eq!(with(&|spec| spec.bytes = 0), CmaError::Invalid);
    assert_eq!(with(&|spec| spec.bytes = 3 * MIB), CmaError::Invalid);
    assert_eq!(with(&|spec| spec.alignment = MIB), CmaError::Invalid);
    assert_eq!(with(&|spec| spec.alignment = 6 * MIB), CmaError::Invalid);
    assert_eq!(with(&|spec| spec.alignment = 16 * MIB), CmaError::Invalid);
    assert_eq!(
        with(&|spec| spec.order_per_bit = Order::MAX),
        CmaError::Invalid
    );
    assert_eq!(
        with(&|spec| spec.at = Some(PhysAddr(BASE + MIB))),
        CmaError::Invalid
    );
    assert_eq!(with(&|spec| spec.bytes = 1 << 30), CmaError::NoMemory(None));
    assert_eq!(
        with(&|spec| spec.bytes = 1 << 50),
        CmaError::Invalid,
        "no such bitmap"
    );
    let why = IsolateError::Unmovable { at: kept };
    let taken = with(&|spec| spec.at = Some(kept.phys()));
    assert_eq!(taken, CmaError::Taken(ContigError::Isolate(why)));
    assert_eq!(free(), before);
    mm.verify().unwrap();
    for _ in 0..CMA_AREAS_MAX {
        mm.cma_create(&CmaSpec::new("small", 2 * MIB)).unwrap();
    }
    assert_eq!(with(&|_| ()), CmaError::TooMany);
    mm.verify().unwrap();
}

#[test]
fn pages_are_given_out_first_fit_aligned_and_counted() {
    // P507, P508, P509
    let mm = machine(64);
    let spec = CmaSpec {
        order_per_bit: Order::new(1).unwrap(),
        ..fixed(8, 16)
    };
    let id = mm.cma_create(&spec).unwrap();
    let first = first_of(&mm, id);
    let get = |pages, align| mm.cma_alloc(id, pages, align).unwrap();
    assert_eq!(get(3, 0), first); // two bits: four pages
    assert_eq!(get(1, 0), first.add(4));
    assert_eq!(get(16, 4), first.add(16));
    assert_eq!(get(600, 9), first.add(512));
    assert_eq!(get(2, 0), first.add(6)); // in the gap
    mm.verify().unwrap();
    assert_eq!(
        mm.cma_stats(id).unwrap().available_pages,
        2048 - 4 - 2 - 16 - 600 - 2
    );
    // Of the four pages of the first three were given out, and three come back.
    assert!(release(&mm, id, first, 3));
    assert_eq!(get(4, 0), first);
    assert!(release(&mm, id, first, 4));
    let full = CmaAllocError::NotEnough { available: 1428 };
    assert_eq!(mm.cma_alloc(id, 1500, 0), Err(full));
    // There are so many, but not side by side.
    assert!(mm.cma_alloc(id, 1000, 0).is_err());
    assert_eq!(mm.cma_alloc(id, 0, 0), Err(CmaAllocError::Invalid));
    assert_eq!(mm.cma_alloc(CmaId(3), 1, 0), Err(CmaAllocError::Invalid));
    assert_eq!(mm.cma_alloc(id, 1, 77), Err(CmaAllocError::Invalid));
    let stats = mm.cma_stats(id).unwrap();
    assert_eq!((stats.alloc, stats.fail, stats.release_pages), (6, 3, 7));
    assert_eq!(stats.alloc_pages, 3 + 1 + 16 + 600 + 2 + 4);
    let events = mm.vm_events();
    assert_eq!(events.get(VmEvent::CmaAllocSuccess), 6);
    assert_eq!(events.get(VmEvent::CmaAllocFail), 3);
    let mut text = String::new();
    crate::stat::meminfo(&mm, &mut text).unwrap();
    assert!(text.contains("CmaTotal:           8192 kB"), "{text}");
    let free = free_cma(&mm);
    let mut shown = 0;
    mm.for_each_zone(NodeId(0), &mut |zone| {
        shown += zone.counters.get(ZoneCounter::FreeCma) as usize;
    });
    assert_eq!(shown, free);
    mm.verify().unwrap();
}

#[test]
fn what_is_no_part_of_an_area_is_not_released() {
    // P508
    let mm = machine(64);
    let id = mm.cma_create(&fixed(8, 16)).unwrap();
    let first = first_of(&mm, id);
    let page = mm.alloc_pages(GFP_KERNEL, 0).unwrap();
    assert!(!release(&mm, id, page, 1));
    assert!(!release(&mm, id, first.add(2047), 2) && !release(&mm, id, Pfn(first.0 - 1), 2));
    assert!(mm.platform().reports().is_empty());
    // Not given out: told, and nothing is freed.
    assert!(!release(&mm, id, first, 1));
    let got = mm.cma_alloc(id, 8, 0).unwrap();
    assert!(!release(&mm, id, got, 9) && release(&mm, id, got, 8) && !release(&mm, id, got, 8));
    assert_eq!(mm.platform().reports().len(), 3);
    assert_eq!(mm.cma_stats(id).unwrap().available_pages, 2048);
    free_all(&mm, [page].into());
    mm.verify().unwrap();
}

#[test]
fn movable_requests_borrow_and_no_other_ever_does() {
    // P315, P316, P506, P510, P968
    let mm = machine(32);
    let id = mm.cma_create(&fixed(8, 16)).unwrap();
    let first = first_of(&mm, id);
    let area = first..first.add(2048);
    let one = |gfp: Gfp| mm.alloc_pages(gfp | Gfp::NOWARN | Gfp::NORETRY, 0).ok();
    // Most of what is free is not the area's: its own type first.
    let early = take_movable(&mm, 100);
    assert!(early.iter().all(|pfn| !area.contains(pfn)));
    free_all(&mm, early);
    let mut kernel: Vec<Pfn> = core::iter::from_fn(|| one(GFP_KERNEL)).collect();
    assert!(kernel.len() > 3000 && kernel.iter().all(|pfn| !area.contains(pfn)));
    assert_eq!(free_cma(&mm), 2048);
    // All that is left is the area's.
    let lent = take_movable(&mm, usize::MAX);
    assert!(lent.iter().filter(|pfn| area.contains(pfn)).count() > 1500);
    mm.verify().unwrap();
    assert!(one(GFP_KERNEL).is_none_or(|pfn| !area.contains(&pfn)));
    free_all(&mm, lent);
    // Its pages, cached as movable ones, are not for others either.
    kernel.extend(core::iter::from_fn(|| one(GFP_KERNEL)));
    assert!(kernel.iter().all(|pfn| !area.contains(pfn)));
    assert_eq!(free_cma(&mm), 2048);
    // More than half of what is free is the area's: it comes first.
    let loan = take_movable(&mm, 1);
    assert!(area.contains(&loan[0]));
    free_all(&mm, loan);
    free_all(&mm, kernel);
    mm.verify().unwrap();
}

#[test]
fn what_was_lent_moves_out_with_its_content() {
    // P506, P507
    let mm = machine(32);
    let id = mm.cma_create(&fixed(8, 16)).unwrap();
    let first = first_of(&mm, id);
    let area = first..first.add(2048);
    let tenant = Renting::new(&mm);
    let gfp = GFP_HIGHUSER_MOVABLE | Gfp::NOWARN | Gfp::NORETRY;
    while tenant.take_with(gfp, 0).is_some() {}
    let mut frames = tenant.frames();
    // Room outside, and the area full of loans.
    frames.retain(|pfn| !area.contains(pfn));
    frames[..3000].iter().for_each(|pfn| tenant.give(*pfn));
    let got = mm.cma_alloc(id, 2048, 0).unwrap();
    assert_eq!(got, first);
    assert!(tenant.moved.load(Relaxed) > 1500);
    tenant.check();
    assert!(tenant.frames().iter().all(|pfn| !area.contains(pfn)));
    mm.verify().unwrap();
    assert!(release(&mm, id, got, 2048));
    assert_eq!(free_cma(&mm), 2048);
    mm.verify().unwrap();
}

#[test]
fn a_pinned_page_makes_the_next_place_be_tried_and_one_in_each_makes_it_busy() {
    // P507, P510, P968
    let mm = machine(32);
    let id = mm.cma_create(&fixed(8, 16)).unwrap();
    let first = first_of(&mm, id);
    let block = |pfn: &Pfn| (pfn.0 - first.0) / 512;
    let area = first..first.add(2048);
    let mut pages = take_movable(&mm, usize::MAX);
    // One page is kept in the first pageblock, or one in each.
    let mut kept = Vec::new();
    for place in 0..4 {
        let at = pages
            .iter()
            .position(|pfn| area.contains(pfn) && block(pfn) == place);
        kept.push(pages.swap_remove(at.unwrap()));
    }
    free_all(&mm, pages);
    let error = mm.cma_alloc(id, 512, 9).unwrap_err();
    assert!(matches!(error, CmaAllocError::Busy(_)), "{error}");
    assert_eq!(mm.cma_stats(id).unwrap().available_pages, 2048);
    mm.verify().unwrap();
    free_all(&mm, kept.split_off(1));
    let got = mm.cma_alloc(id, 512, 9).unwrap();
    assert_eq!(got, first.add(512));
    // Beside the page that is kept there is room.
    let beside = mm.cma_alloc(id, 100, 0).unwrap();
    assert!(!(beside..beside.add(100)).contains(&kept[0]));
    assert!(beside < first.add(512));
    assert!(release(&mm, id, got, 512) && release(&mm, id, beside, 100));
    free_all(&mm, kept);
    assert_eq!(free_cma(&mm), 2048);
    mm.verify().unwrap();
}

#[test]
fn an_owner_that_refuses_or_panics_leaves_the_area_whole() {
    // P501, P507
    let mm = machine(32);
    let id = mm.cma_create(&fixed(2, 16)).unwrap();
    let first = first_of(&mm, id);
    let tenant = Renting::new(&mm);
    let gfp = GFP_HIGHUSER_MOVABLE | Gfp::NOWARN | Gfp::NORETRY;
    while tenant.take_with(gfp, 0).is_some() {}
    let mut frames = tenant.frames();
    frames.retain(|pfn| !(first..first.add(512)).contains(pfn));
    frames[..2000].iter().for_each(|pfn| tenant.give(*pfn));
    *tenant.refuses.lock().unwrap() = Some(Migrated::Failed);
    let error = mm.cma_alloc(id, 512, 0).unwrap_err();
    assert!(
        matches!(error, CmaAllocError::Busy(ContigError::Busy { .. })),
        "{error}"
    );
    *tenant.refuses.lock().unwrap() = None;
    *tenant.panics_after.lock().unwrap() = Some(3);
    let attempt = std::panic::AssertUnwindSafe(|| mm.cma_alloc(id, 512, 0));
    assert!(std::panic::catch_unwind(attempt).is_err());
    *tenant.panics_after.lock().unwrap() = None;
    let target = tenant.panicked.lock().unwrap().take().unwrap();
    // SAFETY: the owner's, of which it made no use.
    unsafe { mm.free_frames(target, 0) };
    assert_eq!(mm.cma_stats(id).unwrap().available_pages, 512);
    mm.verify().unwrap();
    let got = mm.cma_alloc(id, 512, 0).unwrap();
    tenant.check();
    assert!(release(&mm, id, got, 512));
    mm.verify().unwrap();
}

#[test]
fn others_cannot_take_the_frames_of_an_area() {
    // P511
    let mm = machine(32);
    let id = mm.cma_create(&fixed(4, 16)).unwrap();
    let first = first_of(&mm, id);
    let why = IsolateError::Cma { at: first };
    let error = mm
        .alloc_contig_range(first..first.add(10), GFP_KERNEL)
        .unwrap_err();
    assert_eq!(error, ContigError::Isolate(why));
    while let Ok(got) = mm.alloc_contig_pages(512, GFP_KERNEL, None) {
        assert!(got.add(512) <= first || first.add(1024) <= got);
    }
    // Somebody keeps a pageblock isolated: the next place.
    let held = mm
        .pages()
        .isolate_pages(first..first.add(1), IsolateMode::Cma)
        .unwrap();
    assert_eq!(mm.cma_alloc(id, 512, 9).unwrap(), first.add(512));
    drop(held);
    mm.verify().unwrap();
}

#[test]
fn allocations_at_random_between_loans_lose_and_mix_nothing() {
    // P507-P510
    let mm = machine(32);
    let ids = [
        mm.cma_create(&fixed(4, 12)).unwrap(),
        mm.cma_create(&fixed(6, 16)).unwrap(),
    ];
    let tenant = Renting::new(&mm);
    let mut rng = Rng::new(5);
    let mut held: Vec<(CmaId, Pfn, usize)> = Vec::new();
    let (mut got, mut busy) = (0, 0);
    for step in 0..2000 {
        mm.platform().on(rng.below(4) as u32);
        match rng.below(8) {
            0..3 => _ = tenant.take_with(GFP_HIGHUSER_MOVABLE | Gfp::NORETRY | Gfp::NOWARN, 0),
            3 => {
                let frames = tenant.frames();
                if frames.len() > 2500 {
                    (0..40).for_each(|i| tenant.give(frames[i * 60]));
                }
            }
            4 | 5 => {
                let (id, pages) = (ids[rng.below(2)], 1 + rng.below(600));
                match mm.cma_alloc(id, pages, rng.below(10) as u8) {
                    Ok(first) => {
                        let end = first.add(pages);
                        let apart = |h: &(CmaId, Pfn, usize)| end <= h.1 || h.1.add(h.2) <= first;
                        assert!(held.iter().all(apart), "step {step}");
                        held.push((id, first, pages));
                        got += 1;
                    }
                    Err(_) => busy += 1,
                }
            }
            6 => (0..30).for_each(|_| _ = tenant.take(0)),
            _ if !held.is_empty() => {
                let (id, first, pages) = held.swap_remove(rng.below(held.len()));
                assert!(release(&mm, id, first, pages));
            }
            _ => {}
        }
        if step % 20 == 0 {
            mm.verify().unwrap();
            tenant.check();
        }
    }
    assert!(got > 100 && busy > 20, "{got} {busy}");
    for (id, first, pages) in held {
        assert!(release(&mm, id, first, pages));
    }
    drop(tenant);
    assert_eq!(free_cma(&mm), 10 * 256);
    mm.verify().unwrap();
    assert!(mm.platform().reports().is_empty());
}

#[test]
fn the_bitmap_finds_what_a_naive_search_finds() {
    // P507
    let words: Vec<AtomicU64> = (0..3).map(|_| AtomicU64::new(0)).collect();
    // SAFETY: the words outlive the bitmap, which is not used after them.
    let carved = unsafe { Carved::new(NonNull::from(&words[..]).cast(), 3) };
    let bits = Bits::new(carved, 150);
    let mut model = [false; 150];
    let mut rng = Rng::new(9);
    for _ in 0..20_000 {
        let (from, count) = (rng.below(150), 1 + rng.below(20));
        let (align, offset) = (1 << rng.below(4), rng.below(9));
        let fits = |s: &usize| {
            (s + offset).is_multiple_of(align) && model[*s..s + count].iter().all(|set| !set)
        };
        let naive = (from..=150 - count).find(fits);
        assert_eq!(bits.find(from, count, align, offset), naive);
        match naive {
            Some(start) if rng.below(2) == 0 => {
                bits.set(start, count);
                model[start..start + count].fill(true);
            }
            _ => {
                let run = (0..150 - 5).find(|s| model[*s..s + 5].iter().all(|set| *set));
                if let Some(start) = run {
                    assert!(bits.are_set(start, 5));
                    bits.clear(start, 5);
                    model[start..start + 5].fill(false);
                }
            }
        }
        assert_eq!(bits.count(), model.iter().filter(|set| **set).count());
    }
}
