//! Wakers of a node's task in the background, and the task: no demand is lost.
//!
//! Seen to fail: a note that does not look at the state afterwards; the task that takes what is
//! wanted before it has said that it sleeps, or before it forgets the call.

use super::wait::Sleeper;
use crate::flags::ZoneKind;
use crate::policy::reclaim::kswapd::{Demand, TaskState};
use crate::post::{NodeTaskError, Post};
use loom::sync::Arc;
use loom::thread;
use std::vec::Vec;

type Machine = (Sleeper, Post);

/// The orders that are wanted, by one waker each.
const ORDERS: [u32; 2] = [1, 3];

fn demand(order: u32) -> Demand {
    Demand {
        order,
        highest: Some(ZoneKind::Normal),
    }
}

/// As requests wake background reclaim: a task that runs is not called.
fn wake_by_state((sleeper, post): &Machine, order: u32) {
    while let Some(state) = post.state() {
        match state {
            TaskState::Asleep => return post.want(sleeper, demand(order)),
            TaskState::Running if post.note(demand(order)) => return,
            TaskState::Running => {}
        }
    }
    panic!("there is a task");
}

/// Runs `task` until it has seen both demands, while two wake it. One that is lost leaves it
/// asleep: loom calls that a deadlock.
fn nothing_is_lost(wake: fn(&Machine, u32), task: fn(&Machine) -> Demand) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(move || {
        let machine = Arc::new(Machine::default());
        assert_eq!(machine.1.enter(), Ok(()));
        assert_eq!(machine.1.enter(), Err(NodeTaskError::HasOne));
        let wakers: Vec<_> = ORDERS
            .into_iter()
            .map(|order| {
                let machine = Arc::clone(&machine);
                thread::spawn(move || wake(&machine, order))
            })
            .collect();
        let mut seen = Demand::NONE;
        while seen.order < 3 {
            machine.1.sleep(&machine.0, None, || false);
            seen = seen.and(task(&machine));
        }
        wakers.into_iter().for_each(|waker| waker.join().unwrap());
        assert_eq!(seen, demand(3));
    });
}

#[test]
fn who_finds_the_task_running_is_heard_before_it_sleeps() {
    // P400
    nothing_is_lost(wake_by_state, |(_, post)| {
        let mut seen = Demand::NONE;
        loop {
            post.run();
            seen = seen.and(post.answer());
            let more = post.rest();
            seen = seen.and(more);
            if more == Demand::NONE {
                return seen;
            }
        }
    });
}

#[test]
fn who_always_calls_is_heard() {
    // P400, P427
    let wake = |(sleeper, post): &Machine, order| post.want(sleeper, demand(order));
    nothing_is_lost(wake, |(_, post)| post.answer());
}
