//! Waiters that sleep, and who wakes them: no wake-up is lost.
//!
//! Seen to fail: either fence left out; the word read once more just before the sleep.

use crate::frame::{CpuId, PhysAddr};
use crate::platform::{DirectMap, Nested, Platform, Sleep, Wake};
use crate::sync::WaitQueue;
use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

/// A machine that can only sleep: one queue for all words.
#[derive(Default)]
pub(super) struct Sleeper {
    /// How often somebody was woken.
    woken: Mutex<u32>,
    changed: Condvar,
}

impl Sleep for Sleeper {
    fn wait(&self, word: &AtomicU32, seen: u32, _deadline_ns: Option<u64>) {
        let mut woken = self.woken.lock().unwrap();
        let before = *woken;
        // Under the lock that `wake` takes: compared and laid down in one step.
        // Relaxed: the trait promises no order.
        while word.load(Ordering::Relaxed) == seen && *woken == before {
            woken = self.changed.wait(woken).unwrap();
        }
    }

    fn wake(&self, _word: &AtomicU32, _who: Wake) {
        *self.woken.lock().unwrap() += 1;
        self.changed.notify_all();
    }
}

// SAFETY: no memory, no sections.
unsafe impl Platform for Sleeper {
    type Section<'a> = ();

    fn direct_map(&self) -> DirectMap {
        DirectMap::new(core::ptr::null_mut(), PhysAddr(0))
    }

    fn nr_cpus(&self) -> u32 {
        1
    }

    fn enter(&self) -> Result<(CpuId, ()), Nested> {
        Err(Nested)
    }

    fn now_ns(&self) -> u64 {
        0
    }

    fn relax(&self, _spins: u32) {
        thread::yield_now();
    }

    fn sleep(&self) -> Option<&dyn Sleep> {
        Some(self)
    }
}

/// A lost wake-up leaves a waiter asleep with nobody to wake it: loom calls that a deadlock.
#[test]
fn a_waiter_always_sees_what_was_done_before_the_wake_up() {
    loom::model(|| {
        let shared = Arc::new((
            Sleeper::default(),
            WaitQueue::default(),
            AtomicBool::new(false),
        ));
        let waker = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let (sleeper, queue, done) = &*shared;
                // Relaxed: the queue orders it.
                done.store(true, Ordering::Relaxed);
                queue.wake_one(sleeper);
            })
        };
        let (sleeper, queue, done) = &*shared;
        queue.wait_until(sleeper, || done.load(Ordering::Relaxed));
        waker.join().unwrap();
        assert!(!queue.has_waiters());
    });
}

#[test]
fn all_waiters_are_woken() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let shared = Arc::new((
            Sleeper::default(),
            WaitQueue::default(),
            AtomicBool::new(false),
        ));
        let waiter = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let (sleeper, queue, done) = &*shared;
                queue.wait_until(sleeper, || done.load(Ordering::Relaxed));
            })
        };
        let waker = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let (sleeper, queue, done) = &*shared;
                done.store(true, Ordering::Relaxed);
                queue.wake_all(sleeper);
            })
        };
        let (sleeper, queue, done) = &*shared;
        queue.wait_until(sleeper, || done.load(Ordering::Relaxed));
        waiter.join().unwrap();
        waker.join().unwrap();
    });
}
