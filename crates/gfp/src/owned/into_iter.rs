//! The elements of a vector, one after the other.

use super::boxed::Memory;
use super::{Source, Vec};
use crate::platform::Platform;
use core::fmt;
use core::iter::FusedIterator;
use core::marker::PhantomData;
use core::ops::Range;
use core::ptr::{self, NonNull};

/// The elements of a vector that is no more.
pub struct IntoIter<'m, T, P: Platform, K: Source<P>> {
    /// None if the vector had no memory.
    _memory: Option<Memory<'m, P, K>>,
    first: NonNull<T>,
    /// What was not given yet.
    left: Range<usize>,
    owns: PhantomData<T>,
}

// SAFETY: [INV-OWNED-1] it is the one way to its elements; memory may be freed on any CPU.
unsafe impl<T: Send, P: Platform, K: Source<P>> Send for IntoIter<'_, T, P, K> {}
// SAFETY: [INV-OWNED-1] shared it shows elements, and no more.
unsafe impl<T: Sync, P: Platform, K: Source<P>> Sync for IntoIter<'_, T, P, K> {}

impl<T, P: Platform, K: Source<P>> IntoIter<'_, T, P, K> {
    /// What was not given yet.
    pub fn as_slice(&self) -> &[T] {
        // SAFETY: [INV-OWNED-1] those are initialised.
        unsafe { core::slice::from_raw_parts(self.place(self.left.start), self.left.len()) }
    }

    /// Where the element with this index is.
    #[inline]
    fn place(&self, index: usize) -> *mut T {
        // SAFETY: [INV-OWNED-1] inside of the memory, or at its end.
        unsafe { self.first.as_ptr().add(index) }
    }
}

impl<'m, T, P: Platform, K: Source<P>> IntoIterator for Vec<'m, T, P, K> {
    type Item = T;
    type IntoIter = IntoIter<'m, T, P, K>;

    fn into_iter(self) -> IntoIter<'m, T, P, K> {
        let mm = self.machine();
        let (first, len, cap) = self.into_raw_parts();
        IntoIter {
            _memory: (size_of::<T>() != 0 && cap != 0).then(|| Memory {
                mm,
                at: first.cast(),
                source: PhantomData,
            }),
            first,
            left: 0..len,
            owns: PhantomData,
        }
    }
}

impl<'v, T, P: Platform, K: Source<P>> IntoIterator for &'v Vec<'_, T, P, K> {
    type Item = &'v T;
    type IntoIter = core::slice::Iter<'v, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'v, T, P: Platform, K: Source<P>> IntoIterator for &'v mut Vec<'_, T, P, K> {
    type Item = &'v mut T;
    type IntoIter = core::slice::IterMut<'v, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}

impl<T, P: Platform, K: Source<P>> Iterator for IntoIter<'_, T, P, K> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        let index = self.left.next()?;
        // SAFETY: [INV-OWNED-1] initialised, and moved out once.
        Some(unsafe { self.place(index).read() })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.left.size_hint()
    }
}

impl<T, P: Platform, K: Source<P>> DoubleEndedIterator for IntoIter<'_, T, P, K> {
    #[inline]
    fn next_back(&mut self) -> Option<T> {
        let index = self.left.next_back()?;
        // SAFETY: as in `next`.
        Some(unsafe { self.place(index).read() })
    }
}

impl<T, P: Platform, K: Source<P>> ExactSizeIterator for IntoIter<'_, T, P, K> {}
impl<T, P: Platform, K: Source<P>> FusedIterator for IntoIter<'_, T, P, K> {}

impl<T, P: Platform, K: Source<P>> Drop for IntoIter<'_, T, P, K> {
    fn drop(&mut self) {
        let left = core::mem::replace(&mut self.left, 0..0);
        // SAFETY: [INV-OWNED-1] what was not given is initialised, and dropped once; its memory
        // goes after it, with its own field.
        unsafe {
            ptr::slice_from_raw_parts_mut(self.place(left.start), left.len()).drop_in_place()
        };
    }
}

impl<T: fmt::Debug, P: Platform, K: Source<P>> fmt::Debug for IntoIter<'_, T, P, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("IntoIter").field(&self.as_slice()).finish()
    }
}
