//! What a request may do outside of the page allocator: charging a group, waiting between two
//! tries of its own, and the tries of NUMA policies.

use super::table::Effort;
use super::terms::{NoKill, OomRule, Rounds};
use crate::flags::Gfp;
use crate::policy::context::Context;

/// P441: what a request may do when its group is over its limit.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// The group's memory may be reclaimed, and the charge be tried again.
    pub may_reclaim: bool,
    /// It is tried again after progress, up to the retry limit (P121); once if false.
    pub may_retry: bool,
    /// Somebody of the group may be killed.
    pub may_kill: bool,
    /// In the end the charge goes over the limit instead of failing (P442).
    pub forced: bool,
}

impl Charge {
    /// The charge of a request with this effort.
    pub const fn of(effort: &Effort) -> Charge {
        let gfp = effort.gfp;
        let reclaiming = effort.caller.is_reclaiming();
        let may_reclaim = gfp.allows_blocking() && !reclaiming;
        let may_retry = may_reclaim && !gfp.contains(Gfp::NORETRY);
        Charge {
            may_reclaim,
            may_retry,
            may_kill: may_retry
                && !gfp.contains(Gfp::RETRY_MAYFAIL)
                && !effort.class.is_costly()
                && !matches!(effort.oom, OomRule::Never(NoKill::NoKiller)),
            forced: reclaiming || gfp.intersects(Gfp::NOFAIL.with(Gfp::HIGH)),
        }
    }
}

/// P156: how a caller that tries again by itself waits in between.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum CallerWait {
    /// One tick: the request itself has waited already.
    Tick,
    /// A fiftieth of a second.
    Milliseconds20,
    /// The context may not sleep: come back later.
    NotHere,
}

/// P156.
pub const fn caller_wait(gfp: Gfp, context: Context) -> CallerWait {
    if !context.may_sleep() {
        CallerWait::NotHere
    } else if gfp.allows_blocking() && !gfp.contains(Gfp::NORETRY) {
        CallerWait::Tick
    } else {
        CallerWait::Milliseconds20
    }
}

/// P138: the first try of a request that prefers several nodes: limited to them, silent, and
/// without waiting. The second is made with the word as it is.
pub const fn prefer_many_first(gfp: Gfp) -> Gfp {
    gfp.with(Gfp::NOWARN)
        .without(Gfp::DIRECT_RECLAIM.with(Gfp::NOFAIL))
}

/// P139: the first try for a huge page under a local or preferred policy; the second, with the word
/// as it is, is made only if the request may wait.
pub const fn local_huge_first(gfp: Gfp) -> Gfp {
    gfp.with(Gfp::THISNODE).with(Gfp::NORETRY)
}

impl Effort {
    /// P155: the request would take the virtual lock "fs reclaim": it may reclaim into file
    /// systems.
    pub const fn enters_fs_reclaim(&self) -> bool {
        self.gfp.contains(Gfp::FS)
            && !self.gfp.contains(Gfp::NOLOCKDEP)
            && !matches!(self.rounds, Rounds::None(_))
    }
}
