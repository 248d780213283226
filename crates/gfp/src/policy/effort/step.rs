//! What a plan asks its executor to do, and what the executor answers.

use super::retry::{CompactOutcome, CompactPriority};
use super::terms::Backoff;
use crate::flags::ZoneKind;
use crate::policy::watermark::AllocFlags;

/// Where a pass looks.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Where the caller's node mask and memory policy allow.
    Policy,
    /// Everywhere: both are dropped (P115).
    Anywhere,
}

/// A question that only the owner of the memory can answer.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// P121: would some eligible zone pass MIN at this order if all its reclaimable pages were
    /// free?
    WouldReclaimSuffice,
    /// P125: could reclaim make some eligible zone suitable for compaction at this order?
    WouldCompactionBeSuitable,
    /// P126: does some eligible zone pass MIN at order 0?
    IsOnePageLeft,
    /// P111: have cpusets or zonelists changed since [`Step::Begin`] or the last yes?
    HaveZonesChanged,
}

/// One thing to do. Each says which [`Event`] answers it. The executor leaves the loop with the
/// pages as soon as any step yields them.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// P111: remember the sequence counters of cpusets and zonelists. Answer: [`Event::Done`].
    Begin,
    /// P112: wake background reclaim of every node with an eligible zone, for this order.
    /// Answer: [`Event::Done`].
    WakeBackground {
        /// The order to balance for.
        order: u32,
        /// The highest zone to balance.
        highest: ZoneKind,
    },
    /// One pass over the free lists with these rights. Answer: [`Event::Missed`].
    Pass {
        /// P260.
        rights: AllocFlags,
        /// P115.
        reach: Reach,
    },
    /// P117: report a stall if this request has looped for more than 10 s. Answer:
    /// [`Event::Done`].
    CheckStall,
    /// P118, P405: reclaim, inside a noreclaim scope (P133). Answer: [`Event::Reclaimed`].
    DirectReclaim {
        /// The order to reclaim for.
        order: u32,
    },
    /// P118: give back one HIGHATOMIC block (never the last one of a zone, P335) if the request
    /// reclaims, and what other CPUs have cached, as much as is needed. Answer: [`Event::Done`].
    TakeBack,
    /// P119: compact at this priority, inside a noreclaim scope (P133), with capture (P320).
    /// Answer: [`Event::Compacted`].
    Compact {
        /// The order to make a block of.
        order: u32,
        /// P424.
        priority: CompactPriority,
    },
    /// Answer: [`Event::Yes`] or [`Event::No`].
    Ask(Question),
    /// P123: give back one HIGHATOMIC block, even the last one of a zone. Answer: [`Event::Yes`]
    /// if there was one, else [`Event::No`].
    UnreserveHighatomic,
    /// Wait until free blocks that are on their way to the platform are back. Answer:
    /// [`Event::Yes`] if there were any, else [`Event::No`].
    AwaitReported,
    /// P128: try to take the machine's OOM lock. Answer: [`Event::Yes`] if it is held now, else
    /// [`Event::No`].
    OomLock,
    /// P129, P130, P430-P435: call the killer, which kills nobody for a request without `FS`.
    /// Answer: [`Event::Yes`] if it made progress (somebody was killed or freed memory, or others
    /// are to kill), else [`Event::No`].
    OomKill,
    /// P128: give the OOM lock back. Answer: [`Event::Done`].
    OomUnlock,
    /// Let others run. Answer: [`Event::Done`].
    Backoff(Backoff),
    /// P132: no memory. The end; asked again the plan says so again.
    Fail {
        /// P600: report it, at most once in 10 s.
        report: bool,
    },
}

/// What came of a step.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The slow path was entered: the fast pass found nothing (P109).
    Enter,
    /// It was done.
    Done,
    /// The pass found nothing.
    Missed,
    /// The answer is yes.
    Yes,
    /// The answer is no.
    No,
    /// Direct reclaim freed so many pages.
    Reclaimed(usize),
    /// Compaction ended like this, and no page was captured.
    Compacted(CompactOutcome),
}

/// What may change while a request loops; told with each event.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// The OOM killer has chosen the caller (P115, P131).
    pub oom_victim: bool,
    /// The caller has a fatal signal pending (P125).
    pub fatal_signal: bool,
}
