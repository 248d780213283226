//! A machine as the global allocator of a program.
#![cfg(not(loom))]

use gfp::Mm;
use gfp::owned::{Heap, KVmalloc, Kmalloc, Source, Vmalloc};
use gfp::page::BootConfig;
use gfp_host::{HostConfig, HostPlatform};
use std::alloc::{GlobalAlloc, Layout};
use std::sync::OnceLock;

fn machine() -> &'static Mm<HostPlatform> {
    static MM: OnceLock<Mm<HostPlatform>> = OnceLock::new();
    MM.get_or_init(|| {
        let platform = HostPlatform::new(&HostConfig::new(64 << 20)).unwrap();
        let map = platform.memory_map();
        Mm::boot(platform, &map, &BootConfig::default()).unwrap()
    })
}

/// Each byte is another, so that what moves is seen.
fn pattern(i: usize) -> u8 {
    (i % 251) as u8
}

/// All sizes and alignments, resized up and down, on a source that serves `max` bytes.
fn exercise<K: Source<HostPlatform>>(max: usize) {
    let heap: Heap<HostPlatform, K> = Heap::new(|| Some(machine()));
    for align in [1, 8, 64, 4096, 1 << 16] {
        for size in [1, 40, 100, 5000, 9000, 70_000] {
            let layout = Layout::from_size_align(size, align).unwrap();
            // SAFETY: each block is used inside of its size, and freed once.
            unsafe {
                let p = heap.alloc(layout);
                assert!(!p.is_null() && p.addr().is_multiple_of(align));
                (0..size).for_each(|i| p.add(i).write(pattern(i)));
                let (mut p, mut size) = (p, size);
                for new in [size * 3, size * 3 + 1, size.div_ceil(2), 1 << 18] {
                    let layout = Layout::from_size_align(size, align).unwrap();
                    p = heap.realloc(p, layout, new);
                    assert!(!p.is_null() && p.addr().is_multiple_of(align), "{new}");
                    assert!((0..size.min(new)).all(|i| p.add(i).read() == pattern(i)));
                    (0..new).for_each(|i| p.add(i).write(pattern(i)));
                    size = new;
                }
                heap.dealloc(p, Layout::from_size_align(size, align).unwrap());
                let zeroed = heap.alloc_zeroed(layout);
                assert!((0..layout.size()).all(|i| zeroed.add(i).read() == 0));
                heap.dealloc(zeroed, layout);
            }
        }
    }
    let large = Layout::from_size_align(max, 8).unwrap();
    let larger = Layout::from_size_align(max + 4096, 8).unwrap();
    // SAFETY: freed once; what could not grow is still there.
    unsafe {
        let p = heap.alloc(large);
        assert!(!p.is_null() && heap.alloc(larger).is_null());
        p.add(max - 1).write(7);
        assert!(heap.realloc(p, large, larger.size()).is_null());
        assert_eq!(p.add(max - 1).read(), 7);
        heap.dealloc(p, large);
    }
}

// G1, S41, S22
#[test]
fn a_heap_of_kmalloc_keeps_alignment_and_content() {
    exercise::<Kmalloc>(4 << 20);
}

#[test]
fn a_heap_of_areas_and_one_of_both_keep_them_too() {
    let kv: Heap<HostPlatform, KVmalloc> = Heap::new(|| Some(machine()));
    let v: Heap<HostPlatform, Vmalloc> = Heap::new(|| Some(machine()));
    for heap in [&kv as &dyn GlobalAlloc, &v] {
        let layout = Layout::from_size_align(100_000, 16384).unwrap();
        // SAFETY: used inside of its size, and freed once.
        unsafe {
            let p = heap.alloc_zeroed(layout);
            assert!(p.addr().is_multiple_of(16384) && p.add(99_999).read() == 0);
            p.write(9);
            let p = heap.realloc(p, layout, 6 << 20);
            assert!(p.addr().is_multiple_of(16384) && p.read() == 9);
            p.add((6 << 20) - 1).write(1);
            let layout = Layout::from_size_align(6 << 20, 16384).unwrap();
            let p = heap.realloc(p, layout, 10);
            assert_eq!(p.read(), 9);
            heap.dealloc(p, Layout::from_size_align(10, 16384).unwrap());
        }
    }
}

#[test]
fn without_a_machine_there_is_no_memory() {
    let heap: Heap<HostPlatform, Kmalloc> = Heap::new(|| None);
    let layout = Layout::new::<u64>();
    // SAFETY: nothing is there to be used.
    unsafe {
        assert!(heap.alloc(layout).is_null() && heap.alloc_zeroed(layout).is_null());
        heap.dealloc(std::ptr::null_mut(), layout);
    }
}
