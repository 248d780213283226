//! Per-CPU page caches: plain arrays of frame numbers in front of a zone.
//!
//! One [`ZoneCache`] a (CPU, zone). Its owner is whoever holds the CPU's section ([INV-PCPU-1]), so
//! every access is a plain load or store; the fields are atomics only because statistics are read
//! from elsewhere.

use crate::flags::MigrateType;
use crate::frame::Order;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// How many blocks of each cached order a CPU keeps at most, a type: about half a MiB an order, and
/// two huge pages. Orders 6..=8 and 10 are not cached.
const CAPACITY: [usize; 7] = [128, 64, 32, 16, 8, 4, 2];
/// The orders of [`CAPACITY`].
const ORDERS: [u8; 7] = [0, 1, 2, 3, 4, 5, 9];
const NR_CACHED: usize = CAPACITY.len();
/// Where the entries of each order start.
const START: [usize; NR_CACHED + 1] = {
    let mut start = [0; NR_CACHED + 1];
    let mut i = 0;
    while i < NR_CACHED {
        start[i + 1] = start[i] + CAPACITY[i];
        i += 1;
    }
    start
};
const TYPES: usize = MigrateType::PCP_TYPES;

/// One CPU's cached blocks and event counts of one zone.
pub(crate) struct ZoneCache {
    /// Pages in all lists.
    count: AtomicU32,
    len: [[AtomicU32; NR_CACHED]; TYPES],
    entries: [[AtomicU32; START[NR_CACHED]]; TYPES],
    pub(crate) events: Events,
}

/// What happened on one CPU in one zone (P615, P617).
#[derive(Default)]
pub(crate) struct Events {
    pub(crate) alloc_pages: Counter,
    pub(crate) free_pages: Counter,
    pub(crate) numa_hit: Counter,
    pub(crate) numa_miss: Counter,
    pub(crate) numa_foreign: Counter,
}

