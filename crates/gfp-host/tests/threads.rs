//! CPUs of all kinds in a real process: signals, threads that end, fork.
#![cfg(not(loom))]

#[path = "common/child.rs"]
mod child;
#[path = "common/per_cpu.rs"]
mod per_cpu;

use child::in_child;
use gfp::frame::CpuId;
use gfp::platform::{Context, Nested, Platform};
use gfp_host::slots::{self, GUEST};
use gfp_host::{HostConfig, HostPlatform, fork};
use std::cell::Cell;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread;

const RAM: usize = 16 << 20;

/// A machine with CPUs of each kind.
fn machines() -> Vec<HostPlatform> {
    let kinds = per_cpu::kinds().into_iter();
    let machine = |kind| HostPlatform::new(&HostConfig::new(RAM).per_cpu(kind)).unwrap();
    kinds.map(machine).collect()
}

// --- signals ---

thread_local! {
    /// The machine that the handler enters; null: none.
    static MACHINE: Cell<*const HostPlatform> = const { Cell::new(ptr::null()) };
    /// What the handler found: 0 not run, 1 nested, 2 entered.
    static SEEN: Cell<u32> = const { Cell::new(0) };
}

extern "C" fn handler(_: i32) {
    // SAFETY: null, or a machine of the test that runs on this thread.
    let Some(machine) = (unsafe { MACHINE.get().as_ref() }) else {
        return;
    };
    SEEN.set(match machine.enter() {
        Err(Nested) => {
            assert!(slots::is_inside() && machine.enter_remote(CpuId(0)).is_none());
            assert!(machine.enter_quick().is_none());
            1
        }
        Ok(_) => 2,
    });
}

fn raise_seen(machine: &HostPlatform, signal: i32) -> u32 {
    MACHINE.set(machine);
    SEEN.set(0);
    // SAFETY: the handler is async-signal-safe.
    assert_eq!(unsafe { libc::raise(signal) }, 0);
    SEEN.get()
}

fn handle(signal: i32) {
    // SAFETY: the handler is async-signal-safe.
    let old = unsafe { libc::signal(signal, handler as extern "C" fn(i32) as usize) };
    assert_ne!(old, libc::SIG_ERR);
}

#[test]
fn a_signal_handler_inside_a_section_is_told_so() {
    handle(libc::SIGUSR1);
    let all = machines();
    for machine in &all {
        let seen = || all.iter().map(|other| raise_seen(other, libc::SIGUSR1));
        let (free, nested) = (vec![2; all.len()], vec![1; all.len()]);
        assert!(seen().eq(free.clone()));
        assert_eq!(machine.context(), Context::Task);
        let (cpu, section) = machine.enter().unwrap();
        assert_eq!(machine.context(), Context::Nmi);
        assert!(seen().eq(nested.clone()), "of whatever machine");
        drop(section);
        assert!(seen().eq(free.clone()));
        let remote = machine.enter_remote(cpu).unwrap();
        assert!(seen().eq(nested));
        drop(remote);
        assert!(seen().eq(free));
        MACHINE.set(ptr::null());
    }
}

#[test]
fn a_thread_keeps_its_slot() {
    let machine = &machines()[0];
    let (cpu, section) = machine.enter().unwrap();
    assert_eq!(slots::current(), Some(cpu));
    drop(section);
    assert_eq!(machine.enter().unwrap().0, cpu);
}

#[test]
fn signals_at_any_instruction_leave_the_cpu_whole() {
    handle(libc::SIGUSR2);
    for machine in &machines() {
        signals_at_any_instruction(machine);
    }
    MACHINE.set(ptr::null());
}

fn signals_at_any_instruction(machine: &HostPlatform) {
    MACHINE.set(machine);
    SEEN.set(0);
    let stop = AtomicBool::new(false);
    // SAFETY: always valid to call.
    let target = unsafe { libc::pthread_self() };
    thread::scope(|scope| {
        let sender = scope.spawn(|| {
            for _ in 0..20_000 {
                // SAFETY: the target thread outlives the scope.
                assert_eq!(unsafe { libc::pthread_kill(target, libc::SIGUSR2) }, 0);
            }
            stop.store(true, Ordering::Release);
        });
        let mut entries = 0u64;
        // Once at least: on a busy machine the other may be done before this thread runs at all.
        while entries == 0 || !stop.load(Ordering::Acquire) {
            let section = machine.enter().expect("outside");
            assert!(machine.enter().is_err());
            drop(section);
            entries += 1;
        }
        sender.join().unwrap(); // as below
    });
    // ThreadSanitizer puts signals off until the thread blocks.
    assert!(SEEN.get() != 0 || cfg!(gfp_tsan), "the handler ran");
    assert!(!slots::is_inside());
}

