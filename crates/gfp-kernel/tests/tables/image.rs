//! Memory for tests: pieces at physical addresses, from a dump or built by hand.

use super::tables::acpi::Tables;
use super::tables::{PhysRead, Span};
use gfp::frame::PhysAddr;

/// Where built start infos, root pointers and tables lie.
pub(crate) const START_INFO: PhysAddr = PhysAddr(0x2000);
pub(crate) const RSDP: PhysAddr = PhysAddr(0xf_0000);
pub(crate) const ROOT: u32 = 0x10_0000;
pub(crate) const FIRST_TABLE: u32 = 0x20_0000;

/// Pieces of memory; between them nothing can be read.
#[derive(Clone, Default, Debug)]
pub(crate) struct Image {
    pub(crate) pieces: Vec<(u64, Vec<u8>)>,
}

impl PhysRead for Image {
    fn bytes(&self, at: PhysAddr, len: usize) -> Option<&[u8]> {
        self.pieces.iter().find_map(|(start, bytes)| {
            let from = usize::try_from(at.0.checked_sub(*start)?).ok()?;
            bytes.get(from..from.checked_add(len)?)
        })
    }
}

impl Image {
    /// A dump: `@address name`, then lines of hexadecimal digits; `#` starts a comment.
    pub(crate) fn dump(text: &str) -> Image {
        let mut image = Image::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if let Some(head) = line.strip_prefix('@') {
                let address = head.split(' ').next().unwrap();
                let address = u64::from_str_radix(address, 16).unwrap();
                image.pieces.push((address, Vec::new()));
                continue;
            }
            let byte = |i: usize| u8::from_str_radix(&line[i..i + 2], 16).unwrap();
            let bytes = (0..line.len()).step_by(2).map(byte);
            image.pieces.last_mut().unwrap().1.extend(bytes);
        }
        image
    }

    /// The piece that starts with those bytes.
    pub(crate) fn piece(&mut self, start: &[u8]) -> &mut Vec<u8> {
        let found = self.pieces.iter_mut().find(|p| p.1.starts_with(start));
        &mut found.expect("no such piece").1
    }

    /// A root of version 1 and those tables.
    pub(crate) fn acpi(tables: &[Vec<u8>]) -> Image {
        let mut image = Image::default();
        let mut at = FIRST_TABLE;
        let mut list = Vec::new();
        for table in tables {
            list.extend(at.to_le_bytes());
            image.pieces.push((at.into(), table.clone()));
            at += 0x1_0000;
        }
        image.pieces.push((ROOT.into(), table(b"RSDT", 1, &list)));
        image.pieces.push((RSDP.0, rsdp_v1(ROOT)));
        image
    }

    pub(crate) fn tables(&self) -> Tables<'_, Image> {
        Tables::open(self, RSDP).unwrap()
    }
}

/// Sets the byte at `place` so that all bytes sum up to 0.
pub(crate) fn seal(bytes: &mut [u8], place: usize) {
    bytes[place] = 0;
    bytes[place] = bytes.iter().fold(0u8, |s, b| s.wrapping_sub(*b));
}

/// A table with a good head.
pub(crate) fn table(name: &[u8; 4], revision: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = name.to_vec();
    bytes.extend((36 + body.len() as u32).to_le_bytes());
    bytes.push(revision);
    bytes.resize(36, 0);
    bytes.extend(body);
    seal(&mut bytes, 9);
    bytes
}

pub(crate) fn rsdp_v1(rsdt: u32) -> Vec<u8> {
    let mut bytes = b"RSD PTR \0TESTER\0".to_vec();
    bytes.extend(rsdt.to_le_bytes());
    seal(&mut bytes, 8);
    bytes
}

pub(crate) fn rsdp_v2(rsdt: u32, xsdt: u64) -> Vec<u8> {
    let mut bytes = b"RSD PTR \0TESTER\x02".to_vec();
    bytes.extend(rsdt.to_le_bytes());
    seal(&mut bytes, 8);
    bytes.extend(36u32.to_le_bytes());
    bytes.extend(xsdt.to_le_bytes());
    bytes.extend([0; 4]);
    seal(&mut bytes, 32);
    bytes
}

/// A start info of version 1 with a memory map of (address, bytes, kind).
pub(crate) fn start_info(map: &[(u64, u64, u32)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in [0x336e_c578u32, 1, 0, 0] {
        bytes.extend(number.to_le_bytes());
    }
    for address in [0, 0, RSDP.0, START_INFO.0 + 56] {
        bytes.extend(address.to_le_bytes());
    }
    bytes.extend((map.len() as u32).to_le_bytes());
    bytes.extend([0; 4]);
    for (start, len, kind) in map {
        bytes.extend(start.to_le_bytes());
        bytes.extend(len.to_le_bytes());
        bytes.extend(kind.to_le_bytes());
        bytes.extend([0; 4]);
    }
    bytes
}

pub(crate) fn span(start: u64, end: u64) -> Span {
    Span::new(PhysAddr(start), end - start).unwrap()
}
