//! A zonelist that is written anew while a request looks at it. Zone 0 has memory all the time;
//! zone 1, which stands before it, has just come, and what it had is taken already.
//!
//! Seen to fail: `since` always false; the zones stored or loaded relaxed; no first step, no last
//! step; the steps or the looks at their count relaxed.
//!
//! Not seen: the number of zones relaxed. Who sees nothing new but the number sees all zones that
//! were there, and then what no list had yet: zone 0, perhaps without its marks.

use crate::known::{Changes, Known};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

struct Machine {
    lists: Known<2>,
    changes: Changes,
    /// What a zone on a list has: its marks.
    tuned: AtomicBool,
}

impl Machine {
    fn new() -> Arc<Machine> {
        let machine = Machine {
            lists: Known::new(),
            changes: Changes::new(),
            tuned: AtomicBool::new(false),
        };
        machine.lists.write([0].into_iter());
        Arc::new(machine)
    }

    /// Who adds memory.
    fn grow(&self) {
        self.tuned.store(true, Ordering::Relaxed);
        self.changes.step();
        self.lists.write([1, 0].into_iter());
        self.changes.step();
    }

    /// One look at the zones: whether one of them serves.
    fn pass(&self) -> bool {
        self.lists.ids().iter().any(|id| {
            let zone = id.load(Ordering::Acquire);
            let tuned = zone == 0 || self.tuned.load(Ordering::Relaxed);
            assert!(tuned, "a zone without its marks");
            zone == 0
        })
    }

    /// As the slow path does.
    fn request(&self) -> bool {
        loop {
            let seen = self.changes.now();
            if self.pass() {
                return true;
            }
            if !self.changes.since(seen, |_| thread::yield_now()) {
                return false;
            }
        }
    }
}

#[test]
fn no_request_misses_a_zone_because_the_list_is_being_written() {
    // P111, P205
    loom::model(|| {
        let machine = Machine::new();
        let theirs = machine.clone();
        let writer = thread::spawn(move || theirs.grow());
        assert!(machine.request());
        writer.join().unwrap();
        assert_eq!(machine.lists.ids().len(), 2);
    });
}
