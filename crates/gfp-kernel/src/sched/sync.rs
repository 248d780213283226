//! What tasks share: a mutex, a completion, a barrier.

use super::lock::IrqLock;
use super::wait::WaitQueue;
use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{AtomicBool, Ordering};

/// A value that one task at a time may touch; the others sleep. Nobody is served in turn. A task
/// that dies with it in its hands leaves it locked.
pub struct Mutex<T> {
    taken: AtomicBool,
    waiters: WaitQueue,
    value: UnsafeCell<T>,
}

// SAFETY: `value` is reached only through a `MutexGuard`, of which one exists at a time.
unsafe impl<T: Send> Sync for Mutex<T> {}

impl<T> Mutex<T> {
    /// An unlocked mutex.
    pub const fn new(value: T) -> Mutex<T> {
        Mutex {
            taken: AtomicBool::new(false),
            waiters: WaitQueue::new(),
            value: UnsafeCell::new(value),
        }
    }

    /// Waits until it is free. Context: a task that may sleep.
    pub fn lock(&self) -> MutexGuard<'_, T> {
        // Acquire: pairs with the Release in `drop`.
        if self.taken.swap(true, Ordering::Acquire) {
            self.waiters
                .wait_until(|| !self.taken.swap(true, Ordering::Acquire));
        }
        MutexGuard(self, PhantomData)
    }
}

/// Holds a [`Mutex`]; dropping it unlocks.
pub struct MutexGuard<'m, T>(&'m Mutex<T>, PhantomData<&'m mut T>);

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: we hold it.
        unsafe { &*self.0.value.get() }
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: we hold it, and `self` is borrowed for writing.
        unsafe { &mut *self.0.value.get() }
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        // Release: pairs with the Acquire in `lock`.
        self.0.taken.store(false, Ordering::Release);
        self.0.waiters.wake_one();
    }
}

/// Something that happens once.
pub struct Completion {
    done: AtomicBool,
    waiters: WaitQueue,
}

impl Completion {
    /// It did not happen yet.
    pub const fn new() -> Completion {
        Completion {
            done: AtomicBool::new(false),
            waiters: WaitQueue::new(),
        }
    }

    /// It happened. Context: any but an NMI.
    pub fn complete(&self) {
        // Release: pairs with the Acquire in `is_done`.
        self.done.store(true, Ordering::Release);
        self.waiters.wake_all();
    }

    /// True if it happened.
    pub fn is_done(&self) -> bool {
        // Acquire: pairs with the Release in `complete`.
        self.done.load(Ordering::Acquire)
    }

    /// Waits for it.
    pub fn wait(&self) {
        self.waiters.wait_until(|| self.is_done());
    }

    /// Waits for it, but no longer than until the clock shows `deadline_ns`; true if it happened.
    pub fn wait_until_ns(&self, deadline_ns: u64) -> bool {
        self.waiters.wait_until_ns(deadline_ns, || self.is_done())
    }
}

impl Default for Completion {
    fn default() -> Completion {
        Completion::new()
    }
}

/// A place where tasks wait for each other; it can be used again and again.
pub struct Barrier {
    parties: u32,
    /// Who arrived in this round, and the number of rounds that are over.
    arrived: IrqLock<(u32, u64)>,
    waiters: WaitQueue,
}

impl Barrier {
    /// A barrier for `parties` tasks.
    pub const fn new(parties: u32) -> Barrier {
        Barrier {
            parties,
            arrived: IrqLock::new((0, 0)),
            waiters: WaitQueue::new(),
        }
    }

    /// Waits until all are here. True for the one that came last.
    pub fn wait(&self) -> bool {
        let round = {
            let mut arrived = self.arrived.lock();
            arrived.0 += 1;
            if arrived.0 == self.parties {
                *arrived = (0, arrived.1 + 1);
                None
            } else {
                Some(arrived.1)
            }
        };
        let Some(round) = round else {
            self.waiters.wake_all();
            return true;
        };
        self.waiters.wait_until(|| self.arrived.lock().1 != round);
        false
    }
}
