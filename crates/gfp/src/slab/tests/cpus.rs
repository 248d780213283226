//! Several CPUs, and calls from the middle of an operation.

use super::{baseline, counts, machine, pages_in_use, verify};
use crate::error::AllocError;
use crate::flags::{GFP_KERNEL, Gfp};
use crate::frame::{CpuId, NodeId, PhysAddr};
use crate::page::{BootConfig, MemoryRegion, PageAllocator};
use crate::report::Misuse;
use crate::slab::{CacheArgs, Slabs};
use crate::sync::atomic::Ordering::Relaxed;
use crate::testing::{TestPlatform, region};
use std::vec::Vec;

#[test]
fn objects_freed_elsewhere_are_used_elsewhere() {
    let slabs = machine(16);
    let mut held = Vec::new();
    for round in 0..50 {
        slabs.platform().on(0);
        held.extend((0..30).map(|_| slabs.kmalloc(128, GFP_KERNEL, None).unwrap().as_ptr()));
        slabs.platform().on(1 + round % 3);
        for p in held.drain(..) {
            // SAFETY: not used any more.
            unsafe { slabs.kfree(p) }.unwrap();
        }
        verify(&slabs);
    }
    let (active, cached, ..) = counts(&slabs, "kmalloc-128");
    assert_eq!(active, cached);
    assert!(cached > 60, "several CPUs have objects: {cached}");
    for cpu in 0..4 {
        slabs.drain_cpu(CpuId(cpu));
    }
    assert_eq!(counts(&slabs, "kmalloc-128").0, 0);
    slabs.shrink_all();
    assert_eq!(counts(&slabs, "kmalloc-128").3, 0);
    verify(&slabs);
}

#[test]
fn all_pages_come_back_once_nothing_lives() {
    // Issue 6: no page held with no live object.
    let slabs = machine(64);
    let before = baseline(&slabs);
    let mut held = Vec::new();
    for cpu in 0..4 {
        slabs.platform().on(cpu);
        for size in (0..9000).step_by(if cfg!(miri) { 501 } else { 7 }) {
            held.push(slabs.kmalloc(size, GFP_KERNEL, None).unwrap().as_ptr());
        }
    }
    verify(&slabs);
    for (i, p) in held.into_iter().enumerate() {
        slabs.platform().on(i as u32 % 4);
        // SAFETY: not used any more.
        unsafe { slabs.kfree(p) }.unwrap();
    }
    assert!(slabs.shrink_all() > 0);
    verify(&slabs);
    assert_eq!(pages_in_use(&slabs), before);
    assert_eq!(slabs.slab_pages().1, 0);
}

#[test]
fn a_free_in_the_middle_is_put_off_and_an_allocation_refused() {
    let slabs = machine(16);
    let p: Vec<_> = (0..100)
        .map(|_| slabs.kmalloc(64, GFP_KERNEL, None).unwrap().as_ptr())
        .collect();
    let l = slabs.kmalloc(9000, GFP_KERNEL, None).unwrap().as_ptr();
    let nested = &slabs.platform().nested;
    nested.store(true, Relaxed);
    assert_eq!(slabs.kmalloc(64, GFP_KERNEL, None), Err(AllocError::Nested));
    assert_eq!(
        slabs.kmalloc(9000, GFP_KERNEL, None),
        Err(AllocError::Nested)
    );
    // SAFETY: none of the freed is used any more; the wrong ones are refused.
    unsafe {
        for p in &p[..99] {
            slabs.kfree(*p).unwrap();
        }
        slabs.kfree(l).unwrap();
        assert_eq!(slabs.kfree(p[0]), Err(Misuse::DoubleFree));
        assert_eq!(slabs.kfree(l), Err(Misuse::DoubleFree));
        assert_eq!(slabs.kfree(p[99].add(1)), Err(Misuse::InteriorFree));
    }
    nested.store(false, Relaxed);
    verify(&slabs);
    let (active, cached, ..) = counts(&slabs, "kmalloc-64");
    assert_eq!(active - cached, 100, "still out");
    // SAFETY: refused.
    assert_eq!(unsafe { slabs.kfree(p[0]) }, Err(Misuse::DoubleFree));
    slabs.shrink_all();
    assert_eq!(counts(&slabs, "kmalloc-64"), (1, 0, 64, 1));
    // A second round on the same slab: it can be put on the stack again.
    nested.store(true, Relaxed);
    // SAFETY: not used any more.
    unsafe { slabs.kfree(p[99]) }.unwrap();
    nested.store(false, Relaxed);
    slabs.shrink_all();
    assert_eq!(counts(&slabs, "kmalloc-64"), (0, 0, 0, 0));
    verify(&slabs);
}

