//! What is put into a vector and taken out of it.

use super::{Drain, Permit, Source, Vec};
use crate::error::AllocError;
use crate::platform::Platform;
use core::ops::{Bound, RangeBounds};
use core::ptr;

/// The indices of a range in `len` elements.
///
/// # Panics
/// If it is none in them.
#[track_caller]
fn indices(range: impl RangeBounds<usize>, len: usize) -> core::ops::Range<usize> {
    let start = match range.start_bound() {
        Bound::Included(&at) => Some(at),
        Bound::Excluded(&at) => at.checked_add(1),
        Bound::Unbounded => Some(0),
    };
    let end = match range.end_bound() {
        Bound::Included(&at) => at.checked_add(1),
        Bound::Excluded(&at) => Some(at),
        Bound::Unbounded => Some(len),
    };
    match (start, end) {
        (Some(start), Some(end)) if start <= end && end <= len => start..end,
        _ => panic!("the range is not inside of {len} elements"),
    }
}

impl<'m, T, P: Platform, K: Source<P>> Vec<'m, T, P, K> {
    /// Puts an element behind the last.
    ///
    /// # Errors
    /// No memory; `value` is dropped ([`Vec::reserve`] and [`Vec::push_within_capacity`] keep it).
    #[track_caller]
    #[inline]
    pub fn push(&mut self, value: T, how: impl Permit<K>) -> Result<(), AllocError> {
        self.reserve(1, how)?;
        // SAFETY: there is room now.
        unsafe { self.push_unchecked(value) };
        Ok(())
    }

    /// Puts an element behind the last, if there is room.
    ///
    /// # Errors
    /// `value` comes back.
    #[inline]
    pub fn push_within_capacity(&mut self, value: T) -> Result<(), T> {
        if self.len() == self.capacity() {
            return Err(value);
        }
        // SAFETY: there is room.
        unsafe { self.push_unchecked(value) };
        Ok(())
    }

    /// # Safety
    /// The vector has room for one more.
    #[inline(always)]
    unsafe fn push_unchecked(&mut self, value: T) {
        let len = self.len();
        // SAFETY: [INV-OWNED-1] promised by the caller; the place is behind the last element.
        unsafe {
            self.as_mut_ptr().add(len).write(value);
            self.set_len(len + 1);
        }
    }

