//! Node reclaim: a request reclaims on the node of its CPU before it goes to another (P408, P710,
//! P711).
//!
//! It is worth it only where much of the node is easily given up: pages of content that has a place
//! of its own, or slabs of caches that say so. Off by default: memory further away is faster than
//! reclaim for nearly everybody.

use super::Priority;

/// P711: default of the sysctl `min_unmapped_ratio`, in percent of the node.
pub const DEFAULT_MIN_UNMAPPED_RATIO: usize = 1;
/// P711: default of the sysctl `min_slab_ratio`, in percent of the node.
pub const DEFAULT_MIN_SLAB_RATIO: usize = 5;
/// P275: no reclaim for zones that are further away from the wanted one (`RECLAIM_DISTANCE`).
pub const DISTANCE_MAX: u8 = 30;

/// P710: the sysctl `zone_reclaim_mode`.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Mode(u8);

impl Mode {
    /// A request goes to another node at once.
    pub const OFF: Mode = Mode(0);
    /// It reclaims first.
    pub const ON: Mode = Mode(1);
    /// It reclaims first, and may have dirty pages written.
    pub const WRITE: Mode = Mode(2);
    /// It reclaims first, and may have pages stored that have no place of their own.
    pub const STORE: Mode = Mode(4);

    /// The mode of a number; `None` above 7.
    pub const fn new(bits: u8) -> Option<Mode> {
        if bits <= 7 { Some(Mode(bits)) } else { None }
    }

    /// The number.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Any bit turns it on.
    pub const fn is_on(self) -> bool {
        self.0 != 0
    }

    /// Dirty pages may be written.
    pub const fn may_write(self) -> bool {
        self.0 & Mode::WRITE.0 != 0
    }

    /// Pages may be stored.
    pub const fn may_store(self) -> bool {
        self.0 & Mode::STORE.0 != 0
    }
}

/// P711: how much there must be, in percent of the node.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Ratios {
    /// `min_unmapped_ratio`.
    pub unmapped: usize,
    /// `min_slab_ratio`.
    pub slab: usize,
}

/// What a node has, in pages.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// Managed.
    pub managed: usize,
    /// On lists, of those whose content has a place of its own.
    pub droppable: usize,
    /// On lists, of the others.
    pub storable: usize,
    /// On lists, to be written.
    pub dirty: usize,
    /// Slabs of caches that can be asked for objects.
    pub slab: usize,
}

/// P408: whether there is enough to be had on the node.
pub fn is_worth_it(facts: &NodeFacts, mode: Mode, ratios: &Ratios) -> bool {
    let mut pages = facts.droppable;
    if mode.may_store() {
        pages = pages.saturating_add(facts.storable);
    }
    if !mode.may_write() {
        pages = pages.saturating_sub(facts.dirty);
    }
    let exceeds = |pages: usize, percent: usize| {
        pages as u128 * 100 > facts.managed as u128 * percent as u128
    };
    mode.is_on() && (exceeds(pages, ratios.unmapped) || exceeds(facts.slab, ratios.slab))
}

/// P408: the passes over a node: from priority 4 down to 0, until the request could be served.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Passes {
    next: Option<Priority>,
    wanted: usize,
    freed: usize,
}

impl Passes {
    /// For a request of so many pages. At most five passes.
    pub const fn new(wanted: usize) -> Passes {
        Passes {
            next: Some(Priority::NODE_RECLAIM),
            wanted,
            freed: 0,
        }
    }

    /// The priority of the next pass; `None`: it is over.
    pub const fn step(&mut self) -> Option<Priority> {
        if self.is_enough() {
            return None;
        }
        let now = self.next;
        self.next = match now {
            Some(priority) => priority.next(),
            None => None,
        };
        now
    }

    /// A pass freed so many pages.
    pub const fn after(&mut self, freed: usize) {
        self.freed = self.freed.saturating_add(freed);
    }

    /// The request could be served.
    pub const fn is_enough(&self) -> bool {
        self.freed >= self.wanted
    }
}

#[cfg(test)]
mod tests;
