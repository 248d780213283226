//! What the views of a machine say of its balloons.

use crate::frame::{MAX_NODES, NodeId};
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::atomic::{AtomicU64, AtomicUsize};

/// Of all balloons together. All accesses are relaxed: numbers by themselves.
pub(in crate::mm) struct BalloonCounts {
    nodes: [AtomicUsize; MAX_NODES],
    inflated: AtomicU64,
    deflated: AtomicU64,
    migrated: AtomicU64,
}

impl BalloonCounts {
    pub(in crate::mm) const fn new() -> BalloonCounts {
        BalloonCounts {
            nodes: [const { AtomicUsize::new(0) }; MAX_NODES],
            inflated: AtomicU64::new(0),
            deflated: AtomicU64::new(0),
            migrated: AtomicU64::new(0),
        }
    }

    /// Pages of a node that are in balloons.
    pub(in crate::mm) fn pages_of(&self, node: NodeId) -> usize {
        self.node(node).load(Relaxed)
    }

    /// Pages so far that came, that went, and that moved.
    pub(in crate::mm) fn events(&self) -> [u64; 3] {
        [&self.inflated, &self.deflated, &self.migrated].map(|n| n.load(Relaxed))
    }

    pub(super) fn inflated(&self, node: NodeId) {
        self.node(node).fetch_add(1, Relaxed);
        self.inflated.fetch_add(1, Relaxed);
    }

    pub(super) fn deflated(&self, node: NodeId) {
        self.node(node).fetch_sub(1, Relaxed);
        self.deflated.fetch_add(1, Relaxed);
    }

    pub(super) fn migrated(&self, from: NodeId, to: NodeId) {
        self.node(to).fetch_add(1, Relaxed);
        self.node(from).fetch_sub(1, Relaxed);
        self.migrated.fetch_add(1, Relaxed);
    }

    fn node(&self, node: NodeId) -> &AtomicUsize {
        &self.nodes[usize::from(node.0) % MAX_NODES]
    }
}
