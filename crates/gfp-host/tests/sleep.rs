//! Threads of a process that sleep until a condition holds.
//!
//! Seen to fail, by hanging or at once, with: a `wake` that does nothing; a deadline that is taken
//! for a duration; a deadline that is ignored.
#![cfg(not(loom))]

use gfp::platform::{Platform, Sleep, Wake};
use gfp::sync::WaitQueue;
use gfp_host::{HostConfig, HostPlatform};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

fn platform() -> HostPlatform {
    HostPlatform::new(&HostConfig::new(4 << 20)).unwrap()
}

#[test]
fn no_wake_up_is_lost_between_threads_that_take_turns() {
    const ROUNDS: u32 = 5000;
    const PLAYERS: u32 = 3;
    let (platform, queue, turn) = (platform(), WaitQueue::new(), AtomicU32::new(0));
    thread::scope(|scope| {
        for me in 0..PLAYERS {
            let (platform, queue, turn) = (&platform, &queue, &turn);
            scope.spawn(move || {
                for _ in 0..ROUNDS {
                    queue.wait_until(platform, || turn.load(Ordering::Acquire) % PLAYERS == me);
                    turn.fetch_add(1, Ordering::AcqRel);
                    queue.wake_all(platform);
                }
            });
        }
    });
    assert_eq!(turn.load(Ordering::Acquire), ROUNDS * PLAYERS);
    assert!(!queue.has_waiters());
}

#[test]
fn a_wait_ends_at_its_deadline_and_not_before() {
    let (platform, queue) = (platform(), WaitQueue::new());
    let deadline = platform.now_ns() + 20_000_000;
    assert!(!queue.wait_until_ns(&platform, deadline, || false));
    assert!(platform.now_ns() >= deadline);
    // A deadline in the past is looked at after the condition.
    assert!(queue.wait_until_ns(&platform, 0, || true));
    assert!(!queue.wait_until_ns(&platform, 0, || false));
    assert!(!queue.has_waiters());
}

#[test]
fn one_wake_up_lets_one_through() {
    const THREADS: usize = 4;
    let (platform, queue, tokens) = (platform(), WaitQueue::new(), AtomicU32::new(0));
    let take = || {
        let taken = tokens.fetch_update(Ordering::AcqRel, Ordering::Acquire, |n| n.checked_sub(1));
        taken.is_ok()
    };
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| queue.wait_until(&platform, take));
        }
        for _ in 0..THREADS {
            tokens.fetch_add(1, Ordering::AcqRel);
            queue.wake_one(&platform);
        }
    });
    assert_eq!(tokens.load(Ordering::Acquire), 0);
}

#[test]
fn a_word_that_has_changed_is_not_slept_on() {
    let platform = platform();
    let word = AtomicU32::new(1);
    platform.wait(&word, 0, None); // would never return
    platform.wake(&word, Wake::All); // nobody is there
    assert!(platform.sleep().is_some());
}
