//! All state of a run, and every decision.
//!
//! 1. [`World`] is plain data. It is borrowed for the time of one decision, never while a task
//!    runs.
//! 2. At a point a task asks [`World::decide`] what happens to it; if it must leave, the scheduler
//!    asks [`World::choose`] who goes on. `choose.rs`.
//! 3. Every decision is drawn from one generator and goes into the trace, with what scenarios note.
//!    `trace.rs`.
//! 4. [INV-SIM-1] A CPU is `inside` from a successful [`World::enter`] to the [`World::leave`] of
//!    that section; meanwhile no other section of it begins.

mod choose;
mod tell;
mod trace;

use crate::config::{Config, PerPoints, Strategy, Violation};
use crate::outcome::{FailureKind, Outcome};
use crate::rng::Rng;
pub(crate) use choose::Next;
use gfp::platform::{Context, TaskWord};
use std::rc::Rc;
pub(crate) use trace::Event;
use trace::Trace;

/// Where a task came to a point.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum At {
    Enter = 1,
    Entered,
    Leave,
    Left,
    Remote,
    Relax,
    Clock,
    Context,
    Step,
    Map,
    Unmap,
    Flush,
    Report,
    Sleep,
    Wake,
    Task,
}

/// What happens to a task at a point.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Decision {
    /// It goes on.
    Go,
    /// An interrupt on its CPU.
    Interrupt,
    /// A softirq on its CPU.
    SoftIrq,
    /// An NMI on its CPU.
    Nmi,
    /// The scheduler decides.
    Leave,
}

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Inside {
    Outside,
    /// Somebody has a section of this CPU.
    Inside,
}

/// A virtual CPU.
#[derive(Debug)]
pub(crate) struct Cpu {
    current: Option<usize>,
    inside: Inside,
    /// Its place is taken: it stands still.
    taken: bool,
    softirq_depth: u32,
    irq_depth: u32,
    nmi_depth: u32,
    /// What is true of whoever made the run, acting as this CPU.
    word: Rc<TaskWord>,
    /// What is true of the softirqs here.
    softirq_word: Rc<TaskWord>,
    /// Preemption is off so many times.
    pub(crate) preempt_off: u32,
    /// Interrupts are off so many times, not counting sections.
    pub(crate) irqs_off: u32,
    /// Stands still until this step.
    slow_until: u64,
}

impl Cpu {
    /// Interrupts come: also in a softirq.
    fn irqs_on(&self) -> bool {
        let in_handler = self.irq_depth != 0 || self.nmi_depth != 0;
        self.inside == Inside::Outside && self.irqs_off == 0 && !in_handler
    }

    fn preemptible(&self) -> bool {
        self.irqs_on() && self.softirq_depth == 0 && self.preempt_off == 0 && !self.taken
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum State {
    Runnable,
    Sleeping {
        /// Address of the word that it waits on; 0: of a time only.
        word: usize,
        deadline_ns: Option<u64>,
    },
    Done,
}

#[derive(Debug)]
pub(crate) struct Task {
    name: String,
    cpu: u32,
    state: State,
    priority: u64,
    word: Rc<TaskWord>,
}

/// All state of a run.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) config: Config,
    rng: Rng,
    trace: Trace,
    outcome: Outcome,
    pub(crate) now_ns: u64,
    pub(crate) cpus: Vec<Cpu>,
    tasks: Vec<Task>,
    /// The task whose stack this is; `None`: the scheduler, or whoever made the run.
    running: Option<usize>,
    /// The CPU that runs.
    here: u32,
    pub(crate) end: Option<FailureKind>,
    next_deadline_ns: u64,
    /// Somebody of a higher priority may have become runnable.
    resched: bool,
    changes: Vec<u64>,
    lowest: u64,
    candidates: Vec<(u32, usize)>,
}

impl World {
    pub(crate) fn new(config: Config) -> World {
        let mut rng = Rng::stream(config.seed, 1);
        let cpu = |_| Cpu {
            current: None,
            inside: Inside::Outside,
            taken: false,
            softirq_depth: 0,
            irq_depth: 0,
            nmi_depth: 0,
            word: Rc::default(),
            softirq_word: Rc::default(),
            preempt_off: 0,
            irqs_off: 0,
            slow_until: 0,
        };
        let mut changes = Vec::new();
        if let Strategy::Priorities {
            changes: n, within, ..
        } = config.strategy
        {
            changes.extend((0..n).map(|_| rng.below(within.max(1) as usize) as u64));
            changes.sort_unstable_by(|a, b| b.cmp(a)); // the next one last
        }
        World {
            trace: Trace::new(config.seed, config.shown),
            cpus: (0..config.cpus).map(cpu).collect(),
            rng,
            config,
            outcome: Outcome::default(),
            now_ns: 1_000_000,
            tasks: Vec::new(),
            running: None,
            here: 0,
            end: None,
            next_deadline_ns: u64::MAX,
            resched: false,
            changes,
            lowest: 1 << 32,
            candidates: Vec::new(),
        }
    }

