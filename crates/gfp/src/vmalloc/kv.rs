//! kvmalloc: physically contiguous if that is easy, else virtually contiguous (V29-V35).

use super::{AreaRequest, Vmalloc};
use crate::error::AllocError;
use crate::flags::{Entry, Gfp};
use crate::frame::{NodeId, Order, PAGE_SIZE};
use crate::overflow::{SIZE_MAX, size_mul};
use crate::platform::Paging;
use crate::report::{Caller, Misuse};
use crate::slab::ZERO_SIZE_PTR;
use core::ptr::NonNull;

/// V29: the most that the vmalloc leg gives.
const INT_MAX: usize = i32::MAX as usize;

/// The flags of the first leg (V29): for more than a page no heroics, since the second leg follows.
pub(super) fn kmalloc_gfp(gfp: Gfp, size: usize) -> Gfp {
    if size <= PAGE_SIZE {
        return gfp; // V30
    }
    let quiet = gfp.with(Gfp::NOWARN).without(Gfp::NOFAIL);
    if gfp.contains(Gfp::RETRY_MAYFAIL) {
        quiet
    } else {
        quiet.without(Gfp::DIRECT_RECLAIM)
    }
}

/// The alignment that kmalloc guarantees (S13), which holds for both legs (V32).
fn natural_align(size: usize) -> usize {
    debug_assert!(size > 0);
    (1 << size.trailing_zeros()).min(Order::MAX.bytes())
}

/// True if another way of allocating may succeed where this one failed.
fn may_try_area(error: AllocError, size: usize) -> bool {
    let failed = matches!(
        error,
        AllocError::NoMemory { .. } | AllocError::TooLarge { .. }
    );
    failed && size > PAGE_SIZE
}

impl<P: Paging> Vmalloc<P> {
    /// `kvmalloc`, `kvmalloc_node`: `size` bytes, aligned as kmalloc aligns them (V32); only
    /// whether they are physically contiguous depends on the state of memory (V35). Size 0 gives
    /// [`ZERO_SIZE_PTR`].
    ///
    /// Up to a page it is kmalloc, `NOFAIL` included (V30). `RETRY_MAYFAIL`: contiguous memory is
    /// worth reclaim. `NORETRY` is not supported (V31) and has no effect on the second leg's single
    /// pages.
    ///
    /// Context: as kmalloc; in interrupts and inside the allocator there is no second leg.
    ///
    /// # Errors
    /// [`AllocError::TooLarge`] above 2 GiB - 1 (V29); else those of kmalloc up to a page, those of
    /// [`Vmalloc::alloc_area`] above.
    pub fn kvmalloc(
        &self,
        size: usize,
        gfp: Gfp,
        node: Option<NodeId>,
        caller: Caller,
    ) -> Result<NonNull<u8>, AllocError> {
        let (gfp, _) = gfp.sanitize_for(Entry::Kvmalloc);
        match self.slabs().kmalloc(size, kmalloc_gfp(gfp, size), node) {
            Err(error) if may_try_area(error, size) => {}
            result => return result,
        }
        if size > INT_MAX {
            return Err(AllocError::TooLarge { max: INT_MAX });
        }
        let gfp = gfp.without(Gfp::DMA);
        let plain = AreaRequest::new(size, gfp, caller);
        self.alloc_area(&AreaRequest {
            align: natural_align(size),
            node,
            ..plain
        })
    }

    /// `kvzalloc`: [`Vmalloc::kvmalloc`], zeroed.
    ///
    /// # Errors
    /// As [`Vmalloc::kvmalloc`].
    pub fn kvzalloc(
        &self,
        size: usize,
        gfp: Gfp,
        caller: Caller,
    ) -> Result<NonNull<u8>, AllocError> {
        self.kvmalloc(size, gfp.with(Gfp::ZERO), None, caller)
    }

    /// `kvmalloc_array`: `n` elements of `size` bytes.
    ///
    /// # Errors
    /// [`AllocError::Overflow`]; else as [`Vmalloc::kvmalloc`].
    pub fn kvmalloc_array(
        &self,
        n: usize,
        size: usize,
        gfp: Gfp,
        caller: Caller,
    ) -> Result<NonNull<u8>, AllocError> {
        match size_mul(n, size) {
            SIZE_MAX => Err(AllocError::Overflow),
            bytes => self.kvmalloc(bytes, gfp, None, caller),
        }
    }

    /// `kvcalloc`: [`Vmalloc::kvmalloc_array`], zeroed.
    ///
    /// # Errors
    /// As [`Vmalloc::kvmalloc_array`].
    pub fn kvcalloc(
        &self,
        n: usize,
        size: usize,
        gfp: Gfp,
        caller: Caller,
    ) -> Result<NonNull<u8>, AllocError> {
        self.kvmalloc_array(n, size, gfp.with(Gfp::ZERO), caller)
    }

