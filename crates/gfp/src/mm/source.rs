//! The numbers behind the text views: what `/proc` of this machine would show.

use super::Mm;
use crate::flags::ZoneKind;
use crate::frame::{CpuId, NR_ORDERS, NodeId, PAGE_SIZE};
use crate::page::ZoneStats;
use crate::platform::Platform;
use crate::policy::reclaim::lru::Kind;
use crate::policy::stall::StallLine;
use crate::stat::{
    AreaFlags, AreaState, AreaView, CacheView, MachineView, NodeCounter, NodeView, NumaEvent,
    PagesetView, Source, VmEvent, VmEvents, ZoneCounter, ZoneView,
};

impl<P: Platform> Mm<P> {
    fn zone_view(&self, zone: &ZoneStats) -> ZoneView {
        let mut view = ZoneView::empty(zone.node, zone.kind);
        view.start_pfn = zone.start.0;
        view.spanned = zone.spanned;
        view.present = zone.present;
        view.managed = zone.managed;
        view.boost = zone.boost;
        view.cma = self.cma.pages_in(self.slabs(), zone.node, zone.kind);
        let marks = zone.watermarks;
        (view.min, view.low, view.high, view.promo) =
            (marks.min, marks.low, marks.high, marks.promo);
        view.protection = zone.protection;
        view.nr_free = zone.nr_free;
        view.blocks_by_type = zone.blocks_by_type;
        view.reserved_highatomic = zone.reserved_highatomic;
        view.free_highatomic = zone.free_highatomic;
        let count = |which, n: usize| (which, n as i64);
        let whole: usize = (crate::frame::PAGEBLOCK_ORDER as usize..NR_ORDERS)
            .map(|order| zone.nr_free[order].iter().sum::<usize>() << order)
            .sum();
        for (which, n) in [
            count(ZoneCounter::FreePages, zone.free.free),
            count(ZoneCounter::FreePagesBlocks, whole),
            count(ZoneCounter::FreeCma, zone.free.free_cma),
        ] {
            view.counters.set(which, n);
        }
        let events = &zone.events;
        for (which, n) in [
            (NumaEvent::Hit, events.numa_hit),
            (NumaEvent::Miss, events.numa_miss),
            (NumaEvent::Foreign, events.numa_foreign),
            (NumaEvent::Interleave, events.numa_interleave),
            (
                NumaEvent::Local,
                events.numa_hit + events.numa_miss - events.numa_other,
            ),
            (NumaEvent::Other, events.numa_other),
        ] {
            view.numa.set(which, n);
        }
        let lists = self.slabs().reclaim().lru_zone_pages(zone.node, zone.kind);
        for (which, n) in [
            count(ZoneCounter::InactiveFile, lists.inactive[FILE]),
            count(ZoneCounter::InactiveAnon, lists.inactive[ANON]),
            count(ZoneCounter::ActiveFile, lists.active[FILE]),
            count(ZoneCounter::ActiveAnon, lists.active[ANON]),
            count(ZoneCounter::Unevictable, lists.unevictable),
            count(ZoneCounter::WritePending, lists.dirty + lists.writing),
        ] {
            view.counters.set(which, n);
        }
        view
    }
}

/// How the kinds of pages on lists are called in the views: numbers of [`Kind`].
const FILE: usize = Kind::Droppable as usize;
const ANON: usize = Kind::Storable as usize;

impl<P: Platform> Mm<P> {
    /// What is on the lists of a node.
    fn lists_of(&self, view: &mut NodeView) {
        let reclaim = self.slabs().reclaim();
        let lists = reclaim.lru_node_pages(view.node);
        for (which, pages) in [
            (NodeCounter::InactiveFile, lists.inactive[FILE]),
            (NodeCounter::InactiveAnon, lists.inactive[ANON]),
            (NodeCounter::ActiveFile, lists.active[FILE]),
            (NodeCounter::ActiveAnon, lists.active[ANON]),
            (NodeCounter::IsolatedFile, lists.isolated[FILE]),
            (NodeCounter::IsolatedAnon, lists.isolated[ANON]),
            (NodeCounter::Unevictable, lists.unevictable),
            (NodeCounter::FilePages, lists.of(Kind::Droppable)),
            (NodeCounter::AnonPages, lists.of(Kind::Storable)),
            (NodeCounter::Dirty, lists.dirty),
            (NodeCounter::Writeback, lists.writing),
        ] {
            view.counters.set(which, pages as i64);
        }
        // These are not counted by node: they stand with the first.
        if Some(view.node) == self.pages().nodes().next() {
            let events = reclaim.lru_events();
            for (which, pages) in [
                (NodeCounter::Dirtied, events.dirtied),
                (NodeCounter::Written, events.written),
                (NodeCounter::VmscanWrite, events.writes),
                (NodeCounter::VmscanImmediateReclaim, events.rotated),
            ] {
                view.counters.set(which, pages as i64);
            }
        }
    }

