//! On which nodes a request is to be served (P137-P139).
//!
//! A policy is one of six modes over a set of nodes. What it makes of a request is one or two
//! attempts ([`attempts`]), each an ordinary request; which node an interleaving policy prefers now
//! follows from how many it chose before ([`node_at`]).

use crate::flags::Gfp;
use crate::frame::{MAX_NODES, NodeId, NodeMask, PAGEBLOCK_ORDER};
use crate::policy::effort::{local_huge_first, prefer_many_first};

/// How a policy chooses nodes (`MPOL_*`).
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Mode {
    /// The node of the CPU that asks, else the nearest (`MPOL_LOCAL`).
    Local,
    /// One node, else the nearest to it (`MPOL_PREFERRED`).
    Preferred,
    /// Some nodes, the nearest first; others only if those cannot give at once
    /// (`MPOL_PREFERRED_MANY`).
    PreferredMany,
    /// These nodes and no others, the nearest first (`MPOL_BIND`).
    Bind,
    /// One after the other, each time the next (`MPOL_INTERLEAVE`).
    Interleave,
    /// The same, each as often in turn as its weight says (`MPOL_WEIGHTED_INTERLEAVE`).
    WeightedInterleave,
}

/// Which nodes an attempt may be served by.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Among {
    /// Any.
    All,
    /// Those of the policy.
    Chosen,
}

/// One ordinary request that a policy makes.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Attempt {
    /// Its flags.
    pub gfp: Gfp,
    /// The nodes that may serve it.
    pub among: Among,
}

/// What a policy of a mode makes of a request for 2^order pages: what to try, and what to try after
/// that has failed.
///
/// | mode | first | second |
/// |---|---|---|
/// | `Local`, `Preferred`, order 9 (P139) | this node only, no effort | as is, if it may wait |
/// | `PreferredMany` (P138) | the chosen nodes, without waiting | as is |
/// | `Bind` | the chosen nodes | |
/// | all others, and with `THISNODE` (P22) | as is | |
pub const fn attempts(mode: Mode, gfp: Gfp, order: u32) -> (Attempt, Option<Attempt>) {
    let plain = Attempt {
        gfp,
        among: Among::All,
    };
    if gfp.contains(Gfp::THISNODE) {
        return (plain, None);
    }
    match mode {
        Mode::Local | Mode::Preferred if order == PAGEBLOCK_ORDER as u32 => {
            let may_wait = gfp.contains(Gfp::DIRECT_RECLAIM);
            // What contradicts NORETRY goes; nobody has failed while there is a second attempt.
            let kept = gfp.without(Gfp::RETRY_MAYFAIL.with(Gfp::NOFAIL));
            let near = local_huge_first(kept);
            let quiet = match may_wait {
                true => near.with(Gfp::NOWARN),
                false => near,
            };
            let first = Attempt {
                gfp: quiet,
                ..plain
            };
            (first, if may_wait { Some(plain) } else { None })
        }
        Mode::PreferredMany => {
            let first = Attempt {
                gfp: prefer_many_first(gfp),
                among: Among::Chosen,
            };
            (first, Some(plain))
        }
        Mode::Bind => {
            let among = Among::Chosen;
            (Attempt { gfp, among }, None)
        }
        _ => (plain, None),
    }
}

/// How often each node comes in one turn of a weighted interleaving policy; 0 counts as 1.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Weights([u8; MAX_NODES]);

impl Weights {
    /// Each once.
    pub const EQUAL: Weights = Weights([1; MAX_NODES]);

    /// One weight a node.
    pub const fn new(weights: [u8; MAX_NODES]) -> Weights {
        Weights(weights)
    }

    /// The weight of a node, at least 1.
    pub const fn of(&self, node: NodeId) -> u32 {
        let i = node.0 as usize;
        if i < MAX_NODES && self.0[i] > 1 {
            self.0[i] as u32
        } else {
            1
        }
    }

    /// Allocations of a whole turn: after so many it begins anew.
    pub fn period(&self, nodes: NodeMask) -> u32 {
        nodes.iter().map(|node| self.of(node)).sum()
    }
}

/// The node of allocation number `at` of a turn, counted from 0; `None` if there is no node, or the
/// turn is shorter. A node comes as often in a row as it weighs.
pub fn node_at(at: u32, nodes: NodeMask, weights: &Weights) -> Option<NodeId> {
    let mut end = 0;
    nodes.iter().find(|node| {
        end += weights.of(*node);
        at < end
    })
}

/// How many of `n` allocations that follow each other from `at` on go to a node.
pub fn share_of(node: NodeId, at: u32, n: usize, nodes: NodeMask, weights: &Weights) -> usize {
    if !nodes.has(node) {
        return 0;
    }
    let period = weights.period(nodes) as usize;
    let before = nodes.iter().take_while(|other| *other != node);
    let start = before.map(|other| weights.of(other)).sum::<u32>() as usize;
    let end = start + weights.of(node) as usize;
    // Its places below a number of allocations, counted from the beginning of a turn.
    let below = |at: usize| at / period * (end - start) + (at % period).clamp(start, end) - start;
    let at = at as usize % period;
    below(at + n) - below(at)
}

#[cfg(test)]
mod tests;
