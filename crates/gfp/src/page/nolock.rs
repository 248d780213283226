//! Pages for who may wait for nobody: an NMI, a signal handler, the holder of any lock (P170-P174).
//!
//! A section is entered only where that is a matter of a few instructions, and locks are tried, not
//! waited for. A caller that came in the middle of a section finds it taken: it gets nothing, and
//! what it frees is put on a lock-free stack that the next refill or drain empties.

use super::cache::{List, ZoneCache};
use super::claim::Want;
use super::zone::Zone;
use super::{Locking, PageAllocator, PageRequest};
use crate::flags::{Entry, MigrateType};
use crate::frame::{FrameKind, FrameWord, Order, Pfn};
use crate::platform::Platform;
use crate::policy::fallback::Fragmenting;
use crate::policy::watermark::AllocFlags;
use crate::report::Misuse;
use crate::sync::Local;

impl<P: Platform> PageAllocator<P> {
    /// 2^order zeroed pages, if they can be had without waiting for anybody: from this CPU's cache,
    /// or from a shard whose lock is free, of a zone that is above its min watermark (P170, P171).
    ///
    /// The flags may contain `ACCOUNT` only; `order` must be one that CPUs cache: 0 to 5, and 9. A
    /// compound block if `order` is not 0. `None` is normal and frequent (P172).
    ///
    /// Context: any, an NMI inside the allocator too.
    pub fn alloc_nolock(&self, req: &PageRequest) -> Option<Pfn> {
        let (gfp, None) = req.gfp.sanitize_for(Entry::NoLock) else {
            return None;
        };
        List::of(req.order, MigrateType::Unmovable)?;
        let req = PageRequest { gfp, ..*req };
        let local = Local::enter_quick(&self.platform)?;
        let pfn = self.take_nolock(&local, &req)?;
        drop(local);
        self.hand_out(pfn, &req);
        Some(pfn)
    }

    /// One pass at the min watermark that only tries locks. The block is the caller's, its words
    /// are to be set.
    pub(crate) fn take_nolock(&self, local: &Local<'_, P>, req: &PageRequest) -> Option<Pfn> {
        let highest = self.highest(req.gfp);
        let kind = self.mobility(req.gfp);
        let flags = AllocFlags::nolock();
        let mut preferred: Option<&Zone> = None;
        for zone in self.candidates(req) {
            let first = *preferred.get_or_insert(zone);
            let cache = self.cache_there(local, zone);
            let mine = core::ptr::eq(zone, first);
            if !mine && !zone.watermark_ok(req.order, highest, flags) {
                continue;
            }
            let cached = cache
                .zip(List::of(req.order, kind))
                .and_then(|(cache, list)| self.pop(cache, list));
            let from_zone = || {
                if !zone.watermark_ok(req.order, highest, flags) {
                    return None;
                }
                let want = Want {
                    order: req.order,
                    kind,
                    blocks: 1,
                    locking: Locking::Try,
                };
                let own = self.take_own(local, zone, &want);
                let mix = Fragmenting::Allowed;
                let found = own.or_else(|| Some(self.take_fallback(local, zone, &want, mix)?.0))?;
                Some(self.note_content(found.1, req.order))
            };
            let Some(pfn) = cached.or_else(from_zone) else {
                continue;
            };
            if let Some(cache) = cache {
                let wanted = || self.cache_there(local, first);
                self.count_taken(cache, zone, req.order, first, wanted);
            }
            return Some(pfn);
        }
        None
    }

    /// The caches of the section's CPU for one zone, if it has some: to make them takes a lock.
    fn cache_there(&self, local: &Local<'_, P>, zone: &Zone) -> Option<&ZoneCache> {
        self.caches_of(local.cpu())?.get(zone.id as usize)
    }

    /// As [`PageAllocator::free`], without waiting for anybody: into this CPU's cache, also above
    /// what it should keep; else into the zone, if the shard's lock is free; else on a stack
    /// (P173).
    ///
    /// Context: any, an NMI inside the allocator too.
    ///
    /// # Errors
    /// As [`PageAllocator::free`].
    ///
    /// # Safety
    /// As there.
    pub unsafe fn free_nolock(&self, pfn: Pfn, order: Order) -> Result<(), Misuse> {
        let word = self.frames.get_acquire(pfn);
        let give = |pfn, order| match Local::enter_quick(&self.platform) {
            Some(local) => self.put_nolock(&local, pfn, order),
            None => self.defer(pfn, order),
        };
        // SAFETY: the caller gave up its reference; so here and for what follows from it.
        let again = |pfn, order| unsafe { self.free_nolock(pfn, order) };
        if !word.is_block(FrameKind::Page, order) {
            return self.free_unlike(pfn, order, &give, &again);
        }
        if word.payload() != 1 {
            return self.drop_shared(pfn, word, &again);
        }
        give(pfn, order);
        Ok(())
    }

    /// Gives a block back that the caller owns alone.
    pub(crate) fn put_nolock(&self, local: &Local<'_, P>, pfn: Pfn, order: Order) {
        let Some(id) = self.blocks.zone_of(pfn) else {
            return;
        };
        let zone = &self.zones[id];
        let kind = self.blocks.kind_of(pfn);
        let cache = self.cache_there(local, zone);
        let word = self.clear_freed(pfn, order);
        if let Some((cache, list)) = cache.zip(List::of(order, kind))
            && cache.push_beyond(list, self.frame_index(pfn))
        {
            cache.events.free_pages.add(order.pages());
            self.frames.set(pfn, word);
            return;
        }
        let shard = self.shard_of(zone, pfn);
        let Some(mut guard) = zone.try_lock_shard(&self.blocks, local, shard) else {
            return self.defer(pfn, order);
        };
        if let Some(cache) = cache {
            cache.events.free_pages.add(order.pages());
        }
        self.frames.set(pfn, FrameWord::NONE);
        let put = guard.put(pfn, order);
        drop(guard);
        if !put {
            self.complain_twice(pfn);
        }
    }
}
