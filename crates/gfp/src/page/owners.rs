//! The places of page owners: who may be asked to move pages, and when he may go.
//!
//! ```text
//!   63            32 31              2 1    0
//!  +----------------+-----------------+------+     +-------+
//!  | pages          | generation      | state|     | holds |
//!  +----------------+-----------------+------+     +-------+
//! ```
//!
//! | state | meaning | next |
//! |---|---|---|
//! | `FREE` | nobody's | `TAKEN` by who registers |
//! | `TAKEN` | written by one | `LIVE` |
//! | `LIVE` | an owner's | `LEAVING` by who unregisters, while it has no pages |
//! | `LEAVING` | as live, but gets no pages | `FREE`, when there are no holds |
//!
//! *pages* counts movable blocks that their owner has not freed, *holds* those that it freed while
//! somebody held them. [INV-MOVE-1] While either is not 0 the place is not written and its owner
//! lives; who holds a block of an owner is counted by one of the two, and may so call it.
//!
//! A block that is freed while it is held counts as a hold first, and then no more as a page. Its
//! holder may be done before that: *holds* is one too low then, but the block is still a page, so
//! its owner does not go. Once that leaves there are no pages, and *holds* only falls.
//!
//! The *generation* says how many owners the place had: who was unregistered does not get pages by
//! the name of a later one, nor lets that one go. It stands in the same word, so that each change
//! is about the owner that was meant.

use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::atomic::{AtomicI32, AtomicU64};
use crate::sync::cell::UnsafeCell;

const STATE: u64 = 0b11;
const FREE: u64 = 0;
const TAKEN: u64 = 1;
const LIVE: u64 = 2;
const LEAVING: u64 = 3;

const GENERATION_SHIFT: u32 = 2;
const PAGES_SHIFT: u32 = 32;
const GENERATIONS: u64 = (1 << (PAGES_SHIFT - GENERATION_SHIFT)) - 1;
/// One page. There are fewer frames than pages fit ([`BootError::SpanTooLarge`]).
///
/// [`BootError::SpanTooLarge`]: crate::page::BootError::SpanTooLarge
const PAGE: u64 = 1 << PAGES_SHIFT;

const fn pages(state: u64) -> usize {
    (state >> PAGES_SHIFT) as usize
}

/// A state without pages.
const fn word(state: u64, generation: u32) -> u64 {
    state | (generation as u64) << GENERATION_SHIFT
}

const fn generation(state: u64) -> u32 {
    ((state >> GENERATION_SHIFT) & GENERATIONS) as u32
}

/// One place. `T` is what calls the owner.
pub(crate) struct Place<T> {
    state: AtomicU64,
    holds: AtomicI32,
    what: UnsafeCell<Option<T>>,
}

// SAFETY: [INV-MOVE-1] the content is written by who took the place, before it is live, and read
// only while it is live.
unsafe impl<T: Send + Sync> Sync for Place<T> {}

/// A place that is being filled: [`Place::claim`].
pub(crate) struct Claimed<'a, T>(&'a Place<T>);

impl<T> Claimed<'_, T> {
    /// Makes the place live. Returns its generation.
    pub(crate) fn publish(self, what: T) -> u32 {
        let place = self.0;
        // SAFETY: [INV-MOVE-1] the place is taken, by us, and not live: nobody reads it.
        place.what.with_mut(|slot| unsafe { *slot = Some(what) });
        let last = u64::from(generation(place.state.load(Relaxed)));
        let next = (last.wrapping_add(1) & GENERATIONS) as u32;
        // Release: pairs with the Acquire in `add`.
        place.state.store(word(LIVE, next), Release);
        next
    }
}

/// What came of an owner's wish to go.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    /// It may go when the place is idle.
    Leaving,
    /// It stays: it has so many pages.
    HasPages(usize),
    /// It has gone before.
    Gone,
}

impl<T: Copy> Place<T> {
    #[cfg(not(loom))]
    pub(crate) const fn new() -> Place<T> {
        Place {
            state: AtomicU64::new(FREE),
            holds: AtomicI32::new(0),
            what: UnsafeCell::new(None),
        }
    }

