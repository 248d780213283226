//! PCI bus 0, through the configuration ports.
//!
//! Where there is RAM above 4 GiB, some firmware puts registers above it. They are moved below: to
//! just under the lowest that the firmware placed there.

use super::OpenError;
use super::hal::{GfpHal, SHOWN_END};
use crate::arch::cpu;
use crate::sched::IrqLock;
use core::sync::atomic::{AtomicBool, Ordering};
use virtio_drivers::transport::DeviceType;
use virtio_drivers::transport::pci::bus::{
    BarInfo, Command, ConfigurationAccess, DeviceFunction, HeaderType, MemoryBarType, PciRoot,
};
use virtio_drivers::transport::pci::{PciTransport, virtio_device_type};

/// Write here which word of whose configuration is meant ...
const ADDRESS: u16 = 0xcf8;
/// ... then read or write it here.
const DATA: u16 = 0xcfc;

/// Held over the two accesses that make one. Who dies in between ends the machine.
static PORTS: IrqLock<()> = IrqLock::new(());

fn with_ports<R>(work: impl FnOnce() -> R) -> R {
    let _held = PORTS.lock();
    work()
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

/// Where the firmware places registers below 4 GiB: above all RAM, below those of the chipset.
const WINDOW: core::ops::Range<u64> = 0xf000_0000..0xfe00_0000;

/// The lowest address in [`WINDOW`] that a register of bus 0 has. No register is written: others
/// may be in use.
fn lowest_registers(root: &PciRoot<Ports>) -> u64 {
    let mut lowest = WINDOW.end;
    for (device, info) in root.enumerate_bus(0) {
        let words = match info.header_type {
            HeaderType::Standard => 0x10..0x28,
            _ => 0x10..0x18,
        };
        let mut above = false; // the word is the upper half of the one before
        for register in words.step_by(4) {
            let word = Ports.read_word(device, register);
            let memory = !core::mem::replace(&mut above, word & 7 == 4) && word & 1 == 0;
            let address = u64::from(word & !0xf);
            if memory && WINDOW.contains(&address) {
                lowest = lowest.min(address);
            }
        }
    }
    lowest
}

/// Sees to it that the direct map shows all registers of a device.
fn bring_into_reach(root: &mut PciRoot<Ports>, device: DeviceFunction) -> Result<(), OpenError> {
    let bars = root
        .bars(device)
        .map_err(|error| OpenError::Pci(error.into()))?;
    for (index, bar) in bars.iter().enumerate() {
        let Some(BarInfo::Memory {
            address_type,
            address,
            size,
            ..
        }) = bar
        else {
            continue;
        };
        let end = address.checked_add(*size);
        if end.is_some_and(|end| end <= SHOWN_END) {
            continue;
        }
        if !size.is_power_of_two() {
            return Err(OpenError::RegistersOutOfReach); // no registers as PCI has them
        }
        // Registers are aligned to their size.
        let place = lowest_registers(root).saturating_sub(*size) & !(size - 1);
        if place < WINDOW.start || *address_type != MemoryBarType::Width64 {
            return Err(OpenError::RegistersOutOfReach);
        }
        root.set_bar_64(device, index as u8, place);
    }
    Ok(())
}

/// Puts the registers of a device where some firmware does: above 4 GiB. For a test.
pub fn move_registers_up(wanted: DeviceType) {
    let mut root = PciRoot::new(Ports);
    let found = root
        .enumerate_bus(0)
        .find(|(_, info)| virtio_device_type(info) == Some(wanted));
    let (device, _) = found.expect("the device is there");
    let bars = root
        .bars(device)
        .expect("its registers are as PCI has them");
    let is_wide = |bar: &Option<BarInfo>| {
        matches!(
            bar,
            Some(BarInfo::Memory {
                address_type: MemoryBarType::Width64,
                ..
            })
        )
    };
    let wide = bars.iter().position(is_wide).expect("it has a wide one");
    root.set_bar_64(device, wide as u8, 3 << 36);
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
    root.set_command(device, Command::INTERRUPT_DISABLE);
    bring_into_reach(&mut root, device)?;
    let on = Command::MEMORY_SPACE | Command::BUS_MASTER | Command::INTERRUPT_DISABLE;
    root.set_command(device, on);
    let transport = PciTransport::new::<GfpHal, _>(&mut root, device)?;
    Ok((transport, claim))
}
