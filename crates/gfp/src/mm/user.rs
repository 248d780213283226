//! Copies from and to user space (S16, S27, S48, D60).

use super::Mm;
use crate::error::AllocError;
use crate::flags::{GFP_KERNEL, GFP_USER, Gfp};
use crate::overflow::size_add;
use crate::platform::{Paging, Platform, UserAddr, UserMemory};
use crate::policy::size_class::ZERO_SIZE_ADDR;
use crate::report::{Caller, Misuse, Owner};
use crate::slab::SlabCopy;
use core::fmt;
use core::ptr::NonNull;

/// Which way a copy goes.
#[derive(Copy, Clone)]
enum CopyWay {
    /// Memory of the kernel is shown to user space.
    ToUser,
    /// Memory of the kernel is overwritten by user space.
    FromUser,
}

/// Why bytes must not be copied to or from user space (D60).
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum CopyRefusal {
    /// They do not fit below the end of all addresses.
    WrappedAddress,
    /// Their address is null or the zero-size pointer (S16).
    NullAddress,
    /// Some lie outside of the cache's window, or of the object: the object has another size, or
    /// its cache was made without a window.
    OutsideWindow,
    /// They lie behind the end of a block of pages, of a large kmalloc or of an area.
    PastEnd,
    /// The memory is free.
    Free,
}

/// Why there is no copy from or to user space.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum UserError {
    /// No memory for the copy (`-ENOMEM`).
    Alloc(AllocError),
    /// User space has no memory there (`-EFAULT`).
    Fault,
    /// The string has no end within the limit (`-EINVAL`).
    TooLong,
    /// The copy would show or overwrite what it must not (D60); it was reported.
    Refused(CopyRefusal),
}

impl From<AllocError> for UserError {
    fn from(error: AllocError) -> UserError {
        UserError::Alloc(error)
    }
}

impl fmt::Display for UserError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UserError::Alloc(error) => error.fmt(f),
            UserError::Fault => f.write_str("user space has no memory at that address"),
            UserError::TooLong => f.write_str("the string of user space has no end in time"),
            UserError::Refused(why) => f.write_str(match why {
                CopyRefusal::WrappedAddress => "the copy wraps around the end of all addresses",
                CopyRefusal::NullAddress => "a copy at null or at the zero-size pointer",
                CopyRefusal::OutsideWindow => "a copy outside of the window of the object's cache",
                CopyRefusal::PastEnd => "a copy past the end of the allocation",
                CopyRefusal::Free => "a copy of free memory",
            }),
        }
    }
}

impl core::error::Error for UserError {}

impl<P: Platform> Mm<P> {
    /// Whether `n` bytes at `ptr` may be copied to or from user space (`check_object_size`; D60):
    /// all of an allocation may, of a cache's object its window. Memory of others (stacks,
    /// statics) is not looked at. A copy of no bytes may always be made (S16).
    ///
    /// Context: any.
    ///
    /// # Errors
    /// [`CopyRefusal`]; nothing is reported.
    pub fn check_object_size(&self, ptr: *const u8, n: usize) -> Result<(), CopyRefusal> {
        if n == 0 {
            return Ok(());
        }
        let addr = ptr.addr();
        let last = addr.checked_add(n - 1).ok_or(CopyRefusal::WrappedAddress)?;
        if addr <= ZERO_SIZE_ADDR {
            return Err(CopyRefusal::NullAddress);
        }
        match self.slabs().check_copy(addr, n) {
            SlabCopy::Allowed => return Ok(()),
            SlabCopy::NoObject => return Err(CopyRefusal::Free),
            SlabCopy::OutsideWindow => return Err(CopyRefusal::OutsideWindow),
            SlabCopy::Elsewhere => {}
        }
        self.with_owner_of(addr, |owner| {
            let (start, size) = match owner {
                Owner::Free { .. } | Owner::FreedArea { .. } => return Err(CopyRefusal::Free),
                Owner::LargeKmalloc { start, size } => (start, size),
                Owner::DmaCoherent { start, size } => (start, size),
                Owner::Area { start, size } => (start, size),
                Owner::Pages { pfn, order } => {
                    (self.pages().ptr_of(pfn).addr().get(), order.bytes())
                }
                _ => return Ok(()),
            };
            match last - start < size {
                true => Ok(()),
                false => Err(CopyRefusal::PastEnd),
            }
        })
    }

