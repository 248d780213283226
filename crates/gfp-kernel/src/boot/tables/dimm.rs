//! The memory hot-plug controller of QEMU: which memory modules are in their slots.
//!
//! The registers are documented in QEMU's `docs/specs/acpi_mem_hotplug`:
//!
//! ```text
//! port    read                        write
//! 0xa00   address, low half           slot selector
//! 0xa04   address, high half
//! 0xa08   bytes, low half
//! 0xa0c   bytes, high half
//! 0xa10   domain
//! 0xa14   status (8 bits):            control (8 bits):
//!         1 enabled                   2 forget the insert event
//!         2 was inserted              4 forget the remove event
//!         4 is asked to be removed    8 eject
//! ```
//!
//! All ones is what ports without a device read as. A selector past the last slot reads as 0 or as
//! all ones; both mean that nothing is there. Whoever calls keeps other CPUs and its own interrupt
//! handlers off the ports: selecting and reading are two steps.

use super::list::List;
use super::span::Span;
use gfp::frame::PhysAddr;

/// Slots that QEMU can have.
pub const MAX_SLOTS: u32 = 256;
/// Modules that one scan can tell about.
pub const MAX_DIMMS: usize = 32;

const SELECT: u16 = 0xa00;
const ADDRESS: u16 = 0xa00;
const BYTES: u16 = 0xa08;
const DOMAIN: u16 = 0xa10;
const STATUS: u16 = 0xa14;

const ENABLED: u8 = 1;
const INSERTED: u8 = 2;
const REMOVING: u8 = 4;
const EJECT: u8 = 8;
const NOTHING: u8 = 0xff;

/// Port access, at any context in which nobody else uses the controller.
pub trait Ports {
    /// Reads 8 bits.
    fn read8(&mut self, port: u16) -> u8;
    /// Reads 32 bits.
    fn read32(&mut self, port: u16) -> u32;
    /// Writes 8 bits.
    fn write8(&mut self, port: u16, value: u8);
    /// Writes 32 bits.
    fn write32(&mut self, port: u16, value: u32);
}

/// What the controller wants of us for a module.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// Nothing new.
    None,
    /// It is new; said until [`Dimms::forget_insert`].
    Inserted,
    /// It is to be taken out; said until [`Dimms::forget_remove`] or [`Dimms::eject`].
    Removing,
}

/// A memory module that is in its slot and enabled.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Dimm {
    /// The slot.
    pub slot: u32,
    /// Its addresses, whole pages.
    pub span: Span,
    /// Firmware's number of the domain, for `Nodes::of_domain`.
    pub domain: u32,
    /// What the controller wants.
    pub event: Event,
}

/// The modules of a scan, by slot.
#[derive(Clone, Debug)]
pub struct Scan {
    /// The modules; none overlaps another.
    pub dimms: List<Dimm, MAX_DIMMS>,
    /// Modules left out: no whole pages, past the last address, overlapping another, or too many.
    pub refused: usize,
}

/// The controller behind its ports.
#[derive(Debug)]
pub struct Dimms<P: Ports>(pub P);

impl<P: Ports> Dimms<P> {
    /// Looks into slots `0..slots`, at most [`MAX_SLOTS`]. Two port accesses an empty slot.
    pub fn scan(&mut self, slots: u32) -> Scan {
        let empty = Dimm {
            slot: 0,
            span: Span::EMPTY,
            domain: 0,
            event: Event::None,
        };
        let mut scan = Scan {
            dimms: List::new(empty),
            refused: 0,
        };
        for slot in 0..slots.min(MAX_SLOTS) {
            let Some(status) = self.select(slot) else {
                continue;
            };
            let dimm = self.selected(slot, status);
            let clash = |d: &Dimm| scan.dimms.iter().any(|other| other.span.overlaps(d.span));
            let fits = dimm.filter(|d| !clash(d));
            if fits.is_none_or(|d| scan.dimms.push(d).is_err()) {
                scan.refused += 1;
            }
        }
        scan
    }

    /// Selects a slot. Its status if a module is enabled in it.
    fn select(&mut self, slot: u32) -> Option<u8> {
        self.0.write32(SELECT, slot);
        let status = self.0.read8(STATUS);
        (status != NOTHING && status & ENABLED != 0).then_some(status)
    }

    /// The module in the selected slot; `None` if its addresses are not whole pages.
    fn selected(&mut self, slot: u32, status: u8) -> Option<Dimm> {
        let start = self.read64(ADDRESS);
        let len = self.read64(BYTES);
        let span = Span::new(PhysAddr(start), len)?;
        let domain = self.0.read32(DOMAIN);
        let event = match status {
            s if s & REMOVING != 0 => Event::Removing,
            s if s & INSERTED != 0 => Event::Inserted,
            _ => Event::None,
        };
        (span.inward() == span).then_some(Dimm {
            slot,
            span,
            domain,
            event,
        })
    }

    fn read64(&mut self, port: u16) -> u64 {
        let low = u64::from(self.0.read32(port));
        low | u64::from(self.0.read32(port + 4)) << 32
    }

    /// Tells that the module in `slot` has been seen.
    pub fn forget_insert(&mut self, slot: u32) {
        self.control(slot, INSERTED);
    }

    /// Tells that the wish to remove the module in `slot` has been seen.
    pub fn forget_remove(&mut self, slot: u32) {
        self.control(slot, REMOVING);
    }

    /// Gives the module in `slot` back: its memory is gone afterwards.
    pub fn eject(&mut self, slot: u32) {
        self.control(slot, EJECT);
    }

    /// Writes to the control register of `slot`, if a module is in it.
    fn control(&mut self, slot: u32, bit: u8) {
        if slot < MAX_SLOTS && self.select(slot).is_some() {
            self.0.write8(STATUS, bit);
        }
    }
}
