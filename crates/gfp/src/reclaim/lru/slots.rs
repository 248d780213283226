//! A slot for each frame that was ever on a list, in pages of 256 that are taken when needed.
//!
//! ```text
//!   root 64 --> upper 512 --> lower 512 --> leaf 256 slots: | next | prev | marks | - |
//!   index of a frame (32 bits):  31..26  |  25..17  |  16..8  |  7..0
//! ```
//!
//! A machine without lists pays the root. Pages are linked as `link` does it, so a slot is found
//! without a lock.

use super::link::{Nowhere, Source, follow};
use super::marks::Marks;
use crate::frame::PAGE_SIZE;
use crate::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering::Relaxed};
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
        let upper = unsafe { follow(root, source, |_| ()) }?;
        let entry = &upper[part(LEAF_BITS + TABLE_BITS, TABLE_BITS)];
        // SAFETY: as above.
        let lower = unsafe { follow(entry, source, |_| ()) }?;
        // SAFETY: as above.
        let leaf = unsafe { follow(&lower[part(LEAF_BITS, TABLE_BITS)], source, |_| ()) }?;
        leaf.get(part(0, LEAF_BITS))
    }
}
