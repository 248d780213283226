//! Per-CPU page caches: plain arrays of frame numbers in front of a zone.
//!
//! 1. One [`ZoneCache`] a (CPU, zone). Its owner is whoever holds the CPU's section ([INV-PCPU-1]),
//!    so every access is a plain load or store; the fields are atomics only because statistics are
//!    read from elsewhere.
//! 2. A *list* holds the blocks of one order and type, the newest last. Its *limit* is how many it
//!    may hold now; the limits of all lists together are never more than what the CPU may keep, so
//!    that a free looks at one number.
//! 3. Blocks that are of no list's order or type belong to a list that may hold nothing: fast paths
//!    need not ask.
//! 4. What passes a list on a fast path is counted by the list, in blocks; everything else is
//!    counted in [`Events`].

use super::sizing::Adapted;
use super::stand::Stands;
use crate::flags::MigrateType;
use crate::frame::Order;
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize};

/// The orders that are cached. Orders 6..=8 and 10 are not.
const ORDERS: [u8; 7] = [0, 1, 2, 3, 4, 5, 9];
/// How many blocks of each such order have room in the cache itself, a type: about half a MiB an
/// order, and two huge pages.
const ROOM: [usize; NR_ORDERS] = [128, 64, 32, 16, 8, 4, 2];
const NR_ORDERS: usize = ORDERS.len();
const TYPES: usize = MigrateType::PCP_TYPES;
/// Lists that can hold something.
pub(super) const NR_LISTS: usize = NR_ORDERS * TYPES;
/// The list that holds nothing.
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

    /// True if blocks of this order are cached.
    #[inline]
    pub(crate) fn has(order: Order) -> bool {
        List::or_nowhere(order, MigrateType::Movable) != NOWHERE
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

/// One list: its newest block is `entries[len - 1]`.
///
/// [INV-PCPU-3] `len <= limit`, and `entries` has room for `limit` of them.
#[repr(C)]
struct Head {
    len: AtomicU32,
    limit: AtomicU32,
    entries: AtomicPtr<AtomicU32>,
    /// Blocks that fast paths took.
    taken: Counter,
    /// Blocks that fast paths put.
    put: Counter,
}

const _: () = assert!(size_of::<Head>() == 32);

impl Head {
    const fn new() -> Head {
        Head {
            len: AtomicU32::new(0),
            limit: AtomicU32::new(0),
            entries: AtomicPtr::new(core::ptr::null_mut()),
            taken: Counter::new(),
            put: Counter::new(),
        }
    }

    #[inline(always)]
    fn len(&self) -> usize {
        self.len.load(Relaxed) as usize
    }

    /// The place of entry `i`.
    ///
    /// # Safety
    /// `i` must be below the limit.
    #[inline(always)]
    unsafe fn entry(&self, i: usize) -> &AtomicU32 {
        // SAFETY: [INV-PCPU-3] there is room for as many as the limit says.
        unsafe { &*self.entries.load(Relaxed).add(i) }
    }

    /// Takes the block that was put last.
    #[inline(always)]
    fn pop(&self) -> Option<u32> {
        let top = self.len().checked_sub(1)?;
        // SAFETY: [INV-PCPU-3] below the length, so below the limit.
        let frame = unsafe { self.entry(top) }.load(Relaxed);
        // The store that publishes: before it nothing has happened.
        self.len.store(top as u32, Relaxed);
        Some(frame)
    }

    /// Puts a block; false if the list holds as many as it may.
    #[inline(always)]
    fn push(&self, frame: u32) -> bool {
        let len = self.len.load(Relaxed);
        if len >= self.limit.load(Relaxed) {
            return false;
        }
        // SAFETY: below the limit.
        unsafe { self.entry(len as usize) }.store(frame, Relaxed);
        self.len.store(len + 1, Relaxed);
        true
    }
}

/// One CPU's cached blocks and event counts of one zone.
#[repr(C)]
pub(crate) struct ZoneCache {
    heads: [Head; NR_LISTS + 1],
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
            heads: [const { Head::new() }; NR_LISTS + 1],
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
            head.entries.store(entries, Relaxed);
        }
    }

    #[inline]
    fn head(&self, list: List) -> &Head {
        &self.heads[usize::from(list.0)]
    }

    /// Pages cached.
    pub(crate) fn count(&self) -> usize {
        self.sum(Head::len)
    }

    /// In pages: blocks of each list, however they are counted.
    fn sum(&self, blocks: impl Fn(&Head) -> usize) -> usize {
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
        let more = limit.wrapping_sub(head.limit.load(Relaxed) as usize);
        let pages = more.wrapping_mul(list.order().pages());
        let allowed = self.allowed.load(Relaxed).wrapping_add(pages);
        self.allowed.store(allowed, Relaxed);
        head.limit.store(limit as u32, Relaxed);
    }

    /// Takes the block that was put last.
    #[inline]
    pub(crate) fn pop(&self, list: List) -> Option<u32> {
        self.head(list).pop()
    }

    /// Puts a block; false if the list holds as many as it may.
    #[inline]
    pub(crate) fn push(&self, list: List, frame: u32) -> bool {
        self.head(list).push(frame)
    }

    /// [`ZoneCache::pop`], counted as allocated on the node that was wanted.
    #[inline(always)]
    pub(crate) fn pop_counted(&self, list: List) -> Option<u32> {
        let head = self.heads.get(usize::from(list.0))?;
        let frame = head.pop()?;
        head.taken.add(1);
        Some(frame)
    }

    /// [`ZoneCache::push`], counted as freed.
    #[inline(always)]
    pub(crate) fn push_counted(&self, list: List, frame: u32) -> bool {
        let Some(head) = self.heads.get(usize::from(list.0)) else {
            return false;
        };
        let pushed = head.push(frame);
        if pushed {
            head.put.add(1);
        }
        pushed
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
        let limit = || head.limit.load(Relaxed) as usize;
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
        for head in &self.heads {
            head.limit.store(head.len.load(Relaxed), Relaxed);
        }
        self.allowed.store(self.count(), Relaxed);
    }

    /// Puts a block, also above what the CPU should keep; false if the list has no room.
    pub(crate) fn push_beyond(&self, list: List, frame: u32) -> bool {
        let head = self.head(list);
        let len = head.len();
        if len == head.limit.load(Relaxed) as usize && len < list.room() {
            self.limit(list, len + 1);
        }
        head.push(frame)
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

    /// The block of a list that has been there for longer than all but `i` others.
    #[inline]
    pub(crate) fn peek(&self, list: List, i: usize) -> Option<u32> {
        let head = self.head(list);
        // SAFETY: below the length, so below the limit.
        (i < head.len()).then(|| unsafe { head.entry(i) }.load(Relaxed))
    }

    /// Takes the oldest `n` blocks of a list out; all, if it has fewer.
    pub(crate) fn drop_oldest(&self, list: List, n: usize) {
        let head = self.head(list);
        let len = head.len();
        let out = n.min(len);
        // SAFETY: below the length, so below the limit.
        let entry = |i: usize| unsafe { head.entry(i) };
        for i in out..len {
            entry(i - out).store(entry(i).load(Relaxed), Relaxed);
        }
        head.len.store((len - out) as u32, Relaxed);
    }

    /// Shows every block of every list to `f`. Nobody may use the cache meanwhile.
    pub(crate) fn each(&self, mut f: impl FnMut(u32, Order)) {
        for list in List::all() {
            let head = self.head(list);
            for i in 0..head.len() {
                // SAFETY: below the length, so below the limit.
                f(unsafe { head.entry(i) }.load(Relaxed), list.order());
            }
        }
    }

    /// Blocks that fast paths took from a list, and that they put.
    pub(super) fn passed_quickly(&self, list: List) -> (u64, u64) {
        let head = self.head(list);
        (head.taken.get(), head.put.get())
    }

    /// Pages allocated from here, in all.
    pub(crate) fn alloc_pages(&self) -> u64 {
        let quick = self.sum(|head| head.taken.get() as usize) as u64;
        self.events.alloc_pages.get().wrapping_add(quick)
    }

    /// Pages freed to here, in all.
    pub(crate) fn free_pages(&self) -> u64 {
        let quick = self.sum(|head| head.put.get() as usize) as u64;
        self.events.free_pages.get().wrapping_add(quick)
    }

    /// Requests served that wanted this node.
    pub(crate) fn numa_hit(&self) -> u64 {
        let quick = self.heads.iter().map(|head| head.taken.get());
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
    const fn new() -> Counter {
        Counter(AtomicU64::new(0))
    }

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
