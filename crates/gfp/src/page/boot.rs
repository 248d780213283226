//! From a memory map to zones full of free pages.
//!
//! 1. The regions are checked and cut at the zone limits into *extents* (node, kind, start, end).
//! 2. All metadata is carved from the end of the largest extent that the direct map shows: the
//!    frame table (8 bytes a frame), the bitmap lines and descriptors (68 bytes a pageblock), the
//!    indexes (56 bits a pageblock and 1/63 of that): 8 bytes and 1.18 bits a frame. What does not
//!    grow with the memory, about 3 KiB a shard, stands in [`Needs::fixed_bytes`].
//! 3. What is left is freed into the zones, largest blocks first; where memory is not known to be
//!    zero, only the first part of it ([`rest`]).

use super::PageAllocator;
use super::block::{Block, Line};
use super::lists::MAX_ZONES;
use super::map::{BootConfig, BootError, Extents, MemoryRegion, Presence};
use super::mobile::{OwnerTable, Owners};
use super::rest::{self, Part, Rest};
use super::shard::Shard;
use super::tuning::MinFreeRule;
use super::zone::{Blocks, Zone, ZoneSpec};
use crate::flags::ZoneKind;
use crate::frame::MAX_NODES;
use crate::frame::{FrameTable, NodeId, Order, PAGE_SHIFT, PAGE_SIZE, PAGEBLOCK_ORDER};
use crate::frame::{Pfn, PhysAddr};
use crate::platform::{DirectMap, Platform};
use crate::policy::shards::{self, SHARDS_MAX};
use crate::sync::atomic::{AtomicPtr, AtomicU64};
use crate::sync::stock::{Shelf, Shelves};
use crate::sync::{Carved, Local};
use core::ops::Range;
use core::ptr::NonNull;

/// What a machine's page allocator keeps in memory that it took at boot.
pub(super) struct Tables {
    pub(super) frames: FrameTable,
    pub(super) blocks: Blocks,
    pub(super) zones: Carved<Zone>,
    pub(super) cpus: Shelves,
    pub(super) owners: Owners,
    pub(super) rest: Rest,
    /// Pages that all of it takes.
    pub(super) pages: usize,
}

/// Hands out pieces of one stretch of RAM.
struct Carver {
    map: DirectMap,
    at: PhysAddr,
    end: PhysAddr,
}

/// Bytes for `n` values, rounded so that the next piece starts on a cache line.
const fn room<T>(n: usize) -> usize {
    (n * size_of::<T>()).next_multiple_of(64)
}

impl Carver {
    /// `n` values made by `make`.
    fn take<T>(&mut self, n: usize, mut make: impl FnMut(usize) -> T) -> Carved<T> {
        const { assert!(align_of::<T>() <= 64) };
        let ptr = self.map.ptr(self.at).cast::<T>();
        self.at.0 += room::<T>(n) as u64;
        assert!(
            self.at <= self.end,
            "boot reckoned with less metadata than it made"
        );
        for i in 0..n {
            // SAFETY: [INV-BOOT-1] the piece lies inside usable RAM that the platform gave us, no
            // other piece overlaps it, and `at` is always a multiple of 64.
            unsafe { ptr.add(i).write(make(i)) };
        }
        self.carved(ptr, n)
    }

    /// `n` words, of which the first `clear` are made zero.
    fn words(&mut self, n: usize, clear: usize) -> Carved<AtomicU64> {
        let ptr = self.map.ptr(self.at).cast::<AtomicU64>();
        self.at.0 += room::<AtomicU64>(n) as u64;
        assert!(
            self.at <= self.end,
            "boot reckoned with less metadata than it made"
        );
        // SAFETY: [INV-BOOT-1] as in `take`; zero is a valid `AtomicU64`.
        unsafe { ptr.write_bytes(0, clear.min(n)) };
        self.carved(ptr, n)
    }

    fn carved<T>(&self, ptr: *mut T, n: usize) -> Carved<T> {
        match NonNull::new(ptr) {
            // SAFETY: [INV-BOOT-1] `n` values were written there, or they are words, and memory
            // holds some word wherever it is; it is never given to anyone else.
            Some(ptr) if n > 0 => unsafe { Carved::new(ptr, n) },
            _ => Carved::empty(),
        }
    }
}

