//! Each allocator from each context, and what the contract says it answers.

use super::disturb;
use super::fixture::{Ledger, Wrong, cpus, kmalloc, patience, platform};
use super::threads::on_all_cpus;
use crate::arch::percpu::{self, OUTSIDE};
use crate::arch::{apic, cpu, time, traps};
use crate::memory::mm;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize};
use core::sync::atomic::{Ordering, Ordering::Relaxed};
use gfp::AllocError;
use gfp::flags::{GFP_ATOMIC, GFP_KERNEL, Gfp};
use gfp::frame::{CpuId, Pfn};
use gfp::platform::{Context, Platform};
use gfp::pool::dma::{DmaDevice, DmaMask};

super::tests! { "context":
    the_context_is_known,
    interrupts_are_served_by_every_allocator,
    nmis_outside_of_sections_are_served_by_every_allocator,
    nmis_inside_a_section_are_refused_as_nested,
    frees_in_an_nmi_inside_a_section_are_done_later,
    interrupts_never_come_inside_a_section,
    an_interrupt_with_kernel_flags_waits_for_nobody,
    what_another_cpu_allocated_is_freed_in_an_interrupt,
    places_are_given_to_tasks_only,
}

/// Runs `f` in a timer interrupt of this CPU.
pub(super) fn in_interrupt(f: fn()) {
    in_handler(f, &traps::ON_TIMER, |_| {});
}

/// Runs `f` in an NMI of this CPU, which comes at once: not in an interrupt, where it could find a
/// section under it that is not the caller's.
pub(super) fn in_nmi(f: fn()) {
    let _off = cpu::IrqOff::new();
    in_handler(f, &traps::ON_NMI, apic::send_nmi);
}

/// A `fn()` to call, or 0.
static JOB: AtomicUsize = AtomicUsize::new(0);
static JOB_CPU: AtomicU32 = AtomicU32::new(0);
static DONE: AtomicBool = AtomicBool::new(false);

fn in_handler(f: fn(), hook: &traps::Hook, trigger: fn(u32)) {
    let stay = percpu::preempt_off();
    JOB_CPU.store(stay.cpu().index(), Relaxed);
    DONE.store(false, Relaxed);
    JOB.store(f as usize, Relaxed);
    hook.set(Some(|_| {
        if percpu::cpu() != JOB_CPU.load(Relaxed) {
            return;
        }
        let at = JOB.swap(0, Relaxed);
        if at != 0 {
            // SAFETY: stored by `in_handler`, from a function of this type.
            unsafe { core::mem::transmute::<usize, fn()>(at)() }
            DONE.store(true, Relaxed);
        }
    }));
    trigger(stay.cpu().apic_id.load(Relaxed));
    let limit = patience();
    while !DONE.load(Relaxed) {
        assert!(time::now_ns() < limit, "no handler came");
        core::hint::spin_loop();
    }
    hook.set(None);
}

/// Counts it as wrong unless every allocator serves, and takes back what it gave.
fn every_allocator_serves() {
    let object = mm().kmalloc(300, GFP_ATOMIC);
    let large = mm().kmalloc(50_000, GFP_ATOMIC);
    let near = mm().kmalloc_node(64, GFP_ATOMIC, platform().node());
    for p in [object, large, near] {
        Wrong::Refused.unless(p.is_ok());
        // SAFETY: freed once.
        p.into_iter()
            .for_each(|p| unsafe { mm().kfree(p.as_ptr()) });
    }
    for order in [0, 1, 4, 9] {
        let pfn = mm().alloc_pages(GFP_ATOMIC, order);
        Wrong::Refused.unless(pfn.is_ok());
        // SAFETY: freed once.
        pfn.into_iter()
            .for_each(|pfn| unsafe { mm().free_frames(pfn, order) });
    }
    let device = DmaDevice::new(DmaMask::bits(32));
    match mm().dma_alloc_coherent(&device, 5000, GFP_ATOMIC) {
        // SAFETY: freed once.
        Ok((p, dma)) => unsafe { mm().dma_free_coherent(&device, 5000, p.as_ptr(), dma) },
        Err(_) => Wrong::Refused.count(),
    }
}

