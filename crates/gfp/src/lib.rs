//! gfp: the Linux memory-allocation subsystem as a library.
#![no_std]

#[cfg(test)]
extern crate std;

pub mod error;
pub mod flags;
pub mod frame;
pub mod mm;
pub mod overflow;
pub mod page;
pub mod platform;
pub mod policy;
pub mod report;
pub mod slab;
pub mod stat;
pub mod sync;
#[cfg(test)]
mod testing;
pub mod vmalloc;

pub use error::AllocError;
pub use mm::Mm;
pub use platform::{Paging, Platform};