    /// [`Mm::check_object_size`], and a report of what is refused.
    #[track_caller]
    fn check_copy(&self, ptr: *const u8, n: usize, way: CopyWay) -> Result<(), UserError> {
        let Err(refusal) = self.check_object_size(ptr, n) else {
            return Ok(());
        };
        let misuse = match way {
            CopyWay::ToUser => Misuse::Exposure { bytes: n },
            CopyWay::FromUser => Misuse::Overwrite { bytes: n },
        };
        self.complain(misuse, ptr.addr(), Caller::here());
        Err(UserError::Refused(refusal))
    }
}

/// How much of a string of user space is looked at in one go: a piece that lies in one page.
const PIECE: usize = 64;

impl<P: UserMemory> Mm<P> {
    /// Copies `n` bytes from user space, once the memory is one that may be overwritten
    /// (`copy_from_user`; D60). What could not be read is zeroed.
    ///
    /// Context: a task; it may wait for a page of user space.
    ///
    /// # Errors
    /// [`UserError::Refused`]: nothing was written. [`UserError::Fault`].
    ///
    /// # Safety
    /// If the check allows it: `n` bytes at `to` may be written.
    #[track_caller]
    pub unsafe fn copy_from_user(
        &self,
        to: *mut u8,
        from: UserAddr,
        n: usize,
    ) -> Result<(), UserError> {
        self.check_copy(to, n, CopyWay::FromUser)?;
        let Some(at) = NonNull::new(to).filter(|_| n != 0) else {
            return Ok(());
        };
        // SAFETY: promised by the caller.
        unsafe { self.read_user(at, from, n) }
    }

    /// Reads `n` bytes, and zeroes what is not there.
    ///
    /// # Safety
    /// `n` bytes at `to` may be written.
    unsafe fn read_user(&self, to: NonNull<u8>, from: UserAddr, n: usize) -> Result<(), UserError> {
        // SAFETY: promised by the caller.
        let left = unsafe { self.platform().read_user(to, from, n) };
        if left == 0 {
            return Ok(());
        }
        let left = left.min(n);
        // SAFETY: as above.
        unsafe { to.add(n - left).write_bytes(0, left) };
        Err(UserError::Fault)
    }

    /// Copies `n` bytes to user space, once they are such that may be shown (`copy_to_user`; D60).
    ///
    /// Context: as [`Mm::copy_from_user`].
    ///
    /// # Errors
    /// [`UserError::Refused`]: nothing was read. [`UserError::Fault`].
    ///
    /// # Safety
    /// If the check allows it: `n` bytes at `from` are initialised.
    #[track_caller]
    pub unsafe fn copy_to_user(
        &self,
        to: UserAddr,
        from: *const u8,
        n: usize,
    ) -> Result<(), UserError> {
        self.check_copy(from, n, CopyWay::ToUser)?;
        let Some(at) = NonNull::new(from.cast_mut()).filter(|_| n != 0) else {
            return Ok(());
        };
        // SAFETY: promised by the caller.
        match unsafe { self.platform().write_user(to, at, n) } {
            0 => Ok(()),
            _ => Err(UserError::Fault),
        }
    }

    /// A copy of `n` bytes of user space (`memdup_user`; S27). Freed with [`Mm::kfree`].
    ///
    /// Context: a task that may sleep.
    ///
    /// # Errors
    /// [`UserError::Alloc`], [`UserError::Fault`].
    #[track_caller]
    pub fn memdup_user(&self, from: UserAddr, n: usize) -> Result<NonNull<u8>, UserError> {
        // User space says how much: that there is no room for it is no news.
        let copy = self.kmalloc(n, GFP_USER | Gfp::NOWARN)?;
        self.filled(copy, from, n)
    }

