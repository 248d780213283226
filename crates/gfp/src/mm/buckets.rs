//! Private size classes (S8).

use super::Mm;
use crate::error::AllocError;
use crate::flags::Gfp;
use crate::platform::Platform;
use crate::report::{Caller, Misuse};
use crate::slab::{BucketArgs, CacheError, KmemBuckets};
use core::ptr::NonNull;

impl<P: Platform> Mm<P> {
    /// Makes a row of size classes that nobody else's objects are in (`kmem_buckets_create`; S8):
    /// for sizes and contents that an attacker chooses, so that a freed one is never the place of
    /// something else.
    ///
    /// Context: task.
    ///
    /// # Errors
    /// As [`Mm::kmem_cache_create`]; nothing was made then.
    pub fn kmem_buckets_create(&self, args: &BucketArgs<'_>) -> Result<KmemBuckets, CacheError> {
        self.slabs().buckets_create(args)
    }

    /// `size` bytes from there (`kmem_buckets_alloc`; S8), above 8 KiB from the pages. Freed with
    /// [`Mm::kfree`]. `krealloc` that must move it moves it to kmalloc's classes.
    ///
    /// # Errors
    /// As [`Mm::kmalloc`]; [`AllocError::BadPointer`] if the classes were destroyed.
    #[track_caller]
    #[inline]
    pub fn kmem_buckets_alloc(
        &self,
        buckets: &KmemBuckets,
        size: usize,
        gfp: Gfp,
    ) -> Result<NonNull<u8>, AllocError> {
        self.enters(gfp);
        self.slabs().buckets_alloc(buckets, size, gfp, None)
    }

    /// Takes the classes down; objects that are still in use are reported, and leak (S68, S70).
    ///
    /// # Errors
    /// The first of [`Mm::kmem_cache_destroy`]; the other classes are gone all the same.
    #[track_caller]
    pub fn kmem_buckets_destroy(&self, buckets: &KmemBuckets) -> Result<(), CacheError> {
        let caller = Caller::here();
        self.slabs().buckets_destroy(buckets, &mut |addr| {
            self.complain(Misuse::LiveObject, addr, caller);
        })
    }
}
