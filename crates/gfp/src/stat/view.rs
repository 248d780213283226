//! Plain copies of the numbers of one thing at about one moment.

use super::{NodeCounter, NodeCounters, NumaEvents, ZoneCounter, ZoneCounters};
use crate::flags::{MigrateType, ZoneKind};
use crate::frame::{CpuId, MAX_NODES, NR_ORDERS, NodeId, PAGE_SIZE, PhysAddr};
use core::fmt;
use core::ops::BitOr;

/// One zone. Units are pages.
#[derive(Copy, Clone, Debug)]
pub struct ZoneView {
    /// Its node.
    pub node: NodeId,
    /// Its kind.
    pub kind: ZoneKind,
    /// First frame number.
    pub start_pfn: usize,
    /// Extent, holes included.
    pub spanned: usize,
    /// RAM in it. A zone with none is not *populated*.
    pub present: usize,
    /// RAM that was ever given to the allocator.
    pub managed: usize,
    /// RAM in CMA areas.
    pub cma: usize,
    /// What the watermarks are raised by at present; not contained in the four below (P215).
    pub boost: usize,
    /// Watermark `min` without boost (P212).
    pub min: usize,
    /// Watermark `low` without boost.
    pub low: usize,
    /// Watermark `high` without boost.
    pub high: usize,
    /// Watermark `promo` without boost.
    pub promo: usize,
    /// Pages kept from requests whose highest zone is the index (P207).
    pub protection: [usize; ZoneKind::COUNT],
    /// Free blocks by order and mobility type, those in per-CPU caches not included.
    pub nr_free: [[usize; MigrateType::COUNT]; NR_ORDERS],
    /// Pageblocks by mobility type.
    pub blocks_by_type: [usize; MigrateType::COUNT],
    /// Pages in blocks reserved for urgent requests.
    pub reserved_highatomic: usize,
    /// Free pages in those.
    pub free_highatomic: usize,
    /// Counters, among them the free pages ([`ZoneCounter::FreePages`], [`ZoneCounter::FreeCma`]).
    pub counters: ZoneCounters,
    /// Where requests were served.
    pub numa: NumaEvents,
}

impl ZoneView {
    /// A zone without any memory. Zones of movable memory have a least `min` of 32 pages (P212), so
    /// they show it even when empty.
    pub const fn empty(node: NodeId, kind: ZoneKind) -> ZoneView {
        let mark = match kind {
            ZoneKind::HighMem | ZoneKind::Movable => 32,
            ZoneKind::Dma | ZoneKind::Dma32 | ZoneKind::Normal => 0,
        };
        ZoneView {
            node,
            kind,
            start_pfn: 0,
            spanned: 0,
            present: 0,
            managed: 0,
            cma: 0,
            boost: 0,
            min: mark,
            low: mark,
            high: mark,
            promo: mark,
            protection: [0; ZoneKind::COUNT],
            nr_free: [[0; MigrateType::COUNT]; NR_ORDERS],
            blocks_by_type: [0; MigrateType::COUNT],
            reserved_highatomic: 0,
            free_highatomic: 0,
            counters: ZoneCounters::ZERO,
            numa: NumaEvents::ZERO,
        }
    }

    /// True if there is RAM in it.
    pub const fn populated(&self) -> bool {
        self.present > 0
    }

    /// Free pages; never negative.
    pub const fn free(&self) -> usize {
        floor0(self.counters.get(ZoneCounter::FreePages))
    }

    /// A counter as it is printed: never negative (P613).
    pub const fn counter(&self, which: ZoneCounter) -> usize {
        floor0(self.counters.get(which))
    }

    /// Free blocks of one order, all mobility types.
    pub fn blocks_of_order(&self, order: usize) -> usize {
        match self.nr_free.get(order) {
            Some(row) => row.iter().fold(0, |sum, n| sum.saturating_add(*n)),
            None => 0,
        }
    }
}

/// One node.
#[derive(Copy, Clone, Debug)]
pub struct NodeView {
    /// Its number.
    pub node: NodeId,
    /// Background reclaim has given this node up for now.
    pub unreclaimable: bool,
    /// Counters.
    pub counters: NodeCounters,
}

