//! Memory that goes while the machine runs (P514, P517): the inverse of `plug`.
//!
//! 1. What was plugged in may go, in whole memory blocks of one zone. What is there since boot
//!    stays: it may hold the machine's own tables.
//! 2. [`PageAllocator::remove_memory`] isolates the range, asks who listens, has all pages in use
//!    moved elsewhere by their owners (`contig`), and looks whether all is free. An isolated frame
//!    that is free stays free, so what follows cannot fail: under the lock of plugging and the
//!    zone's, each pageblock leaves its zone and is absent as before it was plugged in.
//! 3. At last `retune` computes what depends on the amount of memory; a zone or node that has none
//!    is no candidate any more.
//! 4. **Why it is safe beside allocations.** A block leaves its zone while all its frames are free
//!    and isolated: no request, no CPU and no owner has one, and who looks at a frame of it by a
//!    stale number finds no zone ([INV-PAGE-2]). Zonelists are read as in `plug`; who still looks
//!    into a zone that has no memory finds nothing.
//! 5. **Failure.** Isolation ends, and who listened is told. Pages that were moved stay where they
//!    are.

use super::PageAllocator;
use super::block::{CLASS_FULL, NO_ZONE};
use super::contig::{ContigError, Mover, Obstacle};
use super::guard::ZoneGuard;
use super::isolate::{IsolateMode, IsolatedPages};
use super::tuning::MinFreeRule;
use crate::flags::MigrateType;
use crate::frame::{PAGEBLOCK_PAGES, Pfn, PhysAddr};
use crate::platform::Platform;
use crate::policy::watermark::MinFree;
use core::fmt;
use core::ops::Range;

/// What [`Mm::remove_memory`](crate::Mm::remove_memory) did.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct RemovedMemory {
    /// Pages that the machine does not manage any more.
    pub pages: usize,
    /// What became of `min_free_kbytes`, as in [`AddedMemory`](super::AddedMemory).
    pub min_free: MinFree,
}

/// What who listens to a removal is told (P518).
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum MemoryEvent {
    /// `MEM_GOING_OFFLINE`: nothing of it is given out any more; whoever has pages of it should
    /// give them back. Whether it may go is the answer.
    GoingOffline,
    /// `MEM_OFFLINE`: it is gone. The answer means nothing.
    Offline,
    /// `MEM_CANCEL_OFFLINE`: it stays, after `GoingOffline`. The answer means nothing.
    CancelOffline,
}

/// The answer to [`MemoryEvent::GoingOffline`].
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum MemoryAnswer {
    /// It may go.
    Agreed,
    /// It must stay.
    Refused,
}

/// Why memory was not removed; all is as before, but for pages that were moved.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum RemoveMemoryError {
    /// The range is empty, or ends before it starts.
    Empty,
    /// Start or end is no multiple of the memory block (P514).
    Unaligned {
        /// Bytes of a memory block ([`BootConfig::memory_block_bytes`](super::BootConfig)).
        block_bytes: u64,
    },
    /// The memory is there since boot, and stays.
    NotHotpluggable {
        /// The first memory block that was not plugged in.
        at: PhysAddr,
    },
    /// There is no memory there.
    NotPresent {
        /// The first memory block that is absent.
        at: PhysAddr,
    },
    /// It is in two zones, or something in it stays where it is (`-EBUSY`).
    Contig(ContigError),
    /// Who listens refused (P518).
    Refused,
}

impl fmt::Display for RemoveMemoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RemoveMemoryError::Empty => f.write_str("memory to remove: the range is empty"),
            RemoveMemoryError::Unaligned { block_bytes } => write!(
                f,
                "memory is removed in blocks of {block_bytes} bytes: align start and end"
            ),
            RemoveMemoryError::NotHotpluggable { at } => {
                write!(f, "the memory at {:#x} is there since boot and stays", at.0)
            }
            RemoveMemoryError::NotPresent { at } => {
                write!(f, "there is no memory at {:#x}", at.0)
            }
            RemoveMemoryError::Contig(error) => error.fmt(f),
            RemoveMemoryError::Refused => f.write_str("somebody needs the memory where it is"),
        }
    }
}

impl core::error::Error for RemoveMemoryError {}

