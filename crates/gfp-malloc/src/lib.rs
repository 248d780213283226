//! gfp as malloc: what the preload library and the command share.
#![no_std]

#[cfg(test)]
extern crate std;

pub mod record;
