//! A run: its tasks, its handlers, its scheduler.

use crate::capture;
use crate::config::{Config, Planted, Rates};
use crate::outcome::{Failure, FailureKind, Outcome};
use crate::platform::SimPlatform;
use crate::rng::Rng;
use crate::task::Stack;
use crate::world::{At, Decision, Event, Next, World};
use corosensei::Yielder;
use gfp::Mm;
use gfp::frame::Order;
use gfp::page::BootConfig;
use std::cell::{Cell, RefCell};
use std::rc::Rc;

type Handler = Rc<dyn Fn()>;
type YielderPlace = Rc<Cell<*const Yielder<(), ()>>>;

/// What all parts of a run share. Used by the thread that made it only.
pub(crate) struct Core {
    pub(crate) world: RefCell<World>,
    stacks: RefCell<Vec<Option<Stack>>>,
    /// The yielder of the task that runs.
    current: RefCell<Option<YielderPlace>>,
    interrupt: RefCell<Option<Handler>>,
    softirq: RefCell<Option<Handler>>,
    nmi: RefCell<Option<Handler>>,
    /// How often a task on its way out has waited.
    dying: Cell<u32>,
}

/// A task that panics runs alone, so it may wait for what never comes.
const DYING_MOST: u32 = 1 << 20;

impl Core {
    /// A point: whatever the seed says happens here.
    #[inline]
    pub(crate) fn point(&self, at: At) {
        if std::thread::panicking() {
            // A task on its way out: nobody else runs.
            if at == At::Relax && self.dying.replace(self.dying.get() + 1) == DYING_MOST {
                capture::abort("it waits for somebody on its way out");
            }
            return;
        }
        loop {
            let decision = self.world.borrow_mut().decide(at);
            match decision {
                Decision::Go => return,
                Decision::Leave => self.leave(),
                kind => self.handle(kind),
            }
            if !self.world.borrow().is_taken() {
                return;
            }
        }
    }

    /// To the scheduler; returns when this task is chosen again.
    pub(crate) fn leave(&self) {
        let place = self.current.borrow().clone().expect("a task runs");
        // SAFETY: [INV-SIM-2] set by the task that runs, this one.
        unsafe { (*place.get()).suspend(()) }
    }

    fn handle(&self, kind: Decision) {
        let place = match kind {
            Decision::Nmi => &self.nmi,
            Decision::SoftIrq => &self.softirq,
            _ => &self.interrupt,
        };
        let Some(handler) = place.borrow().clone() else {
            return;
        };
        self.world.borrow_mut().begin_handler(kind);
        handler();
        self.world.borrow_mut().end_handler(kind);
    }

    /// Runs a task until it leaves.
    fn resume(&self, task: usize) {
        let stack = self.stacks.borrow_mut()[task].take();
        let mut stack = stack.expect("a task that runs has a stack");
        *self.current.borrow_mut() = Some(stack.yielder());
        let result = stack.resume();
        *self.current.borrow_mut() = None;
        match result {
            None => self.stacks.borrow_mut()[task] = Some(stack),
            Some(result) => self.world.borrow_mut().finish(result),
        }
    }
}

/// One run, to be set up and then [run](Sim::run). A handle: clones mean the same run.
#[derive(Clone)]
pub struct Sim(pub(crate) Rc<Core>);

impl Sim {
    /// A run without tasks.
    pub fn new(config: Config) -> Sim {
        Sim(Rc::new(Core {
            world: RefCell::new(World::new(config)),
            stacks: RefCell::default(),
            current: RefCell::default(),
            interrupt: RefCell::default(),
            softirq: RefCell::default(),
            nmi: RefCell::default(),
            dying: Cell::new(0),
        }))
    }

    /// A platform with so many bytes of RAM, a multiple of the page size.
    pub fn platform(&self, bytes: usize) -> SimPlatform {
        SimPlatform::new(self, bytes, 1, 0)
    }

    /// A machine with so many bytes of RAM, all in zone Normal of one node.
    ///
    /// # Panics
    /// If that is too little to boot with.
    pub fn boot(&self, bytes: usize) -> Mm<SimPlatform> {
        self.boot_nodes(bytes, 1)
    }

