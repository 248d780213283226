//! gfp as `malloc`: what the preload library, Rust programs and the command share.
//!
//! 1. **Concepts.** [`Malloc`] is the C library's allocation functions over a machine of its own,
//!    and a [`GlobalAlloc`](core::alloc::GlobalAlloc). The exported C names live in the preload
//!    library alone (`preload/`), so that linking this crate replaces no program's `malloc`.
//! 2. **Structure.** `malloc`: semantics of each function; `heap`: which part of the machine
//!    serves a request; `reserve`: memory for signal handlers; `env`: settings; `events`: misuse
//!    and failures; `record`: the shared record; `sys`: system calls.
//! 3. **Start.** All state is constant. The first call makes the machine, on whatever thread and
//!    however early; others wait. Nothing here allocates through std or calls what allocates.
//! 4. **Failure.** Null, and a count in the record. Misuse is one line on standard error.
//! 5. **What it does not do.** No memory is returned from a program's heap to another's; no
//!    hardening beyond the reports.
#![no_std]

#[cfg(test)]
extern crate std;

#[cfg(not(loom))]
pub mod env;
#[cfg(not(loom))]
pub mod events;
#[cfg(not(loom))]
pub mod heap;
#[cfg(not(loom))]
mod malloc;
#[cfg(not(loom))]
pub mod parked;
#[cfg_attr(loom, allow(dead_code))]
pub mod record;
pub mod reserve;
#[cfg(not(loom))]
pub mod sys;
#[cfg(not(loom))]
pub mod views;

#[cfg(not(loom))]
pub use heap::{Fill, Heap};
#[cfg(not(loom))]
pub use malloc::{MIN_MEMORY, Malloc};

/// The atomics of the target, or those of a model checker (what is modelled is built then, and
/// nothing above it).
mod atomic {
    #[cfg(not(loom))]
    pub(crate) use core::sync::atomic::*;
    #[cfg(loom)]
    pub(crate) use loom::sync::atomic::*;
}
