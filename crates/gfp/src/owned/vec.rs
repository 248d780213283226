//! A vector whose growth can fail.

use super::boxed::Memory;
use super::{Box, KVmalloc, Kmalloc, Permit, Source, Vmalloc};
use crate::error::AllocError;
use crate::flags::Gfp;
use crate::mm::Mm;
use crate::platform::Platform;
use crate::typed::Shape;
use core::fmt;
use core::marker::PhantomData;
use core::mem::{ManuallyDrop, MaybeUninit};
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

/// A growable array. All of its memory's class is its capacity.
pub struct Vec<'m, T, P: Platform, K: Source<P>> {
    mm: &'m Mm<P>,
    first: NonNull<T>,
    len: usize,
    /// Elements that there is memory for; not looked at if they have no size.
    cap: usize,
    owns: PhantomData<(fn() -> K, T)>,
}

/// A [`Vec`] in memory from `kmalloc`, at most 4 MiB.
pub type KVec<'m, T, P> = Vec<'m, T, P, Kmalloc>;
/// A [`Vec`] in memory from `vmalloc`.
pub type VVec<'m, T, P> = Vec<'m, T, P, Vmalloc>;
/// A [`Vec`] in memory from `kvmalloc`.
pub type KVVec<'m, T, P> = Vec<'m, T, P, KVmalloc>;

// SAFETY: [INV-OWNED-1] the vector is the one way to its elements; memory may be freed on any CPU.
unsafe impl<T: Send, P: Platform, K: Source<P>> Send for Vec<'_, T, P, K> {}
// SAFETY: [INV-OWNED-1] a shared vector gives shared references to its elements, and no more.
unsafe impl<T: Sync, P: Platform, K: Source<P>> Sync for Vec<'_, T, P, K> {}

impl<T, P: Platform, K: Source<P>> Unpin for Vec<'_, T, P, K> {}

impl<'m, T, P: Platform, K: Source<P>> Vec<'m, T, P, K> {
    /// True if elements need memory.
    const SIZED: bool = size_of::<T>() != 0;

    /// An empty vector without memory.
    #[inline]
    pub const fn new(mm: &'m Mm<P>) -> Self {
        Vec {
            mm,
            first: NonNull::dangling(),
            len: 0,
            cap: 0,
            owns: PhantomData,
        }
    }

    /// An empty vector with room for `n` elements, or some more.
    ///
    /// # Errors
    /// No memory; [`AllocError::Overflow`].
    #[track_caller]
    pub fn with_capacity(mm: &'m Mm<P>, n: usize, how: impl Permit<K>) -> Result<Self, AllocError> {
        let mut vec = Vec::new(mm);
        vec.reserve_exact(n, how)?;
        Ok(vec)
    }

    /// The elements of an array: what [`kvec!`](crate::kvec) makes.
    ///
    /// # Errors
    /// No memory; the elements are dropped.
    #[track_caller]
    pub fn from_array<const N: usize>(
        mm: &'m Mm<P>,
        elements: [T; N],
        how: impl Permit<K>,
    ) -> Result<Self, AllocError> {
        let mut vec = Vec::with_capacity(mm, N, how)?;
        let elements = ManuallyDrop::new(elements);
        // SAFETY: [INV-OWNED-1] there is room for `N` elements, which are moved once.
        unsafe {
            vec.first
                .cast()
                .write(core::ptr::read(&raw const *elements));
            vec.len = N;
        }
        Ok(vec)
    }

    /// `n` clones of `value`.
    ///
    /// # Errors
    /// No memory; [`AllocError::Overflow`].
    #[track_caller]
    pub fn from_elem(
        mm: &'m Mm<P>,
        value: T,
        n: usize,
        how: impl Permit<K>,
    ) -> Result<Self, AllocError>
    where
        T: Clone,
    {
        let mut vec = Vec::with_capacity(mm, n, how)?;
        vec.fill_up_to(n, value);
        Ok(vec)
    }

