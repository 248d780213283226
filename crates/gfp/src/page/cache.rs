//! Per-CPU page caches: plain arrays of frame numbers in front of a zone.
//!
//! One [`ZoneCache`] a (CPU, zone). Its owner is whoever holds the CPU's section ([INV-PCPU-1]), so
//! every access is a plain load or store; the fields are atomics only because statistics are read
//! from elsewhere.

use crate::flags::MigrateType;
use crate::frame::{NR_ORDERS, Order};
use crate::policy::pcp::PcpLimits;
use crate::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use core::ptr::NonNull;

/// How many blocks of each order a CPU keeps at most, a type: about half a MiB an order, two huge
/// pages, and one block of the largest order. Orders 6..=8 are not cached.
const CAPACITY: [usize; NR_ORDERS] = [128, 64, 32, 16, 8, 4, 0, 0, 0, 2, 1];
/// Entries of one type.
const ENTRIES: usize = {
    let (mut sum, mut order) = (0, 0);
    while order < NR_ORDERS {
        sum += CAPACITY[order];
        order += 1;
    }
    sum
};
const TYPES: usize = MigrateType::PCP_TYPES;
/// Stacks of one type: a power of two, so that the way to one is shifts.
const STACKS: usize = NR_ORDERS.next_power_of_two();

/// Where one list stands: a stack of frame numbers.
struct Stack {
    len: AtomicU32,
    capacity: AtomicU32,
    /// [INV-PCPU-3] `capacity` entries, which live as long as the cache; `len` is not larger.
    base: AtomicPtr<AtomicU32>,
}

/// One CPU's cached blocks and event counts of one zone.
#[repr(C)]
pub(crate) struct ZoneCache {
    stacks: [[Stack; STACKS]; TYPES],
    /// Pages in all lists.
    count: AtomicU32,
    pub(crate) events: Events,
    entries: [[AtomicU32; ENTRIES]; TYPES],
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

/// A mobility type that has lists of its own (P308).
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(crate) enum PcpKind {
    Unmovable = MigrateType::Unmovable as u8,
    Movable = MigrateType::Movable as u8,
    Reclaimable = MigrateType::Reclaimable as u8,
}

impl PcpKind {
    const ALL: [PcpKind; TYPES] = [PcpKind::Unmovable, PcpKind::Movable, PcpKind::Reclaimable];

    /// Where blocks of a type are cached: reserve and CMA blocks go with the movable ones (P331).
    #[inline(always)]
    pub(super) const fn of(kind: MigrateType) -> PcpKind {
        match kind {
            MigrateType::Unmovable => PcpKind::Unmovable,
            MigrateType::Reclaimable => PcpKind::Reclaimable,
            _ => PcpKind::Movable,
        }
    }

    /// The type of this number, `None` above them.
    #[inline(always)]
    pub(crate) const fn from_bits(bits: u8) -> Option<PcpKind> {
        match bits {
            0 => Some(PcpKind::Unmovable),
            1 => Some(PcpKind::Movable),
            2 => Some(PcpKind::Reclaimable),
            _ => None,
        }
    }
}

/// Names one list of a [`ZoneCache`].
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct List {
    kind: PcpKind,
    order: Order,
}

impl List {
    /// The list of blocks of an order and mobility type; `None` if the order is not cached. Reserve
    /// and CMA blocks go with the movable ones (P331).
    #[inline]
    pub(crate) const fn of(order: Order, kind: MigrateType) -> Option<List> {
        if CAPACITY[order.index()] == 0 {
            return None;
        }
        Some(List::any(order, PcpKind::of(kind)))
    }

    /// The list of blocks of any order. It is empty and has no room if the order is not cached.
    #[inline(always)]
    pub(super) const fn any(order: Order, kind: PcpKind) -> List {
        List { kind, order }
    }

    /// Every list.
    pub(crate) fn all() -> impl Iterator<Item = List> {
        PcpKind::ALL.into_iter().flat_map(|kind| {
            let orders = Order::all().filter(|order| CAPACITY[order.index()] != 0);
            orders.map(move |order| List { kind, order })
        })
    }

