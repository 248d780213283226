//! Memory that boot leaves for later (P275, P722).
//!
//! 1. **Concept.** Before a frame is given to a zone its word must read as zero. Where memory is
//!    not known to be zero that is 2 MiB to clear for each GiB, so boot does it only for what is
//!    needed soon: all lower zones, and [`BootConfig::at_once_bytes`](super::BootConfig) of each
//!    node's highest zone. What lies behind is *the rest*: RAM that is in no zone yet. To
//!    everybody it is like a hole.
//! 2. **Structure.** The rest begins at the border of the frame table and ends where the last
//!    [`Part`] does; a part is what one zone will get. As the border is one number, the rest is
//!    taken in by address, and who looks at a frame's word pays nothing for it.
//! 3. **Who takes it in.** A request whose zone has too little, a stretch at a time, before it
//!    goes to another zone or to the slow path; who names frames of it (isolation, contiguous
//!    ranges, hotplug), up to there; and the machine, all of it, when its CPUs run
//!    ([`PageAllocator::take_in_rest`]).
//! 4. **How.** Under the lock of plugging: words, border, zones of pageblocks, and then the frames
//!    are freed as in `plug`. Watermarks and what else follows from the amount of memory are
//!    computed anew, as boot would have computed them ([`MinFreeRule::Boot`]).
//! 5. **What is seen.** Until then the rest is neither present nor managed, and so not in
//!    `MemTotal`; [`PageAllocator::rest_pages`] is what is left.
//! 6. **What it does not do.** Nodes are not taken in side by side: the rest of a node waits for
//!    those at lower addresses, so only the last has much of it. ZONE_MOVABLE stands at the end of
//!    its node and counts as part of the zone before it.

use super::boot::first_with_address;
use super::map::{BootConfig, Extent, Extents};
use super::tuning::MinFreeRule;
use super::zone::Zone;
use super::{PageAllocator, PageRequest};
use crate::flags::ZoneKind;
use crate::frame::{MAX_NODES, NodeId, Order, PAGE_SHIFT, PAGEBLOCK_ORDER, Pfn};
use crate::platform::Platform;
use crate::policy::watermark::AllocFlags;
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::{Carved, Local};
use core::ops::Range;

/// Frames that are taken in under one hold of the lock of plugging: 128 MiB.
const STRETCH_PAGES: usize = 32 * Order::MAX.pages();
/// The same where their memory is cleared too.
const STRETCH_PAGES_CLEARED: usize = 2 * Order::MAX.pages();

/// Beside the bits of nodes in `reclaimed_nodes`, which requests look at anyway: boot left memory
/// that is not taken in yet.
pub(super) const REST: usize = 1 << (usize::BITS - 1);
const _: () = assert!(MAX_NODES < usize::BITS as usize);

/// What one zone will get.
pub(super) struct Part {
    pub(super) zone: u8,
    pub(super) start: Pfn,
    pub(super) end: Pfn,
}

/// What boot left.
pub(super) struct Rest {
    /// By address.
    parts: Carved<Part>,
    /// Where the last part ends; frame 0: there is none.
    end: Pfn,
    /// Frames with the machine's tables, which are never free.
    tables: Range<Pfn>,
}

impl Rest {
    pub(super) fn new(parts: Carved<Part>, tables: Range<Pfn>) -> Rest {
        let end = parts.last().map_or(Pfn(0), |part| part.end);
        Rest { parts, end, tables }
    }

    /// [`REST`] if there is something.
    pub(super) fn mark(&self, border: Pfn) -> usize {
        match border < self.end {
            true => REST,
            false => 0,
        }
    }

    /// Where the rest of a zone ends, if it had one at boot.
    fn end_for(&self, zone: &Zone) -> Option<Pfn> {
        let mut parts = self.parts.iter().rev();
        parts.find(|part| part.zone == zone.id).map(|part| part.end)
    }

    /// What of a range can be free: all but the tables.
    fn usable(&self, start: Pfn, end: Pfn) -> [Range<Pfn>; 2] {
        [
            start..end.min(self.tables.start),
            start.max(self.tables.end)..end,
        ]
    }
}

/// The frames before this one are taken in by boot; a multiple of the largest order.
pub(super) fn first_end(extents: &Extents, config: &BootConfig) -> Pfn {
    let end = extents.present().map(|e| e.end).max().unwrap_or_default();
    let whole = Pfn(end.0.next_multiple_of(Order::MAX.pages()));
    if config.memory_is_zero {
        return whole;
    }
    let at_once = usize::try_from(config.at_once_bytes >> PAGE_SHIFT).unwrap_or(usize::MAX);
    let at_once = at_once.max(Order::MAX.pages());
    let mut first = Pfn(0);
    for node in (0..MAX_NODES as u8).map(NodeId) {
        let its = || extents.present().filter(|e| e.node == node);
        let ordinary = its().filter(|e| e.kind != ZoneKind::Movable);
        let highest = ordinary.map(|e| e.kind).max();
        let mut left = at_once;
        for e in its() {
            let pages = e.end.0 - e.start.0;
            let taken = match Some(e.kind) < highest {
                true => pages,
                false => pages.min(left),
            };
            if taken > 0 {
                first = first.max(e.start.add(taken));
            }
            if Some(e.kind) >= highest {
                left -= taken;
            }
        }
    }
    Pfn(first.0.next_multiple_of(Order::MAX.pages())).min(whole)
}

/// What boot does not take in, or not all of it.
pub(super) fn left(extents: &Extents, first_end: Pfn) -> impl Iterator<Item = &Extent> {
    let is_left = move |e: &&Extent| e.start < e.end && e.end > first_end;
    extents.present().filter(is_left)
}

