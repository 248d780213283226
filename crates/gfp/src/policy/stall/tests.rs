//! The averages against their definition, and triggers.

use super::*;
use std::format;
use std::string::ToString;
use std::vec::Vec;

const S: u64 = 1_000_000;

/// `1 - e^(-seconds / length)`, in hundredths of a percent.
fn risen(seconds: f64, length: u32) -> f64 {
    10_000.0 * (1.0 - (-seconds / f64::from(length)).exp())
}

fn some(ledger: &Ledger) -> StallLine {
    ledger.lines()[StallKind::Some as usize]
}

fn hundredths(line: &StallLine) -> [u32; 3] {
    line.averages.map(Part::hundredths)
}

fn assert_near(got: u32, want: f64, what: &str) {
    let error = (f64::from(got) - want).abs();
    assert!(error <= 0.51, "{what}: {got} is not {want}");
}

#[test]
fn averages_rise_and_fall_exponentially() {
    // P680
    let mut ledger = Ledger::NONE;
    ledger.enter(0, 4);
    for seconds in [2, 10, 60, 300, 1000] {
        ledger.pass(seconds * S);
        for (got, length) in hundredths(&some(&ledger)).into_iter().zip(LENGTHS_S) {
            assert_near(got, risen(seconds as f64, length), "rising");
        }
    }
    ledger.leave(1000 * S, 4);
    let before = hundredths(&some(&ledger));
    for seconds in [2, 20, 100, 1000] {
        ledger.pass((1000 + seconds) * S);
        for (i, got) in hundredths(&some(&ledger)).into_iter().enumerate() {
            let left = (-(seconds as f64) / f64::from(LENGTHS_S[i])).exp();
            assert_near(got, f64::from(before[i]) * left, "falling");
        }
    }
    assert_eq!(some(&ledger).total_us, 1000 * S);
    ledger.pass(1 << 60);
    assert_eq!(hundredths(&some(&ledger)), [0; 3]);
}

#[test]
fn who_looks_seldom_sees_what_who_looks_often_sees() {
    // P680: the same stalls, once looked at every 0.1 s, once only when one begins or ends.
    let stalls = [(1, 3), (50, 1), (51, 49), (107, 693), (2000, 12_345)];
    let (mut often, mut seldom) = (Ledger::NONE, Ledger::NONE);
    let mut now = 0;
    for (begin, tenths) in stalls {
        for at in now..begin {
            often.pass(at * S / 10);
        }
        often.enter(begin * S / 10, 1);
        seldom.enter(begin * S / 10, 1);
        now = begin + tenths;
        for at in begin..now {
            often.pass(at * S / 10);
        }
        often.leave(now * S / 10, 1);
        seldom.leave(now * S / 10, 1);
        let (often, seldom) = (often.lines(), seldom.lines());
        assert_eq!(often[0].total_us, seldom[0].total_us);
        let pairs = hundredths(&often[0])
            .into_iter()
            .zip(hundredths(&seldom[0]));
        for (often, seldom) in pairs {
            assert!(often.abs_diff(seldom) <= 1, "{often} {seldom}");
        }
        assert_eq!(often[0], often[1], "one task at once: some is full");
    }
    assert_eq!(some(&often).total_us, 13_091 * S / 10);
}

#[test]
fn a_part_of_a_period_counts_when_the_period_is_over() {
    let mut ledger = Ledger::NONE;
    ledger.enter(3 * S / 2, 1);
    ledger.leave(2 * S - 1, 1);
    assert_eq!(hundredths(&some(&ledger)), [0; 3]);
    assert_eq!(some(&ledger).total_us, S / 2 - 1);
    ledger.pass(2 * S);
    assert_near(
        hundredths(&some(&ledger))[0],
        risen(2.0, 10) / 4.0,
        "a quarter",
    );
    // Of two periods half each: the stall goes over the border.
    let mut ledger = Ledger::NONE;
    ledger.enter(S, 1);
    ledger.leave(3 * S, 1);
    ledger.pass(4 * S);
    assert_near(
        hundredths(&some(&ledger))[0],
        risen(4.0, 10) / 2.0,
        "a half",
    );
}

#[test]
fn a_stall_for_ever_is_all_of_the_time_and_looking_changes_nothing() {
    let mut ledger = Ledger::NONE;
    ledger.enter(0, 2);
    for second in 0..10_000 {
        ledger.pass(second * S);
        let seen = ledger;
        ledger.pass(second * S);
        ledger.pass(second * S / 2); // the clock never goes back
        assert_eq!(ledger, seen);
    }
    assert_eq!(hundredths(&some(&ledger)), [10_000; 3]);
    assert_eq!(
        some(&ledger).to_string(),
        "avg10=100.00 avg60=100.00 avg300=100.00 total=9999000000"
    );
    assert_eq!(ledger.lines()[1], StallLine::default(), "one of two works");
}

