//! One operation that is stopped at one instruction, what runs then, and where all words end up.

use gfp::frame::CpuId;
use gfp::sync::restart::{ByCpu, Closed, Cover, Current, PopError, PushError, Shape, Stacks};
use std::arch::asm;
use std::cell::Cell;
use std::ptr::{self, NonNull};

const CAPACITY: u32 = 8;
/// What is on the stack at first, and what is pushed.
const FIRST: [usize; 4] = [1, 2, 3, 4];
pub(crate) const OURS: usize = 100;
const THEIRS: usize = 200;

#[derive(Copy, Clone, PartialEq, Debug)]
pub(crate) enum Op {
    Pop,
    Push,
    /// Takes the stack, empties it, and keeps it.
    Own,
    /// Has owned the stack since before, on another CPU; takes three words and opens it.
    Open,
}

/// Where words ended up; no allocation, as handlers write it.
#[derive(Copy, Clone, Default)]
pub(crate) struct Words {
    list: [usize; 16],
    len: usize,
}

impl Words {
    fn add(&mut self, word: usize) {
        self.len = (self.len + 1).min(self.list.len());
        self.list[self.len - 1] = word;
    }

    /// Each of `expected` is there once, and nothing else. (Where more are given than fit, the last
    /// one stands for them: it is a double.)
    fn are(mut self, mut expected: Words) -> bool {
        self.list[..self.len].sort_unstable();
        expected.list[..expected.len].sort_unstable();
        self.list[..self.len] == expected.list[..expected.len]
    }
}

/// One operation that is stopped, and what runs then.
struct Run<'a> {
    stacks: &'a dyn Work,
    task: Current<'a>,
    id: CpuId,
    theirs: Op,
    /// At which trap the handler acts.
    stop_at: usize,
    steps: Cell<usize>,
    stopped_ip: Cell<usize>,
    restarted: Cell<bool>,
    words: Cell<Words>,
    /// The byte that the breakpoint replaced, where there is one.
    breakpoint: Option<u8>,
    /// Who owned the stack before the operation began, on another CPU.
    owner: Cell<Option<Closed<'a>>>,
}

thread_local! {
    static RUN: Cell<*const Run<'static>> = const { Cell::new(ptr::null()) };
}

/// Stacks of either kind.
pub(crate) trait Work {
    fn work(&self, op: Op, word: usize, task: Current<'_>, id: CpuId, words: &mut Words) -> Answer;
}

#[derive(Copy, Clone, PartialEq, Debug)]
pub(crate) enum Answer {
    Done,
    Closed,
    /// There are always words and there is always room.
    Wrong,
}

/// The operation that is stopped: one place in the program for each kind.
#[inline(never)]
fn pop_once<C: Cover>(stacks: &Stacks<ByCpu, C>, task: Current<'_>) -> Result<usize, PopError> {
    stacks.pop(task)
}

#[inline(never)]
fn push_once<C: Cover>(
    stacks: &Stacks<ByCpu, C>,
    task: Current<'_>,
    word: usize,
) -> Result<(), PushError> {
    stacks.push(task, word)
}

impl<C: Cover> Work for Stacks<ByCpu, C> {
    fn work(&self, op: Op, word: usize, task: Current<'_>, id: CpuId, words: &mut Words) -> Answer {
        match op {
            Op::Pop => match pop_once(self, task) {
                Ok(word) => words.add(word),
                Err(PopError::Closed) => return Answer::Closed,
                Err(PopError::Empty) => return Answer::Wrong,
            },
            Op::Push => match push_once(self, task, word) {
                Ok(()) => {}
                Err(PushError::Closed) => {
                    words.add(word);
                    return Answer::Closed;
                }
                Err(PushError::Full) => return Answer::Wrong,
            },
            Op::Own => {
                // SAFETY: a handler on the CPU of the stack; what it interrupted will be restarted,
                // or is the control.
                let mut closed = unsafe { self.close_here(id) }.unwrap();
                while let Some(word) = closed.pop() {
                    words.add(word);
                }
                std::mem::forget(closed);
            }
            Op::Open => unreachable!("the owner is another CPU"),
        }
        Answer::Done
    }
}

extern "C" fn on_trap(_: i32, _: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the context of this signal, and a run that its test keeps alive.
    let (context, run) = unsafe { (&mut *context.cast::<libc::ucontext_t>(), &*RUN.get()) };
    let ip = &mut context.uc_mcontext.gregs[libc::REG_RIP as usize];
    let step = run.steps.replace(run.steps.get() + 1);
    if step != run.stop_at {
        return; // this instruction is not interrupted
    }
    if let Some(mut owner) = run.owner.take() {
        // Another CPU drains and opens the stack: nothing here is interrupted.
        run.stopped_ip.set(*ip as usize);
        let mut words = run.words.get();
        (0..3).for_each(|_| words.add(owner.pop().unwrap()));
        run.words.set(words);
        return;
    }
    match run.breakpoint {
        None => {
            // The interrupt path: first the area, then whatever the interrupt does.
            run.stopped_ip.set(*ip as usize);
            if let Some(at) = run.task.area().interrupted(*ip as usize) {
                run.restarted.set(true);
                *ip = at as i64;
            }
        }
        Some(byte) => {
            let at = run.stopped_ip.get();
            // SAFETY: the test made that page of its private copy writable.
            unsafe { (at as *mut u8).write_volatile(byte) };
            if *ip as usize == at + 1 {
                *ip = at as i64; // not restarted: go on with the instruction
            } else {
                run.restarted.set(true);
            }
        }
    }
    let mut words = run.words.get();
    run.stacks
        .work(run.theirs, THEIRS, run.task, run.id, &mut words);
    run.words.set(words);
}

pub(crate) fn catch_traps() {
    // SAFETY: the handler touches only what the run of its thread names.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_trap as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        assert_eq!(libc::sigaction(libc::SIGTRAP, &action, ptr::null_mut()), 0);
    }
}

