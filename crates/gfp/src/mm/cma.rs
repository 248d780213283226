//! Areas for contiguous allocations.

use super::Mm;
use crate::flags::GFP_KERNEL;
use crate::frame::{Order, Pfn};
use crate::platform::Platform;
use crate::pool::cma::{CmaAllocError, CmaError, CmaId, CmaSpec, CmaStats};
use crate::report::{Caller, Misuse};

impl<P: Platform> Mm<P> {
    /// Makes an area for contiguous allocations (`cma_declare_contiguous`; P505): memory that is
    /// kept for [`Mm::cma_alloc`] and lent to movable requests meanwhile (P506). It stays as long
    /// as the machine.
    ///
    /// Context: a task, outside of the allocator; best right after boot, when all memory is free.
    ///
    /// # Errors
    /// [`CmaError`]; nothing was changed then.
    #[track_caller]
    pub fn cma_create(&self, spec: &CmaSpec) -> Result<CmaId, CmaError> {
        self.enters(GFP_KERNEL);
        self.cma.create(self.slabs(), spec)
    }

    /// So many pages side by side out of an area (`cma_alloc`; P507), the first aligned to
    /// 2^`align` pages. What is lent in the place is moved away by its owner; if something stays,
    /// the next place is tried. The result is single pages with one reference each.
    ///
    /// Context: a task that may sleep, outside of the allocator.
    ///
    /// # Errors
    /// [`CmaAllocError`].
    #[track_caller]
    pub fn cma_alloc(&self, id: CmaId, pages: usize, align: u8) -> Result<Pfn, CmaAllocError> {
        self.enters(GFP_KERNEL);
        let align = Order::new(align).ok_or(CmaAllocError::Invalid)?;
        self.cma.alloc(self.slabs(), id, pages, align)
    }

    /// Gives pages back to their area (`cma_release`; P508). False, and nothing is done, if they
    /// are no part of it. Pages that are not given out, and references that others still have, are
    /// reported.
    ///
    /// Context: any outside of the allocator.
    ///
    /// # Safety
    /// Nobody may use the pages any more.
    #[track_caller]
    pub unsafe fn cma_release(&self, id: CmaId, first: Pfn, pages: usize) -> bool {
        // SAFETY: promised by the caller.
        let Some(result) = (unsafe { self.cma.release(self.slabs(), id, first, pages) }) else {
            return false;
        };
        let addr = self.page_address(first).addr().get();
        self.freed(result, addr, Caller::here());
        result != Err(Misuse::DoubleFree)
    }

    /// Of all tasks only the caller is left: this process is the child of a fork, which copied the
    /// machine and no other thread. An area from which one of those was taking pages gives nothing
    /// any more on this copy ([`CmaAllocError::Lost`]), where else a request would wait for ever;
    /// what it has given out can be released. If one was just making an area, no other can be made
    /// ([`CmaError::Lost`]). Context: any.
    pub fn cma_holder_is_gone(&self) {
        self.cma.holder_is_gone();
    }

    /// The numbers of every area (P509).
    pub fn cma_areas(&self) -> impl Iterator<Item = CmaStats> {
        self.cma.stats()
    }

    /// The first area of that name: how to find one that [`BootConfig::cma`] asked for.
    ///
    /// [`BootConfig::cma`]: crate::page::BootConfig::cma
    pub fn cma_area(&self, name: &str) -> Option<CmaId> {
        self.cma.named(name)
    }

    /// The numbers of one area.
    pub fn cma_stats(&self, id: CmaId) -> Option<CmaStats> {
        self.cma.stats_of(id)
    }
}
