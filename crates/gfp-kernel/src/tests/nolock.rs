//! Calls that wait for nobody, in NMIs that come at any instruction of calls that do.

use super::threads;
use crate::arch::percpu::{self, MAX_CPUS};
use crate::arch::{apic, smp, traps};
use crate::memory::mm;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering::Relaxed};
use gfp::flags::{GFP_KERNEL, Gfp};
use gfp::frame::CpuId;
use gfp::platform::Platform;

super::tests! { "nolock":
    an_nmi_allocates_and_frees_whatever_it_interrupts,
    inside_a_section_there_is_none_and_a_free_is_put_off,
}

/// What the NMIs of each CPU hold.
static HELD: [[AtomicPtr<u8>; 4]; MAX_CPUS] =
    [const { [const { AtomicPtr::new(null_mut()) }; 4] }; MAX_CPUS];
static RUNS: AtomicU32 = AtomicU32::new(0);
static GIVEN: AtomicU32 = AtomicU32::new(0);
static SPOILED: AtomicU32 = AtomicU32::new(0);

fn free(at: &AtomicPtr<u8>) -> bool {
    let held = at.swap(null_mut(), Relaxed);
    if held.is_null() {
        return false;
    }
    // SAFETY: at least 8 bytes, ours alone.
    unsafe {
        if held.cast::<usize>().read() != held.addr() {
            SPOILED.fetch_add(1, Relaxed);
        }
        mm().kfree_nolock(held);
    }
    true
}

fn on_nmi(_: &mut traps::Frame) {
    let run = RUNS.fetch_add(1, Relaxed) as usize;
    let at = &HELD[percpu::cpu() as usize][run % 4];
    if !free(at)
        && let Some(object) = mm().kmalloc_nolock(16 << (run % 9), Gfp::NONE, None)
    {
        // SAFETY: fresh memory of at least 16 bytes.
        unsafe { object.cast::<usize>().write(object.addr().get()) };
        at.store(object.as_ptr(), Relaxed);
        GIVEN.fetch_add(1, Relaxed);
    }
    if let Some(pfn) = mm().alloc_pages_nolock(Gfp::NONE, None, (run % 4) as u8) {
        // SAFETY: ours, freed once.
        unsafe { mm().free_pages_nolock(pfn, (run % 4) as u8) }
    }
}

// P170, P173, S36-S38
fn an_nmi_allocates_and_frees_whatever_it_interrupts() {
    const ROUNDS: usize = 3000;
    for counter in [&RUNS, &GIVEN, &SPOILED] {
        counter.store(0, Relaxed);
    }
    let misuses = mm().pages().misuses();
    traps::ON_NMI.set(Some(on_nmi));
    threads::on_all_cpus(|cpu| {
        let mut held = [null_mut(); 16];
        let cpus = smp::count();
        // NMIs that come while one is handled are one: go on until enough were handled.
        let enough = || RUNS.load(Relaxed) > 50 && GIVEN.load(Relaxed) > 10;
        for round in (0..ROUNDS * 1000).take_while(|round| *round < ROUNDS || !enough()) {
            if round % 8 == 0
                && let Some(other) = percpu::of(CpuId((cpu + 1) % cpus))
            {
                apic::send_nmi(other.apic_id.load(Relaxed));
            }
            let slot = &mut held[round * 7 % 16];
            // SAFETY: ours, or null.
            unsafe { mm().kfree(*slot) };
            let size = 16 << (round % 9);
            *slot = mm()
                .kmalloc(size, GFP_KERNEL)
                .map_or(null_mut(), |p| p.as_ptr());
        }
        // SAFETY: ours, or null.
        held.into_iter().for_each(|p| unsafe { mm().kfree(p) });
    });
    traps::ON_NMI.set(None);
    // An NMI that was under way has ended when its CPU runs a task.
    threads::on_all_cpus(|cpu| HELD[cpu as usize].iter().for_each(|at| _ = free(at)));
    assert!(RUNS.load(Relaxed) > 50 && GIVEN.load(Relaxed) > 10);
    assert_eq!(
        SPOILED.load(Relaxed),
        0,
        "memory of a handler was given to somebody else"
    );
    assert_eq!(mm().pages().misuses(), misuses);
}

// P173, S38: what an NMI meets when it comes inside.
fn inside_a_section_there_is_none_and_a_free_is_put_off() {
    let object = mm().kmalloc(64, GFP_KERNEL).expect("memory").as_ptr();
    let page = mm().alloc_pages(GFP_KERNEL, 0).expect("memory");
    let misuses = mm().pages().misuses();
    {
        let _inside = mm().platform().enter();
        assert!(mm().kmalloc_nolock(64, Gfp::NONE, None).is_none());
        assert!(mm().alloc_pages_nolock(Gfp::NONE, None, 0).is_none());
        // SAFETY: ours, freed once.
        unsafe {
            mm().kfree_nolock(object);
            mm().free_pages_nolock(page, 0);
        }
    }
    assert_eq!(mm().pages().misuses(), misuses);
}
