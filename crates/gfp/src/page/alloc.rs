//! The fast paths: allocation from and free to this CPU's caches.

use super::cache::{Front, List, ZoneCache};
use super::claim::Want;
use super::free::HOLD_MOST;
use super::guard::{Taken, ZoneGuard};
use super::known_zero::cached;
use super::relief::{Alone, Relief};
use super::zone::Zone;
use super::{Locking, PageAllocator, PageRequest};
use crate::error::AllocError;
use crate::flags::{Gfp, MigrateType, ZoneKind};
use crate::frame::{CpuId, FrameKind, FrameWord, NodeId, Order, Pfn};
use crate::platform::Platform;
use crate::policy::boost::MayWake;
use crate::policy::fallback::Fragmenting;
use crate::policy::order::COSTLY_ORDER;
use crate::policy::watermark::{AllocFlags, WatermarkLevel};
use crate::sync::Local;
use crate::sync::atomic::Ordering::{Acquire, Relaxed};

impl<P: Platform> PageAllocator<P> {
    /// Allocates 2^order pages, physically contiguous and aligned to their size (P341).
    ///
    /// The first frame has one reference; free with [`PageAllocator::free`] and the same order.
    /// With `ZERO` the pages read as zero, else their content is arbitrary.
    ///
    /// Context: any that is not inside the allocator already; may wait only with `DIRECT_RECLAIM`.
    ///
    /// # Errors
    /// [`AllocError::NoMemory`], [`AllocError::BadFlags`], [`AllocError::Nested`].
    #[inline(always)]
    pub fn alloc(&self, req: &PageRequest) -> Result<Pfn, AllocError> {
        self.alloc_with(req, &Alone)
    }

    /// [`PageAllocator::alloc`] for a caller in a room above, who can free more and wait.
    ///
    /// # Errors
    /// As there.
    #[inline(always)]
    pub fn alloc_with<R>(&self, req: &PageRequest, relief: &R) -> Result<Pfn, AllocError>
    where
        R: Relief<P> + ?Sized,
    {
        match self.alloc_at_hand(req) {
            Ok(pfn) => Ok(pfn),
            Err(missed) => self.alloc_missed(*req, missed, relief),
        }
    }

    /// Makes a block that was just taken the caller's: its word, and zeroes if they are wanted and
    /// not there yet (P61, P351).
    #[inline]
    pub(super) fn hand_out(&self, pfn: Pfn, req: &PageRequest) {
        if self.wants_zero(req.gfp) && !self.frames.owned(pfn).is_cached_zero() {
            // SAFETY: [INV-PAGE-1] the block is ours alone: its bits are clear and it is in no
            // cache.
            unsafe { self.clear(pfn, req.order) };
        }
        let compound = req.gfp.contains(Gfp::COMP) && req.order > Order::ZERO;
        let kind = if compound {
            FrameKind::Compound
        } else {
            FrameKind::Page
        };
        self.frames.set(pfn, FrameWord::new(kind, req.order, 1));
    }

    /// One pass over the zones that the request may use, with the given rights (P275).
    pub(super) fn alloc_local(
        &self,
        local: &Local<'_, P>,
        req: &PageRequest,
        flags: AllocFlags,
    ) -> Option<Pfn> {
        if self.needs_look_at_nodes()
            && let Some(pfn) = self.alloc_at_rest(local, req, flags)
        {
            return Some(pfn);
        }
        let node = match req.place {
            None => self.platform.node(),
            Some(place) if place.is_limited() => return self.alloc_limited(local, req, flags),
            Some(place) => place.node(),
        };
        self.alloc_among(local, req, flags, None, self.zones_near(node, req))
    }

    /// P276: a pass over the zones of nodes that nobody reclaims in the background just now; or, as
    /// long as boot left memory, over all with that (P275).
    #[cold]
    #[inline(never)]
    fn alloc_at_rest(
        &self,
        local: &Local<'_, P>,
        req: &PageRequest,
        flags: AllocFlags,
    ) -> Option<Pfn> {
        if self.has_rest() {
            return self.alloc_amid_rest(local, req, flags);
        }
        let preferred = self.candidates(req).next();
        let flags = match preferred {
            Some(zone) if self.is_reclaimed(zone) => flags.without(AllocFlags::NOFRAGMENT), // P275
            _ => flags,
        };
        let at_rest = |zone: &&Zone| !self.is_reclaimed(zone);
        let zones = self.candidates(req).filter(at_rest);
        self.alloc_among(local, req, flags, preferred, zones)
    }

