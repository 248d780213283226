//! The library's tasks that sleep: wait queues for words that are known by address.

use super::WaitQueue;
use crate::platform::Machine;
use core::ptr;
use core::sync::atomic::{AtomicU32, Ordering::Acquire};
use gfp::platform::{Sleep, Wake};

/// Words share queues. A power of two, several times the words on which the library's tasks wait
/// at once.
const QUEUES: usize = 64;

static WAITING: [WaitQueue; QUEUES] = [const { WaitQueue::new() }; QUEUES];

fn queue_of(word: &AtomicU32) -> &'static WaitQueue {
    // Fibonacci hashing: words stand in structs of the same size.
    let hash = ptr::from_ref(word)
        .addr()
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    &WAITING[hash >> (usize::BITS - QUEUES.ilog2())]
}

impl Sleep for Machine {
    fn wait(&self, word: &AtomicU32, seen: u32, deadline_ns: Option<u64>) {
        // Acquire: pairs with nothing here, the caller looks again; it keeps the load in its place.
        let changed = || word.load(Acquire) != seen;
        match deadline_ns {
            None => queue_of(word).wait_until(changed),
            Some(deadline_ns) => {
                queue_of(word).wait_until_ns(deadline_ns, changed);
            }
        }
    }

    /// All who share the queue look, whoever is meant: one woken alone might wait on another word.
    fn wake(&self, word: &AtomicU32, _who: Wake) {
        queue_of(word).wake_all();
    }
}
