//! The memory map that the allocator boots with.
//!
//! 1. **Concepts.** *Listed* is what firmware calls RAM. *Taken* is what the kernel's image, the
//!    loader and ACPI lie in. *Usable* is RAM that nothing forbids. *Hot-pluggable* is what SRAT
//!    announces as such and firmware's map does not list: memory that may come.
//! 2. **Algorithm.** One sweep: a cursor jumps from one border of any range to the next; between
//!    two borders every page has the same answer, and equal neighbours are joined. Nothing is
//!    sorted and nothing stored but the result, so the input may be in any order and overlap.
//! 3. **Rounding.** Ranges that allow shrink to whole pages, ranges that forbid grow to them,
//!    borders of nodes go down to a page.
//! 4. **Who wins.** Not RAM over RAM, taken over RAM, the first entry of SRAT over later ones.
//! 5. **Failure.** There is none. More regions than fit: the smallest are given up, and `lost`
//!    counts them.

use super::acpi::{MemoryAffinity, Plug};
use super::list::List;
use super::nodes::Nodes;
use super::pvh::{E820, E820Kind};
use super::span::Span;
use gfp::frame::{NodeId, PAGE_SIZE, PhysAddr};
use gfp::page::{MemoryRegion, RegionKind};

/// Usable regions that are kept: half of the extents that the allocator can hold, as zones cut
/// regions in parts.
pub const MAX_REGIONS: usize = 32;
/// Hot-pluggable ranges that are kept.
pub const MAX_HOT: usize = 16;
/// The first MiB is never usable: interrupt vectors, BIOS data, video memory, ROM, the page where
/// other CPUs start.
pub const LOW_END: PhysAddr = PhysAddr(1 << 20);
/// No memory is used from here on: the allocator numbers at most 2^32 - 1 frames, and counts the
/// last 4 MiB as a whole.
pub const HIGHEST_END: PhysAddr = PhysAddr((1 << 44) - (4 << 20));

/// What the regions are made of. Lists may be in any order, and their ranges may overlap.
#[derive(Copy, Clone, Debug)]
pub struct Sources<'a> {
    /// Firmware's map.
    pub firmware: &'a [E820],
    /// Memory in SRAT.
    pub affinity: &'a [MemoryAffinity],
    /// Ranges that are in use.
    pub taken: &'a [Span],
    /// The nodes.
    pub nodes: &'a Nodes,
    /// First address that cannot be used, whatever else is said: the end of the direct map.
    pub top: PhysAddr,
}

/// A range in which memory may appear later.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct HotRange {
    /// The addresses, whole pages.
    pub span: Span,
    /// The node that firmware announces; a module may name another one.
    pub node: NodeId,
}

/// The result: sorted, in whole pages, without overlap.
#[derive(Clone, Debug)]
pub struct Regions {
    /// RAM that is free for use, split where nodes meet.
    pub usable: List<MemoryRegion, MAX_REGIONS>,
    /// Where memory may appear later.
    pub hot: List<HotRange, MAX_HOT>,
    /// Bytes of pages that firmware lists as RAM and that are not usable: taken, low, above the
    /// top, shared with something else, or given up.
    pub lost: u64,
}

/// What the pages between two borders are.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Class {
    Usable(NodeId),
    Hot(NodeId),
    /// RAM that must be left alone.
    Lost,
    Other,
}

