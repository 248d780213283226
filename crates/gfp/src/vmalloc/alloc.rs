//! Making an area: addresses, frames, mapping.

use super::Vmalloc;
use super::area::{Area, AreaFlags};
use super::areas::{CarveError, Found};
use crate::error::AllocError;
use crate::flags::{Entry, GFP_KERNEL, Gfp};
use crate::frame::{
    FrameKind, FrameWord, MAX_PAGE_ORDER, NodeId, Order, PAGE_SHIFT, PAGE_SIZE, Pfn,
};
use crate::page::{PageRequest, Place};
use crate::platform::{FrameRun, Mapped, Paging, Protection};
use crate::report::Caller;
use crate::sync::atomic::Ordering::Relaxed;
use core::ptr::NonNull;

/// Frames asked for at once: V8 allows 100; 64 keep the array on the stack at 1 KiB.
const BULK: usize = 64;

/// Everything that decides how an area is made.
#[derive(Copy, Clone, Debug)]
pub struct AreaRequest {
    /// Bytes; rounded up to pages (V2).
    pub size: usize,
    /// Alignment of the start in bytes, a power of two; less than a page means a page.
    pub align: usize,
    /// How hard to try; bits that vmalloc does not take are dropped (V5).
    pub gfp: Gfp,
    /// The node whose memory is wanted; `None`: that of this CPU.
    pub node: Option<NodeId>,
    /// What it is for.
    pub flags: AreaFlags,
    /// Who asked.
    pub caller: Caller,
}

impl AreaRequest {
    /// A plain request, as `__vmalloc` makes it.
    pub const fn new(size: usize, gfp: Gfp, caller: Caller) -> AreaRequest {
        AreaRequest {
            size,
            align: PAGE_SIZE,
            gfp,
            node: None,
            flags: AreaFlags::NONE,
            caller,
        }
    }
}

/// Named calls. They differ in flags and placement only; each may sleep unless `gfp` says
/// otherwise, and fails as [`Vmalloc::alloc_area`] does.
#[allow(clippy::missing_errors_doc)]
impl<P: Paging> Vmalloc<P> {
    /// `vmalloc`: `size` bytes, GFP_KERNEL; the content is arbitrary (V1).
    pub fn vmalloc(&self, size: usize, caller: Caller) -> Result<NonNull<u8>, AllocError> {
        self.alloc_area(&AreaRequest::new(size, GFP_KERNEL, caller))
    }

    /// `vzalloc`: zeroed.
    pub fn vzalloc(&self, size: usize, caller: Caller) -> Result<NonNull<u8>, AllocError> {
        self.alloc_area(&AreaRequest::new(size, GFP_KERNEL.with(Gfp::ZERO), caller))
    }

    /// `vmalloc_node`: from a preferred node.
    pub fn vmalloc_node(
        &self,
        size: usize,
        node: NodeId,
        caller: Caller,
    ) -> Result<NonNull<u8>, AllocError> {
        let plain = AreaRequest::new(size, GFP_KERNEL, caller);
        self.alloc_area(&AreaRequest {
            node: Some(node),
            ..plain
        })
    }

    /// `vzalloc_node`: zeroed, from a preferred node.
    pub fn vzalloc_node(
        &self,
        size: usize,
        node: NodeId,
        caller: Caller,
    ) -> Result<NonNull<u8>, AllocError> {
        let plain = AreaRequest::new(size, GFP_KERNEL.with(Gfp::ZERO), caller);
        self.alloc_area(&AreaRequest {
            node: Some(node),
            ..plain
        })
    }

    /// `vmalloc_user`: zeroed, may be mapped to user space; shrinking keeps its pages (V11).
    pub fn vmalloc_user(&self, size: usize, caller: Caller) -> Result<NonNull<u8>, AllocError> {
        let plain = AreaRequest::new(size, GFP_KERNEL.with(Gfp::ZERO), caller);
        self.alloc_area(&AreaRequest {
            flags: AreaFlags::USER,
            ..plain
        })
    }

    /// `vmalloc_32`: frames below 4 GiB, from ZONE_DMA32 or what its zonelist falls back to,
    /// ZONE_DMA.
    pub fn vmalloc_32(&self, size: usize, caller: Caller) -> Result<NonNull<u8>, AllocError> {
        self.alloc_area(&AreaRequest::new(size, GFP_KERNEL.with(Gfp::DMA32), caller))
    }

