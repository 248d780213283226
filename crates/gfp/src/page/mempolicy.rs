//! Policies of nodes (P137-P139): values that a caller keeps, and what requests by them do.
//!
//! A policy makes one or two ordinary requests of one ([`attempts`]); nothing else in this room
//! knows of it, but that a request can be limited to a set of nodes ([`PageRequest::among`]). An
//! interleaving policy counts its own allocations, so that it spreads them exactly, whoever shares
//! it. There is no policy of a task: see ADR 0021.

use super::{PageAllocator, PageRequest};
use crate::error::AllocError;
use crate::flags::Gfp;
use crate::frame::{NodeId, NodeMask, Order, Pfn};
use crate::platform::Platform;
use crate::policy::mempolicy::{Among, Attempt, Mode, Weights, attempts, node_at, share_of};
use crate::sync::atomic::Ordering::{Acquire, Relaxed};
use crate::sync::atomic::{AtomicU8, AtomicU32};

/// Pages that one node is asked for at a time.
const CHUNK: usize = 32;

/// On which nodes the memory of some purpose is to lie (`struct mempolicy`).
///
/// It is a value that who allocates keeps, and may share: an interleaving policy goes on where the
/// last allocation by it, on whatever CPU, left off. Nodes without memory are passed over.
///
/// ```
/// use gfp::frame::{NodeId, NodeMask};
/// use gfp::page::{MemPolicy, Weights};
///
/// let both = NodeMask::of(NodeId(0)).with(NodeId(1));
/// let spread = MemPolicy::interleave(both);
/// // Of four pages three are of node 0, which has three times the bandwidth.
/// let by_bandwidth = MemPolicy::weighted_interleave(both, Weights::new([3, 1, 0, 0, 0, 0, 0, 0]));
/// # let _ = (spread, by_bandwidth);
/// ```
#[derive(Debug)]
pub struct MemPolicy {
    mode: Mode,
    nodes: NodeMask,
    weights: Weights,
    /// Where in its turn an interleaving policy is.
    at: AtomicU32,
}

impl MemPolicy {
    const fn new(mode: Mode, nodes: NodeMask, weights: Weights) -> MemPolicy {
        MemPolicy {
            mode,
            nodes,
            weights,
            at: AtomicU32::new(0),
        }
    }

    /// The node of the CPU that asks, else the nearest to it. Huge pages (order 9) come from that
    /// node, from others only if the request may wait (P139).
    pub const fn local() -> MemPolicy {
        MemPolicy::new(Mode::Local, NodeMask::ALL, Weights::EQUAL)
    }

    /// This node, else the nearest to it. Huge pages as with [`MemPolicy::local`].
    pub const fn preferred(node: NodeId) -> MemPolicy {
        MemPolicy::new(Mode::Preferred, NodeMask::of(node), Weights::EQUAL)
    }

    /// These nodes, the nearest first; others only if none of these can give without waiting
    /// (P138).
    pub const fn preferred_many(nodes: NodeMask) -> MemPolicy {
        MemPolicy::new(Mode::PreferredMany, nodes, Weights::EQUAL)
    }

    /// These nodes and no others, the nearest first. A request fails while others have memory,
    /// unless it frees memory or is to end soon, and so may take what it finds (P115).
    pub const fn bind(nodes: NodeMask) -> MemPolicy {
        MemPolicy::new(Mode::Bind, nodes, Weights::EQUAL)
    }

    /// These nodes one after the other, each allocation preferring the next (P137).
    pub const fn interleave(nodes: NodeMask) -> MemPolicy {
        MemPolicy::new(Mode::Interleave, nodes, Weights::EQUAL)
    }

    /// These nodes one after the other, each as often in a row as it weighs (P137).
    pub const fn weighted_interleave(nodes: NodeMask, weights: Weights) -> MemPolicy {
        MemPolicy::new(Mode::WeightedInterleave, nodes, weights)
    }

    /// How it chooses.
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// The nodes that it was made for.
    pub const fn nodes(&self) -> NodeMask {
        self.nodes
    }

    /// Takes the next `n` places in the turn of these nodes. Returns the first.
    pub(super) fn take_places(&self, nodes: NodeMask, n: usize) -> u32 {
        let period = u64::from(self.weights.period(nodes).max(1));
        let first = |at: u32| u64::from(at) % period;
        // Relaxed: the number is all there is to see, and no two get the same place.
        let next = |at| Some(((first(at) + n as u64 % period) % period) as u32);
        let old = self.at.fetch_update(Relaxed, Relaxed, next);
        first(old.unwrap_or_else(|at| at)) as u32
    }

    fn interleaves(&self) -> bool {
        matches!(self.mode, Mode::Interleave | Mode::WeightedInterleave)
    }
}

impl Default for MemPolicy {
    fn default() -> MemPolicy {
        MemPolicy::local()
    }
}