impl<P: Platform> PageAllocator<P> {
    /// What [`Mm::remove_memory`](crate::Mm::remove_memory) describes.
    pub(crate) fn remove_memory<M: Mover<P>>(
        &self,
        start: PhysAddr,
        end: PhysAddr,
        mover: &M,
        listen: &mut dyn FnMut(MemoryEvent) -> MemoryAnswer,
    ) -> Result<RemovedMemory, RemoveMemoryError> {
        self.may_go(start, end)?;
        let range = start.pfn()..end.pfn();
        let contig = RemoveMemoryError::Contig;
        let isolated = self
            .isolate_pages(range.clone(), IsolateMode::Other)
            .map_err(|error| contig(error.into()))?;
        let emptied = match listen(MemoryEvent::GoingOffline) {
            MemoryAnswer::Agreed => self.empty_range(&range, mover).map_err(contig),
            MemoryAnswer::Refused => Err(RemoveMemoryError::Refused),
        };
        if let Err(error) = emptied {
            drop(isolated);
            listen(MemoryEvent::CancelOffline);
            return Err(error);
        }
        let min_free = self.unplug(isolated);
        listen(MemoryEvent::Offline);
        let pages = range.end.0 - range.start.0;
        Ok(RemovedMemory { pages, min_free })
    }

    /// Whether a range is memory that was plugged in, in whole memory blocks.
    fn may_go(&self, start: PhysAddr, end: PhysAddr) -> Result<(), RemoveMemoryError> {
        let block_bytes = self.config.memory_block_bytes;
        if end <= start {
            return Err(RemoveMemoryError::Empty);
        }
        if !start.0.is_multiple_of(block_bytes) || !end.0.is_multiple_of(block_bytes) {
            return Err(RemoveMemoryError::Unaligned { block_bytes });
        }
        let mut at = start;
        while at < end {
            let block = self.blocks.of(at.pfn()).map(|b| &self.blocks.blocks[b]);
            match block.map(|block| (block.zone(), block.plug())) {
                Some((NO_ZONE, _)) if self.is_rest(at.pfn()) => {
                    return Err(RemoveMemoryError::NotHotpluggable { at });
                }
                None | Some((NO_ZONE, _)) => return Err(RemoveMemoryError::NotPresent { at }),
                Some((_, NO_ZONE)) => return Err(RemoveMemoryError::NotHotpluggable { at }),
                Some(_) => at.0 += block_bytes,
            }
        }
        Ok(())
    }

    /// Has all of an isolated range moved away; it is free then, and stays free.
    fn empty_range<M: Mover<P>>(&self, range: &Range<Pfn>, mover: &M) -> Result<(), ContigError> {
        let mut at = range.start;
        while at < range.end {
            let end = at.add(PAGEBLOCK_PAGES);
            self.empty(at..end, mover)?;
            at = end;
        }
        // A last look, as cheap as it is: nothing that is free can have been taken since.
        let used = (range.start.0..range.end.0)
            .map(Pfn)
            .find(|pfn| !self.is_free(*pfn));
        let why = Obstacle::Unknown;
        used.map_or(Ok(()), |at| Err(ContigError::Busy { at, why }))
    }

    /// Takes isolated pageblocks, all of which is free, out of their zone.
    fn unplug(&self, isolated: IsolatedPages<'_, P>) -> MinFree {
        let frames = isolated.frames();
        // The blocks are not isolated any more, but absent.
        core::mem::forget(isolated);
        let mut at = frames.start;
        while at < frames.end {
            let local = self.enter_again();
            let _plugging = self.plugging.lock(&local);
            if let (Some(block), Some(zone)) = (self.blocks.of(at), self.blocks.zone_of(at)) {
                let mut guard = self.zones[zone].lock_block(&self.blocks, &local, block);
                guard.remove(block);
            }
            at = at.add(PAGEBLOCK_PAGES);
        }
        let local = self.enter_again();
        let _plugging = self.plugging.lock(&local);
        self.retune(MinFreeRule::Recompute)
    }
}

impl ZoneGuard<'_> {
    /// Takes an isolated pageblock, all of which is free, out of the zone: it is absent then.
    fn remove(&mut self, block: usize) {
        let (b, line) = (&self.blocks.blocks[block], &self.blocks.lines[block]);
        debug_assert!(b.is_isolated() && b.free() == PAGEBLOCK_PAGES);
        if b.kind_beneath() == MigrateType::HighAtomic {
            self.forget_reserve();
        }
        self.count_runs(block, MigrateType::Isolate, -1);
        line.clear(0, PAGEBLOCK_PAGES);
        b.add_free(-(PAGEBLOCK_PAGES as isize));
        self.reclass(block, CLASS_FULL);
        b.set_clean(0);
        // First what is managed: what was free is not in use because it goes.
        self.zone.reduce(PAGEBLOCK_PAGES);
        self.account(MigrateType::Isolate, -(PAGEBLOCK_PAGES as isize));
        b.set_isolated(0);
        self.shard.note_type(b.kind_beneath(), MigrateType::Movable);
        b.set_kind(MigrateType::Movable);
        b.set_plug(self.zone.id);
    }
}
