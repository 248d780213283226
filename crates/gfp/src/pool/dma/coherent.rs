//! Coherent memory: allocation by zone and mask, free.

use super::device::{DmaAddr, DmaDevice};
use crate::error::AllocError;
use crate::flags::{Entry, GFP_ZONE_MASK, Gfp, ZoneKind};
use crate::frame::{FrameKind, FrameWord, Order, PAGE_SIZE, Pfn};
use crate::page::PageRequest;
use crate::platform::Platform;
use crate::report::Misuse;
use crate::slab::Slabs;

/// A block of coherent memory.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct CoherentBlock {
    /// Its first frame.
    pub pfn: Pfn,
    /// Where the device sees it.
    pub dma: DmaAddr,
}

/// The zones that coherent memory may come from, highest first, and the flag that selects each.
const ZONES: [(ZoneKind, Gfp); 3] = [
    (ZoneKind::Normal, Gfp::NONE),
    (ZoneKind::Dma32, Gfp::DMA32),
    (ZoneKind::Dma, Gfp::DMA),
];

/// `size` bytes that the device reaches, zeroed, aligned for CPU and device to the smallest block
/// that holds them (M10).
///
/// Context: any that is not inside the allocator already; may wait only with `DIRECT_RECLAIM`.
///
/// # Errors
/// No memory; [`AllocError::OutOfReach`]; size 0 or above 4 MiB; flags with `COMP`. Zone bits are
/// ignored.
pub fn alloc_coherent<P: Platform>(
    slabs: &Slabs<P>,
    device: &DmaDevice,
    size: usize,
    gfp: Gfp,
) -> Result<CoherentBlock, AllocError> {
    let gfp = gfp.without(GFP_ZONE_MASK);
    gfp.check_for(Entry::DmaCoherent)?;
    if size == 0 {
        return Err(AllocError::ZeroSize);
    }
    let order = Order::for_bytes(size).ok_or(AllocError::TooLarge {
        max: Order::MAX.bytes(),
    })?;
    let pages = slabs.pages();
    for (kind, select) in ZONES {
        let mut zones = pages.zone_frames().filter(|(k, _)| *k == kind);
        if !zones.any(|(_, frames)| device.reaches_into(frames.start.phys(), frames.end.phys())) {
            continue;
        }
        let req = PageRequest::new(gfp | select | Gfp::ZERO, order).at(device.node());
        let pfn = slabs.alloc_pages(&req)?;
        if let Some(dma) = device.address_of(pfn.phys(), order.bytes()) {
            let word = FrameWord::new(FrameKind::DmaCoherent, order, size as u64);
            pages.set_word(pfn, word);
            return Ok(CoherentBlock { pfn, dma });
        }
        // SAFETY: [INV-PAGE-1] the block is ours, and nobody has seen it.
        let freed = unsafe { pages.free(pfn, order) };
        debug_assert!(freed.is_ok(), "it was allocated with this order");
    }
    Err(AllocError::OutOfReach)
}

/// Frees what [`alloc_coherent`] gave: the address of the block, with the same device and size, and
/// the device address that came with it.
///
/// Context: any; inside the allocator (an interrupt, a signal handler) the free is put off.
///
/// # Errors
/// The misuse; nothing is freed then.
///
/// # Safety
/// Neither the CPU nor the device may use the memory any more.
pub unsafe fn free_coherent<P: Platform>(
    slabs: &Slabs<P>,
    device: &DmaDevice,
    size: usize,
    addr: usize,
    dma: DmaAddr,
) -> Result<(), Misuse> {
    let pages = slabs.pages();
    let pfn = pages.pfn_of(addr);
    let word = pages.frames().get(pfn);
    match word.kind() {
        FrameKind::DmaCoherent => {}
        FrameKind::Page | FrameKind::Compound | FrameKind::Movable => {
            return Err(Misuse::WrongCall);
        }
        _ => return Err(pages.diagnose(pfn, Order::ZERO)),
    }
    let order = word.order();
    if !addr.is_multiple_of(PAGE_SIZE) {
        return Err(Misuse::InteriorFree);
    }
    if word.payload() != size as u64 {
        return Err(Misuse::WrongSize { freed_as: size });
    }
    if device.address_of(pfn.phys(), order.bytes()) != Some(dma) {
        return Err(Misuse::WrongDmaAddr { freed_as: dma.0 });
    }
    let page = FrameWord::new(FrameKind::Page, order, 1);
    if !pages.frames().replace(pfn, word, page) {
        return Err(Misuse::DoubleFree); // another free was faster
    }
    // SAFETY: promised by the caller; the block is an ordinary one again, with one reference, ours.
    unsafe { pages.free(pfn, order) }
}