impl<P: Platform> PageAllocator<P> {
    /// 2^order pages where a policy says, each attempt made by `alloc`.
    ///
    /// # Errors
    /// That of the last attempt; [`AllocError::NoSuchNode`] if the request is bound to nodes that
    /// have no memory which its flags allow.
    pub(crate) fn alloc_by_policy(
        &self,
        policy: &MemPolicy,
        gfp: Gfp,
        order: Order,
        mut alloc: impl FnMut(&PageRequest) -> Result<Pfn, AllocError>,
    ) -> Result<Pfn, AllocError> {
        let (first, second) = attempts(policy.mode, gfp, order.get().into());
        let there = policy.nodes.and(self.nodes().collect());
        let strict = gfp.contains(Gfp::THISNODE);
        let turn = match policy.interleaves() && !strict {
            true => node_at(policy.take_places(there, 1), there, &policy.weights),
            false => None,
        };
        let request = |by: Attempt| match (PageRequest::new(by.gfp, order), turn) {
            (req, Some(node)) => req.at(Some(node)),
            (req, None) if strict => req,
            (req, None) => self.request_by(policy, by.among, req),
        };
        let mut result = alloc(&request(first));
        if let (Err(_), Some(second)) = (result, second) {
            result = alloc(&request(second));
        }
        if let (Ok(pfn), Some(node)) = (result, turn) {
            self.note_interleaved(Some(pfn), node);
        }
        result
    }

    /// Fills the empty places of `out` with single pages where a policy says, each part by `bulk`,
    /// which is as [`PageAllocator::alloc_bulk`]. Returns how many places from the start on are
    /// filled.
    pub(crate) fn alloc_bulk_by_policy(
        &self,
        policy: &MemPolicy,
        gfp: Gfp,
        out: &mut [Option<Pfn>],
        mut bulk: impl FnMut(&PageRequest, &mut [Option<Pfn>]) -> usize,
    ) -> usize {
        let (first, second) = attempts(policy.mode, gfp, 0);
        let single = |gfp| PageRequest::new(gfp, Order::ZERO);
        if gfp.contains(Gfp::THISNODE) {
            return bulk(&single(gfp), out);
        }
        if policy.interleaves() {
            self.fill_in_turn(policy, out, |node, part| {
                bulk(&single(gfp).at(Some(node)), part)
            });
            return out.iter().take_while(|place| place.is_some()).count();
        }
        let request = |by: Attempt| self.request_by(policy, by.among, single(by.gfp));
        let filled = bulk(&request(first), out);
        match second.filter(|_| filled < out.len()) {
            Some(second) => bulk(&request(second), out),
            None => filled,
        }
    }

    /// Fills empty places, each node's share in turn. What a node does not give, the others do not
    /// give for it.
    fn fill_in_turn(
        &self,
        policy: &MemPolicy,
        out: &mut [Option<Pfn>],
        mut bulk: impl FnMut(NodeId, &mut [Option<Pfn>]) -> usize,
    ) {
        let there = policy.nodes.and(self.nodes().collect());
        let n = out.iter().filter(|place| place.is_none()).count();
        let at = policy.take_places(there, n);
        let mut empty = out.iter_mut().filter(|place| place.is_none());
        // The node whose turn it is comes first, as it would one by one.
        let turn = node_at(at, there, &policy.weights).unwrap_or_default();
        let from_turn = there.iter().filter(|node| *node >= turn);
        for node in from_turn.chain(there.iter().filter(|node| *node < turn)) {
            let mut share = share_of(node, at, n, there, &policy.weights);
            while share != 0 {
                let mut pages = [None; CHUNK];
                let wanted = share.min(CHUNK);
                let got = bulk(node, &mut pages[..wanted]);
                for (pfn, place) in pages[..got].iter().zip(&mut empty) {
                    self.note_interleaved(*pfn, node);
                    *place = *pfn;
                }
                share = if got == wanted { share - got } else { 0 };
            }
        }
    }

    /// P615: counts a page that came from the node that interleaving chose.
    fn note_interleaved(&self, pfn: Option<Pfn>, node: NodeId) {
        let zone = pfn.and_then(|pfn| self.blocks.zone_of(pfn));
        if let Some(zone) = zone.map(|zone| &self.zones[zone])
            && zone.node == node
        {
            // Relaxed: a number for views.
            zone.interleaved.fetch_add(1, Relaxed);
        }
    }

    /// A request of one attempt, where that looks.
    fn request_by(&self, policy: &MemPolicy, among: Among, req: PageRequest) -> PageRequest {
        match (policy.mode, among) {
            (_, Among::Chosen) => {
                let from = self.nearest(self.platform.node(), policy.nodes);
                req.among(from, policy.nodes)
            }
            (Mode::Preferred, Among::All) => req.at(policy.nodes.iter().next()),
            _ => req,
        }
    }

    /// The nearest of some nodes that has memory; `here` if none has.
    fn nearest(&self, here: NodeId, nodes: NodeMask) -> NodeId {
        let ids = self
            .lists
            .get(usize::from(here.0))
            .map_or(&[][..], |l| l.ids());
        // Acquire: pairs with the Release in `Known::write`.
        let node = |id: &AtomicU8| self.zones[usize::from(id.load(Acquire))].node;
        ids.iter().map(node).find(|n| nodes.has(*n)).unwrap_or(here)
    }
}
