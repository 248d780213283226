//! Just enough ELF to say whether a program can be interposed: its class, its machine, and whether
//! it asks for a dynamic loader.

use std::ffi::OsString;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStringExt;

/// The `e_machine` of the programs we can run: that of our own library.
const MACHINE: u16 = if cfg!(target_arch = "x86_64") {
    62
} else if cfg!(target_arch = "aarch64") {
    183
} else {
    panic!("add this architecture's e_machine")
};

const PT_INTERP: u32 = 3;
const HEADER_BYTES: usize = 64;
const PROGRAM_HEADER_BYTES: u16 = 56;
/// The kernel refuses interpreters with longer paths.
const INTERP_MAX_BYTES: u64 = 4096;

/// What kind of executable a file is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Asks for this loader.
    Dynamic(OsString),
    /// No loader: nothing that could read `LD_PRELOAD`.
    Static,
    /// 32-bit, or of another byte order or machine.
    OtherMachine(String),
    /// An object file, core dump or cut-off file.
    NotAProgram(&'static str),
    /// No ELF at all.
    NotElf,
}

/// Looks at an executable.
pub(crate) fn kind(file: &mut (impl Read + Seek)) -> io::Result<Kind> {
    let mut header = [0; HEADER_BYTES];
    file.rewind()?;
    let len = read_up_to(file, &mut header)?;
    if len < 4 || header[..4] != *b"\x7fELF" {
        return Ok(Kind::NotElf);
    }
    if len >= 6 && (header[4], header[5]) != (2, 1) {
        let class = if header[4] == 1 {
            "32-bit"
        } else {
            "big-endian"
        };
        return Ok(Kind::OtherMachine(format!("a {class} program")));
    }
    if len < HEADER_BYTES {
        return Ok(Kind::NotAProgram("its ELF header is cut off"));
    }
    let u16_at = |at| u16::from_le_bytes([header[at], header[at + 1]]);
    let (elf_type, machine) = (u16_at(16), u16_at(18));
    if machine != MACHINE {
        return Ok(Kind::OtherMachine(format!(
            "for another machine (ELF machine {machine})"
        )));
    }
    if elf_type != 2 && elf_type != 3 {
        return Ok(Kind::NotAProgram("an ELF file, but no executable"));
    }
    let table = u64_at(&header, 32);
    let (entry_bytes, entries) = (u16_at(54), u16_at(56));
    if entries > 0 && entry_bytes != PROGRAM_HEADER_BYTES {
        return Ok(Kind::NotAProgram(
            "its ELF program headers have a wrong size",
        ));
    }
    for at in 0..u64::from(entries) {
        let mut entry = [0; PROGRAM_HEADER_BYTES as usize];
        let Some(offset) = table.checked_add(at * u64::from(PROGRAM_HEADER_BYTES)) else {
            return Ok(Kind::NotAProgram(
                "its ELF program headers lie outside the file",
            ));
        };
        file.seek(SeekFrom::Start(offset))?;
        if read_up_to(file, &mut entry)? < entry.len() {
            return Ok(Kind::NotAProgram(
                "its ELF program headers lie outside the file",
            ));
        }
        if u32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]) == PT_INTERP {
            return interpreter(file, u64_at(&entry, 8), u64_at(&entry, 32));
        }
    }
    Ok(Kind::Static)
}

fn interpreter(file: &mut (impl Read + Seek), offset: u64, bytes: u64) -> io::Result<Kind> {
    const WRONG: Kind = Kind::NotAProgram("its ELF interpreter is no path");
    if bytes > INTERP_MAX_BYTES || offset > i64::MAX as u64 {
        return Ok(WRONG);
    }
    file.seek(SeekFrom::Start(offset))?;
    let mut path = vec![0; bytes as usize];
    let len = read_up_to(file, &mut path)?;
    path.truncate(len.min(path.iter().position(|byte| *byte == 0).unwrap_or(len)));
    Ok(if path.is_empty() {
        WRONG
    } else {
        Kind::Dynamic(OsString::from_vec(path))
    })
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

/// Fills `buffer` as far as the file goes.
fn read_up_to(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < buffer.len() {
        match file.read(&mut buffer[len..]) {
            Ok(0) => break,
            Ok(more) => len += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::Cursor;

    /// A small dynamic program: header, one program header, the interpreter's path.
    fn program() -> Vec<u8> {
        let mut file = vec![0; HEADER_BYTES + 56];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[16] = 3;
        file[18..20].copy_from_slice(&MACHINE.to_le_bytes());
        file[32] = HEADER_BYTES as u8;
        file[54] = 56;
        file[56] = 1;
        file[64] = PT_INTERP as u8;
        file[64 + 8] = 120;
        file[64 + 32] = 6;
        file.extend(b"/ld.s\0rest");
        file
    }

    fn kind_of(bytes: &[u8]) -> Kind {
        kind(&mut Cursor::new(bytes)).unwrap()
    }

    #[test]
    fn our_own_test_program_is_dynamic() {
        let mut file = File::open(std::env::current_exe().unwrap()).unwrap();
        assert!(matches!(kind(&mut file).unwrap(), Kind::Dynamic(path) if path.len() > 4));
        assert_eq!(kind_of(&program()), Kind::Dynamic("/ld.s".into()));
    }

    #[test]
    fn a_program_without_interpreter_is_static() {
        let mut file = program();
        file[64] = 1;
        assert_eq!(kind_of(&file), Kind::Static);
        file[56] = 0;
        assert_eq!(kind_of(&file), Kind::Static);
    }

    #[test]
    fn other_machines_are_told() {
        let mut file = program();
        file[18] = 40;
        file[19] = 0;
        assert!(matches!(kind_of(&file), Kind::OtherMachine(what) if what.contains("40")));
        file[4] = 1;
        assert!(matches!(kind_of(&file), Kind::OtherMachine(what) if what.contains("32-bit")));
        assert!(matches!(kind_of(&file[..20]), Kind::OtherMachine(_)));
    }

    #[test]
    fn what_is_no_program_is_told() {
        for bytes in [&b""[..], b"#!/bin/sh", b"\x7fEL", b"text"] {
            assert_eq!(kind_of(bytes), Kind::NotElf);
        }
        let mut object = program();
        object[16] = 1;
        assert!(matches!(kind_of(&object), Kind::NotAProgram(_)));
    }

    #[test]
    fn no_damage_to_a_program_makes_us_panic() {
        let good = program();
        for cut in 0..good.len() {
            kind_of(&good[..cut]);
        }
        for at in 0..good.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[at] = value;
                bad[at.min(good.len() - 8)..][..8].fill(value);
                // A seek to an offset that is no file position is an error, not a panic.
                let _ = kind(&mut Cursor::new(&bad));
            }
        }
    }
}
