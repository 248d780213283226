//! Exactly the pages that a number of bytes needs.

use super::PageAllocator;
use super::PageRequest;
use super::relief::{Alone, Relief};
use crate::error::AllocError;
use crate::flags::Gfp;
use crate::frame::{Order, PAGE_SIZE, Pfn};
use crate::platform::Platform;
use crate::report::Misuse;

impl<P: Platform> PageAllocator<P> {
    /// Allocates exactly the pages that `bytes` need: the rest of the block is freed at once
    /// (P346). Every page is an order-0 block of its own.
    ///
    /// # Errors
    /// As [`PageAllocator::alloc`]; [`AllocError::TooLarge`] above the largest order.
    pub fn alloc_exact(&self, bytes: usize, gfp: Gfp) -> Result<(Pfn, usize), AllocError> {
        self.alloc_exact_with(bytes, gfp, &Alone)
    }

    /// [`PageAllocator::alloc_exact`] for a caller in a room above.
    ///
    /// # Errors
    /// As there.
    pub fn alloc_exact_with<R>(
        &self,
        bytes: usize,
        gfp: Gfp,
        relief: &R,
    ) -> Result<(Pfn, usize), AllocError>
    where
        R: Relief<P> + ?Sized,
    {
        let (gfp, _) = gfp.sanitize_for(crate::flags::Entry::Exact);
        if bytes == 0 {
            return Err(AllocError::ZeroSize);
        }
        let order = Order::for_bytes(bytes).ok_or(AllocError::TooLarge {
            max: Order::MAX.bytes(),
        })?;
        let pfn = self.alloc_with(&PageRequest::new(gfp, order), relief)?;
        let pages = bytes.div_ceil(PAGE_SIZE);
        self.split(pfn, order);
        for i in (pages..order.pages()).rev() {
            // SAFETY: the pages after the last that was asked for are ours and used by nobody.
            let freed = unsafe { self.free(pfn.add(i), Order::ZERO) };
            debug_assert!(freed.is_ok());
        }
        Ok((pfn, pages))
    }

    /// Frees what [`PageAllocator::alloc_exact`] gave.
    ///
    /// # Errors
    /// The first misuse found; the pages after it are freed all the same.
    ///
    /// # Safety
    /// As [`PageAllocator::free`].
    pub unsafe fn free_exact(&self, pfn: Pfn, pages: usize) -> Result<(), Misuse> {
        let mut result = Ok(());
        for i in 0..pages {
            // SAFETY: promised by the caller.
            result = result.and(unsafe { self.free(pfn.add(i), Order::ZERO) });
        }
        result
    }
}
