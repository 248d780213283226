//! What a machine calls while its guard lives.

use super::home::Home;
use super::std::boxed::Box;
use core::ops::Deref;
use core::ptr::NonNull;

/// A value that a machine knows by its address. It stays there until this is dropped, which its
/// guard does after it has unregistered it.
///
/// In the child of a fork it is never freed: another thread of the parent may have been in it at
/// that moment.
pub(super) struct Registered<T> {
    /// [INV-HOST-7] As it was given out by a box; shared until the drop.
    value: NonNull<T>,
    home: Home,
}

// SAFETY: [INV-HOST-7] it gives shared references, and frees the value, perhaps on another thread.
unsafe impl<T: Send + Sync> Send for Registered<T> {}
// SAFETY: [INV-HOST-7] a shared one gives shared references.
unsafe impl<T: Sync> Sync for Registered<T> {}

impl<T> Registered<T> {
    pub(super) fn new(value: T) -> Registered<T> {
        Registered {
            value: NonNull::from(Box::leak(Box::new(value))),
            home: Home::here(),
        }
    }

    /// What is registered.
    pub(super) fn address(&self) -> NonNull<T> {
        self.value
    }

    /// False in a child of the process that registered it.
    pub(super) fn is_ours(&self) -> bool {
        self.home.is_here()
    }
}

impl<T> Deref for Registered<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: [INV-HOST-7] it lives until the drop, and is never borrowed exclusively.
        unsafe { self.value.as_ref() }
    }
}

impl<T> Drop for Registered<T> {
    fn drop(&mut self) {
        if self.is_ours() {
            // SAFETY: [INV-HOST-7] from a box; it is registered no more, and no call is under way.
            drop(unsafe { Box::from_raw(self.value.as_ptr()) });
        }
    }
}
