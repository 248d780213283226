//! Objects that wait for nobody.

use super::{Machine, baseline, machine, pages_in_use, verify};
use crate::flags::{GFP_KERNEL, Gfp};
use crate::frame::NodeId;
use crate::policy::size_class::ZERO_SIZE_ADDR;
use crate::report::Misuse;
use crate::sync::Local;
use std::vec::Vec;

fn take(slabs: &Machine, size: usize) -> Option<*mut u8> {
    slabs
        .kmalloc_nolock(size, Gfp::NONE, None)
        .map(|p| p.as_ptr())
}

fn give(slabs: &Machine, object: *mut u8) -> Result<(), Misuse> {
    // SAFETY: not used any more, or refused.
    unsafe { slabs.kfree_nolock(object) }
}

#[test]
fn objects_of_all_sizes_come_without_a_lock_and_go_back() {
    // S36-S38: on a fresh machine every slab and descriptor is made on this way.
    let slabs = machine(32);
    let base = baseline(&slabs);
    let mut held = Vec::new();
    for size in (1..=8192).step_by(97) {
        let p = slabs
            .kmalloc_nolock(size, Gfp::ZERO, Some(NodeId(0)))
            .unwrap();
        // SAFETY: the object is ours.
        unsafe {
            assert!(
                core::slice::from_raw_parts(p.as_ptr(), size)
                    .iter()
                    .all(|b| *b == 0)
            );
            p.write_bytes(0xaa, size);
        }
        held.push(p.as_ptr());
    }
    held.extend((0..1000).map(|_| take(&slabs, 24).unwrap()));
    held.sort_unstable();
    assert!(held.windows(2).all(|w| w[0] != w[1]));
    verify(&slabs);
    for p in held {
        give(&slabs, p).unwrap();
        assert_eq!(give(&slabs, p), Err(Misuse::DoubleFree));
    }
    verify(&slabs);
    slabs.shrink_all();
    verify(&slabs);
    assert_eq!(pages_in_use(&slabs), base);
}

#[test]
fn what_it_does_not_give() {
    // S36
    let slabs = machine(16);
    assert_eq!(take(&slabs, 0).unwrap().addr(), ZERO_SIZE_ADDR);
    assert_eq!(take(&slabs, 8193), None);
    assert_eq!(slabs.kmalloc_nolock(64, GFP_KERNEL, None), None);
    let large = slabs.kmalloc(100_000, GFP_KERNEL, None).unwrap().as_ptr();
    assert_eq!(give(&slabs, large), Err(Misuse::WrongCall));
    // SAFETY: it is still ours.
    unsafe { slabs.kfree(large) }.unwrap();
    give(&slabs, core::ptr::null_mut()).unwrap();
}

#[test]
fn with_the_locks_of_its_class_held_the_next_class_serves() {
    // S37, P967
    let slabs = machine(16);
    let base = baseline(&slabs);
    slabs.platform().on(0);
    let first = take(&slabs, 64).unwrap(); // its slab is there from now on
    slabs.platform().on(1);
    let local = Local::enter(slabs.platform()).unwrap();
    let class = |size| {
        let index = crate::policy::size_class::kmalloc_index(size).unwrap();
        super::super::kmalloc_id(crate::policy::size_class::KmallocFamily::Normal, index)
    };
    let cache = slabs.cache_at(&local, class(64)).unwrap();
    let locks: Vec<_> = cache
        .homes
        .iter()
        .filter_map(|h| h.try_lock(&local))
        .collect();
    slabs.platform().on(0);
    let next = take(&slabs, 64).unwrap();
    assert!(slabs.ksize(next) > 64, "the class after it");
    let after = slabs.cache_at(&local, class(65)).unwrap();
    let more: Vec<_> = after
        .homes
        .iter()
        .filter_map(|h| h.try_lock(&local))
        .collect();
    assert_eq!(take(&slabs, 64), None, "both are locked");
    give(&slabs, first).unwrap();
    give(&slabs, next).unwrap();
    drop((locks, more));
    drop(local);
    assert!(take(&slabs, 64).is_some_and(|p| give(&slabs, p).is_ok()));
    slabs.shrink_all();
    verify(&slabs);
    assert_eq!(pages_in_use(&slabs), base);
}

#[test]
fn who_came_in_the_middle_of_a_call_gets_nothing_and_may_free() {
    // S38, P176
    let slabs = machine(16);
    let base = baseline(&slabs);
    slabs.platform().on(0);
    let held: Vec<_> = (0..500).map(|_| take(&slabs, 100).unwrap()).collect();
    {
        let _interrupted = Local::enter(slabs.platform()).unwrap();
        assert_eq!(take(&slabs, 100), None);
        for p in held {
            give(&slabs, p).unwrap();
            assert_eq!(give(&slabs, p), Err(Misuse::DoubleFree));
        }
    }
    let p = slabs.kmalloc(100, GFP_KERNEL, None).unwrap();
    give(&slabs, p.as_ptr()).unwrap();
    slabs.shrink_all();
    verify(&slabs);
    assert_eq!(pages_in_use(&slabs), base);
}
