#![no_std]
//! gfp: the Linux memory-allocation subsystem as a library.

pub mod flags;
pub mod overflow;
pub mod policy;