impl NodeView {
    /// A node on which nothing has happened yet.
    pub const fn new(node: NodeId) -> NodeView {
        NodeView {
            node,
            unreclaimable: false,
            counters: NodeCounters::ZERO,
        }
    }

    /// A counter as it is printed: never negative (P613).
    pub const fn counter(&self, which: NodeCounter) -> usize {
        floor0(self.counters.get(which))
    }
}

/// The page cache of one CPU for one zone, in pages (pages.md 5.3).
#[derive(Copy, Clone, Debug)]
pub struct PagesetView {
    /// Whose.
    pub cpu: CpuId,
    /// Pages in it.
    pub count: usize,
    /// How many it may hold at present.
    pub high: usize,
    /// Pages moved at once.
    pub batch: usize,
    /// Least value of `high`.
    pub high_min: usize,
    /// Largest value of `high`.
    pub high_max: usize,
    /// How far this CPU's part of a zone counter may drift before it is folded.
    pub stat_threshold: usize,
}

/// One slab cache (D13).
#[derive(Copy, Clone, Debug)]
pub struct CacheView<'a> {
    /// Its name.
    pub name: &'a str,
    /// Objects that are not on a slab: in use, or in a per-CPU cache or barn (W9).
    pub active_objs: usize,
    /// Of these, objects in per-CPU caches and barns. Linux does not show it apart; the text does
    /// not either.
    pub cached: usize,
    /// Objects that all slabs together have room for.
    pub num_objs: usize,
    /// The size that was asked for, in bytes.
    pub object_size: usize,
    /// Distance of two objects in bytes; what the text calls `objsize`.
    pub stride: usize,
    /// Objects in a slab.
    pub objs_per_slab: usize,
    /// Pages in a slab.
    pub pages_per_slab: usize,
    /// Slabs.
    pub num_slabs: usize,
    /// Its pages count as reclaimable.
    pub reclaimable: bool,
}

impl CacheView<'_> {
    /// Objects that somebody holds.
    pub const fn in_use(&self) -> usize {
        self.active_objs.saturating_sub(self.cached)
    }

    /// Bytes of memory that the cache's slabs occupy.
    pub const fn bytes(&self) -> usize {
        let pages = self.num_slabs.saturating_mul(self.pages_per_slab);
        pages.saturating_mul(PAGE_SIZE)
    }
}

/// What an area is, as a set (V28).
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub struct AreaFlags(u8);

impl AreaFlags {
    /// None of them.
    pub const NONE: AreaFlags = AreaFlags(0);
    /// Maps device memory.
    pub const IOREMAP: AreaFlags = AreaFlags(1);
    /// Is populated by its owner piece by piece.
    pub const SPARSE: AreaFlags = AreaFlags(1 << 1);
    /// Made by vmalloc.
    pub const VMALLOC: AreaFlags = AreaFlags(1 << 2);
    /// Maps pages that the caller gave.
    pub const VMAP: AreaFlags = AreaFlags(1 << 3);
    /// May be mapped to programs.
    pub const USER: AreaFlags = AreaFlags(1 << 4);
    /// Coherent memory for devices.
    pub const DMA_COHERENT: AreaFlags = AreaFlags(1 << 5);
    /// Its list of pages is itself a vmalloc area.
    pub const VPAGES: AreaFlags = AreaFlags(1 << 6);

