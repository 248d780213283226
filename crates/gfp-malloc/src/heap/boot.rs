//! From a number of bytes to a machine that serves a program.

use super::{GFP, Heap, MIDDLE, MIDDLE_NAMES, MIN_ALIGN, MIN_MEMORY};
use crate::events;
use crate::parked::Parked;
use crate::reserve::{self, Reserve};
use crate::sys;
use core::ptr;
use gfp::Mm;
use gfp::frame::PAGE_SIZE;
use gfp::page::{BootConfig, SleepCheck};
use gfp::report::{Caller, OnMisuse};
use gfp::slab::CacheArgs;
use gfp::vmalloc::AreaRequest;
use gfp_host::{HostConfig, HostPlatform};

impl Heap {
    /// Boots a machine of `memory` bytes, or of less where the operating system gives less; the
    /// heap lives as long as the process. `None` if there is not even [`MIN_MEMORY`].
    pub(crate) fn boot(memory: usize) -> Option<&'static Heap> {
        let (mut memory, window) = fit(memory, sys::addresses_left());
        loop {
            if let Some(heap) = Heap::boot_exactly(memory, window) {
                return Some(heap);
            }
            if memory <= MIN_MEMORY {
                return None;
            }
            memory = (memory / 2 / PAGE_SIZE * PAGE_SIZE).max(MIN_MEMORY);
        }
    }

    fn boot_exactly(memory: usize, window: Option<usize>) -> Option<&'static Heap> {
        debug_assert!(memory.is_multiple_of(PAGE_SIZE));
        let config = HostConfig::new(memory);
        let config = window.map_or(config, |bytes| config.vmalloc_bytes(bytes));
        let platform = HostPlatform::new(&config).ok()?;
        let map = platform.memory_map();
        let config = BootConfig {
            dma_end: None,
            dma32_end: None,
            memory_is_zero: true,
            on_misuse: OnMisuse::Callback(events::misuse),
            // Whoever calls malloc in a signal handler is refused, and that is enough.
            sleep_check: SleepCheck::Off,
            ..BootConfig::default()
        };
        let mut heap = Heap {
            mm: Mm::boot(platform, &map, &config).ok()?,
            memory,
            reserve: None,
            middle: [None; MIDDLE.len()],
            parked: Parked::new(memory),
            slow_calls: Default::default(),
        };
        heap.reserve = heap.make_reserve();
        for ((cache, size), name) in heap.middle.iter_mut().zip(MIDDLE).zip(MIDDLE_NAMES) {
            let args = CacheArgs {
                align: MIN_ALIGN,
                ..CacheArgs::new(name, size)
            };
            *cache = heap.mm.slabs().cache_create(&args).ok(); // else kmalloc serves them
        }
        // SAFETY: a new mapping that overlaps nothing.
        let place = unsafe {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            libc::mmap(ptr::null_mut(), size_of::<Heap>(), access, flags, -1, 0)
        };
        if place == libc::MAP_FAILED {
            return None;
        }
        let place = place.cast::<Heap>();
        // SAFETY: the mapping is large enough, page aligned, ours, and never unmapped.
        unsafe {
            place.write(heap);
            Some(&*place)
        }
    }

    /// One sixty-fourth of the machine, within limits.
    fn make_reserve(&self) -> Option<Reserve> {
        let blocks = (self.memory / reserve::BLOCK / 64).clamp(16, reserve::MAX_BLOCKS);
        let request = AreaRequest::new(blocks * reserve::BLOCK, GFP, Caller::Address(0));
        let start = self.mm.vmalloc_space().alloc_area(&request).ok()?;
        // SAFETY: an area of that size, page aligned, never freed.
        Some(unsafe { Reserve::new(start, blocks) })
    }
}

/// The memory of a machine, and the addresses for its vmalloc (`None`: as many as it likes), where
/// `left` bytes of addresses may still be mapped. Under `ulimit -v` the program itself needs some,
/// for threads, files and libraries: a quarter is left alone.
fn fit(memory: usize, left: Option<usize>) -> (usize, Option<usize>) {
    let usual = memory.saturating_mul(4).max(64 << 30);
    match left {
        Some(left) if memory.saturating_add(usual) > left / 4 * 3 => {
            let share = left / 8 * 3 / PAGE_SIZE * PAGE_SIZE;
            (memory.min(share).max(MIN_MEMORY), Some(usual.min(share)))
        }
        _ => (memory, None),
    }
}