    /// `vmalloc_32_user`: both.
    pub fn vmalloc_32_user(&self, size: usize, caller: Caller) -> Result<NonNull<u8>, AllocError> {
        let gfp = GFP_KERNEL.with(Gfp::DMA32).with(Gfp::ZERO);
        let plain = AreaRequest::new(size, gfp, caller);
        self.alloc_area(&AreaRequest {
            flags: AreaFlags::USER,
            ..plain
        })
    }

    /// `__vmalloc`: full control of the flags (V5). Zone bits are dropped.
    pub fn __vmalloc(
        &self,
        size: usize,
        gfp: Gfp,
        caller: Caller,
    ) -> Result<NonNull<u8>, AllocError> {
        let gfp = gfp.without(Gfp::DMA.with(Gfp::DMA32));
        self.alloc_area(&AreaRequest::new(size, gfp, caller))
    }

    /// `vmalloc_array`: `n` elements of `size` bytes; [`AllocError::Overflow`] if that is no
    /// `usize`.
    pub fn vmalloc_array(
        &self,
        n: usize,
        size: usize,
        caller: Caller,
    ) -> Result<NonNull<u8>, AllocError> {
        self.vmalloc(n.checked_mul(size).ok_or(AllocError::Overflow)?, caller)
    }

    /// `vcalloc`: the same, zeroed.
    pub fn vcalloc(
        &self,
        n: usize,
        size: usize,
        caller: Caller,
    ) -> Result<NonNull<u8>, AllocError> {
        self.vzalloc(n.checked_mul(size).ok_or(AllocError::Overflow)?, caller)
    }
}

impl<P: Paging> Vmalloc<P> {
    /// Makes an area. With `ZERO` all its pages read as zero.
    ///
    /// Context: a task; with non-blocking flags nothing is waited for and no address space is
    /// reclaimed (V4). With `NOFAIL` and blocking it does not return without memory (V6).
    ///
    /// # Errors
    /// [`AllocError::ZeroSize`] and [`AllocError::TooLarge`] (more than all RAM) by V3,
    /// [`AllocError::BadAlign`], [`AllocError::NoAddressSpace`], [`AllocError::NoMemory`], and
    /// [`AllocError::Nested`] in an interrupt, an NMI, or inside the allocator (V4).
    pub fn alloc_area(&self, req: &AreaRequest) -> Result<NonNull<u8>, AllocError> {
        if req.size == 0 {
            return Err(AllocError::ZeroSize);
        }
        let total = self.pages().managed_pages();
        let pages = req.size.div_ceil(PAGE_SIZE);
        if pages > total {
            return Err(AllocError::TooLarge {
                max: total << PAGE_SHIFT,
            });
        }
        if !req.align.is_power_of_two() {
            return Err(AllocError::BadAlign {
                max: 1 << (usize::BITS - 1),
            });
        }
        if !self.platform().context().is_task() {
            return Err(AllocError::Nested);
        }
        self.finish_postponed()?;
        let (gfp, _) = req.gfp.sanitize_for(Entry::Vmalloc32);
        let req = AreaRequest { gfp, ..*req };
        let mut spins = 0;
        loop {
            match self.try_area(&req, pages) {
                Err(AllocError::NoMemory { .. } | AllocError::NoAddressSpace)
                    if gfp.never_fails() && gfp.allows_blocking() =>
                {
                    self.platform().relax(spins); // V6
                    spins = spins.saturating_add(1);
                }
                result => return result,
            }
        }
    }

    fn try_area(&self, req: &AreaRequest, pages: usize) -> Result<NonNull<u8>, AllocError> {
        let found = self.reserve(pages + 1, req)?;
        debug_assert!(found.start.is_multiple_of(req.align.max(PAGE_SIZE)));
        match self.populate(&found, req, pages) {
            Ok(area) => {
                self.with_space(|space| space.publish(found.node, area))?;
                Ok(self.ptr_at(found.start))
            }
            Err(error) => {
                self.with_space(|space| space.give_back(found.node))?;
                Err(error)
            }
        }
    }

