//! Reserves for requests that cannot wait, sized by what they needed lately (P333-P337, P823,
//! P824).
//!
//! 1. **Blocks.** When a request of order > 0 that cannot wait is served only below the low
//!    watermark, its pageblock becomes one of type `HighAtomic` (P333), if more is wanted than is
//!    reserved. Such requests look there first. Others get of it what is more than wanted, a page
//!    at a time, when nothing else is left. A block of which the last page is taken is none of the
//!    reserve any more: so each has something to give back.
//! 2. **Single pages.** When one that cannot wait fails, the zone keeps more above its watermarks:
//!    a part of its boost, which the urgent of any order do not see (P272).
//! 3. **Decay.** Both fade by an eighth a second. There is no timer: the next request in need, or
//!    the background, counts the seconds that have passed.
//!    Without a background task nothing is kept: nobody would free for it.
//! 4. **Locking.** What was wanted is changed under a lock of its own ([`Keeper`]), with which a
//!    shard's lock may be taken; what is reserved under the lock of the shard of the block.

use super::claim::Want;
use super::guard::ZoneGuard;
use super::zone::{Blocks, Zone};
use super::{Locking, PageAllocator, PageRequest};
use crate::flags::MigrateType;
use crate::frame::{NR_ORDERS, Order, PAGEBLOCK_ORDER, PAGEBLOCK_PAGES, Pfn};
use crate::platform::Platform;
use crate::policy::fallback::{highatomic_limit, is_mergeable};
use crate::policy::highatomic::{AtomicReserve, Change, Demand, Event, Need, unreserves};
use crate::policy::watermark::AllocFlags;
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize};
use crate::sync::{Local, Lock, LockGuard, Rank};

const SECOND_NS: u64 = 1_000_000_000;

/// What a zone keeps for the urgent. Read anywhere.
pub(super) struct Urgent {
    lock: Lock<(), { Rank::Reserve as u8 }>,
    /// A [`Demand`].
    demand: AtomicU32,
    /// An [`AtomicReserve`].
    single: AtomicU32,
    /// Pages of blocks of type `HighAtomic`. Changes with the type of a block, under the lock of
    /// its shard; rises only under `lock` too.
    reserved: AtomicUsize,
    /// Until when demand has faded.
    faded_ns: AtomicU64,
    /// 1: the node has a background task.
    attended: AtomicU32,
}

impl Urgent {
    pub(super) const fn new() -> Urgent {
        Urgent {
            lock: Lock::new(()),
            demand: AtomicU32::new(0),
            single: AtomicU32::new(0),
            reserved: AtomicUsize::new(0),
            faded_ns: AtomicU64::new(0),
            attended: AtomicU32::new(0),
        }
    }

    pub(super) fn reserved(&self) -> usize {
        self.reserved.load(Relaxed)
    }

    fn demand(&self) -> Demand {
        Demand::from_bits(self.demand.load(Relaxed))
    }

    fn single(&self) -> AtomicReserve {
        AtomicReserve::from_bits(self.single.load(Relaxed))
    }

    fn is_attended(&self) -> bool {
        self.attended.load(Relaxed) != 0
    }

    /// Nothing is kept, and nothing was wanted lately.
    pub(super) fn is_idle(&self) -> bool {
        let words = self.demand.load(Relaxed) | self.single.load(Relaxed);
        words == 0 && self.reserved() == 0
    }
}

impl Zone {
    /// Free pages in blocks of the reserve that nobody is kept from.
    fn surplus(&self) -> usize {
        self.free_highatomic().saturating_sub(self.withheld())
    }

    /// P334, P823: of the free pages of the reserve, what others may not count: as many as are
    /// wanted.
    #[inline]
    pub(super) fn withheld(&self) -> usize {
        match self.free_highatomic() {
            0 => 0,
            free => self.urgent.demand().withheld(self.managed_pages(), free),
        }
    }
}

/// The right to change what a zone keeps: nobody else does.
struct Keeper<'z, 'p, P: Platform> {
    zone: &'z Zone,
    blocks: &'z Blocks,
    local: &'z Local<'p, P>,
    _lock: LockGuard<'z, (), { Rank::Reserve as u8 }>,
}

