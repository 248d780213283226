//! The page allocator: physically contiguous blocks of 2^order pages.
//!
//! 1. **Concepts.** A *zone* is one kind of memory on one node. Its memory is cut into *pageblocks*
//!    of 2 MiB; a block has 512 bits that say which frames are free, and a mobility *type*, so that
//!    memory that can be moved lies apart from memory that cannot.
//! 2. **Structures.** `block`: the bits and the descriptor of a pageblock. `index`: for each (type,
//!    order) the set of blocks whose largest free run has that order, as a 64-ary bitmap: any order
//!    is found in a few loads, smallest fit first, also when memory is fragmented. `zone`: both
//!    under one lock, with exact counts per order. `cache`: per-CPU arrays of blocks in front of a
//!    zone.
//! 3. **Allocation.** `alloc` looks into this CPU's cache; a refill takes the zone's lock once for
//!    a batch and looks at the watermarks then. `slow` tries with more rights, and takes back what
//!    other CPUs cached, before it fails.
//! 4. **Free.** A block goes to this CPU's cache; half a full list goes back under the lock. The
//!    bits merge with free buddies as they are set. A second free is seen by the frame's word, or
//!    else by the bits.
//! 5. **Locking.** One lock a zone, innermost ([`Rank::Zone`](crate::sync::Rank)); caches belong to
//!    who holds the CPU's section.
//! 6. **Failure.** [`AllocError`] with the reason. Misuse is reported and the memory leaks; it is
//!    not given out twice. Of two frees of one block that run at the same time both can succeed:
//!    the block is then cached twice, which is seen when its second copy leaves the cache (unless
//!    the block was allocated and cached once more in between).
//! 7. **What it does not do yet.** Reclaim, compaction, OOM (issue 4); shards, remote-free rings,
//!    isolation, CMA, hotplug (issue 5).

mod alloc;
mod block;
mod boot;
mod cache;
mod claim;
mod free;
mod guard;
mod index;
mod large;
mod map;
mod owner;
mod slow;
#[cfg(test)]
mod tests;
mod verify;
mod view;
mod zone;

use crate::error::AllocError;
use crate::flags::{Gfp, MigrateType, ZoneKind};
use crate::frame::{FrameStack, FrameTable, MAX_NODES, NodeId, Order, PAGE_SIZE, Pfn};
use crate::platform::{DirectMap, Platform};
use crate::policy::fallback::Grouping;
use crate::policy::pcp::PcpLimits;
use crate::policy::watermark::{self, LowMemory};
use crate::report::{OnMisuse, Report};
use crate::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::Relaxed};
use crate::sync::{Carved, LineBreak};
use core::ptr::NonNull;

pub use map::{BootConfig, BootError, MemoryRegion, RegionKind};
pub use verify::VerifyError;
pub(crate) use verify::same;
pub use view::{ZoneEvents, ZoneStats};

use cache::ZoneCache;
use zone::{Blocks, Zone};

/// The zones of all nodes in the order in which one node's requests look at them.
#[derive(Copy, Clone)]
pub(crate) struct ZoneList {
    ids: [u8; MAX_NODES * ZoneKind::COUNT],
    len: u8,
}

impl ZoneList {
    const fn empty() -> ZoneList {
        ZoneList {
            ids: [0; MAX_NODES * ZoneKind::COUNT],
            len: 0,
        }
    }

    fn push(&mut self, id: u8) {
        self.ids[self.len as usize] = id;
        self.len += 1;
    }

    #[inline]
    fn ids(&self) -> &[u8] {
        &self.ids[..self.len as usize]
    }
}

/// One request for pages: everything that decides how it is served.
#[derive(Copy, Clone, Debug)]
pub struct PageRequest {
    /// How many: 2^order pages.
    pub order: Order,
    /// How hard to try, and from where.
    pub gfp: Gfp,
    /// The node that is wanted; `None`: the one of this CPU.
    pub node: Option<NodeId>,
}

impl PageRequest {
    /// A request with no wish for a node.
    #[inline]
    pub const fn new(gfp: Gfp, order: Order) -> PageRequest {
        PageRequest {
            order,
            gfp,
            node: None,
        }
    }
}

