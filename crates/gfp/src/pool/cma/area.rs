//! One area: alloc and release.

use super::bits::Bits;
use super::error::CmaAllocError;
use super::{CmaStats, Turn};
use crate::flags::{GFP_KERNEL, Gfp};
use crate::frame::{Order, Pfn};
use crate::page::IsolateMode;
use crate::platform::Platform;
use crate::pool::contig;
use crate::reclaim::OomLock;
use crate::report::Misuse;
use crate::slab::Slabs;
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use core::ops::Range;

/// One area. It stands in pages of its own, the words of its bitmap behind it.
pub(super) struct Area {
    pub(super) name: &'static str,
    pub(super) frames: Range<Pfn>,
    pub(super) order_per_bit: Order,
    pub(super) bits: Bits,
    /// Held over a request, migration included: a sleeping lock.
    pub(super) lock: OomLock,
    pub(super) available_pages: AtomicUsize,
    pub(super) events: Events,
}

/// What happened in one area.
#[derive(Default)]
pub(super) struct Events {
    alloc: AtomicU64,
    alloc_pages: AtomicU64,
    fail: AtomicU64,
    fail_pages: AtomicU64,
    release_pages: AtomicU64,
}

/// Bits that are cleared again when this is dropped, as where an owner panics.
struct Marked<'a> {
    bits: &'a Bits,
    start: usize,
    count: usize,
}

impl<'a> Marked<'a> {
    fn new(bits: &'a Bits, start: usize, count: usize) -> Marked<'a> {
        bits.set(start, count);
        Marked { bits, start, count }
    }

    /// The pages were had.
    fn keep(self) {
        core::mem::forget(self);
    }
}

impl Drop for Marked<'_> {
    fn drop(&mut self) {
        self.bits.clear(self.start, self.count);
    }
}

impl Area {
    fn pages(&self) -> usize {
        self.frames.end.0 - self.frames.start.0
    }

    fn bits_for(&self, pages: usize) -> usize {
        pages.div_ceil(self.order_per_bit.pages())
    }

    fn frame(&self, bit: usize) -> Pfn {
        self.frames.start.add(bit * self.order_per_bit.pages())
    }

    /// P507.
    pub(super) fn alloc<P: Platform>(
        &self,
        slabs: &Slabs<P>,
        pages: usize,
        align: Order,
    ) -> Result<Pfn, CmaAllocError> {
        let result = self.try_alloc(slabs, pages, align);
        let (events, all) = match result {
            Ok(_) => (&self.events.alloc, &self.events.alloc_pages),
            Err(_) => (&self.events.fail, &self.events.fail_pages),
        };
        // Relaxed, as all counts.
        events.fetch_add(1, Relaxed);
        all.fetch_add(pages as u64, Relaxed);
        result
    }

    fn try_alloc<P: Platform>(
        &self,
        slabs: &Slabs<P>,
        pages: usize,
        align: Order,
    ) -> Result<Pfn, CmaAllocError> {
        let (count, bit) = (self.bits_for(pages), self.order_per_bit.pages());
        if pages == 0 || align.pages() > self.pages() {
            return Err(CmaAllocError::Invalid);
        }
        // One at a time: two that isolate the same pageblock would refuse each other (P510).
        let platform = slabs.pages().platform();
        let _turn = Turn::take(&self.lock, platform).ok_or(CmaAllocError::Lost)?;
        let available = self.available_pages.load(Relaxed);
        let not_enough = CmaAllocError::NotEnough { available };
        if pages > available {
            return Err(not_enough);
        }
        let align = (align.pages() / bit).max(1);
        let offset = self.frames.start.0 / bit;
        let (mut from, mut last) = (0, None);
        while let Some(start) = self.bits.find(from, count, align, offset) {
            let marked = Marked::new(&self.bits, start, count);
            let first = self.frame(start);
            let range = first..first.add(pages);
            let gfp = GFP_KERNEL | Gfp::NOWARN;
            match contig::alloc_range(slabs, range, gfp, IsolateMode::Cma) {
                Ok(()) => {
                    marked.keep();
                    self.available_pages.fetch_sub(count * bit, Relaxed);
                    return Ok(first);
                }
                Err(error) => {
                    drop(marked);
                    if !error.is_busy() {
                        return Err(CmaAllocError::Contig(error));
                    }
                    last = Some(error);
                    from = start + 1;
                }
            }
        }
        Err(last.map_or(not_enough, CmaAllocError::Busy))
    }

    /// P508: the bits of pages that the area has given out; `None` if they are not its own.
    fn bits_of(&self, first: Pfn, pages: usize) -> Option<(usize, usize)> {
        let end = first.0.checked_add(pages)?;
        let inside = first >= self.frames.start && end <= self.frames.end.0 && pages != 0;
        let from_start = first.0.wrapping_sub(self.frames.start.0);
        let whole = from_start.is_multiple_of(self.order_per_bit.pages());
        let start = from_start >> self.order_per_bit.get();
        (inside && whole).then(|| (start, self.bits_for(pages)))
    }

    /// P508. `None`: not a part of this area.
    ///
    /// # Safety
    /// Nobody may use the pages any more.
    pub(super) unsafe fn release<P: Platform>(
        &self,
        slabs: &Slabs<P>,
        first: Pfn,
        pages: usize,
    ) -> Option<Result<(), Misuse>> {
        let (start, count) = self.bits_of(first, pages)?;
        if !self.bits.are_set(start, count) {
            return Some(Err(Misuse::DoubleFree));
        }
        // SAFETY: promised by the caller.
        let freed = unsafe { slabs.pages().free_exact(first, pages) };
        // After the pages: who finds the bits clear finds these free.
        self.bits.clear(start, count);
        let back = count << self.order_per_bit.get();
        self.available_pages.fetch_add(back, Relaxed);
        self.events.release_pages.fetch_add(pages as u64, Relaxed);
        Some(freed)
    }

    pub(super) fn stats(&self) -> CmaStats {
        CmaStats {
            name: self.name,
            first: self.frames.start,
            total_pages: self.pages(),
            available_pages: self.available_pages.load(Relaxed),
            alloc: self.events.alloc.load(Relaxed),
            fail: self.events.fail.load(Relaxed),
            alloc_pages: self.events.alloc_pages.load(Relaxed),
            fail_pages: self.events.fail_pages.load(Relaxed),
            release_pages: self.events.release_pages.load(Relaxed),
        }
    }

    /// Pages that are given out, by the bits.
    pub(super) fn given_out(&self) -> usize {
        self.bits.count() << self.order_per_bit.get()
    }
}
