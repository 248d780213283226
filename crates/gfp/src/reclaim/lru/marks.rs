//! What the lists know of one page: a word that anybody changes without a lock.
//!
//! | mark | says | changed by |
//! |---|---|---|
//! | `ON_LIST` | the page is linked into a list | who holds the lock of its node's lists |
//! | `TAKEN` | a reclaimer has it, and puts it back or frees it | who holds that lock |
//! | `ACTIVE`, `STORABLE`, `UNEVICTABLE` | which list | who holds that lock |
//! | `SECOND` | it was found used at the last look | who holds that lock |
//! | `ROTATE` | when it is written it is the next to go | who holds that lock; the end of a write |
//! | `USED` | it was used since the last look | anybody |
//! | `DIRTY`, `WRITING` | its content must be, is being written | anybody |
//!
//! 1. A page without `ON_LIST` and `TAKEN` is *unknown*: it has no marks, and gets none. So marks
//!    that are counted (`DIRTY`, `WRITING`) are counted off when the page is forgotten: who made
//!    the change is who counts it, and each change is one exchange of the word.
//! 2. All is `Relaxed`: marks are hints and sums. What is in the page, and who may use it, is
//!    ordered by its owner and by the frame's word.

use crate::policy::reclaim::lru::Kind;
use crate::sync::atomic::{AtomicU32, Ordering::Relaxed};

const ON_LIST: u32 = 1;
const TAKEN: u32 = 1 << 1;
const ACTIVE: u32 = 1 << 2;
const STORABLE: u32 = 1 << 3;
const SECOND: u32 = 1 << 4;
const ROTATE: u32 = 1 << 5;
const UNEVICTABLE: u32 = 1 << 6;
const USED: u32 = 1 << 8;
const DIRTY: u32 = 1 << 9;
const WRITING: u32 = 1 << 10;

/// A value of [`Marks`].
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark(u32);

impl Mark {
    /// The lists know the page.
    pub(super) const fn is_known(self) -> bool {
        self.0 & (ON_LIST | TAKEN) != 0
    }

    pub(super) const fn is_on_list(self) -> bool {
        self.0 & ON_LIST != 0
    }

    pub(super) const fn is_taken(self) -> bool {
        self.0 & TAKEN != 0
    }

    pub(super) const fn is_active(self) -> bool {
        self.0 & ACTIVE != 0
    }

    pub(super) const fn is_unevictable(self) -> bool {
        self.0 & UNEVICTABLE != 0
    }

    pub(super) const fn kind(self) -> Kind {
        match self.0 & STORABLE {
            0 => Kind::Droppable,
            _ => Kind::Storable,
        }
    }

    pub(super) const fn had_second_chance(self) -> bool {
        self.0 & SECOND != 0
    }

    pub(super) const fn is_used(self) -> bool {
        self.0 & USED != 0
    }

    pub(super) const fn is_dirty(self) -> bool {
        self.0 & DIRTY != 0
    }

    pub(super) const fn is_writing(self) -> bool {
        self.0 & WRITING != 0
    }

    pub(super) const fn rotates(self) -> bool {
        self.0 & ROTATE != 0
    }
}

/// Where a page goes back to.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Back {
    /// The inactive list, as it is.
    Inactive,
    /// The inactive list, with its second chance.
    SecondChance,
    /// The inactive list, and its tail when it is written.
    Rotate,
    /// The active list.
    Active,
    /// The list of those that are not looked at.
    Unevictable,
}

/// The marks of one page; all zero: unknown.
pub(super) struct Marks(AtomicU32);

impl Marks {
    /// Those of an unknown page.
    #[cfg(any(test, loom))]
    pub(super) fn new() -> Marks {
        Marks(AtomicU32::new(0))
    }

    pub(super) fn get(&self) -> Mark {
        Mark(self.0.load(Relaxed))
    }

    /// Changes the marks of a known page, if `next` changes anything. The old marks; `None` if
    /// nothing was changed.
    fn change(&self, next: impl Fn(u32) -> u32) -> Option<Mark> {
        let known = |old: u32| {
            let new = next(old);
            (Mark(old).is_known() && new != old).then_some(new)
        };
        self.0.fetch_update(Relaxed, Relaxed, known).map(Mark).ok()
    }

    /// An unknown page is put on the inactive list. The lock is held.
    pub(super) fn enter(&self, kind: Kind) {
        debug_assert!(!self.get().is_known());
        let list = match kind {
            Kind::Droppable => 0,
            Kind::Storable => STORABLE,
        };
        self.0.store(ON_LIST | list, Relaxed);
    }

