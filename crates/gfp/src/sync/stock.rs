//! What each CPU has at hand: lists of numbers, from which it takes and to which it puts one in a
//! few instructions.
//!
//! 1. **A stock** is one list, the newest number last. How many numbers it holds is not written
//!    anywhere: it is what was put, less what was taken. So taking one ends with one store, of
//!    `taken`, and putting one with one store, of `put`; each both publishes and counts. What is
//!    moved in or out by others than these two is in `moved`, so `put` and `taken` only grow.
//! 2. **Latency.** A CPU forwards what it stored to a load of the same word in some 8 cycles. With
//!    one word for the length, taking waits for the last putting and the other way round: twice
//!    that for each pair. Here each of the two words waits for itself, and both at once.
//! 3. **A shelf** is what one CPU has: a table of what is usual, and stocks behind it, each at the
//!    same place ([`At`]) in every CPU's. [`Shelves`] has one a CPU, null until it is made.
//! 4. **What is usual.** Which stock a number is put to is decided by a *key* in memory, through
//!    tables: a chain of loads that begins at the number and ends at the stock's address, so that
//!    the next taking would wait for it. A shelf remembers a key and its stock for each of a few
//!    hints; a put compares the key, which only a branch waits for, and goes on with the stock that
//!    is usual. If the branch was wrong nothing is done, and the slow way looks into the tables and
//!    says what is usual from now on. The same key has the same place at all times and on every
//!    CPU, so nothing can be out of date.
//! 5. **Who may do what.** All of it is its CPU's, who is inside a section ([INV-PCPU-1]), so loads
//!    and stores are plain; they are atomics because statistics are read from elsewhere, which may
//!    find `put` and `taken` of two moments.

use super::Carved;
use super::atomic::Ordering::{Acquire, Relaxed, Release};
use super::atomic::{AtomicPtr, AtomicU16, AtomicU32, AtomicU64};
use crate::frame::CpuId;

/// Places of stocks are multiples of this.
const UNIT: u32 = 32;

/// Where a stock is in each shelf.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct At(u32);

impl At {
    /// No place; with whatever is added to it, even itself, it is none.
    pub(crate) const NOWHERE: At = At(1 << 30);
    /// Places are below.
    const END: u32 = UNIT << u16::BITS;

    /// The place, if it is one.
    #[inline(always)]
    pub(crate) fn somewhere(self) -> Option<At> {
        (self.0 < At::NOWHERE.0).then_some(self)
    }

    /// So many bytes behind the start.
    ///
    /// # Panics
    /// If stocks cannot be there: too far behind, or not at a multiple of a stock's size.
    pub(crate) const fn new(bytes: usize) -> At {
        assert!(bytes < At::END as usize && bytes.is_multiple_of(UNIT as usize));
        At(bytes as u32)
    }

    /// What [`At::bytes`] said.
    #[inline(always)]
    pub(crate) const fn from_bytes(bytes: u32) -> At {
        At(bytes)
    }

    /// In bytes from the start of the shelf.
    #[inline(always)]
    pub const fn bytes(self) -> u32 {
        self.0
    }

    /// Further behind.
    #[inline(always)]
    pub(crate) const fn add(self, bytes: u32) -> At {
        At(self.0.wrapping_add(bytes))
    }
}

/// One list: its newest number is `entries[len - 1]`.
///
/// [INV-PCPU-3] The length is at most `limit`, and `entries` has room for `limit` of them.
#[repr(C)]
#[derive(Debug)]
pub struct Stock {
    /// Numbers that were put, and taken.
    put: AtomicU64,
    taken: AtomicU64,
    entries: AtomicPtr<AtomicU32>,
    limit: AtomicU32,
    /// Numbers that were moved in, less those that were moved out.
    moved: AtomicU32,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Stock>() == UNIT as usize);

impl Stock {
    /// An empty one that may hold nothing.
    pub(crate) fn new() -> Stock {
        Stock {
            put: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            entries: AtomicPtr::new(core::ptr::dangling_mut()),
            limit: AtomicU32::new(0),
            moved: AtomicU32::new(0),
        }
    }

