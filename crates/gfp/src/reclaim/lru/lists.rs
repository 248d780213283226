//! The lists of one node: links through the slots, under one short lock.

use super::slots::{NONE, Slot, Slots};
use crate::flags::ZoneKind;
use crate::policy::reclaim::lru::{Costs, Kind};
use crate::sync::atomic::{AtomicIsize, AtomicUsize, Ordering::Relaxed};
use crate::sync::{Lock, Rank, WaitQueue};

/// Lists of a node: two of each kind, and one of pages that are not looked at.
pub(super) const LISTS: usize = 5;

/// One list.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct ListId(pub(super) u8);

impl ListId {
    /// Two of each kind.
    pub(super) const EVICTABLE: [ListId; 4] = [ListId(0), ListId(1), ListId(2), ListId(3)];
    pub(super) const UNEVICTABLE: ListId = ListId(4);

    pub(super) const fn inactive(kind: Kind) -> ListId {
        ListId((kind as u8) << 1)
    }

    pub(super) const fn active(kind: Kind) -> ListId {
        ListId((kind as u8) << 1 | 1)
    }

    /// The list that these marks belong to.
    pub(super) fn of(mark: super::marks::Mark) -> ListId {
        if mark.is_unevictable() {
            ListId::UNEVICTABLE
        } else if mark.is_active() {
            ListId::active(mark.kind())
        } else {
            ListId::inactive(mark.kind())
        }
    }
}

/// An end of a list.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Where new pages enter.
    Head,
    /// Where reclaim looks.
    Tail,
}

#[derive(Copy, Clone)]
struct Ends {
    head: u32,
    tail: u32,
}

/// What the lock guards.
pub(super) struct Links {
    ends: [Ends; LISTS],
    /// What giving pages up has cost lately.
    pub(super) costs: Costs,
}

impl Links {
    const fn new() -> Links {
        const EMPTY: Ends = Ends {
            head: NONE,
            tail: NONE,
        };
        Links {
            ends: [EMPTY; LISTS],
            costs: Costs {
                droppable: 0,
                storable: 0,
            },
        }
    }

    /// Links a page that is on no list.
    pub(super) fn push(&mut self, slots: &Slots, list: ListId, end: End, index: u32, slot: &Slot) {
        let ends = &mut self.ends[usize::from(list.0)];
        match end {
            End::Head => {
                slot.set_prev(NONE);
                slot.set_next(ends.head);
                match slots.get(ends.head) {
                    Some(head) if ends.head != NONE => head.set_prev(index),
                    _ => ends.tail = index,
                }
                ends.head = index;
            }
            End::Tail => {
                slot.set_next(NONE);
                slot.set_prev(ends.tail);
                match slots.get(ends.tail) {
                    Some(tail) if ends.tail != NONE => tail.set_next(index),
                    _ => ends.head = index,
                }
                ends.tail = index;
            }
        }
    }

    /// Unlinks a page of this list.
    pub(super) fn remove(&mut self, slots: &Slots, list: ListId, slot: &Slot) {
        let ends = &mut self.ends[usize::from(list.0)];
        let (next, prev) = (slot.next(), slot.prev());
        match slots.get(prev) {
            Some(before) if prev != NONE => before.set_next(next),
            _ => ends.head = next,
        }
        match slots.get(next) {
            Some(after) if next != NONE => after.set_prev(prev),
            _ => ends.tail = prev,
        }
    }

    /// The page that reclaim looks at next.
    pub(super) fn last(&self, list: ListId) -> Option<u32> {
        let tail = self.ends[usize::from(list.0)].tail;
        (tail != NONE).then_some(tail)
    }
}

/// The numbers of one zone's pages.
pub(super) struct ZoneSums {
    /// Pages on each list; changed under the lock.
    lists: [AtomicUsize; LISTS],
    /// Pages that must be written, and that are being written. What is counted off before it is
    /// counted is below zero for a moment.
    pub(super) dirty: AtomicIsize,
    pub(super) writing: AtomicIsize,
}

impl ZoneSums {
    const fn new() -> ZoneSums {
        ZoneSums {
            lists: [const { AtomicUsize::new(0) }; LISTS],
            dirty: AtomicIsize::new(0),
            writing: AtomicIsize::new(0),
        }
    }

    pub(super) fn pages(&self, list: ListId) -> usize {
        self.lists[usize::from(list.0)].load(Relaxed)
    }

    /// A page more, or less, on a list. The lock is held.
    pub(super) fn count(&self, list: ListId, change: isize) {
        let pages = &self.lists[usize::from(list.0)];
        pages.store(pages.load(Relaxed).wrapping_add_signed(change), Relaxed);
    }
}

/// The lists of one node.
pub(super) struct NodeLists {
    pub(super) links: Lock<Links, { Rank::Lru as u8 }>,
    pub(super) zones: [ZoneSums; ZoneKind::COUNT],
    /// Pages that reclaimers have taken off, by kind; changed under the lock.
    isolated: [AtomicUsize; 2],
    /// Who waits for pages to be put back.
    pub(super) put_back: WaitQueue,
    /// Who waits for a write to end, and how many have ended.
    pub(super) written: WaitQueue,
    pub(super) writes: AtomicUsize,
    /// Who waits for somebody to make progress, and how often somebody did.
    pub(super) progress: WaitQueue,
    pub(super) gains: AtomicUsize,
}

impl NodeLists {
    pub(super) const fn new() -> NodeLists {
        NodeLists {
            links: Lock::new(Links::new()),
            zones: [const { ZoneSums::new() }; ZoneKind::COUNT],
            isolated: [const { AtomicUsize::new(0) }; 2],
            put_back: WaitQueue::new(),
            written: WaitQueue::new(),
            writes: AtomicUsize::new(0),
            progress: WaitQueue::new(),
            gains: AtomicUsize::new(0),
        }
    }

    /// Pages on a list, of zones up to `highest`.
    pub(super) fn pages(&self, list: ListId, highest: ZoneKind) -> usize {
        let zones = &self.zones[..=highest as usize];
        zones.iter().map(|zone| zone.pages(list)).sum()
    }

    /// Pages that are taken off.
    pub(super) fn isolated(&self, kind: Kind) -> usize {
        self.isolated[kind as usize].load(Relaxed)
    }

    /// A page more, or less, is taken off. The lock is held.
    pub(super) fn count_isolated(&self, kind: Kind, change: isize) {
        let pages = &self.isolated[kind as usize];
        pages.store(pages.load(Relaxed).wrapping_add_signed(change), Relaxed);
    }
}
