//! The zones of a zonelist that have memory, written in place while others read it, and the count
//! of such changes by which a request that failed learns that it may have missed a zone.
//!
//! | step of the writer | a reader that comes meanwhile |
//! |---|---|
//! | count is odd | who has failed waits until it is even, and tries again |
//! | zones, one by one, then their number | may miss a zone, or see one twice |
//! | count is even | who began before sees that it changed, and tries again |
//!
//! All interleavings: `interleavings/known.rs`.

use crate::sync::atomic::Ordering::{Acquire, Release};
use crate::sync::atomic::{AtomicU8, AtomicUsize};

/// Ids of zones, `N` at most.
pub(crate) struct Known<const N: usize> {
    ids: [AtomicU8; N],
    len: AtomicU8,
}

impl<const N: usize> Known<N> {
    /// None yet.
    pub(crate) fn new() -> Known<N> {
        Known {
            ids: core::array::from_fn(|_| AtomicU8::new(0)),
            len: AtomicU8::new(0),
        }
    }

    /// Writes the list. Only one CPU at a time does that.
    pub(crate) fn write(&self, ids: impl Iterator<Item = u8>) {
        let mut len = 0;
        for (place, id) in self.ids.iter().zip(ids) {
            place.store(id, Release);
            len += 1;
        }
        // Release, here and above: pairs with the Acquire loads of `ids`. Who sees a zone sees its
        // marks, and that the lists change.
        self.len.store(len, Release);
    }

    /// The zones, in order; each is to be loaded with `Acquire`.
    #[inline]
    pub(crate) fn ids(&self) -> &[AtomicU8] {
        // Acquire: pairs with the Release in `write`.
        &self.ids[..self.len.load(Acquire) as usize]
    }
}

/// Counts the changes of the lists: odd while one is under way.
pub(crate) struct Changes(AtomicUsize);

impl Changes {
    pub(crate) fn new() -> Changes {
        Changes(AtomicUsize::new(0))
    }

    /// Begins or ends a change. Release: who sees the second in `now` or `since` sees all of it.
    pub(crate) fn step(&self) {
        self.0.fetch_add(1, Release);
    }

    /// To be asked before the lists are looked at. Acquire: pairs with `step`.
    pub(crate) fn now(&self) -> usize {
        self.0.load(Acquire)
    }

    /// Whether the lists changed, or began to, since `now` answered `seen`; if one is under way,
    /// waits for its end, which waits for nobody. What was read of the lists was read before, by
    /// Acquire: who saw something new there sees the first step here.
    pub(crate) fn since(&self, seen: usize, mut wait: impl FnMut(u32)) -> bool {
        let mut spins = 0;
        while !self.now().is_multiple_of(2) {
            wait(spins);
            spins = spins.saturating_add(1);
        }
        spins != 0 || self.now() != seen
    }
}
