//! Page faults: each kind of wrong access is told for what it is, with the right owner.

use crate::arch::{DIRECT_MAP, KBASE, cpu, percpu, phys_to_ptr};
use crate::memory::mm;
use crate::paging::fault::{Access, Cause, Fault, Place, try_call, try_push, try_read, try_write};
use crate::paging::{self, VMALLOC, VMALLOC_BYTES};
use crate::sched::spawn;
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::panic::Location;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use gfp::flags::GFP_KERNEL;
use gfp::frame::PAGE_SIZE;
use gfp::platform::Platform;
use gfp::report::{Caller, Misuse, Owner};
use gfp::vmalloc::AreaOwner;

super::tests! { "faults":
    what_can_be_read_and_written_is_read_and_written,
    a_guard_page_is_told_with_its_owner,
    use_after_vfree_is_told_with_its_owner_before_and_after_the_purge,
    addresses_that_are_nobodys_are_told_apart,
    a_null_pointer_faults,
    an_overflow_of_a_stack_is_told_as_such,
    text_and_constants_cannot_be_written_by_any_address,
    data_cannot_be_executed,
    a_fault_inside_the_allocator_is_told_without_asking_it,
    who_runs_over_an_area_or_uses_a_freed_one_dies_of_it,
    a_second_vfree_is_refused_with_the_first_owner,
}

/// An area, and who made it: the line of the caller.
#[track_caller]
fn area(pages: usize) -> (usize, &'static Location<'static>) {
    let at = mm().vmalloc(pages * PAGE_SIZE).expect("memory is there");
    (at.as_ptr().expose_provenance(), Location::caller())
}

#[track_caller]
fn free(at: usize) -> &'static Location<'static> {
    // SAFETY: the tests give up what they free.
    unsafe { mm().vfree(core::ptr::with_exposed_provenance_mut(at)) }
    Location::caller()
}

fn read(addr: usize) -> Result<u8, Fault> {
    // SAFETY: the tests read memory, or what faults.
    unsafe { try_read(addr) }
}

/// What reading an address is told.
#[track_caller]
fn missed(addr: usize) -> Cause {
    match read(addr) {
        Err(fault) => {
            assert_eq!((fault.addr, fault.access), (addr, Access::Read));
            fault.cause
        }
        Ok(byte) => panic!("{addr:#x} reads as {byte:#x}"),
    }
}

#[track_caller]
fn is_place(caller: Caller, place: &Location<'_>) {
    match caller {
        Caller::Location(at) => assert_eq!((at.file(), at.line()), (place.file(), place.line())),
        Caller::Address(at) => panic!("{at:#x}"),
    }
}

#[track_caller]
fn is_owner(owner: AreaOwner, at: usize, pages: usize, made: &Location<'_>) {
    assert_eq!((owner.start, owner.size), (at, pages * PAGE_SIZE));
    is_place(owner.caller, made);
}

fn what_can_be_read_and_written_is_read_and_written() {
    let (at, _) = area(1);
    for offset in [0, 1, PAGE_SIZE - 1] {
        // SAFETY: our area.
        assert!(unsafe { try_write(at + offset, offset as u8 ^ 0x5a) }.is_ok());
        assert_eq!(read(at + offset).ok(), Some(offset as u8 ^ 0x5a));
    }
    // SAFETY: the top of our area.
    assert!(unsafe { try_push(at + PAGE_SIZE) }.is_ok());
    assert_eq!(read(at + PAGE_SIZE - 8).ok(), Some(0));
    free(at);
}

// V2. Seen to fail: `break=guard`.
fn a_guard_page_is_told_with_its_owner() {
    let (first, made_first) = area(3);
    let (second, made) = area(1);
    for (at, pages, made) in [(first, 3, made_first), (second, 1, made)] {
        let end = at + pages * PAGE_SIZE;
        for addr in [end, end + PAGE_SIZE - 1] {
            match missed(addr) {
                Cause::Guard(owner) => is_owner(owner, at, pages, made),
                other => panic!("{other}"),
            }
        }
        assert!(read(end - 1).is_ok());
        // SAFETY: a guard page is nobody's.
        let fault = unsafe { try_write(end, 1) }.expect_err("V2");
        assert_eq!(fault.access, Access::Write);
        let text = fault.to_string();
        assert!(text.contains("guard page behind vmalloc area"), "{text}");
        assert!(text.contains(file!()), "{text}");
    }
    free(first);
    free(second);
}

