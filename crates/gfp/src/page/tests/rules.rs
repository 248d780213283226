//! One test a rule.

use super::support::{exhaust, get, order, try_put as put};
use crate::error::AllocError;
use crate::flags::{
    GFP_ATOMIC, GFP_DMA, GFP_HIGHUSER_MOVABLE, GFP_KERNEL, GFP_NOWAIT, Gfp, MigrateType, ZoneKind,
};
use crate::frame::{FrameKind, FrameWord, Order, PAGE_SIZE, PAGEBLOCK_PAGES, Pfn, PhysAddr};
use crate::page::{BootConfig, PageAllocator, PageRequest};
use crate::report::{Misuse, Owner};
use crate::testing::{TestPlatform, pages, region};
use std::vec::Vec;

const O0: Order = Order::ZERO;

#[test]
fn zeroed_pages_read_as_zero() {
    // P9, P61
    let machine = pages(16);
    for o in [0, 3, 7] {
        let pfn = get(&machine, GFP_KERNEL, o);
        let ptr = machine.ptr_of(pfn).as_ptr();
        // SAFETY: the block is ours.
        unsafe { ptr.write_bytes(0xaa, order(o).bytes()) };
        put(&machine, pfn, o).unwrap();
        let again = get(&machine, GFP_KERNEL | Gfp::ZERO, o);
        assert_eq!(again, pfn, "last in, first out (P304)");
        // SAFETY: the block is ours and was zeroed.
        let bytes = unsafe { core::slice::from_raw_parts(ptr, order(o).bytes()) };
        assert!(bytes.iter().all(|b| *b == 0));
        put(&machine, again, o).unwrap();
    }
}

#[test]
fn only_urgent_requests_go_below_min() {
    // P100, P102, P270: with min pages left, GFP_NOWAIT fails and GFP_ATOMIC takes 62.5 % of them.
    let machine = pages(64);
    let zone = &machine.zones[0];
    let min = zone.watermarks().min;
    let held = exhaust(&machine, GFP_NOWAIT);
    assert_eq!(zone.free_pages(), min, "GFP_NOWAIT stops at min");
    let urgent = exhaust(&machine, GFP_ATOMIC);
    let floor = min - min / 2;
    let floor = floor - floor / 4;
    assert_eq!((urgent.len(), zone.free_pages()), (min - floor, floor));
    assert_eq!(machine.failures()[0], 2);
    // P18: MEMALLOC ignores all watermarks.
    let rest = exhaust(&machine, GFP_NOWAIT | Gfp::MEMALLOC);
    assert_eq!((rest.len(), zone.free_pages()), (floor, 0));
    // P20, P53: NOMEMALLOC wins.
    let none = machine.alloc(&PageRequest::new(
        GFP_NOWAIT | Gfp::MEMALLOC | Gfp::NOMEMALLOC,
        O0,
    ));
    assert!(matches!(none, Err(AllocError::NoMemory { .. })));
    for pfn in held.into_iter().chain(urgent).chain(rest) {
        put(&machine, pfn, 0).unwrap();
    }
    machine.drain_all();
    machine.verify().unwrap();
}

#[test]
fn the_slow_path_takes_back_what_other_cpus_cached() {
    // P118, P821
    let machine = pages(64);
    let mut held = exhaust(&machine, GFP_KERNEL);
    machine.platform().on(1);
    for _ in 0..8 {
        put(&machine, held.pop().unwrap(), 0).unwrap();
    }
    assert!(machine.cached_page_count() > 0);
    machine.platform().on(2);
    assert!(machine.alloc(&PageRequest::new(GFP_KERNEL, O0)).is_ok());
}

#[test]
fn dma_requests_get_memory_below_their_limit_and_reserves_protect_it() {
    // P1, P201, P207
    let config = BootConfig {
        dma32_end: None,
        ..BootConfig::default()
    };
    let platform = TestPlatform::new(0, 64 << 20);
    let machine = PageAllocator::boot(platform, &[region(0, 64 << 20)], &config).unwrap();
    let dma = machine
        .alloc(&PageRequest::new(GFP_DMA | GFP_KERNEL, O0))
        .unwrap();
    assert!(dma.phys() < PhysAddr(16 << 20));
    let normal = get(&machine, GFP_KERNEL, 0);
    assert!(normal.phys() >= PhysAddr(16 << 20));
    exhaust(&machine, GFP_KERNEL);
    let zone = &machine.zones[0];
    assert_eq!(zone.kind, ZoneKind::Dma);
    let kept = zone.reserve(ZoneKind::Normal) + zone.watermarks().min;
    assert!(
        kept > 0 && zone.free_pages() >= kept,
        "{} < {kept}",
        zone.free_pages()
    );
    assert!(
        machine
            .alloc(&PageRequest::new(GFP_DMA | GFP_KERNEL, O0))
            .is_ok()
    );
}

