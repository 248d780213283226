//! How large the per-CPU caches of a zone are, how they adapt, and when they are emptied.
//!
//! 1. **Limits** of a zone ([`Sizing`]) follow from its size (P324, P325), or from a part of it
//!    that the administrator says (P704).
//! 2. **Adapting.** Refills double as long as nothing is freed (P326), what is given back grows
//!    with frees in a row (P327), and what may be kept rises when the CPU goes past it (P328):
//!    `policy::pcp::Tuner`. A cache is looked at where a list is empty or may hold no more, so that
//!    fast paths pay nothing.
//! 3. **Giving back** goes round the lists, oldest blocks first. No hold of a shard's lock is
//!    longer for it (P327, P834).
//! 4. **Zones in need.** While a node is reclaimed in the background its caches keep four batches
//!    each; below its watermark *high* a zone's keep a batch less each time they are looked at
//!    (P329). Whether a zone is below is seen where it matters, not noted before (P277).
//! 5. **Ageing** ([`PageAllocator::age_caches`]): each stat interval what may be kept decays
//!    (P328), and what a CPU has cached and not used meanwhile goes back to the zone. A CPU that
//!    works within what it may keep is not disturbed.

use super::PageAllocator;
use super::cache::{List, NR_LISTS, ZoneCache};
use super::claim::Want;
use super::free::HOLD_MOST;
use super::zone::Zone;
use crate::frame::{CpuId, NodeId};
use crate::platform::Platform;
use crate::policy::pcp::{PcpLimits, Pressure, Traffic, Tuner, is_large, refill};
use crate::policy::watermark::WatermarkLevel;
use crate::sync::Local;
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize};

/// P713: how often caches age.
pub(crate) const STAT_INTERVAL_NS: u64 = 1_000_000_000;

/// The [`PcpLimits`] of one zone. They change when memory is added; who reads old and new mixed
/// moves a batch of another size, no more.
pub(crate) struct Sizing {
    batch: AtomicUsize,
    high_min: AtomicUsize,
    high_max: AtomicUsize,
}

impl Sizing {
    /// Limits under which nothing is kept.
    pub(crate) const fn new() -> Sizing {
        Sizing {
            batch: AtomicUsize::new(PcpLimits::BOOT.batch),
            high_min: AtomicUsize::new(PcpLimits::BOOT.high_min),
            high_max: AtomicUsize::new(PcpLimits::BOOT.high_max),
        }
    }

    /// All limits.
    #[inline]
    pub(crate) fn get(&self) -> PcpLimits {
        PcpLimits {
            batch: self.batch.load(Relaxed),
            high_min: self.high_min.load(Relaxed),
            high_max: self.high_max.load(Relaxed),
        }
    }

    pub(crate) fn set(&self, limits: &PcpLimits) {
        self.batch.store(limits.batch, Relaxed);
        self.high_min.store(limits.high_min, Relaxed);
        self.high_max.store(limits.high_max, Relaxed);
    }
}

/// What one CPU's cache of a zone has learned ([`Tuner`]). Only who holds the CPU's section touches
/// it, but for `aged` and the decay of `high`: of two who change these at once one does so in vain,
/// and the next stat interval sees to it.
#[derive(Default)]
pub(super) struct Adapted {
    scale: AtomicU8,
    freed_large: AtomicBool,
    /// The list that gives back next.
    turn: AtomicU8,
    free_count: AtomicUsize,
    high: AtomicUsize,
    /// What the long ways had counted when the cache was last looked at.
    allocated: AtomicU64,
    freed: AtomicU64,
    /// What a list had counted when it was last looked at, in blocks.
    lists: [(AtomicU32, AtomicU32); NR_LISTS],
    /// All that had passed the cache a stat interval ago.
    aged: AtomicU64,
}

/// What came since `seen`, which becomes `now`.
fn since64(seen: &AtomicU64, now: u64) -> u64 {
    let before = seen.load(Relaxed);
    seen.store(now, Relaxed);
    now.wrapping_sub(before)
}

