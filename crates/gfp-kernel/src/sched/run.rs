//! The core: which task runs where, and the switch from one to the next.

use super::list::{Chain, List};
use super::lock::{IrqGuard, IrqLock};
use super::stack::switch_stacks;
use super::task::{Affinity, Inner, State, Task};
use crate::arch::cpu::IrqOff;
use crate::arch::percpu::{self, MAX_CPUS, OUTSIDE, PerCpu};
use crate::arch::{smp, time};
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering::Relaxed};
use gfp::frame::CpuId;

/// All that the scheduler's lock guards; the tasks' [`Inner`] too.
pub(super) struct Core {
    ready: List,
    /// Ordered by deadline.
    sleepers: List,
    pub(super) finished: List,
    pub(super) all: List,
    /// One bit a CPU: it runs its idle task and was not yet sent for.
    idle: u64,
    /// Gives the stacks of finished tasks back.
    pub(super) reaper: Option<NonNull<Task>>,
}

// SAFETY: [INV-SCHED-2] tasks are shared values.
unsafe impl Send for Core {}

const _: () = assert!(MAX_CPUS <= u64::BITS as usize);

pub(super) static CORE: IrqLock<Core> = IrqLock::new(Core {
    ready: List::new(Chain::State),
    sleepers: List::new(Chain::State),
    finished: List::new(Chain::State),
    all: List::new(Chain::All),
    idle: 0,
    reaper: None,
});

/// Tasks in `ready`: a hint for ticks, written under the lock.
static READY: AtomicU32 = AtomicU32::new(0);
/// The first deadline of `sleepers`: a hint for ticks, written under the lock.
static NEXT_DEADLINE_NS: AtomicU64 = AtomicU64::new(u64::MAX);
/// What each CPU runs when nobody else can.
static IDLE: [AtomicPtr<Task>; MAX_CPUS] = [const { AtomicPtr::new(null_mut()) }; MAX_CPUS];

/// The running task; `None` before the scheduler runs on this CPU.
#[inline]
pub(super) fn current() -> Option<NonNull<Task>> {
    NonNull::new(percpu::task().cast::<Task>())
}

impl Core {
    /// What changes of a task.
    pub(super) fn inner<'c>(&'c mut self, task: &'c Task) -> &'c mut Inner {
        // SAFETY: [INV-SCHED-1] all reach it through the one core, which is borrowed for writing.
        unsafe { &mut *task.inner.get() }
    }

    /// Who came to its end is given back. Who was joined may still be in the reaper's hands.
    pub(super) fn reaper_rests(&self) -> bool {
        // SAFETY: [INV-SCHED-2] the reaper never finishes; [INV-SCHED-1] we are under the lock.
        let state = |task: NonNull<Task>| unsafe { (*task.as_ref().inner.get()).state };
        let parked = self.reaper.is_none_or(|task| state(task) == State::Parked);
        parked && self.finished.iter().next().is_none()
    }

    fn affinity(&self, task: NonNull<Task>) -> Affinity {
        // SAFETY: [INV-SCHED-2] it is in a list; [INV-SCHED-1] we are under the lock.
        unsafe { (*task.as_ref().inner.get()).affinity }
    }

    /// Queues a task that is in no list, and fetches a CPU for it if one has nothing to do.
    pub(super) fn make_ready(&mut self, task: &Task) {
        self.queue(task);
        let this = percpu::cpu();
        let affinity = self.inner(task).affinity;
        let to = match affinity {
            Affinity::One(cpu) => Some(cpu),
            Affinity::Any if self.idle >> this & 1 != 0 => Some(CpuId(this)),
            Affinity::Any => self.any_idle(),
        };
        if let Some(cpu) = to.and_then(percpu::of) {
            self.fetch(cpu);
        }
    }

