//! The machine's memory: one [`Mm`], and Rust's allocator over it.

use crate::once::Once;
use crate::platform::Machine;
use crate::sched;
use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{NonNull, null_mut};
use gfp::Mm;
use gfp::flags::{GFP_ATOMIC, GFP_KERNEL, Gfp};
use gfp::frame::{Order, PAGE_SIZE};
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
    let mm = Mm::boot(machine, map, config)?;
    mm.pages().allow(Gfp::AT_BOOT);
    MM.set(mm);
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

/// Starts the background: tasks for each node with memory, for ever. One frees memory, one makes
/// large blocks of it.
///
/// Context: a task.
///
/// # Panics
/// Without memory for them.
pub fn start_background() {
    for node in mm().pages().nodes() {
        // Nobody waits for them: they do not end.
        drop(sched::spawn("kswapd", move || mm().kswapd(node, || false)));
        let compacts = move || mm().kcompactd(node, || false);
        drop(sched::spawn("kcompactd", compacts));
    }
}

/// Rust's allocator over [`mm`]: `Box`, `Vec`, `Arc` in this kernel.
///
/// Context: any; with `GFP_KERNEL` where the caller may sleep, else with `GFP_ATOMIC`. It gives
/// null, which Rust turns into a panic, in an NMI that came inside a section.
///
/// Alignments up to 4 MiB are honoured. What kmalloc cannot give, or only with effort, comes from
/// vmalloc, in a task: up to 2 GiB.
pub struct KernelAllocator;

/// What the caller may ask with, wherever it runs.
pub fn flags_here(mm: &Mm<Machine>) -> Gfp {
    match mm.platform().context() {
        Context::Task => GFP_KERNEL,
        _ => GFP_ATOMIC,
    }
}

impl KernelAllocator {
    fn get(layout: Layout, with: Gfp) -> *mut u8 {
        let Some(mm) = try_mm().filter(|_| layout.align() <= Order::MAX.bytes()) else {
            return null_mut();
        };
        let gfp = flags_here(mm) | with;
        // What kmalloc and vmalloc give is aligned to the largest power of two that divides the
        // size (S13, V32).
        let size = match layout.align() {
            0..=MIN_ALIGN => layout.size(),
            align => layout.size().next_multiple_of(align),
        };
        let result = match size {
            0..=PAGE_SIZE => mm.kmalloc(size, gfp),
            _ => mm.kvmalloc(size, gfp),
        };
        result.map_or(null_mut(), NonNull::as_ptr)
    }
}

/// What kmalloc's objects are aligned to, whatever their size (S13).
const MIN_ALIGN: usize = 8;

// SAFETY: blocks are as large and aligned as asked for (S13, V32; more than 4 MiB of alignment is
// refused), and nobody else's until they are freed.
unsafe impl GlobalAlloc for KernelAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::get(layout, Gfp::NONE)
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::get(layout, Gfp::ZERO)
    }

    unsafe fn dealloc(&self, at: *mut u8, _layout: Layout) {
        // SAFETY: promised by the caller.
        unsafe { mm().kvfree(at) }
    }

    /// In place where the block is large enough; pages of large blocks are not given back then.
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let mm = mm();
        // A block that shrinks to less than half moves, so that it does not hold memory for ever.
        let fits = mm
            .kvsize(at)
            .is_some_and(|has| size <= has && size >= has / 2);
        if fits {
            return at;
        }
        let Ok(wanted) = Layout::from_size_align(size, layout.align()) else {
            return null_mut();
        };
        let new = Self::get(wanted, Gfp::NONE);
        if !new.is_null() {
            // SAFETY: both are ours, do not overlap, and hold as many bytes; the old one is given
            // up by the caller.
            unsafe {
                at.copy_to_nonoverlapping(new, layout.size().min(size));
                mm.kvfree(at);
            }
        }
        new
    }
}
