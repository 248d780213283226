//! What reclaim did, in numbers (P617).

use crate::flags::ZoneKind;
use crate::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// A number that grows.
pub(super) struct Counter(AtomicUsize);

impl Counter {
    pub(super) const fn new() -> Counter {
        Counter(AtomicUsize::new(0))
    }

    pub(super) fn add(&self, n: usize) {
        // Relaxed, here and below: a number by itself.
        self.0.fetch_add(n, Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Relaxed) as u64
    }
}

/// The numbers of a machine.
pub(super) struct Counters {
    pub(super) stalls: [Counter; ZoneKind::COUNT],
    pub(super) throttled: Counter,
    pub(super) objects_scanned: Counter,
    pub(super) node_success: Counter,
    pub(super) node_failed: Counter,
    pub(super) runs: Counter,
    pub(super) low_hit_quickly: Counter,
    pub(super) high_hit_quickly: Counter,
    pub(super) dropped_pages: Counter,
    pub(super) dropped_objects: Counter,
    pub(super) kills: Counter,
    pub(super) compact: CompactCounters,
}

/// The numbers of compaction.
pub(super) struct CompactCounters {
    pub(super) stalls: Counter,
    pub(super) success: Counter,
    pub(super) fail: Counter,
    pub(super) migrate_scanned: Counter,
    pub(super) free_scanned: Counter,
    pub(super) isolated: Counter,
    pub(super) migrated: Counter,
    pub(super) not_migrated: Counter,
    pub(super) task_wakes: Counter,
    pub(super) task_migrate_scanned: Counter,
    pub(super) task_free_scanned: Counter,
}

/// What compaction did since boot (P617).
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct CompactEvents {
    /// Direct compactions that were neither skipped nor deferred (`compact_stall`).
    pub stalls: u64,
    /// Of those, how many ended with a block for the request, captured or in a zone
    /// (`compact_success`).
    pub success: u64,
    /// The others (`compact_fail`).
    pub fail: u64,
    /// Frames that the migrate scanner passed (`compact_migrate_scanned`).
    pub migrate_scanned: u64,
    /// Frames that the free scanner passed (`compact_free_scanned`).
    pub free_scanned: u64,
    /// Pages that were isolated: to be moved, and to move to (`compact_isolated`).
    pub isolated: u64,
    /// Pages that were moved (`pgmigrate_success`).
    pub migrated: u64,
    /// Pages that were isolated and could not be moved (`pgmigrate_fail`).
    pub not_migrated: u64,
    /// How often a compaction task got up for what others wanted (`compact_daemon_wake`; P427).
    pub task_wakes: u64,
    /// Of [`CompactEvents::migrate_scanned`], those of compaction tasks
    /// (`compact_daemon_migrate_scanned`).
    pub task_migrate_scanned: u64,
    /// Of [`CompactEvents::free_scanned`], those of compaction tasks
    /// (`compact_daemon_free_scanned`).
    pub task_free_scanned: u64,
}

impl CompactCounters {
    const fn new() -> CompactCounters {
        CompactCounters {
            stalls: Counter::new(),
            success: Counter::new(),
            fail: Counter::new(),
            migrate_scanned: Counter::new(),
            free_scanned: Counter::new(),
            isolated: Counter::new(),
            migrated: Counter::new(),
            not_migrated: Counter::new(),
            task_wakes: Counter::new(),
            task_migrate_scanned: Counter::new(),
            task_free_scanned: Counter::new(),
        }
    }

    fn get(&self) -> CompactEvents {
        CompactEvents {
            stalls: self.stalls.get(),
            success: self.success.get(),
            fail: self.fail.get(),
            migrate_scanned: self.migrate_scanned.get(),
            free_scanned: self.free_scanned.get(),
            isolated: self.isolated.get(),
            migrated: self.migrated.get(),
            not_migrated: self.not_migrated.get(),
            task_wakes: self.task_wakes.get(),
            task_migrate_scanned: self.task_migrate_scanned.get(),
            task_free_scanned: self.task_free_scanned.get(),
        }
    }
}

/// What reclaim did since boot (P617).
///
/// What happened on the lists of pages is told by [`LruEvents`](super::LruEvents).
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct ReclaimEvents {
    /// Requests that began to reclaim directly, by their highest zone (`allocstall_*`).
    pub stalls: [u64; ZoneKind::COUNT],
    /// Of those, waits for the background at the entry (`pgscan_direct_throttle`, P406).
    pub throttled: u64,
    /// Objects that shrinkers looked at (`slabs_scanned`, P413).
    pub objects_scanned: u64,
    /// Node reclaims that freed enough for their request (`zone_reclaim_success`, P408).
    pub node_success: u64,
    /// Those that did not (`zone_reclaim_failed`).
    pub node_failed: u64,
    /// Runs of the background (`pageoutrun`).
    pub runs: u64,
    /// Short sleeps of the background that a request ended (`kswapd_low_wmark_hit_quickly`, P403).
    pub low_hit_quickly: u64,
    /// Short sleeps after which the node was out of balance (`kswapd_high_wmark_hit_quickly`).
    pub high_hit_quickly: u64,
    /// Times that pages were dropped by order (`drop_pagecache`, P417).
    pub dropped_pages: u64,
    /// Times that shrinkers were asked by order (`drop_slab`).
    pub dropped_objects: u64,
    /// Victims that were killed (`oom_kill`).
    pub kills: u64,
    /// Compaction.
    pub compact: CompactEvents,
}

impl Counters {
    pub(super) const fn new() -> Counters {
        Counters {
            stalls: [const { Counter::new() }; ZoneKind::COUNT],
            throttled: Counter::new(),
            objects_scanned: Counter::new(),
            node_success: Counter::new(),
            node_failed: Counter::new(),
            runs: Counter::new(),
            low_hit_quickly: Counter::new(),
            high_hit_quickly: Counter::new(),
            dropped_pages: Counter::new(),
            dropped_objects: Counter::new(),
            kills: Counter::new(),
            compact: CompactCounters::new(),
        }
    }

    pub(super) fn get(&self) -> ReclaimEvents {
        ReclaimEvents {
            stalls: core::array::from_fn(|kind| self.stalls[kind].get()),
            throttled: self.throttled.get(),
            objects_scanned: self.objects_scanned.get(),
            node_success: self.node_success.get(),
            node_failed: self.node_failed.get(),
            runs: self.runs.get(),
            low_hit_quickly: self.low_hit_quickly.get(),
            high_hit_quickly: self.high_hit_quickly.get(),
            dropped_pages: self.dropped_pages.get(),
            dropped_objects: self.dropped_objects.get(),
            kills: self.kills.get(),
            compact: self.compact.get(),
        }
    }
}
