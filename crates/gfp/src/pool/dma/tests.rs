//! Devices with narrow and shifted addresses over a machine with small zones.

use super::{DmaAddr, DmaDevice, DmaMask};
use crate::error::AllocError;
use crate::flags::{
    GFP_ATOMIC, GFP_DMA, GFP_HIGHUSER_MOVABLE, GFP_KERNEL, Gfp, GfpError, ZoneKind,
};
use crate::frame::{NodeId, Order, PAGE_SIZE, PhysAddr};
use crate::mm::Mm;
use crate::page::BootConfig;
use crate::testing::{Rng, TestPlatform, region};
use core::ptr::NonNull;
use core::sync::atomic::Ordering;
use std::string::String;
use std::vec::Vec;

const MIB: u64 = 1 << 20;

/// 64 MiB from address 0: DMA below 16 MiB, DMA32 below 40 MiB, the rest is NORMAL.
fn machine() -> Mm<TestPlatform> {
    let config = BootConfig {
        dma32_end: Some(PhysAddr(40 * MIB)),
        ..BootConfig::default()
    };
    let ram = TestPlatform::new(0, 64 * MIB as usize);
    Mm::boot(ram, &[region(0, 64 * MIB)], &config).unwrap()
}

const fn device(bits: u32) -> DmaDevice {
    DmaDevice::new(DmaMask::bits(bits))
}

fn zone_of(mm: &Mm<TestPlatform>, p: NonNull<u8>) -> ZoneKind {
    let pfn = mm.virt_to_pfn(p.addr().get()).unwrap();
    let mut zones = mm.pages().zone_frames();
    zones.find(|(_, frames)| frames.contains(&pfn)).unwrap().0
}

fn free(mm: &Mm<TestPlatform>, device: &DmaDevice, size: usize, p: NonNull<u8>, dma: DmaAddr) {
    // SAFETY: tests free what they own, or what the machine refuses.
    unsafe { mm.dma_free_coherent(device, size, p.as_ptr(), dma) };
}

/// Pages that somebody holds.
fn used(mm: &Mm<TestPlatform>) -> usize {
    let pages = mm.pages();
    pages.managed_pages() - pages.free_page_count() - pages.cached_page_count()
}

/// The one report that `f` causes.
fn report_of(mm: &Mm<TestPlatform>, f: impl FnOnce()) -> String {
    let before = mm.platform().reports().len();
    f();
    let reports = mm.platform().reports();
    assert_eq!(reports.len(), before + 1, "{reports:?}");
    reports[before].clone()
}

#[test]
fn coherent_memory_is_zeroed_and_aligned_for_cpu_and_device() {
    // M10
    let mm = machine();
    let card = device(64).bus_offset(8 * MIB as i64);
    for size in [1, 4096, 4097, 3 * PAGE_SIZE, 5 * PAGE_SIZE + 1, 4 << 20] {
        let block = Order::for_bytes(size).unwrap().bytes();
        for _ in 0..2 {
            let (p, dma) = mm.dma_alloc_coherent(&card, size, GFP_KERNEL).unwrap();
            assert_eq!(p.addr().get() % block, 0, "{size}");
            assert_eq!(dma.0 % block as u64, 0, "{size}");
            let phys = mm.virt_to_pfn(p.addr().get()).unwrap().phys();
            assert_eq!(dma.0, phys.0 + 8 * MIB);
            // SAFETY: the block is ours.
            unsafe {
                let bytes = core::slice::from_raw_parts(p.as_ptr(), block);
                assert!(bytes.iter().all(|b| *b == 0), "{size}");
                p.as_ptr().write_bytes(0xee, block);
            }
            free(&mm, &card, size, p, dma);
        }
    }
    assert!(mm.platform().reports().is_empty());
    mm.verify().unwrap();
}