// --- threads that end ---

/// Thread exits and hooks are the process's: tests that count them run one at a time.
static EXITS: Mutex<()> = Mutex::new(());

unsafe fn count_exit(data: *const (), cpu: CpuId) {
    assert_eq!(slots::current(), Some(cpu));
    assert!(slots::enter().is_ok(), "a hook may enter");
    // SAFETY: the test passes a counter that outlives the hook.
    unsafe { &*data.cast::<AtomicU32>() }.fetch_add(1, Ordering::Relaxed);
}

#[test]
fn slots_of_threads_that_ended_are_used_again() {
    let _guard = EXITS.lock().unwrap_or_else(|e| e.into_inner());
    let count = AtomicU32::new(0);
    let data = (&raw const count).cast();
    // SAFETY: `count` outlives the hook, and may be used on any thread.
    let hook = unsafe { slots::on_thread_exit(count_exit, data) }.unwrap();
    let mut highest = 0;
    for _ in 0..2_000 {
        let used = thread::spawn(|| {
            let (cpu, section) = slots::enter().unwrap();
            drop(section);
            cpu
        });
        highest = highest.max(used.join().unwrap().0);
    }
    drop(hook);
    assert!(highest < 256, "slots are given back: {highest}");
    assert!(
        count.load(Ordering::Relaxed) >= 2_000,
        "the hook ran at each end"
    );
}

#[test]
fn hooks_are_few_and_can_be_dropped() {
    unsafe fn nothing(_: *const (), _: CpuId) {}
    let _guard = EXITS.lock().unwrap_or_else(|e| e.into_inner());
    // SAFETY: the hook does nothing.
    let register = || unsafe { slots::on_thread_exit(nothing, std::ptr::null()) };
    let mut hooks: Vec<_> = (0..slots::MAX_HOOKS).map(|_| register().unwrap()).collect();
    assert_eq!(register().unwrap_err(), slots::HookError);
    hooks.pop();
    hooks.push(register().unwrap());
}

static LATE_CPU: AtomicU32 = AtomicU32::new(u32::MAX);

unsafe extern "C" fn late_destructor(_: *mut std::ffi::c_void) {
    LATE_CPU.store(slots::enter().expect("outside").0.0, Ordering::Relaxed);
}

#[test]
fn after_its_destructors_a_thread_is_a_guest() {
    drop(slots::enter()); // our key is made first, so that its destructor runs first
    let mut key = 0;
    // SAFETY: `key` is a place for a key.
    let made = unsafe { libc::pthread_key_create(&mut key, Some(late_destructor)) };
    assert_eq!(made, 0);
    thread::spawn(move || {
        assert_ne!(slots::enter().unwrap().0, GUEST);
        // SAFETY: the key was made above; the value is never used.
        let set = unsafe { libc::pthread_setspecific(key, (&raw const LATE_CPU).cast()) };
        assert_eq!(set, 0);
    })
    .join()
    .unwrap();
    assert_eq!(LATE_CPU.load(Ordering::Relaxed), GUEST.0);
}

// --- fork ---

/// Tells the other threads to end, also when an assertion fails.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[test]
fn a_fork_amid_sections_leaves_parent_and_child_able_to_enter() {
    fork::install().unwrap();
    fork::install().unwrap();
    for machine in &machines() {
        fork_amid_sections(machine);
    }
}

