//! A scripted executor: it has no memory, only answers, and writes down what it was told to do.

extern crate std;

mod levels;
mod numbers;
mod order;
mod properties;
mod scopes;

use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

use super::*;
use crate::flags::*;
use crate::policy::context::Context;

/// What the machine answers. Each function gets how often it was asked before.
#[derive(Copy, Clone)]
pub(super) struct Script {
    pub(super) reclaim: fn(usize) -> usize,
    pub(super) compact: fn(usize) -> CompactOutcome,
    pub(super) answer: fn(Question, usize) -> bool,
    pub(super) unreserve: fn(usize) -> bool,
    pub(super) oom_lock: fn(usize) -> bool,
    pub(super) kill: fn(usize) -> bool,
    /// Somebody else may kill for a request without `FS` (P431).
    pub(super) others: fn(usize) -> bool,
    pub(super) now: fn(usize) -> Now,
    /// The test ends here if the request does not.
    pub(super) max_steps: usize,
}

/// Nothing is gained, nothing changes, nobody is killed; reclaim looks promising all the time.
pub(super) const BARREN: Script = Script {
    reclaim: |_| 0,
    compact: |_| CompactOutcome::Complete,
    answer: |question, _| question == Question::WouldReclaimSuffice,
    unreserve: |_| false,
    oom_lock: |_| true,
    kill: |_| false,
    others: |_| true,
    now: |_| Now {
        oom_victim: false,
        fatal_signal: false,
    },
    max_steps: 4000,
};

/// What a request was told to do.
pub(super) struct Run {
    pub(super) steps: Vec<Step>,
    /// It ended; else it would go on for ever.
    pub(super) failed: bool,
}

pub(super) fn run(effort: &Effort, script: &Script) -> Run {
    let mut plan = Plan::new(*effort);
    let mut event = Event::Enter;
    let mut steps: Vec<Step> = Vec::new();
    while steps.len() < script.max_steps {
        let step = plan.next(event, (script.now)(steps.len()));
        let before = count(&steps, |s| {
            core::mem::discriminant(s) == core::mem::discriminant(&step)
        });
        let yes = |yes| if yes { Event::Yes } else { Event::No };
        event = match step {
            Step::Fail { .. } => {
                steps.push(step);
                let failed = true;
                return Run { steps, failed };
            }
            Step::Pass { .. } => Event::Missed,
            Step::DirectReclaim { .. } => Event::Reclaimed((script.reclaim)(before)),
            Step::Compact { .. } => Event::Compacted((script.compact)(before)),
            Step::Ask(question) => yes((script.answer)(question, before)),
            Step::UnreserveHighatomic => yes((script.unreserve)(before)),
            Step::AwaitReported => Event::No,
            Step::OomLock => yes((script.oom_lock)(before)),
            Step::OomKill if effort.oom == OomRule::WaitForOthers => yes((script.others)(before)),
            Step::OomKill => yes((script.kill)(before)),
            Step::Begin
            | Step::WakeBackground { .. }
            | Step::CheckStall
            | Step::TakeBack
            | Step::OomUnlock
            | Step::Backoff(_) => Event::Done,
        };
        steps.push(step);
    }
    let failed = false;
    Run { steps, failed }
}

fn count(steps: &[Step], what: impl Fn(&Step) -> bool) -> usize {
    steps.iter().filter(|step| what(step)).count()
}

impl Run {
    pub(super) fn count(&self, what: impl Fn(&Step) -> bool) -> usize {
        count(&self.steps, what)
    }

    pub(super) fn reclaims(&self) -> usize {
        self.count(|s| matches!(s, Step::DirectReclaim { .. }))
    }

    pub(super) fn compactions(&self) -> usize {
        self.count(|s| matches!(s, Step::Compact { .. }))
    }

    pub(super) fn kills(&self) -> usize {
        self.count(|s| matches!(s, Step::OomKill))
    }

    pub(super) fn wakes(&self) -> usize {
        self.count(|s| matches!(s, Step::WakeBackground { .. }))
    }

    pub(super) fn passes(&self) -> usize {
        self.count(|s| matches!(s, Step::Pass { .. }))
    }

    /// The steps in short words.
    pub(super) fn words(&self) -> String {
        let words: Vec<String> = self.steps.iter().map(word).collect();
        words.join(" ")
    }
}

fn word(step: &Step) -> String {
    match step {
        Step::Begin => "begin".to_string(),
        Step::WakeBackground { order, .. } => format!("wake:{order}"),
        Step::Pass { rights, reach } => match reach {
            Reach::Policy => format!("pass:{rights:?}"),
            Reach::Anywhere => format!("pass-anywhere:{rights:?}"),
        },
        Step::CheckStall => "stall?".to_string(),
        Step::DirectReclaim { order } => format!("reclaim:{order}"),
        Step::TakeBack => "take-back".to_string(),
        Step::Compact { order, priority } => format!("compact:{order}:{priority:?}"),
        Step::Ask(question) => format!("{question:?}?"),
        Step::UnreserveHighatomic => "unreserve".to_string(),
        Step::AwaitReported => "await".to_string(),
        Step::OomLock => "lock".to_string(),
        Step::OomKill => "kill".to_string(),
        Step::OomUnlock => "unlock".to_string(),
        Step::Backoff(backoff) => format!("backoff:{backoff:?}"),
        Step::Fail { report: true } => "fail+report".to_string(),
        Step::Fail { report: false } => "fail".to_string(),
    }
}

/// The effort of an ordinary task on an ordinary machine.
pub(super) fn effort(gfp: Gfp, order: u32) -> Effort {
    Effort::of(gfp, order, &Caller::default(), &Machine::LINUX)
}

/// The seven levels, one word each.
pub(super) const LEVELS: [(&str, Gfp); 7] = [
    ("1 no reclaim", GFP_KERNEL.without(Gfp::RECLAIM)),
    ("2 background", GFP_KERNEL.without(Gfp::DIRECT_RECLAIM)),
    ("3 reserves", GFP_ATOMIC),
    ("4 default", GFP_KERNEL),
    ("5 noretry", GFP_KERNEL.with(Gfp::NORETRY)),
    ("6 retry_mayfail", GFP_KERNEL.with(Gfp::RETRY_MAYFAIL)),
    ("7 nofail", GFP_KERNEL.with(Gfp::NOFAIL)),
];
