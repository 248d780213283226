//! No wake-up is lost, whenever it comes.

use super::threads;
use crate::arch::{cpu, smp, time, traps};
use crate::memory::mm;
use crate::sched::{self, Affinity, Builder, Completion, Task};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering::Relaxed};
use gfp::frame::CpuId;
use gfp::platform::Platform;

super::tests! { "wakeups":
    a_wakeup_at_any_instruction_of_a_park_is_not_lost,
    parked_tasks_wake_each_other_over_all_cpus,
    a_message_fetches_an_idle_cpu,
    tasks_of_the_library_sleep_and_wake_each_other,
    a_wait_of_the_library_ends_at_its_deadline,
}

fn last_cpu() -> Affinity {
    Affinity::One(CpuId(smp::count() - 1))
}

/// The task that parks.
static PARKS: AtomicPtr<Task> = AtomicPtr::new(null_mut());
/// Instructions until it is woken, of those where an interrupt could come.
static STEPS_LEFT: AtomicU32 = AtomicU32::new(0);
/// It was woken before it had left its CPU.
static STILL_THERE: AtomicBool = AtomicBool::new(false);

fn on_step(frame: &mut traps::Frame) {
    if frame.rflags & cpu::IF == 0 {
        return;
    }
    let left = STEPS_LEFT.load(Relaxed) - 1;
    STEPS_LEFT.store(left, Relaxed);
    if left > 0 {
        return;
    }
    frame.rflags &= !cpu::TF;
    let parks = PARKS.load(Relaxed);
    STILL_THERE.store(sched::is_current(parks), Relaxed);
    // SAFETY: it waits for us.
    unsafe { (*parks).unpark() }
}

/// Parks, and is woken after `steps` instructions: of its own, or of who runs here when it sleeps.
fn woken_after(steps: u32) -> bool {
    const LONG_NS: u64 = 100_000_000_000; // a busy host stands still for seconds
    STEPS_LEFT.store(steps, Relaxed);
    let from_ns = time::now_ns();
    // SAFETY: each instruction from here on takes a debug exception, which `on_step` handles.
    unsafe { core::arch::asm!("pushfq", "or qword ptr [rsp], {}", "popfq", const cpu::TF) }
    assert!(sched::park_until_ns(from_ns + LONG_NS));
    // One that is lost is found when the time is over.
    let took_ns = time::now_ns() - from_ns;
    assert!(took_ns < LONG_NS, "lost after {steps} instructions");
    STILL_THERE.load(Relaxed)
}

fn a_wakeup_at_any_instruction_of_a_park_is_not_lost() {
    sched::set_affinity(last_cpu());
    let me = sched::current();
    PARKS.store(Arc::as_ptr(&me).cast_mut(), Relaxed);
    traps::ON_DEBUG.set(Some(on_step));
    let mut steps = 1;
    while woken_after(steps) {
        steps += 1;
    }
    assert!(steps > 20, "{steps} instructions are less than a park has");
}

fn parked_tasks_wake_each_other_over_all_cpus() {
    const ROUNDS: u32 = 5000;
    let turn = Arc::new(AtomicU32::new(0));
    let ready = Arc::new(Completion::new());
    let main = sched::current();
    let player = |me: u32, other: Arc<Task>, turn: Arc<AtomicU32>| {
        for round in 0..ROUNDS {
            while turn.load(Relaxed) != 2 * round + me {
                sched::park(); // a lost wake-up ends here for ever
            }
            turn.store(2 * round + me + 1, Relaxed); // unpark and park order it
            other.unpark();
        }
    };
    let (of_other, start) = (turn.clone(), ready.clone());
    let other = Builder::new("pong").affinity(last_cpu()).spawn(move || {
        start.wait();
        player(1, main, of_other);
    });
    let other = other.expect("memory");
    ready.complete();
    player(0, other.task().clone(), turn);
    other.join().expect("it does not die");
}

fn a_message_fetches_an_idle_cpu() {
    traps::BACKGROUND_TIMER.set(None); // nobody sends NMIs, which would wake it too
    threads::on_all_cpus(|cpu| {
        if last_cpu() == Affinity::One(CpuId(cpu)) {
            time::timer_hz(0);
        }
    });
    for n in 0..3000 {
        let task = Builder::new("fetched").affinity(last_cpu());
        let task = task.spawn(move || n).expect("memory");
        assert_eq!(task.join().ok(), Some(n));
    }
}

/// Tasks take turns: each sleeps on the library's queue until it is its turn, and wakes the others
/// from inside a section, as an allocation that finds memory low does.
fn tasks_of_the_library_sleep_and_wake_each_other() {
    const TASKS: u32 = 6;
    const ROUNDS: u32 = 300;
    static TURN: AtomicU32 = AtomicU32::new(0);
    static QUEUE: gfp::sync::WaitQueue = gfp::sync::WaitQueue::new();
    TURN.store(0, Relaxed);
    let tasks: Vec<_> = (0..TASKS)
        .map(|me| {
            sched::spawn("turns", move || {
                let machine = mm().platform();
                for _ in 0..ROUNDS {
                    QUEUE.wait_until(machine, || TURN.load(Relaxed) % TASKS == me);
                    let section = machine.enter();
                    TURN.fetch_add(1, Relaxed);
                    QUEUE.wake_all(machine);
                    drop(section);
                }
            })
        })
        .collect();
    for task in tasks {
        assert!(task.join().is_ok());
    }
    assert_eq!(TURN.load(Relaxed), TASKS * ROUNDS);
}

fn a_wait_of_the_library_ends_at_its_deadline() {
    let (machine, queue) = (mm().platform(), gfp::sync::WaitQueue::new());
    let deadline_ns = time::now_ns() + 30_000_000;
    assert!(!queue.wait_until_ns(machine, deadline_ns, || false));
    assert!(time::now_ns() >= deadline_ns);
    assert!(queue.wait_until_ns(machine, 0, || true));
}
