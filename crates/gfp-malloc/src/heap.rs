//! A machine with what `malloc` needs around it.
//!
//! | request | served by | why |
//! |---|---|---|
//! | up to 8 bytes | class of 8 | a C object of that size needs no more alignment |
//! | up to 4 KiB | kmalloc classes | aligned to 16 at least |
//! | up to 8 KiB | caches of [`MIDDLE`], then kmalloc's 8 KiB | a page and a header is common |
//! | up to [`KMALLOC_LIMIT`] | kmalloc's whole blocks of pages | no change of mappings |
//! | up to 4 MiB, memory plenty | the same | the same, and pages used before are there still |
//! | more | vmalloc | page granular; needs no memory that lies together |
//!
//! What one of the last three cannot give is asked from the other. A request of a signal handler
//! that interrupted the machine is served from the [`Reserve`], which is an area of vmalloc, so
//! that a free of small memory need not look for it.

mod boot;
mod park;

use crate::events;
use crate::parked::{Park, Parked};
use crate::reserve::{self, Freed, Reserve};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, Ordering};
use gfp::flags::{GFP_KERNEL, Gfp};
use gfp::frame::{Order, PAGE_SIZE};
use gfp::policy::size_class::{KMALLOC, KMALLOC_MAX_CACHE_SIZE};
use gfp::report::{Caller, Misuse, Owner, Report};
use gfp::slab::{CacheRef, ZERO_SIZE_PTR};
use gfp::stat::Source;
use gfp::vmalloc::AreaRequest;
use gfp::{AllocError, Mm};
use gfp_host::HostPlatform;

/// Above this size in bytes vmalloc is asked first, unless three quarters of memory are free: a
/// block of pages is a power of two, up to twice the request, but a pair of 2 MiB costs 40 ns
/// instead of 15 us, and when all of it is written 16 us instead of 900.
pub const KMALLOC_LIMIT: usize = 1 << 20;
/// The alignment of `malloc` for sizes above 8 bytes.
pub const MIN_ALIGN: usize = 16;
/// Largest size of an object (`PTRDIFF_MAX`).
pub const MAX_SIZE: usize = isize::MAX as usize;

/// What `malloc` may do to get memory. A failure is told to the program, and needs no other report.
const GFP: Gfp = GFP_KERNEL.with(Gfp::NOWARN);
/// Requests that take the slow way, between two looks at the numbers for the record.
const SLOW_CALLS: u32 = 64;
/// Least memory of a machine, in bytes.
pub const MIN_MEMORY: usize = 4 << 20;

/// Sizes of objects between kmalloc's classes of 4 and 8 KiB: seven, six and five to 32 KiB.
/// Programs that put a header before a page (databases do) would use a second page for it.
pub const MIDDLE: [usize; 3] = [4672, 5456, 6544];
const MIDDLE_NAMES: [&str; 3] = ["malloc-4672", "malloc-5456", "malloc-6544"];
/// Largest size of the quick path.
const QUICK_MAX: usize = 4096;

/// What the memory must contain.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Fill {
    /// Anything.
    None,
    /// Zeroes.
    Zero,
}

impl Fill {
    #[inline(always)]
    const fn flags(self) -> Gfp {
        match self {
            Fill::None => GFP,
            Fill::Zero => GFP.with(Gfp::ZERO),
        }
    }
}

/// Counters of slow calls, shared out over threads so that they do not write one line.
const COUNTERS: usize = 16;

/// A machine that serves one program.
#[repr(C)]
pub struct Heap {
    mm: Mm<HostPlatform>,
    memory: usize,
    reserve: Option<Reserve>,
    middle: [Option<CacheRef>; MIDDLE.len()],
    parked: Parked,
    slow_calls: [Counter; COUNTERS],
}

/// A count on a line of its own.
#[derive(Default)]
#[repr(align(128))]
struct Counter(AtomicU32);

impl Heap {
    /// The machine.
    pub fn mm(&self) -> &Mm<HostPlatform> {
        &self.mm
    }

    /// The numbers behind the text views.
    pub fn source(&self) -> &dyn Source {
        &self.mm
    }