    pub(crate) fn add_task(&mut self, name: &str) -> usize {
        let id = self.tasks.len();
        self.tasks.push(Task {
            name: name.to_owned(),
            cpu: id as u32 % self.config.cpus,
            state: State::Runnable,
            priority: (1 << 33) + self.rng.below(1 << 20) as u64,
            word: Rc::default(),
        });
        self.resched = true;
        id
    }

    /// The CPU of the caller.
    pub(crate) fn here(&self) -> u32 {
        self.here
    }

    /// Whoever made the run acts as this CPU.
    pub(crate) fn act_as(&mut self, cpu: u32) {
        assert!(self.running.is_none() && cpu < self.config.cpus);
        self.here = cpu;
    }

    pub(crate) fn cpu(&mut self) -> &mut Cpu {
        &mut self.cpus[self.here as usize]
    }

    /// True if the caller is a task, or an interrupt on its stack.
    pub(crate) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    pub(crate) fn running(&self) -> Option<usize> {
        self.running
    }

    pub(crate) fn outcome(&self) -> Outcome {
        Outcome {
            trace_hash: self.trace.hash(),
            virtual_ns: self.now_ns,
            ..self.outcome
        }
    }

    /// Adds to the trace.
    pub(crate) fn note(&mut self, event: Event, detail: u64) {
        let (step, task) = (self.outcome.steps, self.running.unwrap_or(usize::MAX));
        self.trace.add(step, self.here, task, event, detail);
    }

    /// True so often.
    pub(crate) fn chance(&mut self, rate: PerPoints) -> bool {
        rate != 0 && self.rng.next_u64() as u16 <= rate
    }

    /// A fault of this rate happens.
    pub(crate) fn fault(&mut self, rate: PerPoints, event: Event) -> bool {
        let happens = self.is_running() && self.chance(rate);
        if happens {
            self.outcome.faults += 1;
            self.note(event, 0);
        }
        happens
    }

    /// What happens to the running task at a point.
    pub(crate) fn decide(&mut self, at: At) -> Decision {
        if self.running.is_none() {
            self.now_ns += 1;
            return Decision::Go;
        }
        self.outcome.steps += 1;
        let r = self.rng.next_u64();
        self.now_ns += 1 + (r >> 58);
        if self.outcome.steps > self.config.max_steps {
            self.end = Some(FailureKind::Livelock);
            return Decision::Leave;
        }
        let decision = self.draw(at, r);
        match decision {
            Decision::Interrupt => self.outcome.interrupts += 1,
            Decision::SoftIrq => self.outcome.softirqs += 1,
            Decision::Nmi => self.outcome.nmis += 1,
            Decision::Go | Decision::Leave => (),
        }
        self.note(Event::Point(at, decision), 0);
        decision
    }

