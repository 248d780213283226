//! Homes: which slabs a CPU's objects come from, and what becomes of empty slabs.

use super::cpus::two_nodes;
use super::{Machine, baseline, counts, machine, pages_in_use, verify};
use crate::flags::{GFP_KERNEL, GFP_NOWAIT, Gfp};
use crate::frame::{CpuId, NodeId, Order, PAGE_SIZE};
use crate::page::PageRequest;
use crate::policy::size_class::{KMALLOC, class_size};
use crate::testing::{CPUS, Rng};
use std::vec::Vec;

fn take(slabs: &Machine, size: usize) -> *mut u8 {
    slabs.kmalloc(size, GFP_KERNEL, None).unwrap().as_ptr()
}

fn give(slabs: &Machine, object: *mut u8) {
    // SAFETY: not used any more.
    unsafe { slabs.kfree(object) }.unwrap();
}

fn home(slabs: &Machine, object: *mut u8) -> usize {
    slabs.slab_of(object.addr()).unwrap().home()
}

#[test]
fn cpus_fill_sheaves_from_slabs_of_their_own() {
    let slabs = machine(16);
    let cpus = CPUS as u32;
    let take_all = |n: usize| -> Vec<(u32, *mut u8)> {
        let mut held = Vec::new();
        for i in 0..n {
            let cpu = i as u32 % cpus;
            slabs.platform().on(cpu);
            held.push((cpu, take(&slabs, 64)));
        }
        held
    };
    let held = take_all(2000);
    assert!(
        held.iter()
            .all(|(cpu, p)| home(&slabs, *p) == *cpu as usize)
    );
    verify(&slabs);
    // All of them go through the sheaf of one CPU, in any order, and come back to their slabs.
    slabs.platform().on(1);
    let (mut rest, mut rng) = (held, Rng::new(7));
    while !rest.is_empty() {
        let at = rng.below(rest.len());
        give(&slabs, rest.swap_remove(at).1);
    }
    verify(&slabs);
    slabs.drain_cpu(CpuId(1));
    verify(&slabs);
    let held = take_all(1500);
    assert!(
        held.iter()
            .all(|(cpu, p)| home(&slabs, *p) == *cpu as usize)
    );
    held.into_iter().for_each(|(_, p)| give(&slabs, p));
    verify(&slabs);
}

#[test]
fn without_pages_a_cpu_uses_what_other_homes_have() {
    for extra in [
        GFP_NOWAIT | Gfp::NORETRY,
        GFP_NOWAIT | Gfp::THISNODE,
        GFP_KERNEL | Gfp::NOFAIL,
    ] {
        let slabs = machine(4);
        slabs.platform().on(0);
        let mut small: Vec<_> = (0..1024).map(|_| take(&slabs, 64)).collect();
        slabs.platform().on(1);
        let mut held = Vec::from([take(&slabs, 64)]);
        for size in [4096, 64] {
            while let Ok(p) = slabs.kmalloc(size, GFP_NOWAIT | Gfp::MEMALLOC, None) {
                held.push(p.as_ptr());
            }
        }
        // Every other object of CPU 0 is free, so no slab is, and no page.
        slabs.platform().on(0);
        for i in (0..512).rev() {
            give(&slabs, small.swap_remove(2 * i));
        }
        slabs.drain_cpu(CpuId(0));
        slabs.platform().on(1);
        for _ in 0..512 {
            let p = slabs.kmalloc(64, extra, None).unwrap().as_ptr();
            assert_eq!(home(&slabs, p), 0);
            small.push(p);
        }
        assert!(
            slabs.kmalloc(64, GFP_NOWAIT, None).is_err(),
            "nothing is left"
        );
        verify(&slabs);
        small.into_iter().chain(held).for_each(|p| give(&slabs, p));
        slabs.shrink_all();
        verify(&slabs);
    }
}

#[test]
fn without_pages_descriptors_come_from_other_homes() {
    let slabs = machine(4);
    slabs.platform().on(0);
    let first = slabs.take_internal(0, GFP_KERNEL).unwrap();
    slabs.platform().on(1);
    let gfp = GFP_NOWAIT | Gfp::MEMALLOC | Gfp::NOWARN;
    let req = PageRequest::new(gfp, Order::ZERO);
    let held: Vec<_> = core::iter::from_fn(|| slabs.pages().alloc(&req).ok()).collect();
    for gfp in [GFP_NOWAIT, GFP_KERNEL | Gfp::NOFAIL] {
        let object = slabs.take_internal(0, gfp).unwrap();
        assert_eq!(home(&slabs, object.as_ptr()), 0);
        slabs.give_internal(0, object);
    }
    held.into_iter()
        .for_each(|pfn| slabs.give_pages(pfn, Order::ZERO));
    let own = slabs.take_internal(0, GFP_KERNEL).unwrap();
    assert_eq!(home(&slabs, own.as_ptr()), 1);
    slabs.give_internal(0, own);
    slabs.give_internal(0, first);
    verify(&slabs);
}