    /// A page goes on with the marks of another, which [`Marks::leave`] gave. The lock is held.
    pub(super) fn enter_as(&self, like: Mark) {
        debug_assert!(!self.get().is_known());
        self.0.store(like.0 & !TAKEN | ON_LIST, Relaxed);
    }

    /// Forgets a page. What it was. The lock is held.
    pub(super) fn leave(&self) -> Mark {
        Mark(self.0.swap(0, Relaxed))
    }

    /// A page is taken off its list by a reclaimer. The lock is held.
    pub(super) fn take(&self) {
        self.change(|old| old & !ON_LIST | TAKEN);
    }

    /// A page that was taken goes back. What it is then. The lock is held.
    pub(super) fn put_back(&self, to: Back) -> Mark {
        let set = ON_LIST
            | match to {
                Back::Inactive => 0,
                Back::SecondChance => SECOND,
                Back::Rotate => ROTATE,
                Back::Active => ACTIVE,
                Back::Unevictable => UNEVICTABLE,
            };
        let clear = TAKEN
            | match to {
                Back::Inactive | Back::Rotate => 0,
                // The use was counted; the next one is another.
                Back::SecondChance => USED,
                Back::Active | Back::Unevictable => USED | SECOND,
            };
        let next = |old| match old & WRITING {
            // It is written by now.
            0 => (old & !clear | set) & !ROTATE,
            _ => old & !clear | set,
        };
        self.change(next);
        self.get()
    }

    /// An active page becomes inactive. If it was used it gets its second look there. The lock is
    /// held.
    pub(super) fn deactivate(&self) {
        self.change(|old| old & !(ACTIVE | SECOND));
    }

    /// Notes a use.
    pub(super) fn note_use(&self) {
        if !self.get().is_used() {
            self.change(|old| old | USED);
        }
    }

    /// The content must be written. True if that is new.
    pub(super) fn note_dirty(&self) -> bool {
        self.change(|old| old | DIRTY).is_some()
    }

    /// The content needs not be written after all. True if that is new.
    pub(super) fn note_clean(&self) -> bool {
        self.change(|old| old & !DIRTY).is_some()
    }

    /// The content is being written. What it was, unless that is under way already.
    pub(super) fn begin_write(&self) -> Option<Mark> {
        let begin = |old| match old & WRITING {
            0 => old & !DIRTY | WRITING,
            _ => old,
        };
        self.change(begin)
    }

    /// The content is written. What it was, if it was being written.
    pub(super) fn end_write(&self) -> Option<Mark> {
        let end = |old| match old & WRITING {
            0 => old,
            _ => old & !(WRITING | ROTATE),
        };
        self.change(end)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_page_gets_no_marks() {
        let marks = Marks::new();
        marks.note_use();
        assert!(!marks.note_dirty() && !marks.note_clean());
        assert!(marks.begin_write().is_none() && marks.end_write().is_none());
        assert_eq!(marks.get(), Mark(0));
    }

    #[test]
    fn each_change_is_told_once_and_leaving_tells_what_is_left() {
        let marks = Marks::new();
        marks.enter(Kind::Storable);
        assert!(marks.note_dirty() && !marks.note_dirty());
        let old = marks.begin_write().unwrap();
        assert!(old.is_dirty() && !old.is_writing() && old.kind() == Kind::Storable);
        assert!(marks.begin_write().is_none());
        assert!(marks.note_dirty(), "it is changed while it is written");
        assert!(marks.end_write().is_some() && marks.end_write().is_none());
        let left = marks.leave();
        assert!(left.is_dirty() && !left.is_writing() && left.is_on_list());
        assert_eq!(marks.leave(), Mark(0));
    }

    #[test]
    fn a_use_is_kept_while_a_reclaimer_has_the_page_and_ends_with_its_reward() {
        let marks = Marks::new();
        marks.enter(Kind::Droppable);
        marks.take();
        assert!(marks.get().is_taken() && !marks.get().is_on_list());
        marks.note_use();
        assert!(marks.put_back(Back::Inactive).is_used());
        marks.take();
        let second = marks.put_back(Back::SecondChance);
        assert!(!second.is_used() && second.had_second_chance() && !second.is_active());
        marks.take();
        let active = marks.put_back(Back::Active);
        assert!(active.is_active() && !active.had_second_chance() && active.is_on_list());
        marks.deactivate();
        assert!(!marks.get().is_active());
    }

    #[test]
    fn the_end_of_a_write_says_once_that_the_page_is_next() {
        let marks = Marks::new();
        marks.enter(Kind::Droppable);
        marks.take();
        assert!(marks.begin_write().is_some());
        marks.put_back(Back::Rotate);
        assert!(marks.end_write().unwrap().rotates());
        assert!(!marks.get().rotates());
    }
}
