//! Isolation: pageblocks out of which nothing is given (P311, P511-P513).
//!
//! 1. **Concept.** Who wants certain frames, and not just some, must first see to it that those
//!    which are free or come free go to nobody else. Being isolated is a bit of a pageblock beside
//!    its type, which survives (P311). Who set the bit owns the block in this respect: a second
//!    isolation is refused.
//! 2. **What it means.** The block is in no index, in O(1), so no request finds it. Its free memory
//!    is counted as type `Isolate` and is no part of the zone's free pages, so watermarks see it
//!    as gone (P306). It merges with no other block, and free page reporting leaves it alone.
//! 3. **Protocol.** A free looks at the bit without a lock and may still cache the block; so after
//!    the bits are set, every CPU's place is taken once, and what it has cached goes back.
//!
//!    ```text
//!      isolation                          a free on CPU c
//!      shard's lock: bit = 1              enters c's section
//!      for each c: takes c's place          bit == 0? into c's cache
//!                  empties c's cache        bit == 1? shard's lock: into the block
//!                  leaves                 leaves
//!    ```
//!
//!    Sections of one CPU follow each other, and what was written before one is left is seen in the
//!    next ([INV-PCPU-1]). A free before our place on `c` has cached by then, and we empty the
//!    cache; one after it sees the bit. So when isolation returns no CPU has a page of the block,
//!    and none will. A refill, under the shard's lock, finds the block in no index.
//!    `interleavings::isolation` tries every order of the two; without the second step it fails.
//! 4. **Failure.** All or nothing. What is in use and cannot be moved refuses isolation at once;
//!    what is on its way (taken from the zone, and not marked yet) is found out later, by who looks
//!    whether all is free.
//! 5. **What it does not do.** On a platform of several CPUs without
//!    [`enter_remote`](Platform::enter_remote) another CPU's cache keeps what it has: the frames
//!    stay in use, and whoever wants them finds them busy.

use super::PageAllocator;
use super::block::NO_ZONE;
use super::guard::ZoneGuard;
use super::zone::Zone;
use crate::flags::MigrateType;
use crate::frame::{CpuId, FrameKind, FrameWord, Order, PAGEBLOCK_ORDER, PAGEBLOCK_PAGES, Pfn};
use crate::platform::Platform;
use crate::sync::Local;
use crate::sync::atomic::Ordering::SeqCst;
use crate::sync::atomic::fence;
use core::fmt;
use core::ops::Range;

/// Whether a block is isolated.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Isolation {
    Off,
    On,
}

/// For whom pageblocks are isolated (P511).
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum IsolateMode {
    /// For an area of contiguous memory. Blocks of type CMA are isolated whatever is in them: what
    /// the area has given out is its own.
    Cma,
    /// For anybody else. A block of type CMA belongs to its area and is refused.
    Other,
}

/// Why a range was not isolated; nothing was changed.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum IsolateError {
    /// The range is empty.
    Empty,
    /// The range has a hole, or is not in one zone.
    NotOneZone {
        /// The first frame of the pageblock that is not in the zone of the first.
        at: Pfn,
    },
    /// Somebody else has isolated a pageblock of it: try again later.
    Isolated {
        /// Its first frame.
        at: Pfn,
    },
    /// A pageblock of it belongs to an area of contiguous memory.
    Cma {
        /// Its first frame.
        at: Pfn,
    },
    /// A block of pages in it is in use and cannot be moved: it has no owner.
    Unmovable {
        /// Its first frame.
        at: Pfn,
    },
    /// We are inside the allocator: do it from a task.
    Nested,
}

impl fmt::Display for IsolateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IsolateError::Empty => f.write_str("the range is empty"),
            IsolateError::NotOneZone { at } => {
                write!(
                    f,
                    "the range is not one zone without holes: {at} is no part of it"
                )
            }
            IsolateError::Isolated { at } => {
                write!(f, "the pageblock at {at} is isolated already: try again")
            }
            IsolateError::Cma { at } => {
                write!(
                    f,
                    "the pageblock at {at} belongs to a CMA area: allocate from that"
                )
            }
            IsolateError::Unmovable { at } => {
                write!(
                    f,
                    "the pages at {at} are in use and have no owner that could move them"
                )
            }
            IsolateError::Nested => f.write_str("isolation from inside the allocator"),
        }
    }
}