/// What the tables of a machine are made of.
pub(super) struct Needs {
    /// The first frame of the frame table.
    base: usize,
    /// Frames from there to the last, holes included.
    pub(super) frames: usize,
    index_words: usize,
    nr_shards: usize,
    nr_zones: usize,
    nr_cpus: usize,
    /// Boot takes in what lies before it ([`rest`]).
    first_end: Pfn,
    nr_parts: usize,
    specs: [Option<ZoneSpec>; MAX_ZONES],
}

impl Needs {
    pub(super) fn of(
        extents: &Extents,
        config: &BootConfig,
        nr_cpus: u32,
    ) -> Result<Needs, BootError> {
        let first = extents.iter().map(|e| e.start.0).min().unwrap_or(0);
        let end = extents.iter().map(|e| e.end.0).max().unwrap_or(0);
        let align = Order::MAX.pages();
        let base = first / align * align;
        let frames = end.next_multiple_of(align) - base;
        if u32::try_from(frames).is_err() {
            return Err(BootError::SpanTooLarge { pages: frames });
        }
        let mut specs = [const { None }; MAX_ZONES];
        let nr_zones = zone_specs(extents, base, &mut specs);
        let nr_cpus = nr_cpus as usize;
        cut(&mut specs, base >> PAGEBLOCK_ORDER, config, nr_cpus);
        let first_end = rest::first_end(extents, config);
        let mut needs = Needs {
            base,
            frames,
            index_words: 0,
            nr_shards: 0,
            nr_zones,
            nr_cpus,
            first_end,
            nr_parts: rest::left(extents, first_end).count(),
            specs,
        };
        let words = |blocks: Range<usize>| Shard::index_words(blocks.len());
        needs.index_words = needs.shards().map(words).sum();
        needs.nr_shards = needs.shards().count();
        Ok(needs)
    }

    fn first_block(&self) -> usize {
        self.base >> PAGEBLOCK_ORDER
    }

    /// The pageblocks of every shard, zone by zone.
    fn shards(&self) -> impl Iterator<Item = Range<usize>> {
        let first = self.first_block();
        self.specs().flat_map(move |zone| {
            let all = 0..zone.nr_shards(first);
            all.map(move |shard| zone.blocks_of(shard, first))
        })
    }

    fn specs(&self) -> impl Iterator<Item = &ZoneSpec> {
        self.specs.iter().flatten()
    }

    /// Bytes that boot carves for tables.
    pub(super) fn bytes(&self) -> usize {
        let nr_blocks = self.frames >> PAGEBLOCK_ORDER;
        room::<AtomicU64>(self.frames)
            + room::<Line>(nr_blocks)
            + room::<Block>(nr_blocks)
            + room::<Zone>(self.nr_zones)
            + room::<Shard>(self.nr_shards)
            + room::<AtomicU64>(self.index_words)
            + room::<AtomicPtr<Shelf>>(self.nr_cpus)
            + room::<OwnerTable>(1)
            + room::<Part>(self.nr_parts)
    }

    /// Pages that boot takes.
    pub(super) fn pages(&self) -> usize {
        self.bytes().div_ceil(PAGE_SIZE)
    }

    /// What of them does not grow with the memory, at most: all but 8 bytes and 1.2 bits a frame.
    /// An index of at most 64^2 blocks has a word for each block's 64th, rounded up, and one more.
    #[cfg(test)]
    pub(super) fn fixed_bytes(&self) -> usize {
        let rounding = 4 * Shard::index_words(1) * size_of::<AtomicU64>();
        let shards = self.nr_shards * (size_of::<Shard>() + rounding);
        let zones = self.nr_zones * size_of::<Zone>();
        let cpus = room::<AtomicPtr<Shelf>>(self.nr_cpus);
        let parts = room::<Part>(self.nr_parts);
        shards + zones + cpus + room::<OwnerTable>(1) + parts + 8 * 64
    }
}

