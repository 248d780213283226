//! The quick way does what the long way does.

use super::super::cache::Front;
use super::plug::{BASE, MIB, boot, config, node};
use crate::flags::{GFP_HIGHUSER_MOVABLE, GFP_KERNEL, Gfp, MigrateType, ZoneKind};
use crate::frame::{CpuId, NodeId, Order, Pfn, PhysAddr};
use crate::page::{BootConfig, PageAllocator, PageRequest, RegionKind};
use crate::sync::stock::At;
use crate::testing::{TestPlatform, pages};
use std::vec::Vec;

const O0: Order = Order::ZERO;

/// Node 0 has three kinds of zones, node 1 what is left, node 2 nothing.
fn machine() -> PageAllocator<TestPlatform> {
    let config = BootConfig {
        dma_end: Some(PhysAddr(BASE + 8 * MIB)),
        dma32_end: Some(PhysAddr(BASE + 16 * MIB)),
        movable_bytes: 16 * MIB,
        ..config()
    };
    let map = [
        node(0, RegionKind::Usable, 0, 40),
        node(1, RegionKind::Usable, 40, 64),
    ];
    boot(64, &map, &config)
}

#[test]
fn it_looks_at_the_zone_that_the_zonelist_has_first() {
    // P201, P202
    let machine = machine();
    let mut found = [0; 2];
    for node in (0..3).map(NodeId) {
        for bits in 0..16 {
            for zero in [Gfp::NONE, Gfp::ZERO] {
                let gfp = Gfp::from_bits_retain(bits) | zero;
                let quick = machine.lists[usize::from(node.0)].first(gfp);
                if gfp.check().is_err() {
                    assert_eq!(quick, At::NOWHERE, "{gfp:?}");
                    continue;
                }
                let node = Some(node);
                let req = PageRequest::new(gfp, O0).at(node);
                let first = machine.candidates(&req).next().unwrap();
                let near = Some(first.node) == node;
                let its = near.then(|| Front::lists_of(usize::from(first.id)));
                assert_eq!(quick, its.unwrap_or(At::NOWHERE), "{gfp:?}");
                found[usize::from(near)] += 1;
            }
        }
    }
    assert!(found[0] > 0 && found[1] > 0, "both were tried");
}

#[test]
fn its_counts_are_those_of_the_long_way() {
    // P615, P617: one page comes by a refill, the next ones at once; all are counted alike.
    let machine = pages(64);
    let sum = || {
        let mut sum = [0; 5];
        for zone in machine.zone_stats() {
            let e = zone.events;
            let all = [
                e.alloc_pages,
                e.free_pages,
                e.numa_hit,
                e.numa_miss,
                e.numa_other,
            ];
            sum.iter_mut().zip(all).for_each(|(sum, n)| *sum += n);
        }
        sum
    };
    for (gfp, order) in [
        (GFP_KERNEL, 0u8),
        (GFP_HIGHUSER_MOVABLE, 0),
        (GFP_KERNEL | Gfp::RECLAIMABLE, 3),
        (GFP_KERNEL | Gfp::COMP, 9),
        (GFP_KERNEL, 7),
    ] {
        let order = Order::new(order).unwrap();
        let before = sum();
        let held: Vec<Pfn> = (0..5)
            .map(|_| machine.alloc(&PageRequest::new(gfp, order)).unwrap())
            .collect();
        for pfn in held {
            // SAFETY: freed once, and used by nobody.
            unsafe { machine.free(pfn, order).unwrap() };
        }
        let after = sum();
        let pages = 5 * order.pages() as u64;
        let new: Vec<u64> = after.iter().zip(before).map(|(a, b)| a - b).collect();
        assert_eq!(new, [pages, pages, 5, 0, 0], "{gfp:?} {order:?}");
        machine.verify().unwrap();
    }
}

