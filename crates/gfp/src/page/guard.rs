//! A locked shard: taking blocks out and putting them back.

use super::block::{CLASS_FULL, CLASS_PAIR, largest_block, runs};
use super::counts::Pending;
use super::descriptor::Content;
use super::reporting::Reported;
use super::shard::Shard;
use super::zone::{Blocks, Zone};
use crate::flags::MigrateType;
use crate::frame::{Order, PAGEBLOCK_ORDER, PAGEBLOCK_PAGES, Pfn};
use crate::policy::fallback;
use crate::sync::LockGuard;
use crate::sync::Rank;
use crate::sync::atomic::Ordering::Relaxed;

/// A zone with one of its shards locked: the only way to change the free memory there.
pub(crate) struct ZoneGuard<'z> {
    pub(crate) zone: &'z Zone,
    pub(crate) shard: &'z Shard,
    pub(super) blocks: &'z Blocks,
    /// What the zone's counts do not say yet.
    pending: Pending,
    /// Blocks that went in and out so far.
    #[cfg(test)]
    work: core::cell::Cell<u32>,
    _guard: LockGuard<'z, (), { Rank::Zone as u8 }>,
}

/// The zone's counts change once a hold, before the lock is let go.
impl Drop for ZoneGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        self.settle();
        self.zone.note_runs(self.shard);
        #[cfg(test)]
        self.shard.most_work.fetch_max(self.work.get(), Relaxed);
    }
}

/// Blocks that were taken out of the zone.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Taken {
    /// First frame of the first.
    pub(crate) pfn: Pfn,
    /// How many there are, one after the other; at least one.
    pub(crate) blocks: usize,
    /// Of all of them.
    pub(crate) content: Content,
}

impl<'z> ZoneGuard<'z> {
    pub(super) fn new(
        zone: &'z Zone,
        shard: &'z Shard,
        blocks: &'z Blocks,
        guard: LockGuard<'z, (), { Rank::Zone as u8 }>,
    ) -> ZoneGuard<'z> {
        ZoneGuard {
            zone,
            shard,
            blocks,
            pending: Pending::default(),
            #[cfg(test)]
            work: core::cell::Cell::new(0),
            _guard: guard,
        }
    }
}

