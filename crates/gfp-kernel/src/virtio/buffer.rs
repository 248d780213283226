//! Memory that the CPU and a device share.

use crate::memory::mm;
use core::ptr::NonNull;
use gfp::AllocError;
use gfp::flags::{GFP_ATOMIC, GFP_KERNEL, Gfp};
use gfp::platform::{Context, Platform};
use gfp::pool::dma::{DmaAddr, DmaDevice};

/// A block of coherent memory. Freed when dropped: whoever gave its address to a device drops the
/// device first.
pub struct Buffer {
    device: DmaDevice,
    ptr: NonNull<u8>,
    dma: DmaAddr,
    bytes: usize,
}

// SAFETY: the block belongs to this value alone, wherever that goes.
unsafe impl Send for Buffer {}

impl Buffer {
    /// `bytes` zeroed bytes that the device reaches.
    ///
    /// # Errors
    /// As [`Mm::dma_alloc_coherent`](gfp::Mm::dma_alloc_coherent).
    pub fn new(device: &DmaDevice, bytes: usize) -> Result<Buffer, AllocError> {
        let (ptr, dma) = mm().dma_alloc_coherent(device, bytes, flags())?;
        Ok(Buffer {
            device: *device,
            ptr,
            dma,
            bytes,
        })
    }

    /// The device's address of the first byte.
    pub fn dma(&self) -> DmaAddr {
        self.dma
    }

    /// Where byte `at` is.
    ///
    /// # Panics
    /// If it is outside.
    pub fn at(&self, at: usize) -> NonNull<u8> {
        assert!(at < self.bytes, "outside of the buffer");
        // SAFETY: inside of the block.
        unsafe { self.ptr.add(at) }
    }

    /// The bytes. No device may have them: it must have answered.
    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the block is ours, was zeroed, and is this long.
        unsafe { core::slice::from_raw_parts_mut(self.ptr.as_ptr(), self.bytes) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: [INV-VIRTIO-1] the device is gone, and nobody else has the block.
        unsafe { mm().dma_free_coherent(&self.device, self.bytes, self.ptr.as_ptr(), self.dma) }
    }
}

/// What the context of the caller allows.
pub(super) fn flags() -> Gfp {
    match mm().platform().context() {
        Context::Task => GFP_KERNEL,
        _ => GFP_ATOMIC,
    }
}