    /// The order of its blocks.
    #[inline]
    pub(crate) fn order(self) -> Order {
        self.order
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
    /// Makes an empty cache where it will stay.
    ///
    /// # Safety
    /// `place` is valid for writes, aligned, and stays where it is for as long as the cache is
    /// used.
    pub(crate) unsafe fn init(place: NonNull<ZoneCache>) {
        let place = place.as_ptr();
        let entry = || AtomicU32::new(0);
        // SAFETY: promised by the caller.
        let mut base = unsafe {
            let entries = &raw mut (*place).entries;
            entries.write(core::array::from_fn(|_| core::array::from_fn(|_| entry())));
            entries.cast::<AtomicU32>()
        };
        let mut stack = |order| {
            let capacity = CAPACITY.get(order).copied().unwrap_or(0);
            let stack = Stack {
                len: AtomicU32::new(0),
                capacity: AtomicU32::new(capacity as u32),
                base: AtomicPtr::new(base),
            };
            // The sum of all capacities is the number of entries: this ends at their end.
            base = base.wrapping_add(capacity);
            stack
        };
        let stacks = core::array::from_fn(|_| core::array::from_fn(&mut stack));
        // SAFETY: promised by the caller.
        unsafe {
            (&raw mut (*place).stacks).write(stacks);
            (&raw mut (*place).count).write(AtomicU32::new(0));
            (&raw mut (*place).events).write(Events::default());
        }
    }

    /// Pages cached.
    #[inline]
    pub(crate) fn count(&self) -> usize {
        self.count.load(Relaxed) as usize
    }

    #[inline(always)]
    fn add_count(&self, pages: usize) {
        let count = self.count.load(Relaxed);
        self.count.store(count.wrapping_add(pages as u32), Relaxed);
    }

    #[inline(always)]
    fn stack(&self, list: List) -> &Stack {
        &self.stacks[list.kind as usize][list.order.index() % STACKS]
    }

    /// The block that was put last.
    #[inline(always)]
    pub(crate) fn top(&self, list: List) -> Option<u32> {
        let stack = self.stack(list);
        let top = stack.len.load(Relaxed).checked_sub(1)?;
        Some(stack.entry(top).load(Relaxed))
    }

    /// Takes the block that [`ZoneCache::top`] showed.
    #[inline(always)]
    pub(crate) fn drop_top(&self, list: List) {
        let stack = self.stack(list);
        // The store that publishes: before it nothing has happened.
        let len = stack.len.load(Relaxed);
        stack.len.store(len.wrapping_sub(1), Relaxed);
        self.add_count(list.order.pages().wrapping_neg());
    }

    /// Takes the block that was put last.
    #[inline]
    pub(crate) fn pop(&self, list: List) -> Option<u32> {
        let entry = self.top(list)?;
        self.drop_top(list);
        Some(entry)
    }

    /// Puts a block; false if the list is full.
    #[inline(always)]
    pub(crate) fn push(&self, list: List, frame: u32) -> bool {
        let stack = self.stack(list);
        let len = stack.len.load(Relaxed);
        if len >= stack.capacity.load(Relaxed) {
            return false;
        }
        stack.entry(len).store(frame, Relaxed);
        stack.len.store(len + 1, Relaxed);
        self.add_count(list.order.pages());
        true
    }

    /// Blocks in a list.
    #[inline]
    pub(crate) fn blocks(&self, list: List) -> usize {
        self.stack(list).len.load(Relaxed) as usize
    }

    /// Free places of a list.
    #[inline]
    pub(crate) fn room(&self, list: List) -> usize {
        let stack = self.stack(list);
        (stack.capacity.load(Relaxed) - stack.len.load(Relaxed)) as usize
    }

    /// The list with the most pages, if any has one.
    pub(crate) fn fullest(&self) -> Option<List> {
        let mut left = self.count();
        let (mut fullest, mut most) = (None, 0);
        for list in List::all() {
            let pages = self.blocks(list) << list.order.get();
            if pages > most {
                (fullest, most) = (Some(list), pages);
            }
            left = left.saturating_sub(pages);
            if left <= most {
                break; // none of the rest has more
            }
        }
        fullest
    }

    /// Takes the oldest `n` blocks of a list (all, if it has fewer) and hands each to `f`, which
    /// must not panic.
    pub(crate) fn take_oldest(&self, list: List, n: usize, mut f: impl FnMut(u32)) {
        let stack = self.stack(list);
        let len = stack.len.load(Relaxed);
        let out = len.min(u32::try_from(n).unwrap_or(u32::MAX));
        for i in 0..out {
            f(stack.entry(i).load(Relaxed));
        }
        for i in out..len {
            stack
                .entry(i - out)
                .store(stack.entry(i).load(Relaxed), Relaxed);
        }
        stack.len.store(len - out, Relaxed);
        self.add_count(((out as usize) << list.order.get()).wrapping_neg());
    }

    /// Shows every block of every list to `f`. The section of the CPU is held.
    pub(crate) fn each(&self, mut f: impl FnMut(u32, Order)) {
        for list in List::all() {
            let stack = self.stack(list);
            for i in 0..stack.len.load(Relaxed) {
                f(stack.entry(i).load(Relaxed), list.order());
            }
        }
    }
}

impl Stack {
    /// An entry below `capacity`.
    #[inline(always)]
    fn entry(&self, i: u32) -> &AtomicU32 {
        debug_assert!(i < self.capacity.load(Relaxed));
        // SAFETY: [INV-PCPU-3]
        unsafe { &*self.base.load(Relaxed).add(i as usize) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::boxed::Box;
    use std::vec::Vec;

    fn new_cache() -> Box<ZoneCache> {
        let mut cache = Box::<ZoneCache>::new_uninit();
        // SAFETY: the box does not move what it holds.
        unsafe {
            ZoneCache::init(NonNull::from(&mut *cache).cast());
            cache.assume_init()
        }
    }

    #[test]
    fn it_is_last_in_first_out_and_gives_the_oldest_back() {
        // P327
        let cache = new_cache();
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
        let cache = new_cache();
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