    /// What happened on the lists.
    fn list_events(&self, events: &mut VmEvents) {
        let lists = self.slabs().reclaim().lru_events();
        for kind in ZoneKind::ALL {
            events.add(VmEvent::pgskip(kind), lists.skipped[kind as usize]);
        }
        let [scan_kswapd, scan_direct] = lists.scanned;
        let [steal_kswapd, steal_direct] = lists.freed;
        for (which, n) in [
            (VmEvent::PgscanKswapd, scan_kswapd),
            (VmEvent::PgscanDirect, scan_direct),
            (VmEvent::PgstealKswapd, steal_kswapd),
            (VmEvent::PgstealDirect, steal_direct),
            (VmEvent::PgscanProactive, lists.scanned_proactively),
            (VmEvent::PgstealProactive, lists.freed_proactively),
            (VmEvent::PgscanFile, lists.scanned_of[FILE]),
            (VmEvent::PgscanAnon, lists.scanned_of[ANON]),
            (VmEvent::PgstealFile, lists.freed_of[FILE]),
            (VmEvent::PgstealAnon, lists.freed_of[ANON]),
            (VmEvent::Pgactivate, lists.activated),
            (VmEvent::Pgdeactivate, lists.deactivated),
            (VmEvent::Pgrefill, lists.deactivated),
            (VmEvent::Pgrotated, lists.rotated),
            (VmEvent::UnevictablePgsCulled, lists.culled),
        ] {
            events.add(which, n);
        }
    }
}

impl<P: Platform> Source for Mm<P> {
    fn has_zone(&self, kind: ZoneKind) -> bool {
        match kind {
            ZoneKind::Normal | ZoneKind::Movable => true,
            _ => self.pages().has_zone(kind),
        }
    }

    fn for_each_node(&self, visit: &mut dyn FnMut(&NodeView)) {
        for node in self.pages().nodes() {
            let mut view = NodeView::new(node);
            // Slab and vmalloc memory is not counted by node yet: it stands with the first.
            if Some(node) == self.pages().nodes().next() {
                let (unreclaimable, reclaimable) = self.slabs().slab_pages();
                let unreclaimable = unreclaimable + self.slabs().large_kmalloc_pages();
                for (which, pages) in [
                    (NodeCounter::SlabReclaimable, reclaimable),
                    (NodeCounter::SlabUnreclaimable, unreclaimable),
                    (NodeCounter::Vmalloc, self.vm.vmalloc_counters().pages),
                ] {
                    view.counters.set(which, pages as i64);
                }
            }
            let balloon = self.balloons.pages_of(node);
            view.counters.set(NodeCounter::BalloonPages, balloon as i64);
            self.lists_of(&mut view);
            view.unreclaimable = self.slabs().reclaim().is_hopeless(node);
            visit(&view);
        }
    }

    fn for_each_zone(&self, node: NodeId, visit: &mut dyn FnMut(&ZoneView)) {
        for kind in ZoneKind::ALL {
            let mut zones = self.pages().zone_stats();
            if let Some(zone) = zones.find(|z| z.node == node && z.kind == kind) {
                visit(&self.zone_view(&zone));
            }
        }
    }

    fn for_each_pageset(&self, node: NodeId, zone: ZoneKind, visit: &mut dyn FnMut(&PagesetView)) {
        self.pages()
            .for_each_pageset(node, zone, &mut |cpu, count, limits| {
                visit(&PagesetView {
                    cpu,
                    count,
                    high: limits.high_min,
                    batch: limits.batch,
                    high_min: limits.high_min,
                    high_max: limits.high_max,
                    stat_threshold: 0,
                });
            });
    }