impl<P: Platform> Keeper<'_, '_, P> {
    fn set_demand(&mut self, demand: Demand) {
        self.zone.urgent.demand.store(demand.bits(), Relaxed);
    }

    fn set_single(&mut self, single: AtomicReserve) {
        self.zone.urgent.single.store(single.bits(), Relaxed);
        self.zone.boost.set_single(single.pages());
    }

    fn change(&self) -> Change {
        let urgent = &self.zone.urgent;
        urgent
            .demand()
            .change(self.zone.managed_pages(), urgent.reserved())
    }

    /// P823, P824: what was wanted fades, an eighth for each second that has passed.
    fn fade(&mut self, now_ns: u64) {
        let urgent = &self.zone.urgent;
        let seconds = now_ns.saturating_sub(urgent.faded_ns.load(Relaxed)) / SECOND_NS;
        if seconds == 0 {
            return;
        }
        let (mut demand, mut single) = (urgent.demand(), urgent.single());
        let most = Demand::TICKS_MAX.max(AtomicReserve::TICKS_MAX);
        for _ in 0..seconds.min(most.into()) {
            (demand, single) = (demand.tick(), single.tick());
        }
        let faded = urgent.faded_ns.load(Relaxed) + seconds * SECOND_NS;
        urgent.faded_ns.store(faded, Relaxed);
        self.set_demand(demand);
        self.set_single(single);
        if let Change::GiveBlocks(blocks) = self.change() {
            for _ in 0..blocks {
                self.unreserve(MigrateType::Movable);
            }
        }
    }

    /// Before something is noted: what was wanted has faded until now.
    fn catch_up(&mut self, now_ns: u64) {
        if self.zone.urgent.is_idle() {
            self.zone.urgent.faded_ns.store(now_ns, Relaxed);
        }
        self.fade(now_ns);
    }

    /// Notes how an urgent request of order > 0 ended.
    fn note(&mut self, order: Order, event: Event, now_ns: u64) {
        self.catch_up(now_ns);
        self.set_demand(self.zone.urgent.demand().note(order.get().into(), event));
    }

    /// P333: makes a pageblock one of the reserve, if it may be, has something free, and more is
    /// wanted.
    fn reserve(&mut self, block: usize) {
        if self.wants_more() {
            let mut guard = self.zone.lock_block(self.blocks, self.local, block);
            guard.reserve(block);
        }
    }

    /// More is wanted than is reserved, and may be (P333).
    fn wants_more(&self) -> bool {
        let limit = highatomic_limit(self.zone.managed_pages());
        let fits = self.zone.urgent.reserved() + PAGEBLOCK_PAGES <= limit;
        fits && matches!(self.change(), Change::Take(_))
    }

    /// P823: reserves a wholly free pageblock, if more is wanted.
    fn reserve_free(&mut self) {
        if !self.wants_more() {
            return;
        }
        let types = [
            MigrateType::Movable,
            MigrateType::Unmovable,
            MigrateType::Reclaimable,
        ];
        for order in [PAGEBLOCK_ORDER, PAGEBLOCK_ORDER + 1] {
            for kind in types {
                let shards = self.zone.shards().iter();
                for shard in shards.filter(|shard| shard.runs().has(kind, order)) {
                    let mut guard = self.zone.lock_shard(self.blocks, self.local, shard);
                    if let Some(block) = shard.first(kind, order) {
                        return guard.reserve(block);
                    }
                }
            }
        }
    }

    /// P335: gives one block of the reserve that has free pages to a type. False if there is none.
    fn unreserve(&mut self, kind: MigrateType) -> bool {
        let reserved = MigrateType::HighAtomic;
        let mut shards = self.zone.shards().iter();
        shards.any(|shard| {
            shard.runs().has_at_least(reserved, 0)
                && self
                    .zone
                    .lock_shard(self.blocks, self.local, shard)
                    .unreserve(kind)
        })
    }
}

