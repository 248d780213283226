//! The capability to sleep.

use crate::sync::atomic::AtomicU32;

/// Who gets up.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Wake {
    /// One of the sleepers, any.
    One,
    /// All of them.
    All,
}

/// The capability to let a task sleep until another one does something: what background reclaim and
/// throttled requests wait with. A machine that has it answers it in
/// [`Platform::sleep`](super::Platform::sleep); on one that has not, waiting is spinning.
///
/// 1. **Words.** Tasks wait on a word of the library's, known by its address, as with a futex: the
///    library needs no memory for queues, the machine none for conditions.
/// 2. **No wake-up is lost.** Who wakes changes the word first, then calls [`Sleep::wake`].
///    [`Sleep::wait`] compares the word and lies down in one step as far as `wake` on the same word
///    is concerned: either it sees the new value and returns, or `wake` finds the sleeper.
/// 3. **`wait` may return at any time** for no reason: the caller looks at its condition again.
///    [`WaitQueue`](crate::sync::WaitQueue) does, and is what the library itself uses.
/// 4. **Order.** What was written before the word was changed is seen after `wait` only as far as
///    the caller's own load of the word says so: `wait` and `wake` order nothing.
///
/// Object safe, so that code over any platform can ask for it at run time; a task that cannot do
/// without (kswapd) asks for `P: Platform + Sleep`.
pub trait Sleep: Sync {
    /// Sleeps while `word` contains `seen`: until somebody wakes it, or until the clock
    /// ([`Platform::now_ns`](super::Platform::now_ns)) shows `deadline_ns`.
    ///
    /// Context: a task that may sleep, outside of sections and locks.
    fn wait(&self, word: &AtomicU32, seen: u32, deadline_ns: Option<u64>);

    /// Gets sleepers of `word` up, which was changed before. Does not wait, and does not allocate.
    ///
    /// Context: any but an NMI; also inside a section and with locks of the library held.
    fn wake(&self, word: &AtomicU32, who: Wake);
}