    fn queue(&mut self, task: &Task) {
        self.inner(task).state = State::Ready;
        // SAFETY: [INV-SCHED-2] it is in no list, and the scheduler keeps it alive.
        unsafe { self.ready.insert(task.into(), None) }
        READY.store(READY.load(Relaxed) + 1, Relaxed);
    }

    fn any_idle(&self) -> Option<CpuId> {
        (self.idle != 0).then(|| CpuId(self.idle.trailing_zeros()))
    }

    /// Has `cpu` look into the queue soon. No look is lost: an idle CPU looks with interrupts off
    /// before it halts, and a message that comes after the look ends the halt.
    fn fetch(&mut self, cpu: &PerCpu) {
        self.idle &= !(1 << cpu.index());
        cpu.need_resched.store(1, Relaxed); // under the lock, as where it is cleared
        if cpu.index() != percpu::cpu() {
            smp::send(cpu, smp::Reason::Wake);
        }
    }

    /// Takes the first task that may run on `cpu` out of the queue.
    fn pick(&mut self, cpu: u32) -> Option<NonNull<Task>> {
        let found = self
            .ready
            .iter()
            .find(|&task| self.affinity(task).allows(cpu))?;
        // SAFETY: it was found there.
        unsafe { self.ready.remove(found) }
        READY.store(READY.load(Relaxed) - 1, Relaxed);
        Some(found)
    }

    /// Wakes `task` if it is blocked; else its next block returns at once.
    pub(super) fn wake(&mut self, task: &Task) {
        match self.inner(task).state {
            State::Parked => self.make_ready(task),
            State::Sleeping => {
                // SAFETY: its state says that it is there.
                unsafe { self.sleepers.remove(task.into()) }
                self.note_deadline();
                self.make_ready(task);
            }
            State::Ready | State::Running => self.inner(task).token = true,
            State::Finished => {}
        }
    }

    fn sleep(&mut self, task: &Task, deadline_ns: u64) {
        let inner = self.inner(task);
        inner.state = State::Sleeping;
        inner.deadline_ns = deadline_ns;
        let before = self.sleepers.iter().find(|&other| {
            // SAFETY: [INV-SCHED-1], [INV-SCHED-2] as in `affinity`.
            deadline_ns < unsafe { (*other.as_ref().inner.get()).deadline_ns }
        });
        // SAFETY: [INV-SCHED-2] it ran, so it is in no list.
        unsafe { self.sleepers.insert(task.into(), before) }
        self.note_deadline();
    }

    fn note_deadline(&self) {
        let first = self.sleepers.iter().next();
        // SAFETY: [INV-SCHED-1], [INV-SCHED-2] as in `affinity`.
        let deadline = first.map_or(u64::MAX, |task| unsafe {
            (*task.as_ref().inner.get()).deadline_ns
        });
        NEXT_DEADLINE_NS.store(deadline, Relaxed);
    }

    fn wake_sleepers(&mut self, now_ns: u64) {
        while now_ns >= NEXT_DEADLINE_NS.load(Relaxed) {
            let Some(task) = self.sleepers.iter().next() else {
                break;
            };
            // SAFETY: [INV-SCHED-2] it lives.
            self.wake(unsafe { task.as_ref() });
        }
    }
}

