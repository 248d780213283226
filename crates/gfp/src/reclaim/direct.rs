//! Direct reclaim: a request that found nothing frees memory itself (P405, P406).

use super::lru::{ListPass, Who};
use super::shrinker::Shrunk;
use super::{Above, Reclaim};
use crate::flags::{Gfp, ZoneKind};
use crate::frame::NodeId;
use crate::page::{Need, Reclaimed, WakeUp};
use crate::platform::{FsReclaimPass, Platform, Reason, ScopeError, ScopeGuard, now_of};
use crate::policy::effort::Scopes;
use crate::policy::reclaim::PassResult;
use crate::policy::reclaim::direct::{Chance, Compactable, Ladder, Spared};
use crate::policy::reclaim::kswapd::Wake;
use crate::policy::reclaim::throttle::{
    AfterWait, Entry, Reclaimer, Woken, after_wait, at_entry, waits_for_progress,
};
use crate::sync::atomic::{AtomicUsize, Ordering};

/// A killable wait looks so often whether the task was killed, and whether somebody is still
/// at work for it.
const LOOK_NS: u64 = 100_000_000;

/// The right to reclaim; whoever has it is not entered again from its own allocations (P133).
pub(super) enum Reclaiming<'a> {
    /// The task has noted it: others may reclaim meanwhile.
    Scope(#[allow(dead_code, reason = "it is dropped")] ScopeGuard<'a>),
    /// The machine has noted it, for one at a time: tasks cannot.
    Alone(&'a AtomicUsize),
}

impl Drop for Reclaiming<'_> {
    fn drop(&mut self) {
        if let Reclaiming::Alone(busy) = self {
            // Release: pairs with the Acquire in `begin`.
            busy.store(0, Ordering::Release);
        }
    }
}

/// What one pass over everybody did.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct Passed {
    pub(super) pages: PassResult,
    /// Objects that another pass could free.
    pub(super) left: usize,
    pub(super) spared: Spared,
    /// Pages of lists among what was looked at.
    scanned_pages: usize,
}