fn the_context_is_known() {
    static SEEN: AtomicU32 = AtomicU32::new(u32::MAX);
    let seen = || SEEN.swap(u32::MAX, Relaxed);
    let note: fn() = || SEEN.store(platform().context() as u32, Relaxed);
    note();
    assert_eq!(seen(), Context::Task as u32);
    in_interrupt(note);
    assert_eq!(seen(), Context::HardIrq as u32);
    in_nmi(note);
    assert_eq!(seen(), Context::Nmi as u32);
    let stay = percpu::preempt_off();
    note();
    assert_eq!(seen(), Context::Atomic as u32);
    drop(stay);
    let off = cpu::IrqOff::new();
    note();
    drop(off);
    assert_eq!(seen(), Context::Atomic as u32);
}

fn interrupts_are_served_by_every_allocator() {
    let books = Ledger::open();
    in_interrupt(every_allocator_serves);
    books.close();
}

fn nmis_outside_of_sections_are_served_by_every_allocator() {
    let books = Ledger::open();
    in_nmi(every_allocator_serves);
    books.close();
}

fn nmis_inside_a_section_are_refused_as_nested() {
    let books = Ledger::open();
    let section = platform().enter().expect("a task is outside");
    in_nmi(|| {
        let object = mm().kmalloc(64, GFP_ATOMIC);
        Wrong::InSection.unless(object == Err(AllocError::Nested));
        let pages = mm().alloc_pages(GFP_ATOMIC, 0);
        Wrong::InSection.unless(pages == Err(AllocError::Nested));
        let bulk = mm().alloc_pages_bulk(GFP_ATOMIC, &mut [None; 4]);
        Wrong::InSection.unless(bulk == 0);
        let device = DmaDevice::new(DmaMask::bits(64));
        let coherent = mm().dma_alloc_coherent(&device, 64, GFP_ATOMIC);
        Wrong::InSection.unless(coherent.is_err());
    });
    drop(section);
    assert!(
        mm().kmalloc(64, GFP_KERNEL)
            .map(|p| free(p.as_ptr()))
            .is_ok()
    );
    books.close();
}

fn free(p: *mut u8) {
    // SAFETY: the tests free each once.
    unsafe { mm().kfree(p) }
}

fn frees_in_an_nmi_inside_a_section_are_done_later() {
    // P173
    static OBJECT: AtomicPtr<u8> = AtomicPtr::new(core::ptr::null_mut());
    static LARGE: AtomicPtr<u8> = AtomicPtr::new(core::ptr::null_mut());
    static PAGE: AtomicUsize = AtomicUsize::new(0);
    let books = Ledger::open();
    let _quiet = disturb::quiet();
    let page = mm().alloc_pages(GFP_KERNEL, 2).expect("pages");
    OBJECT.store(kmalloc(64).into_ptr(), Relaxed);
    LARGE.store(kmalloc(30_000).into_ptr(), Relaxed);
    PAGE.store(page.0, Relaxed);
    let section = platform().enter().expect("a task is outside");
    in_nmi(|| {
        free(OBJECT.load(Relaxed));
        free(LARGE.load(Relaxed));
        // SAFETY: freed once.
        unsafe { mm().free_frames(Pfn(PAGE.load(Relaxed)), 2) }
    });
    drop(section);
    assert!(!mm().pages().is_free(page), "the free waits");
    // What waits is free already for who looks: a second free of it is one.
    free(OBJECT.load(Relaxed));
    // SAFETY: refused.
    unsafe { mm().free_frames(page, 2) }
    mm().pages().drain_all();
    assert!(mm().pages().is_free(page), "and is done");
    books.close_after(2);
}