/// Gives the CPU to `next`, which is in no list. The lock goes over to it: until it runs, nobody
/// takes the task that is left for one that may run, or for one whose stack is free.
fn switch_to(mut core: IrqGuard<'_, Core>, next: NonNull<Task>) {
    let this = percpu::this();
    let Some(leaving) = current() else { return };
    assert_ne!(leaving, next, "a task is switched to itself");
    assert_eq!(this.locks.load(Relaxed), 1, "a task gives way under a lock");
    // SAFETY: [INV-SCHED-2] it was taken out of the queue, or is an idle task.
    let task = unsafe { next.as_ref() };
    let inner = core.inner(task);
    inner.state = State::Running;
    inner.cpu = this.index();
    let to = inner.stack_pointer;
    match task.idle {
        true => core.idle |= 1 << this.index(),
        false => core.idle &= !(1 << this.index()),
    }
    this.task.store(next.as_ptr().cast(), Relaxed);
    // SAFETY: [INV-KERNEL-8] interrupts are off; nobody else runs `next` before it is left again,
    // nor the task that is left before we have let go of its area.
    unsafe { this.set_area(&task.area) }
    // SAFETY: [INV-SCHED-1] we hold the lock; it is the running task.
    let save = unsafe { &raw mut (*leaving.as_ref().inner.get()).stack_pointer };
    let off = core.hand_over();
    // SAFETY: [INV-SCHED-3] interrupts are off, `next` was left by this function or is new, and
    // nobody else can run it: it is in no list, and we hold the lock.
    unsafe { switch_stacks(save, to) }
    // Somebody switched back to us, perhaps on another CPU.
    // SAFETY: that one handed the lock over.
    unsafe { CORE.accept() }
    drop(off);
}

/// The first steps of a new task: the end of the switch to it.
///
/// # Safety
/// Called once, first, by a new task.
pub(super) unsafe fn first_steps() {
    // SAFETY: who switched to us handed the lock over, with interrupts off.
    unsafe {
        CORE.accept();
        crate::arch::cpu::sti();
    }
}

/// Lets another task run if one waits for this CPU. On the idle task it notes that this CPU is
/// free if there is none.
pub(super) fn give_way() {
    let mut core = CORE.lock();
    let this = percpu::this();
    this.need_resched.store(0, Relaxed);
    let Some(me) = current() else { return };
    // SAFETY: [INV-SCHED-2] it runs.
    let me = unsafe { me.as_ref() };
    let Some(next) = core.pick(this.index()) else {
        if me.idle {
            core.idle |= 1 << this.index();
        }
        return;
    };
    if !me.idle {
        core.queue(me);
        let idle = (core.inner(me).affinity == Affinity::Any)
            .then(|| core.any_idle())
            .flatten();
        if let Some(cpu) = idle.and_then(percpu::of) {
            core.fetch(cpu);
        }
    }
    switch_to(core, next);
}

/// Leaves the CPU for whoever is next, or for the idle task; the running task is in its new state.
fn leave(mut core: IrqGuard<'_, Core>) {
    let this = percpu::this();
    this.need_resched.store(0, Relaxed);
    let next = core.pick(this.index()).or_else(|| {
        NonNull::new(IDLE[this.index() as usize].load(Relaxed)) // written by this CPU
    });
    switch_to(core, next.expect("each CPU has an idle task"));
}

/// Waits until somebody wakes this task or the clock shows `deadline_ns`. May return for no reason.
///
/// # Panics
/// Where a task may not sleep.
pub(super) fn block(deadline_ns: Option<u64>) {
    let mut core = CORE.lock();
    // SAFETY: [INV-SCHED-2] it runs.
    let me = current().map(|me| unsafe { me.as_ref() });
    let Some(me) = me.filter(|me| !me.idle) else {
        drop(core);
        // SAFETY: boot and idle tasks hold nothing when they wait.
        return unsafe { crate::arch::cpu::sti_and_halt() };
    };
    assert!(core.may_sleep(), "{} sleeps where it must not", me.name);
    if core::mem::take(&mut core.inner(me).token)
        || deadline_ns.is_some_and(|deadline| time::now_ns() >= deadline)
    {
        return;
    }
    match deadline_ns {
        Some(deadline_ns) => core.sleep(me, deadline_ns),
        None => core.inner(me).state = State::Parked,
    }
    leave(core);
}

impl IrqGuard<'_, Core> {
    /// Only this lock is held, in a task that may be preempted.
    fn may_sleep(&self) -> bool {
        let this = percpu::this();
        self.were_on()
            && this.irq_depth.load(Relaxed) == 0
            && this.nmi_depth.load(Relaxed) == 0
            && this.preempt_depth.load(Relaxed) == 0
            && this.inside() == OUTSIDE
            && this.locks.load(Relaxed) == 1
    }
}

