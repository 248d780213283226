//! Pages from and to this CPU's lists, by restartable sequences: whatever comes in the middle of
//! one, no page is lost and none has two owners. With `break=restart` both tests fail.

use super::disturb;
use super::fixture::{Ledger, Wrong};
use super::threads;
use crate::arch::percpu::{self, MAX_CPUS};
use crate::arch::{cpu, smp, traps};
use crate::memory::mm;
use crate::sched::{self, Affinity, spawn};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicUsize, Ordering::Relaxed};
use gfp::flags::{GFP_ATOMIC, Gfp};
use gfp::frame::{CpuId, Pfn};

super::tests! { "at_hand":
    a_page_stopped_at_each_instruction_has_one_owner,
    pages_have_one_owner_each_whatever_comes_between,
}

/// What is done with a page.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Op {
    Take,
    Put,
    /// Of another type, which is usual from then on.
    PutMovable,
}

/// The sequences that are stopped: one copy of each.
#[inline(never)]
fn take() -> Option<Pfn> {
    mm().alloc_pages(GFP_ATOMIC, 0).ok()
}

fn take_movable() -> Pfn {
    let page = mm().alloc_pages(GFP_ATOMIC | Gfp::MOVABLE, 0);
    page.expect("there is memory")
}

/// # Safety
/// The page is the caller's.
#[inline(never)]
unsafe fn put(pfn: Pfn) {
    // SAFETY: promised by the caller.
    unsafe { mm().free_frames(pfn, 0) }
}

/// What the exception is to do.
static BETWEEN_TAKES: AtomicBool = AtomicBool::new(false);
/// It came.
static CAME: AtomicBool = AtomicBool::new(false);
/// The page that it is to put, or has taken, by its frame; [`NO_PAGE`]: none.
static PAGE: AtomicUsize = AtomicUsize::new(NO_PAGE);
const NO_PAGE: usize = usize::MAX;

fn on_breakpoint(_frame: &mut traps::Frame) {
    cpu::set_breakpoint(None);
    CAME.store(true, Relaxed);
    if BETWEEN_TAKES.load(Relaxed) {
        PAGE.store(take().map_or(NO_PAGE, |pfn| pfn.0), Relaxed);
    } else {
        // SAFETY: the test gave it away.
        unsafe { put(Pfn(PAGE.swap(NO_PAGE, Relaxed))) }
    }
}

/// The addresses of the sequence that `op` runs.
fn sequence_of(op: Op) -> core::ops::Range<usize> {
    loop {
        let page = take().expect("there is memory");
        let off = cpu::IrqOff::new();
        let again = match op {
            Op::Take => take(),
            _ => None,
        };
        let before = percpu::restartable().area().armed();
        // SAFETY: it is ours.
        unsafe { put(page) }
        let after = percpu::restartable().area().armed();
        drop(off);
        if let Some(page) = again {
            // SAFETY: it is ours.
            unsafe { put(page) }
        }
        let armed = match op {
            Op::Take => before,
            _ => after,
        };
        // `None`: an NMI came in between, and left it disarmed.
        if let Some(descriptor) = armed {
            return descriptor.start()..descriptor.end();
        }
    }
}

// P327: what was put is taken; P342: by one owner.
fn a_page_stopped_at_each_instruction_has_one_owner() {
    sched::set_affinity(Affinity::One(CpuId(0)));
    let ledger = Ledger::open();
    let quiet = disturb::quiet();
    traps::ON_DEBUG.set(Some(on_breakpoint));
    // `arch::stock` counts the instructions.
    let all = [Op::Take, Op::Put, Op::PutMovable];
    for (op, instructions) in [(Op::Take, 13), (Op::Put, 21)] {
        let sequence = sequence_of(op);
        for between in all {
            // Between two instructions there is nothing to stop at.
            let stops = sequence.clone().filter(|&at| stop_once(at, op, between));
            assert_eq!(stops.count(), instructions, "{between:?} in {op:?}");
        }
    }
    drop(quiet);
    ledger.close();
}

