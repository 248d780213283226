//! Direct reclaim: what a request does that found nothing (P405, P408, P121).
//!
//! It climbs down the [`Priority`] ladder until 32 pages are freed, or compaction has become
//! possible for its order. If a whole ladder freed nothing, what was spared on the way is looked
//! at, in this order, each with a ladder of its own: groups that were left out, active pages,
//! groups below their `memory.low`.
//!
//! ```text
//!   Ladder::new -> step() -> Some(pass): the executor asks all providers once
//!                    ^                     |
//!                    +----- after(..) <----+
//!                  step() -> None: end() says why
//! ```

use super::{CLUSTER_PAGES, PassResult, Priority};
use crate::flags::MigrateType;
use crate::policy::order::COSTLY_ORDER;
use crate::policy::watermark::{AllocFlags, FreeState, zone_watermark_ok};

/// P405: what a ladder does not spare any more.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Chance {
    /// The first: spares whatever it can.
    First,
    /// All groups are walked, not only a share of them.
    AllGroups,
    /// Active pages are made inactive whatever the balance of the lists says.
    Deactivate,
    /// `memory.low` does not protect any more.
    IgnoreLow,
}

/// P405: what a pass left out, so that a second chance is worth it.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Spared {
    /// Groups that another reclaimer was to look at.
    pub groups: bool,
    /// Active pages.
    pub active: bool,
    /// Groups below `memory.low`.
    pub low: bool,
}

/// One step: ask all providers of all eligible zones once.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct DirectPass {
    /// Which part of everything.
    pub priority: Priority,
    /// Stop when this much is freed, in pages.
    pub wanted: usize,
    /// What is not spared.
    pub chance: Chance,
}

/// Whether compaction could make the order now ([`crate::policy::compaction`]).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Compactable {
    /// Not yet, or order 0.
    No,
    /// In some zone.
    Yes,
}

/// P405: how a direct reclaim ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum DirectEnd {
    /// 32 pages, or what there was.
    Freed(usize),
    /// Compaction is possible; as good as progress. So many pages were freed.
    Compactable(usize),
    /// Nothing, with all chances.
    Nothing,
}

impl DirectEnd {
    /// P122, P405: pages of progress; possible compaction counts as one page at least.
    pub const fn progress(self) -> usize {
        match self {
            DirectEnd::Freed(pages) => pages,
            DirectEnd::Compactable(0) => 1,
            DirectEnd::Compactable(pages) => pages,
            DirectEnd::Nothing => 0,
        }
    }
}

/// The state of one direct reclaim (P405).
///
/// Bound: at most 4 * 13 = 52 passes ([`Ladder::PASSES_MAX`]), whatever the providers do: every
/// pass takes a step down, and there are four chances.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Ladder {
    next: Option<DirectPass>,
    spared: Spared,
    result: PassResult,
    compactable: Compactable,
}

impl Ladder {
    /// The most passes that one direct reclaim takes.
    pub const PASSES_MAX: u32 = 4 * Priority::STEPS;

    /// A new reclaim for 32 pages.
    pub const fn new() -> Ladder {
        Self::wanting(CLUSTER_PAGES)
    }

    /// A new reclaim for this many pages (groups ask for more, P441).
    pub const fn wanting(wanted: usize) -> Ladder {
        Ladder {
            next: Some(DirectPass {
                priority: Priority::START,
                wanted,
                chance: Chance::First,
            }),
            spared: Spared {
                groups: false,
                active: false,
                low: false,
            },
            result: PassResult {
                scanned: 0,
                freed: 0,
            },
            compactable: Compactable::No,
        }
    }

    /// P408: reclaim inside one node, before going to another: priority 4 to 0, no second chance.
    pub const fn within_node(wanted: usize) -> Ladder {
        let mut ladder = Self::wanting(wanted);
        ladder.next = Some(DirectPass {
            priority: Priority::NODE_RECLAIM,
            wanted,
            chance: Chance::IgnoreLow, // the last: nothing comes after it
        });
        ladder
    }

    /// The next pass; `None`: it is over.
    pub const fn step(&self) -> Option<DirectPass> {
        self.next
    }

    /// What the pass did, what it spared, and whether compaction is possible now.
    pub const fn after(&mut self, pass: PassResult, spared: Spared, compactable: Compactable) {
        let Some(done) = self.next else {
            return;
        };
        self.result = self.result.and(pass);
        self.spared.groups |= spared.groups;
        self.spared.active |= spared.active;
        self.spared.low |= spared.low;
        self.compactable = compactable;
        self.next = if self.result.freed >= done.wanted || matches!(compactable, Compactable::Yes) {
            None
        } else if let Some(priority) = done.priority.next() {
            Some(DirectPass { priority, ..done })
        } else if self.result.freed > 0 {
            None
        } else {
            self.second_chance(done)
        };
    }

