//! The plan: [`Effort`] as a small state machine that a slow path drives (P109-P134).
//!
//! ```text
//!           ┌──────────────────────────────────────────────────────── restart (P111) ◄──┐
//!           ▼                                                                           │
//! Begin ─► turn: wake ─► pass ─► [compact first ─► pass] ─► [pass with reserves]        │
//!           ▲                                     │                                     │
//!           │         may not reclaim ◄───────────┤                                     │
//!           │               │                     ▼                                     │
//!           │               │          reclaim ─► pass ─► take back ─► pass             │
//!           │               │                     │                                     │
//!           │               │                     ▼                                     │
//!           │               │          compact ─► pass ── one round ─────────┐          │
//!           │               │                     │                          │          │
//!           ├─ backoff ◄────┼──── yes ─ worth another round?                 │          │
//!           │               │                     │ no                       │          │
//!           ├─ tick ◄───────┼──── progress ─ OOM step (P128) ── no ──────────┤          │
//!           │               │                                                ▼          │
//!           │               └────────────────────────────────────► end: changed? ─ yes ─┘
//!           └─ backoff ◄── passes with MIN_RESERVE ◄── must not fail ── or fail
//! ```

mod end;
mod round;

use super::retry::{CompactOutcome, Progress, Retry};
use super::step::{Event, Now, Reach, Step};
use super::table::Effort;
use super::terms::CompactFirst;
use crate::policy::watermark::{AllocFlags, TaskRights};

/// What the plan waits for: the step that it gave last.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum At {
    Outside,
    Began,
    Woken,
    TurnPass,
    CompactFirst,
    CompactFirstPass,
    ReservePass,
    Stall,
    Reclaim,
    ReclaimPass,
    TakeBack,
    TakeBackPass,
    Compact,
    CompactPass,
    AskReclaim,
    Unreserve,
    AskSuitable,
    AskOnePage,
    Backoff,
    Reported(Before),
    ReportedPass(Before),
    Changed(Before),
    OomLock,
    OomPass,
    OomKill,
    OomKillPass,
    OomUnlock,
    LateTakeBack,
    LatePass,
    NofailInside,
    NofailOutside,
    Failed,
}

/// What a last look comes before.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Before {
    Oom,
    End,
}

/// One request's way through the slow path: give it what came of the last step, do what it says.
///
/// ```
/// use gfp::flags::GFP_NOWAIT;
/// use gfp::policy::effort::{Caller, Effort, Event, Machine, Now, Plan, Step};
/// let effort = Effort::of(GFP_NOWAIT, 0, &Caller::default(), &Machine::LINUX);
/// let mut plan = Plan::new(effort);
/// let mut event = Event::Enter;
/// loop {
///     event = match plan.next(event, Now::default()) {
///         Step::Pass { .. } => Event::Missed, // no memory anywhere
///         Step::Ask(_) | Step::AwaitReported => Event::No,
///         Step::Fail { report } => break assert!(!report), // NOWARN is part of GFP_NOWAIT
///         Step::DirectReclaim { .. } => unreachable!("the caller may not wait"),
///         _ => Event::Done,
///     };
/// }
/// ```
#[derive(Copy, Clone, Debug)]
pub struct Plan {
    effort: Effort,
    at: At,
    retry: Retry,
    now: Now,
    /// No turn has ended yet.
    first_turn: bool,
    /// Node mask and policy were dropped (P115).
    reach: Reach,
    /// P136: still in force.
    nofragment: bool,
    /// What this round's reclaim brought.
    progress: Progress,
    /// How this round's compaction ended.
    outcome: CompactOutcome,
    /// What the OOM step brought.
    oom_progress: Progress,
}

