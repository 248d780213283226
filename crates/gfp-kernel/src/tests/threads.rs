//! Tasks on all CPUs at once.

use crate::arch::percpu;
use crate::sched::{self, Affinity, Builder, JoinHandle};
use alloc::vec::Vec;
use gfp::frame::CpuId;

/// Calls `f` with the index of the CPU on every CPU at the same time, each in a task that stays
/// there, and waits for all of them, and until their memory is given back.
///
/// # Panics
/// If one of them died; after all have ended.
pub fn on_all_cpus<F: Fn(u32) + Sync>(f: F) {
    let f: &(dyn Fn(u32) + Sync) = &f;
    // SAFETY: [INV-SCHED-3] `f` outlives the tasks that call it: this function joins them all, and
    // a task that waits in `join` does not die.
    let f: &'static (dyn Fn(u32) + Sync) = unsafe { core::mem::transmute(f) };
    let tasks: Vec<JoinHandle<()>> = percpu::all()
        .map(|cpu| {
            let cpu = cpu.index();
            let task = Builder::new("on_all_cpus").affinity(Affinity::One(CpuId(cpu)));
            // Not `expect`: those that were started use `f`.
            match task.stack_bytes(64 << 10).spawn(move || f(cpu)) {
                Ok(task) => task,
                Err(error) => abandon(&error),
            }
        })
        .collect();
    let deaths: Vec<_> = tasks
        .into_iter()
        .filter_map(|task| task.join().err())
        .collect();
    sched::wait_for_reaper();
    if let Some(death) = deaths.first() {
        panic!("{} of the tasks died: {}", deaths.len(), death.message());
    }
}

fn abandon(error: &gfp::AllocError) -> ! {
    crate::println!("on_all_cpus: {error}");
    crate::arch::exit::exit(crate::arch::exit::Outcome::Broken)
}
