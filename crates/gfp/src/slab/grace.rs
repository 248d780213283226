//! Grace periods of a machine (S35): its own where it has some ([`Grace`]), else epochs
//! ([`sync::epochs`](crate::sync)).
//!
//! All that waits for readers in the library waits by the number of an epoch, two steps at most. A
//! machine with grace periods of its own drives the same number: a step from `e` is made when its
//! cookie says that all readers have ended that ran after `e` had come.

use super::Slabs;
use crate::platform::{Grace, Platform};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use crate::sync::epochs::{Epochs, GRACE, Reading};
use crate::sync::{Carved, Local};
use core::fmt;
use core::marker::PhantomData;

pub(super) use crate::sync::epochs::Readers;

use Ordering::{Acquire, Relaxed, Release, SeqCst};

/// CPUs with a place of their own for their readers; others share.
const MOST_PLACES: usize = 64;

/// Places for the readers of a machine with so many CPU ids; the last is for who came in the middle
/// of another call and does not know his CPU.
pub(super) fn places(nr_cpus: usize) -> usize {
    nr_cpus.clamp(1, MOST_PLACES) + 1
}

/// A moment: what was unlinked before it may be freed when it has passed ([`Slabs::rcu_poll`]).
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct RcuCookie(pub(super) u64);

/// A reader, from when it is made until it is dropped: what it finds meanwhile is freed later.
///
/// Guards may nest, in any order, and come in every context. One that is never dropped keeps memory
/// from being freed, for ever. It stays on its thread:
///
/// ```compile_fail
/// fn is_send<T: Send>() {}
/// is_send::<gfp::slab::RcuGuard<'static>>();
/// ```
#[must_use = "the reader ends when this is dropped"]
pub struct RcuGuard<'a> {
    by: Reader<'a>,
    here: PhantomData<*mut ()>,
}

enum Reader<'a> {
    Counted(Reading<'a>),
    Theirs(&'a dyn Grace, u64),
}

impl Drop for RcuGuard<'_> {
    #[inline]
    fn drop(&mut self) {
        match &self.by {
            Reader::Counted(reading) => reading.end(),
            Reader::Theirs(grace, begun) => grace.read_end(*begun),
        }
    }
}

impl fmt::Debug for RcuGuard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RcuGuard")
    }
}

/// The grace periods of a machine.
pub(super) struct GracePeriods {
    epochs: Epochs,
    /// The machine's own cookie of the epoch, if it has grace periods; taken when the epoch came.
    theirs: AtomicU64,
    /// Somebody asks the machine, or notes its next cookie.
    asking: AtomicBool,
}

impl GracePeriods {
    pub(super) fn new(places: Carved<Readers>) -> GracePeriods {
        GracePeriods {
            epochs: Epochs::new(places),
            theirs: AtomicU64::new(0),
            asking: AtomicBool::new(false),
        }
    }

    /// The epoch, for who has unlinked something.
    #[inline]
    pub(super) fn cookie(&self) -> u64 {
        self.epochs.cookie()
    }

    /// Goes on by one epoch if that can be done at once.
    pub(super) fn step<P: Platform>(&self, platform: &P) -> bool {
        let Some(grace) = platform.grace() else {
            return self.epochs.try_step();
        };
        // Acquire: pairs with the Release below.
        if self.asking.swap(true, Acquire) {
            return false;
        }
        let done = grace.poll(self.theirs.load(Relaxed));
        if done {
            let stepped = self.epochs.step_from(self.epochs.now());
            debug_assert!(stepped, "one at a time makes steps");
            // Pairs with the fence of `cookie`: who saw the epoch before this one has unlinked what
            // he frees before the moment that is named now.
            fence(SeqCst);
            self.theirs.store(grace.cookie(), Relaxed);
        }
        self.asking.store(false, Release);
        done
    }
}

impl<P: Platform> Slabs<P> {
    /// Begins to read: what can be found from now on is freed only after the guard is dropped
    /// (S35).
    ///
    /// Context: any.
    #[inline]
    pub fn rcu_read(&self) -> RcuGuard<'_> {
        let by = match self.platform().grace() {
            Some(grace) => Reader::Theirs(grace, grace.read_begin()),
            None => {
                // Only a number: which place it is makes no difference to what is right.
                let cpu = Local::enter_quick(self.platform()).map(|local| {
                    let cpu = local.cpu();
                    local.leave();
                    cpu.0 as usize
                });
                Reader::Counted(self.grace.epochs.begin(cpu))
            }
        };
        RcuGuard {
            by,
            here: PhantomData,
        }
    }

    /// Names this moment, for [`Slabs::rcu_poll`].
    ///
    /// Context: any.
    #[inline]
    pub fn rcu_cookie(&self) -> RcuCookie {
        RcuCookie(self.grace.cookie())
    }

    /// True if all readers that ran when the cookie was taken have ended. Waits for nobody.
    ///
    /// Context: any.
    pub fn rcu_poll(&self, cookie: RcuCookie) -> bool {
        for _ in 0..GRACE {
            if self.grace.epochs.has_passed(cookie.0) {
                return true;
            }
            if !self.grace.step(self.platform()) {
                break;
            }
        }
        self.grace.epochs.has_passed(cookie.0)
    }

    /// Waits until all readers have ended that ran when the cookie was taken.
    ///
    /// Context: a task that may wait, outside of sections, and no reader itself: that waits for
    /// ever.
    pub fn rcu_wait(&self, cookie: RcuCookie) {
        let mut spins = 0;
        while !self.rcu_poll(cookie) {
            self.platform().relax(spins);
            spins = spins.saturating_add(1);
        }
    }

    /// Readers that the library counts now; 0 on a machine with grace periods of its own.
    pub fn rcu_readers(&self) -> usize {
        self.grace.epochs.readers()
    }
}