    /// Memory for `size` bytes aligned to `align`, a power of two, and to what `malloc` promises.
    /// `None` was counted.
    #[inline(always)]
    pub fn alloc(
        &self,
        size: usize,
        align: usize,
        fill: Fill,
        caller: usize,
    ) -> Option<NonNull<u8>> {
        debug_assert!(align.is_power_of_two());
        // Classes above 8 bytes are aligned to 16 at least.
        if size <= QUICK_MAX && align <= MIN_ALIGN {
            let size = size.max(if align > 8 { MIN_ALIGN } else { 1 });
            if let Some(memory) = self.mm.slabs().kmalloc_quick(size) {
                if fill == Fill::Zero {
                    // SAFETY: ours, and of at least that size.
                    unsafe { memory.write_bytes(0, size) };
                }
                return Some(memory);
            }
            self.alloc_small(size, align, fill)
        } else {
            self.alloc_large(size, align, fill, caller)
        }
    }

    #[inline(never)]
    fn alloc_small(&self, size: usize, align: usize, fill: Fill) -> Option<NonNull<u8>> {
        self.count_slow_call();
        match self.mm.kmalloc(size, fill.flags()) {
            Ok(memory) => Some(memory),
            Err(why) => self.refused(size, align, fill, 0, why),
        }
    }

    fn alloc_middle(&self, size: usize, align: usize, fill: Fill) -> Option<NonNull<u8>> {
        debug_assert!(size > QUICK_MAX);
        let class = MIDDLE.iter().position(|class| size <= *class);
        let memory = match class.and_then(|class| self.middle[class]) {
            Some(cache) => self.mm.slabs().cache_alloc(cache, GFP, None).ok(),
            None => self.mm.slabs().kmalloc_quick(size),
        };
        if let Some(memory) = memory {
            if fill == Fill::Zero {
                // SAFETY: ours, and of at least that size.
                unsafe { memory.write_bytes(0, size) };
            }
            return Some(memory);
        }
        self.alloc_small(size, align, fill)
    }

    #[inline(never)]
    fn alloc_large(
        &self,
        size: usize,
        align: usize,
        fill: Fill,
        caller: usize,
    ) -> Option<NonNull<u8>> {
        if size <= KMALLOC_MAX_CACHE_SIZE && align <= MIN_ALIGN {
            return self.alloc_middle(size, align, fill);
        }
        self.count_slow_call();
        if size > MAX_SIZE {
            events::failure(size);
            return None;
        }
        let pages = size.max(MIN_ALIGN);
        if self.is_for_pages(pages, align) {
            // No heroics, which would be in vain each time in memory that is scattered.
            let gfp = fill.flags().with(Gfp::NORETRY);
            match self.mm.kmalloc_aligned(pages, align, gfp) {
                Ok(memory) => return Some(memory),
                Err(why @ AllocError::Nested) => {
                    return self.refused(size, align, fill, caller, why);
                }
                Err(_) => {}
            }
        }
        let why = match self.area(size, align, fill, caller) {
            Ok(memory) => return Some(memory),
            Err(why) => why,
        };
        let last = match why {
            AllocError::Nested => Err(why),
            _ => self.mm.kmalloc_aligned(pages, align, fill.flags()),
        };
        match last {
            Ok(memory) => Some(memory),
            Err(_) => self.refused(size, align, fill, caller, why),
        }
    }

    /// True if a request is better served by pages that lie together than by an area.
    fn is_for_pages(&self, size: usize, align: usize) -> bool {
        let block = Order::MAX.bytes();
        if size > block || align > block {
            return false;
        }
        let pages = self.mm.pages();
        size <= KMALLOC_LIMIT || pages.free_page_count() / 3 > pages.managed_pages() / 4
    }

    fn area(
        &self,
        size: usize,
        align: usize,
        fill: Fill,
        caller: usize,
    ) -> Result<NonNull<u8>, AllocError> {
        if let Some(memory) = self.take_parked(size, align, fill) {
            return Ok(memory);
        }
        let plain = AreaRequest::new(size.max(1), fill.flags(), Caller::Address(caller));
        self.mm
            .vmalloc_space()
            .alloc_area(&AreaRequest { align, ..plain })
    }

    /// The machine refused: what is parked may help; for a handler that interrupted it there is the
    /// reserve.
    #[cold]
    #[inline(never)]
    fn refused(
        &self,
        size: usize,
        align: usize,
        fill: Fill,
        caller: usize,
        why: AllocError,
    ) -> Option<NonNull<u8>> {
        if why != AllocError::Nested && self.unpark() {
            return self.alloc(size, align, fill, caller);
        }
        if why == AllocError::Nested
            && size.max(align) <= reserve::BLOCK
            && let Some(block) = self.reserve.as_ref().and_then(Reserve::alloc)
        {
            if fill == Fill::Zero {
                // SAFETY: the block is ours and has BLOCK bytes.
                unsafe { block.write_bytes(0, size) };
            }
            return Some(block);
        }
        match why {
            AllocError::NoMemory { .. } => events::out_of_memory(self, size, align, caller),
            _ => events::failure(size),
        }
        None
    }

