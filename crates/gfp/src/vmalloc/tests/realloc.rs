//! vrealloc (V11).

use super::machine::*;
use crate::error::AllocError;
use crate::flags::{GFP_KERNEL, GFP_NOFS, Gfp};
use crate::frame::PAGE_SIZE;
use std::ptr::{NonNull, null_mut};

fn resize(vm: &Vm, ptr: *mut u8, size: usize, gfp: Gfp) -> Result<Option<NonNull<u8>>, AllocError> {
    // SAFETY: the tests go on with the answer only.
    unsafe { vm.vrealloc(ptr, size, gfp, HERE) }
}

#[test]
fn null_allocates_and_zero_frees() {
    // V11
    let vm = machine(16, 256);
    assert_eq!(resize(&vm, null_mut(), 0, GFP_KERNEL), Ok(None));
    let ptr = resize(&vm, null_mut(), 5000, GFP_KERNEL).unwrap().unwrap();
    assert_eq!(vm.live().len(), 1);
    assert_eq!(resize(&vm, ptr.as_ptr(), 0, GFP_KERNEL), Ok(None));
    assert!(vm.live().is_empty());
    assert_eq!(
        resize(&vm, ptr.as_ptr(), 0, GFP_KERNEL),
        Err(AllocError::BadPointer)
    );
    vm.check();
}

#[test]
fn shrinking_stays_and_gives_whole_tail_pages_back() {
    // V11.a
    let vm = machine(16, 256);
    let ptr = vm.vmalloc(10 * PAGE_SIZE, HERE).unwrap();
    fill(ptr, 10 * PAGE_SIZE, 3);
    let same = resize(&vm, ptr.as_ptr(), 3 * PAGE_SIZE + 5, GFP_KERNEL)
        .unwrap()
        .unwrap();
    assert_eq!(same, ptr);
    assert_filled(ptr, 3 * PAGE_SIZE + 5, 3);
    let area = vm.find_vm_area(ptr.addr().get()).unwrap();
    assert_eq!((area.pages, area.requested_size), (4, 3 * PAGE_SIZE + 5));
    assert_eq!(area.size, 11 * PAGE_SIZE, "the addresses stay its own");
    assert_eq!(vm.tables().mapped.len(), 4);
    vm.check();
    vm.free(ptr).unwrap();
    vm.purge();
    assert!(
        vm.tables().stale.is_empty(),
        "the tail is flushed with the rest (V17)"
    );
    vm.check();
}

#[test]
fn shrinking_keeps_the_pages_of_user_areas_and_without_fs_and_io() {
    // V11.a
    let vm = machine(16, 256);
    let user = vm.vmalloc_user(10 * PAGE_SIZE, HERE).unwrap();
    resize(&vm, user.as_ptr(), 1, GFP_KERNEL).unwrap();
    assert_eq!(vm.find_vm_area(user.addr().get()).unwrap().pages, 10);
    let plain = vm.vmalloc(10 * PAGE_SIZE, HERE).unwrap();
    resize(&vm, plain.as_ptr(), 1, GFP_NOFS).unwrap();
    assert_eq!(vm.find_vm_area(plain.addr().get()).unwrap().pages, 10);
    assert_eq!(vm.vmalloc_size(plain.addr().get()), Some(1));
    vm.check();
}

#[test]
fn growing_within_the_mapped_pages_stays_and_shows_zeroes_if_asked() {
    // V11.b
    let vm = machine(16, 256);
    let ptr = vm.vmalloc(PAGE_SIZE + 100, HERE).unwrap();
    fill(ptr, PAGE_SIZE + 100, 9);
    let zero = GFP_KERNEL.with(Gfp::ZERO);
    let same = resize(&vm, ptr.as_ptr(), 2 * PAGE_SIZE, zero)
        .unwrap()
        .unwrap();
    assert_eq!(same, ptr);
    assert_filled(ptr, PAGE_SIZE + 100, 9);
    assert!(
        bytes(ptr, PAGE_SIZE + 100..2 * PAGE_SIZE)
            .iter()
            .all(|b| *b == 0)
    );
    // Shrinking with ZERO clears what a later growth shows.
    fill(ptr, 2 * PAGE_SIZE, 9);
    resize(&vm, ptr.as_ptr(), PAGE_SIZE + 50, zero).unwrap();
    resize(&vm, ptr.as_ptr(), 2 * PAGE_SIZE, GFP_KERNEL).unwrap();
    assert!(
        bytes(ptr, PAGE_SIZE + 50..2 * PAGE_SIZE)
            .iter()
            .all(|b| *b == 0)
    );
}

#[test]
fn growing_beyond_moves_and_keeps_the_content() {
    // V11.c
    let vm = machine(16, 256);
    let ptr = vm.vmalloc(3 * PAGE_SIZE, HERE).unwrap();
    fill(ptr, 3 * PAGE_SIZE, 5);
    let zero = GFP_KERNEL.with(Gfp::ZERO);
    let new = resize(&vm, ptr.as_ptr(), 20 * PAGE_SIZE, zero)
        .unwrap()
        .unwrap();
    assert_ne!(new, ptr);
    assert_filled(new, 3 * PAGE_SIZE, 5);
    assert!(
        bytes(new, 3 * PAGE_SIZE..20 * PAGE_SIZE)
            .iter()
            .all(|b| *b == 0)
    );
    assert_eq!(vm.live().len(), 1);
    vm.check();
}

#[test]
fn a_failure_leaves_the_old_area_as_it_was() {
    // V11.c
    let vm = machine(16, 40);
    let ptr = vm.vmalloc(20 * PAGE_SIZE, HERE).unwrap();
    fill(ptr, 20 * PAGE_SIZE, 5);
    let error = resize(&vm, ptr.as_ptr(), 30 * PAGE_SIZE, GFP_KERNEL);
    assert_eq!(error, Err(AllocError::NoAddressSpace));
    let error = resize(&vm, ptr.as_ptr(), usize::MAX, GFP_KERNEL);
    assert!(matches!(error, Err(AllocError::TooLarge { .. })));
    assert_filled(ptr, 20 * PAGE_SIZE, 5);
    assert_eq!(vm.vmalloc_size(ptr.addr().get()), Some(20 * PAGE_SIZE));
    vm.check();
}

#[test]
fn what_is_no_area_or_not_aligned_is_refused() {
    // V11
    let vm = machine(16, 256);
    let ptr = vm.vmalloc(3 * PAGE_SIZE, HERE).unwrap();
    let inside = ptr.as_ptr().wrapping_add(PAGE_SIZE);
    assert_eq!(
        resize(&vm, inside, 10, GFP_KERNEL),
        Err(AllocError::BadPointer)
    );
    let mut outside = 0u64;
    let outside: *mut u8 = (&raw mut outside).cast();
    assert_eq!(
        resize(&vm, outside, 10, GFP_KERNEL),
        Err(AllocError::BadPointer)
    );
    let bad = !ptr.addr().get() & (ptr.addr().get() + 1).next_power_of_two();
    // SAFETY: refused.
    let wide = unsafe { vm.vrealloc_node_align(ptr.as_ptr(), 10, bad, GFP_KERNEL, None, HERE) };
    assert_eq!(wide, Err(AllocError::BadPointer));
    vm.check();
}
