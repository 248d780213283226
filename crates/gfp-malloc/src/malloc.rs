//! The C library's allocation functions, without their names.
//!
//! They answer null on failure and leave `errno` to the exported names. `caller` is a code address
//! for reports; 0 where none is known.

pub use crate::heap::MIN_MEMORY;
use crate::heap::{Fill, Heap, MAX_SIZE};
use crate::sys;
use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

/// `malloc` over a machine of its own, made at the first call.
///
/// Constant, so it can be a `static` and is ready before any constructor runs. The machine lives as
/// long as the process, also when the value is dropped.
///
/// ```
/// use gfp_malloc_core::Malloc;
/// #[global_allocator]
/// static GFP: Malloc = Malloc::with_memory(64 << 20);
/// let numbers: Vec<u64> = (0..1000).collect();
/// assert_eq!(numbers.iter().sum::<u64>(), 499_500);
/// assert!(GFP.usable(numbers.as_ptr().cast_mut().cast()) >= 8000);
/// ```
pub struct Malloc {
    heap: AtomicPtr<Heap>,
    /// The thread that makes the heap; [`NOBODY`], [`DONE`].
    maker: AtomicU32,
    /// Bytes of the machine; 0: half of what the computer has.
    memory: usize,
    /// Called once, by the thread that made the heap, when all functions work.
    ready: fn(&'static Heap),
    /// Asked for the bytes of the machine first.
    ask: fn() -> Option<usize>,
}

const NOBODY: u32 = 0;
const DONE: u32 = u32::MAX;

impl Malloc {
    /// Over a machine with half of the computer's memory.
    pub const fn new() -> Malloc {
        Malloc::with_memory(0)
    }

    /// Over a machine with `bytes` of managed RAM (rounded down to pages, at least [`MIN_MEMORY`]).
    pub const fn with_memory(bytes: usize) -> Malloc {
        Malloc {
            heap: AtomicPtr::new(ptr::null_mut()),
            maker: AtomicU32::new(NOBODY),
            memory: bytes,
            ready: |_| {},
            ask: || None,
        }
    }

    /// Asks `ask` for the size of the machine at the first call, and calls `ready` once when all
    /// works: it may allocate.
    pub const fn with_hooks(ask: fn() -> Option<usize>, ready: fn(&'static Heap)) -> Malloc {
        Malloc {
            ask,
            ready,
            ..Malloc::new()
        }
    }

    /// The heap, if there is one yet.
    #[inline(always)]
    pub fn heap_if_ready(&self) -> Option<&'static Heap> {
        // SAFETY: null, or a heap that lives for ever. Acquire: pairs with the Release in `make`.
        unsafe { self.heap.load(Ordering::Acquire).as_ref() }
    }

    /// The heap. `None` if it cannot be made, or is being made by this very thread.
    #[inline(always)]
    pub fn heap(&self) -> Option<&'static Heap> {
        match self.heap_if_ready() {
            Some(heap) => Some(heap),
            None => self.make(),
        }
    }

