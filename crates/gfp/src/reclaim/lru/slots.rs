//! A slot for each frame that was ever on a list, in pages of 256 that are taken when needed.
//!
//! ```text
//!   root 64 --> upper 512 --> lower 512 --> leaf 256 slots: | next | prev | marks | - |
//!   index of a frame (32 bits):  31..26  |  25..17  |  16..8  |  7..0
//! ```
//!
//! A machine without lists pays the root. Pages are linked by one exchange and kept, so a slot is
//! found without a lock.

use super::marks::Marks;
use crate::frame::PAGE_SIZE;
use crate::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering, Ordering::Relaxed};
use core::ptr::{NonNull, null_mut};

const LEAF_BITS: u32 = 8;
const TABLE_BITS: u32 = 9;
const ROOT_BITS: u32 = 32 - 2 * TABLE_BITS - LEAF_BITS;

/// No frame: the frame table has fewer frames ([`BootError::SpanTooLarge`]).
///
/// [`BootError::SpanTooLarge`]: crate::page::BootError::SpanTooLarge
pub(super) const NONE: u32 = u32::MAX;

/// One frame: its neighbours, while it is on a list, and its marks.
#[repr(C, align(16))]
pub(super) struct Slot {
    /// Towards the tail. The links are read and written under the lock of the lists.
    next: AtomicU32,
    /// Towards the head.
    prev: AtomicU32,
    pub(super) marks: Marks,
}

type Leaf = [Slot; 1 << LEAF_BITS];
type Lower = [AtomicPtr<Leaf>; 1 << TABLE_BITS];
type Upper = [AtomicPtr<Lower>; 1 << TABLE_BITS];

const _: () = assert!(size_of::<Leaf>() == PAGE_SIZE && size_of::<Lower>() == PAGE_SIZE);

impl Slot {
    pub(super) fn next(&self) -> u32 {
        self.next.load(Relaxed)
    }

    pub(super) fn prev(&self) -> u32 {
        self.prev.load(Relaxed)
    }

    pub(super) fn set_next(&self, index: u32) {
        self.next.store(index, Relaxed);
    }

    pub(super) fn set_prev(&self, index: u32) {
        self.prev.store(index, Relaxed);
    }
}

/// All slots of a machine.
pub(super) struct Slots {
    root: [AtomicPtr<Upper>; 1 << ROOT_BITS],
    /// Pages that are linked.
    pages: AtomicUsize,
}

/// Where pages of slots come from, and go back to if somebody else was first.
pub(super) trait Source {
    /// A page that reads as zero.
    fn take(&self) -> Option<NonNull<u8>>;
    /// A page that was not needed.
    fn give_back(&self, page: NonNull<u8>);
}

/// Counts the pages that a source gave for good.
struct Counting<'a, S> {
    source: &'a S,
    pages: &'a AtomicUsize,
}

impl<S: Source> Source for Counting<'_, S> {
    fn take(&self) -> Option<NonNull<u8>> {
        let page = self.source.take()?;
        self.pages.fetch_add(1, Relaxed);
        Some(page)
    }

    fn give_back(&self, page: NonNull<u8>) {
        self.pages.fetch_sub(1, Relaxed);
        self.source.give_back(page);
    }
}

/// Nowhere: what is not there is not made.
struct Nowhere;

impl Source for Nowhere {
    fn take(&self) -> Option<NonNull<u8>> {
        None
    }

    fn give_back(&self, _: NonNull<u8>) {}
}

/// What an entry points to; made if it is not there, as far as `source` can.
///
/// # Safety
/// [INV-LRU-1] Whatever is linked at `entry` was linked here, and a page of zeroes is a valid `T`.
unsafe fn follow<'s, T>(entry: &'s AtomicPtr<T>, source: &impl Source) -> Option<&'s T> {
    const { assert!(size_of::<T>() == PAGE_SIZE && align_of::<T>() <= PAGE_SIZE) };
    // Acquire: pairs with the Release below; the page is seen as zeroes.
    let there = entry.load(Ordering::Acquire);
    // SAFETY: [INV-LRU-1] what is linked is a valid `T` and kept.
    if let Some(there) = unsafe { there.as_ref() } {
        return Some(there);
    }
    let page = source.take()?;
    let new = page.cast::<T>().as_ptr();
    // Release: pairs with the Acquire above, and, when it fails, Acquire with the winner's Release.
    match entry.compare_exchange(null_mut(), new, Ordering::Release, Ordering::Acquire) {
        // SAFETY: [INV-LRU-1] a page of zeroes of our own, linked now and kept.
        Ok(_) => Some(unsafe { &*new }),
        Err(theirs) => {
            source.give_back(page);
            // SAFETY: [INV-LRU-1] as above.
            unsafe { theirs.as_ref() }
        }
    }
}

impl Slots {
    pub(super) const fn new() -> Slots {
        Slots {
            root: [const { AtomicPtr::new(null_mut()) }; 1 << ROOT_BITS],
            pages: AtomicUsize::new(0),
        }
    }

    /// The slot of a frame, if it has one.
    pub(super) fn get(&self, index: u32) -> Option<&Slot> {
        self.find(index, &Nowhere)
    }

    /// The slot of a frame; `None` if there was no memory for it.
    pub(super) fn make(&self, index: u32, source: &impl Source) -> Option<&Slot> {
        let pages = &self.pages;
        self.find(index, &Counting { source, pages })
    }

    /// Pages that the slots take up.
    pub(super) fn pages(&self) -> usize {
        self.pages.load(Relaxed)
    }

    fn find(&self, index: u32, source: &impl Source) -> Option<&Slot> {
        let part = |shift: u32, bits: u32| (index >> shift) as usize & ((1 << bits) - 1);
        let root = &self.root[part(LEAF_BITS + 2 * TABLE_BITS, ROOT_BITS)];
        // SAFETY: [INV-LRU-1] entries are linked by `follow` only; null pointers, and slots that
        // are unknown, are zeroes.
        let upper = unsafe { follow(root, source) }?;
        let entry = &upper[part(LEAF_BITS + TABLE_BITS, TABLE_BITS)];
        // SAFETY: as above.
        let lower = unsafe { follow(entry, source) }?;
        // SAFETY: as above.
        let leaf = unsafe { follow(&lower[part(LEAF_BITS, TABLE_BITS)], source) }?;
        leaf.get(part(0, LEAF_BITS))
    }
}
