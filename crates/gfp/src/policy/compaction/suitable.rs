//! Is there room to work? (P125, P422)

use super::{CompactPriority, Fragmentation, gap};
use crate::policy::order::COSTLY_ORDER;
use crate::policy::watermark::{
    AllocFlags, FreeState, WatermarkLevel, Watermarks, zone_watermark_ok,
};

/// P422, P706: default of the sysctl `extfrag_threshold`.
pub const EXTFRAG_THRESHOLD: u16 = 500;

/// P422: a zone, as far as room depends on it, in pages.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct ZoneRoom {
    /// Its watermarks.
    pub marks: Watermarks,
    /// Its boost.
    pub boost: usize,
    /// What it keeps from the highest zone that was asked for.
    pub reserve: usize,
    /// What it has free.
    pub state: FreeState,
}

/// P422: whether compaction of a zone starts.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Suitability {
    /// There is a block already: nothing to do, [`super::CompactOutcome::Success`].
    AlreadyThere,
    /// It may start.
    Suitable,
    /// Too few free pages to move to: [`super::CompactOutcome::Skipped`].
    TooFull,
    /// A lack of memory, not fragmentation: [`super::CompactOutcome::Skipped`].
    NotFragmented,
}

/// P422: the mark that a zone must pass with single pages: min, for costly orders low, and the gap.
pub const fn zone_mark(order: u32, room: &ZoneRoom) -> usize {
    let level = if order > COSTLY_ORDER {
        WatermarkLevel::Low
    } else {
        WatermarkLevel::Min
    };
    room.marks
        .level(level, room.boost)
        .saturating_add(gap(order))
}

fn has_room(order: u32, room: &ZoneRoom, extra: usize) -> bool {
    let state = FreeState {
        free: room.state.free.saturating_add(extra),
        ..room.state
    };
    // CMA pages are as good a target as any: what is moved is movable.
    let mark = zone_mark(order, room);
    zone_watermark_ok(0, mark, room.reserve, AllocFlags::CMA, &state, |_, _| false)
}

/// P422: whether compaction of a zone starts for `2^order` pages.
///
/// `threshold`: the sysctl `extfrag_threshold`. [`CompactPriority::SyncFull`] ignores it as it does
/// all heuristics (P424), but not the lack of room.
pub fn suitability(
    order: u32,
    room: &ZoneRoom,
    fragmentation: Fragmentation,
    priority: CompactPriority,
    threshold: u16,
) -> Suitability {
    if order == 0 || fragmentation == Fragmentation::Suitable {
        return Suitability::AlreadyThere;
    }
    if !has_room(order, room, 0) {
        return Suitability::TooFull;
    }
    match fragmentation {
        Fragmentation::Index(index)
            if order > COSTLY_ORDER
                && index <= threshold
                && priority != CompactPriority::SyncFull =>
        {
            Suitability::NotFragmented
        }
        _ => Suitability::Suitable,
    }
}

/// P125: whether reclaim could make a zone suitable whose compaction was skipped.
///
/// The rule does not say how much of what is reclaimable counts. A large order needs it in one
/// place, so the larger the order, the less: `reclaimable / order`.
pub fn could_become_suitable(order: u32, room: &ZoneRoom, reclaimable: usize) -> bool {
    let hoped_for = reclaimable / if order == 0 { 1 } else { order as usize };
    has_room(order, room, hoped_for)
}
