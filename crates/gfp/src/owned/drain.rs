//! Taking a range of elements out of a vector.

use super::{Source, Vec};
use crate::platform::Platform;
use core::fmt;
use core::iter::FusedIterator;
use core::marker::PhantomData;
use core::ops::Range;
use core::ptr::{self, NonNull};

/// The elements of a range that leaves its vector ([`Vec::drain`]).
///
/// If it is forgotten, the vector keeps what was before the range; the rest is never dropped.
pub struct Drain<'v, 'm, T, P: Platform, K: Source<P>> {
    /// Has the length up to the range meanwhile.
    vec: NonNull<Vec<'m, T, P, K>>,
    /// Of the range, what was not given yet: indices in the vector.
    left: Range<usize>,
    /// Behind the range: first index, and how many.
    tail: usize,
    tail_len: usize,
    borrows: PhantomData<&'v mut Vec<'m, T, P, K>>,
}

// SAFETY: [INV-OWNED-1] it is the vector, borrowed exclusively.
unsafe impl<T: Send, P: Platform, K: Source<P>> Send for Drain<'_, '_, T, P, K> {}
// SAFETY: [INV-OWNED-1] shared it shows elements, and no more.
unsafe impl<T: Sync, P: Platform, K: Source<P>> Sync for Drain<'_, '_, T, P, K> {}

impl<'v, 'm, T, P: Platform, K: Source<P>> Drain<'v, 'm, T, P, K> {
    /// `range` is inside of `vec`.
    pub(super) fn new(vec: &'v mut Vec<'m, T, P, K>, range: Range<usize>) -> Self {
        let len = vec.len();
        debug_assert!(range.start <= range.end && range.end <= len);
        // SAFETY: what is before the range stays initialised. The rest is the iterator's now.
        unsafe { vec.set_len(range.start) };
        Drain {
            vec: NonNull::from(vec),
            tail: range.end,
            tail_len: len - range.end,
            left: range,
            borrows: PhantomData,
        }
    }

    /// Where the element with this index is.
    #[inline]
    fn place(&self, index: usize) -> *mut T {
        // SAFETY: [INV-OWNED-1] the vector is borrowed by us, and the index inside of its memory.
        // No reference to the elements is made.
        unsafe { self.vec.as_ref().as_ptr().cast_mut().add(index) }
    }

    /// What was not given yet.
    pub fn as_slice(&self) -> &[T] {
        // SAFETY: [INV-OWNED-1] those are initialised, and the iterator's.
        unsafe { core::slice::from_raw_parts(self.place(self.left.start), self.left.len()) }
    }
}

impl<T, P: Platform, K: Source<P>> Iterator for Drain<'_, '_, T, P, K> {
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

impl<T, P: Platform, K: Source<P>> DoubleEndedIterator for Drain<'_, '_, T, P, K> {
    #[inline]
    fn next_back(&mut self) -> Option<T> {
        let index = self.left.next_back()?;
        // SAFETY: as in `next`.
        Some(unsafe { self.place(index).read() })
    }
}

impl<T, P: Platform, K: Source<P>> ExactSizeIterator for Drain<'_, '_, T, P, K> {}
impl<T, P: Platform, K: Source<P>> FusedIterator for Drain<'_, '_, T, P, K> {}

impl<T, P: Platform, K: Source<P>> Drop for Drain<'_, '_, T, P, K> {
    fn drop(&mut self) {
        /// Moves the tail down, also if a destructor panics.
        struct Tail<'d, 'v, 'm, T, P: Platform, K: Source<P>>(&'d mut Drain<'v, 'm, T, P, K>);
        impl<T, P: Platform, K: Source<P>> Drop for Tail<'_, '_, '_, T, P, K> {
            fn drop(&mut self) {
                let drain = &mut *self.0;
                // SAFETY: [INV-OWNED-1] the vector is borrowed by us; the tail is initialised, and
                // what was before it has left.
                unsafe {
                    let vec = drain.vec.as_mut();
                    let start = vec.len();
                    let first = vec.as_mut_ptr();
                    ptr::copy(first.add(drain.tail), first.add(start), drain.tail_len);
                    vec.set_len(start + drain.tail_len);
                }
            }
        }
        let left = core::mem::replace(&mut self.left, 0..0);
        let first = self.place(left.start);
        let _tail = Tail(self);
        // SAFETY: [INV-OWNED-1] what was not given is initialised, and dropped once.
        unsafe { ptr::slice_from_raw_parts_mut(first, left.len()).drop_in_place() };
    }
}

impl<T: fmt::Debug, P: Platform, K: Source<P>> fmt::Debug for Drain<'_, '_, T, P, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Drain").field(&self.as_slice()).finish()
    }
}
