//! A zone: the free blocks of one kind of memory on one node, under one lock.

use super::block::{Block, Line, NO_ZONE};
use super::boost::Boost;
use super::guard::ZoneGuard;
use super::index::BlockIndex;
use super::urgent::Urgent;
use crate::flags::{MigrateType, ZoneKind};
use crate::frame::{NR_ORDERS, NodeId, Order, PAGEBLOCK_ORDER, PAGEBLOCK_PAGES, Pfn};
use crate::platform::Platform;
use crate::policy::watermark::{
    AllocFlags, FreeState, WatermarkLevel, Watermarks, order0_watermark_ok, zone_watermark_ok,
};
use crate::sync::atomic::AtomicUsize;
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::{Carved, LineBreak, Local, Lock, Rank};

/// Mobility types that have free lists (all but `Isolate`).
pub(crate) const NR_LISTS: usize = 5;

/// Where the blocks of all zones stand; shared by them.
pub(crate) struct Blocks {
    /// Number of the first block: its first frame is `first * 512`.
    pub(crate) first: usize,
    pub(crate) lines: Carved<Line>,
    pub(crate) blocks: Carved<Block>,
}

impl Blocks {
    /// Index of the block that holds a frame, `None` outside.
    #[inline]
    pub(crate) fn of(&self, pfn: Pfn) -> Option<usize> {
        let i = (pfn.0 >> PAGEBLOCK_ORDER).wrapping_sub(self.first);
        if i < self.blocks.len() { Some(i) } else { None }
    }

    /// The zone of a frame.
    #[inline]
    pub(crate) fn zone_of(&self, pfn: Pfn) -> Option<usize> {
        let zone = self.blocks[self.of(pfn)?].zone();
        if zone == NO_ZONE {
            None
        } else {
            Some(zone as usize)
        }
    }

    /// [`Block::zone_and_kind`] of a frame's block.
    #[inline]
    pub(crate) fn zone_and_kind_of(&self, pfn: Pfn) -> Option<(usize, MigrateType)> {
        let (zone, kind) = self.blocks[self.of(pfn)?].zone_and_kind();
        Some((zone as usize, kind))
    }

    /// The mobility type of a frame's block.
    #[inline]
    pub(crate) fn kind_of(&self, pfn: Pfn) -> MigrateType {
        self.of(pfn)
            .map_or(MigrateType::Movable, |b| self.blocks[b].kind())
    }

    /// True if the bitmap says that this frame is free.
    pub(crate) fn is_free(&self, pfn: Pfn) -> bool {
        self.of(pfn)
            .is_some_and(|b| self.lines[b].is_free(pfn.0 % PAGEBLOCK_PAGES))
    }

    #[inline]
    pub(super) fn pfn(&self, block: usize) -> Pfn {
        Pfn((self.first + block) << PAGEBLOCK_ORDER)
    }
}

/// One zone. Counts are changed under the lock and read anywhere.
#[repr(C)]
pub(crate) struct Zone {
    pub(crate) id: u8,
    pub(crate) node: NodeId,
    pub(crate) kind: ZoneKind,
    /// First frame and the frame after the last that are present; only views look.
    start: AtomicUsize,
    end: AtomicUsize,
    present: AtomicUsize,
    managed: AtomicUsize,
    /// Number of the zone's first block in [`Blocks`], and how many it spans.
    pub(crate) first_block: usize,
    pub(crate) nr_blocks: usize,
    mark: [AtomicUsize; 4],
    pub(super) boost: Boost,
    pub(super) urgent: Urgent,
    /// More free pages than this end a hopelessness (P404); `usize::MAX`: there is none.
    hope: AtomicUsize,
    reserve: [AtomicUsize; ZoneKind::COUNT],
    pub(super) index: [[BlockIndex; NR_ORDERS]; NR_LISTS],
    /// Wholly free blocks whose memory the operating system does not have yet.
    pub(super) dirty: BlockIndex,
    _written: LineBreak,
    lock: Lock<(), { Rank::Zone as u8 }>,
    pub(super) free: AtomicUsize,
    pub(super) free_cma: AtomicUsize,
    pub(super) free_highatomic: AtomicUsize,
    /// Free pages of isolated blocks: no part of `free` (P306).
    pub(super) free_isolated: AtomicUsize,
    /// Smallest value that `free` ever had: managed minus this is the peak use.
    pub(super) lowest_free: AtomicUsize,
    pub(super) nr_dirty: AtomicUsize,
    /// Pageblocks that are neither free nor used: on their way to the operating system, or new.
    pub(super) hidden: AtomicUsize,
    /// Pages that are isolated and free, or hidden: no part of `free`, and not in use either.
    pub(super) aside: AtomicUsize,
    pub(super) nr_free: [[AtomicUsize; MigrateType::COUNT]; NR_ORDERS],
}

/// What a zone is made of, at boot.
pub(crate) struct ZoneSpec {
    pub(crate) id: u8,
    pub(crate) node: NodeId,
    pub(crate) kind: ZoneKind,
    pub(crate) first_block: usize,
    pub(crate) nr_blocks: usize,
}

