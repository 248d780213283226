//! Figures that are computed: sums, available memory, names.

use super::fixture::{HighMem, Machine, node, zone};
use super::*;
use crate::flags::ZoneKind;
use crate::frame::NodeId;
use std::vec;

/// One Normal zone of 262144 pages (P214).
fn one_zone(free: i64) -> Machine {
    let mut normal = zone(0, ZoneKind::Normal, 0, free);
    normal.present = 262_144;
    normal.managed = 262_144;
    (normal.min, normal.low, normal.high, normal.promo) = (1024, 1286, 1548, 1810);
    let mut node = node(0, 0);
    node.counters = NodeCounters::ZERO;
    Machine {
        high_mem: HighMem::NotBuilt,
        nodes: vec![node],
        zones: vec![(normal, vec![])],
        caches: vec![],
        areas: vec![],
        machine: MachineView::ZERO,
        stalls: Default::default(),
    }
}

#[test]
fn available_memory_is_free_memory_and_half_of_small_caches() {
    // P621: L = 1286, totalreserve = 1548 (P209).
    let mut machine = one_zone(10_000);
    assert_eq!(MemInfo::of(&machine).available, 10_000 - 1548);
    let counters = &mut machine.nodes[0].counters;
    counters.set(NodeCounter::ActiveFile, 600);
    counters.set(NodeCounter::InactiveFile, 401);
    counters.set(NodeCounter::SlabReclaimable, 30);
    counters.set(NodeCounter::KernelMiscReclaimable, 11);
    let info = MemInfo::of(&machine);
    assert_eq!(info.available, 10_000 - 1548 + (1001 - 500) + (41 - 20));
    // P622
    assert_eq!((info.kreclaimable, info.total), (41, 262_144));
}

#[test]
fn available_memory_leaves_the_low_watermark_of_large_caches() {
    // P621, P215: a boost raises the low watermark; P209: not the reserve.
    let mut machine = one_zone(10_000);
    machine.nodes[0]
        .counters
        .set(NodeCounter::InactiveFile, 100_000);
    machine.nodes[0]
        .counters
        .set(NodeCounter::SlabReclaimable, 50_000);
    let info = MemInfo::of(&machine);
    assert_eq!(
        info.available,
        10_000 - 1548 + (100_000 - 1286) + (50_000 - 1286)
    );
    machine.zones[0].0.boost = 512;
    assert_eq!(MemInfo::of(&machine).available, info.available - 2 * 512);
}

#[test]
fn available_memory_is_never_below_zero() {
    // P621
    assert_eq!(MemInfo::of(&one_zone(1547)).available, 0);
    assert_eq!(MemInfo::of(&one_zone(1549)).available, 1);
}

#[test]
fn reserve_is_capped_by_the_size_of_the_zone() {
    // P209, with the protection of P208's DMA zone.
    let mut machine = one_zone(0);
    let mut dma = zone(0, ZoneKind::Dma, 0, 0);
    (dma.present, dma.managed, dma.high) = (4096, 4096, 100);
    dma.protection = [0, 2032, 16_368, 16_368, 16_368];
    machine.zones.insert(0, (dma, vec![]));
    assert_eq!(Totals::of(&machine).reserve, 4096 + 1548);
    machine.zones[0].0.protection = [0, 2032, 0, 0, 0];
    assert_eq!(Totals::of(&machine).reserve, 2132 + 1548);
}

#[test]
fn cached_leaves_out_swap_cache_and_buffers() {
    // P620
    let mut machine = one_zone(0);
    machine.nodes[0].counters.set(NodeCounter::FilePages, 100);
    machine.nodes[0].counters.set(NodeCounter::Swapcached, 30);
    machine.machine.buffers = 20;
    assert_eq!(MemInfo::of(&machine).cached, 50);
    machine.machine.buffers = 80;
    assert_eq!(MemInfo::of(&machine).cached, 0);
}

