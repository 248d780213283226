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
//! 4. **Locking.** All words are changed under the zone's lock.

use super::guard::ZoneGuard;
use super::zone::Zone;
use super::{PageAllocator, PageRequest};
use crate::flags::MigrateType;
use crate::frame::{Order, PAGEBLOCK_ORDER, PAGEBLOCK_PAGES, Pfn};
use crate::platform::Platform;
use crate::policy::fallback::{highatomic_limit, is_mergeable};
use crate::policy::highatomic::{AtomicReserve, Change, Demand, Event, Need, unreserves};
use crate::policy::watermark::AllocFlags;
use crate::sync::Local;
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize};

const SECOND_NS: u64 = 1_000_000_000;

/// What a zone keeps for the urgent. Changed under the zone's lock, read anywhere.
pub(super) struct Urgent {
    /// A [`Demand`].
    demand: AtomicU32,
    /// An [`AtomicReserve`].
    single: AtomicU32,
    /// Pages of blocks of type `HighAtomic`.
    reserved: AtomicUsize,
    /// Of them, free pages that others may not count: as many as are wanted.
    withheld: AtomicUsize,
    /// Until when demand has faded.
    faded_ns: AtomicU64,
    /// 1: the node has a background task.
    attended: AtomicU32,
}

impl Urgent {
    pub(super) const fn new() -> Urgent {
        Urgent {
            demand: AtomicU32::new(0),
            single: AtomicU32::new(0),
            reserved: AtomicUsize::new(0),
            withheld: AtomicUsize::new(0),
            faded_ns: AtomicU64::new(0),
            attended: AtomicU32::new(0),
        }
    }

    /// P334, P823.
    #[inline]
    pub(super) fn withheld(&self) -> usize {
        self.withheld.load(Relaxed)
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
    fn is_idle(&self) -> bool {
        let words = self.demand.load(Relaxed) | self.single.load(Relaxed);
        words == 0 && self.reserved() == 0
    }
}

impl Zone {
    /// Free pages in blocks of the reserve that nobody is kept from.
    fn surplus(&self) -> usize {
        let free = self.free_highatomic.load(Relaxed);
        free.saturating_sub(self.urgent.withheld())
    }

    /// Free pages of the reserve, or the demand for them, changed.
    pub(super) fn withhold(&self) {
        let free = self.free_highatomic.load(Relaxed);
        let withheld = self.urgent.demand().withheld(self.managed_pages(), free);
        self.urgent.withheld.store(withheld, Relaxed);
    }
}

impl ZoneGuard<'_> {
    fn set_demand(&mut self, demand: Demand) {
        self.zone.urgent.demand.store(demand.bits(), Relaxed);
        self.zone.withhold();
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
        let urgent = &self.zone.urgent;
        let limit = highatomic_limit(self.zone.managed_pages());
        let fits = urgent.reserved() + PAGEBLOCK_PAGES <= limit;
        let wanted = matches!(self.change(), Change::Take(_));
        let b = &self.blocks.blocks[block];
        if !fits || !wanted || !is_mergeable(b.kind()) || b.free() == 0 {
            return;
        }
        self.unpair(block);
        self.retype(block, MigrateType::HighAtomic);
        urgent
            .reserved
            .store(urgent.reserved() + PAGEBLOCK_PAGES, Relaxed);
        self.zone.withhold();
    }

    /// P823: reserves a wholly free pageblock, if more is wanted.
    fn reserve_free(&mut self) {
        let types = [
            MigrateType::Movable,
            MigrateType::Unmovable,
            MigrateType::Reclaimable,
        ];
        let whole = [PAGEBLOCK_ORDER, PAGEBLOCK_ORDER + 1];
        let mut all = whole
            .iter()
            .flat_map(|order| types.map(|kind| (order, kind)));
        let free = all.find_map(|(order, kind)| {
            let index = &self.zone.index[kind as usize][*order as usize];
            index.first()
        });
        if let Some(member) = free {
            self.reserve(member + self.zone.first_block);
        }
    }