#[test]
fn deferred_frees_serve_the_next_allocations() {
    let slabs = machine(16);
    let take = || -> Vec<_> {
        (0..512)
            .map(|_| slabs.kmalloc(64, GFP_KERNEL, None).unwrap().as_ptr())
            .collect()
    };
    let held = take();
    let slabs_before = counts(&slabs, "kmalloc-64").3;
    slabs.platform().nested.store(true, Relaxed);
    for p in held {
        // SAFETY: not used any more.
        unsafe { slabs.kfree(p) }.unwrap();
    }
    slabs.platform().nested.store(false, Relaxed);
    let again = take();
    assert_eq!(counts(&slabs, "kmalloc-64").3, slabs_before);
    for p in again {
        // SAFETY: not used any more.
        unsafe { slabs.kfree(p) }.unwrap();
    }
    verify(&slabs);
}

#[test]
fn a_cache_with_deferred_frees_can_be_destroyed() {
    let slabs = machine(16);
    let cache = slabs.cache_create(&CacheArgs::new("nested", 64)).unwrap();
    let p = slabs.cache_alloc(cache, GFP_KERNEL, None).unwrap().as_ptr();
    slabs.platform().nested.store(true, Relaxed);
    // SAFETY: not used any more.
    unsafe { slabs.cache_free(cache, p) }.unwrap();
    slabs.platform().nested.store(false, Relaxed);
    slabs
        .destroy(cache, &mut |_| panic!("nothing lives"))
        .unwrap();
    verify(&slabs);
}

pub(super) fn two_nodes() -> Slabs<TestPlatform> {
    let (start, mib) = (4u64 << 30, 1u64 << 20);
    let platform = TestPlatform::new(start, 32 << 20);
    let map = [
        region(start, start + 16 * mib),
        MemoryRegion {
            node: NodeId(1),
            ..region(start + 16 * mib, start + 32 * mib)
        },
    ];
    assert_eq!(map[1].start, PhysAddr(start + 16 * mib));
    let config = BootConfig {
        memory_is_zero: true,
        ..BootConfig::default()
    };
    Slabs::boot(PageAllocator::boot(platform, &map, &config).unwrap()).unwrap()
}

#[test]
fn a_wanted_node_is_preferred_and_a_demanded_one_kept_to() {
    // S21, S77, S78
    let slabs = two_nodes();
    let node = |p: *mut u8| slabs.pages().node_of(slabs.pages().pfn_of(p.addr()));
    let mut held = Vec::new();
    for size in [64, 2048, 9000] {
        for wanted in [NodeId(0), NodeId(1)] {
            for _ in 0..40 {
                let p = slabs
                    .kmalloc(size, GFP_KERNEL, Some(wanted))
                    .unwrap()
                    .as_ptr();
                assert_eq!(node(p), wanted, "{size}");
                held.push(p);
            }
        }
        let p = slabs.kmalloc(size, GFP_KERNEL, None).unwrap().as_ptr();
        assert_eq!(node(p), NodeId(0), "the CPU's own node");
        held.push(p);
    }
    verify(&slabs);
    let mut demanded = Vec::new();
    let strict = GFP_KERNEL | Gfp::THISNODE;
    while let Ok(p) = slabs.kmalloc(4096, strict, Some(NodeId(1))) {
        assert_eq!(node(p.as_ptr()), NodeId(1));
        demanded.push(p.as_ptr());
    }
    assert!(demanded.len() > 3000);
    // The preference is served from elsewhere.
    let p = slabs
        .kmalloc(4096, GFP_KERNEL, Some(NodeId(1)))
        .unwrap()
        .as_ptr();
    assert_eq!(node(p), NodeId(0));
    held.push(p);
    for p in held.into_iter().chain(demanded) {
        // SAFETY: not used any more.
        unsafe { slabs.kfree(p) }.unwrap();
    }
    let (active, cached, ..) = counts(&slabs, "kmalloc-64");
    assert_eq!(active, cached);
    verify(&slabs);
    slabs.shrink_all();
    verify(&slabs);
}

