//! Memory for signal handlers that came in the middle of an allocation.
//!
//! 1. **Why.** The machine refuses a handler that interrupted it on the same thread
//!    ([`AllocError::Nested`](gfp::AllocError)): its structures may be half changed. POSIX forbids
//!    `malloc` in handlers; programs call it all the same, and mostly get away with it.
//! 2. **What.** A fixed number of blocks of one page, taken at the start, given out by a bitmap of
//!    atomic words: one swap of a bit, whoever is interrupted (`reserve/interleavings.rs`). A
//!    larger request fails.
//! 3. **Failure.** When all blocks are out the request fails with `ENOMEM`.

use crate::atomic::{AtomicU64, Ordering};
use core::ptr::NonNull;

/// Bytes of a block; also its alignment.
pub const BLOCK: usize = 4096;
/// Most blocks that a reserve can have.
pub const MAX_BLOCKS: usize = 256;

const WORD: usize = 64;

/// Blocks of [`BLOCK`] bytes in one piece of memory.
pub struct Reserve {
    start: NonNull<u8>,
    blocks: usize,
    /// A set bit: the block is out.
    used: [AtomicU64; MAX_BLOCKS / WORD],
}

// SAFETY: the memory is given out block by block; the bitmap decides, and it is atomic.
unsafe impl Send for Reserve {}
// SAFETY: as above.
unsafe impl Sync for Reserve {}

/// What a free found.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Freed {
    /// The block was out and is back.
    Yes,
    /// It was not out.
    Double,
    /// The address is inside a block.
    Interior,
}

impl Reserve {
    /// A reserve in `blocks` blocks from `start` on; at most [`MAX_BLOCKS`] are used.
    ///
    /// # Safety
    /// The memory must be the reserve's own as long as it lives, and aligned to [`BLOCK`].
    pub unsafe fn new(start: NonNull<u8>, blocks: usize) -> Reserve {
        debug_assert!(start.addr().get().is_multiple_of(BLOCK));
        Reserve {
            start,
            blocks: blocks.min(MAX_BLOCKS),
            used: core::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// True if the address is in one of the blocks.
    #[inline]
    pub fn contains(&self, addr: usize) -> bool {
        addr.wrapping_sub(self.start.addr().get()) < self.blocks * BLOCK
    }

    /// Blocks that are out.
    pub fn in_use(&self) -> usize {
        let count = |word: &AtomicU64| word.load(Ordering::Relaxed).count_ones() as usize;
        self.used.iter().map(count).sum()
    }

    /// Gives out one block. Its content is what the last owner left.
    pub fn alloc(&self) -> Option<NonNull<u8>> {
        for (at, word) in self.used.iter().enumerate() {
            let here = self.blocks.saturating_sub(at * WORD).min(WORD);
            let all = if here == WORD {
                u64::MAX
            } else {
                (1 << here) - 1
            };
            let mut seen = word.load(Ordering::Relaxed);
            while seen & all != all {
                let bit = (!seen).trailing_zeros() as usize;
                // Acquire: pairs with the Release in `free`; the last owner's stores are over.
                seen = word.fetch_or(1 << bit, Ordering::Acquire);
                if seen & (1 << bit) == 0 {
                    // SAFETY: the block is inside the memory.
                    return Some(unsafe { self.start.add((at * WORD + bit) * BLOCK) });
                }
            }
        }
        None
    }

    /// Takes a block back.
    ///
    /// # Safety
    /// The address is in this reserve ([`Reserve::contains`]), and the caller's last use of the
    /// block is over.
    pub unsafe fn free(&self, addr: usize) -> Freed {
        debug_assert!(self.contains(addr));
        let offset = addr - self.start.addr().get();
        if !offset.is_multiple_of(BLOCK) {
            return Freed::Interior;
        }
        let (word, bit) = (offset / BLOCK / WORD, offset / BLOCK % WORD);
        // Release: pairs with the Acquire in `alloc`.
        let before = self.used[word].fetch_and(!(1 << bit), Ordering::Release);
        if before & (1 << bit) == 0 {
            Freed::Double
        } else {
            Freed::Yes
        }
    }
}

#[cfg(all(test, loom))]
mod interleavings;

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[repr(align(4096))]
    struct Page([u8; BLOCK]);

    fn memory(blocks: usize) -> Vec<Page> {
        (0..blocks).map(|_| Page([0; BLOCK])).collect()
    }

    #[test]
    fn every_block_goes_out_once() {
        for blocks in [1, 63, 64, 65, 100, 256] {
            let mut pages = memory(blocks);
            let start = NonNull::from(&mut pages[0].0[0]);
            // SAFETY: the pages outlive the reserve.
            let reserve = unsafe { Reserve::new(start, blocks) };
            let mut got: Vec<usize> = (0..blocks)
                .map(|_| reserve.alloc().expect("a free block").addr().get())
                .collect();
            assert_eq!(reserve.alloc(), None);
            assert_eq!(reserve.in_use(), blocks);
            got.sort_unstable();
            got.dedup();
            assert_eq!(got.len(), blocks);
            assert!(got.iter().all(|addr| reserve.contains(*addr)));
            assert!(!reserve.contains(start.addr().get() + blocks * BLOCK));
            for addr in got {
                // SAFETY: the block is out and not used.
                assert_eq!(unsafe { reserve.free(addr) }, Freed::Yes);
            }
            assert_eq!(reserve.in_use(), 0);
        }
    }

    #[test]
    fn wrong_frees_are_told() {
        let mut pages = memory(2);
        let start = NonNull::from(&mut pages[0].0[0]);
        // SAFETY: the pages outlive the reserve.
        let reserve = unsafe { Reserve::new(start, 2) };
        let block = reserve.alloc().expect("a free block").addr().get();
        // SAFETY: the block is not used.
        unsafe {
            assert_eq!(reserve.free(block + 8), Freed::Interior);
            assert_eq!(reserve.free(block), Freed::Yes);
            assert_eq!(reserve.free(block), Freed::Double);
        }
        assert_eq!(reserve.in_use(), 0);
    }
}
