//! The memory hot-plug controller at its ports.

use super::Options;
use super::tables::dimm::{Dimm, Dimms, Event, MAX_SLOTS, Ports, Scan};
use crate::arch::cpu;
use crate::memory::mm;
use crate::sched::Mutex;
use alloc::vec::Vec;
use gfp::page::AddMemoryError;

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

/// Memory modules that [`add_new`] brought in, and why others were not.
#[derive(Debug)]
pub struct Added {
    /// The module.
    pub dimm: Dimm,
    /// Pages that the machine has more, or why none.
    pub result: Result<usize, AddMemoryError>,
}

/// Gives the library the memory of every module that it does not have yet: of those that were in
/// their slots at boot, too, since the firmware's map does not list them.
///
/// Context: a task; one at a time, others wait.
pub fn add_new() -> Vec<Added> {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock();
    // SAFETY: under the lock there is one; nothing is ejected.
    let Some(mut controller) = (unsafe { controller(super::options()) }) else {
        return Vec::new();
    };
    let scan = controller.scan(MAX_SLOTS);
    let added = scan.dimms.iter().map(|dimm| {
        // SAFETY: the controller says that the module is there and enabled: RAM, which nobody has
        // used; nothing is ejected, so it stays.
        let added = unsafe { mm().add_memory(dimm.span.start, dimm.span.end) };
        if dimm.event == Event::Inserted {
            controller.forget_insert(dimm.slot);
        }
        Added {
            dimm: *dimm,
            result: added.map(|added| added.pages),
        }
    });
    let known = |added: &Added| matches!(added.result, Err(AddMemoryError::AlreadyPresent { .. }));
    added.filter(|added| !known(added)).collect()
}
