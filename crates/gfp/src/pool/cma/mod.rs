//! Areas for contiguous allocations (CMA; P505-P510).
//!
//! 1. **Concept.** A device needs many pages side by side, now and then. An area is memory that is
//!    kept for that and lent meanwhile: its pageblocks have the type `Cma`, out of which only
//!    requests for movable memory are served (`page/lend.rs`). When the area wants pages back,
//!    their owners move what is in them.
//! 2. **Structures.** [`Cma`]: a few places for areas. An `Area` stands with its bitmap in pages
//!    that are allocated when it is made, and stays there as long as the machine. A bit for each
//!    2^order_per_bit pages says that they are given out; what is free or lent has none.
//! 3. **Making an area.** Its range is allocated as any certain frames are (`contig`), so it can be
//!    made while the machine runs, best right after boot, when all is free; or boot itself makes it
//!    ([`BootConfig::cma`](crate::page::BootConfig)). Without a place of its own it looks above
//!    4 GiB first, and spares low memory (`place`).
//! 4. **Allocation.** First fit in the bitmap; the bits are set, the range is emptied and taken. If
//!    something in it stays, the bits are cleared and the next place is tried (P507).
//! 5. **Locking.** A sleeping lock an area, over a whole allocation, migration included: two that
//!    need one pageblock would refuse each other. Another sleeping lock for who makes areas.
//!    Release takes none: pages are freed first, then their bits are cleared.
//! 6. **Failure.** The bits of a range that is not had are cleared again; see `page/contig.rs` for
//!    the range itself.
//! 7. **What it does not do.** Areas of several ranges; areas that go; a log of failures: the error
//!    says what was last in the way.
//! 8. **A fork** may copy an area while somebody is emptying a part of it, who is not there in the
//!    child: pages on their way, blocks isolated, bits set. Nobody can end that, so there the area
//!    is lost: it gives nothing, and says so; what it has given out can be released. As the OOM
//!    killer's lock ([`Mm::cma_holder_is_gone`](crate::Mm::cma_holder_is_gone)).

mod area;
mod bits;
mod error;
mod place;
#[cfg(test)]
mod tests;

use crate::flags::{GFP_KERNEL, Gfp, ZoneKind};
use crate::frame::{NodeId, Order, Pfn};
use crate::page::{IsolateMode, PageRequest, VerifyError, same};
use crate::platform::Platform;
use crate::pool::contig;
use crate::reclaim::OomLock;
use crate::report::Misuse;
use crate::slab::Slabs;
use crate::sync::Carved;
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize};
use area::Area;
use bits::Bits;
use core::ops::Range;
use core::ptr::NonNull;

pub use crate::page::{CMA_AREAS_MAX, CmaError, CmaSpec};
pub use error::CmaAllocError;
pub(crate) use place::Reserved;
use place::TAKE;

/// An area of a machine.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct CmaId(u8);

/// The numbers of an area (P509).
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct CmaStats {
    /// Its name.
    pub name: &'static str,
    /// Its first frame.
    pub first: Pfn,
    /// Its pages.
    pub total_pages: usize,
    /// Pages that are not given out: free, or lent.
    pub available_pages: usize,
    /// Requests that got what they asked for.
    pub alloc: u64,
    /// Requests that failed.
    pub fail: u64,
    /// Pages of the former.
    pub alloc_pages: u64,
    /// Pages of the latter.
    pub fail_pages: u64,
    /// Pages that were released.
    pub release_pages: u64,
}

/// The areas of a machine.
pub(crate) struct Cma {
    /// [INV-CMA-1] Null, or an area that stays.
    areas: [AtomicPtr<Area>; CMA_AREAS_MAX],
    making: OomLock,
}

/// A sleeping lock that is held until this is dropped.
struct Turn<'a, P: Platform> {
    lock: &'a OomLock,
    platform: &'a P,
}

impl<'a, P: Platform> Turn<'a, P> {
    /// `None`: who holds it was lost in a fork.
    ///
    /// Context: a task that may sleep.
    fn take(lock: &'a OomLock, platform: &'a P) -> Option<Turn<'a, P>> {
        let held = lock.lock(platform);
        held.then_some(Turn { lock, platform })
    }
}

impl<P: Platform> Drop for Turn<'_, P> {
    fn drop(&mut self) {
        // SAFETY: [INV-OOM-1] `take` got it.
        unsafe { self.lock.unlock(self.platform) };
    }
}

impl Cma {
    pub(crate) fn new() -> Cma {
        Cma {
            areas: [const { AtomicPtr::new(core::ptr::null_mut()) }; CMA_AREAS_MAX],
            making: OomLock::default(),
        }
    }

    fn area(&self, id: CmaId) -> Option<&Area> {
        // Acquire: pairs with the Release in `create`.
        let area = self.areas.get(usize::from(id.0))?.load(Acquire);
        // SAFETY: [INV-CMA-1] it was written before it was published, and stays.
        unsafe { area.as_ref() }
    }

    fn areas(&self) -> impl Iterator<Item = &Area> {
        (0..CMA_AREAS_MAX as u8).filter_map(|i| self.area(CmaId(i)))
    }

    /// What [`Mm::cma_create`](crate::Mm::cma_create) describes.
    pub(crate) fn create<P: Platform>(
        &self,
        slabs: &Slabs<P>,
        spec: &CmaSpec,
    ) -> Result<CmaId, CmaError> {
        self.create_with(slabs, spec, |pages| {
            let take = |frames| contig::alloc_range(slabs, frames, TAKE, IsolateMode::Other);
            place::find(slabs.pages(), spec, pages, take)
        })
    }

