//! Memory that comes while the machine runs (P514, P516).
//!
//! 1. Boot has sized all tables for what the memory map calls
//!    [`Hotpluggable`](super::RegionKind::Hotpluggable), and noted in each such pageblock the zone
//!    that it will join. Until then the block is in no zone and none of its frames is free.
//! 2. [`PageAllocator::add_memory`] claims the range under the lock of plugging, all or nothing:
//!    its blocks get their zone, so no other call can claim them.
//! 3. Then it frees the frames, a stretch at a time under the shard's lock, as boot does. Requests
//!    on other CPUs may take them at once. `unplug` is the way back.
//! 4. At last, under the lock of plugging, `retune` computes what depends on the amount of memory,
//!    and zones and nodes that had none become candidates.
//! 5. **Why it is safe beside allocations.** Bits, counts and indexes change under the shard's lock
//!    only. A block's zone is set before its first frame is free, and who holds a frame got it
//!    through that lock, so who frees it sees the zone. What is read without a lock are single
//!    atomics: marks, reserves, cache sizes, the masks of the zonelists ([INV-PAGE-2]).

use super::PageAllocator;
use super::block::NO_ZONE;
use super::boot::first_with_address;
use super::tuning::MinFreeRule;
use crate::frame::{Order, PAGE_SHIFT, PAGEBLOCK_ORDER, PAGEBLOCK_PAGES, PhysAddr};
use crate::platform::Platform;
use crate::policy::watermark::MinFree;
use crate::sync::Local;
use core::fmt;
use core::ops::Range;

/// Pages that are freed under one hold of a shard's lock: 32 steps of the largest order.
const STRETCH_PAGES: usize = 32 * Order::MAX.pages();

/// What [`PageAllocator::add_memory`] did.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct AddedMemory {
    /// Pages that the machine manages since.
    pub pages: usize,
    /// What became of `min_free_kbytes` (P211). [`MinFree::UserStays`] is worth a line in the log:
    /// the configured value is larger than what is computed for the memory there is now.
    pub min_free: MinFree,
}

/// Why memory could not be added; nothing was changed.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum AddMemoryError {
    /// The range is empty, or ends before it starts.
    Empty,
    /// Start or end is no multiple of the memory block (P514).
    Unaligned {
        /// Bytes of a memory block ([`BootConfig::memory_block_bytes`](super::BootConfig)).
        block_bytes: u64,
    },
    /// The memory map of boot does not say that memory may be plugged in here.
    NotHotpluggable {
        /// The first memory block that it does not list.
        at: PhysAddr,
    },
    /// The memory is there already, since boot or since it was added.
    AlreadyPresent {
        /// The first memory block that is there.
        at: PhysAddr,
    },
    /// The call came from inside the allocator; make it from a task.
    Nested,
}

impl fmt::Display for AddMemoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            AddMemoryError::Empty => f.write_str("a range without memory: end must be above start"),
            AddMemoryError::Unaligned { block_bytes } => write!(
                f,
                "unaligned hotplug range: memory is added in blocks of {} MiB; round the start up \
                 and the end down, or set BootConfig::memory_block_bytes",
                block_bytes >> 20
            ),
            AddMemoryError::NotHotpluggable { at } => write!(
                f,
                "no memory can be plugged in at {:#x}: list it as Hotpluggable in the memory map \
                 of boot",
                at.0
            ),
            AddMemoryError::AlreadyPresent { at } => {
                write!(
                    f,
                    "the memory at {:#x} is there already: leave it out",
                    at.0
                )
            }
            AddMemoryError::Nested => {
                f.write_str("memory was added from inside the allocator: do it from a task")
            }
        }
    }
}

impl core::error::Error for AddMemoryError {}

