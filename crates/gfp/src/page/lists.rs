//! Zonelists: the zones of all nodes in the order in which one node's requests look at them.
//!
//! Boot puts every zone that the memory map describes in its place; that order never changes. A
//! list holds those that have memory. It is written anew when a zone gets its first memory; a
//! request that looks meanwhile may miss a zone or see one twice. Before a request fails it looks
//! whether the lists changed while it tried ([`Changes`](super::known::Changes)), and then tries
//! once more (P111, P205).

use super::BootConfig;
use super::cache::Front;
use super::known::Known;
use super::zone::Zone;
use crate::flags::{Gfp, ZoneKind};
use crate::frame::{MAX_NODES, NodeId};
#[cfg(test)]
use crate::sync::atomic::Ordering::Acquire;
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::atomic::{AtomicU8, AtomicU32};
use crate::sync::stock::At;

/// Zones that a machine can have.
pub(super) const MAX_ZONES: usize = MAX_NODES * ZoneKind::COUNT;

/// Zone selectors of a request, checked or not (P47).
const SELECTORS: usize = 16;

/// One node's zonelist (P202).
pub(super) struct ZoneList {
    /// See [`ZoneList::first`].
    first: [[AtomicU32; SELECTORS]; 2],
    known: Known<MAX_ZONES>,
    /// All zones, also those whose memory is to come, in order.
    places: [u8; MAX_ZONES],
    nr_places: u8,
}

impl ZoneList {
    fn empty() -> ZoneList {
        ZoneList {
            first: [const { [const { AtomicU32::new(At::NOWHERE.bytes()) }; SELECTORS] }; 2],
            known: Known::new(),
            places: [0; MAX_ZONES],
            nr_places: 0,
        }
    }

    /// The list of `node`: nearest node first, then highest zone first (P202, P203). Nothing is on
    /// it yet.
    pub(super) fn new(node: NodeId, zones: &[Zone], config: &BootConfig) -> ZoneList {
        let distance = |to: NodeId| config.distance_of(node, to);
        let mut list = ZoneList::empty();
        let mut used = [false; MAX_NODES];
        loop {
            // Ties go to the node that follows this one, so that equal nodes rotate.
            let next = (0..MAX_NODES)
                .filter(|n| !used[*n] && zones.iter().any(|z| z.node.0 as usize == *n))
                .min_by_key(|n| {
                    let turn = (*n + MAX_NODES - node.0 as usize) % MAX_NODES;
                    (distance(NodeId(*n as u8)), turn)
                });
            let Some(next) = next else { return list };
            used[next] = true;
            for kind in ZoneKind::ALL.iter().rev() {
                let its = |z: &&Zone| z.node.0 as usize == next && z.kind == *kind;
                if let Some(zone) = zones.iter().find(its) {
                    list.places[list.nr_places as usize] = zone.id;
                    list.nr_places += 1;
                }
            }
        }
    }

    /// Writes the list: the zones that have memory now. Only one CPU at a time does that. `highest`
    /// answers for a request the highest zone that it may use, if its flags make sense.
    pub(super) fn populate(
        &self,
        node: NodeId,
        zones: &[Zone],
        highest: impl Fn(Gfp) -> Option<ZoneKind>,
    ) {
        let places = &self.places[..self.nr_places as usize];
        let with_memory = places
            .iter()
            .filter(|id| zones[**id as usize].is_populated());
        self.known.write(with_memory.clone().copied());
        for (zero, row) in [Gfp::NONE, Gfp::ZERO].into_iter().zip(&self.first) {
            for (selector, place) in row.iter().enumerate() {
                let highest = highest(zero | Gfp::from_bits_retain(selector as u32));
                let may = |id: &&u8| Some(zones[**id as usize].kind) <= highest;
                let first = with_memory.clone().find(may);
                let near = first.filter(|id| zones[**id as usize].node == node);
                let lists = near.map_or(At::NOWHERE, |id| Front::lists_of(usize::from(*id)));
                // Relaxed: blocks that are found there were put there by this very CPU.
                place.store(lists.bytes(), Relaxed);
            }
        }
    }

    /// Where each CPU has the lists of the zone that a request looks at first, if it is on this
    /// very node; else [`At::NOWHERE`].
    #[inline(always)]
    pub(super) fn first(&self, gfp: Gfp) -> At {
        let zero = gfp.contains(Gfp::ZERO) as usize;
        let place = &self.first[zero][gfp.bits() as usize % SELECTORS];
        // Relaxed: as where it is written.
        At::from_bytes(place.load(Relaxed))
    }

    /// The zones with memory, in order; each is to be loaded with `Acquire`.
    #[inline]
    pub(super) fn ids(&self) -> &[AtomicU8] {
        self.known.ids()
    }

    /// The zones with memory, in order.
    #[cfg(test)]
    pub(super) fn known(&self) -> std::vec::Vec<u8> {
        let load = |id: &AtomicU8| id.load(Acquire);
        self.ids().iter().map(load).collect()
    }
}
