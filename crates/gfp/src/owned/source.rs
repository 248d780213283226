//! Where the memory of a container comes from.

use crate::error::AllocError;
use crate::flags::Gfp;
use crate::frame::PAGE_SIZE;
use crate::mm::Mm;
use crate::platform::{Paging, Platform};
use crate::policy::size_class::{KMALLOC_MAX_CACHE_SIZE, KMALLOC_MAX_SIZE, kmalloc_size_roundup};
use crate::report::Caller;
use crate::typed::Shape;
use crate::vmalloc::AreaRequest;
use core::ptr::NonNull;

/// What a container takes its memory from: [`Kmalloc`], [`Vmalloc`], [`KVmalloc`].
///
/// # Safety [INV-OWNED-2] Memory that was given has the shape asked for, is nobody else's, and
/// stays where it is until it is resized or freed. Resizing keeps the content up to the smaller
/// size; if it fails the old memory is as it was.
pub unsafe trait Source<P: Platform>: sealed::Sealed + Sized {
    /// Memory of this shape, of a size that is not 0.
    ///
    /// # Errors
    /// As the source's call.
    #[track_caller]
    fn alloc(mm: &Mm<P>, shape: Shape, gfp: Gfp) -> Result<NonNull<u8>, AllocError>;

    /// Memory for one `T`, which has a size.
    ///
    /// # Errors
    /// As [`Source::alloc`].
    #[track_caller]
    #[inline(always)]
    fn alloc_obj<T>(mm: &Mm<P>, gfp: Gfp) -> Result<NonNull<T>, AllocError> {
        Ok(Self::alloc(mm, const { Shape::of::<T>() }, gfp)?.cast())
    }

    /// Makes memory `size` bytes large, not 0 and a multiple of `align`.
    ///
    /// # Errors
    /// As [`Source::alloc`].
    ///
    /// # Safety `at` is from this source and machine, and aligned to `align`; if it succeeds, only
    /// the answer is used.
    #[track_caller]
    unsafe fn resize(
        mm: &Mm<P>,
        at: NonNull<u8>,
        size: usize,
        align: usize,
        gfp: Gfp,
    ) -> Result<NonNull<u8>, AllocError>;

    /// Gives memory back.
    ///
    /// # Safety
    /// `at` is from this source and machine, and nobody uses it any more.
    unsafe fn free(mm: &Mm<P>, at: NonNull<u8>);

    /// Bytes that a request of `size` gets anyhow.
    fn roundup(size: usize) -> usize;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Kmalloc {}
    impl Sealed for super::Vmalloc {}
    impl Sealed for super::KVmalloc {}
}

/// Physically contiguous memory, at most 4 MiB ([`Mm::kmalloc`]).
#[derive(Debug)]
pub enum Kmalloc {}

/// Virtually contiguous memory, in whole pages ([`Mm::vmalloc`]).
#[derive(Debug)]
pub enum Vmalloc {}

/// Physically contiguous if that is easy, else virtually ([`Mm::kvmalloc`]).
#[derive(Debug)]
pub enum KVmalloc {}

// SAFETY: [INV-OWNED-2] what kmalloc and krealloc promise (S13, S22, S41).
unsafe impl<P: Platform> Source<P> for Kmalloc {
    #[inline]
    fn alloc(mm: &Mm<P>, shape: Shape, gfp: Gfp) -> Result<NonNull<u8>, AllocError> {
        mm.enters(gfp);
        mm.slabs().kmalloc_shape(shape, gfp)
    }

    #[inline(always)]
    fn alloc_obj<T>(mm: &Mm<P>, gfp: Gfp) -> Result<NonNull<T>, AllocError> {
        mm.kmalloc_obj(gfp)
    }

    unsafe fn resize(
        mm: &Mm<P>,
        at: NonNull<u8>,
        size: usize,
        align: usize,
        gfp: Gfp,
    ) -> Result<NonNull<u8>, AllocError> {
        mm.enters(gfp);
        let slabs = mm.slabs();
        // SAFETY: promised by the caller.
        unsafe { slabs.krealloc_node_align(at.as_ptr(), size, align, gfp, None) }
    }

