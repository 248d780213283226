//! kmalloc whose size is that of a type (S40, S41): the class is a constant.

use super::kmalloc::{SPECIAL, aligned_size};
use super::{Slabs, kmalloc_id};
use crate::error::AllocError;
use crate::flags::Gfp;
use crate::platform::Platform;
use crate::policy::size_class::{KMALLOC_MAX_CACHE_SIZE, KmallocFamily, class_size, kmalloc_index};
use crate::typed::Shape;
use core::marker::PhantomData;
use core::ptr::NonNull;

/// The class of the objects that hold a `T`, worked out by the compiler.
struct ClassOf<T>(PhantomData<T>);

impl<T> ClassOf<T> {
    /// The cache's number, and the size of its objects; `None` for what no cache holds: values
    /// without size, and those above 8 KiB.
    const CACHE: Option<(u16, usize)> = {
        // S13: the size of a type is a multiple of its alignment, so its class is aligned enough.
        match kmalloc_index(size_of::<T>()) {
            Some(class) => match class_size(class) {
                Some(size) => {
                    assert!(size_of::<T>() <= size && size <= KMALLOC_MAX_CACHE_SIZE);
                    assert!(size.is_multiple_of(align_of::<T>()));
                    Some((kmalloc_id(KmallocFamily::Normal, class), size))
                }
                None => None,
            },
            None => None,
        }
    };
}

impl<P: Platform> Slabs<P> {
    /// Memory for one `T`, aligned for it, not initialised; with `ZERO` it reads as zero (S40,
    /// S41). Size, alignment and class are constants. Of a type without size:
    /// [`ZERO_SIZE_PTR`](super::ZERO_SIZE_PTR). Freed with [`Slabs::kfree`].
    ///
    /// # Errors
    /// As [`Slabs::kmalloc`]; [`AllocError::BadAlign`] above 4 MiB, and above 16 bytes for a type
    /// without size.
    #[inline(always)]
    pub fn kmalloc_obj<T>(&self, gfp: Gfp) -> Result<NonNull<T>, AllocError> {
        if !gfp.intersects(SPECIAL)
            && let Some((id, size)) = const { ClassOf::<T>::CACHE }
            && let Some(object) = self.pop_quick(id)
        {
            if gfp.contains(Gfp::ZERO) {
                // SAFETY: the object is ours, and as large as its class (S19).
                unsafe { object.write_bytes(0, size) };
            }
            return Ok(object.cast());
        }
        Ok(self.kmalloc_shape(const { Shape::of::<T>() }, gfp)?.cast())
    }

    /// Memory for `n` times `T`, as [`Slabs::kmalloc_obj`] for one.
    ///
    /// # Errors
    /// As [`Slabs::kmalloc_obj`]; [`AllocError::Overflow`].
    #[inline]
    pub fn kmalloc_objs<T>(&self, n: usize, gfp: Gfp) -> Result<NonNull<[T]>, AllocError> {
        let first = self.kmalloc_shape(Shape::of_array::<T>(n)?, gfp)?;
        Ok(NonNull::slice_from_raw_parts(first.cast(), n))
    }

    /// Memory of this size and alignment: any power of two up to 4 MiB, honoured or refused.
    ///
    /// # Errors
    /// As [`Slabs::kmalloc_aligned`].
    #[inline]
    pub fn kmalloc_shape(&self, shape: Shape, gfp: Gfp) -> Result<NonNull<u8>, AllocError> {
        self.kmalloc(aligned_size(shape.size, shape.align)?, gfp, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(align(128))]
    struct Wide(#[allow(dead_code)] [u8; 200]);

    // S41
    #[test]
    fn the_class_of_a_type_holds_it_aligned() {
        let normal = |class| kmalloc_id(KmallocFamily::Normal, class);
        assert_eq!(ClassOf::<u8>::CACHE, Some((normal(3), 8)));
        assert_eq!(ClassOf::<[u64; 9]>::CACHE, Some((normal(1), 96)));
        assert_eq!(ClassOf::<Wide>::CACHE, Some((normal(8), 256)));
        assert_eq!(ClassOf::<[u8; 8192]>::CACHE, Some((normal(13), 8192)));
        assert_eq!(ClassOf::<[u8; 8193]>::CACHE, None);
        assert_eq!(ClassOf::<()>::CACHE, None);
    }
}
