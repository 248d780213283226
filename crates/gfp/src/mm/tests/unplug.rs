//! Memory that goes while the machine runs.

use crate::Mm;
use crate::error::AllocError;
use crate::flags::{GFP_HIGHUSER_MOVABLE, GFP_KERNEL, Gfp};
use crate::frame::{NodeId, PhysAddr};
use crate::page::tests::tenant::Renting;
use crate::page::{
    BootConfig, ContigError, IsolateError, MemoryAnswer, MemoryEvent, MemoryRegion, Migrated,
    Obstacle, RegionKind, RemoveMemoryError, RemovedMemory,
};
use crate::testing::{Rng, TestPlatform, region};
use std::string::{String, ToString};
use std::sync::atomic::Ordering::Relaxed;
use std::vec::Vec;

const MIB: u64 = 1 << 20;
const BASE: u64 = 4 << 30;

fn at(mib: u64) -> PhysAddr {
    PhysAddr(BASE + mib * MIB)
}

fn part(node: u8, kind: RegionKind, from_mib: u64, to_mib: u64) -> MemoryRegion {
    MemoryRegion {
        node: NodeId(node),
        kind,
        ..region(at(from_mib).0, at(to_mib).0)
    }
}

fn boot(map: &[MemoryRegion]) -> Mm<TestPlatform> {
    let platform = TestPlatform::new(BASE, 64 << 20);
    let config = BootConfig {
        memory_is_zero: true,
        memory_block_bytes: 4 * MIB,
        ..BootConfig::default()
    };
    Mm::boot(platform, map, &config).unwrap()
}

/// 16 MiB that are there, a hole of 16, 32 that may come and go.
fn machine() -> Mm<TestPlatform> {
    boot(&[
        part(0, RegionKind::Usable, 0, 16),
        part(0, RegionKind::Hotpluggable, 32, 64),
    ])
}

fn add(mm: &Mm<TestPlatform>, from_mib: u64, to_mib: u64) {
    // SAFETY: the platform of a test has all the memory that its map describes.
    unsafe { mm.add_memory(at(from_mib), at(to_mib)) }.unwrap();
    mm.verify().unwrap();
}

fn remove(
    mm: &Mm<TestPlatform>,
    from_mib: u64,
    to_mib: u64,
) -> (Result<RemovedMemory, RemoveMemoryError>, Vec<MemoryEvent>) {
    let mut heard = Vec::new();
    let removed = mm.remove_memory(at(from_mib), at(to_mib), &mut |event| {
        heard.push(event);
        MemoryAnswer::Agreed
    });
    mm.verify().unwrap();
    (removed, heard)
}

/// What there is and what is free, caches emptied; types of pageblocks, of which a request that
/// moves pages may claim one, and watermarks, which follow from the last ones, left out.
fn shown(mm: &Mm<TestPlatform>) -> String {
    mm.pages().drain_all();
    let mut text = String::new();
    for zone in mm.pages().zone_stats() {
        let blocks: usize = zone.blocks_by_type.iter().sum();
        let runs = zone.nr_free.map(|kinds| kinds.iter().sum::<usize>());
        let sizes = (zone.present, zone.managed, zone.free, zone.peak_used);
        text += &std::format!("{:?} {sizes:?} {blocks} {runs:?} ", zone.kind);
    }
    text
}

fn free_page(mm: &Mm<TestPlatform>, pfn: crate::frame::Pfn) {
    // SAFETY: the test's own.
    unsafe { mm.free_frames(pfn, 0) };
}

#[test]
fn what_was_plugged_in_goes_and_everything_is_as_before_it_came() {
    // P514, P517, P970
    let mm = machine();
    free_page(&mm, mm.alloc_pages(GFP_KERNEL, 0).unwrap()); // this CPU has its caches now
    let before = shown(&mm);
    for (from, to) in [(32, 64), (40, 48), (60, 64)] {
        add(&mm, from, to);
        assert_ne!(shown(&mm), before);
        let (removed, heard) = remove(&mm, from, to);
        assert_eq!(removed.unwrap().pages as u64, (to - from) * 256);
        assert_eq!(heard, [MemoryEvent::GoingOffline, MemoryEvent::Offline]);
        assert_eq!(shown(&mm), before);
    }
    // A part of it, from the middle.
    add(&mm, 32, 64);
    let marks = |mm: &Mm<TestPlatform>| mm.pages().zone_stats().next().unwrap().watermarks;
    let large = marks(&mm);
    remove(&mm, 40, 56).0.unwrap();
    assert!(marks(&mm).high < large.high);
    assert!(!mm.pages().is_free(at(40).pfn()) && mm.pages().is_free(at(56).pfn()));
    let mut got = Vec::new();
    while let Ok(pfn) = mm.alloc_pages(GFP_KERNEL | Gfp::NOWARN | Gfp::NORETRY, 9) {
        assert!(!(at(40).pfn()..at(56).pfn()).contains(&pfn));
        got.push(pfn);
    }
    assert!(got.iter().any(|pfn| *pfn >= at(56).pfn()));
    // SAFETY: the test's own.
    got.into_iter()
        .for_each(|pfn| unsafe { mm.free_frames(pfn, 9) });
    add(&mm, 40, 56);
    remove(&mm, 32, 64).0.unwrap();
    assert_eq!(
        mm.pages().managed_pages() + mm.pages().metadata_pages(),
        16 * 256
    );
}

