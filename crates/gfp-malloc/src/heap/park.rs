//! Areas that were freed and wait for their next use.

use super::{Fill, Heap};
use core::num::NonZero;
use core::ptr::NonNull;
use gfp::Paging;
use gfp::frame::PAGE_SIZE;
use gfp::report::Caller;

impl Heap {
    fn area_at(&self, addr: usize) -> NonNull<u8> {
        let (window, _) = self.mm.platform().vmalloc_range();
        window.with_addr(NonZero::new(addr).unwrap_or(window.addr()))
    }

    /// A parked area for `size` bytes, if one fits.
    pub(super) fn take_parked(&self, size: usize, align: usize, fill: Fill) -> Option<NonNull<u8>> {
        if align > PAGE_SIZE {
            return None;
        }
        let memory = self.area_at(self.parked.take(size)?);
        if fill == Fill::Zero {
            // SAFETY: an area of ours, and of at least that size.
            unsafe { memory.write_bytes(0, size) };
        }
        Some(memory)
    }

    /// Frees what is parked. False if nothing was.
    pub(super) fn unpark(&self) -> bool {
        let mut any = false;
        while let Some(addr) = self.parked.give_up() {
            let memory = self.area_at(addr);
            // SAFETY: its owner freed it, and it stands nowhere any more.
            let freed = unsafe {
                let areas = self.mm.vmalloc_space();
                areas.vfree(memory.as_ptr(), Caller::Address(0))
            };
            debug_assert!(freed.is_ok());
            any = true;
        }
        any
    }
}
