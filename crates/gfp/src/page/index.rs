//! A set of block numbers as a 64-ary bitmap: insert, remove, lowest and highest member in
//! O(levels).
//!
//! Level 0 has one bit a block; each level above has one bit a word of the level below. 64^4 blocks
//! of 2 MiB are 32 TiB, so four levels do for any machine.

use crate::sync::Carved;
use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Levels at most.
const LEVELS: usize = 4;

/// Sets of block numbers `0..blocks`, side by side, changed under their shard's lock.
pub(crate) struct IndexSets {
    words: Carved<AtomicU64>,
    /// Where each level of a set starts in its words; levels above `top` are not used.
    start: [u32; LEVELS],
    /// Words of a set.
    each: u32,
    top: u8,
}

impl IndexSets {
    /// Words needed for so many sets.
    pub(crate) const fn words_for(sets: usize, blocks: usize) -> usize {
        sets * words_for(blocks)
    }

    /// Empty sets over `words`, which must be as many as are needed, and zero.
    pub(crate) fn new(words: Carved<AtomicU64>, sets: usize, blocks: usize) -> IndexSets {
        let each = words_for(blocks);
        assert!(words.len() == sets * each);
        let mut start = [0; LEVELS];
        let mut top = 0;
        let mut n = blocks.div_ceil(64);
        let mut total = n;
        while n > 1 {
            top += 1;
            assert!(top < LEVELS, "a shard of more than 64^4 blocks");
            start[top] = total as u32;
            n = n.div_ceil(64);
            total += n;
        }
        IndexSets {
            words,
            start,
            each: each as u32,
            top: top as u8,
        }
    }

    /// Where the levels start, and those above the lowest.
    #[inline]
    fn levels(&self) -> &[u32] {
        &self.start[..=(self.top as usize) % LEVELS]
    }

    #[inline]
    fn above(&self) -> &[u32] {
        &self.levels()[1..]
    }

    /// The set of this number.
    #[inline]
    pub(crate) fn set(&self, number: usize) -> BlockIndex<'_> {
        BlockIndex {
            sets: self,
            base: number * self.each as usize,
        }
    }
}

/// Words of a set of block numbers below `blocks`.
const fn words_for(blocks: usize) -> usize {
    let mut total = 0;
    let mut n = blocks;
    loop {
        n = n.div_ceil(64);
        total += n;
        if n <= 1 {
            return total;
        }
    }
}

/// One of [`IndexSets`].
#[derive(Copy, Clone)]
pub(crate) struct BlockIndex<'s> {
    sets: &'s IndexSets,
    /// Where its words start.
    base: usize,
}

