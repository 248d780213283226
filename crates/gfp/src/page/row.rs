//! Many blocks of one order that go back to a shard under one hold of its lock.
//!
//! Blocks that follow each other, in either direction, are one [`Row`], and go back together: what
//! is freed in the order in which it was allocated costs a few steps a row. The part of a row that
//! is in one pageblock is set in a few words, and makes one stretch of free frames with those
//! around it ([`sums`](super::sums)).

use super::block::largest_block;
use super::descriptor::Place;
use super::guard::ZoneGuard;
use super::sums::{RunSum, largest};
use crate::flags::MigrateType;
use crate::frame::{Order, PAGEBLOCK_ORDER, PAGEBLOCK_PAGES, Pfn};

/// Blocks of one order that follow each other, from a frame up to another.
struct Row {
    first: Pfn,
    end: Pfn,
}

impl Row {
    /// No block, and no block lies at its ends.
    const EMPTY: Row = Row {
        first: Pfn(usize::MAX),
        end: Pfn(usize::MAX),
    };

    #[inline(always)]
    fn new(pfn: Pfn, order: Order) -> Row {
        Row {
            first: pfn,
            end: pfn.add(order.pages()),
        }
    }

    /// Adds a block at an end, if that is where it lies.
    #[inline(always)]
    fn extend(&mut self, pfn: Pfn, order: Order) -> bool {
        if pfn == self.end {
            self.end = pfn.add(order.pages());
            return true;
        }
        let before = pfn.add(order.pages()) == self.first;
        if before {
            self.first = pfn;
        }
        before
    }
}

/// Blocks of one order that go back to a shard whose lock is held,
/// [`HOLD_MOST`](super::free::HOLD_MOST) at most.
pub(super) struct Return<'g, 'z> {
    guard: &'g mut ZoneGuard<'z>,
    order: Order,
    row: Row,
    sum: RunSum,
    twice: Option<Pfn>,
}

impl<'g, 'z> Return<'g, 'z> {
    #[inline(always)]
    pub(super) fn new(guard: &'g mut ZoneGuard<'z>, order: Order) -> Return<'g, 'z> {
        Return {
            guard,
            order,
            row: Row::EMPTY,
            sum: RunSum::new(MigrateType::Movable),
            twice: None,
        }
    }

    /// Gives a block back, now or with the next.
    #[inline(always)]
    pub(super) fn add(&mut self, pfn: Pfn) {
        if !self.row.extend(pfn, self.order) {
            self.put_row();
            self.row = Row::new(pfn, self.order);
        }
    }

    /// The last one was added. Returns one of which a frame was free already; it stays as it is.
    #[inline(always)]
    pub(super) fn finish(mut self) -> Option<Pfn> {
        self.put_row();
        if self.sum.pages != 0 {
            self.write();
        }
        self.twice
    }

    #[inline(always)]
    fn put_row(&mut self) {
        match self.row.end.0 - self.row.first.0 {
            0 => (),
            _ if self.order >= Order::PAGEBLOCK => self.put_large(),
            pages if pages == self.order.pages() => {
                if !self.put(self.row.first) {
                    self.twice = Some(self.row.first);
                }
            }
            _ => self.put_several(),
        }
    }

    #[inline(never)]
    fn put_several(&mut self) {
        let (mut at, end) = (self.row.first, self.row.end);
        while at < end {
            let next = Pfn((at.0 / PAGEBLOCK_PAGES + 1) * PAGEBLOCK_PAGES).min(end);
            match self.put_part(at, next.0 - at.0) {
                true => self.guard.worked((next.0 - at.0) >> self.order.get()),
                false => self.put_apart(at, next),
            }
            at = next;
        }
    }

    /// [`Return::put_row`] of whole pageblocks, as the largest blocks that they make.
    #[inline(never)]
    fn put_large(&mut self) {
        let (mut at, end) = (self.row.first, self.row.end);
        while at < end {
            let whole = largest_block(at, end);
            let next = at.add(whole.pages());
            match self.guard.put(at, whole) {
                true => self
                    .guard
                    .worked((1 << (whole.get() - self.order.get())) - 1),
                false => self.put_apart(at, next),
            }
            at = next;
        }
    }

    /// Gives frames of one pageblock back; false, and nothing done, if one of them is free already.
    fn put_part(&mut self, first: Pfn, pages: usize) -> bool {
        let Some(block) = self.guard.blocks.of(first) else {
            return false;
        };
        let start = first.0 % PAGEBLOCK_PAGES;
        let frames = start..start + pages;
        self.open(block, frames.end);
        let Some(whole) = self.guard.blocks.lines[block].set(frames.clone()) else {
            return false;
        };
        self.sum.join(frames, &whole);
        let (b, largest) = (&self.guard.blocks.blocks[block], largest(&whole));
        if b.add_free_below(pages, largest) {
            self.rise(block, largest);
        }
        true
    }

    /// One by one, where a frame is free already.
    #[cold]
    #[inline(never)]
    fn put_apart(&mut self, first: Pfn, end: Pfn) {
        self.write(); // the counts change at once
        for at in (first.0..end.0).step_by(self.order.pages()) {
            let pfn = Pfn(at);
            if !self.guard.put(pfn, self.order) {
                self.twice = Some(pfn);
            }
        }
    }

    /// Gives a block back that lies in one pageblock; false, and nothing changed, if a frame of it
    /// is free already.
    #[inline(always)]
    fn put(&mut self, pfn: Pfn) -> bool {
        let Some(block) = self.guard.blocks.of(pfn) else {
            return false;
        };
        let (start, order) = (pfn.0 % PAGEBLOCK_PAGES, self.order);
        self.open(block, start + order.pages());
        let Some(merged) = self.guard.blocks.lines[block].set_merged(start, order) else {
            return false;
        };
        self.guard.worked(1);
        let b = &self.guard.blocks.blocks[block];
        self.sum.add(order, merged);
        if b.add_free_below(order.pages(), merged) {
            self.rise(block, merged);
        }
        true
    }

    /// Frames of a pageblock that end at `end` are about to come free. No harm is done if they are
    /// so already.
    #[inline(always)]
    fn open(&mut self, block: usize, end: usize) {
        let place = self.guard.blocks.blocks[block].place();
        if place.plain() != self.sum.plain {
            self.open_other(block, end, place);
        }
    }

    /// [`Return::open`] of a pageblock of another type, or of which something is known.
    #[inline(never)]
    fn open_other(&mut self, block: usize, end: usize, place: Place) {
        if place.knows_zero() {
            self.guard.forget_zero(block, end);
        }
        let kind = place.kind();
        if kind != self.sum.kind {
            if self.sum.pages != 0 {
                self.write();
            }
            self.sum.kind = kind;
            self.sum.plain = Place::plain_of(kind);
        }
    }

    /// A block has a larger free run than before.
    #[inline(never)]
    fn rise(&mut self, block: usize, order: u8) {
        if order < PAGEBLOCK_ORDER {
            return self.guard.reclass(block, order);
        }
        self.guard.count(order, self.sum.kind, 1);
        self.guard.whole(block, false);
    }

    /// Has the counts say what was put so far.
    #[inline(never)]
    fn write(&mut self) {
        self.guard.count_sum(&self.sum);
        (self.sum.runs, self.sum.pages) = (0, 0);
    }
}
