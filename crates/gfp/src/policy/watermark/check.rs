//! The watermark check (P267-P272).

use super::rights::{AllocFlags, WatermarkLevel};
use crate::flags::MigrateType;
use crate::policy::order::MAX_PAGE_ORDER;

/// What a zone has free, in pages.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct FreeState {
    /// All free pages.
    pub free: usize,
    /// Those of them that are in blocks of type HIGHATOMIC.
    pub free_highatomic: usize,
    /// Those of them that are in blocks of type CMA.
    pub free_cma: usize,
}

/// P268: the mark as lowered by the rights, in pages.
const fn lowered(mark: usize, flags: AllocFlags) -> usize {
    let mut min = mark;
    if flags.intersects(AllocFlags::MIN_RESERVE) {
        min -= min / 2;
        if flags.intersects(AllocFlags::NON_BLOCK) {
            min -= min / 4;
        }
    }
    if flags.intersects(AllocFlags::OOM) {
        min -= min / 2;
    }
    min
}

/// P267-P269: enough pages are left, in whatever blocks.
const fn enough_pages(
    order: u32,
    mark: usize,
    lowmem_reserve: usize,
    flags: AllocFlags,
    state: &FreeState,
) -> bool {
    // A count that would be negative is 0: the comparison below fails for both.
    let mut usable = state.free.saturating_sub((1 << order) - 1);
    if !flags.counts_highatomic() {
        usable = usable.saturating_sub(state.free_highatomic);
    }
    if !flags.intersects(AllocFlags::CMA) {
        usable = usable.saturating_sub(state.free_cma);
    }
    usable > lowered(mark, flags).saturating_add(lowmem_reserve)
}

/// P267-P271: whether a zone may serve `2^order` pages and stay above the mark.
///
/// `mark`: the level of `flags`, with boost ([`super::Watermarks::level`]); `lowmem_reserve`: what
/// this zone keeps from the request's highest zone; `has_free_block(order, type)`: whether a free
/// block of exactly this order and type is there, asked only for order > 0.
/// [`AllocFlags::NO_WATERMARKS`] is not looked at: who has it does not ask.
#[inline]
pub fn zone_watermark_ok(
    order: u32,
    mark: usize,
    lowmem_reserve: usize,
    flags: AllocFlags,
    state: &FreeState,
    has_free_block: impl Fn(u32, MigrateType) -> bool,
) -> bool {
    if order > MAX_PAGE_ORDER || !enough_pages(order, mark, lowmem_reserve, flags, state) {
        return false;
    }
    if order == 0 {
        return true;
    }
    // P271
    let cma = flags.intersects(AllocFlags::CMA);
    let highatomic = flags.intersects(AllocFlags::HIGHATOMIC.with(AllocFlags::OOM));
    (order..=MAX_PAGE_ORDER).any(|order| {
        has_free_block(order, MigrateType::Unmovable)
            || has_free_block(order, MigrateType::Movable)
            || has_free_block(order, MigrateType::Reclaimable)
            || cma && has_free_block(order, MigrateType::Cma)
            || highatomic && has_free_block(order, MigrateType::HighAtomic)
    })
}

/// P272: [`zone_watermark_ok`] for one page, without a look at the lists.
///
/// `mark` is *unboosted*, `boost` the zone's boost: a request of the slow path that has
/// [`AllocFlags::MIN_RESERVE`] is not to fail because of the boost.
#[inline]
pub const fn order0_watermark_ok(
    mark: usize,
    boost: usize,
    lowmem_reserve: usize,
    flags: AllocFlags,
    state: &FreeState,
) -> bool {
    if enough_pages(0, mark.saturating_add(boost), lowmem_reserve, flags, state) {
        return true;
    }
    boost > 0
        && flags.intersects(AllocFlags::MIN_RESERVE)
        && matches!(flags.level(), WatermarkLevel::Min)
        && enough_pages(0, mark, lowmem_reserve, flags, state)
}
