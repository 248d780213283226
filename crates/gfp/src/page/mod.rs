//! The page allocator: physically contiguous blocks of 2^order pages.
//!
//! 1. **Concepts.** A *zone* is one kind of memory on one node. Its memory is cut into
//!    *pageblocks* of 2 MiB; a block has 512 bits that say which frames are free, and a mobility
//!    *type*, so that memory that can be moved lies apart from memory that cannot; the two grow
//!    from the two ends of a zone ([`placement`](crate::policy::placement)).
//! 2. **Structures.** `block`: the bits and the descriptor of a pageblock. `index`: for each
//!    (type, order) the set of blocks whose largest free run has that order, as a 64-ary bitmap:
//!    any order is found in a few loads, smallest fit first, also when memory is fragmented.
//!    `shard`: a run of pageblocks, at least 1 GiB if nothing else is asked for, with its index
//!    and exact counts per order under a lock of its own. `zone`: its shards, and what is
//!    counted over all of them (`counts`). `cache`: per-CPU arrays of blocks in front of a zone.
//! 3. **Allocation.** `quick` takes from this CPU's cache of the zone that comes first; else
//!    `alloc` looks into those of all zones that may serve; a refill looks at the watermarks and
//!    takes one shard's lock once for a batch: of that where the CPU took last, or of another that
//!    has such a block, which is seen without a lock (`stand`); or a block of another type
//!    (`claim`), which the first look leaves alone where a zone below can serve (`whole`). A
//!    request in need goes on in `slow`, which does step by step what `policy::effort` plans; what
//!    frees memory stands above and is asked through `relief`. `near` has it reclaim before it goes
//!    to another node, if the administrator wants that. What no shard of a zone has is known in one
//!    word (`presence`): who can do nothing about it is refused at once (`refuse`). `boost` raises
//!    a zone's watermarks when blocks of two types are mixed, `urgent` keeps something for who
//!    cannot wait, `mobile` knows whose pages can be moved, `isolate` keeps pageblocks for who
//!    wants just these frames,
//!    `contig` empties and takes them, `area` says what areas are wanted, `lend` has movable
//!    requests use the memory of areas. `reporting` tells a device what is free. `mempolicy` makes
//!    ordinary requests of what a policy of nodes says.
//! 4. **Free.** A block goes to this CPU's cache; half a full list goes back, sorted by shard,
//!    each shard's under one hold of its lock, or into its mail if somebody has that (`mail`); no
//!    hold is longer than 63 blocks (P805, P834).
//!    What lies side by side goes back as one (`row`, `sums`). The bits merge with free buddies as
//!    they are set. A second free is seen by the frame's word, or else by the bits. `bulk` does
//!    both for many single pages, `pieces` takes many; `folio` counts references.
//!    What nobody has had since it was zero is known as such (`known_zero`).
//!    What boot left for later is taken in by `rest`.
//! 5. **Locking.** One lock a shard, innermost, one at a time
//!    ([`Rank::Zone`](crate::sync::Rank)); caches belong to who holds the CPU's section. One
//!    lock a zone for what is kept for the urgent, with which a shard's may be taken. One lock,
//!    outermost, for who adds memory (`plug`) or changes how much is kept free; what they change
//!    and others read without a lock (`tuning`, `lists`) are atomics.
//! 6. **Failure.** [`AllocError`] with the reason. Misuse is reported and the memory leaks; it
//!    is not given out twice. Of two frees of one block that run at the same time both can
//!    succeed: the block is then cached twice, which is seen when its second copy leaves the
//!    cache (unless the block was allocated and cached once more in between). If both copies are
//!    sent by mail at the same moment, blocks leak and nobody is told (`mail`). Memory that moves
//!    from one shard to another while a request looks is not seen by it.

mod alloc;
mod area;
mod balance;
mod block;
mod boost;
mod boot;
mod bulk;
mod cache;
mod claim;
mod contig;
mod counts;
mod descriptor;
mod exact;
mod folio;
mod free;
mod ground;
mod guard;
mod index;
mod isolate;
mod known;
mod known_zero;
mod large;
mod lend;
mod lists;
mod mail;
mod map;
mod mempolicy;
mod mobile;
mod near;
mod nolock;
mod numa_stat;
mod owner;
mod owners;
mod pieces;
mod plug;
mod presence;
mod quick;
mod refuse;
mod relief;
mod reporting;
mod request;
mod rest;
mod row;
mod shard;
mod sizing;
mod slow;
mod stand;
mod steal;
mod sums;
#[cfg(test)]
pub(crate) mod tests;
mod tuning;
mod unplug;
mod urgent;
mod verify;
mod view;
mod whole;
mod zone;

