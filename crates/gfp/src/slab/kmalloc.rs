//! kmalloc and kfree (S1-S28).

use super::flow::Target;
use super::{Slabs, kmalloc_id};
use crate::error::AllocError;
use crate::flags::{Entry, GFP_SLAB_BUG_MASK, Gfp};
use crate::frame::{NodeId, Order, PAGE_SIZE};
use crate::overflow::{SIZE_MAX, size_mul};
use crate::page::{PageRequest, Place};
use crate::platform::Platform;
use crate::policy::size_class::{
    KMALLOC_MAX_CACHE_SIZE, KMALLOC_MAX_SIZE, KmallocFamily, ZERO_SIZE_ADDR, class_align,
    class_size, kmalloc_align, kmalloc_index, kmalloc_size_roundup,
};
use crate::report::Misuse;
use crate::sync::Local;
use core::ptr::NonNull;

/// S15: what `kmalloc(0)` returns: not NULL, never to be dereferenced.
pub const ZERO_SIZE_PTR: NonNull<u8> = match core::num::NonZeroUsize::new(ZERO_SIZE_ADDR) {
    Some(addr) => NonNull::without_provenance(addr),
    None => NonNull::dangling(),
};

/// S15: NULL or [`ZERO_SIZE_PTR`].
#[inline]
pub(super) const fn zero_or_null(addr: usize) -> bool {
    addr <= ZERO_SIZE_ADDR
}

/// Bits that the fast path does not serve: they pick another family, or must be checked first.
pub(super) const SPECIAL: Gfp = GFP_SLAB_BUG_MASK
    .with(Gfp::DMA)
    .with(Gfp::RECLAIMABLE)
    .with(Gfp::ACCOUNT)
    .with(Gfp::NOFAIL);

impl<P: Platform> Slabs<P> {
    /// Allocates `size` bytes: physically contiguous, aligned to the largest power of two that
    /// divides `size`, at least 8 (S13). With `ZERO` the whole class object reads as zero (S19).
    /// `node` is a preference, with `THISNODE` a condition (S21). Size 0 gives [`ZERO_SIZE_PTR`]
    /// (S15).
    ///
    /// Context: any outside of the allocator; may wait only with `DIRECT_RECLAIM`. Free with
    /// [`Slabs::kfree`].
    ///
    /// # Errors
    /// [`AllocError::NoMemory`], [`AllocError::TooLarge`] above 4 MiB (S11),
    /// [`AllocError::BadFlags`] (S17), [`AllocError::Nested`].
    #[inline]
    pub fn kmalloc(
        &self,
        size: usize,
        gfp: Gfp,
        node: Option<NodeId>,
    ) -> Result<NonNull<u8>, AllocError> {
        if node.is_none()
            && !gfp.intersects(SPECIAL)
            && let Some(object) = self.kmalloc_quick(size)
        {
            if gfp.contains(Gfp::ZERO) {
                // SAFETY: the object is ours, and as large as its class.
                unsafe { object.write_bytes(0, kmalloc_size_roundup(size)) };
            }
            return Ok(object);
        }
        self.kmalloc_slow(size, gfp, node)
    }

    /// `size` bytes from this CPU's sheaf, without any call: what [`Slabs::kmalloc`] tries first,
    /// for callers whose own fast path must be short. `None` says nothing: [`Slabs::kmalloc`] must
    /// be asked. The content is arbitrary.
    #[inline(always)]
    pub fn kmalloc_quick(&self, size: usize) -> Option<NonNull<u8>> {
        self.pop_quick(kmalloc_id(KmallocFamily::Normal, kmalloc_index(size)?))
    }

    /// Frees an object into this CPU's sheaf, without any call: what [`Slabs::kfree`] tries first.
    /// False says that nothing was done, and [`Slabs::kfree`] must be asked.
    ///
    /// # Safety
    /// As [`Slabs::kfree`].
    #[inline(always)]
    pub unsafe fn kfree_quick(&self, ptr: NonNull<u8>) -> bool {
        // SAFETY: promised by the caller.
        unsafe { self.free_quick(ptr) }
    }

    #[cold]
    #[inline(never)]
    fn kmalloc_slow(
        &self,
        size: usize,
        gfp: Gfp,
        node: Option<NodeId>,
    ) -> Result<NonNull<u8>, AllocError> {
        if gfp.intersects(SPECIAL) || gfp.needs_check() {
            gfp.check_for(Entry::Slab)?;
        }
        if size == 0 {
            return Ok(ZERO_SIZE_PTR);
        }
        let Some(class) = kmalloc_index(size) else {
            return self.kmalloc_large(size, gfp, node);
        };
        let id = kmalloc_id(KmallocFamily::of(gfp), class);
        let object = self.alloc_from(Target::Kmalloc(id), gfp, node)?;
        if gfp.contains(Gfp::ZERO) {
            // SAFETY: the object is ours, and as large as its class.
            unsafe { object.write_bytes(0, class_size(class).unwrap_or(size)) };
        }
        Ok(object)
    }

