//! The memory map: what firmware says, checked and cut into parts of zones.

use super::area::{CMA_AREAS_MAX, CmaError, CmaSpec};
use crate::flags::ZoneKind;
use crate::frame::{MAX_NODES, NodeId, Order, PAGE_SHIFT, PAGE_SIZE};
use crate::frame::{PAGEBLOCK_ORDER, PAGEBLOCK_PAGES};
use crate::frame::{Pfn, PhysAddr};
use crate::policy::boost::DEFAULT_BOOST_FACTOR;
use crate::report::OnMisuse;
use core::fmt;

/// What a range of physical addresses is.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum RegionKind {
    /// RAM that the allocator may use.
    Usable,
    /// Room for RAM that is not there yet and may be plugged in while the machine runs (ACPI SRAT
    /// calls it hot-pluggable). Boot makes its tables large enough for it and touches none of it;
    /// [`PageAllocator::add_memory`](super::PageAllocator::add_memory) brings it in. Only whole
    /// memory blocks ([`BootConfig::memory_block_bytes`]) count.
    Hotpluggable,
    /// RAM or device space that it must leave alone.
    Reserved,
}

/// A range of physical addresses, as firmware lists them.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct MemoryRegion {
    /// First byte.
    pub start: PhysAddr,
    /// First byte after it.
    pub end: PhysAddr,
    /// The node it belongs to.
    pub node: NodeId,
    /// What it is.
    pub kind: RegionKind,
}

impl MemoryRegion {
    /// RAM of node 0 that the allocator may use: bytes `start` up to and without `end`.
    pub const fn usable(start: PhysAddr, end: PhysAddr) -> MemoryRegion {
        MemoryRegion {
            start,
            end,
            node: NodeId(0),
            kind: RegionKind::Usable,
        }
    }
}

/// Where zones end, and what is said at boot. `Default` is an x86_64 machine.
#[derive(Copy, Clone, Debug)]
pub struct BootConfig {
    /// End of ZONE_DMA; `None`: no such zone (P200).
    pub dma_end: Option<PhysAddr>,
    /// End of ZONE_DMA32; `None`: no such zone.
    pub dma32_end: Option<PhysAddr>,
    /// Start of ZONE_HIGHMEM, memory that the direct map does not show; `None`: no such zone.
    pub highmem_start: Option<PhysAddr>,
    /// Bytes of ZONE_MOVABLE, taken from the end of the highest zone of each node in turn.
    pub movable_bytes: u64,
    /// True if all usable memory reads as zero at boot, and memory that is added later when it is
    /// added; then metadata is not cleared again.
    pub memory_is_zero: bool,
    /// Where [`BootConfig::memory_is_zero`] does not say that there is nothing to clear, boot takes
    /// in only so many bytes of the highest zone of each node, besides all of its lower zones. The
    /// rest is not managed, nor part of `MemTotal`, until it is needed or
    /// [`PageAllocator::take_in_rest`](super::PageAllocator::take_in_rest) takes it in; so boot
    /// takes no longer with much memory (P275, P722). `u64::MAX`: all is taken in at once; less
    /// than 4 MiB counts as 4.
    pub at_once_bytes: u64,
    /// P351, `init_on_alloc`: every block of pages reads as zero when it is given out, as with
    /// `ZERO`. Memory that the direct map does not show is not given out then. Objects of slabs are
    /// not concerned.
    pub init_on_alloc: bool,
    /// P351, `init_on_free`: every block of pages is cleared as it is freed, and all memory at boot
    /// unless it is zero already; memory that the direct map does not show is not. What is free is
    /// known to be zero then, and not cleared again for `ZERO`. Objects of slabs are not concerned.
    pub init_on_free: bool,
    /// `vm.min_free_kbytes`; `None`: computed from the size (P210).
    pub min_free_kbytes: Option<u64>,
    /// `vm.watermark_scale_factor` (P701).
    pub watermark_scale_factor: usize,
    /// `vm.watermark_boost_factor` (P702), in 1/10000 of the high watermark; 0: no boost.
    pub watermark_boost_factor: usize,
    /// `vm.lowmem_reserve_ratio` (P703).
    pub lowmem_reserve_ratio: [usize; ZoneKind::COUNT],
    /// Distance of two nodes; `None`: 10 to itself, 20 to each other.
    pub distance: Option<fn(NodeId, NodeId) -> u8>,
    /// The unit in which memory is added while the machine runs (P514); a power of two, at least 4
    /// MiB.
    pub memory_block_bytes: u64,
    /// Areas for contiguous allocations (CMA) that the machine has from the start, as Linux's
    /// `cma=` asks for (P505); see [`BootConfig::with_cma`]. [`Mm::boot`](crate::Mm::boot) makes
    /// them before anything else takes memory; [`PageAllocator::boot`](super::PageAllocator::boot)
    /// alone does not.
    pub cma: [Option<CmaSpec>; CMA_AREAS_MAX],
    /// Size of the shards that zones are cut into, each with a lock of its own; a power of two, at
    /// least 4 MiB. `None`: by the size of the zone and the number of CPUs
    /// ([`shards`](crate::policy::shards)). A zone that would have more than 64 has larger ones.
    pub shard_bytes: Option<u64>,
    /// Wholly free pageblocks that a zone keeps before it gives further ones back to the platform.
    /// While a device is registered ([`Mm::register_reporting`](crate::Mm::register_reporting)) it
    /// gives back none.
    pub report_keep_blocks: usize,
    /// What to do on a double or wild free.
    pub on_misuse: OnMisuse,
    /// Whether requests that may sleep where they must not are reported.
    pub sleep_check: SleepCheck,
}

