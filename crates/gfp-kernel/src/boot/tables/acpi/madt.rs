//! MADT: the CPUs (ACPI 6.5, 5.2.12). Types 0 (local APIC), 5 (address override), 9 (x2APIC).

use super::{AcpiError, Entries, Table, u8_at, u32_at, u64_at};
use gfp::frame::PhysAddr;

/// Bytes before the first entry: head, APIC address, flags.
const FIXED: usize = 44;

/// May a CPU be started?
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum CpuState {
    /// It is there.
    Enabled,
    /// It may come later.
    OnlineCapable,
}

/// One CPU that is there or may come.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Cpu {
    /// The number that interrupts are sent to.
    pub apic_id: u32,
    /// Is it there?
    pub state: CpuState,
}

/// The table of CPUs.
#[derive(Copy, Clone, Debug)]
pub struct Madt<'m>(Table<'m>);

impl<'m> Madt<'m> {
    /// # Errors
    /// [`AcpiError`]: it is another table, or is too short.
    pub fn new(table: Table<'m>) -> Result<Madt<'m>, AcpiError> {
        table.expect(b"APIC", FIXED).map(Madt)
    }

    fn entries(&self) -> Entries<'m> {
        Entries(self.0.bytes().get(FIXED..).unwrap_or(&[]))
    }

    /// Where the local APIC of each CPU is: type 5 if there is one, else the table's own field.
    pub fn local_apic(&self) -> PhysAddr {
        let mut overrides = self.entries().filter(|(kind, _)| *kind == 5);
        let address = overrides.find_map(|(_, entry)| u64_at(entry, 4));
        let own = || u32_at(self.0.bytes(), 36).unwrap_or(0).into();
        PhysAddr(address.unwrap_or_else(own))
    }

    /// The CPUs, in the table's order. One that types 0 and 9 both name comes twice.
    pub fn cpus(&self) -> impl Iterator<Item = Cpu> + use<'m> {
        self.entries().filter_map(|(kind, entry)| {
            let (apic_id, flags) = match kind {
                // The id of all CPUs is none of them.
                0 => (
                    u8_at(entry, 3).filter(|id| *id != 0xff)?.into(),
                    u32_at(entry, 4)?,
                ),
                9 => (
                    u32_at(entry, 4).filter(|id| *id != u32::MAX)?,
                    u32_at(entry, 8)?,
                ),
                _ => return None,
            };
            let state = match (flags & 1, flags & 2) {
                (1, _) => CpuState::Enabled,
                (_, 2) => CpuState::OnlineCapable,
                _ => return None,
            };
            Some(Cpu { apic_id, state })
        })
    }
}
