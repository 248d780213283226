//! Sections: one visitor at a time in each CPU's private state, whoever it is.

use super::threads;
use crate::arch::percpu::{self, MAX_CPUS};
use crate::arch::{smp, traps};
use crate::memory::mm;
use crate::sched::{self, spawn};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use gfp::frame::CpuId;
use gfp::platform::Platform;

super::tests! { "sections":
    every_place_has_one_visitor_at_a_time,
}

/// Somebody is in the private state of that CPU.
static VISITED: [AtomicBool; MAX_CPUS] = [const { AtomicBool::new(false) }; MAX_CPUS];
/// Visits that met another.
static MET: AtomicU32 = AtomicU32::new(0);

fn visit(cpu: CpuId) {
    let here = &VISITED[cpu.0 as usize];
    // Relaxed, both: the sections order visits; that is what is tested.
    if here.swap(true, Relaxed) {
        MET.fetch_add(1, Relaxed);
    }
    (0..100).for_each(|_| core::hint::spin_loop());
    here.store(false, Relaxed);
}

fn visit_own() -> bool {
    match mm().platform().enter() {
        Ok((cpu, _section)) => {
            visit(cpu);
            true
        }
        Err(_nested) => false,
    }
}

fn visit_of(cpu: CpuId) {
    if let Some(_section) = mm().platform().enter_remote(cpu) {
        visit(cpu);
    }
}

/// Tasks that visit their own CPU and all others, moved and preempted, and handlers in between.
// [INV-PCPU-1]
fn every_place_has_one_visitor_at_a_time() {
    const ROUNDS: u32 = 150;
    MET.store(0, Relaxed);
    traps::ON_TIMER.set(Some(|_| {
        visit_own();
    }));
    traps::ON_NMI.set(Some(|_| {
        visit_own();
    }));
    let cpus = smp::count();
    let work = move |first: u32| {
        for round in 0..ROUNDS {
            assert!(visit_own(), "a task is in nobody's section");
            visit_of(CpuId((first + round) % cpus));
            if round % 8 == 0 {
                sched::yield_now();
            }
        }
    };
    let movers: Vec<_> = (0..cpus)
        .map(|n| spawn("visits", move || work(n)))
        .collect();
    threads::on_all_cpus(|cpu| work(cpu + 1));
    for task in movers {
        task.join().expect("it ends");
    }
    // A CPU that does not exist has no place.
    let none = mm()
        .platform()
        .enter_remote(CpuId(percpu::all().count() as u32));
    assert!(none.is_none());
    assert_eq!(MET.load(Relaxed), 0, "visits met others");
}

/// Does not compile if one of these types is `Send`: its guards end on the CPU on which they began.
macro_rules! stays_on_its_cpu {
    ($($guard:ty),*) => {$(
        const _: () = {
            trait Told<A> {
                const ONE: () = ();
            }
            impl<T> Told<()> for T {}
            struct ByBeingSend;
            impl<T: Send> Told<ByBeingSend> for T {}
            <$guard as Told<_>>::ONE
        };
    )*};
}

// [INV-PCPU-1]
stays_on_its_cpu!(
    crate::platform::Section<'static>,
    crate::arch::cpu::IrqOff,
    percpu::PreemptOff,
    sched::IrqGuard<'static, u32>
);
