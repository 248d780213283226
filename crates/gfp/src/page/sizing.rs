//! How large the per-CPU caches of a zone are, and when they are emptied.
//!
//! 1. **Limits** of a zone ([`Sizing`]) follow from its size (P324, P325), or from a part of it
//!    that the administrator says (P704).
//! 2. **Ageing** ([`PageAllocator::age_caches`]): what a CPU has cached and not used for a stat
//!    interval goes back to the zone. A CPU that works is not disturbed.
//! 3. **What it does not do yet.** What a CPU keeps is the lower of its two limits: it does not
//!    rise to the upper one (P328), nor fall while a zone is reclaimed (P329).

use super::PageAllocator;
use super::cache::{List, ZoneCache};
use super::zone::Zone;
use crate::frame::{CpuId, NodeId};
use crate::platform::Platform;
use crate::policy::pcp::PcpLimits;
use crate::sync::Local;
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::atomic::{AtomicU64, AtomicUsize};

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

/// What had passed a cache a stat interval ago. Who ages caches writes it, wherever it runs: of two
/// that do so at once one finds caches idle too early, no more.
#[derive(Default)]
pub(super) struct Seen(AtomicU64);

impl Seen {
    fn of(cache: &ZoneCache) -> u64 {
        cache.alloc_pages().wrapping_add(cache.free_pages())
    }

    /// True if nothing has passed the cache since it was seen.
    fn is_idle(cache: &ZoneCache) -> bool {
        cache.seen.0.load(Relaxed) == Seen::of(cache)
    }

    fn note(cache: &ZoneCache) {
        cache.seen.0.store(Seen::of(cache), Relaxed);
    }
}

impl<P: Platform> PageAllocator<P> {
    /// A stat interval is over: what CPUs have cached and nobody used meanwhile goes back to the
    /// zones. Returns the pages that went back.
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
            let idle = |cache: &ZoneCache| cache.count() != 0 && Seen::is_idle(cache);
            if of_mine().any(|(_, cache)| idle(cache))
                && let Some(local) = self.enter_any(cpu)
            {
                for (zone, cache) in of_mine().filter(|(_, cache)| idle(cache)) {
                    pages += cache.count();
                    self.empty_cache(&local, zone, cache);
                }
            }
            of_mine().for_each(|(_, cache)| Seen::note(cache));
        }
        pages
    }

    /// A section of a CPU, be it the own one or another.
    fn enter_any(&self, cpu: CpuId) -> Option<Local<'_, P>> {
        let own = Local::enter(&self.platform).ok();
        // A section of the wrong CPU ends before another begins.
        let own = own.filter(|local| local.cpu() == cpu);
        own.or_else(|| Local::enter_remote(&self.platform, cpu))
    }

    /// Gives back all that a cache has.
    fn empty_cache(&self, local: &Local<'_, P>, zone: &Zone, cache: &ZoneCache) {
        for list in List::all().filter(|list| cache.blocks(*list) != 0) {
            self.flush(local, zone, cache, list, usize::MAX);
        }
    }
}