    /// From this CPU's sheaf if no other node is asked for; else the slow way.
    #[inline]
    pub(super) fn alloc_from(
        &self,
        target: Target,
        gfp: Gfp,
        node: Option<NodeId>,
    ) -> Result<NonNull<u8>, AllocError> {
        if node.is_none() {
            let local = Local::enter(self.platform())?;
            if let Some(object) = self.pop(&local, target.id()) {
                return Ok(object);
            }
        }
        self.alloc_slow(target, gfp, node)
    }

    /// S10: whole pages.
    fn kmalloc_large(
        &self,
        size: usize,
        gfp: Gfp,
        node: Option<NodeId>,
    ) -> Result<NonNull<u8>, AllocError> {
        let too_large = AllocError::TooLarge {
            max: KMALLOC_MAX_SIZE,
        };
        let order = Order::for_bytes(size).ok_or(too_large)?;
        let gfp = gfp.without(Gfp::COMP.with(Gfp::MOVABLE).with(Gfp::ACCOUNT));
        let place = node.map(Place::near);
        let pfn = self
            .reclaim
            .alloc_large(&PageRequest { order, gfp, place }, self)?;
        Ok(self.pages().ptr_of(pfn))
    }

    /// Allocates `size` bytes at an address that is a multiple of `align`, a power of two up to 4
    /// MiB: honoured or refused, never weakened (S41).
    ///
    /// # Errors
    /// [`AllocError::BadAlign`], also for size 0 with more than 16; else as [`Slabs::kmalloc`].
    #[inline]
    pub fn kmalloc_aligned(
        &self,
        size: usize,
        align: usize,
        gfp: Gfp,
    ) -> Result<NonNull<u8>, AllocError> {
        self.kmalloc_node_align(size, align, gfp, None)
    }

    /// [`Slabs::kmalloc_aligned`] with a node.
    ///
    /// # Errors
    /// As [`Slabs::kmalloc_aligned`].
    #[inline]
    pub fn kmalloc_node_align(
        &self,
        size: usize,
        align: usize,
        gfp: Gfp,
        node: Option<NodeId>,
    ) -> Result<NonNull<u8>, AllocError> {
        self.kmalloc(aligned_size(size, align)?, gfp, node)
    }

    /// `n` times `size` bytes (S20).
    ///
    /// # Errors
    /// [`AllocError::Overflow`] if that is no size; else as [`Slabs::kmalloc`].
    #[inline]
    pub fn kmalloc_array(
        &self,
        n: usize,
        size: usize,
        gfp: Gfp,
    ) -> Result<NonNull<u8>, AllocError> {
        match size_mul(n, size) {
            SIZE_MAX => Err(AllocError::Overflow),
            bytes => self.kmalloc(bytes, gfp, None),
        }
    }

    /// [`Slabs::kmalloc_array`], zeroed.
    ///
    /// # Errors
    /// As [`Slabs::kmalloc_array`].
    #[inline]
    pub fn kcalloc(&self, n: usize, size: usize, gfp: Gfp) -> Result<NonNull<u8>, AllocError> {
        self.kmalloc_array(n, size, gfp.with(Gfp::ZERO))
    }

    /// Frees what kmalloc, krealloc or any cache gave (S24, S42). NULL and [`ZERO_SIZE_PTR`]:
    /// nothing.
    ///
    /// Context: any; inside the allocator (an interrupt) the object is put back later.
    ///
    /// # Errors
    /// What is wrong with the address; the memory is left as it is then.
    ///
    /// # Safety
    /// If the address is that of an object in use, nobody may use that object any more.
    /// Other addresses are refused: those of freed objects as long as their memory was not given
    /// out again.
    #[inline]
    pub unsafe fn kfree(&self, ptr: *mut u8) -> Result<(), Misuse> {
        let Some(object) = NonNull::new(ptr) else {
            return Ok(());
        };
        // SAFETY: promised by the caller.
        if unsafe { self.free_quick(object) } {
            return Ok(());
        }
        // SAFETY: promised by the caller; nothing was done yet.
        unsafe { self.kfree_slow(ptr) }
    }

    /// # Safety
    /// As [`Slabs::kfree`].
    #[inline(never)]
    unsafe fn kfree_slow(&self, ptr: *mut u8) -> Result<(), Misuse> {
        let addr = ptr.addr();
        if zero_or_null(addr) {
            return Ok(());
        }
        match self.object_at(addr) {
            // SAFETY: promised by the caller.
            Some((slab, index)) => unsafe { self.free_object(slab, index) }.map_err(|misuse| {
                if misuse == Misuse::DoubleFree {
                    self.misuse_of(addr)
                } else {
                    misuse
                }
            }),
            None => self.kfree_large(addr),
        }
    }

