//! Objects: kmalloc and its relatives, and slab caches.

use super::Mm;
use crate::error::AllocError;
use crate::flags::Gfp;
use crate::frame::NodeId;
use crate::platform::Platform;
use crate::report::{Caller, Misuse};
use crate::slab::{CacheArgs, CacheError, CacheRef};
use core::ffi::CStr;
use core::ptr::NonNull;

impl<P: Platform> Mm<P> {
    /// `size` bytes, physically contiguous (`kmalloc`; G1, G12). Aligned to the size if that is a
    /// power of two, else to its largest power-of-two divisor, at least 8 (S13). `size` 0 gives
    /// [`ZERO_SIZE_PTR`](crate::slab::ZERO_SIZE_PTR) (S15). At most 4 MiB (S1).
    ///
    /// # Errors
    /// No memory, flags that slab refuses (S17), a size above 4 MiB (S11).
    #[track_caller]
    #[inline]
    pub fn kmalloc(&self, size: usize, gfp: Gfp) -> Result<NonNull<u8>, AllocError> {
        self.enters(gfp);
        self.slabs().kmalloc(size, gfp, None)
    }

    /// [`Mm::kmalloc`], from a node if it can be (`kmalloc_node`; S21).
    ///
    /// # Errors
    /// As [`Mm::kmalloc`].
    #[track_caller]
    pub fn kmalloc_node(
        &self,
        size: usize,
        gfp: Gfp,
        node: NodeId,
    ) -> Result<NonNull<u8>, AllocError> {
        self.enters(gfp);
        self.slabs().kmalloc(size, gfp, Some(node))
    }

    /// [`Mm::kmalloc`] with an alignment that is honoured or refused (S41): any power of two up to
    /// 4 MiB.
    ///
    /// # Errors
    /// As [`Mm::kmalloc`]; [`AllocError::BadAlign`].
    #[track_caller]
    #[inline]
    pub fn kmalloc_aligned(
        &self,
        size: usize,
        align: usize,
        gfp: Gfp,
    ) -> Result<NonNull<u8>, AllocError> {
        self.enters(gfp);
        self.slabs().kmalloc_aligned(size, align, gfp)
    }

    /// [`Mm::kmalloc`] that reads as zero (`kzalloc`; S19).
    ///
    /// # Errors
    /// As [`Mm::kmalloc`].
    #[track_caller]
    #[inline]
    pub fn kzalloc(&self, size: usize, gfp: Gfp) -> Result<NonNull<u8>, AllocError> {
        self.kmalloc(size, gfp | Gfp::ZERO)
    }

    /// [`Mm::kzalloc`], from a node if it can be (`kzalloc_node`; S21).
    ///
    /// # Errors
    /// As [`Mm::kmalloc`].
    #[track_caller]
    pub fn kzalloc_node(
        &self,
        size: usize,
        gfp: Gfp,
        node: NodeId,
    ) -> Result<NonNull<u8>, AllocError> {
        self.kmalloc_node(size, gfp | Gfp::ZERO, node)
    }

    /// `n` times `size` bytes (`kmalloc_array`; S20).
    ///
    /// # Errors
    /// As [`Mm::kmalloc`]; [`AllocError::Overflow`].
    #[track_caller]
    pub fn kmalloc_array(
        &self,
        n: usize,
        size: usize,
        gfp: Gfp,
    ) -> Result<NonNull<u8>, AllocError> {
        self.kmalloc(n.checked_mul(size).ok_or(AllocError::Overflow)?, gfp)
    }

    /// [`Mm::kmalloc_array`] that reads as zero (`kcalloc`; S20).
    ///
    /// # Errors
    /// As [`Mm::kmalloc_array`].
    #[track_caller]
    pub fn kcalloc(&self, n: usize, size: usize, gfp: Gfp) -> Result<NonNull<u8>, AllocError> {
        self.kmalloc_array(n, size, gfp | Gfp::ZERO)
    }

    /// Frees what kmalloc or a cache gave (`kfree`; S24, S42); null and the zero-size pointer are
    /// ignored. A double, interior or wild free is reported and ignored.
    ///
    /// # Safety
    /// Nobody may use the object any more.
    #[track_caller]
    #[inline]
    pub unsafe fn kfree(&self, ptr: *mut u8) {
        // SAFETY: promised by the caller.
        if let Err(misuse) = unsafe { self.slabs().kfree(ptr) } {
            self.complain(misuse, ptr.addr(), Caller::here());
        }
    }

