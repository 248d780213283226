//! Out of memory: whether somebody is killed, who, and what the log says (P128-P132, P430-P435b).
//!
//! 1. **Concept.** When nothing can be reclaimed, one task dies so that the others go on. It is
//!    chosen for what it uses, corrected by what its owner says (`oom_score_adj`); it gets access
//!    to reserves so that it can die; nobody else is killed while it does.
//! 2. **Steps.** Each is one function; the executor does what it says.
//!
//!    ```text
//!    notifiers ([`runs_notifiers`]) -> somebody freed pages? retry
//!      -> before_scan(): retry, mark current, pretend, panic, kill current, or scan
//!         -> Selection::consider() for each candidate -> wait, victim, or nobody
//!            -> after_scan(): kill, wait, panic, fail, message
//!               -> Reaper: 2 s, then 10 attempts, one each 100 ms; then it counts as reaped
//!    ```
//! 3. **Candidates** are tasks in a kernel, groups or caches in a process: whatever the platform
//!    lists with an amount of pages that its death frees (P435b).
//! 4. **Progress.** Waiting for a victim is bounded: after [`Reaper::MS_MAX`] it counts as reaped
//!    and the next candidate is chosen. Each kill takes a candidate out of the list, so a machine
//!    with `n` candidates ends in at most `n` kills, with [`Outcome::Panic`] or [`Outcome::Fail`].
//! 5. **The executor** keeps: the global try-lock of P128, for each victim its mark and its
//!    [`Reaper`]. Rights of victims are [`crate::policy::watermark::TaskRights::oom_victim`].
//! 6. **Not done.** The kill itself, and the memory report (the room `stat` writes it).

mod decide;
mod reaper;
mod report;
mod score;
mod shortage;
#[cfg(test)]
mod tests;

pub use decide::{
    Before, Outcome, PanicOnOom, ScanFacts, Trigger, Verdict, after_scan, before_scan,
    runs_notifiers,
};
pub use reaper::{Reap, Reaper};
pub use report::{Constrained, Invocation, KilledBy, TABLE_HEADER, TaskRow, VictimLine};
pub use score::{
    ADJ_MAX, ADJ_NEVER, Candidate, Considered, Ineligible, Selection, Standing, score,
};
pub use shortage::{Shortage, ZoneShortage, shortage};

/// P432, P435a: what limits where the memory that ran out may come from.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Constraint {
    /// Nothing: the machine is out of memory.
    None,
    /// The caller's cpuset.
    Cpuset,
    /// The caller's memory policy.
    MemoryPolicy,
    /// A group's limit.
    Memcg,
}

impl Constraint {
    /// The name in the report, after `CONSTRAINT_`.
    pub const fn name(self) -> &'static str {
        match self {
            Constraint::None => "NONE",
            Constraint::Cpuset => "CPUSET",
            Constraint::MemoryPolicy => "MEMORY_POLICY",
            Constraint::Memcg => "MEMCG",
        }
    }

    /// P431: the shortage is not a group's.
    pub const fn is_global(self) -> bool {
        !matches!(self, Constraint::Memcg)
    }
}

/// P432: what a request could have used, as far as the constraint depends on it.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The shortage is one of a group.
    pub group: bool,
    /// The memory policy leaves out a node that has memory.
    pub policy: bool,
    /// The cpuset leaves out a node that has memory in an eligible zone.
    pub cpuset: bool,
}

/// P432: the constraint. The narrowest reason first; where more than one holds, the policy before
/// the cpuset, since it lies inside it (the rule does not say).
pub const fn constraint(limits: &Limits) -> Constraint {
    if limits.group {
        Constraint::Memcg
    } else if limits.policy {
        Constraint::MemoryPolicy
    } else if limits.cpuset {
        Constraint::Cpuset
    } else {
        Constraint::None
    }
}