    /// Gives it room for its numbers.
    ///
    /// # Safety
    /// [INV-PCPU-3] There is room for as many as it holds, and as any limit says from now on, until
    /// it is given another.
    pub(crate) unsafe fn settle(&self, entries: *mut AtomicU32) {
        self.entries.store(entries, Relaxed);
    }

    /// How many numbers it holds. Wrong, as large as it may be, for who does not own it.
    #[inline(always)]
    pub(crate) fn len(&self) -> usize {
        let put = self.put.load(Relaxed) as u32;
        let there = put.wrapping_add(self.moved.load(Relaxed));
        there.wrapping_sub(self.taken.load(Relaxed) as u32) as usize
    }

    /// How many it may hold.
    #[inline]
    pub(crate) fn limit(&self) -> usize {
        self.limit.load(Relaxed) as usize
    }

    /// Changes that. [INV-PCPU-3] Not below what it holds, nor above its room.
    #[inline]
    pub(crate) fn set_limit(&self, limit: usize) {
        debug_assert!(limit >= self.len());
        self.limit.store(limit as u32, Relaxed);
    }

    /// Numbers that were put.
    pub(crate) fn put_count(&self) -> u64 {
        self.put.load(Relaxed)
    }

    /// Numbers that were taken.
    pub(crate) fn taken_count(&self) -> u64 {
        self.taken.load(Relaxed)
    }

    /// The place of number `i`.
    ///
    /// # Safety
    /// `i` must be below the limit.
    #[inline(always)]
    pub(crate) unsafe fn entry(&self, i: usize) -> &AtomicU32 {
        // SAFETY: [INV-PCPU-3] there is room for as many as the limit says.
        unsafe { &*self.entries.load(Relaxed).add(i) }
    }

    #[inline(always)]
    fn last(&self) -> Option<u32> {
        let len = self.len();
        if len == 0 {
            return None;
        }
        // SAFETY: [INV-PCPU-3] below the length, so below the limit.
        Some(unsafe { self.entry(len - 1) }.load(Relaxed))
    }

    #[inline(always)]
    fn append(&self, number: u32) -> bool {
        let len = self.len();
        if len >= self.limit() {
            return false;
        }
        // SAFETY: below the limit.
        unsafe { self.entry(len) }.store(number, Relaxed);
        true
    }

    /// Takes the newest number, and counts it.
    #[inline(always)]
    pub(crate) fn take(&self) -> Option<u32> {
        let number = self.last()?;
        // The store that publishes: before it nothing has happened.
        let taken = self.taken.load(Relaxed);
        self.taken.store(taken.wrapping_add(1), Relaxed);
        Some(number)
    }

    /// Puts a number, and counts it; false if it holds as many as it may.
    #[inline(always)]
    pub(crate) fn put(&self, number: u32) -> bool {
        let room = self.append(number);
        if room {
            let put = self.put.load(Relaxed);
            self.put.store(put.wrapping_add(1), Relaxed);
        }
        room
    }

    /// [`Stock::take`], not counted.
    #[inline]
    pub(crate) fn move_out(&self) -> Option<u32> {
        let number = self.last()?;
        self.move_by(u32::MAX);
        Some(number)
    }

    /// [`Stock::put`], not counted.
    #[inline]
    pub(crate) fn move_in(&self, number: u32) -> bool {
        let room = self.append(number);
        if room {
            self.move_by(1);
        }
        room
    }

    /// [`Stock::move_in`] of `n` numbers, `first` and each `1 << shift` more than the one before;
    /// `first` becomes the newest. False, and nothing done, if it may not hold them all.
    #[inline]
    pub(crate) fn move_in_row(&self, first: u32, shift: u32, n: usize) -> bool {
        let len = self.len();
        if n > self.limit() - len {
            return false;
        }
        let entries = self.entries.load(Relaxed);
        // SAFETY: [INV-PCPU-3] there is room for as many as the limit says.
        let free = unsafe { core::slice::from_raw_parts(entries.add(len), n) };
        let mut number = first;
        for entry in free.iter().rev() {
            entry.store(number, Relaxed);
            number = number.wrapping_add(1 << shift);
        }
        self.move_by(n as u32);
        true
    }