impl Zone {
    /// Words of index that a zone of so many blocks needs.
    pub(crate) const fn index_words(nr_blocks: usize) -> usize {
        (NR_LISTS * NR_ORDERS + 1) * BlockIndex::words_for(nr_blocks)
    }

    /// A zone with no free memory. `words` gives zeroed index words.
    pub(crate) fn new(
        spec: &ZoneSpec,
        mut words: impl FnMut(usize) -> Carved<crate::sync::atomic::AtomicU64>,
    ) -> Zone {
        let n = spec.nr_blocks;
        let mut set = || BlockIndex::new(words(BlockIndex::words_for(n)), n);
        Zone {
            id: spec.id,
            node: spec.node,
            kind: spec.kind,
            start: AtomicUsize::new(0),
            end: AtomicUsize::new(0),
            present: AtomicUsize::new(0),
            managed: AtomicUsize::new(0),
            first_block: spec.first_block,
            nr_blocks: n,
            free: AtomicUsize::new(0),
            free_cma: AtomicUsize::new(0),
            free_highatomic: AtomicUsize::new(0),
            free_isolated: AtomicUsize::new(0),
            lowest_free: AtomicUsize::new(0),
            nr_free: core::array::from_fn(|_| core::array::from_fn(|_| AtomicUsize::new(0))),
            index: core::array::from_fn(|_| core::array::from_fn(|_| set())),
            dirty: set(),
            nr_dirty: AtomicUsize::new(0),
            hidden: AtomicUsize::new(0),
            aside: AtomicUsize::new(0),
            mark: core::array::from_fn(|_| AtomicUsize::new(0)),
            boost: Boost::new(),
            urgent: Urgent::new(),
            hope: AtomicUsize::new(usize::MAX),
            reserve: core::array::from_fn(|_| AtomicUsize::new(0)),
            lock: Lock::new(()),
            _written: LineBreak,
        }
    }

    /// Free pages, those in per-CPU caches not counted (P306).
    #[inline]
    pub(crate) fn free_pages(&self) -> usize {
        self.free.load(Relaxed)
    }

    pub(crate) fn managed_pages(&self) -> usize {
        self.managed.load(Relaxed)
    }

    /// RAM in the zone, what boot took included.
    pub(crate) fn present_pages(&self) -> usize {
        self.present.load(Relaxed)
    }

    /// True once the zone has memory. A zone whose memory is to come later has none yet.
    pub(crate) fn is_populated(&self) -> bool {
        self.present_pages() != 0
    }

    /// First frame and extent of what is present, holes included.
    pub(crate) fn span(&self) -> (Pfn, usize) {
        let start = self.start.load(Relaxed);
        (Pfn(start), self.end.load(Relaxed).saturating_sub(start))
    }

    /// The largest number of pages that were in use at once.
    pub(crate) fn peak_used(&self) -> usize {
        // Acquire: pairs with the Release in `enlarge`: who sees the larger size sees the larger
        // rest.
        let managed = self.managed.load(Acquire);
        managed - self.lowest_free.load(Relaxed).min(managed)
    }

    /// Counts memory that is present from now on. The zone's lock is held.
    pub(super) fn extend(&self, start: Pfn, end: Pfn) {
        let first = !self.is_populated();
        let old = self.start.load(Relaxed);
        self.start
            .store(if first { start.0 } else { old.min(start.0) }, Relaxed);
        self.end.store(self.end.load(Relaxed).max(end.0), Relaxed);
        let present = self.present_pages() + (end.0 - start.0);
        self.present.store(present, Relaxed);
    }

    /// Counts memory that is managed from now on and was free from the first. The zone's lock is
    /// held.
    pub(super) fn enlarge(&self, pages: usize) {
        let lowest = self.lowest_free.load(Relaxed) + pages;
        self.lowest_free.store(lowest, Relaxed);
        // Release: pairs with the Acquire in `peak_used`.
        self.managed.store(self.managed_pages() + pages, Release);
    }

    /// Free blocks of an order and type.
    pub(crate) fn nr_free(&self, order: usize, kind: MigrateType) -> usize {
        self.nr_free[order][kind as usize].load(Relaxed)
    }

    /// True if the index of a type and order has this block.
    pub(crate) fn index_contains(&self, list: usize, order: usize, block: usize) -> bool {
        self.index[list][order].contains(block - self.first_block)
    }

    /// Wholly free blocks that wait for free page reporting.
    pub(crate) fn nr_dirty(&self) -> usize {
        self.nr_dirty.load(Relaxed)
    }

    /// Pageblocks that free page reporting has taken out for a moment.
    #[inline]
    pub(crate) fn hidden(&self) -> usize {
        self.hidden.load(Relaxed)
    }

    /// Free pages of isolated blocks, which nobody gets (P306, P512).
    pub(crate) fn free_isolated(&self) -> usize {
        self.free_isolated.load(Relaxed)
    }

    /// Free pages of the reserve.
    pub(crate) fn free_highatomic(&self) -> usize {
        self.free_highatomic.load(Relaxed)
    }