    /// All flags with their words, in the order in which they print.
    pub(super) const WORDS: [(AreaFlags, &'static str); 7] = [
        (AreaFlags::IOREMAP, "ioremap"),
        (AreaFlags::SPARSE, "sparse"),
        (AreaFlags::VMALLOC, "vmalloc"),
        (AreaFlags::VMAP, "vmap"),
        (AreaFlags::USER, "user"),
        (AreaFlags::DMA_COHERENT, "dma-coherent"),
        (AreaFlags::VPAGES, "vpages"),
    ];

    /// True if all flags of `other` are in this set.
    pub const fn contains(self, other: AreaFlags) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for AreaFlags {
    type Output = AreaFlags;

    fn bitor(self, other: AreaFlags) -> AreaFlags {
        AreaFlags(self.0 | other.0)
    }
}

/// In which state an area is.
#[derive(Copy, Clone, PartialEq, Eq, Default, Debug)]
pub enum AreaState {
    /// In use.
    #[default]
    Busy,
    /// In use, made by `vm_map_ram`: only its extent is known.
    MapRam,
    /// Freed, but its addresses are not usable again yet: only its extent is known.
    Unpurged,
}

/// One area of vmalloc space (V28).
#[derive(Copy, Clone)]
pub struct AreaView<'a> {
    /// First address.
    pub start: usize,
    /// Size in bytes, guard page included.
    pub size: usize,
    /// State.
    pub state: AreaState,
    /// Who made it; must print without blanks, or columns break.
    pub caller: Option<&'a dyn fmt::Display>,
    /// Pages of memory behind it.
    pub nr_pages: usize,
    /// The device memory it maps.
    pub phys: Option<PhysAddr>,
    /// What it is.
    pub flags: AreaFlags,
    /// Of `nr_pages`, how many are on each node.
    pub node_pages: [usize; MAX_NODES],
}

impl AreaView<'_> {
    /// A busy area with nothing known but its extent.
    pub const fn new(start: usize, size: usize) -> AreaView<'static> {
        AreaView {
            start,
            size,
            state: AreaState::Busy,
            caller: None,
            nr_pages: 0,
            phys: None,
            flags: AreaFlags::NONE,
            node_pages: [0; MAX_NODES],
        }
    }
}

/// Huge pages kept for programs; this library keeps none, so all but the size are 0.
#[derive(Copy, Clone, Debug)]
pub struct HugetlbView {
    /// Pages in the pool.
    pub total: usize,
    /// Of these, free.
    pub free: usize,
    /// Of these, promised.
    pub reserved: usize,
    /// Above the configured number.
    pub surplus: usize,
    /// Size of one, in KiB.
    pub size_kib: usize,
}

/// What is known for the whole machine only. Units are pages unless the name says otherwise.
#[derive(Copy, Clone, Debug)]
pub struct MachineView {
    /// The CPU that asks (for `local_pcp` of [`show_mem`](super::show_mem)).
    pub this_cpu: CpuId,
    /// Cache of block devices.
    pub buffers: usize,
    /// Swap space.
    pub total_swap: usize,
    /// Of it, free.
    pub free_swap: usize,
    /// What may be promised to programs, and what is.
    pub commit_limit: usize,
    /// Promised.
    pub committed: usize,
    /// Size of vmalloc space.
    pub vmalloc_total: usize,
    /// Memory of the per-CPU allocator.
    pub percpu: usize,
    /// Taken out of service after memory errors.
    pub hwpoisoned: usize,
    /// Huge pages for programs.
    pub hugetlb: HugetlbView,
    /// Direct map by page size: 4 KiB, 2 MiB, 1 GiB; in KiB.
    pub direct_map_kib: [usize; 3],
    /// At this many dirty pages, writers are held up.
    pub dirty_threshold: usize,
    /// At this many, background writing starts.
    pub dirty_background_threshold: usize,
    /// Frame words made after boot.
    pub memmap: usize,
    /// Frame words made at boot.
    pub memmap_boot: usize,
}

impl MachineView {
    /// All zero; huge pages of 2 MiB.
    pub const ZERO: MachineView = MachineView {
        this_cpu: CpuId(0),
        buffers: 0,
        total_swap: 0,
        free_swap: 0,
        commit_limit: 0,
        committed: 0,
        vmalloc_total: 0,
        percpu: 0,
        hwpoisoned: 0,
        hugetlb: HugetlbView {
            total: 0,
            free: 0,
            reserved: 0,
            surplus: 0,
            size_kib: 2048,
        },
        direct_map_kib: [0; 3],
        dirty_threshold: 0,
        dirty_background_threshold: 0,
        memmap: 0,
        memmap_boot: 0,
    };
}

/// A signed count as it is printed (P613).
pub(super) const fn floor0(count: i64) -> usize {
    if count < 0 { 0 } else { count as usize }
}