impl core::error::Error for IsolateError {}

/// Isolated pageblocks. Dropped, they are as before: of the type that they had, and what is free in
/// them is given out again.
///
/// Not to be dropped inside a section or under a lock.
pub struct IsolatedPages<'p, P: Platform> {
    pages: &'p PageAllocator<P>,
    blocks: Range<usize>,
}

impl<P: Platform> fmt::Debug for IsolatedPages<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("IsolatedPages")
            .field(&self.frames())
            .finish()
    }
}

impl<P: Platform> IsolatedPages<'_, P> {
    /// The frames of the pageblocks.
    pub fn frames(&self) -> Range<Pfn> {
        self.pages.blocks.pfn(self.blocks.start)..self.pages.blocks.pfn(self.blocks.end)
    }

    /// The first frame of a range in it that is not free (P513), as far as can be said: memory may
    /// come free while we look.
    pub fn first_used(&self, range: Range<Pfn>) -> Option<Pfn> {
        let mut frames = (range.start.0..range.end.0).map(Pfn);
        frames.find(|pfn| !self.pages.is_free(*pfn))
    }
}

impl<P: Platform> Drop for IsolatedPages<'_, P> {
    fn drop(&mut self) {
        self.pages.end_isolation(self.blocks.clone());
    }
}

/// A block of pages that is in use, or what else a frame is that is not free.
#[derive(Copy, Clone)]
pub(super) struct Used {
    pub(super) pfn: Pfn,
    pub(super) word: FrameWord,
}

impl Used {
    fn pages(&self) -> usize {
        match self.word.kind() {
            FrameKind::None | FrameKind::Slab | FrameKind::Vmalloc => 1,
            _ => self.word.order().pages(),
        }
    }

    /// It stays where it is, for good. What has no word may be on its way.
    pub(super) fn is_unmovable(&self) -> bool {
        !matches!(
            self.word.kind(),
            FrameKind::None | FrameKind::Cached | FrameKind::Deferred | FrameKind::Movable
        )
    }
}

