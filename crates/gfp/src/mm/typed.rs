//! Allocation by type, in Linux's names (S40, S41). Size and alignment come from the type, an
//! overflow is an error, an alignment is honoured or refused.
//!
//! These give pointers to memory that is not initialised, or zeroed with `z`. The calls of
//! [`Mm::with`] give containers, which own what they made.

use super::Mm;
use crate::error::AllocError;
use crate::flags::Gfp;
use crate::frame::PAGE_SIZE;
use crate::platform::{Paging, Platform};
use crate::report::Caller;
use crate::typed::{Flexible, Shape, store_count};
use core::ptr::NonNull;

/// Stores how many elements are behind a new header.
#[inline]
fn counted<H: Flexible>(memory: NonNull<u8>, n: usize) -> NonNull<H> {
    let header = memory.cast();
    // SAFETY: memory for a header and its elements, just allocated.
    let fits = unsafe { store_count::<H>(header, n) };
    debug_assert!(fits, "the shape was refused otherwise");
    header
}

impl<P: Platform> Mm<P> {
    /// Memory for one `T` (`kmalloc_obj`; S40). The class is a constant. Of a type without size:
    /// [`ZERO_SIZE_PTR`](crate::slab::ZERO_SIZE_PTR). Freed with [`Mm::kfree`].
    ///
    /// # Errors
    /// As [`Mm::kmalloc`]; [`AllocError::BadAlign`] for a type without size that is aligned to more
    /// than 16 bytes.
    #[track_caller]
    #[inline(always)]
    pub fn kmalloc_obj<T>(&self, gfp: Gfp) -> Result<NonNull<T>, AllocError> {
        self.enters(gfp);
        self.slabs().kmalloc_obj(gfp)
    }

    /// [`Mm::kmalloc_obj`] that reads as zero (`kzalloc_obj`).
    ///
    /// # Errors
    /// As [`Mm::kmalloc_obj`].
    #[track_caller]
    #[inline(always)]
    pub fn kzalloc_obj<T>(&self, gfp: Gfp) -> Result<NonNull<T>, AllocError> {
        self.kmalloc_obj(gfp | Gfp::ZERO)
    }

    /// Memory for `n` times `T` (`kmalloc_objs`; S40).
    ///
    /// # Errors
    /// As [`Mm::kmalloc_obj`]; [`AllocError::Overflow`].
    #[track_caller]
    #[inline]
    pub fn kmalloc_objs<T>(&self, n: usize, gfp: Gfp) -> Result<NonNull<[T]>, AllocError> {
        self.enters(gfp);
        self.slabs().kmalloc_objs(n, gfp)
    }

    /// [`Mm::kmalloc_objs`] that reads as zero (`kzalloc_objs`).
    ///
    /// # Errors
    /// As [`Mm::kmalloc_objs`].
    #[track_caller]
    #[inline]
    pub fn kzalloc_objs<T>(&self, n: usize, gfp: Gfp) -> Result<NonNull<[T]>, AllocError> {
        self.kmalloc_objs(n, gfp | Gfp::ZERO)
    }

    /// Memory for a header and `n` elements behind it (`kmalloc_flex`; S40). `n` is stored in the
    /// header's counter; the rest is not initialised. The elements begin at
    /// [`flex_items`](crate::typed::flex_items).
    ///
    /// # Errors
    /// As [`Mm::kmalloc_objs`]; [`AllocError::Overflow`] also if the counter cannot hold `n`.
    #[track_caller]
    #[inline]
    pub fn kmalloc_flex<H: Flexible>(&self, n: usize, gfp: Gfp) -> Result<NonNull<H>, AllocError> {
        self.enters(gfp);
        let shape = Shape::of_flexible::<H>(n)?;
        Ok(counted(self.slabs().kmalloc_shape(shape, gfp)?, n))
    }

    /// [`Mm::kmalloc_flex`] that reads as zero, but for the counter (`kzalloc_flex`).
    ///
    /// # Errors
    /// As [`Mm::kmalloc_flex`].
    #[track_caller]
    #[inline]
    pub fn kzalloc_flex<H: Flexible>(&self, n: usize, gfp: Gfp) -> Result<NonNull<H>, AllocError> {
        self.kmalloc_flex(n, gfp | Gfp::ZERO)
    }
}

