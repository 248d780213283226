//! The machine below: x86_64, as much of it as this kernel needs.
//!
//! | module | what |
//! |---|---|
//! | [`cpu`] | instructions that Rust has no name for |
//! | [`percpu`] | what each CPU knows of itself, through GS |
//! | [`traps`] | gates, frames, who handles what |
//! | [`apic`] | local interrupt controllers: timer, messages between CPUs |
//! | [`smp`] | starting the other CPUs |
//! | `nmi` | what must hold around NMIs, and is looked at |
//! | [`time`] | the clock |
//! | [`stock`] | this CPU's page lists, by restartable sequences |
//! | [`serial`] | the console |
//! | [`exit`] | the end of the virtual machine |

pub mod apic;
pub mod cpu;
pub mod exit;
mod nmi;
pub mod percpu;
pub mod serial;
pub mod smp;
pub mod stock;
pub mod time;
pub mod traps;

/// Where the kernel's image is linked; physical address 0 stands here.
pub const KBASE: usize = 0xffff_ffff_8000_0000;

/// Where physical address 0 is seen in the direct map.
pub const DIRECT_MAP: usize = 0xffff_8880_0000_0000;

/// The pointer through which a physical address is seen. Meaningful for what the direct map covers.
#[inline]
pub fn phys_to_ptr(phys: u64) -> *mut u8 {
    core::ptr::with_exposed_provenance_mut(DIRECT_MAP + phys as usize)
}
