//! A sleeping lock that knows who holds it, so that a signal handler of the holder can be told.

use crate::sys;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

/// Who a thread is: an address that only it has. Never 0.
pub(crate) type ThreadKey = usize;

/// The holder's key is the lock word itself, so there is no instant at which the lock is held and
/// its holder is not known.
pub(crate) struct OwnerLock {
    /// 0: free.
    owner: AtomicUsize,
    waiters: AtomicU32,
    /// Grows with every unlock that found waiters; what they sleep on.
    turn: AtomicU32,
}

impl OwnerLock {
    pub(crate) const fn new() -> OwnerLock {
        OwnerLock {
            owner: AtomicUsize::new(0),
            waiters: AtomicU32::new(0),
            turn: AtomicU32::new(0),
        }
    }

    /// True if thread `me` holds it. Meaningful for oneself only: nobody else can make it so.
    pub(crate) fn held_by(&self, me: ThreadKey) -> bool {
        self.owner.load(Ordering::Relaxed) == me
    }

    fn try_lock(&self, me: ThreadKey) -> bool {
        // Acquire: pairs with the store in `unlock`. SeqCst: pairs with it too, see there.
        self.owner
            .compare_exchange(0, me, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }

    /// Takes the lock; sleeps if need be. The caller must not hold it.
    pub(crate) fn lock(&self, me: ThreadKey) {
        debug_assert!(me != 0 && !self.held_by(me));
        for spins in 0..32 {
            if self.try_lock(me) {
                return;
            }
            sys::relax(spins);
        }
        self.waiters.fetch_add(1, Ordering::SeqCst);
        loop {
            let turn = self.turn.load(Ordering::SeqCst);
            if self.try_lock(me) {
                break;
            }
            sys::futex_wait(&self.turn, turn);
        }
        self.waiters.fetch_sub(1, Ordering::SeqCst);
    }

    /// Gives the lock back. The caller must hold it.
    pub(crate) fn unlock(&self) {
        debug_assert_ne!(self.owner.load(Ordering::Relaxed), 0);
        // SeqCst, here and in `lock`: either we see the waiter counted, or its `try_lock`, after
        // counting, sees the lock free. If we see it, `turn` changes after it was read, or before
        // its `try_lock`: the sleep ends at once, or the lock is found free.
        self.owner.store(0, Ordering::SeqCst);
        if self.waiters.load(Ordering::SeqCst) != 0 {
            self.turn.fetch_add(1, Ordering::SeqCst);
            sys::futex_wake(&self.turn, 1);
        }
    }

    /// In the child of a fork: free, and the other threads do not exist.
    pub(crate) fn reset(&self) {
        self.waiters.store(0, Ordering::Relaxed);
        self.owner.store(0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::UnsafeCell;

    struct Shared(OwnerLock, UnsafeCell<u64>);
    // SAFETY: the cell is used under the lock only.
    unsafe impl Sync for Shared {}

    #[test]
    fn only_one_thread_at_a_time_and_no_wake_is_lost() {
        let shared = Shared(OwnerLock::new(), UnsafeCell::new(0));
        std::thread::scope(|scope| {
            for key in 1..=4 {
                let shared = &shared;
                scope.spawn(move || {
                    for _ in 0..20_000 {
                        shared.0.lock(key);
                        assert!(shared.0.held_by(key));
                        // SAFETY: the lock is held.
                        unsafe { *shared.1.get() += 1 };
                        shared.0.unlock();
                        assert!(!shared.0.held_by(key));
                    }
                });
            }
        });
        shared.0.lock(1);
        // SAFETY: the lock is held.
        assert_eq!(unsafe { shared.1.get().read() }, 80_000);
    }
}