    /// The machine that the memory is from.
    #[inline]
    pub fn machine(&self) -> &'m Mm<P> {
        self.mm
    }

    /// Elements in it.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if it has none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Elements that fit without an allocation; `usize::MAX` if they have no size.
    #[inline]
    pub fn capacity(&self) -> usize {
        if Self::SIZED { self.cap } else { usize::MAX }
    }

    /// The first element; dangling if there is no memory.
    #[inline]
    pub fn as_ptr(&self) -> *const T {
        self.first.as_ptr()
    }

    /// As [`Vec::as_ptr`], to write.
    #[inline]
    pub fn as_mut_ptr(&mut self) -> *mut T {
        self.first.as_ptr()
    }

    /// The elements.
    #[inline]
    pub fn as_slice(&self) -> &[T] {
        self
    }

    /// The elements, to write.
    #[inline]
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        self
    }

    /// The memory behind the elements.
    #[inline]
    pub fn spare_capacity_mut(&mut self) -> &mut [MaybeUninit<T>] {
        let spare = self.capacity() - self.len;
        // SAFETY: [INV-OWNED-1] there is room for as many elements behind the last; it may have
        // any content.
        unsafe { core::slice::from_raw_parts_mut(self.first.add(self.len).cast().as_ptr(), spare) }
    }

    /// Says how many elements are initialised.
    ///
    /// # Safety
    /// The first `len` places are, and it is at most the capacity.
    #[inline]
    pub unsafe fn set_len(&mut self, len: usize) {
        debug_assert!(len <= self.capacity());
        self.len = len;
    }

    /// Makes room for `more` elements beyond those that are there, and for growth: at least twice
    /// what there was.
    ///
    /// # Errors
    /// No memory; [`AllocError::Overflow`]. The vector is as it was.
    #[track_caller]
    #[inline]
    pub fn reserve(&mut self, more: usize, how: impl Permit<K>) -> Result<(), AllocError> {
        if self.capacity() - self.len >= more {
            return Ok(());
        }
        let need = self.len.checked_add(more).ok_or(AllocError::Overflow)?;
        self.grow(need.max(self.cap.saturating_mul(2)), need, how.gfp())
    }

    /// Makes room for `more` elements beyond those that are there.
    ///
    /// # Errors
    /// As [`Vec::reserve`].
    #[track_caller]
    #[inline]
    pub fn reserve_exact(&mut self, more: usize, how: impl Permit<K>) -> Result<(), AllocError> {
        if self.capacity() - self.len >= more {
            return Ok(());
        }
        let need = self.len.checked_add(more).ok_or(AllocError::Overflow)?;
        self.grow(need, need, how.gfp())
    }

    /// Makes room for `wanted` elements, or for the `needed` if that is more than there is.
    #[cold]
    #[track_caller]
    fn grow(&mut self, wanted: usize, needed: usize, gfp: Gfp) -> Result<(), AllocError> {
        debug_assert!(Self::SIZED && needed > self.cap && wanted >= needed);
        match self.set_capacity(wanted, gfp) {
            Err(_) if wanted > needed => self.set_capacity(needed, gfp),
            result => result,
        }
    }

    /// Gives the vector memory for `cap` elements, not 0 and at least as many as there are.
    #[track_caller]
    fn set_capacity(&mut self, cap: usize, gfp: Gfp) -> Result<(), AllocError> {
        debug_assert!(Self::SIZED && cap >= self.len && cap > 0);
        let asked = Shape::of_array::<T>(cap)?;
        // Slices are at most half of the address space long.
        if asked.size > isize::MAX as usize - 4096 {
            return Err(AllocError::Overflow);
        }
        // All that the class gives, in whole elements.
        let cap = K::roundup(asked.size) / size_of::<T>();
        let size = cap * size_of::<T>();
        let gfp = gfp.without(Gfp::ZERO);
        let shape = Shape { size, ..asked };
        let memory = if self.cap == 0 {
            K::alloc(self.mm, shape, gfp)?
        } else {
            // SAFETY: [INV-OWNED-1] the memory is the vector's, and replaced by the answer.
            unsafe { K::resize(self.mm, self.first.cast(), size, shape.align, gfp) }?
        };
        self.first = memory.cast();
        debug_assert!(self.first.is_aligned());
        self.cap = cap;
        Ok(())
    }

    /// Gives memory back beyond what `n` elements, or those that are there, need: whole pages of a
    /// vmalloc area go; of other memory at least the next request profits.
    ///
    /// # Errors
    /// The source refused; the vector is as it was.
    #[track_caller]
    pub fn shrink_to(&mut self, n: usize, how: impl Permit<K>) -> Result<(), AllocError> {
        let n = n.max(self.len);
        if !Self::SIZED || n >= self.cap {
            return Ok(());
        }
        if n == 0 {
            self.free();
            return Ok(());
        }
        self.set_capacity(n, how.gfp())
    }

    /// Frees the memory of an empty vector.
    fn free(&mut self) {
        debug_assert_eq!(self.len, 0);
        if Self::SIZED && self.cap != 0 {
            self.cap = 0;
            let memory = core::mem::replace(&mut self.first, NonNull::dangling());
            // SAFETY: [INV-OWNED-1] the vector's own, and not used any more.
            unsafe { K::free(self.mm, memory.cast()) };
        }
    }

    /// A box of the elements, in the same memory.
    pub fn into_boxed_slice(mut self) -> Box<'m, [T], P, K> {
        if self.len == 0 {
            self.free(); // a box of no bytes has no memory
        }
        let this = ManuallyDrop::new(self);
        let elements = NonNull::slice_from_raw_parts(this.first, this.len);
        // SAFETY: [INV-OWNED-1] the elements are initialised, and handed over.
        unsafe { Box::from_raw(this.mm, elements) }
    }

    /// Gives up the vector: its memory, length and capacity.
    #[inline]
    pub fn into_raw_parts(self) -> (NonNull<T>, usize, usize) {
        let this = ManuallyDrop::new(self);
        (this.first, this.len, this.cap)
    }

    /// A vector of what [`Vec::into_raw_parts`] gave; or of memory for `cap` elements from this
    /// source and machine. Of elements without size, and for capacity 0, any aligned address.
    ///
    /// # Safety [INV-OWNED-1] `first` is that, nobody else has it, the first `len` elements are
    /// initialised, and `len` is at most `cap`.
    #[inline]
    pub unsafe fn from_raw_parts(mm: &'m Mm<P>, first: NonNull<T>, len: usize, cap: usize) -> Self {
        Vec {
            mm,
            first,
            len,
            cap: if Self::SIZED { cap } else { 0 },
            owns: PhantomData,
        }
    }
}

