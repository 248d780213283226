//! Pages by a policy of nodes.

use super::Mm;
use super::pages::TOO_LARGE;
use crate::error::AllocError;
use crate::flags::Gfp;
use crate::frame::{Order, Pfn};
use crate::page::{Folio, MemPolicy};
use crate::platform::Platform;

impl<P: Platform> Mm<P> {
    /// [`Mm::alloc_pages`], from where a policy says (`alloc_pages_mpol`; P137-P139). With
    /// `__GFP_THISNODE` the policy does not count: the node of this CPU gives, or none (P22).
    ///
    /// ```
    /// # use gfp::{flags::GFP_KERNEL, frame::*, page::*, platform::*, Mm};
    /// # let layout = std::alloc::Layout::from_size_align(32 << 20, 4 << 20)?;
    /// # let ram = unsafe { std::alloc::alloc(layout) };
    /// # let part = |node, start: u64, end: u64| MemoryRegion {
    /// #     node: NodeId(node),
    /// #     ..MemoryRegion::usable(PhysAddr(start << 20), PhysAddr(end << 20))
    /// # };
    /// # let map = [part(0, 0, 16), part(1, 16, 32)];
    /// # let platform = unsafe { SingleCore::new(DirectMap::new(ram, PhysAddr(0))) };
    /// # let mm = Mm::boot(platform, &map, &BootConfig::default())?;
    /// // A table that all CPUs read: each node holds half of it.
    /// let spread = MemPolicy::interleave(mm.pages().nodes().collect());
    /// let first = mm.alloc_pages_mpol(&spread, GFP_KERNEL, 0)?;
    /// let second = mm.alloc_pages_mpol(&spread, GFP_KERNEL, 0)?;
    /// assert_ne!(mm.pages().node_of(first), mm.pages().node_of(second));
    /// # unsafe { mm.free_frames(first, 0) };
    /// # unsafe { mm.free_frames(second, 0) };
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`Mm::alloc_pages`]; [`AllocError::NoSuchNode`] if the policy binds it to nodes of which
    /// none has memory that the flags allow.
    #[track_caller]
    pub fn alloc_pages_mpol(
        &self,
        policy: &MemPolicy,
        gfp: Gfp,
        order: u8,
    ) -> Result<Pfn, AllocError> {
        self.enters(gfp);
        let order = Order::new(order).ok_or(TOO_LARGE)?;
        let slabs = self.slabs();
        self.pages()
            .alloc_by_policy(policy, gfp, order, |req| slabs.alloc_pages(req))
    }

    /// [`Mm::folio_alloc`], from where a policy says (`folio_alloc_mpol`).
    ///
    /// # Errors
    /// As [`Mm::alloc_pages_mpol`].
    #[track_caller]
    pub fn folio_alloc_mpol(
        &self,
        policy: &MemPolicy,
        gfp: Gfp,
        order: u8,
    ) -> Result<Folio<'_, P>, AllocError> {
        let head = self.alloc_pages_mpol(policy, gfp | Gfp::COMP, order)?;
        // SAFETY: the block was allocated just now.
        let folio = unsafe { self.pages().into_folio(head) };
        folio.ok_or(AllocError::Nested) // as in `folio_alloc`
    }

    /// [`Mm::alloc_pages_bulk`], from where a policy says (`alloc_pages_bulk_mempolicy`): an
    /// interleaving one gives each node its share at once, exactly as one by one.
    #[track_caller]
    pub fn alloc_pages_bulk_mpol(
        &self,
        policy: &MemPolicy,
        gfp: Gfp,
        out: &mut [Option<Pfn>],
    ) -> usize {
        self.enters(gfp);
        let slabs = self.slabs();
        self.pages()
            .alloc_bulk_by_policy(policy, gfp, out, |req, out| {
                slabs.alloc_pages_bulk(req, out)
            })
    }
}