    /// [`Mm::kfree`] that clears the object first, in a way that is not optimised away
    /// (`kfree_sensitive`; S25).
    ///
    /// # Safety
    /// As [`Mm::kfree`].
    #[track_caller]
    pub unsafe fn kfree_sensitive(&self, ptr: *mut u8) {
        // SAFETY: promised by the caller.
        let result = unsafe { self.slabs().kfree_sensitive(ptr) };
        self.freed(result, ptr.addr(), Caller::here());
    }

    /// Frees many objects, of any caches (`kfree_bulk`; S28).
    ///
    /// # Safety
    /// As [`Mm::kfree`], for each.
    #[track_caller]
    pub unsafe fn kfree_bulk(&self, ptrs: &mut [*mut u8]) {
        for ptr in ptrs {
            // SAFETY: promised by the caller.
            unsafe { self.kfree(*ptr) };
        }
    }

    /// Resizes what kmalloc gave, keeping its content (`krealloc`; S22). Null allocates, size 0
    /// frees and gives the zero-size pointer. On failure the old memory stays valid.
    ///
    /// # Errors
    /// As [`Mm::kmalloc`]; [`AllocError::BadPointer`], reported too.
    ///
    /// # Safety
    /// `ptr` is null or from kmalloc; when the call succeeds it may not be used any more.
    #[track_caller]
    pub unsafe fn krealloc(
        &self,
        ptr: *mut u8,
        size: usize,
        gfp: Gfp,
    ) -> Result<NonNull<u8>, AllocError> {
        self.enters(gfp);
        // SAFETY: promised by the caller.
        let result = unsafe { self.slabs().krealloc(ptr, size, gfp) };
        if result == Err(AllocError::BadPointer) {
            self.complain(Misuse::WildFree, ptr.addr(), Caller::here());
        }
        result
    }

    /// [`Mm::krealloc`] to `n` times `size` bytes (`krealloc_array`; S23).
    ///
    /// # Errors
    /// As [`Mm::krealloc`]; [`AllocError::Overflow`], the old memory stays.
    ///
    /// # Safety
    /// As [`Mm::krealloc`].
    #[track_caller]
    pub unsafe fn krealloc_array(
        &self,
        ptr: *mut u8,
        n: usize,
        size: usize,
        gfp: Gfp,
    ) -> Result<NonNull<u8>, AllocError> {
        let bytes = n.checked_mul(size).ok_or(AllocError::Overflow)?;
        // SAFETY: promised by the caller.
        unsafe { self.krealloc(ptr, bytes, gfp) }
    }

    /// Bytes usable behind a pointer from kmalloc (`ksize`; S26); 0 for null, the zero-size pointer
    /// and what is not from kmalloc.
    #[inline]
    pub fn ksize(&self, ptr: *const u8) -> usize {
        self.slabs().ksize(ptr)
    }

    /// The usable size that [`Mm::kmalloc`] of `size` would have (`kmalloc_size_roundup`; S26).
    pub fn kmalloc_size_roundup(&self, size: usize) -> usize {
        crate::policy::size_class::kmalloc_size_roundup(size)
    }

    /// A copy of `src` (`kmemdup`; S27).
    ///
    /// # Errors
    /// As [`Mm::kmalloc`].
    #[track_caller]
    pub fn kmemdup(&self, src: &[u8], gfp: Gfp) -> Result<NonNull<u8>, AllocError> {
        self.enters(gfp);
        self.slabs().kmemdup(src, gfp)
    }

    /// A copy of `src` with a NUL after it (`kmemdup_nul`; S27).
    ///
    /// # Errors
    /// As [`Mm::kmalloc`].
    #[track_caller]
    pub fn kmemdup_nul(&self, src: &[u8], gfp: Gfp) -> Result<NonNull<u8>, AllocError> {
        self.enters(gfp);
        self.slabs().kmemdup_nul(src, gfp)
    }

    /// A copy of a string (`kstrdup`; S27).
    ///
    /// # Errors
    /// As [`Mm::kmalloc`].
    #[track_caller]
    pub fn kstrdup(&self, s: &CStr, gfp: Gfp) -> Result<NonNull<u8>, AllocError> {
        self.enters(gfp);
        self.slabs().kstrdup(s, gfp)
    }

    /// A copy of at most `max` bytes of `s` up to its first NUL, terminated (`kstrndup`; S27).
    ///
    /// # Errors
    /// As [`Mm::kmalloc`].
    #[track_caller]
    pub fn kstrndup(&self, s: &[u8], max: usize, gfp: Gfp) -> Result<NonNull<u8>, AllocError> {
        self.enters(gfp);
        self.slabs().kstrndup(s, max, gfp)
    }

