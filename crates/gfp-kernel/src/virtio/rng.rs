//! Random bytes from the host.

use super::buffer::Buffer;
use super::hal::GfpHal;
use super::{DEVICE, OpenError, pci};
use core::sync::atomic::AtomicBool;
use gfp::frame::PAGE_SIZE;
use virtio_drivers::Error;
use virtio_drivers::device::rng::VirtIORng;
use virtio_drivers::transport::DeviceType;
use virtio_drivers::transport::pci::PciTransport;

static TAKEN: AtomicBool = AtomicBool::new(false);

/// A virtio source of random bytes. The order of the fields is the order in which they go: the
/// device is reset before its memory is freed.
pub struct Rng {
    driver: VirtIORng<GfpHal, PciTransport>,
    buffer: Buffer,
    _claim: pci::Claim,
}

impl Rng {
    /// Opens it.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open() -> Result<Rng, OpenError> {
        let (transport, claim) = pci::open(DeviceType::EntropySource, &TAKEN)?;
        let mut driver = VirtIORng::new(transport)?;
        driver.disable_interrupts();
        Ok(Rng {
            driver,
            buffer: Buffer::new(&DEVICE, PAGE_SIZE)?,
            _claim: claim,
        })
    }

    /// Fills `out`.
    ///
    /// Waits for the device as long as it takes: the driver does, too.
    ///
    /// # Errors
    /// What the driver says; [`Error::IoError`]: an answer without a byte.
    pub fn fill(&mut self, mut out: &mut [u8]) -> Result<(), Error> {
        while !out.is_empty() {
            let part = out.len().min(PAGE_SIZE);
            let shared = &mut self.buffer.bytes()[..part];
            let got = self.driver.request_entropy(shared)?.min(part);
            if got == 0 {
                return Err(Error::IoError);
            }
            let (done, rest) = out.split_at_mut(got);
            done.copy_from_slice(&shared[..got]);
            out = rest;
        }
        Ok(())
    }
}