impl<T, P: Platform, K: Source<P>> Drop for Vec<'_, T, P, K> {
    #[inline]
    fn drop(&mut self) {
        let _memory = (Self::SIZED && self.cap != 0).then(|| Memory::<P, K> {
            mm: self.mm,
            at: self.first.cast(),
            source: PhantomData,
        });
        // SAFETY: [INV-OWNED-1] the elements are initialised until now; the vector ends here.
        unsafe { NonNull::slice_from_raw_parts(self.first, self.len).drop_in_place() };
    }
}

impl<T, P: Platform, K: Source<P>> Deref for Vec<'_, T, P, K> {
    type Target = [T];
    #[inline(always)]
    fn deref(&self) -> &[T] {
        // SAFETY: [INV-OWNED-1] the first `len` elements are initialised.
        unsafe { core::slice::from_raw_parts(self.first.as_ptr(), self.len) }
    }
}

impl<T, P: Platform, K: Source<P>> DerefMut for Vec<'_, T, P, K> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: [INV-OWNED-1] as in `deref`; the vector is borrowed exclusively.
        unsafe { core::slice::from_raw_parts_mut(self.first.as_ptr(), self.len) }
    }
}

impl<T, P: Platform, K: Source<P>> AsRef<[T]> for Vec<'_, T, P, K> {
    fn as_ref(&self) -> &[T] {
        self
    }
}

impl<T, P: Platform, K: Source<P>> AsMut<[T]> for Vec<'_, T, P, K> {
    fn as_mut(&mut self) -> &mut [T] {
        self
    }
}

impl<T: fmt::Debug, P: Platform, K: Source<P>> fmt::Debug for Vec<'_, T, P, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// A [`KVec`](crate::owned::KVec) of the elements, or an error: `vec!` that can fail.
///
/// `kvec!(mm, how; [a, b, c])`, `kvec!(mm, how; [value; n])`; `how` is a
/// [`Permit`](crate::owned::Permit).
#[macro_export]
macro_rules! kvec {
    ($mm:expr, $how:expr; [$value:expr; $n:expr]) => {
        $crate::owned::KVec::from_elem($mm, $value, $n, $how)
    };
    ($mm:expr, $how:expr; [$($element:expr),* $(,)?]) => {
        $crate::owned::KVec::from_array($mm, [$($element),*], $how)
    };
}
