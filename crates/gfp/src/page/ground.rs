//! A zone as compaction sees it: what its blocks are like, which pages can be moved and where to.
//!
//! Compaction itself stands in `reclaim`; what needs a shard's lock or the bitmaps is here. A lock
//! is held for one pageblock at a time.

use super::block::CLASS_FULL;
use super::mobile::Held;
use super::zone::Zone;
use super::{PageAllocator, PageRequest};
use crate::flags::{MigrateType, ZoneKind};
use crate::frame::{FrameKind, FrameWord, NR_ORDERS, NodeId, Order, PAGEBLOCK_PAGES, Pfn};
use crate::platform::Platform;
use crate::policy::compaction::{
    BlockFacts, Deferral, Fragmentation, Hints, Scanners, ZoneRoom, block_available, fragmentation,
    node_score, zone_score,
};
use crate::policy::watermark::AllocFlags;
use crate::sync::Local;
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::atomic::{AtomicU8, AtomicU32, AtomicUsize};

/// What compaction remembers of a zone. All of it are hints: two compactions of one zone may mix
/// theirs.
pub(super) struct Memory {
    /// [`Deferral::to_bits`].
    deferral: AtomicU32,
    /// Where the scanners stopped; outside of the zone: at the ends.
    migrate: AtomicUsize,
    free: AtomicUsize,
    /// 1: the scanners have met, so hints are worth forgetting (P425).
    met: AtomicU8,
}

impl Memory {
    pub(super) const fn new() -> Memory {
        Memory {
            deferral: AtomicU32::new(Deferral::new().to_bits()),
            migrate: AtomicUsize::new(usize::MAX),
            free: AtomicUsize::new(0),
            met: AtomicU8::new(0),
        }
    }
}

/// What to do about a lock that somebody has.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Locking {
    /// Give up.
    Try,
    /// Wait for it.
    Wait,
}

/// A lock was not to be had.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Contended;

/// P427: the score of a zone, and its weight.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Score {
    /// Pages of the zone.
    pub(crate) present: usize,
    /// 0 to 100.
    pub(crate) score: u8,
}

/// One zone.
pub(crate) struct Ground<'p, P: Platform> {
    pages: &'p PageAllocator<P>,
    zone: &'p Zone,
}

impl<P: Platform> Clone for Ground<'_, P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P: Platform> Copy for Ground<'_, P> {}

impl<P: Platform> PageAllocator<P> {
    fn ground<'p>(&'p self, zone: &'p Zone) -> Ground<'p, P> {
        Ground { pages: self, zone }
    }

    /// The zones that may serve a request.
    pub(crate) fn grounds_for(&self, req: &PageRequest) -> impl Iterator<Item = Ground<'_, P>> {
        self.candidates(req).map(|zone| self.ground(zone))
    }

    /// The zones of a node, up to a kind.
    pub(crate) fn grounds_of(
        &self,
        node: NodeId,
        highest: ZoneKind,
    ) -> impl Iterator<Item = Ground<'_, P>> {
        self.zones_up_to(node, highest)
            .map(|zone| self.ground(zone))
    }

    /// The type that a request allocates with.
    pub(crate) fn mobility_of(&self, req: &PageRequest) -> MigrateType {
        self.mobility(req.gfp)
    }

    /// P425: forgets which blocks were not worth a look, in the zones of a node whose scanners have
    /// met since it was last done.
    pub(crate) fn forget_hints(&self, node: NodeId) {
        for ground in self.grounds_of(node, ZoneKind::Movable) {
            ground.forget_hints();
        }
    }

    /// P427: how fragmented a node is for huge pages, 0 to 100.
    pub(crate) fn fragmentation_score(&self, node: NodeId) -> u8 {
        let scores = self.grounds_of(node, ZoneKind::Movable).map(|g| g.score());
        node_score(scores.map(|zone| (zone.present, zone.score)))
    }

    /// Gives back what this CPU has cached: it may be what is missing in a block.
    pub(crate) fn drain_here(&self) {
        if let Ok(local) = Local::enter(&self.platform) {
            self.drain(&local);
        }
    }
}

