//! A claim of a CPU that is stopped at each of its instructions, while another comes to the same
//! CPU: never do both have it.
//!
//! As in `restart_steps`: with the trap flag on an area of the test's own, whose interrupt path is
//! the handler; with a breakpoint on the area that Linux knows; and the controls run the same
//! instructions with nothing for the interrupt path to find, and must see both have it.
#![cfg(all(target_arch = "x86_64", not(loom), not(gfp_tsan)))]

#[path = "common/child.rs"]
mod child;

use child::in_child;
use gfp::sync::restart::{Area, ByCpu, Claim, Claims, Cover, Covered, Current, Exposed};
use gfp_host::rseq::Rseq;
use std::arch::asm;
use std::cell::Cell;
use std::num::NonZeroUsize;
use std::ptr::{self, NonNull};
use std::sync::atomic::Ordering::Relaxed;

/// Instructions inside, as the module's documentation says.
const INSIDE: usize = 8;

const OURS: NonZeroUsize = NonZeroUsize::new(0x100).unwrap();
const THEIRS: NonZeroUsize = NonZeroUsize::new(0x200).unwrap();

/// What comes in between.
#[derive(Copy, Clone, PartialEq, Debug)]
enum Other {
    /// Another task claims the CPU and keeps it, as one that goes on elsewhere.
    Keeps,
    /// One claims it and gives it back.
    Visits,
    /// One bars it, from another CPU, and has it if it finds nobody there.
    Bars,
}

const OTHERS: [Other; 3] = [Other::Keeps, Other::Visits, Other::Bars];

/// The claims of all CPUs, of either kind.
trait Claiming {
    fn claim(&self, task: Current<'_>, owner: NonZeroUsize) -> bool;
}

/// The operation that is stopped: one place in the program for each kind.
#[inline(never)]
fn claim_once<C: Cover>(claims: &Claims<ByCpu, C>, task: Current<'_>, owner: NonZeroUsize) -> bool {
    claims.claim(task, owner).is_some()
}

impl<C: Cover> Claiming for Claims<ByCpu, C> {
    fn claim(&self, task: Current<'_>, owner: NonZeroUsize) -> bool {
        claim_once(self, task, owner)
    }
}

struct Run<'a> {
    claims: &'a dyn Claiming,
    words: &'a Claim,
    task: Current<'a>,
    other: Other,
    /// At which trap the handler acts.
    stop_at: usize,
    steps: Cell<usize>,
    stopped_ip: Cell<usize>,
    restarted: Cell<bool>,
    /// The other has the CPU now.
    theirs: Cell<bool>,
    /// The byte that the breakpoint replaced, where there is one.
    breakpoint: Option<u8>,
}

thread_local! {
    static RUN: Cell<*const Run<'static>> = const { Cell::new(ptr::null()) };
}

impl Run<'_> {
    fn other_comes(&self) {
        let has = match self.other {
            Other::Keeps => self.claims.claim(self.task, THEIRS),
            Other::Visits => {
                if self.claims.claim(self.task, THEIRS) {
                    self.words.owner.store(0, Relaxed);
                }
                false
            }
            Other::Bars => {
                self.words.barred.store(1, Relaxed);
                self.words.owner.load(Relaxed) == 0
            }
        };
        self.theirs.set(has);
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
    match run.breakpoint {
        None => {
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
    run.other_comes();
}

fn catch_traps() {
    // SAFETY: the handler touches only what the run of its thread names.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_trap as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        assert_eq!(libc::sigaction(libc::SIGTRAP, &action, ptr::null_mut()), 0);
    }
}

/// Where the claim is stopped.
#[derive(Copy, Clone)]
enum Stop {
    /// At this trap of its run.
    AtStep(usize),
    /// At the breakpoint there, which replaced the byte.
    AtBreakpoint(usize, u8),
}

/// What one run showed.
struct Shown {
    /// The claim came to where it was to be stopped.
    reached: bool,
    ip: usize,
    restarted: bool,
    ours: bool,
    theirs: bool,
}

impl Shown {
    /// One has the CPU, or nobody because it is barred.
    fn is_right(&self, other: Other) -> bool {
        match other {
            Other::Visits => self.ours,
            Other::Keeps | Other::Bars => self.ours != self.theirs,
        }
    }
}

#[inline(never)]
fn run<C: Cover + 'static>(task: Current<'_>, words: &[Claim], other: Other, stop: Stop) -> Shown {
    let base = NonNull::from(words).cast();
    // SAFETY: there are words for each CPU; what nothing covers is the control.
    let claims: Claims<ByCpu, C> = unsafe { Claims::new(base, size_of::<Claim>()) };
    let cpu = task.area().cpu().unwrap() as usize;
    let (stop_at, stopped_ip, breakpoint) = match stop {
        Stop::AtStep(step) => (step, 0, None),
        Stop::AtBreakpoint(ip, byte) => (0, ip, Some(byte)),
    };
    let run = Run {
        claims: &claims,
        words: &words[cpu],
        task,
        other,
        stop_at,
        steps: Cell::new(0),
        stopped_ip: Cell::new(stopped_ip),
        restarted: Cell::new(false),
        theirs: Cell::new(false),
        breakpoint,
    };
    RUN.set(ptr::from_ref(&run).cast());
    if let Stop::AtStep(_) = stop {
        // SAFETY: sets the trap flag: the handler is there. The stack is used as a stack.
        unsafe { asm!("pushfq", "or qword ptr [rsp], 0x100", "popfq") };
    }
    let ours = claim_once(&claims, task, OURS);
    // SAFETY: clears it.
    unsafe { asm!("pushfq", "and qword ptr [rsp], -0x101", "popfq") };
    RUN.set(ptr::null());
    Shown {
        reached: run.steps.get() > stop_at,
        ip: run.stopped_ip.get(),
        restarted: run.restarted.get(),
        ours,
        theirs: run.theirs.get(),
    }
}

