//! The slabs of one home of a cache, by how full they are.

use super::deferred::Deferring;
use super::desc::{NO_HOME, Slab, SlabPtr};
use crate::frame::Order;
use crate::sync::atomic::Ordering::Relaxed;
use core::ptr::NonNull;

/// A doubly linked list of slabs; its links are in the descriptors and belong to the home's lock.
pub(super) struct List {
    head: *mut Slab,
    pub(super) len: usize,
}

impl List {
    pub(super) const fn new() -> List {
        List {
            head: core::ptr::null_mut(),
            len: 0,
        }
    }

    /// The slab that was put last.
    pub(super) fn first(&self) -> Option<SlabPtr> {
        // SAFETY: [INV-SLAB-1] a slab is on a list until it is freed.
        NonNull::new(self.head).map(|s| unsafe { SlabPtr::new(s) })
    }

    pub(super) fn push(&mut self, slab: SlabPtr) {
        debug_assert!(self.head != slab.as_ptr());
        slab.prev.store(core::ptr::null_mut(), Relaxed);
        slab.next.store(self.head, Relaxed);
        if let Some(head) = self.first() {
            head.prev.store(slab.as_ptr(), Relaxed);
        }
        self.head = slab.as_ptr();
        self.len += 1;
    }

    pub(super) fn remove(&mut self, slab: SlabPtr) {
        debug_assert!(self.len > 0);
        let (prev, next) = (slab.prev.load(Relaxed), slab.next.load(Relaxed));
        // SAFETY: [INV-SLAB-1] the neighbours are on the same list.
        let at = |p| NonNull::new(p).map(|s| unsafe { SlabPtr::new(s) });
        match at(prev) {
            Some(prev) => prev.next.store(next, Relaxed),
            None => self.head = next,
        }
        if let Some(next) = at(next) {
            next.prev.store(prev, Relaxed);
        }
        self.len -= 1;
    }

    pub(super) fn pop(&mut self) -> Option<SlabPtr> {
        let slab = self.first()?;
        self.remove(slab);
        Some(slab)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = SlabPtr> {
        let mut at = self.first();
        core::iter::from_fn(move || {
            let slab = at?;
            // SAFETY: [INV-SLAB-1] the next slab is on the same list, which is borrowed.
            at = NonNull::new(slab.next.load(Relaxed)).map(|s| unsafe { SlabPtr::new(s) });
            Some(slab)
        })
    }
}

/// The slabs of one home. Which list a slab is on follows from how many of its objects are in use.
pub(super) struct HomeSlabs {
    pub(super) partial: List,
    pub(super) full: List,
    pub(super) empty: List,
    /// The sums over all lists.
    pub(super) sums: Sums,
    /// S58: empty or partial slabs that the home keeps.
    keep: usize,
    /// Pages that it may have in empty slabs beyond these.
    spare: usize,
    /// The most slabs of late.
    peak: usize,
}

/// What slabs add up to.
#[derive(Copy, Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct Sums {
    /// Slabs.
    pub(super) slabs: usize,
    /// Their pages.
    pub(super) pages: usize,
    /// Objects that they have room for.
    pub(super) objects: usize,
    /// Objects that are not free in a slab.
    pub(super) in_use: usize,
}

impl core::ops::AddAssign for Sums {
    fn add_assign(&mut self, other: Sums) {
        self.slabs += other.slabs;
        self.pages += other.pages;
        self.objects += other.objects;
        self.in_use += other.in_use;
    }
}

/// A home keeps one empty slab for so many that it had at its peak: who frees much and allocates
/// again does not make every slab anew.
const PEAK_SHARE: usize = 8;
/// But no more than this, and than [`HomeSlabs::spare`].
const PEAK_MOST: usize = 64;
/// With every new slab the peak falls by one part of so many, down to what there is.
const PEAK_DECAY: usize = 64;

// SAFETY: [INV-SLAB-1] the lists own the slabs on them, and descriptors may be used from any
// thread.
unsafe impl Send for HomeSlabs {}

impl HomeSlabs {
    pub(super) const fn new(keep: usize, spare: usize) -> HomeSlabs {
        HomeSlabs {
            partial: List::new(),
            full: List::new(),
            empty: List::new(),
            sums: Sums {
                slabs: 0,
                pages: 0,
                objects: 0,
                in_use: 0,
            },
            keep,
            spare,
            peak: 0,
        }
    }

    fn list(&mut self, in_use: usize, objects: usize) -> &mut List {
        if in_use == 0 {
            &mut self.empty
        } else if in_use == objects {
            &mut self.full
        } else {
            &mut self.partial
        }
    }

    /// Adds a new slab, none of whose objects is in use. This is its home number `home`.
    pub(super) fn insert(&mut self, slab: SlabPtr, home: usize) {
        debug_assert!(slab.in_use() == 0 && slab.home() == NO_HOME);
        slab.set_home(home);
        self.empty.push(slab);
        self.sums.slabs += 1;
        self.sums.pages += slab.order().pages();
        self.sums.objects += slab.objects as usize;
        let fallen = self.peak - self.peak.div_ceil(PEAK_DECAY);
        self.peak = fallen.max(self.sums.slabs);
    }