impl<P: Platform> PageAllocator<P> {
    /// Brings memory in that the memory map called
    /// [`Hotpluggable`](super::RegionKind::Hotpluggable): all of it is free then, and watermarks,
    /// reserves, cache sizes and zonelists take it into account (P218, P516). All or nothing.
    ///
    /// Context: task, outside of the allocator. Allocations may run meanwhile, and other additions.
    /// CPUs are kept out of a zone for at most 128 MiB at a time.
    ///
    /// # Errors
    /// [`AddMemoryError`]; nothing was changed then.
    ///
    /// # Safety
    /// From now on, until the machine is dropped, the range is RAM that can be read and written
    /// through the platform's direct map, and nobody else uses it. It reads as zero if the
    /// configuration says `memory_is_zero`.
    pub unsafe fn add_memory(
        &self,
        start: PhysAddr,
        end: PhysAddr,
    ) -> Result<AddedMemory, AddMemoryError> {
        let blocks = self.claim(start, end)?;
        self.take_in_up_to(end.pfn());
        let mut pages = 0;
        let mut at = blocks.start;
        while at < blocks.end {
            let stop = self.stretch_end(at, blocks.end);
            pages += self.add_stretch(at, stop);
            at = stop;
        }
        let local = self.enter_again();
        let _plugging = self.plugging.lock(&local);
        let min_free = self.retune(MinFreeRule::Recompute);
        Ok(AddedMemory { pages, min_free })
    }

    /// Checks a range and makes its pageblocks, which it returns, part of their zones.
    fn claim(&self, start: PhysAddr, end: PhysAddr) -> Result<Range<usize>, AddMemoryError> {
        let block_bytes = self.config.memory_block_bytes;
        if end <= start {
            return Err(AddMemoryError::Empty);
        }
        if !start.0.is_multiple_of(block_bytes) || !end.0.is_multiple_of(block_bytes) {
            return Err(AddMemoryError::Unaligned { block_bytes });
        }
        let local = Local::enter(&self.platform).map_err(|_| AddMemoryError::Nested)?;
        let _plugging = self.plugging.lock(&local);
        // Boot cut hot-pluggable regions to memory blocks: the first pageblock speaks for all.
        let mut at = start;
        while at < end {
            let Some(block) = self.blocks.of(at.pfn()).map(|b| &self.blocks.blocks[b]) else {
                return Err(AddMemoryError::NotHotpluggable { at });
            };
            match (block.zone(), block.plug()) {
                (NO_ZONE, NO_ZONE) if !self.is_rest(at.pfn()) => {
                    return Err(AddMemoryError::NotHotpluggable { at });
                }
                (NO_ZONE, NO_ZONE) => return Err(AddMemoryError::AlreadyPresent { at }),
                (NO_ZONE, _) => at.0 += block_bytes,
                _ => return Err(AddMemoryError::AlreadyPresent { at }),
            }
        }
        let first = (start.pfn().0 >> PAGEBLOCK_ORDER) - self.blocks.first;
        let blocks = first..first + ((end.0 - start.0) >> BLOCK_SHIFT) as usize;
        for block in &self.blocks.blocks[blocks.clone()] {
            debug_assert!(block.zone() == NO_ZONE && block.plug() != NO_ZONE);
            block.set_zone(block.plug());
        }
        Ok(blocks)
    }

    /// Where a stretch of pageblocks ends that are all of one zone and freed at once.
    fn stretch_end(&self, at: usize, end: usize) -> usize {
        let most = end.min(at + STRETCH_PAGES / PAGEBLOCK_PAGES);
        let zone = self.blocks.blocks[at].zone();
        let same = |block: &usize| self.blocks.blocks[*block].zone() == zone;
        (at..most)
            .take_while(same)
            .last()
            .map_or(at, |last| last + 1)
    }

    /// Frees the frames of pageblocks that were claimed. Returns how many.
    fn add_stretch(&self, first: usize, stop: usize) -> usize {
        let zone = &self.zones[self.blocks.blocks[first].zone() as usize];
        let (start, end) = (self.blocks.pfn(first), self.blocks.pfn(stop));
        let usable = first_with_address(start, self.map);
        let local = self.enter_again();
        zone.extend(start, end);
        self.add_frames(&local, zone, usable, end);
        end.0 - usable.0
    }

    /// Enters where it is known that we are not inside.
    pub(super) fn enter_again(&self) -> Local<'_, P> {
        let mut spins = 0;
        loop {
            if let Ok(local) = Local::enter(&self.platform) {
                return local;
            }
            self.platform.relax(spins);
            spins = spins.saturating_add(1);
        }
    }
}

const BLOCK_SHIFT: u32 = PAGEBLOCK_ORDER as u32 + PAGE_SHIFT;