#[test]
fn thisnode_never_leaves_its_node() {
    // P22
    use crate::frame::NodeId;
    let base = 4u64 << 30;
    let mut map = [
        region(base, base + (32 << 20)),
        region(base + (32 << 20), base + (64 << 20)),
    ];
    map[1].node = NodeId(1);
    let platform = TestPlatform::new(base, 64 << 20);
    let machine = PageAllocator::boot(platform, &map, &BootConfig::default()).unwrap();
    let on = |node, gfp| machine.alloc(&PageRequest::new(gfp, O0).at(Some(NodeId(node))));
    for _ in 0..100 {
        assert_eq!(machine.node_of(on(1, GFP_KERNEL).unwrap()), NodeId(1));
    }
    while on(1, GFP_NOWAIT | Gfp::THISNODE).is_ok() {}
    assert_eq!(machine.node_of(on(1, GFP_NOWAIT).unwrap()), NodeId(0));
    // P140: a node without memory falls back to the nearest that has some.
    assert!(on(3, GFP_NOWAIT).is_ok());
    assert!(on(3, GFP_NOWAIT | Gfp::THISNODE).is_err());
}

#[test]
fn an_unmovable_request_claims_the_largest_block() {
    // P310, P314, P317, P956
    let machine = pages(32);
    let before = machine.zones[0].nr_free(10, MigrateType::Movable);
    let pfn = get(&machine, GFP_KERNEL, 0);
    assert_eq!(machine.blocks.kind_of(pfn), MigrateType::Unmovable);
    assert_eq!(
        machine.zones[0].nr_free(10, MigrateType::Movable),
        before - 1
    );
    let movable = get(&machine, GFP_HIGHUSER_MOVABLE, 0);
    assert_eq!(machine.blocks.kind_of(movable), MigrateType::Movable);
    machine.verify().unwrap();
}

#[test]
fn free_neighbours_of_other_types_merge_and_share_a_type() {
    // P303, P954
    let machine = pages(32);
    let pair = get(&machine, GFP_HIGHUSER_MOVABLE, 10);
    machine.split(pair, order(10));
    let zone = &machine.zones[0];
    {
        let local = crate::sync::Local::enter(machine.platform()).unwrap();
        let block = machine.blocks.of(pair).unwrap();
        zone.lock(&machine.blocks, &local)
            .retype(block, MigrateType::Unmovable);
    }
    // SAFETY: all these pages are ours.
    unsafe { machine.free_exact(pair, 1024) }.unwrap();
    machine.drain_all();
    let (a, b) = (pair, pair.add(PAGEBLOCK_PAGES));
    assert_eq!(machine.blocks.kind_of(a), machine.blocks.kind_of(b));
    machine.verify().unwrap();
}

#[test]
fn exact_allocations_give_the_tail_back() {
    // P346
    let machine = pages(16);
    let (pfn, n) = machine.alloc_exact(5 * PAGE_SIZE + 1, GFP_KERNEL).unwrap();
    assert_eq!(n, 6);
    machine.drain_all();
    assert!(machine.is_free(pfn.add(6)) && machine.is_free(pfn.add(7)));
    assert!(!machine.is_free(pfn.add(5)));
    // SAFETY: ours.
    unsafe { machine.free_exact(pfn, n) }.unwrap();
    machine.drain_all();
    assert!(machine.is_free(pfn));
    assert_eq!(
        machine.alloc_exact(0, GFP_KERNEL),
        Err(AllocError::ZeroSize)
    );
    let large = machine.alloc_exact((4 << 20) + 1, GFP_KERNEL);
    assert_eq!(large, Err(AllocError::TooLarge { max: 4 << 20 }));
}

#[test]
fn bulk_fills_the_empty_places_and_counts_the_prefix() {
    // P344, P966
    let machine = pages(16);
    let mine = get(&machine, GFP_KERNEL, 0);
    let mut out = [None, Some(mine), None, None];
    assert_eq!(
        machine.alloc_bulk(&PageRequest::new(GFP_KERNEL, O0), &mut out),
        4
    );
    assert_eq!(out[1], Some(mine));
    exhaust(&machine, GFP_KERNEL);
    let mut more = [Some(mine), None];
    assert_eq!(
        machine.alloc_bulk(&PageRequest::new(GFP_NOWAIT, O0), &mut more),
        1
    );
}

#[test]
fn a_second_reference_keeps_the_first_page() {
    // P342, P901
    let machine = pages(16);
    for _ in 0..100 {
        let pfn = get(&machine, GFP_KERNEL, 3);
        assert!(machine.get_ref(pfn));
        put(&machine, pfn, 3).unwrap();
        assert!(machine.frames().get(pfn).is_block(FrameKind::Page, O0));
        put(&machine, pfn, 0).unwrap();
        let compound = get(&machine, GFP_KERNEL | Gfp::COMP, 3);
        assert!(machine.get_ref(compound));
        put(&machine, compound, 3).unwrap();
        put(&machine, compound, 3).unwrap();
    }
    machine.drain_all();
    machine.verify().unwrap();
    let lost = machine.managed_pages() - machine.free_page_count();
    assert!(lost <= 4, "{lost} pages lost besides the CPU's caches");
}

