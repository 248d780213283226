//! Memory for devices.

use super::Mm;
use crate::error::AllocError;
use crate::flags::Gfp;
use crate::platform::Platform;
use crate::pool::dma::{DmaAddr, DmaDevice, alloc_coherent, free_coherent};
use crate::report::Caller;
use core::ptr::NonNull;

impl<P: Platform> Mm<P> {
    /// `size` bytes that a device reaches, and the address by which it does
    /// (`dma_alloc_coherent`; G10, M10).
    ///
    /// They read as zero, are physically contiguous, and aligned for CPU and device to the smallest
    /// block of pages that holds them. The zone follows from the device; zone bits in `gfp` are
    /// ignored.
    ///
    /// Context: any that is not inside the allocator already; may wait only with `DIRECT_RECLAIM`.
    ///
    /// # Errors
    /// No memory; [`AllocError::OutOfReach`]; a size of 0, or above 4 MiB; flags with `COMP`.
    ///
    /// ```
    /// # use gfp::{flags::GFP_KERNEL, frame::*, page::*, platform::*, Mm};
    /// use gfp::pool::dma::{DmaDevice, DmaMask};
    /// # let layout = std::alloc::Layout::from_size_align(32 << 20, 4 << 20)?;
    /// # let ram = unsafe { std::alloc::alloc(layout) };
    /// # let (start, end) = (PhysAddr(0), PhysAddr(32 << 20));
    /// # let map = [MemoryRegion { start, end, node: NodeId(0), kind: RegionKind::Usable }];
    /// # let platform = unsafe { SingleCore::new(DirectMap::new(ram, PhysAddr(0))) };
    /// # let mm = Mm::boot(platform, &map, &BootConfig::default())?;
    ///
    /// // A sound card from the time of ISA: it drives 24 address lines.
    /// let card = DmaDevice::new(DmaMask::bits(24));
    /// let (buffer, dma) = mm.dma_alloc_coherent(&card, 8192, GFP_KERNEL)?;
    /// assert!(dma.0 + 8192 <= 16 << 20);
    /// // SAFETY: the card was never told of the buffer.
    /// unsafe { mm.dma_free_coherent(&card, 8192, buffer.as_ptr(), dma) };
    /// # drop(mm);
    /// # unsafe { std::alloc::dealloc(ram, layout) };
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn dma_alloc_coherent(
        &self,
        device: &DmaDevice,
        size: usize,
        gfp: Gfp,
    ) -> Result<(NonNull<u8>, DmaAddr), AllocError> {
        self.enters(gfp);
        let block = alloc_coherent(self.slabs(), device, size, gfp)?;
        Ok((self.page_address(block.pfn), block.dma))
    }

    /// Frees what [`Mm::dma_alloc_coherent`] gave for the same device and size
    /// (`dma_free_coherent`; M10); null is ignored. Another size or device address, a double,
    /// interior or wild free is reported and ignored.
    ///
    /// Context: any, also with interrupts off, where Linux's must not be called; inside the
    /// allocator the free is put off.
    ///
    /// # Safety
    /// Neither the CPU nor the device may use the memory any more.
    #[track_caller]
    pub unsafe fn dma_free_coherent(
        &self,
        device: &DmaDevice,
        size: usize,
        ptr: *mut u8,
        dma: DmaAddr,
    ) {
        if ptr.is_null() {
            return;
        }
        // SAFETY: promised by the caller.
        let result = unsafe { free_coherent(self.slabs(), device, size, ptr.addr(), dma) };
        self.freed(result, ptr.addr(), Caller::here());
    }
}
