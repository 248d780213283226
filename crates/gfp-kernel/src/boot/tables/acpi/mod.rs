//! ACPI: the root and the tables that it lists (ACPI 6.5, chapter 5.2).
//!
//! 1. **Concepts.** The RSDP holds the address of the root table: the RSDT with 32-bit addresses,
//!    or since version 2 the XSDT with 64-bit ones. Each table starts with a head of 36 bytes:
//!    signature, length, revision, checksum.
//! 2. **Structures.** [`Tables`] is the root table, checked. [`Table`] is one table, checked.
//!    [`Entries`] walks the (type, length) entries of MADT and SRAT.
//! 3. **Failure.** A sum of bytes that is not 0 or a length that does not fit refuses the table. A
//!    bad XSDT falls back to the RSDT. An entry shorter than its head or longer than what is left
//!    ends its table.
//! 4. **Not done here.** FADT, DSDT, AML.

use super::bytes::{PhysRead, u8_at, u32_at, u64_at};
use super::span::Span;
use core::fmt;
use gfp::frame::PhysAddr;

mod madt;
mod slit;
mod srat;

pub use madt::{Cpu, CpuState, Madt};
pub use slit::Slit;
pub use srat::{CpuAffinity, MemoryAffinity, Plug, Srat};

/// Bytes of a table's head.
const HEAD: usize = 36;
/// Bytes of the largest table that is read; a MADT of 4096 CPUs has 64 KiB.
const MAX_TABLE: usize = 256 << 10;
/// Tables of a root that are looked at.
const MAX_TABLES: usize = 256;
const RSDP_V1: usize = 20;
const RSDP_V2: usize = 36;

/// The four letters that name a table.
#[derive(Copy, Clone, PartialEq, Eq)]
pub struct Signature(pub [u8; 4]);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

/// Why a table cannot be used.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum AcpiError {
    /// No root pointer with a good checksum there.
    BadRoot {
        /// Where.
        at: PhysAddr,
    },
    /// The root does not list such a table.
    Missing(Signature),
    /// Its bytes cannot be read.
    Unreadable {
        /// Where they should be.
        at: PhysAddr,
    },
    /// Its length does not fit what it is.
    BadLength(Signature),
    /// Its bytes do not sum up to 0.
    BadChecksum(Signature),
}

impl fmt::Display for AcpiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            AcpiError::BadRoot { at } => write!(f, "no good ACPI root pointer at {:#x}", at.0),
            AcpiError::Missing(s) => write!(f, "there is no ACPI table {s:?}"),
            AcpiError::Unreadable { at } => {
                write!(f, "the ACPI table at {:#x} cannot be read", at.0)
            }
            AcpiError::BadLength(s) => write!(f, "the length of ACPI table {s:?} is wrong"),
            AcpiError::BadChecksum(s) => write!(f, "the checksum of ACPI table {s:?} is wrong"),
        }
    }
}

impl core::error::Error for AcpiError {}

/// One table, whose length and checksum are right.
#[derive(Copy, Clone, Debug)]
pub struct Table<'m> {
    /// Where it is.
    pub at: PhysAddr,
    bytes: &'m [u8],
}

impl<'m> Table<'m> {
    /// Reads and checks the table at `at`.
    ///
    /// # Errors
    /// [`AcpiError`]: it cannot be read, or is damaged.
    pub fn read<M: PhysRead + ?Sized>(memory: &'m M, at: PhysAddr) -> Result<Table<'m>, AcpiError> {
        let unreadable = AcpiError::Unreadable { at };
        let head = memory.bytes(at, HEAD).ok_or(unreadable)?;
        let signature = signature(head).ok_or(unreadable)?;
        let len = u32_at(head, 4).ok_or(unreadable)? as usize;
        if !(HEAD..=MAX_TABLE).contains(&len) {
            return Err(AcpiError::BadLength(signature));
        }
        let bytes = memory.bytes(at, len).ok_or(unreadable)?;
        if sum(bytes) != 0 {
            return Err(AcpiError::BadChecksum(signature));
        }
        Ok(Table { at, bytes })
    }

    /// Its name.
    pub fn signature(&self) -> Signature {
        signature(self.bytes).unwrap_or(Signature([0; 4]))
    }

    /// The revision of its layout.
    pub fn revision(&self) -> u8 {
        u8_at(self.bytes, 8).unwrap_or(0)
    }

    /// All its bytes, head included.
    pub fn bytes(&self) -> &'m [u8] {
        self.bytes
    }

    /// The same table if it has that name and at least `min` bytes.
    fn expect(self, name: &[u8; 4], min: usize) -> Result<Table<'m>, AcpiError> {
        if self.signature() != Signature(*name) {
            Err(AcpiError::Missing(Signature(*name)))
        } else if self.bytes.len() < min {
            Err(AcpiError::BadLength(Signature(*name)))
        } else {
            Ok(self)
        }
    }
}

/// The entries of a table: type, length, then `length - 2` bytes.
#[derive(Copy, Clone, Debug)]
pub struct Entries<'m>(&'m [u8]);

