//! Certain frames: everything in a range is moved away, and the range is given out (P500-P504).
//!
//! 1. **Concept.** A request names frames, or how many must lie side by side. What is free in them
//!    is kept free by isolation (`isolate`); what is in use is moved by its owner (`mobile`) to
//!    memory that is allocated for it; then all of it is taken, under the zone's lock.
//! 2. **Rounds.** A batch is what the range has of one pageblock. Some of it may not be movable
//!    just now: held by somebody, on its way to or from a CPU, refused by its owner. After
//!    [`ROUNDS`] rounds over one batch the range is busy (P501). Every CPU is made to leave the
//!    allocator between rounds.
//! 3. **Blocks that reach out of the range** are moved as a whole; what of them lies outside is
//!    free then, like what else is free in the pageblocks outside of the range.
//! 4. **Failure.** What was taken goes back, and isolation ends: types and free memory are as
//!    before. Pages that were moved stay where they are now.
//! 5. **Locking.** The zone's lock for one pageblock at a time. Nothing is held while owners are
//!    called but the isolation of the pageblocks, which others are refused meanwhile.
//! 6. **What it does not do.** A compound result is no larger than the largest order.

use super::block::largest_block;
use super::guard::ZoneGuard;
use super::isolate::{IsolateError, IsolateMode, IsolatedPages, Used};
use super::mobile::{Held, Migrated, Moved};
use super::zone::Zone;
use super::{PageAllocator, PageRequest};
use crate::error::AllocError;
use crate::flags::{Entry, Gfp, GfpError, MigrateType, ZoneKind};
use crate::frame::{FrameKind, FrameWord, Order, PAGE_SIZE, PAGEBLOCK_PAGES, Pfn};
use crate::platform::Platform;
use crate::policy::compaction::{CompactPriority, PageVerdict, Unevictable, page_verdict};
use core::fmt;
use core::ops::Range;

/// P501: how often one batch is tried.
const ROUNDS: u32 = 5;

/// Why a frame is not free.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Obstacle {
    /// It is in use and has no owner that could move it.
    InUse,
    /// Taken and not marked yet, or of nobody: reserved memory.
    Unknown,
    /// Somebody else is asking its owner about it, or a CPU that cannot be reached has cached it.
    Held,
    /// Its owner says that it cannot be moved now: it is pinned, or busy.
    Busy,
    /// Its owner cannot move it.
    Refused,
}

/// Why a range was not given out; all is as before then, but for pages that were moved.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ContigError {
    /// P58: the flags have bits that mean nothing here.
    BadFlags(GfpError),
    /// The range is empty; or with `COMP` no aligned power of two of at most the largest order
    /// (P502).
    BadRange,
    /// Zeroes were asked for in memory that the direct map does not show.
    NotMapped,
    /// The range could not be isolated.
    Isolate(IsolateError),
    /// Something stays where it is: try again later, or other frames.
    Busy {
        /// The first frame of it.
        at: Pfn,
        /// Why.
        why: Obstacle,
    },
    /// There is no memory to move pages to.
    NoMemory(AllocError),
    /// The task has got a fatal signal (P501).
    Interrupted,
    /// No window of so many pages is free or can be emptied (P503).
    NoWindow,
}

impl ContigError {
    /// P507: other frames may be had, or these at another time (Linux's `-EBUSY`).
    pub const fn is_busy(&self) -> bool {
        matches!(
            self,
            ContigError::Busy { .. }
                | ContigError::Isolate(
                    IsolateError::Isolated { .. } | IsolateError::Unmovable { .. }
                )
        )
    }
}

impl From<IsolateError> for ContigError {
    fn from(error: IsolateError) -> ContigError {
        ContigError::Isolate(error)
    }
}

