//! Tasks: who runs on which CPU, who sleeps until when.
//!
//! 1. **Task.** A flow of control with a stack of its own ([`spawn`], [`Builder`]). It runs a
//!    closure once. [`JoinHandle::join`] says what it returned, or why it died. What it is doing is
//!    one of five states, changed under one lock:
//!
//!    | state | is in list | becomes | when, by whom |
//!    |---|---|---|---|
//!    | `Ready` | ready | `Running` | a CPU takes it |
//!    | `Running` | - | `Ready` | it gives way, or its time is over |
//!    | | | `Parked`, `Sleeping` | it waits, without or with a deadline |
//!    | | | `Finished` | its closure returned, or it died |
//!    | `Parked` | - | `Ready` | somebody wakes it |
//!    | `Sleeping` | sleepers | `Ready` | somebody wakes it, or a tick finds that it is time |
//!    | `Finished` | finished | - | the reaper frees its stack and lets go of it |
//!
//! 2. **One queue for all CPUs**, first come, first served, under one spin lock with interrupts
//!    off; so are the sleepers, in order of their deadlines. A CPU takes the first task that may
//!    run on it. Nothing is balanced and nothing stolen, and no task waits while a CPU is idle. The
//!    price is one lock that all CPUs want once a tick and once a sleep: right for dozens of tasks
//!    on a few CPUs, whose work is in the allocator. A queue a CPU would buy speed that nobody here
//!    measures.
//! 3. **The switch** (`switch.s`) saves what a call must preserve, changes stacks, and is over when
//!    the next task has unlocked the lock that the one before it took. So between "it sleeps" and
//!    "its registers are saved" nobody can wake a task, nor free the stack of one that finished.
//! 4. **Preemption.** Each tick asks the running task to give way if another waits. The end of the
//!    outermost interrupt does it, on the interrupted task's stack, unless a
//!    [`PreemptOff`](crate::arch::percpu::PreemptOff) lives. Sections of the allocator and
//!    [`IrqLock`]s keep interrupts off, so who holds one is never preempted and never waited for by
//!    a CPU that could run it instead.
//! 5. **Idle.** Each CPU has an idle task: the flow that it came up with. It looks into the queue
//!    with interrupts off, notes that it is idle, and halts by `sti; hlt`. Who makes a task ready
//!    sends an idle CPU a message; one that comes between look and halt ends the halt.
//! 6. **Time.** Deadlines are looked at in each tick of any CPU, so they are met to a tick. Without
//!    ticks nothing is preempted and nothing that sleeps wakes by itself.
//! 7. **Waiting.** [`WaitQueue`] waits for a condition; [`Mutex`], [`Completion`] and [`Barrier`]
//!    are made of it, [`park`] and [`sleep_ns`] of what it is made of. The library's own tasks wait
//!    on words, which share 64 queues ([`Sleep`](gfp::platform::Sleep)).
//! 8. **Death.** A panic or a fatal exception in a task ends that task where nothing else depends
//!    on it ([`death`]), else the machine.
//! 9. **What it does not do.** Priorities, fairness, load balancing, signals, stealing from a busy
//!    CPU. A wake-up in an NMI is not possible: it would take a lock. Handlers run on the stack of
//!    who they interrupt; a task that leaves them no room dies, or, where it may not, the machine.

pub mod death;
mod list;
mod lock;
mod report;
mod run;
mod spawn;
mod stack;
mod sync;
mod task;
mod text;
mod wait;
mod words;

pub use lock::{IrqGuard, IrqLock};
pub use report::{on_nmi as report_on_nmi, report};
pub use spawn::{Builder, JoinHandle, spawn, wait_for_reaper};
pub use sync::{Barrier, Completion, Mutex, MutexGuard};
pub use task::{Affinity, Death, State, Task};
pub use wait::WaitQueue;

use crate::arch::{cpu, percpu, time};
use alloc::boxed::Box;
use alloc::sync::Arc;
use gfp::platform::ThisTask;

