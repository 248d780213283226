//! vmalloc on real memory: faults that are real faults, and threads that are real threads.
#![cfg(not(loom))]

mod common;
#[path = "common/shared.rs"]
mod shared;

use common::{RAM, in_child, machine as platform};
use gfp::flags::{GFP_KERNEL, Gfp};
use gfp::frame::PAGE_SIZE;
use gfp::page::{BootConfig, PageAllocator};
use gfp::report::{Caller, Misuse, Owner};
use gfp::slab::Slabs;
use gfp::vmalloc::Vmalloc;
use gfp_host::{Backing, HostPlatform};
use shared::Shared;
use std::ptr::NonNull;

type Vm = Vmalloc<HostPlatform>;

/// A machine with [`RAM`] bytes.
fn machine(backing: Backing) -> Vm {
    let platform = platform(backing);
    assert_eq!(platform.size(), RAM);
    let map = platform.memory_map();
    let config = BootConfig {
        memory_is_zero: true,
        ..BootConfig::default()
    };
    let pages = PageAllocator::boot(platform, &map, &config).unwrap();
    Vmalloc::boot(Slabs::boot(pages).unwrap())
}

fn touch_in_child(at: *mut u8) -> i32 {
    // SAFETY: the child reads one byte or dies of it.
    in_child(|| i32::from(unsafe { at.read_volatile() } == 0xff))
}

#[test]
fn guard_pages_and_freed_areas_fault_and_are_told_with_their_owner() {
    // V2, V10
    for backing in [Backing::Private, Backing::Shared] {
        let vm = machine(backing);
        let size = 3 * PAGE_SIZE;
        let a = vm.vmalloc(size, Caller::here()).unwrap();
        let b = vm.vzalloc(PAGE_SIZE, Caller::here()).unwrap();
        let guard = a.as_ptr().wrapping_add(size);
        assert_eq!(touch_in_child(guard), -libc::SIGSEGV, "{backing:?}");
        assert_eq!(
            touch_in_child(guard.wrapping_add(PAGE_SIZE - 1)),
            -libc::SIGSEGV
        );
        let owner = Owner::Area {
            start: a.addr().get(),
            size,
        };
        assert_eq!(vm.describe(guard.addr()), Some(owner));
        assert_eq!(b.as_ptr(), guard.wrapping_add(PAGE_SIZE));
        if backing == Backing::Private {
            assert_eq!(touch_in_child(b.as_ptr()), 0, "its neighbour is there");
        }
        // SAFETY: given up; the second free is refused.
        unsafe {
            vm.vfree(a.as_ptr(), Caller::here()).unwrap();
            let twice = vm.vfree(a.as_ptr(), Caller::here());
            assert_eq!(twice, Err(Misuse::DoubleFree));
        }
        assert_eq!(touch_in_child(a.as_ptr()), -libc::SIGSEGV, "{backing:?}");
        vm.verify().unwrap();
    }
}

#[test]
fn an_area_shows_its_frames_where_the_platform_aliases_them() {
    // V12: vmalloc_to_pfn names the frame that the direct map shows
    let vm = machine(Backing::Shared);
    let a = vm.vmalloc(40 * PAGE_SIZE, Caller::here()).unwrap();
    for page in 0..40 {
        // SAFETY: inside the area.
        let at = unsafe { a.add(page * PAGE_SIZE + 7) };
        // SAFETY: as above.
        unsafe { at.write(page as u8) };
        let pfn = vm.vmalloc_to_pfn(at.addr().get()).unwrap();
        // SAFETY: the frame is the area's.
        let seen = unsafe { vm.pages().ptr_of(pfn).add(7).read() };
        assert_eq!(seen, page as u8);
    }
    // Zeroed memory is zero in a frame that was used before.
    // SAFETY: given up.
    unsafe { vm.vfree(a.as_ptr(), Caller::here()).unwrap() };
    let b = vm.vzalloc(40 * PAGE_SIZE, Caller::here()).unwrap();
    // SAFETY: inside the area.
    let clean = (0..40 * PAGE_SIZE).all(|i| unsafe { b.add(i).read() } == 0);
    assert!(clean);
}

struct Block(NonNull<u8>, usize, u8);

// SAFETY: memory that its holder owns.
unsafe impl Send for Block {}

fn assert_filled(block: &Block, bytes: usize) {
    for i in (0..bytes).step_by(509) {
        // SAFETY: inside the block, which is ours.
        assert_eq!(unsafe { block.0.add(i).read() }, block.2, "byte {i}");
    }
}

fn fill(block: &Block) {
    // SAFETY: as above.
    unsafe { block.0.write_bytes(block.2, block.1) };
}

/// Random calls of one thread; memory goes from thread to thread through `pool`.
fn worker(vm: &Vm, pool: &Shared<Vec<Block>>, seed: u64, steps: usize) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut below = move |n: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % n
    };
    for step in 0..steps {
        let (size, tag) = (1 + below(200_000), (seed as usize + step) as u8);
        match below(8) {
            0..3 => {
                let got = match below(2) {
                    0 => vm.vmalloc(size, Caller::here()),
                    _ => vm.kvmalloc(size, GFP_KERNEL.with(Gfp::ZERO), None, Caller::here()),
                };
                if let Ok(ptr) = got {
                    let block = Block(ptr, size, tag);
                    fill(&block);
                    pool.with(|pool| pool.push(block));
                }
            }
            3..6 => {
                let taken = pool.with(Vec::pop);
                if let Some(block) = taken {
                    assert_filled(&block, block.1);
                    // SAFETY: we took it from the pool and forget it.
                    unsafe { vm.kvfree(block.0.as_ptr(), Caller::here()) }.unwrap();
                }
            }
            6 => {
                let taken = pool.with(Vec::pop);
                if let Some(block) = taken {
                    let old = block.0.as_ptr();
                    // SAFETY: we took it from the pool and go on with the answer.
                    let new = unsafe { vm.kvrealloc(old, size, GFP_KERNEL, Caller::here()) };
                    let block = match new {
                        Ok(ptr) => {
                            let moved = Block(ptr, size, block.2);
                            assert_filled(&moved, size.min(block.1));
                            moved
                        }
                        Err(_) => block,
                    };
                    fill(&block);
                    pool.with(|pool| pool.push(block));
                }
            }
            _ => {
                vm.purge();
                vm.for_each_area(&mut |area| assert!(area.size > 0))
                    .unwrap();
            }
        }
    }
}

#[test]
fn threads_allocate_resize_and_free_each_others_memory() {
    // V10, V11, V13, V17, V33 under contention
    for backing in [Backing::Private, Backing::Shared] {
        let vm = machine(backing);
        let pool = Shared::<Vec<Block>>::default();
        std::thread::scope(|scope| {
            for seed in 1..=4 {
                let (vm, pool) = (&vm, &pool);
                scope.spawn(move || worker(vm, pool, seed, 1500));
            }
        });
        vm.verify().unwrap();
        for block in pool.with(core::mem::take) {
            assert_filled(&block, block.1);
            // SAFETY: the last user.
            unsafe { vm.kvfree(block.0.as_ptr(), Caller::here()) }.unwrap();
        }
        vm.purge();
        let counters = vm.vmalloc_counters();
        assert_eq!(
            (counters.areas, counters.pages, counters.lazy_pages),
            (0, 0, 0)
        );
        vm.verify().unwrap();
        vm.slabs().verify().unwrap();
        vm.pages().verify().unwrap();
    }
}
