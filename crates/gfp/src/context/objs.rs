//! The typed calls whose size is that of a type (S40): what they make is owned.

use super::calls::With;
use super::class::AllowedIn;
use super::rights::{IsTask, TriesBoth};
use super::token::Token;
use crate::error::AllocError;
use crate::owned::{Box, Flex, KBox, KFlex, KVBox, KVFlex};
use crate::platform::{Paging, Platform};
use crate::typed::{Flexible, Zeroable};
use core::mem::MaybeUninit;

impl<'m, P: Platform, T: Token> With<'m, '_, P, T> {
    /// `value` in memory of its own, freed when the box is dropped; at most 4 MiB.
    ///
    /// # Errors
    /// No memory; `value` is dropped.
    #[track_caller]
    #[inline(always)]
    pub fn kmalloc_obj<V, C: AllowedIn<T>>(
        self,
        value: V,
        _: C,
    ) -> Result<KBox<'m, V, P>, AllocError> {
        Box::new(self.mm, value, C::GFP)
    }

    /// The value of zeroes (`kzalloc_obj`).
    ///
    /// # Errors
    /// No memory.
    #[track_caller]
    #[inline(always)]
    pub fn kzalloc_obj<V: Zeroable, C: AllowedIn<T>>(
        self,
        _: C,
    ) -> Result<KBox<'m, V, P>, AllocError> {
        Box::zeroed(self.mm, C::GFP)
    }

    /// Memory for `n` values (`kmalloc_objs`).
    ///
    /// # Errors
    /// No memory; [`AllocError::Overflow`].
    #[track_caller]
    #[inline]
    pub fn kmalloc_objs<V, C: AllowedIn<T>>(
        self,
        n: usize,
        _: C,
    ) -> Result<KBox<'m, [MaybeUninit<V>], P>, AllocError> {
        Box::<[V], _, _>::new_uninit_slice(self.mm, n, C::GFP)
    }

    /// `n` values of zeroes (`kzalloc_objs`).
    ///
    /// # Errors
    /// As [`With::kmalloc_objs`].
    #[track_caller]
    #[inline]
    pub fn kzalloc_objs<V: Zeroable, C: AllowedIn<T>>(
        self,
        n: usize,
        _: C,
    ) -> Result<KBox<'m, [V], P>, AllocError> {
        Box::zeroed_slice(self.mm, n, C::GFP)
    }

    /// A header, which counts `n`, and as many elements made by `element` (`kmalloc_flex`).
    ///
    /// # Errors
    /// No memory; [`AllocError::Overflow`], also if the header's counter cannot hold `n`.
    #[track_caller]
    #[inline]
    pub fn kmalloc_flex<H: Flexible, C: AllowedIn<T>>(
        self,
        header: H,
        n: usize,
        element: impl FnMut(usize) -> H::Item,
        _: C,
    ) -> Result<KFlex<'m, H, P>, AllocError> {
        Flex::new(self.mm, header, n, element, C::GFP)
    }
}

impl<'m, P: Paging, T: Token + IsTask> With<'m, '_, P, T> {
    /// [`With::kmalloc_obj`] in memory from `kvmalloc`.
    ///
    /// # Errors
    /// As [`With::kvmalloc`]; `value` is dropped.
    #[track_caller]
    #[inline(always)]
    pub fn kvmalloc_obj<V, C: AllowedIn<T> + TriesBoth>(
        self,
        value: V,
        _: C,
    ) -> Result<KVBox<'m, V, P>, AllocError> {
        Box::new(self.mm, value, C::GFP)
    }

    /// [`With::kzalloc_obj`] in memory from `kvmalloc`.
    ///
    /// # Errors
    /// As [`With::kvmalloc`].
    #[track_caller]
    #[inline(always)]
    pub fn kvzalloc_obj<V: Zeroable, C: AllowedIn<T> + TriesBoth>(
        self,
        _: C,
    ) -> Result<KVBox<'m, V, P>, AllocError> {
        Box::zeroed(self.mm, C::GFP)
    }

    /// [`With::kmalloc_objs`] in memory from `kvmalloc`.
    ///
    /// # Errors
    /// As [`With::kvmalloc`]; [`AllocError::Overflow`].
    #[track_caller]
    #[inline]
    pub fn kvmalloc_objs<V, C: AllowedIn<T> + TriesBoth>(
        self,
        n: usize,
        _: C,
    ) -> Result<KVBox<'m, [MaybeUninit<V>], P>, AllocError> {
        Box::<[V], _, _>::new_uninit_slice(self.mm, n, C::GFP)
    }

    /// [`With::kzalloc_objs`] in memory from `kvmalloc`.
    ///
    /// # Errors
    /// As [`With::kvmalloc_objs`].
    #[track_caller]
    #[inline]
    pub fn kvzalloc_objs<V: Zeroable, C: AllowedIn<T> + TriesBoth>(
        self,
        n: usize,
        _: C,
    ) -> Result<KVBox<'m, [V], P>, AllocError> {
        Box::zeroed_slice(self.mm, n, C::GFP)
    }

    /// [`With::kmalloc_flex`] in memory from `kvmalloc`.
    ///
    /// # Errors
    /// As [`With::kvmalloc`]; [`AllocError::Overflow`], also if the header's counter cannot hold
    /// `n`.
    #[track_caller]
    #[inline]
    pub fn kvmalloc_flex<H: Flexible, C: AllowedIn<T> + TriesBoth>(
        self,
        header: H,
        n: usize,
        element: impl FnMut(usize) -> H::Item,
        _: C,
    ) -> Result<KVFlex<'m, H, P>, AllocError> {
        Flex::new(self.mm, header, n, element, C::GFP)
    }
}
