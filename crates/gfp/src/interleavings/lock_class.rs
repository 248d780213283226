//! Two tasks that fill in the two places of a class at once (P155): one of them tells, one only.
//!
//! Seen to fail: no fence, or one that is `AcqRel`; `told` read and then stored.

use crate::platform::LockClass;
use core::panic::Location;
use loom::sync::Arc;
use loom::thread;

#[test]
fn of_two_that_complete_a_cycle_one_tells() {
    loom::model(|| {
        let class = Arc::new(LockClass::new("modelled"));
        let other = Arc::clone(&class);
        let here = Location::caller();
        let reclaimer = thread::spawn(move || other.taken_within(here).is_some());
        let told = class.held_over(here).is_some();
        assert!(told != reclaimer.join().unwrap());
    });
}
