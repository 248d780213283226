//! Direct reclaim: a request that found nothing frees memory itself (P405).

use super::{Above, Reclaim};
use crate::flags::Gfp;
use crate::frame::NodeId;
use crate::page::Need;
use crate::platform::Platform;
use crate::policy::reclaim::PassResult;
use crate::policy::reclaim::direct::{Compactable, Ladder, Spared};
use crate::sync::atomic::{AtomicUsize, Ordering};

/// The right to reclaim; whoever has it is not entered again from its own allocations.
struct Busy<'a>(&'a AtomicUsize);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        // Release: pairs with the Acquire in `begin`.
        self.0.store(0, Ordering::Release);
    }
}

impl<P: Platform> Reclaim<P> {
    /// P133.
    fn begin(&self) -> Option<Busy<'_>> {
        // Acquire: pairs with the Release in `Busy::drop`.
        let busy = self.reclaiming.swap(1, Ordering::Acquire);
        (busy == 0).then(|| Busy(&self.reclaiming))
    }

    /// Climbs down the ladder until enough is free. Returns pages of progress (P122).
    ///
    /// Context: of a request that may sleep; outside of sections and locks.
    pub(super) fn direct<A>(&self, need: &Need<'_>, above: &A) -> usize
    where
        A: Above + ?Sized,
    {
        let Some(_busy) = self.begin() else {
            return 0;
        };
        let mut ladder = Ladder::new();
        while let Some(pass) = ladder.step() {
            let gfp = need.effort.gfp;
            let done = self.pass(gfp, pass.priority, self.nodes_of(need), above);
            ladder.after(done, Spared::default(), Compactable::No);
        }
        ladder.end().progress()
    }

    /// The nodes that a request could take memory from.
    fn nodes_of(&self, need: &Need<'_>) -> impl Iterator<Item = NodeId> {
        let only = need.effort.gfp.contains(Gfp::THISNODE);
        let wanted = need.request.node;
        let here = self.pages.platform().node();
        let node = wanted.unwrap_or(here);
        self.pages.nodes().filter(move |n| !only || *n == node)
    }

    /// Asks everybody once, at one priority.
    fn pass<A>(
        &self,
        gfp: Gfp,
        priority: crate::policy::reclaim::Priority,
        nodes: impl Iterator<Item = NodeId>,
        above: &A,
    ) -> PassResult
    where
        A: Above + ?Sized,
    {
        let before = self.pages.free_page_count();
        let (mut scanned, mut freed) = (0, 0);
        for node in nodes {
            let (looked_at, objects) = self.shrink(gfp, node, priority);
            scanned += looked_at;
            freed += objects;
        }
        if freed == 0 {
            return PassResult { scanned, freed: 0 };
        }
        // Objects are in sheaves and slabs now: only whole pages help.
        let given = above.give_back();
        let more = self.pages.free_page_count().saturating_sub(before);
        PassResult {
            scanned,
            freed: given.max(more),
        }
    }
}
