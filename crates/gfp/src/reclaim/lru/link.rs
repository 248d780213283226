//! Pages that are linked when they are first needed, by one exchange, and kept: what is there is
//! found without a lock.
//!
//! All interleavings: `interleavings/link.rs`.

use crate::frame::PAGE_SIZE;
use crate::sync::atomic::{AtomicPtr, Ordering};
use core::ptr::{NonNull, null_mut};

/// Where pages come from, and go back to if somebody else was first.
pub(super) trait Source {
    /// A page that reads as zero.
    fn take(&self) -> Option<NonNull<u8>>;
    /// A page that was not needed.
    fn give_back(&self, page: NonNull<u8>);
}

/// Nowhere: what is not there is not made.
pub(super) struct Nowhere;

impl Source for Nowhere {
    fn take(&self) -> Option<NonNull<u8>> {
        None
    }

    fn give_back(&self, _: NonNull<u8>) {}
}

/// What an entry points to; made if it is not there, as far as `source` can.
///
/// # Safety
/// [INV-LRU-1] Whatever is linked at `entry` was linked here and is kept, and `fill` makes a page
/// of zeroes a `T`.
pub(super) unsafe fn follow<'s, T>(
    entry: &'s AtomicPtr<T>,
    source: &impl Source,
    fill: impl FnOnce(*mut T),
) -> Option<&'s T> {
    const { assert!(size_of::<T>() <= PAGE_SIZE && align_of::<T>() <= PAGE_SIZE) };
    // Acquire: pairs with the Release below; what `fill` wrote is seen.
    let there = entry.load(Ordering::Acquire);
    // SAFETY: [INV-LRU-1] what is linked is a valid `T` and kept.
    if let Some(there) = unsafe { there.as_ref() } {
        return Some(there);
    }
    let page = source.take()?;
    let new = page.cast::<T>().as_ptr();
    fill(new);
    // Release: pairs with the Acquire above, and, when it fails, Acquire with the winner's Release.
    match entry.compare_exchange(null_mut(), new, Ordering::Release, Ordering::Acquire) {
        // SAFETY: [INV-LRU-1] a page of our own that was filled, linked now and kept.
        Ok(_) => Some(unsafe { &*new }),
        Err(theirs) => {
            source.give_back(page);
            // SAFETY: [INV-LRU-1] as above.
            unsafe { theirs.as_ref() }
        }
    }
}