/// A count that one CPU raises and everyone may read.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds without a locked instruction: the section is held, so this CPU is the only writer.
    #[inline]
    pub(crate) fn add(&self, n: usize) {
        self.0
            .store(self.0.load(Relaxed).wrapping_add(n as u64), Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Which list an order has; `None` if it is not cached.
#[inline]
pub(crate) const fn slot(order: Order) -> Option<usize> {
    match order.get() {
        o @ 0..=5 => Some(o as usize),
        9 => Some(6),
        _ => None,
    }
}

/// The list of a mobility type; reserve and CMA blocks go with the movable ones (P331).
#[inline]
fn list_of(kind: MigrateType) -> usize {
    match kind {
        MigrateType::Unmovable => 0,
        MigrateType::Reclaimable => 2,
        _ => 1,
    }
}

impl ZoneCache {
    pub(crate) fn new() -> ZoneCache {
        ZoneCache {
            count: AtomicU32::new(0),
            len: core::array::from_fn(|_| core::array::from_fn(|_| AtomicU32::new(0))),
            entries: core::array::from_fn(|_| core::array::from_fn(|_| AtomicU32::new(0))),
            events: Events::default(),
        }
    }

    /// Pages cached.
    #[inline]
    pub(crate) fn count(&self) -> usize {
        self.count.load(Relaxed) as usize
    }

    fn add_count(&self, pages: isize) {
        let new = (self.count.load(Relaxed) as isize + pages) as u32;
        self.count.store(new, Relaxed);
    }

    /// Takes the block that was put last.
    #[inline]
    pub(crate) fn pop(&self, slot: usize, kind: MigrateType) -> Option<u32> {
        let list = list_of(kind);
        let len = self.len[list][slot].load(Relaxed);
        let top = len.checked_sub(1)?;
        let entry = self.entries[list]
            .get(START[slot] + top as usize)?
            .load(Relaxed);
        // The store that publishes: before it nothing has happened.
        self.len[list][slot].store(top, Relaxed);
        self.add_count(-(1isize << ORDERS[slot]));
        Some(entry)
    }

    /// Puts a block; false if the list is full.
    #[inline]
    pub(crate) fn push(&self, slot: usize, kind: MigrateType, frame: u32) -> bool {
        let list = list_of(kind);
        let len = self.len[list][slot].load(Relaxed) as usize;
        if len >= CAPACITY[slot] {
            return false;
        }
        self.entries[list][START[slot] + len].store(frame, Relaxed);
        self.len[list][slot].store(len as u32 + 1, Relaxed);
        self.add_count(1isize << ORDERS[slot]);
        true
    }

    /// Free places of a list.
    pub(crate) fn room(&self, slot: usize, kind: MigrateType) -> usize {
        CAPACITY[slot] - self.len[list_of(kind)][slot].load(Relaxed) as usize
    }

    /// Takes the oldest half of a list (at least one block) and hands each block to `f`.
    pub(crate) fn flush_half(&self, slot: usize, kind: MigrateType, mut f: impl FnMut(u32)) {
        let list = list_of(kind);
        let len = self.len[list][slot].load(Relaxed) as usize;
        let out = len.div_ceil(2);
        let entries = &self.entries[list][START[slot]..][..len];
        for entry in &entries[..out] {
            f(entry.load(Relaxed));
        }
        for i in out..len {
            entries[i - out].store(entries[i].load(Relaxed), Relaxed);
        }
        self.len[list][slot].store((len - out) as u32, Relaxed);
        self.add_count(-((out << ORDERS[slot]) as isize));
    }

    /// Shows every block of every list to `f`.
    pub(crate) fn each(&self, mut f: impl FnMut(u32, Order)) {
        for list in 0..TYPES {
            for (slot, &order) in ORDERS.iter().enumerate() {
                let len = self.len[list][slot].load(Relaxed) as usize;
                let order = Order::new(order).unwrap_or_default();
                for entry in &self.entries[list][START[slot]..][..len] {
                    f(entry.load(Relaxed), order);
                }
            }
        }
    }

    /// Takes every block of every list and hands it to `f`.
    pub(crate) fn drain(&self, f: impl FnMut(u32, Order)) {
        self.each(f);
        for len in self.len.iter().flatten() {
            len.store(0, Relaxed);
        }
        self.count.store(0, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn it_is_last_in_first_out_and_flushes_the_oldest() {
        // P327
        let cache = ZoneCache::new();
        let slot = slot(Order::ZERO).unwrap();
        for i in 0..128 {
            assert!(cache.push(slot, MigrateType::Movable, i));
        }
        assert!(!cache.push(slot, MigrateType::Movable, 999));
        assert_eq!(cache.count(), 128);
        assert_eq!(cache.pop(slot, MigrateType::Movable), Some(127));
        assert_eq!(cache.pop(slot, MigrateType::Unmovable), None);
        let mut out = Vec::new();
        cache.flush_half(slot, MigrateType::Movable, |f| out.push(f));
        assert_eq!(out, (0..64).collect::<Vec<_>>());
        assert_eq!(cache.count(), 63);
        assert_eq!(cache.pop(slot, MigrateType::Movable), Some(126));
        cache.drain(|_, order| assert_eq!(order, Order::ZERO));
        assert_eq!(cache.count(), 0);
    }

    #[test]
    fn every_list_keeps_its_own_blocks() {
        let cache = ZoneCache::new();
        let mut n = 0;
        for kind in [
            MigrateType::Unmovable,
            MigrateType::Movable,
            MigrateType::Reclaimable,
        ] {
            for &order in &ORDERS {
                let slot = slot(Order::new(order).unwrap()).unwrap();
                while cache.push(slot, kind, n) {
                    n += 1;
                }
            }
        }
        let mut seen = Vec::new();
        cache.drain(|f, _| seen.push(f));
        seen.sort_unstable();
        assert_eq!(seen, (0..n).collect::<Vec<_>>());
    }
}
