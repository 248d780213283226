//! What CPUs have cached, for a request in need (P118, P821).
//!
//! 1. **Watermarks see it.** Where what is free does not pass a mark, the slow path counts what
//!    caches of the zone hold as well: if that passes, the request is served from there, before
//!    anybody reclaims. The count is a sum that is read without locks while others change it; it
//!    decides where to look, not what is found. Fast paths count what is free, and so does whoever
//!    balances a node.
//! 2. **Stealing.** A block of the request's order and type is taken out of the list of the CPU
//!    that has most of them, and nothing else: one CPU at a time is kept out of its caches, for as
//!    long as one block takes. The thief does what the CPU itself would have done, in its section
//!    ([INV-PCPU-1]): the same list, the same look at the frame's word, the same counts.
//! 3. **Merging.** If nobody has such a block, caches of the zones that may serve the request go
//!    back, the fullest CPU's first, and after each the zones are looked at again.
//! 4. Both wait for other CPUs to leave their sections: only tasks that may do so come here
//!    ([`TakeBack`]), outside of any section. Where the platform cannot keep another CPU out
//!    ([`Platform::enter_remote`](crate::Platform::enter_remote)) its caches stay.

use super::cache::{List, ZoneCache};
use super::zone::Zone;
use super::{PageAllocator, PageRequest};
use crate::error::AllocError;
use crate::frame::{CpuId, Order, Pfn};
use crate::platform::Platform;
use crate::policy::effort::TakeBack;
use crate::policy::watermark::AllocFlags;
use crate::sync::Local;
use crate::sync::atomic::Ordering::Relaxed;

impl TakeBack {
    /// Whether a request may take what is cached before it reclaims.
    pub(super) fn may_steal(self) -> bool {
        matches!(self, TakeBack::BeforeFailing | TakeBack::EachRound)
    }
}

impl<P: Platform> PageAllocator<P> {
    /// Blocks that requests in need took out of other CPUs' caches.
    pub fn stolen_blocks(&self) -> usize {
        self.stolen.load(Relaxed)
    }

    /// Pages of a zone that CPUs have cached. Others change it meanwhile.
    pub(super) fn cached_in(&self, zone: &Zone) -> usize {
        let caches = self
            .all_caches()
            .filter_map(|(_, c)| c.get(zone.id as usize));
        caches.map(ZoneCache::count).sum()
    }

    fn all_caches(&self) -> impl Iterator<Item = (CpuId, &[ZoneCache])> {
        let cpus = (0..self.cpus.len()).map(|cpu| CpuId(cpu as u32));
        cpus.filter_map(|cpu| Some((cpu, self.caches_of(cpu)?)))
    }

    /// The CPUs whose caches have something, by `has`, in falling order. What changes meanwhile is
    /// seen or not; it ends, because each has less than the one before, or a higher number.
    fn richest(&self, has: impl Fn(&[ZoneCache]) -> usize) -> impl Iterator<Item = CpuId> {
        let mut last = (usize::MAX, u32::MAX);
        core::iter::from_fn(move || {
            let keys = self.all_caches().map(|(cpu, caches)| (has(caches), !cpu.0));
            let next = keys.filter(|key| key.0 != 0 && *key < last).max()?;
            last = next;
            Some(CpuId(!next.1))
        })
    }

    /// P821: serves a request for which a pass with these rights found nothing, if a zone would
    /// pass its mark with what is cached. `pass` is that pass.
    ///
    /// Context: task, outside of any section; waits for other CPUs to leave theirs.
    ///
    /// # Errors
    /// Those of `pass`.
    pub(super) fn take_cached(
        &self,
        req: &PageRequest,
        flags: AllocFlags,
        pass: &mut dyn FnMut() -> Result<Option<Pfn>, AllocError>,
    ) -> Result<Option<Pfn>, AllocError> {
        let highest = self.highest(req.gfp);
        let mut zones = self.candidates(req);
        let passes = zones.any(|zone| {
            let cached = self.cached_in(zone);
            cached != 0 && zone.watermark_ok_with(cached, Order::ZERO, highest, flags)
        });
        if !passes {
            return Ok(None);
        }
        match self.steal_cached(req, flags) {
            // Larger blocks are not made of what others have cached before reclaim was tried.
            None if req.order == Order::ZERO => self.empty_caches_for(req, pass),
            found => Ok(found),
        }
    }

