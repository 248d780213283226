//! The machine itself: CPUs, interrupts, NMIs, and the library over all of them.

use super::fixture::{Ledger, patience};
use crate::arch::{apic, percpu, smp, time, traps};
use crate::memory::mm;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use gfp::flags::{GFP_ATOMIC, GFP_KERNEL};

super::tests! { "machine":
    every_cpu_takes_timer_interrupts,
    an_nmi_waits_for_the_end_of_the_one_before,
    nmis_that_allocate_do_not_disturb_a_task,
}

fn every_cpu_takes_timer_interrupts() {
    let before: [u64; percpu::MAX_CPUS] =
        core::array::from_fn(|i| percpu::of(gfp::frame::CpuId(i as u32)).map_or(0, ticks));
    let limit = patience();
    while percpu::all().any(|cpu| ticks(cpu) < before[cpu.index() as usize] + 3) {
        assert!(time::now_ns() < limit, "a CPU takes no timer interrupts");
    }
    assert_eq!(percpu::all().count(), smp::count() as usize);
}

fn ticks(cpu: &percpu::PerCpu) -> u64 {
    cpu.timer_ticks.load(Relaxed)
}

// Seen to fail: `break=nmis-nest`.
fn an_nmi_waits_for_the_end_of_the_one_before() {
    const SENT: u32 = 100;
    /// The CPU whose next NMI sends another; the number that came inside.
    static SENDER: AtomicU32 = AtomicU32::new(NOBODY);
    static INSIDE: AtomicU64 = AtomicU64::new(0);
    const NOBODY: u32 = u32::MAX;
    INSIDE.store(0, Relaxed);
    traps::ON_NMI.set(Some(|_| {
        let this = percpu::this();
        if SENDER.load(Relaxed) != this.index() {
            return;
        }
        let before = this.nmis.load(Relaxed);
        apic::send_nmi(this.apic_id.load(Relaxed));
        (0..100).for_each(|_| core::hint::spin_loop());
        INSIDE.fetch_add(this.nmis.load(Relaxed) - before, Relaxed);
        SENDER.store(NOBODY, Relaxed);
    }));
    let stay = percpu::preempt_off();
    let nmis = || stay.cpu().nmis.load(Relaxed);
    for _ in 0..SENT {
        let before = nmis();
        SENDER.store(stay.cpu().index(), Relaxed);
        apic::send_nmi(stay.cpu().apic_id.load(Relaxed));
        // It, and the one that it sends; who waits for ever ends by the limit of a test.
        while SENDER.load(Relaxed) != NOBODY || nmis() < before + 2 {
            core::hint::spin_loop();
        }
    }
    drop(stay);
    traps::ON_NMI.set(None);
    assert_eq!(INSIDE.load(Relaxed), 0, "NMIs came inside others");
}

fn nmis_that_allocate_do_not_disturb_a_task() {
    let books = Ledger::open();
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
    books.close();
    assert!(percpu::all().all(|cpu| cpu.nmis.load(Relaxed) > 0));
}