/// # Panics
/// Where a task may not sleep: while nothing is linked to its stack yet.
pub(super) fn assert_may_sleep() {
    // SAFETY: [INV-SCHED-2] it runs.
    let task = current().map(|me| unsafe { (me.as_ref().idle, me.as_ref().name) });
    if let Some((false, name)) = task {
        let may = CORE.lock().may_sleep();
        assert!(may, "{name} sleeps where it must not");
    }
}

/// Wakes a task if it is blocked; else its next block returns at once.
pub(super) fn wake(task: &Task) {
    CORE.lock().wake(task);
}

/// The running task never runs again. Its stack is given back by another.
pub(super) fn finish() -> ! {
    let mut core = CORE.lock();
    let me = current().expect("a task finishes");
    // SAFETY: [INV-SCHED-2] it runs.
    let task = unsafe { me.as_ref() };
    assert!(!task.idle, "an idle task never finishes");
    core.inner(task).state = State::Finished;
    // SAFETY: [INV-SCHED-2] it ran, so it is in no list.
    unsafe { core.finished.insert(me, None) }
    if let Some(reaper) = core.reaper {
        // SAFETY: [INV-SCHED-2] the reaper never finishes.
        core.wake(unsafe { reaper.as_ref() });
    }
    leave(core);
    unreachable!("a finished task runs")
}

/// Makes `task` what this CPU is running, and runs when nobody else can.
pub(super) fn adopt(task: &'static Task) {
    let mut core = CORE.lock();
    let this = percpu::this();
    core.inner(task).cpu = this.index();
    let at = core::ptr::from_ref(task).cast_mut();
    IDLE[this.index() as usize].store(at, Relaxed); // read by this CPU
    this.task.store(at.cast(), Relaxed);
    // SAFETY: [INV-KERNEL-8] it runs here, for ever.
    unsafe { this.set_area(&task.area) }
    // SAFETY: [INV-SCHED-2] new and for ever.
    unsafe { core.all.insert(task.into(), None) }
}

/// In each timer interrupt.
pub(super) fn tick() {
    let now_ns = time::now_ns();
    if now_ns >= NEXT_DEADLINE_NS.load(Relaxed) {
        CORE.lock().wake_sleepers(now_ns);
    }
    if READY.load(Relaxed) != 0 {
        percpu::this().need_resched.store(1, Relaxed);
    }
}

/// When nothing but the running task is left on this CPU, and interrupts are still off: at the end
/// of the outermost interrupt, and when preemption is allowed again.
#[inline]
pub(super) fn preempt() {
    let this = percpu::this();
    let busy = this.irq_depth.load(Relaxed)
        | this.nmi_depth.load(Relaxed)
        | this.preempt_depth.load(Relaxed)
        | this.locks.load(Relaxed)
        | this.inside();
    if this.need_resched.load(Relaxed) != 0 && busy == OUTSIDE && current().is_some() {
        give_way();
    }
}

/// Lets another task run if one waits and this one may be preempted: who spins may spin for it.
pub(super) fn relax() {
    let off = IrqOff::new();
    if READY.load(Relaxed) != 0 && off.were_on() {
        percpu::this().need_resched.store(1, Relaxed);
        preempt();
    }
}

/// Where the running task may run from now on; returns on such a CPU.
pub(super) fn set_affinity(affinity: Affinity) {
    let mut core = CORE.lock();
    let Some(me) = current() else { return };
    // SAFETY: [INV-SCHED-2] it runs.
    let me = unsafe { me.as_ref() };
    assert!(!me.idle && core.may_sleep(), "who moves may be preempted");
    core.inner(me).affinity = affinity;
    if !affinity.allows(percpu::cpu()) {
        core.make_ready(me);
        leave(core);
    }
}
