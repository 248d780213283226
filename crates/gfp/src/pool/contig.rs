//! Certain frames, and many side by side: the range allocator with all that can make room (P500).

use crate::flags::{Entry, GFP_KERNEL, Gfp};
use crate::frame::{NodeId, Pfn, PhysAddr};
use crate::page::{ContigError, IsolateMode, MemoryAnswer, MemoryEvent, Mover, PageRequest};
use crate::page::{RemoveMemoryError, RemovedMemory};
use crate::platform::Platform;
use crate::slab::Slabs;
use core::ops::Range;

/// P500: what pages are moved to, by the flags of who wants their frames.
fn target_flags(gfp: Gfp) -> Gfp {
    let effort = gfp.intersection(GFP_KERNEL | Gfp::NOWARN);
    effort | Gfp::MOVABLE | Gfp::RETRY_MAYFAIL
}

fn mover<P: Platform>(slabs: &Slabs<P>, gfp: Gfp, node: Option<NodeId>) -> impl Mover<P> + '_ {
    let gfp = target_flags(gfp);
    slabs
        .reclaim()
        .mover(move |order| slabs.alloc_pages(&PageRequest::new(gfp, order).at(node)))
}

/// Exactly these frames.
///
/// # Errors
/// Why they are not to be had.
pub(crate) fn alloc_range<P: Platform>(
    slabs: &Slabs<P>,
    range: Range<Pfn>,
    gfp: Gfp,
    mode: IsolateMode,
) -> Result<(), ContigError> {
    let pages = slabs.pages();
    let node = pages.place_of(range.start).map(|(node, _)| node);
    let mover = mover(slabs, gfp, node);
    pages.alloc_contig_range(range, gfp, mode, &mover)
}

/// So many frames side by side.
///
/// # Errors
/// Why they are not to be had.
pub(crate) fn alloc_pages<P: Platform>(
    slabs: &Slabs<P>,
    pages: usize,
    gfp: Gfp,
    node: Option<NodeId>,
) -> Result<Pfn, ContigError> {
    gfp.check_for(Entry::Contig)
        .map_err(ContigError::BadFlags)?;
    let req = PageRequest::new(gfp, crate::frame::Order::ZERO).at(node);
    let mover = mover(slabs, gfp, node);
    slabs.pages().alloc_contig_pages(pages, &req, &mover)
}

/// Takes memory out of the machine. P519: what is in it moves to another node, if there is one.
///
/// # Errors
/// Why it stays.
pub(crate) fn remove_memory<P: Platform>(
    slabs: &Slabs<P>,
    start: PhysAddr,
    end: PhysAddr,
    listen: &mut dyn FnMut(MemoryEvent) -> MemoryAnswer,
) -> Result<RemovedMemory, RemoveMemoryError> {
    let pages = slabs.pages();
    let here = pages.place_of(start.pfn()).map(|(node, _)| node);
    let other = pages.nodes().find(|node| Some(*node) != here);
    let mover = mover(slabs, GFP_KERNEL, other.or(here));
    pages.remove_memory(start, end, &mover, listen)
}