    /// Takes addresses, making room first where the flags allow it (V18).
    fn reserve(&self, pages: usize, req: &AreaRequest) -> Result<Found, AllocError> {
        let align_pages = req.align.div_ceil(PAGE_SIZE);
        let may_wait = req.gfp.allows_blocking() && self.platform().context().may_sleep();
        let mut spins = 0;
        let mut last_try = false;
        loop {
            let window = self.window();
            match self.with_space(|space| space.carve(window, pages, align_pages))? {
                Ok(found) => return Ok(found),
                Err(CarveError::NeedNodes) => self.grow_pool(req.gfp)?,
                Err(CarveError::Full { .. }) if !may_wait => {
                    return Err(AllocError::NoAddressSpace);
                }
                Err(CarveError::Full { flushing: true }) => {
                    self.platform().relax(spins);
                    spins = spins.saturating_add(1);
                }
                Err(CarveError::Full { flushing: false }) => {
                    // Nothing came back: unless another purge ended just now, that was all.
                    if self.purge() == 0 && core::mem::replace(&mut last_try, true) {
                        return Err(AllocError::NoAddressSpace);
                    }
                }
            }
        }
    }

    /// Takes a page for descriptors.
    #[cold]
    fn grow_pool(&self, gfp: Gfp) -> Result<(), AllocError> {
        let gfp = gfp.without(Gfp::ZERO.with(Gfp::DMA32).with(Gfp::DMA));
        let pfn = self
            .slabs()
            .alloc_pages(&PageRequest::new(gfp, Order::ZERO))?;
        let page = self.pages().ptr_of(pfn);
        // SAFETY: [INV-VM-1] the page is ours and is never given back.
        self.with_space(|space| unsafe { space.add_page(page) })?;
        Ok(())
    }

    /// Takes the frames of an area and maps them. On failure all is as before.
    fn populate(&self, found: &Found, req: &AreaRequest, pages: usize) -> Result<Area, AllocError> {
        debug_assert!(pages < found.pages, "a guard page is left (V2)");
        let frames = self.new_array(pages, req)?;
        let array_in_area = self.is_vmalloc_addr(frames.addr().get());
        let vpages = if array_in_area {
            AreaFlags::VPAGES
        } else {
            AreaFlags::NONE
        };
        let area = Area {
            frames: frames.as_ptr(),
            pages,
            size: req.size,
            caller: req.caller,
            freed_by: None,
            flags: req.flags.with(vpages),
        };
        let taken = self.take_frames(found.start, &area, req);
        if taken == pages
            && let Some(mapped) = self.map(found.start, &area, req.gfp)
        {
            if req.gfp.wants_zero() && mapped == Mapped::Content {
                let at = self.ptr_at(found.start).as_ptr();
                // SAFETY: [INV-VM-2] the pages were mapped just now and nobody knows them yet.
                unsafe { at.write_bytes(0, area.mapped_bytes()) };
            }
            return Ok(area);
        }
        self.release_frames(&area, 0..taken);
        self.free_array(&area);
        Err(AllocError::NoMemory {
            order: Order::ZERO,
            gfp: req.gfp,
        })
    }

    /// Fills the array of an area with frames; the answer is how many came (V8).
    fn take_frames(&self, start: usize, area: &Area, req: &AreaRequest) -> usize {
        let mut single = req.gfp.without(Gfp::ZERO);
        if !single.intersects(Gfp::DMA.with(Gfp::DMA32)) {
            single = single.with(Gfp::HIGHMEM); // V5
        }
        let quick = single
            .without(
                Gfp::DIRECT_RECLAIM
                    .with(Gfp::NOFAIL)
                    .with(Gfp::RETRY_MAYFAIL),
            )
            .with(Gfp::NORETRY)
            .with(Gfp::NOWARN);
        let request = |gfp, order| PageRequest {
            order,
            gfp,
            place: req.node.map(Place::near),
        };
        let mut taken = 0;
        let mut limit = MAX_PAGE_ORDER;
        while let left @ 2.. = area.pages - taken {
            limit = limit.min(left.ilog2() as u8);
            let Some(order) = Order::new(limit).filter(|&o| o > Order::ZERO) else {
                break;
            };
            match self.slabs().alloc_pages(&request(quick, order)) {
                Ok(pfn) => {
                    for i in 0..order.pages() {
                        self.adopt(start, area, taken, pfn.add(i));
                        taken += 1;
                    }
                }
                Err(_) => limit -= 1,
            }
        }
        while taken < area.pages {
            let mut batch = [None; BULK];
            let wanted = BULK.min(area.pages - taken);
            // With nothing quick to have, the bulk call tries one page with all rights.
            let got = self
                .slabs()
                .alloc_pages_bulk(&request(single, Order::ZERO), &mut batch[..wanted]);
            for pfn in batch.into_iter().take(got).flatten() {
                self.adopt(start, area, taken, pfn);
                taken += 1;
            }
            if got == 0 {
                break;
            }
        }
        taken
    }

