//! A request that compacts for itself (P119, P125).

use super::super::Reclaim;
use super::zone::{Captures, Ended, Goal, Job};
use crate::frame::Order;
use crate::page::{Compacted, Ground, Need};
use crate::platform::{Platform, now_of};
use crate::policy::compaction::{
    AfterZone, CompactOutcome, CompactPriority, Interrupted, Suitability, Use, after_zone, best,
    could_become_suitable,
};

impl<P: Platform> Reclaim<P> {
    fn job_of(&self, need: &Need<'_>, order: u32, priority: CompactPriority) -> Job {
        let mobility = self.pages.mobility_of(need.request);
        let goal = Order::new(order as u8).unwrap_or(Order::MAX);
        Job {
            goal: Goal::Block(goal),
            // A block that is larger than the request is there for its next pass.
            captures: match goal == need.request.order {
                true => Captures::Yes,
                false => Captures::No,
            },
            mobility,
            highest: self.pages.highest(need.request.gfp),
            by: Use::Direct(mobility),
            priority,
        }
    }

    /// P119: compacts the zones of a request, one after the other, until one has a block.
    ///
    /// Context: of a request that may sleep; outside of sections and locks.
    pub(in crate::reclaim) fn compact_directly(
        &self,
        need: &Need<'_>,
        order: u32,
        priority: CompactPriority,
    ) -> Compacted {
        let Some(_reclaiming) = self.begin(&"direct compaction") else {
            return Compacted::Ended(CompactOutcome::Contended);
        };
        let _stalled = self.stall();
        let job = self.job_of(need, order, priority);
        let mut outcome = CompactOutcome::Skipped;
        for ground in self.pages.grounds_for(need.request) {
            if ground.with_deferral(|deferral| deferral.defers(order, priority)) {
                outcome = best(outcome, CompactOutcome::Deferred);
                continue;
            }
            let here = match self.compact_zone(ground, &job) {
                Ended::Captured(pfn) => {
                    ground.with_deferral(|deferral| deferral.succeeded(order));
                    self.count_stall(CompactOutcome::Success);
                    return Compacted::Captured(pfn);
                }
                Ended::Without(here) => here,
            };
            ground.with_deferral(|deferral| deferral.after(order, priority, here));
            outcome = best(outcome, here);
            let interrupted = match now_of(self.pages.platform()).fatal_signal {
                true => Interrupted::Yes,
                false => Interrupted::No,
            };
            if after_zone(here, priority, interrupted) == AfterZone::Stop {
                break;
            }
        }
        self.count_stall(outcome);
        Compacted::Ended(outcome)
    }

    fn count_stall(&self, outcome: CompactOutcome) {
        let events = &self.events.compact;
        match outcome {
            CompactOutcome::Skipped | CompactOutcome::Deferred => return,
            CompactOutcome::Success => events.success.add(1),
            _ => events.fail.add(1),
        }
        events.stalls.add(1);
    }

    /// P125: whether reclaim could make a zone suitable.
    pub(in crate::reclaim) fn could_suit_compaction(
        &self,
        need: &Need<'_>,
        reclaimable: impl Fn(usize) -> usize,
    ) -> bool {
        let order = need.effort.goal_order;
        let highest = self.pages.highest(need.request.gfp);
        self.pages.grounds_for(need.request).any(|ground| {
            could_become_suitable(order, &ground.room(highest), reclaimable(ground.id()))
        })
    }

    /// P405: whether compaction could make a block for a request now, or there is one by now, so
    /// that reclaim has done enough.
    pub(in crate::reclaim) fn could_compact(&self, need: &Need<'_>) -> bool {
        let order = need.effort.goal_order;
        if order == 0 || !self.pages.has_page_owners() {
            return false;
        }
        let job = self.job_of(need, order, CompactPriority::SyncLight);
        let could = |ground: Ground<'_, P>| match self.suits(&ground, &job) {
            Suitability::Suitable => true,
            Suitability::AlreadyThere => ground.passes_min(order, job.highest),
            Suitability::TooFull | Suitability::NotFragmented => false,
        };
        self.pages.grounds_for(need.request).any(could)
    }
}