impl ZoneGuard<'_> {
    /// P333: makes a pageblock one of the reserve, if it may be and has something free.
    fn reserve(&mut self, block: usize) {
        let b = &self.blocks.blocks[block];
        if !is_mergeable(b.kind()) || b.free() == 0 {
            return;
        }
        self.unpair(block);
        self.retype(block, MigrateType::HighAtomic);
        let reserved = &self.zone.urgent.reserved;
        reserved.fetch_add(PAGEBLOCK_PAGES, Relaxed);
    }

    /// P335: gives one block of the reserve that has free pages to a type. False if there is none.
    fn unreserve(&mut self, kind: MigrateType) -> bool {
        let orders = 0..NR_ORDERS as u8;
        let first = |order| self.shard.first(MigrateType::HighAtomic, order);
        let Some(block) = orders.into_iter().find_map(first) else {
            return false;
        };
        self.unpair(block);
        self.leave_reserve(block, kind);
        if self.blocks.blocks[block].free() == PAGEBLOCK_PAGES {
            self.join(block);
        }
        true
    }

    /// A block of the reserve is one of this type from now on.
    pub(super) fn leave_reserve(&mut self, block: usize, kind: MigrateType) {
        self.retype(block, kind);
        self.forget_reserve();
    }

    /// The reserve has a block less.
    pub(super) fn forget_reserve(&mut self) {
        let reserved = &self.zone.urgent.reserved;
        reserved.fetch_sub(PAGEBLOCK_PAGES, Relaxed);
    }

    /// A block of pages was taken from the reserve: what has no free page any more leaves it. Who
    /// cannot wait can seldom move.
    fn settle_taken(&mut self, pfn: Pfn, order: Order) {
        let Some(first) = self.blocks.of(pfn) else {
            return;
        };
        for block in first..first + order.pages().div_ceil(PAGEBLOCK_PAGES) {
            if self.blocks.blocks[block].free() == 0 {
                self.leave_reserve(block, MigrateType::Unmovable);
            }
        }
    }
}

impl<P: Platform> PageAllocator<P> {
    /// Changes what a zone keeps. `None` amid a section, where nobody calls this.
    fn with_keeper<T>(&self, zone: &Zone, f: impl FnOnce(Keeper<'_, '_, P>) -> T) -> Option<T> {
        let local = Local::enter(&self.platform).ok()?;
        Some(f(Keeper {
            zone,
            blocks: &self.blocks,
            local: &local,
            _lock: zone.urgent.lock.lock(&local),
        }))
    }

    /// A background task runs for the zone's node.
    pub(super) fn attend(&self, zone: &Zone) {
        zone.urgent.attended.store(1, Relaxed);
    }

    /// It runs no more: all is given back that is not in use.
    pub(super) fn neglect(&self, zone: &Zone) {
        zone.urgent.attended.store(0, Relaxed);
        self.with_keeper(zone, |mut keeper| {
            keeper.set_demand(Demand::default());
            keeper.set_single(AtomicReserve::default());
            while keeper.unreserve(MigrateType::Movable) {}
        });
    }

    /// What was wanted lately fades in the zones of a request in need.
    pub(super) fn fade_for(&self, req: &PageRequest) {
        for zone in self.candidates(req).filter(|zone| !zone.urgent.is_idle()) {
            let now = self.platform.now_ns();
            self.with_keeper(zone, |mut keeper| keeper.fade(now));
        }
    }

    /// As [`PageAllocator::fade_for`], by the background after its run; and what is wanted is
    /// reserved where a whole pageblock is free.
    pub(crate) fn settle_reserves(&self, node: crate::frame::NodeId) {
        let zones = self.zones.iter().filter(|zone| zone.node == node);
        for zone in zones.filter(|zone| !zone.urgent.is_idle()) {
            let now = self.platform.now_ns();
            self.with_keeper(zone, |mut keeper| {
                keeper.fade(now);
                keeper.reserve_free();
            });
        }
    }

    /// P278, P333: an urgent request of order > 0 was served only in need.
    pub(super) fn note_near_miss(&self, pfn: Pfn, order: Order) {
        let (Some(id), Some(block)) = (self.blocks.zone_of(pfn), self.blocks.of(pfn)) else {
            return;
        };
        let zone = &self.zones[id];
        if !zone.urgent.is_attended() {
            return;
        }
        let now = self.platform.now_ns();
        self.with_keeper(zone, |mut keeper| {
            // Once more: the task may have ended meanwhile, and given all back.
            if zone.urgent.is_attended() {
                keeper.note(order, Event::NearMiss, now);
                keeper.reserve(block);
            }
        });
    }