    fn draw(&mut self, at: At, r: u64) -> Decision {
        let rates = self.config.rates;
        let hits = |shift: u32, rate: PerPoints| ((r >> shift) as u16) < rate;
        if self.cpus[self.here as usize].taken {
            // Resumed for an NMI only; drawn again with better odds.
            let nmi = self.cpu().nmi_depth == 0 && rates.nmi != 0 && r & 3 == 0;
            return if nmi { Decision::Nmi } else { Decision::Leave };
        }
        if self.cpu().nmi_depth == 0 && hits(0, rates.nmi) {
            return Decision::Nmi;
        }
        if self.cpu().irqs_on() && hits(16, rates.interrupt) {
            return Decision::Interrupt;
        }
        if self.cpu().irqs_on() && self.cpu().softirq_depth == 0 && hits(48, rates.softirq) {
            return Decision::SoftIrq;
        }
        if self.fault(rates.slow_cpu, Event::SlowCpu) {
            let until = self.outcome.steps + 200 + self.rng.below(4000) as u64;
            self.cpu().slow_until = until;
            return Decision::Leave;
        }
        if self.fault(rates.clock_jump, Event::ClockJump) {
            self.now_ns += self.rng.below(1_000_000_000) as u64;
        }
        let timer = self.now_ns >= self.next_deadline_ns;
        let leave = match self.config.strategy {
            Strategy::Random(rate) => hits(32, rate) || at == At::Relax && hits(32, 1 << 15),
            Strategy::RoundRobin(every) => {
                at == At::Relax || self.outcome.steps.is_multiple_of(every.max(1).into())
            }
            Strategy::Priorities { .. } => at == At::Relax || self.change_priority(),
        };
        if at == At::Relax && matches!(self.config.strategy, Strategy::Priorities { .. }) {
            self.lower_priority(); // it waits for somebody else
        }
        match leave || timer || std::mem::take(&mut self.resched) {
            true => Decision::Leave,
            false => Decision::Go,
        }
    }

    fn change_priority(&mut self) -> bool {
        let due = self
            .changes
            .pop_if(|step| *step <= self.outcome.steps)
            .is_some();
        if due {
            self.lower_priority();
        }
        due
    }

    fn lower_priority(&mut self) {
        self.lowest -= 1;
        if let Some(task) = self.running {
            self.tasks[task].priority = self.lowest;
        }
    }

    /// A section of this CPU, or the answer that it is inside.
    pub(crate) fn enter(&mut self) -> Option<u32> {
        let violated = self.config.violation == Some(Violation::NmisEnterSections);
        let nmi_may = violated && self.cpu().nmi_depth != 0;
        if self.cpu().inside != Inside::Outside && !nmi_may {
            return None;
        }
        self.cpu().inside = Inside::Inside;
        Some(self.here)
    }

    /// Takes the place of another CPU if it is outside now: both are inside then.
    pub(crate) fn try_take(&mut self, target: u32) -> bool {
        let violated = self.config.violation == Some(Violation::TakesCpusInside);
        let there = &self.cpus[target as usize];
        // It must answer an interrupt.
        let answers = there.irqs_on() && !there.taken;
        if self.cpu().taken || !answers && !violated {
            return false;
        }
        debug_assert!(self.cpu().inside == Inside::Outside);
        self.cpu().inside = Inside::Inside;
        self.cpus[target as usize].inside = Inside::Inside;
        self.cpus[target as usize].taken = true;
        self.outcome.taken += 1;
        self.note(Event::Take, target.into());
        true
    }

    /// The section of `target`, begun on this CPU, ends.
    pub(crate) fn leave(&mut self, target: u32) {
        assert!(self.cpu().inside == Inside::Inside || self.config.violation.is_some());
        self.cpu().inside = Inside::Outside;
        if target != self.here {
            let there = &mut self.cpus[target as usize];
            there.inside = Inside::Outside;
            there.taken = false;
        }
    }

    pub(crate) fn is_inside(&self) -> bool {
        self.cpus[self.here as usize].inside == Inside::Inside
    }

    pub(crate) fn is_taken(&self) -> bool {
        self.cpus[self.here as usize].taken
    }

    pub(crate) fn may_sleep(&self) -> bool {
        self.cpus[self.here as usize].preemptible()
    }