#[test]
fn numbers_without_sense_print_and_do_not_panic() {
    let mut machine = one_zone(i64::MAX);
    let max = usize::MAX;
    let mut crowded = machine.zones[0].0;
    crowded.kind = ZoneKind::Movable;
    crowded.nr_free = [[max; 6]; 11];
    crowded.blocks_by_type = [max; 6];
    crowded.protection = [max; 5];
    (crowded.present, crowded.managed, crowded.cma) = (max, max, max);
    (crowded.boost, crowded.low, crowded.high) = (max, max, max);
    for which in ZoneCounter::ALL {
        crowded.counters.set(which, i64::MIN);
    }
    machine.zones.push((crowded, vec![]));
    for which in NodeCounter::ALL {
        machine.nodes[0].counters.set(which, i64::MAX);
    }
    machine.areas.push(AreaView::new(max - 1, max));
    machine.caches.push(CacheView {
        name: "",
        active_objs: max,
        cached: max,
        num_objs: max,
        object_size: max,
        stride: max,
        objs_per_slab: max,
        pages_per_slab: max,
        num_slabs: max,
        reclaimable: true,
    });
    (machine.machine.hugetlb.total, machine.machine.free_swap) = (max, max);
    machine.stalls[1].total_us = u64::MAX;
    for view in View::ALL {
        let text = text(view, &machine);
        assert!(text.ends_with('\n'), "{view:?}");
        // P613: nothing negative.
        let may = [View::Slabinfo, View::ExtfragIndex].contains(&view);
        assert!(may || !text.contains(" -"), "{view:?}");
    }
    let mut text = String::new();
    show_mem(&machine, &MemFilter::ALL, &mut text).unwrap();
    assert!(text.contains(&std::format!("\nlowmem_reserve[]: {max} ")));
}

#[test]
fn event_names_say_the_zone_they_count_for() {
    // P617
    for kind in ZoneKind::ALL {
        let zone = match kind {
            ZoneKind::HighMem => String::from("high"),
            _ => kind.name().to_lowercase(),
        };
        for (event, stem) in [
            (VmEvent::pgalloc(kind), "pgalloc"),
            (VmEvent::allocstall(kind), "allocstall"),
            (VmEvent::pgskip(kind), "pgskip"),
        ] {
            assert_eq!(event.name(), std::format!("{stem}_{zone}"));
            assert_eq!(event.zone(), Some(kind));
        }
    }
    assert_eq!(VmEvent::Pgfree.zone(), None);
    assert_eq!(VmEvent::PgallocDevice.zone(), None);
}

#[test]
fn counters_add_up() {
    let mut sum = VmEvents::ZERO;
    sum.add(VmEvent::Pgfree, 3);
    let mut more = VmEvents::ZERO;
    more.set(VmEvent::Pgfree, 4);
    more.set(VmEvent::OomKill, 1);
    sum.add_all(&more);
    assert_eq!(
        (sum.get(VmEvent::Pgfree), sum.get(VmEvent::OomKill)),
        (7, 1)
    );
    assert_eq!(sum.get(VmEvent::Pageoutrun), 0);
}

#[test]
fn a_source_may_leave_out_empty_zones() {
    // P612: the text is the same as if it had shown them; P212: what an empty zone shows.
    let mut machine = one_zone(5);
    let short = text(View::Zoneinfo, &machine);
    machine
        .zones
        .insert(0, (ZoneView::empty(NodeId(0), ZoneKind::Dma), vec![]));
    machine
        .zones
        .push((ZoneView::empty(NodeId(0), ZoneKind::Movable), vec![]));
    assert_eq!(text(View::Zoneinfo, &machine), short);
    assert_eq!(short.matches("Node 0, zone ").count(), 4);
    assert!(
        short.contains(
            "zone  Movable\n  pages free     0\n        boost    0\n        min      32\n"
        )
    );
}