    #[cfg(loom)]
    pub(crate) fn new() -> Place<T> {
        Place {
            state: AtomicU64::new(FREE),
            holds: AtomicI32::new(0),
            what: UnsafeCell::new(None),
        }
    }

    /// Takes the place, if it is free.
    pub(crate) fn claim(&self) -> Option<Claimed<'_, T>> {
        let take = |state| (state & STATE == FREE).then_some(state - FREE + TAKEN);
        // Acquire: pairs with the Release in `vacate`: all calls of the last owner are over.
        let taken = self.state.fetch_update(Acquire, Relaxed, take);
        taken.is_ok().then_some(Claimed(self))
    }

    /// True if the place is somebody's.
    #[cfg(not(loom))]
    pub(crate) fn is_live(&self) -> bool {
        // Relaxed: a hint.
        self.state.load(Relaxed) & STATE >= LIVE
    }

    /// Counts one more page of the owner that has the place as `generation`; false if that is gone
    /// or going.
    pub(crate) fn add_page(&self, generation: u32) -> bool {
        self.add(|state| state % PAGE == word(LIVE, generation))
    }

    /// Counts one more page, by who holds one: the generation is the same. False if the owner is
    /// leaving.
    pub(crate) fn add_page_beside(&self) -> bool {
        self.add(|state| state & STATE == LIVE)
    }

    fn add(&self, may: impl Fn(u64) -> bool) -> bool {
        let more = |state| may(state).then_some(state + PAGE);
        // Acquire: pairs with the Release in `publish`. What the place says is seen, by who holds
        // the page later too: it finds it by an exchange that follows this one.
        self.state.fetch_update(Acquire, Relaxed, more).is_ok()
    }

    /// One page less: freed, or without an owner.
    pub(crate) fn page_gone(&self) {
        // Release: pairs with the Acquire in `leave`.
        let old = self.state.fetch_sub(PAGE, Release);
        debug_assert!(pages(old) != 0);
    }

    /// The owner freed a page that is held.
    pub(crate) fn page_freed_held(&self) {
        // Relaxed: the Release in `page_gone` says it to who leaves.
        self.holds.fetch_add(1, Relaxed);
        self.page_gone();
    }

    /// Who held a freed page is done. Whoever leaves may be waiting for that.
    pub(crate) fn hold_over(&self) {
        // Release: pairs with the Acquire in `is_idle`: the holder asks no more.
        self.holds.fetch_sub(1, Release);
    }

    /// The owner of this generation wants to go: gets no more pages.
    pub(crate) fn leave(&self, generation: u32) -> Leave {
        let live = word(LIVE, generation);
        // Acquire: pairs with the Release in `page_gone`: whoever held that page is done, or
        // counted.
        let leaving = word(LEAVING, generation);
        match self.state.compare_exchange(live, leaving, Acquire, Relaxed) {
            Ok(_) => Leave::Leaving,
            Err(state) if state % PAGE == live => Leave::HasPages(pages(state)),
            Err(_) => Leave::Gone,
        }
    }

    /// How many blocks the owner has, those included that it freed while they were held.
    #[cfg(not(loom))]
    pub(crate) fn blocks(&self) -> usize {
        let held = self.holds.load(Relaxed).max(0);
        pages(self.state.load(Relaxed)) + held as usize
    }

    /// True if nobody can be calling an owner that is leaving.
    pub(crate) fn is_idle(&self) -> bool {
        // Acquire: pairs with the Release in `hold_over`.
        self.holds.load(Acquire) == 0
    }

    /// The place is nobody's again. Its owner has left, and it is idle.
    pub(crate) fn vacate(&self) {
        debug_assert!(self.is_idle());
        // Release: pairs with the Acquire in `claim`.
        let old = self.state.fetch_sub(LEAVING - FREE, Release);
        debug_assert!(old & STATE == LEAVING && pages(old) == 0);
    }

    /// What calls the owner.
    ///
    /// # Safety
    /// The caller holds a page of this place's owner.
    pub(crate) unsafe fn get(&self) -> Option<T> {
        // SAFETY: [INV-MOVE-1] the page keeps the place live; it was written before.
        self.what.with(|slot| unsafe { *slot })
    }
}