    /// P823, P824: a request with these rights ends without memory.
    pub(super) fn note_failure(&self, req: &PageRequest, rights: AllocFlags) {
        let urgent = AllocFlags::MIN_RESERVE.with(AllocFlags::NON_BLOCK);
        if !rights.contains(urgent) {
            return;
        }
        let first = self.candidates(req).next();
        let Some(zone) = first.filter(|zone| zone.urgent.is_attended()) else {
            return;
        };
        let now = self.platform.now_ns();
        self.with_keeper(zone, |mut keeper| {
            if !zone.urgent.is_attended() {
                return;
            }
            if req.order > Order::ZERO {
                return keeper.note(req.order, Event::Failure, now);
            }
            keeper.catch_up(now);
            let (min, managed) = (zone.watermarks().min, zone.managed_pages());
            keeper.set_single(zone.urgent.single().failed(min, managed));
        });
    }

    /// P123, P335: gives a pageblock of the zone's reserve to the requester's type.
    pub(super) fn unreserve(&self, zone: &Zone, need: Need, req: &PageRequest) -> bool {
        let kind = self.mobility(req.gfp);
        let may = unreserves(zone.urgent.reserved(), need);
        may && self.with_keeper(zone, |mut keeper| keeper.unreserve(kind)) == Some(true)
    }

    /// P118: gives one pageblock of the reserves back, the last one of no zone.
    pub(super) fn unreserve_one(&self, req: &PageRequest) {
        let _ = self
            .candidates(req)
            .any(|zone| self.unreserve(zone, Need::AfterReclaim, req));
    }

    /// What is kept for single urgent pages is given up. True if there was something.
    pub(super) fn give_up_single(&self, zone: &Zone) -> bool {
        let some = zone.urgent.single().pages() != 0;
        if some {
            self.with_keeper(zone, |mut keeper| {
                keeper.set_single(AtomicReserve::default())
            });
        }
        some
    }

    /// P331, P333: a block of the reserve, for a request with the right to it. Only this one.
    pub(super) fn take_reserved(
        &self,
        local: &Local<'_, P>,
        req: &PageRequest,
        flags: AllocFlags,
    ) -> Option<Pfn> {
        let entitled = flags.contains(AllocFlags::HIGHATOMIC) && req.order > Order::ZERO;
        entitled.then(|| self.take_highatomic(local, req, flags, |_| true))?
    }

    /// P336: one page of the reserve when nothing else is left, for who cannot wait; for others of
    /// what is more than wanted (P823).
    pub(super) fn take_last(
        &self,
        local: &Local<'_, P>,
        req: &PageRequest,
        flags: AllocFlags,
    ) -> Option<Pfn> {
        let may = |zone: &Zone| flags.may_drain_highatomic() || zone.surplus() != 0;
        let single = req.order == Order::ZERO;
        single.then(|| self.take_highatomic(local, req, flags, may))?
    }

    fn take_highatomic(
        &self,
        local: &Local<'_, P>,
        req: &PageRequest,
        flags: AllocFlags,
        may: impl Fn(&Zone) -> bool,
    ) -> Option<Pfn> {
        let highest = self.highest(req.gfp);
        let preferred = self.candidates(req).next()?;
        let has_some = |zone: &&Zone| zone.free_highatomic() != 0;
        for zone in self.candidates(req).filter(has_some) {
            let unlimited = flags.contains(AllocFlags::NO_WATERMARKS);
            let enough = unlimited || zone.watermark_ok(req.order, highest, flags);
            if !enough || !may(zone) {
                continue;
            }
            let want = Want {
                order: req.order,
                kind: MigrateType::HighAtomic,
                blocks: 1,
                locking: Locking::Wait,
            };
            let Some((mut guard, taken)) = self.take_own(local, zone, &want) else {
                continue;
            };
            guard.settle_taken(taken.pfn, req.order);
            drop(guard);
            if let Some(cache) = self.cache(local, zone) {
                let wanted = || self.cache(local, preferred);
                self.count_taken(cache, zone, req.order, preferred, wanted);
            }
            return Some(self.note_content(taken, req.order));
        }
        None
    }
}