    /// P405: the next chance after `done` that is worth it.
    const fn second_chance(&self, done: DirectPass) -> Option<DirectPass> {
        let chance = if done.chance as u8 <= Chance::First as u8 && self.spared.groups {
            Chance::AllGroups
        } else if done.chance as u8 <= Chance::AllGroups as u8 && self.spared.active {
            Chance::Deactivate
        } else if done.chance as u8 <= Chance::Deactivate as u8 && self.spared.low {
            Chance::IgnoreLow
        } else {
            return None;
        };
        Some(DirectPass {
            priority: Priority::START,
            wanted: done.wanted,
            chance,
        })
    }

    /// All passes so far.
    pub const fn result(&self) -> PassResult {
        self.result
    }

    /// How it ended; meaningful when [`Ladder::step`] is `None`.
    pub const fn end(&self) -> DirectEnd {
        match (self.result.freed, self.compactable) {
            (freed, Compactable::Yes) => DirectEnd::Compactable(freed),
            (0, Compactable::No) => DirectEnd::Nothing,
            (freed, Compactable::No) => DirectEnd::Freed(freed),
        }
    }
}

impl Default for Ladder {
    fn default() -> Ladder {
        Ladder::new()
    }
}

/// What the choice to stay with one node's lists depends on.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct StayFacts {
    /// The order that is wanted.
    pub order: u32,
    /// The priority of the pass.
    pub priority: Priority,
    /// What the last round on this node freed, in pages.
    pub freed: usize,
    /// Pages on the inactive lists of the node.
    pub inactive: usize,
    /// Compaction is possible in one of its zones.
    pub compactable: Compactable,
}

/// Whether a pass goes on with the same node, to make room for compaction there, rather than
/// take a little from every node.
///
/// The rules are silent. Pages freed here and there help no large block: for a costly order, or a
/// smaller one once the priority is below 10, a round that freed something is followed by another
/// while the inactive lists hold at least what compaction needs. Bound: each round frees a page,
/// and the inactive lists shrink by it.
pub const fn stays_on_node(facts: &StayFacts) -> bool {
    let in_need = facts.order > COSTLY_ORDER || facts.order > 0 && facts.priority.get() < 10;
    in_need
        && facts.freed > 0
        && matches!(facts.compactable, Compactable::No)
        && facts.inactive > crate::policy::compaction::gap(facts.order)
}

/// P121: whether another round of reclaim can help: the zone would pass its min watermark if all
/// its reclaimable pages were free.
///
/// For order > 0 a free block of the order is asked for as well, as [`zone_watermark_ok`] does:
/// what only compaction can make is not reclaim's to promise. `reserve`: what the zone keeps from
/// the request's highest zone.
pub fn could_serve(
    order: u32,
    min: usize,
    reserve: usize,
    flags: AllocFlags,
    state: &FreeState,
    reclaimable: usize,
    has_free_block: impl Fn(u32, MigrateType) -> bool,
) -> bool {
    let all = FreeState {
        free: state.free.saturating_add(reclaimable),
        ..*state
    };
    zone_watermark_ok(order, min, reserve, flags, &all, has_free_block)
}

/// P408, P711: what reclaim inside a node depends on, in pages.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct NodeUse {
    /// Managed pages of the node.
    pub managed: usize,
    /// Cached pages that nobody maps.
    pub unmapped: usize,
    /// Reclaimable slab.
    pub slab: usize,
}

/// P711: default of `min_unmapped_ratio`, in percent.
pub const MIN_UNMAPPED_PERCENT: usize = 1;
/// P711: default of `min_slab_ratio`, in percent.
pub const MIN_SLAB_PERCENT: usize = 5;

/// P408: whether reclaim inside the node is worth it before going to another: more than 1 % of it
/// are unmapped cached pages, or more than 5 % reclaimable slab. Asked only if the tunable
/// `zone_reclaim_mode` is on.
pub const fn node_reclaim_worth_it(node: &NodeUse) -> bool {
    node.unmapped > node.managed / 100 * MIN_UNMAPPED_PERCENT
        || node.slab > node.managed / 100 * MIN_SLAB_PERCENT
}

#[cfg(test)]
mod tests;