    /// What it holds, the oldest first.
    #[inline]
    pub(crate) fn numbers(&self) -> &[AtomicU32] {
        // SAFETY: [INV-PCPU-3] there is room for as many as the limit says, and it holds no more.
        unsafe { core::slice::from_raw_parts(self.entries.load(Relaxed), self.len()) }
    }

    /// Takes the oldest `n` out, or all; not counted.
    pub(crate) fn move_out_oldest(&self, n: usize) {
        let numbers = self.numbers();
        let out = n.min(numbers.len());
        for (to, from) in numbers.iter().zip(&numbers[out..]) {
            to.store(from.load(Relaxed), Relaxed);
        }
        self.move_by((out as u32).wrapping_neg());
    }

    /// Takes the newest `n` out, or all; not counted.
    #[inline]
    pub(crate) fn move_out_newest(&self, n: usize) {
        let out = n.min(self.len());
        self.move_by((out as u32).wrapping_neg());
    }

    #[inline]
    fn move_by(&self, numbers: u32) {
        let moved = self.moved.load(Relaxed).wrapping_add(numbers);
        self.moved.store(moved, Relaxed);
    }
}

/// Where things are, for machines that have sequences of their own for the two operations.
pub mod layout {
    use super::{Shelf, Stock, Usual};
    use core::mem::offset_of;

    /// In a stock, 8 bytes: numbers that were put. The store that commits a put adds 1.
    pub const PUT: usize = offset_of!(Stock, put);
    /// In a stock, 8 bytes: numbers that were taken. The store that commits a taking adds 1.
    pub const TAKEN: usize = offset_of!(Stock, taken);
    /// In a stock, 4 bytes: the length is the lower halves of `PUT` + `MOVED` - `TAKEN`.
    pub const MOVED: usize = offset_of!(Stock, moved);
    /// In a stock, 4 bytes: the length stays at most this.
    pub const LIMIT: usize = offset_of!(Stock, limit);
    /// In a stock, a pointer to its numbers, of 4 bytes each.
    pub const ENTRIES: usize = offset_of!(Stock, entries);
    /// In a shelf: for each hint 4 bytes, the key and behind it the place.
    pub const USUAL: usize = offset_of!(Shelf, usual);
    /// From the key to the place, in bytes; both have 2.
    pub const USUAL_AT: usize = offset_of!(Usual, at);
    /// The place is in units of 1 << this.
    pub const UNIT_SHIFT: u32 = super::UNIT.trailing_zeros();
}

/// Bits of a key.
pub const KEY: u16 = 0x7ff;
/// Hints that a shelf has.
pub const HINTS: usize = 16;

/// The stock that numbers with a key are put to.
#[repr(C)]
struct Usual {
    /// In the bits of [`KEY`]; others: none yet.
    key: AtomicU16,
    /// Its place, in [`UNIT`]s.
    at: AtomicU16,
}

/// The start of what one CPU has; its stocks follow.
#[repr(C, align(64))]
pub struct Shelf {
    usual: [Usual; HINTS],
}

impl Shelf {
    /// One on which nothing is usual.
    pub(crate) fn new() -> Shelf {
        Shelf {
            usual: core::array::from_fn(|_| Usual {
                key: AtomicU16::new(!0),
                at: AtomicU16::new(0),
            }),
        }
    }

    /// Says where numbers with a key go, of those that are put with a hint.
    pub(crate) fn note(&self, hint: usize, key: u16, at: At) {
        if let Some(usual) = self.usual.get(hint) {
            usual.key.store(key & KEY, Relaxed);
            usual.at.store((at.0 / UNIT) as u16, Relaxed);
        }
    }

    /// Where a number with this hint goes, if its key is what is usual.
    #[inline(always)]
    fn usual(&self, hint: usize, key: u16) -> Option<At> {
        let usual = &self.usual[hint % HINTS];
        let same = usual.key.load(Relaxed) == key & KEY;
        same.then(|| At(u32::from(usual.at.load(Relaxed)) * UNIT))
    }
}

/// What is to be put, and where it belongs.
#[derive(Copy, Clone, Debug)]
pub struct Put<'a> {
    /// Which of the things that are usual, below [`HINTS`].
    pub hint: usize,
    /// What says where the number belongs.
    pub key: &'a AtomicU16,
    /// The number.
    pub number: u32,
    /// The word of the thing that the number stands for.
    pub word: &'a AtomicU64,
    /// What that word is.
    pub unmarked: u64,
    /// What it is to be while the number is here.
    pub marked: u64,
}

