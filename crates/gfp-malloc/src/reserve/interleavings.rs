//! The bitmap under a model checker, which tries every interleaving and every value that a relaxed
//! load may see:
//! `RUSTFLAGS="--cfg loom" cargo test -p gfp-malloc --release --lib reserve::`
//!
//! A signal handler is a thread here. Each block has a loom cell, which panics when two threads
//! touch it unordered: a block given twice, or given before its last owner was done.
//!
//! Seen to fail: the swap in `alloc` relaxed; the one in `free` relaxed; `alloc` with a load and a
//! store in place of the swap; `free` with a load and a store.

use super::{BLOCK, Freed, Reserve};
use core::ptr::NonNull;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::vec::Vec;

struct Shared {
    reserve: Reserve,
    content: Vec<UnsafeCell<u32>>,
}

// SAFETY: the cells check every access.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

/// Where the blocks would be: nothing is read or written there.
const START: usize = BLOCK;

impl Shared {
    fn new(blocks: usize) -> Arc<Shared> {
        let start = NonNull::new(core::ptr::without_provenance_mut(START)).unwrap();
        // SAFETY: nobody follows an address of this reserve.
        let reserve = unsafe { Reserve::new(start, blocks) };
        let content = (0..blocks).map(|_| UnsafeCell::new(0)).collect();
        Arc::new(Shared { reserve, content })
    }

    /// A block, used.
    fn alloc(&self) -> Option<usize> {
        // Not `alloc`'s pointer arithmetic on memory that is not there: the number is enough.
        let addr = self.reserve.alloc()?.addr().get();
        assert!(self.reserve.contains(addr));
        self.touch(addr);
        Some(addr)
    }

    fn touch(&self, addr: usize) {
        // SAFETY: the cell checks that nobody else is here.
        self.content[(addr - START) / BLOCK].with_mut(|uses| unsafe { *uses += 1 });
    }

    fn free(&self, addr: usize) -> Freed {
        // SAFETY: the callers below free what they do not touch again.
        unsafe { self.reserve.free(addr) }
    }
}

#[test]
fn no_block_is_given_twice_and_none_is_lost() {
    loom::model(|| {
        let shared = Shared::new(2);
        let work = |shared: &Shared, rounds: usize| {
            for _ in 0..rounds {
                // Never refused: the other one holds a block at most.
                let block = shared.alloc().expect("one is free");
                shared.touch(block);
                assert_eq!(shared.free(block), Freed::Yes);
            }
        };
        let theirs = shared.clone();
        let other = thread::spawn(move || work(&theirs, 2));
        work(&shared, 2);
        other.join().unwrap();
        assert_eq!(shared.reserve.in_use(), 0);
    });
}

#[test]
fn who_finds_none_took_none() {
    // How many of three got one of two blocks, at least: else the model shows nothing.
    static REFUSED: AtomicUsize = AtomicUsize::new(0);
    loom::model(|| {
        let shared = Shared::new(2);
        let take = |shared: &Shared| shared.alloc();
        let others: Vec<_> = (0..2)
            .map(|_| {
                let shared = shared.clone();
                thread::spawn(move || take(&shared))
            })
            .collect();
        let mut got: Vec<_> = take(&shared).into_iter().collect();
        got.extend(others.into_iter().filter_map(|other| other.join().unwrap()));
        REFUSED.fetch_add(3 - got.len(), Ordering::Relaxed);
        got.sort_unstable();
        assert_eq!(got, [START, START + BLOCK]);
        assert_eq!(shared.reserve.in_use(), 2);
        assert_eq!(shared.alloc(), None);
    });
    assert!(REFUSED.load(Ordering::Relaxed) > 0);
}

#[test]
fn of_two_frees_of_one_block_one_is_told() {
    loom::model(|| {
        let shared = Shared::new(1);
        let block = shared.alloc().unwrap();
        let theirs = shared.clone();
        let other = thread::spawn(move || theirs.free(block));
        let mine = shared.free(block);
        let results = [mine, other.join().unwrap()];
        assert!(results == [Freed::Yes, Freed::Double] || results == [Freed::Double, Freed::Yes]);
        assert_eq!(shared.alloc(), Some(block));
        assert_eq!(shared.alloc(), None);
    });
}
