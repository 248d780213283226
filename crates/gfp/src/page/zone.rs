//! A zone: the free blocks of one kind of memory on one node, cut into shards.

use super::block::{Block, Line, NO_ZONE};
use super::boost::Boost;
use super::counts::Counts;
use super::descriptor::Place;
use super::ground::Locking;
use super::guard::ZoneGuard;
use super::presence::Presence;
use super::shard::{Runs, Shard};
use super::urgent::Urgent;
use crate::flags::{MigrateType, ZoneKind};
use crate::frame::{CpuId, NodeId, Order, PAGEBLOCK_ORDER, PAGEBLOCK_PAGES, Pfn};
use crate::platform::Platform;
use crate::policy::placement;
use crate::policy::shards;
use crate::policy::watermark::{
    AllocFlags, FreeState, WatermarkLevel, Watermarks, order0_watermark_ok, zone_watermark_ok,
};
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::atomic::{AtomicU16, AtomicU64, AtomicUsize};
use crate::sync::{Carved, LineBreak, Local};

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

    /// [`Block::place`] of a frame's block.
    #[inline]
    pub(crate) fn place_of(&self, pfn: Pfn) -> Option<Place> {
        Some(self.blocks[self.of(pfn)?].place())
    }

    /// [`Block::key`] of a frame's block, by the frame's index in the frame table.
    ///
    /// # Safety
    /// [INV-PAGE-3] It is one of the frame table.
    #[inline(always)]
    pub(super) unsafe fn key_at(&self, frame: u32) -> &AtomicU16 {
        let block = (frame >> PAGEBLOCK_ORDER) as usize;
        debug_assert!(block < self.blocks.len());
        // SAFETY: [INV-PAGE-3] the descriptors are those of the frame table's frames.
        unsafe { self.blocks.get_unchecked(block) }.key()
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

/// One zone. What its shards have is changed under their locks; the rest is atomic.
#[repr(C)]
pub(crate) struct Zone {
    pub(crate) id: u8,
    pub(crate) node: NodeId,
    pub(crate) kind: ZoneKind,
    /// A shard has 2^shift blocks, or less at the ends of the zone.
    shard_shift: u8,
    /// What is added to a block's number so that shard 0 begins at 0; may be negative.
    shard_origin: usize,
    shards: Carved<Shard>,
    /// First frame and the frame after the last that are present; only views look.
    start: AtomicUsize,
    end: AtomicUsize,
    present: AtomicUsize,
    /// Number of the zone's first block in [`Blocks`], and how many it spans.
    pub(crate) first_block: usize,
    pub(crate) nr_blocks: usize,
    /// True if what comes free was cleared (P351).
    pub(super) clears_freed: bool,
    /// By [`WatermarkLevel`].
    mark: [AtomicUsize; 4],
    pub(super) boost: Boost,
    pub(super) urgent: Urgent,
    /// What its shards have, and more.
    pub(super) presence: Presence,
    /// More free pages than this end a hopelessness (P404); `usize::MAX`: there is none.
    hope: AtomicUsize,
    reserve: [AtomicUsize; ZoneKind::COUNT],
    _written: LineBreak,
    pub(super) counts: Counts,
    /// P615: blocks that interleaving policies got from where they wanted them.
    pub(super) interleaved: AtomicU64,
    _end: LineBreak,
}

/// What a zone is made of, at boot.
pub(crate) struct ZoneSpec {
    pub(crate) id: u8,
    pub(crate) node: NodeId,
    pub(crate) kind: ZoneKind,
    pub(crate) first_block: usize,
    pub(crate) nr_blocks: usize,
    /// A shard starts at each multiple of 2^shift blocks, counted from frame 0.
    pub(crate) shard_shift: u32,
}

impl ZoneSpec {
    /// How many shards the zone has; `first` is [`Blocks::first`].
    pub(crate) fn nr_shards(&self, first: usize) -> usize {
        let start = first + self.first_block;
        shards::count(start, start + self.nr_blocks, self.shard_shift)
    }

    /// The blocks of a shard. The first starts with a pair, so that no pair lies in two.
    pub(crate) fn blocks_of(&self, shard: usize, first: usize) -> core::ops::Range<usize> {
        let base = (first + self.first_block) >> self.shard_shift;
        let at = |shard: usize| ((base + shard) << self.shard_shift).saturating_sub(first);
        let start = at(shard).max(self.first_block & !1);
        start..at(shard + 1).min(self.first_block + self.nr_blocks)
    }
}

impl Zone {
    /// A zone with no free memory; `first` is [`Blocks::first`].
    pub(crate) fn new(spec: &ZoneSpec, first: usize, shards: Carved<Shard>) -> Zone {
        let base = (first + spec.first_block) >> spec.shard_shift << spec.shard_shift;
        Zone {
            id: spec.id,
            node: spec.node,
            kind: spec.kind,
            shard_shift: spec.shard_shift as u8,
            shard_origin: first.wrapping_sub(base),
            shards,
            start: AtomicUsize::new(usize::MAX),
            end: AtomicUsize::new(0),
            present: AtomicUsize::new(0),
            first_block: spec.first_block,
            nr_blocks: spec.nr_blocks,
            clears_freed: false,
            mark: core::array::from_fn(|_| AtomicUsize::new(0)),
            boost: Boost::new(),
            urgent: Urgent::new(),
            presence: Presence::new(),
            hope: AtomicUsize::new(usize::MAX),
            reserve: core::array::from_fn(|_| AtomicUsize::new(0)),
            counts: Counts::new(),
            interleaved: AtomicU64::new(0),
            _written: LineBreak,
            _end: LineBreak,
        }
    }

    /// Its shards, by address.
    #[inline]
    pub(crate) fn shards(&self) -> &[Shard] {
        &self.shards
    }

    /// The number of the shard of a block of this zone.
    #[inline]
    pub(crate) fn shard_of(&self, block: usize) -> usize {
        block.wrapping_add(self.shard_origin) >> self.shard_shift
    }

    #[inline]
    pub(super) fn home_of(&self, cpu: CpuId) -> usize {
        match self.shards.len() {
            0 | 1 => 0,
            n => cpu.0 as usize % n,
        }
    }

    /// The number of the `nth` shard that a CPU takes a type from ([`placement::shard`]).
    #[inline]
    pub(super) fn nth_shard(&self, cpu: CpuId, kind: MigrateType, nth: usize) -> usize {
        placement::shard(kind, self.home_of(cpu), nth, self.shards.len())
    }

    /// All shards in the order in which a CPU takes a type from them: its home first.
    pub(crate) fn shards_from(
        &self,
        cpu: CpuId,
        kind: MigrateType,
    ) -> impl Iterator<Item = &Shard> {
        (0..self.shards.len()).map(move |nth| &self.shards[self.nth_shard(cpu, kind, nth)])
    }

    /// What its shards have.
    #[inline]
    pub(crate) fn runs(&self) -> Runs {
        let all = self.shards.iter().map(Shard::runs);
        all.fold(Runs::default(), Runs::or)
    }

    /// Free pages, those in per-CPU caches not counted (P306).
    #[inline]
    pub(crate) fn free_pages(&self) -> usize {
        self.counts.free()
    }

    pub(crate) fn managed_pages(&self) -> usize {
        self.counts.managed()
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
        let (start, end) = (self.start.load(Relaxed), self.end.load(Relaxed));
        let start = start.min(end);
        (Pfn(start), end - start)
    }

    /// The largest number of pages that were in use at once.
    pub(crate) fn peak_used(&self) -> usize {
        self.counts.peak()
    }

    /// Counts memory that is present from now on.
    pub(super) fn extend(&self, start: Pfn, end: Pfn) {
        // Relaxed: three figures that only views put together. The span grows first.
        self.start.fetch_min(start.0, Relaxed);
        self.end.fetch_max(end.0, Relaxed);
        self.present.fetch_add(end.0 - start.0, Relaxed);
    }

    /// Counts memory that is not there any more; it was free and stood aside, and is counted so
    /// until after this.
    pub(super) fn reduce(&self, pages: usize) {
        self.counts.shrink(pages);
        self.present.fetch_sub(pages, Relaxed);
    }

    /// Free blocks of an order and type.
    pub(crate) fn nr_free(&self, order: usize, kind: MigrateType) -> usize {
        let shards = self.shards.iter();
        shards.map(|shard| shard.nr_free(order, kind)).sum()
    }

    /// Wholly free blocks that wait for free page reporting.
    pub(crate) fn nr_dirty(&self) -> usize {
        self.counts.dirty()
    }

    /// Pageblocks that free page reporting has taken out for a moment.
    #[inline]
    pub(crate) fn hidden(&self) -> usize {
        self.counts.hidden()
    }

    /// Nobody puts those back.
    pub(super) fn forget_hidden(&self) {
        self.counts.forget_hidden();
    }

    /// Free pages of isolated blocks, which nobody gets (P306, P512).
    pub(crate) fn free_isolated(&self) -> usize {
        self.counts.isolated()
    }

    /// Free pages of the reserve.
    pub(crate) fn free_highatomic(&self) -> usize {
        self.counts.highatomic()
    }

    /// Pages free in blocks of this type that only requests with a right to them may count.
    pub(crate) fn free_state(&self) -> FreeState {
        FreeState {
            free: self.free_pages(),
            free_highatomic: self.withheld(),
            free_cma: self.counts.cma(),
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

    /// The watermark check (P267-P272) of who looks at the shards next: as far as is seen without
    /// that.
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
        self.watermark_ok_in(&state, order, highest, flags, || self.may_have())
    }

    /// The watermark check as if `pages` more were free (P121), with a look at each shard.
    pub(crate) fn watermark_ok_with(
        &self,
        pages: usize,
        order: Order,
        highest: ZoneKind,
        flags: AllocFlags,
    ) -> bool {
        let mut state = self.free_state();
        state.free = state.free.saturating_add(pages);
        self.watermark_ok_in(&state, order, highest, flags, || self.runs())
    }

    fn watermark_ok_in(
        &self,
        state: &FreeState,
        order: Order,
        highest: ZoneKind,
        flags: AllocFlags,
        runs: impl FnOnce() -> Runs,
    ) -> bool {
        let mark = self.mark[flags.level() as usize].load(Relaxed);
        let (boost, reserve) = (self.boost(), self.reserve(highest));
        if order == Order::ZERO {
            // The one-page check takes the mark and the boost apart (P272).
            return order0_watermark_ok(mark, boost, reserve, flags, state);
        }
        let urgent = flags.intersects(AllocFlags::MIN_RESERVE);
        let boost = match flags.level() {
            // What is kept for the urgent refuses none of them (P824).
            WatermarkLevel::Min if urgent => self.boost.mixing(),
            _ => boost,
        };
        let runs = runs();
        zone_watermark_ok(
            order.get().into(),
            mark + boost,
            reserve,
            flags,
            state,
            // Asked of each order from this one on: so larger ones may be counted at once.
            |order, kind| runs.has_at_least(kind, order as u8),
        )
    }

    /// Takes the lock of a shard.
    #[inline]
    pub(crate) fn lock_shard<'z, P: Platform>(
        &'z self,
        blocks: &'z Blocks,
        local: &'z Local<'_, P>,
        shard: &'z Shard,
    ) -> ZoneGuard<'z> {
        ZoneGuard::new(self, shard, blocks, shard.lock(local))
    }

    /// Takes the lock of the shard of a block, by its number in [`Blocks`]. The block is this
    /// zone's.
    #[inline]
    pub(crate) fn lock_block<'z, P: Platform>(
        &'z self,
        blocks: &'z Blocks,
        local: &'z Local<'_, P>,
        block: usize,
    ) -> ZoneGuard<'z> {
        self.lock_shard(blocks, local, &self.shards[self.shard_of(block)])
    }

    /// Takes the lock of a shard if it is free.
    pub(crate) fn try_lock_shard<'z, P: Platform>(
        &'z self,
        blocks: &'z Blocks,
        local: &'z Local<'_, P>,
        shard: &'z Shard,
    ) -> Option<ZoneGuard<'z>> {
        let guard = shard.try_lock(local)?;
        Some(ZoneGuard::new(self, shard, blocks, guard))
    }

    /// Takes the lock of a shard, in a way.
    pub(crate) fn lock_in<'z, P: Platform>(
        &'z self,
        blocks: &'z Blocks,
        local: &'z Local<'_, P>,
        shard: &'z Shard,
        locking: Locking,
    ) -> Option<ZoneGuard<'z>> {
        match locking {
            Locking::Wait => Some(self.lock_shard(blocks, local, shard)),
            Locking::Try => self.try_lock_shard(blocks, local, shard),
        }
    }

    /// Takes the lock of a zone that has one shard.
    #[cfg(test)]
    pub(crate) fn lock<'z, P: Platform>(
        &'z self,
        blocks: &'z Blocks,
        local: &'z Local<'_, P>,
    ) -> ZoneGuard<'z> {
        assert_eq!(self.shards.len(), 1);
        self.lock_block(blocks, local, self.first_block)
    }
}
