//! One value, or a slice, in memory of its own.

use super::{KVmalloc, Kmalloc, Permit, Source, Vec, Vmalloc};
use crate::error::AllocError;
use crate::flags::Gfp;
use crate::mm::Mm;
use crate::platform::Platform;
use crate::typed::{Shape, Zeroable};
use core::fmt;
use core::marker::PhantomData;
use core::mem::{ManuallyDrop, MaybeUninit};
use core::ops::{Deref, DerefMut};
use core::pin::Pin;
use core::ptr::NonNull;

/// A value or slice that is dropped, and its memory freed, with the box.
pub struct Box<'m, T: ?Sized, P: Platform, K: Source<P>> {
    mm: &'m Mm<P>,
    value: NonNull<T>,
    owns: PhantomData<(fn() -> K, T)>,
}

/// A [`Box`] in memory from `kmalloc`.
pub type KBox<'m, T, P> = Box<'m, T, P, Kmalloc>;
/// A [`Box`] in memory from `vmalloc`.
pub type VBox<'m, T, P> = Box<'m, T, P, Vmalloc>;
/// A [`Box`] in memory from `kvmalloc`.
pub type KVBox<'m, T, P> = Box<'m, T, P, KVmalloc>;

// SAFETY: [INV-OWNED-1] the box is the one way to the value; memory may be freed on any CPU.
unsafe impl<T: ?Sized + Send, P: Platform, K: Source<P>> Send for Box<'_, T, P, K> {}
// SAFETY: [INV-OWNED-1] a shared box gives shared references to the value, and no more.
unsafe impl<T: ?Sized + Sync, P: Platform, K: Source<P>> Sync for Box<'_, T, P, K> {}

impl<T: ?Sized, P: Platform, K: Source<P>> Unpin for Box<'_, T, P, K> {}

impl<'m, T, P: Platform, K: Source<P>> Box<'m, T, P, K> {
    /// Memory for a `T`; none for one without size.
    #[track_caller]
    #[inline(always)]
    fn place(mm: &Mm<P>, gfp: Gfp) -> Result<NonNull<T>, AllocError> {
        let place = match size_of::<T>() {
            0 => NonNull::dangling(),
            _ => K::alloc_obj::<T>(mm, gfp)?,
        };
        debug_assert!(place.is_aligned());
        Ok(place)
    }

    /// `value` in memory of its own.
    ///
    /// # Errors
    /// No memory; `value` is dropped.
    #[track_caller]
    #[inline(always)]
    pub fn new(mm: &'m Mm<P>, value: T, how: impl Permit<K>) -> Result<Self, AllocError> {
        let place = Self::place(mm, how.gfp().without(Gfp::ZERO))?;
        // SAFETY: [INV-OWNED-1] the memory is ours, large and aligned enough.
        unsafe {
            place.write(value);
            Ok(Self::from_raw(mm, place))
        }
    }

    /// Memory for a value that is written later.
    ///
    /// # Errors
    /// No memory.
    #[track_caller]
    #[inline]
    pub fn new_uninit(
        mm: &'m Mm<P>,
        how: impl Permit<K>,
    ) -> Result<Box<'m, MaybeUninit<T>, P, K>, AllocError> {
        let place = Self::place(mm, how.gfp().without(Gfp::ZERO))?;
        // SAFETY: [INV-OWNED-1] what need not be initialised may have any content.
        Ok(unsafe { Box::from_raw(mm, place.cast()) })
    }

    /// The value of zeroes.
    ///
    /// # Errors
    /// No memory.
    #[track_caller]
    #[inline]
    pub fn zeroed(mm: &'m Mm<P>, how: impl Permit<K>) -> Result<Self, AllocError>
    where
        T: Zeroable,
    {
        let place = Self::place(mm, how.gfp().with(Gfp::ZERO))?;
        // SAFETY: [INV-OWNED-1] the memory reads as zero, which is a value of the type.
        Ok(unsafe { Self::from_raw(mm, place) })
    }

    /// `value`, pinned in memory of its own.
    ///
    /// # Errors
    /// As [`Box::new`].
    #[track_caller]
    #[inline]
    pub fn pin(
        mm: &'static Mm<P>,
        value: T,
        how: impl Permit<K>,
    ) -> Result<Pin<Box<'static, T, P, K>>, AllocError> {
        Ok(Box::new(mm, value, how)?.into_pin())
    }

    /// Takes the value out and frees the memory.
    #[inline]
    pub fn into_inner(self) -> T {
        let (mm, place) = (self.mm, self.into_raw());
        // SAFETY: [INV-OWNED-1] the value is initialised, and moved out once; its memory is ours.
        unsafe {
            let value = place.read();
            if size_of::<T>() != 0 {
                K::free(mm, place.cast());
            }
            value
        }
    }
}

