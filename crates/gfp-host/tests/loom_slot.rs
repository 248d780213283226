//! The protocols of slots and of places under a model checker, which tries every interleaving and
//! every value that a relaxed load may see:
//! `RUSTFLAGS="--cfg loom" cargo test -p gfp-host --release --test loom_slot`
//!
//! `membarrier` is modelled as a sequentially consistent fence on both sides. The controls leave
//! one piece of the protocol out and must be caught.
//!
//! Of places, what cannot be modelled is the restart itself, which comes between instructions
//! (`claim_steps.rs` stops at each). What follows from it is: a sequence is whole, for others under
//! its id and for a `membarrier`, so that each of these comes before all of it or after. So the
//! model has a lock around the sequence, which stands for the processor that runs it, and which the
//! `membarrier` takes for a moment. What is checked is the rest: which stores and loads outside of
//! sequences must be ordered.
#![cfg(loom)]

use gfp_host::place::Place;
use gfp_host::protocol::{Entry, Fences, Heavy, Slot};
use loom::cell::UnsafeCell;
use loom::sync::atomic::{Ordering, fence};
use loom::sync::{Arc, Mutex};
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

/// What a place protects, and the processor whose sequences claim it.
struct Placed {
    place: Place,
    processor: Mutex<()>,
    cache: UnsafeCell<u32>,
}

// SAFETY: the cell checks every access.
unsafe impl Sync for Placed {}
// SAFETY: as above.
unsafe impl Send for Placed {}

/// Whether the sequence is whole.
#[derive(Copy, Clone, PartialEq)]
enum Sequence {
    Whole,
    /// As one that nothing restarts.
    Exposed,
}

/// What the stopper does.
#[derive(Copy, Clone)]
struct Steps {
    membarrier: bool,
    waits: bool,
}

const ALL_STEPS: Steps = Steps {
    membarrier: true,
    waits: true,
};

impl Placed {
    fn new() -> Arc<Placed> {
        Arc::new(Placed {
            place: Place::new(),
            processor: Mutex::new(()),
            cache: UnsafeCell::new(0),
        })
    }

    fn touch(&self) {
        // SAFETY: the cell checks that nobody else is inside.
        self.cache.with_mut(|cache| unsafe { *cache += 1 });
    }

    /// One try of thread `me` to enter; how many sections that were.
    fn section(&self, me: usize, sequence: Sequence) -> u32 {
        let on_it = (sequence == Sequence::Whole).then(|| self.processor.lock().unwrap());
        let claimed = self.place.claim(me);
        drop(on_it); // from here on it may run elsewhere
        if claimed {
            self.touch();
            self.place.leave();
        }
        u32::from(claimed)
    }

    fn drain(&self, steps: Steps) {
        self.place.bar();
        fence(Ordering::SeqCst);
        if steps.membarrier {
            drop(self.processor.lock().unwrap());
        }
        while steps.waits && self.place.is_owned() {
            thread::yield_now();
        }
        self.touch();
        self.place.unbar();
    }
}

/// Owners that try once each, and a stopper.
fn model_place(owners: usize, drains: u32, sequence: Sequence, steps: Steps) {
    loom::model(move || {
        let placed = Placed::new();
        let threads: Vec<_> = (0..owners)
            .map(|owner| {
                let placed = Arc::clone(&placed);
                // The names of slots: even, and above LOST.
                thread::spawn(move || placed.section(2 * owner + 2, sequence))
            })
            .collect();
        (0..drains).for_each(|_| placed.drain(steps));
        let done: u32 = threads.into_iter().map(|t| t.join().unwrap()).sum();
        // SAFETY: all threads are done, and joined.
        let total = placed.cache.with(|cache| unsafe { *cache });
        assert_eq!(total, done + drains);
    });
}

#[test]
fn a_place_has_one_owner_at_a_time() {
    model_place(2, 0, Sequence::Whole, ALL_STEPS);
}

#[test]
fn owner_and_stopper_of_a_place_are_never_inside_together() {
    model_place(1, 1, Sequence::Whole, ALL_STEPS);
    model_place(1, 2, Sequence::Whole, ALL_STEPS);
    model_place(2, 1, Sequence::Whole, ALL_STEPS);
}

/// Control: two sequences that nothing restarts find the place free both.
#[test]
#[should_panic(expected = "ausality violation")]
fn control_two_owners_with_nothing_that_restarts() {
    model_place(2, 0, Sequence::Exposed, ALL_STEPS);
}

/// Control: a sequence that nothing restarts commits behind the stopper's back.
#[test]
#[should_panic(expected = "ausality violation")]
fn control_a_stopper_that_restarts_nothing() {
    let steps = Steps {
        membarrier: false,
        ..ALL_STEPS
    };
    model_place(1, 1, Sequence::Whole, steps);
}

/// Control: the owner claimed the place before it was barred, and is still inside.
#[test]
#[should_panic(expected = "ausality violation")]
fn control_a_stopper_of_a_place_that_does_not_wait() {
    let steps = Steps {
        waits: false,
        ..ALL_STEPS
    };
    model_place(1, 1, Sequence::Whole, steps);
}

/// A child of a fork: what others had is lost, what the survivor has is not.
#[test]
fn in_a_child_the_places_of_others_are_lost() {
    loom::model(|| {
        let places = [Place::new(), Place::new(), Place::new()];
        assert!(places[0].claim(2) && places[1].claim(4));
        places.iter().for_each(|place| place.bar());
        places.iter().for_each(|place| place.reset(2));
        assert!(places[0].is_owned() && !places[0].is_lost());
        assert!(places[1].is_lost() && !places[1].is_owned());
        assert!(!places[1].claim(2) && places[2].claim(2));
        places[0].lose_if_of(4);
        assert!(!places[0].is_lost());
        places[0].lose_if_of(2);
        assert!(places[0].is_lost());
    });
}
