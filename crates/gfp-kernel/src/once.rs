//! A value that is written once, before anybody reads it.

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicBool, Ordering};

/// Empty at first; full from [`Once::set`] on.
pub struct Once<T> {
    /// Somebody fills it, or did.
    claimed: AtomicBool,
    ready: AtomicBool,
    value: UnsafeCell<MaybeUninit<T>>,
}

// SAFETY: [INV-KERNEL-6] written once, by who claimed it, before `ready`; then only read.
unsafe impl<T: Send + Sync> Sync for Once<T> {}

impl<T> Once<T> {
    /// An empty one.
    pub const fn new() -> Once<T> {
        Once {
            claimed: AtomicBool::new(false),
            ready: AtomicBool::new(false),
            value: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }

    /// Fills it.
    ///
    /// # Panics
    /// If it is full.
    pub fn set(&self, value: T) -> &T {
        // Relaxed: who comes second does nothing.
        let claimed = self.claimed.swap(true, Ordering::Relaxed);
        assert!(!claimed, "it is set once");
        // SAFETY: [INV-KERNEL-6] we are who claimed it, and nobody reads before `ready`.
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
