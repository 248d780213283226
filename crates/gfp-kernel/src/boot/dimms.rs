//! The memory hot-plug controller at its ports.

use super::Options;
use super::tables::dimm::{Dimms, MAX_SLOTS, Ports, Scan};
use crate::arch::cpu;

/// The ports of the controller.
#[derive(Debug)]
pub struct HotplugPorts(());

impl Ports for HotplugPorts {
    fn read8(&mut self, port: u16) -> u8 {
        // SAFETY: registers of the controller touch no memory of ours.
        unsafe { cpu::inb(port) }
    }

    fn read32(&mut self, port: u16) -> u32 {
        // SAFETY: as above.
        unsafe { cpu::inl(port) }
    }

    fn write8(&mut self, port: u16, value: u8) {
        // SAFETY: as above; memory that is ejected has been taken offline by the caller of `eject`.
        unsafe { cpu::outb(port, value) }
    }

    fn write32(&mut self, port: u16, value: u32) {
        // SAFETY: as above.
        unsafe { cpu::outl(port, value) }
    }
}

/// The controller, on machines whose firmware announces memory that may come; on others the ports
/// may belong to something else.
///
/// # Safety
/// One at a time: selecting a slot and reading it are two steps. A slot is ejected only when the
/// allocator no longer uses its memory.
pub unsafe fn controller(options: &Options) -> Option<Dimms<HotplugPorts>> {
    (!options.hot.is_empty()).then_some(Dimms(HotplugPorts(())))
}

/// The modules that are in their slots. Anywhere where nobody else uses the controller.
pub(super) fn at_boot(options: &Options) -> Option<Scan> {
    // SAFETY: at boot, nobody else; nothing is ejected.
    let mut controller = unsafe { controller(options) }?;
    Some(controller.scan(MAX_SLOTS))
}
