//! What a task is.

use super::list::Link;
use super::stack::Stack;
use super::text::Text;
use super::wait::WaitQueue;
use alloc::boxed::Box;
use core::cell::UnsafeCell;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering, Ordering::Relaxed};
use gfp::frame::CpuId;
use gfp::platform::TaskWord;
use gfp::sync::restart::Area;

/// What a task does.
pub(super) type Body = Box<dyn FnOnce() + Send>;

/// Where a task may run.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Affinity {
    /// On every CPU.
    Any,
    /// On this one only.
    One(CpuId),
}

impl Affinity {
    pub(super) fn allows(self, cpu: u32) -> bool {
        self == Affinity::Any || self == Affinity::One(CpuId(cpu))
    }
}

/// What a task is doing; the table stands in the theory of [`sched`](super).
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum State {
    /// It could run, and waits for a CPU.
    Ready,
    /// A CPU runs it.
    Running,
    /// It waits to be woken.
    Parked,
    /// It waits to be woken, or for a time.
    Sleeping,
    /// It will not run again; its stack is still there.
    Finished,
}

/// Why a task did not come to its end.
#[derive(Copy, Clone, Debug)]
pub struct Death(pub(super) Text);

impl Death {
    /// What it said when it died.
    pub fn message(&self) -> &str {
        self.0.as_str()
    }
}

/// What changes under the lock of the scheduler's core.
pub(super) struct Inner {
    pub(super) state: State,
    pub(super) affinity: Affinity,
    /// It was woken while it ran: the next block returns at once.
    pub(super) token: bool,
    /// When to wake it, while it is `Sleeping`.
    pub(super) deadline_ns: u64,
    /// The CPU that runs it or ran it last.
    pub(super) cpu: u32,
    /// Where its stack was left, while it does not run.
    pub(super) stack_pointer: usize,
}

/// A task: a flow of control with a stack of its own.
pub struct Task {
    pub(super) name: &'static str,
    pub(super) id: u32,
    /// True for the flow that a CPU came up with: it runs when nobody else can.
    pub(super) idle: bool,
    /// The machine ends with it: nobody would wait for its end, or do its work.
    pub(super) vital: bool,
    /// [INV-SCHED-1] touched under the core's lock.
    pub(super) inner: UnsafeCell<Inner>,
    pub(super) links: [UnsafeCell<Link>; 2],
    /// [INV-SCHED-3] of the task itself while it runs, then of who reaps it.
    pub(super) own: UnsafeCell<Own>,
    /// [`Task::unpark`] was called, `park` not yet.
    permit: AtomicBool,
    /// It is in a wait queue, so its stack must stay: it cannot be killed.
    pub(super) waiting: AtomicBool,
    /// Set when its stack is given back.
    pub(super) reaped: AtomicBool,
    pub(super) on_reaped: WaitQueue,
    /// Its restartable sequences; of the CPU that runs it.
    pub(super) area: Area,
    /// Its scopes and rights.
    pub(super) word: TaskWord,
    /// Its stack: what is pushed first lies below the end. Empty: the boot's.
    pub(super) stack: Range<usize>,
}

/// What belongs to the task alone.
pub(super) struct Own {
    pub(super) body: Option<Body>,
    pub(super) stack: Option<Stack>,
    pub(super) death: Option<Death>,
}

// SAFETY: [INV-SCHED-1] `inner` and `links` are under the core's lock; [INV-SCHED-3] `own` has one
// user at a time: its maker, the task, and after `Finished` who reaps it; [INV-KERNEL-8]
// `area` is used by the CPU that runs the task.
unsafe impl Sync for Task {}
// SAFETY: as above; the body is `Send`.
unsafe impl Send for Task {}

static NEXT_ID: AtomicU32 = AtomicU32::new(0);

impl Task {
    pub(super) fn new(name: &'static str, affinity: Affinity) -> Task {
        Task {
            name,
            id: NEXT_ID.fetch_add(1, Relaxed), // a number for reports
            idle: false,
            vital: false,
            inner: UnsafeCell::new(Inner {
                state: State::Running,
                affinity,
                token: false,
                deadline_ns: 0,
                cpu: 0,
                stack_pointer: 0,
            }),
            links: [const { UnsafeCell::new(Link::new()) }; 2],
            own: UnsafeCell::new(Own {
                body: None,
                stack: None,
                death: None,
            }),
            permit: AtomicBool::new(false),
            waiting: AtomicBool::new(false),
            reaped: AtomicBool::new(false),
            on_reaped: WaitQueue::new(),
            area: Area::new(),
            word: TaskWord::new(),
            stack: 0..0,
        }
    }

    /// The task of a flow that is already there.
    pub(super) fn new_idle() -> Task {
        let mut task = Task::new("idle", Affinity::Any);
        (task.idle, task.vital) = (true, true);
        task
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// A number that no other task has.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Its scopes and rights.
    pub fn word(&self) -> &TaskWord {
        &self.word
    }

    /// Wakes it from [`park`](super::park); if it is not there, its next one returns at once.
    /// Context: any but an NMI.
    pub fn unpark(&self) {
        // Release: pairs with the Acquire in `take_permit`.
        self.permit.store(true, Ordering::Release);
        super::run::wake(self);
    }

    /// True once for each run of unparks.
    pub(super) fn take_permit(&self) -> bool {
        // Acquire: pairs with the Release in `unpark`.
        self.permit.swap(false, Ordering::Acquire)
    }
}