fn interrupts_never_come_inside_a_section() {
    static TAKEN: AtomicU64 = AtomicU64::new(0);
    let books = Ledger::open();
    TAKEN.store(0, Relaxed);
    traps::ON_TIMER.set(Some(|_| {
        TAKEN.fetch_add(1, Relaxed);
        Wrong::InSection.unless(percpu::inside() == OUTSIDE);
        match mm().kmalloc(48, GFP_ATOMIC) {
            Ok(p) => free(p.as_ptr()),
            Err(_) => Wrong::Refused.count(),
        }
    }));
    on_all_cpus(|_| {
        time::timer_hz(4000);
        // Long sections: most of the time is spent inside.
        let limit = patience();
        while TAKEN.load(Relaxed) < 500 && time::now_ns() < limit {
            let section = platform().enter();
            time::spin_us(100);
            drop(section);
        }
        time::timer_hz(super::TIMER_HZ);
    });
    traps::ON_TIMER.set(None);
    assert!(TAKEN.load(Relaxed) >= 500, "interrupts came");
    books.close();
}

fn an_interrupt_with_kernel_flags_waits_for_nobody() {
    let books = Ledger::open();
    in_interrupt(|| {
        // All of order 10 there is, and more: the slow path would ask other CPUs for their pages.
        let mut blocks = [None; 64];
        for block in &mut blocks {
            *block = mm().alloc_pages(GFP_KERNEL | Gfp::NOWARN, 10).ok();
        }
        for pfn in blocks.into_iter().flatten() {
            // SAFETY: freed once.
            unsafe { mm().free_frames(pfn, 10) }
        }
        Wrong::Refused.unless(blocks[0].is_some());
        let object = mm().kmalloc(64, GFP_KERNEL);
        Wrong::Refused.unless(object.is_ok());
        object.into_iter().for_each(|p| free(p.as_ptr()));
    });
    books.close();
}

fn what_another_cpu_allocated_is_freed_in_an_interrupt() {
    // One object a CPU and turn; whichever CPU's interrupt comes next frees it.
    const TURNS: usize = 200;
    static HANDED: [AtomicPtr<u8>; percpu::MAX_CPUS] =
        [const { AtomicPtr::new(core::ptr::null_mut()) }; percpu::MAX_CPUS];
    static FREED: AtomicUsize = AtomicUsize::new(0);
    let books = Ledger::open();
    FREED.store(0, Relaxed);
    traps::ON_TIMER.set(Some(|_| {
        let next = (percpu::cpu() as usize + 1) % percpu::all().count();
        // Acquire: pairs with the Release in the worker.
        let p = HANDED[next].swap(core::ptr::null_mut(), Ordering::Acquire);
        if !p.is_null() {
            free(p);
            FREED.fetch_add(1, Relaxed);
        }
    }));
    on_all_cpus(|cpu| {
        time::timer_hz(4000);
        let limit = patience();
        for turn in 0..TURNS {
            let size = [16, 200, 4096, 20_000][turn % 4];
            let p = kmalloc(size).into_ptr();
            let place = &HANDED[cpu as usize];
            // Release: pairs with the Acquire in the handler.
            place.store(p, Ordering::Release);
            while !place.load(Relaxed).is_null() && time::now_ns() < limit {
                core::hint::spin_loop();
            }
        }
        time::timer_hz(super::TIMER_HZ);
    });
    traps::ON_TIMER.set(None);
    assert_eq!(FREED.load(Relaxed), TURNS * cpus() as usize);
    books.close();
}

fn places_are_given_to_tasks_only() {
    fn refused() {
        for cpu in 0..percpu::MAX_CPUS as u32 {
            Wrong::Other.unless(platform().enter_remote(CpuId(cpu)).is_none());
        }
    }
    let books = Ledger::open();
    in_interrupt(refused);
    in_nmi(refused);
    let off = cpu::IrqOff::new();
    refused();
    drop(off);
    assert!(platform().enter_remote(CpuId(63)).is_none(), "not started");
    for cpu in 0..cpus() {
        assert!(platform().enter_remote(CpuId(cpu)).is_some());
    }
    books.close();
}
