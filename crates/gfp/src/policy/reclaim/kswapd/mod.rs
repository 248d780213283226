//! Background reclaim: one task a node (P400-P404).
//!
//! 1. **Concept.** It is woken when a request finds a zone at its low watermark, and works until
//!    one zone that the wakers could use is above high. It sleeps in two steps, so that a machine
//!    that allocates all the time does not put it to sleep and wake it for every page.
//! 2. **States** of the task. Each arrow is one function here.
//!
//!    ```text
//!             wake()                         Run::step() / after()
//!    asleep ---------> running ------------------------------------+
//!      ^                 ^  ^                                      |
//!      |                 |  | not balanced: next run               | Done
//!      |                 |  +------------------ before_sleep() <---+
//!      | after_trial()   | woken early, or             | balanced, or hopeless
//!      | Long            | not balanced any more       v
//!      +-----------------+--------------------- trial, 100 ms
//!    ```
//! 3. **Structures.** [`Demand`]: what wakers want, as maxima. [`Run`]: one cycle of work.
//!    [`Failures`]: after 16 runs in a row that freed nothing the node is *hopeless*: it is left
//!    alone until somebody frees enough, and nobody waits for it.
//! 4. **Progress.** A run takes at most 14 passes more than it frees pages ([`Run`]).
//! 5. **The executor** keeps for each node: the demand (merged under a lock or as one word), the
//!    failures, whether the task is running; and looks for new demand between two runs.

mod balance;
mod run;
mod sleep;
#[cfg(test)]
mod tests;
mod wake;

pub use balance::{Measure, ZoneBalance, cycle_target, node_is_balanced, zone_is_balanced};
pub use run::{Run, RunEnd, RunPass, RunStep};
pub use sleep::{
    AfterTrial, BeforeSleep, SleepFacts, TRIAL_SLEEP_MS, Trial, after_trial, before_sleep,
};
pub use wake::{Demand, NodeTask, TaskState, Wake, WakeRequest, wake};

/// P400: runs in a row without a page after which a node is hopeless.
pub const FAILURES_MAX: u32 = crate::policy::effort::MAX_RECLAIM_RETRIES;

/// P404: who ended a node's hopelessness, for the trace.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum HopeReason {
    /// Background reclaim itself.
    Kswapd,
    /// A direct reclaimer.
    Direct,
    /// Pages went from a CPU's list back to the zone.
    Pcp,
    /// Anything else: memory was added, a large free.
    Other,
}

/// P400, P402, P404: runs of a node in a row that freed nothing.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Failures(u32);

impl Failures {
    /// So many; what [`Failures::get`] gave, from where the executor keeps it.
    pub const fn new(runs: u32) -> Failures {
        Failures(runs)
    }

    /// How many.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The background is not woken any more, and nobody waits for it.
    pub const fn is_hopeless(self) -> bool {
        self.0 >= FAILURES_MAX
    }

    /// P402: a run ended.
    pub const fn after_run(self, end: RunEnd) -> Failures {
        match end {
            RunEnd::Failed => Failures(self.0.saturating_add(1)),
            // Pages came, though not enough: the count of runs *in a row* begins anew.
            RunEnd::Balanced { .. } | RunEnd::Exhausted => Failures(0),
            RunEnd::Excused | RunEnd::BoostGivenUp => self,
        }
    }

    /// P404: somebody freed memory, and the node is balanced or not. The second value is the reason
    /// to trace, if the node was hopeless until now.
    pub const fn after_free(self, node: Balance, by: HopeReason) -> (Failures, Option<HopeReason>) {
        match node {
            Balance::Unbalanced => (self, None),
            Balance::Balanced if self.is_hopeless() => (Failures(0), Some(by)),
            Balance::Balanced => (Failures(0), None),
        }
    }
}

/// P401: whether a node has enough free.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Balance {
    /// One of its eligible zones is above high.
    Balanced,
    /// None is.
    Unbalanced,
}
