//! The compaction task of a node (P400, P403, P427).
//!
//! It sleeps until it is woken for an order ([`Demand`], merged as maxima), or until a period of
//! [`super::Proactive`] is over. Woken, it goes once over the zones of its node that are suitable
//! and not deferred, at [`DAEMON_PRIORITY`], and tells each zone's [`super::Deferral`] what came of
//! it.

use super::{CompactPriority, Suitability};
use crate::policy::reclaim::kswapd::Demand;

/// P427: how hard the task tries.
pub const DAEMON_PRIORITY: CompactPriority = CompactPriority::SyncLight;

/// What a waker does.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum DaemonWake {
    /// Nothing: no zone of the node could be compacted for the order.
    No,
    /// Record the demand and wake the task; counts `compact_daemon_wake` when it wakes.
    Yes,
}

/// P400, P403: whether the task is worth waking: for an order above 0, if one of the node's
/// eligible zones is suitable now ([`super::suitability`]). One that has a block already needs
/// none.
pub fn wakes_daemon(demand: Demand, zones: impl IntoIterator<Item = Suitability>) -> DaemonWake {
    let wanted = demand.order > 0 && demand.highest.is_some();
    if wanted && zones.into_iter().any(|zone| zone == Suitability::Suitable) {
        DaemonWake::Yes
    } else {
        DaemonWake::No
    }
}