impl Plan {
    /// The way of a request whose fast pass found nothing.
    pub const fn new(effort: Effort) -> Plan {
        Plan {
            effort,
            at: At::Outside,
            retry: Retry {
                no_progress: 0,
                compaction_retries: 0,
                priority: super::CompactPriority::Async,
            },
            now: Now {
                oom_victim: effort.caller.oom_victim,
                fatal_signal: false,
            },
            first_turn: true,
            reach: Reach::Policy,
            nofragment: effort.keeps_blocks_whole,
            progress: Progress::None,
            outcome: CompactOutcome::Skipped,
            oom_progress: Progress::None,
        }
    }

    /// What the request may do at all.
    pub const fn effort(&self) -> &Effort {
        &self.effort
    }

    /// The counters of the loop.
    pub const fn retry(&self) -> Retry {
        self.retry
    }

    /// The next step, after this came of the last one. Never panics; an event that does not answer
    /// the last step counts as its least promising answer (debug builds panic).
    pub fn next(&mut self, event: Event, now: Now) -> Step {
        debug_assert!(self.fits(event), "{event:?} does not answer {:?}", self.at);
        self.now = Now {
            oom_victim: now.oom_victim || self.effort.caller.oom_victim,
            ..now
        };
        let yes = event == Event::Yes;
        match self.at {
            At::Outside => self.enter(),
            At::Began => self.turn(),
            At::Woken => self.turn_pass(),
            At::TurnPass => self.after_turn_pass(),
            At::CompactFirst => self.after_compact_first(event),
            At::CompactFirstPass => self.reserve_pass(),
            At::ReservePass => self.round(),
            At::Stall => self.reclaim(),
            At::Reclaim => self.after_reclaim(event),
            At::ReclaimPass => self.take_back(),
            At::TakeBack => self.pass(At::TakeBackPass),
            At::TakeBackPass => self.compact(),
            At::Compact => self.after_compact(event),
            At::CompactPass => self.after_round(),
            At::AskReclaim if yes => self.again(self.effort.backoff),
            At::AskReclaim => self.to(At::Unreserve, Step::UnreserveHighatomic),
            At::Unreserve if yes => self.again(self.effort.backoff),
            At::Unreserve => self.retry_compaction(),
            At::AskSuitable | At::AskOnePage if yes => self.again(self.effort.backoff),
            At::AskSuitable | At::AskOnePage => self.last_resort(),
            At::Backoff => self.next_turn(),
            At::Reported(before) if yes => self.pass(At::ReportedPass(before)),
            At::Reported(before) | At::ReportedPass(before) => self.ask_changed(before),
            At::Changed(_) if yes => self.restart(),
            At::Changed(Before::Oom) => self.to(At::OomLock, Step::OomLock),
            At::Changed(Before::End) => self.end(),
            At::OomLock => self.after_oom_lock(yes),
            At::OomPass => self.after_oom_pass(),
            At::OomKill => self.after_kill(yes),
            At::OomKillPass => self.to(At::OomUnlock, Step::OomUnlock),
            At::OomUnlock => self.after_oom(),
            At::LateTakeBack => self.pass(At::LatePass),
            At::LatePass => self.give_up(),
            At::NofailInside => self.after_nofail_inside(),
            At::NofailOutside => self.again(self.effort.backoff),
            At::Failed => self.fail(),
        }
    }

    /// Whether the event is an answer to the last step.
    const fn fits(&self, event: Event) -> bool {
        match self.at {
            At::Outside => matches!(event, Event::Enter),
            At::Reclaim => matches!(event, Event::Reclaimed(_)),
            At::Compact | At::CompactFirst => matches!(event, Event::Compacted(_)),
            At::AskReclaim
            | At::AskSuitable
            | At::AskOnePage
            | At::Unreserve
            | At::Reported(_)
            | At::Changed(_)
            | At::OomLock
            | At::OomKill => matches!(event, Event::Yes | Event::No),
            At::TurnPass
            | At::CompactFirstPass
            | At::ReservePass
            | At::ReclaimPass
            | At::TakeBackPass
            | At::CompactPass
            | At::ReportedPass(_)
            | At::OomPass
            | At::OomKillPass
            | At::LatePass
            | At::NofailInside
            | At::NofailOutside => matches!(event, Event::Missed),
            At::Failed => true,
            _ => matches!(event, Event::Done),
        }
    }