#[test]
fn full_is_when_as_many_stall_as_could_work() {
    // P409, P680
    let mut ledger = Ledger::NONE;
    ledger.enter(0, 2);
    ledger.enter(S, 2);
    ledger.enter(2 * S, 2);
    ledger.leave(4 * S, 2);
    ledger.leave(5 * S, 2);
    ledger.leave(7 * S, 2);
    ledger.pass(9 * S);
    assert_eq!(ledger.lines().map(|line| line.total_us), [7 * S, 4 * S]);
    // Another CPU has come meanwhile; and one task that was stalling is gone without a word.
    ledger.enter(10 * S, 1);
    ledger.enter(11 * S, 3);
    assert_eq!(ledger.tasks(), 2);
    ledger.forget_tasks(12 * S);
    ledger.leave(13 * S, 0);
    ledger.pass(20 * S);
    assert_eq!(ledger.lines().map(|line| line.total_us), [9 * S, 5 * S]);
}

#[test]
fn numbers_at_their_limits_do_not_panic() {
    let mut ledger = Ledger::NONE;
    ledger.enter(u64::MAX - 1, u32::MAX);
    ledger.leave(u64::MAX, 0);
    ledger.leave(0, 0);
    ledger.enter(u64::MAX, 0);
    ledger.pass(u64::MAX);
    assert_eq!(ledger.lines().map(|line| line.total_us), [1, 0]);
}

#[test]
fn a_trigger_is_checked_before_it_is_one() {
    // P680
    for text in [
        "some 1 500000",
        "full 500000 500000",
        "some 150000 1000000",
        "full 10000000 10000000",
    ] {
        assert_eq!(text.parse::<Trigger>().unwrap().to_string(), text);
        assert_eq!(format!(" {text}\n").parse::<Trigger>().unwrap(), {
            text.parse().unwrap()
        });
    }
    use TriggerError::{Stall, Syntax, Window};
    for (text, error) in [
        ("", Syntax),
        ("some", Syntax),
        ("some 1000", Syntax),
        ("some 1000 1000000 1", Syntax),
        ("none 1000 1000000", Syntax),
        ("Some 1000 1000000", Syntax),
        ("some -1 1000000", Syntax),
        ("some 1000 4294967297", Syntax),
        ("some 1000 499999", Window),
        ("some 1000 10000001", Window),
        ("some 0 1000000", Stall),
        ("full 1000001 1000000", Stall),
    ] {
        assert_eq!(text.parse::<Trigger>(), Err(error), "{text:?}");
        assert!(error.to_string().contains(' '));
    }
}

/// When a trigger of 150 ms in a second says so, looking every 0.1 s, with these stalls in ms.
fn said(stalls: &[(u64, u64)], until_ms: u64) -> Vec<u64> {
    let ms = |ms: u64| ms * 1000;
    let trigger = "some 150000 1000000".parse().unwrap();
    let mut ledger = Ledger::NONE;
    let mut watch = Watch::new(trigger, 0, &ledger.lines());
    let mut edges = stalls
        .iter()
        .flat_map(|(begin, long)| [*begin, begin + long]);
    let (mut next, mut said) = (edges.next(), Vec::new());
    for now in 0..=until_ms {
        if next == Some(now) {
            match ledger.tasks() {
                0 => ledger.enter(ms(now), 1),
                _ => ledger.leave(ms(now), 1),
            }
            next = edges.next();
        }
        if now % 100 == 0 {
            ledger.pass(ms(now));
            if watch.look(ms(now), &ledger.lines()) {
                said.push(now);
            }
        }
    }
    assert!(watch.is_cold(&ledger.lines()) || stalls.last().unwrap().0 + 2200 > until_ms);
    said
}

#[test]
fn a_watch_says_when_so_much_stalled_within_a_window() {
    // P680
    assert_eq!(said(&[(0, 150)], 5000), [200]);
    assert_eq!(said(&[(0, 149)], 5000), []);
    // Small ones add up within a window, and do not over several.
    assert_eq!(said(&[(10, 50), (310, 50), (610, 50)], 5000), [700]);
    assert_eq!(said(&[(10, 50), (810, 50), (1610, 50)], 5000), []);
    // The border of a window does not hide it.
    assert_eq!(said(&[(900, 100), (1150, 100)], 5000), [1300]);
    // It is said once a window.
    assert_eq!(said(&[(0, 2950)], 6000), [200, 1200, 2200, 3200]);
}

#[test]
fn a_watch_that_was_not_looked_at_says_it_once() {
    let trigger = "some 150000 1000000".parse().unwrap();
    let mut ledger = Ledger::NONE;
    let mut watch = Watch::new(trigger, 0, &ledger.lines());
    assert!(watch.is_cold(&ledger.lines()));
    ledger.enter(S, 1);
    ledger.leave(2 * S, 1);
    assert!(!watch.is_cold(&ledger.lines()));
    assert!(watch.look(3600 * S, &ledger.lines()));
    assert!(!watch.look(3601 * S, &ledger.lines()) && !watch.is_cold(&ledger.lines()));
    assert!(!watch.look(3602 * S + 1, &ledger.lines()) && watch.is_cold(&ledger.lines()));
}