    /// Makes an area of frames that `find` takes, so many.
    fn create_with<P: Platform>(
        &self,
        slabs: &Slabs<P>,
        spec: &CmaSpec,
        find: impl FnOnce(usize) -> Result<Range<Pfn>, CmaError>,
    ) -> Result<CmaId, CmaError> {
        let pages = spec.check()?;
        let platform = slabs.pages().platform();
        let _turn = Turn::take(&self.making, platform).ok_or(CmaError::Lost)?;
        let free = |area: &AtomicPtr<Area>| area.load(Relaxed).is_null();
        let place = self.areas.iter().position(free);
        let place = place.ok_or(CmaError::TooMany)?;
        let len = pages >> spec.order_per_bit.get();
        let bytes = size_of::<Area>() + Bits::words_for(len) * size_of::<AtomicU64>();
        let order = Order::for_bytes(bytes).ok_or(CmaError::Invalid)?;
        let home = slabs
            .alloc_pages(&PageRequest::new(GFP_KERNEL | Gfp::ZERO, order))
            .map_err(|error| CmaError::NoMemory(Some(error)))?;
        let frames = match find(pages) {
            Ok(frames) => frames,
            Err(error) => {
                // SAFETY: just allocated, and used by nobody.
                let freed = unsafe { slabs.pages().free(home, order) };
                debug_assert!(freed.is_ok());
                return Err(error);
            }
        };
        slabs.pages().make_cma(frames.clone());
        let area = slabs.pages().ptr_of(home).cast::<Area>();
        let words = area.as_ptr().wrapping_add(1).cast::<AtomicU64>();
        let words = NonNull::new(words).unwrap_or(NonNull::dangling());
        const { assert!(align_of::<Area>() >= align_of::<AtomicU64>()) };
        // SAFETY: [INV-CMA-1] the block is ours, large enough, reads as zero, and stays.
        let words = unsafe { Carved::new(words, Bits::words_for(len)) };
        let value = Area {
            name: spec.name,
            frames,
            order_per_bit: spec.order_per_bit,
            bits: Bits::new(words, len),
            lock: OomLock::default(),
            available_pages: AtomicUsize::new(pages),
            events: Default::default(),
        };
        // SAFETY: [INV-CMA-1] as above; a page is aligned enough.
        unsafe { area.as_ptr().write(value) };
        // Release: pairs with the Acquire in `area`.
        self.areas[place].store(area.as_ptr(), Release);
        Ok(CmaId(place as u8))
    }

    /// What [`Mm::cma_alloc`](crate::Mm::cma_alloc) describes.
    pub(crate) fn alloc<P: Platform>(
        &self,
        slabs: &Slabs<P>,
        id: CmaId,
        pages: usize,
        align: Order,
    ) -> Result<Pfn, CmaAllocError> {
        let area = self.area(id).ok_or(CmaAllocError::Invalid)?;
        area.alloc(slabs, pages, align)
    }

    /// What [`Mm::cma_release`](crate::Mm::cma_release) describes. `None`: the pages are not of
    /// this area.
    ///
    /// # Safety
    /// Nobody may use the pages any more.
    pub(crate) unsafe fn release<P: Platform>(
        &self,
        slabs: &Slabs<P>,
        id: CmaId,
        first: Pfn,
        pages: usize,
    ) -> Option<Result<(), Misuse>> {
        let area = self.area(id)?;
        // SAFETY: promised by the caller.
        unsafe { area.release(slabs, first, pages) }
    }

    /// The first area of that name.
    pub(crate) fn named(&self, name: &str) -> Option<CmaId> {
        let mut ids = (0..CMA_AREAS_MAX as u8).map(CmaId);
        ids.find(|id| self.area(*id).is_some_and(|area| area.name == name))
    }

    /// The numbers of every area.
    pub(crate) fn stats(&self) -> impl Iterator<Item = CmaStats> {
        self.areas().map(Area::stats)
    }

    /// The numbers of one area.
    pub(crate) fn stats_of(&self, id: CmaId) -> Option<CmaStats> {
        self.area(id).map(Area::stats)
    }

    /// Pages of areas in one zone.
    pub(crate) fn pages_in<P: Platform>(
        &self,
        slabs: &Slabs<P>,
        node: NodeId,
        kind: ZoneKind,
    ) -> usize {
        let here = |stats: &CmaStats| slabs.pages().place_of(stats.first) == Some((node, kind));
        let its = self.stats().filter(here);
        its.map(|stats| stats.total_pages).sum()
    }

    /// What [`Mm::cma_holder_is_gone`](crate::Mm::cma_holder_is_gone) describes.
    pub(crate) fn holder_is_gone(&self) {
        self.making.holder_is_gone();
        self.areas().for_each(|area| area.lock.holder_is_gone());
    }

    /// What is given out is what is not available, but where bits were set for a request that
    /// nobody ends.
    pub(crate) fn verify(&self) -> Result<(), VerifyError> {
        for area in self.areas().filter(|area| !area.lock.is_lost()) {
            let stats = area.stats();
            let given = stats.total_pages - stats.available_pages;
            let at = area.frames.start.0;
            same("pages of an area are counted", at, given, area.given_out())?;
        }
        Ok(())
    }
}