    const fn to(&mut self, at: At, step: Step) -> Step {
        self.at = at;
        step
    }

    /// A pass with the rights that the request has now.
    fn pass(&mut self, at: At) -> Step {
        let rights = self.rights();
        let reach = self.reach;
        self.to(at, Step::Pass { rights, reach })
    }

    fn enter(&mut self) -> Step {
        if self.effort.refused || self.effort.slow.is_none() {
            return self.fail(); // P52, P171
        }
        self.to(At::Began, Step::Begin)
    }

    /// P111: from the beginning, with all counters zero.
    fn restart(&mut self) -> Step {
        let now = self.now;
        *self = Plan::new(self.effort);
        self.now = now;
        self.turn()
    }

    fn next_turn(&mut self) -> Step {
        self.first_turn = false;
        self.turn()
    }

    /// P112: each turn wakes, so that background reclaim does not fall asleep meanwhile.
    fn turn(&mut self) -> Step {
        if !self.effort.wake_background {
            return self.turn_pass();
        }
        let step = Step::WakeBackground {
            order: self.effort.goal_order,
            highest: self.effort.highest,
        };
        self.to(At::Woken, step)
    }

    /// P113; in later turns with the reserves that the caller is entitled to by then.
    fn turn_pass(&mut self) -> Step {
        if !self.first_turn && self.reserves().is_some() {
            self.reach = Reach::Anywhere;
        }
        self.pass(At::TurnPass)
    }

    fn after_turn_pass(&mut self) -> Step {
        if self.first_turn && self.effort.compact_first != CompactFirst::No {
            // P114: the lowest priority, whatever comes later.
            let step = Step::Compact {
                order: self.effort.goal_order,
                priority: super::CompactPriority::Async,
            };
            return self.to(At::CompactFirst, step);
        }
        self.reserve_pass()
    }

    fn after_compact_first(&mut self, event: Event) -> Step {
        if let Event::Compacted(outcome) = event {
            self.outcome = outcome;
        }
        let hopeless = matches!(
            self.outcome,
            CompactOutcome::Skipped | CompactOutcome::Deferred
        );
        if self.effort.compact_first == CompactFirst::OrGiveUp && hopeless {
            return self.give_up(); // P108, up to 6.19
        }
        self.pass(At::CompactFirstPass)
    }

    /// P115: once, in the first turn.
    fn reserve_pass(&mut self) -> Step {
        if self.first_turn && self.reach == Reach::Policy && self.reserves().is_some() {
            self.reach = Reach::Anywhere;
            return self.pass(At::ReservePass);
        }
        self.round()
    }

    fn task(&self) -> TaskRights {
        TaskRights {
            oom_victim: self.now.oom_victim,
            ..self.effort.caller.rights()
        }
    }

    /// P265, with what the caller has become meanwhile.
    fn reserves(&self) -> Option<AllocFlags> {
        AllocFlags::reserves(self.effort.gfp, &self.task())
    }

    /// P262.
    fn base_rights(&self) -> AllocFlags {
        let slow = self.effort.slow.unwrap_or(self.effort.fast);
        if self.nofragment {
            slow
        } else {
            slow.without(AllocFlags::NOFRAGMENT)
        }
    }

    /// The rights of a pass: those of reserves once policy was dropped for them.
    fn rights(&self) -> AllocFlags {
        match self.reserves() {
            Some(reserves) if self.reach == Reach::Anywhere && self.nofragment => {
                reserves.with(AllocFlags::NOFRAGMENT)
            }
            Some(reserves) if self.reach == Reach::Anywhere => reserves,
            _ => self.base_rights(),
        }
    }
}
