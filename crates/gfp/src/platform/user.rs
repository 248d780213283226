//! User space: memory that may not be there.

use super::Platform;
use core::ptr::NonNull;

/// An address that user space gave. It may be any number; only [`UserMemory`] looks behind it.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct UserAddr(pub usize);

/// The capability to copy from and to user space: what `memdup_user` needs.
///
/// # Safety
/// The implementor promises that [`UserMemory::read_user`] writes nothing but `to`, all of it but
/// as many bytes at its end as it answers; that [`UserMemory::write_user`] writes to user space
/// only; and that neither reaches memory of the kernel by way of an address of user space.
pub unsafe trait UserMemory: Platform {
    /// Copies `n` bytes from user space. Returns how many at the end could not be read, because
    /// user space has no memory there, or `from` is no address of it.
    ///
    /// Context: a task; it may wait for a page of user space.
    ///
    /// # Safety
    /// `n` bytes at `to` may be written.
    unsafe fn read_user(&self, to: NonNull<u8>, from: UserAddr, n: usize) -> usize;

    /// Copies `n` bytes to user space. Returns how many at the end could not be written.
    ///
    /// Context: as [`UserMemory::read_user`].
    ///
    /// # Safety
    /// `n` bytes at `from` are initialised.
    unsafe fn write_user(&self, to: UserAddr, from: NonNull<u8>, n: usize) -> usize;
}
