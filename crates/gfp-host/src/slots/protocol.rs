//! The protocol between a slot's owner and those who must get at the slot from outside.
//!
//! Two words decide who may touch what a slot protects. The owner alone writes `state` (one other
//! writer: [`Slot::reset`], in a child of a fork that has no such thread); everyone else writes
//! `stop`.
//!
//! ```text
//!   owner (enter)                          stopper
//!   1  state = INSIDE      (Relaxed)       a  stop |= STOPPED     (Relaxed)
//!   2  light fence                         b  fence on everyone
//!   3  read stop           (Acquire)       c  read state          (Acquire), until not INSIDE
//!   4  stopped: state = OUTSIDE, wait      d  ... section ...
//!   5  ... section ...                     e  stop &= !STOPPED    (Release)
//!   6  state = OUTSIDE     (Release)
//! ```
//!
//! *Exclusion* is store buffering: fences 2 and b are ordered one way or the other. 2 before b: c
//! sees INSIDE (or what the owner wrote later) and waits. b before 2: 3 sees STOPPED (or what the
//! stopper wrote later), and the owner backs out. *Visibility*: 6 pairs with c, e pairs with 3. The
//! light fence is a compiler fence: the stopper's `membarrier` makes every running thread of the
//! process execute a full fence, at some point between two of its instructions, which is then
//! either after 1 or before 3. Where that call is missing, the slot is HEAVY: the bit in `stop`
//! sends every entry to the path that executes a real fence.
//!
//! | `state` | meaning | who makes it |
//! |---|---|---|
//! | OUTSIDE | the owner touches nothing | owner, reset |
//! | INSIDE | the owner is in a section, or about to read `stop` | owner |
//! | ELSEWHERE | the owner is in a section of another slot (or about to be) | owner |
//! | LOST | the owner vanished inside a section: never used again | the owner's exit, reset |

#[cfg(not(loom))]
use core::sync::atomic::{AtomicU32, Ordering};
#[cfg(loom)]
use loom::sync::atomic::{AtomicU32, Ordering};

const OUTSIDE: u32 = 0;
const INSIDE: u32 = 1;
const ELSEWHERE: u32 = 2;
const LOST: u32 = 3;

/// Somebody else has the slot.
const STOPPED: u32 = 1;
/// The owner sleeps until STOPPED goes away.
const AWAITED: u32 = 2;
/// Entering takes a real fence.
const HEAVY: u32 = 4;

/// The two sides of the asymmetric fence, so that a model checker can put its own in their place.
pub trait Fences {
    /// What the owner executes between writing `state` and reading `stop`.
    fn light();
    /// What the owner of a HEAVY slot executes there.
    fn full();
}

/// How an entry ended.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Entry {
    /// The owner is inside.
    Inside,
    /// It was inside already.
    Nested,
    /// Somebody else has the slot; wait and try again.
    Stopped,
}

/// One slot. 128 bytes: two cache lines, because the hardware fetches lines in pairs.
#[repr(C, align(128))]
pub struct Slot {
    state: AtomicU32,
    stop: AtomicU32,
    index: AtomicU32,
}

impl Slot {
    /// Slot number `index`, that nobody owns.
    #[cfg(not(loom))]
    pub const fn new(index: u32) -> Slot {
        Slot {
            state: AtomicU32::new(OUTSIDE),
            stop: AtomicU32::new(0),
            index: AtomicU32::new(index),
        }
    }

    /// Slot number `index`, that nobody owns. The atomics of the model checker are not constants.
    #[cfg(loom)]
    pub fn new(index: u32) -> Slot {
        Slot {
            state: AtomicU32::new(OUTSIDE),
            stop: AtomicU32::new(0),
            index: AtomicU32::new(index),
        }
    }

    /// The number given to [`Slot::new`] or [`Slot::prepare`].
    #[inline(always)]
    pub fn index(&self) -> u32 {
        // Relaxed: written before the owner came to know the slot.
        self.index.load(Ordering::Relaxed)
    }

    /// Readies a free slot for a new owner, before the owner sees it.
    pub fn prepare(&self, index: u32, heavy: Heavy) {
        debug_assert_eq!(self.state.load(Ordering::Relaxed), OUTSIDE);
        self.index.store(index, Ordering::Relaxed);
        if heavy == Heavy::Yes {
            self.make_heavy();
        }
    }

    /// From now on entering takes a real fence.
    pub fn make_heavy(&self) {
        self.stop.fetch_or(HEAVY, Ordering::Relaxed);
    }

    /// The owner enters. Steps 1 to 4 of the table.
    #[inline(always)]
    pub fn try_enter<F: Fences>(&self) -> Entry {
        // Only this thread and its signal handlers write `state`; a handler that comes between this
        // load and the store leaves the section before it returns, so the load stays true.
        if self.state.load(Ordering::Relaxed) != OUTSIDE {
            return Entry::Nested;
        }
        self.state.store(INSIDE, Ordering::Relaxed);
        F::light();
        // Acquire: pairs with the Release in `resume`; what the stopper did is seen.
        if self.stop.load(Ordering::Acquire) == 0 {
            return Entry::Inside;
        }
        self.enter_checked::<F>()
    }