    #[cold]
    #[inline(never)]
    fn kfree_large(&self, addr: usize) -> Result<(), Misuse> {
        let pfn = self.pages().pfn_of(addr);
        // SAFETY: promised by the caller of `kfree`; of what is no such block nothing is freed.
        if addr.is_multiple_of(PAGE_SIZE) && unsafe { self.pages().free_large(pfn) } {
            return Ok(());
        }
        Err(self.misuse_of(addr))
    }

    /// Clears all usable bytes, by writes that no optimiser drops, then frees (S25).
    ///
    /// # Errors
    /// As [`Slabs::kfree`]; nothing was cleared then.
    ///
    /// # Safety
    /// As [`Slabs::kfree`].
    pub unsafe fn kfree_sensitive(&self, ptr: *mut u8) -> Result<(), Misuse> {
        let Some(at) = NonNull::new(ptr).filter(|p| !zero_or_null(p.addr().get())) else {
            return Ok(());
        };
        let Some(size) = self.usable_size(ptr) else {
            return Err(self.misuse_of(ptr.addr()));
        };
        for i in 0..size {
            // SAFETY: the object is the caller's, and has `size` usable bytes.
            unsafe { at.add(i).write_volatile(0) };
        }
        // SAFETY: promised by the caller.
        unsafe { self.kfree(ptr) }
    }

    /// Frees many objects, of any caches, or large blocks (S28).
    ///
    /// # Errors
    /// The first misuse found, with its place in `ptrs`; all others are freed all the same.
    ///
    /// # Safety
    /// As [`Slabs::kfree`], for each of them.
    pub unsafe fn kfree_bulk(&self, ptrs: &[*mut u8]) -> Result<(), (usize, Misuse)> {
        let mut result = Ok(());
        for (i, ptr) in ptrs.iter().enumerate() {
            // SAFETY: promised by the caller.
            if let Err(misuse) = unsafe { self.kfree(*ptr) } {
                result = result.and(Err((i, misuse)));
            }
        }
        result
    }
}

/// The size to ask kmalloc for, so that its guarantee (S13) covers the alignment.
#[inline]
pub(super) fn aligned_size(size: usize, align: usize) -> Result<usize, AllocError> {
    if !align.is_power_of_two() || align > KMALLOC_MAX_SIZE {
        return Err(AllocError::BadAlign {
            max: KMALLOC_MAX_SIZE,
        });
    }
    if size != 0 && align <= kmalloc_align(size) {
        return Ok(size);
    }
    if size == 0 {
        // The sentinel's own alignment is all that an empty object can have.
        let fits = align <= ZERO_SIZE_ADDR;
        return if fits {
            Ok(0)
        } else {
            Err(AllocError::BadAlign {
                max: ZERO_SIZE_ADDR,
            })
        };
    }
    let size = size.max(align);
    if size > KMALLOC_MAX_CACHE_SIZE {
        return Ok(size); // a block of pages is aligned to its own size
    }
    match kmalloc_index(size).and_then(class_align) {
        Some(natural) if natural >= align => Ok(size),
        _ => Ok(size.next_power_of_two()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::size_class::kmalloc_size_roundup;

    #[test]
    fn a_size_is_raised_only_as_far_as_the_alignment_needs() {
        // S41
        for (size, align, raised) in [
            (1, 1, 1),
            (24, 8, 24),
            (24, 16, 24), // class 32
            (70, 32, 70), // class 96 is 32-aligned
            (70, 64, 128),
            (150, 64, 150), // class 192 is 64-aligned
            (150, 128, 256),
            (3, 4096, 4096),
            (5000, 4096, 5000), // class 8192
            (9000, 8192, 9000), // 16 KiB block
            (9000, 65536, 65536),
        ] {
            assert_eq!(aligned_size(size, align), Ok(raised), "{size} by {align}");
        }
        for size in 1..=8192 {
            for shift in 0..=13 {
                let raised = aligned_size(size, 1 << shift).unwrap();
                let class = class_align(kmalloc_index(raised).unwrap()).unwrap();
                assert!(
                    raised >= size && class >= 1 << shift,
                    "{size} by {}",
                    1 << shift
                );
                assert!(kmalloc_size_roundup(raised) <= 2 * size.max(1 << shift).max(8));
            }
        }
        assert!(aligned_size(8, 3).is_err() && aligned_size(8, 0).is_err());
        assert!(aligned_size(8, 8 << 20).is_err() && aligned_size(0, 32).is_err());
        assert_eq!(aligned_size(0, 16), Ok(0));
    }
}
