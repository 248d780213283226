//! The time that reclaim takes, and who is told of it.

use super::boot;
use crate::Mm;
use crate::flags::{GFP_KERNEL, GFP_NOIO, GFP_NOWAIT, Gfp};
use crate::frame::NodeId;
use crate::platform::{Context, Nested, Platform};
use crate::policy::stall::{StallKind, StallLine, Trigger};
use crate::stat::View;
use crate::testing::{CPUS, OnSleep, TestPlatform};
use std::cell::Cell;
use std::string::String;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::vec::Vec;

type Machine = Mm<TestPlatform>;

fn total_us(mm: &Machine, kind: StallKind) -> u64 {
    mm.memory_stalls().unwrap()[kind as usize].total_us
}

fn file(mm: &Machine) -> String {
    let mut text = String::new();
    View::Pressure.write(mm, &mut text).unwrap();
    text
}

#[test]
fn the_file_shows_averages_whether_or_not_anybody_looked() {
    // P680
    let mm = boot();
    let (clock, reclaim) = (mm.platform(), mm.slabs().reclaim());
    let none = "avg10=0.00 avg60=0.00 avg300=0.00 total=0\n";
    assert_eq!(file(&mm), std::format!("some {none}full {none}"));
    let stall = reclaim.stall();
    clock.advance(10_000);
    let text = file(&mm);
    assert!(
        text.starts_with("some avg10=63.21 avg60=15.35 avg300=3.28 total=1000000"),
        "{text}"
    );
    assert!(text.ends_with(&std::format!("full {none}")), "{text}");
    drop(stall);
    // An hour without stalls, and then the view: what was is forgotten, but for the total.
    clock.advance(3_600_000);
    let text = file(&mm);
    assert!(text.starts_with("some avg10=0.00 avg60=0.00 avg300=0.00 total=1000000"));
}

#[test]
fn full_is_the_time_in_which_every_cpu_could_be_reclaiming() {
    // P409
    let mm = boot();
    let (clock, reclaim) = (mm.platform(), mm.slabs().reclaim());
    let mut stalls: Vec<_> = (1..CPUS).map(|_| reclaim.stall()).collect();
    clock.advance(1000);
    assert_eq!(total_us(&mm, StallKind::Full), 0);
    stalls.push(reclaim.stall());
    clock.advance(2000);
    stalls.pop();
    clock.advance(4000);
    drop(stalls);
    clock.advance(8000);
    assert_eq!(total_us(&mm, StallKind::Full) / 1000, 2000);
    assert_eq!(total_us(&mm, StallKind::Some) / 1000, 7000);
    assert_eq!(mm.memory_stall_us() / 1000, 7000);
}

#[test]
fn who_interrupts_the_allocator_is_told_what_was_known() {
    let mm = boot();
    let (clock, reclaim) = (mm.platform(), mm.slabs().reclaim());
    let stall = reclaim.stall();
    clock.advance(1000);
    let second = reclaim.stall();
    clock.advance(1000);
    clock.nested.store(true, Relaxed);
    assert_eq!(mm.memory_stalls(), Err(Nested));
    assert_eq!(mm.memory_stall_us() / 1000, 1000);
    assert!(file(&mm).contains("some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"));
    clock.nested.store(false, Relaxed);
    assert_eq!(mm.memory_stall_us() / 1000, 2000);
    drop((stall, second));
}

#[test]
fn stalls_of_tasks_that_a_fork_did_not_copy_are_over() {
    let mm = boot();
    let (clock, reclaim) = (mm.platform(), mm.slabs().reclaim());
    let gone = core::mem::ManuallyDrop::new(reclaim.stall());
    clock.advance(1000);
    mm.kswapd_is_gone(NodeId(0));
    clock.advance(1000);
    assert_eq!(mm.memory_stall_us() / 1000, 1000);
    drop(reclaim.stall());
    drop(core::mem::ManuallyDrop::into_inner(gone));
    clock.advance(1000);
    assert_eq!(mm.memory_stall_us() / 1000, 1000);
}

fn trigger() -> Trigger {
    "some 100000 1000000".parse().unwrap()
}

#[test]
fn a_watch_is_polled() {
    // P680
    let mm = boot();
    let (clock, reclaim) = (mm.platform(), mm.slabs().reclaim());
    let mut watch = mm.watch_stalls(trigger()).unwrap();
    clock.advance(500);
    assert_eq!(mm.has_stalled(&mut watch), Ok(false));
    let stall = reclaim.stall();
    clock.advance(99);
    assert_eq!(mm.has_stalled(&mut watch), Ok(false));
    clock.advance(1);
    assert_eq!(mm.has_stalled(&mut watch), Ok(true));
    assert_eq!(
        mm.has_stalled(&mut watch),
        Ok(false),
        "it was said in this window"
    );
    drop(stall);
    clock.nested.store(true, Relaxed);
    assert_eq!(mm.has_stalled(&mut watch), Err(Nested));
    assert!(mm.watch_stalls(trigger()).is_err());
    clock.nested.store(false, Relaxed);
}