    #[cold]
    #[inline(never)]
    fn make(&self) -> Option<&'static Heap> {
        let me = sys::gettid();
        // No handler may come between the swap and the end: it would find this thread at work for
        // ever.
        let blocked = sys::SignalsBlocked::new();
        while let Err(maker) =
            self.maker
                .compare_exchange(NOBODY, me, Ordering::Acquire, Ordering::Relaxed)
        {
            if maker == me {
                return None;
            }
            if let Some(heap) = self.heap_if_ready() {
                return Some(heap);
            }
            sys::sched_yield();
        }
        // Who comes here after a failure tries again; it costs little.
        let size = self.size();
        let heap = Heap::boot(size);
        if heap.is_none() {
            crate::events::no_machine(size);
        }
        let made = heap.map_or(ptr::null_mut(), |heap| ptr::from_ref(heap).cast_mut());
        // Release: pairs with the Acquire in `heap_if_ready`.
        self.heap.store(made, Ordering::Release);
        let next = if heap.is_some() { DONE } else { NOBODY };
        self.maker.store(next, Ordering::Release);
        drop(blocked);
        if let Some(heap) = heap {
            (self.ready)(heap);
        }
        heap
    }

    fn size(&self) -> usize {
        let asked = (self.ask)().unwrap_or(self.memory);
        let half = || usize::try_from(sys::total_ram() / 2).unwrap_or(usize::MAX / 4);
        let bytes = if asked == 0 { half() } else { asked };
        bytes.clamp(MIN_MEMORY, MAX_SIZE / 4) & !(gfp::frame::PAGE_SIZE - 1)
    }

    /// `malloc`. Size 0 gives memory of its own, too.
    #[inline(always)]
    pub fn malloc(&self, size: usize, caller: usize) -> *mut u8 {
        match self.heap() {
            Some(heap) => as_ptr(heap.alloc(size, 1, Fill::None, caller)),
            None => ptr::null_mut(),
        }
    }

    /// `calloc`: zeroes; null if the product does not fit.
    #[inline(always)]
    pub fn calloc(&self, count: usize, size: usize, caller: usize) -> *mut u8 {
        let Some(heap) = self.heap() else {
            return ptr::null_mut();
        };
        match count.checked_mul(size) {
            Some(bytes) => as_ptr(heap.alloc(bytes, 1, Fill::Zero, caller)),
            None => fail(usize::MAX),
        }
    }

    /// `memalign`. `align` must be a power of two.
    pub fn memalign(&self, align: usize, size: usize, caller: usize) -> *mut u8 {
        debug_assert!(align.is_power_of_two());
        match self.heap() {
            Some(heap) => as_ptr(heap.alloc(size, align, Fill::None, caller)),
            None => ptr::null_mut(),
        }
    }

    /// `free`. What is not ours is reported and left alone.
    ///
    /// # Safety
    /// If the memory is live, the caller's use of it is over.
    #[inline(always)]
    pub unsafe fn free(&self, ptr: *mut u8, caller: usize) {
        let Some(ptr) = NonNull::new(ptr) else { return };
        if let Some(heap) = self.heap() {
            // SAFETY: the caller's promise.
            unsafe { heap.free(ptr, caller) }
        }
    }

    /// `malloc_usable_size`; 0 for what is not ours.
    #[inline]
    pub fn usable(&self, ptr: *mut u8) -> usize {
        match (NonNull::new(ptr), self.heap_if_ready()) {
            (Some(ptr), Some(heap)) => heap.usable(ptr),
            _ => 0,
        }
    }

    /// `realloc` of glibc: null allocates; size 0 frees and answers null; on failure the old memory
    /// stays.
    ///
    /// # Safety
    /// If the memory is live, the caller's use of `ptr` is over, unless this fails.
    pub unsafe fn realloc(&self, ptr: *mut u8, size: usize, caller: usize) -> *mut u8 {
        let Some(old) = NonNull::new(ptr) else {
            return self.malloc(size, caller);
        };
        let Some(heap) = self.heap() else {
            return ptr::null_mut();
        };
        if size == 0 {
            // SAFETY: the caller's promise.
            unsafe { heap.free(old, caller) };
            return ptr::null_mut();
        }
        // SAFETY: the caller's promise.
        as_ptr(unsafe { heap.resize(old, size, 1, caller) })
    }
}

impl Default for Malloc {
    fn default() -> Malloc {
        Malloc::new()
    }
}

#[cold]
fn fail(size: usize) -> *mut u8 {
    crate::events::failure(size);
    ptr::null_mut()
}

#[inline(always)]
fn as_ptr(memory: Option<NonNull<u8>>) -> *mut u8 {
    memory.map_or(ptr::null_mut(), NonNull::as_ptr)
}

// SAFETY: memory is aligned and large enough as asked, stays until it is freed, and nothing
// unwinds.
unsafe impl GlobalAlloc for Malloc {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match self.heap() {
            Some(heap) => as_ptr(heap.alloc(layout.size(), layout.align(), Fill::None, 0)),
            None => ptr::null_mut(),
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match self.heap() {
            Some(heap) => as_ptr(heap.alloc(layout.size(), layout.align(), Fill::Zero, 0)),
            None => ptr::null_mut(),
        }
    }

    #[inline]
    unsafe fn dealloc(&self, ptr: *mut u8, _: Layout) {
        // SAFETY: the caller's promise.
        unsafe { self.free(ptr, 0) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        match (self.heap(), NonNull::new(ptr)) {
            // SAFETY: the caller's promise.
            (Some(heap), Some(old)) => as_ptr(unsafe { heap.resize(old, size, layout.align(), 0) }),
            _ => ptr::null_mut(),
        }
    }
}