/// As [`since64`], of a count of which the low half is enough.
fn since32(seen: &AtomicU32, now: u64) -> u64 {
    let before = seen.load(Relaxed);
    seen.store(now as u32, Relaxed);
    (now as u32).wrapping_sub(before).into()
}

impl Adapted {
    fn tuner(&self) -> Tuner {
        Tuner {
            scale: self.scale.load(Relaxed).into(),
            free_count: self.free_count.load(Relaxed),
            high: self.high.load(Relaxed),
            freed_large: self.freed_large.load(Relaxed),
        }
    }

    /// What the cache has learned, of what has passed this list until now, and of all that went the
    /// long way.
    fn look(&self, cache: &ZoneCache, list: List) -> Tuner {
        let (taken, put) = cache.passed_quickly(list);
        let (seen_taken, seen_put) = &self.lists[usize::from(list.number())];
        let (events, order) = (&cache.events, list.order().get());
        let traffic = Traffic {
            allocated: since64(&self.allocated, events.alloc_pages.get())
                + (since32(seen_taken, taken) << order),
            freed: since64(&self.freed, events.free_pages.get())
                + (since32(seen_put, put) << order),
        };
        self.tuner().learn(traffic)
    }

    fn keep(&self, tuner: &Tuner) {
        self.scale.store(tuner.scale as u8, Relaxed);
        self.free_count.store(tuner.free_count, Relaxed);
        self.high.store(tuner.high, Relaxed);
        self.freed_large.store(tuner.freed_large, Relaxed);
    }

    /// P328: what the cache has learned that it may keep.
    #[cfg(test)]
    pub(super) fn high(&self) -> usize {
        self.high.load(Relaxed)
    }

    fn passed(cache: &ZoneCache) -> u64 {
        cache.alloc_pages().wrapping_add(cache.free_pages())
    }

    /// True if nothing has passed the cache since it aged last.
    fn is_idle(cache: &ZoneCache) -> bool {
        cache.adapted.aged.load(Relaxed) == Adapted::passed(cache)
    }

    /// A stat interval is over.
    fn age(cache: &ZoneCache, limits: &PcpLimits) {
        let adapted = &cache.adapted;
        adapted.aged.store(Adapted::passed(cache), Relaxed);
        let decayed = adapted.tuner().decay(limits);
        adapted.high.store(decayed.high, Relaxed);
    }
}

/// So many blocks, or a few less if the last hold of a lock would be for those few only.
const fn whole_holds(blocks: usize) -> usize {
    let last = blocks % HOLD_MOST;
    if blocks > HOLD_MOST && last < HOLD_MOST / 2 {
        blocks - last
    } else {
        blocks
    }
}

/// A node is being reclaimed in the background, until dropped.
pub(crate) struct Reclaiming<'a> {
    nodes: &'a AtomicUsize,
    node: NodeId,
}

impl Drop for Reclaiming<'_> {
    fn drop(&mut self) {
        self.nodes.fetch_and(!(1 << self.node.0), Relaxed);
    }
}