    /// Takes memory back. Of a pointer that is none of ours, or free already, this is reported.
    ///
    /// # Safety
    /// If the memory is live, the caller's use of it is over.
    #[inline(always)]
    pub unsafe fn free(&self, memory: NonNull<u8>, caller: usize) {
        // SAFETY: the caller's promise.
        if !unsafe { self.mm.slabs().kfree_quick(memory) } {
            // SAFETY: the caller's promise; nothing was done yet.
            unsafe { self.free_slow(memory, caller) }
        }
    }

    /// # Safety
    /// As [`Heap::free`].
    #[inline(never)]
    unsafe fn free_slow(&self, memory: NonNull<u8>, caller: usize) {
        if memory == ZERO_SIZE_PTR {
            // Nothing to kfree (S15), but no memory that `malloc` ever gave.
            let (addr, caller) = (memory.addr().get(), Caller::Address(caller));
            return self.mm.complain(Misuse::WildFree, addr, caller);
        }
        // SAFETY: the caller's promise.
        if let Err(misuse) = unsafe { self.mm.slabs().kfree(memory.as_ptr()) } {
            // SAFETY: the caller's promise.
            unsafe { self.free_other(memory, misuse, caller) }
        }
    }

    /// Frees what is not from kmalloc.
    ///
    /// # Safety
    /// As [`Heap::free`].
    #[inline(never)]
    unsafe fn free_other(&self, memory: NonNull<u8>, misuse: Misuse, caller: usize) {
        let addr = memory.addr().get();
        let caller = Caller::Address(caller);
        let areas = self.mm.vmalloc_space();
        if !areas.is_vmalloc_addr(addr) {
            return self.mm.complain(misuse, addr, caller);
        }
        if let Some(reserve) = self
            .reserve
            .as_ref()
            .filter(|reserve| reserve.contains(addr))
        {
            return free_reserved(reserve, addr, caller);
        }
        self.count_slow_call();
        let parked = match areas.vmalloc_size(addr) {
            Some(size) => self.parked.park(addr, size.next_multiple_of(PAGE_SIZE)),
            None => Park::Full,
        };
        match parked {
            Park::Done => return,
            Park::Twice => return self.mm.complain(Misuse::DoubleFree, addr, caller),
            Park::Full => {}
        }
        // SAFETY: the caller's promise.
        if let Err(misuse) = unsafe { areas.vfree(memory.as_ptr(), caller) } {
            self.mm.complain(misuse, addr, caller);
        }
    }

    /// Bytes that the owner of `memory` may use; 0 if it is not the start of live memory of ours.
    #[inline]
    pub fn usable(&self, memory: NonNull<u8>) -> usize {
        match self.mm.ksize(memory.as_ptr()) {
            0 => self.usable_other(memory.addr().get()),
            size => size,
        }
    }

    #[inline(never)]
    fn usable_other(&self, addr: usize) -> usize {
        let areas = self.mm.vmalloc_space();
        if !areas.is_vmalloc_addr(addr) {
            return 0;
        }
        match &self.reserve {
            Some(reserve) if reserve.contains(addr) => reserve::BLOCK,
            _ if self.parked.contains(addr) => 0,
            _ => areas
                .vmalloc_size(addr)
                .unwrap_or(0)
                .next_multiple_of(PAGE_SIZE),
        }
    }

    /// Gives `old` another size, in place or elsewhere, with at least `align`.
    ///
    /// # Safety
    /// If the memory is live, the caller's use of `old` is over, unless this fails.
    pub unsafe fn resize(
        &self,
        old: NonNull<u8>,
        size: usize,
        align: usize,
        caller: usize,
    ) -> Option<NonNull<u8>> {
        let usable = self.usable(old);
        if usable == 0 {
            self.complain_of_resize(old.addr().get(), Caller::Address(caller));
            events::failure(size);
            return None;
        }
        // Shrinking to less than half is worth a copy.
        if size <= usable && size >= usable / 2 {
            return Some(old);
        }
        // A smaller block is no reason to die: there is one already.
        if size <= usable && events::kills() && !self.has_plenty_beside(size) {
            return Some(old);
        }
        let Some(new) = self.alloc(size, align, Fill::None, caller) else {
            // No memory to move to: who wants less keeps what there is.
            return (size <= usable).then_some(old);
        };
        // SAFETY: both are live, at least that large, and apart.
        unsafe { new.copy_from_nonoverlapping(old, usable.min(size)) };
        // SAFETY: the caller's promise.
        unsafe { self.free(old, caller) };
        Some(new)
    }

