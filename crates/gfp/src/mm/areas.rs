//! Areas: vmalloc, kvmalloc and their relatives. They need a platform that can map ([`Paging`]).

use super::Mm;
use crate::error::AllocError;
use crate::flags::{GFP_KERNEL, Gfp};
use crate::frame::{NodeId, Pfn};
use crate::platform::{Nested, Paging};
use crate::report::{Caller, Misuse};
use crate::vmalloc::AddressUse;
use core::ptr::NonNull;

impl<P: Paging> Mm<P> {
    /// `size` bytes, virtually contiguous, page aligned, with an unmapped guard page after them
    /// (`vmalloc`; G15, V1, V2).
    ///
    /// # Errors
    /// No memory, no addresses, size 0, more than the machine has (V3).
    #[track_caller]
    pub fn vmalloc(&self, size: usize) -> Result<NonNull<u8>, AllocError> {
        self.enters(GFP_KERNEL);
        self.vm.vmalloc(size, Caller::here())
    }

    /// [`Mm::vmalloc`] that reads as zero (`vzalloc`; V1).
    ///
    /// # Errors
    /// As [`Mm::vmalloc`].
    #[track_caller]
    pub fn vzalloc(&self, size: usize) -> Result<NonNull<u8>, AllocError> {
        self.enters(GFP_KERNEL);
        self.vm.vzalloc(size, Caller::here())
    }

    /// [`Mm::vmalloc`], from a node if it can be (`vmalloc_node`).
    ///
    /// # Errors
    /// As [`Mm::vmalloc`].
    #[track_caller]
    pub fn vmalloc_node(&self, size: usize, node: NodeId) -> Result<NonNull<u8>, AllocError> {
        self.enters(GFP_KERNEL);
        self.vm.vmalloc_node(size, node, Caller::here())
    }

    /// [`Mm::vmalloc`] with memory that user space may map (`vmalloc_user`; V1).
    ///
    /// # Errors
    /// As [`Mm::vmalloc`].
    #[track_caller]
    pub fn vmalloc_user(&self, size: usize) -> Result<NonNull<u8>, AllocError> {
        self.enters(GFP_KERNEL);
        self.vm.vmalloc_user(size, Caller::here())
    }

    /// [`Mm::vmalloc`] from frames below 4 GiB (`vmalloc_32`; V1).
    ///
    /// # Errors
    /// As [`Mm::vmalloc`].
    #[track_caller]
    pub fn vmalloc_32(&self, size: usize) -> Result<NonNull<u8>, AllocError> {
        self.enters(GFP_KERNEL);
        self.vm.vmalloc_32(size, Caller::here())
    }

    /// [`Mm::vmalloc`] with flags (`__vmalloc`; V4, V5).
    ///
    /// # Errors
    /// As [`Mm::vmalloc`]; flags that vmalloc does not take.
    #[track_caller]
    pub fn vmalloc_gfp(&self, size: usize, gfp: Gfp) -> Result<NonNull<u8>, AllocError> {
        self.enters(gfp);
        self.vm.__vmalloc(size, gfp, Caller::here())
    }

    /// `n` times `size` bytes (`vmalloc_array`).
    ///
    /// # Errors
    /// As [`Mm::vmalloc`]; [`AllocError::Overflow`].
    #[track_caller]
    pub fn vmalloc_array(&self, n: usize, size: usize) -> Result<NonNull<u8>, AllocError> {
        self.enters(GFP_KERNEL);
        self.vm.vmalloc_array(n, size, Caller::here())
    }

    /// [`Mm::vmalloc_array`] that reads as zero (`vcalloc`).
    ///
    /// # Errors
    /// As [`Mm::vmalloc_array`].
    #[track_caller]
    pub fn vcalloc(&self, n: usize, size: usize) -> Result<NonNull<u8>, AllocError> {
        self.enters(GFP_KERNEL);
        self.vm.vcalloc(n, size, Caller::here())
    }

    /// Resizes an area, keeping its content (`vrealloc`; V11). Null allocates; size 0 frees and
    /// gives `None`. On failure the old area stays valid.
    ///
    /// # Errors
    /// As [`Mm::vmalloc`]; [`AllocError::BadPointer`], reported too.
    ///
    /// # Safety
    /// `ptr` is null or from vmalloc; when the call succeeds it may not be used any more.
    #[track_caller]
    pub unsafe fn vrealloc(
        &self,
        ptr: *mut u8,
        size: usize,
        gfp: Gfp,
    ) -> Result<Option<NonNull<u8>>, AllocError> {
        self.enters(gfp);
        let caller = Caller::here();
        // SAFETY: promised by the caller.
        let result = unsafe { self.vm.vrealloc(ptr, size, gfp, caller) };
        if result == Err(AllocError::BadPointer) {
            self.complain(Misuse::WildFree, ptr.addr(), caller);
        }
        result
    }

    /// Frees an area (`vfree`; V10); null is ignored. A double, interior or wild free is reported
    /// and ignored.
    ///
    /// # Safety
    /// Nobody may use the area any more.
    #[track_caller]
    pub unsafe fn vfree(&self, ptr: *mut u8) {
        let caller = Caller::here();
        // SAFETY: promised by the caller.
        if let Err(misuse) = unsafe { self.vm.vfree(ptr, caller) } {
            self.complain(misuse, ptr.addr(), caller);
        }
    }

    /// True if the address lies in vmalloc space (`is_vmalloc_addr`; V12).
    #[inline]
    pub fn is_vmalloc_addr(&self, addr: usize) -> bool {
        self.vm.is_vmalloc_addr(addr)
    }

    /// What an address of the window is used for, with the owner of guard pages and freed areas:
    /// what a handler of page faults asks.
    ///
    /// # Errors
    /// [`Nested`] if this CPU is inside the allocator.
    pub fn address_use(&self, addr: usize) -> Result<AddressUse, Nested> {
        self.vm.address_use(addr)
    }

