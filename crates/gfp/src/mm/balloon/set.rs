//! Which frames are somebody's: one bit a frame, in chunks of `N` words.
//!
//! Who changes a bit from 1 to 0 has the page, and nobody else does before he sets one again. All
//! changes are exchanges of one word with `AcqRel`: each pairs with the one before it on the same
//! bit, so whoever has a page sees what was done with it before.

use crate::sync::atomic::Ordering::{AcqRel, Relaxed};
use crate::sync::atomic::{AtomicU64, AtomicUsize};

/// Frames in a word.
pub(crate) const WORD: usize = u64::BITS as usize;

/// A set of frames, by their index in the frame table.
pub(crate) struct FrameSet<'a, const N: usize> {
    chunks: &'a [&'a [AtomicU64; N]],
    /// The word in which a search begins: a hint.
    cursor: AtomicUsize,
}

const fn bit(frame: usize) -> u64 {
    1 << (frame % WORD)
}

impl<'a, const N: usize> FrameSet<'a, N> {
    /// The set that these bits say.
    pub(crate) fn new(chunks: &'a [&'a [AtomicU64; N]]) -> FrameSet<'a, N> {
        FrameSet {
            chunks,
            cursor: AtomicUsize::new(0),
        }
    }

    /// True if the frame is in it. Stale when this returns, if others change that.
    pub(crate) fn contains(&self, frame: usize) -> bool {
        // Relaxed: a hint.
        self.word(frame / WORD).load(Relaxed) & bit(frame) != 0
    }

    /// True if no frame is in it. Looks at all words.
    pub(crate) fn is_empty(&self) -> bool {
        // Relaxed: a hint.
        (0..self.words()).all(|at| self.word(at).load(Relaxed) == 0)
    }

    /// Gives a frame to the set. The caller has it; the next search begins here.
    pub(crate) fn insert(&self, frame: usize) {
        let old = self.word(frame / WORD).fetch_or(bit(frame), AcqRel);
        debug_assert!(old & bit(frame) == 0, "frame {frame} is in the set already");
        self.cursor.store(frame / WORD, Relaxed);
    }

    /// Takes one frame out of the set. True if it was in it: the caller has it.
    pub(crate) fn remove(&self, frame: usize) -> bool {
        self.word(frame / WORD).fetch_and(!bit(frame), AcqRel) & bit(frame) != 0
    }

    /// Takes up to `most` frames out of the set and shows them to `took`: the caller has them.
    /// Returns how many. Looks at each word once at most.
    pub(crate) fn take(&self, most: usize, mut took: impl FnMut(usize)) -> usize {
        let first = self.cursor.load(Relaxed);
        let mut taken = 0;
        for step in 0..self.words() {
            let at = (first + step) % self.words();
            let word = self.word(at);
            while taken < most {
                let bits = word.load(Relaxed);
                if bits == 0 {
                    break;
                }
                let wanted = lowest(bits, most - taken);
                let mut got = word.fetch_and(!wanted, AcqRel) & wanted;
                while got != 0 {
                    took(at * WORD + got.trailing_zeros() as usize);
                    got &= got - 1;
                    taken += 1;
                }
            }
            if taken == most {
                self.cursor.store(at, Relaxed);
                break;
            }
        }
        taken
    }

    fn words(&self) -> usize {
        self.chunks.len() * N
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        &self.chunks[at / N][at % N]
    }
}

/// The lowest bits that are set, at most so many.
fn lowest(bits: u64, most: usize) -> u64 {
    let mut rest = bits;
    for _ in 0..most.min(WORD) {
        rest &= rest.wrapping_sub(1);
    }
    bits & !rest
}
