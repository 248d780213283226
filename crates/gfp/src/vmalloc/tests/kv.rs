//! kvmalloc and its family (V29-V35).

use super::machine::*;
use crate::error::AllocError;
use crate::flags::{GFP_ATOMIC, GFP_KERNEL, GFP_NOWAIT, Gfp};
use crate::frame::PAGE_SIZE;
use crate::report::Misuse;
use crate::slab::ZERO_SIZE_PTR;
use crate::vmalloc::kv::kmalloc_gfp;
use std::ptr::{NonNull, null_mut};
use std::vec::Vec;

fn kv(vm: &Vm, size: usize, gfp: Gfp) -> Result<NonNull<u8>, AllocError> {
    vm.kvmalloc(size, gfp, None, HERE)
}

fn resize(vm: &Vm, ptr: *mut u8, size: usize) -> Result<NonNull<u8>, AllocError> {
    // SAFETY: the tests go on with the answer only.
    unsafe { vm.kvrealloc(ptr, size, GFP_KERNEL, HERE) }
}

fn free(vm: &Vm, ptr: NonNull<u8>) -> Result<(), Misuse> {
    // SAFETY: the tests give up what they free.
    unsafe { vm.kvfree(ptr.as_ptr(), HERE) }
}

fn in_area(vm: &Vm, ptr: NonNull<u8>) -> bool {
    vm.is_vmalloc_addr(ptr.addr().get())
}

#[test]
fn up_to_a_page_it_is_kmalloc() {
    // V30
    let vm = machine(16, 256);
    assert_eq!(kv(&vm, 0, GFP_KERNEL), Ok(ZERO_SIZE_PTR));
    assert_eq!(free(&vm, ZERO_SIZE_PTR), Ok(()));
    for size in [1, 100, PAGE_SIZE] {
        for gfp in [GFP_KERNEL, GFP_ATOMIC, GFP_KERNEL.with(Gfp::NOFAIL)] {
            let ptr = kv(&vm, size, gfp).unwrap();
            assert!(!in_area(&vm, ptr));
            free(&vm, ptr).unwrap();
        }
    }
    // Without memory there is no second leg for them.
    let pages = fragment(&vm, 0);
    let error = std::iter::from_fn(|| Some(kv(&vm, PAGE_SIZE, GFP_ATOMIC))).find(|r| r.is_err());
    assert!(matches!(error, Some(Err(AllocError::NoMemory { .. }))));
    assert_eq!(vm.vmalloc_counters().areas, 0);
    drop(pages);
}

#[test]
fn contiguous_memory_is_taken_while_it_is_easy_to_have() {
    // V29
    let vm = machine(32, 4096);
    let ptr = kv(&vm, 100_000, GFP_KERNEL).unwrap();
    assert!(!in_area(&vm, ptr));
    let large = kv(&vm, (4 << 20) + 1, GFP_KERNEL).unwrap();
    assert!(in_area(&vm, large), "beyond what kmalloc can ever give");
    vm.check();
    free(&vm, ptr).unwrap();
    free(&vm, large).unwrap();
    assert_eq!(vm.vmalloc_counters().areas, 0);
}

#[test]
fn in_fragmented_memory_the_second_leg_serves_whatever_the_flags() {
    // V29, V31, V35: leg 1 must fail, since no two neighbouring pages are free
    let vm = machine(8, 4096);
    let kept = fragment(&vm, 2);
    let kinds = [
        GFP_KERNEL,
        GFP_KERNEL.with(Gfp::RETRY_MAYFAIL),
        GFP_KERNEL.with(Gfp::NOFAIL),
        GFP_NOWAIT,
    ];
    for gfp in kinds {
        let ptr = kv(&vm, 50_000, gfp).unwrap();
        assert!(in_area(&vm, ptr), "{gfp}");
        fill(ptr, 50_000, 1);
        assert_filled(ptr, 50_000, 1);
        free(&vm, ptr).unwrap();
    }
    let zeroed = vm.kvzalloc(50_000, GFP_KERNEL, HERE).unwrap();
    assert!(in_area(&vm, zeroed));
    assert!(bytes(zeroed, 0..50_000).iter().all(|b| *b == 0));
    let copy: Vec<u8> = (0..20_000).map(|i| i as u8).collect();
    let dup = vm.kvmemdup(&copy, GFP_KERNEL, HERE).unwrap();
    assert!(in_area(&vm, dup));
    assert_eq!(bytes(dup, 0..20_000), copy);
    vm.check();
    drop(kept);
}

#[test]
fn the_first_leg_does_not_work_hard_unless_asked() {
    // V29, V30
    let nofail = GFP_KERNEL.with(Gfp::NOFAIL);
    assert_eq!(kmalloc_gfp(nofail, PAGE_SIZE), nofail);
    let quick = GFP_KERNEL.without(Gfp::DIRECT_RECLAIM).with(Gfp::NOWARN);
    assert_eq!(kmalloc_gfp(GFP_KERNEL, PAGE_SIZE + 1), quick);
    assert_eq!(kmalloc_gfp(nofail, PAGE_SIZE + 1), quick);
    let hard = GFP_KERNEL.with(Gfp::RETRY_MAYFAIL);
    assert_eq!(kmalloc_gfp(hard, 1 << 20), hard.with(Gfp::NOWARN));
}

#[test]
fn both_legs_align_alike() {
    // V32, S13
    let vm = machine(8, 4096);
    let sizes = [8192, 12288, 65536, 3 * 65536, 70_000];
    let aligned =
        |ptr: NonNull<u8>, size: usize| ptr.addr().get().is_multiple_of(1 << size.trailing_zeros());
    for size in sizes {
        let ptr = kv(&vm, size, GFP_KERNEL).unwrap();
        assert!(!in_area(&vm, ptr) && aligned(ptr, size));
        free(&vm, ptr).unwrap();
    }
    let _kept = fragment(&vm, 2);
    for size in sizes {
        let ptr = kv(&vm, size, GFP_KERNEL).unwrap();
        assert!(in_area(&vm, ptr) && aligned(ptr, size), "{size}");
    }
    vm.check();
}

