//! What most requests and frees take: one block from, or to, a list of this CPU.
//!
//! 1. **Allocation.** The zone that the request would look at first is read from a table of the
//!    node ([`ZoneList::first`](super::lists::ZoneList::first)), the list from a table of orders
//!    and types. No watermark is looked at: the block was paid for when the list was filled.
//! 2. **Free.** The block's zone and type are read from its pageblock.
//! 3. **Everything else is left to the long way**, which looks anew: nothing was changed then. A
//!    list that is empty, or holds as many as it may; a request for another node; a zone that is
//!    not this node's; orders and types that are not cached.
//! 4. What is done here is counted by the list itself
//!    ([`ZoneCache::pop_counted`](super::cache::ZoneCache::pop_counted)).

use super::cache::{List, ZoneCache};
use super::relief::Relief;
use super::{PageAllocator, PageRequest};
use crate::error::AllocError;
use crate::flags::MigrateType;
use crate::frame::{FrameKind, FrameWord, Order, Pfn};
use crate::platform::Platform;
use crate::policy::watermark::AllocFlags;
use crate::sync::Local;

impl<P: Platform> PageAllocator<P> {
    /// [`PageAllocator::alloc_with`] for a request that is to be admitted first.
    #[inline(never)]
    pub(super) fn alloc_special<R>(&self, req: &PageRequest, relief: &R) -> Result<Pfn, AllocError>
    where
        R: Relief<P> + ?Sized,
    {
        let req = self.admit(req)?;
        self.alloc_admitted(&req, self.mobility(req.gfp), relief)
    }

    /// Serves a request that was looked at, of a type.
    #[inline(always)]
    pub(super) fn alloc_admitted<R>(
        &self,
        req: &PageRequest,
        kind: MigrateType,
        relief: &R,
    ) -> Result<Pfn, AllocError>
    where
        R: Relief<P> + ?Sized,
    {
        let Some(list) = List::of(req.order, kind) else {
            return self.alloc_long(req, relief);
        };
        let local = Local::enter(&self.platform)?;
        let Some(pfn) = self.pop_quick(&local, req, list) else {
            return self.alloc_missed(local, req, relief);
        };
        local.leave();
        self.hand_out(pfn, req);
        Ok(pfn)
    }

    /// [`PageAllocator::alloc_admitted`] of what is not cached.
    #[inline(never)]
    fn alloc_long<R>(&self, req: &PageRequest, relief: &R) -> Result<Pfn, AllocError>
    where
        R: Relief<P> + ?Sized,
    {
        let local = Local::enter(&self.platform)?;
        self.alloc_inside(local, req, relief)
    }

    /// [`PageAllocator::alloc_admitted`], where no block is at hand.
    #[inline(never)]
    fn alloc_missed<R>(
        &self,
        local: Local<'_, P>,
        req: &PageRequest,
        relief: &R,
    ) -> Result<Pfn, AllocError>
    where
        R: Relief<P> + ?Sized,
    {
        self.alloc_inside(local, req, relief)
    }

    #[inline(always)]
    fn alloc_inside<R>(
        &self,
        local: Local<'_, P>,
        req: &PageRequest,
        relief: &R,
    ) -> Result<Pfn, AllocError>
    where
        R: Relief<P> + ?Sized,
    {
        let found = self.alloc_local(&local, req, AllocFlags::fast(req.gfp));
        local.leave();
        match found {
            Some(pfn) => {
                self.hand_out(pfn, req);
                Ok(pfn)
            }
            None => self.alloc_slow(req, relief),
        }
    }

    /// Takes a block for a request that was admitted, from the list of its order and type.
    #[inline(always)]
    pub(super) fn pop_quick(
        &self,
        local: &Local<'_, P>,
        req: &PageRequest,
        list: List,
    ) -> Option<Pfn> {
        if req.node.is_some() {
            return None;
        }
        let zones = self.lists.get(usize::from(self.platform.node().0))?;
        let cache = self.cache_at(local, usize::from(zones.first(req.gfp)))?;
        loop {
            let frame = cache.pop_counted(list)?;
            let pfn = Pfn(self.frames.base().0 + frame as usize);
            let word = self.frames.get(pfn);
            if word.is_block(FrameKind::Cached, req.order) {
                return Some(pfn);
            }
            // It was freed twice at once, and has another owner by now.
            self.complain_twice(pfn);
        }
    }

    /// Puts a block that nobody owns into a list as it is, not cleared; false, and nothing done, if
    /// that is not a matter of a few instructions.
    #[inline(always)]
    pub(super) fn push_quick(&self, local: &Local<'_, P>, pfn: Pfn, order: Order) -> bool {
        let Some((zone, kind)) = self.blocks.zone_and_kind_of(pfn) else {
            return false;
        };
        let list = List::or_nowhere(order, kind);
        let pushed = match self.cache_at(local, zone) {
            Some(cache) => cache.push_counted(list, self.frame_index(pfn)),
            None => false,
        };
        if pushed {
            let word = FrameWord::new(FrameKind::Cached, order, 0);
            self.frames.set(pfn, word);
        }
        pushed
    }

    /// The cache of the section's CPU for a zone, if there is such a zone and the CPU has caches.
    #[inline(always)]
    fn cache_at(&self, local: &Local<'_, P>, zone: usize) -> Option<&ZoneCache> {
        self.caches_of(local.cpu())?.get(zone)
    }
}
