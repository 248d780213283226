//! When there is enough (P401, P402).

use super::Balance;
use crate::flags::MigrateType;
use crate::policy::reclaim::CLUSTER_PAGES;
use crate::policy::watermark::{AllocFlags, FreeState, zone_watermark_ok};

/// One zone, as far as balance depends on it, in pages.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct ZoneBalance {
    /// Pages that it manages; without any it is not looked at.
    pub managed: usize,
    /// The high watermark, with boost (P215); with memory tiers the promo watermark.
    pub high: usize,
    /// What it keeps from the highest zone that was asked for.
    pub reserve: usize,
    /// What it has free. Exact enough: near the mark the counters are summed first (P273).
    pub state: FreeState,
    /// Free pages in wholly free pageblocks.
    pub free_in_blocks: usize,
}

/// What counts as free for order > 0.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Measure {
    /// All free pages, and a block of the order.
    #[default]
    Pages,
    /// Only wholly free pageblocks (defrag mode, P313).
    WholeBlocks,
}

/// P401: whether a zone passes high at this order.
pub fn zone_is_balanced(
    order: u32,
    zone: &ZoneBalance,
    measure: Measure,
    has_free_block: impl Fn(u32, MigrateType) -> bool,
) -> bool {
    let mut state = zone.state;
    if order > 0 && measure == Measure::WholeBlocks {
        state.free = zone.free_in_blocks;
        // Which of the whole blocks are reserved is not known; they are few.
        state.free_highatomic = 0;
        state.free_cma = 0;
        return zone_watermark_ok(
            0,
            zone.high,
            zone.reserve,
            AllocFlags::MIN,
            &state,
            |_, _| false,
        );
    }
    let flags = AllocFlags::MIN;
    zone_watermark_ok(
        order,
        zone.high,
        zone.reserve,
        flags,
        &state,
        has_free_block,
    )
}

/// P401: one balanced zone is enough. A node without managed eligible zones has nothing to do.
///
/// One item an eligible zone: its managed pages, and [`zone_is_balanced`].
pub fn node_is_balanced(zones: impl IntoIterator<Item = (usize, bool)>) -> Balance {
    let mut any_managed = false;
    for (managed, balanced) in zones {
        if managed == 0 {
            continue;
        }
        if balanced {
            return Balance::Balanced;
        }
        any_managed = true;
    }
    if any_managed {
        Balance::Unbalanced
    } else {
        Balance::Balanced
    }
}

/// P402: what one pass wants to free, in pages: the sum of the high watermarks of the eligible
/// zones, 32 at least for each.
pub fn cycle_target(highs: impl IntoIterator<Item = usize>) -> usize {
    highs.into_iter().fold(0usize, |sum, high| {
        sum.saturating_add(high.max(CLUSTER_PAGES))
    })
}
