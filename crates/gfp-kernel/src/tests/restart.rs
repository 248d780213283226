//! Restartable sequences: whatever comes in the middle of one, no word is lost and none is given
//! twice.

use super::threads;
use crate::arch::percpu::{self, MAX_CPUS};
use crate::arch::{cpu, smp, traps};
use crate::sched::{self, Affinity, spawn};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize, Ordering::Relaxed};
use gfp::frame::CpuId;
use gfp::sync::restart::{PopError, Shape, Stacks};

super::tests! { "restart":
    a_sequence_stopped_at_each_instruction_loses_and_doubles_nothing,
    sequences_on_all_cpus_lose_and_double_nothing,
}

/// What handlers use too.
static STACKS: AtomicPtr<Stacks> = AtomicPtr::new(null_mut());

/// Stacks for all CPUs, for ever.
fn make_stacks(capacity: u32) -> &'static Stacks {
    let shape = Shape::new(smp::count(), capacity);
    let memory = Vec::leak(alloc::vec![0u64; shape.bytes() / 8]);
    // SAFETY: leaked memory, aligned to 8; ids are those of CPUs.
    let stacks = unsafe { Stacks::new(NonNull::from(memory).cast(), shape) };
    let stacks = Box::leak(Box::new(stacks));
    STACKS.store(stacks, Relaxed);
    stacks
}

fn stacks() -> &'static Stacks {
    // SAFETY: `make_stacks` leaked it before any hook was set.
    unsafe { &*STACKS.load(Relaxed) }
}

fn push(word: usize) {
    let pushed = stacks().push(percpu::restartable(), word);
    assert_eq!(pushed, Ok(()), "there is room for all");
}

fn pop() -> Option<usize> {
    match stacks().pop(percpu::restartable()) {
        Ok(word) => Some(word),
        Err(PopError::Empty) => None,
        Err(PopError::Closed) => panic!("nobody closes"),
    }
}

/// What an exception does in the middle of a sequence.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Op {
    Push,
    Pop,
}

/// What the exception is to do.
static BETWEEN_POPS: AtomicBool = AtomicBool::new(false);
/// It came.
static CAME: AtomicBool = AtomicBool::new(false);
/// What it popped; 0: nothing.
static POPPED: AtomicUsize = AtomicUsize::new(0);
/// Pushed by it.
const BETWEEN: usize = 100;
/// Pushed by the sequence that it stops.
const OUTER: usize = 200;

fn on_breakpoint(_frame: &mut traps::Frame) {
    cpu::set_breakpoint(None);
    CAME.store(true, Relaxed);
    match BETWEEN_POPS.load(Relaxed) {
        true => POPPED.store(pop().unwrap_or(0), Relaxed),
        false => push(BETWEEN),
    }
}

/// The sequences that are stopped: one copy of each.
#[inline(never)]
fn outer(op: Op) -> Option<usize> {
    match op {
        Op::Push => {
            push(OUTER);
            None
        }
        Op::Pop => pop(),
    }
}

/// The addresses of the sequence that `op` runs.
fn sequence_of(op: Op) -> core::ops::Range<usize> {
    loop {
        outer(op);
        let off = cpu::IrqOff::new();
        let area = percpu::restartable().area();
        // `None`: something came in between, and left it disarmed.
        if let Some(descriptor) = area.armed() {
            return descriptor.start()..descriptor.end();
        }
        drop(off);
    }
}

fn a_sequence_stopped_at_each_instruction_loses_and_doubles_nothing() {
    sched::set_affinity(Affinity::One(CpuId(0)));
    make_stacks(200);
    traps::ON_DEBUG.set(Some(on_breakpoint));
    // The theory of `sync::restart` counts the instructions.
    for (op, instructions) in [(Op::Push, 9), (Op::Pop, 10)] {
        (0..50).for_each(push);
        let sequence = sequence_of(op);
        while pop().is_some() {}
        for between in [Op::Push, Op::Pop] {
            // Between two instructions there is nothing to stop at.
            let stops = sequence.clone().filter(|&at| stop_once(at, op, between));
            assert_eq!(stops.count(), instructions);
        }
    }
}

