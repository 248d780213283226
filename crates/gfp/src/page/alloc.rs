//! The fast paths: allocation from and free to this CPU's caches.

use super::cache::{List, ZoneCache};
use super::claim::Want;
use super::free::HOLD_MOST;
use super::guard::Taken;
use super::relief::{Alone, Relief};
use super::zone::Zone;
use super::{Locking, PageAllocator, PageRequest};
use crate::error::AllocError;
use crate::flags::{Gfp, MigrateType, ZoneKind};
use crate::frame::{CpuId, FrameKind, FrameWord, Order, PAGE_SIZE, Pfn};
use crate::platform::Platform;
use crate::policy::boost::MayWake;
use crate::policy::pcp;
use crate::policy::watermark::{AllocFlags, WatermarkLevel};
use crate::report::Misuse;
use crate::sync::Local;
use crate::sync::atomic::Ordering;

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
    #[inline]
    pub fn alloc(&self, req: &PageRequest) -> Result<Pfn, AllocError> {
        self.alloc_with(req, &Alone)
    }

    /// [`PageAllocator::alloc`] for a caller in a room above, who can free more and wait.
    ///
    /// # Errors
    /// As there.
    #[inline]
    pub fn alloc_with<R>(&self, req: &PageRequest, relief: &R) -> Result<Pfn, AllocError>
    where
        R: Relief<P> + ?Sized,
    {
        if req.is_special() {
            return self.alloc_special(req, relief);
        }
        self.alloc_admitted(req, MigrateType::Unmovable, relief)
    }

    /// Makes a block that was just taken the caller's.
    #[inline]
    pub(super) fn hand_out(&self, pfn: Pfn, req: &PageRequest) {
        let compound = req.gfp.contains(Gfp::COMP) && req.order > Order::ZERO;
        let kind = if compound {
            FrameKind::Compound
        } else {
            FrameKind::Page
        };
        self.frames.set(pfn, FrameWord::new(kind, req.order, 1));
        if req.gfp.contains(Gfp::ZERO) {
            // SAFETY: [INV-PAGE-1] the block is ours alone: its bits are clear and it is in no
            // cache.
            unsafe { self.ptr_of(pfn).as_ptr().write_bytes(0, req.order.bytes()) };
        }
    }

    /// One pass over the zones that the request may use, with the given rights (P275).
    pub(super) fn alloc_local(
        &self,
        local: &Local<'_, P>,
        req: &PageRequest,
        flags: AllocFlags,
    ) -> Option<Pfn> {
        let highest = self.highest(req.gfp);
        let kind = self.mobility(req.gfp);
        let mut preferred: Option<&Zone> = None;
        for zone in self.candidates(req) {
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
        let highest = self.highest(req.gfp);
        let node = req.node.unwrap_or_else(|| self.platform.node());
        let only = req.gfp.contains(Gfp::THISNODE);
        let ids = self.lists.get(node.0 as usize).map_or(&[][..], |l| l.ids());
        ids.iter()
            // Acquire: pairs with the Release in `Known::write`.
            .map(|id| &self.zones[id.load(Ordering::Acquire) as usize])
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
        cache.events.alloc_pages.add(order.pages());
        if zone.node != self.platform.node() {
            cache.events.numa_other.add(1);
        }
        if core::ptr::eq(zone, preferred) || zone.node == preferred.node {
            cache.events.numa_hit.add(1);
        } else {
            cache.events.numa_miss.add(1);
            if let Some(wanted) = preferred_cache() {
                wanted.events.numa_foreign.add(1);
            }
        }
    }

    /// Takes a batch from a shard of the zone under its lock: one block for the caller, the rest
    /// for the cache. The batch is smaller if the shard has less: the next comes from another.
    #[allow(clippy::too_many_arguments)]
    #[inline(never)]
    fn refill(
        &self,
        local: &Local<'_, P>,
        zone: &Zone,
        cache: Option<&ZoneCache>,
        order: Order,
        kind: MigrateType,
        highest: ZoneKind,
        flags: AllocFlags,
    ) -> Option<Pfn> {
        self.take_deferred(local);
        let store = cache.zip(List::of(order, kind));
        let mut wanted = store.map_or(1, |(cache, list)| {
            let sizing = self.sizing[zone.id as usize].get();
            // P326: order 0 takes a batch, higher orders a few, never past what may be kept.
            let (high, count) = (sizing.high_min, cache.count());
            let batch = pcp::refill(order.get().into(), count, high, 0, &sizing).blocks;
            1 + cache.allow(list, batch - 1, high).min(batch - 1)
        });
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
        let mut wake = MayWake::No;
        let own = zone.first_choice(kind, flags);
        let mine = Want { kind: own, ..want };
        let (mut guard, first) = self.take_own(local, zone, &mine).or_else(|| {
            if let Some(found) = self.take_second_choice(local, zone, &want, flags) {
                return Some(found);
            }
            if self.has_boost_to_tell() && flags.level() == WatermarkLevel::Low {
                return None; // the slow path tells it, and comes back
            }
            let (found, boosted) = self.take_fallback(local, zone, &want)?;
            wake = boosted;
            Some(found)
        })?;
        if let Some((cache, list)) = store {
            let store = |taken: Taken, from: usize| {
                // The lowest address is put last, so that it is taken first.
                for i in (from..taken.blocks).rev() {
                    let pfn = taken.pfn.add(i << order.get());
                    let word = FrameWord::new(FrameKind::Cached, order, 0);
                    self.frames.set(pfn, word);
                    let pushed = cache.push(list, self.frame_index(pfn));
                    debug_assert!(pushed, "the room was counted");
                }
                taken.blocks
            };
            let mut got = store(first, 1);
            while got < want.blocks
                && let Some(taken) = guard.take(order, own, want.blocks - got)
            {
                got += store(taken, 0);
            }
        }
        if wake == MayWake::Yes && flags.contains(AllocFlags::KSWAPD) {
            drop(guard);
            self.note_boost(zone);
            // The slow path wakes, and finds the block in the cache.
            if flags.level() == WatermarkLevel::Low
                && let Some((cache, list)) = store
                && zone.watermark_ok(order, highest, flags.at(WatermarkLevel::Min))
            {
                let word = FrameWord::new(FrameKind::Cached, order, 0);
                self.frames.set(first.pfn, word);
                if cache.push_beyond(list, self.frame_index(first.pfn)) {
                    return None;
                }
            }
        }
        Some(first.pfn)
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
        // Acquire: pairs with the Release in `make_caches`, for readers on other CPUs.
        let caches = self.cpus.get(cpu.0 as usize)?.load(Ordering::Acquire);
        if caches.is_null() {
            return None;
        }
        // SAFETY: [INV-PCPU-2] once published, the caches of a CPU stay where they are until the
        // machine is dropped; all their fields are atomics.
        Some(unsafe { core::slice::from_raw_parts(caches, self.zones.len()) })
    }

    /// Takes memory for the caches of the section's CPU. `None`: none left, go without.
    #[cold]
    fn make_caches(&self, local: &Local<'_, P>) -> Option<&[ZoneCache]> {
        let slot = self.cpus.get(local.cpu().0 as usize)?;
        let order = Order::for_bytes(self.zones.len() * size_of::<ZoneCache>())?;
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
        let (guard, taken) = own.or_else(|| Some(self.take_fallback(local, zone, &want)?.0))?;
        drop(guard);
        let caches = self.ptr_of(taken.pfn).cast::<ZoneCache>();
        for i in 0..self.zones.len() {
            // SAFETY: [INV-PAGE-1] the block is ours alone and large enough; a page is aligned
            // enough.
            unsafe {
                caches.as_ptr().add(i).write(ZoneCache::new());
                (*caches.as_ptr().add(i)).settle();
            }
        }
        // Release: the caches are written before another CPU finds them. Only this CPU stores here.
        slot.store(caches.as_ptr(), Ordering::Release);
        self.caches_of(local.cpu())
    }

    /// Fills the empty places of `out` with single pages, as many as the wanted node gives without
    /// effort (P344); at least one if any node has it. Returns how many places from the start on
    /// are filled.
    ///
    /// Context: as [`PageAllocator::alloc`].
    pub fn alloc_bulk(&self, req: &PageRequest, out: &mut [Option<Pfn>]) -> usize {
        self.alloc_bulk_with(req, out, &Alone)
    }

    /// [`PageAllocator::alloc_bulk`] for a caller in a room above.
    pub fn alloc_bulk_with<R>(
        &self,
        req: &PageRequest,
        out: &mut [Option<Pfn>],
        relief: &R,
    ) -> usize
    where
        R: Relief<P> + ?Sized,
    {
        let gfp = match req.is_special() {
            false => req.gfp,
            true => match self.admit(req) {
                Ok(admitted) => admitted.gfp,
                Err(_) => return out.iter().take_while(|p| p.is_some()).count(),
            },
        };
        let req = PageRequest {
            order: Order::ZERO,
            gfp,
            node: req.node,
        };
        let flags = AllocFlags::fast(req.gfp);
        let near = PageRequest {
            gfp: req.gfp | Gfp::THISNODE,
            ..req
        };
        let mut got = false;
        if let Ok(local) = Local::enter(&self.platform) {
            for place in out.iter_mut().filter(|p| p.is_none()) {
                let Some(pfn) = self.alloc_local(&local, &near, flags) else {
                    break;
                };
                *place = Some(pfn);
                self.hand_out(pfn, &req);
                got = true;
            }
        }
        if !got && let Some(place) = out.iter_mut().find(|p| p.is_none()) {
            self.tell_boost(relief);
            *place = self.alloc_with(&req, relief).ok();
        }
        out.iter().take_while(|p| p.is_some()).count()
    }

    /// Allocates exactly the pages that `bytes` need: the rest of the block is freed at once
    /// (P346). Every page is an order-0 block of its own.
    ///
    /// # Errors
    /// As [`PageAllocator::alloc`]; [`AllocError::TooLarge`] above the largest order.
    pub fn alloc_exact(&self, bytes: usize, gfp: Gfp) -> Result<(Pfn, usize), AllocError> {
        self.alloc_exact_with(bytes, gfp, &Alone)
    }

    /// [`PageAllocator::alloc_exact`] for a caller in a room above.
    ///
    /// # Errors
    /// As there.
    pub fn alloc_exact_with<R>(
        &self,
        bytes: usize,
        gfp: Gfp,
        relief: &R,
    ) -> Result<(Pfn, usize), AllocError>
    where
        R: Relief<P> + ?Sized,
    {
        let (gfp, _) = gfp.sanitize_for(crate::flags::Entry::Exact);
        if bytes == 0 {
            return Err(AllocError::ZeroSize);
        }
        let order = Order::for_bytes(bytes).ok_or(AllocError::TooLarge {
            max: Order::MAX.bytes(),
        })?;
        let pfn = self.alloc_with(&PageRequest::new(gfp, order), relief)?;
        let pages = bytes.div_ceil(PAGE_SIZE);
        self.split(pfn, order);
        for i in (pages..order.pages()).rev() {
            // SAFETY: the pages after the last that was asked for are ours and used by nobody.
            let freed = unsafe { self.free(pfn.add(i), Order::ZERO) };
            debug_assert!(freed.is_ok());
        }
        Ok((pfn, pages))
    }

    /// Frees what [`PageAllocator::alloc_exact`] gave.
    ///
    /// # Errors
    /// The first misuse found; the pages after it are freed all the same.
    ///
    /// # Safety
    /// As [`PageAllocator::free`].
    pub unsafe fn free_exact(&self, pfn: Pfn, pages: usize) -> Result<(), Misuse> {
        let mut result = Ok(());
        for i in 0..pages {
            // SAFETY: promised by the caller.
            result = result.and(unsafe { self.free(pfn.add(i), Order::ZERO) });
        }
        result
    }

    /// Makes each page of a block that is not compound an order-0 block (P347). The first keeps its
    /// references, the others have one. Of anything else nothing is changed (debug builds panic).
    pub fn split(&self, pfn: Pfn, order: Order) {
        let word = self.frames.get(pfn);
        debug_assert!(word.is_block(FrameKind::Page, order));
        if !word.is_block(FrameKind::Page, order) {
            return;
        }
        let part = word.part(Order::ZERO);
        self.frames.set(pfn, part.with_payload(word.payload()));
        for i in 1..order.pages() {
            self.frames.set(pfn.add(i), part);
        }
    }

    /// Takes one more reference of an allocated block. False if it is none. The caller must hold a
    /// reference, or know otherwise that the last one is not dropped meanwhile.
    pub fn get_ref(&self, pfn: Pfn) -> bool {
        loop {
            let old = self.frames.get(pfn);
            if !old.is(FrameKind::Page) && !old.is(FrameKind::Compound) {
                return false;
            }
            let new = old.with_payload(old.payload() + 1);
            if self.frames.replace(pfn, old, new) {
                return true;
            }
        }
    }

    /// Sets the word of a frame of a block that the caller owns: how a subsystem marks its pages.
    #[inline]
    pub fn set_word(&self, pfn: Pfn, word: FrameWord) {
        self.frames.set(pfn, word);
    }
}
