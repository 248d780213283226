//! The kernel's reading of firmware's tables, hosted: the modules are pure, so they are included
//! here as files; the kernel's library itself cannot be linked into a hosted program.

#[path = "../../src/boot/tables/mod.rs"]
#[forbid(unsafe_code)]
#[allow(dead_code)] // the kernel uses what no test does
pub mod tables;

mod acpi;
mod cmdline;
mod dimm;
mod image;
mod mutated;
mod qemu;
mod regions;
