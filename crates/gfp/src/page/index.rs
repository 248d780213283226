//! A set of block numbers as a 64-ary bitmap: insert, remove, lowest and highest member in
//! O(levels).
//!
//! Level 0 has one bit a block; each level above has one bit a word of the level below. 64^4 blocks
//! of 2 MiB are 32 TiB, so four levels do for any machine.

use crate::sync::Carved;
use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Levels at most.
const LEVELS: usize = 4;

/// A set of block numbers `0..blocks`, changed under its zone's lock.
pub(crate) struct BlockIndex {
    words: Carved<AtomicU64>,
    /// Where each level starts in `words`; levels above `top` are not used.
    start: [u32; LEVELS],
    top: u8,
}

impl BlockIndex {
    /// Words needed for block numbers below `blocks`.
    pub(crate) const fn words_for(blocks: usize) -> usize {
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

    /// An empty set over `words`, which must be `words_for(blocks)` words of zero.
    pub(crate) fn new(words: Carved<AtomicU64>, blocks: usize) -> BlockIndex {
        assert!(words.len() == BlockIndex::words_for(blocks));
        let mut start = [0; LEVELS];
        let mut top = 0;
        let mut n = blocks.div_ceil(64);
        let mut total = n;
        while n > 1 {
            top += 1;
            assert!(top < LEVELS, "a zone of more than 64^4 blocks");
            start[top] = total as u32;
            n = n.div_ceil(64);
            total += n;
        }
        BlockIndex {
            words,
            start,
            top: top as u8,
        }
    }

    #[inline]
    fn word(&self, level: usize, i: usize) -> &AtomicU64 {
        &self.words[self.start[level] as usize + i]
    }

    /// Adds a block.
    #[inline]
    pub(crate) fn insert(&self, block: usize) {
        let mut i = block;
        for level in 0..=self.top as usize {
            let word = self.word(level, i / 64);
            let old = word.load(Relaxed);
            word.store(old | 1 << (i % 64), Relaxed);
            if old != 0 {
                return;
            }
            i /= 64;
        }
    }

    /// Takes a block out.
    #[inline]
    pub(crate) fn remove(&self, block: usize) {
        let mut i = block;
        for level in 0..=self.top as usize {
            let word = self.word(level, i / 64);
            let new = word.load(Relaxed) & !(1 << (i % 64));
            word.store(new, Relaxed);
            if new != 0 {
                return;
            }
            i /= 64;
        }
    }

    /// True if the block is a member.
    #[inline]
    pub(crate) fn contains(&self, block: usize) -> bool {
        self.word(0, block / 64).load(Relaxed) >> (block % 64) & 1 != 0
    }

    /// True if no block is a member.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.words.is_empty() || self.word(self.top as usize, 0).load(Relaxed) == 0
    }

    /// The lowest member.
    #[inline]
    pub(crate) fn first(&self) -> Option<usize> {
        self.descend(|word| word.trailing_zeros())
    }

    /// The highest member.
    #[inline]
    pub(crate) fn last(&self) -> Option<usize> {
        self.descend(|word| 63 - word.leading_zeros())
    }

    #[inline]
    fn descend(&self, pick: impl Fn(u64) -> u32) -> Option<usize> {
        if self.is_empty() {
            return None;
        }
        let mut i = 0;
        for level in (0..=self.top as usize).rev() {
            let word = self.word(level, i).load(Relaxed);
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

    fn words(blocks: usize) -> Box<[AtomicU64]> {
        (0..BlockIndex::words_for(blocks))
            .map(|_| AtomicU64::new(0))
            .collect()
    }

    #[test]
    fn it_is_the_set_it_stands_for() {
        for blocks in [1, 5, 64, 65, 4096, 5000] {
            let words = words(blocks);
            // SAFETY: the words outlive the set, and nobody else uses them.
            let carved = unsafe { Carved::new(NonNull::from(&*words).cast(), words.len()) };
            let set = BlockIndex::new(carved, blocks);
            let mut model = BTreeSet::new();
            let mut x = 12345usize;
            for _ in 0..4000 {
                x = x
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                let b = (x >> 33) % blocks;
                if x >> 20 & 3 == 0 {
                    set.insert(b);
                    model.insert(b);
                } else {
                    set.remove(b);
                    model.remove(&b);
                }
                assert_eq!(set.first(), model.first().copied());
                assert_eq!(set.last(), model.last().copied());
                assert_eq!(set.contains(b), model.contains(&b));
                assert_eq!(set.is_empty(), model.is_empty());
            }
        }
    }
}