fn fork_amid_sections(machine: &HostPlatform) {
    const HAMMERS: usize = 3;
    const FORKS: usize = 50;
    let by_thread = machine.nr_cpus() == GUEST.0 + 1;
    let stop = AtomicBool::new(false);
    let inside = AtomicUsize::new(0);
    let ready = Barrier::new(HAMMERS + 1);
    let cpus = [const { AtomicU32::new(u32::MAX) }; HAMMERS];
    thread::scope(|scope| {
        let hammer = |cpu| {
            let (stop, inside, ready) = (&stop, &inside, &ready);
            let cpu: &AtomicU32 = cpu;
            scope.spawn(move || {
                cpu.store(machine.enter().unwrap().0.0, Ordering::Relaxed);
                ready.wait();
                while !stop.load(Ordering::Relaxed) {
                    let section = machine.enter().unwrap();
                    inside.fetch_add(1, Ordering::Relaxed);
                    std::hint::black_box(&section);
                    inside.fetch_sub(1, Ordering::Relaxed);
                    drop(section);
                }
            })
        };
        let hammers: Vec<_> = cpus.iter().map(hammer).collect();
        let mine = machine.enter().unwrap().0;
        ready.wait();
        let at_end = StopOnDrop(&stop);
        let cpus = cpus
            .each_ref()
            .map(|cpu| CpuId(cpu.load(Ordering::Relaxed)));
        for _ in 0..FORKS {
            let answer = in_child(|| {
                if inside.load(Ordering::Relaxed) != 0 {
                    return 1; // somebody was copied inside a section
                }
                match machine.enter() {
                    Ok((cpu, _)) if !by_thread || cpu == mine => {}
                    _ => return 2,
                }
                // CPUs of threads that do not exist here can be drained.
                let refuses = |cpu: &CpuId| machine.enter_remote(*cpu).is_none();
                i32::from(cpus.iter().any(refuses)) * 3
            });
            assert_eq!(answer, 0);
            let cpu = machine.enter().unwrap().0;
            assert!(!by_thread || cpu == mine);
        }
        drop(at_end);
        // ThreadSanitizer sees a join, not the end of a scope.
        hammers.into_iter().for_each(|t| t.join().unwrap());
    });
}

#[test]
fn who_is_about_to_fork_may_enter() {
    for machine in &machines() {
        drop(machine.enter());
        let answer = in_child(|| {
            fork::quiesce();
            let (cpu, section) = machine.enter().expect("the forking thread");
            if machine.enter().is_ok() || machine.enter_remote(cpu).is_some() {
                return 1;
            }
            drop(section);
            fork::resume_parent();
            i32::from(machine.enter_remote(cpu).is_none()) * 2
        });
        assert_eq!(answer, 0);
    }
}

#[test]
fn what_a_thread_had_that_ended_inside_is_not_used_again() {
    if cfg!(gfp_tsan) {
        return; // it starts no threads in a child
    }
    // The hook of another test, which the child would have, does not expect that.
    let _guard = EXITS.lock().unwrap_or_else(|e| e.into_inner());
    for machine in &machines() {
        // In a child, as it stays lost there.
        let answer = in_child(|| {
            stay_here();
            let theirs = thread::scope(|scope| {
                let thread = scope.spawn(|| {
                    let (cpu, section) = machine.enter().unwrap();
                    std::mem::forget(section);
                    cpu
                });
                thread.join().unwrap()
            });
            match machine.enter() {
                Ok((cpu, _)) if cpu != theirs => {}
                _ => return 1,
            }
            i32::from(machine.enter_remote(theirs).is_some()) * 2
        });
        assert_eq!(answer, 0);
    }
}

/// Binds the calling thread, and those that it starts, to the processor that it is on.
fn stay_here() {
    // SAFETY: a set of CPUs on our stack; 0 is the calling thread.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(libc::sched_getcpu() as usize, &mut set);
        assert_eq!(libc::sched_setaffinity(0, size_of_val(&set), &set), 0);
    }
}

#[test]
fn a_cpu_whose_owner_is_elsewhere_is_not_waited_for() {
    if cfg!(gfp_tsan) {
        return; // as above
    }
    for machine in &machines() {
        let answer = in_child(|| {
            stay_here();
            // One processor, and a thread that sleeps inside.
            let (ready, done) = (Barrier::new(2), Barrier::new(2));
            thread::scope(|scope| {
                let sleeper = scope.spawn(|| {
                    let (cpu, section) = machine.enter().unwrap();
                    ready.wait();
                    done.wait();
                    drop(section);
                    cpu
                });
                ready.wait();
                let ours = machine.enter().map(|(cpu, _)| cpu);
                done.wait();
                i32::from(ours == Ok(sleeper.join().unwrap()))
            })
        });
        assert_eq!(answer, 0);
    }
}
