//! The numbers of the lists.

use super::lists::ListId;
use super::{Lru, Who};
use crate::flags::ZoneKind;
use crate::frame::NodeId;
use crate::platform::Platform;
use crate::policy::reclaim::lru::{Kind, WEIGHT_MAX};
use crate::reclaim::Reclaim;
use crate::sync::atomic::{AtomicIsize, Ordering::Relaxed};

/// What happened on the lists since boot, in pages (P617). Of two numbers the first is of the
/// background, the second of requests; or the first is of [`Kind::Droppable`], the second of
/// [`Kind::Storable`].
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct LruEvents {
    /// Taken off to be looked at, by who did (`pgscan_kswapd`, `pgscan_direct`).
    pub scanned: [u64; 2],
    /// Freed, by who did (`pgsteal_*`).
    pub freed: [u64; 2],
    /// The same by an administrator (`pgscan_proactive`, P721).
    pub scanned_proactively: u64,
    /// Freed by one (`pgsteal_proactive`).
    pub freed_proactively: u64,
    /// Taken off to be looked at, by kind (`pgscan_file`, `pgscan_anon`).
    pub scanned_of: [u64; 2],
    /// Freed, by kind.
    pub freed_of: [u64; 2],
    /// Passed over, as their zone was of no use (`pgskip_*`).
    pub skipped: [u64; ZoneKind::COUNT],
    /// Made active (`pgactivate`).
    pub activated: u64,
    /// Made inactive (`pgdeactivate`, `pgrefill`).
    pub deactivated: u64,
    /// Found unevictable (`unevictable_pgs_culled`).
    pub culled: u64,
    /// Written for reclaim, and so next to go (`pgrotated`).
    pub rotated: u64,
    /// Became dirty (`nr_dirtied`).
    pub dirtied: u64,
    /// Writes that ended (`nr_written`).
    pub written: u64,
    /// Writes that reclaim began (`nr_vmscan_write`).
    pub writes: u64,
}

/// Pages on lists at about one moment.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct LruPages {
    /// Inactive pages, by [`Kind`].
    pub inactive: [usize; 2],
    /// Active pages.
    pub active: [usize; 2],
    /// Taken off by reclaimers; 0 for a zone, as they are counted by node.
    pub isolated: [usize; 2],
    /// Pages whose owner never gives them up.
    pub unevictable: usize,
    /// To be written.
    pub dirty: usize,
    /// Being written.
    pub writing: usize,
}

impl LruPages {
    /// All pages of a kind.
    pub fn of(&self, kind: Kind) -> usize {
        let kind = kind as usize;
        self.inactive[kind] + self.active[kind] + self.isolated[kind]
    }

    fn add(&mut self, other: &LruPages) {
        for kind in 0..2 {
            self.inactive[kind] += other.inactive[kind];
            self.active[kind] += other.active[kind];
        }
        self.unevictable += other.unevictable;
        self.dirty += other.dirty;
        self.writing += other.writing;
    }
}

pub(super) const KINDS: [Kind; 2] = [Kind::Droppable, Kind::Storable];

impl<P: Platform> Reclaim<P> {
    /// What happened on the lists since boot.
    pub fn lru_events(&self) -> LruEvents {
        let Some(Lru { sums, .. }) = self.lru.get() else {
            return LruEvents::default();
        };
        LruEvents {
            scanned: core::array::from_fn(|i| sums.scanned[i].get()),
            freed: core::array::from_fn(|i| sums.freed[i].get()),
            scanned_proactively: sums.scanned[Who::Proactive as usize].get(),
            freed_proactively: sums.freed[Who::Proactive as usize].get(),
            scanned_of: core::array::from_fn(|i| sums.scanned_of[i].get()),
            freed_of: core::array::from_fn(|i| sums.freed_of[i].get()),
            skipped: core::array::from_fn(|i| sums.skipped[i].get()),
            activated: sums.activated.get(),
            deactivated: sums.deactivated.get(),
            culled: sums.culled.get(),
            rotated: sums.rotated.get(),
            dirtied: sums.dirtied.get(),
            written: sums.written.get(),
            writes: sums.writes.get(),
        }
    }

    /// P714.
    pub fn set_swappiness(&self, weight: u8) {
        self.lru.swappiness.store(weight.min(WEIGHT_MAX), Relaxed);
    }

    /// P714.
    pub fn swappiness(&self) -> u8 {
        self.lru.swappiness.load(Relaxed)
    }

    /// Pages that the lists themselves take up; they are kept.
    pub fn lru_table_pages(&self) -> usize {
        self.lru.get().map_or(0, |lru| 1 + lru.slots.pages())
    }

    /// Pages of one zone on the lists.
    pub fn lru_zone_pages(&self, node: NodeId, zone: ZoneKind) -> LruPages {
        let Some(lists) = self.lru.node(node) else {
            return LruPages::default();
        };
        let sums = &lists.zones[zone as usize];
        let at_least_0 = |n: &AtomicIsize| n.load(Relaxed).max(0) as usize;
        LruPages {
            inactive: KINDS.map(|kind| sums.pages(ListId::inactive(kind))),
            active: KINDS.map(|kind| sums.pages(ListId::active(kind))),
            isolated: [0; 2],
            unevictable: sums.pages(ListId::UNEVICTABLE),
            dirty: at_least_0(&sums.dirty),
            writing: at_least_0(&sums.writing),
        }
    }

    /// Pages of one node on the lists.
    pub fn lru_node_pages(&self, node: NodeId) -> LruPages {
        let mut pages = LruPages::default();
        for zone in ZoneKind::ALL {
            pages.add(&self.lru_zone_pages(node, zone));
        }
        if let Some(lists) = self.lru.node(node) {
            pages.isolated = KINDS.map(|kind| lists.isolated(kind));
        }
        pages
    }
}
