//! What follows from how much memory there is: watermarks, reserves, sizes of caches, grouping.
//!
//! All of it is computed at boot, again when memory was added, and again when the administrator
//! changes a number that it follows from (P218). Requests read it without a lock, each number by
//! itself: a request that sees some old and some new ones is served as if it had come a little
//! earlier or later.

use super::zone::Zone;
use super::{BootConfig, PageAllocator};
use crate::error::AllocError;
use crate::flags::{Gfp, ZoneKind};
use crate::frame::{MAX_NODES, NodeId, PAGE_SIZE};
use crate::platform::Platform;
use crate::policy::fallback::Grouping;
use crate::policy::pcp::PcpLimits;
use crate::policy::watermark::{self, LowMemory, MinFree};
use crate::sync::Local;
use crate::sync::atomic::AtomicUsize;
use crate::sync::atomic::Ordering::{Relaxed, Release};

/// Where `min_free_kbytes` comes from.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum MinFreeRule {
    /// From the administrator if he says so, else computed (P210).
    Boot,
    /// The larger of what is computed and what the administrator says (P211).
    Recompute,
    /// As it is: something else has changed.
    Keep,
}

/// How much is kept free, as an administrator changes it while the machine runs.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Tuning {
    /// `vm.min_free_kbytes` (P700). It is shared out between the zones as it is, also if it is less
    /// than what would be computed; when memory is added later the larger of the two counts (P211).
    MinFreeKbytes(u32),
    /// `vm.watermark_scale_factor`, in 1/10000 of a zone (P701).
    WatermarkScaleFactor(usize),
    /// `vm.lowmem_reserve_ratio`, by kind of zone (P703): 0 protects nothing, `None` leaves it.
    LowmemReserveRatio([Option<usize>; ZoneKind::COUNT]),
    /// `vm.percpu_pagelist_high_fraction` (P704): 8 or more fixes what CPUs keep of a zone at so
    /// small a part of it, for all of them together; less leaves it to the allocator.
    PagelistHighFraction(usize),
}

/// What the administrator wants: at first what the configuration of boot says.
pub(super) struct Tuned {
    /// [`NOT_SAID`], or `min_free_kbytes` as he wants it.
    min_free_kbytes: AtomicUsize,
    scale_factor: AtomicUsize,
    reserve_ratio: [AtomicUsize; ZoneKind::COUNT],
    high_fraction: AtomicUsize,
}

/// `min_free_kbytes` is left to the allocator.
const NOT_SAID: usize = usize::MAX;

impl Tuned {
    pub(super) fn new(config: &BootConfig) -> Tuned {
        let kilobytes = config.min_free_kbytes.map_or(NOT_SAID, |kb| {
            usize::try_from(kb).unwrap_or(NOT_SAID).min(NOT_SAID - 1)
        });
        Tuned {
            min_free_kbytes: AtomicUsize::new(kilobytes),
            scale_factor: AtomicUsize::new(config.watermark_scale_factor),
            reserve_ratio: config.lowmem_reserve_ratio.map(AtomicUsize::new),
            high_fraction: AtomicUsize::new(0),
        }
    }

    fn min_free_kbytes(&self) -> Option<u64> {
        match self.min_free_kbytes.load(Relaxed) {
            NOT_SAID => None,
            kilobytes => Some(kilobytes as u64),
        }
    }
}

impl<P: Platform> PageAllocator<P> {
    /// `vm.min_free_kbytes` as it is now: as it was set, or computed from the memory there is.
    pub fn min_free_kbytes(&self) -> u64 {
        self.min_free_kbytes.load(Relaxed) as u64
    }

    /// `vm.watermark_scale_factor` as it is now.
    pub fn watermark_scale_factor(&self) -> usize {
        self.tuned.scale_factor.load(Relaxed)
    }

    /// `vm.lowmem_reserve_ratio` as it is now, by kind of zone.
    pub fn lowmem_reserve_ratio(&self) -> [usize; ZoneKind::COUNT] {
        core::array::from_fn(|kind| self.tuned.reserve_ratio[kind].load(Relaxed))
    }

    /// `vm.percpu_pagelist_high_fraction` as it is now (P704); 0: the allocator knows itself.
    pub fn percpu_pagelist_high_fraction(&self) -> usize {
        self.tuned.high_fraction.load(Relaxed)
    }

    /// Changes how much is kept free, and at once all that follows from it: watermarks, lowmem
    /// reserves and sizes of per-CPU caches (P218). The next request sees it. No value is
    /// refused here: what is sensible, [`Tunables`](crate::mm::Tunables) know. With more kept free
    /// than there is, requests that may not use reserves fail, and those that must not fail wait.
    ///
    /// Context: a task, outside of the allocator. Requests and additions of memory may run
    /// meanwhile.
    ///
    /// # Errors
    /// [`AllocError::Nested`]: nothing was changed.
    pub fn tune(&self, tuning: Tuning) -> Result<(), AllocError> {
        let local = Local::enter(&self.platform)?;
        let _plugging = self.plugging.lock(&local);
        let rule = match tuning {
            Tuning::MinFreeKbytes(kilobytes) => {
                let kilobytes = kilobytes as usize;
                self.tuned.min_free_kbytes.store(kilobytes, Relaxed);
                MinFreeRule::Boot
            }
            Tuning::WatermarkScaleFactor(factor) => {
                self.tuned.scale_factor.store(factor, Relaxed);
                MinFreeRule::Keep
            }
            Tuning::LowmemReserveRatio(ratio) => {
                for (to, from) in self.tuned.reserve_ratio.iter().zip(ratio) {
                    from.iter().for_each(|from| to.store(*from, Relaxed));
                }
                MinFreeRule::Keep
            }
            Tuning::PagelistHighFraction(fraction) => {
                self.tuned.high_fraction.store(fraction, Relaxed);
                MinFreeRule::Keep
            }
        };
        self.set_levels(rule);
        Ok(())
    }