impl fmt::Display for ContigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ContigError::BadFlags(error) => error.fmt(f),
            ContigError::BadRange => f.write_str(
                "the range is empty, or with __GFP_COMP no aligned power of two of pages",
            ),
            ContigError::NotMapped => {
                f.write_str("memory that the direct map does not show cannot be zeroed")
            }
            ContigError::Isolate(error) => error.fmt(f),
            ContigError::Busy { at, why } => {
                let why = match why {
                    Obstacle::InUse => "is in use and has no owner that could move it",
                    Obstacle::Unknown => "is reserved, or on its way",
                    Obstacle::Held => "is held by somebody else",
                    Obstacle::Busy => "is needed by its owner where it is",
                    Obstacle::Refused => "cannot be moved by its owner",
                };
                write!(f, "{at} {why}: try again, or other frames")
            }
            ContigError::NoMemory(error) => write!(f, "nowhere to move pages to: {error}"),
            ContigError::Interrupted => f.write_str("the task is to end"),
            ContigError::NoWindow => {
                f.write_str("no window of so many pages is free or can be emptied")
            }
        }
    }
}

impl core::error::Error for ContigError {}

/// What the rooms above do for who empties a range.
pub(crate) trait Mover<P: Platform> {
    /// Allocates a block to move a page to.
    fn take(&self, order: Order) -> Result<Pfn, AllocError>;

    /// Moves an isolated page: [`Held::migrate`].
    fn migrate(&self, held: Held<'_, P>, to: Pfn) -> Moved;

    /// P501: the task is to end.
    fn is_interrupted(&self) -> bool;
}

/// Which windows [`PageAllocator::alloc_contig_pages`] tries.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Windows {
    /// Those in which all is free or has an owner.
    Promising,
    /// Also such with frames that may be reserved, or on their way.
    Any,
}

impl<P: Platform> PageAllocator<P> {
    /// What [`Mm::alloc_contig_range`](crate::Mm::alloc_contig_range) describes; `mode` as in
    /// [`PageAllocator::isolate_pages`].
    pub(crate) fn alloc_contig_range<M: Mover<P>>(
        &self,
        range: Range<Pfn>,
        gfp: Gfp,
        mode: IsolateMode,
        mover: &M,
    ) -> Result<(), ContigError> {
        gfp.check_for(Entry::Contig)
            .map_err(ContigError::BadFlags)?;
        let compound = compound_order(&range, gfp)?;
        self.take_in_named(&range);
        let zone = self.zone_of_range(&range)?;
        if self.wants_zero(gfp) && zone.kind == ZoneKind::HighMem {
            return Err(ContigError::NotMapped);
        }
        let isolated = self.isolate_pages(range.clone(), mode)?;
        let mut at = range.start;
        while at < range.end {
            let end = Pfn((at.0 / PAGEBLOCK_PAGES + 1) * PAGEBLOCK_PAGES).min(range.end);
            self.empty(at..end, mover)?;
            at = end;
        }
        self.take_range(zone, &isolated, &range)?;
        drop(isolated);
        self.hand_out_range(&range, gfp, compound);
        Ok(())
    }

    /// What [`Mm::alloc_contig_pages`](crate::Mm::alloc_contig_pages) describes.
    pub(crate) fn alloc_contig_pages<M: Mover<P>>(
        &self,
        pages: usize,
        req: &PageRequest,
        mover: &M,
    ) -> Result<Pfn, ContigError> {
        req.gfp
            .check_for(Entry::Contig)
            .map_err(ContigError::BadFlags)?;
        compound_order(&(Pfn(0)..Pfn(pages)), req.gfp)?;
        match self.alloc_window(pages, req, mover) {
            Err(ContigError::NoWindow) if self.take_in_rest() > 0 => {
                self.alloc_window(pages, req, mover)
            }
            result => result,
        }
    }

