//! Memory of areas for contiguous allocations, which is lent while the area does not use it (P315,
//! P316, P506).
//!
//! An area's pageblocks have the type `Cma`. No fallback leads there: only who asks for movable
//! memory takes from them, so what is in them can be moved when the area wants it.

use super::PageAllocator;
use super::claim::{Found, Want};
use super::zone::Zone;
use crate::flags::MigrateType;
use crate::frame::{FrameWord, Order, PAGEBLOCK_PAGES, Pfn};
use crate::platform::Platform;
use crate::policy::fallback::cma_first;
use crate::policy::watermark::AllocFlags;
use crate::sync::Local;
use core::ops::Range;

impl Zone {
    /// The type that a request takes from first (P316): its own, or that of areas if it may borrow
    /// and most of what is free is theirs.
    #[inline]
    pub(super) fn first_choice(&self, kind: MigrateType, flags: AllocFlags) -> MigrateType {
        if kind == MigrateType::Movable && flags.contains(AllocFlags::CMA) {
            let state = self.free_state();
            if cma_first(state.free, state.free_cma) {
                return MigrateType::Cma;
            }
        }
        kind
    }
}

impl<P: Platform> PageAllocator<P> {
    /// P315: when [`Zone::first_choice`] had nothing: a request's own type, and areas. Both are
    /// looked at: meanwhile the choice may have become another.
    #[inline(never)]
    pub(super) fn take_second_choice<'z>(
        &'z self,
        local: &'z Local<'_, P>,
        zone: &'z Zone,
        want: &Want,
        flags: AllocFlags,
    ) -> Option<Found<'z>> {
        if want.kind != MigrateType::Movable || !flags.contains(AllocFlags::CMA) {
            return None;
        }
        let mut types = [want.kind, MigrateType::Cma].into_iter();
        types.find_map(|kind| self.take_own(local, zone, &Want { kind, ..*want }))
    }

    /// Makes whole pageblocks, of which the caller owns each page as a single one, free memory of
    /// type `Cma` (P505).
    pub(crate) fn make_cma(&self, range: Range<Pfn>) {
        debug_assert!(range.start.is_aligned(Order::PAGEBLOCK));
        debug_assert!(range.end.is_aligned(Order::PAGEBLOCK));
        let Ok(zone) = self.zone_of_range(&range) else {
            return;
        };
        let mut at = range.start;
        while at < range.end {
            (0..PAGEBLOCK_PAGES).for_each(|i| self.frames.set(at.add(i), FrameWord::NONE));
            let local = self.enter_again();
            if let Some(block) = self.blocks.of(at) {
                let mut guard = zone.lock_block(&self.blocks, &local, block);
                guard.retype(block, MigrateType::Cma);
                let put = guard.put(at, Order::PAGEBLOCK);
                debug_assert!(put, "they were the caller's");
            }
            if let Some(cache) = self.cache(&local, zone) {
                cache.events.free_pages.add(PAGEBLOCK_PAGES);
            }
            at = at.add(PAGEBLOCK_PAGES);
        }
    }
}
