//! The lock of the killer (P128): requests try it, who registers waits for it.
//!
//! All interleavings: `interleavings/oom_lock.rs`.

use crate::platform::Platform;
use crate::sync::WaitQueue;
use crate::sync::atomic::{AtomicU32, Ordering};

/// [INV-OOM-1] One at a time holds it.
#[derive(Default)]
pub(crate) struct OomLock {
    /// 1 while somebody holds it.
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
            .compare_exchange(0, 1, Ordering::Acquire, Ordering::Relaxed);
        taken.is_ok()
    }

    /// Waits until the caller holds it.
    ///
    /// Context: a task that may sleep and does not hold it.
    pub(crate) fn lock<P: Platform>(&self, platform: &P) {
        self.waiting.wait_until(platform, || self.try_lock());
    }

    /// Gives the lock back.
    ///
    /// # Safety
    /// [INV-OOM-1] The caller holds it.
    pub(crate) unsafe fn unlock<P: Platform>(&self, platform: &P) {
        // Release: pairs with the Acquire in `try_lock`.
        self.locked.store(0, Ordering::Release);
        // Each wake-up is for one: who gets the lock then wakes the next when it gives it back.
        self.waiting.wake_one(platform);
    }
}
