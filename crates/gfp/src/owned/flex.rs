//! A header with elements behind it, in one piece of memory.

use super::boxed::Memory;
use super::{KVmalloc, Kmalloc, Permit, Source};
use crate::error::AllocError;
use crate::flags::Gfp;
use crate::mm::Mm;
use crate::platform::Platform;
use crate::typed::{Flexible, Shape, flex_items, store_count};
use core::fmt;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

/// A header that counts the elements behind it ([`flexible!`](crate::flexible); S40).
///
/// [INV-OWNED-3] The number of elements is kept here as well: what is written to the header's
/// counter later changes nothing that is relied on.
pub struct Flex<'m, H: Flexible, P: Platform, K: Source<P>> {
    mm: &'m Mm<P>,
    header: NonNull<H>,
    n: usize,
    owns: PhantomData<(H, H::Item)>,
    source: PhantomData<fn() -> K>,
}

/// A [`Flex`] in memory from `kmalloc`.
pub type KFlex<'m, H, P> = Flex<'m, H, P, Kmalloc>;
/// A [`Flex`] in memory from `kvmalloc`.
pub type KVFlex<'m, H, P> = Flex<'m, H, P, KVmalloc>;

// SAFETY: [INV-OWNED-1] it is the one way to header and elements; memory may be freed on any CPU.
unsafe impl<H: Flexible + Send, P: Platform, K: Source<P>> Send for Flex<'_, H, P, K> where
    H::Item: Send
{
}
// SAFETY: [INV-OWNED-1] shared it gives shared references to both, and no more.
unsafe impl<H: Flexible + Sync, P: Platform, K: Source<P>> Sync for Flex<'_, H, P, K> where
    H::Item: Sync
{
}

impl<'m, H: Flexible, P: Platform, K: Source<P>> Flex<'m, H, P, K> {
    /// `header`, which counts `n` from now on, and the elements that `element` makes of their
    /// numbers.
    ///
    /// # Errors
    /// No memory; [`AllocError::Overflow`], also if the counter cannot hold `n`. The header is
    /// dropped, `element` was not called.
    #[track_caller]
    pub fn new(
        mm: &'m Mm<P>,
        header: H,
        n: usize,
        mut element: impl FnMut(usize) -> H::Item,
        how: impl Permit<K>,
    ) -> Result<Self, AllocError> {
        let shape = Shape::of_flexible::<H>(n)?;
        const { assert!(size_of::<H>() != 0, "a header has its counter") };
        let place = K::alloc(mm, shape, how.gfp().without(Gfp::ZERO))?.cast();
        // SAFETY: [INV-OWNED-1] the memory is ours, large and aligned enough.
        let counted = unsafe {
            place.write(header);
            store_count(place, n)
        };
        debug_assert!(counted, "the shape was refused otherwise");
        // From here on a panic of `element` drops what there is.
        let mut this = Flex {
            mm,
            header: place,
            n: 0,
            owns: PhantomData,
            source: PhantomData,
        };
        while this.n < n {
            let value = element(this.n);
            // SAFETY: [INV-OWNED-1] the place is the next of `n`.
            unsafe { this.first().add(this.n).write(value) };
            this.n += 1;
        }
        Ok(this)
    }

    fn first(&self) -> NonNull<H::Item> {
        // SAFETY: [INV-OWNED-1] one allocation of this shape.
        unsafe { flex_items(self.header) }
    }

    /// The elements.
    #[inline]
    pub fn items(&self) -> &[H::Item] {
        // SAFETY: [INV-OWNED-1] [INV-OWNED-3] `n` elements are initialised.
        unsafe { core::slice::from_raw_parts(self.first().as_ptr(), self.n) }
    }

    /// The elements, to write.
    #[inline]
    pub fn items_mut(&mut self) -> &mut [H::Item] {
        // SAFETY: as in `items`; all of it is borrowed exclusively.
        unsafe { core::slice::from_raw_parts_mut(self.first().as_ptr(), self.n) }
    }

    /// Gives it up; header and elements stay where they are, until [`Flex::from_raw`] takes them
    /// again.
    #[inline]
    pub fn into_raw(self) -> (NonNull<H>, usize) {
        let this = ManuallyDrop::new(self);
        (this.header, this.n)
    }

    /// Takes what [`Flex::into_raw`] gave.
    ///
    /// # Safety
    /// [INV-OWNED-1] The two are that, of this source and machine, and nobody else has them.
    #[inline]
    pub unsafe fn from_raw(mm: &'m Mm<P>, header: NonNull<H>, n: usize) -> Self {
        const { assert!(size_of::<H>() != 0, "a header has its counter") };
        Flex {
            mm,
            header,
            n,
            owns: PhantomData,
            source: PhantomData,
        }
    }
}

impl<H: Flexible, P: Platform, K: Source<P>> Drop for Flex<'_, H, P, K> {
    fn drop(&mut self) {
        let _memory = Memory::<P, K> {
            mm: self.mm,
            at: self.header.cast(),
            source: PhantomData,
        };
        let items = NonNull::slice_from_raw_parts(self.first(), self.n);
        // SAFETY: [INV-OWNED-1] [INV-OWNED-3] all are initialised until now; this ends here.
        unsafe {
            self.header.drop_in_place();
            items.drop_in_place();
        }
    }
}

impl<H: Flexible, P: Platform, K: Source<P>> Deref for Flex<'_, H, P, K> {
    type Target = H;
    #[inline(always)]
    fn deref(&self) -> &H {
        // SAFETY: [INV-OWNED-1] the header is initialised.
        unsafe { self.header.as_ref() }
    }
}

impl<H: Flexible, P: Platform, K: Source<P>> DerefMut for Flex<'_, H, P, K> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut H {
        // SAFETY: as in `deref`; all of it is borrowed exclusively.
        unsafe { self.header.as_mut() }
    }
}

impl<H, P, K> fmt::Debug for Flex<'_, H, P, K>
where
    H: Flexible + fmt::Debug,
    H::Item: fmt::Debug,
    P: Platform,
    K: Source<P>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header: &H = self;
        f.debug_struct("Flex")
            .field("header", header)
            .field("items", &self.items())
            .finish()
    }
}