use crate::error::AllocError;
use crate::flags::{Gfp, MigrateType, ZoneKind};
use crate::frame::{FrameStack, FrameTable, FrameWord, MAX_NODES, NodeId, PAGE_SHIFT, Pfn};
use crate::platform::{DirectMap, Platform, caller_of};
use crate::policy::fallback::Grouping;
use crate::report::{OnMisuse, Report};
use crate::sync::atomic::Ordering::{Acquire, Relaxed};
use crate::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicUsize};
use crate::sync::stock::Shelves;
use crate::sync::{Carved, LineBreak, Lock, Rank};
use core::ptr::NonNull;

pub use crate::policy::mempolicy::Weights;
pub use area::{CMA_AREAS_MAX, CmaError, CmaSpec};
pub(crate) use contig::Mover;
pub use contig::{ContigError, Obstacle};
pub use folio::Folio;
pub(crate) use ground::{Contended, Ground, Locking};
pub use isolate::{IsolateError, IsolateMode, IsolatedPages};
pub use map::{BootConfig, BootError, MemoryRegion, RegionKind, SleepCheck};
pub use mempolicy::MemPolicy;
pub use mobile::{
    GivenUp, MigrateError, MigrateMode, Migrated, OWNERS_MAX, OwnerId, PageOwner, PageOwnerError,
    ReclaimMode,
};
pub(crate) use mobile::{Held, Moved};
pub use numa_stat::NumaCounting;
pub use plug::{AddMemoryError, AddedMemory};
pub(crate) use quick::Missed;
pub use relief::{Alone, Compacted, Need, Reclaimed, Relief, WakeUp};
pub use reporting::{PageReporting, Reported, ReportingDevice, ReportingError};
pub use request::{PageRequest, Place};
pub use tuning::Tuning;
pub use unplug::{MemoryAnswer, MemoryEvent, RemoveMemoryError, RemovedMemory};
pub use verify::VerifyError;
pub(crate) use verify::same;
pub use view::{ZoneEvents, ZoneStats};

use boot::Tables;
use known::Changes;
use lists::{MAX_ZONES, ZoneList};
use mobile::Owners;
use numa_stat::NumaStat;
use refuse::Failures;
use rest::Rest;
pub(crate) use sizing::STAT_INTERVAL_NS;
use sizing::Sizing;
use tuning::Tuned;
use whole::Whole;
use zone::{Blocks, Zone};

/// The pages of one machine.
#[repr(C)]
pub struct PageAllocator<P: Platform> {
    platform: P,
    map: DirectMap,
    frames: FrameTable,
    /// Where the first frame of the table is seen, or would be.
    first_addr: usize,
    blocks: Blocks,
    zones: Carved<Zone>,
    lists: [ZoneList; MAX_NODES],
    /// One entry a CPU id: a [`Front`](cache::Front) and its caches, one a zone; null until its
    /// first use.
    cpus: Shelves,
    /// Sizes of the per-CPU caches, by zone id.
    sizing: [Sizing; MAX_ZONES],
    /// The highest zone of a request by what its flags select, with `ZERO` and without.
    highest: [[ZoneKind; ZoneKind::COUNT]; 2],
    /// P351: `ZERO` with `init_on_alloc`, else nothing.
    init: Gfp,
    /// By order: the word of a block that its owner frees without anything else to be done.
    freed_at_once: [FrameWord; 16],
    /// A [`Grouping`].
    grouping: AtomicU8,
    /// Bit n: node n has memory.
    nodes: AtomicUsize,
    /// `vm.min_free_kbytes` as it is now.
    min_free_kbytes: AtomicUsize,
    /// What the administrator wants now; written under the lock of plugging.
    tuned: Tuned,
    /// P710: a [`Mode`](crate::policy::reclaim::node::Mode).
    zone_reclaim_mode: AtomicU8,
    /// P312.
    whole: Whole,
    numa_stat: NumaStat,
    config: BootConfig,
    metadata_pages: usize,
    /// Memory that boot left for later.
    rest: Rest,
    _written: LineBreak,
    /// Of `lists`.
    changes: Changes,
    plugging: Lock<(), { Rank::Plug as u8 }>,
    misuses: AtomicUsize,
    failed: Failures,
    /// P29: the bits that requests may carry now.
    allowed: AtomicU32,
    /// Blocks that were taken out of other CPUs' caches.
    stolen: AtomicUsize,
    /// Nodes that are being reclaimed in the background, one bit each; and [`rest::REST`].
    reclaimed_nodes: AtomicUsize,
    /// Zones whose boost rose and whose background is still to be woken, one bit each.
    boosted: AtomicUsize,
    /// Blocks whose free was put off.
    deferred: FrameStack,
    /// What [`PageAllocator::large_pages`] has to count outside of any CPU's caches.
    large_elsewhere: AtomicUsize,
    /// Who can move pages.
    owners: Owners,
    /// A device is told of free memory.
    reporting: AtomicBool,
    /// `report_keep_blocks`, or all while a device is told.
    report_keep: AtomicUsize,
    _end: LineBreak,
}