    /// Makes a cache of objects of one size (`kmem_cache_create`; G17, S45-S53).
    ///
    /// # Errors
    /// What is wrong with the arguments; no memory.
    pub fn kmem_cache_create(&self, args: &CacheArgs<'_>) -> Result<CacheRef, CacheError> {
        self.slabs().cache_create(args)
    }

    /// An object of a cache (`kmem_cache_alloc`; S60).
    ///
    /// # Errors
    /// As [`Mm::kmalloc`]; [`AllocError::BadPointer`] if the cache was destroyed.
    #[track_caller]
    #[inline]
    pub fn kmem_cache_alloc(&self, cache: CacheRef, gfp: Gfp) -> Result<NonNull<u8>, AllocError> {
        self.enters(gfp);
        self.slabs().cache_alloc(cache, gfp, None)
    }

    /// [`Mm::kmem_cache_alloc`] that reads as zero (`kmem_cache_zalloc`).
    ///
    /// # Errors
    /// As [`Mm::kmem_cache_alloc`].
    #[track_caller]
    pub fn kmem_cache_zalloc(&self, cache: CacheRef, gfp: Gfp) -> Result<NonNull<u8>, AllocError> {
        self.kmem_cache_alloc(cache, gfp | Gfp::ZERO)
    }

    /// [`Mm::kmem_cache_alloc`], from a node if it can be (`kmem_cache_alloc_node`).
    ///
    /// # Errors
    /// As [`Mm::kmem_cache_alloc`].
    #[track_caller]
    pub fn kmem_cache_alloc_node(
        &self,
        cache: CacheRef,
        gfp: Gfp,
        node: NodeId,
    ) -> Result<NonNull<u8>, AllocError> {
        self.enters(gfp);
        self.slabs().cache_alloc(cache, gfp, Some(node))
    }

    /// Gives an object back to its cache (`kmem_cache_free`; S43). A double, interior or wild free,
    /// and an object of another cache, are reported and ignored.
    ///
    /// # Safety
    /// Nobody may use the object any more.
    #[track_caller]
    #[inline]
    pub unsafe fn kmem_cache_free(&self, cache: CacheRef, ptr: *mut u8) {
        // SAFETY: promised by the caller.
        if let Err(misuse) = unsafe { self.slabs().cache_free(cache, ptr) } {
            self.complain(misuse, ptr.addr(), Caller::here());
        }
    }

    /// Fills `out` with objects, or leaves it as it is (`kmem_cache_alloc_bulk`; S61).
    ///
    /// # Errors
    /// As [`Mm::kmem_cache_alloc`].
    #[track_caller]
    pub fn kmem_cache_alloc_bulk(
        &self,
        cache: CacheRef,
        gfp: Gfp,
        out: &mut [*mut u8],
    ) -> Result<(), AllocError> {
        self.enters(gfp);
        self.slabs().alloc_bulk(cache, gfp, out)
    }

    /// Gives many objects back to their cache (`kmem_cache_free_bulk`; S62).
    ///
    /// # Safety
    /// As [`Mm::kmem_cache_free`], for each.
    #[track_caller]
    pub unsafe fn kmem_cache_free_bulk(&self, cache: CacheRef, ptrs: &[*mut u8]) {
        for ptr in ptrs {
            // SAFETY: promised by the caller.
            unsafe { self.kmem_cache_free(cache, *ptr) };
        }
    }

    /// Gives back what a cache has free (`kmem_cache_shrink`; S66). True if it has no slab left.
    ///
    /// # Errors
    /// [`CacheError::Destroyed`].
    pub fn kmem_cache_shrink(&self, cache: CacheRef) -> Result<bool, CacheError> {
        self.slabs().shrink(cache)
    }

    /// Takes a cache down (`kmem_cache_destroy`; S67, G18). Every object that is still in use is
    /// reported, and its memory leaks (S68, S70).
    ///
    /// # Errors
    /// [`CacheError::LiveObjects`] with their number; the cache is gone then too. Others: nothing
    /// happened.
    #[track_caller]
    pub fn kmem_cache_destroy(&self, cache: CacheRef) -> Result<(), CacheError> {
        let caller = Caller::here();
        self.slabs().destroy(cache, &mut |addr| {
            self.complain(Misuse::LiveObject, addr, caller);
        })
    }
}