#[test]
fn what_is_in_use_in_it_moves_with_its_content() {
    // P517
    let mm = machine();
    add(&mm, 32, 64);
    let tenant = Renting::new(&mm);
    let inside = |pfn: &crate::frame::Pfn| *pfn >= at(32).pfn();
    for order in [9, 9, 9, 3, 0, 9, 9, 0, 9] {
        tenant.take(order);
    }
    while tenant.frames().iter().filter(|pfn| inside(pfn)).count() < 40 {
        tenant.take(3).unwrap();
    }
    let mut spare: Vec<_> = tenant.frames();
    spare.retain(|pfn| !inside(pfn));
    spare.into_iter().for_each(|pfn| tenant.give(pfn));
    assert!(tenant.frames().iter().all(inside));
    remove(&mm, 32, 64).0.unwrap();
    assert!(!tenant.frames().iter().any(inside) && tenant.moved.load(Relaxed) >= 40);
    tenant.check();
}

#[test]
fn one_page_that_stays_keeps_all_of_it_as_it_was() {
    // P517, P970
    let mm = machine();
    add(&mm, 32, 64);
    let tenant = Renting::new(&mm);
    // Without an owner: refused before anybody is asked.
    let mut kernel = Vec::new();
    while let Ok(pfn) = mm.alloc_pages(GFP_KERNEL | Gfp::NOWARN | Gfp::NORETRY, 0) {
        kernel.push(pfn);
    }
    let kept = *kernel.iter().find(|pfn| **pfn >= at(48).pfn()).unwrap();
    kernel.retain(|pfn| *pfn != kept);
    kernel.into_iter().for_each(|pfn| free_page(&mm, pfn));
    let before = shown(&mm);
    let (removed, heard) = remove(&mm, 32, 64);
    let why = IsolateError::Unmovable { at: kept };
    let error = RemoveMemoryError::Contig(ContigError::Isolate(why));
    assert_eq!((removed, heard), (Err(error), Vec::new()));
    assert_eq!(shown(&mm), before);
    free_page(&mm, kept);
    // With an owner that refuses: five rounds.
    let mut page = tenant.take(0).unwrap();
    while page < at(32).pfn() {
        page = tenant.take(9).or_else(|| tenant.take(0)).unwrap();
    }
    let before = shown(&mm);
    *tenant.refuses.lock().unwrap() = Some(Migrated::Failed);
    let (removed, heard) = remove(&mm, 32, 64);
    let Err(RemoveMemoryError::Contig(ContigError::Busy { why, .. })) = removed else {
        panic!("{removed:?}");
    };
    assert_eq!(why, Obstacle::Refused);
    assert_eq!(
        heard,
        [MemoryEvent::GoingOffline, MemoryEvent::CancelOffline]
    );
    assert_eq!(shown(&mm), before);
    *tenant.refuses.lock().unwrap() = None;
    tenant.frames().into_iter().for_each(|pfn| tenant.give(pfn));
    remove(&mm, 32, 64).0.unwrap();
}

#[test]
fn who_listens_may_free_his_pages_or_refuse() {
    // P517, P518
    let mm = machine();
    add(&mm, 32, 64);
    let tenant = Renting::new(&mm);
    let mut page = tenant.take(9).unwrap();
    while page < at(32).pfn() {
        page = tenant.take(9).unwrap();
    }
    let before = shown(&mm);
    let mut heard = Vec::new();
    let refused = mm.remove_memory(at(32), at(64), &mut |event| {
        heard.push(event);
        MemoryAnswer::Refused
    });
    assert_eq!(refused, Err(RemoveMemoryError::Refused));
    assert_eq!(
        heard,
        [MemoryEvent::GoingOffline, MemoryEvent::CancelOffline]
    );
    assert_eq!(shown(&mm), before);
    mm.verify().unwrap();
    *tenant.refuses.lock().unwrap() = Some(Migrated::Failed);
    let removed = mm.remove_memory(at(32), at(64), &mut |event| {
        if event == MemoryEvent::GoingOffline {
            tenant.frames().into_iter().for_each(|pfn| tenant.give(pfn));
        }
        MemoryAnswer::Agreed
    });
    assert_eq!(removed.unwrap().pages, 32 * 256);
    mm.verify().unwrap();
}

