//! What `virtio-drivers` asks of a kernel, answered by gfp.

use super::{DEVICE, buffer};
use crate::arch::phys_to_ptr;
use crate::controls::{Control, broken};
use crate::memory::mm;
use core::ptr::NonNull;
use gfp::frame::{PAGE_SIZE, PhysAddr};
use gfp::pool::dma::DmaAddr;
use gfp::report::Owner;
use virtio_drivers::{BufferDirection, Hal};

/// Physical addresses below this one are seen in the direct map, devices included (INV-KERNEL-5).
pub(super) const SHOWN_END: u64 = 4 << 30;

/// gfp, as the drivers see it.
pub(super) struct GfpHal;

// SAFETY: `dma_alloc` gives blocks of gfp: whole pages, zeroed, nobody else's until they are freed.
// `mmio_phys_to_virt` gives addresses of the direct map, where nobody has references to registers.
unsafe impl Hal for GfpHal {
    fn dma_alloc(pages: usize, _direction: BufferDirection) -> (u64, NonNull<u8>) {
        match mm().dma_alloc_coherent(&DEVICE, pages * PAGE_SIZE, buffer::flags()) {
            Ok((ptr, dma)) => (dma.0, ptr),
            Err(_) => (0, NonNull::dangling()), // 0 is how the driver wants to be told
        }
    }

    unsafe fn dma_dealloc(dma: u64, ptr: NonNull<u8>, pages: usize) -> i32 {
        let bytes = pages * PAGE_SIZE;
        // SAFETY: [INV-VIRTIO-1] the driver resets the device before it drops its rings.
        unsafe { mm().dma_free_coherent(&DEVICE, bytes, ptr.as_ptr(), DmaAddr(dma)) }
        0
    }

    unsafe fn mmio_phys_to_virt(phys: u64, bytes: usize) -> NonNull<u8> {
        assert!(phys + bytes as u64 <= SHOWN_END, "`pci::open` looks first");
        NonNull::new(phys_to_ptr(phys)).expect("the direct map does not begin at address 0")
    }

    /// The device's address of a part of a coherent block; of anything else, a panic: the drivers
    /// here give nothing else to a device.
    unsafe fn share(part: NonNull<[u8]>, _direction: BufferDirection) -> u64 {
        let (start, bytes) = (part.addr().get(), part.len());
        let block = mm().with_owner_of(start, |owner| match owner {
            Owner::DmaCoherent { start, size } => start..start + size,
            _ => 0..0,
        });
        let inside = block.contains(&start) && start + bytes <= block.end;
        assert!(inside, "a device is given coherent memory only");
        let mut phys = mm().pages().direct_map().phys(start);
        if broken(Control::Share) && block.len() > PAGE_SIZE {
            phys = PhysAddr(phys.0 ^ PAGE_SIZE as u64); // another page of the block
        }
        DEVICE.address_of(phys, bytes).expect("it reaches all").0
    }

    unsafe fn unshare(_dma: u64, _part: NonNull<[u8]>, _direction: BufferDirection) {
        // Coherent memory is seen as the device left it.
    }
}
