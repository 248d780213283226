//! A zone: the free blocks of one kind of memory on one node, under one lock.

use super::block::{Block, CLASS_FULL, CLASS_PAIR, Line, NO_ZONE};
use super::index::BlockIndex;
use crate::flags::{MigrateType, ZoneKind};
use crate::frame::{NR_ORDERS, NodeId, Order, PAGEBLOCK_ORDER, PAGEBLOCK_PAGES, Pfn};
use crate::platform::Platform;
use crate::policy::fallback;
use crate::policy::fallback::{BlockUse, Claim, Grouping};
use crate::policy::watermark::{
    AllocFlags, FreeState, Watermarks, order0_watermark_ok, zone_watermark_ok,
};
use crate::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use crate::sync::{Carved, Local, Lock, LockGuard, Rank};

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
    fn pfn(&self, block: usize) -> Pfn {
        Pfn((self.first + block) << PAGEBLOCK_ORDER)
    }
}

/// One zone. Counts are changed under the lock and read anywhere.
pub(crate) struct Zone {
    pub(crate) id: u8,
    pub(crate) node: NodeId,
    pub(crate) kind: ZoneKind,
    pub(crate) start: Pfn,
    pub(crate) spanned: usize,
    pub(crate) present: usize,
    pub(crate) managed: AtomicUsize,
    /// Number of the zone's first block in [`Blocks`], and how many it spans.
    pub(crate) first_block: usize,
    pub(crate) nr_blocks: usize,
    free: AtomicUsize,
    free_cma: AtomicUsize,
    free_highatomic: AtomicUsize,
    /// Smallest value that `free` ever had: managed minus this is the peak use.
    lowest_free: AtomicUsize,
    nr_free: [[AtomicUsize; MigrateType::COUNT]; NR_ORDERS],
    index: [[BlockIndex; NR_ORDERS]; NR_LISTS],
    /// Wholly free blocks whose memory the operating system does not have yet.
    dirty: BlockIndex,
    nr_dirty: AtomicUsize,
    mark: [AtomicUsize; 4],
    boost: AtomicUsize,
    reserve: [AtomicUsize; ZoneKind::COUNT],
    lock: Lock<(), { Rank::Zone as u8 }>,
}

/// What a zone is made of, at boot.
pub(crate) struct ZoneSpec {
    pub(crate) id: u8,
    pub(crate) node: NodeId,
    pub(crate) kind: ZoneKind,
    pub(crate) start: Pfn,
    pub(crate) end: Pfn,
    pub(crate) present: usize,
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
            start: spec.start,
            spanned: spec.end.0 - spec.start.0,
            present: spec.present,
            managed: AtomicUsize::new(0),
            first_block: spec.first_block,
            nr_blocks: n,
            free: AtomicUsize::new(0),
            free_cma: AtomicUsize::new(0),
            free_highatomic: AtomicUsize::new(0),
            lowest_free: AtomicUsize::new(usize::MAX),
            nr_free: core::array::from_fn(|_| core::array::from_fn(|_| AtomicUsize::new(0))),
            index: core::array::from_fn(|_| core::array::from_fn(|_| set())),
            dirty: set(),
            nr_dirty: AtomicUsize::new(0),
            mark: core::array::from_fn(|_| AtomicUsize::new(0)),
            boost: AtomicUsize::new(0),
            reserve: core::array::from_fn(|_| AtomicUsize::new(0)),
            lock: Lock::new(()),
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

    /// The largest number of pages that were in use at once.
    pub(crate) fn peak_used(&self) -> usize {
        let lowest = self.lowest_free.load(Relaxed).min(self.managed_pages());
        self.managed_pages() - lowest
    }