    /// [`Mm::memdup_user`] with a NUL behind it (`memdup_user_nul`; S27).
    ///
    /// # Errors
    /// As [`Mm::memdup_user`].
    #[track_caller]
    pub fn memdup_user_nul(&self, from: UserAddr, n: usize) -> Result<NonNull<u8>, UserError> {
        let copy = self.kmalloc(size_add(n, 1), GFP_KERNEL | Gfp::NOWARN)?;
        // SAFETY: one byte more than is copied.
        unsafe { copy.add(n).write(0) };
        self.filled(copy, from, n)
    }

    /// Fills a new object with `n` bytes of user space, or frees it.
    fn filled(
        &self,
        copy: NonNull<u8>,
        from: UserAddr,
        n: usize,
    ) -> Result<NonNull<u8>, UserError> {
        if n == 0 {
            return Ok(copy);
        }
        // SAFETY: just allocated, with at least `n` bytes, and known to nobody else.
        unsafe {
            if let Err(error) = self.read_user(copy, from, n) {
                self.kfree(copy.as_ptr());
                return Err(error);
            }
        }
        Ok(copy)
    }

    /// Bytes of a string of user space, its NUL included (`strnlen_user`); `None` if there is none
    /// among the first `max`.
    ///
    /// Context: a task; it may wait for a page of user space.
    ///
    /// # Errors
    /// [`UserError::Fault`]: it runs into what is no memory.
    pub fn strnlen_user(&self, from: UserAddr, max: usize) -> Result<Option<usize>, UserError> {
        let mut seen = 0;
        while seen < max {
            let at = from.0.checked_add(seen).ok_or(UserError::Fault)?;
            // Up to the next multiple, so that no piece reaches into another page.
            let n = (PIECE - at % PIECE).min(max - seen);
            let mut piece = [0u8; PIECE];
            // SAFETY: the piece has room for as many.
            unsafe { self.read_user(NonNull::from(&mut piece).cast(), UserAddr(at), n) }?;
            if let Some(end) = piece[..n].iter().position(|byte| *byte == 0) {
                return Ok(Some(seen + end + 1));
            }
            seen += n;
        }
        Ok(None)
    }

    /// A copy of a string of user space, of at most `max` bytes with its NUL (`strndup_user`;
    /// S27). It ends with a NUL, whatever user space does meanwhile.
    ///
    /// # Errors
    /// As [`Mm::memdup_user`]; [`UserError::TooLong`].
    #[track_caller]
    pub fn strndup_user(&self, from: UserAddr, max: usize) -> Result<NonNull<u8>, UserError> {
        let length = self.strnlen_user(from, max)?.ok_or(UserError::TooLong)?;
        let copy = self.memdup_user(from, length)?;
        // SAFETY: at least one byte, which is ours.
        unsafe { copy.add(length - 1).write(0) };
        Ok(copy)
    }
}

impl<P: UserMemory + Paging> Mm<P> {
    /// [`Mm::memdup_user`] in memory from `kvmalloc` (`vmemdup_user`; S27). Freed with
    /// [`Mm::kvfree`].
    ///
    /// # Errors
    /// As [`Mm::memdup_user`].
    #[track_caller]
    pub fn vmemdup_user(&self, from: UserAddr, n: usize) -> Result<NonNull<u8>, UserError> {
        let copy = self.kvmalloc(n, GFP_USER | Gfp::NOWARN)?;
        if n == 0 {
            return Ok(copy);
        }
        // SAFETY: just allocated, with at least `n` bytes, and known to nobody else.
        unsafe {
            if let Err(error) = self.read_user(copy, from, n) {
                self.kvfree(copy.as_ptr());
                return Err(error);
            }
        }
        Ok(copy)
    }
}
