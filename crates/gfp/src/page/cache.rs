//! Per-CPU page caches: plain arrays of frame numbers in front of a zone.
//!
//! 1. One [`ZoneCache`] a (CPU, zone). Its owner is whoever holds the CPU's section ([INV-PCPU-1]),
//!    so every access is a plain load or store; the fields are atomics only because statistics are
//!    read from elsewhere.
//! 2. A *list* holds the blocks of one order and type, the newest last. Its *limit* is how many it
//!    may hold now; the limits of all lists together are never more than what the CPU may keep, so
//!    that a free looks at one number.
//! 3. Each list is a [`Stock`], at the same place in each CPU's memory. Blocks that are of no
//!    list's order or type have the place [`At::NOWHERE`], as has a zone that is not to be looked
//!    at: one comparison of the sum is enough.
//! 4. What passes a list on a fast path is counted by the list, in blocks; everything else is
//!    counted in [`Events`].

use super::sizing::Adapted;
use super::stand::Stands;
use crate::flags::MigrateType;
use crate::frame::Order;
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize};
use crate::sync::stock::{At, Shelf, Stock};

/// The orders that are cached. Orders 6..=8 and 10 are not.
const ORDERS: [u8; 7] = [0, 1, 2, 3, 4, 5, 9];
/// How many blocks of each such order have room in the cache itself, a type: about half a MiB an
/// order, and two huge pages.
const ROOM: [usize; NR_ORDERS] = [128, 64, 32, 16, 8, 4, 2];
const NR_ORDERS: usize = ORDERS.len();
const TYPES: usize = MigrateType::PCP_TYPES;
/// Lists that can hold something.
pub(super) const NR_LISTS: usize = NR_ORDERS * TYPES;
/// No list.
const NOWHERE: List = List(NR_LISTS as u8);
/// Where the entries of each list start in the cache.
const START: [usize; NR_LISTS + 1] = {
    let mut start = [0; NR_LISTS + 1];
    let mut i = 0;
    while i < NR_LISTS {
        start[i + 1] = start[i] + ROOM[i / TYPES];
        i += 1;
    }
    start
};
/// The list of each order (bits 3 to 6) and type (bits 0 to 2).
const LIST_OF: [List; 128] = {
    let mut lists = [NOWHERE; 128];
    let mut i = 0;
    while i < NR_ORDERS {
        let at = (ORDERS[i] as usize) << 3;
        let first = (i * TYPES) as u8;
        lists[at + MigrateType::Unmovable as usize] = List(first);
        lists[at + MigrateType::Movable as usize] = List(first + 1);
        lists[at + MigrateType::Reclaimable as usize] = List(first + 2);
        // P331: reserve and CMA blocks go with the movable ones.
        lists[at + MigrateType::HighAtomic as usize] = List(first + 1);
        lists[at + MigrateType::Cma as usize] = List(first + 1);
        i += 1;
    }
    lists
};

/// Names one list of a [`ZoneCache`].
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) struct List(u8);

impl List {
    /// The list of blocks of an order and mobility type; `None` if such blocks are not cached.
    #[inline]
    pub(crate) fn of(order: Order, kind: MigrateType) -> Option<List> {
        let list = List::or_nowhere(order, kind);
        (list != NOWHERE).then_some(list)
    }

    /// As [`List::of`]; a list that holds nothing, if such blocks are not cached.
    #[inline(always)]
    pub(crate) fn or_nowhere(order: Order, kind: MigrateType) -> List {
        LIST_OF[(order.index() & 15) << 3 | (kind as usize & 7)]
    }

    /// Every list.
    pub(crate) fn all() -> impl Iterator<Item = List> {
        (0..NR_LISTS as u8).map(List)
    }

    /// Its place among all lists.
    pub(super) fn number(self) -> u8 {
        self.0
    }

    /// Its place, by that of its zone's lists.
    #[inline(always)]
    pub(crate) const fn at(self, zone: At) -> At {
        zone.add(self.0 as u32 * size_of::<Stock>() as u32)
    }

    /// The place of the list of an order and type, by that of a zone's lists; [`At::NOWHERE`], if
    /// such blocks are not cached.
    #[inline(always)]
    pub(crate) fn place_of(order: Order, kind: MigrateType, zone: At) -> At {
        /// By type, then by order.
        const PLACES: [[u32; 16]; 8] = {
            let mut places = [[At::NOWHERE.bytes(); 16]; 8];
            let mut i = 0;
            while i < LIST_OF.len() {
                if LIST_OF[i].0 != NOWHERE.0 {
                    places[i & 7][i >> 3] = LIST_OF[i].at(At::new(0)).bytes();
                }
                i += 1;
            }
            places
        };
        zone.add(PLACES[kind as usize & 7][order.index() & 15])
    }

