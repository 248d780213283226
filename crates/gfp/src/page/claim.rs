//! Memory of another mobility type, when a type's own is used up (P314-P319).

use super::guard::{Taken, ZoneGuard};
use crate::flags::MigrateType;
use crate::frame::{Order, PAGEBLOCK_ORDER};
use crate::policy::boost::MayWake;
use crate::policy::fallback::{self, BlockUse, Claim, Grouping};

impl ZoneGuard<'_> {
    /// Takes from the memory of another type (P314-P319): claims a whole pageblock where the rules
    /// allow it, and then up to `wanted` blocks; else takes a single block and leaves the pageblock
    /// its type. With it comes whether the background is to be woken for a boost.
    pub(crate) fn take_fallback(
        &mut self,
        order: Order,
        kind: MigrateType,
        wanted: usize,
        grouping: Grouping,
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
                if self.claim(member + self.zone.first_block, found, kind, grouping) {
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
    fn claim(&mut self, block: usize, found: u8, kind: MigrateType, grouping: Grouping) -> bool {
        let b = &self.blocks.blocks[block];
        // Who uses the pages of a block is not known before reclaim tracks movable pages.
        let usage = || BlockUse {
            free: b.free(),
            movable: 0,
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
