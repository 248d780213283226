//! What an administrator says of compaction (P706, P707, P709).
//!
//! Who sets a value has checked its range (`mm::tunables`). All are read without a lock, each by
//! itself.

use super::super::Reclaim;
use crate::platform::Platform;
use crate::policy::compaction::{DEFAULT_PROACTIVENESS, EXTFRAG_THRESHOLD, Unevictable};
use crate::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, Ordering::Relaxed};

/// The values.
pub(in crate::reclaim) struct Tuning {
    extfrag_threshold: AtomicU16,
    proactiveness: AtomicU8,
    leaves_unevictable: AtomicBool,
}

impl Tuning {
    pub(in crate::reclaim) const fn new() -> Tuning {
        Tuning {
            extfrag_threshold: AtomicU16::new(EXTFRAG_THRESHOLD),
            proactiveness: AtomicU8::new(DEFAULT_PROACTIVENESS),
            leaves_unevictable: AtomicBool::new(false),
        }
    }

    /// P709: what to do with pages that are locked into memory.
    pub(super) fn unevictable(&self) -> Unevictable {
        match self.leaves_unevictable.load(Relaxed) {
            true => Unevictable::Leave,
            false => Unevictable::Move,
        }
    }
}

impl<P: Platform> Reclaim<P> {
    /// P706: how fragmented a zone must be for large blocks to be made, 0 to 1000.
    pub(crate) fn extfrag_threshold(&self) -> u16 {
        self.compaction.extfrag_threshold.load(Relaxed)
    }

    pub(crate) fn set_extfrag_threshold(&self, threshold: u16) {
        self.compaction.extfrag_threshold.store(threshold, Relaxed);
    }

    /// P707: how much is compacted before anybody asks, 0 to 100.
    pub(crate) fn compaction_proactiveness(&self) -> u8 {
        self.compaction.proactiveness.load(Relaxed)
    }

    /// P707: if it is raised, the tasks of all nodes look at once.
    ///
    /// Context: any but an NMI.
    pub(crate) fn set_compaction_proactiveness(&self, proactiveness: u8) {
        let values = &self.compaction;
        let before = values.proactiveness.swap(proactiveness, Relaxed);
        if proactiveness > before {
            for compactor in &self.compactors {
                compactor.look_now(self.pages.platform());
            }
        }
    }

    /// P709: whether pages are moved that are locked into memory.
    pub(crate) fn moves_unevictable(&self) -> bool {
        self.compaction.unevictable() == Unevictable::Move
    }

    pub(crate) fn set_moves_unevictable(&self, unevictable: Unevictable) {
        let leaves = unevictable == Unevictable::Leave;
        self.compaction.leaves_unevictable.store(leaves, Relaxed);
    }
}