    /// How many blocks it has room for.
    fn room(self) -> usize {
        ROOM[usize::from(self.0) / TYPES]
    }

    /// The order of its blocks.
    #[inline]
    pub(crate) fn order(self) -> Order {
        const ORDER: [Order; NR_LISTS + 1] = {
            let mut orders = [Order::ZERO; NR_LISTS + 1];
            let mut i = 0;
            while i < NR_LISTS {
                if let Some(order) = Order::new(ORDERS[i / TYPES]) {
                    orders[i] = order;
                }
                i += 1;
            }
            orders
        };
        ORDER[usize::from(self.0)]
    }
}

/// The start of what a CPU has at hand; its caches follow, one a zone.
///
/// [INV-PCPU-4] In each CPU's memory a list has the same place.
#[repr(C)]
pub(crate) struct Front {
    shelf: Shelf,
}

impl Front {
    pub(crate) fn new() -> Front {
        Front {
            shelf: Shelf::new(),
        }
    }

    /// Where the lists of a zone are.
    pub(crate) const fn lists_of(zone: usize) -> At {
        At::new(size_of::<Front>() + zone * size_of::<ZoneCache>())
    }

    /// Memory that a CPU takes.
    pub(crate) const fn bytes(zones: usize) -> usize {
        size_of::<Front>() + zones * size_of::<ZoneCache>()
    }
}

const _: () = assert!(core::mem::offset_of!(Front, shelf) == 0);
const _: () = assert!(core::mem::offset_of!(ZoneCache, heads) == 0);
const _: () = assert!(size_of::<Front>().is_multiple_of(align_of::<ZoneCache>()));

/// One CPU's cached blocks and event counts of one zone.
#[repr(C, align(32))]
pub(crate) struct ZoneCache {
    heads: [Stock; NR_LISTS],
    pub(crate) events: Events,
    pub(super) adapted: Adapted,
    pub(super) stands: Stands,
    /// Pages that the limits allow.
    allowed: AtomicUsize,
    room: [AtomicU32; START[NR_LISTS]],
}

impl ZoneCache {
    /// An empty cache, for the place where it will stay: [`ZoneCache::settle`] is called there.
    pub(crate) fn new() -> ZoneCache {
        ZoneCache {
            heads: core::array::from_fn(|_| Stock::new()),
            events: Events::default(),
            adapted: Adapted::default(),
            stands: Stands::default(),
            allowed: AtomicUsize::new(0),
            room: [const { AtomicU32::new(0) }; START[NR_LISTS]],
        }
    }

    /// Gives the lists their room, which is in the cache itself: it must not move from now on.
    pub(crate) fn settle(&self) {
        for (head, start) in self.heads.iter().zip(START) {
            let entries = self.room[start..].as_ptr().cast_mut();
            // SAFETY: [INV-PCPU-3] the room of this list, which is in the cache.
            unsafe { head.settle(entries) };
        }
    }

    #[inline]
    fn head(&self, list: List) -> &Stock {
        &self.heads[usize::from(list.0)]
    }

    /// Pages cached. Who does not own the cache may read any number up to what it may hold.
    pub(crate) fn count(&self) -> usize {
        self.sum(Stock::len).min(self.allowed.load(Relaxed))
    }

    /// In pages: blocks of each list, however they are counted.
    fn sum(&self, blocks: impl Fn(&Stock) -> usize) -> usize {
        let mut pages = 0usize;
        for (heads, order) in self.heads.chunks_exact(TYPES).zip(ORDERS) {
            let sum = heads.iter().map(&blocks).fold(0, usize::wrapping_add);
            pages = pages.wrapping_add(sum << order);
        }
        pages
    }

    /// Changes how many blocks a list may hold.
    fn limit(&self, list: List, limit: usize) {
        let head = self.head(list);
        let more = limit.wrapping_sub(head.limit());
        let pages = more.wrapping_mul(list.order().pages());
        let allowed = self.allowed.load(Relaxed).wrapping_add(pages);
        self.allowed.store(allowed, Relaxed);
        head.set_limit(limit);
    }

    /// Takes the block that was put last.
    #[inline]
    pub(crate) fn pop(&self, list: List) -> Option<u32> {
        self.head(list).move_out()
    }

    /// Puts a block; false if the list holds as many as it may.
    #[inline]
    pub(crate) fn push(&self, list: List, frame: u32) -> bool {
        self.head(list).move_in(frame)
    }

    /// [`ZoneCache::pop`], counted as allocated on the node that was wanted.
    #[cfg(test)]
    pub(crate) fn pop_counted(&self, list: List) -> Option<u32> {
        self.head(list).take()
    }

