//! Tokens go round over the stacks of all CPUs: more threads than cores, moved between CPUs, with
//! signal handlers that pop and push in between, while another thread closes stacks and shuffles
//! what is there. A map says who has each token: one given twice is seen at once, one lost at the
//! end. The same with plain arrays inside the sections of machines, whose CPUs are places of
//! processors, or slots.
//!
//! `GFP_STRESS_SEED` and `GFP_STRESS_ROUNDS` set seed and length.
#![cfg(all(target_arch = "x86_64", not(loom)))]

#[path = "common/per_cpu.rs"]
mod per_cpu;

use gfp::frame::CpuId;
use gfp::platform::Platform;
use gfp::sync::restart::{ByCid, ByCpu, PushError, Shape, Stacks};
use gfp_host::rseq::{Reach, Rseq};
use gfp_host::slots;
use gfp_host::{HostConfig, HostError, HostPlatform, PerCpu};
use std::cell::{Cell, UnsafeCell};
use std::ptr::NonNull;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::thread;

const THREADS: usize = 8;
const TOKENS: usize = 64;
const ROUNDS: u64 = 400_000;
/// Set in the child that runs without a registration.
const EXPECT_FALLBACK: &str = "GFP_EXPECT_FALLBACK";

/// Where tokens wait: the stacks of the CPUs, or what a thread-bound slot has.
trait Store: Sync {
    fn pop(&self) -> Option<usize>;
    /// False: not now.
    fn push(&self, token: usize) -> bool;
    /// Takes one CPU's stack from outside and turns it round.
    fn shuffle(&self, random: u64);
    /// All that is there, once nobody works any more.
    fn drain(&self) -> Vec<usize>;
}

/// Restartable.
struct Restartable<I: Reach> {
    rseq: Rseq,
    stacks: Stacks<I>,
    _memory: Vec<u64>,
}

impl<I: Reach> Restartable<I> {
    fn new(rseq: Rseq) -> Self {
        let shape = Shape::new(rseq.nr_cpus(), TOKENS as u32);
        let mut memory = vec![0u64; shape.bytes() / 8];
        let base = NonNull::new(memory.as_mut_ptr()).unwrap().cast();
        // SAFETY: the memory is as large as the shape says, and lives as long; ids of threads are
        // below the number of possible CPUs.
        let stacks = unsafe { Stacks::new(base, shape) };
        Restartable {
            rseq,
            stacks,
            _memory: memory,
        }
    }
}

impl<I: Reach> Store for Restartable<I> {
    fn pop(&self) -> Option<usize> {
        self.stacks.pop(self.rseq.current().unwrap()).ok()
    }

    fn push(&self, token: usize) -> bool {
        match self.stacks.push(self.rseq.current().unwrap(), token) {
            Ok(()) => true,
            Err(PushError::Closed) => false,
            Err(PushError::Full) => panic!("there is room for every token"),
        }
    }

    fn shuffle(&self, random: u64) {
        let cpu = CpuId((random % u64::from(self.rseq.nr_cpus())) as u32);
        let mut closed = self.rseq.close(&self.stacks, cpu).expect("one closer only");
        assert!(self.stacks.close(cpu).is_none());
        let words: Vec<_> = std::iter::from_fn(|| closed.pop()).collect();
        for word in words {
            closed.push(word).unwrap();
        }
    }

    fn drain(&self) -> Vec<usize> {
        let all = 0..self.rseq.nr_cpus();
        all.flat_map(|cpu| {
            let mut closed = self.rseq.close(&self.stacks, CpuId(cpu)).unwrap();
            std::iter::from_fn(move || closed.pop()).collect::<Vec<_>>()
        })
        .collect()
    }
}

/// An array for each CPU of a machine, touched inside its section.
struct Sectioned {
    machine: HostPlatform,
    arrays: Vec<UnsafeCell<Vec<usize>>>,
}

// SAFETY: [INV-PCPU-1] each array is touched in the section of its CPU.
unsafe impl Sync for Sectioned {}