    /// P335: gives one block of the reserve that has free pages to a type. False if there is none.
    fn unreserve(&mut self, kind: MigrateType) -> bool {
        let orders = &self.zone.index[MigrateType::HighAtomic as usize];
        let Some(member) = orders.iter().find_map(|index| index.first()) else {
            return false;
        };
        let block = member + self.zone.first_block;
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
        let urgent = &self.zone.urgent;
        let left = urgent.reserved().saturating_sub(PAGEBLOCK_PAGES);
        urgent.reserved.store(left, Relaxed);
        self.zone.withhold();
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
    /// Does something under the zone's lock. `None` amid a section, where nobody calls this.
    pub(super) fn with_zone<T>(
        &self,
        zone: &Zone,
        f: impl FnOnce(ZoneGuard<'_>) -> T,
    ) -> Option<T> {
        let local = Local::enter(&self.platform).ok()?;
        Some(f(zone.lock(&self.blocks, &local)))
    }

    /// A background task runs for the zone's node.
    pub(super) fn attend(&self, zone: &Zone) {
        zone.urgent.attended.store(1, Relaxed);
    }

    /// It runs no more: all is given back that is not in use.
    pub(super) fn neglect(&self, zone: &Zone) {
        zone.urgent.attended.store(0, Relaxed);
        self.with_zone(zone, |mut guard| {
            guard.set_demand(Demand::default());
            guard.set_single(AtomicReserve::default());
            while guard.unreserve(MigrateType::Movable) {}
        });
    }

    /// What was wanted lately fades in the zones of a request in need.
    pub(super) fn fade_for(&self, req: &PageRequest) {
        for zone in self.candidates(req).filter(|zone| !zone.urgent.is_idle()) {
            let now = self.platform.now_ns();
            self.with_zone(zone, |mut guard| guard.fade(now));
        }
    }

    /// As [`PageAllocator::fade_for`], by the background after its run; and what is wanted is
    /// reserved where a whole pageblock is free.
    pub(crate) fn settle_reserves(&self, node: crate::frame::NodeId) {
        let zones = self.zones.iter().filter(|zone| zone.node == node);
        for zone in zones.filter(|zone| !zone.urgent.is_idle()) {
            let now = self.platform.now_ns();
            self.with_zone(zone, |mut guard| {
                guard.fade(now);
                guard.reserve_free();
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
        self.with_zone(zone, |mut guard| {
            // Once more: the task may have ended meanwhile, and given all back.
            if zone.urgent.is_attended() {
                guard.note(order, Event::NearMiss, now);
                guard.reserve(block);
            }
        });
    }

    /// P823, P824: a request with these rights ends without memory.
    pub(super) fn note_failure(&self, req: &PageRequest, rights: AllocFlags) {
        let urgent = AllocFlags::MIN_RESERVE.with(AllocFlags::NON_BLOCK);
        let Some(zone) = self.candidates(req).next() else {
            return;
        };
        if !rights.contains(urgent) || !zone.urgent.is_attended() {
            return;
        }
        let now = self.platform.now_ns();
        self.with_zone(zone, |mut guard| {
            if !zone.urgent.is_attended() {
                return;
            }
            if req.order > Order::ZERO {
                return guard.note(req.order, Event::Failure, now);
            }
            guard.catch_up(now);
            let (min, managed) = (zone.watermarks().min, zone.managed_pages());
            guard.set_single(zone.urgent.single().failed(min, managed));
        });
    }

    /// P123, P335: gives a pageblock of the zone's reserve to the requester's type.
    pub(super) fn unreserve(&self, zone: &Zone, need: Need, req: &PageRequest) -> bool {
        let kind = self.mobility(req.gfp);
        let may = unreserves(zone.urgent.reserved(), need);
        may && self.with_zone(zone, |mut guard| guard.unreserve(kind)) == Some(true)
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
            self.with_zone(zone, |mut guard| guard.set_single(AtomicReserve::default()));
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
        let has_some = |zone: &&Zone| zone.free_highatomic.load(Relaxed) != 0;
        for zone in self.candidates(req).filter(has_some) {
            let unlimited = flags.contains(AllocFlags::NO_WATERMARKS);
            let enough = unlimited || zone.watermark_ok(req.order, highest, flags);
            if !enough || !may(zone) {
                continue;
            }
            let mut guard = zone.lock(&self.blocks, local);
            let taken = guard.take(req.order, MigrateType::HighAtomic, 1);
            if let Some(taken) = taken {
                guard.settle_taken(taken.pfn, req.order);
            }
            drop(guard);
            let Some(taken) = taken else { continue };
            if let Some(cache) = self.cache(local, zone) {
                let wanted = || self.cache(local, preferred);
                self.count_taken(cache, zone, req.order, preferred, wanted);
            }
            return Some(taken.pfn);
        }
        None
    }
}