#[test]
fn counts_add_up_over_homes() {
    // D13
    let slabs = machine(16);
    let before = baseline(&slabs);
    let mut held = Vec::new();
    for cpu in 0..CPUS as u32 {
        slabs.platform().on(cpu);
        held.extend((0..100).map(|_| take(&slabs, 64)));
    }
    let (active, cached, objects, number) = counts(&slabs, "kmalloc-64");
    assert_eq!(active - cached, 100 * CPUS);
    // Two slabs of 64 objects each on every CPU.
    assert_eq!((objects, number), (128 * CPUS, 2 * CPUS));
    let mut pages = 0;
    slabs.for_each_cache(&mut |view| pages += view.pages);
    assert_eq!(slabs.slab_pages(), (pages, 0));
    held.into_iter().for_each(|p| give(&slabs, p));
    slabs.shrink_all();
    assert_eq!(counts(&slabs, "kmalloc-64"), (0, 0, 0, 0));
    assert_eq!(pages_in_use(&slabs), before);
    verify(&slabs);
}

#[test]
fn a_home_keeps_a_share_of_its_slabs_until_shrunk() {
    // S58
    let slabs = machine(64);
    slabs.platform().on(0);
    let held: Vec<_> = (0..6400).map(|_| take(&slabs, 64)).collect();
    assert_eq!(counts(&slabs, "kmalloc-64").3, 100);
    held.into_iter().for_each(|p| give(&slabs, p));
    let kept = counts(&slabs, "kmalloc-64").3;
    assert!((100 / 8..100 / 8 + 4).contains(&kept), "{kept}");
    slabs.shrink_all();
    assert_eq!(counts(&slabs, "kmalloc-64").3, 0);
    // And the peak is forgotten.
    let held: Vec<_> = (0..640).map(|_| take(&slabs, 64)).collect();
    held.into_iter().for_each(|p| give(&slabs, p));
    let kept = counts(&slabs, "kmalloc-64").3;
    assert!(kept <= 5, "{kept}");
    verify(&slabs);
}

#[test]
fn a_peak_is_forgotten_as_slabs_come_and_go() {
    // S58: also one of fewer slabs than the part by which it falls.
    let slabs = machine(16);
    slabs.platform().on(0);
    let use_and_free = |n: usize| {
        let held: Vec<_> = (0..n).map(|_| take(&slabs, 64)).collect();
        held.into_iter().for_each(|p| give(&slabs, p));
        counts(&slabs, "kmalloc-64").3
    };
    let kept = use_and_free(64 * 40);
    assert!(kept >= 5, "{kept}");
    // Each round has more slabs than are kept, so some are made anew.
    let rounds: Vec<_> = (0..100).map(|_| use_and_free(64 * 12)).collect();
    assert!(rounds.last() < Some(&kept), "{kept}: {rounds:?}");
    verify(&slabs);
}

#[test]
fn a_preference_for_a_node_without_memory_is_none() {
    let slabs = two_nodes();
    let far = Some(NodeId(5));
    let held: Vec<_> = (0..200)
        .map(|_| slabs.kmalloc(64, GFP_KERNEL, far).unwrap().as_ptr())
        .collect();
    assert_eq!(
        counts(&slabs, "kmalloc-64").3,
        4,
        "as many slabs as it takes"
    );
    let strict = GFP_KERNEL | Gfp::THISNODE;
    assert!(slabs.kmalloc(64, strict, far).is_err());
    held.into_iter().for_each(|p| give(&slabs, p));
    verify(&slabs);
}

#[test]
fn a_full_node_costs_no_slab_of_another_for_each_object() {
    // S77, S78: objects and descriptors alike.
    let slabs = two_nodes();
    let gfp = GFP_NOWAIT | Gfp::THISNODE | Gfp::MEMALLOC;
    let near = PageRequest::new(gfp, Order::ZERO).at(Some(NodeId(0)));
    // What is made once is made before.
    let mut held = Vec::from([64, 192, 2048].map(|size| take(&slabs, size)));
    let pages: Vec<_> = core::iter::from_fn(|| slabs.pages().alloc(&near).ok()).collect();
    assert!(!pages.is_empty());
    let before = slabs.slab_pages().0;
    let n: usize = if cfg!(miri) { 200 } else { 1000 };
    let mut needed = 0;
    for size in [64, 192, 2048] {
        held.extend((0..n).map(|_| take(&slabs, size)));
        needed += n.div_ceil(PAGE_SIZE / size);
    }
    let taken = slabs.slab_pages().0 - before;
    let most = needed + needed / 20 + 24;
    assert!(taken <= most, "{taken} pages for what needs {needed}");
    held.into_iter().for_each(|p| give(&slabs, p));
    verify(&slabs);
}

#[test]
fn caches_that_were_large_once_do_not_hold_the_machine() {
    // S58: each size in turn, on each CPU, takes most of the memory and gives it back.
    let slabs = machine(if cfg!(miri) { 8 } else { 64 });
    let before = baseline(&slabs);
    let managed = slabs.pages().managed_pages();
    for class in KMALLOC.classes() {
        let size = class_size(class).unwrap();
        for cpu in 0..CPUS as u32 {
            slabs.platform().on(cpu);
            let n = managed * PAGE_SIZE / 3 * 2 / size.max(64);
            let n = if cfg!(miri) { n / 64 } else { n };
            let held: Vec<_> = (0..n).map(|_| take(&slabs, size)).collect();
            held.into_iter().for_each(|p| give(&slabs, p));
        }
    }
    let kept = pages_in_use(&slabs) - before;
    assert!(kept > 0 && kept <= managed / 6, "{kept} of {managed}");
    slabs.shrink_all();
    assert_eq!(pages_in_use(&slabs), before);
    verify(&slabs);
}
