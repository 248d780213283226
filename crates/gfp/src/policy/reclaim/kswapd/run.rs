//! One run of the background (P217, P402).

use super::{Balance, Demand};
use crate::policy::compaction::gap;
use crate::policy::reclaim::{PassResult, Priority};

/// One pass of a run: ask all providers of the node once.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct RunPass {
    /// Which part of everything.
    pub priority: Priority,
    /// The order to reclaim for.
    pub order: u32,
    /// Dirty pages may be written, and pages with an owner who stores them may be given to it. Not
    /// for a boost: that is not worth I/O (P402).
    pub may_write: bool,
}

/// What a run does next.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum RunStep {
    /// Reclaim.
    Pass(RunPass),
    /// The run is over. The executor takes what the boost was at its beginning off each zone's
    /// boost ([`crate::policy::boost::after_run`]), which may wake the compaction task.
    Done(RunEnd),
}

/// P402: how a run ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum RunEnd {
    /// The node is balanced at this order: that of the demand, or 0 if so much was freed that the
    /// rest is compaction's.
    Balanced {
        /// The order.
        order: u32,
    },
    /// The ladder ended; something was freed, but not enough.
    Exhausted,
    /// The ladder ended and nothing was freed, but the run began with a boost: no failure.
    Excused,
    /// The ladder ended and nothing was freed: counts towards hopelessness.
    Failed,
    /// The node is balanced, and working off the boost did not gain any more.
    BoostGivenUp,
}

/// The state of one run (P402).
///
/// ```text
/// let mut run = Run::new(demand, boost);
/// while let RunStep::Pass(pass) = run.step(balance(run.order())) {
///     run.after(result, target);
/// }
/// ```
///
/// A run with a boost is *boost-only* while the node is balanced; if it is found out of balance,
/// the boost is forgotten and the ladder begins anew, once.
///
/// Bound: at most 14 passes ([`Run::IDLE_PASSES_MAX`]) in which the priority falls, and one more
/// for each page freed: a pass that does not lower the priority has freed a page.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Run {
    demand: Demand,
    order: u32,
    priority: Priority,
    began_with_boost: bool,
    /// Of the boost, in pages; 0: this is not, or not any more, a boost-only run.
    boost_left: usize,
    total: PassResult,
    end: Option<RunEnd>,
}

impl Run {
    /// The most passes in which the priority falls: 12 down to 1, and before it 12 and 11 for the
    /// boost. (One that gains nothing at 10 gives the boost up, and the run is over.)
    pub const IDLE_PASSES_MAX: usize = 12 + 2;

    /// A run for what is wanted; `boost`: the sum of the boosts of the node's eligible zones, in
    /// pages.
    pub const fn new(demand: Demand, boost: usize) -> Run {
        Run {
            demand,
            order: demand.order,
            priority: Priority::START,
            began_with_boost: boost > 0,
            boost_left: boost,
            total: PassResult {
                scanned: 0,
                freed: 0,
            },
            end: None,
        }
    }

    /// The order at which balance is asked for now.
    pub const fn order(&self) -> u32 {
        self.order
    }

    /// What the run is for.
    pub const fn demand(&self) -> Demand {
        self.demand
    }

    /// All passes so far.
    pub const fn total(&self) -> PassResult {
        self.total
    }

    /// What to do next. `node`: [`super::node_is_balanced`] at [`Run::order`], *without* boost: the
    /// boost is counted here, as pages still to free (P217, its detail unverified).
    pub const fn step(&mut self, node: Balance) -> RunStep {
        if let Some(end) = self.end {
            return RunStep::Done(end);
        }
        match node {
            Balance::Balanced if self.boost_left == 0 => {
                let end = RunEnd::Balanced { order: self.order };
                self.end = Some(end);
                return RunStep::Done(end);
            }
            Balance::Balanced => {}
            Balance::Unbalanced => {
                if self.boost_left > 0 {
                    self.boost_left = 0;
                    self.priority = Priority::START;
                }
            }
        }
        RunStep::Pass(RunPass {
            priority: self.priority,
            order: self.order,
            may_write: self.boost_left == 0,
        })
    }

    /// What the pass did; `target`: [`super::cycle_target`], in pages.
    ///
    /// The rule says where the ladder begins and ends. In between, the priority falls after a pass
    /// that freed nothing or looked at less than the target: a pass that looked at all it wanted
    /// and gained is repeated.
    pub const fn after(&mut self, pass: PassResult, target: usize) {
        self.total = self.total.and(pass);
        if self.order > 0 && self.total.freed >= gap(self.order) {
            self.order = 0; // the rest is compaction's
        }
        let boost_only = self.boost_left > 0;
        self.boost_left = self.boost_left.saturating_sub(pass.freed);
        if pass.freed > 0 && (pass.scanned >= target || boost_only) {
            return;
        }
        let last = if boost_only {
            Priority::BOOST_LAST
        } else {
            Priority::BACKGROUND_LAST
        };
        match self.priority.next() {
            Some(next) if self.priority.get() > last.get() => self.priority = next,
            _ if boost_only => self.end = Some(RunEnd::BoostGivenUp),
            _ if self.total.freed > 0 => self.end = Some(RunEnd::Exhausted),
            _ if self.began_with_boost => self.end = Some(RunEnd::Excused),
            _ => self.end = Some(RunEnd::Failed),
        }
    }
}