    /// Takes the first window of so many pages that can be had.
    fn alloc_window<M: Mover<P>>(
        &self,
        pages: usize,
        req: &PageRequest,
        mover: &M,
    ) -> Result<Pfn, ContigError> {
        for windows in [Windows::Promising, Windows::Any] {
            for zone in self.candidates(req) {
                let (start, spanned) = zone.span();
                let end = start.0 + spanned;
                let mut at = start.0.next_multiple_of(pages);
                while at.checked_add(pages).is_some_and(|stop| stop <= end) {
                    let range = Pfn(at)..Pfn(at + pages);
                    at += pages;
                    if !self.is_worth_trying(zone, &range, windows) {
                        continue;
                    }
                    let mode = IsolateMode::Other;
                    match self.alloc_contig_range(range.clone(), req.gfp, mode, mover) {
                        Ok(()) => return Ok(range.start),
                        Err(error) if error.is_busy() => {}
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        Err(ContigError::NoWindow)
    }

    /// P503: a look without a lock.
    fn is_worth_trying(&self, zone: &Zone, range: &Range<Pfn>, windows: Windows) -> bool {
        let here = self.zone_of_range(range).is_ok_and(|its| its.id == zone.id);
        let apart = |pfn: usize| {
            let kind = self.blocks.kind_of(Pfn(pfn));
            matches!(kind, MigrateType::Isolate | MigrateType::Cma)
        };
        let mut blocks = (range.start.0..range.end.0).step_by(PAGEBLOCK_PAGES);
        let stays = |used: &Used| match used.word.kind() {
            FrameKind::None => windows == Windows::Promising,
            _ => used.is_unmovable(),
        };
        here && !blocks.any(apart)
            && !apart(range.end.0 - 1)
            && !self.used_in(range.clone()).any(|used| stays(&used))
    }

    /// Moves out what is in use in a batch (P501).
    pub(super) fn empty<M: Mover<P>>(
        &self,
        batch: Range<Pfn>,
        mover: &M,
    ) -> Result<(), ContigError> {
        let mut round = 0;
        loop {
            if mover.is_interrupted() {
                return Err(ContigError::Interrupted);
            }
            let Some((at, why)) = self.move_out(batch.clone(), mover)? else {
                return Ok(());
            };
            round += 1;
            if round == ROUNDS {
                return Err(ContigError::Busy { at, why });
            }
            self.platform.relax(round);
            self.settle_cpus();
        }
    }

    /// One round: asks the owner of each block. Returns the first that is still there, and why.
    fn move_out<M: Mover<P>>(
        &self,
        batch: Range<Pfn>,
        mover: &M,
    ) -> Result<Option<(Pfn, Obstacle)>, ContigError> {
        let mut first = None;
        for used in self.used_in(batch) {
            let left = match used.word.kind() {
                FrameKind::Movable => self.move_page(&used, mover)?,
                FrameKind::Cached | FrameKind::Deferred => Some(Obstacle::Held),
                FrameKind::None => Some(Obstacle::Unknown),
                _ => Some(Obstacle::InUse),
            };
            first = first.or(left.map(|why| (used.pfn, why)));
        }
        Ok(first)
    }

    /// Moves one block away. `None`: it is gone.
    fn move_page<M: Mover<P>>(
        &self,
        used: &Used,
        mover: &M,
    ) -> Result<Option<Obstacle>, ContigError> {
        let order = used.word.order();
        let to = mover.take(order).map_err(ContigError::NoMemory)?;
        let (left, outcome) = match self.hold_to_move(used.pfn, order) {
            Ok(held) => {
                let moved = mover.migrate(held, to);
                (moved.left, moved.outcome)
            }
            Err(why) => {
                self.free_unused(to, order);
                return Ok(Some(why));
            }
        };
        self.free_unused(left, order);
        Ok(match outcome {
            Migrated::Done => None,
            Migrated::Busy => Some(Obstacle::Busy),
            Migrated::Failed => Some(Obstacle::Refused),
        })
    }

    /// Holds a block that its owner lets be moved now.
    fn hold_to_move(&self, pfn: Pfn, order: Order) -> Result<Held<'_, P>, Obstacle> {
        let held = self.hold(pfn).ok_or(Obstacle::Held)?;
        if held.order() != order {
            return Err(Obstacle::Held); // another use of the frame by now
        }
        let facts = held.owner().facts(pfn);
        let verdict = page_verdict(&facts, CompactPriority::SyncFull, Unevictable::Move);
        match verdict != PageVerdict::Skip && held.isolate() {
            true => Ok(held),
            false => Err(Obstacle::Busy),
        }
    }

    fn free_unused(&self, pfn: Pfn, order: Order) {
        // SAFETY: [INV-PAGE-1] the block is ours alone: allocated for a page that was not moved to
        // it, or left by one that was, of which its owner said that nobody uses it.
        let freed = unsafe { self.free(pfn, order) };
        debug_assert!(freed.is_ok());
    }

    /// Takes all frames of an isolated range, which are to be free, or none.
    fn take_range(
        &self,
        zone: &Zone,
        isolated: &IsolatedPages<'_, P>,
        range: &Range<Pfn>,
    ) -> Result<(), ContigError> {
        let mut at = range.start;
        while at < range.end {
            let end = Pfn((at.0 / PAGEBLOCK_PAGES + 1) * PAGEBLOCK_PAGES).min(range.end);
            let local = self.enter_again();
            let shard = self.shard_of(zone, at);
            let mut guard = zone.lock_shard(&self.blocks, &local, shard);
            let taken = guard.take_frames(at..end);
            drop(guard);
            drop(local);
            if !taken {
                let used = isolated.first_used(at..end).unwrap_or(at);
                self.give_range(zone, range.start..at);
                let why = Obstacle::Unknown;
                return Err(ContigError::Busy { at: used, why });
            }
            at = end;
        }
        let local = self.enter_again();
        if let Some(cache) = self.cache(&local, zone) {
            cache.events.alloc_pages.add(range.end.0 - range.start.0);
        }
        Ok(())
    }

    /// Puts frames back that [`PageAllocator::take_range`] took.
    fn give_range(&self, zone: &Zone, range: Range<Pfn>) {
        let mut at = range.start;
        while at < range.end {
            let order = largest_block(at, range.end);
            let local = self.enter_again();
            let shard = self.shard_of(zone, at);
            let put = zone.lock_shard(&self.blocks, &local, shard).put(at, order);
            debug_assert!(put, "they were ours");
            at = at.add(order.pages());
        }
    }

    /// Makes frames that were just taken the caller's.
    fn hand_out_range(&self, range: &Range<Pfn>, gfp: Gfp, compound: Option<Order>) {
        let pages = range.end.0 - range.start.0;
        match compound {
            Some(order) if order > Order::ZERO => {
                let word = FrameWord::new(FrameKind::Compound, order, 1);
                self.frames.set(range.start, word);
            }
            _ => {
                let word = FrameWord::new(FrameKind::Page, Order::ZERO, 1);
                (0..pages).for_each(|i| self.frames.set(range.start.add(i), word));
            }
        }
        if self.wants_zero(gfp) {
            let start = self.ptr_of(range.start);
            // SAFETY: [INV-PAGE-1] the frames are ours alone: they were taken from the bitmap.
            unsafe { start.as_ptr().write_bytes(0, pages * PAGE_SIZE) };
        }
    }
}

/// P502: the order of the one block that a compound range is; `None` without `COMP`.
fn compound_order(range: &Range<Pfn>, gfp: Gfp) -> Result<Option<Order>, ContigError> {
    let pages = range.end.0.saturating_sub(range.start.0);
    if pages == 0 {
        return Err(ContigError::BadRange);
    }
    if !gfp.contains(Gfp::COMP) {
        return Ok(None);
    }
    let order = Order::new(pages.trailing_zeros() as u8);
    match order {
        Some(order) if pages.is_power_of_two() && range.start.is_aligned(order) => Ok(Some(order)),
        _ => Err(ContigError::BadRange),
    }
}

impl ZoneGuard<'_> {
    /// Takes free frames out of one isolated pageblock. False, and nothing changed, if one of them
    /// is not free.
    fn take_frames(&mut self, range: Range<Pfn>) -> bool {
        let Some(block) = self.blocks.of(range.start) else {
            return false;
        };
        let (b, line) = (&self.blocks.blocks[block], &self.blocks.lines[block]);
        debug_assert!(b.is_isolated());
        let start = range.start.0 % PAGEBLOCK_PAGES;
        let pages = range.end.0 - range.start.0;
        if (start..start + pages).any(|frame| !line.is_free(frame)) {
            return false;
        }
        let whole = b.free() == PAGEBLOCK_PAGES;
        self.count_runs(block, MigrateType::Isolate, -1);
        line.clear(start, pages);
        b.add_free(-(pages as isize));
        self.count_runs(block, MigrateType::Isolate, 1);
        self.account(MigrateType::Isolate, -(pages as isize));
        let class = line.largest().unwrap_or(super::block::CLASS_FULL);
        self.reclass(block, class);
        if whole {
            self.used(block);
        }
        // As when a request takes the last page of the reserve (P335).
        if b.kind_beneath() == MigrateType::HighAtomic && b.free() == 0 {
            self.leave_reserve(block, MigrateType::Unmovable);
        }
        true
    }
}
