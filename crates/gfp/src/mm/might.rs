//! Requests that may sleep where the caller must not (P154).

use super::Mm;
use crate::flags::Gfp;
use crate::page::SleepCheck;
use crate::platform::{Platform, caller_of};
use crate::report::{Caller, Misuse, Owner, Report};
use crate::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::Relaxed};
use core::panic::Location;
use core::ptr::null_mut;

/// Places that a machine can tell apart; the others are counted only.
const PLACES: usize = 64;

/// The places that asked to sleep where they must not. Each is reported once.
pub(super) struct Sleepers {
    places: [AtomicPtr<Location<'static>>; PLACES],
    seen: AtomicUsize,
}

impl Sleepers {
    pub(super) fn new() -> Sleepers {
        Sleepers {
            places: core::array::from_fn(|_| AtomicPtr::new(null_mut())),
            seen: AtomicUsize::new(0),
        }
    }

    /// Counts, and says whether this place is a new one. Context: any.
    fn is_new(&self, place: &'static Location<'static>) -> bool {
        self.seen.fetch_add(1, Relaxed);
        let place = core::ptr::from_ref(place).cast_mut();
        // The addresses are only compared: nothing is ordered by them.
        self.places
            .iter()
            .find_map(
                |known| match known.compare_exchange(null_mut(), place, Relaxed, Relaxed) {
                    Ok(_) => Some(true),
                    Err(other) if other == place => Some(false),
                    Err(_) => None,
                },
            )
            .unwrap_or(false)
    }
}

impl<P: Platform> Mm<P> {
    /// Says that the caller is about to make such a request, perhaps (`might_alloc`; P154). One
    /// that may sleep, from a context that must not, is reported with its place: each place once,
    /// whether or not it would have slept. `PF_MEMALLOC` never sleeps for memory.
    ///
    /// Allocations do this themselves in debug builds. Context: any.
    ///
    /// # Panics
    /// As [`Mm::complain`].
    #[track_caller]
    #[inline]
    pub fn might_alloc(&self, gfp: Gfp) {
        if gfp.allows_blocking() {
            self.might_sleep(Location::caller());
        }
    }

    /// [`Mm::might_alloc`] of an allocation, in debug builds.
    #[track_caller]
    #[inline(always)]
    pub(super) fn enters(&self, gfp: Gfp) {
        if cfg!(debug_assertions) {
            self.might_alloc(gfp);
        }
    }

    /// How many requests asked to sleep where they must not, reported or not.
    pub fn sleep_misuses(&self) -> usize {
        self.sleepers.seen.load(Relaxed)
    }

    #[cold]
    fn might_sleep(&self, place: &'static Location<'static>) {
        if self.pages().sleep_check() == SleepCheck::Off {
            return;
        }
        let caller = caller_of(self.platform());
        if caller.context.may_sleep() || caller.is_reclaiming() || !self.sleepers.is_new(place) {
            return;
        }
        self.pages().tell(&Report {
            misuse: Misuse::MaySleep {
                context: caller.context,
            },
            addr: 0,
            owner: Owner::Unmanaged,
            caller: Caller::Location(place),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::boxed::Box;

    #[test]
    fn each_place_is_new_once_until_there_is_no_room() {
        let sleepers = Sleepers::new();
        let here = Location::caller();
        let places: [&'static Location<'static>; PLACES + 1] =
            core::array::from_fn(|_| &*Box::leak(Box::new(*here)));
        for (i, place) in places.iter().enumerate() {
            assert_eq!(sleepers.is_new(place), i < PLACES);
            assert!(!sleepers.is_new(place));
        }
        assert_eq!(sleepers.seen.load(Relaxed), 2 * places.len());
    }
}