    fn forget(&mut self, slab: SlabPtr) {
        self.sums.slabs -= 1;
        self.sums.pages -= slab.order().pages();
        self.sums.objects -= slab.objects as usize;
    }

    /// Takes up to `want` objects, from partial slabs first, and gives them the state `to`.
    pub(super) fn take(
        &mut self,
        want: usize,
        to: u8,
        mut out: impl FnMut(SlabPtr, usize),
    ) -> usize {
        let mut taken = 0;
        while taken < want {
            let Some(slab) = self.partial.first().or_else(|| self.empty.first()) else {
                break;
            };
            let (before, objects) = (slab.in_use(), slab.objects as usize);
            taken += slab.take(want - taken, to, |index| out(slab, index));
            let after = slab.in_use();
            debug_assert!(after > before);
            if before == 0 || after == objects {
                self.list(before, objects).remove(slab);
                self.list(after, objects).push(slab);
            }
        }
        self.sums.in_use += taken;
        taken
    }

    /// Puts one object back into its slab. False if it was not in state `from`.
    pub(super) fn put(
        &mut self,
        slab: SlabPtr,
        index: usize,
        from: u8,
        released: &mut Released,
    ) -> bool {
        let put = slab.put(index, from);
        if put {
            self.returned(slab, 1, released);
        }
        put
    }

    /// Counts `n` objects that were put back into a slab and moves it to the list that it belongs
    /// on now. A slab that got empty joins `released` if the home has enough without it (S58, S80).
    pub(super) fn returned(&mut self, slab: SlabPtr, n: usize, released: &mut Released) {
        let (before, objects) = (slab.in_use(), slab.objects as usize);
        slab.returned(n);
        self.sums.in_use -= n;
        let after = before - n;
        if n == 0 || after != 0 && before != objects {
            return; // partial before and after
        }
        self.list(before, objects).remove(slab);
        if after == 0 && self.has_enough(slab.order()) && !slab.is_pinned() {
            self.forget(slab);
            released.push(slab);
        } else {
            self.list(after, objects).push(slab);
        }
    }

    /// Whether one more empty slab of this order is too many.
    fn has_enough(&self, order: Order) -> bool {
        let most = PEAK_MOST.min(self.spare / order.pages());
        self.partial.len + self.empty.len >= self.keep
            && self.empty.len >= most.min(self.peak / PEAK_SHARE)
    }

    /// Takes all empty slabs out that no nested free is about to touch.
    pub(super) fn release_empty(&mut self, released: &mut Released) {
        let mut kept = List::new();
        while let Some(slab) = self.empty.pop() {
            if slab.is_pinned() {
                kept.push(slab);
            } else {
                self.forget(slab);
                released.push(slab);
            }
        }
        self.empty = kept;
        self.peak = self.sums.slabs;
    }

    /// S66: sorts the partial slabs so that the fullest come first.
    pub(super) fn sort_partial(&mut self) {
        // By how many objects are free, fullest at the head; 32 buckets and a rest.
        let mut buckets = [const { List::new() }; 33];
        while let Some(slab) = self.partial.pop() {
            let free = slab.objects as usize - slab.in_use();
            buckets[(free - 1).min(32)].push(slab);
        }
        for bucket in buckets.iter_mut().rev() {
            while let Some(slab) = bucket.pop() {
                self.partial.push(slab);
            }
        }
    }

    /// Of the slabs with objects in use, the one that follows this one, or the first.
    pub(super) fn used_after(&self, slab: Option<SlabPtr>) -> Option<SlabPtr> {
        let Some(slab) = slab else {
            return self.full.first().or_else(|| self.partial.first());
        };
        // SAFETY: [INV-SLAB-1] the next slab is on the same list, whose lock is held.
        let next = NonNull::new(slab.next.load(Relaxed)).map(|s| unsafe { SlabPtr::new(s) });
        let was_full = slab.in_use() == slab.objects as usize;
        next.or_else(|| self.partial.first().filter(|_| was_full))
    }

    /// The slabs on all lists.
    pub(super) fn iter(&self) -> impl Iterator<Item = SlabPtr> {
        let lists = [&self.full, &self.partial, &self.empty];
        lists.into_iter().flat_map(List::iter)
    }
}

/// Slabs that left their cache and whose memory goes back to the page allocator, outside of the
/// lock.
pub(super) struct Released(List);

impl Released {
    pub(super) const fn new() -> Released {
        Released(List::new())
    }

    pub(super) fn push(&mut self, slab: SlabPtr) {
        self.0.push(slab);
    }

    pub(super) fn pop(&mut self) -> Option<SlabPtr> {
        self.0.pop()
    }
}
