//! gfp in a Linux process: RAM from `mmap`, threads as CPUs.
//!
//! 1. **RAM.** [`HostPlatform`] reserves a fixed amount of address space once; the operating system
//!    commits a page when it is touched and gets it back when the library reports it free.
//!    `ram.rs`.
//! 2. **CPUs.** A CPU of the library is a *slot*, bound to a thread from its first call to its
//!    exit. Inside a section the thread marks its slot busy with a plain store; who needs a foreign
//!    slot stops it with a flag and one `membarrier`. `slots/`, the theory is there.
//!    For those who ask ([`PerCpu::Rseq`]), where kernel and C library have them: places of
//!    processors, claimed by restartable sequences, so that there are no more private caches than
//!    processors. `cpus.rs`, `rseq.rs`.
//! 3. **vmalloc.** A second range of addresses, reserved without access; mapping makes pages of it
//!    accessible. `paging.rs`.
//! 4. **Fork.** [`fork`] brings all slots to rest, so that no lock is held when the process is
//!    copied.
//! 5. **What may be called from where.** Nothing here allocates, so all of it may run inside
//!    `malloc`. `errno` is left alone. A signal handler that interrupts a section is told
//!    [`Nested`](gfp::platform::Nested).
//! 6. **Several machines.** Each [`HostPlatform`] is a machine of its own, but the slots are the
//!    process's: a thread is inside at most one section, of whatever machine. A section of machine
//!    A inside a section of machine B is refused as nested.
//! 7. **Services.** [`Host`] is a machine for a Rust program, without unsafe code: buffers, caches
//!    that give way, background threads. `service/`, the only part that uses std.
#![no_std]

#[cfg(test)]
extern crate std;

#[cfg(loom)]
#[path = "slots/protocol.rs"]
pub mod protocol;

#[cfg(loom)]
#[path = "slots/place.rs"]
pub mod place;

#[cfg(not(loom))]
mod cpus;
#[cfg(not(loom))]
mod paging;
#[cfg(not(loom))]
mod platform;
#[cfg(not(loom))]
mod ram;
#[cfg(not(loom))]
pub mod raw;
#[cfg(all(target_arch = "x86_64", not(loom)))]
pub mod rseq;
#[cfg(not(loom))]
pub mod service;
#[cfg(not(loom))]
mod sleep;
#[cfg(not(loom))]
pub mod slots;
#[cfg(not(loom))]
mod sys;
#[cfg(not(loom))]
mod text;
#[cfg(not(loom))]
mod user;

#[cfg(not(loom))]
pub use cpus::PerCpu;
#[cfg(not(loom))]
pub use platform::{HostPlatform, MemoryMap};
#[cfg(not(loom))]
pub use ram::{Backing, FailureReports, HostConfig, HostError};
#[cfg(not(loom))]
pub use service::{
    Background, Buffer, Host, OomSourceGuard, PressureGuard, ReportingGuard, ShrinkerGuard,
};
#[cfg(not(loom))]
pub use slots::{NR_SLOTS, Section, fork};
