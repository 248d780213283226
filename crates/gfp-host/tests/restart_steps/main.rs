//! A restartable sequence that is stopped at each of its instructions, while another operation runs
//! on the same CPU's stack: nothing is lost, nothing is given twice.
//!
//! * With the trap flag, on an area of the test's own: the handler is the interrupt path of a
//!   kernel.
//! * With a breakpoint, on the area that Linux knows: Linux restarts the sequence when it delivers
//!   the signal. (The trap flag cannot do that: it would stop at the first instruction each time.)
//! * The controls run the same instructions with nothing for the interrupt path to find, and must
//!   lose or double a word.
//!
//! Not under ThreadSanitizer: its own code runs between ours and cannot be stopped anywhere. With
//! one thread a test there is nothing that it could find.
#![cfg(all(target_arch = "x86_64", not(loom), not(gfp_tsan)))]

#[path = "../common/child.rs"]
mod child;
mod run;

use child::in_child;
use gfp::frame::CpuId;
use gfp::sync::restart::{Area, Cover, Covered, Current, Exposed};
use gfp_host::rseq::Rseq;
use gfp_host::slots;
use run::{Answer, Memory, OURS, Op, Shown, Stop, Words, Work, catch_traps, run};
use std::collections::BTreeSet;

/// Instructions inside, as the module's documentation says.
const INSIDE: [(Op, usize); 2] = [(Op::Pop, 10), (Op::Push, 9)];

const PAIRS: [(Op, Op); 6] = [
    (Op::Pop, Op::Pop),
    (Op::Pop, Op::Push),
    (Op::Pop, Op::Own),
    (Op::Push, Op::Pop),
    (Op::Push, Op::Push),
    (Op::Push, Op::Own),
];

/// An area of the test's own, always on CPU 1 of 2.
fn own_area() -> Area {
    let area = Area::new();
    // SAFETY: nobody runs sequences on it yet.
    unsafe { area.set_cpu(1, 0) };
    area
}

/// All runs of a pair, each stopped one instruction later than the one before.
fn all_steps<C: Cover + 'static>(pair: (Op, Op)) -> Vec<Shown> {
    catch_traps();
    let area = own_area();
    // SAFETY: who interrupts is our handler, which looks at this area.
    let task = unsafe { Current::new(&area) };
    let mut memory = Memory::new(2);
    let mut all = Vec::new();
    for step in 0.. {
        let stacks = memory.stacks::<C>(CpuId(1));
        let shown = run(&stacks, task, CpuId(1), pair, Stop::AtStep(step));
        if !shown.reached {
            let answer = match pair.1 {
                Op::Open => Answer::Closed,
                _ => Answer::Done,
            };
            assert!(
                shown.whole && shown.answer == answer,
                "{pair:?} undisturbed"
            );
            return all;
        }
        all.push(shown);
    }
    unreachable!()
}

/// Start and end of the sequence of `op`, where these tests call it.
fn sequence_of<C: Cover + 'static>(op: Op) -> std::ops::Range<usize> {
    let area = own_area();
    // SAFETY: nothing interrupts.
    let task = unsafe { Current::new(&area) };
    let mut memory = Memory::new(2);
    let stacks = memory.stacks::<C>(CpuId(1));
    stacks.work(op, OURS, task, CpuId(1), &mut Words::default());
    let descriptor = area.armed().expect("the last sequence is still there");
    descriptor.start()..descriptor.end()
}

/// The addresses of the instructions of `op` that are inside, seen by stepping through them.
fn instructions_of(op: Op) -> BTreeSet<usize> {
    let inside = sequence_of::<Covered>(op);
    let all = all_steps::<Covered>((op, Op::Pop));
    all.iter()
        .map(|shown| shown.ip)
        .filter(|ip| inside.contains(ip))
        .collect()
}

#[test]
fn stopped_at_each_instruction_no_word_is_lost_or_doubled() {
    for pair in PAIRS {
        let inside = sequence_of::<Covered>(pair.0);
        let all = all_steps::<Covered>(pair);
        for (step, shown) in all.iter().enumerate() {
            assert!(
                shown.whole,
                "{pair:?} stopped at step {step}, {:#x}",
                shown.ip
            );
            let expected = inside.contains(&shown.ip);
            assert_eq!(shown.restarted, expected, "{pair:?} at {:#x}", shown.ip);
        }
        let restarts = all.iter().filter(|shown| shown.restarted).count();
        assert_eq!(Some(restarts), instructions(pair.0), "{pair:?}");
        // It was stopped before and after, too; and who found the stack taken was told so.
        assert!(restarts + 4 < all.len());
        let closed = all
            .iter()
            .filter(|shown| shown.answer == Answer::Closed)
            .count();
        assert_eq!(closed > restarts, pair.1 == Op::Own, "{pair:?}: {closed}");
    }
}

