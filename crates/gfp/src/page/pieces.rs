//! Blocks out of a shard: one, or those that follow it, or many under one hold of its lock, as if
//! one after the other was taken, but all runs of a pageblock that are smaller than a word in one
//! pass.

use super::block::{CLASS_FULL, CLASS_PAIR, WORD_ORDER};
use super::claim::Want;
use super::descriptor::Content;
use super::guard::{Taken, ZoneGuard};
use super::sums::RunSum;
use crate::flags::MigrateType;
use crate::frame::{Order, PAGEBLOCK_ORDER, PAGEBLOCK_PAGES};

impl ZoneGuard<'_> {
    /// Takes a block of `order` from the free memory of `kind`, the smallest run that fits, at the
    /// type's end of the shard (P825); and up to `wanted - 1` blocks that follow it and that fit
    /// as well.
    pub(crate) fn take(&mut self, order: Order, kind: MigrateType, wanted: usize) -> Option<Taken> {
        let block = self.shard.best(kind, order.get())?;
        Some(match order >= Order::PAGEBLOCK {
            true => self.take_whole(block, order),
            false => self.take_from(block, order, wanted),
        })
    }

    /// Takes up to `wanted` blocks of `order` that follow each other from a pageblock that has such
    /// a run: of the smallest that fits and, if all that is free there lies at its end, of those
    /// behind it, which grow.
    pub(super) fn take_from(&mut self, block: usize, order: Order, wanted: usize) -> Taken {
        if order >= Order::PAGEBLOCK {
            return self.take_whole(block, order);
        }
        let b = &self.blocks.blocks[block];
        let place = b.place();
        let kind = place.kind();
        let line = &self.blocks.lines[block];
        if b.class() == CLASS_PAIR {
            self.count(CLASS_PAIR, kind, -1);
            self.count(PAGEBLOCK_ORDER, kind, 2);
            self.reclass(self.partner(block).unwrap_or(block), PAGEBLOCK_ORDER);
        }
        // Frames of which the runs are the bits of how many they are, the smallest first.
        let free = b.free();
        let tail = match order.get() < WORD_ORDER {
            true => line.first_of_tail(free),
            false => None, // those are taken one by one
        };
        let (start, end) = match tail {
            Some(first) => (first.next_multiple_of(order.pages()), PAGEBLOCK_PAGES),
            None => {
                let run = line.best_run(order);
                debug_assert!(run.is_some(), "the index says that there is one");
                let start = run.map_or(0, |run| run.start);
                let order = run.map_or(order.get(), |run| run.order);
                (start, start + (1 << order))
            }
        };
        let blocks = wanted.min((end - start) >> order.get()).max(1);
        let pages = blocks << order.get();
        line.clear(start, pages);
        self.worked(blocks);
        let (before, after) = (end - start, end - start - pages);
        let mut changed = before ^ after;
        while changed != 0 {
            let o = changed.trailing_zeros();
            changed &= changed - 1;
            let change = if before >> o & 1 != 0 { -1 } else { 1 };
            self.count(o as u8, kind, change);
        }
        b.add_free(-(pages as isize));
        self.account(kind, -(pages as isize));
        let largest = |pages: usize| (pages | 1).ilog2() as u8;
        let class = b.class().min(PAGEBLOCK_ORDER); // of a pair that is no more, it is not yet said
        if largest(before) == class && (after == 0 || largest(after) != class) {
            let left = match tail {
                Some(_) if after != 0 => Some(largest(after)),
                _ if free == pages => None,
                _ => line.largest(),
            };
            self.reclass(block, left.unwrap_or(CLASS_FULL));
        }
        if before == PAGEBLOCK_PAGES {
            self.used(block);
        }
        Taken {
            pfn: self.blocks.pfn(block).add(start),
            blocks,
            content: place.content_from(start),
        }
    }

    /// [`ZoneGuard::take_from`] of one block of whole pageblocks.
    #[inline(never)]
    fn take_whole(&mut self, block: usize, order: Order) -> Taken {
        let b = &self.blocks.blocks[block];
        let place = b.place();
        let (kind, mut content) = (place.kind(), place.content_from(0));
        let (mut lower, mut end) = (block, block + 1);
        if b.class() == CLASS_PAIR {
            let partner = self.partner(block).unwrap_or(block);
            debug_assert!(partner != block);
            self.count(CLASS_PAIR, kind, -1);
            if order == Order::MAX {
                if self.blocks.blocks[partner].place().content_from(0) == Content::Any {
                    content = Content::Any;
                }
                (lower, end) = (block & !1, (block & !1) + 2);
            } else {
                self.count(PAGEBLOCK_ORDER, kind, 1);
                self.reclass(partner, PAGEBLOCK_ORDER);
            }
        } else {
            debug_assert!(order == Order::PAGEBLOCK);
            self.count(PAGEBLOCK_ORDER, kind, -1);
        }
        self.reclass(lower, CLASS_FULL);
        for block in lower..end {
            // The upper one of a pair stands in no index.
            self.blocks.blocks[block].set_class(CLASS_FULL);
            self.blocks.lines[block].clear_all();
            self.blocks.blocks[block].add_free(-(PAGEBLOCK_PAGES as isize));
            self.used(block);
        }
        self.account(kind, -(order.pages() as isize));
        self.worked(1);
        Taken {
            pfn: self.blocks.pfn(lower),
            blocks: 1,
            content,
        }
    }

    /// Takes what is wanted beside what was taken, as far as the shard has it: before one of its
    /// last whole blocks is broken, others are asked for pieces. Shows all of it, the first
    /// first, to `each`. Returns how many blocks there are.
    #[inline(always)]
    pub(super) fn take_batch(
        &mut self,
        want: &Want,
        first: Taken,
        mut each: impl FnMut(Taken),
    ) -> usize {
        let mut got = first.blocks;
        each(first);
        let several = self.zone.shards().len() > 1;
        while got < want.blocks && (!several || self.shard.serves(want.order, want.kind)) {
            match self.take_some(want.order, want.kind, want.blocks - got, &mut each) {
                0 => break,
                some => got += some,
            }
        }
        got
    }

    /// As [`ZoneGuard::take`], of the same blocks as if it were called again and again, `wanted` at
    /// most: shows some of them to `each`. Returns how many; 0: there are none.
    #[inline(always)]
    fn take_some(
        &mut self,
        order: Order,
        kind: MigrateType,
        wanted: usize,
        each: &mut impl FnMut(Taken),
    ) -> usize {
        let Some(block) = self.shard.best(kind, order.get()) else {
            return 0;
        };
        let (b, line) = (&self.blocks.blocks[block], &self.blocks.lines[block]);
        if order.get() < WORD_ORDER && line.first_of_tail(b.free()).is_none() {
            let got = self.take_pieces(block, order, wanted, each);
            if got != 0 {
                return got;
            }
        }
        let taken = self.take_from(block, order, wanted);
        each(taken);
        taken.blocks
    }

    /// [`ZoneGuard::take_some`] of runs that are smaller than a word.
    #[inline(never)]
    fn take_pieces(
        &mut self,
        block: usize,
        order: Order,
        wanted: usize,
        each: &mut impl FnMut(Taken),
    ) -> usize {
        let (b, line) = (&self.blocks.blocks[block], &self.blocks.lines[block]);
        let (place, first, bits) = (b.place(), self.blocks.pfn(block), line.bits());
        let (mut got, mut sum) = (0, RunSum::new(place.kind()));
        bits.each_piece(order, |run| {
            let blocks = (1 << (run.order - order.get())).min(wanted - got);
            let pages = blocks << order.get();
            line.clear(run.start, pages);
            sum.runs += RunSum::of_aligned((1 << run.order) - pages);
            sum.runs -= RunSum::one(run.order.into());
            sum.pages -= pages as isize;
            got += blocks;
            each(Taken {
                pfn: first.add(run.start),
                blocks,
                content: place.content_from(run.start),
            });
            got < wanted
        });
        if got != 0 {
            self.worked(got);
            b.add_free(sum.pages);
            self.count_sum(&sum);
            // Runs of a word or more are all there.
            if b.is_class_below(WORD_ORDER) {
                let class = line.largest().unwrap_or(CLASS_FULL);
                self.reclass(block, class);
            }
        }
        got
    }
}