    /// The frame behind an address of an area (`vmalloc_to_pfn`; V12).
    pub fn vmalloc_to_pfn(&self, addr: usize) -> Option<Pfn> {
        self.vm.vmalloc_to_pfn(addr)
    }

    /// `size` bytes, physically contiguous if that is easy, else virtually (`kvmalloc`; G16,
    /// V29-V32).
    ///
    /// # Errors
    /// As [`Mm::kmalloc`] and [`Mm::vmalloc`].
    #[track_caller]
    pub fn kvmalloc(&self, size: usize, gfp: Gfp) -> Result<NonNull<u8>, AllocError> {
        self.enters(gfp);
        self.vm.kvmalloc(size, gfp, None, Caller::here())
    }

    /// [`Mm::kvmalloc`] that reads as zero (`kvzalloc`).
    ///
    /// # Errors
    /// As [`Mm::kvmalloc`].
    #[track_caller]
    pub fn kvzalloc(&self, size: usize, gfp: Gfp) -> Result<NonNull<u8>, AllocError> {
        self.enters(gfp);
        self.vm.kvzalloc(size, gfp, Caller::here())
    }

    /// [`Mm::kvmalloc`], from a node if it can be (`kvmalloc_node`).
    ///
    /// # Errors
    /// As [`Mm::kvmalloc`].
    #[track_caller]
    pub fn kvmalloc_node(
        &self,
        size: usize,
        gfp: Gfp,
        node: NodeId,
    ) -> Result<NonNull<u8>, AllocError> {
        self.enters(gfp);
        self.vm.kvmalloc(size, gfp, Some(node), Caller::here())
    }

    /// `n` times `size` bytes (`kvmalloc_array`).
    ///
    /// # Errors
    /// As [`Mm::kvmalloc`]; [`AllocError::Overflow`].
    #[track_caller]
    pub fn kvmalloc_array(
        &self,
        n: usize,
        size: usize,
        gfp: Gfp,
    ) -> Result<NonNull<u8>, AllocError> {
        self.enters(gfp);
        self.vm.kvmalloc_array(n, size, gfp, Caller::here())
    }

    /// [`Mm::kvmalloc_array`] that reads as zero (`kvcalloc`).
    ///
    /// # Errors
    /// As [`Mm::kvmalloc_array`].
    #[track_caller]
    pub fn kvcalloc(&self, n: usize, size: usize, gfp: Gfp) -> Result<NonNull<u8>, AllocError> {
        self.enters(gfp);
        self.vm.kvcalloc(n, size, gfp, Caller::here())
    }

    /// A copy of `src` (`kvmemdup`; S27).
    ///
    /// # Errors
    /// As [`Mm::kvmalloc`].
    #[track_caller]
    pub fn kvmemdup(&self, src: &[u8]) -> Result<NonNull<u8>, AllocError> {
        self.enters(GFP_KERNEL);
        self.vm.kvmemdup(src, GFP_KERNEL, Caller::here())
    }

    /// Resizes what kvmalloc gave, keeping its content (`kvrealloc`; V33). Null allocates, size 0
    /// frees. On failure the old memory stays valid.
    ///
    /// # Errors
    /// As [`Mm::kvmalloc`]; [`AllocError::BadPointer`], reported too.
    ///
    /// # Safety
    /// `ptr` is null or from kvmalloc; when the call succeeds it may not be used any more.
    #[track_caller]
    pub unsafe fn kvrealloc(
        &self,
        ptr: *mut u8,
        size: usize,
        gfp: Gfp,
    ) -> Result<NonNull<u8>, AllocError> {
        self.enters(gfp);
        let caller = Caller::here();
        // SAFETY: promised by the caller.
        let result = unsafe { self.vm.kvrealloc(ptr, size, gfp, caller) };
        if result == Err(AllocError::BadPointer) {
            self.complain(Misuse::WildFree, ptr.addr(), caller);
        }
        result
    }

    /// Frees what kmalloc, a cache, vmalloc or kvmalloc gave (`kvfree`; G18, V34).
    ///
    /// # Safety
    /// Nobody may use the memory any more.
    #[track_caller]
    #[inline]
    pub unsafe fn kvfree(&self, ptr: *mut u8) {
        // SAFETY: promised by the caller.
        unsafe { self.kvfree_from(ptr, Caller::here()) }
    }

    /// [`Mm::kvfree`] on behalf of a caller that a C face knows.
    ///
    /// # Safety
    /// As [`Mm::kvfree`].
    #[inline]
    pub unsafe fn kvfree_from(&self, ptr: *mut u8, caller: Caller) {
        // SAFETY: promised by the caller.
        if let Err(misuse) = unsafe { self.vm.kvfree(ptr, caller) } {
            self.complain(misuse, ptr.addr(), caller);
        }
    }

    /// Usable bytes behind a pointer from kvmalloc, kmalloc or vmalloc; `None` for any other.
    pub fn kvsize(&self, ptr: *const u8) -> Option<usize> {
        self.vm.kvsize(ptr)
    }

    /// [`Mm::kvfree`] that clears `len` bytes first, in a way that is not optimised away
    /// (`kvfree_sensitive`; V34).
    ///
    /// # Safety
    /// As [`Mm::kvfree`].
    #[track_caller]
    pub unsafe fn kvfree_sensitive(&self, ptr: *mut u8, len: usize) {
        let caller = Caller::here();
        // SAFETY: promised by the caller.
        if let Err(misuse) = unsafe { self.vm.kvfree_sensitive(ptr, len, caller) } {
            self.complain(misuse, ptr.addr(), caller);
        }
    }
}