#[test]
fn what_cannot_go_is_refused_with_its_reason_and_nothing_changes() {
    // P514, P517
    let mm = boot(&[
        part(0, RegionKind::Usable, 0, 16),
        part(0, RegionKind::Hotpluggable, 32, 48),
        part(1, RegionKind::Hotpluggable, 48, 64),
    ]);
    add(&mm, 32, 60);
    let before = shown(&mm);
    let unaligned = RemoveMemoryError::Unaligned {
        block_bytes: 4 << 20,
    };
    let zones = IsolateError::NotOneZone { at: at(48).pfn() };
    for (from, to, error) in [
        (36, 36, RemoveMemoryError::Empty),
        (40, 36, RemoveMemoryError::Empty),
        (34, 40, unaligned),
        (36, 42, unaligned),
        (8, 12, RemoveMemoryError::NotHotpluggable { at: at(8) }),
        (56, 64, RemoveMemoryError::NotPresent { at: at(60) }),
        (16, 20, RemoveMemoryError::NotPresent { at: at(16) }),
        (200, 204, RemoveMemoryError::NotPresent { at: at(200) }),
        (
            44,
            52,
            RemoveMemoryError::Contig(ContigError::Isolate(zones)),
        ),
    ] {
        let (removed, heard) = remove(&mm, from, to);
        assert_eq!((removed, heard), (Err(error), Vec::new()), "{from} {to}");
        assert!(!error.to_string().is_empty());
        assert_eq!(shown(&mm), before);
    }
}

#[test]
fn a_node_that_has_no_memory_any_more_serves_nobody() {
    // P517, P205
    let mm = boot(&[
        part(0, RegionKind::Usable, 0, 32),
        part(1, RegionKind::Hotpluggable, 32, 64),
    ]);
    let near = |gfp: Gfp| mm.alloc_pages_node(NodeId(1), gfp, 0);
    assert_eq!(
        near(GFP_KERNEL | Gfp::THISNODE),
        Err(AllocError::NoSuchNode)
    );
    add(&mm, 32, 64);
    let page = near(GFP_KERNEL | Gfp::THISNODE).unwrap();
    assert!(page >= at(32).pfn());
    assert_eq!(mm.pages().nodes().count(), 2);
    let tenant = Renting::new(&mm);
    mm.platform().near.store(1, Relaxed);
    tenant.take_with(GFP_HIGHUSER_MOVABLE, 9).unwrap();
    free_page(&mm, page);
    let (removed, _) = remove(&mm, 32, 64);
    removed.unwrap();
    // P519: what was in it is on another node.
    assert!(tenant.frames().iter().all(|pfn| *pfn < at(32).pfn()));
    assert_eq!(mm.pages().nodes().collect::<Vec<_>>(), [NodeId(0)]);
    assert_eq!(
        near(GFP_KERNEL | Gfp::THISNODE),
        Err(AllocError::NoSuchNode)
    );
    let other = near(GFP_KERNEL).unwrap();
    assert!(other < at(32).pfn());
    free_page(&mm, other);
    add(&mm, 32, 64);
    let page = near(GFP_KERNEL | Gfp::THISNODE).unwrap();
    free_page(&mm, page);
    mm.verify().unwrap();
}

#[test]
fn memory_comes_and_goes_at_random_between_tenants_and_nothing_is_lost() {
    // P514, P516, P517
    let mm = machine();
    let tenant = Renting::new(&mm);
    let mut rng = Rng::new(23);
    let mut there = [false; 8];
    let (mut gone, mut stayed) = (0, 0);
    let mut kept: Vec<_> = Vec::new();
    for step in 0..1200 {
        mm.platform().on(rng.below(4) as u32);
        match rng.below(8) {
            0..3 => _ = tenant.take_with(GFP_HIGHUSER_MOVABLE | Gfp::NOWARN | Gfp::NORETRY, 0),
            3 => _ = tenant.take_with(GFP_HIGHUSER_MOVABLE | Gfp::NOWARN | Gfp::NORETRY, 9),
            4 => {
                let frames = tenant.frames();
                for pfn in frames.iter().step_by(3) {
                    tenant.give(*pfn);
                }
            }
            5 if kept.len() < 3 => kept.extend(mm.alloc_pages(GFP_KERNEL, 0)),
            5 => free_page(&mm, kept.swap_remove(0)),
            6 => {
                let block = rng.below(8);
                if !there[block] {
                    add(&mm, 32 + 4 * block as u64, 36 + 4 * block as u64);
                    there[block] = true;
                }
            }
            _ => {
                let block = rng.below(8);
                let (removed, _) = remove(&mm, 32 + 4 * block as u64, 36 + 4 * block as u64);
                match removed {
                    Ok(_) => {
                        assert!(there[block], "step {step}");
                        there[block] = false;
                        gone += 1;
                    }
                    Err(_) => stayed += usize::from(there[block]),
                }
            }
        }
        if step % 16 == 0 {
            tenant.check();
        }
        let pages = there.iter().filter(|there| **there).count() * 1024 + 16 * 256;
        assert_eq!(
            mm.pages().managed_pages() + mm.pages().metadata_pages(),
            pages
        );
    }
    assert!(gone > 30, "{gone} {stayed}");
    kept.into_iter().for_each(|pfn| free_page(&mm, pfn));
    mm.verify().unwrap();
    assert!(mm.platform().reports().is_empty());
}