impl<P: Platform> PageAllocator<P> {
    fn assemble(platform: P, tables: Tables, config: &BootConfig) -> PageAllocator<P> {
        let zones = tables.zones;
        let list = |node| ZoneList::new(NodeId(node as u8), &zones, config);
        let lists = core::array::from_fn(list);
        let map = platform.direct_map();
        let rest_mark = tables.rest.mark(tables.frames.border());
        PageAllocator {
            first_addr: map.ptr(tables.frames.base().phys()).addr(),
            map,
            platform,
            frames: tables.frames,
            blocks: tables.blocks,
            zones,
            lists,
            cpus: tables.cpus,
            sizing: [const { Sizing::new() }; MAX_ZONES],
            highest: boot::highest_zones(config),
            freed_at_once: quick::freed_at_once(config),
            init: match config.init_on_alloc {
                true => Gfp::ZERO,
                false => Gfp::NONE,
            },
            grouping: AtomicU8::new(Grouping::On as u8),
            nodes: AtomicUsize::new(0),
            min_free_kbytes: AtomicUsize::new(0),
            tuned: Tuned::new(config),
            zone_reclaim_mode: AtomicU8::new(0),
            whole: Whole::new(),
            numa_stat: NumaStat::new(),
            config: *config,
            changes: Changes::new(),
            plugging: Lock::new(()),
            misuses: AtomicUsize::new(0),
            failed: Failures::new(),
            allowed: AtomicU32::new(Gfp::ALL.bits()),
            metadata_pages: tables.pages,
            rest: tables.rest,
            stolen: AtomicUsize::new(0),
            reclaimed_nodes: AtomicUsize::new(rest_mark),
            boosted: AtomicUsize::new(0),
            deferred: FrameStack::new(),
            large_elsewhere: AtomicUsize::new(0),
            owners: tables.owners,
            reporting: AtomicBool::new(false),
            report_keep: AtomicUsize::new(config.report_keep_blocks),
            _written: LineBreak,
            _end: LineBreak,
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

    /// The word of the frame that a direct-map address shows; [`FrameWord::NONE`] for others.
    #[inline(always)]
    pub(crate) fn word_at(&self, addr: usize) -> FrameWord {
        self.frames.get_at(self.index_at(addr))
    }

    /// [`PageAllocator::word_at`] of memory that somebody has.
    #[inline(always)]
    pub(crate) fn owned_word_at(&self, addr: usize) -> FrameWord {
        self.frames.owned_at(self.index_at(addr))
    }

    /// The index of a frame in the table, or any number if it is not there. One subtraction less
    /// than by way of the frame's number.
    #[inline(always)]
    fn index_at(&self, addr: usize) -> usize {
        addr.wrapping_sub(self.first_addr) >> PAGE_SHIFT
    }

    /// The node of a frame.
    pub fn node_of(&self, pfn: Pfn) -> NodeId {
        self.blocks
            .zone_of(pfn)
            .map_or(NodeId(0), |z| self.zones[z].node)
    }

    /// The node and the kind of zone of a frame; `None` if no zone has it.
    pub(crate) fn place_of(&self, pfn: Pfn) -> Option<(NodeId, ZoneKind)> {
        let zone = self.blocks.zone_of(pfn)?;
        Some(self.place_of_zone(zone))
    }

    /// The node and the kind of a zone, by its number.
    pub(crate) fn place_of_zone(&self, zone: usize) -> (NodeId, ZoneKind) {
        let zone = &self.zones[zone];
        (zone.node, zone.kind)
    }

    /// The nodes that have memory now.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> {
        let mask = self.node_mask();
        let nodes = (0..MAX_NODES as u8).map(NodeId);
        nodes.filter(move |node| mask >> node.0 & 1 != 0)
    }

    /// The nodes that have memory now, one bit each. Grows when a node gets its first memory.
    #[inline]
    pub(crate) fn node_mask(&self) -> usize {
        // Acquire: pairs with the Release in `retune`.
        self.nodes.load(Acquire)
    }

    /// The highest node that the memory map names, whether its memory is there or to come.
    pub(crate) fn last_node(&self) -> NodeId {
        self.zones.iter().map(|z| z.node).max().unwrap_or_default()
    }

    /// True if the bitmaps say that this frame is free.
    pub fn is_free(&self, pfn: Pfn) -> bool {
        self.blocks.is_free(pfn)
    }

    /// Pages that the allocator manages.
    pub fn managed_pages(&self) -> usize {
        self.zones.iter().map(Zone::managed_pages).sum()
    }

    /// Pages of a node that the allocator manages.
    pub(crate) fn managed_pages_of(&self, node: NodeId) -> usize {
        let its = self.zones.iter().filter(|zone| zone.node == node);
        its.map(Zone::managed_pages).sum()
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

    /// What the configuration says.
    pub fn sleep_check(&self) -> SleepCheck {
        self.config.sleep_check
    }

    /// P29: which bits requests may carry now (`gfp_allowed_mask`). The others are taken from each
    /// request in need; one that is served at once asks for nothing that they would allow.
    pub fn allowed(&self) -> Gfp {
        // Relaxed: a request that comes at the same time is served by the old or the new ones.
        Gfp::from_bits_retain(self.allowed.load(Relaxed))
    }

    /// Changes [`PageAllocator::allowed`]. Returns what it was. Context: any.
    pub fn allow(&self, bits: Gfp) -> Gfp {
        Gfp::from_bits_retain(self.allowed.swap(bits.bits(), Relaxed))
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
        self.tell(report);
    }

    /// As [`PageAllocator::complain`], of what is no misuse of memory and not counted as such.
    ///
    /// # Panics
    /// As there.
    pub(crate) fn tell(&self, report: &Report<'_>) {
        match self.config.on_misuse {
            OnMisuse::Report => self.platform.report(report),
            OnMisuse::Callback(f) => f(report),
            OnMisuse::Panic => {
                self.platform.report(report);
                panic!("{report}");
            }
        }
    }

    /// Checks a request that cannot be movable before it is served.
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

    /// Looks at a request before it is served, if [`PageRequest::is_special`] says so: refuses
    /// flags that make no sense, and answers them as they count. They are not movable if the task
    /// pins what it allocates (P150); other scopes matter on the slow path only, which sees them
    /// itself.
    ///
    /// # Errors
    /// [`AllocError::BadFlags`].
    #[inline(never)]
    fn admit(&self, req: &PageRequest) -> Result<Gfp, AllocError> {
        self.check(req)?;
        Ok(match req.gfp.contains(Gfp::MOVABLE) {
            true => caller_of(&self.platform).scopes.apply_pin(req.gfp),
            false => req.gfp,
        })
    }

    /// The highest zone that a request may use (P47, P201).
    #[inline]
    pub(crate) fn highest(&self, gfp: Gfp) -> ZoneKind {
        let zeroed = gfp.contains(Gfp::ZERO) as usize;
        self.highest[zeroed][gfp.highest_zone_checked_before() as usize]
    }

    /// The mobility type that a request allocates with (P48, P309).
    #[inline]
    fn mobility(&self, gfp: Gfp) -> MigrateType {
        if self.grouping() == Grouping::On {
            gfp.migratetype_checked_before()
        } else {
            MigrateType::Unmovable
        }
    }
}
