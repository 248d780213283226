//! Zonelists: the zones of all nodes in the order in which one node's requests look at them.
//!
//! Boot puts every zone that the memory map describes in its place; that order never changes. A
//! list holds those that have memory. It is written anew when a zone gets its first memory; a
//! request that looks meanwhile may miss a zone or see one twice. Before a request fails it looks
//! whether the lists changed while it tried ([`Changes`]), and then tries once more (P111, P205).

use super::BootConfig;
use super::zone::Zone;
use crate::flags::ZoneKind;
use crate::frame::{MAX_NODES, NodeId};
use crate::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use crate::sync::atomic::{AtomicU8, AtomicUsize, fence};

/// Zones that a machine can have.
pub(super) const MAX_ZONES: usize = MAX_NODES * ZoneKind::COUNT;

/// One node's zonelist (P202).
pub(super) struct ZoneList {
    ids: [AtomicU8; MAX_ZONES],
    len: AtomicU8,
    /// All zones, also those whose memory is to come, in order.
    places: [u8; MAX_ZONES],
    nr_places: u8,
}

impl ZoneList {
    const fn empty() -> ZoneList {
        ZoneList {
            ids: [const { AtomicU8::new(0) }; MAX_ZONES],
            len: AtomicU8::new(0),
            places: [0; MAX_ZONES],
            nr_places: 0,
        }
    }

    /// The list of `node`: nearest node first, then highest zone first (P202, P203). Nothing is on
    /// it yet.
    pub(super) fn new(node: NodeId, zones: &[Zone], config: &BootConfig) -> ZoneList {
        let distance = |to: NodeId| match config.distance {
            Some(f) => f(node, to) as usize,
            None => 10 + 10 * (node != to) as usize,
        };
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

    /// Writes the list: the zones that have memory now. Only one CPU at a time does that.
    pub(super) fn populate(&self, zones: &[Zone]) {
        let places = &self.places[..self.nr_places as usize];
        let has_memory = |id: &&u8| zones[**id as usize].is_populated();
        let mut len = 0;
        for id in places.iter().filter(has_memory) {
            self.ids[len as usize].store(*id, Release);
            len += 1;
        }
        // Release, here and above: pairs with the Acquire loads of `ids`. Who sees a zone sees its
        // marks.
        self.len.store(len, Release);
    }

    /// The zones with memory, in order; each is to be loaded with `Acquire`.
    #[inline]
    pub(super) fn ids(&self) -> &[AtomicU8] {
        // Acquire: pairs with the Release in `populate`.
        &self.ids[..self.len.load(Acquire) as usize]
    }

    /// The zones with memory, in order.
    #[cfg(test)]
    pub(super) fn known(&self) -> std::vec::Vec<u8> {
        self.ids().iter().map(|id| id.load(Acquire)).collect()
    }
}

/// Counts the changes of the lists: odd while one is under way.
pub(super) struct Changes(AtomicUsize);

impl Changes {
    pub(super) const fn new() -> Changes {
        Changes(AtomicUsize::new(0))
    }

    /// Begins or ends a change. AcqRel: what is done between two calls stays between them, and who
    /// sees the second in `since` sees all of it.
    pub(super) fn step(&self) {
        self.0.fetch_add(1, AcqRel);
    }

    /// To be asked before the lists are looked at. Acquire: pairs with `step`.
    pub(super) fn now(&self) -> usize {
        self.0.load(Acquire)
    }

    /// Whether the lists changed, or began to, since `now` answered `seen`; if one is under way,
    /// waits for its end, which waits for nobody.
    pub(super) fn since(&self, seen: usize, mut wait: impl FnMut(u32)) -> bool {
        // What was read of the lists was read before. Pairs with `step`.
        fence(Acquire);
        let mut spins = 0;
        while !self.0.load(Acquire).is_multiple_of(2) {
            wait(spins);
            spins = spins.saturating_add(1);
        }
        spins != 0 || self.0.load(Acquire) != seen
    }
}