impl<'p, P: Platform> Ground<'p, P> {
    fn memory(&self) -> &'p Memory {
        &self.pages.owners.table().grounds[usize::from(self.zone.id)]
    }

    /// Its node.
    pub(crate) fn node(&self) -> NodeId {
        self.zone.node
    }

    /// The zone's number.
    pub(crate) fn id(&self) -> usize {
        self.zone.id.into()
    }

    /// P422: how much room there is for requests up to a zone.
    pub(crate) fn room(&self, highest: ZoneKind) -> ZoneRoom {
        ZoneRoom {
            marks: self.zone.watermarks(),
            boost: self.zone.boost(),
            reserve: self.zone.reserve(highest),
            state: self.zone.free_state(),
        }
    }

    /// P420: a block of the order is there for a request of this type.
    pub(crate) fn has_block(&self, order: u32, kind: MigrateType) -> bool {
        block_available(order, kind, self.pages.grouping(), |order, kind| {
            self.zone.nr_free(order as usize, kind) != 0
        })
    }

    /// P423. Blocks that the type may not have do not count as suitable.
    pub(crate) fn fragmentation(&self, order: u32, kind: MigrateType) -> Fragmentation {
        let blocks = (0..NR_ORDERS).map(|order| self.given_out(order)).sum();
        let suitable = usize::from(self.has_block(order, kind));
        fragmentation(order, blocks, self.zone.free_pages(), suitable)
    }

    /// Free blocks of an order that are not isolated.
    fn given_out(&self, order: usize) -> usize {
        let kinds = &MigrateType::ALL[..MigrateType::Isolate as usize];
        let blocks = kinds.iter().map(|kind| self.zone.nr_free(order, *kind));
        blocks.sum()
    }

    /// P427: how fragmented it is for huge pages.
    pub(crate) fn score(&self) -> Score {
        let in_blocks = |order: usize| self.given_out(order) << order;
        let usable = (Order::PAGEBLOCK.index()..NR_ORDERS).map(in_blocks).sum();
        Score {
            present: self.zone.present_pages(),
            score: zone_score(self.zone.free_pages(), usable),
        }
    }

    /// The mark that a request has to pass at last.
    pub(crate) fn passes_min(&self, order: u32, highest: ZoneKind) -> bool {
        let order = Order::new(order as u8).unwrap_or_default();
        self.zone
            .watermark_ok_with(0, order, highest, AllocFlags::MIN)
    }

    /// Decides by the deferral of the zone, and changes it.
    pub(crate) fn with_deferral<R>(&self, change: impl Fn(&mut Deferral) -> R) -> R {
        let word = &self.memory().deferral;
        let mut old = word.load(Relaxed);
        loop {
            let mut deferral = Deferral::from_bits(old);
            let result = change(&mut deferral);
            // Relaxed, as everything here: a hint.
            match word.compare_exchange_weak(old, deferral.to_bits(), Relaxed, Relaxed) {
                Ok(_) => return result,
                Err(now) => old = now,
            }
        }
    }

    /// P420: the scanners at the ends of the zone.
    pub(crate) fn ends(&self) -> Scanners {
        let (start, pages) = self.zone.span();
        Scanners::at_ends(start.0, start.0 + pages)
    }

    /// Where the scanners stopped last.
    pub(crate) fn scanners(&self) -> Scanners {
        let (ends, memory) = (self.ends(), self.memory());
        let (migrate, free) = (memory.migrate.load(Relaxed), memory.free.load(Relaxed));
        if migrate < ends.migrate || migrate >= ends.free || free > ends.free {
            return ends;
        }
        Scanners { migrate, free }
    }

    pub(crate) fn keep_scanners(&self, at: Scanners) {
        self.memory().migrate.store(at.migrate, Relaxed);
        self.memory().free.store(at.free, Relaxed);
    }

    /// P425: the scanners have met: the next compaction begins at the ends.
    pub(crate) fn scanners_met(&self) {
        self.keep_scanners(self.ends());
        self.memory().met.store(1, Relaxed);
    }

    /// P425: if the scanners have met.
    pub(crate) fn forget_hints(&self) {
        if self.memory().met.swap(0, Relaxed) != 0 {
            let blocks = self.zone.first_block..self.zone.first_block + self.zone.nr_blocks;
            let blocks = &self.pages.blocks.blocks[blocks];
            blocks.iter().for_each(|b| b.set_hints(Hints::None));
        }
    }

    fn block(&self, pfn: Pfn) -> Option<usize> {
        let block = self.pages.blocks.of(pfn)?;
        (self.pages.blocks.blocks[block].zone() == self.zone.id).then_some(block)
    }

    /// The pageblock that a frame is in; `None` if it is not the zone's.
    pub(crate) fn block_facts(&self, pfn: Pfn) -> Option<BlockFacts> {
        let block = &self.pages.blocks.blocks[self.block(pfn)?];
        Some(BlockFacts {
            mobility: block.kind(),
            hints: block.hints(),
            largest_free: match block.class() {
                CLASS_FULL => None,
                class => Some(class.into()),
            },
        })
    }

    /// P425: nothing to take was found in a block.
    pub(crate) fn skip_from_now(&self, pfn: Pfn) {
        if let Some(block) = self.block(pfn) {
            self.pages.blocks.blocks[block].set_hints(Hints::Skip);
        }
    }

    /// The first movable block of pages at or after `at` in its pageblock, held. Moves `at` behind
    /// it, or to the end of the pageblock. Of blocks of `limit` or more nothing is gained.
    pub(crate) fn hold_next(&self, at: &mut Pfn, limit: Order) -> Option<Held<'p, P>> {
        let end = Pfn((at.0 / PAGEBLOCK_PAGES + 1) * PAGEBLOCK_PAGES);
        while *at < end {
            let pfn = *at;
            let word = self.pages.frames.get(pfn);
            let pages = match word.kind() {
                FrameKind::None | FrameKind::Slab | FrameKind::Vmalloc => 1,
                _ => word.order().pages(),
            };
            *at = pfn.add(pages).min(end);
            if let Some(block) = word.movable()
                && block.order < limit
                && let Some(held) = self.pages.hold(pfn)
            {
                return Some(held);
            }
        }
        None
    }

    /// Takes free blocks of `order` from the pageblock of `pfn`, while the zone stays above min
    /// (P349), and gives each to `found`. Returns how many.
    ///
    /// # Errors
    /// The lock is somebody's, or the zone is too full.
    pub(crate) fn take_targets(
        &self,
        pfn: Pfn,
        order: Order,
        wanted: usize,
        locking: Locking,
        mut found: impl FnMut(Pfn),
    ) -> Result<usize, Contended> {
        let Some(block) = self.block(pfn) else {
            return Ok(0);
        };
        let local = Local::enter(&self.pages.platform).map_err(|_| Contended)?;
        let (zone, blocks) = (self.zone, &self.pages.blocks);
        let shard = &zone.shards()[zone.shard_of(block)];
        let guard = zone.lock_in(blocks, &local, shard, locking);
        let mut guard = guard.ok_or(Contended)?;
        let mut taken = 0;
        while taken < wanted {
            let b = &blocks.blocks[block];
            let class = b.class();
            if class == CLASS_FULL || class < order.get() || b.is_isolated() {
                break;
            }
            let may_take = |blocks: &usize| {
                let pages = *blocks << order.get();
                zone.watermark_ok_without(pages, Order::ZERO, zone.kind, AllocFlags::MIN)
            };
            // Near the mark one after the other.
            let Some(most) = [wanted - taken, 1].into_iter().find(may_take) else {
                return match taken {
                    0 => Err(Contended),
                    some => Ok(some),
                };
            };
            let got = guard.take_from(block, order, most);
            guard.settle();
            (0..got.blocks).for_each(|i| found(got.pfn.add(i << order.get())));
            taken += got.blocks;
        }
        Ok(taken)
    }

    /// Gives back blocks of `order` that nobody uses, at once into the zone. Then, if a block is
    /// `wanted` and the pageblock of `at` has one by now, takes it before anybody else can (P320).
    pub(crate) fn give_back(
        &self,
        blocks: &[Option<Pfn>],
        order: Order,
        at: Pfn,
        wanted: Option<Order>,
    ) -> Option<Pfn> {
        let pages = self.pages;
        let Ok(local) = Local::enter(&pages.platform) else {
            // Nobody calls this from inside the allocator; if he does, the memory waits.
            blocks.iter().flatten().for_each(|pfn| {
                pages.frames.set(*pfn, FrameWord::NONE);
                pages.defer(*pfn, order);
            });
            return None;
        };
        // What lies in the shard of `at` last, so that the block is taken under the same lock.
        let (zone, at) = (self.zone, self.block(at));
        let here = at.map(|block| &zone.shards()[zone.shard_of(block)]);
        let is_here = |pfn: &Pfn| here.is_some_and(|shard| shard.has(pages.block_of(*pfn)));
        let mut twice = None;
        for pfn in blocks.iter().flatten() {
            pages.frames.set(*pfn, FrameWord::NONE);
            if !is_here(pfn) {
                let shard = pages.shard_of(zone, *pfn);
                let mut guard = zone.lock_shard(&pages.blocks, &local, shard);
                if !guard.put(*pfn, order) {
                    twice = Some(*pfn);
                }
            }
        }
        let captured = at.and_then(|block| {
            let mut guard = zone.lock_block(&pages.blocks, &local, block);
            for pfn in blocks.iter().flatten().filter(|pfn| is_here(pfn)) {
                if !guard.put(*pfn, order) {
                    twice = Some(*pfn);
                }
            }
            let b = &pages.blocks.blocks[block];
            let fits = |wanted: &Order| b.class() != CLASS_FULL && b.class() >= wanted.get();
            let there = |wanted: &Order| fits(wanted) && !b.is_isolated();
            Some(guard.take_from(block, wanted.filter(there)?, 1).pfn)
        });
        if captured.is_some()
            && let Some(order) = wanted
            && let Some(cache) = pages.cache(&local, self.zone)
        {
            pages.count_taken(cache, self.zone, order, self.zone, || None);
        }
        pages.after_put(&local, self.zone, twice);
        captured
    }
}