    /// Pages free in blocks of this type that only requests with a right to them may count.
    pub(crate) fn free_state(&self) -> FreeState {
        FreeState {
            free: self.free.load(Relaxed),
            free_highatomic: self.urgent.withheld(),
            free_cma: self.free_cma.load(Relaxed),
        }
    }

    /// The watermarks, boost not added.
    pub(crate) fn watermarks(&self) -> Watermarks {
        let [min, low, high, promo] = core::array::from_fn(|i| self.mark[i].load(Relaxed));
        Watermarks {
            min,
            low,
            high,
            promo,
        }
    }

    pub(crate) fn set_watermarks(&self, w: Watermarks) {
        for (to, from) in self.mark.iter().zip([w.min, w.low, w.high, w.promo]) {
            to.store(from, Relaxed);
        }
    }

    /// P404: from now on it is noticed when this zone has enough free again: above high.
    pub(crate) fn lose_hope(&self) {
        let enough = self.watermarks().high + self.reserve(ZoneKind::Movable);
        // Relaxed, as in all of these: a hint by itself. Who frees at the same time may miss it;
        // who frees next does not.
        self.hope.store(enough, Relaxed);
    }

    /// P404: true when enough came free since [`Zone::lose_hope`], or if that was never called.
    pub(crate) fn has_hope(&self) -> bool {
        self.hope.load(Relaxed) == usize::MAX
    }

    /// Called when pages came free.
    #[inline]
    pub(super) fn hope_again(&self) {
        if self.free_pages() > self.hope.load(Relaxed) {
            self.regain_hope();
        }
    }

    /// Ends what [`Zone::lose_hope`] began.
    #[cold]
    pub(super) fn regain_hope(&self) {
        self.hope.store(usize::MAX, Relaxed);
    }

    /// What every reader of a watermark adds (P215).
    pub(crate) fn boost(&self) -> usize {
        self.boost.sum()
    }

    /// Pages kept from requests whose highest zone is `highest` (P207).
    pub(crate) fn reserve(&self, highest: ZoneKind) -> usize {
        self.reserve[highest as usize].load(Relaxed)
    }

    pub(crate) fn set_reserve(&self, reserve: [usize; ZoneKind::COUNT]) {
        for (to, from) in self.reserve.iter().zip(reserve) {
            to.store(from, Relaxed);
        }
    }

    /// The watermark check (P267-P272).
    #[inline]
    pub(crate) fn watermark_ok(&self, order: Order, highest: ZoneKind, flags: AllocFlags) -> bool {
        self.watermark_ok_without(0, order, highest, flags)
    }

    /// The watermark check as it will be when `pages` more are gone.
    pub(crate) fn watermark_ok_without(
        &self,
        pages: usize,
        order: Order,
        highest: ZoneKind,
        flags: AllocFlags,
    ) -> bool {
        let mut state = self.free_state();
        state.free = state.free.saturating_sub(pages);
        self.watermark_ok_in(&state, order, highest, flags)
    }

    /// The watermark check as if `pages` more were free (P121).
    pub(crate) fn watermark_ok_with(
        &self,
        pages: usize,
        order: Order,
        highest: ZoneKind,
        flags: AllocFlags,
    ) -> bool {
        let mut state = self.free_state();
        state.free = state.free.saturating_add(pages);
        self.watermark_ok_in(&state, order, highest, flags)
    }

    fn watermark_ok_in(
        &self,
        state: &FreeState,
        order: Order,
        highest: ZoneKind,
        flags: AllocFlags,
    ) -> bool {
        let (marks, boost, reserve) = (self.watermarks(), self.boost(), self.reserve(highest));
        if order == Order::ZERO {
            // The one-page check takes the mark and the boost apart (P272).
            let mark = marks.level(flags.level(), 0);
            return order0_watermark_ok(mark, boost, reserve, flags, state);
        }
        let urgent = flags.intersects(AllocFlags::MIN_RESERVE);
        let boost = match flags.level() {
            // What is kept for the urgent refuses none of them (P824).
            WatermarkLevel::Min if urgent => self.boost.mixing(),
            _ => boost,
        };
        let mark = marks.level(flags.level(), boost);
        zone_watermark_ok(
            order.get().into(),
            mark,
            reserve,
            flags,
            state,
            |order, kind| self.nr_free(order as usize, kind) != 0,
        )
    }

    /// Takes the zone's lock.
    #[inline]
    pub(crate) fn lock<'z, P: Platform>(
        &'z self,
        blocks: &'z Blocks,
        local: &'z Local<'_, P>,
    ) -> ZoneGuard<'z> {
        ZoneGuard::new(self, blocks, self.lock.lock(local))
    }

    /// Takes the zone's lock if it is free.
    pub(crate) fn try_lock<'z, P: Platform>(
        &'z self,
        blocks: &'z Blocks,
        local: &'z Local<'_, P>,
    ) -> Option<ZoneGuard<'z>> {
        let guard = self.lock.try_lock(local)?;
        Some(ZoneGuard::new(self, blocks, guard))
    }
}
