//! Two machines with known numbers (P971). Counter `i` of a family is its base plus `i`, so that no
//! two lines can be exchanged unseen.

use crate::flags::{MigrateType, ZoneKind};
use crate::frame::{CpuId, NodeId, PhysAddr};
use crate::policy::stall::{Ledger, StallLine};
use crate::stat::*;
use std::vec;
use std::vec::Vec;

/// A source over plain lists.
pub(super) struct Machine {
    pub(super) high_mem: HighMem,
    pub(super) nodes: Vec<NodeView>,
    pub(super) zones: Vec<(ZoneView, Vec<PagesetView>)>,
    pub(super) caches: Vec<CacheView<'static>>,
    pub(super) areas: Vec<AreaView<'static>>,
    pub(super) machine: MachineView,
    pub(super) stalls: [StallLine; 2],
}

#[derive(PartialEq, Eq)]
pub(super) enum HighMem {
    Built,
    NotBuilt,
}

impl Source for Machine {
    fn has_zone(&self, kind: ZoneKind) -> bool {
        kind != ZoneKind::HighMem || self.high_mem == HighMem::Built
    }

    fn for_each_node(&self, visit: &mut dyn FnMut(&NodeView)) {
        self.nodes.iter().for_each(visit);
    }

    fn for_each_zone(&self, node: NodeId, visit: &mut dyn FnMut(&ZoneView)) {
        let zones = self.zones.iter().map(|(zone, _)| zone);
        zones.filter(|zone| zone.node == node).for_each(visit);
    }

    fn for_each_pageset(&self, node: NodeId, kind: ZoneKind, visit: &mut dyn FnMut(&PagesetView)) {
        for (zone, sets) in &self.zones {
            if zone.node == node && zone.kind == kind {
                sets.iter().for_each(&mut *visit);
            }
        }
    }

