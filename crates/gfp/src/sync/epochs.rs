//! Epochs: when all who could still see something have ended.
//!
//! 1. **Readers** count themselves in a place, one of two by the epoch's parity: usually the place
//!    of their CPU, so that CPUs share no cache line. A reader leaves by the count that it came by,
//!    wherever it runs then; so readers may nest, sleep, move, and run in interrupts and NMIs.
//! 2. **The epoch** goes on by one when nobody is left who came in the epoch before. So at any time
//!    readers are of this epoch or of the last, and the two counts of a place do for all of them.
//! 3. **A grace period** is two steps. Who unlinked something and then saw epoch `e` may free it in
//!    epoch `e + 2`: the first step waits for those who came in `e - 1`, the second for those of
//!    `e`, and who came later sees that it is unlinked.
//! 4. **Nobody waits** in here. A reader that finds the epoch gone on begins anew. A reader that
//!    does not end keeps the epoch where it is, which costs memory, never safety.
//!
//! `interleavings/epochs.rs` tries every interleaving.
//!
//! Why a reader that could see a thing holds the epoch. It counts itself, fence, and finds the
//! epoch `e` that it counted in. Who makes the step to `e + 2` has loaded `e + 1`, fence, and then
//! looks at the counts of `e`. The reader found an older epoch than that, so its fence comes first
//! in the one order of all such fences, and its count is seen. And who came in `e + 1` or later
//! loaded that before its fence, after who unlinked had its own fence and loaded `e`: that fence
//! comes first as well, and the reader sees the thing unlinked.

use super::Carved;
use super::atomic::{AtomicU64, AtomicUsize, Ordering, fence};

use Ordering::{Acquire, Relaxed, Release, SeqCst};

/// Readers of one place, by the parity of the epoch that they came in. Two cache lines, since
/// processors fetch lines in pairs.
#[repr(align(128))]
pub(crate) struct Readers {
    of: [AtomicUsize; 2],
}

impl Readers {
    #[cfg(loom)]
    pub(crate) fn new() -> Readers {
        Readers {
            of: [AtomicUsize::new(0), AtomicUsize::new(0)],
        }
    }
}

/// The epochs of a machine.
pub(crate) struct Epochs {
    now: AtomicU64,
    places: Carved<Readers>,
}

/// Steps from one epoch to where what was unlinked in it may be freed.
pub(crate) const GRACE: u64 = 2;

impl Epochs {
    /// Epochs with a place for each group of readers, all of them without readers (zeroes).
    pub(crate) fn new(places: Carved<Readers>) -> Epochs {
        Epochs {
            now: AtomicU64::new(0),
            places,
        }
    }

    /// Counts a reader in. The last of the places is the one for who does not know his CPU; any
    /// other number will do, too. Context: any.
    #[inline]
    pub(crate) fn begin(&self, place: Option<usize>) -> Reading<'_> {
        let last = self.places.len() - 1;
        let place = place.map_or(last, |n| n % last.max(1));
        let readers = &self.places[place];
        let mut epoch = self.now.load(Relaxed);
        loop {
            let count = &readers.of[(epoch & 1) as usize];
            // Relaxed, both: the fence orders them.
            count.fetch_add(1, Relaxed);
            // Pairs with the fences in `try_step` and `cookie`.
            fence(SeqCst);
            let now = self.now.load(Relaxed);
            if now == epoch {
                return Reading { count };
            }
            // Nothing was read: nothing is to be ordered.
            count.fetch_sub(1, Relaxed);
            epoch = now;
        }
    }

    /// The epoch, for who has unlinked something: [`Epochs::has_passed`] says when it may be freed.
    #[inline]
    pub(crate) fn cookie(&self) -> u64 {
        // Pairs with the fence in `begin`: who comes in a later epoch sees what was unlinked.
        fence(SeqCst);
        self.now.load(Relaxed)
    }

    /// True if all readers that ran when the cookie was taken have ended.
    #[inline]
    pub(crate) fn has_passed(&self, cookie: u64) -> bool {
        self.now().wrapping_sub(cookie) >= GRACE
    }

    /// The epoch, for who frees what was unlinked.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        // Acquire: pairs with the Release of the steps; all that readers did is over.
        self.now.load(Acquire)
    }

    /// Goes on to the next epoch if nobody is left of the last. Waits for nobody.
    pub(crate) fn try_step(&self) -> bool {
        let epoch = self.now.load(Relaxed);
        // Pairs with the fence in `begin`: who found an older epoch is seen below.
        fence(SeqCst);
        let last = (epoch.wrapping_add(1) & 1) as usize;
        // Acquire: pairs with the Release in `Reading::end`.
        let is_read = |place: &Readers| place.of[last].load(Acquire) != 0;
        if self.places.iter().any(is_read) {
            return false;
        }
        self.step_from(epoch)
    }

    /// Goes on from this epoch, if it is still the one: whoever calls knows that nobody is left.
    pub(crate) fn step_from(&self, epoch: u64) -> bool {
        let next = epoch.wrapping_add(1);
        // Release: pairs with the Acquire in `now`. What the step before saw is passed on: the
        // caller loaded the epoch, by Acquire or with a fence behind.
        self.now
            .compare_exchange(epoch, next, Release, Relaxed)
            .is_ok()
    }

    /// Readers that are counted now, in all places.
    pub(crate) fn readers(&self) -> usize {
        let counts = self.places.iter().flat_map(|place| &place.of);
        counts.map(|count| count.load(Relaxed)).sum()
    }
}

/// A reader that is counted.
pub(crate) struct Reading<'e> {
    count: &'e AtomicUsize,
}

impl Reading<'_> {
    /// Counts the reader out.
    #[inline]
    pub(crate) fn end(&self) {
        // Release: pairs with the Acquire in `try_step`; what was read is read before it is freed.
        self.count.fetch_sub(1, Release);
    }
}
