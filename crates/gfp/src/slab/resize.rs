//! krealloc, ksize, and copies (S22, S23, S26, S27).

use super::Slabs;
use super::kmalloc::{ZERO_SIZE_PTR, zero_or_null};
use crate::error::AllocError;
use crate::flags::Gfp;
use crate::frame::NodeId;
use crate::overflow::{SIZE_MAX, size_add, size_mul};
use crate::platform::Platform;
use crate::policy::size_class;
use core::ffi::CStr;
use core::ptr::NonNull;

impl<P: Platform> Slabs<P> {
    /// Makes an allocation `size` bytes large, in place where its capacity ([`Slabs::ksize`])
    /// allows: always when it shrinks (S22.c). The content is kept up to the smaller of both sizes.
    ///
    /// NULL or [`ZERO_SIZE_PTR`]: as kmalloc. Size 0: frees, and gives the sentinel. With `ZERO`
    /// the bytes behind `size` are cleared, so that growth later shows zeroes, provided that
    /// *every* call for this memory had it (S22.f).
    ///
    /// # Errors
    /// As [`Slabs::kmalloc`], and [`AllocError::BadPointer`] for what is no object in use; the old
    /// memory is as before then.
    ///
    /// # Safety
    /// `ptr` is as for [`Slabs::kfree`]; if another address comes back, the old one is freed.
    #[inline]
    pub unsafe fn krealloc(
        &self,
        ptr: *mut u8,
        size: usize,
        gfp: Gfp,
    ) -> Result<NonNull<u8>, AllocError> {
        // SAFETY: promised by the caller.
        unsafe { self.krealloc_node_align(ptr, size, 1, gfp, None) }
    }

    /// [`Slabs::krealloc`] that also moves the memory when its address is no multiple of `align`,
    /// or, with `THISNODE`, when it lies on another node (S22.h).
    ///
    /// # Errors
    /// As [`Slabs::krealloc`], and [`AllocError::BadAlign`].
    ///
    /// # Safety
    /// As [`Slabs::krealloc`].
    pub unsafe fn krealloc_node_align(
        &self,
        ptr: *mut u8,
        size: usize,
        align: usize,
        gfp: Gfp,
        node: Option<NodeId>,
    ) -> Result<NonNull<u8>, AllocError> {
        let Some(old) = NonNull::new(ptr).filter(|p| !zero_or_null(p.addr().get())) else {
            return self.kmalloc_node_align(size, align, gfp, node); // S22.a
        };
        if size == 0 {
            // SAFETY: promised by the caller.
            let freed = unsafe { self.kfree(ptr) }; // S22.b
            return freed
                .map(|()| ZERO_SIZE_PTR)
                .map_err(|_| AllocError::BadPointer);
        }
        let capacity = self.usable_size(ptr).ok_or(AllocError::BadPointer)?;
        let aligned = old.addr().get() & align.wrapping_sub(1) == 0 && align.is_power_of_two();
        let wrong_node = gfp.contains(Gfp::THISNODE)
            && node.is_some_and(|n| self.pages().node_of(self.pages().pfn_of(ptr.addr())) != n);
        if size <= capacity && aligned && !wrong_node {
            gfp.check_for(crate::flags::Entry::Slab)?;
            if gfp.contains(Gfp::ZERO) {
                // SAFETY: the object is the caller's and has `capacity` usable bytes (S22.e).
                unsafe { old.add(size).write_bytes(0, capacity - size) };
            }
            return Ok(old);
        }
        let new = self.kmalloc_node_align(size, align, gfp, node)?;
        // SAFETY: both are in use and ours, do not overlap, and hold as many bytes (S22.d, S22.h).
        unsafe { old.copy_to_nonoverlapping(new, capacity.min(size)) };
        // SAFETY: promised by the caller.
        if unsafe { self.kfree(ptr) }.is_err() {
            // Its cache was destroyed meanwhile, or it was freed twice.
            // SAFETY: just allocated, and known to nobody else.
            let freed = unsafe { self.kfree(new.as_ptr()) };
            debug_assert!(freed.is_ok());
            return Err(AllocError::BadPointer);
        }
        Ok(new)
    }

    /// [`Slabs::krealloc`] to `n` times `size` bytes (S23).
    ///
    /// # Errors
    /// [`AllocError::Overflow`] if that is no size, nothing happened then; else as
    /// [`Slabs::krealloc`].
    ///
    /// # Safety
    /// As [`Slabs::krealloc`].
    pub unsafe fn krealloc_array(
        &self,
        ptr: *mut u8,
        n: usize,
        size: usize,
        gfp: Gfp,
    ) -> Result<NonNull<u8>, AllocError> {
        match size_mul(n, size) {
            SIZE_MAX => Err(AllocError::Overflow),
            // SAFETY: promised by the caller.
            bytes => unsafe { self.krealloc(ptr, bytes, gfp) },
        }
    }

    /// The usable bytes of an allocation (S26); 0 for NULL, [`ZERO_SIZE_PTR`], and what is none.
    #[inline]
    pub fn ksize(&self, ptr: *const u8) -> usize {
        self.usable_size(ptr).unwrap_or(0)
    }

    /// What [`Slabs::ksize`] would say of an allocation of `size` bytes (S26).
    #[inline]
    pub fn kmalloc_size_roundup(&self, size: usize) -> usize {
        size_class::kmalloc_size_roundup(size)
    }

    /// A copy of `src` (S27).
    ///
    /// # Errors
    /// As [`Slabs::kmalloc`].
    pub fn kmemdup(&self, src: &[u8], gfp: Gfp) -> Result<NonNull<u8>, AllocError> {
        let copy = self.kmalloc(src.len(), gfp.without(Gfp::ZERO), None)?;
        // SAFETY: the new memory has room for `src`; for no bytes nothing is written.
        unsafe { copy.copy_from_nonoverlapping(NonNull::from(src).cast(), src.len()) };
        Ok(copy)
    }

    /// A copy of `src` with a NUL behind it (S27).
    ///
    /// # Errors
    /// As [`Slabs::kmalloc`].
    pub fn kmemdup_nul(&self, src: &[u8], gfp: Gfp) -> Result<NonNull<u8>, AllocError> {
        let copy = self.kmalloc(size_add(src.len(), 1), gfp.without(Gfp::ZERO), None)?;
        // SAFETY: the new memory has room for `src` and one byte more.
        unsafe {
            copy.copy_from_nonoverlapping(NonNull::from(src).cast(), src.len());
            copy.add(src.len()).write(0);
        }
        Ok(copy)
    }

    /// A copy of a string (S27).
    ///
    /// # Errors
    /// As [`Slabs::kmalloc`].
    pub fn kstrdup(&self, s: &CStr, gfp: Gfp) -> Result<NonNull<u8>, AllocError> {
        self.kmemdup(s.to_bytes_with_nul(), gfp)
    }

    /// A copy of the bytes before the first NUL, at most `max`, with a NUL behind them (S27).
    ///
    /// # Errors
    /// As [`Slabs::kmalloc`].
    pub fn kstrndup(&self, s: &[u8], max: usize, gfp: Gfp) -> Result<NonNull<u8>, AllocError> {
        let s = &s[..s.len().min(max)];
        let len = s.iter().position(|b| *b == 0).unwrap_or(s.len());
        self.kmemdup_nul(&s[..len], gfp)
    }
}
