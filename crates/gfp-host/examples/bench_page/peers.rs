//! The other crates, each over addresses that nothing touches.

use crate::side::Side;
use buddy_system_allocator::FrameAllocator;
use core::ptr::NonNull;
use frame_alloc::{
    CpuId, DepotAllocator, PageSize, PhysicalAllocator, Provenance, RegionInit,
    SummaryBuddyAllocator,
};
use gfp::frame::{NR_ORDERS, Order, PAGE_SHIFT, PAGE_SIZE};
use std::cell::Cell;
use std::num::NonZeroUsize;
use std::sync::Mutex;

/// Addresses without memory until they are touched; given back when dropped.
struct Addresses {
    /// Where they start, exposed.
    base: usize,
    bytes: usize,
}

impl Addresses {
    fn new(bytes: usize) -> Addresses {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping, anywhere.
        let start = unsafe { libc::mmap(core::ptr::null_mut(), bytes, access, flags, -1, 0) };
        assert_ne!(start, libc::MAP_FAILED, "no addresses");
        let base = start.expose_provenance();
        Addresses { base, bytes }
    }
}

impl Drop for Addresses {
    fn drop(&mut self) {
        let start = core::ptr::with_exposed_provenance_mut(self.base);
        // SAFETY: mapped in `new`; its allocator goes with it.
        unsafe { libc::munmap(start, self.bytes) };
    }
}

/// Physical addresses are addresses of the process.
pub(crate) struct Exposed;

// SAFETY: the addresses are one mapping, exposed in `Addresses::new`; nothing ends in `destroy`.
unsafe impl Provenance for Exposed {
    unsafe fn create(phys: usize) -> NonNull<u8> {
        NonNull::new(core::ptr::with_exposed_provenance_mut(phys)).expect("not 0")
    }

    unsafe fn destroy<T>(ptr: NonNull<T>) -> usize {
        ptr.addr().get()
    }
}

thread_local! {
    static INDEX: Cell<usize> = const { Cell::new(0) };
}

/// Says which thread of the run this is: the peer's caches are chosen by it.
pub(crate) fn set_thread(index: usize) {
    INDEX.set(index);
}

pub(crate) struct ThreadAsCpu;

impl CpuId for ThreadAsCpu {
    #[inline(always)]
    fn current_cpu() -> usize {
        INDEX.get()
    }
}

pub(crate) type Bare = SummaryBuddyAllocator<NR_ORDERS, Exposed>;
pub(crate) type Depot = DepotAllocator<Bare, ThreadAsCpu, 64>;

const PAGE: PageSize = PageSize::from_log2(PAGE_SHIFT as u8);
const ONE: NonZeroUsize = NonZeroUsize::MIN;

/// An allocator of crate `frame-alloc` and its addresses.
pub(crate) struct FrameAlloc<A> {
    inner: A,
    addresses: Addresses,
}

/// Its lock-free bitmap buddy.
pub(crate) type SummaryBuddy = FrameAlloc<Bare>;
/// The same behind its cache, which has single frames only.
pub(crate) type Cached = FrameAlloc<Depot>;

impl<A: RegionInit> FrameAlloc<A> {
    fn over(inner: A, bytes: usize) -> FrameAlloc<A> {
        let addresses = Addresses::new(bytes);
        // SAFETY: the addresses are this allocator's alone, which no other thread knows yet.
        unsafe { inner.init_region(addresses.base, bytes) };
        FrameAlloc { inner, addresses }
    }
}

impl SummaryBuddy {
    pub(crate) fn new(bytes: usize) -> SummaryBuddy {
        FrameAlloc::over(Bare::new(PAGE), bytes)
    }
}

impl Cached {
    pub(crate) fn new(bytes: usize) -> Cached {
        FrameAlloc::over(Depot::new(PAGE, Bare::new(PAGE)), bytes)
    }
}

fn size(order: Order) -> PageSize {
    PageSize::from_log2(PAGE_SHIFT as u8 + order.get())
}

impl<A: PhysicalAllocator + Sync> Side for FrameAlloc<A> {
    #[inline(always)]
    fn get(&self, order: Order) -> Option<u32> {
        let phys = self.inner.allocate_physical(size(order), ONE).ok()?;
        Some(((phys - self.addresses.base) / PAGE_SIZE) as u32)
    }

    #[inline(always)]
    fn put(&self, frame: u32, order: Order) {
        let phys = self.addresses.base + frame as usize * PAGE_SIZE;
        // SAFETY: rows put what they got, once.
        unsafe { self.inner.deallocate_physical(size(order), ONE, phys) };
    }

    /// Its README: under contention it may fail although there is memory.
    fn get_sure(&self, order: Order) -> u32 {
        const TRIES: usize = 1_000_000;
        let mut tries = (0..TRIES).map(|_| self.get(order));
        tries.find_map(|got| got).expect("there is memory")
    }
}

/// `buddy_system_allocator`'s allocator of frames behind a mutex.
pub(crate) struct Buddy {
    inner: Mutex<FrameAllocator<NR_ORDERS>>,
}

impl Buddy {
    pub(crate) fn new(bytes: usize) -> Buddy {
        let mut inner = FrameAllocator::new();
        inner.add_frame(0, bytes / PAGE_SIZE);
        Buddy {
            inner: Mutex::new(inner),
        }
    }
}

impl Side for Buddy {
    #[inline(always)]
    fn get(&self, order: Order) -> Option<u32> {
        let mut inner = self.inner.lock().expect("nobody panics");
        inner.alloc(order.pages()).map(|frame| frame as u32)
    }

    #[inline(always)]
    fn put(&self, frame: u32, order: Order) {
        let mut inner = self.inner.lock().expect("nobody panics");
        inner.dealloc(frame as usize, order.pages());
    }
}
