//! Requests that may sleep where the caller must not (P154), and those that may wait for a lock
//! that the caller holds (P155).

use super::Mm;
use crate::flags::Gfp;
use crate::page::{Alone, Relief, SleepCheck};
use crate::platform::{
    FsReclaim, HeldClass, LockClass, Platform, ReclaimCycle, caller_of, task_of,
};
use crate::policy::effort::Effort;
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
    /// whether or not it would have slept. `PF_MEMALLOC` never sleeps for memory. One that may
    /// reclaim into file systems notes that for each lock that the task holds ([`Mm::holds`]).
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
            self.might_reclaim(gfp, Location::caller());
        }
    }

    /// Says that the running task has taken a lock of this class, until the guard is dropped
    /// (P155). If locks of one class are held over requests that may reclaim into file systems, and
    /// others are taken by shrinkers or owners of pages in such reclaim, that is reported, once for
    /// a class, though nobody waited for anybody: [`Misuse::Cycle`] names both places and the fix.
    ///
    /// Requests are seen in debug builds, and by [`Mm::might_alloc`] in any. Not for a lock that
    /// was only tried: who does not wait cannot be part of a deadlock. A task keeps track of
    /// [`HELD_CLASSES`](crate::platform::HELD_CLASSES); others, and those of interrupts, are not
    /// looked at ([`HeldClass::is_kept`]).
    ///
    /// ```
    /// # use gfp::{flags::*, frame::*, page::*, platform::*, Mm};
    /// # let layout = std::alloc::Layout::from_size_align(16 << 20, 4 << 20)?;
    /// # let ram = unsafe { std::alloc::alloc(layout) };
    /// # let (start, end, node) = (PhysAddr(0), PhysAddr(16 << 20), NodeId(0));
    /// # let map = [MemoryRegion { start, end, node, kind: RegionKind::Usable }];
    /// # let platform = unsafe { SingleCore::new(DirectMap::new(ram, PhysAddr(0))) };
    /// # let mm = Mm::boot(platform, &map, &BootConfig::default())?;
    /// static INODES: LockClass = LockClass::new("inode");
    /// let lock = std::sync::Mutex::new(());
    /// let locked = lock.lock().unwrap();
    /// let held = mm.holds(&INODES);
    /// let p = mm.kmalloc(100, GFP_NOFS)?; // with GFP_KERNEL no shrinker might take such a lock
    /// drop((held, locked));
    /// # unsafe { mm.kfree(p.as_ptr()) };
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Context: any; meant for tasks.
    ///
    /// # Panics
    /// As [`Mm::complain`].
    #[track_caller]
    pub fn holds(&self, class: &'static LockClass) -> HeldClass<'_> {
        let place = Location::caller();
        let (held, cycle) = HeldClass::new(self.platform(), class, place);
        cycle
            .into_iter()
            .for_each(|cycle| self.tell_of(cycle, place));
        held
    }

    fn tell_of(&self, cycle: ReclaimCycle, place: &'static Location<'static>) {
        self.pages().tell(&Report {
            misuse: Misuse::Cycle(cycle),
            addr: 0,
            owner: Owner::Unmanaged,
            caller: Caller::Location(place),
        });
    }

    /// P155: the request takes the virtual lock "fs reclaim", and gives it back.
    #[cold]
    fn might_reclaim(&self, gfp: Gfp, place: &'static Location<'static>) {
        let caller = caller_of(self.platform());
        let machine = Alone.machine(self.pages());
        if !Effort::of(gfp, 0, &caller, &machine).enters_fs_reclaim() {
            return;
        }
        self.platform().fs_reclaim(FsReclaim::Acquire);
        self.platform().fs_reclaim(FsReclaim::Release);
        let held = task_of(self.platform())
            .into_iter()
            .flat_map(|task| task.held());
        for cycle in held.filter_map(|class| class.held_over(place)) {
            self.tell_of(cycle, place);
        }
    }

    /// [`Mm::might_alloc`] of an allocation, in debug builds.
    #[track_caller]
    #[inline(always)]
    pub(crate) fn enters(&self, gfp: Gfp) {
        if cfg!(debug_assertions) {
            self.might_alloc(gfp);
        }
    }

    /// How many requests asked to sleep where they must not, reported or not.
    pub fn sleep_misuses(&self) -> usize {
        self.sleepers.seen.load(Relaxed)
    }

    #[cold]
    pub(super) fn might_sleep(&self, place: &'static Location<'static>) {
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
