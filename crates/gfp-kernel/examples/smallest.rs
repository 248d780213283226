//! The smallest kernel on gfp: one CPU, 16 MiB of static RAM. It boots, and runs in a process too.
#![cfg_attr(image, no_std, no_main)]
use core::cell::UnsafeCell;
use gfp::flags::GFP_KERNEL;
use gfp::frame::PhysAddr;
use gfp::page::{BootConfig, MemoryRegion};
use gfp::platform::{DirectMap, SingleCore};

const SIZE: usize = 16 << 20;
#[repr(align(4096))]
struct Ram(UnsafeCell<[u8; SIZE]>);
// SAFETY: one CPU, and it is touched through gfp only.
unsafe impl Sync for Ram {}
static RAM: Ram = Ram(UnsafeCell::new([0; SIZE]));

fn kernel() -> Option<()> {
    let map = DirectMap::new(RAM.0.get().cast(), PhysAddr(0)); // where physical address 0 is seen
    // SAFETY: the RAM is ours, stays, and one CPU uses it.
    let platform = unsafe { SingleCore::new(map) };
    let ram = [MemoryRegion::usable(PhysAddr(0), PhysAddr(SIZE as u64))];
    let mm = gfp::Mm::boot(platform, &ram, &BootConfig::default()).ok()?;
    let p = mm.kzalloc(100, GFP_KERNEL).ok()?;
    // SAFETY: an object of ours, freed once.
    unsafe { mm.kfree(p.as_ptr()) };
    mm.verify().ok()
}

include!("support/entry.rs"); // how this kernel is entered, prints and ends
