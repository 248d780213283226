//! Memory of another mobility type, when a type's own is used up (P314-P319).

use super::PageAllocator;
use super::guard::{Taken, ZoneGuard};
use crate::flags::MigrateType;
use crate::frame::{Order, PAGEBLOCK_ORDER, PAGEBLOCK_PAGES};
use crate::platform::Platform;
use crate::policy::boost::MayWake;
use crate::policy::fallback::{self, BlockUse, Claim, Grouping};

impl<P: Platform> PageAllocator<P> {
    /// Takes from the memory of another type (P314-P319): claims a whole pageblock where the rules
    /// allow it, and then up to `wanted` blocks; else takes a single block and leaves the pageblock
    /// its type. With it comes whether the background is to be woken for a boost.
    pub(super) fn take_fallback(
        &self,
        guard: &mut ZoneGuard<'_>,
        order: Order,
        kind: MigrateType,
        wanted: usize,
    ) -> Option<(Taken, MayWake)> {
        let movable = |block| self.movable_pages(block);
        guard.take_fallback(order, kind, wanted, self.grouping(), movable)
    }

    /// P318: pages of a block that can be moved: those that have an owner. The lock of its zone is
    /// held, so none of them becomes free meanwhile.
    fn movable_pages(&self, block: usize) -> usize {
        if !self.has_page_owners() {
            return 0;
        }
        let (first, mut at, mut pages) = (self.blocks.pfn(block), 0, 0);
        while at < PAGEBLOCK_PAGES {
            let block = self.frames.get(first.add(at)).movable();
            let here = block.map_or(0, |block| block.order.pages().min(PAGEBLOCK_PAGES - at));
            pages += here;
            at += here.max(1);
        }
        pages
    }
}

impl ZoneGuard<'_> {
    /// [`PageAllocator::take_fallback`]; `movable` counts the movable pages of a block.
    fn take_fallback(
        &mut self,
        order: Order,
        kind: MigrateType,
        wanted: usize,
        grouping: Grouping,
        movable: impl Fn(usize) -> usize,
    ) -> Option<(Taken, MayWake)> {
        let mut wake = MayWake::No;
        for found in (order.get()..=Order::MAX.get()).rev() {
            if !fallback::should_try_claim(found.into(), kind, grouping) {
                continue;
            }
            for &from in fallback::fallbacks(kind) {
                let first = self.zone.index[from as usize][found as usize].first();
                let Some(member) = first else { continue };
                if found < PAGEBLOCK_ORDER && self.raise_boost() == MayWake::Yes {
                    wake = MayWake::Yes;
                }
                let block = member + self.zone.first_block;
                if self.claim(block, found, kind, grouping, || movable(block)) {
                    return Some((self.take(order, kind, wanted)?, wake));
                }
            }
        }
        (order.get()..=Order::MAX.get()).find_map(|found| {
            let first =
                |from: &MigrateType| self.zone.index[*from as usize][found as usize].first();
            let member = fallback::fallbacks(kind).iter().find_map(first)?;
            let taken = self.take_from(member + self.zone.first_block, order, 1);
            Some((taken, wake))
        })
    }

    /// Retypes a block for `kind` if the rules say so (P318).
    fn claim(
        &mut self,
        block: usize,
        found: u8,
        kind: MigrateType,
        grouping: Grouping,
        movable: impl FnOnce() -> usize,
    ) -> bool {
        let b = &self.blocks.blocks[block];
        let usage = || BlockUse {
            free: b.free(),
            movable: movable(),
        };
        match fallback::claim(found.into(), kind, b.kind(), grouping, usage) {
            Claim::LeaveBlock => return false,
            Claim::RetypeBlock | Claim::WholeBlocks { count: 1 } => _ = self.retype(block, kind),
            Claim::WholeBlocks { .. } => {
                let partner = self.partner(block);
                self.unpair(block);
                self.retype(block, kind);
                if let Some(partner) = partner {
                    self.retype(partner, kind);
                }
                self.join(block);
            }
        }
        true
    }
}
