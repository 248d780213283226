//! Per-CPU page caches: plain arrays of frame numbers in front of a zone.
//!
//! One [`ZoneCache`] a (CPU, zone). Its owner is whoever holds the CPU's section ([INV-PCPU-1]), so
//! every access is a plain load or store; the fields are atomics only because statistics are read
//! from elsewhere.

use crate::flags::MigrateType;
use crate::frame::Order;
use crate::policy::pcp::PcpLimits;
use crate::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};

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

    /// Pages that a CPU keeps of this zone.
    #[inline]
    pub(crate) fn high_min(&self) -> usize {
        self.high_min.load(Relaxed)
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

/// Names one list of a [`ZoneCache`].
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct List {
    kind: u8,
    slot: u8,
}

impl List {
    /// The list of blocks of an order and mobility type; `None` if the order is not cached. Reserve
    /// and CMA blocks go with the movable ones (P331).
    #[inline]
    pub(crate) const fn of(order: Order, kind: MigrateType) -> Option<List> {
        let slot = match order.get() {
            o @ 0..=5 => o,
            9 => 6,
            _ => return None,
        };
        let kind = match kind {
            MigrateType::Unmovable => 0,
            MigrateType::Reclaimable => 2,
            _ => 1,
        };
        Some(List { kind, slot })
    }

    /// Every list.
    pub(crate) fn all() -> impl Iterator<Item = List> {
        (0..TYPES as u8).flat_map(|kind| (0..NR_CACHED as u8).map(move |slot| List { kind, slot }))
    }

    /// The order of its blocks.
    #[inline]
    pub(crate) fn order(self) -> Order {
        Order::new(ORDERS[self.slot as usize]).unwrap_or_default()
    }

    const fn capacity(self) -> usize {
        CAPACITY[self.slot as usize]
    }
}

/// What happened on one CPU in one zone (P615, P617).
#[derive(Default)]
pub(crate) struct Events {
    pub(crate) alloc_pages: Counter,
    pub(crate) free_pages: Counter,
    pub(crate) numa_hit: Counter,
    pub(crate) numa_miss: Counter,
    pub(crate) numa_foreign: Counter,
    pub(crate) numa_other: Counter,
    /// Pages of large kmalloc blocks allocated minus freed, on any CPU: only the sum means
    /// something.
    pub(crate) large_pages: Counter,
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

    #[inline]
    fn add_count(&self, pages: isize) {
        let new = (self.count.load(Relaxed) as isize + pages) as u32;
        self.count.store(new, Relaxed);
    }

    #[inline]
    fn len(&self, list: List) -> &AtomicU32 {
        &self.len[list.kind as usize][list.slot as usize]
    }

    #[inline]
    fn entries(&self, list: List) -> &[AtomicU32] {
        let start = START[list.slot as usize];
        &self.entries[list.kind as usize][start..start + list.capacity()]
    }

    /// Takes the block that was put last.
    #[inline]
    pub(crate) fn pop(&self, list: List) -> Option<u32> {
        let top = self.len(list).load(Relaxed).checked_sub(1)?;
        let entry = self.entries(list).get(top as usize)?.load(Relaxed);
        // The store that publishes: before it nothing has happened.
        self.len(list).store(top, Relaxed);
        self.add_count(-(list.order().pages() as isize));
        Some(entry)
    }

    /// Puts a block; false if the list is full.
    #[inline]
    pub(crate) fn push(&self, list: List, frame: u32) -> bool {
        let len = self.len(list).load(Relaxed);
        let Some(entry) = self.entries(list).get(len as usize) else {
            return false;
        };
        entry.store(frame, Relaxed);
        self.len(list).store(len + 1, Relaxed);
        self.add_count(list.order().pages() as isize);
        true
    }

    /// Blocks in a list.
    #[inline]
    pub(crate) fn blocks(&self, list: List) -> usize {
        self.len(list).load(Relaxed) as usize
    }

    /// Free places of a list.
    #[inline]
    pub(crate) fn room(&self, list: List) -> usize {
        list.capacity() - self.blocks(list)
    }

    /// The list with the most pages, if any has one.
    pub(crate) fn fullest(&self) -> Option<List> {
        let pages = |list: &List| self.blocks(*list) << list.order().get();
        List::all()
            .max_by_key(pages)
            .filter(|list| self.blocks(*list) != 0)
    }

    /// Takes the oldest `n` blocks of a list (all, if it has fewer) and hands each to `f`, which
    /// must not panic.
    pub(crate) fn take_oldest(&self, list: List, n: usize, mut f: impl FnMut(u32)) {
        let len = self.blocks(list);
        let out = n.min(len);
        let entries = &self.entries(list)[..len];
        for entry in &entries[..out] {
            f(entry.load(Relaxed));
        }
        for i in out..len {
            entries[i - out].store(entries[i].load(Relaxed), Relaxed);
        }
        self.len(list).store((len - out) as u32, Relaxed);
        self.add_count(-((out << list.order().get()) as isize));
    }

    /// Shows every block of every list to `f`.
    pub(crate) fn each(&self, mut f: impl FnMut(u32, Order)) {
        for list in List::all() {
            for entry in &self.entries(list)[..self.blocks(list)] {
                f(entry.load(Relaxed), list.order());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn it_is_last_in_first_out_and_gives_the_oldest_back() {
        // P327
        let cache = ZoneCache::new();
        let list = List::of(Order::ZERO, MigrateType::Movable).unwrap();
        let other = List::of(Order::ZERO, MigrateType::Unmovable).unwrap();
        assert_eq!(cache.fullest(), None);
        for i in 0..128 {
            assert!(cache.push(list, i));
        }
        assert!(!cache.push(list, 999));
        assert_eq!(cache.count(), 128);
        assert_eq!(cache.pop(list), Some(127));
        assert_eq!(cache.pop(other), None);
        assert_eq!(cache.fullest(), Some(list));
        let mut out = Vec::new();
        cache.take_oldest(list, 64, |f| out.push(f));
        assert_eq!(out, (0..64).collect::<Vec<_>>());
        assert_eq!(cache.count(), 63);
        assert_eq!(cache.pop(list), Some(126));
        cache.take_oldest(list, usize::MAX, |_| ());
        assert_eq!((cache.count(), cache.room(list)), (0, 128));
    }

    #[test]
    fn every_list_keeps_its_own_blocks() {
        let cache = ZoneCache::new();
        let mut n = 0;
        for list in List::all() {
            assert_eq!(cache.blocks(list), 0);
            while cache.push(list, n) {
                n += 1;
            }
        }
        let mut seen = Vec::new();
        for list in List::all() {
            cache.take_oldest(list, usize::MAX, |f| seen.push(f));
        }
        assert_eq!(seen, (0..n).collect::<Vec<_>>());
        assert_eq!(cache.count(), 0);
    }

    #[test]
    fn only_reserve_and_cma_blocks_share_the_list_of_movable_ones() {
        // P331
        let of = |kind| List::of(Order::ZERO, kind);
        assert_eq!(of(MigrateType::Cma), of(MigrateType::Movable));
        assert_eq!(of(MigrateType::HighAtomic), of(MigrateType::Movable));
        assert_ne!(of(MigrateType::Unmovable), of(MigrateType::Movable));
        assert_ne!(of(MigrateType::Unmovable), of(MigrateType::Reclaimable));
        for order in (0..=10).filter_map(Order::new) {
            let list = List::of(order, MigrateType::Movable);
            assert!(list.is_none_or(|l| l.order() == order), "{order:?}");
        }
    }
}
