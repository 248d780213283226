//! What no allocator is faster than, measured in the same rounds.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

/// A word on a cache line of its own.
#[repr(align(128))]
struct Alone(AtomicU64);

/// One locked compare-and-exchange on a word that no other thread uses.
pub(crate) fn locked_cmpxchg(ops: usize) {
    let word = Alone(AtomicU64::new(0));
    for i in 0..ops as u64 {
        let word = black_box(&word);
        // SeqCst: what it costs is the point; on x86 all orderings cost the same.
        let done = word
            .0
            .compare_exchange(i, i + 1, Ordering::SeqCst, Ordering::SeqCst);
        debug_assert!(done.is_ok());
    }
}

const CAPACITY: usize = 64;

struct Stack {
    len: usize,
    frames: [u32; CAPACITY],
}

/// Pop and push on a plain array of the thread's own: a per-CPU cache that needs no care at all.
pub(crate) fn percpu_stack(pairs: usize) {
    let mut stack = Box::new(Stack {
        len: CAPACITY / 2,
        frames: [7; CAPACITY],
    });
    for _ in 0..pairs {
        let stack = black_box(&mut *stack);
        stack.len -= 1;
        let frame = black_box(stack.frames[stack.len]);
        let stack = black_box(stack);
        stack.frames[stack.len] = frame;
        stack.len += 1;
    }
}