    pub(crate) fn reset_peak(&self) {
        self.lowest_free.store(self.free_pages(), Relaxed);
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

    /// Pages free in blocks of this type that only requests with a right to them may count.
    pub(crate) fn free_state(&self) -> FreeState {
        FreeState {
            free: self.free.load(Relaxed),
            free_highatomic: self.free_highatomic.load(Relaxed),
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

    pub(crate) fn boost(&self) -> usize {
        self.boost.load(Relaxed)
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
    pub(crate) fn watermark_ok(&self, order: Order, highest: ZoneKind, flags: AllocFlags) -> bool {
        let (marks, boost, reserve) = (self.watermarks(), self.boost(), self.reserve(highest));
        let state = self.free_state();
        if order == Order::ZERO {
            // The one-page check takes the mark and the boost apart (P272).
            let mark = marks.level(flags.level(), 0);
            return order0_watermark_ok(mark, boost, reserve, flags, &state);
        }
        let mark = marks.level(flags.level(), boost);
        zone_watermark_ok(
            order.get().into(),
            mark,
            reserve,
            flags,
            &state,
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
        ZoneGuard {
            zone: self,
            blocks,
            _guard: self.lock.lock(local),
        }
    }
}

/// A locked zone: the only way to change its free memory.
pub(crate) struct ZoneGuard<'z> {
    pub(crate) zone: &'z Zone,
    blocks: &'z Blocks,
    _guard: LockGuard<'z, (), { Rank::Zone as u8 }>,
}

/// A block that was taken out of the zone.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Taken {
    pub(crate) pfn: Pfn,
}

impl ZoneGuard<'_> {
    fn count(&self, order: u8, kind: MigrateType, change: isize) {
        let n = &self.zone.nr_free[order as usize][kind as usize];
        n.store(n.load(Relaxed).wrapping_add_signed(change), Relaxed);
    }

    /// Adds to, or takes from, the zone's page counts.
    fn account(&self, kind: MigrateType, pages: isize) {
        let add = |n: &AtomicUsize| {
            let new = n.load(Relaxed).wrapping_add_signed(pages);
            n.store(new, Relaxed);
            new
        };
        match kind {
            MigrateType::Isolate => return,
            MigrateType::Cma => _ = add(&self.zone.free_cma),
            MigrateType::HighAtomic => _ = add(&self.zone.free_highatomic),
            _ => (),
        }
        let free = add(&self.zone.free);
        if free < self.zone.lowest_free.load(Relaxed) {
            self.zone.lowest_free.store(free, Relaxed);
        }
    }

    fn index(&self, kind: MigrateType, class: u8) -> Option<&BlockIndex> {
        self.zone
            .index
            .get(kind as usize)
            .map(|orders| &orders[class as usize])
    }

    /// Moves a block to the index of another class.
    fn reclass(&self, block: usize, class: u8) {
        let b = &self.blocks.blocks[block];
        let old = b.class();
        if old == class {
            return;
        }
        let member = block - self.zone.first_block;
        if old != CLASS_FULL
            && let Some(index) = self.index(b.kind(), old)
        {
            index.remove(member);
        }
        b.set_class(class);
        // Of a pair, the lower block stands in the index for both.
        let stands = class != CLASS_FULL && (class != CLASS_PAIR || block & 1 == self.parity());
        if stands && let Some(index) = self.index(b.kind(), class) {
            index.insert(member);
        }
    }

    /// `block & 1` of a block that starts a pair.
    fn parity(&self) -> usize {
        self.blocks.first & 1
    }

    /// The other block of the pair that a block is in.
    fn partner(&self, block: usize) -> Option<usize> {
        let partner = ((block + self.parity()) ^ 1).checked_sub(self.parity())?;
        let b = self.blocks.blocks.get(partner)?;
        (b.zone() == self.zone.id).then_some(partner)
    }

    /// Takes a block of `order` from the free memory of `kind`: smallest that fits, lowest first.
    pub(crate) fn take(&mut self, order: Order, kind: MigrateType) -> Option<Taken> {
        let orders = self.zone.index.get(kind as usize)?;
        let member = orders[order.index()..].iter().find_map(BlockIndex::first)?;
        let block = member + self.zone.first_block;
        Some(self.take_from(block, order))
    }

    /// Takes a run of `order` from a block that has one.
    fn take_from(&mut self, block: usize, order: Order) -> Taken {
        let b = &self.blocks.blocks[block];
        let kind = b.kind();
        let line = &self.blocks.lines[block];
        if b.class() == CLASS_PAIR {
            let partner = self.partner(block).unwrap_or(block);
            debug_assert!(partner != block);
            self.count(CLASS_PAIR, kind, -1);
            if order == Order::MAX {
                for block in [block, partner] {
                    self.blocks.lines[block].clear(0, Order::PAGEBLOCK);
                    self.blocks.blocks[block].set_free(0);
                    self.reclass(block, CLASS_FULL);
                    self.used(block);
                }
                self.account(kind, -(Order::MAX.pages() as isize));
                return Taken {
                    pfn: self.blocks.pfn(block.min(partner)),
                };
            }
            self.count(PAGEBLOCK_ORDER, kind, 2);
            self.reclass(block, PAGEBLOCK_ORDER);
            self.reclass(partner, PAGEBLOCK_ORDER);
        }
        let bits = line.bits();
        let run = bits.best_run(order);
        debug_assert!(
            run.is_some(),
            "the index says that the block has such a run"
        );
        let run = run.unwrap_or(super::block::Run {
            start: 0,
            order: order.get(),
        });
        line.clear(run.start, order);
        self.count(run.order, kind, -1);
        for o in order.get()..run.order {
            self.count(o, kind, 1);
        }
        b.set_free(b.free() - order.pages());
        self.account(kind, -(order.pages() as isize));
        if b.class() == run.order {
            self.reclass(block, line.bits().largest().unwrap_or(CLASS_FULL));
        }
        self.used(block);
        Taken {
            pfn: self.blocks.pfn(block).add(run.start),
        }
    }

    /// Notes that a block is not wholly free any more.
    fn used(&self, block: usize) {
        let b = &self.blocks.blocks[block];
        if b.is_clean() {
            b.set_clean(0);
        } else if self.dirty_contains(block) {
            self.zone.dirty.remove(block - self.zone.first_block);
            let n = &self.zone.nr_dirty;
            n.store(n.load(Relaxed) - 1, Relaxed);
        }
    }

    fn dirty_contains(&self, block: usize) -> bool {
        self.zone.dirty.contains(block - self.zone.first_block)
    }

    /// Gives a block back. False, and nothing changed, if a frame of it is free already.
    pub(crate) fn put(&mut self, pfn: Pfn, order: Order) -> bool {
        self.put_as(pfn, order, false)
    }

    /// As [`ZoneGuard::put`]; `clean` memory is known to be with the operating system already.
    pub(crate) fn put_as(&mut self, pfn: Pfn, order: Order, clean: bool) -> bool {
        debug_assert!(pfn.is_aligned(order));
        if order == Order::MAX {
            let half = pfn.add(PAGEBLOCK_PAGES);
            return self.put_as(pfn, Order::PAGEBLOCK, clean)
                && self.put_as(half, Order::PAGEBLOCK, clean);
        }
        let Some(block) = self.blocks.of(pfn) else {
            return false;
        };
        let line = &self.blocks.lines[block];
        let start = pfn.0 % PAGEBLOCK_PAGES;
        if !line.none_free(start, order) {
            return false;
        }
        line.set(start, order);
        let b = &self.blocks.blocks[block];
        let kind = b.kind();
        b.set_free(b.free() + order.pages());
        self.account(kind, order.pages() as isize);
        // Merge with free buddies, each step one order up (P301, P302).
        let (mut start, mut o) = (start, order.get());
        while o < PAGEBLOCK_ORDER {
            let Some(step) = Order::new(o) else { break };
            let buddy = start ^ step.pages();
            if !line.all_free(buddy, step) {
                break;
            }
            self.count(o, kind, -1);
            start &= !step.pages();
            o += 1;
        }
        self.count(o, kind, 1);
        if b.class() == CLASS_FULL || b.class() < o {
            self.reclass(block, o);
        }
        if o == PAGEBLOCK_ORDER {
            self.whole(block, clean);
        }
        true
    }

    /// A block became wholly free: joins its partner (P303), and waits for free page reporting.
    fn whole(&mut self, block: usize, clean: bool) {
        let b = &self.blocks.blocks[block];
        if clean {
            b.set_clean(1);
        } else {
            self.zone.dirty.insert(block - self.zone.first_block);
            let n = &self.zone.nr_dirty;
            n.store(n.load(Relaxed) + 1, Relaxed);
        }
        self.join(block);
    }

    /// Makes a wholly free block and its partner one block of the largest order, if that may be.
    fn join(&mut self, block: usize) {
        let b = &self.blocks.blocks[block];
        let Some(partner) = self.partner(block) else {
            return;
        };
        let p = &self.blocks.blocks[partner];
        if p.class() != PAGEBLOCK_ORDER || p.free() != PAGEBLOCK_PAGES {
            return;
        }
        if p.kind() != b.kind() {
            if !fallback::is_mergeable(p.kind()) || !fallback::is_mergeable(b.kind()) {
                return;
            }
            self.retype(partner, b.kind());
        }
        let kind = b.kind();
        self.count(PAGEBLOCK_ORDER, kind, -2);
        self.count(CLASS_PAIR, kind, 1);
        self.reclass(block, CLASS_PAIR);
        self.reclass(partner, CLASS_PAIR);
    }

    /// Gives a block another mobility type and moves its free memory there. Returns the pages moved.
    /// The block must not be one of a pair: [`ZoneGuard::unpair`] first.
    pub(crate) fn retype(&mut self, block: usize, kind: MigrateType) -> usize {
        let b = &self.blocks.blocks[block];
        let (old, class) = (b.kind(), b.class());
        debug_assert!(class != CLASS_PAIR);
        if old == kind {
            return b.free();
        }
        self.count_runs(block, old, -1);
        self.account(old, -(b.free() as isize));
        self.reclass(block, CLASS_FULL);
        b.set_kind(kind);
        self.count_runs(block, kind, 1);
        self.account(kind, b.free() as isize);
        self.reclass(block, class);
        b.free()
    }

    /// Splits a pair into two blocks of the order of a pageblock.
    fn unpair(&mut self, block: usize) {
        let b = &self.blocks.blocks[block];
        if b.class() == CLASS_PAIR
            && let Some(partner) = self.partner(block)
        {
            self.count(CLASS_PAIR, b.kind(), -1);
            self.count(PAGEBLOCK_ORDER, b.kind(), 2);
            self.reclass(block, PAGEBLOCK_ORDER);
            self.reclass(partner, PAGEBLOCK_ORDER);
        }
    }

    /// Adds the free runs of a block to, or takes them from, the counts of a type.
    fn count_runs(&mut self, block: usize, kind: MigrateType, sign: isize) {
        for (order, n) in runs(&self.blocks.lines[block]).into_iter().enumerate() {
            if n != 0 {
                self.count(order as u8, kind, sign * n as isize);
            }
        }
    }

    /// Takes from the memory of another type (P314-P319): claims a whole pageblock where the rules
    /// allow it, else takes a single block and leaves the pageblock its type.
    pub(crate) fn take_fallback(
        &mut self,
        order: Order,
        kind: MigrateType,
        grouping: Grouping,
    ) -> Option<Taken> {
        for found in (order.get()..=Order::MAX.get()).rev() {
            if !fallback::should_try_claim(found.into(), kind, grouping) {
                continue;
            }
            for &from in fallback::fallbacks(kind) {
                let first = self.zone.index[from as usize][found as usize].first();
                let Some(member) = first else { continue };
                if self.claim(member + self.zone.first_block, found, kind, grouping) {
                    return self.take(order, kind);
                }
            }
        }
        (order.get()..=Order::MAX.get()).find_map(|found| {
            let first =
                |from: &MigrateType| self.zone.index[*from as usize][found as usize].first();
            let member = fallback::fallbacks(kind).iter().find_map(first)?;
            Some(self.take_from(member + self.zone.first_block, order))
        })
    }

    /// Retypes a block for `kind` if the rules say so (P318).
    fn claim(&mut self, block: usize, found: u8, kind: MigrateType, grouping: Grouping) -> bool {
        let b = &self.blocks.blocks[block];
        // Who uses the pages of a block is not known before reclaim tracks movable pages.
        let usage = || BlockUse {
            free: b.free(),
            movable: 0,
        };
        match fallback::claim(found.into(), kind, b.kind(), grouping, usage) {
            Claim::LeaveBlock => return false,
            Claim::RetypeBlock | Claim::WholeBlocks { count: 1 } => _ = self.retype(block, kind),
            Claim::WholeBlocks { .. } => {
                let partner = self.partner(block);
                self.unpair(block);
                self.retype(block, kind);
                if let Some(partner) = partner {
                    self.retype(partner, kind);
                }
                self.join(block);
            }
        }
        true
    }

    /// Takes one wholly free block that the operating system could have back, if more than `keep`
    /// such blocks wait. Highest address first: allocation prefers low addresses.
    pub(crate) fn take_reportable(&mut self, keep: usize) -> Option<Taken> {
        if self.zone.nr_dirty.load(Relaxed) <= keep {
            return None;
        }
        let block = self.zone.dirty.last()? + self.zone.first_block;
        self.unpair(block);
        Some(self.take_from(block, Order::PAGEBLOCK))
    }
}

/// The free runs of a pageblock that is not one of a pair, by order.
pub(crate) fn runs(line: &Line) -> [u16; NR_ORDERS] {
    let mut counts = [0u16; NR_ORDERS];
    let mut frame = 0;
    while frame < PAGEBLOCK_PAGES {
        if !line.is_free(frame) {
            frame += 1;
            continue;
        }
        let mut order = Order::ZERO;
        while order < Order::PAGEBLOCK
            && frame.is_multiple_of(2 * order.pages())
            && line.all_free(frame, next(order))
        {
            order = next(order);
        }
        counts[order.index()] += 1;
        frame += order.pages();
    }
    counts
}

/// The next larger order.
fn next(order: Order) -> Order {
    Order::new(order.get() + 1).unwrap_or(order)
}
