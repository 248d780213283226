//! Virtio devices over gfp: a source of random bytes and a disk, moving real data.
//!
//! 1. **What it shows.** A driver that knows nothing of gfp (the crate `virtio-drivers`) lives on
//!    `dma_alloc_coherent` alone: its rings come from there by the four calls of its `Hal`
//!    (`hal`), and every byte that a device reads or writes lies in such a block ([`Buffer`]).
//! 2. **Devices** are found on PCI bus 0 ([`pci`]) by their type, and are opened by one owner at a
//!    time. Their registers are reached through the direct map, which shows devices below 4 GiB;
//!    registers that the firmware put above are moved.
//! 3. **Waiting** is polling: the devices' interrupts stay off.
//! 4. **Memory.** [INV-VIRTIO-1] A device is given addresses of coherent blocks only. A block is
//!    freed after the device was reset, and read by the driver after the device has handed it back.
//! 5. **Failure.** [`OpenError`]; a request that the device refuses is the driver's error. A disk
//!    that does not answer is a panic, in which nothing is freed: it may still write. The driver of
//!    the random source waits for its answer for ever.

mod buffer;
mod disk;
mod hal;
pub mod pci;
mod rng;

pub use buffer::Buffer;
pub use disk::{Disk, SECTOR_BYTES};
pub use rng::Rng;
pub use virtio_drivers::Error;

use crate::println;
use gfp::AllocError;
use gfp::pool::dma::{DmaDevice, DmaMask};
use virtio_drivers::transport::pci::VirtioPciError;

/// What a modern virtio device reaches: everything.
pub const DEVICE: DmaDevice = DmaDevice::new(DmaMask::bits(64));

/// Why a device could not be opened.
#[derive(Clone, Debug)]
pub enum OpenError {
    /// There is none on bus 0.
    NotFound,
    /// Somebody has it open.
    Busy,
    /// The firmware put its registers above 4 GiB, where the direct map does not show them, and
    /// there is no room for them below.
    RegistersOutOfReach,
    /// It is no virtio device as the standard has it.
    Pci(VirtioPciError),
    /// It refused the driver, or there was no memory for its rings.
    Driver(Error),
    /// No memory for the buffer.
    Memory(AllocError),
}

impl From<VirtioPciError> for OpenError {
    fn from(error: VirtioPciError) -> OpenError {
        OpenError::Pci(error)
    }
}

impl From<Error> for OpenError {
    fn from(error: Error) -> OpenError {
        OpenError::Driver(error)
    }
}

impl From<AllocError> for OpenError {
    fn from(error: AllocError) -> OpenError {
        OpenError::Memory(error)
    }
}

/// The source of random bytes, if there is one that nobody uses.
pub fn rng() -> Option<Rng> {
    opened(Rng::open())
}

/// The first disk, if there is one that nobody uses.
pub fn disk() -> Option<Disk> {
    opened(Disk::open(&DEVICE))
}

/// Says why, if it is not simply that there is no such device.
fn opened<T>(result: Result<T, OpenError>) -> Option<T> {
    if let Err(error) = &result
        && !matches!(error, OpenError::NotFound)
    {
        println!("virtio: {error:?}");
    }
    result.ok()
}
