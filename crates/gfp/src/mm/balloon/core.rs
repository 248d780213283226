//! The part of a balloon that the machine calls.

use super::{BATCH, BalloonDevice, CHUNK, FrameSet};
use crate::frame::{Order, Pfn};
use crate::mm::Mm;
use crate::page::{MigrateMode, Migrated, PageOwner};
use crate::platform::Platform;
use crate::policy::reclaim::shrink::{Counted, Scanned};
use crate::reclaim::{ShrinkControl, Shrinker};
use crate::sync::WaitQueue;
use crate::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Pages and their device.
pub(super) struct Core<'a, P: Platform> {
    pub(super) mm: &'a Mm<P>,
    pub(super) device: &'a dyn BalloonDevice,
    /// The pages that nobody is just moving or giving back.
    set: FrameSet<'a, CHUNK>,
    /// All pages. Relaxed: a number by itself.
    pages: AtomicUsize,
    /// Who waits for pages that are just being moved.
    moved: WaitQueue,
}

impl<'a, P: Platform> Core<'a, P> {
    pub(super) fn new(
        mm: &'a Mm<P>,
        device: &'a dyn BalloonDevice,
        set: FrameSet<'a, CHUNK>,
    ) -> Core<'a, P> {
        Core {
            mm,
            device,
            set,
            pages: AtomicUsize::new(0),
            moved: WaitQueue::new(),
        }
    }

    pub(super) fn pages(&self) -> usize {
        self.pages.load(Relaxed)
    }

    /// A page of the balloon's owner is in the balloon.
    pub(super) fn came(&self, page: Pfn) {
        self.pages.fetch_add(1, Relaxed);
        self.mm.balloons.inflated(self.mm.pages().node_of(page));
    }

    fn went(&self, page: Pfn) {
        self.pages.fetch_sub(1, Relaxed);
        self.mm.balloons.deflated(self.mm.pages().node_of(page));
    }

    /// Where the bit of a page stands. Each page has a word.
    fn index(&self, page: Pfn) -> Option<usize> {
        self.mm.pages().frames().index(page)
    }

    /// A page that is in the balloon may be given back or moved from now on.
    pub(super) fn keep(&self, page: Pfn) {
        let index = self.index(page);
        debug_assert!(index.is_some(), "allocated");
        index.into_iter().for_each(|index| self.set.insert(index));
    }

    /// Gives up to so many pages back. Returns how many.
    pub(super) fn deflate(&self, pages: usize) -> usize {
        let mut done = 0;
        while done < pages && self.pages() != 0 {
            let most = BATCH.min(pages - done);
            let mut batch = Batch::new(self, Fate::Kept);
            let base = self.mm.pages().frames().base();
            self.set.take(most, |index| batch.push(base.add(index)));
            if batch.pages().is_empty() {
                break;
            }
            self.device.deflate(batch.pages());
            batch.pages().iter().for_each(|page| self.went(*page));
            batch.fate = Fate::Freed;
            done += batch.pages().len();
        }
        done
    }

    /// Gives all pages back, those too that are just being moved. Nobody adds any.
    pub(super) fn deflate_all(&self) {
        loop {
            self.deflate(usize::MAX);
            if self.pages() == 0 {
                return;
            }
            // Who moves a page gives it to the set again, or the one where it is then.
            let back = || !self.set.is_empty();
            self.moved.wait_until(self.mm.platform(), back);
        }
    }
}

// SAFETY: it says yes only of a page in its set, which is its own. Who is told `Done` has the old
// page: it was taken out of the set, which gave it to us alone, and the device has given it back.
// After another answer the device has not taken the new one.
unsafe impl<P: Platform> PageOwner for Core<'_, P> {
    fn isolate(&self, page: Pfn) -> bool {
        // It stays in the set, and may be given back: nothing is lost if no more is heard of it.
        self.index(page).is_some_and(|i| self.set.contains(i))
    }

    fn migrate(&self, from: Pfn, to: Pfn, _mode: MigrateMode) -> Migrated {
        let ours = self.index(from).is_some_and(|i| self.set.remove(i));
        if !ours {
            return Migrated::Failed; // given back meanwhile
        }
        let mut moving = Moving {
            core: self,
            from,
            to,
            outcome: None,
        };
        let outcome = self.device.migrate(from, to);
        moving.outcome = Some(outcome);
        outcome
    }
}

impl<P: Platform> Shrinker for Core<'_, P> {
    fn count(&self, _: &ShrinkControl) -> Counted {
        match self.pages() {
            0 => Counted::Empty,
            pages => Counted::Objects(pages),
        }
    }

    fn scan(&self, control: &ShrinkControl) -> Scanned {
        match self.deflate(control.objects) {
            0 => Scanned::Stop,
            freed => Scanned::Done {
                looked_at: control.objects,
                freed,
            },
        }
    }
}

/// A page that is being moved: out of the set until this is dropped.
struct Moving<'c, 'a, P: Platform> {
    core: &'c Core<'a, P>,
    from: Pfn,
    to: Pfn,
    /// `None` if the device panicked: both pages are the balloon's then.
    outcome: Option<Migrated>,
}

impl<P: Platform> Drop for Moving<'_, '_, P> {
    fn drop(&mut self) {
        let core = self.core;
        let node = |page| core.mm.pages().node_of(page);
        match self.outcome {
            Some(Migrated::Done) => {
                core.mm.balloons.migrated(node(self.from), node(self.to));
                core.keep(self.to);
            }
            Some(Migrated::Busy | Migrated::Failed) => core.keep(self.from),
            None => {
                core.came(self.to);
                core.keep(self.to);
                core.keep(self.from);
            }
        }
        core.moved.wake_all(core.mm.platform());
    }
}

/// What becomes of the pages of a batch when it is dropped.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// They are in the balloon.
    Kept,
    /// They are the machine's: freed.
    Freed,
}

/// Pages that are in nobody's hands but the caller's.
pub(super) struct Batch<'c, 'a, P: Platform> {
    core: &'c Core<'a, P>,
    room: [Pfn; BATCH],
    len: usize,
    pub(super) fate: Fate,
}

impl<'c, 'a, P: Platform> Batch<'c, 'a, P> {
    pub(super) fn new(core: &'c Core<'a, P>, fate: Fate) -> Batch<'c, 'a, P> {
        Batch {
            core,
            room: [Pfn(0); BATCH],
            len: 0,
            fate,
        }
    }

    pub(super) fn push(&mut self, page: Pfn) {
        self.room[self.len] = page;
        self.len += 1;
    }

    pub(super) fn pages(&self) -> &[Pfn] {
        &self.room[..self.len]
    }
}

impl<P: Platform> Drop for Batch<'_, '_, P> {
    fn drop(&mut self) {
        for page in &self.room[..self.len] {
            match self.fate {
                Fate::Kept => self.core.keep(*page),
                // SAFETY: [INV-BALLOON-1] the batch has the page alone, and the device does not.
                Fate::Freed => unsafe { self.core.mm.free_frames(*page, Order::ZERO.get()) },
            }
        }
    }
}
