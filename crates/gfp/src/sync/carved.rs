//! A slice in memory that was taken from the machine's RAM at boot.

use core::ops::Deref;
use core::ptr::NonNull;

/// A shared slice that lives as long as the machine.
///
/// [INV-BOOT-1] Carved memory is never returned, so the slice stays valid while its holder (a part
/// of `Mm`) lives: the platform keeps RAM alive until `Mm` is dropped.
pub struct Carved<T> {
    ptr: NonNull<T>,
    len: usize,
}

#[cfg_attr(loom, allow(dead_code, reason = "for what is not built then"))]
impl<T> Carved<T> {
    /// An empty slice.
    pub(crate) const fn empty() -> Carved<T> {
        Carved {
            ptr: NonNull::dangling(),
            len: 0,
        }
    }

    /// # Safety
    /// `ptr` must point to `len` initialised values of `T`, aligned, valid for reads and (through
    /// interior mutability) writes until the machine is dropped, and used by nobody else.
    pub(crate) const unsafe fn new(ptr: NonNull<T>, len: usize) -> Carved<T> {
        Carved { ptr, len }
    }

    /// A part of the slice as a slice of its own.
    ///
    /// # Panics
    /// If the range is not inside: a mistake of boot code, not of a user.
    pub(crate) fn part(&self, start: usize, len: usize) -> Carved<T> {
        let part = &self[start..start + len];
        Carved {
            ptr: NonNull::from(part).cast(),
            len,
        }
    }
}

impl<T> Deref for Carved<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: [INV-BOOT-1] `new` was given initialised memory that outlives `self`.
        unsafe { core::slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
    }
}

// SAFETY: [INV-BOOT-1] a `Carved` is a shared slice: it may be sent and shared as `&[T]` may.
unsafe impl<T: Sync> Send for Carved<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Carved<T> {}
