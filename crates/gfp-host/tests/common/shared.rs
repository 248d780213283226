//! A lock for tests under ThreadSanitizer.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, Ordering};

/// What threads share, under a lock that ThreadSanitizer sees: std's is not instrumented.
#[derive(Default)]
pub(crate) struct Shared<T> {
    busy: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached in `with` only, by one thread at a time.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    pub(crate) fn with<R>(&self, work: impl FnOnce(&mut T) -> R) -> R {
        while self.busy.swap(true, Ordering::Acquire) {
            std::thread::yield_now();
        }
        // SAFETY: `busy` was false and is ours until it is false again.
        let result = work(unsafe { &mut *self.value.get() });
        self.busy.store(false, Ordering::Release);
        result
    }
}
