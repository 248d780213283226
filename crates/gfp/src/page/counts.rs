//! What a zone counts over all its shards.
//!
//! Who holds a shard's lock adds up what he changed and applies it once, just before he lets go
//! ([`Pending`]). Different shards apply at the same time, so these are read-modify-writes. Most
//! are Relaxed: each count is exact by itself, and whoever needs what stands behind it takes a
//! lock. A reader without one sees what was true a moment ago: it takes a batch from, or
//! lets a request pass at, a mark that was passed meanwhile, as it could also with one lock a zone,
//! since a mark is looked at before the lock is taken.

use crate::flags::MigrateType;
use crate::frame::PAGEBLOCK_PAGES;
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use crate::sync::atomic::{AtomicU64, AtomicUsize, fence};
use core::cell::Cell;

/// One page that stands aside, in [`Counts::free`]. A machine has less than 2^32 pages.
const ASIDE: i64 = 1 << 32;

/// Pages of a zone, all its shards together.
pub(super) struct Counts {
    managed: AtomicUsize,
    /// Free pages, and from bit 32 on those that are free but stand aside, hidden or isolated: in
    /// one word, so that memory that goes from here to there is never counted as used.
    free: AtomicU64,
    /// Pageblocks that are neither free nor used: on their way to the operating system, or new.
    hidden: AtomicUsize,
    isolated: AtomicUsize,
    cma: AtomicUsize,
    highatomic: AtomicUsize,
    /// The most that was ever in use.
    peak: AtomicUsize,
    dirty: AtomicUsize,
}

/// What the holder of a shard's lock changed so far.
#[derive(Default)]
pub(super) struct Pending {
    /// As [`Counts::free`].
    free: Cell<i64>,
    dirty: Cell<isize>,
    /// Something of the rest is not zero: it mostly is.
    more: Cell<bool>,
    hidden: Cell<isize>,
    isolated: Cell<isize>,
    cma: Cell<isize>,
    highatomic: Cell<isize>,
}

impl Pending {
    /// Pages of a block of this type came free, or are free no more.
    #[inline]
    pub(super) fn pages(&self, kind: MigrateType, pages: isize) {
        match kind {
            MigrateType::Isolate => {
                self.add(&self.isolated, pages);
                self.free.set(self.free.get() + pages as i64 * ASIDE);
                return;
            }
            MigrateType::Cma => self.add(&self.cma, pages),
            MigrateType::HighAtomic => self.add(&self.highatomic, pages),
            _ => (),
        }
        self.free.set(self.free.get() + pages as i64);
    }

    /// Pageblocks are on their way, or arrived.
    pub(super) fn hidden(&self, blocks: isize) {
        self.add(&self.hidden, blocks);
        let pages = blocks as i64 * PAGEBLOCK_PAGES as i64;
        self.free.set(self.free.get() + pages * ASIDE);
    }

    /// Pageblocks wait for free page reporting, or no more.
    pub(super) fn dirty(&self, blocks: isize) {
        self.dirty.set(self.dirty.get() + blocks);
    }

    fn add(&self, to: &Cell<isize>, change: isize) {
        to.set(to.get() + change);
        self.more.set(true);
    }
}

fn pages_of(word: u64) -> usize {
    (word as u32) as usize
}

fn aside_of(word: u64) -> usize {
    (word / ASIDE as u64) as usize
}

fn add(to: &AtomicUsize, change: &Cell<isize>) {
    let change = change.take();
    if change != 0 {
        to.fetch_add(change as usize, Relaxed);
    }
}

impl Counts {
    pub(super) fn new() -> Counts {
        Counts {
            managed: AtomicUsize::new(0),
            free: AtomicU64::new(0),
            hidden: AtomicUsize::new(0),
            isolated: AtomicUsize::new(0),
            cma: AtomicUsize::new(0),
            highatomic: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            dirty: AtomicUsize::new(0),
        }
    }

    /// Applies what was changed under a lock that is still held, and forgets it.
    #[inline]
    pub(super) fn apply(&self, pending: &Pending) {
        add(&self.dirty, &pending.dirty);
        let mut shown = 0;
        if pending.more.take() {
            add(&self.cma, &pending.cma);
            add(&self.highatomic, &pending.highatomic);
            add(&self.isolated, &pending.isolated);
            // What is hidden is so before it is free no more, until after it is free again.
            shown = pending.hidden.get().min(0).unsigned_abs();
            pending.hidden.set(pending.hidden.get().max(0));
            add(&self.hidden, &pending.hidden);
        }
        let change = pending.free.take();
        if change != 0 {
            self.apply_free(change);
        }
        if shown != 0 {
            // Release: pairs with the Acquire in `hidden`.
            self.hidden.fetch_sub(shown, Release);
        }
    }

