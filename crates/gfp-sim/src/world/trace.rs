//! What happened, as a number and as the last lines of a story.

use super::{At, Decision};
use crate::config::Shown;
use crate::rng::mix;
use std::collections::VecDeque;

/// One thing that happened.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Event {
    Point(At, Decision),
    Switch,
    Take,
    Sleep,
    Wake,
    Timer,
    Done,
    SlowCpu,
    ClockJump,
    RefuseRemote,
    RefuseMap,
    /// Noted by a scenario.
    Note,
}

impl Event {
    fn number(self) -> u64 {
        match self {
            Event::Point(at, decision) => 0x100 | (at as u64) << 4 | decision as u64,
            Event::Switch => 1,
            Event::Take => 2,
            Event::Sleep => 3,
            Event::Wake => 4,
            Event::Timer => 5,
            Event::Done => 6,
            Event::SlowCpu => 7,
            Event::ClockJump => 8,
            Event::RefuseRemote => 9,
            Event::RefuseMap => 10,
            Event::Note => 11,
        }
    }
}

#[derive(Copy, Clone, Debug)]
pub(crate) struct Entry {
    step: u64,
    cpu: u32,
    pub(crate) task: usize,
    event: Event,
    detail: u64,
}

impl Entry {
    pub(crate) fn show(&self, task: &str) -> String {
        let Entry {
            step,
            cpu,
            event,
            detail,
            ..
        } = self;
        match event {
            Event::Point(at, decision) => {
                format!("step {step} CPU {cpu} {task}: {at:?} -> {decision:?}")
            }
            event => format!("step {step} CPU {cpu} {task}: {event:?} {detail:#x}"),
        }
    }
}

/// A hash of all events, and the last of them.
#[derive(Debug)]
pub(crate) struct Trace {
    hash: u64,
    last: VecDeque<Entry>,
    shown: Shown,
}

impl Trace {
    pub(crate) fn new(seed: u64, shown: Shown) -> Trace {
        Trace {
            hash: mix(seed),
            last: VecDeque::new(),
            shown,
        }
    }

    pub(crate) fn add(&mut self, step: u64, cpu: u32, task: usize, event: Event, detail: u64) {
        let word = event.number() << 48 ^ u64::from(cpu) << 40 ^ (task as u64) << 24 ^ step;
        self.hash = mix(self.hash ^ mix(word) ^ detail.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        // Points where nothing happened would hide the rest.
        let quiet = matches!(event, Event::Point(_, Decision::Go | Decision::Leave));
        let most = match self.shown {
            Shown::Last(_) if quiet => return,
            Shown::Last(most) | Shown::LastWithPoints(most) => most,
        };
        while self.last.len() >= most.max(1) {
            self.last.pop_front();
        }
        self.last.push_back(Entry {
            step,
            cpu,
            task,
            event,
            detail,
        });
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// The last events, oldest first.
    pub(crate) fn last(&self) -> impl Iterator<Item = &Entry> {
        self.last.iter()
    }
}