impl<'m> Iterator for Entries<'m> {
    /// The type, and the whole entry with its head.
    type Item = (u8, &'m [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let kind = u8_at(self.0, 0)?;
        let len = u8_at(self.0, 1).filter(|len| *len >= 2)?;
        let (entry, rest) = self.0.split_at_checked(len as usize)?;
        self.0 = rest;
        Some((kind, entry))
    }
}

/// The root table.
#[derive(Debug)]
pub struct Tables<'m, M: PhysRead + ?Sized> {
    memory: &'m M,
    rsdp: Span,
    root: Table<'m>,
}

impl<'m, M: PhysRead + ?Sized> Tables<'m, M> {
    /// Reads the root pointer at `at` and the root table that it names.
    ///
    /// # Errors
    /// [`AcpiError`]: neither XSDT nor RSDT can be used.
    pub fn open(memory: &'m M, at: PhysAddr) -> Result<Tables<'m, M>, AcpiError> {
        let bad = AcpiError::BadRoot { at };
        let old = memory.bytes(at, RSDP_V1).ok_or(bad)?;
        if !old.starts_with(b"RSD PTR ") || sum(old) != 0 {
            return Err(bad);
        }
        let new = match u8_at(old, 15) {
            Some(0 | 1) => None,
            _ => memory.bytes(at, RSDP_V2),
        };
        let new = new.filter(|b| u32_at(b, 20) == Some(RSDP_V2 as u32) && sum(b) == 0);
        let len = new.map_or(RSDP_V1, <[u8]>::len) as u64;
        let rsdp = Span::clamped(at, len).ok_or(bad)?;
        let table = |at: u64, name| Table::read(memory, PhysAddr(at))?.expect(name, HEAD);
        let xsdt = new.and_then(|b| u64_at(b, 24)).filter(|a| *a != 0);
        let root = match xsdt.map(|a| table(a, b"XSDT")) {
            Some(Ok(root)) => root,
            _ => table(u32_at(old, 16).ok_or(bad)?.into(), b"RSDT")?,
        };
        Ok(Tables { memory, rsdp, root })
    }

    /// Addresses of the tables that the root lists.
    pub fn addresses(&self) -> impl Iterator<Item = PhysAddr> + use<'m, M> {
        let wide = self.root.signature() == Signature(*b"XSDT");
        let size = if wide { 8 } else { 4 };
        let list = self.root.bytes.get(HEAD..).unwrap_or(&[]);
        list.chunks_exact(size)
            .take(MAX_TABLES)
            .filter_map(move |entry| {
                let at = match wide {
                    true => u64_at(entry, 0)?,
                    false => u32_at(entry, 0)?.into(),
                };
                (at != 0).then_some(PhysAddr(at))
            })
    }

    /// The first table with that name.
    ///
    /// # Errors
    /// [`AcpiError::Missing`]; or what is wrong with the table of that name.
    pub fn find(&self, name: &[u8; 4]) -> Result<Table<'m>, AcpiError> {
        let named = |at: &PhysAddr| {
            let head = self.memory.bytes(*at, HEAD);
            head.and_then(signature) == Some(Signature(*name))
        };
        let at = self.addresses().find(named);
        Table::read(self.memory, at.ok_or(AcpiError::Missing(Signature(*name)))?)
    }

    /// The CPUs and their interrupt controllers.
    ///
    /// # Errors
    /// As [`find`](Self::find).
    pub fn madt(&self) -> Result<Madt<'m>, AcpiError> {
        Madt::new(self.find(b"APIC")?)
    }

    /// Which CPUs and which memory are near each other.
    ///
    /// # Errors
    /// As [`find`](Self::find).
    pub fn srat(&self) -> Result<Srat<'m>, AcpiError> {
        Srat::new(self.find(b"SRAT")?)
    }

    /// How far domains are from each other.
    ///
    /// # Errors
    /// As [`find`](Self::find).
    pub fn slit(&self) -> Result<Slit<'m>, AcpiError> {
        Slit::new(self.find(b"SLIT")?)
    }

    /// The ranges in which the root and the tables lie. Of a damaged table that is as many bytes as
    /// its head names, if they are not absurd.
    pub fn spans(&self) -> impl Iterator<Item = Span> + use<'m, M> {
        let memory = self.memory;
        let tables = self.addresses().filter_map(move |at| {
            let len = u32_at(memory.bytes(at, HEAD)?, 4)? as usize;
            Span::clamped(at, len.clamp(HEAD, MAX_TABLE) as u64)
        });
        let root = Span::clamped(self.root.at, self.root.bytes.len() as u64);
        [self.rsdp].into_iter().chain(root).chain(tables)
    }
}

/// The name at the start of a table's head.
fn signature(head: &[u8]) -> Option<Signature> {
    head.first_chunk().copied().map(Signature)
}

/// Sum of all bytes modulo 256.
fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, b| sum.wrapping_add(*b))
}