impl Sectioned {
    fn new(kind: PerCpu) -> Sectioned {
        let machine = HostPlatform::new(&HostConfig::new(4096).per_cpu(kind)).unwrap();
        let array = |_| UnsafeCell::new(Vec::with_capacity(TOKENS));
        Sectioned {
            arrays: (0..machine.nr_cpus()).map(array).collect(),
            machine,
        }
    }

    fn with<R>(&self, work: impl FnOnce(&mut Vec<usize>) -> R) -> Option<R> {
        let (cpu, _section) = self.machine.enter().ok()?;
        // SAFETY: as above.
        Some(work(unsafe { &mut *self.arrays[cpu.0 as usize].get() }))
    }
}

impl Store for Sectioned {
    fn pop(&self) -> Option<usize> {
        self.with(Vec::pop).flatten()
    }

    fn push(&self, token: usize) -> bool {
        self.with(|array| array.push(token)).is_some()
    }

    fn shuffle(&self, random: u64) {
        // Those of the first threads, or of processors, and the guest's.
        let first = self.machine.nr_cpus().min(THREADS as u32 + 2);
        let cpu = match (random % u64::from(first + 1)) as u32 {
            cpu if cpu == first => self.machine.nr_cpus() - 1,
            cpu => cpu,
        };
        if let Some(_section) = self.machine.enter_remote(CpuId(cpu)) {
            // SAFETY: as above.
            unsafe { &mut *self.arrays[cpu as usize].get() }.reverse();
        }
    }

    fn drain(&self) -> Vec<usize> {
        // SAFETY: nobody works any more.
        let all = self.arrays.iter().flat_map(|a| unsafe { &*a.get() });
        all.copied().collect()
    }
}

/// What one test's threads share.
struct World<'a> {
    store: &'a dyn Store,
    /// Who has each token: 0 nobody.
    owners: Vec<AtomicU32>,
    /// The token that the handlers of each thread keep for the next time, or [`NOTHING`]. (A
    /// handler that brought back what it took would leave the stack as if it had never been.)
    pockets: Vec<AtomicUsize>,
    handled: AtomicU64,
}

const NOTHING: usize = usize::MAX;
/// What a thread's handlers are called in the map: this more than the thread.
const HANDLER: u32 = 1000;

impl World<'_> {
    /// Takes a token, if there is one here.
    fn take(&self, me: u32) -> Option<usize> {
        let token = self.store.pop()?;
        // AcqRel: the map alone orders who had the token before.
        let before = self.owners[token].swap(me, Ordering::AcqRel);
        assert_eq!(before, 0, "token {token} is given to {me} too");
        Some(token)
    }

    /// Takes a token and brings back the one that handlers of thread `me` took before.
    fn exchange(&self, me: u32) {
        if let Some(token) = self.take(me + HANDLER) {
            self.empty_pocket(me, token);
        }
    }

    fn empty_pocket(&self, me: u32, next: usize) {
        // Relaxed: the thread's own.
        let before = self.pockets[me as usize].swap(next, Ordering::Relaxed);
        if before != NOTHING {
            self.give_back(before, me + HANDLER);
        }
    }

    fn give_back(&self, token: usize, me: u32) {
        let before = self.owners[token].swap(0, Ordering::AcqRel);
        assert_eq!(before, me, "token {token} of {me}");
        while !self.store.push(token) {
            thread::yield_now(); // closed: its owner is another thread, and goes on
        }
    }
}