impl<'m, T: ?Sized, P: Platform, K: Source<P>> Box<'m, T, P, K> {
    /// The machine that the memory is from.
    #[inline]
    pub fn machine(&self) -> &'m Mm<P> {
        self.mm
    }

    /// Gives up the box; the value stays where it is, until [`Box::from_raw`] takes it again.
    #[inline]
    pub fn into_raw(self) -> NonNull<T> {
        ManuallyDrop::new(self).value
    }

    /// A box of what [`Box::into_raw`] gave; or of a value that was written to memory of this
    /// source and machine (for one without size: to any aligned address).
    ///
    /// # Safety
    /// [INV-OWNED-1] `value` is that, and nobody else has it.
    #[inline]
    pub unsafe fn from_raw(mm: &'m Mm<P>, value: NonNull<T>) -> Self {
        Box {
            mm,
            value,
            owns: PhantomData,
        }
    }

    /// Gives up the box for a reference that lasts as long as the machine is borrowed. The value
    /// is never dropped.
    #[inline]
    pub fn leak(self) -> &'m mut T
    where
        T: 'm,
    {
        // SAFETY: [INV-OWNED-1] the value is initialised, and nobody else has a pointer to it.
        unsafe { self.into_raw().as_mut() }
    }
}

impl<T: ?Sized, P: Platform, K: Source<P>> Box<'static, T, P, K> {
    /// Pins the value. Only on a machine that lives for ever: the memory of a pinned value must
    /// not go before the value is dropped, also if the box was forgotten.
    #[inline]
    pub fn into_pin(self) -> Pin<Self> {
        // SAFETY: the box gives no way to move the value once it is pinned, and its memory stays:
        // the machine lives for ever, and frees what the box gives back only.
        unsafe { Pin::new_unchecked(self) }
    }
}

impl<'m, T, P: Platform, K: Source<P>> Box<'m, MaybeUninit<T>, P, K> {
    /// Writes the value.
    #[inline]
    pub fn write(mut self, value: T) -> Box<'m, T, P, K> {
        MaybeUninit::write(&mut self, value);
        // SAFETY: just written.
        unsafe { self.assume_init() }
    }

    /// The box of the value that was written to its place.
    ///
    /// # Safety
    /// The value is initialised.
    #[inline]
    pub unsafe fn assume_init(self) -> Box<'m, T, P, K> {
        let (mm, place) = (self.mm, self.into_raw());
        // SAFETY: [INV-OWNED-1] promised by the caller; the same memory.
        unsafe { Box::from_raw(mm, place.cast()) }
    }
}

impl<'m, T, P: Platform, K: Source<P>> Box<'m, [T], P, K> {
    /// Memory for `n` values; none if they have no bytes.
    #[track_caller]
    fn places(mm: &Mm<P>, n: usize, gfp: Gfp) -> Result<NonNull<[T]>, AllocError> {
        let shape = Shape::of_array::<T>(n)?;
        let first = match shape.size {
            0 => NonNull::dangling(),
            _ => K::alloc(mm, shape, gfp)?.cast(),
        };
        Ok(NonNull::slice_from_raw_parts(first, n))
    }

