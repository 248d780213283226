//! A spin lock with a rank.

use super::Local;
use super::atomic::{AtomicU32, Ordering};
use crate::platform::Platform;
use core::cell::{Cell, UnsafeCell};
use core::ops::{Deref, DerefMut};

/// The order in which locks are taken: a lock may be taken only while every lock held has a smaller
/// rank. What is taken first stands first.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Rank {
    /// Adding memory to a running machine: outermost.
    Plug = 0,
    /// The list of vmalloc areas.
    Vmalloc = 1,
    /// The list of caches of a machine.
    CacheList = 2,
    /// The slabs of one home of a cache.
    Cache = 3,
    /// The lists of reclaimable pages of one node.
    Lru = 4,
    /// The time that was lost to reclaim; nothing is taken with it.
    Stalls = 5,
    /// What one zone keeps for the urgent.
    Reserve = 6,
    /// One shard of a zone's free memory: innermost, taken with anything held, one at a time.
    Zone = 7,
}

/// A spin lock that can be taken only inside a section ([`Local`]), of rank `RANK`.
pub struct Lock<T, const RANK: u8> {
    word: AtomicU32,
    value: UnsafeCell<T>,
}

// SAFETY: [INV-LOCK-1] `value` is reached only through a `LockGuard`, of which one exists at a
// time.
unsafe impl<T: Send, const RANK: u8> Sync for Lock<T, RANK> {}

impl<T, const RANK: u8> Lock<T, RANK> {
    /// An unlocked lock.
    #[cfg(not(loom))]
    pub const fn new(value: T) -> Self {
        Lock {
            word: AtomicU32::new(0),
            value: UnsafeCell::new(value),
        }
    }

    /// An unlocked lock: under a model checker, atomics are not made by constants.
    #[cfg(loom)]
    pub fn new(value: T) -> Self {
        Lock {
            word: AtomicU32::new(0),
            value: UnsafeCell::new(value),
        }
    }

    /// Takes the lock, spinning with [`Platform::relax`].
    ///
    /// # Panics
    /// In debug builds, if a lock of this or a larger rank is held: that order can deadlock.
    #[inline]
    pub fn lock<'l, P: Platform>(&'l self, local: &'l Local<'_, P>) -> LockGuard<'l, T, RANK> {
        let held = local.held();
        debug_assert!(
            held.get() >> RANK == 0,
            "lock rank {RANK} taken while ranks {:#b} are held",
            held.get()
        );
        // Acquire: pairs with the Release in `LockGuard::drop`; what the last holder wrote is seen.
        let take = || {
            self.word
                .compare_exchange_weak(0, 1, Ordering::Acquire, Ordering::Relaxed)
                .is_ok()
        };
        local.platform().step();
        if !take() {
            self.wait(local, take);
        }
        local.platform().step();
        if cfg!(debug_assertions) {
            held.set(held.get() | 1 << RANK);
        }
        LockGuard { lock: self, held }
    }

    /// Waits with loads, which leave the line shared, and tries when the lock looks free. Looks
    /// less and less often: who holds the lock is not disturbed, and can often take it once more
    /// while its line is near.
    #[cold]
    fn wait<P: Platform>(&self, local: &Local<'_, P>, take: impl Fn() -> bool) {
        const LONGEST: u32 = 32;
        let (mut spins, mut pause) = (0u32, 1);
        loop {
            for _ in 0..pause {
                local.platform().relax(spins);
                spins = spins.saturating_add(1);
            }
            if self.word.load(Ordering::Relaxed) == 0 && take() {
                return;
            }
            pause = LONGEST.min(pause * 2);
        }
    }

    /// Takes the lock if it is free.
    #[inline]
    pub fn try_lock<'l, P: Platform>(
        &'l self,
        local: &'l Local<'_, P>,
    ) -> Option<LockGuard<'l, T, RANK>> {
        local.platform().step();
        let held = local.held();
        // Acquire: as in `lock`.
        self.word
            .compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed)
            .ok()?;
        if cfg!(debug_assertions) {
            held.set(held.get() | 1 << RANK);
        }
        Some(LockGuard { lock: self, held })
    }
}

/// Holds a [`Lock`]; dropping it unlocks.
pub struct LockGuard<'l, T, const RANK: u8> {
    lock: &'l Lock<T, RANK>,
    held: &'l Cell<u32>,
}

impl<T, const RANK: u8> Deref for LockGuard<'_, T, RANK> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: [INV-LOCK-1] we hold the lock.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T, const RANK: u8> DerefMut for LockGuard<'_, T, RANK> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: [INV-LOCK-1] we hold the lock, and `self` is borrowed for writing.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T, const RANK: u8> Drop for LockGuard<'_, T, RANK> {
    #[inline]
    fn drop(&mut self) {
        if cfg!(debug_assertions) {
            self.held.set(self.held.get() & !(1 << RANK));
        }
        // Release: pairs with the Acquire in `lock` and `try_lock`.
        self.lock.word.store(0, Ordering::Release);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::platform::SingleCore;

    #[test]
    #[should_panic(expected = "lock rank 3 taken while ranks")]
    #[cfg(debug_assertions)]
    fn locks_out_of_order_panic_in_debug_builds() {
        let platform = SingleCore::for_test();
        let local = Local::enter(&platform).unwrap();
        let outer = Lock::<(), { Rank::Cache as u8 }>::new(());
        let inner = Lock::<(), { Rank::Zone as u8 }>::new(());
        let _inner = inner.lock(&local);
        let _outer = outer.lock(&local);
    }

    #[test]
    fn a_held_lock_cannot_be_taken_again() {
        let platform = SingleCore::for_test();
        let local = Local::enter(&platform).unwrap();
        let lock = Lock::<u32, { Rank::Zone as u8 }>::new(1);
        let mut guard = lock.lock(&local);
        *guard += 1;
        assert!(lock.try_lock(&local).is_none());
        drop(guard);
        assert_eq!(*lock.try_lock(&local).unwrap(), 2);
    }
}
