//! The lock of the killer (P128): requests try it, who registers waits for it.
//!
//! All interleavings: `interleavings/oom_lock.rs`.

use crate::platform::Platform;
use crate::sync::WaitQueue;
use crate::sync::atomic::{AtomicU32, Ordering};

const FREE: u32 = 0;
const HELD: u32 = 1;
/// Held by a task that is not there any more: the child of a fork has it not.
const LOST: u32 = 2;

/// [INV-OOM-1] One at a time holds it.
#[derive(Default)]
pub(crate) struct OomLock {
    locked: AtomicU32,
    /// Who waits for it to register something.
    waiting: WaitQueue,
}

impl OomLock {
    /// P128. True: the caller holds it now.
    pub(crate) fn try_lock(&self) -> bool {
        // Acquire: pairs with the Release in `unlock`.
        let taken = self
            .locked
            .compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed);
        taken.is_ok()
    }

    /// Waits until the caller holds it; false if that can never be.
    ///
    /// Context: a task that may sleep and does not hold it.
    pub(crate) fn lock<P: Platform>(&self, platform: &P) -> bool {
        let mut held = false;
        self.waiting.wait_until(platform, || {
            held = self.try_lock();
            held || self.is_lost()
        });
        held
    }

    /// Nobody gets it any more: who holds it is gone, and may have left half of a change.
    pub(crate) fn is_lost(&self) -> bool {
        // Relaxed: it is so from the beginning of a process on, or never.
        self.locked.load(Ordering::Relaxed) == LOST
    }

    /// Of all tasks only the caller is left. If another held the lock, it is lost; if the caller
    /// does, it gives it back as ever.
    pub(crate) fn holder_is_gone(&self) {
        let relaxed = Ordering::Relaxed;
        let _ = self.locked.compare_exchange(HELD, LOST, relaxed, relaxed);
    }

    /// Gives the lock back.
    ///
    /// # Safety
    /// [INV-OOM-1] The caller holds it.
    pub(crate) unsafe fn unlock<P: Platform>(&self, platform: &P) {
        // Release: pairs with the Acquire in `try_lock`.
        self.locked.store(FREE, Ordering::Release);
        // Each wake-up is for one: who gets the lock then wakes the next when it gives it back.
        self.waiting.wake_one(platform);
    }
}