fn words(cpus: u32) -> Vec<Claim> {
    (0..cpus).map(|_| Claim::default()).collect()
}

/// All runs, each stopped one instruction later than the one before.
fn all_steps<C: Cover + 'static>(other: Other) -> Vec<Shown> {
    catch_traps();
    let area = Area::new();
    // SAFETY: nobody runs sequences on it yet.
    unsafe { area.set_cpu(1, 0) };
    // SAFETY: who interrupts is our handler, which looks at this area.
    let task = unsafe { Current::new(&area) };
    let mut all = Vec::new();
    for step in 0.. {
        let shown = run::<C>(task, &words(2), other, Stop::AtStep(step));
        if !shown.reached {
            assert!(shown.ours, "undisturbed");
            return all;
        }
        all.push(shown);
    }
    unreachable!()
}

#[test]
fn stopped_at_each_instruction_one_has_the_cpu() {
    for other in OTHERS {
        let all = all_steps::<Covered>(other);
        for shown in &all {
            assert!(shown.is_right(other), "{other:?} at {:#x}", shown.ip);
        }
        let restarts = all.iter().filter(|shown| shown.restarted).count();
        assert_eq!(restarts, INSIDE, "{other:?}");
        assert!(restarts + 4 < all.len(), "it was stopped around, too");
        let late = all.iter().filter(|shown| shown.ours).count();
        assert!(late > 0, "{other:?} came too late at least once");
    }
}

#[test]
fn control_the_same_instructions_without_a_restart_give_the_cpu_to_both() {
    for other in [Other::Keeps, Other::Bars] {
        let all = all_steps::<Exposed>(other);
        assert!(all.iter().all(|shown| !shown.restarted));
        let both = all.iter().filter(|shown| shown.ours && shown.theirs);
        assert!(both.count() > 0, "{other:?}: a missing restart is not seen");
    }
}

#[test]
fn linux_restarts_a_claim_that_is_stopped_at_each_instruction() {
    let Some(rseq) = Rseq::find() else { return };
    for other in OTHERS {
        let all = all_steps::<Covered>(other);
        for shown in all.iter().filter(|shown| shown.restarted) {
            let words = words(rseq.nr_cpus());
            let status = in_child(|| broken_at::<Covered>(rseq, &words, other, shown.ip));
            let right = if other == Other::Visits {
                OURS_HAS
            } else {
                THEIRS_HAS
            };
            assert_eq!(status, RESTARTED | right, "{other:?} at {:#x}", shown.ip);
        }
    }
}

#[test]
fn control_linux_restarts_nothing_that_no_descriptor_covers() {
    let Some(rseq) = Rseq::find() else { return };
    for other in [Other::Keeps, Other::Bars] {
        let all = all_steps::<Exposed>(other);
        let both = all.iter().rfind(|shown| shown.ours && shown.theirs);
        let ip = both.expect("as the other control shows").ip;
        let words = words(rseq.nr_cpus());
        let status = in_child(|| broken_at::<Exposed>(rseq, &words, other, ip));
        assert_eq!(status, OURS_HAS | THEIRS_HAS, "{other:?} at {ip:#x}");
    }
}

const RESTARTED: i32 = 1;
const OURS_HAS: i32 = 2;
const THEIRS_HAS: i32 = 4;

/// In a child: a breakpoint at `ip`, in its own copy of the page, then the claim.
fn broken_at<C: Cover + 'static>(rseq: Rseq, words: &[Claim], other: Other, ip: usize) -> i32 {
    const PAGE: usize = 4096;
    catch_traps();
    let task = rseq.current().unwrap();
    // SAFETY: a set of CPUs on our stack; 0 is the calling thread.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(task.area().cpu().unwrap() as usize, &mut set);
        assert_eq!(libc::sched_setaffinity(0, size_of_val(&set), &set), 0);
    }
    let page = (ip & !(PAGE - 1)) as *mut libc::c_void;
    let all = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
    // SAFETY: private copies of our own code, which this one thread runs; int3 is one byte.
    let byte = unsafe {
        assert_eq!(libc::mprotect(page, 2 * PAGE, all), 0);
        let byte = (ip as *const u8).read_volatile();
        (ip as *mut u8).write_volatile(0xcc);
        byte
    };
    let shown = run::<C>(task, words, other, Stop::AtBreakpoint(ip, byte));
    if !shown.reached {
        return -1;
    }
    i32::from(shown.restarted) * RESTARTED
        + i32::from(shown.ours) * OURS_HAS
        + i32::from(shown.theirs) * THEIRS_HAS
}
