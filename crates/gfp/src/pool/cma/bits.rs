//! Which parts of an area are given out: a bit for each 2^order_per_bit pages.

use crate::sync::Carved;
use crate::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed},
};

/// The bitmap of an area. Bits are set by who has the area's lock, and cleared by anybody.
pub(super) struct Bits {
    words: Carved<AtomicU64>,
    len: usize,
}

impl Bits {
    /// Words for so many bits.
    pub(super) const fn words_for(bits: usize) -> usize {
        bits.div_ceil(64)
    }

    /// All bits clear, over words that read as zero.
    pub(super) fn new(words: Carved<AtomicU64>, len: usize) -> Bits {
        debug_assert!(words.len() == Bits::words_for(len));
        Bits { words, len }
    }

    fn is_set(&self, bit: usize) -> bool {
        // Acquire: pairs with the exchange in `change`: who finds a bit clear finds the pages free.
        self.words[bit / 64].load(Acquire) >> (bit % 64) & 1 != 0
    }

    /// The first run of `count` clear bits from `from` on whose start plus `offset` is a multiple
    /// of `align`, a power of two.
    pub(super) fn find(
        &self,
        from: usize,
        count: usize,
        align: usize,
        offset: usize,
    ) -> Option<usize> {
        let aligned = |bit: usize| (bit + offset).next_multiple_of(align) - offset;
        let mut start = aligned(from);
        loop {
            let end = start.checked_add(count).filter(|end| *end <= self.len)?;
            match (start..end).rev().find(|bit| self.is_set(*bit)) {
                None => return Some(start),
                Some(set) => start = aligned(set + 1),
            }
        }
    }

    /// True if all bits of a run are set.
    pub(super) fn are_set(&self, start: usize, count: usize) -> bool {
        (start..start + count).all(|bit| self.is_set(bit))
    }

    /// Bits that are set.
    pub(super) fn count(&self) -> usize {
        let ones = |word: &AtomicU64| word.load(Relaxed).count_ones() as usize;
        self.words.iter().map(ones).sum()
    }

    /// Sets a run that is clear.
    pub(super) fn set(&self, start: usize, count: usize) {
        self.each(start, count, |word, mask| {
            let old = word.fetch_or(mask, AcqRel);
            debug_assert!(old & mask == 0);
        });
    }

    /// Clears a run that is set. Release, in AcqRel: pairs with the Acquire in `is_set`.
    pub(super) fn clear(&self, start: usize, count: usize) {
        self.each(start, count, |word, mask| {
            let old = word.fetch_and(!mask, AcqRel);
            debug_assert!(old & mask == mask);
        });
    }

    fn each(&self, start: usize, count: usize, change: impl Fn(&AtomicU64, u64)) {
        let (mut at, end) = (start, start + count);
        while at < end {
            let here = (64 - at % 64).min(end - at);
            change(&self.words[at / 64], (u64::MAX >> (64 - here)) << (at % 64));
            at += here;
        }
    }
}