/// Has this happen while a task sleeps.
fn when_asleep(mm: &Machine, on_sleep: impl FnMut(&TestPlatform, Option<u64>) + Send + 'static) {
    *mm.platform().on_sleep.lock().unwrap() = Some(std::boxed::Box::new(on_sleep) as OnSleep);
}

#[test]
fn who_waits_for_a_stall_sleeps_until_one_begins_and_is_told_of_it() {
    // P680
    let mm = boot();
    let reclaim = mm.slabs().reclaim();
    let mut watch = mm.watch_stalls(trigger()).unwrap();
    // Without a stall there is no time at which to look.
    let mut sleeps = 0;
    when_asleep(&mm, move |clock, deadline| {
        sleeps += 1;
        assert!(sleeps < 4 && deadline.is_none());
        clock.advance(60_000);
    });
    let asked = Cell::new(0);
    let thrice = || {
        asked.set(asked.get() + 1);
        asked.get() > 3
    };
    assert_eq!(mm.wait_stall(&mut watch, None, thrice), Ok(false));
    // While one lasts, it is looked at ten times a window.
    when_asleep(&mm, |clock, deadline| {
        assert!(deadline.is_some());
        clock.advance(100);
    });
    let stall = reclaim.stall();
    assert_eq!(mm.wait_stall(&mut watch, None, || false), Ok(true));
    let told = mm.platform().now_ns();
    assert_eq!(mm.wait_stall(&mut watch, None, || false), Ok(true));
    let again = mm.platform().now_ns() - told;
    assert!((900_000_000..1_200_000_000).contains(&again), "{again}");
    drop(stall);
    // What was is forgotten after two windows at most; then there is nothing to look at any more.
    let rests = Arc::new(AtomicBool::new(false));
    let resting = Arc::clone(&rests);
    when_asleep(&mm, move |clock, deadline| match deadline {
        Some(_) => clock.advance(100),
        None => resting.store(true, Relaxed),
    });
    while mm.wait_stall(&mut watch, None, || rests.load(Relaxed)) == Ok(true) {}
    let over = mm.platform().now_ns() - told - again;
    assert!((1_000_000_000..2_300_000_000).contains(&over), "{over}");
}

#[test]
fn a_stall_that_is_over_before_a_sleeper_is_up_is_seen() {
    let mm = boot();
    let mut watch = mm.watch_stalls(trigger()).unwrap();
    let mut sleeps = 0;
    when_asleep(&mm, move |_, _| {
        sleeps += 1;
        assert!(sleeps < 3, "it sleeps on");
    });
    let asked = Cell::new(0);
    // Asked last before it lies down.
    let stalls_meanwhile = || {
        asked.set(asked.get() + 1);
        if asked.get() == 2 {
            let _stall = mm.slabs().reclaim().stall();
            mm.platform().advance(200);
        }
        false
    };
    let told = mm.wait_stall(&mut watch, None, stalls_meanwhile);
    assert_eq!((told, asked.get()), (Ok(true), 2));
}

/// Runs `wait` where sleepers sleep until their deadline. In milliseconds, how long that took.
fn slept_ms(mm: &Machine, wait: impl FnOnce()) -> u64 {
    when_asleep(mm, |clock, deadline| {
        let left = deadline.unwrap() - clock.now_ns();
        clock.pass_ns(left.div_ceil(2)); // it may return early
    });
    let before = mm.platform().now_ns();
    wait();
    let after = mm.platform().now_ns();
    *mm.platform().on_sleep.lock().unwrap() = None;
    (after - before) / 1_000_000
}

#[test]
fn who_asks_again_waits_a_tick_or_20_ms() {
    // P156
    let mm = boot();
    let wait = |gfp| slept_ms(&mm, || mm.retry_wait(gfp));
    assert_eq!([GFP_KERNEL, GFP_NOIO].map(wait), [4, 4]);
    assert_eq!([GFP_KERNEL | Gfp::NORETRY, GFP_NOWAIT].map(wait), [20, 20]);
    assert_eq!(mm.sleep_misuses(), 0);
    // Where nobody may sleep nobody does, and is told.
    mm.platform().play(Context::Atomic);
    assert_eq!(wait(GFP_NOWAIT), 0);
    mm.platform().play(Context::Task);
    assert_eq!(mm.sleep_misuses(), 1);
}

#[test]
fn a_wait_for_a_stall_ends_with_its_deadline() {
    let mm = boot();
    let mut watch = mm.watch_stalls(trigger()).unwrap();
    when_asleep(&mm, |clock, deadline| {
        assert_eq!(deadline, Some(5_000_000_000));
        clock.advance(5000);
    });
    let until = Some(5_000_000_000);
    assert_eq!(mm.wait_stall(&mut watch, until, || false), Ok(false));
    assert!(mm.platform().now_ns() < 5_100_000_000);
    assert_eq!(mm.memory_stalls(), Ok([StallLine::default(); 2]));
}