    /// [`Slot::try_enter`] without a call: false if the owner is inside already, if somebody has or
    /// wants the slot, or if entering takes a real fence.
    #[inline(always)]
    pub fn enter_quick<F: Fences>(&self) -> bool {
        if self.state.load(Ordering::Relaxed) != OUTSIDE {
            return false;
        }
        self.state.store(INSIDE, Ordering::Relaxed);
        F::light();
        // Acquire: as in `try_enter`.
        if self.stop.load(Ordering::Acquire) == 0 {
            return true;
        }
        // Release: as in `enter_checked`.
        self.state.store(OUTSIDE, Ordering::Release);
        false
    }

    #[cold]
    fn enter_checked<F: Fences>(&self) -> Entry {
        // For a HEAVY slot this is fence 2; for others it does no harm.
        F::full();
        // Acquire: as in `try_enter`.
        if self.stop.load(Ordering::Acquire) & STOPPED == 0 {
            return Entry::Inside;
        }
        // Release: a stopper that sees this goes on; an earlier section of ours is visible to it.
        self.state.store(OUTSIDE, Ordering::Release);
        Entry::Stopped
    }

    /// The owner leaves. Step 6.
    #[inline(always)]
    pub fn leave(&self) {
        debug_assert_eq!(self.state.load(Ordering::Relaxed), INSIDE);
        // Release: pairs with the Acquire in `is_inside`; the section is visible to the stopper.
        self.state.store(OUTSIDE, Ordering::Release);
    }

    /// The owner is about to use another slot: its signal handlers are refused until `come_back`.
    /// False if it is inside something already.
    pub fn go_elsewhere<F: Fences>(&self) -> bool {
        if self.state.load(Ordering::Relaxed) != OUTSIDE {
            return false;
        }
        self.state.store(ELSEWHERE, Ordering::Relaxed);
        // Keeps the compiler from moving the other section before the mark, for our own handlers.
        F::light();
        true
    }

    /// Ends `go_elsewhere`.
    pub fn come_back(&self) {
        debug_assert_eq!(self.state.load(Ordering::Relaxed), ELSEWHERE);
        // Release: keeps the other section before the mark, for our own signal handlers.
        self.state.store(OUTSIDE, Ordering::Release);
    }

    /// True if the owner is inside a section of this or of another slot. For the owner.
    pub fn is_busy(&self) -> bool {
        self.state.load(Ordering::Relaxed) != OUTSIDE
    }

    /// Step a. Then a fence on everyone, then wait while `is_inside`. One stopper at a time.
    pub fn stop(&self) {
        // Relaxed: fence b orders it before the reads of `state`.
        let old = self.stop.fetch_or(STOPPED, Ordering::Relaxed);
        debug_assert_eq!(old & STOPPED, 0, "two stoppers");
    }

    /// True between `stop` and `resume`. A hint: the entry that follows looks again.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed) & STOPPED != 0
    }

    /// Step c.
    pub fn is_inside(&self) -> bool {
        // Acquire: pairs with the Release in `leave` and `enter_checked`.
        self.state.load(Ordering::Acquire) == INSIDE
    }

    /// Step e. True if the owner sleeps on [`Slot::stop_word`] and must be woken.
    #[must_use]
    pub fn resume(&self) -> bool {
        // Release: pairs with the Acquire in `try_enter` and `enter_checked`.
        let old = self.stop.fetch_and(HEAVY, Ordering::Release);
        debug_assert_ne!(old & STOPPED, 0, "resumed without a stop");
        old & AWAITED != 0
    }

    /// For the owner after [`Entry::Stopped`]: the value of [`Slot::stop_word`] to sleep on, or
    /// `None` if the slot is not stopped any more.
    pub fn await_resume(&self) -> Option<u32> {
        let seen = self.stop.load(Ordering::Relaxed);
        if seen & STOPPED == 0 {
            return None;
        }
        let awaited = seen | AWAITED;
        // Relaxed: the entry that follows acquires. A failure means that `stop` changed: look
        // again.
        if seen != awaited
            && self
                .stop
                .compare_exchange(seen, awaited, Ordering::Relaxed, Ordering::Relaxed)
                .is_err()
        {
            return self.await_resume();
        }
        Some(awaited)
    }

    /// The word that [`Slot::await_resume`] speaks of.
    pub fn stop_word(&self) -> &AtomicU32 {
        &self.stop
    }

    /// The owner is gone in the middle of a section: what the slot protects may be half done.
    pub fn lose(&self) {
        self.state.store(LOST, Ordering::Release);
    }

    /// True after `lose`.
    pub fn is_lost(&self) -> bool {
        self.state.load(Ordering::Acquire) == LOST
    }

    /// In the child of a fork, where the owner does not exist: nobody is inside, nobody stops it.
    /// False if the slot is lost.
    ///
    /// INSIDE, when all were brought to rest, is an owner caught between steps 1 and 4: it had
    /// touched nothing, and was about to back out.
    pub fn reset(&self) -> bool {
        self.stop.fetch_and(HEAVY, Ordering::Relaxed);
        if self.is_lost() {
            return false;
        }
        self.state.store(OUTSIDE, Ordering::Relaxed);
        true
    }
}

/// Whether entering takes a real fence.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Heavy {
    /// `membarrier` does it.
    No,
    /// There is no `membarrier`.
    Yes,
}