    /// Takes the last element out.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        let last = self.len().checked_sub(1)?;
        // SAFETY: [INV-OWNED-1] the element is initialised; with the shorter length it is ours.
        unsafe {
            self.set_len(last);
            Some(self.as_ptr().add(last).read())
        }
    }

    /// Drops what is behind the first `len` elements.
    pub fn truncate(&mut self, len: usize) {
        let Some(gone) = self.len().checked_sub(len) else {
            return;
        };
        // SAFETY: [INV-OWNED-1] the elements are initialised; the length is shorter before they
        // go, so that a destructor that panics leads to no second drop.
        unsafe {
            self.set_len(len);
            let first = self.as_mut_ptr().add(len);
            ptr::slice_from_raw_parts_mut(first, gone).drop_in_place();
        }
    }

    /// Drops all elements; the memory stays.
    pub fn clear(&mut self) {
        self.truncate(0);
    }

    /// Puts an element at `index`; those from there on move up.
    ///
    /// # Errors
    /// No memory; `value` is dropped.
    ///
    /// # Panics
    /// If `index` is above the length.
    #[track_caller]
    pub fn insert(
        &mut self,
        index: usize,
        value: T,
        how: impl Permit<K>,
    ) -> Result<(), AllocError> {
        let len = self.len();
        assert!(
            index <= len,
            "the index is {index}, and there are {len} elements"
        );
        self.reserve(1, how)?;
        // SAFETY: [INV-OWNED-1] there is room for one more; all elements stay initialised, and
        // nothing in between panics.
        unsafe {
            let at = self.as_mut_ptr().add(index);
            ptr::copy(at, at.add(1), len - index);
            at.write(value);
            self.set_len(len + 1);
        }
        Ok(())
    }

    /// Takes the element at `index` out; those behind it move down.
    ///
    /// # Panics
    /// If there is none.
    #[track_caller]
    pub fn remove(&mut self, index: usize) -> T {
        let len = self.len();
        assert!(
            index < len,
            "the index is {index}, and there are {len} elements"
        );
        // SAFETY: [INV-OWNED-1] the element is moved out once, those behind it over it.
        unsafe {
            let at = self.as_mut_ptr().add(index);
            let value = at.read();
            ptr::copy(at.add(1), at, len - index - 1);
            self.set_len(len - 1);
            value
        }
    }

    /// Takes the element at `index` out; the last takes its place.
    ///
    /// # Panics
    /// If there is none.
    #[track_caller]
    pub fn swap_remove(&mut self, index: usize) -> T {
        let len = self.len();
        assert!(
            index < len,
            "the index is {index}, and there are {len} elements"
        );
        // SAFETY: [INV-OWNED-1] the element is moved out once, the last over it.
        unsafe {
            let at = self.as_mut_ptr();
            let value = at.add(index).read();
            ptr::copy(at.add(len - 1), at.add(index), 1);
            self.set_len(len - 1);
            value
        }
    }

    /// Puts clones of `elements` behind the last.
    ///
    /// # Errors
    /// No memory; nothing was put.
    #[track_caller]
    pub fn extend_from_slice(
        &mut self,
        elements: &[T],
        how: impl Permit<K>,
    ) -> Result<(), AllocError>
    where
        T: Clone,
    {
        self.reserve(elements.len(), how)?;
        for element in elements {
            let clone = element.clone();
            // SAFETY: there is room for all of them; a clone that panics leaves those before it.
            unsafe { self.push_unchecked(clone) };
        }
        Ok(())
    }

    /// Puts the elements of an iterator behind the last.
    ///
    /// # Errors
    /// No memory: what came before is in the vector, the element that was in hand is dropped.
    #[track_caller]
    pub fn try_extend(
        &mut self,
        elements: impl IntoIterator<Item = T>,
        how: impl Permit<K> + Copy,
    ) -> Result<(), AllocError> {
        let mut elements = elements.into_iter();
        while let Some(element) = elements.next() {
            if self.len() == self.capacity() {
                let more = elements.size_hint().0.saturating_add(1);
                // A hint that is a lie must not fail what fits.
                if self.reserve(more, how).is_err() {
                    self.reserve(1, how)?;
                }
            }
            // SAFETY: there is room.
            unsafe { self.push_unchecked(element) };
        }
        Ok(())
    }

    /// Makes the vector `len` elements long: with clones of `value`, or by dropping the last.
    ///
    /// # Errors
    /// No memory; the vector is as it was.
    #[track_caller]
    pub fn resize(&mut self, len: usize, value: T, how: impl Permit<K>) -> Result<(), AllocError>
    where
        T: Clone,
    {
        match len.checked_sub(self.len()) {
            None => self.truncate(len),
            Some(more) => {
                self.reserve(more, how)?;
                self.fill_up_to(len, value);
            }
        }
        Ok(())
    }

    /// Puts clones of `value` until there are `len` elements, for which there is room.
    pub(super) fn fill_up_to(&mut self, len: usize, value: T)
    where
        T: Clone,
    {
        debug_assert!(len <= self.capacity());
        while self.len() + 1 < len {
            let clone = value.clone();
            // SAFETY: there is room for `len` elements.
            unsafe { self.push_unchecked(clone) };
        }
        if self.len() < len {
            // SAFETY: as above.
            unsafe { self.push_unchecked(value) };
        }
    }

    /// A vector with clones of the elements, on the same machine.
    ///
    /// # Errors
    /// No memory.
    #[track_caller]
    pub fn try_clone(&self, how: impl Permit<K>) -> Result<Self, AllocError>
    where
        T: Clone,
    {
        let mut vec = Vec::new(self.machine());
        vec.extend_from_slice(self, how)?;
        Ok(vec)
    }

    /// Keeps the elements that `keep` says true of, in their order, and drops the others.
    pub fn retain(&mut self, mut keep: impl FnMut(&mut T) -> bool) {
        /// Closes the gap, also if a predicate or destructor panics.
        struct Gap<'v, 'm, T, P: Platform, K: Source<P>> {
            vec: &'v mut Vec<'m, T, P, K>,
            /// Elements that were there
            len: usize,
            looked_at: usize,
            kept: usize,
        }
        impl<T, P: Platform, K: Source<P>> Drop for Gap<'_, '_, T, P, K> {
            fn drop(&mut self) {
                let (from, to) = (self.looked_at, self.kept);
                // SAFETY: [INV-OWNED-1] what was not looked at is initialised, and moves down
                // behind what was kept.
                unsafe {
                    let first = self.vec.as_mut_ptr();
                    ptr::copy(first.add(from), first.add(to), self.len - from);
                    self.vec.set_len(to + self.len - from);
                }
            }
        }
        let len = self.len();
        // SAFETY: nothing counts as initialised meanwhile.
        unsafe { self.set_len(0) };
        let mut gap = Gap {
            vec: self,
            len,
            looked_at: 0,
            kept: 0,
        };
        while gap.looked_at < len {
            // SAFETY: [INV-OWNED-1] the element is initialised, and has not been moved.
            let at = unsafe { gap.vec.as_mut_ptr().add(gap.looked_at) };
            // SAFETY: as above; nobody else has it.
            let stays = keep(unsafe { &mut *at });
            gap.looked_at += 1;
            if stays {
                // SAFETY: its place among those kept is free, or its own.
                unsafe { ptr::copy(at, gap.vec.as_mut_ptr().add(gap.kept), 1) };
                gap.kept += 1;
            } else {
                // SAFETY: as above; it is behind what counts as looked at, so it is dropped once.
                unsafe { at.drop_in_place() };
            }
        }
    }

    /// Takes a range of elements out; those that the iterator has not given when it is dropped are
    /// dropped too, and those behind them move down.
    ///
    /// # Panics
    /// If the range is not inside of the vector.
    #[track_caller]
    pub fn drain(&mut self, range: impl RangeBounds<usize>) -> Drain<'_, 'm, T, P, K> {
        let range = indices(range, self.len());
        Drain::new(self, range)
    }
}
