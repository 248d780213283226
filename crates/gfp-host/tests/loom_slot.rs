//! The slot protocol under a model checker, which tries every interleaving and every value that a
//! relaxed load may see:
//! `RUSTFLAGS="--cfg loom" cargo test -p gfp-host --release --test loom_slot`
//!
//! `membarrier` is modelled as a sequentially consistent fence on both sides. The controls leave
//! one piece of the protocol out and must be caught.
#![cfg(loom)]

use gfp_host::protocol::{Entry, Fences, Heavy, Slot};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{Ordering, fence};
use loom::thread;

/// `membarrier`: each side executes a fence.
struct Modelled;

impl Fences for Modelled {
    fn light() {
        fence(Ordering::SeqCst);
    }

    fn full() {
        fence(Ordering::SeqCst);
    }
}

/// No `membarrier`: the owner's fence is the one of the HEAVY path, or missing.
struct NoLight;

impl Fences for NoLight {
    fn light() {}

    fn full() {
        fence(Ordering::SeqCst);
    }
}

/// What a slot protects. The cell panics when two threads are in it, or one does not see the other.
struct Shared {
    slot: Slot,
    cache: UnsafeCell<u32>,
}

// SAFETY: the cell checks every access.
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

impl Shared {
    fn touch(&self) {
        // SAFETY: the cell checks that nobody else is inside.
        self.cache.with_mut(|cache| unsafe { *cache += 1 });
    }
}

fn owner<F: Fences>(shared: &Shared, sections: u32) -> u32 {
    let mut done = 0;
    while done < sections {
        match shared.slot.try_enter::<F>() {
            Entry::Inside => {
                shared.touch();
                shared.slot.leave();
                done += 1;
            }
            Entry::Stopped => {
                // Sleeping: the word is awaited, and whoever resumes is told to wake us.
                while shared.slot.await_resume().is_some() {
                    thread::yield_now();
                }
            }
            Entry::Nested => unreachable!(),
        }
    }
    done
}

fn drain(shared: &Shared, barrier: impl Fn()) {
    shared.slot.stop();
    barrier();
    while shared.slot.is_inside() {
        thread::yield_now();
    }
    shared.touch();
    let _ = shared.slot.resume();
}

fn model<F: Fences>(heavy: Heavy, barrier: fn(), owner_sections: u32, drains: u32) {
    loom::model(move || {
        let shared = Arc::new(Shared {
            slot: Slot::new(0),
            cache: UnsafeCell::new(0),
        });
        shared.slot.prepare(0, heavy);
        let stopper = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                for _ in 0..drains {
                    drain(&shared, barrier);
                }
            })
        };
        let done = owner::<F>(&shared, owner_sections);
        stopper.join().unwrap();
        // SAFETY: both threads are done, and joined.
        let total = shared.cache.with(|cache| unsafe { *cache });
        assert_eq!(total, done + drains);
    });
}

fn real_fence() {
    fence(Ordering::SeqCst);
}

#[test]
fn owner_and_stopper_are_never_inside_together() {
    model::<Modelled>(Heavy::No, real_fence, 2, 1);
    model::<Modelled>(Heavy::No, real_fence, 1, 2);
}

#[test]
fn a_heavy_slot_needs_no_membarrier() {
    model::<NoLight>(Heavy::Yes, real_fence, 2, 1);
}

/// Control: without the owner's fence the store of `state` may come after the load of `stop`.
#[test]
#[should_panic(expected = "ausality violation")]
fn control_without_the_owners_fence() {
    model::<NoLight>(Heavy::No, real_fence, 1, 1);
}

/// Control: without the stopper's fence the load of `state` may come before the store of `stop`.
#[test]
#[should_panic(expected = "ausality violation")]
fn control_without_the_stoppers_fence() {
    model::<Modelled>(Heavy::No, || {}, 1, 1);
}

/// Control: without the wait the stopper comes in while the owner is inside.
#[test]
#[should_panic(expected = "ausality violation")]
fn control_without_the_wait() {
    loom::model(|| {
        let shared = Arc::new(Shared {
            slot: Slot::new(0),
            cache: UnsafeCell::new(0),
        });
        let stopper = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                shared.slot.stop();
                fence(Ordering::SeqCst);
                shared.touch();
                let _ = shared.slot.resume();
            })
        };
        owner::<Modelled>(&shared, 1);
        stopper.join().unwrap();
    });
}

/// No wake is lost: the owner sleeps only if it has set the bit that `resume` finds.
#[test]
fn who_resumes_is_told_of_a_sleeping_owner() {
    loom::model(|| {
        let shared = Arc::new(Shared {
            slot: Slot::new(0),
            cache: UnsafeCell::new(0),
        });
        shared.slot.stop();
        let sleeper = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || shared.slot.await_resume().is_some())
        };
        let told = shared.slot.resume();
        let slept = sleeper.join().unwrap();
        assert_eq!(told, slept, "a sleeper is woken, and nobody else");
    });
}
