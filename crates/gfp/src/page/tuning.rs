//! What follows from how much memory there is: watermarks, reserves, sizes of caches, grouping.
//!
//! All of it is computed at boot and again when memory was added (P218). Requests read it without a
//! lock, each number by itself: a request that sees some old and some new ones is served as if it
//! had come a little earlier or later.

use super::PageAllocator;
use super::zone::Zone;
use crate::flags::ZoneKind;
use crate::frame::{MAX_NODES, PAGE_SIZE};
use crate::platform::Platform;
use crate::policy::fallback::Grouping;
use crate::policy::pcp::PcpLimits;
use crate::policy::watermark::{self, LowMemory, MinFree};
use crate::sync::atomic::Ordering::{Relaxed, Release};

/// Where `min_free_kbytes` comes from.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(super) enum MinFreeRule {
    /// From the configuration if it says so, else computed (P210).
    Boot,
    /// The larger of what is computed and what the configuration says (P211).
    Recompute,
}

impl<P: Platform> PageAllocator<P> {
    /// `vm.min_free_kbytes` as it is now: configured, or computed from the memory there is.
    pub fn min_free_kbytes(&self) -> u64 {
        self.min_free_kbytes.load(Relaxed) as u64
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
        let (min_free, low_memory) = self.low_memory(rule);
        self.min_free_kbytes
            .store(low_memory.min_free_kbytes as usize, Relaxed);
        let cpus = self.platform.nr_cpus_running().max(1) as usize;
        let mut above_high = 0;
        for zone in self.zones.iter() {
            let managed = zone.managed_pages();
            let marks = watermark::zone_watermarks(zone.kind, managed, &low_memory);
            zone.set_watermarks(marks);
            zone.regain_hope();
            let limits = PcpLimits::new(managed, marks.low, cpus, None);
            self.sizing[zone.id as usize].set(&limits);
            above_high += managed.saturating_sub(marks.high);
        }
        self.grouping
            .store(Grouping::for_pages(above_high) as u8, Relaxed);
        self.set_reserves();
        let mut nodes = 0;
        for zone in self.zones.iter().filter(|z| z.is_populated()) {
            nodes |= 1 << zone.node.0;
        }
        self.changes.step();
        for list in &self.lists {
            list.populate(&self.zones);
        }
        self.changes.step();
        // Release: pairs with the Acquire in `node_mask`.
        self.nodes.store(nodes, Release);
        min_free
    }

    /// `min_free_kbytes` by the rule, and the memory that shares it.
    fn low_memory(&self, rule: MinFreeRule) -> (MinFree, LowMemory) {
        let low_zones = || self.zones.iter().filter(|z| z.kind <= ZoneKind::Normal);
        let pages = low_zones().map(Zone::managed_pages).sum();
        // P210. At boot there are no high watermarks yet: they count as zero.
        let high = |z: &Zone| z.managed_pages().saturating_sub(z.watermarks().high);
        let above_high: usize = low_zones().map(high).sum();
        let kilobytes = above_high as u64 * (PAGE_SIZE as u64 / 1024);
        let min_free = match (rule, self.config.min_free_kbytes) {
            (MinFreeRule::Boot, Some(user)) => MinFree::UserStays(user),
            (_, user) => watermark::recomputed_min_free_kbytes(kilobytes, user),
        };
        let (MinFree::Computed(min_free_kbytes) | MinFree::UserStays(min_free_kbytes)) = min_free;
        let low_memory = LowMemory {
            min_free_kbytes,
            pages,
            scale_factor: self.config.watermark_scale_factor,
        };
        (min_free, low_memory)
    }

    /// What each zone keeps from requests that could have used a higher one.
    fn set_reserves(&self) {
        for node in 0..MAX_NODES as u8 {
            let mut managed = [0; ZoneKind::COUNT];
            let mine = || self.zones.iter().filter(|z| z.node.0 == node);
            mine().for_each(|z| managed[z.kind as usize] = z.managed_pages());
            let reserve = watermark::lowmem_reserve(&managed, &self.config.lowmem_reserve_ratio);
            mine().for_each(|z| z.set_reserve(reserve[z.kind as usize]));
        }
    }
}
