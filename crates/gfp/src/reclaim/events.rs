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
    pub(super) runs: Counter,
    pub(super) low_hit_quickly: Counter,
    pub(super) high_hit_quickly: Counter,
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
    /// Runs of the background (`pageoutrun`).
    pub runs: u64,
    /// Short sleeps of the background that a request ended (`kswapd_low_wmark_hit_quickly`, P403).
    pub low_hit_quickly: u64,
    /// Short sleeps after which the node was out of balance (`kswapd_high_wmark_hit_quickly`).
    pub high_hit_quickly: u64,
}

impl Counters {
    pub(super) const fn new() -> Counters {
        Counters {
            stalls: [const { Counter::new() }; ZoneKind::COUNT],
            throttled: Counter::new(),
            objects_scanned: Counter::new(),
            runs: Counter::new(),
            low_hit_quickly: Counter::new(),
            high_hit_quickly: Counter::new(),
        }
    }

    pub(super) fn get(&self) -> ReclaimEvents {
        ReclaimEvents {
            stalls: core::array::from_fn(|kind| self.stalls[kind].get()),
            throttled: self.throttled.get(),
            objects_scanned: self.objects_scanned.get(),
            runs: self.runs.get(),
            low_hit_quickly: self.low_hit_quickly.get(),
            high_hit_quickly: self.high_hit_quickly.get(),
        }
    }
}
