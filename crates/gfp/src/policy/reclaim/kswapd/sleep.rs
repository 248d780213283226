//! How the background falls asleep (P403).

use super::{Balance, Failures};

/// P403: the trial before the long sleep, in milliseconds.
pub const TRIAL_SLEEP_MS: u32 = 100;

/// What the decision to sleep depends on.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct SleepFacts {
    /// The node, at the order that the last run balanced ([`super::RunEnd::Balanced`]).
    pub balance: Balance,
    /// Its runs without success, after the last one.
    pub failures: Failures,
}

impl SleepFacts {
    const fn may_sleep(&self) -> bool {
        self.failures.is_hopeless() || matches!(self.balance, Balance::Balanced)
    }
}

/// P403: after a run.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum BeforeSleep {
    /// Another run, for the same demand and what has come since.
    Stay,
    /// Wake all throttled reclaimers, forget compaction's skip hints, wake the compaction task for
    /// the demand's order if that is above 0; then sleep on trial.
    ///
    /// The rule has these "before the full sleep". Done before the trial, compaction works while
    /// the trial lasts.
    Trial {
        /// How long, in milliseconds.
        ms: u32,
    },
}

/// P403: whether the background sleeps. A hopeless node sleeps though it is not balanced: only
/// others can help it (P404).
pub const fn before_sleep(facts: &SleepFacts) -> BeforeSleep {
    if facts.may_sleep() {
        BeforeSleep::Trial { ms: TRIAL_SLEEP_MS }
    } else {
        BeforeSleep::Stay
    }
}

/// How the trial ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Trial {
    /// Somebody woke the task.
    Woken,
    /// The time is over.
    Elapsed,
}

/// P403: after the trial.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum AfterTrial {
    /// Relax the thresholds of the statistics (P274), then sleep until woken.
    Long,
    /// Stay awake, and count `kswapd_low_wmark_hit_quickly`. The old demand is merged with the new
    /// one: it was not met for long.
    LowHitQuickly,
    /// Stay awake, and count `kswapd_high_wmark_hit_quickly`.
    HighHitQuickly,
}

/// P403: the decision after the trial.
pub const fn after_trial(trial: Trial, facts: &SleepFacts) -> AfterTrial {
    match trial {
        Trial::Woken => AfterTrial::LowHitQuickly,
        Trial::Elapsed if facts.may_sleep() => AfterTrial::Long,
        Trial::Elapsed => AfterTrial::HighHitQuickly,
    }
}
