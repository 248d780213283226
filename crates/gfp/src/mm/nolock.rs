//! Calls that wait for nobody, for NMIs, signal handlers and holders of locks (P170-P174, S36-S39).

use super::Mm;
use crate::flags::Gfp;
use crate::frame::{NodeId, Order, Pfn};
use crate::platform::Platform;
use crate::report::{Caller, Misuse, Report};
use core::ptr::NonNull;

impl<P: Platform> Mm<P> {
    /// 2^order zeroed pages if they can be had without waiting for anybody (`alloc_pages_nolock`;
    /// P170-P172). `gfp` may contain `__GFP_ACCOUNT` only, `order` must be one that CPUs cache (0
    /// to 5, and 9). `None` is normal: try later, or do without.
    ///
    /// Context: any. Who came in the middle of another call on this CPU gets `None`.
    pub fn alloc_pages_nolock(&self, gfp: Gfp, node: Option<NodeId>, order: u8) -> Option<Pfn> {
        let order = Order::new(order)?;
        let req = crate::page::PageRequest::new(gfp, order).at(node);
        self.pages().alloc_nolock(&req)
    }

    /// Frees a block without waiting for anybody (`free_pages_nolock`; P173): what cannot be done
    /// at once is done by a later call. Also for blocks of [`Mm::alloc_pages`].
    ///
    /// Context: any.
    ///
    /// # Safety
    /// As [`Mm::free_frames`].
    #[track_caller]
    pub unsafe fn free_pages_nolock(&self, pfn: Pfn, order: u8) {
        let result = match Order::new(order) {
            // SAFETY: promised by the caller.
            Some(order) => unsafe { self.pages().free_nolock(pfn, order) },
            None => Err(Misuse::WrongOrder {
                freed_as: Order::MAX,
            }),
        };
        self.freed_nolock(result, self.page_address(pfn).addr().get(), Caller::here());
    }

    /// `size` bytes, at most 8 KiB, if they can be had without waiting for anybody
    /// (`kmalloc_nolock`; S36, S37). `gfp` may contain `__GFP_ZERO` and `__GFP_ACCOUNT` only. Free
    /// with [`Mm::kfree_nolock`] or [`Mm::kfree`].
    ///
    /// ```
    /// # use gfp::{flags::Gfp, frame::*, page::*, platform::*, Mm};
    /// # let layout = std::alloc::Layout::from_size_align(16 << 20, 4 << 20)?;
    /// # let ram = unsafe { std::alloc::alloc(layout) };
    /// # let (start, end, node) = (PhysAddr(0), PhysAddr(16 << 20), NodeId(0));
    /// # let map = [MemoryRegion { start, end, node, kind: RegionKind::Usable }];
    /// # let platform = unsafe { SingleCore::new(DirectMap::new(ram, PhysAddr(0))) };
    /// # let mm = Mm::boot(platform, &map, &BootConfig::default())?;
    /// // In the handler of an NMI:
    /// if let Some(event) = mm.kmalloc_nolock(64, Gfp::ZERO, None) {
    ///     // SAFETY: it is ours.
    ///     unsafe { mm.kfree_nolock(event.as_ptr()) };
    /// }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Context: any. Who came in the middle of another call on this CPU gets `None`.
    pub fn kmalloc_nolock(
        &self,
        size: usize,
        gfp: Gfp,
        node: Option<NodeId>,
    ) -> Option<NonNull<u8>> {
        self.slabs().kmalloc_nolock(size, gfp, node)
    }

    /// Frees an object of kmalloc or of a cache without waiting for anybody (`kfree_nolock`; S38).
    /// Blocks above 8 KiB are reported and stay.
    ///
    /// Context: any.
    ///
    /// # Safety
    /// As [`Mm::kfree`].
    #[track_caller]
    pub unsafe fn kfree_nolock(&self, ptr: *mut u8) {
        // SAFETY: promised by the caller.
        let result = unsafe { self.slabs().kfree_nolock(ptr) };
        self.freed_nolock(result, ptr.addr(), Caller::here());
    }

    /// Reports a misuse with what the frame says of the owner: to ask further takes locks.
    fn freed_nolock(&self, result: Result<(), Misuse>, addr: usize, caller: Caller) {
        if let Err(misuse) = result {
            self.pages().complain(&Report {
                misuse,
                addr,
                owner: self.pages().owner_of(self.pages().pfn_of(addr)),
                caller,
            });
        }
    }
}
