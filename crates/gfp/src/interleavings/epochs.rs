//! Readers against who unlinks, waits and frees: no reader ever sees what was freed.
//!
//! Seen to fail: each of the three fences `AcqRel`; a reader that does not look at the epoch again;
//! one step instead of two; the other parity looked at; `end`, the look at the counts, `now`, or
//! the step relaxed.

use crate::sync::Carved;
use crate::sync::epochs::{Epochs, Readers};
use core::ptr::{NonNull, null_mut};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicPtr, Ordering::Relaxed};
use loom::thread;
use std::boxed::Box;
use std::vec::Vec;

struct Machine {
    epochs: Epochs,
    /// What readers find.
    shared: AtomicPtr<UnsafeCell<u32>>,
    object: Box<UnsafeCell<u32>>,
    _places: Vec<Readers>,
}

// SAFETY: the cell checks every access.
unsafe impl Send for Machine {}
// SAFETY: as above.
unsafe impl Sync for Machine {}

impl Machine {
    fn new() -> Arc<Machine> {
        let places: Vec<_> = (0..2).map(|_| Readers::new()).collect();
        // SAFETY: the vector lives beside the epochs and never grows.
        let carved = unsafe { Carved::new(NonNull::from(&*places).cast(), 2) };
        let object = Box::new(UnsafeCell::new(7));
        Arc::new(Machine {
            epochs: Epochs::new(carved),
            shared: AtomicPtr::new((&raw const *object).cast_mut()),
            object,
            _places: places,
        })
    }

    fn read(&self, place: Option<usize>) {
        let reading = self.epochs.begin(place);
        // SAFETY: the memory stays until the end; the cell checks that it was not freed.
        if let Some(found) = unsafe { self.shared.load(Relaxed).as_ref() } {
            // SAFETY: as above.
            found.with(|value| assert_eq!(unsafe { *value }, 7));
        }
        reading.end();
    }

    /// Unlinks, and frees if that may be done after a few steps.
    fn replace(&self, steps: usize) -> bool {
        self.shared.store(null_mut(), Relaxed);
        let cookie = self.epochs.cookie();
        for _ in 0..steps {
            self.epochs.try_step();
        }
        let passed = self.epochs.has_passed(cookie);
        if passed {
            // SAFETY: the cell checks that nobody reads.
            self.object.with_mut(|value| unsafe { *value = 0 });
        }
        passed
    }
}

#[test]
fn nothing_is_freed_that_a_reader_sees() {
    // S35
    loom::model(|| {
        let machine = Machine::new();
        let reader = machine.clone();
        let reader = thread::spawn(move || reader.read(Some(0)));
        machine.replace(2);
        reader.join().unwrap();
        // Without readers two steps are enough.
        let cookie = machine.epochs.cookie();
        assert!(machine.epochs.try_step() && machine.epochs.try_step());
        assert!(machine.epochs.has_passed(cookie));
        assert_eq!(machine.epochs.readers(), 0);
    });
}

#[test]
fn nor_when_others_make_the_steps() {
    // S35
    let mut bounded = loom::model::Builder::new();
    bounded.preemption_bound = Some(3);
    bounded.check(|| {
        let machine = Machine::new();
        let (reader, other) = (machine.clone(), machine.clone());
        let reader = thread::spawn(move || reader.read(None));
        let other = thread::spawn(move || {
            other.epochs.try_step();
            other.epochs.try_step();
        });
        machine.replace(2);
        reader.join().unwrap();
        other.join().unwrap();
    });
}
