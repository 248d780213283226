//! PCI bus 0, through the configuration ports.

use super::OpenError;
use super::hal::{GfpHal, SHOWN_END};
use crate::arch::cpu::{self, IrqOff};
use core::sync::atomic::{AtomicBool, Ordering};
use virtio_drivers::transport::DeviceType;
use virtio_drivers::transport::pci::bus::{
    BarInfo, Command, ConfigurationAccess, DeviceFunction, PciRoot,
};
use virtio_drivers::transport::pci::{PciTransport, virtio_device_type};

/// Write here which word of whose configuration is meant ...
const ADDRESS: u16 = 0xcf8;
/// ... then read or write it here.
const DATA: u16 = 0xcfc;

/// Held over the two accesses that make one.
static PORTS: AtomicBool = AtomicBool::new(false);

fn with_ports<R>(work: impl FnOnce() -> R) -> R {
    let _off = IrqOff::new();
    // Acquire and Release pair with each other: the accesses of one holder come before the next's.
    while PORTS.swap(true, Ordering::Acquire) {
        core::hint::spin_loop();
    }
    let result = work();
    PORTS.store(false, Ordering::Release);
    result
}

/// Configuration space through ports 0xcf8 and 0xcfc.
struct Ports;

impl Ports {
    fn select(device: DeviceFunction, register: u8) {
        let at = 1 << 31
            | u32::from(device.bus) << 16
            | u32::from(device.device) << 11
            | u32::from(device.function) << 8
            | u32::from(register & !3);
        // SAFETY: selects a register; no memory is touched.
        unsafe { cpu::outl(ADDRESS, at) }
    }
}

impl ConfigurationAccess for Ports {
    fn read_word(&self, device: DeviceFunction, register: u8) -> u32 {
        with_ports(|| {
            Self::select(device, register);
            // SAFETY: reading configuration space has no effect.
            unsafe { cpu::inl(DATA) }
        })
    }

    fn write_word(&mut self, device: DeviceFunction, register: u8, data: u32) {
        with_ports(|| {
            Self::select(device, register);
            // SAFETY: called for devices that `open` claimed: their address registers, which are
            // put back, and their command register.
            unsafe { cpu::outl(DATA, data) }
        })
    }

    unsafe fn unsafe_clone(&self) -> Ports {
        Ports
    }
}

/// The right to the first device of one type. Given back when dropped.
pub(super) struct Claim {
    taken: &'static AtomicBool,
    device: DeviceFunction,
}

impl Drop for Claim {
    fn drop(&mut self) {
        PciRoot::new(Ports).set_command(self.device, Command::INTERRUPT_DISABLE);
        // Release: pairs with the Acquire in `open`; the next owner finds the device at rest.
        self.taken.store(false, Ordering::Release);
    }
}

/// Takes the first device of a type into use: it may reach memory, and sends no interrupts.
pub(super) fn open(
    wanted: DeviceType,
    taken: &'static AtomicBool,
) -> Result<(PciTransport, Claim), OpenError> {
    let mut root = PciRoot::new(Ports);
    let (device, _) = root
        .enumerate_bus(0)
        .find(|(_, info)| virtio_device_type(info) == Some(wanted))
        .ok_or(OpenError::NotFound)?;
    // Acquire: pairs with the Release in `drop`.
    if taken.swap(true, Ordering::Acquire) {
        return Err(OpenError::Busy);
    }
    let claim = Claim { taken, device };
    let bars = root
        .bars(device)
        .map_err(|error| OpenError::Pci(error.into()))?;
    let shown = |bar: &BarInfo| match bar.memory_address_size() {
        Some((address, bytes)) => address + bytes <= SHOWN_END,
        None => true,
    };
    if !bars.iter().flatten().all(shown) {
        return Err(OpenError::RegistersOutOfReach);
    }
    let on = Command::MEMORY_SPACE | Command::BUS_MASTER | Command::INTERRUPT_DISABLE;
    root.set_command(device, on);
    let transport = PciTransport::new::<GfpHal, _>(&mut root, device)?;
    Ok((transport, claim))
}
