//! Blocks of whole pages that kmalloc gives out as its own: marked and counted in one section.

use super::relief::Relief;
use super::whole::first_rights;
use super::{PageAllocator, PageRequest};
use crate::error::AllocError;
use crate::frame::{CpuId, FrameKind, FrameWord, Order, Pfn};
use crate::platform::Platform;
use crate::sync::Local;
use crate::sync::atomic::Ordering::Relaxed;

impl<P: Platform> PageAllocator<P> {
    /// As [`PageAllocator::alloc`], but the first frame is marked [`FrameKind::LargeKmalloc`] and
    /// the pages are counted as such; free with [`PageAllocator::free_large`].
    ///
    /// # Errors
    /// As [`PageAllocator::alloc`].
    #[inline]
    pub fn alloc_large<R>(&self, req: &PageRequest, relief: &R) -> Result<Pfn, AllocError>
    where
        R: Relief<P> + ?Sized,
    {
        self.check(req)?;
        let local = Local::enter(&self.platform)?;
        let found = self
            .take_inside(&local, req, self.mobility(req.gfp))
            .or_else(|| self.alloc_local(&local, req, first_rights(req.gfp)));
        let Some(pfn) = found else {
            drop(local);
            let pfn = self.alloc_slow(req, relief)?;
            self.adopt_large(pfn, req.order);
            return Ok(pfn);
        };
        self.count_large(&local, req.order.pages() as isize);
        drop(local);
        self.hand_out(pfn, req);
        self.mark_large(pfn, req.order);
        Ok(pfn)
    }

    /// Makes a block that [`PageAllocator::alloc`] gave a large kmalloc block.
    pub(crate) fn adopt_large(&self, pfn: Pfn, order: Order) {
        self.mark_large(pfn, order);
        match Local::enter(&self.platform) {
            Ok(local) => self.count_large(&local, order.pages() as isize),
            Err(_) => _ = self.large_elsewhere.fetch_add(order.pages(), Relaxed),
        }
    }

    #[inline]
    fn mark_large(&self, pfn: Pfn, order: Order) {
        let word = FrameWord::new(FrameKind::LargeKmalloc, order, 0);
        self.frames.set(pfn, word);
    }

    /// Frees a large kmalloc block. False, and nothing done, if this is not the first frame of one.
    ///
    /// # Safety
    /// Nobody may use the block any more.
    #[inline]
    pub unsafe fn free_large(&self, pfn: Pfn) -> bool {
        let word = self.frames.get(pfn);
        if !word.is(FrameKind::LargeKmalloc) {
            return false;
        }
        let order = word.order();
        match Local::enter(&self.platform) {
            Ok(local) => {
                self.count_large(&local, -(order.pages() as isize));
                let long = self.config.init_on_free;
                if long || !self.put_inside(&local, pfn, order) {
                    self.free_local(&local, pfn, order);
                }
            }
            Err(_) => {
                self.large_elsewhere.fetch_sub(order.pages(), Relaxed);
                self.defer(pfn, order);
            }
        }
        true
    }

    /// Pages of large kmalloc blocks.
    pub fn large_pages(&self) -> usize {
        let of = |cpu| self.caches_of(CpuId(cpu as u32))?.first();
        let caches = (0..self.cpus.len()).filter_map(of);
        // A block may be freed on another CPU than it was allocated on: the sum is what counts.
        caches
            .map(|cache| cache.events.large_pages.get() as usize)
            .fold(self.large_elsewhere.load(Relaxed), usize::wrapping_add)
    }

    /// Counts on the section's CPU, in its cache of the first zone.
    #[inline]
    fn count_large(&self, local: &Local<'_, P>, pages: isize) {
        match self
            .caches_of(local.cpu())
            .and_then(|caches| caches.first())
        {
            Some(cache) => cache.events.large_pages.add(pages as usize),
            None => _ = self.large_elsewhere.fetch_add(pages as usize, Relaxed),
        }
    }
}