// V10, V17. Seen to fail: `break=unmap`; and without what is remembered of purged areas.
fn use_after_vfree_is_told_with_its_owner_before_and_after_the_purge() {
    let (at, made) = area(2);
    let stay = percpu::preempt_off(); // another CPU may remember what this one forgets
    assert!(read(at).is_ok());
    let freed = free(at);
    (at..at + 2 * PAGE_SIZE)
        .step_by(PAGE_SIZE)
        .for_each(cpu::invlpg); // what this CPU remembers
    let told = || {
        for addr in [at, at + 2 * PAGE_SIZE - 1, at + 2 * PAGE_SIZE] {
            match missed(addr) {
                Cause::Freed(area) => {
                    is_owner(area.owner, at, 2, made);
                    is_place(area.freed_by, freed);
                }
                other => panic!("{other}"),
            }
        }
    };
    told();
    drop(stay);
    mm().vmalloc_space().vm_unmap_aliases().expect("a task");
    told();
    let text = missed(at).to_string();
    assert!(text.starts_with("use after vfree"), "{text}");
}

fn addresses_that_are_nobodys_are_told_apart() {
    let last = VMALLOC + VMALLOC_BYTES - 1;
    assert!(matches!(missed(last), Cause::Unused));
    let behind_memory = VMALLOC - PAGE_SIZE;
    assert!(matches!(missed(behind_memory), Cause::DirectMapHole));
    // Lower half; behind the image.
    for addr in [0x1000_0000, 0x7fff_ffff_f000, usize::MAX] {
        assert!(matches!(missed(addr), Cause::Wild), "{addr:#x}");
    }
}

// Seen to fail: `break=null`.
fn a_null_pointer_faults() {
    for addr in [0, 8, PAGE_SIZE - 1] {
        assert!(matches!(missed(addr), Cause::Null));
    }
    // SAFETY: nothing is there.
    let fault = unsafe { try_call(0) }.expect_err("nothing is there");
    assert!(matches!(fault.cause, Cause::Null));
    assert_eq!(fault.access, Access::Execute);
}

fn an_overflow_of_a_stack_is_told_as_such() {
    let (below, _) = area(1);
    let (stack, made) = area(4);
    // SAFETY: the second word of our area.
    assert!(unsafe { try_push(stack + 16) }.is_ok());
    // SAFETY: the word before it is nobody's.
    let fault = unsafe { try_push(stack) }.expect_err("a stack ends where its area does");
    match fault.cause {
        Cause::StackOverflow(owner) => is_owner(owner, stack, 4, made),
        other => panic!("{other}"),
    }
    assert_eq!((fault.addr, fault.access), (stack - 8, Access::Write));
    free(below);
    free(stack);
    let boot = paging::boot_stack_guard().end;
    // SAFETY: the guard page is nobody's.
    let fault = unsafe { try_push(boot) }.expect_err("the boot stack has a guard page");
    assert!(matches!(fault.cause, Cause::BootStack));
    assert!(read(boot).is_ok());
}

/// Text, and a constant.
fn fixed() -> [(usize, Place); 2] {
    static CONSTANT: [u8; 16] = *b"it cannot change";
    let constant = (&raw const CONSTANT).addr();
    [
        (fixed as *const () as usize, Place::Text),
        (constant, Place::ReadOnlyData),
    ]
}

// Seen to fail: `break=protection`.
fn text_and_constants_cannot_be_written_by_any_address() {
    for (at, place) in fixed() {
        let alias = phys_to_ptr((at - KBASE) as u64).addr();
        assert!(alias > DIRECT_MAP && alias < VMALLOC);
        for (addr, place) in [(at, place), (alias, Place::DirectMap)] {
            let byte = read(addr).expect("it can be read");
            // SAFETY: it faults, or writes what is there.
            let fault = unsafe { try_write(addr, byte) }.expect_err("it can only be read");
            match fault.cause {
                Cause::ReadOnly(told) => assert_eq!(told.to_string(), place.to_string()),
                other => panic!("{other}"),
            }
        }
    }
}