#[test]
fn the_mask_picks_the_highest_zone_within_reach() {
    // G10, M10
    let mm = machine();
    for (bits, zone) in [
        (64, ZoneKind::Normal),
        (26, ZoneKind::Normal),
        (25, ZoneKind::Dma32),
        (24, ZoneKind::Dma),
        (20, ZoneKind::Dma),
    ] {
        let card = device(bits);
        let (p, dma) = mm.dma_alloc_coherent(&card, 8192, GFP_KERNEL).unwrap();
        assert_eq!(zone_of(&mm, p), zone, "{bits} bits");
        assert!(dma.0 + 8191 <= DmaMask::bits(bits).highest(), "{bits} bits");
        free(&mm, &card, 8192, p, dma);
    }
}

#[test]
fn every_block_lies_within_reach_and_none_that_does_not_is_kept() {
    // M10: the limit, 32 MiB, lies inside of DMA32: what comes from above it goes back, and the
    // zone below is asked.
    let mm = machine();
    let before = used(&mm);
    let card = device(25);
    let mut held = Vec::new();
    let error = loop {
        match mm.dma_alloc_coherent(&card, 64 << 10, GFP_KERNEL) {
            Ok(block) => held.push(block),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, AllocError::NoMemory { .. }), "{error:?}");
    let in_reach = |dma: &DmaAddr| dma.0 + (64 << 10) <= 32 * MIB;
    assert!(held.iter().all(|(_, dma)| in_reach(dma)));
    let from = |zone| {
        held.iter()
            .filter(|(p, _)| zone_of(&mm, *p) == zone)
            .count()
    };
    assert!(from(ZoneKind::Dma32) > 0 && from(ZoneKind::Dma) > 200);
    assert_eq!(from(ZoneKind::Normal), 0);
    assert!(used(&mm) - before <= held.len() * 16 + 8, "nothing leaks");
    for (p, dma) in held {
        free(&mm, &card, 64 << 10, p, dma);
    }
    assert!(used(&mm) <= before + 8);
    mm.verify().unwrap();
}

#[test]
fn zone_bits_of_the_caller_are_ignored_and_compound_is_refused() {
    // M10
    let mm = machine();
    let both = GFP_KERNEL | Gfp::DMA | Gfp::DMA32;
    for gfp in [GFP_DMA | GFP_KERNEL, both, GFP_HIGHUSER_MOVABLE, GFP_ATOMIC] {
        let (p, dma) = mm.dma_alloc_coherent(&device(64), 100, gfp).unwrap();
        assert_eq!(zone_of(&mm, p), ZoneKind::Normal, "{gfp}");
        free(&mm, &device(64), 100, p, dma);
        let (p, dma) = mm.dma_alloc_coherent(&device(24), 100, gfp).unwrap();
        assert_eq!(zone_of(&mm, p), ZoneKind::Dma, "{gfp}");
        free(&mm, &device(24), 100, p, dma);
    }
    let compound = mm.dma_alloc_coherent(&device(64), 100, GFP_KERNEL | Gfp::COMP);
    let refused = AllocError::BadFlags(GfpError::BitsNotAllowed {
        entry: crate::flags::Entry::DmaCoherent,
        bits: Gfp::COMP,
    });
    assert_eq!(compound, Err(refused));
}

#[test]
fn impossible_sizes_and_devices_are_refused() {
    // M10
    let mm = machine();
    let get = |card: DmaDevice, size| mm.dma_alloc_coherent(&card, size, GFP_KERNEL).map(|_| ());
    assert_eq!(get(device(64), 0), Err(AllocError::ZeroSize));
    let large = AllocError::TooLarge { max: 4 << 20 };
    assert_eq!(get(device(64), (4 << 20) + 1), Err(large));
    assert_eq!(get(device(64), usize::MAX), Err(large));
    // A bus that shows RAM at 1 GiB and up, or all of it below address 0.
    let out = Err(AllocError::OutOfReach);
    assert_eq!(get(device(24).bus_offset(1 << 30), 8), out);
    assert_eq!(get(device(64).bus_offset(-(1 << 30)), 8), out);
    assert_eq!(get(device(12), 8192), out, "no block of this size");
    assert_eq!(used(&mm), used(&machine()), "nothing is kept");
}

