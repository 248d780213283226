//! Pages: `alloc_pages` and its relatives.

use super::Mm;
use crate::error::AllocError;
use crate::flags::{Entry, Gfp};
use crate::frame::{NodeId, Order, PAGE_SIZE, Pfn};
use crate::page::PageRequest;
use crate::platform::Platform;
use crate::report::{Caller, Misuse};
use core::ptr::NonNull;

/// Pages that `bytes` take up.
pub const fn nr_pages_of(bytes: usize) -> usize {
    bytes.div_ceil(PAGE_SIZE)
}

/// The largest block in bytes, for errors.
pub(super) const TOO_LARGE: AllocError = AllocError::TooLarge {
    max: Order::MAX.bytes(),
};

impl<P: Platform> Mm<P> {
    /// 2^order pages, physically contiguous and aligned to their size (`alloc_pages`; P140, P341).
    /// Returns the first frame, with one reference; free with [`Mm::free_frames`].
    ///
    /// # Errors
    /// No memory, flags that contradict each other, an order above 10 (P52).
    #[track_caller]
    pub fn alloc_pages(&self, gfp: Gfp, order: u8) -> Result<Pfn, AllocError> {
        self.enters(gfp);
        let order = Order::new(order).ok_or(TOO_LARGE)?;
        self.slabs().alloc_pages(&PageRequest::new(gfp, order))
    }

    /// [`Mm::alloc_pages`], from a node if it can be, and only from it with `__GFP_THISNODE`
    /// (`alloc_pages_node`).
    ///
    /// # Errors
    /// As [`Mm::alloc_pages`].
    #[track_caller]
    pub fn alloc_pages_node(&self, node: NodeId, gfp: Gfp, order: u8) -> Result<Pfn, AllocError> {
        self.enters(gfp);
        let order = Order::new(order).ok_or(TOO_LARGE)?;
        let req = PageRequest::new(gfp, order).at(Some(node));
        self.slabs().alloc_pages(&req)
    }

    /// [`Mm::alloc_pages`], as an address (`__get_free_pages`). `__GFP_HIGHMEM` is dropped: the
    /// result must have an address (P56).
    ///
    /// # Errors
    /// As [`Mm::alloc_pages`].
    #[track_caller]
    pub fn get_free_pages(&self, gfp: Gfp, order: u8) -> Result<NonNull<u8>, AllocError> {
        let (gfp, complaint) = gfp.sanitize_for(Entry::GetFreePages);
        match complaint {
            Some(error) => Err(error.into()),
            None => Ok(self.page_address(self.alloc_pages(gfp, order)?)),
        }
    }

    /// One page that reads as zero (`get_zeroed_page`; P56).
    ///
    /// # Errors
    /// As [`Mm::alloc_pages`].
    #[track_caller]
    pub fn get_zeroed_page(&self, gfp: Gfp) -> Result<NonNull<u8>, AllocError> {
        self.get_free_pages(gfp | Gfp::ZERO, 0)
    }

    /// As many pages as `bytes` need, contiguous, and no more (`alloc_pages_exact`; P346).
    ///
    /// # Errors
    /// As [`Mm::alloc_pages`]; [`AllocError::ZeroSize`].
    #[track_caller]
    pub fn alloc_pages_exact(&self, bytes: usize, gfp: Gfp) -> Result<NonNull<u8>, AllocError> {
        self.enters(gfp);
        let (pfn, _) = self.slabs().alloc_pages_exact(bytes, gfp)?;
        Ok(self.page_address(pfn))
    }

    /// Frees what [`Mm::alloc_pages_exact`] gave for the same size (`free_pages_exact`).
    ///
    /// # Safety
    /// Nobody may use the pages any more.
    #[track_caller]
    pub unsafe fn free_pages_exact(&self, ptr: *mut u8, bytes: usize) {
        if ptr.is_null() {
            return;
        }
        let pfn = self.pages().pfn_of(ptr.addr());
        let result = match ptr.addr() % PAGE_SIZE {
            // SAFETY: promised by the caller.
            0 => unsafe { self.pages().free_exact(pfn, nr_pages_of(bytes)) },
            _ => Err(Misuse::InteriorFree),
        };
        self.freed(result, ptr.addr(), Caller::here());
    }