    /// [`Sim::boot`] with so many nodes, each with its share of the RAM and of the CPUs.
    ///
    /// # Panics
    /// As there; or if the shares are no whole blocks of the largest order.
    pub fn boot_nodes(&self, bytes: usize, nodes: u8) -> Mm<SimPlatform> {
        self.boot_with_plug(bytes, nodes, 0)
    }

    /// [`Sim::boot_nodes`]; so many bytes more can be plugged into the last node.
    pub(crate) fn boot_with_plug(
        &self,
        bytes: usize,
        nodes: u8,
        plug_bytes: usize,
    ) -> Mm<SimPlatform> {
        let platform = SimPlatform::new(self, bytes, nodes, plug_bytes);
        let map: Vec<_> = platform.regions().collect();
        let config = BootConfig {
            memory_is_zero: true,
            memory_block_bytes: Order::MAX.bytes() as u64,
            shard_bytes: self.0.world.borrow().config.shard_bytes,
            ..BootConfig::default()
        };
        Mm::boot(platform, &map, &config).expect("enough memory to boot")
    }

    /// Adds a task. It begins when it is chosen; a task may add others.
    pub fn spawn(&self, name: &str, work: impl FnOnce(&TaskHandle) + 'static) {
        let id = self.0.world.borrow_mut().add_task(name);
        let handle = TaskHandle {
            sim: Rc::downgrade(&self.0),
            id,
            rng: RefCell::new(Rng::stream(self.seed(), 1000 + id as u64)),
        };
        let stack = Stack::new(move || work(&handle));
        self.0.stacks.borrow_mut().push(Some(stack));
    }

    /// What an interrupt does. Context: interrupts off, preemption off, outside of sections.
    pub fn on_interrupt(&self, handler: impl Fn() + 'static) {
        *self.0.interrupt.borrow_mut() = Some(Rc::new(handler));
    }

    /// What a softirq does. Context: interrupts on, preemption off, outside of sections.
    pub fn on_softirq(&self, handler: impl Fn() + 'static) {
        *self.0.softirq.borrow_mut() = Some(Rc::new(handler));
    }

    /// What an NMI does. It comes at any point, also inside of sections.
    pub fn on_nmi(&self, handler: impl Fn() + 'static) {
        *self.0.nmi.borrow_mut() = Some(Rc::new(handler));
    }

    /// The seed.
    pub fn seed(&self) -> u64 {
        self.0.world.borrow().config.seed
    }

    /// True if another CPU's place is refused at times: a fault of this run.
    pub(crate) fn may_refuse_remote(&self) -> bool {
        self.0.world.borrow().config.rates.refuse_remote != 0
    }

    /// The scenario is to make this mistake.
    pub(crate) fn has_planted(&self, planted: Planted) -> bool {
        self.0.world.borrow().config.planted == Some(planted)
    }

    /// Number of the task that runs, or that a handler interrupted; `None` outside of the run.
    pub fn running(&self) -> Option<usize> {
        self.0.world.borrow().running()
    }

    /// From now on nothing happens but what tasks do.
    pub(crate) fn end_faults(&self) {
        self.0.world.borrow_mut().config.rates = Rates::default();
    }

    /// Notes a number in the trace: runs that differ in it have different hashes. Never an address
    /// of the process.
    pub fn note(&self, number: u64) {
        self.0.world.borrow_mut().note(Event::Note, number);
    }

    /// Whoever set the run up acts as this CPU from now on; as CPU 0 at first.
    ///
    /// # Panics
    /// From a task, or if there is no such CPU.
    pub fn act_as(&self, cpu: u32) {
        self.0.world.borrow_mut().act_as(cpu);
    }