impl<P: Platform> PageAllocator<P> {
    /// Builds the zones of a machine and frees its memory into them.
    ///
    /// # Errors
    /// [`BootError`]: the map is wrong or too small. Nothing was written then.
    pub fn boot(
        platform: P,
        map: &[MemoryRegion],
        config: &BootConfig,
    ) -> Result<PageAllocator<P>, BootError> {
        let extents = Extents::new(map, config)?;
        let needs = Needs::of(&extents, config, platform.nr_cpus())?;
        let Needs { base, frames, .. } = needs;
        let nr_blocks = frames >> PAGEBLOCK_ORDER;
        let (bytes, pages) = (needs.bytes(), needs.pages());
        let home = extents
            .present()
            .filter(|e| e.kind != ZoneKind::HighMem && e.kind != ZoneKind::Movable)
            .max_by_key(|e| e.end.0 - e.start.0)
            .filter(|e| e.end.0 - e.start.0 > pages)
            .ok_or(BootError::NoRoomForMetadata { bytes })?;
        let meta = Pfn(home.end.0 - pages)..home.end;
        let mut carver = Carver {
            map: platform.direct_map(),
            at: meta.start.phys(),
            end: meta.end.phys(),
        };
        let to_clear = |words: usize| match config.memory_is_zero {
            true => 0,
            false => words,
        };
        let n = nr_blocks * (size_of::<Line>() / 8);
        let lines = carver.words(n, to_clear(n));
        let blocks = Blocks {
            first: needs.first_block(),
            lines: lines_of(lines),
            blocks: carver.take(nr_blocks, |_| Block::new()),
        };
        let ready = match config.memory_is_zero {
            true => frames,
            false => frames.min(needs.first_end.0 - base),
        };
        let words = carver.words(frames, to_clear(ready));
        let frames = FrameTable::new(Pfn(base), words, ready);
        let words = carver.words(needs.index_words, to_clear(needs.index_words));
        let (mut used, mut all) = (0, needs.shards());
        let shards = carver.take(needs.nr_shards, |_| {
            let blocks = counted(all.next());
            let n = Shard::index_words(blocks.len());
            used += n;
            Shard::new(blocks, words.part(used - n, n))
        });
        let (mut used, mut all) = (0, needs.specs());
        let zones = carver.take(needs.nr_zones, |_| {
            let spec = counted(all.next());
            let n = spec.nr_shards(needs.first_block());
            used += n;
            let mut zone = Zone::new(spec, needs.first_block(), shards.part(used - n, n));
            zone.clears_freed = config.init_on_free && zone.kind != ZoneKind::HighMem;
            zone
        });
        let cpus = carver.take(needs.nr_cpus, |_| AtomicPtr::new(core::ptr::null_mut()));
        let mut left = rest::left(&extents, needs.first_end);
        let parts = carver.take(needs.nr_parts, |_| {
            let e = counted(left.next());
            let zone = zones.iter().find(|z| z.node == e.node && z.kind == e.kind);
            Part {
                zone: counted(zone).id,
                start: e.start.max(needs.first_end),
                end: e.end,
            }
        });
        let tables = Tables {
            frames,
            blocks,
            zones,
            // SAFETY: [INV-PCPU-4] a place for each id, all null.
            cpus: unsafe { Shelves::new(cpus) },
            owners: Owners::new(carver.take(1, |_| OwnerTable::new())),
            rest: Rest::new(parts, meta.clone()),
            pages,
        };
        debug_assert_eq!(carver.at.0, meta.start.phys().0 + bytes as u64);
        let allocator = PageAllocator::assemble(platform, tables, config);
        allocator.free_extents(&extents, needs.first_end)?;
        allocator.retune(MinFreeRule::Boot);
        Ok(allocator)
    }

    /// Gives every usable page before `first_end` to its zone, and notes what may be plugged in.
    fn free_extents(&self, extents: &Extents, first_end: Pfn) -> Result<(), BootError> {
        let local = Local::enter(&self.platform).map_err(|_| BootError::Nested)?;
        for e in extents.iter().filter(|e| e.start < e.end) {
            let its = |z: &&Zone| z.node == e.node && z.kind == e.kind;
            let Some(zone) = self.zones.iter().find(its) else {
                continue;
            };
            if e.presence == Presence::Now {
                self.join(&local, zone, e.start, e.end.min(first_end));
                continue;
            }
            let first = (e.start.0 >> PAGEBLOCK_ORDER) - self.blocks.first;
            let last = ((e.end.0 - 1) >> PAGEBLOCK_ORDER) - self.blocks.first;
            let blocks = &self.blocks.blocks[first..=last];
            blocks.iter().for_each(|block| block.set_plug(zone.id));
        }
        Ok(())
    }

