//! The protocol of a place: what one CPU id of restartable sequences protects.
//!
//! Here the ids are those of processors, not of threads (`by_cpu.rs`), so the owner of a place
//! changes with each section. Two words decide who may touch what it protects.
//!
//! ```text
//!   owner (enter)                          stopper
//!   1  sequence: both words are 0?         a  barred = 1          (Relaxed)
//!      then owner = me, the commit         b  restart sequences, fence on everyone
//!   2  ... section ...                     c  read owner          (Acquire), until 0 or LOST
//!   3  owner = 0           (Release)       d  ... section ...
//!                                          e  barred = 0          (Release)
//! ```
//!
//! *Owners among themselves*: two sequences under one id never run at the same time, and one that
//! was interrupted begins anew; so the second sees what the first committed. An owner that was
//! moved to another processor keeps its place: 3 pairs with the loads of 1, which acquire. *Owner
//! and stopper*: b comes before 1 or after its commit, never between: a sequence in which it falls
//! begins anew. After the commit: c sees the owner and waits. Before: 1 sees `barred`.
//! *Visibility*: 3 pairs with c, e with 1.
//!
//! Nobody waits for an owner but the stopper: who finds a place taken, also when it has let others
//! run for once, uses the guest slot.

#[cfg(not(loom))]
use core::sync::atomic::{AtomicUsize, Ordering};
#[cfg(loom)]
use loom::sync::atomic::{AtomicUsize, Ordering};

const FREE: usize = 0;
/// No address of a slot, which is what owners are called.
const LOST: usize = 1;
const BARRED: usize = 1;

/// One place. 128 bytes: two cache lines, because the hardware fetches lines in pairs. The first
/// two words are those of `gfp::sync::restart::Claim`.
#[repr(C, align(128))]
pub struct Place {
    owner: AtomicUsize,
    barred: AtomicUsize,
}

impl Place {
    /// Where the words are, in bytes.
    #[cfg(not(loom))]
    pub(super) const OWNER: usize = core::mem::offset_of!(Place, owner);
    #[cfg(not(loom))]
    pub(super) const BARRED: usize = core::mem::offset_of!(Place, barred);

    /// A place that nobody has.
    #[cfg(not(loom))]
    pub const fn new() -> Place {
        Place {
            owner: AtomicUsize::new(FREE),
            barred: AtomicUsize::new(0),
        }
    }

    /// A place that nobody has. The atomics of the model checker are not constants.
    #[cfg(loom)]
    #[allow(clippy::new_without_default, reason = "as the other")]
    pub fn new() -> Place {
        Place {
            owner: AtomicUsize::new(FREE),
            barred: AtomicUsize::new(0),
        }
    }

    /// Step 1 for a model checker and its tests, without what makes it whole: that nothing comes
    /// between its loads and its store. False: the place is taken or barred.
    #[cfg(loom)]
    pub fn claim(&self, me: usize) -> bool {
        // Acquire: as in the sequence, see the theory.
        let taken = self.owner.load(Ordering::Acquire) | self.barred.load(Ordering::Acquire);
        if taken == 0 {
            self.owner.store(me, Ordering::Relaxed);
        }
        taken == 0
    }

    /// For a race detector, which does not see the loads of a sequence: the owner reads both words
    /// once more.
    #[cfg(not(loom))]
    #[inline(always)]
    pub(super) fn note_claimed(&self) {
        if cfg!(gfp_tsan) {
            let _ = self.owner.load(Ordering::Acquire);
            let _ = self.barred.load(Ordering::Acquire);
        }
    }

    /// Step 3, from whatever processor.
    #[inline(always)]
    pub fn leave(&self) {
        debug_assert!(self.owner.load(Ordering::Relaxed) > LOST);
        // Release: pairs with the loads of a sequence, and with the Acquire in `is_owned`.
        self.owner.store(FREE, Ordering::Release);
    }

    /// Step a. Then sequences are restarted, then a wait while `is_owned`. One stopper at a time.
    pub fn bar(&self) {
        // Relaxed: step b orders it before the reads of `owner`.
        let old = self.barred.swap(BARRED, Ordering::Relaxed);
        debug_assert_eq!(old, 0, "two stoppers");
    }

    /// True between `bar` and `unbar`.
    #[cfg(all(test, not(loom)))]
    pub(super) fn is_barred(&self) -> bool {
        self.barred.load(Ordering::Relaxed) != 0
    }

    /// Step c.
    pub fn is_owned(&self) -> bool {
        // Acquire: pairs with the Release in `leave`.
        self.owner.load(Ordering::Acquire) > LOST
    }

    /// True if the place is not used any more. For who has barred it.
    pub fn is_lost(&self) -> bool {
        self.owner.load(Ordering::Acquire) == LOST
    }

    /// Step e.
    pub fn unbar(&self) {
        // Release: pairs with the loads of a sequence.
        self.barred.store(0, Ordering::Release);
    }

    /// `owner` is gone: if it had the place, what that protects may be half done, and it is never
    /// used again.
    pub fn lose_if_of(&self, owner: usize) {
        // Relaxed: only the owner's thread writes its name, and it is that thread which asks.
        if self.owner.load(Ordering::Relaxed) == owner {
            self.owner.store(LOST, Ordering::Release);
        }
    }

    /// In the child of a fork, where only `survivor` exists: nobody bars it, and it is lost if
    /// another had it.
    pub fn reset(&self, survivor: usize) {
        // Relaxed, all of it: there is one thread.
        self.barred.store(0, Ordering::Relaxed);
        let owner = self.owner.load(Ordering::Relaxed);
        if owner != FREE && owner != survivor {
            self.owner.store(LOST, Ordering::Relaxed);
        }
    }
}
