//! The start info that a PVH loader leaves (`hvm_start_info` of Xen's public headers).
//!
//! ```text
//!  0 magic 0x336ec578   4 version    8 flags     12 modules, number
//! 16 modules, address  24 command line           32 ACPI root (RSDP)
//! 40 memory map        48 its entries            52 reserved           (40..56: from version 1)
//! module: address, bytes, its command line, reserved: 4 x 8
//! entry:  address, bytes: 2 x 8, kind, reserved: 2 x 4
//! ```

use super::bytes::{PhysRead, text_at, u32_at, u64_at};
use super::{List, Span};
use core::fmt;
use gfp::frame::PhysAddr;

/// Entries of a memory map that are looked at; firmware's own limit is 128.
pub const MAX_ENTRIES: usize = 128;
/// Modules that are looked at.
pub const MAX_MODULES: usize = 8;
/// Bytes of a command line, its closing zero included.
pub const MAX_COMMAND_LINE: usize = 4096;

const MAGIC: u32 = 0x336e_c578;
const BYTES_V0: usize = 40;
const BYTES_V1: usize = 56;
const MODULE_BYTES: usize = 32;
const ENTRY_BYTES: usize = 24;

/// What firmware says a range is, by its E820 number.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum E820Kind {
    /// 1: RAM
    Ram,
    /// 2: not to be touched
    Reserved,
    /// 3: ACPI tables, which could be RAM when they have been read
    AcpiTables,
    /// 4: belongs to ACPI for good
    AcpiNvs,
    /// 5: RAM with errors
    Unusable,
    /// 6: RAM that is turned off
    Disabled,
    /// 7: persistent memory
    Persistent,
    /// Another number: taken as reserved.
    Other(u32),
}

impl From<u32> for E820Kind {
    fn from(number: u32) -> E820Kind {
        match number {
            1 => E820Kind::Ram,
            2 => E820Kind::Reserved,
            3 => E820Kind::AcpiTables,
            4 => E820Kind::AcpiNvs,
            5 => E820Kind::Unusable,
            6 => E820Kind::Disabled,
            7 => E820Kind::Persistent,
            other => E820Kind::Other(other),
        }
    }
}

/// One line of firmware's memory map, as it stands there: it may wrap, overlap or be empty.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct E820 {
    /// First byte.
    pub start: PhysAddr,
    /// Bytes.
    pub len: u64,
    /// What it is.
    pub kind: E820Kind,
}

impl E820 {
    const EMPTY: E820 = E820 {
        start: PhysAddr(0),
        len: 0,
        kind: E820Kind::Reserved,
    };
}

/// Why a start info could not be read.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum PvhError {
    /// Something lies where memory cannot be read.
    Unreadable {
        /// What.
        what: &'static str,
        /// Where it should be.
        at: PhysAddr,
    },
    /// The loader did not leave a start info there.
    BadMagic {
        /// The number found.
        found: u32,
    },
    /// Version 0 has no memory map.
    NoMemoryMap,
    /// More entries than can be looked at; none may be left out.
    TooMany {
        /// What there is too much of.
        what: &'static str,
        /// How many there are.
        found: u32,
        /// How many are looked at.
        max: usize,
    },
    /// The command line is longer than 4095 bytes, or is not UTF-8.
    BadCommandLine,
}

impl fmt::Display for PvhError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            PvhError::Unreadable { what, at } => {
                write!(f, "the {what} at {:#x} cannot be read", at.0)
            }
            PvhError::BadMagic { found } => {
                write!(f, "no PVH start info ({found:#x}): start it by PVH")
            }
            PvhError::NoMemoryMap => f.write_str("the PVH start info has no memory map"),
            PvhError::TooMany { what, found, max } => {
                write!(f, "{found} {what}, at most {max} can be handled")
            }
            PvhError::BadCommandLine => f.write_str("the command line is too long or is not UTF-8"),
        }
    }
}

impl core::error::Error for PvhError {}

/// A file that the loader put into memory, such as an initial RAM disk.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Module {
    /// Its bytes, cut at the last address; `None` if it has none.
    pub data: Option<Span>,
    /// Its own command line.
    pub command_line: Option<PhysAddr>,
}

/// The head of the start info; the rest is read through its methods.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct StartInfo {
    at: PhysAddr,
    bytes: usize,
    modules: (PhysAddr, u32),
    command_line: Option<PhysAddr>,
    /// Where the ACPI root is.
    pub rsdp: Option<PhysAddr>,
    map: (PhysAddr, u32),
}

