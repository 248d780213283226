//! The killer's lock: requests that try it, and who waits for it to register.
//!
//! Seen to fail: the exchange relaxed; the store in `unlock` relaxed; nobody woken in `unlock`; the
//! lock tried with a load and a store.

use super::wait::Sleeper;
use crate::oom_lock::OomLock;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use std::vec::Vec;

/// A machine with a killer.
#[derive(Default)]
struct Machine {
    sleeper: Sleeper,
    lock: OomLock,
    /// How often somebody was inside: what the lock guards. Loom notices two at a time.
    inside: UnsafeCell<u32>,
}

// SAFETY: `inside` is touched by who holds the lock; that is what is shown here.
unsafe impl Sync for Machine {}
// SAFETY: as above.
unsafe impl Send for Machine {}

impl Machine {
    /// Works, and gives the lock back, which the caller holds.
    fn work(&self) {
        // SAFETY: the lock is held.
        self.inside.with_mut(|inside| unsafe { *inside += 1 });
        // SAFETY: [INV-OOM-1] as above.
        unsafe { self.lock.unlock(&self.sleeper) };
    }

    /// A request: true if it got the lock.
    fn request(&self) -> bool {
        let held = self.lock.try_lock();
        if held {
            self.work();
        }
        held
    }

    fn register(&self) {
        assert!(self.lock.lock(&self.sleeper));
        self.work();
    }
}

/// A lost wake-up leaves who registers asleep: loom calls that a deadlock.
#[test]
fn one_is_inside_and_who_waits_gets_in() {
    // P128
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let machine = Arc::new(Machine::default());
        let requests: Vec<_> = (0..2)
            .map(|_| {
                let machine = Arc::clone(&machine);
                thread::spawn(move || machine.request())
            })
            .collect();
        machine.register();
        let results = requests.into_iter().map(|thread| thread.join().unwrap());
        let got = results.filter(|got| *got).count() as u32;
        assert!(machine.request(), "nobody holds it");
        // SAFETY: all others are done.
        let inside = machine.inside.with(|inside| unsafe { *inside });
        assert_eq!(inside, got + 2);
    });
}

#[test]
fn two_that_wait_get_in_one_after_the_other() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(|| {
        let machine = Arc::new(Machine::default());
        assert!(machine.lock.try_lock());
        let others: Vec<_> = (0..2)
            .map(|_| {
                let machine = Arc::clone(&machine);
                thread::spawn(move || machine.register())
            })
            .collect();
        machine.work();
        others.into_iter().for_each(|other| other.join().unwrap());
        // SAFETY: all others are done.
        assert_eq!(machine.inside.with(|inside| unsafe { *inside }), 3);
    });
}