#[test]
fn a_bus_offset_moves_what_a_device_reaches() {
    // M10: RAM from 4 GiB on, which the bus shows at 0.
    let start = 4u64 << 30;
    let ram = TestPlatform::new(start, 32 << 20);
    let map = [region(start, start + 32 * MIB)];
    let mm = Mm::boot(ram, &map, &BootConfig::default()).unwrap();
    let straight = mm.dma_alloc_coherent(&device(32), 4096, GFP_KERNEL);
    assert_eq!(straight, Err(AllocError::OutOfReach));
    let card = device(32).bus_offset(-(start as i64));
    let (p, dma) = mm.dma_alloc_coherent(&card, 4096, GFP_KERNEL).unwrap();
    let phys = mm.virt_to_pfn(p.addr().get()).unwrap().phys();
    assert_eq!(dma, DmaAddr(phys.0 - start));
    free(&mm, &card, 4096, p, dma);
    assert!(mm.platform().reports().is_empty());
}

#[test]
fn a_device_gets_memory_of_its_node() {
    // M10
    let half = 32 * MIB;
    let mut map = [region(0, half), region(half, 2 * half)];
    map[1].node = NodeId(1);
    let config = BootConfig {
        dma_end: None,
        dma32_end: None,
        ..BootConfig::default()
    };
    let mm = Mm::boot(TestPlatform::new(0, 2 * half as usize), &map, &config).unwrap();
    for node in [NodeId(1), NodeId(0)] {
        let card = device(64).near(node);
        let (p, dma) = mm.dma_alloc_coherent(&card, 4096, GFP_KERNEL).unwrap();
        let pfn = mm.virt_to_pfn(p.addr().get()).unwrap();
        assert_eq!(mm.pages().node_of(pfn), node);
        free(&mm, &card, 4096, p, dma);
    }
}

#[test]
fn a_device_that_reaches_all_leaves_the_low_reserve_alone() {
    // P207: a dry NORMAL zone does not send it into ZONE_DMA.
    let mm = machine();
    let card = device(64);
    while mm.dma_alloc_coherent(&card, 64 << 10, GFP_KERNEL).is_ok() {}
    let isa = device(24);
    let (p, dma) = mm.dma_alloc_coherent(&isa, 4096, GFP_KERNEL).unwrap();
    free(&mm, &isa, 4096, p, dma);
}

#[test]
fn every_wrong_free_is_reported_with_its_owner() {
    // M10
    let mm = machine();
    let card = device(32);
    let (p, dma) = mm.dma_alloc_coherent(&card, 10_000, GFP_KERNEL).unwrap();
    let ours = |report: &str, what: &str| {
        let owned = report.contains("coherent memory") && report.contains("of 10000 bytes");
        assert!(report.contains(what) && owned, "{report}");
        assert!(report.contains("dma/tests.rs"), "{report}");
    };
    ours(
        &report_of(&mm, || free(&mm, &card, 9000, p, dma)),
        "free as 9000 bytes",
    );
    let other = DmaAddr(dma.0 + 4096);
    ours(
        &report_of(&mm, || free(&mm, &card, 10_000, p, other)),
        "free by device address",
    );
    let shifted = card.bus_offset(4 * MIB as i64);
    ours(
        &report_of(&mm, || free(&mm, &shifted, 10_000, p, dma)),
        "free by device address",
    );
    // SAFETY: inside of the block, which is ours.
    let inside = [unsafe { p.add(1) }, unsafe { p.add(PAGE_SIZE) }];
    for inside in inside {
        ours(
            &report_of(&mm, || free(&mm, &card, 10_000, inside, dma)),
            "interior",
        );
    }
    // SAFETY: all are refused.
    unsafe {
        let as_object = report_of(&mm, || mm.kfree(p.as_ptr()));
        assert!(as_object.contains("wrong call"), "{as_object}");
        let inside = report_of(&mm, || mm.kfree(inside[1].as_ptr()));
        assert!(inside.contains("wrong call"), "{inside}");
        ours(
            &report_of(&mm, || mm.free_pages(p.as_ptr(), 2)),
            "wrong call",
        );
    }
    free(&mm, &card, 10_000, p, dma);
    let twice = report_of(&mm, || free(&mm, &card, 10_000, p, dma));
    assert!(
        twice.contains("double free") && twice.contains("free memory"),
        "{twice}"
    );
    let page = mm.get_free_pages(GFP_KERNEL, 0).unwrap();
    let call = report_of(&mm, || free(&mm, &card, PAGE_SIZE, page, DmaAddr(0)));
    assert!(call.contains("wrong call"), "{call}");
    let object = mm.kmalloc(64, GFP_KERNEL).unwrap();
    let call = report_of(&mm, || free(&mm, &card, 64, object, DmaAddr(0)));
    assert!(call.contains("wrong call"), "{call}");
    let nothing = mm.platform().reports().len();
    // SAFETY: null is nothing to do.
    unsafe { mm.dma_free_coherent(&card, 10_000, core::ptr::null_mut(), dma) };
    assert_eq!(mm.platform().reports().len(), nothing);
    mm.verify().unwrap();
}