thread_local! {
    /// For the handler: the world and who this thread is; null outside of a test.
    static WORLD: Cell<(*const World<'static>, u32)> = const { Cell::new((std::ptr::null(), 0)) };
}

extern "C" fn on_signal(_: i32) {
    let (world, me) = WORLD.get();
    // SAFETY: null, or set by this thread to a world that outlives its work.
    let Some(world) = (unsafe { world.as_ref() }) else {
        return;
    };
    // A slot that the signal interrupted refuses; a push that it refused would never come to an
    // end.
    if slots::is_inside() {
        return;
    }
    world.exchange(me);
    world.handled.fetch_add(1, Ordering::Relaxed);
}

fn next(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// Lets this thread run on one CPU of those that it had, or on all of them again.
fn move_about(all: &libc::cpu_set_t, random: u64) {
    // SAFETY: sets of CPUs on our stack; 0 is the calling thread.
    unsafe {
        let mut one: libc::cpu_set_t = std::mem::zeroed();
        let cpu = (random % 64) as usize;
        libc::CPU_SET(cpu, &mut one);
        let set = if libc::CPU_ISSET(cpu, all) { &one } else { all };
        let size = size_of::<libc::cpu_set_t>();
        assert_eq!(libc::sched_setaffinity(0, size, set), 0);
    }
}

fn worker(world: &World<'_>, all: &libc::cpu_set_t, me: u32, mut seed: u64, rounds: u64) {
    let share = TOKENS / THREADS;
    let first = (me as usize - 1) * share;
    for token in first..first + share {
        world.give_back(token, me);
    }
    WORLD.set((std::ptr::from_ref(world).cast(), me));
    for _ in 0..rounds {
        if let Some(token) = world.take(me) {
            world.give_back(token, me);
        }
        match next(&mut seed) % 512 {
            random @ 0..4 => move_about(all, next(&mut seed) + random),
            4..8 => thread::yield_now(),
            _ => {}
        }
    }
    WORLD.set((std::ptr::null(), 0));
    world.empty_pocket(me, NOTHING);
}

/// The whole test over `store`.
fn circulate(store: &dyn Store, rounds: u64) {
    // SAFETY: the handler touches what its thread set for it; zeroed sets are empty ones.
    let all = unsafe {
        let handler = on_signal as extern "C" fn(i32) as usize;
        assert_ne!(libc::signal(libc::SIGUSR1, handler), libc::SIG_ERR);
        let mut all: libc::cpu_set_t = std::mem::zeroed();
        let size = size_of::<libc::cpu_set_t>();
        assert_eq!(libc::sched_getaffinity(0, size, &mut all), 0);
        all
    };
    let seed = setting("GFP_STRESS_SEED", 0x9e37_79b9_7f4a_7c15);
    let rounds = setting("GFP_STRESS_ROUNDS", rounds);
    println!("repeat with: GFP_STRESS_SEED={seed} GFP_STRESS_ROUNDS={rounds}");
    // Who brings the first tokens owns them.
    let owner = |token: usize| AtomicU32::new((token / (TOKENS / THREADS)) as u32 + 1);
    let world = World {
        store,
        owners: (0..TOKENS).map(owner).collect(),
        pockets: (0..=THREADS).map(|_| AtomicUsize::new(NOTHING)).collect(),
        handled: AtomicU64::new(0),
    };
    let working = AtomicU32::new(THREADS as u32);
    // Atomics, as ThreadSanitizer does not see std's locks.
    let ids = [const { AtomicU64::new(0) }; THREADS];
    let (begin, stormed) = (Barrier::new(THREADS + 1), AtomicBool::new(false));
    thread::scope(|scope| {
        let start = |me: u32| {
            let (world, all, working, ids) = (&world, &all, &working, &ids);
            let (begin, stormed) = (&begin, &stormed);
            scope.spawn(move || {
                // SAFETY: always valid to call.
                ids[me as usize - 1].store(unsafe { libc::pthread_self() }, Ordering::Release);
                begin.wait();
                worker(world, all, me, seed ^ u64::from(me), rounds);
                working.fetch_sub(1, Ordering::Release);
                // The thread must be there as long as signals are sent to it.
                while !stormed.load(Ordering::Acquire) {
                    thread::yield_now();
                }
            })
        };
        let threads: Vec<_> = (1..=THREADS as u32).map(start).collect();
        begin.wait();
        // Acquire: pairs with the Release of each thread, before the barrier.
        let ids = ids.each_ref().map(|id| id.load(Ordering::Acquire));
        storm(&world, &ids, &working, seed);
        stormed.store(true, Ordering::Release);
        // ThreadSanitizer sees a join, not the end of a scope.
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
    });
    let mut left = store.drain();
    left.sort_unstable();
    assert_eq!(left, (0..TOKENS).collect::<Vec<_>>(), "each token once");
    assert!(
        world
            .owners
            .iter()
            .all(|owner| owner.load(Ordering::Acquire) == 0)
    );
    assert!(
        world.handled.load(Ordering::Relaxed) > 0,
        "no signal came in between"
    );
}

/// Signals for all threads, and stacks closed from outside, until nobody works any more.
fn storm(world: &World<'_>, ids: &[libc::pthread_t], working: &AtomicU32, mut seed: u64) {
    while working.load(Ordering::Acquire) > 0 {
        let random = next(&mut seed);
        let target = ids[random as usize % ids.len()];
        // SAFETY: the thread waits until the storm is over.
        assert_eq!(unsafe { libc::pthread_kill(target, libc::SIGUSR1) }, 0);
        if random >> 32 & 3 == 0 {
            world.store.shuffle(random >> 40);
        }
    }
}

#[test]
fn tokens_circulate_over_all_cpus_without_loss_or_double() {
    let found = Rseq::find();
    if std::env::var_os(EXPECT_FALLBACK).is_some() {
        assert!(found.is_none(), "the registration is switched off");
        for kind in [PerCpu::Rseq, PerCpu::RseqByCpu] {
            let refused = HostPlatform::new(&HostConfig::new(4096).per_cpu(kind));
            let error = refused.expect_err("nothing falls back by itself");
            assert_eq!(error, HostError::NoRseq);
            assert!(error.to_string().contains("PerCpu::Slots"), "{error}");
        }
    }
    let Some(rseq) = found else {
        // The answer where rseq is missing.
        return circulate(&Sectioned::new(PerCpu::Slots), ROUNDS);
    };
    circulate(&Restartable::<ByCpu>::new(rseq), ROUNDS);
    // The kernel says whether it has compact ids: an area that it does not keep up to date reads 0.
    if rseq.has_cid() {
        circulate(&Restartable::<ByCid>::new(rseq), ROUNDS);
    }
}

#[test]
fn tokens_in_plain_arrays_circulate_under_sections_of_all_kinds() {
    for kind in per_cpu::kinds() {
        circulate(&Sectioned::new(kind), ROUNDS / 4);
    }
}

#[test]
fn without_a_registration_the_answer_is_none_and_the_slots_serve() {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command
        .args([
            "--exact",
            "tokens_circulate_over_all_cpus_without_loss_or_double",
        ])
        .env("GLIBC_TUNABLES", "glibc.pthread.rseq=0")
        .env("GFP_STRESS_ROUNDS", "20000")
        .env(EXPECT_FALLBACK, "1");
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("1 passed"), "{text}");
}

#[test]
fn every_thread_has_an_area_of_its_own_that_says_where_it_runs() {
    let Some(rseq) = Rseq::find() else {
        return circulate(&Sectioned::new(PerCpu::Slots), ROUNDS);
    };
    let area_of = || std::ptr::from_ref(rseq.current().unwrap().area()).addr();
    let mine = area_of();
    let theirs = thread::scope(|scope| scope.spawn(area_of).join().unwrap());
    assert_ne!(mine, theirs);
    let area = rseq.current().unwrap().area();
    assert!(area.cpu().unwrap() < rseq.nr_cpus());
    // Bound to each CPU in turn, the area says so.
    // SAFETY: sets of CPUs on our stack; 0 is the calling thread.
    unsafe {
        let (mut all, size): (libc::cpu_set_t, _) =
            (std::mem::zeroed(), size_of::<libc::cpu_set_t>());
        assert_eq!(libc::sched_getaffinity(0, size, &mut all), 0);
        for cpu in (0..rseq.nr_cpus()).filter(|cpu| libc::CPU_ISSET(*cpu as usize, &all)) {
            let mut one: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(cpu as usize, &mut one);
            assert_eq!(libc::sched_setaffinity(0, size, &one), 0);
            assert_eq!(area.cpu(), Some(cpu));
        }
        assert_eq!(libc::sched_setaffinity(0, size, &all), 0);
    }
}