    /// Memory for `n` values that are written later.
    ///
    /// # Errors
    /// No memory; [`AllocError::Overflow`].
    #[track_caller]
    pub fn new_uninit_slice(
        mm: &'m Mm<P>,
        n: usize,
        how: impl Permit<K>,
    ) -> Result<Box<'m, [MaybeUninit<T>], P, K>, AllocError> {
        let places = Self::places(mm, n, how.gfp().without(Gfp::ZERO))?;
        let places = NonNull::slice_from_raw_parts(places.cast(), n);
        // SAFETY: [INV-OWNED-1] what need not be initialised may have any content.
        Ok(unsafe { Box::from_raw(mm, places) })
    }

    /// `n` values of zeroes.
    ///
    /// # Errors
    /// As [`Box::new_uninit_slice`].
    #[track_caller]
    pub fn zeroed_slice(mm: &'m Mm<P>, n: usize, how: impl Permit<K>) -> Result<Self, AllocError>
    where
        T: Zeroable,
    {
        let places = Self::places(mm, n, how.gfp().with(Gfp::ZERO))?;
        // SAFETY: [INV-OWNED-1] the memory reads as zero, which is a value of the type.
        Ok(unsafe { Box::from_raw(mm, places) })
    }

    /// A vector of the same memory.
    #[inline]
    pub fn into_vec(self) -> Vec<'m, T, P, K> {
        let (mm, values) = (self.mm, self.into_raw());
        let n = values.len();
        // SAFETY: [INV-OWNED-1] the memory holds `n` values, all initialised; none if they have no
        // bytes.
        unsafe { Vec::from_raw_parts(mm, values.cast(), n, n) }
    }
}

impl<'m, T, P: Platform, K: Source<P>> Box<'m, [MaybeUninit<T>], P, K> {
    /// The box of the values that were written to their places.
    ///
    /// # Safety
    /// All of them are initialised.
    #[inline]
    pub unsafe fn assume_init(self) -> Box<'m, [T], P, K> {
        let (mm, places) = (self.mm, self.into_raw());
        let values = NonNull::slice_from_raw_parts(places.cast(), places.len());
        // SAFETY: [INV-OWNED-1] promised by the caller; the same memory.
        unsafe { Box::from_raw(mm, values) }
    }
}

/// Frees memory when dropped: also if the destructor of what was in it panics.
pub(super) struct Memory<'m, P: Platform, K: Source<P>> {
    pub(super) mm: &'m Mm<P>,
    pub(super) at: NonNull<u8>,
    pub(super) source: PhantomData<fn() -> K>,
}

impl<P: Platform, K: Source<P>> Drop for Memory<'_, P, K> {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: [INV-OWNED-1] made by the owner, who is at its end.
        unsafe { K::free(self.mm, self.at) };
    }
}

impl<T: ?Sized, P: Platform, K: Source<P>> Drop for Box<'_, T, P, K> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: [INV-OWNED-1] the value is initialised until now.
        let size = size_of_val(unsafe { self.value.as_ref() });
        let _memory = (size != 0).then(|| Memory::<P, K> {
            mm: self.mm,
            at: self.value.cast(),
            source: PhantomData,
        });
        // SAFETY: [INV-OWNED-1] as above; the box ends here.
        unsafe { self.value.drop_in_place() };
    }
}

impl<T: ?Sized, P: Platform, K: Source<P>> Deref for Box<'_, T, P, K> {
    type Target = T;
    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: [INV-OWNED-1] the value is initialised as long as the box lives.
        unsafe { self.value.as_ref() }
    }
}

impl<T: ?Sized, P: Platform, K: Source<P>> DerefMut for Box<'_, T, P, K> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: [INV-OWNED-1] as in `deref`; the box is borrowed exclusively.
        unsafe { self.value.as_mut() }
    }
}

impl<T: ?Sized, P: Platform, K: Source<P>> AsRef<T> for Box<'_, T, P, K> {
    fn as_ref(&self) -> &T {
        self
    }
}

impl<T: ?Sized, P: Platform, K: Source<P>> AsMut<T> for Box<'_, T, P, K> {
    fn as_mut(&mut self) -> &mut T {
        self
    }
}

impl<T: ?Sized + fmt::Debug, P: Platform, K: Source<P>> fmt::Debug for Box<'_, T, P, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<T: ?Sized + fmt::Display, P: Platform, K: Source<P>> fmt::Display for Box<'_, T, P, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
