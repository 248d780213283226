//! Firmware's tables as the kernel reads them: any bytes give a survey or an error, and what is
//! usable is whole pages in order, outside of the kernel's image and of the first MiB.
//!
//! The input is memory from [`BASE`] on, with a start info at its front. Checksums are made to fit,
//! else hardly any table would be read.

#![no_main]

#[path = "../../crates/gfp-kernel/src/boot/tables/mod.rs"]
#[forbid(unsafe_code)]
#[allow(dead_code)] // the kernel uses more of it
mod tables;

use gfp::frame::PhysAddr;
use libfuzzer_sys::fuzz_target;
use tables::{PhysRead, Span, survey};

const BASE: u64 = 0x1000;
const TOP: PhysAddr = PhysAddr(1 << 40);

struct Memory(Vec<u8>);

impl PhysRead for Memory {
    fn bytes(&self, at: PhysAddr, len: usize) -> Option<&[u8]> {
        let from = usize::try_from(at.0.checked_sub(BASE)?).ok()?;
        self.0.get(from..from.checked_add(len)?)
    }
}

/// Makes the bytes in `range` sum up to 0 by the one at `place`.
fn seal(bytes: &mut [u8], range: std::ops::Range<usize>, place: usize) {
    if range.contains(&place) && range.end <= bytes.len() {
        let sum = bytes[range].iter().fold(0u8, |sum, b| sum.wrapping_add(*b));
        bytes[place] = bytes[place].wrapping_sub(sum);
    }
}

fn seal_tables(bytes: &mut [u8]) {
    for i in 0..bytes.len().saturating_sub(35) {
        match &bytes[i..i + 4] {
            b"RSD " => {
                seal(bytes, i..i + 20, i + 8);
                seal(bytes, i..i + 36, i + 32);
            }
            b"RSDT" | b"XSDT" | b"APIC" | b"SRAT" | b"SLIT" => {
                let len = [0, 1, 2, 3].map(|n| bytes[i + 4 + n]);
                let len = u32::from_le_bytes(len) as usize;
                seal(bytes, i..i.saturating_add(len), i + 9);
            }
            _ => {}
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let mut memory = Memory(data.to_vec());
    seal_tables(&mut memory.0);
    let image = Span {
        start: PhysAddr(0x10_0000),
        end: PhysAddr(0x45_6789),
    };
    let Ok(survey) = survey(&memory, PhysAddr(BASE), image, TOP) else {
        return;
    };
    let mut last = image.outward().end;
    for region in survey.regions.usable.iter() {
        assert!(last <= region.start && region.start < region.end && region.end <= TOP);
        assert_eq!((region.start.0 | region.end.0) % 4096, 0);
        assert!((region.node.0 as usize) < survey.nodes.count());
        last = region.end;
    }
    for hot in survey.regions.hot.iter() {
        assert_eq!(hot.span.inward(), hot.span);
        let usable = survey.regions.usable.iter();
        let usable = usable.map(|r| Span {
            start: r.start,
            end: r.end,
        });
        assert!(usable.into_iter().all(|r| !r.overlaps(hot.span)));
    }
});
