//! A round of reclaim and compaction, and whether another one is worth it (P116-P126).

use super::{At, Plan};
use crate::policy::effort::retry::{CompactOutcome, CompactRetry, Progress};
use crate::policy::effort::step::{Event, Question, Step};
use crate::policy::effort::terms::{
    Backoff, Compaction, NoCompaction, OrderClass, Rounds, TakeBack,
};

impl Plan {
    pub(super) fn round(&mut self) -> Step {
        match self.effort.rounds {
            Rounds::None(_) => self.without_reclaim(), // P116
            _ if self.effort.reports_stall && !self.first_turn => {
                self.to(At::Stall, Step::CheckStall)
            }
            _ => self.reclaim(),
        }
    }

    /// P136: a request that cannot wait drops NOFRAGMENT and looks again. P821: what others have
    /// cached is taken back before it fails.
    pub(super) fn without_reclaim(&mut self) -> Step {
        let effort = &self.effort;
        if self.nofragment && !effort.gfp.allows_blocking() && effort.gfp.wakes_kswapd() {
            self.nofragment = false;
            return self.next_turn();
        }
        if effort.take_back == TakeBack::BeforeFailing {
            return self.to(At::LateTakeBack, Step::TakeBack);
        }
        self.give_up()
    }

    /// P118.
    pub(super) fn reclaim(&mut self) -> Step {
        let order = self.effort.goal_order;
        self.to(At::Reclaim, Step::DirectReclaim { order })
    }

    pub(super) fn after_reclaim(&mut self, event: Event) -> Step {
        self.progress = match event {
            Event::Reclaimed(pages) if pages > 0 => Progress::Some,
            _ => Progress::None,
        };
        self.pass(At::ReclaimPass)
    }

    /// P118: the pass failed, so take back what is kept elsewhere, once a round.
    pub(super) fn take_back(&mut self) -> Step {
        match self.effort.take_back {
            TakeBack::EachRound => self.to(At::TakeBack, Step::TakeBack),
            TakeBack::AfterProgress if self.progress == Progress::Some => {
                self.to(At::TakeBack, Step::TakeBack)
            }
            _ => self.compact(),
        }
    }

    /// P119.
    pub(super) fn compact(&mut self) -> Step {
        if let Compaction::None(_) = self.effort.compaction {
            return self.after_round();
        }
        let step = Step::Compact {
            order: self.effort.goal_order,
            priority: self.retry.priority,
        };
        self.to(At::Compact, step)
    }

    pub(super) fn after_compact(&mut self, event: Event) -> Step {
        self.outcome = match event {
            Event::Compacted(outcome) => outcome,
            _ => CompactOutcome::Skipped,
        };
        self.pass(At::CompactPass)
    }

    /// P120-P122.
    pub(super) fn after_round(&mut self) -> Step {
        if self.effort.rounds == Rounds::One {
            return self.give_up();
        }
        self.retry.after_reclaim(self.progress, self.effort.class);
        if self.retry.may_reclaim_again() {
            return self.to(At::AskReclaim, Step::Ask(Question::WouldReclaimSuffice));
        }
        self.to(At::Unreserve, Step::UnreserveHighatomic) // P123
    }

    /// P125, P126: only where reclaim made progress.
    pub(super) fn retry_compaction(&mut self) -> Step {
        let class = self.effort.class;
        if self.progress == Progress::None || class == OrderClass::Single {
            return self.last_resort();
        }
        let top = match self.effort.compaction {
            Compaction::UpTo(top) => top,
            Compaction::None(NoCompaction::NotBuiltIn) if !class.is_costly() => {
                return self.to(At::AskOnePage, Step::Ask(Question::IsOnePageLeft));
            }
            Compaction::None(_) => return self.last_resort(),
        };
        if self.now.fatal_signal {
            return self.last_resort();
        }
        match self.retry.after_compaction(self.outcome, class, top) {
            CompactRetry::Retry => self.again(self.effort.backoff),
            CompactRetry::IfSuitable => {
                let step = Step::Ask(Question::WouldCompactionBeSuitable);
                self.to(At::AskSuitable, step)
            }
            CompactRetry::Stop => self.last_resort(),
        }
    }

    /// Another turn, after a pause (P124).
    pub(super) const fn again(&mut self, backoff: Backoff) -> Step {
        self.to(At::Backoff, Step::Backoff(backoff))
    }
}
