//! Many single pages at once.
//!
//! A section is held for at most [`CHUNK`] pages, which come from the cache of this CPU and, where
//! that is used up, straight from a shard under one hold of its lock; what is to be done with each
//! page follows after it. Pages that follow each other are freed as larger blocks.

use super::block::largest_block;
use super::cache::{List, ZoneCache};
use super::claim::Want;
use super::free::{HOLD_MOST, is_cached};
use super::guard::Taken;
use super::relief::{Alone, Relief};
use super::whole::first_rights;
use super::zone::Zone;
use super::{Locking, PageAllocator, PageRequest};
use crate::flags::{Gfp, MigrateType, ZoneKind};
use crate::frame::{FrameKind, FrameWord, Order, PAGEBLOCK_PAGES, Pfn};
use crate::platform::Platform;
use crate::policy::watermark::AllocFlags;
use crate::report::Misuse;
use crate::sync::Local;
use crate::sync::atomic::Ordering::Relaxed;

/// Pages that are taken in one section.
const CHUNK: usize = HOLD_MOST;
/// From so many on pages come straight from the zone: a refill serves fewer, and the next request.
const STRAIGHT: usize = CHUNK / 2;

impl<P: Platform> PageAllocator<P> {
    /// Fills the empty places of `out` with single pages, as many as the wanted node gives without
    /// effort (P344); at least one if any node has it. Returns how many places from the start on
    /// are filled. With `ZERO` every page reads as zero (P61).
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
        if let [place @ None] = out {
            let order = Order::ZERO; // one page is no bulk
            *place = self.alloc_with(&PageRequest { order, ..*req }, relief).ok();
            return place.is_some().into();
        }
        let gfp = match req.is_special() {
            false => req.gfp,
            true => match self.admit(req) {
                Ok(admitted) => admitted,
                Err(_) => return prefix(out),
            },
        };
        let req = PageRequest {
            order: Order::ZERO,
            gfp,
            ..*req
        };
        let got = match gfp.contains(Gfp::ACCOUNT) {
            true => 0, // P59: never charged as a batch
            false => self.fill(&req, out),
        };
        if got == 0
            && let Some(place) = out.iter_mut().find(|p| p.is_none())
        {
            self.tell_boost(relief);
            *place = self.alloc_with(&req, relief).ok();
        }
        prefix(out)
    }

    /// Fills empty places with what the wanted node gives at once. Returns how many.
    fn fill(&self, req: &PageRequest, out: &mut [Option<Pfn>]) -> usize {
        let near = PageRequest {
            gfp: req.gfp | Gfp::THISNODE,
            ..*req
        };
        let mut filled = 0;
        for places in out.chunks_mut(CHUNK) {
            let wanted = places.iter().filter(|p| p.is_none()).count();
            let mut pages = [Pfn(0); CHUNK];
            let pages = &mut pages[..wanted];
            let Ok(local) = Local::enter(&self.platform) else {
                break;
            };
            let got = self.take_pages(&local, &near, pages);
            drop(local);
            let empty = places.iter_mut().filter(|p| p.is_none());
            for (place, pfn) in empty.zip(&pages[..got]) {
                self.hand_out(*pfn, req);
                *place = Some(*pfn);
            }
            filled += got;
            if got < wanted {
                break;
            }
        }
        filled
    }

    /// One pass over the zones that the request may use, for many pages: as
    /// [`PageAllocator::alloc_local`] for each. Returns how many were taken.
    fn take_pages(&self, local: &Local<'_, P>, req: &PageRequest, pages: &mut [Pfn]) -> usize {
        let flags = first_rights(req.gfp);
        let mut preferred: Option<&Zone> = None;
        let mut taken = 0;
        for zone in self.candidates(req) {
            let first = *preferred.get_or_insert(zone);
            if !core::ptr::eq(zone, first) && self.stays_near(zone, first, flags) {
                continue;
            }
            taken += self.take_from(local, zone, req, flags, first, &mut pages[taken..]);
            if taken == pages.len() {
                break;
            }
        }
        taken
    }

    /// Takes pages from one zone: from this CPU's cache, then from the zone, then as a single
    /// request does.
    fn take_from(
        &self,
        local: &Local<'_, P>,
        zone: &Zone,
        req: &PageRequest,
        flags: AllocFlags,
        preferred: &Zone,
        pages: &mut [Pfn],
    ) -> usize {
        let (order, kind) = (Order::ZERO, self.mobility(req.gfp));
        let highest = self.highest(req.gfp);
        let cache = self.cache(local, zone);
        let mine = core::ptr::eq(zone, preferred);
        let mut taken = 0;
        while taken < pages.len() {
            // P207: as for a single page.
            if let Some((cache, list)) = cache.zip(List::of(order, kind))
                && (mine || zone.watermark_ok(order, highest, flags))
            {
                taken += self.pop_some(cache, list, &mut pages[taken..]);
            }
            let left = &mut pages[taken..];
            if left.len() >= STRAIGHT {
                taken += self.take_straight(local, zone, kind, highest, flags, left);
            }
            if taken == pages.len() {
                break;
            }
            let Some(pfn) = self.refill(local, zone, cache, order, kind, highest, flags) else {
                break;
            };
            pages[taken] = pfn;
            taken += 1;
        }
        if let Some(cache) = cache {
            let wanted = || self.cache(local, preferred);
            self.count_taken_blocks(cache, zone, order, taken, preferred, wanted);
        }
        taken
    }

    /// [`PageAllocator::pop`] as often as there are places and pages. Returns how many were taken.
    fn pop_some(&self, cache: &ZoneCache, list: List, pages: &mut [Pfn]) -> usize {
        let mut taken = 0;
        while taken < pages.len() && cache.blocks(list) != 0 {
            let (base, wanted) = (self.frames.base(), pages.len() - taken);
            let newest = cache.frames(list).iter().rev().take(wanted);
            let seen = newest.len();
            for frame in newest.map(|frame| frame.load(Relaxed)) {
                let pfn = base.add(frame as usize);
                match self.frames.owned_word(frame) {
                    Some(word) if is_cached(word, Order::ZERO) => {
                        pages[taken] = pfn;
                        taken += 1;
                    }
                    _ => self.complain_twice(pfn),
                }
            }
            cache.drop_newest(list, seen);
        }
        taken
    }

    /// Takes pages of a type, at most [`HOLD_MOST`], under one hold of a shard's lock, as a refill
    /// takes them. Returns how many; none near the mark, where each page is looked at by itself.
    fn take_straight(
        &self,
        local: &Local<'_, P>,
        zone: &Zone,
        kind: MigrateType,
        highest: ZoneKind,
        flags: AllocFlags,
        pages: &mut [Pfn],
    ) -> usize {
        let want = Want {
            order: Order::ZERO,
            kind: zone.first_choice(kind, flags),
            blocks: pages.len().min(HOLD_MOST),
            locking: Locking::Wait,
        };
        let more = want.blocks - 1;
        if !zone.watermark_ok_without(more, want.order, highest, flags.ordinary()) {
            return 0;
        }
        let Some((mut guard, first)) = self.take_own(local, zone, &want) else {
            return 0;
        };
        let mut places = pages.iter_mut();
        let taken = guard.take_batch(&want, first, |taken| {
            for (i, place) in places.by_ref().take(taken.blocks).enumerate() {
                let pfn = taken.pfn.add(i);
                *place = self.note_content(Taken { pfn, ..taken }, Order::ZERO);
            }
        });
        let shard = guard.shard;
        drop(guard);
        self.look_for_mail(local, zone, shard);
        taken
    }

    /// Frees single pages, each as [`PageAllocator::free`] of order 0 does. They are sorted by
    /// address first, and pages that follow each other are freed as larger blocks (P345).
    ///
    /// Context: as [`PageAllocator::free`]. `refused` is told which pages were not freed, and why;
    /// the others are freed all the same.
    ///
    /// # Safety
    /// As [`PageAllocator::free`], for each page.
    pub unsafe fn free_bulk(&self, pages: &mut [Pfn], mut refused: impl FnMut(Pfn, Misuse)) {
        pages.sort_unstable();
        let mut rest = &*pages;
        while let [first, ..] = rest {
            let run = self.claim_run(rest);
            if run != 0 {
                self.free_run(*first, run);
            // What is shared, movable or not ours is left to a single free.
            // SAFETY: promised by the caller.
            } else if let Err(misuse) = unsafe { self.free(*first, Order::ZERO) } {
                refused(*first, misuse);
            }
            rest = &rest[run.max(1)..];
        }
    }

    /// Takes the words of the pages at the front that follow each other in one pageblock and have
    /// one reference each. Returns how many. Who frees one of them again finds no word.
    fn claim_run(&self, pages: &[Pfn]) -> usize {
        let first = pages[0].0;
        let end = (first / PAGEBLOCK_PAGES + 1) * PAGEBLOCK_PAGES;
        let mut run = 0;
        // All frames of a pageblock have words, or none.
        if self.frames.index(pages[0]).is_none() {
            return run;
        }
        for (i, pfn) in pages.iter().enumerate() {
            if pfn.0 != first + i || pfn.0 >= end {
                break;
            }
            let word = self.frames.owned_acquire(*pfn);
            let alone = word.is_block(FrameKind::Page, Order::ZERO) && word.payload() == 1;
            if !alone {
                break;
            }
            self.frames.set(*pfn, FrameWord::NONE);
            run += 1;
        }
        run
    }

    /// Frees pages of one pageblock that follow each other, as the largest blocks that they make.
    fn free_run(&self, first: Pfn, pages: usize) {
        let local = Local::enter(&self.platform);
        let end = first.add(pages);
        let mut at = first;
        while at < end {
            let order = largest_block(at, end);
            match &local {
                Ok(local) => self.free_local(local, at, order),
                Err(_) => self.defer(at, order),
            }
            at = at.add(order.pages());
        }
    }
}

/// The places from the start on that are filled.
fn prefix(out: &[Option<Pfn>]) -> usize {
    out.iter().take_while(|p| p.is_some()).count()
}
