//! How hard to try: the table of P100-P170, and the plan that a slow path executes.
//!
//! 1. **Concept.** What a request may do follows from its flags, its order, who asks and what the
//!    machine can do. [`Effort::of`] looks all of that up once. [`Plan`] turns the result into
//!    steps, one at a time; the slow path does what a step says and tells what came of it. No
//!    other code tests reclaim bits.
//! 2. **Structures.** [`Caller`] and [`Machine`] are the facts; [`Scopes`] what a stretch of code
//!    took away from its requests (P150); [`Effort`] the row of the table; [`Retry`] the counters
//!    of a loop (P121-P126); [`Step`] and [`Event`] the conversation.
//! 3. **Levels.** The seven levels of the guide are seven values of [`Level`]: a name for what the
//!    other fields say, looked at by nobody but people.
//! 4. **Failure.** The table is total and the plan never panics. A request ends in
//!    [`Step::Fail`], unless it must not fail; then it ends when memory is found. A request that
//!    may not fail but breaks the conditions of that (P49, P52) fails like any other.
//! 5. **Where Linux is left.** A context that may not sleep makes a request non-blocking, whatever
//!    its flags say (P154 would only complain). A machine without OOM killer ends where a kill
//!    would be next, also without `FS`: nobody else will kill. A costly request whose compaction
//!    is skipped ends with its reclaim rounds (P122), where P125 alone would have no bound. What
//!    CPUs have cached is also taken back for requests that do not reclaim (P821).
//! 6. **Locking.** None: plain data, usable in any context.
//! 7. **Not done here.** Reclaim, compaction and the OOM killer themselves; who may charge a group
//!    is [`Charge`]; which node comes first is the caller's policy ([`prefer_many_first`]).

mod charge;
mod facts;
mod plan;
mod retry;
mod scopes;
mod step;
mod table;
mod terms;
#[cfg(test)]
mod tests;

pub use charge::{CallerWait, Charge, caller_wait, local_huge_first, prefer_many_first};
pub use facts::{Caller, CostlyNoretry, Machine, Zones};
pub use plan::Plan;
pub use retry::{
    CompactOutcome, CompactPriority, CompactRetry, MAX_COMPACT_RETRIES, MAX_COSTLY_COMPACT_RETRIES,
    MAX_RECLAIM_RETRIES, Progress, Retry, TICK_NS, retry_wait_ns,
};
pub use scopes::{Saved, Scopes};
pub use step::{Event, Now, Question, Reach, Step};
pub use table::Effort;
pub use terms::{
    Backoff, CompactFirst, Compaction, Complaint, Level, NoCompaction, NoKill, NoReclaim, OomRule,
    OrderClass, Rounds, TakeBack, Warn,
};
