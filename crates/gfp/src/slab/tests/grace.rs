//! Readers, and when they have ended.

use super::machine;
use crate::sync::Local;
use std::sync::atomic::Ordering::Relaxed;
use std::vec::Vec;

#[test]
fn a_moment_has_passed_when_the_readers_of_then_have_ended() {
    // S35
    let slabs = machine(16);
    let empty = slabs.rcu_cookie();
    assert!(
        slabs.rcu_poll(empty),
        "without readers nobody is waited for"
    );
    let reader = slabs.rcu_read();
    let during = slabs.rcu_cookie();
    assert!(!slabs.rcu_poll(during) && !slabs.rcu_poll(during));
    drop(reader);
    assert!(slabs.rcu_poll(during));
    assert!(slabs.rcu_poll(during), "and stays so");
    let later = slabs.rcu_read();
    assert!(slabs.rcu_poll(during), "who came later does not matter");
    drop(later);
    assert_eq!(slabs.rcu_readers(), 0);
}

#[test]
fn readers_nest_and_end_in_any_order_on_any_cpu() {
    // S35
    let slabs = machine(16);
    let mut readers: Vec<_> = (0..8)
        .map(|n| {
            slabs.platform().on(n % 4);
            slabs.rcu_read()
        })
        .collect();
    let cookie = slabs.rcu_cookie();
    for n in [3, 0, 5, 1, 0, 2, 0] {
        slabs.platform().on(n as u32 % 4);
        drop(readers.swap_remove(n));
        assert!(!slabs.rcu_poll(cookie), "{} are left", readers.len());
        // Those who come and go meanwhile change nothing.
        drop(slabs.rcu_read());
    }
    drop(readers);
    assert!(slabs.rcu_poll(cookie));
}

#[test]
fn an_interrupt_reads_in_the_middle_of_a_call() {
    // S35: with its CPU's section taken it has a place all the same.
    let slabs = machine(16);
    let section = Local::enter(slabs.platform()).unwrap();
    let reader = slabs.rcu_read();
    drop(section);
    let cookie = slabs.rcu_cookie();
    assert_eq!(slabs.rcu_readers(), 1);
    assert!(!slabs.rcu_poll(cookie));
    drop(reader);
    assert!(slabs.rcu_poll(cookie));
}

#[test]
fn a_stream_of_readers_does_not_hold_a_moment_up() {
    // S35: each begins before the last has ended.
    let slabs = machine(16);
    let mut reader = slabs.rcu_read();
    let cookie = slabs.rcu_cookie();
    let mut polls = 0;
    while !slabs.rcu_poll(cookie) {
        let next = slabs.rcu_read();
        drop(core::mem::replace(&mut reader, next));
        polls += 1;
        assert!(polls < 8);
    }
}

#[test]
fn a_wait_ends_with_the_reader() {
    // S35: another thread reads until somebody waits.
    let slabs = machine(16);
    let (began, has_begun) = std::sync::mpsc::channel();
    let (end, may_end) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let theirs = &slabs;
        scope.spawn(move || {
            let reader = theirs.rcu_read();
            began.send(()).unwrap();
            may_end.recv().unwrap();
            drop(reader);
        });
        has_begun.recv().unwrap();
        *slabs.platform().on_relax.lock().unwrap() = Some(std::boxed::Box::new(move || {
            end.send(()).unwrap();
        }));
        let cookie = slabs.rcu_cookie();
        slabs.rcu_wait(cookie);
        assert!(slabs.rcu_poll(cookie));
        assert!(
            slabs.platform().on_relax.lock().unwrap().is_none(),
            "it waited"
        );
    });
}

#[test]
fn a_machine_with_grace_periods_of_its_own_is_asked() {
    // S35
    let slabs = machine(16);
    slabs.platform().has_grace.store(true, Relaxed);
    let reader = slabs.rcu_read();
    assert_eq!(slabs.rcu_readers(), 0, "the machine counts");
    assert_eq!(slabs.platform().readers.lock().unwrap().len(), 1);
    let cookie = slabs.rcu_cookie();
    for _ in 0..4 {
        assert!(!slabs.rcu_poll(cookie));
    }
    let later = slabs.rcu_read();
    drop(reader);
    assert!(slabs.rcu_poll(cookie), "who came later is not waited for");
    assert!(!slabs.rcu_poll(slabs.rcu_cookie()), "until a later cookie");
    drop(later);
}