impl StartInfo {
    /// Reads the head at `at`.
    ///
    /// # Errors
    /// [`PvhError`]: it is not there, or has no memory map.
    pub fn read<M: PhysRead + ?Sized>(memory: &M, at: PhysAddr) -> Result<StartInfo, PvhError> {
        let unreadable = PvhError::Unreadable {
            what: "PVH start info",
            at,
        };
        let head = memory.bytes(at, BYTES_V0).ok_or(unreadable)?;
        let number = |head: &[u8], offset| u32_at(head, offset).ok_or(unreadable);
        let address = |head: &[u8], offset| u64_at(head, offset).map(PhysAddr).ok_or(unreadable);
        let found = number(head, 0)?;
        if found != MAGIC {
            return Err(PvhError::BadMagic { found });
        }
        if number(head, 4)? == 0 {
            return Err(PvhError::NoMemoryMap);
        }
        let head = memory.bytes(at, BYTES_V1).ok_or(unreadable)?;
        let some = |a: PhysAddr| (a.0 != 0).then_some(a);
        Ok(StartInfo {
            at,
            bytes: BYTES_V1,
            modules: (address(head, 16)?, number(head, 12)?),
            command_line: some(address(head, 24)?),
            rsdp: some(address(head, 32)?),
            map: (address(head, 40)?, number(head, 48)?),
        })
    }

    /// The command line; empty if the loader gave none.
    ///
    /// # Errors
    /// [`PvhError::BadCommandLine`].
    pub fn command_line<'m, M: PhysRead + ?Sized>(
        &self,
        memory: &'m M,
    ) -> Result<&'m str, PvhError> {
        let Some(at) = self.command_line else {
            return Ok("");
        };
        let text = text_at(memory, at, MAX_COMMAND_LINE).ok_or(PvhError::BadCommandLine)?;
        core::str::from_utf8(text).map_err(|_| PvhError::BadCommandLine)
    }

    /// The memory map as firmware wrote it.
    ///
    /// # Errors
    /// [`PvhError::TooMany`], [`PvhError::Unreadable`]: an entry that is not seen could be one that
    /// forbids memory, so a part of the map is worth nothing.
    pub fn memory_map<M: PhysRead + ?Sized>(
        &self,
        memory: &M,
    ) -> Result<List<E820, MAX_ENTRIES>, PvhError> {
        let mut list = List::new(E820::EMPTY);
        let decode = |e: &[u8]| {
            Some(E820 {
                start: PhysAddr(u64_at(e, 0)?),
                len: u64_at(e, 8)?,
                kind: u32_at(e, 16)?.into(),
            })
        };
        each(
            memory,
            "memory map",
            self.map,
            ENTRY_BYTES,
            &mut list,
            decode,
        )?;
        Ok(list)
    }

    /// The modules.
    ///
    /// # Errors
    /// [`PvhError::TooMany`], [`PvhError::Unreadable`]: memory of a module that is not known would
    /// be given away.
    pub fn modules<M: PhysRead + ?Sized>(
        &self,
        memory: &M,
    ) -> Result<List<Module, MAX_MODULES>, PvhError> {
        let mut list = List::new(Module {
            data: None,
            command_line: None,
        });
        let decode = |m: &[u8]| {
            Some(Module {
                data: Span::clamped(PhysAddr(u64_at(m, 0)?), u64_at(m, 8)?),
                command_line: u64_at(m, 16).filter(|a| *a != 0).map(PhysAddr),
            })
        };
        each(
            memory,
            "module list",
            self.modules,
            MODULE_BYTES,
            &mut list,
            decode,
        )?;
        Ok(list)
    }

    /// Calls `take` with every range that the start info and what it names lie in.
    ///
    /// # Errors
    /// As [`modules`](Self::modules).
    pub fn spans<M: PhysRead + ?Sized>(
        &self,
        memory: &M,
        mut take: impl FnMut(Span),
    ) -> Result<(), PvhError> {
        let text = |at: Option<PhysAddr>, take: &mut dyn FnMut(Span)| {
            let Some(at) = at else { return };
            let len = text_at(memory, at, MAX_COMMAND_LINE).map_or(1, |t| t.len() as u64 + 1);
            Span::new(at, len).into_iter().for_each(take);
        };
        text(self.command_line, &mut take);
        for module in self.modules(memory)?.iter() {
            module.data.into_iter().for_each(&mut take);
            text(module.command_line, &mut take);
        }
        let arrays = [
            (self.at, self.bytes),
            (self.modules.0, self.modules.1 as usize * MODULE_BYTES),
            (self.map.0, self.map.1 as usize * ENTRY_BYTES),
        ];
        for (at, len) in arrays {
            Span::new(at, len as u64).into_iter().for_each(&mut take);
        }
        Ok(())
    }
}

/// Decodes `count` pieces of `size` bytes into `list`.
fn each<M: PhysRead + ?Sized, T: Copy, const N: usize>(
    memory: &M,
    what: &'static str,
    (at, found): (PhysAddr, u32),
    size: usize,
    list: &mut List<T, N>,
    decode: impl Fn(&[u8]) -> Option<T>,
) -> Result<(), PvhError> {
    let too_many = PvhError::TooMany {
        what,
        found,
        max: N,
    };
    let count = usize::try_from(found).ok().filter(|n| *n <= N);
    let len = count.ok_or(too_many)? * size;
    if len == 0 {
        return Ok(());
    }
    let unreadable = PvhError::Unreadable { what, at };
    let bytes = memory.bytes(at, len).ok_or(unreadable)?;
    for piece in bytes.chunks_exact(size) {
        let value = decode(piece).ok_or(unreadable)?;
        list.push(value).map_err(|_| too_many)?;
    }
    Ok(())
}
