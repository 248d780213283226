//! Moving pages together so that large blocks come free: the task of a node, and at once.

use super::Mm;
use crate::frame::NodeId;
use crate::platform::{Platform, Sleep};
use crate::reclaim::NodeTaskError;

impl<P: Platform> Mm<P> {
    /// Compaction of one node in the background (P427): has movable pages moved together for
    /// requests that cannot do it themselves, and before anybody asks where the node is fragmented.
    /// The platform runs this in a task of its own, one for each node; no node must have one.
    ///
    /// Returns when `stop` says so, which is asked whenever the task is woken and before each zone:
    /// make it true, then call [`Mm::stop_kcompactd`].
    ///
    /// Context: a task that may sleep. Owners of pages are called in it, and what they allocate
    /// does not reclaim (P133).
    ///
    /// # Errors
    /// [`NodeTaskError`]: there is no such node, or it has a task.
    pub fn kcompactd(&self, node: NodeId, stop: impl Fn() -> bool) -> Result<(), NodeTaskError>
    where
        P: Sleep,
    {
        self.slabs().reclaim().kcompactd(node, stop)
    }

    /// Has the task in [`Mm::kcompactd`] look whether it is to stop. Context: any but an NMI.
    pub fn stop_kcompactd(&self, node: NodeId) {
        self.slabs().reclaim().stop_kcompactd(node);
    }

    /// The task in [`Mm::kcompactd`] has ended without returning, as in
    /// [`Mm::kswapd_is_gone`]: nobody wakes it any more, and another may take its place.
    /// Context: any but an NMI.
    pub fn kcompactd_is_gone(&self, node: NodeId) {
        self.slabs().reclaim().kcompactd_is_gone(node);
    }

    /// Compacts all zones of a node as far as pages can be moved (the node's file `compact`; P708).
    ///
    /// Context: a task that may sleep. Owners of pages are called in it.
    pub fn compact_node(&self, node: NodeId) {
        self.slabs().reclaim().compact_node(node);
    }

    /// [`Mm::compact_node`] of all nodes (`vm.compact_memory`; P708).
    ///
    /// Context: as there.
    pub fn compact_memory(&self) {
        self.pages()
            .nodes()
            .for_each(|node| self.compact_node(node));
    }
}
