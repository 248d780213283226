//! Why a zone could not serve a request: what makes a report worth reading (P606).

use crate::flags::MigrateType;
use crate::policy::watermark::{AllocFlags, FreeState, zone_watermark_ok};

/// What a zone had when a request failed, in pages.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct ZoneShortage {
    /// Pages that the zone manages.
    pub managed: usize,
    /// What it had free.
    pub state: FreeState,
    /// The watermark that the request respected, with boost.
    pub mark: usize,
    /// The part of the mark that is boost.
    pub boost: usize,
    /// What it keeps from the request's highest zone.
    pub reserve: usize,
}

/// The first reason that holds why a zone did not serve a request.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// It would serve it now: memory came in the meantime.
    None,
    /// It manages no pages.
    Empty,
    /// It has less than its watermark: so many pages are missing.
    BelowMark {
        /// How many more pages it would need.
        missing: usize,
    },
    /// It has enough, but for its boost.
    Boost,
    /// It has enough, but keeps it for requests that can use no other zone.
    LowmemReserve,
    /// It has enough, but in the reserve for urgent requests.
    Highatomic,
    /// It has enough, but in areas for contiguous memory, and the request cannot be moved out.
    Cma,
    /// It has enough pages, but no block of the order.
    Fragmented,
}

/// Why a zone did not serve a request for `2^order` pages with these rights. Total: every zone has
/// a reason, or [`Shortage::None`].
pub fn shortage(
    order: u32,
    flags: AllocFlags,
    zone: &ZoneShortage,
    has_free_block: impl Fn(u32, MigrateType) -> bool,
) -> Shortage {
    let pages = |state: &FreeState, mark, reserve, flags| {
        // One page asked for, the others taken off: no look at the blocks.
        let rest = FreeState {
            free: state.free.saturating_sub((1usize << order.min(63)) - 1),
            ..*state
        };
        zone_watermark_ok(0, mark, reserve, flags, &rest, |_, _| false)
    };
    let ZoneShortage {
        state,
        mark,
        boost,
        reserve,
        ..
    } = zone;
    if zone.managed == 0 {
        return Shortage::Empty;
    }
    if pages(state, *mark, *reserve, flags) {
        return if zone_watermark_ok(order, *mark, *reserve, flags, state, has_free_block) {
            Shortage::None
        } else {
            Shortage::Fragmented
        };
    }
    if pages(state, mark.saturating_sub(*boost), *reserve, flags) {
        return Shortage::Boost;
    }
    if pages(state, *mark, 0, flags) {
        return Shortage::LowmemReserve;
    }
    if pages(state, *mark, *reserve, flags | AllocFlags::HIGHATOMIC) {
        return Shortage::Highatomic;
    }
    if pages(state, *mark, *reserve, flags | AllocFlags::CMA) {
        return Shortage::Cma;
    }
    Shortage::BelowMark {
        missing: missing(order, flags, zone),
    }
}

/// The smallest number of ordinary free pages that would do, by bisection: the check is monotone.
fn missing(order: u32, flags: AllocFlags, zone: &ZoneShortage) -> usize {
    let enough = |more: usize| {
        let state = FreeState {
            free: zone.state.free.saturating_add(more),
            ..zone.state
        };
        zone_watermark_ok(order, zone.mark, zone.reserve, flags, &state, |_, _| true)
    };
    let (mut too_few, mut enough_pages) = (0, usize::MAX);
    while enough_pages - too_few > 1 {
        let middle = too_few + (enough_pages - too_few) / 2;
        if enough(middle) {
            enough_pages = middle;
        } else {
            too_few = middle;
        }
    }
    enough_pages
}
