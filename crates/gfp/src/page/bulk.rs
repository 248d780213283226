//! Many single pages at once.
//!
//! A section is held for at most [`CHUNK`] pages, which come from the cache of this CPU and its
//! refills; what is to be done with each page follows after it. Pages that follow each other are
//! freed as larger blocks.

use super::block::largest_block;
use super::cache::List;
use super::relief::{Alone, Relief};
use super::whole::first_rights;
use super::zone::Zone;
use super::{PageAllocator, PageRequest};
use crate::flags::Gfp;
use crate::frame::{FrameKind, FrameWord, Order, PAGEBLOCK_PAGES, Pfn};
use crate::platform::Platform;
use crate::policy::watermark::AllocFlags;
use crate::report::Misuse;
use crate::sync::Local;

/// Pages that are taken in one section.
const CHUNK: usize = 64;

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

    /// Takes pages from one zone: from this CPU's cache, filled again as often as that goes.
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
        for page in &mut *pages {
            // P207: as for a single page.
            let cached = match cache.zip(List::of(order, kind)) {
                Some((cache, list)) if mine || zone.watermark_ok(order, highest, flags) => {
                    self.pop(cache, list)
                }
                _ => None,
            };
            let refill = || self.refill(local, zone, cache, order, kind, highest, flags);
            let Some(pfn) = cached.or_else(refill) else {
                break;
            };
            *page = pfn;
            taken += 1;
        }
        if let Some(cache) = cache {
            let wanted = || self.cache(local, preferred);
            self.count_taken_blocks(cache, zone, order, taken, preferred, wanted);
        }
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