    /// `kvmemdup`: a copy of `src`.
    ///
    /// # Errors
    /// As [`Vmalloc::kvmalloc`].
    pub fn kvmemdup(
        &self,
        src: &[u8],
        gfp: Gfp,
        caller: Caller,
    ) -> Result<NonNull<u8>, AllocError> {
        let copy = self.kvmalloc(src.len(), gfp.without(Gfp::ZERO), None, caller)?;
        // SAFETY: the new memory has room for `src`; for no bytes nothing is written.
        unsafe { copy.copy_from_nonoverlapping(NonNull::from(src).cast(), src.len()) };
        Ok(copy)
    }

    /// The usable bytes of what kvmalloc gave; `None` for what is no start of memory in use.
    pub fn kvsize(&self, ptr: *const u8) -> Option<usize> {
        if self.is_vmalloc_addr(ptr.addr()) {
            let found = self.with_space(|space| space.exact(ptr.addr())).ok()?;
            found.ok().map(|found| found.area.mapped_bytes())
        } else {
            self.slabs().usable_size(ptr)
        }
    }

    /// `kvrealloc`: makes what kvmalloc gave `size` bytes long, keeping its content (V33).
    ///
    /// In place the alignment stays as it is. Memory of a vmalloc area stays such; memory of
    /// kmalloc is tried as kmalloc first. Null and [`ZERO_SIZE_PTR`] allocate; size 0 frees and
    /// gives [`ZERO_SIZE_PTR`].
    ///
    /// # Errors
    /// [`AllocError::BadPointer`] for what is not in use; else as [`Vmalloc::kvmalloc`].
    /// The old memory stays valid.
    ///
    /// # Safety
    /// As [`Vmalloc::vrealloc`].
    pub unsafe fn kvrealloc(
        &self,
        ptr: *mut u8,
        size: usize,
        gfp: Gfp,
        caller: Caller,
    ) -> Result<NonNull<u8>, AllocError> {
        if self.is_vmalloc_addr(ptr.addr()) {
            let (gfp, _) = gfp.sanitize_for(Entry::Kvmalloc);
            let align = if size > 0 { natural_align(size) } else { 1 };
            let request = AreaRequest {
                align,
                ..AreaRequest::new(size, gfp, caller)
            };
            // SAFETY: promised by the caller.
            let new = unsafe { self.resize_area(ptr, &request) }?;
            return Ok(new.unwrap_or(ZERO_SIZE_PTR));
        }
        let (gfp, _) = gfp.sanitize_for(Entry::Kvmalloc);
        // SAFETY: promised by the caller.
        match unsafe { self.slabs().krealloc(ptr, size, kmalloc_gfp(gfp, size)) } {
            Err(error) if may_try_area(error, size) => {}
            result => return result,
        }
        let new = self.kvmalloc(size, gfp, None, caller)?;
        let kept = self.slabs().ksize(ptr).min(size);
        if kept > 0 {
            // SAFETY: both are in use and ours, and have at least `kept` bytes.
            unsafe { new.as_ptr().copy_from_nonoverlapping(ptr, kept) };
        }
        // SAFETY: promised by the caller.
        let freed = unsafe { self.slabs().kfree(ptr) };
        debug_assert!(freed.is_ok(), "krealloc has looked at it");
        Ok(new)
    }

    /// `kvfree`, `kvfree_atomic`: frees what kvmalloc, kmalloc or vmalloc gave; null and
    /// [`ZERO_SIZE_PTR`] are nothing to do (V34).
    ///
    /// Context: any, as [`Vmalloc::vfree`].
    ///
    /// # Errors
    /// The misuse; nothing is freed then.
    ///
    /// # Safety
    /// Nobody may use the memory any more.
    pub unsafe fn kvfree(&self, ptr: *mut u8, caller: Caller) -> Result<(), Misuse> {
        if self.is_vmalloc_addr(ptr.addr()) {
            // SAFETY: promised by the caller.
            unsafe { self.vfree(ptr, caller) }
        } else {
            // SAFETY: promised by the caller.
            unsafe { self.slabs().kfree(ptr) }
        }
    }

    /// `kvfree_sensitive`: clears the first `len` bytes (at most those that are there), by writes
    /// that no optimiser drops, then frees (V34).
    ///
    /// # Errors
    /// As [`Vmalloc::kvfree`]; nothing is cleared of what is not in use.
    ///
    /// # Safety
    /// As [`Vmalloc::kvfree`].
    pub unsafe fn kvfree_sensitive(
        &self,
        ptr: *mut u8,
        len: usize,
        caller: Caller,
    ) -> Result<(), Misuse> {
        for i in 0..len.min(self.kvsize(ptr).unwrap_or(0)) {
            // SAFETY: the memory is in use, the caller's, and this long.
            unsafe { ptr.add(i).write_volatile(0) };
        }
        // SAFETY: promised by the caller.
        unsafe { self.kvfree(ptr, caller) }
    }
}