/// Runs `work` with a trap after each instruction.
fn stepped<R>(work: impl FnOnce() -> R) -> R {
    // SAFETY: sets the trap flag: the handler is there. The stack is used as a stack.
    unsafe { asm!("pushfq", "or qword ptr [rsp], 0x100", "popfq") };
    let answer = work();
    // SAFETY: clears it.
    unsafe { asm!("pushfq", "and qword ptr [rsp], -0x101", "popfq") };
    answer
}

pub(crate) struct Memory {
    words: Vec<u64>,
    shape: Shape,
}

impl Memory {
    pub(crate) fn new(nr_ids: u32) -> Memory {
        let shape = Shape::new(nr_ids, CAPACITY);
        let words = vec![0; shape.bytes() / 8];
        Memory { words, shape }
    }

    /// Fresh stacks; `FIRST` are on that of `id`.
    pub(crate) fn stacks<C: Cover>(&mut self, id: CpuId) -> Stacks<ByCpu, C> {
        let base = NonNull::new(self.words.as_mut_ptr()).unwrap().cast();
        // SAFETY: the memory is as large as the shape says; each test has its own.
        let stacks: Stacks<ByCpu, C> = unsafe { Stacks::new(base, self.shape) };
        // SAFETY: nothing is under way on new stacks.
        let mut closed = unsafe { stacks.close_here(id) }.unwrap();
        for word in FIRST {
            closed.push(word).unwrap();
        }
        drop(closed);
        stacks
    }
}

/// Where the operation is stopped.
#[derive(Copy, Clone)]
pub(crate) enum Stop {
    /// At this trap of its run.
    AtStep(usize),
    /// At the breakpoint there, which replaced the byte.
    AtBreakpoint(usize, u8),
}

/// What one run showed.
#[derive(Copy, Clone)]
pub(crate) struct Shown {
    /// The operation came to where it was to be stopped.
    pub(crate) reached: bool,
    pub(crate) answer: Answer,
    pub(crate) ip: usize,
    pub(crate) restarted: bool,
    pub(crate) whole: bool,
}

/// `ours` is stopped at trap `stop_at` of its run, or by the breakpoint; `theirs` runs in between.
#[inline(never)]
pub(crate) fn run<C: Cover + 'static>(
    stacks: &Stacks<ByCpu, C>,
    task: Current<'_>,
    id: CpuId,
    (ours, theirs): (Op, Op),
    stop: Stop,
) -> Shown {
    let (stop_at, stopped_ip, breakpoint) = match stop {
        Stop::AtStep(step) => (step, 0, None),
        Stop::AtBreakpoint(ip, byte) => (0, ip, Some(byte)),
    };
    let run = Run {
        stacks,
        task,
        id,
        theirs,
        stop_at,
        steps: Cell::new(0),
        stopped_ip: Cell::new(stopped_ip),
        restarted: Cell::new(false),
        words: Cell::default(),
        breakpoint,
        owner: Cell::new(None),
    };
    if theirs == Op::Open {
        // SAFETY: nothing is under way.
        run.owner.set(unsafe { stacks.close_here(id) });
    }
    RUN.set(ptr::from_ref(&run).cast());
    let mut words = Words::default();
    let mut work = || stacks.work(ours, OURS, task, id, &mut words);
    let answer = match stop {
        Stop::AtStep(_) => stepped(work),
        Stop::AtBreakpoint(..) => work(),
    };
    RUN.set(ptr::null());
    drop(run.owner.take());
    let reached = run.steps.get() > stop_at;
    let theirs = run.words.get();
    theirs.list[..theirs.len]
        .iter()
        .for_each(|word| words.add(*word));
    // What is left. Where the handler kept the stack, nothing may have come there since.
    let owned = reached && run.theirs == Op::Own;
    let mut whole = answer != Answer::Wrong;
    if owned {
        whole &= stacks.is_empty(id);
    } else {
        // SAFETY: nothing is under way any more.
        let mut closed = unsafe { stacks.close_here(id) }.unwrap();
        while let Some(word) = closed.pop() {
            words.add(word);
        }
    }
    let mut expected = Words::default();
    FIRST.iter().for_each(|word| expected.add(*word));
    if ours == Op::Push {
        expected.add(OURS);
    }
    if reached && run.theirs == Op::Push {
        expected.add(THEIRS);
    }
    whole &= words.are(expected);
    Shown {
        reached,
        answer,
        ip: run.stopped_ip.get(),
        restarted: run.restarted.get(),
        whole,
    }
}