    /// Takes one block of a request's order and type out of some CPU's cache.
    ///
    /// Context: as [`PageAllocator::take_cached`].
    pub(super) fn steal_cached(&self, req: &PageRequest, flags: AllocFlags) -> Option<Pfn> {
        let list = List::of(req.order, self.mobility(req.gfp))?;
        let highest = self.highest(req.gfp);
        let mut preferred: Option<&Zone> = None;
        for zone in self.candidates(req) {
            let first = *preferred.get_or_insert(zone);
            // P207: as for the request's own CPU.
            let may = core::ptr::eq(zone, first)
                || zone.watermark_ok_with(self.cached_in(zone), Order::ZERO, highest, flags);
            let id = zone.id as usize;
            let has = |caches: &[ZoneCache]| caches.get(id).map_or(0, |cache| cache.blocks(list));
            if may
                && let Some(pfn) = self
                    .richest(has)
                    .find_map(|cpu| self.steal_from(cpu, zone, list, first))
            {
                return Some(pfn);
            }
        }
        None
    }

    fn steal_from(&self, cpu: CpuId, zone: &Zone, list: List, preferred: &Zone) -> Option<Pfn> {
        let local = self.enter_any(cpu)?;
        let of = |zone: &Zone| self.caches_of(local.cpu())?.get(zone.id as usize);
        let cache = of(zone)?;
        let pfn = self.pop(cache, list)?;
        self.count_taken(cache, zone, list.order(), preferred, || of(preferred));
        drop(local);
        // Relaxed: a count by itself.
        self.stolen.fetch_add(1, Relaxed);
        Some(pfn)
    }

    /// Empties caches of the zones that may serve a request, one CPU's after the other, until
    /// `pass` finds something.
    ///
    /// Context: as [`PageAllocator::take_cached`].
    ///
    /// # Errors
    /// Those of `pass`.
    pub(super) fn empty_caches_for(
        &self,
        req: &PageRequest,
        pass: &mut dyn FnMut() -> Result<Option<Pfn>, AllocError>,
    ) -> Result<Option<Pfn>, AllocError> {
        if let Ok(local) = Local::enter(&self.platform) {
            self.take_deferred(&local);
        }
        let count = |caches: &[ZoneCache]| {
            let zones = self.candidates(req);
            let of_zones = zones.filter_map(|zone| caches.get(zone.id as usize));
            of_zones.map(ZoneCache::count).sum()
        };
        for cpu in self.richest(count) {
            let Some(local) = self.enter_any(cpu) else {
                continue;
            };
            let caches = self.caches_of(cpu).unwrap_or(&[]);
            for zone in self.candidates(req) {
                if let Some(cache) = caches.get(zone.id as usize) {
                    self.empty_cache(&local, zone, cache);
                }
                // What could not be put at once is wanted now.
                self.put_all_mail(&local, zone);
            }
            drop(local);
            if let Some(pfn) = pass()? {
                return Ok(Some(pfn));
            }
        }
        Ok(None)
    }

    /// Gives back all that a cache of the section's CPU has. Returns the pages.
    pub(super) fn empty_cache(
        &self,
        local: &Local<'_, P>,
        zone: &Zone,
        cache: &ZoneCache,
    ) -> usize {
        let pages = cache.count();
        for list in List::all().filter(|list| cache.blocks(*list) != 0) {
            self.flush(local, zone, cache, list, usize::MAX);
        }
        pages
    }
}