    /// Makes a frame page `index` of an area: it is named in the array, and its word says where it
    /// is seen: page number inside the window.
    fn adopt(&self, start: usize, area: &Area, index: usize, pfn: Pfn) {
        debug_assert!(index < area.pages);
        let page = ((start - self.window().0) >> PAGE_SHIFT) + index;
        let word = FrameWord::new(FrameKind::Vmalloc, Order::ZERO, page as u64);
        self.pages().set_word(pfn, word);
        let frame = self.pages().frames().index_of_any(pfn).unwrap_or(0);
        // SAFETY: [INV-VM-3] the array has `area.pages` entries and is the area's alone.
        unsafe { area.frames.add(index).write(frame) };
    }

    /// Gives the frames of some pages back.
    pub(super) fn release_frames(&self, area: &Area, which: core::ops::Range<usize>) {
        for index in which {
            let pfn = self.frame(area, index);
            debug_assert!(self.pages().frames().get(pfn).is(FrameKind::Vmalloc));
            self.pages()
                .set_word(pfn, FrameWord::new(FrameKind::Page, Order::ZERO, 1));
            // SAFETY: [INV-VM-2] the page is not mapped any more, so nobody reaches the frame.
            let freed = unsafe { self.pages().free(pfn, Order::ZERO) };
            debug_assert!(freed.is_ok());
        }
    }

    fn map(&self, start: usize, area: &Area, gfp: Gfp) -> Option<Mapped> {
        let mut index = 0;
        let mut runs = core::iter::from_fn(|| {
            let first = (index < area.pages).then(|| self.frame(area, index))?;
            let from = index;
            while index < area.pages && self.frame(area, index) == first.add(index - from) {
                index += 1;
            }
            Some(FrameRun {
                first,
                pages: index - from,
            })
        });
        // V6: with limited effort page tables come without reclaim.
        let limited = gfp.intersects(Gfp::NORETRY.with(Gfp::RETRY_MAYFAIL));
        let effort = if limited {
            gfp.without(Gfp::DIRECT_RECLAIM)
        } else {
            gfp
        };
        let effort = effort
            .without(Gfp::NOFAIL.with(Gfp::DMA).with(Gfp::DMA32))
            .with(Gfp::ZERO);
        let mut table = || {
            let pfn = self
                .pages()
                .alloc(&PageRequest::new(effort, Order::ZERO))
                .ok()?;
            self.table_pages.fetch_add(1, Relaxed);
            Some(pfn)
        };
        // SAFETY: [INV-VM-2] the range is `Building` and ours, nothing is mapped in it, and the
        // frames were taken for it.
        unsafe {
            self.platform().map(
                self.ptr_at(start),
                &mut runs,
                Protection::ReadWrite,
                &mut table,
            )
        }
        .ok()
    }

    /// Memory for the array of frames (V9).
    fn new_array(&self, pages: usize, req: &AreaRequest) -> Result<NonNull<u32>, AllocError> {
        let bytes = pages * size_of::<u32>();
        // P45 without its resignation: an area that may wait, may wait for its array too.
        let gfp = req
            .gfp
            .without(Gfp::ZERO.with(Gfp::DMA).with(Gfp::DMA32))
            .with(Gfp::NOWARN);
        if bytes <= PAGE_SIZE {
            return Ok(self.slabs().kmalloc(bytes, gfp, req.node)?.cast());
        }
        let plain = AreaRequest::new(bytes, gfp, req.caller);
        // Bounded: each level is a thousandth of the one above.
        Ok(self
            .alloc_area(&AreaRequest {
                node: req.node,
                ..plain
            })?
            .cast())
    }

    /// Frees the array of an area whose frames are gone.
    pub(super) fn free_array(&self, area: &Area) {
        if area.flags.contains(AreaFlags::VPAGES) {
            self.free_array_area(area);
        } else {
            // SAFETY: the area is gone, and with it the only user of its array.
            let freed = unsafe { self.slabs().kfree(area.frames.cast()) };
            debug_assert!(freed.is_ok());
        }
    }
}
