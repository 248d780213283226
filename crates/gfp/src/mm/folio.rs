//! Folios, compound and frozen pages.

use super::Mm;
use crate::error::AllocError;
use crate::flags::Gfp;
use crate::frame::{Order, Pfn};
use crate::page::Folio;
use crate::platform::Platform;
use crate::report::{Caller, Misuse};

impl<P: Platform> Mm<P> {
    /// 2^order pages as a folio (`folio_alloc`; P348): the handle is one reference, its clones are
    /// more, and the last that is dropped frees the memory.
    ///
    /// # Errors
    /// As [`Mm::alloc_pages`].
    #[track_caller]
    pub fn folio_alloc(&self, gfp: Gfp, order: u8) -> Result<Folio<'_, P>, AllocError> {
        let head = self.alloc_pages(gfp | Gfp::COMP, order)?;
        // SAFETY: the block was allocated just now.
        let folio = unsafe { self.pages().into_folio(head) };
        folio.ok_or(AllocError::Nested) // somebody else freed it: it is not ours any more
    }

    /// Drops a reference (`folio_put`).
    pub fn folio_put(&self, folio: Folio<'_, P>) {
        drop(folio);
    }

    /// A reference of the folio that a frame is in, for who has none (`folio_try_get`). `None` if
    /// it is in none, or is being freed. Look whether it is the one that was meant.
    ///
    /// Context: any.
    pub fn folio_try_get(&self, pfn: Pfn) -> Option<Folio<'_, P>> {
        self.pages().try_get_folio(pfn)
    }

    /// The first frame of the compound block that a frame is in, else the frame
    /// (`compound_head`). The caller has a reference.
    pub fn compound_head(&self, pfn: Pfn) -> Pfn {
        self.pages().folio_of(pfn).map_or(pfn, |(head, _)| head)
    }

    /// The order of the compound block that a frame is in, 0 if in none (`compound_order`). The
    /// caller has a reference.
    pub fn compound_order(&self, pfn: Pfn) -> u8 {
        let folio = self.pages().folio_of(pfn);
        folio.map_or(0, |(_, order)| order.get())
    }

    /// [`Mm::alloc_pages`] without references (`alloc_frozen_pages`; P343): nobody can take one.
    /// Free with [`Mm::free_frozen_pages`].
    ///
    /// # Errors
    /// As [`Mm::alloc_pages`].
    #[track_caller]
    pub fn alloc_frozen_pages(&self, gfp: Gfp, order: u8) -> Result<Pfn, AllocError> {
        let pfn = self.alloc_pages(gfp.without(Gfp::COMP), order)?;
        self.pages()
            .freeze(pfn, Order::new(order).unwrap_or_default());
        Ok(pfn)
    }

    /// Frees what [`Mm::alloc_frozen_pages`] gave (`free_frozen_pages`). Any other block is
    /// reported and ignored.
    ///
    /// # Safety
    /// Nobody may use the block any more.
    #[track_caller]
    pub unsafe fn free_frozen_pages(&self, pfn: Pfn, order: u8) {
        let result = match Order::new(order) {
            // SAFETY: promised by the caller.
            Some(order) => unsafe { self.pages().free_frozen(pfn, order) },
            None => Err(Misuse::WrongOrder {
                freed_as: Order::MAX,
            }),
        };
        if let Err(misuse) = result {
            self.complain(misuse, self.page_address(pfn).addr().get(), Caller::here());
        }
    }
}
