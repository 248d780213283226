//! Calls from interrupts, signal handlers and other CPUs.

use super::machine::*;
use crate::error::AllocError;
use crate::frame::PAGE_SIZE;
use crate::platform::Context;
use crate::report::Misuse;
use crate::vmalloc::postponed::SLOTS;
use std::sync::atomic::Ordering;
use std::vec::Vec;

/// Runs `work` as a handler that interrupted the allocator on this CPU.
fn nested<R>(vm: &Vm, work: impl FnOnce() -> R) -> R {
    vm.platform().base.nested.store(true, Ordering::Relaxed);
    let result = work();
    vm.platform().base.nested.store(false, Ordering::Relaxed);
    result
}

#[test]
fn allocation_is_refused_in_interrupts_and_inside_the_allocator() {
    // V4
    let vm = machine(16, 64);
    for context in [Context::SoftIrq, Context::HardIrq, Context::Nmi] {
        vm.on_context(context);
        assert_eq!(vm.vmalloc(1, HERE), Err(AllocError::Nested));
    }
    vm.on_context(Context::Atomic);
    assert!(vm.vmalloc(1, HERE).is_ok());
    assert_eq!(nested(&vm, || vm.vmalloc(1, HERE)), Err(AllocError::Nested));
    vm.check();
}

#[test]
fn a_free_in_an_interrupt_is_checked_at_once_and_done_by_the_next_task() {
    // V10
    let vm = machine(16, 64);
    let a = vm.vmalloc(5000, HERE).unwrap();
    let b = vm.vmalloc(5000, HERE).unwrap();
    vm.on_context(Context::HardIrq);
    assert_eq!(vm.free(a), Ok(()));
    assert_eq!(vm.free(a), Err(Misuse::DoubleFree));
    assert_eq!(vm.tables().mapped.len(), 4, "nothing was unmapped yet");
    vm.on_context(Context::Task);
    assert_eq!(vm.live().len(), 1);
    vm.free(b).unwrap();
    assert!(vm.tables().mapped.is_empty());
    vm.check();
}

#[test]
fn a_free_inside_the_allocator_is_written_down_and_done_later() {
    // V10: more than the slots hold, so that the stack through the memory is used too
    let vm = machine(16, 1024);
    let areas: Vec<_> = (0..SLOTS + 10)
        .map(|_| vm.vmalloc(PAGE_SIZE, HERE).unwrap())
        .collect();
    let before = vm.vmalloc_counters();
    nested(&vm, || {
        areas.iter().for_each(|&a| assert_eq!(vm.free(a), Ok(())))
    });
    assert_eq!(vm.vmalloc_counters(), before);
    let last = vm.vmalloc(PAGE_SIZE, HERE).unwrap();
    assert_eq!(vm.live().len(), 1);
    vm.check();
    vm.free(last).unwrap();
    vm.check();
    assert!(vm.platform().base.reports().is_empty());
}

#[test]
fn a_nested_call_leaves_what_was_written_down_for_the_next() {
    // V10. Seen to fail: without the entry before anything is taken.
    let vm = machine(16, 1024);
    let areas: Vec<_> = (0..SLOTS + 3)
        .map(|_| vm.vmalloc(PAGE_SIZE, HERE).unwrap())
        .collect();
    nested(&vm, || {
        areas.iter().for_each(|&a| assert_eq!(vm.free(a), Ok(())));
        assert_eq!(vm.vmalloc(1, HERE), Err(AllocError::Nested));
        assert_eq!(vm.vm_unmap_aliases(), Err(AllocError::Nested));
    });
    vm.vm_unmap_aliases().unwrap();
    assert!(vm.live().is_empty());
    vm.check();
}

#[test]
fn a_misuse_that_was_written_down_is_reported_with_its_caller() {
    // V10
    let vm = machine(16, 64);
    let a = vm.vmalloc(5000, HERE).unwrap();
    nested(&vm, || {
        assert_eq!(vm.free(a), Ok(()));
        assert_eq!(vm.free(a), Ok(()), "cannot be known yet");
        // SAFETY: refused.
        let inside = unsafe { vm.vfree(a.as_ptr().wrapping_add(8), HERE) };
        assert_eq!(inside, Err(Misuse::InteriorFree));
    });
    vm.vm_unmap_aliases().unwrap();
    let reports = vm.platform().base.reports();
    assert_eq!(reports.len(), 1);
    assert!(
        reports[0].contains("double free") && reports[0].contains("0x1234"),
        "{reports:?}"
    );
    vm.check();
}

#[test]
fn looking_is_refused_inside_the_allocator() {
    let vm = machine(16, 64);
    let a = vm.vmalloc(5000, HERE).unwrap().addr().get();
    nested(&vm, || {
        assert!(vm.is_vmalloc_addr(a), "a range test works anywhere (V12)");
        assert_eq!(vm.vmalloc_to_pfn(a), None);
        assert_eq!(vm.describe(a), None);
        assert!(vm.for_each_area(&mut |_| ()).is_err());
        assert!(vm.verify().is_err());
        assert_eq!(vm.purge(), 0);
    });
    assert!(vm.vmalloc_to_pfn(a).is_some());
}

#[test]
fn another_cpu_may_free() {
    let vm = machine(16, 256);
    let areas: Vec<_> = (0..20)
        .map(|i| vm.vmalloc(1000 * (i + 1), HERE).unwrap())
        .collect();
    for (i, a) in areas.into_iter().enumerate() {
        vm.platform().base.on(i as u32 % 4);
        vm.free(a).unwrap();
        vm.check();
    }
    assert_eq!(vm.vmalloc_counters().areas, 0);
}
