//! What blocks that go in or out change in a shard's counts of free runs, summed up.
//!
//! 1. The counts are written once a batch: who reads them without the lock sees what was true
//!    before. Of each order below that of a pageblock the change takes some bits of one word.
//! 2. A *stretch* is what is free of a pageblock from one frame that is taken up to the next, or to
//!    an end. No run has frames of two stretches. Its runs grow towards the frame in it that is at
//!    a multiple of the largest power of two, and shrink from there: on each side they are the bits
//!    of how many frames are there.

use super::descriptor::Place;
use super::free::HOLD_MOST;
use super::guard::ZoneGuard;
use crate::flags::MigrateType;
use crate::frame::{Order, PAGEBLOCK_ORDER};
use core::ops::Range;

/// By how much the free runs of one type change: 7 bits for each order below that of a pageblock,
/// signed.
pub(super) struct RunSum {
    pub(super) kind: MigrateType,
    /// The bits of [`Place::plain`] of such pageblocks, of which nothing is known to be zero.
    pub(super) plain: u16,
    pub(super) runs: i64,
    pub(super) pages: isize,
}

const _: () = assert!(HOLD_MOST < 64, "no change needs more than 7 bits");
const _: () = assert!(7 * (PAGEBLOCK_ORDER as u32) < i64::BITS);

impl RunSum {
    /// One run of an order.
    pub(super) const fn one(order: u32) -> i64 {
        match order < PAGEBLOCK_ORDER as u32 {
            true => 1 << (7 * order),
            false => 0, // those are counted at once
        }
    }

    /// One run of each order below this one.
    const fn below(order: u32) -> i64 {
        let (mut sum, mut o) = (0, 0);
        while o < order {
            sum += RunSum::one(o);
            o += 1;
        }
        sum
    }

    /// [`RunSum::below`] each order.
    const BELOW: [i64; 16] = {
        let mut below = [0; 16];
        let mut order = 0;
        while order < 16 {
            below[order] = RunSum::below(order as u32);
            order += 1;
        }
        below
    };

    /// What comes with a run of each order, and is part of it from now on: one of each below.
    const GROWN: [i64; 16] = {
        let mut grown = [0; 16];
        let mut order = 0;
        while order < 16 {
            grown[order] = RunSum::one(order as u32) - RunSum::below(order as u32);
            order += 1;
        }
        grown
    };

    /// No change yet.
    pub(super) fn new(kind: MigrateType) -> RunSum {
        RunSum {
            kind,
            plain: Place::plain_of(kind),
            runs: 0,
            pages: 0,
        }
    }

    /// A block came free, and became one with its buddies up to an order (P301, P302).
    #[inline(always)]
    pub(super) fn add(&mut self, order: Order, merged: u8) {
        // Each step up takes a run of the order below away.
        self.runs += RunSum::GROWN[usize::from(merged & 15)] + RunSum::BELOW[order.index() & 15];
        self.pages += order.pages() as isize;
    }

    /// The runs of so many frames on one side of the middle of a stretch: the bits of their number.
    #[inline(always)]
    pub(super) fn of_aligned(frames: usize) -> i64 {
        /// By the lower and by the higher 5 bits.
        const RUNS: [[i64; 32]; 2] = {
            let mut runs = [[0; 32]; 2];
            let mut i = 0;
            while i < 32 * 5 {
                let (n, order) = (i / 5, i % 5);
                if n >> order & 1 != 0 {
                    runs[0][n] += RunSum::one(order as u32);
                    runs[1][n] += RunSum::one(order as u32 + 5);
                }
                i += 1;
            }
            runs
        };
        RUNS[0][frames & 31] + RUNS[1][frames >> 5 & 31]
    }

    /// The runs of a stretch of free frames, taken ones at its ends.
    #[inline(always)]
    pub(super) fn of(stretch: &Range<usize>) -> i64 {
        if stretch.is_empty() {
            return 0;
        }
        let middle = middle(stretch);
        RunSum::of_aligned(middle - stretch.start) + RunSum::of_aligned(stretch.end - middle)
    }

    /// Frames came free between two stretches of free ones; all of them are one now.
    #[inline(always)]
    pub(super) fn join(&mut self, frames: Range<usize>, whole: &Range<usize>) {
        let before = RunSum::of(&(whole.start..frames.start));
        let behind = RunSum::of(&(frames.end..whole.end));
        self.runs += RunSum::of(whole) - before - behind;
        self.pages += frames.len() as isize;
    }
}

/// The frame of a stretch, or the one after its last, that is at a multiple of the largest power of
/// two: runs grow towards it.
#[inline(always)]
fn middle(stretch: &Range<usize>) -> usize {
    let Range { start, end } = *stretch;
    match start == end {
        true => end,
        false => end >> (start ^ end).ilog2() << (start ^ end).ilog2(),
    }
}

/// The order of the largest run of a stretch that is not empty.
#[inline(always)]
pub(super) fn largest(stretch: &Range<usize>) -> u8 {
    let middle = middle(stretch);
    let half = (middle - stretch.start).max(stretch.end - middle);
    half.ilog2() as u8
}

impl ZoneGuard<'_> {
    /// Has the counts say what is summed up.
    pub(super) fn count_sum(&mut self, sum: &RunSum) {
        let (mut left, mut order) = (sum.runs, 0);
        while left != 0 {
            let runs = (left << 57) >> 57; // the lowest 7 bits, and their sign
            if runs != 0 {
                self.count(order, sum.kind, runs as isize);
            }
            left = (left - runs) >> 7;
            order += 1;
        }
        self.account(sum.kind, sum.pages);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::PAGEBLOCK_PAGES;

    /// The free runs of a stretch as the buddy rule says: the largest that fit, from its start on.
    fn naive(stretch: &Range<usize>) -> (i64, u8) {
        let (mut at, mut runs, mut most) = (stretch.start, 0, 0);
        while at < stretch.end {
            let fits = |o: &u32| at.is_multiple_of(1 << o) && at + (1 << o) <= stretch.end;
            let order = (0..=u32::from(PAGEBLOCK_ORDER)).rev().find(fits).unwrap();
            runs += RunSum::one(order);
            most = most.max(order as u8);
            at += 1 << order;
        }
        (runs, most)
    }

    #[test]
    fn the_runs_of_a_stretch_are_the_bits_of_its_two_sides() {
        // P301, P302
        for start in 0..PAGEBLOCK_PAGES {
            assert_eq!(RunSum::of(&(start..start)), 0);
            for end in start + 1..=PAGEBLOCK_PAGES {
                let stretch = start..end;
                let found = (RunSum::of(&stretch), largest(&stretch));
                assert_eq!(found, naive(&stretch), "{stretch:?}");
            }
        }
    }

    #[test]
    fn a_block_that_merges_counts_as_the_row_that_it_is() {
        // P301, P302
        for (order, merged) in (0..=9).flat_map(|to| (0..=to).map(move |from| (from, to))) {
            let order = Order::new(order).unwrap();
            let new = || RunSum::new(MigrateType::Movable);
            let (mut one, mut row) = (new(), new());
            one.add(order, merged);
            let frames = (1 << merged) - order.pages()..1 << merged;
            row.join(frames, &(0..1 << merged));
            assert_eq!((one.runs, one.pages), (row.runs, row.pages));
        }
    }
}