impl Sources<'_> {
    /// The regions of this machine.
    pub fn regions(&self) -> Regions {
        let nothing = MemoryRegion {
            start: PhysAddr(0),
            end: PhysAddr(0),
            node: NodeId(0),
            kind: RegionKind::Reserved,
        };
        let nowhere = HotRange {
            span: Span::EMPTY,
            node: NodeId(0),
        };
        let mut regions = Regions {
            usable: List::new(nothing),
            hot: List::new(nowhere),
            lost: 0,
        };
        let mut at = PhysAddr(0);
        while let Some(end) = self.next_border(at) {
            let span = Span { start: at, end };
            match self.class(at) {
                Class::Usable(node) => regions.add_usable(span, node),
                Class::Hot(node) => regions.add_hot(span, node),
                Class::Lost => regions.lost = regions.lost.saturating_add(span.bytes()),
                Class::Other => {}
            }
            at = end;
        }
        regions
    }

    /// The lowest page from 32 KiB on in which other CPUs can start: RAM below 640 KiB that nothing
    /// lies in. It stays theirs: nothing below [`LOW_END`] is usable.
    pub fn start_page(&self) -> Option<PhysAddr> {
        let free = |at: PhysAddr| {
            let mut listed = self.firmware.iter().filter(|e| grown(e).covers(at));
            listed.clone().all(|e| e.kind == E820Kind::Ram)
                && listed.any(|e| shrunk(e).covers(at))
                && !self.taken.iter().any(|t| t.outward().covers(at))
        };
        let pages = (0x8000..0xa_0000).step_by(PAGE_SIZE);
        pages.map(PhysAddr).find(|at| free(*at))
    }

    /// The first address that may not be used, by the caller and by the allocator.
    fn top(&self) -> PhysAddr {
        let top = Span {
            start: PhysAddr(0),
            end: self.top.min(HIGHEST_END),
        };
        top.inward().end
    }

    /// What the page at `at` is; all pages up to the next border are the same.
    fn class(&self, at: PhysAddr) -> Class {
        let mut listed = self
            .firmware
            .iter()
            .filter(|e| grown(e).covers(at))
            .peekable();
        let unlisted = listed.peek().is_none();
        let mut ram = false;
        for entry in listed {
            if entry.kind != E820Kind::Ram {
                return Class::Other;
            }
            ram |= shrunk(entry).covers(at);
        }
        let free =
            at >= LOW_END && at < self.top() && !self.taken.iter().any(|t| t.outward().covers(at));
        let near = self.affinity.iter().find(|a| a.span.floored().covers(at));
        let node = near.map_or(NodeId(0), |a| self.nodes.of_domain(a.domain));
        let hot = near.is_some_and(|a| a.plug == Plug::Hot && a.span.inward().covers(at));
        match (unlisted, free) {
            (true, true) if hot => Class::Hot(node),
            (true, _) => Class::Other,
            (false, true) if ram => Class::Usable(node),
            (false, _) => Class::Lost,
        }
    }

    /// The nearest border above `at`; `None` above the last one.
    fn next_border(&self, at: PhysAddr) -> Option<PhysAddr> {
        let ends = |span: Span| [span.start, span.end];
        let firmware = self.firmware.iter().flat_map(|e| [grown(e), shrunk(e)]);
        let affinity = self
            .affinity
            .iter()
            .flat_map(|a| [a.span.floored(), a.span.inward()]);
        let taken = self.taken.iter().map(|t| t.outward());
        let spans = firmware.chain(affinity).chain(taken);
        let borders = spans.flat_map(ends).chain([LOW_END, self.top()]);
        borders.filter(|b| *b > at).min()
    }
}

/// The pages that an entry has a part in.
fn grown(entry: &E820) -> Span {
    Span::clamped(entry.start, entry.len).map_or(Span::EMPTY, Span::outward)
}

/// The pages that an entry allows to use: none if it wraps.
fn shrunk(entry: &E820) -> Span {
    Span::new(entry.start, entry.len).map_or(Span::EMPTY, Span::inward)
}

impl Regions {
    /// The end of all memory that is there or may come: what the direct map must show.
    pub fn end(&self) -> PhysAddr {
        let usable = self.usable.iter().map(|r| r.end);
        let hot = self.hot.iter().map(|h| h.span.end);
        usable.chain(hot).max().unwrap_or(PhysAddr(0))
    }

    fn add_usable(&mut self, span: Span, node: NodeId) {
        if let Some(last) = self.usable.last_mut()
            && (last.end, last.node) == (span.start, node)
        {
            last.end = span.end;
            return;
        }
        let region = MemoryRegion {
            start: span.start,
            end: span.end,
            node,
            kind: RegionKind::Usable,
        };
        if self.usable.push(region).is_ok() {
            return;
        }
        let size = |r: &MemoryRegion| r.end.0 - r.start.0;
        let smallest = self.usable.iter().enumerate().min_by_key(|(_, r)| size(r));
        match smallest.map(|(i, r)| (i, size(r))) {
            Some((index, bytes)) if bytes < span.bytes() => {
                self.usable.remove(index);
                self.lost = self.lost.saturating_add(bytes);
                self.add_usable(span, node);
            }
            _ => self.lost = self.lost.saturating_add(span.bytes()),
        }
    }

    fn add_hot(&mut self, span: Span, node: NodeId) {
        if let Some(last) = self.hot.last_mut()
            && (last.span.end, last.node) == (span.start, node)
        {
            last.span.end = span.end;
            return;
        }
        // Without a place for it, memory that appears there is refused; nothing else depends on it.
        let _ = self.hot.push(HotRange { span, node });
    }
}
