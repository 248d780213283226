//! The machine's memory: one [`Mm`], and Rust's allocator over it.

use crate::once::Once;
use crate::platform::Machine;
use core::alloc::{GlobalAlloc, Layout};
use core::ptr::null_mut;
use gfp::Mm;
use gfp::flags::{GFP_ATOMIC, GFP_KERNEL, Gfp};
use gfp::page::{BootConfig, BootError, MemoryRegion};
use gfp::platform::{Context, Platform};

static MM: Once<Mm<Machine>> = Once::new();

/// Boots the library over `map`. Once, on the first CPU, before the others start.
///
/// # Errors
/// What is wrong with the map.
///
/// # Panics
/// If it was called before.
pub fn boot(machine: Machine, map: &[MemoryRegion], config: &BootConfig) -> Result<(), BootError> {
    assert!(MM.get().is_none(), "memory is booted once");
    MM.set(Mm::boot(machine, map, config)?);
    Ok(())
}

/// The machine's memory, if it is booted.
#[inline]
pub fn try_mm() -> Option<&'static Mm<Machine>> {
    MM.get()
}

/// The machine's memory.
///
/// # Panics
/// Before [`boot`].
#[inline]
pub fn mm() -> &'static Mm<Machine> {
    match try_mm() {
        Some(mm) => mm,
        None => panic!("memory is used before memory::boot"),
    }
}

/// Rust's allocator over [`mm`]: `Box`, `Vec`, `Arc` in this kernel. May be called from any
/// context: with `GFP_KERNEL` where the caller may sleep, else with `GFP_ATOMIC`.
pub struct KernelAllocator;

impl KernelAllocator {
    /// The size to ask kmalloc for: its blocks of a power of two are aligned to it (S42).
    fn size(layout: Layout) -> usize {
        match layout.align() {
            0..=8 => layout.size(),
            align => layout.size().max(align).next_power_of_two(),
        }
    }

    fn flags(mm: &Mm<Machine>) -> Gfp {
        match mm.platform().context() {
            Context::Task => GFP_KERNEL,
            _ => GFP_ATOMIC,
        }
    }
}

// SAFETY: blocks are those of kmalloc: as large and aligned as asked for, and nobody else's until
// they are freed.
unsafe impl GlobalAlloc for KernelAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let Some(mm) = try_mm() else {
            return null_mut();
        };
        let result = mm.kmalloc(Self::size(layout), Self::flags(mm));
        result.map_or(null_mut(), |p| p.as_ptr())
    }

    unsafe fn dealloc(&self, at: *mut u8, _layout: Layout) {
        // SAFETY: promised by the caller.
        unsafe { mm().kfree(at) }
    }
}
