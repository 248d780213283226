//! What the rest of the machine may know of zones and caches: plain copies.

use super::PageAllocator;
use super::zone::Zone;
use crate::flags::{MigrateType, ZoneKind};
use crate::frame::{CpuId, NR_ORDERS, NodeId, Pfn};
use crate::platform::Platform;
use crate::policy::pcp::PcpLimits;
use crate::policy::watermark::{FreeState, Watermarks};
use crate::sync::atomic::Ordering::Relaxed;

/// One zone at about one moment; in pages.
#[derive(Copy, Clone, Debug)]
pub struct ZoneStats {
    /// Its node.
    pub node: NodeId,
    /// Its kind.
    pub kind: ZoneKind,
    /// First frame.
    pub start: Pfn,
    /// Extent, holes included.
    pub spanned: usize,
    /// RAM in it.
    pub present: usize,
    /// RAM given to the allocator.
    pub managed: usize,
    /// Free pages, as requests count them.
    pub free: FreeState,
    /// Pages of the pageblocks reserved for urgent requests of order > 0 (P333).
    pub reserved_highatomic: usize,
    /// Of them, free ones.
    pub free_highatomic: usize,
    /// The most that was ever in use.
    pub peak_used: usize,
    /// Watermarks without boost.
    pub watermarks: Watermarks,
    /// Boost.
    pub boost: usize,
    /// Pages kept from requests by their highest zone (P207).
    pub protection: [usize; ZoneKind::COUNT],
    /// Free blocks.
    pub nr_free: [[usize; MigrateType::COUNT]; NR_ORDERS],
    /// Pageblocks.
    pub blocks_by_type: [usize; MigrateType::COUNT],
    /// What happened, all CPUs.
    pub events: ZoneEvents,
}

/// Events of one zone, all CPUs (P615, P617).
#[derive(Copy, Clone, Default, Debug)]
pub struct ZoneEvents {
    /// Pages allocated.
    pub alloc_pages: u64,
    /// Pages freed.
    pub free_pages: u64,
    /// Requests served by the node that was wanted.
    pub numa_hit: u64,
    /// Requests served here that wanted another node.
    pub numa_miss: u64,
    /// Requests that wanted this node and were served elsewhere.
    pub numa_foreign: u64,
    /// Requests served from another node than that of the CPU that asked.
    pub numa_other: u64,
    /// Requests of interleaving policies served by the node whose turn it was.
    pub numa_interleave: u64,
}

impl<P: Platform> PageAllocator<P> {
    /// Every populated zone, by node, then by kind.
    pub fn zone_stats(&self) -> impl Iterator<Item = ZoneStats> {
        let populated = self.zones.iter().filter(|zone| zone.is_populated());
        populated.map(|zone| self.stats_of(zone))
    }

    /// True if the memory map has memory of this kind, even if it is only to come.
    pub fn has_zone(&self, kind: ZoneKind) -> bool {
        self.zones.iter().any(|zone| zone.kind == kind)
    }

    /// The frames of every populated zone, holes included, by node, then by kind.
    pub fn zone_frames(&self) -> impl Iterator<Item = (ZoneKind, core::ops::Range<Pfn>)> {
        let populated = self.zones.iter().filter(|zone| zone.is_populated());
        populated.map(|zone| {
            let (start, spanned) = zone.span();
            (zone.kind, start..start.add(spanned))
        })
    }

    fn stats_of(&self, zone: &Zone) -> ZoneStats {
        let mut blocks_by_type = [0; MigrateType::COUNT];
        for block in &self.blocks.blocks[zone.first_block..][..zone.nr_blocks] {
            if block.zone() == zone.id {
                blocks_by_type[block.kind() as usize] += 1;
            }
        }
        let mut events = self.events_of(zone);
        self.numa_stat.show(zone, &mut events);
        let (start, spanned) = zone.span();
        ZoneStats {
            node: zone.node,
            kind: zone.kind,
            start,
            spanned,
            present: zone.present_pages(),
            managed: zone.managed_pages(),
            free: zone.free_state(),
            reserved_highatomic: zone.urgent.reserved(),
            free_highatomic: zone.free_highatomic(),
            peak_used: zone.peak_used(),
            watermarks: zone.watermarks(),
            boost: zone.boost(),
            protection: ZoneKind::ALL.map(|kind| zone.reserve(kind)),
            nr_free: core::array::from_fn(|order| {
                MigrateType::ALL.map(|kind| zone.nr_free(order, kind))
            }),
            blocks_by_type,
            events,
        }
    }

    /// All events of a zone since boot.
    pub(super) fn events_of(&self, zone: &Zone) -> ZoneEvents {
        let mut events = ZoneEvents {
            numa_interleave: zone.interleaved.load(Relaxed),
            ..ZoneEvents::default()
        };
        for cpu in 0..self.cpus.len() {
            let caches = self.caches_of(CpuId(cpu as u32)).unwrap_or(&[]);
            if let Some(cache) = caches.get(zone.id as usize) {
                events.alloc_pages += cache.alloc_pages();
                events.free_pages += cache.free_pages();
                events.numa_hit += cache.numa_hit();
                events.numa_miss += cache.events.numa_miss.get();
                events.numa_foreign += cache.events.numa_foreign.get();
                events.numa_other += cache.events.numa_other.get();
            }
        }
        events
    }

    /// Shows the cache of each CPU that has one for a zone: CPU, pages, limits.
    pub fn for_each_pageset(
        &self,
        node: NodeId,
        kind: ZoneKind,
        visit: &mut dyn FnMut(CpuId, usize, &PcpLimits),
    ) {
        let Some(zone) = self.zones.iter().find(|z| z.node == node && z.kind == kind) else {
            return;
        };
        for cpu in 0..self.cpus.len() {
            let cpu = CpuId(cpu as u32);
            if let Some(cache) = self.caches_of(cpu).and_then(|c| c.get(zone.id as usize)) {
                visit(cpu, cache.count(), &self.sizing[zone.id as usize].get());
            }
        }
    }
}
