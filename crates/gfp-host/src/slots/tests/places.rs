//! Places by themselves, of a registry and a table of the test's own.

use super::super::by_cpu::Table;
use super::super::registry::Registry;
use super::super::tls;
use super::{Me, WORD};
use crate::rseq::Rseq;
use gfp::frame::CpuId;
use gfp::platform::Nested;
use gfp::sync::restart::ByCpu;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// What a test has; its own statics, as threads that end leave their words in the table.
struct Own {
    registry: &'static Registry<2>,
    table: &'static Table<ByCpu>,
    rseq: Rseq,
}

macro_rules! own {
    () => {{
        static REGISTRY: Registry<2> = Registry::new();
        static TABLE: Table<ByCpu> = Table::new();
        WORD.set(tls::NEW);
        let Some(rseq) = Rseq::find() else { return };
        assert!(REGISTRY.open(Me, &TABLE, rseq.nr_cpus()));
        Own {
            registry: &REGISTRY,
            table: &TABLE,
            rseq,
        }
    }};
}

impl Own {
    fn guest(&self) -> CpuId {
        CpuId(self.rseq.nr_cpus())
    }

    fn enter(&self) -> Result<(CpuId, super::Section<'static>), Nested> {
        let quick = self.registry.enter_place_quick(Me, self.table, &self.rseq);
        match quick {
            Some(entered) => Ok(entered),
            None => self.registry.enter_place(Me, self.table, &self.rseq),
        }
    }

    fn enter_remote(&self, cpu: CpuId) -> Option<super::Section<'static>> {
        self.registry
            .enter_place_remote(Me, self.table, &self.rseq, cpu)
    }
}

#[test]
fn a_place_is_entered_once_and_taken_from_outside() {
    let own = own!();
    for _ in 0..3 {
        let (cpu, section) = own.enter().unwrap();
        assert!(cpu < own.guest(), "nobody else is here");
        assert!(own.registry.is_inside(Me));
        assert!(matches!(own.enter(), Err(Nested)));
        assert!(own.registry.enter(Me).is_err(), "nor into a slot");
        assert!(own.enter_remote(cpu).is_none());
        assert!(!own.registry.open(Me, own.table, 1));
        drop(section);
        assert!(!own.registry.is_inside(Me));
        let section = own.enter_remote(cpu).expect("nobody has it");
        assert!(matches!(own.enter(), Err(Nested)));
        drop(section);
    }
    assert!(
        own.enter_remote(own.guest()).is_none(),
        "nobody was a guest"
    );
    let beyond = CpuId(own.guest().0 + 1);
    assert!(own.enter_remote(beyond).is_none(), "no such place");
}

#[test]
fn who_takes_a_place_waits_for_its_owner() {
    let own = own!();
    let own = &own;
    let left = &AtomicBool::new(false);
    for _ in 0..3 {
        left.store(false, Ordering::Relaxed);
        let (cpu, section) = own.enter().unwrap();
        thread::scope(|scope| {
            let taker = scope.spawn(move || {
                let section = own.enter_remote(cpu).expect("a place");
                // Relaxed: leaving and taking order it.
                assert!(left.load(Ordering::Relaxed), "the owner is inside");
                drop(section);
                own.registry.detach(Me);
            });
            while !own.table.is_barred(cpu) && !taker.is_finished() {
                thread::yield_now();
            }
            // Time for one that does not wait.
            (0..100).for_each(|_| thread::yield_now());
            left.store(true, Ordering::Relaxed);
            drop(section);
            taker.join().unwrap();
        });
    }
}

#[test]
fn who_finds_its_place_barred_is_a_guest() {
    let own = own!();
    own.table.quiesce();
    for _ in 0..2 {
        let (cpu, section) = own.enter().unwrap();
        assert_eq!(cpu, own.guest());
        assert!(matches!(own.enter(), Err(Nested)));
        assert!(own.enter_remote(cpu).is_none());
        drop(section);
        drop(own.enter_remote(cpu).expect("somebody was a guest"));
    }
    own.table.resume();
    assert_ne!(own.enter().unwrap().0, own.guest());
}

#[test]
fn a_thread_without_a_slot_is_a_guest() {
    let own = own!();
    let own = &own;
    drop(own.enter());
    own.registry.detach(Me);
    let (cpu, section) = own.enter().unwrap();
    assert_eq!(cpu, own.guest());
    assert!(matches!(own.enter(), Err(Nested)));
    drop(section);
    // It can take places, and the guest's, from outside.
    for cpu in 0..=own.guest().0 {
        drop(own.enter_remote(CpuId(cpu)).expect("nobody has it"));
    }
    // And the next thread has a place again.
    thread::scope(|scope| {
        let next = scope.spawn(|| {
            let entered = own.enter().unwrap().0;
            own.registry.detach(Me);
            entered
        });
        assert_ne!(next.join().unwrap(), own.guest());
    });
}

#[test]
fn at_rest_the_forking_thread_alone_may_enter() {
    let own = own!();
    let own = &own;
    drop(own.enter());
    for _ in 0..3 {
        assert!(own.registry.quiesce(Me));
        own.table.quiesce();
        let (cpu, section) = own.enter().expect("the forking thread");
        assert_eq!(cpu, own.guest());
        assert!(matches!(own.enter(), Err(Nested)));
        drop(section);
        assert!(own.registry.has_quiesced(Me), "the locks are still held");
        own.table.resume();
        assert!(own.registry.resume(Me));
        assert_ne!(own.enter().unwrap().0, own.guest());
    }
}

#[test]
fn in_the_child_of_a_fork_that_waited_for_nobody_what_others_had_is_lost() {
    let own = own!();
    let own = &own;
    // A thread that is inside, and does not exist in the child.
    let theirs = thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let (cpu, section) = own.enter().unwrap();
            core::mem::forget(section);
            cpu
        });
        thread.join().unwrap()
    });
    let (mine, section) = own.enter().unwrap();
    let slot = own.registry.slot_of(Me);
    own.table.resume_child(slot);
    own.registry.resume_child(Me);
    drop(section);
    assert!(own.enter_remote(theirs).is_none(), "{theirs:?} is lost");
    assert!(own.enter_remote(mine).is_some(), "{mine:?} is not");
}

#[test]
fn a_thread_that_ends_inside_loses_its_place() {
    let own = own!();
    let own = &own;
    let theirs = thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let (cpu, section) = own.enter().unwrap();
            core::mem::forget(section);
            let lost = own.registry.detach(Me).expect("it ends inside");
            own.table.lose_of(lost);
            cpu
        });
        thread.join().unwrap()
    });
    assert!(own.enter_remote(theirs).is_none());
    assert_ne!(own.enter().unwrap().0, theirs);
    assert!(own.registry.quiesce(Me));
    own.table.quiesce(); // does not wait for it
    own.table.resume();
    assert!(own.registry.resume(Me));
}
