//! The post of a node's task in the background: who has it, what is wanted of it, and how it is
//! called (P400).
//!
//! ```text
//!  waker                                    the node's task
//!  decision = by state                      state = ASLEEP
//!  Record: demand = max(demand, mine)       demand taken once more: nothing new?
//!          state is RUNNING still? done     sleep until called
//!  Wake:   demand = max(demand, mine)       state = RUNNING
//!          called = 1, wake                 called = 0, demand taken
//! ```
//!
//! 1. Platforms run the task; while nobody has the post nobody wakes, and nobody waits.
//! 2. **No demand is lost.** Who wakes writes the demand, then calls; the task forgets the call,
//!    then takes the demand: what it does not take is followed by a call that it has not forgotten.
//!    Who finds the task running only notes the demand ([`Post::note`]). Notes and takings are
//!    exchanges of one word, so one is first: either the task takes the note, or the waker sees
//!    what the task had written before it took, that it falls asleep, and decides anew.
//!
//! All interleavings: `interleavings/post.rs`.

use crate::flags::ZoneKind;
use crate::platform::{Context, Platform};
use crate::policy::reclaim::kswapd::{Demand, TaskState};
use crate::sync::WaitQueue;
use crate::sync::atomic::{AtomicU32, Ordering, Ordering::SeqCst};
use core::fmt;

/// What a node's task does.
const NO_TASK: u32 = 0;
const ASLEEP: u32 = 1;
const RUNNING: u32 = 2;

/// The post of one task of one node.
#[derive(Default)]
pub(crate) struct Post {
    /// A [`Demand`]: the order in the low byte, the highest zone and one above it.
    demand: AtomicU32,
    state: AtomicU32,
    /// 1: the task is to get up.
    called: AtomicU32,
    /// Where the task sleeps.
    sleeper: WaitQueue,
}

/// Why a task cannot be one of a node's tasks in the background.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum NodeTaskError {
    /// There cannot be such a node.
    NoSuchNode,
    /// The node has such a task already.
    HasOne,
}

impl fmt::Display for NodeTaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NodeTaskError::NoSuchNode => "no such node",
            NodeTaskError::HasOne => "another task does this for the node",
        })
    }
}

impl core::error::Error for NodeTaskError {}

fn pack(demand: Demand) -> u32 {
    let highest = demand.highest.map_or(0, |kind| kind as u32 + 1);
    highest << 8 | demand.order
}

fn unpack(word: u32) -> Demand {
    let zone = |kind: &&ZoneKind| **kind as u32 + 1 == word >> 8;
    Demand {
        order: word & 0xff,
        highest: ZoneKind::ALL.iter().find(zone).copied(),
    }
}

/// What wakers do.
impl Post {
    /// What the task does; `None`: nobody has the post.
    pub(crate) fn state(&self) -> Option<TaskState> {
        match self.state.load(SeqCst) {
            NO_TASK => None,
            RUNNING => Some(TaskState::Running),
            _ => Some(TaskState::Asleep),
        }
    }

    /// P400: as maxima. True: the task runs, and looks for it when its run is over.
    pub(crate) fn note(&self, demand: Demand) -> bool {
        let merge = |word| Some(pack(unpack(word).and(demand)));
        // SeqCst: see the module.
        let merged = self.demand.fetch_update(SeqCst, SeqCst, merge);
        debug_assert!(merged.is_ok());
        self.state.load(SeqCst) == RUNNING
    }

    /// Notes the demand and has the task get up for it. From an NMI nobody is woken: the demand
    /// stays for who comes next.
    ///
    /// Context: any.
    pub(crate) fn want<P: Platform>(&self, platform: &P, demand: Demand) {
        self.note(demand);
        if platform.context() != Context::Nmi {
            self.call(platform);
        }
    }

    /// Has the task get up. Context: any but an NMI.
    pub(crate) fn call<P: Platform>(&self, platform: &P) {
        // Release: pairs with the Acquire in `is_called` and `answer`; what was wanted is seen.
        self.called.store(1, Ordering::Release);
        self.sleeper.wake_all(platform);
    }

    /// Has the task look whether it is to stop. Context: any but an NMI.
    pub(crate) fn look<P: Platform>(&self, platform: &P) {
        self.sleeper.wake_all(platform);
    }
}

/// What the task does.
impl Post {
    /// Takes the post.
    ///
    /// # Errors
    /// [`NodeTaskError::HasOne`].
    pub(crate) fn enter(&self) -> Result<(), NodeTaskError> {
        let entered = self.state.compare_exchange(NO_TASK, ASLEEP, SeqCst, SeqCst);
        entered.map(drop).map_err(|_| NodeTaskError::HasOne)
    }

    /// Gives the post up.
    pub(crate) fn leave(&self) {
        self.state.store(NO_TASK, SeqCst);
    }

    /// From now on it runs: wakers only note what they want.
    pub(crate) fn run(&self) {
        self.state.store(RUNNING, SeqCst);
    }

    /// From now on it is to be woken. What was wanted before.
    pub(crate) fn rest(&self) -> Demand {
        self.state.store(ASLEEP, SeqCst);
        self.take()
    }

    fn take(&self) -> Demand {
        unpack(self.demand.swap(0, SeqCst))
    }

    /// It was called.
    pub(crate) fn is_called(&self) -> bool {
        self.called.load(Ordering::Acquire) != 0
    }

    /// It has heard the call. What is wanted.
    pub(crate) fn answer(&self) -> Demand {
        self.called.swap(0, Ordering::Acquire);
        self.take()
    }

    /// Sleeps until it is called or `stop` says so; false if the clock showed `deadline_ns` first.
    pub(crate) fn sleep<P: Platform>(
        &self,
        platform: &P,
        deadline_ns: Option<u64>,
        stop: impl Fn() -> bool,
    ) -> bool {
        let up = || self.is_called() || stop();
        self.sleeper.wait_by(platform, deadline_ns, up)
    }
}

#[cfg(all(test, not(loom)))]
mod test_only {
    use super::*;

    impl Post {
        /// Plays a task that somebody else runs.
        pub(in crate::reclaim) fn play(&self, state: TaskState) {
            let word = match state {
                TaskState::Running => RUNNING,
                TaskState::Asleep => ASLEEP,
            };
            self.state.store(word, SeqCst);
        }

        /// Nobody has called.
        pub(in crate::reclaim) fn forget(&self) {
            self.demand.store(0, SeqCst);
            self.called.store(0, SeqCst);
        }

        /// What is wanted, and whether the task is to get up.
        pub(in crate::reclaim) fn wanted(&self) -> (Demand, bool) {
            (unpack(self.demand.load(SeqCst)), self.is_called())
        }
    }
}