#[test]
fn every_wrong_free_is_refused_and_named() {
    // P605
    let machine = pages(16);
    let pfn = get(&machine, GFP_KERNEL, 2);
    assert_eq!(
        put(&machine, pfn, 1),
        Err(Misuse::WrongOrder { freed_as: order(1) })
    );
    assert_eq!(put(&machine, pfn.add(1), 0), Err(Misuse::InteriorFree));
    assert_eq!(
        machine.owner_of(pfn.add(1)),
        Owner::Pages {
            pfn,
            order: order(2)
        }
    );
    put(&machine, pfn, 2).unwrap();
    assert_eq!(
        put(&machine, pfn, 2),
        Err(Misuse::DoubleFree),
        "while it is cached"
    );
    assert_eq!(
        put(&machine, pfn.add(1), 0),
        Err(Misuse::DoubleFree),
        "a page of a cached block"
    );
    machine.drain_all();
    assert_eq!(
        put(&machine, pfn, 2),
        Err(Misuse::DoubleFree),
        "when it is back in the zone"
    );
    assert_eq!(machine.owner_of(pfn), Owner::Free { pfn });
    assert_eq!(put(&machine, Pfn(3), 0), Err(Misuse::WildFree));
    assert_eq!(machine.owner_of(Pfn(3)), Owner::Unmanaged);
    let (start, spanned) = machine.zones[0].span();
    let meta = start.add(spanned - 1);
    assert_eq!(
        put(&machine, meta, 0),
        Err(Misuse::WildFree),
        "the allocator's own tables"
    );
    machine.verify().unwrap();
}

#[test]
fn a_block_forged_twice_into_the_caches_is_found_when_it_returns() {
    let machine = pages(16);
    let pfn = get(&machine, GFP_KERNEL, 0);
    put(&machine, pfn, 0).unwrap();
    // Two frees that race look to both as if the block were allocated.
    machine.set_word(pfn, FrameWord::new(FrameKind::Page, O0, 1));
    put(&machine, pfn, 0).unwrap();
    machine.drain_all();
    let reports = machine.platform().reports();
    assert_eq!(reports.len(), 1);
    assert!(reports[0].contains("double free"), "{reports:?}");
    assert_eq!(machine.misuses(), 1);
    machine.verify().unwrap();
}

#[test]
fn a_free_inside_the_allocator_is_put_off_and_an_allocation_is_refused() {
    // P173, P176
    let machine = pages(16);
    let blocks: Vec<_> = (0..5).map(|o| (get(&machine, GFP_KERNEL, o), o)).collect();
    machine
        .platform()
        .nested
        .store(true, core::sync::atomic::Ordering::Relaxed);
    let refused = machine.alloc(&PageRequest::new(GFP_KERNEL, O0));
    assert_eq!(refused, Err(AllocError::Nested));
    for &(pfn, o) in &blocks {
        put(&machine, pfn, o).unwrap();
        assert_eq!(put(&machine, pfn, o), Err(Misuse::DoubleFree));
    }
    machine
        .platform()
        .nested
        .store(false, core::sync::atomic::Ordering::Relaxed);
    get(&machine, GFP_KERNEL, 9);
    machine.drain_all();
    assert!(blocks.iter().all(|(pfn, _)| machine.is_free(*pfn)));
    machine.verify().unwrap();
}

#[test]
fn whole_free_blocks_go_back_to_the_platform() {
    // P520 in its simplest form: beyond the blocks that are kept.
    let machine = pages(128);
    let blocks: Vec<_> = (0..25).map(|_| get(&machine, GFP_KERNEL, 9)).collect();
    for pfn in &blocks {
        // SAFETY: ours.
        unsafe { machine.ptr_of(*pfn).as_ptr().write_bytes(0xff, PAGE_SIZE) };
        put(&machine, *pfn, 9).unwrap();
    }
    machine.drain_all();
    let discarded = || {
        machine
            .platform()
            .discarded
            .load(core::sync::atomic::Ordering::Relaxed)
            / PAGEBLOCK_PAGES
    };
    assert_eq!(discarded(), 25 - 16);
    assert_eq!(machine.trim(), 16 * PAGEBLOCK_PAGES);
    assert_eq!(discarded(), 25);
    assert_eq!(machine.trim(), 0, "what is back is not given back again");
    machine.verify().unwrap();
}

#[test]
fn illegal_flags_are_refused() {
    // P47, P52
    let machine = pages(16);
    let bad = machine.alloc(&PageRequest::new(Gfp::DMA | Gfp::DMA32, O0));
    assert!(matches!(bad, Err(AllocError::BadFlags(_))));
    assert_eq!(Order::new(11), None);
}

#[test]
fn the_peak_is_the_most_that_was_ever_out() {
    let machine = pages(32);
    let block = get(&machine, GFP_KERNEL, 10);
    let peak = machine.peak_pages();
    assert!(peak >= 1024);
    put(&machine, block, 10).unwrap();
    assert_eq!(machine.peak_pages(), peak);
}
