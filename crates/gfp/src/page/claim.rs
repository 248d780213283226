//! Memory of another type, when the type that is wanted is used up (P314-P319).
//!
//! Where it is looked for, and what is claimed, `policy::placement` says (P825). A shard that has
//! nothing is passed by without its lock. What comes free in a shard that was passed by already is
//! not seen: as what comes free just after a failure.

use super::PageAllocator;
use super::ground::Locking;
use super::guard::{Taken, ZoneGuard};
use super::shard::Shard;
use super::zone::Zone;
use crate::flags::MigrateType;
use crate::frame::{CpuId, Order, PAGEBLOCK_ORDER, PAGEBLOCK_PAGES};
use crate::platform::Platform;
use crate::policy::boost::MayWake;
use crate::policy::fallback::{self, BlockUse, Claim, Fragmenting, Grouping};
use crate::policy::placement::{self, Pass, Shards};
use crate::sync::Local;

/// What is wanted of a zone.
#[derive(Copy, Clone)]
pub(super) struct Want {
    pub(super) order: Order,
    pub(super) kind: MigrateType,
    /// Blocks at most.
    pub(super) blocks: usize,
    /// What to do about a shard whose lock somebody has: with [`Locking::Try`] it has nothing.
    pub(super) locking: Locking,
}

/// Blocks that were taken, and the shard, still locked.
pub(super) type Found<'z> = (ZoneGuard<'z>, Taken);

impl<P: Platform> PageAllocator<P> {
    /// Takes from the memory of another type (P314-P319): claims a whole pageblock where the rules
    /// allow it, and then takes several blocks; else takes a single block and leaves the pageblock
    /// its type. With it comes whether the background is to be woken for a boost. Where mixing is
    /// avoided, pageblocks are claimed that are wholly free (P312, P317).
    pub(super) fn take_fallback<'z>(
        &'z self,
        local: &'z Local<'_, P>,
        zone: &'z Zone,
        want: &Want,
        fragmenting: Fragmenting,
    ) -> Option<(Found<'z>, MayWake)> {
        let mut wake = MayWake::No;
        let found = self
            .claim_block(local, zone, want, fragmenting, &mut wake)
            .or_else(|| match fragmenting {
                Fragmenting::Allowed => self.steal(local, zone, want),
                Fragmenting::Avoided => None,
            })?;
        Some((found, wake))
    }

    /// P317, P318, P825: look by look, the largest block of all shards that belong to it.
    fn claim_block<'z>(
        &'z self,
        local: &'z Local<'_, P>,
        zone: &'z Zone,
        want: &Want,
        fragmenting: Fragmenting,
        wake: &mut MayWake,
    ) -> Option<Found<'z>> {
        let lowest = fallback::claim_lowest_order(want.order.get().into(), fragmenting);
        let mut passes = placement::passes(want.kind).iter();
        passes.find_map(|pass| self.claim_in(local, zone, want, pass, lowest as u8, wake))
    }

    /// [`PageAllocator::claim_block`] in one look, at runs of at least 2^lowest pages.
    fn claim_in<'z>(
        &'z self,
        local: &'z Local<'_, P>,
        zone: &'z Zone,
        want: &Want,
        pass: &Pass,
        lowest: u8,
        wake: &mut MayWake,
    ) -> Option<Found<'z>> {
        let (&Want { order, kind, .. }, grouping) = (want, self.grouping());
        let runs = zone.runs();
        // Which shard is to get some of the type next is decided for the whole zone.
        let cpu = match pass.shards {
            Shards::Tainted => local.cpu(),
            Shards::Any => CpuId(0),
        };
        let orders = (lowest..=Order::MAX.get()).rev();
        let orders = orders.filter(|order| pass.orders.contains(&(*order).into()));
        for found in orders.filter(|o| fallback::should_try_claim((*o).into(), kind, grouping)) {
            let types = fallback::fallbacks(kind).iter();
            for &from in types.filter(|from| runs.has(**from, found)) {
                let mine = |shard: &&Shard| pass.shards.include(shard.fixed());
                let shards = zone.shards_from(cpu, kind).filter(mine);
                for shard in shards.filter(|shard| shard.runs().has(from, found)) {
                    let guard = zone.lock_in(&self.blocks, local, shard, want.locking);
                    let Some(mut guard) = guard else { continue };
                    let end = placement::end_of(kind);
                    let Some(block) = shard.at_end(end, from, found) else {
                        continue;
                    };
                    if found < PAGEBLOCK_ORDER && zone.boost.raise(zone) == MayWake::Yes {
                        *wake = MayWake::Yes;
                    }
                    let movable = || self.movable_pages(block);
                    if guard.claim(block, found, kind, grouping, movable)
                        && let Some(taken) = guard.take(order, kind, want.blocks)
                    {
                        return Some((guard, taken));
                    }
                }
            }
        }
        None
    }

    /// P319: the smallest block of all shards first, and what cannot be moved where such memory is
    /// (P825).
    fn steal<'z>(
        &'z self,
        local: &'z Local<'_, P>,
        zone: &'z Zone,
        want: &Want,
    ) -> Option<Found<'z>> {
        let mut places = placement::steals_from(want.kind).iter();
        places.find_map(|shards| self.steal_in(local, zone, want, *shards))
    }

    /// [`PageAllocator::steal`] in some of the shards.
    fn steal_in<'z>(
        &'z self,
        local: &'z Local<'_, P>,
        zone: &'z Zone,
        want: &Want,
        which: Shards,
    ) -> Option<Found<'z>> {
        let &Want { order, kind, .. } = want;
        let (runs, end) = (zone.runs(), placement::end_of(kind));
        for found in order.get()..=Order::MAX.get() {
            let types = fallback::fallbacks(kind).iter();
            for &from in types.filter(|from| runs.has(**from, found)) {
                let shards = zone.shards_from(local.cpu(), kind);
                let mine = |shard: &&Shard| which.include(shard.fixed());
                for shard in shards.filter(mine).filter(|s| s.runs().has(from, found)) {
                    let guard = zone.lock_in(&self.blocks, local, shard, want.locking);
                    let Some(mut guard) = guard else { continue };
                    if let Some(block) = shard.at_end(end, from, found) {
                        let taken = guard.take_from(block, order, 1);
                        return Some((guard, taken));
                    }
                }
            }
        }
        None
    }

    /// P318: pages of a block that can be moved: those that have an owner. The lock of its shard is
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
    /// Retypes a block for `kind` if the rules say so (P318).
    pub(super) fn claim(
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
        match placement::claim(found.into(), kind, b.kind(), grouping, usage) {
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
