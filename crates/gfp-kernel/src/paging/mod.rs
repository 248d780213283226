//! Page tables: the direct map, the image, vmalloc's window, and what happens on a page fault.
//!
//! 1. **Where things are.** One set of tables for all CPUs (the entry code of the other CPUs has a
//!    root of its own, which keeps the identity mapping):
//!
//!    | addresses | what | entry of the root |
//!    |---|---|---|
//!    | 0 | physical memory as it is, until the image is protected; then nothing | 0 |
//!    | [`DIRECT_MAP`](crate::arch::DIRECT_MAP) | all memory, never executable | 273 and on |
//!    | [`VMALLOC`] | what `vmalloc` maps, never executable | 402 |
//!    | [`OWN`] | what the kernel maps itself, never executable | 403 |
//!    | [`KBASE`](crate::arch::KBASE) | the image: text, read-only data, data | 511 |
//!
//! 2. **Tables** (`table`) are frames that the direct map shows. A table is never freed, and the
//!    entries of the root are made before a second CPU runs, so no CPU ever lacks one.
//! 3. **Concurrency.** Who maps or unmaps owns the pages; their entries are touched by nobody else.
//!    What two CPUs share is the tables above: a missing one is made by compare-and-swap, and the
//!    loser keeps its frame for the next need.
//! 4. **Forgetting** (`shootdown`). A CPU may remember an entry after it was cleared. Nothing is
//!    remembered of an entry that was empty, so mapping needs no flush.
//! 5. **Direct map and image** (`direct`): large pages, made before the library boots.
//! 6. **Faults** (`fault`): what was wrong with an access, and whose memory was missed.
//! 7. **Failure.** No memory for a table: all that was mapped is undone and forgotten.

mod direct;
pub mod fault;
pub mod shootdown;
mod table;

#[cfg(debug_assertions)]
pub(crate) use direct::boot_stack_guard;
pub use direct::direct_map_up_to;
pub(crate) use direct::protect_image;
pub use table::frame_at;

use crate::controls::{Control, broken};
use crate::platform::Machine;
use core::ptr::NonNull;
use gfp::frame::{PAGE_SHIFT, PAGE_SIZE, Pfn};
use gfp::platform::{FrameRun, MapError, Mapped, Paging, Protection};
use table::{Entry, Table, Tables};

/// Where vmalloc's window starts.
pub const VMALLOC: usize = 0xffff_c900_0000_0000;
/// Bytes of it: one entry of the root.
pub const VMALLOC_BYTES: usize = 512 << 30;
/// The window behind it, of the same size: what the kernel maps by itself.
pub const OWN: usize = VMALLOC + VMALLOC_BYTES;

static WINDOWS: [Table; 2] = [const { Table::new() }; 2];

/// Makes the windows. Once, on the first CPU, before the others start.
pub(crate) fn init() {
    for (window, table) in [VMALLOC, OWN].into_iter().zip(&WINDOWS) {
        let entry = Entry::table(table.phys());
        Table::root().set(table::index(window, table::ROOT), entry);
    }
}

/// Maps `runs` from `at` on.
///
/// # Errors
/// No frame for a table; nothing is mapped then.
///
/// # Safety
/// As [`Paging::map`], inside one of the two windows.
pub unsafe fn map(
    at: usize,
    runs: &mut dyn Iterator<Item = FrameRun>,
    protection: Protection,
    table: &mut dyn FnMut() -> Option<Pfn>,
) -> Result<(), MapError> {
    debug_assert!(at.is_multiple_of(PAGE_SIZE) && at.wrapping_sub(VMALLOC) < 2 * VMALLOC_BYTES);
    let mut tables = Tables::new(table);
    let (mut leaf, mut done, mut last) = (None, 0, Entry::EMPTY);
    for run in runs {
        for frame in 0..run.pages {
            let addr = at + (done << PAGE_SHIFT);
            let index = table::index(addr, table::LEAF);
            let under = match leaf.filter(|_| index != 0) {
                Some(under) => under,
                None => match tables.leaf(addr) {
                    Some(under) => *leaf.insert(under),
                    None => {
                        // SAFETY: mapped just now, and nobody knows of it.
                        unsafe { unmap(at, done) };
                        // A CPU may have looked ahead.
                        shootdown::flush(at, done);
                        return Err(MapError::NoMemory);
                    }
                },
            };
            debug_assert!(
                !under.get(index).is_present() || broken(Control::Guard) || broken(Control::Unmap),
                "{addr:#x} is mapped"
            );
            last = Entry::page(run.first.add(frame), protection);
            under.set(index, last);
            done += 1;
        }
    }
    if broken(Control::Guard)
        && let Some(under) = tables.leaf(at + (done << PAGE_SHIFT))
    {
        let guard = table::index(at + (done << PAGE_SHIFT), table::LEAF);
        under.clear(guard);
        under.set(guard, last);
    }
    Ok(())
}

/// Takes pages out of the mapping. CPUs may remember them until [`shootdown::flush`].
///
/// # Safety
/// As [`Paging::unmap`].
pub unsafe fn unmap(at: usize, pages: usize) {
    if broken(Control::Unmap) {
        return;
    }
    let pages = pages + usize::from(broken(Control::Guard) && pages > 0);
    let mut leaf = None;
    for page in 0..pages {
        let addr = at + (page << PAGE_SHIFT);
        let index = table::index(addr, table::LEAF);
        if leaf.is_none() || index == 0 {
            leaf = table::leaf(addr);
        }
        debug_assert!(
            leaf.is_some_and(|t| t.get(index).is_present()) || broken(Control::Guard),
            "{addr:#x} is not mapped"
        );
        if let Some(under) = leaf {
            under.clear(index);
        }
    }
}

// SAFETY: [INV-PAGING-1] the window is used by `map` and `unmap` only, whose callers own the pages
// that they name: each shows its frame from `map` to `unmap`, and faults otherwise.
unsafe impl Paging for Machine {
    fn vmalloc_range(&self) -> (NonNull<u8>, usize) {
        const START: NonNull<u8> =
            NonNull::new(core::ptr::with_exposed_provenance_mut(VMALLOC)).expect("it is not 0");
        (START, VMALLOC_BYTES)
    }

    unsafe fn map(
        &self,
        at: NonNull<u8>,
        runs: &mut dyn Iterator<Item = FrameRun>,
        protection: Protection,
        table: &mut dyn FnMut() -> Option<Pfn>,
    ) -> Result<Mapped, MapError> {
        // SAFETY: promised by the caller.
        unsafe { map(at.addr().get(), runs, protection, table) }.map(|()| Mapped::Content)
    }

    unsafe fn unmap(&self, at: NonNull<u8>, pages: usize) {
        // SAFETY: promised by the caller.
        unsafe { unmap(at.addr().get(), pages) }
    }

    fn flush(&self, at: NonNull<u8>, pages: usize) {
        shootdown::flush(at.addr().get(), pages);
    }

    fn flush_ranges(&self, ranges: &mut dyn Iterator<Item = (NonNull<u8>, usize)>) {
        shootdown::flush_ranges(&mut ranges.map(|(at, pages)| (at.addr().get(), pages)));
    }
}