    #[inline]
    fn apply_free(&self, change: i64) {
        // Acquire: pairs with the Release in `enlarge`: who knows of the new memory counts it as
        // unused below.
        let managed = self.managed.load(Acquire);
        // Release: pairs with the fence in `hidden`.
        let old = self.free.fetch_add(change as u64, Release);
        let now = old.wrapping_add(change as u64);
        if (change as i32) <= 0 {
            // What stands aside is not in use.
            let unused = pages_of(now) + aside_of(now);
            if managed > self.peak.load(Relaxed) + unused {
                self.peak.fetch_max(managed - unused, Relaxed);
            }
        }
    }

    /// Counts memory that is managed from now on and counted as free or hidden already.
    pub(super) fn enlarge(&self, pages: usize) {
        // Release: pairs with the Acquire in `apply`.
        self.managed.fetch_add(pages, Release);
    }

    /// Counts memory that is managed no more and still counted as free and aside: so that nobody
    /// counts it as used.
    pub(super) fn shrink(&self, pages: usize) {
        // Release: as in `enlarge`.
        self.managed.fetch_sub(pages, Release);
    }

    #[inline]
    pub(super) fn managed(&self) -> usize {
        self.managed.load(Relaxed)
    }

    #[inline]
    pub(super) fn free(&self) -> usize {
        pages_of(self.free.load(Relaxed))
    }

    /// Pages that are free but stand aside.
    pub(super) fn aside(&self) -> usize {
        aside_of(self.free.load(Relaxed))
    }

    pub(super) fn isolated(&self) -> usize {
        self.isolated.load(Relaxed)
    }

    /// Who saw too little free sees here what was hidden then; who sees nothing hidden any more
    /// sees it free.
    pub(super) fn hidden(&self) -> usize {
        // Both pair with a Release in `apply`.
        fence(Acquire);
        self.hidden.load(Acquire)
    }

    /// Who had hidden blocks is gone, and they with him: they count as used from now on.
    pub(super) fn forget_hidden(&self) {
        // Relaxed: there is nobody else.
        let pages = self.hidden.swap(0, Relaxed) * PAGEBLOCK_PAGES;
        self.apply_free(-(pages as i64 * ASIDE));
    }

    #[inline]
    pub(super) fn cma(&self) -> usize {
        self.cma.load(Relaxed)
    }

    #[inline]
    pub(super) fn highatomic(&self) -> usize {
        self.highatomic.load(Relaxed)
    }

    #[inline]
    pub(super) fn dirty(&self) -> usize {
        self.dirty.load(Relaxed)
    }

    pub(super) fn peak(&self) -> usize {
        self.peak.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hidden_is_not_used_and_the_peak_is_the_most_that_was() {
        let counts = Counts::new();
        let change = |pages: isize, hidden: isize| {
            let pending = Pending::default();
            pending.pages(MigrateType::Movable, pages);
            pending.hidden(hidden);
            counts.apply(&pending);
        };
        change(0, 2);
        counts.enlarge(1024);
        change(1024, -2);
        assert_eq!(
            (counts.free(), counts.hidden(), counts.peak()),
            (1024, 0, 0)
        );
        change(-512, 1);
        assert_eq!((counts.free(), counts.hidden(), counts.peak()), (512, 1, 0));
        change(-100, 0);
        change(100, 0);
        change(512, -1);
        assert_eq!(
            (counts.free(), counts.hidden(), counts.peak()),
            (1024, 0, 100)
        );
    }

    #[test]
    fn each_type_is_counted_where_it_belongs() {
        let counts = Counts::new();
        let pending = Pending::default();
        for kind in MigrateType::ALL {
            pending.pages(kind, 1 << (4 * kind as usize));
        }
        pending.dirty(3);
        counts.apply(&pending);
        counts.apply(&pending); // forgotten by now
        let all: usize = MigrateType::ALL
            .iter()
            .map(|k| 1 << (4 * *k as usize))
            .sum();
        let isolated = 1 << (4 * MigrateType::Isolate as usize);
        assert_eq!(counts.free(), all - isolated);
        assert_eq!((counts.isolated(), counts.aside()), (isolated, isolated));
        assert_eq!(counts.cma(), 1 << (4 * MigrateType::Cma as usize));
        assert_eq!(
            counts.highatomic(),
            1 << (4 * MigrateType::HighAtomic as usize)
        );
        assert_eq!(counts.dirty(), 3);
    }
}