    pub(crate) fn all_others_are_done(&self, task: usize) -> bool {
        let mut others = self.tasks.iter().enumerate().filter(|(id, _)| *id != task);
        others.all(|(_, other)| other.state == State::Done)
    }

    /// In which context the caller runs.
    pub(crate) fn context(&self) -> Context {
        let cpu = &self.cpus[self.here as usize];
        match (cpu.nmi_depth, cpu.irq_depth, cpu.softirq_depth) {
            (0, 0, 0) if cpu.irqs_off != 0 || cpu.preempt_off != 0 => Context::Atomic,
            (0, 0, 0) => Context::Task,
            (0, 0, _) => Context::SoftIrq,
            (0, _, _) => Context::HardIrq,
            _ => Context::Nmi,
        }
    }

    /// The word of the running task, in a softirq the softirqs' own; kept as long as the run.
    pub(crate) fn word(&self) -> &Rc<TaskWord> {
        let cpu = &self.cpus[self.here as usize];
        match self.running {
            _ if cpu.softirq_depth != 0 => &cpu.softirq_word,
            Some(id) => &self.tasks[id].word,
            None => &cpu.word,
        }
    }

    /// How deep the CPU is in handlers of a kind.
    fn depth(&mut self, kind: Decision) -> &mut u32 {
        match kind {
            Decision::Nmi => &mut self.cpu().nmi_depth,
            Decision::SoftIrq => &mut self.cpu().softirq_depth,
            Decision::Interrupt | Decision::Go | Decision::Leave => &mut self.cpu().irq_depth,
        }
    }

    pub(crate) fn begin_handler(&mut self, kind: Decision) {
        *self.depth(kind) += 1;
    }

    pub(crate) fn end_handler(&mut self, kind: Decision) {
        *self.depth(kind) -= 1;
    }

    /// The running task sleeps; it must go to the scheduler now.
    pub(crate) fn sleep(&mut self, word: usize, deadline_ns: Option<u64>) {
        let task = self.running.expect("a task sleeps");
        self.tasks[task].state = State::Sleeping { word, deadline_ns };
        self.next_deadline_ns = self.next_deadline_ns.min(deadline_ns.unwrap_or(u64::MAX));
        self.note(Event::Sleep, task as u64);
    }

    /// Makes up to `most` sleepers of a word runnable.
    pub(crate) fn wake(&mut self, word: usize, most: usize) -> usize {
        let mut woken = 0;
        let sleeps =
            |task: &Task| matches!(task.state, State::Sleeping { word: w, .. } if w == word);
        while woken < most {
            let sleepers = self.tasks.iter().filter(|task| sleeps(task)).count();
            if sleepers == 0 {
                break;
            }
            // Any of them: who sleeps may not rely on an order.
            let nth = self.rng.below(sleepers);
            let mut asleep = (0..self.tasks.len()).filter(|id| sleeps(&self.tasks[*id]));
            let task = asleep.nth(nth).expect("counted above");
            self.tasks[task].state = State::Runnable;
            self.resched = true;
            self.note(Event::Wake, task as u64);
            woken += 1;
        }
        woken
    }

    /// The task that runs has panicked: nobody runs any more.
    pub(crate) fn fail(&mut self, message: &str) {
        let task = self.running.expect("a task runs");
        self.fail_in(task, message);
    }

    fn fail_in(&mut self, task: usize, message: &str) {
        let name = &self.tasks[task].name;
        self.end = Some(FailureKind::Panic(format!("task {name}: {message}")));
    }

    /// The running task is over.
    pub(crate) fn finish(&mut self, result: Result<(), String>) {
        let task = self.running.expect("a task ends");
        self.tasks[task].state = State::Done;
        let cpu = self.cpu();
        let clean = cpu.preemptible();
        cpu.current = None;
        self.note(Event::Done, task as u64);
        match result {
            Err(message) => self.fail_in(task, &message),
            Ok(()) if !clean => {
                let name = &self.tasks[task].name;
                self.end = Some(FailureKind::Panic(format!("task {name} ends inside")));
            }
            Ok(()) => (),
        }
    }
}
