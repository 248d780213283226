//! gfp: the Linux memory-allocation subsystem as a library.
#![no_std]

#[cfg(test)]
extern crate std;

pub mod error;
pub mod flags;
pub mod frame;
pub mod overflow;
pub mod platform;
pub mod policy;
pub mod report;
pub mod sync;

pub use error::AllocError;
pub use platform::{Paging, Platform};
