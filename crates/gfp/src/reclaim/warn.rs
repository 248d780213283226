//! The reports of requests that end without memory (P600-P602), or try for long (P117).

use super::Reclaim;
use super::shortages::Looked;
use crate::page::Need;
use crate::platform::{Platform, Snapshot};
use crate::report::{AllocFailure, AllocStall};
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// P600: at most one report in this time.
pub const REPORT_EVERY_NS: u64 = 10_000_000_000;

/// P117: a request that has tried for longer than this is stalled.
const STALL_NS: u64 = 10_000_000_000;

/// Lets one through in [`REPORT_EVERY_NS`].
#[derive(Debug)]
pub(super) struct RateLimit {
    /// When the next one may be; 0: at once.
    next_ns: AtomicU64,
    /// Those not let through since the last that was.
    suppressed: AtomicU32,
}

impl RateLimit {
    pub(super) const fn new() -> RateLimit {
        RateLimit {
            next_ns: AtomicU64::new(0),
            suppressed: AtomicU32::new(0),
        }
    }

    /// `Some`: now, and so many were not let through before.
    pub(super) fn take(&self, now_ns: u64) -> Option<u32> {
        // Relaxed, here and below: only who may report depends on it.
        let next = self.next_ns.load(Relaxed);
        let after = now_ns.saturating_add(REPORT_EVERY_NS);
        let mine = now_ns >= next
            && self
                .next_ns
                .compare_exchange(next, after, Relaxed, Relaxed)
                .is_ok();
        if mine {
            return Some(self.suppressed.swap(0, Relaxed));
        }
        self.suppressed.fetch_add(1, Relaxed);
        None
    }
}

impl<P: Platform> Reclaim<P> {
    /// P600. Context: that of the request; any.
    #[cold]
    pub(super) fn report_failure(&self, need: &Need<'_>) {
        let platform = self.pages.platform();
        let Some(suppressed) = self.failures.take(platform.now_ns()) else {
            return;
        };
        platform.report_failure(&AllocFailure {
            gfp: need.effort.gfp,
            order: need.effort.order,
            nodemask: need.request.nodemask(),
            suppressed,
            scopes: Snapshot::take(platform),
            shortages: Looked::at(&self.pages, need).shortages(),
        });
    }

    /// P117. Context: that of the request, a task.
    #[cold]
    pub(super) fn check_stall(&self, need: &Need<'_>, since_ns: u64) {
        let platform = self.pages.platform();
        let now = platform.now_ns();
        let stalled = now.saturating_sub(since_ns);
        if stalled < STALL_NS {
            return;
        }
        let Some(suppressed) = self.stalls.take(now) else {
            return;
        };
        platform.report_stall(&AllocStall {
            gfp: need.effort.gfp,
            order: need.effort.order,
            nodemask: need.request.nodemask(),
            seconds: stalled / 1_000_000_000,
            suppressed,
            scopes: Snapshot::take(platform),
        });
    }
}
