//! Virtually contiguous memory: `vmalloc`, `kvmalloc` and what frees and resizes it (V1-V35).
//!
//! 1. **Concepts.** An *area* is a range of addresses behind which scattered frames are mapped one
//!    after the other, followed by a *guard page* that is never mapped, so that running over the
//!    end faults (V2). Areas lie in one window that the machine gives ([`Paging::vmalloc_range`]).
//! 2. **Structures.** `tree`: every address of the window is in exactly one range, and all ranges
//!    are in one balanced tree, each subtree knowing its largest free range: the lowest fit (V13)
//!    and the range of any address (V12) are found in O(log n). `areas`: the states of ranges on
//!    top of it; free neighbours are always one range (V14). An area's frames are named by an array
//!    of 4 bytes a page, from kmalloc up to a page of array (4 MiB of area), else in an area of its
//!    own, whose array is a thousandth of it (V9).
//! 3. **Allocation** (`alloc`). Reserve addresses; take frames, the largest blocks that come
//!    without reclaim first, then single ones (V8); map; zero; publish (V19). Any failure undoes
//!    all of it.
//! 4. **Free** (`free`). Only the exact start frees; anything else is told apart as double, wild or
//!    interior (V10). The mapping goes at once, the frames return at once, the *addresses* wait:
//!    they are reused only after [`Paging::flush`], since a TLB may remember them (V17). A purge
//!    flushes all that wait when they are many, or when no address is left (V18).
//!    Who had an area, and who freed it, is known until its addresses are used again, for the last
//!    32 purged (`recent`): a handler of page faults asks [`Vmalloc::address_use`].
//! 5. **Locking.** One lock ([`Rank::Vmalloc`], outermost) over the address space, held for O(log
//!    n) steps and never while memory is allocated, mapped, flushed or zeroed. Descriptors come
//!    from a pool on whole pages, filled before the lock is taken. In a state that is neither free
//!    nor busy a range belongs to who put it there, so the work between two locked steps needs no
//!    lock.
//! 6. **Contexts.** Allocation is for tasks; with non-blocking flags it neither purges nor waits
//!    (V4). `vfree` works anywhere: an interrupt leaves the work to the next call from a task, and
//!    a signal handler or NMI in the middle of the allocator writes down the address only
//!    (`postponed`, V10).
//! 7. **Failure.** [`AllocError`](crate::AllocError) with the reason; a misuse is returned to the
//!    layer above, which reports it, and the memory leaks.
//! 8. **What it does not do yet.** Per-CPU pools of addresses, huge mappings, vmap, permissions,
//!    device ranges (issue 7). Pages of descriptors are kept for reuse, never given back.

mod alloc;
mod area;
mod areas;
mod free;
mod kv;
mod postponed;
mod realloc;
mod recent;
#[cfg(test)]
mod tests;
mod tree;
mod view;

use crate::frame::{PAGE_SHIFT, PAGE_SIZE};
use crate::page::PageAllocator;
use crate::platform::{Nested, Paging, Platform};
use crate::slab::Slabs;
use crate::sync::atomic::AtomicUsize;
use crate::sync::{LineBreak, Local, Lock, Rank};
use core::num::NonZero;
use core::ptr::NonNull;

pub use alloc::AreaRequest;
pub use area::{AddressUse, AreaFlags, AreaOwner, AreaView, FreedArea, VmallocCounters};

use areas::Space;
use postponed::Postponed;

/// The virtually contiguous memory of one machine, on top of its slabs and pages.
#[repr(C)]
pub struct Vmalloc<P: Platform> {
    slabs: Slabs<P>,
    _written: LineBreak,
    space: Lock<Space, { Rank::Vmalloc as u8 }>,
    postponed: Postponed,
    /// Frames that the platform took for page tables.
    table_pages: AtomicUsize,
    _end: LineBreak,
}

impl<P: Platform> Vmalloc<P> {
    /// Takes the machine's slabs. Nothing is mapped or allocated before the first request.
    pub fn boot(slabs: Slabs<P>) -> Vmalloc<P> {
        Vmalloc {
            slabs,
            _written: LineBreak,
            space: Lock::new(Space::new()),
            postponed: Postponed::new(),
            table_pages: AtomicUsize::new(0),
            _end: LineBreak,
        }
    }

    /// The slab caches below.
    #[inline]
    pub fn slabs(&self) -> &Slabs<P> {
        &self.slabs
    }

    /// The page allocator below them.
    #[inline]
    pub fn pages(&self) -> &PageAllocator<P> {
        self.slabs.pages()
    }

    #[inline]
    fn platform(&self) -> &P {
        self.pages().platform()
    }

    /// Works on the address space under its lock.
    fn with_space<R>(&self, work: impl FnOnce(&mut Space) -> R) -> Result<R, Nested> {
        let local = Local::enter(self.platform())?;
        let mut space = self.space.lock(&local);
        Ok(work(&mut space))
    }
}

impl<P: Paging> Vmalloc<P> {
    /// True if the address lies in the vmalloc window: a test of the range only (V12).
    ///
    /// Context: any.
    #[inline]
    pub fn is_vmalloc_addr(&self, addr: usize) -> bool {
        let (start, bytes) = self.platform().vmalloc_range();
        addr.wrapping_sub(start.addr().get()) < bytes
    }

    /// The pointer to an address of the window.
    fn ptr_at(&self, addr: usize) -> NonNull<u8> {
        debug_assert!(self.is_vmalloc_addr(addr));
        let (start, _) = self.platform().vmalloc_range();
        start.with_addr(NonZero::new(addr).unwrap_or(start.addr()))
    }

    fn window(&self) -> (usize, usize) {
        let (start, bytes) = self.platform().vmalloc_range();
        debug_assert!(start.addr().get().is_multiple_of(PAGE_SIZE));
        (start.addr().get(), bytes >> PAGE_SHIFT << PAGE_SHIFT)
    }
}