    /// Fills the empty places of `out` with single pages (`alloc_pages_bulk`; P344). Returns how
    /// many places from the start on are filled; fewer than asked is no failure.
    #[track_caller]
    pub fn alloc_pages_bulk(&self, gfp: Gfp, out: &mut [Option<Pfn>]) -> usize {
        self.enters(gfp);
        self.slabs()
            .alloc_pages_bulk(&PageRequest::new(gfp, Order::ZERO), out)
    }

    /// Frees single pages (`free_pages_bulk`; P345): one reference of each, as
    /// [`Mm::free_frames`] with order 0. They are sorted; those that follow each other are freed as
    /// larger blocks. A page that is freed twice or was never given out is reported and ignored.
    ///
    /// # Safety
    /// As [`Mm::free_frames`], for each page.
    #[track_caller]
    pub unsafe fn free_pages_bulk(&self, pages: &mut [Pfn]) {
        let caller = Caller::here();
        let refused =
            |pfn, misuse| self.complain(misuse, self.page_address(pfn).addr().get(), caller);
        // SAFETY: promised by the caller.
        unsafe { self.pages().free_bulk(pages, refused) };
    }

    /// Frees a block by its first frame (`__free_pages`): drops one reference (P340, P342).
    /// A wrong order, a double or a wild free is reported and ignored.
    ///
    /// # Safety
    /// Nobody may use the block any more through this reference.
    #[track_caller]
    #[inline]
    pub unsafe fn free_frames(&self, pfn: Pfn, order: u8) {
        let result = match Order::new(order) {
            // SAFETY: promised by the caller.
            Some(order) => unsafe { self.pages().free(pfn, order) },
            None => Err(Misuse::WrongOrder {
                freed_as: Order::MAX,
            }),
        };
        if let Err(misuse) = result {
            self.complain(misuse, self.page_address(pfn).addr().get(), Caller::here());
        }
    }

    /// Frees a block by its address (`free_pages`); null is ignored (P340).
    ///
    /// # Safety
    /// As [`Mm::free_frames`].
    #[track_caller]
    #[inline]
    pub unsafe fn free_pages(&self, ptr: *mut u8, order: u8) {
        if ptr.is_null() {
            return;
        }
        if !ptr.addr().is_multiple_of(PAGE_SIZE) {
            return self.complain(Misuse::InteriorFree, ptr.addr(), Caller::here());
        }
        // SAFETY: promised by the caller.
        unsafe { self.free_frames(self.pages().pfn_of(ptr.addr()), order) }
    }

    /// Makes each page of a block an order-0 block with one reference (`split_page`; P347). False,
    /// and nothing done, if `pfn` is not the first frame of an allocated block of this order, or if
    /// that is compound.
    pub fn split_page(&self, pfn: Pfn, order: u8) -> bool {
        use crate::frame::FrameKind;
        let Some(order) = Order::new(order) else {
            return false;
        };
        let splits = self
            .pages()
            .frames()
            .get(pfn)
            .is_block(FrameKind::Page, order);
        if splits {
            self.pages().split(pfn, order);
        }
        splits
    }

    /// Takes one more reference of a block (`get_page`). False if the frame is not the first of
    /// one.
    pub fn get_page(&self, pfn: Pfn) -> bool {
        self.pages().get_ref(pfn)
    }

    /// P266: whether a block was given without a look at the watermarks, to who frees memory or is
    /// to end soon (`page_is_pfmemalloc`): what it received for others is to be dropped, so that
    /// it comes back. `pfn` is its first frame; each page of a block that was split has the mark.
    /// An object, and a block since it has an owner, has none.
    ///
    /// Context: any.
    pub fn is_pfmemalloc(&self, pfn: Pfn) -> bool {
        self.pages().frames().get(pfn).is_from_reserve()
    }

    /// Where a frame is seen (`page_address`).
    #[inline]
    pub fn page_address(&self, pfn: Pfn) -> NonNull<u8> {
        self.pages().ptr_of(pfn)
    }

    /// The frame that a direct-map address shows (`virt_to_page`). `None` outside of this machine.
    pub fn virt_to_pfn(&self, addr: usize) -> Option<Pfn> {
        let pfn = self.pages().pfn_of(addr);
        self.pages().frames().index(pfn).map(|_| pfn)
    }
}
