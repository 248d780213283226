//! The typed calls of virtual memory.

use super::calls::With;
use super::class::AllowedIn;
use super::rights::{IsTask, TriesBoth};
use super::token::Token;
use crate::error::AllocError;
use crate::platform::Paging;
use core::ptr::NonNull;

impl<P: Paging, T: Token> With<'_, '_, P, T> {
    /// [`Mm::vmalloc_gfp`](crate::Mm::vmalloc_gfp).
    ///
    /// # Errors
    /// No memory, no addresses, size 0, more than the machine has (V3).
    #[track_caller]
    #[inline(always)]
    pub fn vmalloc<C>(self, size: usize, _: C) -> Result<NonNull<u8>, AllocError>
    where
        C: AllowedIn<T>,
        T: IsTask,
    {
        self.mm.vmalloc_gfp(size, C::GFP)
    }

    /// [`Mm::kvmalloc`](crate::Mm::kvmalloc): contiguous if that is easy, else virtually (V29-V32).
    ///
    /// # Errors
    /// As [`With::kmalloc`] and [`With::vmalloc`].
    #[track_caller]
    #[inline(always)]
    pub fn kvmalloc<C>(self, size: usize, _: C) -> Result<NonNull<u8>, AllocError>
    where
        C: AllowedIn<T> + TriesBoth,
        T: IsTask,
    {
        self.mm.kvmalloc(size, C::GFP)
    }
}