#[test]
fn inside_the_allocator_allocation_is_refused_and_free_put_off() {
    // M10, P173
    let mm = machine();
    let card = device(24);
    let (p, dma) = mm.dma_alloc_coherent(&card, 8192, GFP_KERNEL).unwrap();
    let held = used(&mm);
    mm.platform().nested.store(true, Ordering::Relaxed);
    let nested = mm.dma_alloc_coherent(&card, 4096, GFP_ATOMIC);
    assert_eq!(nested, Err(AllocError::Nested));
    free(&mm, &card, 8192, p, dma);
    mm.platform().nested.store(false, Ordering::Relaxed);
    assert_eq!(used(&mm), held, "put off");
    mm.trim();
    assert_eq!(used(&mm), held - 2);
    assert!(mm.platform().reports().is_empty());
}

#[test]
fn random_devices_and_sizes_keep_every_rule() {
    // M10: model: the list of live blocks, each filled with its own byte.
    let (seeds, steps) = if cfg!(miri) { (1, 20) } else { (4, 400) };
    for seed in 1..=seeds {
        let mm = machine();
        for cpu in 0..4 {
            // Each CPU makes its caches first: they stay.
            mm.platform().on(cpu);
            let (p, dma) = mm.dma_alloc_coherent(&device(64), 8, GFP_KERNEL).unwrap();
            free(&mm, &device(64), 8, p, dma);
        }
        mm.trim();
        let idle = used(&mm);
        let mut rng = Rng::new(seed);
        let mut live: Vec<(DmaDevice, usize, NonNull<u8>, DmaAddr, u8)> = Vec::new();
        for step in 0..steps {
            mm.platform().on(rng.below(4) as u32);
            if live.len() < 24 && rng.below(3) > 0 {
                let bits = [20, 23, 24, 25, 26, 32, 64][rng.below(7)];
                let card = device(bits).bus_offset([0, 4 << 20][rng.below(2)]);
                let scale = 8 + rng.below(12);
                let size = 1 + rng.below(1 << scale);
                let Ok((p, dma)) = mm.dma_alloc_coherent(&card, size, GFP_KERNEL) else {
                    continue;
                };
                let phys = mm.virt_to_pfn(p.addr().get()).unwrap().phys();
                assert_eq!(card.address_of(phys, size), Some(dma), "{seed} {step}");
                // SAFETY: the block is ours.
                unsafe { p.as_ptr().write_bytes(step as u8, size) };
                live.push((card, size, p, dma, step as u8));
            } else if !live.is_empty() {
                let (card, size, p, dma, fill) = live.swap_remove(rng.below(live.len()));
                // SAFETY: the block is ours.
                let bytes = unsafe { core::slice::from_raw_parts(p.as_ptr(), size) };
                assert!(bytes.iter().all(|b| *b == fill), "{seed} {step}");
                free(&mm, &card, size, p, dma);
            }
            mm.verify().unwrap();
        }
        for (card, size, p, dma, _) in live {
            free(&mm, &card, size, p, dma);
        }
        mm.trim();
        assert_eq!(used(&mm), idle, "{seed}");
        assert!(mm.platform().reports().is_empty(), "{seed}");
    }
}
