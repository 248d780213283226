//! SRAT: which CPUs and which memory are near each other (ACPI 6.5, 5.2.16). Types 0 (local APIC),
//! 1 (memory), 2 (x2APIC).

use super::{AcpiError, Entries, Span, Table, u8_at, u32_at, u64_at};
use gfp::frame::PhysAddr;

/// Bytes before the first entry: head, 12 reserved.
const FIXED: usize = 48;

/// Can memory come and go?
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Plug {
    /// It is there as long as the machine runs.
    Fixed,
    /// It may be added and taken away.
    Hot,
}

/// A range of memory and the domain it belongs to.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct MemoryAffinity {
    /// The addresses.
    pub span: Span,
    /// Firmware's number for the domain.
    pub domain: u32,
    /// Can it come and go?
    pub plug: Plug,
}

/// A CPU and the domain it belongs to.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct CpuAffinity {
    /// The CPU.
    pub apic_id: u32,
    /// Firmware's number for the domain.
    pub domain: u32,
}

/// The table of domains.
#[derive(Copy, Clone, Debug)]
pub struct Srat<'m>(Table<'m>);

impl<'m> Srat<'m> {
    /// # Errors
    /// [`AcpiError`]: it is another table, or is too short.
    pub fn new(table: Table<'m>) -> Result<Srat<'m>, AcpiError> {
        table.expect(b"SRAT", FIXED).map(Srat)
    }

    fn entries(&self) -> Entries<'m> {
        Entries(self.0.bytes().get(FIXED..).unwrap_or(&[]))
    }

    /// Revision 1 has domains of 8 bits; the other bits are not zero everywhere.
    fn domain_mask(&self) -> u32 {
        if self.0.revision() < 2 {
            0xff
        } else {
            u32::MAX
        }
    }

    /// Enabled memory, in the table's order. Ranges that are empty or wrap are left out.
    pub fn memory(&self) -> impl Iterator<Item = MemoryAffinity> + use<'m> {
        let mask = self.domain_mask();
        self.entries().filter_map(move |(kind, e)| {
            let flags = u32_at(e, 28).filter(|flags| kind == 1 && flags & 1 != 0)?;
            Some(MemoryAffinity {
                span: Span::new(PhysAddr(u64_at(e, 8)?), u64_at(e, 16)?)?,
                domain: u32_at(e, 2)? & mask,
                plug: match flags & 2 {
                    0 => Plug::Fixed,
                    _ => Plug::Hot,
                },
            })
        })
    }

    /// Enabled CPUs, in the table's order.
    pub fn cpus(&self) -> impl Iterator<Item = CpuAffinity> + use<'m> {
        let mask = self.domain_mask();
        self.entries().filter_map(move |(kind, e)| {
            let (apic_id, domain, flags) = match kind {
                // The low byte stands at 2, the three high ones at 9.
                0 => {
                    let high = u32_at(e, 8)? & !0xff;
                    let low = u32::from(u8_at(e, 2)?);
                    (u8_at(e, 3)?.into(), high | low, u32_at(e, 4)?)
                }
                2 => (u32_at(e, 8)?, u32_at(e, 4)?, u32_at(e, 12)?),
                _ => return None,
            };
            (flags & 1 != 0).then_some(CpuAffinity {
                apic_id,
                domain: domain & mask,
            })
        })
    }
}
