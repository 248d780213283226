//! The words of the table: what each field of [`super::Effort`] can say, and why.

use super::retry::CompactPriority;
use crate::flags::{Gfp, GfpError, MAX_PAGE_ORDER};
use crate::policy::context::Context;
use crate::policy::order::COSTLY_ORDER;

/// What an order means for effort.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum OrderClass {
    /// Order 0: never a matter of compaction.
    Single,
    /// Orders 1 to 3.
    Small,
    /// Orders 4 to 10.
    Costly,
    /// More than the page allocator serves (P52).
    TooLarge,
}

impl OrderClass {
    /// The class of an order.
    pub const fn of(order: u32) -> OrderClass {
        match order {
            0 => OrderClass::Single,
            order if order <= COSTLY_ORDER => OrderClass::Small,
            order if order <= MAX_PAGE_ORDER => OrderClass::Costly,
            _ => OrderClass::TooLarge,
        }
    }

    /// Above order 3.
    pub const fn is_costly(self) -> bool {
        matches!(self, OrderClass::Costly | OrderClass::TooLarge)
    }
}

/// P100-P106: the seven levels, from the least effort to the most.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Level 1: looks, wakes nobody.
    NoReclaim = 1,
    /// Level 2: wakes background reclaim.
    Background = 2,
    /// Level 3: as 2, and may go below min.
    Reserves = 3,
    /// Level 4: the default.
    Default = 4,
    /// Level 5: one round.
    Noretry = 5,
    /// Level 6: hard, but fails rather than kill.
    RetryMayfail = 6,
    /// Level 7: never fails.
    Nofail = 7,
}

impl Level {
    /// The level of a word that counts (scopes applied).
    pub const fn of(gfp: Gfp) -> Level {
        if !gfp.allows_blocking() {
            match (gfp.intersects(Gfp::HIGH), gfp.wakes_kswapd()) {
                (true, _) => Level::Reserves,
                (false, true) => Level::Background,
                (false, false) => Level::NoReclaim,
            }
        } else if gfp.never_fails() {
            Level::Nofail
        } else if gfp.contains(Gfp::NORETRY) {
            Level::Noretry
        } else if gfp.contains(Gfp::RETRY_MAYFAIL) {
            Level::RetryMayfail
        } else {
            Level::Default
        }
    }
}

/// Why a request does not reclaim.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum NoReclaim {
    /// The order is refused (P52).
    TooLarge,
    /// No `DIRECT_RECLAIM` (P116).
    NotAsked,
    /// The context may not sleep, whatever the flags say (P154).
    Context,
    /// The caller is itself reclaiming (P116).
    Reclaiming,
    /// A costly `NORETRY` request, by the policy of P108.
    CostlyNoretry,
}

/// How often a request reclaims.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Rounds {
    /// Not at all.
    None(NoReclaim),
    /// Once (P120); a request that must not fail begins again.
    One,
    /// Until nothing is gained any more (P121-P126).
    UntilNoProgress,
}

/// Why a request does not compact.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum NoCompaction {
    /// It does not reclaim either.
    NoReclaim(NoReclaim),
    /// One page needs none.
    SinglePage,
    /// Not built in (P110).
    NotBuiltIn,
    /// No `IO` (P7, P110).
    NoIo,
}

/// Whether a request compacts, and how hard at most.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Compaction {
    /// Never.
    None(NoCompaction),
    /// From [`CompactPriority::Async`] up to this.
    UpTo(CompactPriority),
}

/// Whether compaction comes before any reclaim (P114), and what it decides.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum CompactFirst {
    /// Reclaim comes first.
    No,
    /// Compaction first; reclaim follows whatever it says.
    ThenReclaim,
    /// Compaction first; skipped or deferred, the request gives up (P108, up to 6.19).
    OrGiveUp,
}

/// P129: why nobody is killed for a request.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum NoKill {
    /// The machine kills nobody.
    NoKiller,
    /// The request does not reclaim.
    NoReclaim(NoReclaim),
    /// `NORETRY` gives up before (P120).
    Noretry,
    /// The caller is writing its core.
    DumpingCore,
    /// A kill does not make large blocks.
    Costly,
    /// The caller would rather fail.
    RetryMayfail,
    /// A kill may free memory of other nodes only.
    ThisNode,
    /// A kill may free memory of higher zones only.
    LowZone,
    /// What a victim would write cannot be written.
    StorageSuspended,
}

/// P129: what happens when a request is out of memory.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum OomRule {
    /// Nobody is killed, and the request goes on to its end.
    Never(NoKill),
    /// Nobody is killed (no `FS`), but the caller keeps trying while somebody else may kill.
    WaitForOthers,
    /// Somebody is killed.
    Kill,
}

/// P14, P600: whether a failure is reported.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Warn {
    /// Yes, at most once in 10 s.
    Report,
    /// `NOWARN`.
    Nowarn,
    /// `DMA` on a machine whose ZONE_DMA has no pages.
    NoDmaPages,
    /// The no-lock entry (P171).
    NoLock,
}

/// When what CPUs have cached is taken back (P118, P821).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum TakeBack {
    /// Never: the caller may wait for no other CPU, or has another way to go on.
    Never,
    /// Once before failing.
    BeforeFailing,
    /// In each round of reclaim.
    EachRound,
    /// In a round of reclaim that freed something.
    AfterProgress,
}

/// P124: how a request waits between two rounds.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Backoff {
    /// Lets others run.
    Reschedule,
    /// Sleeps one tick, so that the work behind it can run.
    Tick,
}

/// What the caller did wrong, though the request is served as well as it can be.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Complaint {
    /// The flags themselves (P47-P52).
    Flags(GfpError),
    /// P154: the flags allow to sleep, the context does not.
    MaySleep {
        /// Where the request comes from.
        context: Context,
    },
}
