//! Is it over, and what then? (P420, P425, P426)

use super::{CompactOutcome, CompactPriority};
use crate::flags::MigrateType;
use crate::policy::fallback::{Grouping, fallbacks, should_try_claim};
use crate::policy::order::{MAX_PAGE_ORDER, PAGEBLOCK_ORDER, PAGEBLOCK_PAGES};

/// The positions of the two scanners, as frame numbers.
///
/// Bound: each step of a scanner passes a pageblock, so one compaction of a zone takes at most as
/// many steps as the zone has pageblocks, and two more where its ends are not aligned.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Scanners {
    /// The next frame of the migrate scanner, which goes up.
    pub migrate: usize,
    /// The first frame that the free scanner has not passed; it goes down.
    pub free: usize,
}

/// Whether the scanners have met.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Met {
    /// There is a pageblock between them.
    No,
    /// They are in the same pageblock, or past each other.
    Yes,
}

impl Scanners {
    /// P420: scanners at the two ends of a zone.
    pub const fn at_ends(start: usize, end: usize) -> Scanners {
        Scanners {
            migrate: start,
            free: end,
        }
    }

    /// P420. They are compared by pageblocks: inside one, pages would be moved in circles.
    pub const fn met(&self) -> Met {
        if self.free / PAGEBLOCK_PAGES <= self.migrate / PAGEBLOCK_PAGES {
            Met::Yes
        } else {
            Met::No
        }
    }

    /// The migrate scanner passes the pageblock that it is in.
    pub const fn pass_migrate(&mut self) {
        self.migrate = (self.migrate / PAGEBLOCK_PAGES + 1).saturating_mul(PAGEBLOCK_PAGES);
    }

    /// The free scanner passes the pageblock below it.
    pub const fn pass_free(&mut self) {
        self.free = self.free.saturating_sub(1) / PAGEBLOCK_PAGES * PAGEBLOCK_PAGES;
    }
}

/// P420: what is known of a running compaction of one zone.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct ZoneProgress {
    /// Where the scanners are.
    pub met: Met,
    /// The compaction began at the ends of the zone, not at cached positions.
    pub whole_zone: bool,
    /// A block is there ([`block_available`]). Never for a compaction without an order.
    pub available: bool,
    /// A lock was contended and the compaction is asynchronous, or it is to stop (signal, another
    /// task is waiting for the CPU).
    pub contended: bool,
}

/// P420, P425: whether the compaction of a zone is over, and how; asked after each pageblock.
pub const fn finished(progress: &ZoneProgress) -> Option<CompactOutcome> {
    // A block first: that the scanners met as well does not make it a failure.
    if progress.available {
        return Some(CompactOutcome::Success);
    }
    match (progress.met, progress.whole_zone) {
        (Met::Yes, true) => Some(CompactOutcome::Complete),
        (Met::Yes, false) => Some(CompactOutcome::PartialSkipped),
        (Met::No, _) if progress.contended => Some(CompactOutcome::Contended),
        (Met::No, _) => None,
    }
}

/// P420: whether a block of the order is there for the type: in its own lists, in CMA's for a
/// movable one, or in those of another type that may be claimed.
pub fn block_available(
    order: u32,
    request: MigrateType,
    grouping: Grouping,
    has_free_block: impl Fn(u32, MigrateType) -> bool,
) -> bool {
    (order..=MAX_PAGE_ORDER).any(|found| {
        has_free_block(found, request)
            || request == MigrateType::Movable && has_free_block(found, MigrateType::Cma)
            || should_try_claim(found, request, grouping)
                && fallbacks(request)
                    .iter()
                    .any(|&other| has_free_block(found, other))
    })
}

/// P320: whether a request takes a block of its order out of a pageblock of type `block` before
/// anybody else can. Part of a movable pageblock is for movable requests only.
///
/// The rule names CMA and isolated blocks. Those of the reserve for urgent requests are left alone
/// as well: here a block is captured that the pageblock has when pages have left it, and in a
/// reserve it may have been there all along.
pub const fn captures(order: u32, request: MigrateType, block: MigrateType) -> bool {
    match block {
        MigrateType::Cma | MigrateType::Isolate | MigrateType::HighAtomic => false,
        MigrateType::Movable => order >= PAGEBLOCK_ORDER || matches!(request, MigrateType::Movable),
        MigrateType::Unmovable | MigrateType::Reclaimable => true,
    }
}

/// What follows the compaction of one zone.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum AfterZone {
    /// Enough: look at the free lists.
    Stop,
    /// Try the next zone of the list.
    NextZone,
}

/// P125, P425: whether a request goes on with the next zone. `interrupted`: a fatal signal is
/// pending, or an asynchronous compaction should give the CPU away.
pub const fn after_zone(
    outcome: CompactOutcome,
    priority: CompactPriority,
    interrupted: Interrupted,
) -> AfterZone {
    match (outcome, priority, interrupted) {
        (CompactOutcome::Success, ..) | (_, _, Interrupted::Yes) => AfterZone::Stop,
        (CompactOutcome::Contended, CompactPriority::Async, _) => AfterZone::Stop,
        _ => AfterZone::NextZone,
    }
}

/// Whether a compaction should stop for reasons of its own task.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Interrupted {
    /// No.
    No,
    /// A fatal signal, or the CPU is wanted.
    Yes,
}

/// P125: the outcome of a request over several zones: the most hopeful one, for it decides whether
/// another round is worth it. The order is that of P425's list: success before contended before
/// partly skipped, and so on down to skipped.
pub const fn best(a: CompactOutcome, b: CompactOutcome) -> CompactOutcome {
    if a as u8 >= b as u8 { a } else { b }
}
