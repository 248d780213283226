//! Restartable stacks with owners: timer interrupts own the stack of their CPU for a moment, NMIs
//! find it closed, tasks move between CPUs; no token is lost and none is given twice.
//! With `break=restart` the test fails.

use super::threads::on_all_cpus;
use crate::arch::percpu::{self, MAX_CPUS, restartable};
use crate::arch::smp;
use crate::arch::traps::{Frame, ON_NMI, ON_TIMER};
use crate::sched::{Builder, yield_now};
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize};
use core::sync::atomic::{Ordering, Ordering::Relaxed};
use gfp::frame::CpuId;
use gfp::sync::restart::{PopError, Shape, Stacks};

super::tests! { "restart_owned": tokens_circulate_while_interrupts_own_stacks }

const TOKENS: usize = 64;

/// Empty stacks for all CPUs, in memory that is never given back: handlers of the test may run a
/// little longer than it.
fn stacks() -> &'static Stacks {
    let shape = Shape::new(smp::count(), TOKENS as u32);
    let memory = Vec::leak(vec![0u64; shape.bytes() / 8]);
    let base = NonNull::from(memory).cast();
    // SAFETY: [INV-RESTART-3] the memory is the stacks' for ever; ids are indexes of CPUs.
    Box::leak(Box::new(unsafe { Stacks::new(base, shape) }))
}

/// What is on the stack of `cpu`.
///
/// # Safety
/// The stack is not in use.
unsafe fn drain(stacks: &Stacks, cpu: u32) -> Vec<usize> {
    // SAFETY: nothing is under way, by the caller's promise.
    let mut closed = unsafe { stacks.close_here(CpuId(cpu)) }.expect("nobody has it");
    core::iter::from_fn(|| closed.pop()).collect()
}

/// Interrupts and NMIs in which something was done, at least.
const STORM: u64 = 4000;
const TASKS: u32 = 8;
/// A handler of CPU `n` is called this more than `n` in the map; NMIs twice.
const HANDLER: u32 = 1000;

static STACKS: AtomicPtr<Stacks> = AtomicPtr::new(null_mut());
/// Who has each token; 0: nobody.
static OWNERS: [AtomicU32; TOKENS] = [const { AtomicU32::new(0) }; TOKENS];
/// What the handlers of each CPU hold, of interrupts and of NMIs: a token + 1, or 0.
static POCKETS: [[AtomicUsize; MAX_CPUS]; 2] =
    [const { [const { AtomicUsize::new(0) }; MAX_CPUS] }; 2];
static HANDLED: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
/// Tokens that were found with a second owner, or taken from a stack that somebody owned.
static DOUBLED: AtomicU32 = AtomicU32::new(0);

/// AcqRel: the map alone orders who had a token before.
fn owner_becomes(token: usize, from: u32, to: u32) {
    if OWNERS[token % TOKENS].swap(to, Ordering::AcqRel) != from || token >= TOKENS {
        DOUBLED.fetch_add(1, Relaxed);
    }
}

/// Takes a token, or brings back the one it took the last time. (Both at once would leave the stack
/// as if nothing had been.)
fn handle(level: usize) {
    // Acquire: pairs with the Release of the test.
    // SAFETY: null, or stacks that stay for ever.
    let Some(stacks) = (unsafe { STACKS.load(Ordering::Acquire).as_ref() }) else {
        return;
    };
    let (task, id) = (restartable(), percpu::cpu());
    let me = id + HANDLER * (level as u32 + 1);
    let pocket = &POCKETS[level][id as usize];
    match pocket.load(Relaxed) {
        0 => {
            let Ok(token) = stacks.pop(task) else { return };
            owner_becomes(token, 0, me);
            pocket.store(token + 1, Relaxed);
        }
        held => {
            owner_becomes(held - 1, me, 0);
            match stacks.push(task, held - 1) {
                Ok(()) => pocket.store(0, Relaxed),
                Err(_) => owner_becomes(held - 1, 0, me), // an owner has it: the next time
            }
        }
    }
    HANDLED[level].fetch_add(1, Relaxed);
}