    /// Frees frames of a zone that nobody has used yet, each shard's under one hold of its lock.
    pub(super) fn add_frames(&self, local: &Local<'_, P>, zone: &Zone, start: Pfn, end: Pfn) {
        // Of what is added a device does not know yet.
        let clean = self.config.memory_is_zero && !self.has_reporting();
        let mut at = start;
        while at < end {
            let shard = self.shard_of(zone, at);
            let stop = self.blocks.pfn(shard.first_block + shard.nr_blocks);
            let stop = stop.min(end);
            let content = self.content_of_new(zone, at, stop);
            let mut guard = zone.lock_shard(&self.blocks, local, shard);
            guard.add(at, stop, clean, content);
            at = stop;
        }
    }
}

/// What an iterator gives that was asked for as many as it counted.
fn counted<T>(next: Option<T>) -> T {
    next.unwrap_or_else(|| unreachable!("as many as were counted"))
}

/// Decides how zones are cut into shards (P820); `first` is [`Blocks::first`].
fn cut(specs: &mut [Option<ZoneSpec>], first: usize, config: &BootConfig, cpus: usize) {
    for zone in specs.iter_mut().flatten() {
        let start = first + zone.first_block;
        let end = start + zone.nr_blocks;
        zone.shard_shift = match config.shard_bytes {
            None => shards::shift(start, end, cpus),
            Some(bytes) => {
                let wanted = bytes.ilog2() - (PAGEBLOCK_ORDER as u32 + PAGE_SHIFT);
                shards::widened(start, end, wanted, SHARDS_MAX)
            }
        };
    }
}

/// The first frame from `start` on whose address is not null, which no pointer to memory may be:
/// where memory is mapped as it lies, frame 0 is not used.
pub(super) fn first_with_address(start: Pfn, map: DirectMap) -> Pfn {
    start.add(map.ptr(start.phys()).is_null() as usize)
}

/// The highest zone of a request by what its flags select; the second row is for requests that want
/// zeroes. A zone that is not configured counts as Normal (P47). Memory that the direct map does
/// not show cannot be cleared, so where there is such memory who wants zeroes goes without.
pub(super) fn highest_zones(config: &BootConfig) -> [[ZoneKind; ZoneKind::COUNT]; 2] {
    let configured = ZoneKind::ALL.map(|kind| match kind {
        ZoneKind::Dma if config.dma_end.is_none() => ZoneKind::Normal,
        ZoneKind::Dma32 if config.dma32_end.is_none() => ZoneKind::Normal,
        kind => kind,
    });
    let shown = match config.highmem_start {
        Some(_) => ZoneKind::Normal,
        None => ZoneKind::Movable,
    };
    let zeroed = configured.map(|kind| kind.min(shown));
    match config.init_on_alloc {
        true => [zeroed, zeroed],
        false => [configured, zeroed],
    }
}

/// The lines that zeroed words are: a line is eight words, all of them 0 when nothing is free.
fn lines_of(words: Carved<AtomicU64>) -> Carved<Line> {
    const { assert!(size_of::<Line>() == 64) };
    let n = words.len() / 8;
    // SAFETY: [INV-BOOT-1] `Line` is eight `AtomicU64` aligned to 64, and the carver hands out
    // memory at multiples of 64; the words are used through the lines only from here on.
    unsafe { Carved::new(NonNull::from(&*words).cast(), n) }
}

/// One specification a zone with memory now or later, by node, then by kind. Returns their number.
fn zone_specs(extents: &Extents, base: usize, specs: &mut [Option<ZoneSpec>; MAX_ZONES]) -> usize {
    let mut n = 0;
    for node in 0..MAX_NODES as u8 {
        for kind in ZoneKind::ALL {
            let mine = || {
                extents
                    .iter()
                    .filter(|e| e.node.0 == node && e.kind == kind && e.start < e.end)
            };
            let (Some(first), Some(last)) = (mine().next(), mine().next_back()) else {
                continue;
            };
            let first_block = (first.start.0 - base) >> PAGEBLOCK_ORDER;
            let last_block = (last.end.0 - 1 - base) >> PAGEBLOCK_ORDER;
            specs[n] = Some(ZoneSpec {
                id: n as u8,
                node: NodeId(node),
                kind,
                first_block,
                nr_blocks: last_block - first_block + 1,
                shard_shift: 0,
            });
            n += 1;
        }
    }
    n
}
