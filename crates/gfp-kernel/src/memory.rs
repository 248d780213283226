//! The machine's memory: one [`Mm`], and Rust's allocator over it.

use crate::platform::Machine;
use core::alloc::{GlobalAlloc, Layout};
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicBool, Ordering};
use gfp::Mm;
use gfp::flags::{GFP_ATOMIC, GFP_KERNEL, Gfp};
use gfp::page::{BootConfig, BootError, MemoryRegion};
use gfp::platform::{Context, Platform};

struct Once {
    ready: AtomicBool,
    mm: UnsafeCell<MaybeUninit<Mm<Machine>>>,
}

// SAFETY: [INV-KERNEL-6] written once, by the first CPU before the others start, then only read.
unsafe impl Sync for Once {}

static MM: Once = Once {
    ready: AtomicBool::new(false),
    mm: UnsafeCell::new(MaybeUninit::uninit()),
};

/// Boots the library over `map`. Once, on the first CPU, before the others start.
///
/// # Errors
/// What is wrong with the map.
///
/// # Panics
/// If it was called before.
pub fn boot(machine: Machine, map: &[MemoryRegion], config: &BootConfig) -> Result<(), BootError> {
    assert!(!MM.ready.load(Ordering::Relaxed), "memory is booted once");
    let mm = Mm::boot(machine, map, config)?;
    // SAFETY: [INV-KERNEL-6] nobody reads before `ready`.
    unsafe { (*MM.mm.get()).write(mm) };
    // Release: pairs with the Acquire in `mm`.
    MM.ready.store(true, Ordering::Release);
    Ok(())
}

/// The machine's memory, if it is booted.
#[inline]
pub fn try_mm() -> Option<&'static Mm<Machine>> {
    // Acquire: pairs with the Release in `boot`.
    if !MM.ready.load(Ordering::Acquire) {
        return None;
    }
    // SAFETY: [INV-KERNEL-6] it was written before.
    Some(unsafe { (*MM.mm.get()).assume_init_ref() })
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