impl BootConfig {
    /// The same, and one more area in [`BootConfig::cma`].
    ///
    /// ```
    /// # use gfp::{frame::PhysAddr, page::*, platform::*, Mm};
    /// # let layout = std::alloc::Layout::from_size_align(32 << 20, 4 << 20)?;
    /// # let ram = unsafe { std::alloc::alloc(layout) };
    /// # let map = [MemoryRegion::usable(PhysAddr(0), PhysAddr(32 << 20))];
    /// # let platform = unsafe { SingleCore::new(DirectMap::new(ram, PhysAddr(0))) };
    /// let config = BootConfig::default().with_cma(CmaSpec::new("camera", 8 << 20));
    /// let mm = Mm::boot(platform, &map, &config)?;
    /// let camera = mm.cma_area("camera").expect("boot made it");
    /// let frame = mm.cma_alloc(camera, 2025, 0)?;
    /// # assert!(unsafe { mm.cma_release(camera, frame, 2025) });
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Panics
    /// If there are [`CMA_AREAS_MAX`] in it.
    #[must_use]
    pub const fn with_cma(mut self, area: CmaSpec) -> BootConfig {
        let mut place = 0;
        while self.cma[place].is_some() {
            place += 1;
            assert!(place < CMA_AREAS_MAX, "a machine has at most 8 CMA areas");
        }
        self.cma[place] = Some(area);
        self
    }

    /// The distance of two nodes.
    pub(super) fn distance_of(&self, from: NodeId, to: NodeId) -> u8 {
        match self.distance {
            Some(distance) => distance(from, to),
            None => 10 + 10 * u8::from(from != to),
        }
    }
}

/// Whether requests that may sleep where they must not are reported (P154).
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub enum SleepCheck {
    /// By allocations in debug builds, and by [`Mm::might_alloc`](crate::Mm::might_alloc) in all.
    #[default]
    On,
    /// Never: for a machine whose callers do not know their contexts.
    Off,
}

impl Default for BootConfig {
    fn default() -> BootConfig {
        BootConfig {
            dma_end: Some(PhysAddr(16 << 20)),
            dma32_end: Some(PhysAddr(4 << 30)),
            highmem_start: None,
            movable_bytes: 0,
            memory_is_zero: false,
            at_once_bytes: 1 << 30,
            init_on_alloc: false,
            init_on_free: false,
            min_free_kbytes: None,
            watermark_scale_factor: 10,
            watermark_boost_factor: DEFAULT_BOOST_FACTOR,
            lowmem_reserve_ratio: [256, 256, 32, 0, 0],
            distance: None,
            memory_block_bytes: 128 << 20,
            cma: [None; CMA_AREAS_MAX],
            shard_bytes: None,
            report_keep_blocks: 16,
            on_misuse: OnMisuse::Report,
            sleep_check: SleepCheck::On,
        }
    }
}