/// Runs `op`, stopped at `at`; false if there is no instruction.
fn stop_once(at: usize, op: Op, between: Op) -> bool {
    // Some are in the list, and there is room for more.
    let held: [Pfn; 6] = core::array::from_fn(|_| take().expect("there is memory"));
    // SAFETY: each page that is put was taken, and has no other owner.
    let put = |pfn| unsafe { put(pfn) };
    held[2..].iter().for_each(|pfn| put(*pfn));
    BETWEEN_TAKES.store(between == Op::Take, Relaxed);
    CAME.store(false, Relaxed);
    let page = match between {
        Op::Take => NO_PAGE,
        Op::Put => held[0].0,
        Op::PutMovable => take_movable().0,
    };
    PAGE.store(page, Relaxed);
    cpu::set_breakpoint(Some(at));
    let taken = match op {
        Op::Take => take(),
        _ => {
            put(held[1]);
            None
        }
    };
    cpu::set_breakpoint(None);
    // Whoever has a page now, and who can get one.
    let mut owned: Vec<Pfn> = taken.into_iter().collect();
    let page = PAGE.load(Relaxed);
    owned.extend((page != NO_PAGE).then_some(Pfn(page)));
    owned.extend((between != Op::Put).then_some(held[0]));
    owned.extend((op == Op::Take).then_some(held[1]));
    owned.extend((0..8).filter_map(|_| take()));
    owned.sort_unstable();
    let twice = owned.windows(2).find(|pair| pair[0] == pair[1]);
    assert_eq!(
        twice, None,
        "{between:?} in the middle of {op:?}, at {at:#x}"
    );
    owned.into_iter().for_each(put);
    CAME.load(Relaxed)
}

/// Which frames somebody has; one byte each.
static OWNED: AtomicPtr<Vec<AtomicU8>> = AtomicPtr::new(core::ptr::null_mut());
/// What the handlers of each CPU hold between two interrupts: of timers, and of NMIs.
static HELD: [[AtomicUsize; MAX_CPUS]; 2] =
    [const { [const { AtomicUsize::new(NO_PAGE) }; MAX_CPUS] }; 2];

/// Writes down a new owner, or that there is none any more.
fn owner_becomes(pfn: Pfn, owner: u8) {
    // SAFETY: the test leaked it before anybody comes here.
    let owned = unsafe { &*OWNED.load(Relaxed) };
    let frame = mm().pages().frames().index(pfn).expect("a frame");
    // Relaxed: the library orders who had a page before.
    Wrong::GivenTwice.unless(owned[frame].swap(owner, Relaxed) != owner);
}

fn take_noted() -> Option<Pfn> {
    let pfn = take()?;
    owner_becomes(pfn, 1);
    Some(pfn)
}

fn put_noted(pfn: Pfn) {
    owner_becomes(pfn, 0);
    // SAFETY: taken, and put once.
    unsafe { put(pfn) }
}

/// Every other time it takes a page, and puts it the next time.
fn step_of_handler(level: usize) {
    let held = &HELD[level][percpu::cpu() as usize];
    match held.swap(NO_PAGE, Relaxed) {
        NO_PAGE => held.store(take_noted().map_or(NO_PAGE, |pfn| pfn.0), Relaxed),
        frame => put_noted(Pfn(frame)),
    }
}

fn pages_have_one_owner_each_whatever_comes_between() {
    const ROUNDS: u32 = 50_000;
    let frames = mm().pages().frames().len();
    let owned: Vec<AtomicU8> = (0..frames).map(|_| AtomicU8::new(0)).collect();
    OWNED.store(Box::leak(Box::new(owned)), Relaxed);
    let ledger = Ledger::open();
    traps::ON_TIMER.set(Some(|_| step_of_handler(0)));
    traps::ON_NMI.set(Some(|_| step_of_handler(1)));
    let work = || {
        for round in 0..ROUNDS {
            let (first, second) = (take_noted(), take_noted());
            second.into_iter().chain(first).for_each(put_noted);
            if round % 64 == 0 {
                sched::yield_now();
            }
        }
    };
    // Some that move, and one that stays on each CPU.
    let movers: Vec<_> = (0..smp::count()).map(|_| spawn("moves", work)).collect();
    threads::on_all_cpus(|_| work());
    for task in movers {
        task.join().expect("it ends");
    }
    stop_handlers();
    ledger.close();
}

/// No handler uses pages any more; what they hold is given back.
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
        match held.swap(NO_PAGE, Relaxed) {
            NO_PAGE => {}
            frame => put_noted(Pfn(frame)),
        }
    }
}
