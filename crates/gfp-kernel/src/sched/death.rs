//! How a task dies of a panic or of an exception, and when it must not.
//!
//! Only what is the task's own is lost with it: what it holds stays held, what it owns leaks. So it
//! may die only where nothing of the CPU or of the allocator depends on it; elsewhere the machine
//! ends.

use super::run;
use super::task::{Death, Task};
use super::text::Text;
use crate::arch::apic;
use crate::arch::cpu::{self, IrqOff};
use crate::arch::percpu::{self, OUTSIDE};
use crate::arch::smp;
use crate::arch::traps::Frame;
use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::Ordering::Relaxed;

/// The running task, if it may die here: no interrupt or NMI is being handled, no section and no
/// [`IrqLock`](super::IrqLock) is held, preemption is allowed, its stack is not in a queue, and the
/// machine goes on without it.
fn mortal() -> Option<NonNull<Task>> {
    let _off = IrqOff::new();
    let this = percpu::this();
    let busy = this.irq_depth.load(Relaxed)
        | this.nmi_depth.load(Relaxed)
        | this.preempt_depth.load(Relaxed)
        | this.locks.load(Relaxed);
    let task = run::current()?;
    // SAFETY: [INV-SCHED-2] it runs.
    let (vital, waiting) = unsafe { (task.as_ref().vital, task.as_ref().waiting.load(Relaxed)) };
    (busy == 0 && this.inside() == OUTSIDE && !vital && !waiting).then_some(task)
}

fn note(task: NonNull<Task>, why: fmt::Arguments<'_>) {
    // SAFETY: [INV-SCHED-3] the task's own, which runs this or was interrupted by it.
    let own = unsafe { &mut *task.as_ref().own.get() };
    // Who dies while it says why is not asked again.
    let first = own
        .death
        .replace(Death(Text::new(format_args!("died twice"))));
    if first.is_none() {
        own.death = Some(Death(Text::new(why)));
    }
}

/// A panic: does not return if it is the running task's alone.
pub fn panicked(why: fmt::Arguments<'_>) {
    let Some(task) = mortal() else { return };
    note(task, why);
    cpu::cli();
    run::finish()
}

/// A fatal exception. True if the task that had it dies: the return from the exception goes to its
/// end then.
pub fn fatal_exception(frame: &mut Frame, why: fmt::Arguments<'_>) -> bool {
    let Some(task) = mortal() else { return false };
    if frame.rflags & cpu::IF == 0 {
        // Perhaps the stubs had no room for an interrupt's frame on its stack: that interrupt is
        // taken for handled, or none would come any more. Without one it means nothing.
        // `last_steps` looks what it was about.
        apic::end_of_interrupt();
    }
    note(task, why);
    // SAFETY: [INV-SCHED-2] it runs.
    let end = unsafe { task.as_ref().stack.end };
    // What is on its stack is not needed any more. As after a call: 8 below a multiple of 16.
    frame.rsp = end as u64 - 8;
    frame.rip = last_steps as *const () as u64;
    frame.rflags = 1 << 1; // interrupts off
    true
}

/// Bytes of stack that a handler may use. Those of this kernel use less than 4 KiB, and print.
const HANDLER_ROOM: usize = 6 << 10;

/// An interrupt came when the running task's stack has too little room for its handler: the task
/// dies of it, since the handler must not. False if there is room, or it may not die here.
pub fn interrupt_without_room(frame: &mut Frame) -> bool {
    // SAFETY: [INV-SCHED-2] it runs.
    let Some(stack) = run::current().map(|task| unsafe { &(*task.as_ptr()).stack }) else {
        return false;
    };
    let at = core::ptr::from_ref(frame).addr();
    if !stack.contains(&at) || at - stack.start >= HANDLER_ROOM {
        return false;
    }
    let room = at - stack.start;
    let why = format_args!("overflow of the stack: {room} bytes are left for an interrupt");
    if !fatal_exception(frame, why) {
        return false;
    }
    apic::end_of_interrupt(); // what it was about: `last_steps`
    true
}

extern "C" fn last_steps() -> ! {
    smp::on_message();
    run::finish()
}