/// Why a machine could not boot.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum BootError {
    /// No usable page in the map.
    NoMemory,
    /// A region ends before it starts.
    BadRegion {
        /// Its index in the map.
        index: usize,
    },
    /// Two regions overlap, or the map is not sorted by address.
    Overlap {
        /// Index of the second of the two.
        index: usize,
    },
    /// A node id of 8 or more.
    BadNode {
        /// Index of the region.
        index: usize,
    },
    /// More regions and zone limits than fit (64 extents).
    TooManyRegions,
    /// The largest region cannot hold the metadata.
    NoRoomForMetadata {
        /// Bytes needed in one region.
        bytes: usize,
    },
    /// From the first to the last frame there are more than 2^32 - 1: 16 TiB, holes included.
    SpanTooLarge {
        /// Frames between the first and the last.
        pages: usize,
    },
    /// A limit in the configuration is not a multiple of 2 MiB.
    UnalignedLimit,
    /// [`BootConfig::memory_block_bytes`] is no power of two, or less than 4 MiB.
    BadMemoryBlock,
    /// [`BootConfig::shard_bytes`] is no power of two, or less than 4 MiB.
    BadShard,
    /// An area of [`BootConfig::cma`] cannot be had.
    Cma {
        /// Its name.
        name: &'static str,
        /// Why.
        error: CmaError,
    },
    /// The platform refused to enter: it was called in the middle of another machine's work.
    Nested,
}

impl fmt::Display for BootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            BootError::NoMemory => f.write_str("the memory map has no usable page"),
            BootError::BadRegion { index } => {
                write!(f, "region {index} of the memory map ends before it starts")
            }
            BootError::Overlap { index } => write!(
                f,
                "region {index} of the memory map overlaps the one before: sort and separate them"
            ),
            BootError::BadNode { index } => {
                write!(
                    f,
                    "region {index} of the memory map has a node id above {}",
                    MAX_NODES - 1
                )
            }
            BootError::TooManyRegions => f.write_str("the memory map has too many regions: merge"),
            BootError::NoRoomForMetadata { bytes } => {
                write!(
                    f,
                    "no usable region can hold the {bytes} bytes of metadata: give more RAM, or \
                     describe less that may be plugged in"
                )
            }
            BootError::SpanTooLarge { pages } => {
                write!(
                    f,
                    "the memory map spans {pages} pages, more than {}: leave out its far regions",
                    u32::MAX
                )
            }
            BootError::UnalignedLimit => {
                f.write_str("zone limits must be multiples of 2 MiB: round them")
            }
            BootError::BadMemoryBlock => {
                f.write_str("memory_block_bytes must be a power of two, 4 MiB or more: round it up")
            }
            BootError::BadShard => {
                f.write_str("shard_bytes must be a power of two, 4 MiB or more: round it up")
            }
            BootError::Cma { name, error } => write!(f, "the area {name:?} is not made: {error}"),
            BootError::Nested => f.write_str("boot was called from inside the allocator"),
        }
    }
}

impl core::error::Error for BootError {}

/// Part of one zone.
#[derive(Copy, Clone, Debug)]
pub(super) struct Extent {
    pub(super) node: NodeId,
    pub(super) kind: ZoneKind,
    pub(super) start: Pfn,
    pub(super) end: Pfn,
    pub(super) presence: Presence,
}

/// Whether the memory of an extent is there.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum Presence {
    Now,
    Later,
}

impl Presence {
    fn of(kind: RegionKind) -> Option<Presence> {
        match kind {
            RegionKind::Usable => Some(Presence::Now),
            RegionKind::Hotpluggable => Some(Presence::Later),
            RegionKind::Reserved => None,
        }
    }
}

const MAX_EXTENTS: usize = 64;

/// The extents of a map, sorted by address.
pub(super) struct Extents {
    list: [Extent; MAX_EXTENTS],
    len: usize,
}

impl Extents {
    fn push(&mut self, e: Extent) -> Result<(), BootError> {
        if e.start < e.end {
            *self
                .list
                .get_mut(self.len)
                .ok_or(BootError::TooManyRegions)? = e;
            self.len += 1;
        }
        Ok(())
    }

    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Extent> {
        self.list[..self.len].iter()
    }

    /// Those whose memory is there.
    pub(super) fn present(&self) -> impl DoubleEndedIterator<Item = &Extent> {
        self.iter().filter(|e| e.presence == Presence::Now)
    }