    /// Runs all tasks to their end.
    ///
    /// # Errors
    /// [`Failure`]: a task panicked, or the tasks do not come to an end.
    ///
    /// # Panics
    /// From a task.
    pub fn run(&self) -> Result<Outcome, Box<Failure>> {
        assert!(!self.0.world.borrow().is_running(), "a run inside a run");
        capture::keeping(|| {
            loop {
                let next = self.0.world.borrow_mut().choose();
                match next {
                    Next::Run(task) => self.0.resume(task),
                    Next::Done => break,
                    Next::Stuck => {
                        let end = self.0.world.borrow_mut().end.take();
                        return Err(self.failure(end.unwrap_or(FailureKind::Deadlock)));
                    }
                }
            }
            // What ended a task last may be a failure.
            let end = self.0.world.borrow_mut().end.take();
            match end {
                Some(kind) => Err(self.failure(kind)),
                None => Ok(self.outcome()),
            }
        })
    }

    /// What the run was like so far.
    pub fn outcome(&self) -> Outcome {
        self.0.world.borrow().outcome()
    }

    /// Runs what the library calls back. A panic ends the run here: unwound through the library, it
    /// would run drops that may wait for tasks which never run again.
    pub(crate) fn called_back<R>(&self, work: impl FnOnce() -> R) -> R {
        match capture::catch(work) {
            Ok(result) => result,
            Err(message) => {
                self.0.world.borrow_mut().fail(&message);
                loop {
                    self.0.leave(); // nobody comes back
                }
            }
        }
    }

    /// A failure of this run, as things are.
    pub(crate) fn failure(&self, kind: FailureKind) -> Box<Failure> {
        self.0.stacks.borrow_mut().clear();
        let world = self.0.world.borrow();
        Box::new(Failure {
            kind,
            seed: world.config.seed,
            scenario: None,
            outcome: world.outcome(),
            tasks: world.unfinished(),
            events: world.last_events(),
        })
    }
}

/// What a task knows of its run.
pub struct TaskHandle {
    sim: std::rc::Weak<Core>,
    id: usize,
    rng: RefCell<Rng>,
}

impl TaskHandle {
    fn core(&self) -> Rc<Core> {
        self.sim.upgrade().expect("a task's run lives")
    }

    /// Number of the task: the order of [`Sim::spawn`].
    pub fn id(&self) -> usize {
        self.id
    }

    /// The run.
    pub fn sim(&self) -> Sim {
        Sim(self.core())
    }

    /// A number below `n`. A task's numbers depend on the seed and the task, not on the order of
    /// events.
    ///
    /// # Panics
    /// If `n` is 0.
    pub fn below(&self, n: usize) -> usize {
        self.rng.borrow_mut().below(n)
    }

    /// One of `choices`, as [`TaskHandle::below`].
    pub fn pick<T: Copy>(&self, choices: &[T]) -> T {
        self.rng.borrow_mut().pick(choices)
    }

    /// Lets others run, if the seed says so.
    pub fn pause(&self) {
        self.core().point(At::Task);
    }

    /// Sleeps for so long by the virtual clock.
    ///
    /// # Panics
    /// Where a task may not sleep: in [`TaskHandle::atomic`], inside a section.
    pub fn sleep_ns(&self, ns: u64) {
        let core = self.core();
        {
            let mut world = core.world.borrow_mut();
            assert!(world.may_sleep(), "sleeps in atomic context");
            let until = world.now_ns.saturating_add(ns);
            world.sleep(0, Some(until));
        }
        core.leave();
    }

    /// The clock goes on by so much at once: who sleeps until then may run.
    pub fn pass_ns(&self, ns: u64) {
        let core = self.core();
        core.world.borrow_mut().now_ns += ns;
        core.point(At::Task);
    }

    /// True once all other tasks are done.
    pub fn is_alone(&self) -> bool {
        self.core().world.borrow().all_others_are_done(self.id)
    }

    /// Runs `work` with preemption off, as under a spin lock.
    pub fn atomic<R>(&self, work: impl FnOnce() -> R) -> R {
        let core = self.core();
        core.world.borrow_mut().cpu().preempt_off += 1;
        let result = work();
        core.world.borrow_mut().cpu().preempt_off -= 1;
        result
    }

    /// Runs `work` with interrupts off.
    pub fn irqs_off<R>(&self, work: impl FnOnce() -> R) -> R {
        let core = self.core();
        core.world.borrow_mut().cpu().irqs_off += 1;
        let result = work();
        core.world.borrow_mut().cpu().irqs_off -= 1;
        result
    }
}