fn on_timer(_: &mut Frame) {
    handle(0);
    // SAFETY: null, or stacks that stay for ever.
    let Some(stacks) = (unsafe { STACKS.load(Ordering::Acquire).as_ref() }) else {
        return;
    };
    // Own the stack for a moment; NMIs find it closed.
    // SAFETY: an interrupt handler, on this CPU until it ends; its entry looked at the area.
    if let Some(mut closed) = unsafe { stacks.close_here(CpuId(percpu::cpu())) } {
        if stacks.pop(restartable()) != Err(PopError::Closed) {
            DOUBLED.fetch_add(1, Relaxed);
        }
        let mut words = [0; TOKENS];
        let mut len = 0;
        while let Some(word) = closed.pop() {
            words[len] = word;
            len += 1;
        }
        for word in &words[..len] {
            closed.push(*word).expect("as many as there were");
        }
    }
}

/// Tokens go round until there was enough of a storm.
fn turn_tokens(stacks: &Stacks, me: u32) {
    let share = TOKENS as u32 / TASKS;
    for token in (me - 1) * share..me * share {
        give_back(stacks, token as usize, me);
    }
    let mut turns = 0u32;
    while HANDLED.iter().any(|count| count.load(Relaxed) < STORM) && DOUBLED.load(Relaxed) == 0 {
        turns += 1;
        match stacks.pop(restartable()) {
            Ok(token) => {
                owner_becomes(token, 0, me);
                give_back(stacks, token, me);
            }
            Err(PopError::Empty) => yield_now(),
            Err(PopError::Closed) => {}
        }
        if turns.is_multiple_of(256) {
            yield_now();
        }
    }
}

fn give_back(stacks: &Stacks, token: usize, me: u32) {
    owner_becomes(token, me, 0);
    while stacks.push(restartable(), token).is_err() && DOUBLED.load(Relaxed) == 0 {
        yield_now();
    }
}

fn tokens_circulate_while_interrupts_own_stacks() {
    let stacks = stacks();
    for (token, owner) in OWNERS.iter().enumerate() {
        let first = token as u32 / (TOKENS as u32 / TASKS) + 1;
        owner.store(first, Relaxed); // before anybody else looks
    }
    // Release: pairs with the Acquire in `handle`.
    STACKS.store(core::ptr::from_ref(stacks).cast_mut(), Ordering::Release);
    ON_TIMER.set(Some(on_timer));
    ON_NMI.set(Some(|_| handle(1)));
    let tasks: Vec<_> = (1..=TASKS)
        .map(|me| Builder::new("tokens").spawn(move || turn_tokens(stacks, me)))
        .collect();
    let joined: Vec<_> = tasks
        .into_iter()
        .flatten()
        .map(|task| task.join())
        .collect();
    ON_TIMER.set(None);
    ON_NMI.set(None);
    STACKS.store(null_mut(), Ordering::Release);
    // Each CPU has left the handlers that it was in.
    on_all_cpus(|_| ());
    assert!(joined.len() == TASKS as usize && joined.iter().all(Result::is_ok));
    assert_eq!(DOUBLED.load(Relaxed), 0, "tokens given twice");
    // SAFETY: tasks and handlers are over.
    let mut left: Vec<usize> = (0..smp::count())
        .flat_map(|cpu| unsafe { drain(stacks, cpu) })
        .collect();
    let pockets = POCKETS.iter().flatten().map(|pocket| pocket.load(Relaxed));
    left.extend(pockets.filter(|held| *held != 0).map(|held| held - 1));
    left.sort_unstable();
    assert!(
        left.iter().copied().eq(0..TOKENS),
        "each token once: {left:?}"
    );
}
