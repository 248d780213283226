//! A storm of signals whose handlers allocate and free without waiting, over threads that do so all
//! the time.
#![cfg(not(loom))]

#[path = "common/per_cpu.rs"]
mod per_cpu;

use gfp::flags::{GFP_KERNEL, Gfp};
use gfp::frame::Pfn;
use gfp::page::BootConfig;
use gfp_host::{HostConfig, HostPlatform, PerCpu};
use std::cell::Cell;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::thread;

type Mm = gfp::Mm<HostPlatform>;

/// The machine of the handlers; null: none.
static MM: AtomicPtr<Mm> = AtomicPtr::new(null_mut());
static GIVEN: AtomicU64 = AtomicU64::new(0);
static REFUSED: AtomicU64 = AtomicU64::new(0);
/// Handlers that have run.
static STORMS: AtomicU64 = AtomicU64::new(0);
/// A handler found memory changed that was its own.
static SPOILED: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// What this thread's handlers hold, and how often they ran.
    static HELD: [Cell<*mut u8>; 8] = const { [const { Cell::new(null_mut()) }; 8] };
    static PAGE: Cell<Option<Pfn>> = const { Cell::new(None) };
    static RUNS: Cell<usize> = const { Cell::new(0) };
}

fn free_held(mm: &Mm, at: &Cell<*mut u8>) -> bool {
    let held = at.replace(null_mut());
    if held.is_null() {
        return false;
    }
    // SAFETY: at least 8 bytes that this thread's handlers own.
    unsafe {
        if held.cast::<usize>().read() != held.addr() {
            SPOILED.store(true, Relaxed);
        }
        mm.kfree_nolock(held);
    }
    true
}

extern "C" fn storm(_: i32) {
    // SAFETY: null, or a machine that stays until no signal comes any more.
    let Some(mm) = (unsafe { MM.load(SeqCst).as_ref() }) else {
        return;
    };
    STORMS.fetch_add(1, Relaxed);
    let run = RUNS.get();
    RUNS.set(run + 1);
    HELD.with(|held| {
        let at = &held[run % held.len()];
        if free_held(mm, at) {
            return;
        }
        let Some(object) = mm.kmalloc_nolock(16 << (run % 9), Gfp::NONE, None) else {
            REFUSED.fetch_add(1, Relaxed);
            return;
        };
        // SAFETY: fresh memory of at least 16 bytes.
        unsafe { object.cast::<usize>().write(object.addr().get()) };
        at.set(object.as_ptr());
        GIVEN.fetch_add(1, Relaxed);
    });
    match PAGE.take() {
        // SAFETY: this thread's handlers own it.
        Some(pfn) => unsafe { mm.free_pages_nolock(pfn, 0) },
        None => PAGE.set(mm.alloc_pages_nolock(Gfp::NONE, None, 0)),
    }
}

fn work(mm: &Mm, stop: &AtomicBool) {
    let mut held: [*mut u8; 64] = [null_mut(); 64];
    let mut turn = 0usize;
    while !stop.load(Relaxed) {
        turn = turn.wrapping_add(1);
        let slot = turn.wrapping_mul(0x9e37_79b9) >> 7 & 63;
        // SAFETY: ours, or null.
        unsafe { mm.kfree(held[slot]) };
        let size = 8 + turn * 37 % 4000;
        held[slot] = mm
            .kmalloc(size, GFP_KERNEL)
            .map_or(null_mut(), |p| p.as_ptr());
    }
    // SAFETY: ours, or null.
    held.into_iter().for_each(|p| unsafe { mm.kfree(p) });
}

#[test]
fn signal_handlers_allocate_and_free_at_any_instruction() {
    // P170, P173, P176, S36-S38
    // SAFETY: the handler is async-signal-safe: that is what is tested.
    let old = unsafe { libc::signal(libc::SIGUSR1, storm as extern "C" fn(i32) as usize) };
    assert_ne!(old, libc::SIG_ERR);
    per_cpu::kinds().into_iter().for_each(storm_over);
}

fn storm_over(kind: PerCpu) {
    const THREADS: usize = 3;
    const WANTED: u64 = 300;
    const SIGNALS_MIN: usize = 20_000;
    const SIGNALS_MAX: usize = 1_000_000;
    let platform = HostPlatform::new(&HostConfig::new(64 << 20).per_cpu(kind)).unwrap();
    let map = platform.memory_map();
    let mm = &Mm::boot(platform, &map, &BootConfig::default()).unwrap();
    MM.store(std::ptr::from_ref(mm).cast_mut(), SeqCst);
    [&GIVEN, &REFUSED, &STORMS]
        .iter()
        .for_each(|count| count.store(0, Relaxed));
    let stop = AtomicBool::new(false);
    let ready = std::sync::Barrier::new(THREADS + 1);
    thread::scope(|scope| {
        let (threads, handles): (Vec<_>, Vec<_>) = (0..THREADS)
            .map(|_| {
                let (send, receive) = std::sync::mpsc::channel();
                let handle = scope.spawn({
                    let (stop, ready) = (&stop, &ready);
                    move || {
                        // SAFETY: always valid to call.
                        send.send(unsafe { libc::pthread_self() }).unwrap();
                        ready.wait();
                        work(mm, stop);
                        ready.wait(); // no signal comes any more
                        HELD.with(|held| held.iter().for_each(|at| _ = free_held(mm, at)));
                        if let Some(pfn) = PAGE.take() {
                            // SAFETY: the handlers owned it.
                            unsafe { mm.free_pages_nolock(pfn, 0) }
                        }
                    }
                });
                (receive.recv().unwrap(), handle)
            })
            .unzip();
        ready.wait();
        // A signal that a thread has not seen yet swallows the next one: few CPUs, few handlers.
        for n in 0..SIGNALS_MAX {
            if n >= SIGNALS_MIN && GIVEN.load(Relaxed) >= WANTED {
                break;
            }
            let before = STORMS.load(Relaxed);
            // SAFETY: the threads wait for us before they end.
            let sent = unsafe { libc::pthread_kill(threads[n % THREADS], libc::SIGUSR1) };
            assert_eq!(sent, 0);
            while n >= SIGNALS_MIN && n % 64 == 0 && STORMS.load(Relaxed) == before {
                thread::yield_now();
            }
        }
        stop.store(true, SeqCst);
        ready.wait();
        // ThreadSanitizer sees a join, not the end of a scope.
        handles.into_iter().for_each(|t| t.join().unwrap());
    });
    MM.store(null_mut(), SeqCst);
    let (given, refused) = (GIVEN.load(Relaxed), REFUSED.load(Relaxed));
    // The sanitizer delivers signals in calls of its own, which stand inside of sections here.
    let enough = given >= WANTED || cfg!(gfp_tsan);
    assert!(enough, "{given} given, {refused} refused");
    assert!(
        !SPOILED.load(Relaxed),
        "memory of a handler was given to somebody else"
    );
    assert_eq!(mm.pages().misuses(), 0);
    mm.trim();
    mm.verify().unwrap();
    let (slabs, _) = mm.slabs().slab_pages();
    assert!(slabs < 200, "{slabs} pages of slabs are left");
}
