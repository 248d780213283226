//! A machine as the allocator of other crates' containers: `allocator-api2`, versions 0.2 and 0.4,
//! each behind a feature of its own.

use super::Source;
use crate::error::AllocError;
use crate::flags::Gfp;
use crate::mm::Mm;
use crate::platform::Platform;
use crate::typed::Shape;
use core::alloc::Layout;
use core::marker::PhantomData;
use core::num::NonZeroUsize;
use core::ptr::NonNull;

/// A machine, a source and how hard to try, as a value: what a container of another crate takes as
/// its allocator. All of its requests are made with the one flag word.
pub struct At<'m, P: Platform, K: Source<P>> {
    mm: &'m Mm<P>,
    gfp: Gfp,
    source: PhantomData<fn() -> K>,
}

impl<P: Platform, K: Source<P>> Copy for At<'_, P, K> {}
impl<P: Platform, K: Source<P>> Clone for At<'_, P, K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<'m, P: Platform, K: Source<P>> At<'m, P, K> {
    /// This machine, asked with `gfp`.
    pub const fn new(mm: &'m Mm<P>, gfp: Gfp) -> At<'m, P, K> {
        At {
            mm,
            gfp: gfp.without(Gfp::ZERO),
            source: PhantomData,
        }
    }

    /// Memory of this layout; without bytes none.
    fn get(self, layout: Layout, gfp: Gfp) -> Result<NonNull<[u8]>, AllocError> {
        let (size, align) = (layout.size(), layout.align());
        let first = if size == 0 {
            // An alignment is not 0.
            NonNull::without_provenance(NonZeroUsize::new(align).unwrap_or(NonZeroUsize::MIN))
        } else {
            K::alloc(self.mm, Shape { size, align }, gfp)?
        };
        Ok(NonNull::slice_from_raw_parts(first, size))
    }

    /// # Safety
    /// [INV-OWNED-1] The memory is from here, with this layout, and not used any more.
    unsafe fn give(self, at: NonNull<u8>, layout: Layout) {
        if layout.size() != 0 {
            // SAFETY: promised by the caller.
            unsafe { K::free(self.mm, at) }
        }
    }

    /// Memory with the content of the old up to the smaller size.
    ///
    /// # Safety
    /// [INV-OWNED-1] The memory is from here, with the layout `old`; on success only the answer is
    /// used.
    unsafe fn resize(
        self,
        at: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<[u8]>, AllocError> {
        let padded = new.size().checked_next_multiple_of(new.align());
        let aligned = at.addr().get().is_multiple_of(new.align());
        if let Some(size) = padded
            && aligned
            && old.size() != 0
            && new.size() != 0
        {
            // SAFETY: promised by the caller; it is aligned so already.
            let first = unsafe { K::resize(self.mm, at, size, new.align(), self.gfp) }?;
            return Ok(NonNull::slice_from_raw_parts(first, new.size()));
        }
        let memory = self.get(new, self.gfp)?;
        let kept = old.size().min(new.size());
        // SAFETY: both have as many bytes, and are apart; the old is given up by the caller.
        unsafe {
            memory.cast().copy_from_nonoverlapping(at, kept);
            self.give(at, old);
        }
        Ok(memory)
    }
}

macro_rules! allocator {
    ($feature:literal, $crate_name:ident) => {
        // SAFETY: [INV-OWNED-2] a source's memory has the layout asked for and is nobody else's
        // until it is given back; the machine is borrowed while any copy of the allocator lives.
        #[cfg(feature = $feature)]
        unsafe impl<P: Platform, K: Source<P>> $crate_name::alloc::Allocator for At<'_, P, K> {
            fn allocate(
                &self,
                layout: Layout,
            ) -> Result<NonNull<[u8]>, $crate_name::alloc::AllocError> {
                let memory = self.get(layout, self.gfp);
                memory.map_err(|_| $crate_name::alloc::AllocError)
            }

            fn allocate_zeroed(
                &self,
                layout: Layout,
            ) -> Result<NonNull<[u8]>, $crate_name::alloc::AllocError> {
                let memory = self.get(layout, self.gfp.with(Gfp::ZERO));
                memory.map_err(|_| $crate_name::alloc::AllocError)
            }

            unsafe fn deallocate(&self, at: NonNull<u8>, layout: Layout) {
                // SAFETY: promised by the caller.
                unsafe { self.give(at, layout) }
            }

            unsafe fn grow(
                &self,
                at: NonNull<u8>,
                old: Layout,
                new: Layout,
            ) -> Result<NonNull<[u8]>, $crate_name::alloc::AllocError> {
                // SAFETY: promised by the caller.
                let memory = unsafe { self.resize(at, old, new) };
                memory.map_err(|_| $crate_name::alloc::AllocError)
            }

            unsafe fn grow_zeroed(
                &self,
                at: NonNull<u8>,
                old: Layout,
                new: Layout,
            ) -> Result<NonNull<[u8]>, $crate_name::alloc::AllocError> {
                // SAFETY: promised by the caller; what is new is ours, and cleared.
                unsafe {
                    let memory = self.grow(at, old, new)?;
                    let first = memory.cast::<u8>().add(old.size());
                    first.write_bytes(0, new.size() - old.size());
                    Ok(memory)
                }
            }

            unsafe fn shrink(
                &self,
                at: NonNull<u8>,
                old: Layout,
                new: Layout,
            ) -> Result<NonNull<[u8]>, $crate_name::alloc::AllocError> {
                // SAFETY: promised by the caller.
                let memory = unsafe { self.resize(at, old, new) };
                memory.map_err(|_| $crate_name::alloc::AllocError)
            }
        }
    };
}
allocator!("allocator-api2-02", allocator_api2_02);
allocator!("allocator-api2-04", allocator_api2_04);