/// The shelves of all CPUs.
///
/// [INV-PCPU-2] A shelf, once published, stays where it is until the machine is dropped.
/// [INV-PCPU-4] There is a place for each id that the platform can give, and each [`At`] that is
/// used with it is that of a stock in every shelf.
pub struct Shelves {
    of: Carved<AtomicPtr<Shelf>>,
}

impl Shelves {
    /// # Safety
    /// [INV-PCPU-4] `of` has a place for each id of the platform, all null.
    pub(crate) const unsafe fn new(of: Carved<AtomicPtr<Shelf>>) -> Shelves {
        Shelves { of }
    }

    /// CPU ids that there are.
    pub(crate) fn len(&self) -> usize {
        self.of.len()
    }

    /// The shelf of a CPU; null until its first use.
    #[inline]
    pub fn of(&self, cpu: CpuId) -> *mut Shelf {
        let place = self.of.get(cpu.0 as usize);
        // Acquire: pairs with the Release in `publish`, for readers on other CPUs.
        place.map_or(core::ptr::null_mut(), |shelf| shelf.load(Acquire))
    }

    /// Makes a CPU's shelf known.
    ///
    /// # Safety
    /// [INV-PCPU-2], [INV-PCPU-4] The caller is inside a section of that CPU; the shelf and its
    /// stocks are written, and stay.
    pub(crate) unsafe fn publish(&self, cpu: CpuId, shelf: *mut Shelf) {
        if let Some(place) = self.of.get(cpu.0 as usize) {
            // Release: the shelf is written before another CPU finds it.
            place.store(shelf, Release);
        }
    }

    /// Takes the newest number of a stock.
    ///
    /// # Safety
    /// [INV-PCPU-1] The caller is inside a section of `cpu`, an id of the platform; [INV-PCPU-4]
    /// `at` is that of a stock.
    #[inline(always)]
    pub unsafe fn take(&self, cpu: CpuId, at: At) -> Option<u32> {
        // SAFETY: promised by the caller.
        unsafe { self.stock(self.here(cpu)?, at).take() }
    }

    /// Puts a number where that is usual; false, and nothing was done, if that is not usual, or the
    /// stock holds as many as it may.
    ///
    /// # Safety
    /// [INV-PCPU-1] The caller is inside a section of `cpu`, an id of the platform.
    #[inline(always)]
    pub unsafe fn put(&self, cpu: CpuId, put: Put<'_>) -> bool {
        // SAFETY: promised by the caller.
        let Some(shelf) = (unsafe { self.here(cpu) }) else {
            return false;
        };
        // SAFETY: [INV-PCPU-2] it is written, and stays.
        let usual = unsafe { &*shelf }.usual(put.hint, put.key.load(Relaxed));
        let Some(at) = usual else {
            return false;
        };
        // SAFETY: [INV-PCPU-4] what is usual is a stock.
        let done = unsafe { self.stock(shelf, at) }.put(put.number);
        if done {
            put.word.store(put.marked, Relaxed);
        }
        done
    }

    /// # Safety
    /// The caller is inside a section of `cpu`, an id of the platform.
    #[inline(always)]
    unsafe fn here(&self, cpu: CpuId) -> Option<*mut Shelf> {
        debug_assert!((cpu.0 as usize) < self.of.len());
        // SAFETY: [INV-PCPU-4] there is a place for each id.
        let place = unsafe { self.of.get_unchecked(cpu.0 as usize) };
        // Relaxed: this CPU stored it, or another in its place, which its section is behind.
        let shelf = place.load(Relaxed);
        (!shelf.is_null()).then_some(shelf)
    }

    /// # Safety
    /// [INV-PCPU-4] A shelf of these, and the place of a stock there.
    #[inline(always)]
    unsafe fn stock<'a>(&self, shelf: *mut Shelf, at: At) -> &'a Stock {
        // SAFETY: [INV-PCPU-2], [INV-PCPU-4] it is there, and stays.
        unsafe { &*shelf.byte_add(at.0 as usize).cast::<Stock>() }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