    fn for_each_cache(&self, visit: &mut dyn FnMut(&CacheView<'_>)) {
        self.slabs().for_each_cache(&mut |cache| {
            visit(&CacheView {
                name: cache.name,
                active_objs: cache.active_objs,
                cached: cache.cached,
                num_objs: cache.num_objs,
                object_size: cache.object_size,
                stride: cache.stride,
                objs_per_slab: cache.objs_per_slab,
                pages_per_slab: cache.pages_per_slab,
                num_slabs: cache.num_slabs,
                reclaimable: cache.reclaimable,
            });
        });
    }

    fn for_each_area(&self, visit: &mut dyn FnMut(&AreaView<'_>)) {
        let shown = self.vm.for_each_area(&mut |area| {
            let mut view = AreaView::new(area.start, area.size);
            if !area.live {
                view.state = AreaState::Unpurged;
                return visit(&view);
            }
            view.nr_pages = area.pages;
            view.node_pages = area.node_pages;
            view.caller = Some(&area.caller);
            view.flags = AreaFlags::VMALLOC;
            for (mine, theirs) in [
                (crate::vmalloc::AreaFlags::USER, AreaFlags::USER),
                (crate::vmalloc::AreaFlags::VPAGES, AreaFlags::VPAGES),
            ] {
                if area.flags.contains(mine) {
                    view.flags = view.flags | theirs;
                }
            }
            visit(&view);
        });
        // Inside the allocator there is no list to show.
        _ = shown;
    }

    fn vm_events(&self) -> VmEvents {
        let mut events = VmEvents::ZERO;
        for zone in self.pages().zone_stats() {
            events.add(VmEvent::pgalloc(zone.kind), zone.events.alloc_pages);
            events.add(VmEvent::Pgfree, zone.events.free_pages);
        }
        for area in self.cma.stats() {
            events.add(VmEvent::CmaAllocSuccess, area.alloc);
            events.add(VmEvent::CmaAllocFail, area.fail);
        }
        let reclaim = self.slabs().reclaim().events();
        for kind in ZoneKind::ALL {
            events.add(VmEvent::allocstall(kind), reclaim.stalls[kind as usize]);
        }
        for (which, n) in [
            (VmEvent::PgscanDirectThrottle, reclaim.throttled),
            (VmEvent::SlabsScanned, reclaim.objects_scanned),
            (VmEvent::ZoneReclaimSuccess, reclaim.node_success),
            (VmEvent::ZoneReclaimFailed, reclaim.node_failed),
            (VmEvent::Pageoutrun, reclaim.runs),
            (VmEvent::DropPagecache, reclaim.dropped_pages),
            (VmEvent::DropSlab, reclaim.dropped_objects),
            (VmEvent::OomKill, reclaim.kills),
            (VmEvent::KswapdLowWmarkHitQuickly, reclaim.low_hit_quickly),
            (VmEvent::KswapdHighWmarkHitQuickly, reclaim.high_hit_quickly),
            (VmEvent::CompactStall, reclaim.compact.stalls),
            (VmEvent::CompactSuccess, reclaim.compact.success),
            (VmEvent::CompactFail, reclaim.compact.fail),
            (
                VmEvent::CompactMigrateScanned,
                reclaim.compact.migrate_scanned,
            ),
            (VmEvent::CompactFreeScanned, reclaim.compact.free_scanned),
            (VmEvent::CompactIsolated, reclaim.compact.isolated),
            (VmEvent::CompactDaemonWake, reclaim.compact.task_wakes),
            (
                VmEvent::CompactDaemonMigrateScanned,
                reclaim.compact.task_migrate_scanned,
            ),
            (
                VmEvent::CompactDaemonFreeScanned,
                reclaim.compact.task_free_scanned,
            ),
            (VmEvent::PgmigrateSuccess, reclaim.compact.migrated),
            (VmEvent::PgmigrateFail, reclaim.compact.not_migrated),
        ] {
            events.add(which, n);
        }
        let [inflated, deflated, migrated] = self.balloons.events();
        events.add(VmEvent::BalloonInflate, inflated);
        events.add(VmEvent::BalloonDeflate, deflated);
        events.add(VmEvent::BalloonMigrate, migrated);
        self.list_events(&mut events);
        events
    }

    fn memory_stalls(&self) -> [StallLine; 2] {
        // Inside the allocator there is nothing to show.
        Mm::memory_stalls(self).unwrap_or_default()
    }

    fn machine(&self) -> MachineView {
        let pages = self.pages();
        let managed = pages.managed_pages();
        MachineView {
            this_cpu: CpuId(0),
            commit_limit: managed,
            committed: managed - pages.free_page_count().min(managed),
            vmalloc_total: self.vm.vmalloc_counters().range_pages,
            memmap: self.slabs().reclaim().lru_table_pages(),
            memmap_boot: (pages.frames().len() * 8).div_ceil(PAGE_SIZE),
            ..MachineView::ZERO
        }
    }
}