#[test]
fn too_much_is_refused() {
    // V29, V60
    let vm = machine(16, 256);
    let max = i32::MAX as usize;
    assert_eq!(
        kv(&vm, max + 1, GFP_KERNEL),
        Err(AllocError::TooLarge { max })
    );
    assert!(matches!(
        kv(&vm, max, GFP_KERNEL),
        Err(AllocError::TooLarge { .. })
    ));
    let half = usize::MAX / 2;
    assert_eq!(
        vm.kvmalloc_array(half, 3, GFP_KERNEL, HERE),
        Err(AllocError::Overflow)
    );
    assert_eq!(
        vm.kvcalloc(half, 3, GFP_KERNEL, HERE),
        Err(AllocError::Overflow)
    );
    let zeroed = vm.kvcalloc(10, 100, GFP_KERNEL, HERE).unwrap();
    assert!(bytes(zeroed, 0..1000).iter().all(|b| *b == 0));
}

#[test]
fn resizing_goes_from_the_first_leg_to_the_second_and_never_back() {
    // V33
    let vm = machine(32, 1 << 14);
    let ptr = resize(&vm, null_mut(), 3000).unwrap();
    fill(ptr, 3000, 8);
    let ptr = resize(&vm, ptr.as_ptr(), 100_000).unwrap();
    assert!(!in_area(&vm, ptr));
    assert_filled(ptr, 3000, 8);
    fill(ptr, 100_000, 9);
    let ptr = resize(&vm, ptr.as_ptr(), 5 << 20).unwrap();
    assert!(in_area(&vm, ptr));
    assert_filled(ptr, 100_000, 9);
    assert_eq!(vm.kvsize(ptr.as_ptr()), Some(5 << 20));
    let ptr = resize(&vm, ptr.as_ptr(), 10).unwrap();
    assert!(in_area(&vm, ptr), "never back");
    assert_eq!(vm.kvsize(ptr.as_ptr()), Some(PAGE_SIZE));
    assert_filled(ptr, 10, 9);
    assert_eq!(resize(&vm, ptr.as_ptr(), 0), Ok(ZERO_SIZE_PTR));
    assert_eq!(resize(&vm, ptr.as_ptr(), 10), Err(AllocError::BadPointer));
    assert_eq!(resize(&vm, null_mut(), 0), Ok(ZERO_SIZE_PTR));
    let again = resize(&vm, ZERO_SIZE_PTR.as_ptr(), 10).unwrap();
    free(&vm, again).unwrap();
    assert_eq!(vm.vmalloc_counters().areas, 0);
    vm.check();
}

#[test]
fn a_failed_resize_leaves_the_old_memory() {
    // V33, S22.d
    let vm = machine(8, 4096);
    let ptr = kv(&vm, 100, GFP_KERNEL).unwrap();
    fill(ptr, 100, 4);
    let error = resize(&vm, ptr.as_ptr(), 8 << 20);
    assert!(matches!(
        error,
        Err(AllocError::NoMemory { .. } | AllocError::TooLarge { .. })
    ));
    assert_filled(ptr, 100, 4);
    assert_eq!(free(&vm, ptr), Ok(()));
    vm.check();
}

#[test]
fn frees_find_the_leg_and_wrong_ones_are_seen() {
    // V34
    let vm = machine(32, 4096);
    let small = kv(&vm, 100, GFP_KERNEL).unwrap();
    let large = kv(&vm, 5 << 20, GFP_KERNEL).unwrap();
    // SAFETY: refused.
    let inside = |p: NonNull<u8>| unsafe { vm.kvfree(p.as_ptr().wrapping_add(8), HERE) };
    assert_eq!(inside(small), Err(Misuse::InteriorFree));
    assert_eq!(inside(large), Err(Misuse::InteriorFree));
    for ptr in [small, large] {
        assert_eq!(free(&vm, ptr), Ok(()));
        assert_eq!(free(&vm, ptr), Err(Misuse::DoubleFree));
        assert_eq!(vm.kvsize(ptr.as_ptr()), None);
    }
    // SAFETY: null is nothing.
    assert_eq!(unsafe { vm.kvfree(null_mut(), HERE) }, Ok(()));
    vm.check();
}

#[test]
fn sensitive_memory_is_cleared_before_it_goes() {
    // V34: of a small object, which the allocator never writes to, the bytes can be looked at after
    let vm = machine(32, 4096);
    let ptr = kv(&vm, 64, GFP_KERNEL).unwrap();
    // SAFETY: written and given up.
    unsafe {
        ptr.write_bytes(0x77, 64);
        vm.kvfree_sensitive(ptr.as_ptr(), 40, HERE).unwrap();
    }
    let left = bytes(ptr, 0..64);
    assert!(left[..40].iter().all(|b| *b == 0) && left[40..].iter().all(|b| *b == 0x77));
    let area = kv(&vm, 5 << 20, GFP_KERNEL).unwrap();
    // SAFETY: given up; more bytes than there are must not be touched, nor freed memory.
    unsafe {
        vm.kvfree_sensitive(area.as_ptr(), usize::MAX, HERE)
            .unwrap();
        let twice = vm.kvfree_sensitive(area.as_ptr(), 100, HERE);
        assert_eq!(twice, Err(Misuse::DoubleFree));
        assert_eq!(vm.kvfree_sensitive(null_mut(), 100, HERE), Ok(()));
    }
    vm.check();
}
