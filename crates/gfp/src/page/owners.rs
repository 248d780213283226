//! The places of page owners: who may be asked to move pages, and when he may go.
//!
//! ```text
//!   63            38 37              2 1    0
//!  +----------------+-----------------+------+
//!  | holds          | pages           | state|
//!  +----------------+-----------------+------+
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
//! *holds* stands in the topmost bits: the holder may be done before the owner's free has moved its
//! block from one count to the other, and the count is -1 for that moment. The block still counts
//! as a page then, so nobody takes the place for idle.

use crate::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use crate::sync::atomic::{AtomicU32, AtomicU64};
use crate::sync::cell::UnsafeCell;

const STATE: u64 = 0b11;
const FREE: u64 = 0;
const TAKEN: u64 = 1;
const LIVE: u64 = 2;
const LEAVING: u64 = 3;

const PAGE: u64 = 1 << 2;
const HOLD: u64 = 1 << 38;
const PAGES: u64 = HOLD - PAGE;

/// One place. `T` is what calls the owner.
pub(crate) struct Place<T> {
    state: AtomicU64,
    /// How many owners had this place before, and the one that has it: who was unregistered does
    /// not get pages by the name of a later one. Changed by who takes the place.
    generation: AtomicU32,
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
        let generation = place.generation.load(Relaxed).wrapping_add(1);
        place.generation.store(generation, Relaxed);
        // Release: pairs with the Acquire in `add_page`.
        place.state.store(LIVE, Release);
        generation
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
            generation: AtomicU32::new(0),
            what: UnsafeCell::new(None),
        }
    }

    #[cfg(loom)]
    pub(crate) fn new() -> Place<T> {
        Place {
            state: AtomicU64::new(FREE),
            generation: AtomicU32::new(0),
            what: UnsafeCell::new(None),
        }
    }

    /// Takes the place, if it is free.
    pub(crate) fn claim(&self) -> Option<Claimed<'_, T>> {
        // Acquire: pairs with the Release in `vacate`: all calls of the last owner are over.
        let taken = self.state.compare_exchange(FREE, TAKEN, Acquire, Relaxed);
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
        let mut state = self.state.load(Relaxed);
        loop {
            if state & STATE != LIVE {
                return false;
            }
            // Acquire: pairs with the Release in `publish`. What the place says is seen, by who
            // holds the page later too: it finds it by an exchange that follows this one.
            match self
                .state
                .compare_exchange_weak(state, state + PAGE, Acquire, Relaxed)
            {
                Ok(_) => break,
                Err(now) => state = now,
            }
        }
        // The page keeps the generation as it is.
        let same = self.generation.load(Relaxed) == generation;
        if !same {
            self.page_gone();
        }
        same
    }

    /// Counts one more page, by who holds one: the generation is the same. False if the owner is
    /// leaving.
    pub(crate) fn add_page_beside(&self) -> bool {
        // Acquire: as in `add_page`.
        let more = |state| (state & STATE == LIVE).then_some(state + PAGE);
        self.state.fetch_update(Acquire, Relaxed, more).is_ok()
    }

    /// One page less: freed, or without an owner.
    pub(crate) fn page_gone(&self) {
        // Release: pairs with the Acquire in `leave`.
        let old = self.state.fetch_sub(PAGE, Release);
        debug_assert!(old & PAGES != 0);
    }

    /// The owner freed a page that is held.
    pub(crate) fn page_freed_held(&self) {
        // AcqRel: pairs with `leave` and `is_idle`. One step: the sum never shows less.
        let old = self.state.fetch_add(HOLD - PAGE, AcqRel);
        debug_assert!(old & PAGES != 0);
    }

    /// Who held a freed page is done. True if somebody may be waiting for that.
    pub(crate) fn hold_over(&self) -> bool {
        // Release: pairs with the Acquire in `is_idle`: the holder asks no more.
        let old = self.state.fetch_sub(HOLD, Release);
        old & STATE == LEAVING
    }

    /// The owner of this generation wants to go: gets no more pages.
    pub(crate) fn leave(&self, generation: u32) -> Leave {
        let mut state = self.state.load(Relaxed);
        loop {
            if state & STATE != LIVE || self.generation.load(Relaxed) != generation {
                return Leave::Gone;
            }
            if state & PAGES != 0 {
                return Leave::HasPages(((state & PAGES) / PAGE) as usize);
            }
            let leaving = state - LIVE + LEAVING;
            // Acquire: pairs with the Release in `page_gone`: whoever held that page is done.
            match self
                .state
                .compare_exchange_weak(state, leaving, Acquire, Relaxed)
            {
                Ok(_) => return Leave::Leaving,
                Err(now) => state = now,
            }
        }
    }

    /// How many blocks the owner has, those included that it freed while they were held.
    #[cfg(not(loom))]
    pub(crate) fn blocks(&self) -> usize {
        let state = self.state.load(Relaxed);
        ((state & PAGES) / PAGE + state / HOLD) as usize
    }

    /// True if nobody can be calling an owner that has left.
    pub(crate) fn is_idle(&self) -> bool {
        // Acquire: pairs with the Release in `hold_over`.
        self.state.load(Acquire) == LEAVING
    }

    /// The place is nobody's again. It must be idle.
    pub(crate) fn vacate(&self) {
        debug_assert!(self.is_idle());
        // Release: pairs with the Acquire in `claim`.
        self.state.store(FREE, Release);
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
