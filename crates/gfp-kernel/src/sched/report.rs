//! What everybody is doing, for when nothing goes on.

use super::run::CORE;
use super::task::Task;
use crate::arch::percpu::{self, MAX_CPUS};
use crate::arch::traps::Frame;
use crate::arch::{apic, cpu, time};
use crate::println;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, Ordering::Relaxed};

/// Where each CPU was when it was asked; 0: it did not answer.
static AT: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];
static ASKED: AtomicBool = AtomicBool::new(false);
/// The CPU that reports.
static REPORTER: AtomicU32 = AtomicU32::new(NOBODY);
const NOBODY: u32 = u32::MAX;

/// Called in each NMI: answers [`report`] if it asks.
pub fn on_nmi(frame: &Frame) {
    if ASKED.load(Relaxed) {
        // Release: pairs with the Acquire in `report`.
        AT[percpu::cpu() as usize].store(frame.rip, Ordering::Release);
    }
}

/// Prints where each CPU is (it is asked by an NMI, so it answers wherever it hangs), and what each
/// task does. The machine is about to end: another CPU that reports as well waits for that, and a
/// report that fails is not begun again.
pub fn report() {
    // Relaxed: nothing is handed over.
    match REPORTER.compare_exchange(NOBODY, percpu::cpu(), Relaxed, Relaxed) {
        Ok(_) => {}
        Err(reporter) if reporter == percpu::cpu() => return,
        Err(_) => cpu::halt_for_ever(),
    }
    AT.iter().for_each(|at| at.store(0, Relaxed));
    ASKED.store(true, Relaxed);
    for cpu in percpu::all() {
        apic::send_nmi(cpu.apic_id.load(Relaxed));
    }
    time::spin_us(20_000);
    ASKED.store(false, Relaxed);
    for cpu in percpu::all() {
        let task = cpu.task.load(Relaxed).cast::<Task>();
        // SAFETY: [INV-SCHED-2] the task of a CPU that hangs lives; of one that does not we read a
        // name that is static, from memory that is readable.
        let name = unsafe { task.as_ref() }.map_or("-", |task| task.name);
        println!(
            "cpu {}: rip {:#x}, task {name}, inside {}, depth of interrupts {} NMIs {} locks {} \
             preemption {}, {} ticks {} NMIs",
            cpu.index(),
            // Acquire: pairs with the Release in `on_nmi`.
            AT[cpu.index() as usize].load(Ordering::Acquire),
            cpu.inside(),
            cpu.irq_depth.load(Relaxed),
            cpu.nmi_depth.load(Relaxed),
            cpu.locks.load(Relaxed),
            cpu.preempt_depth.load(Relaxed),
            cpu.timer_ticks.load(Relaxed),
            cpu.nmis.load(Relaxed),
        );
    }
    let Some(mut core) = CORE.try_lock() else {
        return println!("the scheduler's lock is taken");
    };
    const MOST: usize = 64;
    let tasks = core.all.iter();
    let tasks: [Option<_>; MOST] = {
        let mut tasks = tasks;
        core::array::from_fn(|_| tasks.next())
    };
    for task in tasks.into_iter().flatten() {
        // SAFETY: [INV-SCHED-2] it is in a list, and we hold the lock.
        let task = unsafe { task.as_ref() };
        let inner = core.inner(task);
        println!(
            "task {} {}: {:?}, cpu {}, deadline {} ns",
            task.id, task.name, inner.state, inner.cpu, inner.deadline_ns
        );
    }
    println!("now {} ns", time::now_ns());
}