    /// Checks the map and cuts it at the zone limits.
    pub(super) fn new(map: &[MemoryRegion], config: &BootConfig) -> Result<Extents, BootError> {
        let none = Extent {
            node: NodeId(0),
            kind: ZoneKind::Dma,
            start: Pfn(0),
            end: Pfn(0),
            presence: Presence::Now,
        };
        let mut extents = Extents {
            list: [none; MAX_EXTENTS],
            len: 0,
        };
        let limits = [
            (ZoneKind::Dma, config.dma_end),
            (ZoneKind::Dma32, config.dma32_end),
            (
                ZoneKind::Normal,
                Some(config.highmem_start.unwrap_or(PhysAddr(u64::MAX))),
            ),
            (
                ZoneKind::HighMem,
                config.highmem_start.map(|_| PhysAddr(u64::MAX)),
            ),
        ];
        for (_, limit) in limits {
            let mask = ((PAGEBLOCK_PAGES as u64) << PAGE_SHIFT) - 1;
            if limit.is_some_and(|l| l.0 != u64::MAX && l.0 & mask != 0) {
                return Err(BootError::UnalignedLimit);
            }
        }
        let unit = config.memory_block_bytes;
        if !unit.is_power_of_two() || unit < Order::MAX.bytes() as u64 {
            return Err(BootError::BadMemoryBlock);
        }
        let too_small = |bytes: u64| !bytes.is_power_of_two() || bytes < Order::MAX.bytes() as u64;
        if config.shard_bytes.is_some_and(too_small) {
            return Err(BootError::BadShard);
        }
        let mut last = PhysAddr(0);
        for (index, region) in map.iter().enumerate() {
            if region.end < region.start {
                return Err(BootError::BadRegion { index });
            }
            if region.start < last {
                return Err(BootError::Overlap { index });
            }
            if region.node.0 as usize >= MAX_NODES {
                return Err(BootError::BadNode { index });
            }
            last = region.end;
            let Some(presence) = Presence::of(region.kind) else {
                continue;
            };
            let unit = match presence {
                Presence::Now => PAGE_SIZE as u64,
                Presence::Later => unit,
            };
            // A start near the end of all addresses rounds to nothing.
            let start = region.start.0.checked_next_multiple_of(unit);
            let end = PhysAddr(region.end.0 / unit * unit).pfn();
            let mut at = start.map_or(end, |start| PhysAddr(start).pfn());
            for (kind, limit) in limits {
                let Some(limit) = limit else { continue };
                let cut = limit.pfn().min(end);
                if cut > at {
                    extents.push(Extent {
                        node: region.node,
                        kind,
                        start: at,
                        end: cut,
                        presence,
                    })?;
                    at = cut;
                }
            }
        }
        extents.carve_movable(config.movable_bytes >> PAGE_SHIFT)?;
        extents.one_zone_a_block();
        if extents.present().next().is_none() {
            Err(BootError::NoMemory)
        } else {
            Ok(extents)
        }
    }

    /// Turns the last pages of each node into ZONE_MOVABLE, the same number on each (P206). What
    /// may be plugged in does not count.
    fn carve_movable(&mut self, pages: u64) -> Result<(), BootError> {
        let mut nodes = [false; MAX_NODES];
        self.present().for_each(|e| nodes[e.node.0 as usize] = true);
        let count = nodes.iter().filter(|n| **n).count().max(1);
        let share = pages as usize / count / PAGEBLOCK_PAGES * PAGEBLOCK_PAGES;
        let extents = self.len;
        for node in (0..MAX_NODES).filter(|n| nodes[*n] && share > 0) {
            let mut left = share;
            for i in (0..extents).rev() {
                let e = &mut self.list[i];
                let block = PAGEBLOCK_PAGES;
                let cut = e.end.0.saturating_sub(left).max(e.start.0).div_ceil(block) * block;
                // An extent without the start of a pageblock gives nothing.
                let other = e.node.0 as usize != node || e.presence == Presence::Later;
                if other || left == 0 || cut >= e.end.0 {
                    continue;
                }
                let movable = Extent {
                    kind: ZoneKind::Movable,
                    start: Pfn(cut),
                    ..*e
                };
                left = left.saturating_sub(e.end.0 - cut);
                e.end = Pfn(cut);
                self.push(movable)?;
            }
        }
        let list = &mut self.list[..self.len];
        list.sort_unstable_by_key(|e| (e.start, e.end));
        Ok(())
    }

    /// A pageblock belongs to one zone: where two meet inside one, the later loses its part of it.
    fn one_zone_a_block(&mut self) {
        let mut owner: Option<(usize, NodeId, ZoneKind)> = None;
        for e in self.list[..self.len].iter_mut().filter(|e| e.start < e.end) {
            let block = e.start.0 >> PAGEBLOCK_ORDER;
            let stranger =
                owner.is_some_and(|(b, node, kind)| b == block && (node, kind) != (e.node, e.kind));
            if stranger {
                e.start = Pfn(e.end.0.min((block + 1) << PAGEBLOCK_ORDER));
            }
            if e.start < e.end {
                owner = Some(((e.end.0 - 1) >> PAGEBLOCK_ORDER, e.node, e.kind));
            }
        }
    }
}