/// The pages of one machine.
#[repr(C)]
pub struct PageAllocator<P: Platform> {
    platform: P,
    map: DirectMap,
    frames: FrameTable,
    blocks: Blocks,
    zones: Carved<Zone>,
    lists: [ZoneList; MAX_NODES],
    /// One entry a CPU id: its caches, one a zone; null until its first use.
    cpus: Carved<AtomicPtr<ZoneCache>>,
    /// Sizes of the per-CPU caches, by zone id.
    sizing: [PcpLimits; MAX_NODES * ZoneKind::COUNT],
    /// The highest zone of a request by what its flags select, with `ZERO` and without.
    highest: [[ZoneKind; ZoneKind::COUNT]; 2],
    grouping: Grouping,
    report_keep_blocks: usize,
    on_misuse: OnMisuse,
    metadata_pages: usize,
    _written: LineBreak,
    misuses: AtomicUsize,
    failures: [AtomicUsize; crate::frame::NR_ORDERS],
    /// Blocks whose free was put off.
    deferred: FrameStack,
    /// What [`PageAllocator::large_pages`] has to count outside of any CPU's caches.
    large_elsewhere: AtomicUsize,
    _end: LineBreak,
}

impl<P: Platform> PageAllocator<P> {
    fn assemble(
        platform: P,
        frames: FrameTable,
        blocks: Blocks,
        zones: Carved<Zone>,
        cpus: Carved<AtomicPtr<ZoneCache>>,
        config: &BootConfig,
        metadata_pages: usize,
    ) -> PageAllocator<P> {
        let lists = boot::zone_lists(&zones, config);
        PageAllocator {
            map: platform.direct_map(),
            platform,
            frames,
            blocks,
            zones,
            lists,
            cpus,
            sizing: [PcpLimits::BOOT; MAX_NODES * ZoneKind::COUNT],
            highest: boot::highest_zones(config),
            grouping: Grouping::On,
            report_keep_blocks: config.report_keep_blocks,
            on_misuse: config.on_misuse,
            misuses: AtomicUsize::new(0),
            failures: core::array::from_fn(|_| AtomicUsize::new(0)),
            metadata_pages,
            deferred: FrameStack::new(),
            large_elsewhere: AtomicUsize::new(0),
            _written: LineBreak,
            _end: LineBreak,
        }
    }

    /// Computes watermarks, lowmem reserves (section 4 of the page rules) and cache sizes.
    fn set_watermarks(&mut self, config: &BootConfig) {
        let lowmem = self.zones.iter().filter(|z| z.kind <= ZoneKind::Normal);
        let pages = lowmem.map(Zone::managed_pages).sum();
        // The high watermarks that P210 subtracts are not known yet at boot, hence zero.
        let computed = || watermark::min_free_kbytes(pages as u64 * (PAGE_SIZE as u64 / 1024));
        let lowmem = LowMemory {
            min_free_kbytes: config.min_free_kbytes.unwrap_or_else(computed),
            pages,
            scale_factor: config.watermark_scale_factor,
        };
        let cpus = self.platform.nr_cpus_running().max(1) as usize;
        let mut above_high = 0;
        for zone in self.zones.iter() {
            let managed = zone.managed_pages();
            let marks = watermark::zone_watermarks(zone.kind, managed, &lowmem);
            zone.set_watermarks(marks);
            self.sizing[zone.id as usize] = PcpLimits::new(managed, marks.low, cpus, None);
            above_high += managed.saturating_sub(marks.high);
        }
        self.grouping = Grouping::for_pages(above_high);
        for node in 0..MAX_NODES as u8 {
            let mut managed = [0; ZoneKind::COUNT];
            let mine = || self.zones.iter().filter(|z| z.node.0 == node);
            mine().for_each(|z| managed[z.kind as usize] = z.managed_pages());
            let ratio = config.lowmem_reserve_ratio;
            let reserve = watermark::lowmem_reserve(&managed, &ratio);
            mine().for_each(|z| z.set_reserve(reserve[z.kind as usize]));
        }
    }

