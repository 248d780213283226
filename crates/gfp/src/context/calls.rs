//! The typed calls: each is the untyped one with a constant word.

use super::class::AllowedIn;
use super::rights::{Pages, Promised, Unfailing};
use super::token::Token;
use crate::error::AllocError;
use crate::flags::Gfp;
use crate::frame::{Order, PAGE_SIZE, Pfn};
use crate::mm::Mm;
use crate::platform::Platform;
use crate::slab::CacheRef;
use core::marker::PhantomData;
use core::ptr::NonNull;

/// The most that NOFAIL serves (P50).
const MOST_PROMISED: usize = PAGE_SIZE << 1;

/// A machine seen from a context ([`Mm::with`]). What its calls give is freed by the calls of
/// [`Mm`]: from any context.
pub struct With<'m, 't, P: Platform, T: Token> {
    pub(super) mm: &'m Mm<P>,
    token: PhantomData<&'t T>,
}

impl<P: Platform, T: Token> Copy for With<'_, '_, P, T> {}
impl<P: Platform, T: Token> Clone for With<'_, '_, P, T> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

/// NOFAIL was answered with an error: the machine cannot serve this at all, or the token was wrong.
#[cold]
#[inline(never)]
#[track_caller]
fn broken_promise(error: AllocError) -> ! {
    panic!("NOFAIL cannot be served: {error}")
}

impl<'m, 't, P: Platform, T: Token> With<'m, 't, P, T> {
    #[inline(always)]
    pub(super) fn new(mm: &'m Mm<P>, _: &'t T) -> Self {
        With {
            mm,
            token: PhantomData,
        }
    }

    /// [`Mm::kmalloc`].
    ///
    /// # Errors
    /// No memory; a size above 4 MiB.
    #[inline(always)]
    pub fn kmalloc<C: AllowedIn<T>>(self, size: usize, _: C) -> Result<NonNull<u8>, AllocError> {
        self.mm.kmalloc(size, C::GFP)
    }

    /// [`Mm::kmalloc`] of a constant size, at most two pages, that never fails: it waits.
    ///
    /// # Panics
    /// If no zone of the machine can ever serve it, or the caller is inside the allocator, which
    /// the token denied.
    #[inline(always)]
    #[track_caller]
    pub fn kmalloc_nofail<const SIZE: usize, C: Unfailing<T>>(self, _: C) -> NonNull<u8> {
        const {
            assert!(
                SIZE <= MOST_PROMISED,
                "NOFAIL serves at most two pages: use `kvmalloc` and handle its error"
            );
        }
        match self.mm.kmalloc(SIZE, C::GFP.with(Gfp::NOFAIL)) {
            Ok(object) => object,
            Err(error) => broken_promise(error),
        }
    }

    /// [`Mm::kmem_cache_alloc`].
    ///
    /// # Errors
    /// No memory; [`AllocError::BadPointer`] if the cache was destroyed.
    #[inline(always)]
    pub fn kmem_cache_alloc<C: AllowedIn<T>>(
        self,
        cache: CacheRef,
        _: C,
    ) -> Result<NonNull<u8>, AllocError> {
        self.mm.kmem_cache_alloc(cache, C::GFP)
    }

    /// [`Mm::alloc_pages`]: 2^order pages.
    ///
    /// # Errors
    /// No memory; an order above 10.
    #[inline(always)]
    pub fn alloc_pages<C: AllowedIn<T>>(self, _: C, order: u8) -> Result<Pfn, AllocError> {
        self.mm.alloc_pages(C::GFP, order)
    }

    /// [`Mm::alloc_pages`] of one or two pages that never fails: it waits.
    ///
    /// # Panics
    /// As [`With::kmalloc_nofail`].
    #[inline(always)]
    #[track_caller]
    pub fn alloc_pages_nofail<const ORDER: u8, C: Unfailing<T>>(self, _: C) -> Pfn
    where
        Pages<ORDER>: Promised,
    {
        const { assert!(PAGE_SIZE << ORDER <= MOST_PROMISED && ORDER <= Order::MAX.get()) }
        match self.mm.alloc_pages(C::GFP.with(Gfp::NOFAIL), ORDER) {
            Ok(pfn) => pfn,
            Err(error) => broken_promise(error),
        }
    }
}
