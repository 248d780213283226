//! Node reclaim: one node is reclaimed for a request that would go to another (P408, P710, P711).
//!
//! One request at a time reclaims a node this way; another goes on to its next zone meanwhile.

use super::lru::{ListPass, Who};
use super::{Above, Reclaim};
use crate::frame::NodeId;
use crate::page::Need;
use crate::platform::Platform;
use crate::policy::reclaim::CLUSTER_PAGES;
use crate::policy::reclaim::lru::Kind;
use crate::policy::reclaim::node::{
    DEFAULT_MIN_SLAB_RATIO, DEFAULT_MIN_UNMAPPED_RATIO, NodeFacts, Passes, Ratios, is_worth_it,
};
use crate::sync::atomic::AtomicUsize;
use crate::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// What node reclaim keeps.
pub(super) struct Near {
    /// P711, in percent.
    min_unmapped_ratio: AtomicUsize,
    min_slab_ratio: AtomicUsize,
    /// Nodes that are being reclaimed, one bit each.
    busy: AtomicUsize,
}

impl Near {
    pub(super) const fn new() -> Near {
        Near {
            min_unmapped_ratio: AtomicUsize::new(DEFAULT_MIN_UNMAPPED_RATIO),
            min_slab_ratio: AtomicUsize::new(DEFAULT_MIN_SLAB_RATIO),
            busy: AtomicUsize::new(0),
        }
    }

    /// `None`: somebody is at it.
    fn begin(&self, node: NodeId) -> Option<Busy<'_>> {
        let bit = 1 << node.0;
        // Acquire: pairs with the Release in `Busy::drop`: one reclaimer comes after the other.
        let before = self.busy.fetch_or(bit, Acquire);
        (before & bit == 0).then_some(Busy { near: self, bit })
    }
}

/// One node is being reclaimed, until this is dropped.
struct Busy<'a> {
    near: &'a Near,
    bit: usize,
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        // Release: pairs with the Acquire in `begin`.
        self.near.busy.fetch_and(!self.bit, Release);
    }
}

impl<P: Platform> Reclaim<P> {
    /// P711: `min_unmapped_ratio` and `min_slab_ratio`.
    pub fn node_reclaim_ratios(&self) -> Ratios {
        Ratios {
            unmapped: self.near.min_unmapped_ratio.load(Relaxed),
            slab: self.near.min_slab_ratio.load(Relaxed),
        }
    }

    /// P711: in percent of the node. Context: any.
    pub fn set_min_unmapped_ratio(&self, percent: usize) {
        self.near.min_unmapped_ratio.store(percent, Relaxed);
    }

    /// P711: in percent of the node. Context: any.
    pub fn set_min_slab_ratio(&self, percent: usize) {
        self.near.min_slab_ratio.store(percent, Relaxed);
    }

    /// P408: reclaims on one node. Whether it is worth to look at it again.
    ///
    /// Context: of a request that may sleep; outside of sections and locks.
    pub(super) fn reclaim_near<A>(&self, need: &Need<'_>, node: NodeId, above: &A) -> bool
    where
        A: Above + ?Sized,
    {
        let mode = self.pages.zone_reclaim_mode();
        let facts = self.node_facts(node, above);
        if !is_worth_it(&facts, mode, &self.node_reclaim_ratios()) {
            return false;
        }
        let Some(_busy) = self.near.begin(node) else {
            return false;
        };
        let Some(_reclaiming) = self.begin(&"node reclaim") else {
            return false;
        };
        let _stalled = self.stall();
        let wanted = need.request.order.pages();
        let mut passes = Passes::new(wanted);
        while let Some(priority) = passes.step() {
            let lists = ListPass {
                who: Who::Request,
                gfp: need.effort.gfp,
                highest: self.pages.highest(need.request.gfp),
                priority,
                wanted: wanted.max(CLUSTER_PAGES),
                may_write: mode.may_write(),
                may_store: mode.may_store(),
                deactivate: false,
                swappiness: None,
            };
            passes.after(self.pass(&lists, [node].into_iter(), above).pages.freed);
        }
        match passes.is_enough() {
            true => self.events.node_success.add(1),
            false => self.events.node_failed.add(1),
        }
        true
    }

    fn node_facts<A>(&self, node: NodeId, above: &A) -> NodeFacts
    where
        A: Above + ?Sized,
    {
        let lists = self.lru_node_pages(node);
        let on_lists = |kind: Kind| lists.inactive[kind as usize] + lists.active[kind as usize];
        NodeFacts {
            managed: self.pages.managed_pages_of(node),
            droppable: on_lists(Kind::Droppable),
            storable: on_lists(Kind::Storable),
            dirty: lists.dirty,
            slab: above.reclaimable_slab_pages(node),
        }
    }
}