impl<P: Paging> Mm<P> {
    /// [`Mm::kvmalloc`] of this shape.
    #[track_caller]
    pub(crate) fn kvmalloc_shape(&self, shape: Shape, gfp: Gfp) -> Result<NonNull<u8>, AllocError> {
        if shape.size <= PAGE_SIZE && shape.align <= PAGE_SIZE {
            return self.slabs().kmalloc_shape(shape, gfp); // V30
        }
        let max = crate::policy::size_class::KMALLOC_MAX_SIZE;
        if shape.align > max {
            return Err(AllocError::BadAlign { max });
        }
        // V32: both legs align to the largest power of two that divides the size.
        let size = shape.size.max(1).checked_next_multiple_of(shape.align);
        let size = size.ok_or(AllocError::Overflow)?;
        self.vmalloc_space()
            .kvmalloc(size, gfp, None, Caller::here())
    }

    /// [`Mm::kmalloc_obj`] that takes memory without physical continuity where the value is large
    /// and nothing else is there (`kvmalloc_obj`; S40, V32). Freed with [`Mm::kvfree`].
    ///
    /// # Errors
    /// As [`Mm::kvmalloc`]; [`AllocError::BadAlign`] above 4 MiB.
    #[track_caller]
    #[inline]
    pub fn kvmalloc_obj<T>(&self, gfp: Gfp) -> Result<NonNull<T>, AllocError> {
        if const { size_of::<T>() <= PAGE_SIZE && align_of::<T>() <= PAGE_SIZE } {
            return self.kmalloc_obj(gfp); // V30
        }
        self.enters(gfp);
        Ok(self.kvmalloc_shape(Shape::of::<T>(), gfp)?.cast())
    }

    /// [`Mm::kvmalloc_obj`] that reads as zero (`kvzalloc_obj`).
    ///
    /// # Errors
    /// As [`Mm::kvmalloc_obj`].
    #[track_caller]
    #[inline]
    pub fn kvzalloc_obj<T>(&self, gfp: Gfp) -> Result<NonNull<T>, AllocError> {
        self.kvmalloc_obj(gfp | Gfp::ZERO)
    }

    /// [`Mm::kmalloc_objs`] as [`Mm::kvmalloc_obj`] (`kvmalloc_objs`).
    ///
    /// # Errors
    /// As [`Mm::kvmalloc_obj`]; [`AllocError::Overflow`].
    #[track_caller]
    pub fn kvmalloc_objs<T>(&self, n: usize, gfp: Gfp) -> Result<NonNull<[T]>, AllocError> {
        self.enters(gfp);
        let first = self.kvmalloc_shape(Shape::of_array::<T>(n)?, gfp)?;
        Ok(NonNull::slice_from_raw_parts(first.cast(), n))
    }

    /// [`Mm::kvmalloc_objs`] that reads as zero (`kvzalloc_objs`).
    ///
    /// # Errors
    /// As [`Mm::kvmalloc_objs`].
    #[track_caller]
    pub fn kvzalloc_objs<T>(&self, n: usize, gfp: Gfp) -> Result<NonNull<[T]>, AllocError> {
        self.kvmalloc_objs(n, gfp | Gfp::ZERO)
    }

    /// [`Mm::kmalloc_flex`] as [`Mm::kvmalloc_obj`] (`kvmalloc_flex`).
    ///
    /// # Errors
    /// As [`Mm::kvmalloc_objs`]; [`AllocError::Overflow`] also if the counter cannot hold `n`.
    #[track_caller]
    pub fn kvmalloc_flex<H: Flexible>(&self, n: usize, gfp: Gfp) -> Result<NonNull<H>, AllocError> {
        self.enters(gfp);
        let shape = Shape::of_flexible::<H>(n)?;
        Ok(counted(self.kvmalloc_shape(shape, gfp)?, n))
    }

    /// [`Mm::kvmalloc_flex`] that reads as zero, but for the counter (`kvzalloc_flex`).
    ///
    /// # Errors
    /// As [`Mm::kvmalloc_flex`].
    #[track_caller]
    pub fn kvzalloc_flex<H: Flexible>(&self, n: usize, gfp: Gfp) -> Result<NonNull<H>, AllocError> {
        self.kvmalloc_flex(n, gfp | Gfp::ZERO)
    }
}