    /// True if a request for `size` bytes will hardly be what uses memory up.
    fn has_plenty_beside(&self, size: usize) -> bool {
        let free = self.mm.pages().free_page_count() * PAGE_SIZE;
        free / 2 > size.saturating_add(self.usage().managed_bytes / 16)
    }

    /// Reports a resize of what is no start of live memory, by what it is.
    #[cold]
    fn complain_of_resize(&self, addr: usize, caller: Caller) {
        let misuse = self.mm.with_owner_of(addr, |owner| match owner {
            Owner::Object { start, .. }
            | Owner::LargeKmalloc { start, .. }
            | Owner::Area { start, .. }
                if start != addr =>
            {
                Misuse::InteriorFree
            }
            Owner::Object { .. } | Owner::Free { .. } => Misuse::DoubleFree,
            _ => Misuse::WildFree,
        });
        self.mm.complain(misuse, addr, caller);
    }

    /// Gives free memory back to the operating system; how many pages.
    pub fn trim(&self) -> usize {
        self.unpark();
        self.mm.trim()
    }

    /// How much there is, and how much of it is used.
    pub fn usage(&self) -> Usage {
        let pages = self.mm.pages();
        let areas = self.mm.vmalloc_space().vmalloc_counters();
        let managed = pages.managed_pages();
        let parked = self.parked.bytes();
        Usage {
            managed_bytes: managed * PAGE_SIZE,
            in_use_bytes: (managed.saturating_sub(pages.free_page_count()) * PAGE_SIZE)
                .saturating_sub(parked),
            peak_bytes: pages.peak_pages() * PAGE_SIZE,
            vmalloc_areas: areas.areas.saturating_sub(self.parked.count()),
            vmalloc_bytes: (areas.pages * PAGE_SIZE).saturating_sub(parked),
            vmalloc_peak_bytes: areas.peak_pages * PAGE_SIZE,
        }
    }

    #[inline]
    fn count_slow_call(&self) {
        // Not one locked operation: a count that is lost now and then delays a look at the numbers.
        let thread = gfp_host::slots::current().map_or(0, |cpu| cpu.0 as usize);
        let Counter(count) = &self.slow_calls[thread % COUNTERS];
        let calls = count.load(Ordering::Relaxed).wrapping_add(1);
        count.store(calls, Ordering::Relaxed);
        if calls.is_multiple_of(SLOW_CALLS) {
            events::update(self);
        }
    }
}

#[cold]
fn free_reserved(reserve: &Reserve, addr: usize, caller: Caller) {
    // SAFETY: the address is in the reserve, and its use is over (the caller's promise).
    let misuse = match unsafe { reserve.free(addr) } {
        Freed::Yes => return,
        Freed::Double => Misuse::DoubleFree,
        Freed::Interior => Misuse::InteriorFree,
    };
    let start = addr & !(reserve::BLOCK - 1);
    let owner = Owner::LargeKmalloc {
        start,
        size: reserve::BLOCK,
    };
    events::misuse(&Report {
        misuse,
        addr,
        owner,
        caller,
    });
}

/// Sums over a machine, in bytes.
#[derive(Copy, Clone, Default, Debug)]
pub struct Usage {
    /// RAM under management.
    pub managed_bytes: usize,
    /// Not free; what vmalloc uses is in it.
    pub in_use_bytes: usize,
    /// The most that ever was not free.
    pub peak_bytes: usize,
    /// Areas of vmalloc.
    pub vmalloc_areas: usize,
    /// Their bytes.
    pub vmalloc_bytes: usize,
    /// The most that ever were theirs.
    pub vmalloc_peak_bytes: usize,
}

/// The bytes that a request for `size` gets.
pub fn good_size(size: usize) -> usize {
    let middle = MIDDLE.into_iter().find(|class| size <= *class);
    if let Some(class) = middle.filter(|_| size > QUICK_MAX) {
        return class;
    }
    match KMALLOC.size_for(size.max(1)) {
        Some(class) => class,
        None if size <= KMALLOC_LIMIT => size.next_power_of_two(),
        None => size.checked_next_multiple_of(PAGE_SIZE).unwrap_or(size),
    }
}
