//! A disk: sectors through one block of coherent memory.
//!
//! ```text
//!   0                                         DATA_BYTES     + page
//!  +-----------------------------------------+--------------+
//!  | data of the request                     | request, reply|
//!  +-----------------------------------------+--------------+
//! ```

use super::buffer::Buffer;
use super::hal::GfpHal;
use super::{OpenError, pci};
use crate::arch::time;
use core::sync::atomic::AtomicBool;
use gfp::frame::PAGE_SIZE;
use gfp::pool::dma::{DmaAddr, DmaDevice};
use virtio_drivers::device::blk::{BlkReq, BlkResp, VirtIOBlk};
use virtio_drivers::transport::DeviceType;
use virtio_drivers::transport::pci::PciTransport;
use virtio_drivers::{Error, device};

/// Bytes in a sector.
pub const SECTOR_BYTES: usize = device::blk::SECTOR_SIZE;

/// Bytes that one request moves at most: with the page behind it the buffer is of order 3.
const DATA_BYTES: usize = 7 * PAGE_SIZE;
const REPLY_AT: usize = DATA_BYTES + 64;
const BUFFER_BYTES: usize = DATA_BYTES + PAGE_SIZE;
const _: () = assert!(size_of::<BlkReq>() <= 64 && DATA_BYTES.is_multiple_of(SECTOR_BYTES));

/// How long a disk may think.
const PATIENCE_NS: u64 = 10_000_000_000;

static TAKEN: AtomicBool = AtomicBool::new(false);

/// A virtio disk. The order of the fields is the order in which they go: the device is reset before
/// its memory is freed.
pub struct Disk {
    driver: VirtIOBlk<GfpHal, PciTransport>,
    buffer: Buffer,
    _claim: pci::Claim,
}

enum Way {
    Read,
    Write,
}

impl Disk {
    /// Opens the first disk, with a buffer that `device` reaches: the disk itself reaches all
    /// memory, but another device that shares the buffer may not.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(device: &DmaDevice) -> Result<Disk, OpenError> {
        let (transport, claim) = pci::open(DeviceType::Block, &TAKEN)?;
        let mut driver = VirtIOBlk::new(transport)?;
        driver.disable_interrupts();
        Ok(Disk {
            driver,
            buffer: Buffer::new(device, BUFFER_BYTES)?,
            _claim: claim,
        })
    }

    /// How many sectors it has.
    pub fn sectors(&self) -> u64 {
        self.driver.capacity()
    }

    /// Where the disk finds the buffer.
    pub fn buffer_dma(&self) -> DmaAddr {
        self.buffer.dma()
    }

    /// Reads from sector `first` on.
    ///
    /// # Errors
    /// [`Error::InvalidParam`]: not whole sectors, or beyond the end; what the disk says.
    pub fn read(&mut self, first: u64, out: &mut [u8]) -> Result<(), Error> {
        self.check(first, out.len())?;
        for (n, part) in out.chunks_mut(DATA_BYTES).enumerate() {
            let sector = first + (n * DATA_BYTES / SECTOR_BYTES) as u64;
            self.request(Way::Read, sector, part.len())?;
            part.copy_from_slice(&self.buffer.bytes()[..part.len()]);
        }
        Ok(())
    }

    /// Writes from sector `first` on.
    ///
    /// # Errors
    /// As [`Disk::read`].
    pub fn write(&mut self, first: u64, data: &[u8]) -> Result<(), Error> {
        self.check(first, data.len())?;
        for (n, part) in data.chunks(DATA_BYTES).enumerate() {
            let sector = first + (n * DATA_BYTES / SECTOR_BYTES) as u64;
            self.buffer.bytes()[..part.len()].copy_from_slice(part);
            self.request(Way::Write, sector, part.len())?;
        }
        Ok(())
    }

    fn check(&self, first: u64, bytes: usize) -> Result<(), Error> {
        let sectors = (bytes / SECTOR_BYTES) as u64;
        let inside = first
            .checked_add(sectors)
            .is_some_and(|end| end <= self.sectors());
        match inside && bytes.is_multiple_of(SECTOR_BYTES) {
            true => Ok(()),
            false => Err(Error::InvalidParam),
        }
    }

    /// One request over the first `bytes` of the buffer; returns when the disk has answered.
    fn request(&mut self, way: Way, sector: u64, bytes: usize) -> Result<(), Error> {
        let sector = sector as usize;
        let request = self.buffer.at(DATA_BYTES).cast::<BlkReq>();
        let reply = self.buffer.at(REPLY_AT).cast::<BlkResp>();
        // SAFETY: both lie in the buffer behind the data, apart, and aligned to 64 bytes; the disk
        // has answered the request before.
        let (request, reply, data) = unsafe {
            request.write(BlkReq::default());
            reply.write(BlkResp::default());
            let data = core::slice::from_raw_parts_mut(self.buffer.at(0).as_ptr(), bytes);
            (&mut *request.as_ptr(), &mut *reply.as_ptr(), data)
        };
        let driver = &mut self.driver;
        // SAFETY: the three parts stay where they are and untouched until the disk has answered; if
        // it does not, `wait` does not return.
        unsafe {
            match way {
                Way::Read => {
                    let token = driver.read_blocks_nb(sector, request, data, reply)?;
                    wait(driver);
                    driver.complete_read_blocks(token, request, data, reply)
                }
                Way::Write => {
                    let token = driver.write_blocks_nb(sector, request, data, reply)?;
                    wait(driver);
                    driver.complete_write_blocks(token, request, data, reply)
                }
            }
        }
    }
}

fn wait(driver: &mut VirtIOBlk<GfpHal, PciTransport>) {
    let limit = time::now_ns() + PATIENCE_NS;
    while driver.peek_used().is_none() {
        assert!(time::now_ns() < limit, "the disk does not answer");
        core::hint::spin_loop();
    }
}