impl<P: Platform> PageAllocator<P> {
    /// Takes in all memory that boot left for later ([`BootConfig::at_once_bytes`]), as Linux does
    /// when its CPUs run (`page_alloc_init_late`). Returns the pages that are managed since.
    ///
    /// Context: task, outside of the allocator. Allocations may run meanwhile. CPUs are kept out of
    /// a zone for at most 128 MiB at a time.
    pub fn take_in_rest(&self) -> usize {
        self.take_in_up_to(self.rest.end)
    }

    /// Pages that boot left for later and that nobody has taken in yet; they are not managed.
    pub fn rest_pages(&self) -> usize {
        let border = self.frames.border();
        let usable = |part: &Part| self.rest.usable(part.start.max(border), part.end);
        let ranges = self.rest.parts.iter().flat_map(usable);
        ranges.map(|r| r.end.0.saturating_sub(r.start.0)).sum()
    }

    /// True if a frame is part of what is left.
    pub(super) fn is_rest(&self, pfn: Pfn) -> bool {
        let mut parts = self.rest.parts.iter();
        pfn >= self.frames.border() && parts.any(|part| (part.start..part.end).contains(&pfn))
    }

    /// Takes in frames that somebody names, if they were left.
    ///
    /// Context: outside of sections.
    pub(super) fn take_in_named(&self, range: &Range<Pfn>) {
        let last = Pfn(range.end.0.saturating_sub(1));
        if range.start < range.end && (self.is_rest(range.start) || self.is_rest(last)) {
            self.take_in_up_to(range.end.min(self.rest.end));
        }
    }

    /// Takes in what lies before `end`: the words of all these frames are there then, also those of
    /// memory that is to be plugged in. Returns the pages that are managed since.
    ///
    /// Context: outside of sections.
    pub(super) fn take_in_up_to(&self, end: Pfn) -> usize {
        let mut pages = 0;
        if end <= self.frames.border() {
            return pages;
        }
        // Each stretch in a section of its own.
        while let Some(more) = self.take_in_stretch(&self.enter_again(), end) {
            pages += more;
        }
        if pages > 0 {
            let local = self.enter_again();
            let _plugging = self.plugging.lock(&local);
            self.retune(MinFreeRule::Boot);
        }
        pages
    }

    /// True if boot left memory that is not free yet.
    pub(super) fn has_rest(&self) -> bool {
        // Relaxed: who misses it looks again in the slow path.
        self.reclaimed_nodes.load(Relaxed) & REST != 0
    }

    /// P275: [`PageAllocator::alloc_local`] while there is a rest: before the next zone is looked
    /// at, more of this one is taken in.
    pub(super) fn alloc_amid_rest(
        &self,
        local: &Local<'_, P>,
        req: &PageRequest,
        flags: AllocFlags,
    ) -> Option<Pfn> {
        let (highest, kind) = (self.highest(req.gfp), self.mobility(req.gfp));
        let preferred = self.candidates(req).next()?;
        for zone in self.candidates(req) {
            if !core::ptr::eq(zone, preferred) && self.stays_near(zone, preferred, flags) {
                continue;
            }
            let take = || self.take(local, zone, req.order, kind, highest, flags, preferred);
            let mut found = take();
            let mut more = self.rest.end_for(zone);
            while let Some(end) = more.filter(|_| found.is_none()) {
                // What another CPU took in is free once we had the lock: so there is a last look.
                more = more.filter(|_| self.take_in_next(local, end));
                found = take();
            }
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// Takes in the next stretch before `end`, and computes what follows. False if there was none.
    fn take_in_next(&self, local: &Local<'_, P>, end: Pfn) -> bool {
        let more = self.take_in_stretch(local, end).is_some();
        if more {
            let _plugging = self.plugging.lock(local);
            self.retune(MinFreeRule::Boot);
        }
        more
    }

    /// Takes in the next stretch before `limit`. Returns its pages; `None` if there is none.
    fn take_in_stretch(&self, local: &Local<'_, P>, limit: Pfn) -> Option<usize> {
        let _plugging = self.plugging.lock(local);
        let from = self.frames.border();
        let most = match self.config.init_on_free {
            true => STRETCH_PAGES_CLEARED,
            false => STRETCH_PAGES,
        };
        let to = from.add(most).min(limit).0;
        let to = Pfn(to.next_multiple_of(Order::MAX.pages()));
        if to <= from || from >= self.frames.base().add(self.frames.len()) {
            return None;
        }
        self.frames.clear_up_to(to);
        let mut pages = 0;
        for part in self.rest.parts.iter() {
            let zone = &self.zones[usize::from(part.zone)];
            pages += self.join(local, zone, part.start.max(from), part.end.min(to));
        }
        if to >= self.rest.end {
            // Last of all. Relaxed: who still sees it takes the way that finds nothing to take in.
            self.reclaimed_nodes.fetch_and(!REST, Relaxed);
        }
        Some(pages)
    }

    /// Makes frames that are there, and whose words are, part of a zone, and frees what of them is
    /// usable. Returns how many those are.
    pub(super) fn join(&self, local: &Local<'_, P>, zone: &Zone, start: Pfn, end: Pfn) -> usize {
        if start >= end {
            return 0;
        }
        let first = (start.0 >> PAGEBLOCK_ORDER) - self.blocks.first;
        let last = ((end.0 - 1) >> PAGEBLOCK_ORDER) - self.blocks.first;
        let blocks = &self.blocks.blocks[first..=last];
        blocks.iter().for_each(|block| block.set_zone(zone.id));
        zone.extend(start, end);
        let mut pages = 0;
        for range in self.rest.usable(start, end) {
            let start = first_with_address(range.start, self.map);
            if start < range.end {
                self.add_frames(local, zone, start, range.end);
                pages += range.end.0 - start.0;
            }
        }
        pages
    }
}
