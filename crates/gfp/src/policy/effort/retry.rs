//! When another round is worth it (P121-P126), as functions over a small state.

use super::OrderClass;
use crate::flags::Gfp;

/// P121, P400: rounds without progress after which reclaim is given up.
pub const MAX_RECLAIM_RETRIES: u32 = 16;
/// P125: successes of compaction that yielded no page, for each priority.
pub const MAX_COMPACT_RETRIES: u32 = 16;
/// P125: the same for costly orders.
pub const MAX_COSTLY_COMPACT_RETRIES: u32 = MAX_COMPACT_RETRIES / 4;

/// A tick of the clock, that of 250 Hz (P124, P128, P156, P407).
pub const TICK_NS: u64 = 4_000_000;

/// P156: how long a caller whose request failed waits before it asks again: a tick if the request
/// itself has waited for memory, else 20 ms.
pub const fn retry_wait_ns(gfp: Gfp) -> u64 {
    if gfp.allows_blocking() && !gfp.contains(Gfp::NORETRY) {
        TICK_NS
    } else {
        20_000_000
    }
}

/// P424: how hard compaction tries.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum CompactPriority {
    /// Waits for nothing, skips what looks unsuitable.
    #[default]
    Async,
    /// May wait for locks, not for writeback.
    SyncLight,
    /// The whole zone, whatever it takes.
    SyncFull,
}

impl CompactPriority {
    /// The next higher priority.
    pub const fn raised(self) -> Option<CompactPriority> {
        match self {
            CompactPriority::Async => Some(CompactPriority::SyncLight),
            CompactPriority::SyncLight => Some(CompactPriority::SyncFull),
            CompactPriority::SyncFull => None,
        }
    }
}

/// P425: how a compaction ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum CompactOutcome {
    /// Not started: no zone is suitable, too few free pages to move to.
    Skipped,
    /// Not started: it failed too often lately (P426).
    Deferred,
    /// Nothing to move was found.
    NoSuitablePage,
    /// Ended before the zone's end; may go on.
    Continue,
    /// The whole zone, without success.
    Complete,
    /// A part of the zone, without success.
    PartialSkipped,
    /// Ended because of a contended lock.
    Contended,
    /// A block was made.
    Success,
}

/// Whether a pass of direct reclaim freed anything.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// At least one page.
    Some,
    /// Nothing.
    None,
}

/// What to do after a round in which compaction did not help (P125).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum CompactRetry {
    /// Another round.
    Retry,
    /// Another round if reclaim can make compaction suitable.
    IfSuitable,
    /// No more.
    Stop,
}

/// The counters of one request's loop. A restart (P111) begins with [`Retry::default`].
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Retry {
    /// Rounds of reclaim without progress that counts (P122).
    pub no_progress: u32,
    /// Successes of compaction at this priority that yielded no page.
    pub compaction_retries: u32,
    /// The priority of the next compaction.
    pub priority: CompactPriority,
}

impl Retry {
    /// P122: counts a round of reclaim. Progress resets the counter, but not for costly orders:
    /// those are limited whatever is freed.
    pub const fn after_reclaim(&mut self, progress: Progress, class: OrderClass) {
        match progress {
            Progress::Some if !class.is_costly() => self.no_progress = 0,
            _ => self.no_progress = self.no_progress.saturating_add(1),
        }
    }

    /// P121: the counter allows another round of reclaim.
    pub const fn may_reclaim_again(&self) -> bool {
        self.no_progress <= MAX_RECLAIM_RETRIES
    }

    /// P127: the OOM step made progress, count anew.
    pub const fn after_oom_progress(&mut self) {
        self.no_progress = 0;
    }

    /// P125: after reclaim made progress and compaction ended like this; `top` is the highest
    /// priority that the request may use.
    ///
    /// A costly request whose compaction was skipped stops with its reclaim rounds (P122), so that
    /// a machine that always reclaims a little does not keep it for ever.
    pub const fn after_compaction(
        &mut self,
        outcome: CompactOutcome,
        class: OrderClass,
        top: CompactPriority,
    ) -> CompactRetry {
        match outcome {
            CompactOutcome::Skipped if class.is_costly() && !self.may_reclaim_again() => {
                return CompactRetry::Stop;
            }
            CompactOutcome::Skipped => return CompactRetry::IfSuitable,
            CompactOutcome::Success => {
                let max = if class.is_costly() {
                    MAX_COSTLY_COMPACT_RETRIES
                } else {
                    MAX_COMPACT_RETRIES
                };
                self.compaction_retries += 1;
                if self.compaction_retries <= max {
                    return CompactRetry::Retry;
                }
            }
            _ => {}
        }
        match self.priority.raised() {
            Some(raised) if (raised as u8) <= top as u8 => {
                self.priority = raised;
                self.compaction_retries = 0;
                CompactRetry::Retry
            }
            _ => CompactRetry::Stop,
        }
    }
}
