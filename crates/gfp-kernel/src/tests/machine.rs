//! The machine itself: CPUs, interrupts, NMIs, and the library over all of them.

use super::disturb;
use crate::arch::{apic, percpu, smp, time, traps};
use crate::memory::mm;
use core::sync::atomic::Ordering::Relaxed;
use gfp::flags::{GFP_ATOMIC, GFP_KERNEL};

super::tests! { "machine":
    every_cpu_takes_timer_interrupts,
    nmis_that_allocate_do_not_disturb_a_task,
}

fn every_cpu_takes_timer_interrupts() {
    let before: [u64; percpu::MAX_CPUS] =
        core::array::from_fn(|i| percpu::of(gfp::frame::CpuId(i as u32)).map_or(0, ticks));
    let limit = time::now_ns() + 30_000_000_000; // much, for a busy host
    while percpu::all().any(|cpu| ticks(cpu) < before[cpu.index() as usize] + 3) {
        assert!(time::now_ns() < limit, "a CPU takes no timer interrupts");
    }
    assert_eq!(percpu::all().count(), smp::count() as usize);
}

fn ticks(cpu: &percpu::PerCpu) -> u64 {
    cpu.timer_ticks.load(Relaxed)
}

fn nmis_that_allocate_do_not_disturb_a_task() {
    let quiet = disturb::quiet();
    mm().trim();
    let before = mm().pages().free_page_count();
    drop(quiet);
    traps::ON_NMI.set(Some(|_| {
        if let Ok(p) = mm().kmalloc(64, GFP_ATOMIC) {
            // SAFETY: freed once.
            unsafe { mm().kfree(p.as_ptr()) }
        }
    }));
    for n in 0..20_000 {
        let p = mm().kmalloc(100, GFP_KERNEL).expect("memory is there");
        // SAFETY: freed once.
        unsafe { mm().kfree(p.as_ptr()) };
        if n % 500 == 0 {
            percpu::all().for_each(|cpu| apic::send_nmi(cpu.apic_id.load(Relaxed)));
        }
    }
    traps::ON_NMI.set(None);
    let _quiet = disturb::quiet();
    mm().trim();
    mm().verify().expect("all invariants hold");
    assert!(mm().pages().free_page_count() >= before);
    assert!(percpu::all().all(|cpu| cpu.nmis.load(Relaxed) > 0));
}