impl<P: Platform> PageAllocator<P> {
    /// P329, P276: from now on, until the result is dropped, caches of the node's zones keep
    /// little, and requests look at other nodes first.
    pub(crate) fn reclaiming(&self, node: NodeId) -> Reclaiming<'_> {
        let nodes = &self.reclaimed_nodes;
        // Relaxed: a hint, as all that reads it is.
        nodes.fetch_or(1 << node.0, Relaxed);
        Reclaiming { nodes, node }
    }

    /// Whether a node is being reclaimed in the background, or boot left memory for later.
    #[inline(always)]
    pub(super) fn needs_look_at_nodes(&self) -> bool {
        self.reclaimed_nodes.load(Relaxed) != 0
    }

    /// Whether the zone is being reclaimed in the background.
    #[inline]
    pub(super) fn is_reclaimed(&self, zone: &Zone) -> bool {
        self.reclaimed_nodes.load(Relaxed) >> zone.node.0 & 1 != 0
    }

    /// P329.
    #[inline]
    fn reclaimed(&self, zone: &Zone) -> Pressure {
        match self.is_reclaimed(zone) {
            false => Pressure::None,
            true => Pressure::Reclaimed,
        }
    }

    /// P277, P329.
    fn pressure(&self, zone: &Zone) -> Pressure {
        let high = zone.watermarks().level(WatermarkLevel::High, zone.boost());
        match self.reclaimed(zone) {
            Pressure::None if zone.free_pages() <= high => Pressure::BelowHigh,
            pressure => pressure,
        }
    }

    /// P326: how many blocks a refill of an empty list takes, as far as the list may hold them.
    #[inline(never)]
    pub(super) fn refill_size(&self, zone: &Zone, cache: &ZoneCache, list: List) -> usize {
        let limits = self.sizing[zone.id as usize].get();
        let order = u32::from(list.order().get());
        let adapted = &cache.adapted;
        let (blocks, high) = match order {
            0 => {
                let pressure = self.pressure(zone);
                let tuner = adapted.look(cache, list);
                let (blocks, tuner) = tuner.refill(order, cache.count(), &limits, pressure);
                adapted.keep(&tuner);
                (blocks, tuner.high(&limits, pressure))
            }
            // Neither what happened nor what is there matters.
            _ => {
                let high = adapted.tuner().high(&limits, self.reclaimed(zone));
                (refill(order, 0, high, 0, &limits).blocks, high)
            }
        };
        let more = blocks - 1;
        let blocks = 1 + cache.allow(list, more, high).min(more);
        whole_holds(blocks)
    }

    /// The part of a refill that one hold of a lock is too short for (P805): `blocks` more for a
    /// list, as many as there are, of a type.
    #[inline(never)]
    pub(super) fn refill_more(
        &self,
        local: &Local<'_, P>,
        zone: &Zone,
        cache: &ZoneCache,
        list: List,
        want: &Want,
    ) {
        let mut left = want.blocks;
        while left != 0 {
            let want = Want {
                blocks: left.min(HOLD_MOST),
                ..*want
            };
            let Some((mut guard, first)) = self.take_own(local, zone, &want) else {
                return;
            };
            let got = guard.take_batch(&want, first, |taken| self.store(cache, list, taken, 0));
            left = left.saturating_sub(got);
        }
    }

    /// Makes room for one block in a list that may hold no more; false if it is not to be cached.
    #[inline(never)]
    pub(super) fn make_room(
        &self,
        local: &Local<'_, P>,
        zone: &Zone,
        cache: &ZoneCache,
        list: List,
    ) -> bool {
        let limits = self.sizing[zone.id as usize].get();
        let pressure = self.pressure(zone);
        let order = u32::from(list.order().get());
        let (pages, step) = (list.order().pages(), ((limits.batch + 1) >> order).max(1));
        let adapted = &cache.adapted;
        let mut tuner = adapted.tuner();
        let mut for_others = false;
        let calm = pressure == Pressure::None;
        if is_large(order) || !calm {
            tuner = adapted.look(cache, list);
            for_others = tuner.frees_for_others(order, &limits);
            tuner.shrink(&limits, pressure);
            adapted.keep(&tuner);
        } else {
            adapted.freed_large.store(false, Relaxed);
        }
        let high = tuner.high(&limits, pressure);
        if pages > high {
            return false;
        }
        let blocks = cache.blocks(list);
        if for_others && blocks > step {
            self.flush(local, zone, cache, list, blocks - step);
            cache.close(list);
        } else if cache.allow(list, step, high) != 0 {
            return true;
        } else if calm && cache.is_full(list) {
            self.flush(local, zone, cache, list, whole_holds(blocks.div_ceil(2)));
        } else {
            let (count, filled) = cache.tally();
            let tuner = adapted.look(cache, list);
            let (excess, tuner) = tuner.give_back(order, count, &limits, pressure);
            adapted.keep(&tuner);
            let excess = match excess {
                0 => blocks.div_ceil(2) << order, // the list has no more room
                excess => excess,
            };
            self.give_back(local, zone, cache, excess, filled);
            if !calm {
                cache.forbid(); // what lists might hold before, they may not now
            }
        }
        cache.allow(list, step, high) != 0
    }

    /// P327: gives at least so many pages back, if there are as many, in turn from the lists, of
    /// which `filled` hold something.
    fn give_back(
        &self,
        local: &Local<'_, P>,
        zone: &Zone,
        cache: &ZoneCache,
        pages: usize,
        filled: usize,
    ) {
        let turn = &cache.adapted.turn;
        let (mut left, mut lists) = (pages, filled);
        while left != 0
            && let Some(list) = cache.next_filled(turn.load(Relaxed))
        {
            let part = left.div_ceil(lists.max(1)).div_ceil(list.order().pages());
            let part = part.min(cache.blocks(list));
            self.flush(local, zone, cache, list, part);
            turn.store(list.number().wrapping_add(1), Relaxed);
            left = left.saturating_sub(part << list.order().get());
            lists = lists.saturating_sub(1);
        }
    }

    /// A stat interval is over: what CPUs may keep decays, and what they have cached and nobody
    /// used meanwhile goes back to the zones. Returns the pages that went back.
    ///
    /// [`Mm::kcompactd`](crate::Mm::kcompactd) does this each second for its node; a machine that
    /// runs no such task calls it as often, or leaves it.
    ///
    /// Context: task, outside of any section; waits for other CPUs to leave theirs.
    pub fn age_caches(&self) -> usize {
        self.age_caches_where(|_| true)
    }

    /// [`PageAllocator::age_caches`] for the zones of a node.
    pub(crate) fn age_caches_of(&self, node: NodeId) -> usize {
        self.age_caches_where(|zone| zone.node == node)
    }

    fn age_caches_where(&self, mine: impl Fn(&Zone) -> bool) -> usize {
        let mut pages = 0;
        for cpu in (0..self.cpus.len()).map(|cpu| CpuId(cpu as u32)) {
            let caches = self.caches_of(cpu).unwrap_or(&[]);
            let of_mine = || self.zones.iter().zip(caches).filter(|(zone, _)| mine(zone));
            let keeps_more = |(zone, cache)| self.excess(zone, cache) != 0;
            if of_mine().any(keeps_more)
                && let Some(local) = self.enter_any(cpu)
            {
                for (zone, cache) in of_mine() {
                    let (before, filled) = cache.tally();
                    let excess = self.excess(zone, cache);
                    self.give_back(&local, zone, cache, excess, filled);
                    pages += before - cache.count();
                }
            }
            for (zone, cache) in of_mine() {
                Adapted::age(cache, &self.sizing[zone.id as usize].get());
            }
        }
        pages
    }

    /// What a cache is to give back at the end of a stat interval, in pages: all, if nobody used
    /// it; else what is more than it may keep from now on.
    fn excess(&self, zone: &Zone, cache: &ZoneCache) -> usize {
        let count = cache.count();
        if count == 0 || Adapted::is_idle(cache) {
            return count;
        }
        let limits = self.sizing[zone.id as usize].get();
        let decayed = cache.adapted.tuner().decay(&limits);
        count.saturating_sub(decayed.high(&limits, self.pressure(zone)))
    }

    /// A section of a CPU, be it the own one or another.
    pub(super) fn enter_any(&self, cpu: CpuId) -> Option<Local<'_, P>> {
        let own = Local::enter(&self.platform).ok();
        // A section of the wrong CPU ends before another begins.
        let own = own.filter(|local| local.cpu() == cpu);
        own.or_else(|| Local::enter_remote(&self.platform, cpu))
    }
}