#[test]
fn without_pages_other_nodes_slabs_serve_a_preference() {
    // S78
    let slabs = two_nodes();
    let node = |p: *mut u8| slabs.pages().node_of(slabs.pages().pfn_of(p.addr()));
    let mut small: Vec<_> = (0..256)
        .map(|_| slabs.kmalloc(64, GFP_KERNEL, None).unwrap().as_ptr())
        .collect();
    let mut all = Vec::new();
    while let Ok(p) = slabs.kmalloc(4096, GFP_KERNEL, None) {
        all.push(p.as_ptr());
    }
    // Every other object of node 0 is free, no slab is, and no page.
    for i in (0..128).rev() {
        // SAFETY: not used any more.
        unsafe { slabs.kfree(small.swap_remove(2 * i)) }.unwrap();
    }
    let p = slabs
        .kmalloc(64, GFP_KERNEL, Some(NodeId(1)))
        .unwrap()
        .as_ptr();
    assert_eq!(node(p), NodeId(0));
    let strict = GFP_KERNEL | Gfp::THISNODE;
    assert!(slabs.kmalloc(64, strict, Some(NodeId(1))).is_err());
    small.push(p);
    for p in small.into_iter().chain(all) {
        // SAFETY: not used any more.
        unsafe { slabs.kfree(p) }.unwrap();
    }
    verify(&slabs);
}

#[test]
fn krealloc_moves_to_a_demanded_node() {
    // S22.h
    let slabs = two_nodes();
    let node = |p: *mut u8| slabs.pages().node_of(slabs.pages().pfn_of(p.addr()));
    let p = slabs.kmalloc(100, GFP_KERNEL, None).unwrap().as_ptr();
    let strict = GFP_KERNEL | Gfp::THISNODE;
    // SAFETY: each pointer is in use until it is replaced.
    unsafe {
        p.write_bytes(0x42, 128);
        let q = slabs
            .krealloc_node_align(p, 50, 1, strict, Some(NodeId(1)))
            .unwrap()
            .as_ptr();
        assert_eq!(node(q), NodeId(1));
        assert_eq!(core::slice::from_raw_parts(q, 50), [0x42; 50]);
        let r = slabs
            .krealloc_node_align(q, 60, 1, strict, Some(NodeId(1)))
            .unwrap()
            .as_ptr();
        assert_eq!(q, r);
        slabs.kfree(r).unwrap();
    }
    verify(&slabs);
}

#[test]
fn a_full_node_does_not_keep_another_from_serving() {
    // S21: the demand is for the object, not for what the allocator itself needs.
    let slabs = two_nodes();
    let strict = GFP_KERNEL | Gfp::THISNODE;
    let mut held = Vec::new();
    for size in [65_536, 4096, 64, 8] {
        while let Ok(p) = slabs.kmalloc(size, strict | Gfp::MEMALLOC, Some(NodeId(0))) {
            held.push(p.as_ptr());
        }
    }
    for _ in 0..600 {
        let p = slabs
            .kmalloc(192, strict, Some(NodeId(1)))
            .unwrap()
            .as_ptr();
        assert_eq!(
            slabs.pages().node_of(slabs.pages().pfn_of(p.addr())),
            NodeId(1)
        );
        held.push(p);
    }
    for p in held {
        // SAFETY: not used any more.
        unsafe { slabs.kfree(p) }.unwrap();
    }
    slabs.shrink_all();
    verify(&slabs);
}
