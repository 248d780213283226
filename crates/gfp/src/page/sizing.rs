//! How large the per-CPU caches of a zone are.

use crate::policy::pcp::PcpLimits;
use crate::sync::atomic::{AtomicUsize, Ordering::Relaxed};

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