fn instructions(op: Op) -> Option<usize> {
    INSIDE.iter().find(|(of, _)| *of == op).map(|(_, nr)| *nr)
}

/// Seen to fail: with `len` read before `limit`, an old `len` met the `limit` of the opened stack.
#[test]
fn an_owner_who_opens_between_any_two_instructions_leaves_nothing_old_behind() {
    for op in [Op::Pop, Op::Push] {
        let all = all_steps::<Covered>((op, Op::Open));
        let whole = all.iter().filter(|shown| shown.whole && !shown.restarted);
        assert_eq!(whole.count(), all.len(), "{op:?}");
        for answer in [Answer::Done, Answer::Closed] {
            assert!(all.iter().any(|shown| shown.answer == answer), "{op:?}");
        }
    }
}

#[test]
fn control_the_same_instructions_without_a_restart_lose_or_double_words() {
    for pair in PAIRS {
        let all = all_steps::<Exposed>(pair);
        assert!(all.iter().all(|shown| !shown.restarted));
        let harm = all.iter().filter(|shown| !shown.whole).count();
        assert!(harm > 0, "{pair:?}: the test cannot see a missing restart");
    }
}

#[test]
fn linux_restarts_a_sequence_that_is_stopped_at_each_instruction() {
    let Some(rseq) = Rseq::find() else {
        return the_fallback_answers();
    };
    for pair in PAIRS {
        for ip in instructions_of(pair.0) {
            let mut memory = Memory::new(rseq.nr_cpus());
            let status = in_child(|| broken_at::<Covered>(rseq, &mut memory, pair, ip));
            assert_eq!(status, RESTARTED | WHOLE, "{pair:?} stopped at {ip:#x}");
        }
    }
}

#[test]
fn control_linux_restarts_nothing_that_no_descriptor_covers() {
    let Some(rseq) = Rseq::find() else {
        return the_fallback_answers();
    };
    let inside = sequence_of::<Exposed>(Op::Pop);
    assert!(inside.is_empty());
    let commit = all_steps::<Exposed>((Op::Pop, Op::Pop));
    let harmed = commit.iter().find(|shown| !shown.whole).unwrap().ip;
    let mut memory = Memory::new(rseq.nr_cpus());
    let pair = (Op::Pop, Op::Pop);
    let status = in_child(|| broken_at::<Exposed>(rseq, &mut memory, pair, harmed));
    assert_eq!(status, 0, "neither restarted nor whole");
}

const RESTARTED: i32 = 1;
const WHOLE: i32 = 2;

/// In a child: a breakpoint at `ip`, in its own copy of the page, then the operation.
fn broken_at<C: Cover + 'static>(
    rseq: Rseq,
    memory: &mut Memory,
    pair: (Op, Op),
    ip: usize,
) -> i32 {
    const PAGE: usize = 4096;
    catch_traps();
    let task = rseq.current().unwrap();
    let id = stay_here(task);
    let byte = {
        let page = (ip & !(PAGE - 1)) as *mut libc::c_void;
        let all = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
        // SAFETY: private copies of our own code, which this one thread runs; int3 is one byte.
        unsafe {
            assert_eq!(libc::mprotect(page, 2 * PAGE, all), 0);
            let byte = (ip as *const u8).read_volatile();
            (ip as *mut u8).write_volatile(0xcc);
            byte
        }
    };
    // `stacks` fills them without a sequence.
    let stacks = memory.stacks::<C>(id);
    let shown = run(&stacks, task, id, pair, Stop::AtBreakpoint(ip, byte));
    if !shown.reached {
        return -1;
    }
    i32::from(shown.restarted) * RESTARTED + i32::from(shown.whole) * WHOLE
}

/// Binds the calling thread to the CPU that it is on.
fn stay_here(task: Current<'_>) -> CpuId {
    let cpu = task.area().cpu().unwrap();
    // SAFETY: a set of CPUs on our stack; 0 is the calling thread.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu as usize, &mut set);
        assert_eq!(libc::sched_setaffinity(0, size_of_val(&set), &set), 0);
    }
    CpuId(cpu)
}

/// Where Linux or the C library has no rseq, the slots are what remains, and answer.
fn the_fallback_answers() {
    let (cpu, section) = slots::enter().expect("a thread outside of everything");
    assert_eq!(slots::current(), Some(cpu));
    assert!(slots::enter().is_err(), "what comes in between is refused");
    drop(section);
    assert!(slots::enter().is_ok());
}