impl<P: Platform> PageAllocator<P> {
    /// Isolates every pageblock that the range touches (P511). When this returns no CPU has a free
    /// page of them, nor will, and what is freed in them is given to nobody, until the result is
    /// dropped.
    ///
    /// Context: task, outside of the allocator; waits for other CPUs to leave it.
    ///
    /// # Errors
    /// [`IsolateError`]; nothing was changed then.
    pub fn isolate_pages(
        &self,
        range: Range<Pfn>,
        mode: IsolateMode,
    ) -> Result<IsolatedPages<'_, P>, IsolateError> {
        self.take_in_named(&range);
        let zone = self.zone_of_range(&range)?;
        let first = self.blocks.of(range.start).unwrap_or_default();
        let count = self.blocks.of(Pfn(range.end.0 - 1)).unwrap_or_default() + 1 - first;
        let mut isolated = IsolatedPages {
            pages: self,
            blocks: first..first,
        };
        for block in first..first + count {
            // Dropped, what was isolated so far is as before.
            self.isolate_block(zone, block, &range, mode)?;
            isolated.blocks.end = block + 1;
        }
        self.settle_cpus();
        Ok(isolated)
    }

    /// The zone that all of a range is in.
    pub(super) fn zone_of_range(&self, range: &Range<Pfn>) -> Result<&Zone, IsolateError> {
        if range.end <= range.start {
            return Err(IsolateError::Empty);
        }
        let zone = self.blocks.zone_of(range.start);
        let first = range.start.0 >> PAGEBLOCK_ORDER;
        let last = (range.end.0 - 1) >> PAGEBLOCK_ORDER;
        for block in first..=last {
            let at = Pfn(block << PAGEBLOCK_ORDER);
            if zone.is_none() || self.blocks.zone_of(at) != zone {
                return Err(IsolateError::NotOneZone { at });
            }
        }
        zone.map(|zone| &self.zones[zone])
            .ok_or(IsolateError::NotOneZone { at: range.start })
    }

    fn isolate_block(
        &self,
        zone: &Zone,
        block: usize,
        range: &Range<Pfn>,
        mode: IsolateMode,
    ) -> Result<(), IsolateError> {
        let at = self.blocks.pfn(block);
        let inside = at.max(range.start)..at.add(PAGEBLOCK_PAGES).min(range.end);
        let local = Local::enter(&self.platform).map_err(|_| IsolateError::Nested)?;
        let mut guard = zone.lock_block(&self.blocks, &local, block);
        let b = &self.blocks.blocks[block];
        if b.zone() == NO_ZONE {
            return Err(IsolateError::NotOneZone { at }); // it was taken out meanwhile
        }
        if b.is_isolated() {
            return Err(IsolateError::Isolated { at });
        }
        match (b.kind_beneath(), mode) {
            (MigrateType::Cma, IsolateMode::Cma) => {}
            (MigrateType::Cma, IsolateMode::Other) => return Err(IsolateError::Cma { at }),
            _ => {
                // Under the lock: nothing leaves the zone while we look.
                if let Some(used) = self.used_in(inside).find(Used::is_unmovable) {
                    return Err(IsolateError::Unmovable { at: used.pfn });
                }
            }
        }
        guard.set_isolation(block, Isolation::On);
        Ok(())
    }

    fn end_isolation(&self, blocks: Range<usize>) {
        for block in blocks {
            let zone = &self.zones[usize::from(self.blocks.blocks[block].zone())];
            let local = self.enter_again();
            let mut guard = zone.lock_block(&self.blocks, &local, block);
            guard.set_isolation(block, Isolation::Off);
            drop(guard);
            zone.hope_again();
        }
    }

    /// What a range has that is not free: blocks of pages, also such that begin before it, and
    /// frames that are none. Without a lock this is what it was at some moment.
    pub(super) fn used_in(&self, range: Range<Pfn>) -> impl Iterator<Item = Used> {
        // The largest block that could reach into the range begins here.
        let mut at = Pfn(range.start.0 & !(Order::MAX.pages() - 1));
        core::iter::from_fn(move || {
            while at < range.end {
                let (pfn, word) = (at, self.frames.get(at));
                let used = Used { pfn, word };
                at = pfn.add(used.pages());
                if at > range.start && !self.is_free(pfn) {
                    return Some(used);
                }
            }
            None
        })
    }

    /// Every CPU has been outside of the allocator once, had nothing cached then, and what it had
    /// sent before is put.
    ///
    /// Context: outside of sections and locks; waits for other CPUs to leave theirs.
    pub(super) fn settle_cpus(&self) {
        // A CPU that begins to be used now either is seen by `enter_remote`, or sees what we wrote:
        // pairs with the exchange by which a platform takes a new CPU's number.
        fence(SeqCst);
        self.empty_each_cpu();
        // A CPU that came back meanwhile may have taken mail that another sent before we got to it.
        if self.pages_in_mail() != 0 {
            self.empty_each_cpu();
        }
    }

    fn empty_each_cpu(&self) {
        for cpu in (0..self.cpus.len() as u32).map(CpuId) {
            if let Ok(local) = Local::enter(&self.platform)
                && local.cpu() == cpu
            {
                self.drain(&local);
                continue;
            }
            if let Some(local) = Local::enter_remote(&self.platform, cpu) {
                self.drain(&local);
            }
        }
    }
}

impl ZoneGuard<'_> {
    /// Isolates a block or ends that: its free memory changes lists, in O(1).
    fn set_isolation(&mut self, block: usize, isolation: Isolation) {
        self.unpair(block);
        let b = &self.blocks.blocks[block];
        let (old, class, free) = (b.kind(), b.class(), b.free());
        debug_assert!(b.is_isolated() != (isolation == Isolation::On));
        self.count_runs(block, old, -1);
        self.reclass(block, super::block::CLASS_FULL);
        b.set_isolated(isolation as u8);
        let new = b.kind();
        self.count_runs(block, new, 1);
        // What comes first: nobody sees less free than there is, and nobody less than is left.
        self.account(new, free as isize);
        self.account(old, -(free as isize));
        self.reclass(block, class);
        if free != PAGEBLOCK_PAGES {
            return;
        }
        match isolation {
            Isolation::On if !b.is_clean() => self.note_not_dirty(block),
            Isolation::On => {}
            Isolation::Off => {
                if !b.is_clean() {
                    self.note_dirty(block);
                }
                self.join(block);
            }
        }
    }
}