/// Runs `main` as the first task, and makes the caller the first CPU's idle task. Once, with
/// interrupts off, when memory is there.
pub fn start(main: impl FnOnce() + Send + 'static) -> ! {
    let reaper = Builder::new("reaper").vital().spawn(spawn::reap_for_ever);
    let reaper = reaper.expect("memory for the reaper");
    let task = Arc::into_raw(reaper.task().clone()).cast_mut(); // for ever
    run::CORE.lock().reaper = core::ptr::NonNull::new(task);
    let first = Builder::new("main").stack_bytes(128 << 10).vital();
    let main = first.spawn(main);
    drop(main.expect("memory for the first task"));
    idle()
}

/// Makes the caller its CPU's idle task. Interrupts are off.
pub fn idle() -> ! {
    let task = Box::leak(Box::new(Task::new_idle()));
    run::adopt(task);
    loop {
        cpu::cli();
        run::give_way();
        // SAFETY: an idle task holds nothing.
        unsafe { cpu::sti_and_halt() }
    }
}

/// A timer interrupt came. Called with interrupts off.
pub fn on_tick() {
    run::tick();
}

/// Switches tasks if the running one should give way and may. Called with interrupts off, at the
/// end of an interrupt.
#[inline]
pub fn on_interrupt_end() {
    run::preempt();
}

/// The running task.
///
/// # Panics
/// Before the scheduler runs on this CPU.
pub fn current() -> Arc<Task> {
    let task = run::current().expect("the scheduler runs").as_ptr();
    // SAFETY: [INV-SCHED-2] the scheduler holds a share of the running task; so do we now.
    unsafe {
        assert!(!(*task).idle, "an idle task is nobody's");
        Arc::increment_strong_count(task);
        Arc::from_raw(task)
    }
}

/// The word of the running task, or of this CPU before it has one. Context: any; in a handler it is
/// that of the task below.
pub fn this_word<'a>() -> ThisTask<'a> {
    let word = match run::current() {
        // SAFETY: [INV-SCHED-2] the running task lives.
        Some(task) => unsafe { &(*task.as_ptr()).word },
        None => &percpu::this().boot_word,
    };
    // SAFETY: [INV-TASK-1] each task and each CPU has its own; what is not `Send` stays with it.
    unsafe { ThisTask::new(word) }
}

/// True if `task` runs on this CPU. Context: any.
pub fn is_current(task: *const Task) -> bool {
    core::ptr::eq(percpu::task().cast::<Task>(), task)
}

/// The stack of the running task.
///
/// # Panics
/// As [`current`].
pub fn current_stack() -> core::ops::Range<usize> {
    current().stack.clone()
}

/// Lets another task run, if one waits.
pub fn yield_now() {
    run::give_way();
}

/// For who spins: lets another task run if one waits and this one may be preempted; else nothing.
/// Context: any.
pub fn relax() {
    run::relax();
}

/// Waits for [`Task::unpark`]. Context: a task that may sleep.
pub fn park() {
    let me = current();
    while !me.take_permit() {
        run::block(None);
    }
}

/// [`park`], but no longer than until the clock shows `deadline_ns`; true if it was unparked.
pub fn park_until_ns(deadline_ns: u64) -> bool {
    let me = current();
    loop {
        if me.take_permit() {
            return true;
        }
        if time::now_ns() >= deadline_ns {
            return false;
        }
        run::block(Some(deadline_ns));
    }
}

/// Sleeps at least that long. Context: a task that may sleep.
pub fn sleep_ns(ns: u64) {
    let deadline_ns = time::now_ns().saturating_add(ns);
    while time::now_ns() < deadline_ns {
        run::block(Some(deadline_ns));
    }
}

/// Where the running task may run from now on. Returns on such a CPU.
pub fn set_affinity(affinity: Affinity) {
    run::set_affinity(affinity);
}