    #[cold]
    #[inline(never)]
    fn alloc_limited(
        &self,
        local: &Local<'_, P>,
        req: &PageRequest,
        flags: AllocFlags,
    ) -> Option<Pfn> {
        self.alloc_among(local, req, flags, None, self.candidates(req))
    }

    /// A pass over some zones; the preferred one is the first of them, if not said otherwise.
    #[inline(always)]
    fn alloc_among<'z>(
        &'z self,
        local: &Local<'_, P>,
        req: &PageRequest,
        flags: AllocFlags,
        mut preferred: Option<&'z Zone>,
        zones: impl Iterator<Item = &'z Zone>,
    ) -> Option<Pfn> {
        let highest = self.highest(req.gfp);
        let kind = self.mobility(req.gfp);
        for zone in zones {
            let first = *preferred.get_or_insert(zone);
            if !core::ptr::eq(zone, first) && self.stays_near(zone, first, flags) {
                continue;
            }
            let found = self.take(local, zone, req.order, kind, highest, flags, first);
            if let Some(pfn) = found {
                return Some(pfn);
            }
        }
        None
    }

    /// The zones that may serve a request, in the order in which they are looked at (P201, P202).
    #[inline]
    pub(super) fn candidates(&self, req: &PageRequest) -> impl Iterator<Item = &Zone> {
        let nodes = req.nodes();
        let node = req.node().unwrap_or_else(|| self.platform.node());
        self.zones_near(node, req)
            .filter(move |zone| nodes.has(zone.node))
    }

    /// [`PageAllocator::candidates`] of a request that wants this node most and is not limited to
    /// some.
    #[inline]
    pub(super) fn zones_near(
        &self,
        node: NodeId,
        req: &PageRequest,
    ) -> impl Iterator<Item = &Zone> {
        let highest = self.highest(req.gfp);
        let only = req.gfp.contains(Gfp::THISNODE);
        let ids = self.lists.get(node.0 as usize).map_or(&[][..], |l| l.ids());
        ids.iter()
            // Acquire: pairs with the Release in `Known::write`.
            .map(|id| &self.zones[id.load(Acquire) as usize])
            .filter(move |zone| zone.kind <= highest && (!only || zone.node == node))
    }

    /// Takes a block from one zone: this CPU's cache, or a refill of it.
    #[allow(clippy::too_many_arguments)]
    #[inline(always)]
    pub(super) fn take(
        &self,
        local: &Local<'_, P>,
        zone: &Zone,
        order: Order,
        kind: MigrateType,
        highest: ZoneKind,
        flags: AllocFlags,
        preferred: &Zone,
    ) -> Option<Pfn> {
        let cache = self.cache(local, zone);
        let mine = core::ptr::eq(zone, preferred);
        // A page cached from the preferred zone was paid for when the cache was filled; for another
        // zone the reserve that protects it must be looked at (P207).
        let cached = match (cache, List::of(order, kind)) {
            (Some(cache), Some(list)) if mine || zone.watermark_ok(order, highest, flags) => {
                self.pop(cache, list)
            }
            _ => None,
        };
        let pfn = match cached {
            Some(pfn) => pfn,
            None => self.refill(local, zone, cache, order, kind, highest, flags)?,
        };
        if let Some(cache) = cache {
            self.count_taken(cache, zone, order, preferred, || {
                self.cache(local, preferred)
            });
        }
        Some(pfn)
    }

    /// Counts a block that was taken from `zone` (P620).
    #[inline(always)]
    pub(super) fn count_taken<'c>(
        &self,
        cache: &ZoneCache,
        zone: &Zone,
        order: Order,
        preferred: &Zone,
        preferred_cache: impl FnOnce() -> Option<&'c ZoneCache>,
    ) {
        self.count_taken_blocks(cache, zone, order, 1, preferred, preferred_cache);
    }

    /// Counts `blocks` that were taken from `zone` (P620).
    #[inline(always)]
    pub(super) fn count_taken_blocks<'c>(
        &self,
        cache: &ZoneCache,
        zone: &Zone,
        order: Order,
        blocks: usize,
        preferred: &Zone,
        preferred_cache: impl FnOnce() -> Option<&'c ZoneCache>,
    ) {
        cache.events.alloc_pages.add(blocks << order.get());
        if zone.node != self.platform.node() {
            cache.events.numa_other.add(blocks);
        }
        if core::ptr::eq(zone, preferred) || zone.node == preferred.node {
            cache.events.numa_hit.add(blocks);
        } else {
            cache.events.numa_miss.add(blocks);
            if let Some(wanted) = preferred_cache() {
                wanted.events.numa_foreign.add(blocks);
            }
        }
    }

    /// Takes a batch from a shard of the zone under its lock: one block for the caller, the rest
    /// for the cache. The batch is smaller if the shard has less: the next comes from another.
    #[allow(clippy::too_many_arguments)]
    #[inline(never)]
    pub(super) fn refill(
        &self,
        local: &Local<'_, P>,
        zone: &Zone,
        cache: Option<&ZoneCache>,
        order: Order,
        kind: MigrateType,
        highest: ZoneKind,
        flags: AllocFlags,
    ) -> Option<Pfn> {
        let Some((cache, list)) = cache.zip(List::of(order, kind)) else {
            return self.take_uncached(local, zone, order, kind, highest, flags);
        };
        self.take_deferred(local);
        if u32::from(order.get()) > COSTLY_ORDER && zone.lacks(order) {
            return None;
        }
        let mut wanted = self.refill_size(zone, cache, list);
        // Near the mark a request takes just what it asked for: its own rights to go below are not
        // for whoever finds the rest in the cache (P270).
        let more = (wanted - 1) << order.get();
        if more == 0 || !zone.watermark_ok_without(more, order, highest, flags.ordinary()) {
            let unlimited = flags.contains(AllocFlags::NO_WATERMARKS);
            if !unlimited && !zone.watermark_ok(order, highest, flags) {
                return None;
            }
            wanted = 1;
        }
        let want = Want {
            order,
            kind,
            blocks: wanted.min(HOLD_MOST),
            locking: Locking::Wait,
        };
        let (mut guard, first, wake) = self.find(local, zone, &want, flags)?;
        let mine = Want {
            kind: zone.first_choice(kind, flags),
            ..want
        };
        let mut kept = 1; // of the first the first
        guard.take_batch(&mine, first, |taken| {
            self.store(cache, list, taken, kept);
            kept = 0;
        });
        let shard = guard.shard;
        drop(guard);
        self.look_for_mail(local, zone, shard);
        if wanted > HOLD_MOST {
            let blocks = wanted - HOLD_MOST;
            self.refill_more(local, zone, cache, list, &Want { blocks, ..mine });
        }
        if wake == MayWake::Yes && flags.contains(AllocFlags::KSWAPD) {
            self.note_boost(zone);
            // The slow path wakes, and finds the block in the cache.
            if flags.level() == WatermarkLevel::Low
                && zone.watermark_ok(order, highest, flags.at(WatermarkLevel::Min))
            {
                self.frames.set(first.pfn, cached(order, first.content));
                if cache.push_beyond(list, self.frame_index(first.pfn)) {
                    return None;
                }
            }
        }
        Some(self.note_content(first, order))
    }

    /// Takes one block of an order that is not cached, or for a CPU that has no caches.
    #[inline(never)]
    fn take_uncached(
        &self,
        local: &Local<'_, P>,
        zone: &Zone,
        order: Order,
        kind: MigrateType,
        highest: ZoneKind,
        flags: AllocFlags,
    ) -> Option<Pfn> {
        self.take_deferred(local);
        let unlimited = flags.contains(AllocFlags::NO_WATERMARKS);
        if !unlimited && !zone.watermark_ok(order, highest, flags) {
            return None;
        }
        let want = Want {
            order,
            kind,
            blocks: 1,
            locking: Locking::Wait,
        };
        let (guard, taken, wake) = self.find(local, zone, &want, flags)?;
        let shard = guard.shard;
        drop(guard);
        self.look_for_mail(local, zone, shard);
        if wake == MayWake::Yes && flags.contains(AllocFlags::KSWAPD) {
            self.note_boost(zone);
        }
        Some(self.note_content(taken, order))
    }

    /// Takes from the zone what is wanted, of its type or another; with it comes whether the
    /// background is to be woken for a boost.
    #[inline(always)]
    fn find<'z>(
        &'z self,
        local: &'z Local<'_, P>,
        zone: &'z Zone,
        want: &Want,
        flags: AllocFlags,
    ) -> Option<(ZoneGuard<'z>, Taken, MayWake)> {
        let own = zone.first_choice(want.kind, flags);
        if let Some((guard, taken)) = self.take_own(local, zone, &Want { kind: own, ..*want }) {
            return Some((guard, taken, MayWake::No));
        }
        if let Some((guard, taken)) = self.take_second_choice(local, zone, want, flags) {
            return Some((guard, taken, MayWake::No));
        }
        if self.has_boost_to_tell() && flags.level() == WatermarkLevel::Low {
            return None; // the slow path tells it, and comes back
        }
        let ((guard, taken), wake) = self.take_other(local, zone, want, flags)?;
        Some((guard, taken, wake))
    }

    /// Puts blocks that were taken from a shard into a list, but for the first `from`.
    #[inline(always)]
    pub(super) fn store(&self, cache: &ZoneCache, list: List, taken: Taken, from: usize) {
        let (order, n) = (list.order(), taken.blocks - from);
        if n == 1 {
            let pfn = taken.pfn.add(from << order.get());
            self.frames.set(pfn, cached(order, taken.content));
            let pushed = cache.push(list, self.frame_index(pfn));
            debug_assert!(pushed, "the room was counted");
        } else if n != 0 {
            let frame = self.frame_index(taken.pfn.add(from << order.get()));
            let words = self.frames.owned_words(frame, n << order.get());
            let word = cached(order, taken.content).bits();
            match order {
                Order::ZERO => words.iter().for_each(|at| at.store(word, Relaxed)),
                _ => {
                    let firsts = words.iter().step_by(order.pages());
                    firsts.for_each(|at| at.store(word, Relaxed));
                }
            }
            // The lowest address is put last, so that it is taken first.
            let pushed = cache.push_row(list, frame, n);
            debug_assert!(pushed, "the room was counted");
        }
    }

    pub(super) fn frame_index(&self, pfn: Pfn) -> u32 {
        debug_assert!(pfn.0 - self.frames.base().0 <= u32::MAX as usize);
        (pfn.0 - self.frames.base().0) as u32
    }

    /// The caches of the section's CPU for one zone; made on first use.
    #[inline]
    pub(super) fn cache(&self, local: &Local<'_, P>, zone: &Zone) -> Option<&ZoneCache> {
        match self.caches_of(local.cpu()) {
            Some(caches) => caches.get(zone.id as usize),
            None => self.make_caches(local)?.get(zone.id as usize),
        }
    }

    /// The caches of a CPU, one a zone.
    #[inline]
    pub(super) fn caches_of(&self, cpu: CpuId) -> Option<&[ZoneCache]> {
        let front = self.cpus.of(cpu).cast::<Front>();
        if front.is_null() {
            return None;
        }
        // SAFETY: [INV-PCPU-2] once published, the caches of a CPU stay where they are until the
        // machine is dropped, one a zone behind the front; all their fields are atomics.
        Some(unsafe { core::slice::from_raw_parts(front.add(1).cast(), self.zones.len()) })
    }

    /// Takes memory for the caches of the section's CPU. `None`: none left, go without.
    #[cold]
    fn make_caches(&self, local: &Local<'_, P>) -> Option<&[ZoneCache]> {
        let order = Order::for_bytes(Front::bytes(self.zones.len()))?;
        let zone = self.zones.iter().rev().find(|z| {
            z.kind <= ZoneKind::Normal && z.watermark_ok(order, ZoneKind::Normal, AllocFlags::MIN)
        })?;
        let want = Want {
            order,
            kind: MigrateType::Unmovable,
            blocks: 1,
            locking: Locking::Wait,
        };
        let own = self.take_own(local, zone, &want);
        let mix = Fragmenting::Allowed;
        let (guard, taken) =
            own.or_else(|| Some(self.take_fallback(local, zone, &want, mix)?.0))?;
        drop(guard);
        let front = self.ptr_of(taken.pfn).cast::<Front>().as_ptr();
        // SAFETY: [INV-PAGE-1] the block is ours alone and large enough; a page is aligned enough.
        // [INV-PCPU-4] a list has its place by its zone, in each CPU's.
        unsafe {
            front.write(Front::new());
            let caches = front.add(1).cast::<ZoneCache>();
            for i in 0..self.zones.len() {
                caches.add(i).write(ZoneCache::new());
                (*caches.add(i)).settle();
            }
            self.cpus.publish(local.cpu(), front.cast());
            self.platform.has_shelf(local.cpu(), front.cast());
        }
        self.caches_of(local.cpu())
    }
}
