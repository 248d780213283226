//! Who wakes the background (P112, P400).

use super::{Balance, Failures};
use crate::flags::ZoneKind;

/// P400: what wakers want of a node: the highest order and the highest zone.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// The highest order.
    pub order: u32,
    /// The highest zone; `None`: nobody wants anything.
    pub highest: Option<ZoneKind>,
}

impl Demand {
    /// Nobody wants anything.
    pub const NONE: Demand = Demand {
        order: 0,
        highest: None,
    };

    /// P400: both demands, as maxima.
    pub const fn and(self, other: Demand) -> Demand {
        let highest = match (self.highest, other.highest) {
            (Some(a), Some(b)) => Some(if a.index() > b.index() { a } else { b }),
            (Some(only), None) | (None, Some(only)) => Some(only),
            (None, None) => None,
        };
        Demand {
            order: if self.order > other.order {
                self.order
            } else {
                other.order
            },
            highest,
        }
    }
}

/// Whether the background task of a node is at work.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum TaskState {
    /// It sleeps, for long or on trial.
    Asleep,
    /// It runs, or is about to.
    Running,
}

/// P400: a node, as far as waking depends on it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct NodeTask {
    /// What its task does.
    pub task: TaskState,
    /// Its runs without success.
    pub failures: Failures,
    /// Whether it is balanced at the order of the request.
    pub balance: Balance,
    /// The sum of its zones' watermark boosts, in pages (eligible zones).
    pub boost: usize,
}

/// P400: who wakes, for what.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct WakeRequest {
    /// The order that is wanted.
    pub order: u32,
    /// Pages that the zone manages which the waker could have used.
    pub zone_managed: usize,
    /// The waker's cpuset lets it use the zone.
    pub cpuset_allows: bool,
    /// The waker can reclaim, and so compact, itself.
    pub direct_reclaim: bool,
}

/// P400: what a waker does.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Wake {
    /// Nothing. The demand is not recorded, so that the next run does not work for a request that
    /// nobody can serve.
    Nothing,
    /// Record the demand: the task is running and looks for it when its run is over.
    Record,
    /// Record the demand and wake the task.
    Kswapd,
    /// Wake the compaction task for the order: pages are there, or cannot be had, but no block is.
    Kcompactd,
}

/// P400: whether a request that found a zone at its low watermark wakes the background of the
/// zone's node, and for what. Never sleeps; asked by every turn of a slow path (P112).
pub const fn wake(request: &WakeRequest, node: &NodeTask) -> Wake {
    if request.zone_managed == 0 || !request.cpuset_allows {
        return Wake::Nothing;
    }
    if matches!(node.task, TaskState::Running) {
        return Wake::Record;
    }
    let enough = matches!(node.balance, Balance::Balanced) && node.boost == 0;
    if node.failures.is_hopeless() || enough {
        // Order 0 needs no compaction.
        return if request.direct_reclaim || request.order == 0 {
            Wake::Nothing
        } else {
            Wake::Kcompactd
        };
    }
    Wake::Kswapd
}