impl ZoneGuard<'_> {
    /// Has the zone's counts say what was changed so far.
    #[inline]
    pub(super) fn settle(&self) {
        self.zone.counts.apply(&self.pending);
    }

    /// Blocks went in or out. Lock holds are short (P805): tests look at this.
    #[inline]
    pub(super) fn worked(&self, _blocks: usize) {
        #[cfg(test)]
        self.work.set(self.work.get() + _blocks as u32);
    }

    pub(super) fn count(&self, order: u8, kind: MigrateType, change: isize) {
        let n = &self.shard.nr_free[order as usize][kind as usize];
        n.store(n.load(Relaxed).wrapping_add(change as u32), Relaxed);
    }

    /// Adds to, or takes from, the zone's page counts.
    #[inline]
    pub(super) fn account(&self, kind: MigrateType, pages: isize) {
        self.pending.pages(kind, pages);
    }

    /// Moves a block to the index of another class.
    pub(super) fn reclass(&self, block: usize, class: u8) {
        let b = &self.blocks.blocks[block];
        let old = b.class();
        if old == class {
            return;
        }
        b.set_class(class);
        let (member, kind) = (block - self.shard.first_block, b.kind());
        // Of a pair, the lower block stands in the index for both.
        let stands = |class| class != CLASS_FULL && (class != CLASS_PAIR || block & 1 == 0);
        if stands(old)
            && let Some(index) = self.shard.index(kind, old)
            && index.remove(member)
        {
            self.shard.note_none(kind, old);
        }
        if stands(class)
            && let Some(index) = self.shard.index(kind, class)
            && index.insert(member)
        {
            self.shard.note_some(kind, class);
        }
    }

    /// The other block of the pair that a block is in. The first block starts a pair: boot aligns
    /// the frame table to the largest order.
    pub(super) fn partner(&self, block: usize) -> Option<usize> {
        debug_assert!(self.blocks.first & 1 == 0);
        let partner = block ^ 1;
        let b = self.blocks.blocks.get(partner)?;
        (b.zone() == self.zone.id).then_some(partner)
    }

    /// Notes that a block is not wholly free any more.
    #[inline(always)]
    pub(super) fn used(&self, block: usize) {
        let b = &self.blocks.blocks[block];
        if b.is_clean() {
            b.set_clean(0);
        } else if !b.is_isolated() {
            // What is wholly free and not clean waits, unless it is isolated.
            self.note_not_dirty(block);
        }
    }

    /// Adds memory that nobody has used yet, at boot or plugged in: its blocks are the shard's, and
    /// none of its frames is free. `clean` as in [`ZoneGuard::put_as`].
    pub(crate) fn add(&mut self, start: Pfn, end: Pfn, clean: bool, content: Content) {
        let mut at = start;
        let pages = end.0.saturating_sub(start.0);
        // Counted first, so that no view sees more free than managed pages; and hidden meanwhile,
        // so that what is not free yet does not count as used.
        let blocks = pages.div_ceil(PAGEBLOCK_PAGES) as isize;
        self.hide(blocks);
        self.settle();
        self.zone.counts.enlarge(pages);
        while at < end {
            let order = largest_block(at, end);
            self.set_content(at, order, content);
            let put = self.put_as(at, order, clean);
            debug_assert!(put, "new memory was free already");
            at = at.add(order.pages());
        }
        self.hide(-blocks);
    }

    /// Gives a block back. False, and nothing changed, if a frame of it is free already.
    #[inline]
    pub(crate) fn put(&mut self, pfn: Pfn, order: Order) -> bool {
        if order == Order::MAX {
            return self.put_largest(pfn, false);
        }
        self.put_one(pfn, order)
    }

    #[inline(never)]
    fn put_one(&mut self, pfn: Pfn, order: Order) -> bool {
        self.put_within(pfn, order)
    }

    /// [`ZoneGuard::put`] of what lies in one pageblock.
    #[inline(always)]
    pub(super) fn put_within(&mut self, pfn: Pfn, order: Order) -> bool {
        let Some(block) = self.blocks.of(pfn) else {
            return false;
        };
        let place = self.blocks.blocks[block].place();
        if place.knows_zero() {
            self.forget_zero(block, pfn.0 % PAGEBLOCK_PAGES + order.pages());
        }
        self.put_in(block, place.kind(), pfn, order, false)
    }

    /// As [`ZoneGuard::put`]; `clean` memory is known to be with the operating system already, and
    /// what is known of its content stays known.
    pub(crate) fn put_as(&mut self, pfn: Pfn, order: Order, clean: bool) -> bool {
        debug_assert!(pfn.is_aligned(order));
        if order == Order::MAX {
            return self.put_largest(pfn, clean);
        }
        let Some(block) = self.blocks.of(pfn) else {
            return false;
        };
        let kind = self.blocks.blocks[block].kind();
        self.put_in(block, kind, pfn, order, clean)
    }

    /// [`ZoneGuard::put_as`] in a pageblock of a type.
    #[inline(always)]
    fn put_in(
        &mut self,
        block: usize,
        kind: MigrateType,
        pfn: Pfn,
        order: Order,
        clean: bool,
    ) -> bool {
        let Some(o) = self.blocks.lines[block].set_merged(pfn.0 % PAGEBLOCK_PAGES, order) else {
            return false;
        };
        self.worked(1);
        let b = &self.blocks.blocks[block];
        b.add_free(order.pages() as isize);
        self.account(kind, order.pages() as isize);
        // Each step one order up (P301, P302).
        for o in order.get()..o {
            self.count(o, kind, -1);
        }
        self.count(o, kind, 1);
        if o == PAGEBLOCK_ORDER {
            self.whole(block, clean);
        } else if b.is_class_below(o) {
            self.reclass(block, o);
        }
        true
    }

    /// [`ZoneGuard::put_as`] of the largest order: of two pageblocks.
    fn put_largest(&mut self, pfn: Pfn, clean: bool) -> bool {
        let Some(lower) = self.blocks.of(pfn) else {
            return false;
        };
        // Boot aligns the tables to the largest order: both are there.
        let (b, half) = (&self.blocks.blocks[lower], &self.blocks.blocks[lower + 1]);
        if b.free() != 0 || half.free() != 0 {
            return false;
        }
        let (place, other) = (b.place(), half.place());
        if (place.knows_zero() || other.knows_zero()) && !clean && !self.zone.clears_freed {
            b.set_content(Content::Any);
            half.set_content(Content::Any);
        }
        // Isolated blocks stay apart, also from each other: beneath they may differ.
        if place.kind() == other.kind() && place.kind() != MigrateType::Isolate {
            return self.put_pair(lower, clean);
        }
        self.put_as(pfn, Order::PAGEBLOCK, clean)
            && self.put_as(pfn.add(PAGEBLOCK_PAGES), Order::PAGEBLOCK, clean)
    }

    /// Gives two blocks of one type back, of which no frame is free, as one of the largest order.
    fn put_pair(&mut self, lower: usize, clean: bool) -> bool {
        let kind = self.blocks.blocks[lower].kind();
        self.worked(1);
        for block in [lower, lower + 1] {
            let b = &self.blocks.blocks[block];
            debug_assert!(b.class() == CLASS_FULL && b.zone() == self.zone.id);
            self.blocks.lines[block].set_all();
            b.add_free(PAGEBLOCK_PAGES as isize);
            self.unused(block, clean);
        }
        self.reclass(lower, CLASS_PAIR);
        // The upper one stands in no index.
        self.blocks.blocks[lower + 1].set_class(CLASS_PAIR);
        self.count(CLASS_PAIR, kind, 1);
        self.account(kind, Order::MAX.pages() as isize);
        true
    }

    /// A block became wholly free, which its counts say already: joins its partner (P303), and
    /// waits for free page reporting. If it is isolated, at the end of that.
    pub(super) fn whole(&mut self, block: usize, clean: bool) {
        let b = &self.blocks.blocks[block];
        if b.is_isolated() {
            self.reclass(block, PAGEBLOCK_ORDER);
            return b.set_clean(clean.into());
        }
        self.unused(block, clean);
        if !self.join(block) {
            self.reclass(block, PAGEBLOCK_ORDER);
        }
    }

    /// Notes that a block is wholly free.
    #[inline(always)]
    fn unused(&self, block: usize, clean: bool) {
        match clean {
            true => self.blocks.blocks[block].set_clean(1),
            false => self.note_dirty(block),
        }
    }

    /// A block waits for free page reporting from now on.
    #[inline(always)]
    pub(super) fn note_dirty(&self, block: usize) {
        self.shard.dirty().insert(block - self.shard.first_block);
        self.pending.dirty(1);
    }

    /// A block that waits for free page reporting does so no more.
    #[inline(always)]
    pub(super) fn note_not_dirty(&self, block: usize) {
        let (dirty, member) = (self.shard.dirty(), block - self.shard.first_block);
        debug_assert!(dirty.contains(member));
        dirty.remove(member);
        self.pending.dirty(-1);
    }

    /// Makes a wholly free block and its partner one block of the largest order, if that may be;
    /// whether it was.
    pub(super) fn join(&mut self, block: usize) -> bool {
        let b = &self.blocks.blocks[block];
        let Some(partner) = self.partner(block) else {
            return false;
        };
        let p = &self.blocks.blocks[partner];
        if p.class() != PAGEBLOCK_ORDER {
            return false;
        }
        let kind = b.kind();
        if p.kind() != kind {
            if !fallback::is_mergeable(p.kind()) || !fallback::is_mergeable(kind) {
                return false;
            }
            self.retype(partner, kind);
        }
        self.count(PAGEBLOCK_ORDER, kind, -2);
        self.count(CLASS_PAIR, kind, 1);
        self.reclass(block, CLASS_PAIR);
        self.reclass(partner, CLASS_PAIR);
        true
    }

    /// Gives a block another mobility type and moves its free memory there. Returns the pages
    /// moved. The block must not be one of a pair: [`ZoneGuard::unpair`] first.
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
        self.shard.note_type(b.kind_beneath(), kind);
        b.set_kind(kind);
        self.count_runs(block, kind, 1);
        self.account(kind, b.free() as isize);
        self.reclass(block, class);
        b.free()
    }

    /// Splits a pair into two blocks of the order of a pageblock.
    pub(super) fn unpair(&mut self, block: usize) {
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
    pub(super) fn count_runs(&mut self, block: usize, kind: MigrateType, sign: isize) {
        for (order, n) in runs(&self.blocks.lines[block]).into_iter().enumerate() {
            if n != 0 {
                self.count(order as u8, kind, sign * n as isize);
            }
        }
    }

    /// Takes one wholly free block that the operating system could have back, if more than `keep`
    /// such blocks of the zone wait. Highest address first: most allocations prefer low ones. The
    /// block is hidden until [`ZoneGuard::put_reported`].
    pub(crate) fn take_reportable(&mut self, keep: usize) -> Option<Taken> {
        if self.zone.nr_dirty() <= keep {
            return None;
        }
        let block = self.shard.dirty().last()? + self.shard.first_block;
        self.unpair(block);
        self.hide(1);
        Some(self.take_from(block, Order::PAGEBLOCK, 1))
    }

    /// Gives back a pageblock that was taken to be reported, after that.
    pub(crate) fn put_reported(&mut self, pfn: Pfn, content: Content, outcome: Reported) {
        if let Some(block) = self.blocks.of(pfn) {
            self.blocks.blocks[block].set_content(content);
        }
        let put = self.put_as(pfn, Order::PAGEBLOCK, outcome == Reported::Taken);
        debug_assert!(put, "nobody else can have freed it");
        self.hide(-1);
    }

    /// Pageblocks are hidden from now on, or, if less than 0, no more: those are there by now.
    pub(super) fn hide(&self, blocks: isize) {
        if blocks < 0 {
            // Before the count says so: who sees nothing hidden any more sees what the shard has.
            self.zone.note_runs(self.shard);
        }
        self.pending.hidden(blocks);
    }
}
