//! A value that is written once, before anybody reads it.

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicBool, Ordering};

/// Empty at first; full from [`Once::set`] on.
pub struct Once<T> {
    ready: AtomicBool,
    value: UnsafeCell<MaybeUninit<T>>,
}

// SAFETY: [INV-KERNEL-6] written once, by the first CPU before the others start, then only read.
unsafe impl<T: Send + Sync> Sync for Once<T> {}

impl<T> Once<T> {
    /// An empty one.
    pub const fn new() -> Once<T> {
        Once {
            ready: AtomicBool::new(false),
            value: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }

    /// Fills it. On the first CPU, before the others start, outside of interrupts.
    ///
    /// # Panics
    /// If it is full.
    pub fn set(&self, value: T) -> &T {
        assert!(!self.ready.load(Ordering::Relaxed), "it is set once");
        // SAFETY: [INV-KERNEL-6] nobody reads before `ready`.
        let value = unsafe { (*self.value.get()).write(value) };
        // Release: pairs with the Acquire in `get`.
        self.ready.store(true, Ordering::Release);
        value
    }

    /// The value, if it is there.
    #[inline]
    pub fn get(&self) -> Option<&T> {
        // Acquire: pairs with the Release in `set`.
        if !self.ready.load(Ordering::Acquire) {
            return None;
        }
        // SAFETY: [INV-KERNEL-6] it was written before, and is never again.
        Some(unsafe { (*self.value.get()).assume_init_ref() })
    }
}

impl<T> Default for Once<T> {
    fn default() -> Once<T> {
        Once::new()
    }
}