/// Runs `op`, stopped at `at`; false if there is no instruction.
fn stop_once(at: usize, op: Op, between: Op) -> bool {
    let before = [1, 2, 3];
    before.into_iter().for_each(push);
    BETWEEN_POPS.store(between == Op::Pop, Relaxed);
    CAME.store(false, Relaxed);
    POPPED.store(0, Relaxed);
    cpu::set_breakpoint(Some(at));
    let popped = outer(op);
    cpu::set_breakpoint(None);
    let came = CAME.load(Relaxed);
    let mut found: Vec<usize> = popped.into_iter().collect();
    found.extend(core::iter::from_fn(pop));
    found.extend(Some(POPPED.load(Relaxed)).filter(|word| *word != 0));
    found.sort_unstable();
    let mut wanted = Vec::from(before);
    wanted.extend((came && between == Op::Push).then_some(BETWEEN));
    wanted.extend((op == Op::Push).then_some(OUTER));
    assert_eq!(
        found, wanted,
        "{between:?} in the middle of {op:?}, at {at:#x}"
    );
    came
}

const WORDS: usize = 200;
/// Who has a word out; index 0 is unused.
static OUT: [AtomicBool; WORDS + 1] = [const { AtomicBool::new(false) }; WORDS + 1];
/// Words that were given twice.
static DOUBLED: AtomicU32 = AtomicU32::new(0);
/// What the handlers of each CPU hold between two interrupts: of timers, and of NMIs.
static HELD: [[AtomicUsize; MAX_CPUS]; 2] =
    [const { [const { AtomicUsize::new(0) }; MAX_CPUS] }; 2];

fn take() -> Option<usize> {
    let word = pop()?;
    if OUT[word].swap(true, Relaxed) {
        DOUBLED.fetch_add(1, Relaxed);
    }
    Some(word)
}

fn give(word: usize) {
    OUT[word].store(false, Relaxed);
    push(word);
}

/// Every other time it takes a word, and gives it back the next time.
fn step_of_handler(level: usize) {
    let held = &HELD[level][percpu::cpu() as usize];
    match held.swap(0, Relaxed) {
        0 => held.store(take().unwrap_or(0), Relaxed),
        word => give(word),
    }
}

fn sequences_on_all_cpus_lose_and_double_nothing() {
    const ROUNDS: u32 = 100_000;
    make_stacks(WORDS as u32 + 1);
    DOUBLED.store(0, Relaxed);
    OUT.iter().for_each(|out| out.store(false, Relaxed));
    (1..=WORDS).for_each(push);
    traps::ON_TIMER.set(Some(|_| step_of_handler(0)));
    traps::ON_NMI.set(Some(|_| step_of_handler(1)));
    let work = || {
        for round in 0..ROUNDS {
            let (first, second) = (take(), take());
            second.into_iter().chain(first).for_each(give);
            if round % 64 == 0 {
                sched::yield_now();
            }
        }
    };
    // Some that move, and two that stay on each CPU.
    let movers: Vec<_> = (0..smp::count()).map(|_| spawn("moves", work)).collect();
    threads::on_all_cpus(|_| work());
    for task in movers {
        task.join().expect("it ends");
    }
    stop_handlers();
    assert_eq!(DOUBLED.load(Relaxed), 0, "words were given twice");
    assert_eq!(drain(), (1..=WORDS).collect::<Vec<_>>());
}

/// No handler uses the stacks any more; what they hold is given back.
fn stop_handlers() {
    traps::ON_TIMER.set(None);
    traps::ON_NMI.set(None);
    // A handler under way ends before a task can run on its CPU; NMIs are waited for.
    threads::on_all_cpus(|_| {
        let before = percpu::all().map(|cpu| cpu.nmis.load(Relaxed));
        let before: Vec<u64> = before.collect();
        for (cpu, before) in percpu::all().zip(before) {
            while cpu.nmis.load(Relaxed) == before {
                sched::relax();
            }
        }
    });
    for held in HELD.iter().flatten() {
        match held.swap(0, Relaxed) {
            0 => {}
            word => give(word),
        }
    }
}

/// All words of all CPUs, in order.
fn drain() -> Vec<usize> {
    let words = sched::Mutex::new(Vec::new());
    threads::on_all_cpus(|_| {
        let mine: Vec<usize> = core::iter::from_fn(pop).collect();
        words.lock().extend(mine);
    });
    let mut words = words.lock();
    words.sort_unstable();
    core::mem::take(&mut *words)
}