    /// The platform.
    #[inline]
    pub fn platform(&self) -> &P {
        &self.platform
    }

    /// Where RAM is seen.
    #[inline]
    pub fn direct_map(&self) -> DirectMap {
        self.map
    }

    /// The frame table.
    #[inline]
    pub fn frames(&self) -> &FrameTable {
        &self.frames
    }

    /// The address of a frame's first byte in the direct map.
    #[inline]
    pub fn ptr_of(&self, pfn: Pfn) -> NonNull<u8> {
        let ptr = self.map.ptr(pfn.phys());
        debug_assert!(!ptr.is_null());
        NonNull::new(ptr).unwrap_or(NonNull::dangling())
    }

    /// The frame that a direct-map address shows; for other addresses, one outside of the table.
    #[inline]
    pub fn pfn_of(&self, addr: usize) -> Pfn {
        self.map.phys(addr).pfn()
    }

    /// The node of a frame.
    pub fn node_of(&self, pfn: Pfn) -> NodeId {
        self.blocks
            .zone_of(pfn)
            .map_or(NodeId(0), |z| self.zones[z].node)
    }

    /// True if the bitmaps say that this frame is free.
    pub fn is_free(&self, pfn: Pfn) -> bool {
        self.blocks.is_free(pfn)
    }

    /// Pages that the allocator manages.
    pub fn managed_pages(&self) -> usize {
        self.zones.iter().map(Zone::managed_pages).sum()
    }

    /// Free pages in the zones; those in per-CPU caches are not counted (P306).
    pub fn free_page_count(&self) -> usize {
        self.zones.iter().map(Zone::free_pages).sum()
    }

    /// Free blocks of each order, all zones and types (what buddyinfo sums up).
    pub fn nr_free_by_order(&self) -> [usize; crate::frame::NR_ORDERS] {
        core::array::from_fn(|order| {
            let of = |z: &Zone| {
                MigrateType::ALL
                    .map(|kind| z.nr_free(order, kind))
                    .iter()
                    .sum::<usize>()
            };
            self.zones.iter().map(of).sum::<usize>()
        })
    }

    /// Pages that boot took for the allocator's own tables.
    pub fn metadata_pages(&self) -> usize {
        self.metadata_pages
    }

    /// The most pages that were ever in use at once, per-CPU caches included, summed over zones.
    pub fn peak_pages(&self) -> usize {
        self.zones.iter().map(Zone::peak_used).sum()
    }

    /// Requests that failed, by order.
    pub fn failures(&self) -> [usize; crate::frame::NR_ORDERS] {
        core::array::from_fn(|i| self.failures[i].load(Relaxed))
    }

    /// How often memory was misused.
    pub fn misuses(&self) -> usize {
        self.misuses.load(Relaxed)
    }

    /// Does with a misuse what the configuration says.
    ///
    /// # Panics
    /// With [`OnMisuse::Panic`].
    #[cold]
    pub fn complain(&self, report: &Report<'_>) {
        self.misuses.fetch_add(1, Relaxed);
        match self.on_misuse {
            OnMisuse::Report => self.platform.report(report),
            OnMisuse::Callback(f) => f(report),
            OnMisuse::Panic => {
                self.platform.report(report);
                panic!("{report}");
            }
        }
    }

    /// Checks a request before it is served.
    ///
    /// # Errors
    /// [`AllocError::BadFlags`].
    #[inline]
    fn check(&self, req: &PageRequest) -> Result<(), AllocError> {
        if req.gfp.needs_check() {
            req.gfp.check()?;
        }
        Ok(())
    }

    /// The highest zone that a request may use (P47, P201).
    #[inline]
    fn highest(&self, gfp: Gfp) -> ZoneKind {
        let zeroed = gfp.contains(Gfp::ZERO) as usize;
        self.highest[zeroed][gfp.highest_zone_checked_before() as usize]
    }

    /// The mobility type that a request allocates with (P48, P309).
    #[inline]
    fn mobility(&self, gfp: Gfp) -> MigrateType {
        if self.grouping == Grouping::On {
            gfp.migratetype_checked_before()
        } else {
            MigrateType::Unmovable
        }
    }
}