    fn for_each_cache(&self, visit: &mut dyn FnMut(&CacheView<'_>)) {
        self.caches.iter().for_each(visit);
    }

    fn for_each_area(&self, visit: &mut dyn FnMut(&AreaView<'_>)) {
        self.areas.iter().for_each(visit);
    }

    fn vm_events(&self) -> VmEvents {
        let mut events = VmEvents::ZERO;
        for (i, which) in VmEvent::ALL.into_iter().enumerate() {
            events.set(which, 1000 + i as u64);
        }
        events
    }

    fn machine(&self) -> MachineView {
        self.machine
    }

    fn memory_stalls(&self) -> [StallLine; 2] {
        self.stalls
    }
}

pub(super) fn node(node: u8, base: i64) -> NodeView {
    let mut view = NodeView::new(NodeId(node));
    for (i, which) in NodeCounter::ALL.into_iter().enumerate() {
        view.counters.set(which, base + i as i64);
    }
    view
}

/// A zone with counters from `base` and NUMA events from `base + 100` on.
pub(super) fn zone(node: u8, kind: ZoneKind, base: i64, free: i64) -> ZoneView {
    let mut view = ZoneView::empty(NodeId(node), kind);
    for (i, which) in ZoneCounter::ALL.into_iter().enumerate() {
        view.counters.set(which, base + i as i64);
    }
    for (i, which) in NumaEvent::ALL.into_iter().enumerate() {
        view.numa.set(which, 100 + base as u64 + i as u64);
    }
    view.counters.set(ZoneCounter::FreePages, free);
    view
}

/// Sets extent and watermarks.
fn sized(
    view: ZoneView,
    [start_pfn, spanned, present, managed]: [usize; 4],
    [min, low, high, promo]: [usize; 4],
) -> ZoneView {
    ZoneView {
        start_pfn,
        spanned,
        present,
        managed,
        min,
        low,
        high,
        promo,
        ..view
    }
}

fn pageset([cpu, count, high, batch, high_min, high_max, threshold]: [usize; 7]) -> PagesetView {
    PagesetView {
        cpu: CpuId(cpu as u32),
        count,
        high,
        batch,
        high_min,
        high_max,
        stat_threshold: threshold,
    }
}

fn free(view: &mut ZoneView, blocks: &[(usize, MigrateType, usize)]) {
    for &(order, kind, n) in blocks {
        view.nr_free[order][kind.index()] = n;
    }
}

/// `[active, all, stride, objects a slab, pages a slab, slabs]`
fn cache(name: &'static str, n: [usize; 6]) -> CacheView<'static> {
    CacheView {
        name,
        active_objs: n[0],
        cached: n[0] / 2,
        num_objs: n[1],
        object_size: n[2] - 1,
        stride: n[2],
        objs_per_slab: n[3],
        pages_per_slab: n[4],
        num_slabs: n[5],
        reclaimable: false,
    }
}

fn caches() -> Vec<CacheView<'static>> {
    vec![
        cache("btrfs_ordered_extent", [0, 0, 416, 19, 2, 0]),
        cache("kmalloc-cg-8k", [16, 16, 8192, 4, 8, 4]),
        cache("kmalloc-96", [3654, 3654, 96, 42, 1, 87]),
        cache("anon_vma", [1_234_567, 2_345_678, 104, 39, 1, 60146]),
    ]
}

/// Every optional field, in at least one line.
fn areas() -> Vec<AreaView<'static>> {
    let base = 0xffff_c900_0000_0000;
    let mut stack = AreaView::new(base, 20480);
    stack.caller = Some(&"kernel_clone+0x94/0x3e0");
    stack.nr_pages = 4;
    stack.node_pages[0] = 4;
    stack.flags = AreaFlags::VMALLOC;
    let mut vmap = AreaView::new(base + 0x5000, 20480);
    vmap.caller = Some(&"irq_init_percpu_irqstack+0xca/0x100");
    vmap.flags = AreaFlags::VMAP;
    let mut device = AreaView::new(base + 0xa000, 12288);
    device.caller = Some(&"acpi_os_map_iomem+0x1bc/0x1e0");
    device.phys = Some(PhysAddr(0x9f000));
    device.flags = AreaFlags::IOREMAP;
    let mut big = AreaView::new(base + 0x10000, 40_001_536);
    big.caller = Some(&"big+0x1/0x2");
    big.nr_pages = 9765;
    big.node_pages[0] = 9000;
    big.node_pages[3] = 765;
    big.flags = AreaFlags::VMALLOC | AreaFlags::USER | AreaFlags::DMA_COHERENT | AreaFlags::VPAGES;
    let mut sparse = AreaView::new(base + 0x1000_0000, 8192);
    sparse.flags = AreaFlags::SPARSE;
    let mut ram = AreaView::new(base + 0x2000_0000, 16384);
    ram.state = AreaState::MapRam;
    // Only the extent of these two is printed, whatever else is set.
    ram.nr_pages = 3;
    let mut lazy = AreaView::new(base + 0x3000_0000, 20480);
    lazy.state = AreaState::Unpurged;
    lazy.flags = AreaFlags::VMALLOC;
    vec![stack, vmap, device, big, sparse, ram, lazy]
}

fn machine_view(this_cpu: u32) -> MachineView {
    MachineView {
        this_cpu: CpuId(this_cpu),
        buffers: 23,
        total_swap: 2048,
        free_swap: 1024,
        commit_limit: 128_000,
        committed: 28_145,
        vmalloc_total: 1 << 33,
        percpu: 332,
        hwpoisoned: 9,
        hugetlb: HugetlbView {
            total: 6,
            free: 5,
            reserved: 4,
            surplus: 3,
            size_kib: 2048,
        },
        direct_map_kib: [30_720, 2_066_432, 25_165_824],
        dirty_threshold: 1_215_600,
        dirty_background_threshold: 607_058,
        memmap: 11,
        memmap_boot: 98_304,
    }
}

/// Of 10 s, one task of two stalled all the time, the other for the last 4 s.
fn stalls() -> [StallLine; 2] {
    let mut ledger = Ledger::NONE;
    ledger.enter(0, 2);
    ledger.enter(6_000_000, 2);
    ledger.pass(10_000_000);
    ledger.lines()
}

/// One node with zones DMA and Normal, two CPUs: 0 and 3.
pub(super) fn two_zone() -> Machine {
    use MigrateType::*;
    let mut dma = zone(0, ZoneKind::Dma, 200, 3840);
    dma = sized(dma, [1, 4095, 3998, 3840], [57, 71, 85, 99]);
    // 777 protects from HighMem, which this machine is not built with: never printed.
    dma.protection = [0, 0, 1012, 777, 1012];
    free(
        &mut dma,
        &[(8, Unmovable, 1), (9, Movable, 1), (10, Movable, 3)],
    );
    dma.blocks_by_type = [1, 7, 0, 0, 0, 0];

    let mut normal = zone(0, ZoneKind::Normal, 400, 120_000);
    // P214, with one boost on top (P216).
    normal = sized(
        normal,
        [1_048_576, 262_144, 262_144, 259_072],
        [1024, 1286, 1548, 1810],
    );
    normal.boost = 512;
    normal.cma = 4096;
    normal.counters.set(ZoneCounter::Zspages, -500);
    normal.counters.set(ZoneCounter::FreeCma, 2048);
    free(
        &mut normal,
        &[
            (0, Unmovable, 12),
            (0, Movable, 100_000),
            (0, Reclaimable, 108),
            (1, Movable, 99_999),
            (2, HighAtomic, 3),
            (3, Cma, 4),
            (9, Isolate, 2),
            (10, Unmovable, 1_234_567),
        ],
    );
    normal.blocks_by_type = [40, 645, 19, 1, 8, 2];
    normal.reserved_highatomic = 512;
    normal.free_highatomic = 12;

    let mut node = node(0, 100);
    node.counters.set(NodeCounter::FilePages, 9000);
    node.counters.set(NodeCounter::KernelFilePages, -5);
    Machine {
        high_mem: HighMem::NotBuilt,
        nodes: vec![node],
        zones: vec![
            (
                dma,
                vec![
                    pageset([0, 0, 0, 1, 17, 120, 6]),
                    pageset([3, 5, 0, 1, 17, 120, 6]),
                ],
            ),
            (
                normal,
                vec![
                    pageset([0, 385, 4039, 63, 1673, 11264, 30]),
                    pageset([3, 7, 11060, 63, 1673, 11264, 30]),
                ],
            ),
        ],
        caches: caches(),
        areas: areas(),
        machine: machine_view(0),
        stalls: stalls(),
    }
}

/// Node 0 with DMA32 and HighMem, node 1 with Normal and Movable, node 2 without memory; one CPU.
pub(super) fn two_node() -> Machine {
    use MigrateType::*;
    let mut dma32 = zone(0, ZoneKind::Dma32, 2000, 772_917);
    dma32 = sized(
        dma32,
        [4096, 1_044_480, 782_336, 772_917],
        [11_483, 14_353, 17_223, 20_093],
    );
    dma32.protection = [0, 0, 1408, 0, 1408];
    free(
        &mut dma32,
        &[(10, Movable, 752), (4, Movable, 3), (4, Cma, 2)],
    );
    dma32.blocks_by_type[Movable.index()] = 1528;

    let mut high = zone(0, ZoneKind::HighMem, 2200, 512);
    high = sized(high, [2_097_152, 1024, 1024, 1000], [32, 40, 48, 56]);
    free(&mut high, &[(9, Movable, 1)]);
    high.blocks_by_type[Movable.index()] = 2;

    let mut normal = zone(1, ZoneKind::Normal, 2400, 7);
    normal = sized(normal, [4_194_304, 8192, 8192, 8000], [100, 125, 150, 175]);
    normal.protection[ZoneKind::Movable.index()] = 250;
    free(&mut normal, &[(0, Unmovable, 7)]);
    normal.blocks_by_type[Unmovable.index()] = 16;

    let mut movable = zone(1, ZoneKind::Movable, 2600, 2048);
    movable = sized(movable, [4_202_496, 2048, 2048, 2048], [32, 40, 48, 56]);
    free(&mut movable, &[(10, Movable, 2)]);
    movable.blocks_by_type[Movable.index()] = 4;

    let mut node1 = node(1, 4000);
    node1.unreclaimable = true;
    node1.counters.set(NodeCounter::InactiveAnon, -9000);
    Machine {
        high_mem: HighMem::Built,
        nodes: vec![node(0, 3000), node1, NodeView::new(NodeId(2))],
        zones: vec![
            (dma32, vec![pageset([0, 1, 3588, 63, 3588, 24153, 36])]),
            (high, vec![pageset([0, 2, 3, 4, 5, 6, 7])]),
            (normal, vec![pageset([0, 8, 9, 10, 11, 12, 13])]),
            (movable, vec![pageset([0, 0, 21, 22, 23, 24, 25])]),
        ],
        caches: caches().into_iter().take(1).collect(),
        areas: areas().into_iter().take(1).collect(),
        machine: machine_view(0),
        stalls: Default::default(),
    }
}