    #[inline(always)]
    unsafe fn free(mm: &Mm<P>, at: NonNull<u8>) {
        // SAFETY: promised by the caller.
        unsafe { mm.kfree(at.as_ptr()) }
    }

    #[inline]
    fn roundup(size: usize) -> usize {
        kmalloc_size_roundup(size)
    }
}

/// `size` rounded up to whole pages, if there is such a number.
fn whole_pages(size: usize) -> usize {
    size.checked_next_multiple_of(PAGE_SIZE).unwrap_or(size)
}

// SAFETY: [INV-OWNED-2] what vmalloc and vrealloc promise (V1, V11).
unsafe impl<P: Paging> Source<P> for Vmalloc {
    fn alloc(mm: &Mm<P>, shape: Shape, gfp: Gfp) -> Result<NonNull<u8>, AllocError> {
        mm.enters(gfp);
        let max = KMALLOC_MAX_SIZE;
        if shape.align > max {
            return Err(AllocError::BadAlign { max });
        }
        mm.vmalloc_space().alloc_area(&AreaRequest {
            align: shape.align.max(PAGE_SIZE),
            ..AreaRequest::new(shape.size, gfp, Caller::here())
        })
    }

    unsafe fn resize(
        mm: &Mm<P>,
        at: NonNull<u8>,
        size: usize,
        align: usize,
        gfp: Gfp,
    ) -> Result<NonNull<u8>, AllocError> {
        mm.enters(gfp);
        let (vm, align) = (mm.vmalloc_space(), align.max(PAGE_SIZE));
        let caller = Caller::here();
        // SAFETY: promised by the caller.
        let new = unsafe { vm.vrealloc_node_align(at.as_ptr(), size, align, gfp, None, caller) }?;
        new.ok_or(AllocError::ZeroSize)
    }

    unsafe fn free(mm: &Mm<P>, at: NonNull<u8>) {
        // SAFETY: promised by the caller.
        unsafe { mm.vfree(at.as_ptr()) }
    }

    fn roundup(size: usize) -> usize {
        whole_pages(size)
    }
}

// SAFETY: [INV-OWNED-2] what kvmalloc and kvrealloc promise (V29-V33): both legs align to the
// largest power of two that divides the size, which is a multiple of the alignment.
unsafe impl<P: Paging> Source<P> for KVmalloc {
    fn alloc(mm: &Mm<P>, shape: Shape, gfp: Gfp) -> Result<NonNull<u8>, AllocError> {
        mm.enters(gfp);
        mm.kvmalloc_shape(shape, gfp)
    }

    #[inline(always)]
    fn alloc_obj<T>(mm: &Mm<P>, gfp: Gfp) -> Result<NonNull<T>, AllocError> {
        mm.kvmalloc_obj(gfp)
    }

    unsafe fn resize(
        mm: &Mm<P>,
        at: NonNull<u8>,
        size: usize,
        align: usize,
        gfp: Gfp,
    ) -> Result<NonNull<u8>, AllocError> {
        debug_assert!(size.is_multiple_of(align) && at.addr().get().is_multiple_of(align));
        mm.enters(gfp);
        let vm = mm.vmalloc_space();
        // SAFETY: promised by the caller.
        unsafe { vm.kvrealloc(at.as_ptr(), size, gfp, Caller::here()) }
    }

    unsafe fn free(mm: &Mm<P>, at: NonNull<u8>) {
        // SAFETY: promised by the caller.
        unsafe { mm.kvfree(at.as_ptr()) }
    }

    fn roundup(size: usize) -> usize {
        if size <= KMALLOC_MAX_CACHE_SIZE {
            kmalloc_size_roundup(size)
        } else {
            whole_pages(size)
        }
    }
}

/// A machine is for all threads, whatever its platform: containers, which have a reference to it,
/// are `Send` and `Sync` as far as what is in them is.
fn _machines_are_sync<P: Platform>(mm: &Mm<P>) -> &(dyn Sync + '_) {
    mm
}