#[test]
fn what_it_put_is_what_it_takes() {
    // P327
    let machine = pages(64);
    let get = |gfp| machine.alloc(&PageRequest::new(gfp, O0)).unwrap();
    // SAFETY: each is freed once, and used by nobody.
    let put = |pfn| unsafe { machine.free(pfn, O0).unwrap() };
    let (a, b) = (get(GFP_KERNEL), get(GFP_KERNEL));
    put(a);
    put(b);
    let cached = machine.cached_pages(CpuId(0));
    assert_eq!([get(GFP_KERNEL), get(GFP_KERNEL)], [b, a]);
    assert_eq!(machine.cached_pages(CpuId(0)), cached - 2);
    assert_ne!(get(GFP_HIGHUSER_MOVABLE), b);
    assert_eq!(machine.zones[0].kind, ZoneKind::Normal);
    assert_eq!(machine.blocks.kind_of(a), MigrateType::Unmovable);
}

#[test]
fn a_block_goes_where_its_pageblock_is_now_not_where_is_usual() {
    // P327
    let machine = pages(64);
    let get = |gfp| machine.alloc(&PageRequest::new(gfp, O0)).unwrap();
    // SAFETY: each is freed once, and used by nobody.
    let put = |pfn| unsafe { machine.free(pfn, O0).unwrap() };
    let held: Vec<Pfn> = (0..4).map(|_| get(GFP_KERNEL)).collect();
    put(held[0]);
    let block = machine.blocks.of(held[1]).unwrap();
    let kinds = [MigrateType::Movable, MigrateType::Unmovable];
    machine.blocks.blocks[block].set_kind(kinds[0]);
    assert!(!machine.put_quick(held[1], O0), "not usual");
    put(held[1]);
    assert!(machine.put_quick(held[2], O0), "usual from now on");
    assert_eq!(get(GFP_HIGHUSER_MOVABLE), held[2]);
    assert_eq!(get(GFP_HIGHUSER_MOVABLE), held[1]);
    machine.blocks.blocks[block].set_kind(kinds[1]);
    assert!(!machine.put_quick(held[3], O0), "not usual any more");
    assert_eq!(get(GFP_KERNEL), held[0]);
    held[1..].iter().for_each(|pfn| put(*pfn));
    put(held[0]);
    machine.drain_all();
    machine.verify().unwrap();
}

#[test]
fn what_is_usual_is_noted_for_the_type_that_was_looked_at() {
    // P327, P512: another CPU changes a pageblock's type in the middle of a free. What is noted
    // then would have later frees go to the wrong list for ever, also such of isolated blocks.
    let machine: &_ = std::boxed::Box::leak(std::boxed::Box::new(pages(64)));
    let get = |gfp| machine.alloc(&PageRequest::new(gfp, O0)).unwrap();
    // SAFETY: each is freed once, and used by nobody.
    let put = |pfn| unsafe { machine.free(pfn, O0).unwrap() };
    let held: Vec<Pfn> = (0..3).map(|_| get(GFP_KERNEL)).collect();
    let block = &machine.blocks.blocks[machine.blocks.of(held[0]).unwrap()];
    // The first free of a CPU makes its caches, under a lock.
    machine.platform().on(1);
    let meanwhile = || block.set_kind(MigrateType::Movable);
    *machine.platform().on_step.lock().unwrap() = Some(std::boxed::Box::new(meanwhile));
    put(held[0]);
    assert_eq!(block.kind(), MigrateType::Movable, "it came in between");
    assert!(
        !machine.put_quick(held[1], O0),
        "of this type nothing is usual"
    );
    put(held[1]);
    assert!(machine.put_quick(held[2], O0));
    assert_eq!(get(GFP_HIGHUSER_MOVABLE), held[2]);
    assert_eq!(get(GFP_KERNEL), held[0]);
    // No `verify`: the type was changed behind the back of who counts by it.
    assert_eq!(get(GFP_HIGHUSER_MOVABLE), held[1]);
}