impl<P: Platform> Reclaim<P> {
    /// P133. `None`: somebody else reclaims, on a machine whose tasks cannot note it.
    pub(super) fn begin(&self, why: Reason) -> Option<Reclaiming<'_>> {
        match ScopeGuard::open(self.pages.platform(), Scopes::NORECLAIM, Some(why)) {
            Ok(scope) => Some(Reclaiming::Scope(scope)),
            Err(ScopeError::NoTask) => None,
            Err(ScopeError::NotKept) => {
                // Acquire: pairs with the Release in `Reclaiming::drop`.
                let busy = self.reclaiming.swap(1, Ordering::Acquire);
                (busy == 0).then(|| Reclaiming::Alone(&self.reclaiming))
            }
        }
    }

    /// Climbs down the ladder until enough is free.
    ///
    /// Context: of a request that may sleep; outside of sections and locks.
    pub(super) fn direct<A>(&self, need: &Need<'_>, above: &A) -> Reclaimed
    where
        A: Above + ?Sized,
    {
        let highest = self.pages.highest(need.request.gfp);
        if self.throttle(need, highest) == AfterWait::PretendProgress {
            return Reclaimed { pages: 1, left: 0 };
        }
        let Some(_reclaiming) = self.begin(&"direct reclaim") else {
            return Reclaimed::default();
        };
        self.events.stalls[highest as usize].add(1);
        let _stalled = self.stall();
        let mut ladder = Ladder::new();
        let mut left = 0;
        while let Some(pass) = ladder.step() {
            let lists = ListPass {
                who: Who::Request,
                gfp: need.effort.gfp,
                highest,
                priority: pass.priority,
                wanted: pass.wanted,
                may_write: true,
                may_store: true,
                deactivate: pass.chance >= Chance::Deactivate,
                swappiness: None,
            };
            let done = self.pass(&lists, self.nodes_of(need), above);
            left = done.left;
            let compactable = match self.could_compact(need) {
                true => Compactable::Yes,
                false => Compactable::No,
            };
            ladder.after(done.pages, done.spared, compactable);
            let so_far = ladder.result().freed;
            if done.scanned_pages != 0 && waits_for_progress(pass.priority, so_far) {
                let first = self.nodes_of(need).next();
                first.iter().for_each(|node| self.wait_for_gain(*node));
            }
        }
        let pages = ladder.end().progress();
        if pages == 0 {
            self.found_nothing();
        } else {
            self.nodes_of(need)
                .for_each(|node| self.freed_directly(node, highest));
        }
        // What a page of objects is worth only their owners know: one each. Too much of a promise
        // costs rounds without progress, which are counted (P122); too little, somebody's life.
        Reclaimed { pages, left }
    }

    /// P406: waits while reclaim would live on the last of the reserve, if there is a background
    /// task to wait for.
    fn throttle(&self, need: &Need<'_>, highest: ZoneKind) -> AfterWait {
        let platform = self.pages.platform();
        let id = need.request.node().unwrap_or(platform.node());
        let node = match self.nodes.get(usize::from(id.0)) {
            Some(node) if node.has_task() && platform.sleep().is_some() => node,
            _ => return AfterWait::Reclaim,
        };
        let reserve = || {
            let hopeless = self.failures(id, node).is_hopeless() || !node.has_task();
            self.pages.reserve_of(id, hopeless)
        };
        let is_killed = || now_of(platform).fatal_signal;
        let reclaimer = Reclaimer {
            gfp: need.effort.gfp,
            kernel_task: false,
            dying: is_killed(),
        };
        let entry = at_entry(&reclaimer, &reserve());
        if entry == Entry::Reclaim || !platform.context().is_task() {
            return AfterWait::Reclaim;
        }
        self.events.throttled.add(1);
        let now = platform.now_ns();
        let end = match entry {
            Entry::WaitAtMost { ms } => now.saturating_add(u64::from(ms) * 1_000_000),
            _ => u64::MAX,
        };
        loop {
            let call = WakeUp {
                order: need.request.order.get().into(),
                highest,
                direct_reclaim: true,
            };
            let woken = self.wake_background(id, &call);
            if matches!(woken, Wake::Nothing | Wake::Kcompactd) {
                return after_wait(Woken::GoOn); // nobody would end the wait
            }
            let look = platform.now_ns().saturating_add(LOOK_NS).min(end);
            let enough = node
                .throttled
                .wait_until_ns(platform, look, || reserve().allows_reclaim());
            if end == u64::MAX && is_killed() {
                return after_wait(Woken::Killed);
            }
            if enough || platform.now_ns() >= end {
                return after_wait(Woken::GoOn);
            }
        }
    }

    /// The nodes that a request could take memory from.
    fn nodes_of(&self, need: &Need<'_>) -> impl Iterator<Item = NodeId> {
        let only = need.effort.gfp.contains(Gfp::THISNODE);
        let nodes = need.request.nodes();
        let node = need.request.node().unwrap_or(self.pages.platform().node());
        let may = move |n: &NodeId| nodes.has(*n) && (!only || *n == node);
        self.pages.nodes().filter(may)
    }

    /// Asks everybody once: owners of pages on the lists, then shrinkers.
    pub(super) fn pass<A>(
        &self,
        lists: &ListPass,
        nodes: impl Iterator<Item = NodeId>,
        above: &A,
    ) -> Passed
    where
        A: Above + ?Sized,
    {
        let _fs_reclaim = FsReclaimPass::begin(self.pages.platform(), lists.gfp);
        let before = self.pages.free_page_count();
        let mut done = Passed::default();
        let mut shrunk = Shrunk::default();
        for node in nodes {
            let wanted = lists.wanted.saturating_sub(done.pages.freed);
            let of_node = self.scan_lists(node, &ListPass { wanted, ..*lists });
            done.pages = done.pages.and(of_node.pages);
            done.spared.active |= of_node.spared_active;
            shrunk.add(self.shrink(lists.gfp, node, lists.priority));
        }
        self.events.objects_scanned.add(shrunk.looked_at);
        done.left = shrunk.left;
        done.scanned_pages = done.pages.scanned;
        done.pages.scanned = done.pages.scanned.saturating_add(shrunk.looked_at);
        let came_free = done.pages.freed.saturating_add(shrunk.freed);
        if done.pages.freed != 0 {
            self.pages.drain_here(); // what is in this CPU's cache is free for nobody else
        }
        if shrunk.freed != 0 {
            // Objects are in sheaves and slabs now: only whole pages help.
            let given = above.give_back();
            let more = self.pages.free_page_count().saturating_sub(before);
            done.pages.freed += given.max(more.saturating_sub(done.pages.freed));
        }
        // Last, so that who is told finds the memory free.
        match lists.who {
            Who::Background | Who::Request => self.looked(done.pages.scanned, came_free),
            // Nobody was in need.
            Who::Proactive | Who::Dropper => self.tell_pressure(),
        }
        done
    }
}