// Seen to fail: `break=execute`.
fn data_cannot_be_executed() {
    const RETURN: u8 = 0xc3;
    static VARIABLE: AtomicU64 = AtomicU64::new(0);
    VARIABLE.store(RETURN.into(), Relaxed);
    let object = mm().kmalloc(64, GFP_KERNEL).expect("memory is there");
    let (area, _) = area(1);
    let places = [
        ((&raw const VARIABLE).addr(), Place::Data),
        (object.as_ptr().expose_provenance(), Place::DirectMap),
    ];
    for (at, place) in places {
        // SAFETY: ours.
        unsafe { try_write(at, RETURN) }.expect("it can be written");
        // SAFETY: a function that returns, if it can be executed.
        let fault = unsafe { try_call(at) }.expect_err("it is data");
        match fault.cause {
            Cause::NotExecutable(told) => assert_eq!(told.to_string(), place.to_string()),
            other => panic!("{other}"),
        }
    }
    // SAFETY: ours; a function that returns, if it can be executed.
    let fault = unsafe { try_write(area, RETURN).and_then(|()| try_call(area)) };
    let cause = fault.expect_err("it is data").cause;
    assert!(matches!(cause, Cause::NotExecutable(Place::Area(_))));
    // SAFETY: text can be executed.
    unsafe { try_call(returns as *const () as usize) }.expect("it is code");
    free(area);
    // SAFETY: freed once.
    unsafe { mm().kfree(object.as_ptr()) }
}

extern "C" fn returns() {}

// V10
fn a_fault_inside_the_allocator_is_told_without_asking_it() {
    let (at, _) = area(1);
    let section = mm().platform().enter().expect("a task is outside");
    let fault = read(at + PAGE_SIZE);
    drop(section);
    let cause = fault.expect_err("V2").cause;
    assert!(matches!(cause, Cause::InAllocator), "{cause}");
    free(at);
}

// V2, V10. Seen to fail: `break=guard`, `break=unmap`.
fn who_runs_over_an_area_or_uses_a_freed_one_dies_of_it() {
    let (over, _) = area(1);
    // Between two that stay, so that no task's stack fits there when it is free.
    let mut areas = Vec::new();
    let freed = loop {
        areas.push(area(1).0);
        if let [.., before, at, behind] = areas[..]
            && at == before + 2 * PAGE_SIZE
            && behind == at + 2 * PAGE_SIZE
        {
            break at;
        }
    };
    free(freed);
    mm().vmalloc_space().vm_unmap_aliases().expect("a task");
    for (addr, cause) in [
        (
            over + PAGE_SIZE,
            "write to {addr}: guard page behind vmalloc",
        ),
        (
            freed,
            "write to {addr}: use after vfree of vmalloc area {addr} of 4096 bytes",
        ),
    ] {
        let task = spawn("dies", move || {
            let at: *mut u64 = core::ptr::with_exposed_provenance_mut(addr);
            // SAFETY: not safe at all, that is the test; nothing is mapped there.
            unsafe { at.write_volatile(1) }
        });
        let death = task.join().expect_err("it died");
        let cause = cause.replace("{addr}", &format!("{addr:#x}"));
        assert!(death.message().contains(&cause), "{death:?}");
        assert!(death.message().contains(file!()), "{death:?}");
    }
    free(over);
    areas.into_iter().filter(|at| *at != freed).for_each(|at| {
        free(at);
    });
}

// V10
fn a_second_vfree_is_refused_with_the_first_owner() {
    let (at, _) = area(2);
    free(at);
    let freed = Owner::FreedArea {
        start: at,
        size: 2 * PAGE_SIZE,
    };
    mm().with_owner_of(at, |owner| assert_eq!(owner, freed));
    let again = core::ptr::with_exposed_provenance_mut(at);
    // SAFETY: a second free is refused.
    let refused = unsafe { mm().vmalloc_space().vfree(again, Caller::here()) };
    assert_eq!(refused, Err(Misuse::DoubleFree));
    mm().vmalloc_space().verify().expect("nothing is broken");
}