    /// Whether pages are grouped by mobility (P309).
    #[inline]
    pub(super) fn grouping(&self) -> Grouping {
        match self.grouping.load(Relaxed) == Grouping::On as u8 {
            true => Grouping::On,
            false => Grouping::Off,
        }
    }

    /// Computes watermarks (P212), lowmem reserves (P207), sizes of caches (P325) and grouping
    /// (P309) from the memory that there is; then zones and nodes that have memory become
    /// candidates. Only boot and who holds the lock of plugging call this.
    pub(super) fn retune(&self, rule: MinFreeRule) -> MinFree {
        let min_free = self.set_levels(rule);
        let above_high = |z: &Zone| z.managed_pages().saturating_sub(z.watermarks().high);
        let grouping = Grouping::for_pages(self.zones.iter().map(above_high).sum());
        self.grouping.store(grouping as u8, Relaxed);
        let mut nodes = 0;
        for zone in self.zones.iter().filter(|z| z.is_populated()) {
            nodes |= 1 << zone.node.0;
        }
        self.whole.update(&self.zones);
        self.changes.step();
        let highest = |gfp: Gfp| gfp.highest_zone().is_ok().then(|| self.highest(gfp));
        for (node, list) in (0..).map(NodeId).zip(&self.lists) {
            list.populate(node, &self.zones, highest);
        }
        self.changes.step();
        // Release: pairs with the Acquire in `node_mask`.
        self.nodes.store(nodes, Release);
        min_free
    }

    /// The numbers of [`PageAllocator::retune`] that follow from what can be tuned.
    fn set_levels(&self, rule: MinFreeRule) -> MinFree {
        let (min_free, low_memory) = self.low_memory(rule);
        self.min_free_kbytes
            .store(low_memory.min_free_kbytes as usize, Relaxed);
        let cpus = self.platform.nr_cpus_running().max(1) as usize;
        for zone in self.zones.iter() {
            let managed = zone.managed_pages();
            let marks = watermark::zone_watermarks(zone.kind, managed, &low_memory);
            zone.set_watermarks(marks);
            zone.regain_hope();
            let fraction = Some(self.percpu_pagelist_high_fraction());
            let limits = PcpLimits::new(managed, marks.low, cpus, fraction);
            self.sizing[zone.id as usize].set(&limits);
        }
        self.set_reserves();
        min_free
    }

    /// `min_free_kbytes` by the rule, and the memory that shares it.
    fn low_memory(&self, rule: MinFreeRule) -> (MinFree, LowMemory) {
        let low_zones = || self.zones.iter().filter(|z| z.kind <= ZoneKind::Normal);
        let pages = low_zones().map(Zone::managed_pages).sum();
        // P210. At boot there are no high watermarks yet: they count as zero, also for what boot
        // left for later.
        let high = |z: &Zone| match rule {
            MinFreeRule::Boot => 0,
            _ => z.watermarks().high,
        };
        let above = |z: &Zone| z.managed_pages().saturating_sub(high(z));
        let above_high: usize = low_zones().map(above).sum();
        let kilobytes = above_high as u64 * (PAGE_SIZE as u64 / 1024);
        let min_free = match (rule, self.tuned.min_free_kbytes()) {
            (MinFreeRule::Boot, Some(user)) => MinFree::UserStays(user),
            (MinFreeRule::Keep, _) => MinFree::UserStays(self.min_free_kbytes()),
            (_, user) => watermark::recomputed_min_free_kbytes(kilobytes, user),
        };
        let (MinFree::Computed(min_free_kbytes) | MinFree::UserStays(min_free_kbytes)) = min_free;
        let low_memory = LowMemory {
            min_free_kbytes,
            pages,
            scale_factor: self.watermark_scale_factor(),
        };
        (min_free, low_memory)
    }

    /// What each zone keeps from requests that could have used a higher one.
    fn set_reserves(&self) {
        let ratio = self.lowmem_reserve_ratio();
        for node in 0..MAX_NODES as u8 {
            let mut managed = [0; ZoneKind::COUNT];
            let mine = || self.zones.iter().filter(|z| z.node.0 == node);
            mine().for_each(|z| managed[z.kind as usize] = z.managed_pages());
            let reserve = watermark::lowmem_reserve(&managed, &ratio);
            mine().for_each(|z| z.set_reserve(reserve[z.kind as usize]));
        }
    }
}
