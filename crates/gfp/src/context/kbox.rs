//! A value in memory of its own.

use crate::error::AllocError;
use crate::flags::Gfp;
use crate::mm::Mm;
use crate::platform::Platform;
use core::fmt;
use core::marker::PhantomData;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

/// A value that lives in memory from kmalloc
/// ([`With::kmalloc_obj`](super::With::kmalloc_obj)), and is dropped and freed with the box.
pub struct KBox<'m, V, P: Platform> {
    mm: &'m Mm<P>,
    value: NonNull<V>,
    owns: PhantomData<V>,
}

// SAFETY: [INV-CONTEXT-1] the box is the one way to the value, and objects may be freed on any CPU.
unsafe impl<V: Send, P: Platform> Send for KBox<'_, V, P> where Mm<P>: Sync {}
// SAFETY: [INV-CONTEXT-1] a shared box gives shared references to the value, and no more.
unsafe impl<V: Sync, P: Platform> Sync for KBox<'_, V, P> where Mm<P>: Sync {}

impl<'m, V, P: Platform> KBox<'m, V, P> {
    #[inline(always)]
    pub(super) fn new(mm: &'m Mm<P>, value: V, gfp: Gfp) -> Result<Self, AllocError> {
        let place = match size_of::<V>() {
            0 => NonNull::dangling(),
            _ => mm.kmalloc_obj(gfp)?,
        };
        debug_assert!(place.is_aligned());
        // SAFETY: [INV-CONTEXT-1] the object is ours, large and aligned enough; a value of size 0
        // needs no memory.
        unsafe { place.write(value) };
        Ok(KBox {
            mm,
            value: place,
            owns: PhantomData,
        })
    }
}

#[cfg(test)]
impl<V, P: Platform> KBox<'_, V, P> {
    /// Where the value is.
    pub(super) fn place(&self) -> NonNull<V> {
        self.value
    }
}

impl<V, P: Platform> Drop for KBox<'_, V, P> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: [INV-CONTEXT-1] the value is in its place until now, and the box ends here.
        unsafe { self.value.drop_in_place() };
        if size_of::<V>() != 0 {
            // SAFETY: [INV-CONTEXT-1] from kmalloc of this machine; nobody uses it any more.
            unsafe { self.mm.kfree(self.value.as_ptr().cast()) };
        }
    }
}

impl<V, P: Platform> Deref for KBox<'_, V, P> {
    type Target = V;
    #[inline(always)]
    fn deref(&self) -> &V {
        // SAFETY: [INV-CONTEXT-1] the value is in its place as long as the box lives.
        unsafe { self.value.as_ref() }
    }
}

impl<V, P: Platform> DerefMut for KBox<'_, V, P> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut V {
        // SAFETY: [INV-CONTEXT-1] as in `deref`; the box is borrowed exclusively.
        unsafe { self.value.as_mut() }
    }
}

impl<V: fmt::Debug, P: Platform> fmt::Debug for KBox<'_, V, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