    /// [`ZoneCache::push`], counted as freed.
    #[cfg(test)]
    pub(crate) fn push_counted(&self, list: List, frame: u32) -> bool {
        self.head(list).put(frame)
    }

    /// Blocks in a list.
    #[inline]
    pub(crate) fn blocks(&self, list: List) -> usize {
        self.head(list).len()
    }

    /// Lets a list hold `blocks` more than it does: fewer, if it has no room for them, or if all
    /// lists together could then hold more than `high` pages. Returns how many more it may hold.
    pub(crate) fn allow(&self, list: List, blocks: usize, high: usize) -> usize {
        let head = self.head(list);
        let limit = || head.limit();
        let left = || high.saturating_sub(self.allowed.load(Relaxed)) >> list.order().get();
        let len = head.len();
        let wanted = (len + blocks).min(list.room());
        if limit() < wanted {
            if limit() + left() < wanted {
                self.forbid();
            }
            self.limit(list, wanted.min(limit() + left()));
        }
        limit() - len
    }

    /// A list may hold no more than it does.
    pub(super) fn close(&self, list: List) {
        self.limit(list, self.blocks(list));
    }

    /// No list may hold more than it does.
    pub(super) fn forbid(&self) {
        let pages = self.sum(|head| {
            let len = head.len();
            head.set_limit(len);
            len
        });
        self.allowed.store(pages, Relaxed);
    }

    /// Puts a block, also above what the CPU should keep; false if the list has no room.
    pub(crate) fn push_beyond(&self, list: List, frame: u32) -> bool {
        let head = self.head(list);
        let len = head.len();
        if len == head.limit() && len < list.room() {
            self.limit(list, len + 1);
        }
        self.push(list, frame)
    }

    /// The first list from a number on that holds something, in turn.
    pub(super) fn next_filled(&self, from: u8) -> Option<List> {
        let from = usize::from(from);
        let mut turns = (from..from + NR_LISTS).map(|i| List((i % NR_LISTS) as u8));
        turns.find(|list| self.blocks(*list) != 0)
    }

    /// True if a list has no room for more, whatever it may hold.
    pub(super) fn is_full(&self, list: List) -> bool {
        self.blocks(list) >= list.room()
    }

    /// Pages cached, and how many lists hold something.
    pub(super) fn tally(&self) -> (usize, usize) {
        let filled = self.heads.iter().filter(|head| head.len() != 0);
        (self.count(), filled.count())
    }

    /// The blocks of a list, the oldest first.
    #[inline]
    pub(crate) fn frames(&self, list: List) -> &[AtomicU32] {
        self.head(list).numbers()
    }

    /// Puts `n` blocks that follow each other; the first is the next to be taken. False, and
    /// nothing done, if the list may not hold them.
    #[inline]
    pub(crate) fn push_row(&self, list: List, frame: u32, n: usize) -> bool {
        let shift = list.order().get().into();
        self.head(list).move_in_row(frame, shift, n)
    }

    /// Takes the newest `n` blocks of a list out; all, if it has fewer.
    #[inline]
    pub(crate) fn drop_newest(&self, list: List, n: usize) {
        self.head(list).move_out_newest(n);
    }

    /// Takes the oldest `n` blocks of a list out; all, if it has fewer.
    pub(crate) fn drop_oldest(&self, list: List, n: usize) {
        self.head(list).move_out_oldest(n);
    }

    /// Shows every block of every list to `f`. Nobody may use the cache meanwhile.
    pub(crate) fn each(&self, mut f: impl FnMut(u32, Order)) {
        for list in List::all() {
            let head = self.head(list);
            for frame in head.numbers() {
                f(frame.load(Relaxed), list.order());
            }
        }
    }

    /// Blocks that fast paths took from a list, and that they put.
    pub(super) fn passed_quickly(&self, list: List) -> (u64, u64) {
        let head = self.head(list);
        (head.taken_count(), head.put_count())
    }

    /// Pages allocated from here, in all.
    pub(crate) fn alloc_pages(&self) -> u64 {
        let quick = self.sum(|head| head.taken_count() as usize) as u64;
        self.events.alloc_pages.get().wrapping_add(quick)
    }

    /// Pages freed to here, in all.
    pub(crate) fn free_pages(&self) -> u64 {
        let quick = self.sum(|head| head.put_count() as usize) as u64;
        self.events.free_pages.get().wrapping_add(quick)
    }

    /// Requests served that wanted this node.
    pub(crate) fn numa_hit(&self) -> u64 {
        let quick = self.heads.iter().map(Stock::taken_count);
        quick.fold(self.events.numa_hit.get(), u64::wrapping_add)
    }
}

/// What happened on one CPU in one zone (P615, P617), other than what lists count.
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

#[cfg(test)]
mod tests;