impl<'s> BlockIndex<'s> {
    #[inline]
    fn word(self, level: usize, i: usize) -> &'s AtomicU64 {
        &self.sets.words[self.base + self.sets.start[level] as usize + i]
    }

    /// A word of the level that starts there.
    #[inline]
    fn word_from(self, start: u32, i: usize) -> &'s AtomicU64 {
        &self.sets.words[self.base + start as usize + i]
    }

    /// The word of level 0 that has the bit of a block.
    #[inline]
    fn word_of(self, block: usize) -> &'s AtomicU64 {
        &self.sets.words[self.base + block / 64]
    }

    /// Adds a block. True if the set was empty.
    #[inline]
    pub(crate) fn insert(self, block: usize) -> bool {
        let word = self.word_of(block);
        let old = word.load(Relaxed);
        word.store(old | 1 << (block % 64), Relaxed);
        old == 0 && self.insert_above(block / 64)
    }

    fn insert_above(self, mut i: usize) -> bool {
        for start in self.sets.above() {
            let word = self.word_from(*start, i / 64);
            let old = word.load(Relaxed);
            word.store(old | 1 << (i % 64), Relaxed);
            if old != 0 {
                return false;
            }
            i /= 64;
        }
        true
    }

    /// Takes a block out. True if the set is empty now.
    #[inline]
    pub(crate) fn remove(self, block: usize) -> bool {
        let word = self.word_of(block);
        let new = word.load(Relaxed) & !(1 << (block % 64));
        word.store(new, Relaxed);
        new == 0 && self.remove_above(block / 64)
    }

    fn remove_above(self, mut i: usize) -> bool {
        for start in self.sets.above() {
            let word = self.word_from(*start, i / 64);
            let new = word.load(Relaxed) & !(1 << (i % 64));
            word.store(new, Relaxed);
            if new != 0 {
                return false;
            }
            i /= 64;
        }
        true
    }

    /// True if the block is a member.
    #[inline]
    pub(crate) fn contains(self, block: usize) -> bool {
        self.word_of(block).load(Relaxed) >> (block % 64) & 1 != 0
    }

    /// True if no block is a member.
    #[inline]
    pub(crate) fn is_empty(self) -> bool {
        let words = &self.sets.words;
        words.is_empty() || self.word(self.sets.top as usize, 0).load(Relaxed) == 0
    }

    /// The lowest member.
    #[inline]
    pub(crate) fn first(self) -> Option<usize> {
        self.descend(|word| word.trailing_zeros())
    }

    /// The highest member.
    #[inline]
    pub(crate) fn last(self) -> Option<usize> {
        self.descend(|word| 63 - word.leading_zeros())
    }

    /// The highest member that is lower than `end`.
    pub(crate) fn last_below(self, end: usize) -> Option<usize> {
        let (mut i, mut mask) = (end.checked_sub(1)?, u64::MAX >> (63 - (end - 1) % 64));
        for level in 0..=self.sets.top as usize {
            let word = i / 64;
            let below = self.word(level, word).load(Relaxed) & mask;
            if below != 0 {
                let mut at = word * 64 + below.ilog2() as usize;
                for level in (0..level).rev() {
                    let word = self.word(level, at).load(Relaxed);
                    debug_assert!(word != 0, "a summary bit stands for an empty word");
                    at = at * 64 + word.ilog2() as usize;
                }
                return Some(at);
            }
            // Above: words before this one.
            i = word;
            mask = (1 << (word % 64)) - 1;
        }
        None
    }

    #[inline]
    fn descend(self, pick: impl Fn(u64) -> u32) -> Option<usize> {
        if self.is_empty() {
            return None;
        }
        let mut i = 0;
        for start in self.sets.levels().iter().rev() {
            let word = self.word_from(*start, i).load(Relaxed);
            debug_assert!(word != 0, "a summary bit stands for an empty word");
            i = i * 64 + pick(word) as usize;
        }
        Some(i)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::ptr::NonNull;
    use std::boxed::Box;
    use std::collections::BTreeSet;

    const SETS: usize = 3;

    fn words(blocks: usize) -> Box<[AtomicU64]> {
        (0..IndexSets::words_for(SETS, blocks))
            .map(|_| AtomicU64::new(0))
            .collect()
    }

    #[test]
    fn it_is_the_set_it_stands_for() {
        for blocks in [1, 5, 64, 65, 4096, 5000] {
            let words = words(blocks);
            // SAFETY: the words outlive the set, and nobody else uses them.
            let carved = unsafe { Carved::new(NonNull::from(&*words).cast(), words.len()) };
            let sets = IndexSets::new(carved, SETS, blocks);
            let set = sets.set(1);
            let mut model = BTreeSet::new();
            let mut x = 12345usize;
            for _ in 0..4000 {
                x = x
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                let b = (x >> 33) % blocks;
                if x >> 20 & 3 == 0 {
                    assert_eq!(set.insert(b), model.is_empty());
                    model.insert(b);
                } else {
                    model.remove(&b);
                    assert_eq!(set.remove(b), model.is_empty());
                }
                assert_eq!(set.first(), model.first().copied());
                assert_eq!(set.last(), model.last().copied());
                assert_eq!(set.contains(b), model.contains(&b));
                let end = (x >> 40) % (blocks + 1);
                assert_eq!(set.last_below(end), model.range(..end).last().copied());
                assert_eq!(set.is_empty(), model.is_empty());
            }
            assert!(sets.set(0).is_empty() && sets.set(2).is_empty());
        }
    }
}
