//! Bytes of one's own.

use super::Host;
use core::fmt;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;
use core::slice;
use gfp::AllocError;
use gfp::flags::Gfp;

/// Bytes from a [`Host`], freed when dropped. Read as zero at first.
///
/// [INV-HOST-6] It has the only pointer to its bytes, which are memory of the machine, initialised,
/// from when it is made until it is dropped.
pub struct Buffer {
    host: Host,
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: [INV-HOST-6] its bytes are its own, and memory may be freed on any thread.
unsafe impl Send for Buffer {}
// SAFETY: [INV-HOST-6] a shared one gives shared references to its bytes, and no more.
unsafe impl Sync for Buffer {}

impl Host {
    /// `len` bytes that read as zero, from kmalloc or, where that has no room, from vmalloc (as
    /// [`Mm::kvzalloc`](gfp::Mm::kvzalloc)). Aligned to 8 bytes at least.
    ///
    /// Context: what `gfp` says; with `GFP_KERNEL` a thread that may wait, with no lock held that a
    /// shrinker wants.
    ///
    /// # Errors
    /// [`AllocError`]: there is no memory, nor did anybody give some.
    pub fn buffer(&self, len: usize, gfp: Gfp) -> Result<Buffer, AllocError> {
        let start = match len {
            0 => NonNull::dangling(),
            _ => self.kvzalloc(len, gfp)?,
        };
        Ok(Buffer {
            host: self.clone(),
            start,
            len,
        })
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.len != 0 {
            // SAFETY: [INV-HOST-6] from `kvzalloc` of this machine; nobody uses it any more.
            unsafe { self.host.kvfree(self.start.as_ptr()) };
        }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: [INV-HOST-6] so many bytes, which stay while the buffer is borrowed.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: [INV-HOST-6] as above, and it is borrowed exclusively.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes at {:p})", self.len, self.start)
    }
}
