//! Domains of firmware to nodes of the allocator.
//!
//! Domains are any 32-bit numbers; nodes are `0..MAX_NODES`. The domains that SRAT names get nodes
//! in ascending order, so that the numbering does not hang on the order of entries. Domains that
//! find no place, and memory and CPUs of no domain, belong to node 0: wrong locality is slow,
//! memory that is lost is worse.

use super::acpi::{Slit, Srat};
use super::list::List;
use gfp::frame::{MAX_NODES, NodeId};

/// Nodes, their distances, and the domains they were.
#[derive(Copy, Clone, Debug)]
pub struct Nodes {
    domains: List<u32, MAX_NODES>,
    distance: [[u8; MAX_NODES]; MAX_NODES],
    folded: usize,
}

/// Distances where SLIT says none: 10 to itself, 20 to each other.
fn usual_distance(from: usize, to: usize) -> u8 {
    if from == to { 10 } else { 20 }
}

impl Nodes {
    /// Numbers the domains of `srat`; without one there is a single node.
    pub fn new(srat: Option<&Srat<'_>>, slit: Option<&Slit<'_>>) -> Nodes {
        let named = || {
            let memory = srat.into_iter().flat_map(|s| s.memory().map(|m| m.domain));
            let cpus = srat.into_iter().flat_map(|s| s.cpus().map(|c| c.domain));
            memory.chain(cpus)
        };
        let mut domains = List::new(0);
        let mut folded = 0;
        let mut next = named().min();
        while let Some(domain) = next {
            // Most of them are few: a table can hold thousands, which are not worth counting.
            if domains.push(domain).is_err() {
                folded = named().filter(|d| *d >= domain).count();
                break;
            }
            next = named().filter(|d| *d > domain).min();
        }
        if domains.is_empty() {
            // One place is free: the list is empty.
            let _ = domains.push(0);
        }
        let known = |from: usize, to: usize| slit?.distance(*domains.get(from)?, *domains.get(to)?);
        let distance = core::array::from_fn(|from| {
            core::array::from_fn(|to| known(from, to).unwrap_or(usual_distance(from, to)))
        });
        Nodes {
            domains,
            distance,
            folded,
        }
    }

    /// Number of nodes, at least 1.
    pub fn count(&self) -> usize {
        self.domains.len()
    }

    /// Entries of SRAT whose domain found no place and counts as node 0.
    pub fn folded(&self) -> usize {
        self.folded
    }

    /// The node that a domain became; node 0 for one that is not known.
    pub fn of_domain(&self, domain: u32) -> NodeId {
        let place = self.domains.iter().position(|d| *d == domain);
        NodeId(place.unwrap_or(0) as u8)
    }

    /// The domain that a node was.
    pub fn domain(&self, node: NodeId) -> Option<u32> {
        self.domains.get(node.0 as usize).copied()
    }

    /// Distance of two nodes as in `BootConfig::distance`; 255 where one does not exist.
    pub fn distance(&self, from: NodeId, to: NodeId) -> u8 {
        let row = self.distance.get(from.0 as usize);
        row.and_then(|row| row.get(to.0 as usize))
            .copied()
            .unwrap_or(u8::MAX)
    }
}
