//! Background reclaim: what wakes a node's task, and what the task does (P400-P404).
//!
//! 1. Platforms run the task ([`Reclaim::kswapd`]); without it nobody waits, and for large blocks
//!    compaction is woken. How it is woken, and why nothing is lost, is said in `post`.
//! 2. The task runs with `NORECLAIM`: what its shrinkers allocate does not reclaim (P133).
//! 3. Before it sleeps it leaves large blocks to the compaction task (P403).

use super::lru::{ListPass, Who};
use super::post::{NodeTaskError, Post};
use super::{Above, Reclaim};
use crate::flags::{GFP_KERNEL, ZoneKind};
use crate::frame::NodeId;
use crate::page::{PageAllocator, WakeUp};
use crate::platform::{Platform, ScopeGuard};
use crate::policy::boost::WakeCompaction;
use crate::policy::compaction::DaemonWake;
use crate::policy::effort::Scopes;
use crate::policy::reclaim::PassResult;
use crate::policy::reclaim::kswapd::{
    AfterTrial, Balance, BeforeSleep, Demand, Failures, HopeReason, NodeTask, Run, RunEnd, RunStep,
    SleepFacts, Trial, Wake, WakeRequest, after_trial, before_sleep, wake,
};
use crate::sync::WaitQueue;
use crate::sync::atomic::{AtomicU32, Ordering};
use core::iter::once;

/// Background reclaim of one node.
#[derive(Default)]
pub(super) struct Node {
    pub(super) post: Post,
    /// [`Failures`].
    failures: AtomicU32,
    /// Where requests wait for it (P406).
    pub(super) throttled: WaitQueue,
}

impl Node {
    /// A platform runs a task for it.
    pub(super) fn has_task(&self) -> bool {
        self.post.state().is_some()
    }

    pub(super) fn failures(&self) -> Failures {
        // Relaxed: a count by itself.
        Failures::new(self.failures.load(Ordering::Relaxed))
    }

    fn change_failures(&self, change: impl Fn(Failures) -> Failures) -> Failures {
        let relaxed = Ordering::Relaxed;
        let next = |runs| Some(change(Failures::new(runs)).get());
        let old = self.failures.fetch_update(relaxed, relaxed, next);
        change(Failures::new(old.unwrap_or(0)))
    }
}

/// The right to be a node's task. When dropped, nobody waits for it any more.
struct Duty<'a, P: Platform> {
    node: &'a Node,
    id: NodeId,
    pages: &'a PageAllocator<P>,
}

impl<P: Platform> Drop for Duty<'_, P> {
    fn drop(&mut self) {
        self.pages.end_boosting(self.id);
        self.node.post.leave();
        self.node.throttled.wake_all(self.pages.platform());
    }
}

impl<P: Platform> Reclaim<P> {
    /// P404: a node's failures, after what was freed meanwhile.
    pub(super) fn failures(&self, id: NodeId, node: &Node) -> Failures {
        let failures = node.failures();
        match failures.is_hopeless() && self.pages.has_hope(id) {
            true => node.change_failures(|f| f.after_free(Balance::Balanced, HopeReason::Pcp).0),
            false => failures,
        }
    }

    /// A platform runs the node's task.
    pub(super) fn has_background(&self, node: NodeId) -> bool {
        self.nodes
            .get(usize::from(node.0))
            .is_some_and(Node::has_task)
    }

    /// P404: true if background reclaim has given the node up for now.
    pub fn is_hopeless(&self, node: NodeId) -> bool {
        let state = self.nodes.get(usize::from(node.0));
        state.is_some_and(|state| self.failures(node, state).is_hopeless())
    }

    /// P112, P400: has the node's background work, if that is of use. Returns what was done.
    ///
    /// Context: any. From an NMI nobody is woken: the demand stays for who comes next.
    pub(super) fn wake_background(&self, id: NodeId, call: &WakeUp) -> Wake {
        let Some(node) = self.nodes.get(usize::from(id.0)) else {
            return Wake::Nothing;
        };
        let &WakeUp { order, highest, .. } = call;
        let request = WakeRequest {
            order,
            zone_managed: self.pages.managed_up_to(id, highest),
            cpuset_allows: true,
            direct_reclaim: call.direct_reclaim,
        };
        let demand = Demand {
            order,
            highest: Some(highest),
        };
        while let Some(task) = node.post.state() {
            let facts = NodeTask {
                task,
                failures: self.failures(id, node),
                balance: self.pages.balance(id, order, highest),
                boost: self.pages.boosts(id, highest).pages(),
            };
            let decision = wake(&request, &facts);
            match decision {
                Wake::Nothing => {}
                Wake::Kcompactd => _ = self.wake_compaction(id, demand),
                Wake::Kswapd => node.post.want(self.pages.platform(), demand),
                Wake::Record if node.post.note(demand) => {}
                // It fell asleep before it saw this: then it must perhaps be woken.
                Wake::Record => continue,
            }
            return decision;
        }
        // Nobody frees memory there: as on a node that is given up.
        match call.direct_reclaim || self.wake_compaction(id, demand) == DaemonWake::No {
            true => Wake::Nothing,
            false => Wake::Kcompactd,
        }
    }

    /// Is the background of a node until `stop` says so: what [`Mm::kswapd`](crate::Mm::kswapd)
    /// describes.
    ///
    /// # Errors
    /// As there.
    pub fn kswapd<A>(
        &self,
        id: NodeId,
        above: &A,
        stop: impl Fn() -> bool,
    ) -> Result<(), NodeTaskError>
    where
        A: Above + ?Sized,
    {
        let node = self.nodes.get(usize::from(id.0));
        let node = node.ok_or(NodeTaskError::NoSuchNode)?;
        let platform = self.pages.platform();
        node.post.enter()?;
        let _duty = Duty {
            node,
            id,
            pages: &self.pages,
        };
        self.pages.begin_boosting(id);
        // A platform that keeps no word for its tasks: `begin` sees to it, a pass at a time.
        let _scope = ScopeGuard::open(platform, Scopes::NORECLAIM, Some(&"kswapd"));
        while !stop() {
            node.post.sleep(platform, None, &stop);
            if !stop() {
                self.work(id, node, above, &stop);
            }
        }
        Ok(())
    }

    /// Has the node's task look whether it is to stop.
    pub fn stop_kswapd(&self, node: NodeId) {
        if let Some(node) = self.nodes.get(usize::from(node.0)) {
            node.post.look(self.pages.platform());
        }
    }

    /// What [`Mm::kswapd_is_gone`](crate::Mm::kswapd_is_gone) describes.
    pub fn kswapd_is_gone(&self, id: NodeId) {
        if let Some(node) = self.nodes.get(usize::from(id.0)) {
            if node.has_task() {
                self.pages.end_boosting(id);
            }
            node.post.leave();
            node.throttled.wake_all(self.pages.platform());
            self.stalls_are_gone();
        }
    }

    /// Called: works until the node is off well for 100 ms, or hopeless.
    fn work<A>(&self, id: NodeId, node: &Node, above: &A, stop: &impl Fn() -> bool)
    where
        A: Above + ?Sized,
    {
        let mut demand = Demand::NONE;
        while !stop() {
            node.post.run();
            demand = demand.and(node.post.answer());
            let end = self.one_run(id, node, demand, above, stop);
            let new = node.post.rest();
            demand = demand.and(new);
            let order = match end {
                RunEnd::Balanced { order } => order.max(new.order),
                _ => demand.order,
            };
            let facts = || SleepFacts {
                balance: self.balance(id, order, demand),
                failures: self.failures(id, node),
            };
            let BeforeSleep::Trial { ms } = before_sleep(&facts()) else {
                continue;
            };
            let platform = self.pages.platform();
            node.throttled.wake_all(platform);
            self.pages.forget_hints(id); // P403, P425
            self.wake_compaction(id, demand);
            let deadline = platform.now_ns().saturating_add(u64::from(ms) * 1_000_000);
            let up = node.post.sleep(platform, Some(deadline), stop);
            let trial = match up {
                true if node.post.is_called() => Trial::Woken,
                true => break, // it is to stop
                false => Trial::Elapsed,
            };
            match after_trial(trial, &facts()) {
                AfterTrial::Long => break,
                AfterTrial::LowHitQuickly => self.events.low_hit_quickly.add(1),
                AfterTrial::HighHitQuickly => self.events.high_hit_quickly.add(1),
            }
        }
    }

    fn balance(&self, id: NodeId, order: u32, demand: Demand) -> Balance {
        let balance = |highest| self.pages.balance(id, order, highest);
        demand.highest.map_or(Balance::Balanced, balance)
    }

    /// P402: one run.
    fn one_run<A>(
        &self,
        id: NodeId,
        node: &Node,
        demand: Demand,
        above: &A,
        stop: &impl Fn() -> bool,
    ) -> RunEnd
    where
        A: Above + ?Sized,
    {
        self.events.runs.add(1);
        let _stalled = self.stall();
        let _reclaiming = self.pages.reclaiming(id); // P329
        let highest = demand.highest.unwrap_or(ZoneKind::Movable);
        let boosts = self.pages.boosts(id, highest);
        let mut run = Run::new(demand, boosts.pages());
        let end = loop {
            match run.step(self.balance(id, run.order(), demand)) {
                RunStep::Done(end) => break end,
                RunStep::Pass(_) if stop() => return RunEnd::Exhausted,
                RunStep::Pass(pass) => {
                    let target = self.pages.cycle_target(id, highest);
                    let lists = ListPass {
                        who: Who::Background,
                        gfp: GFP_KERNEL,
                        highest,
                        priority: pass.priority,
                        wanted: target,
                        may_write: pass.may_write,
                        may_store: pass.may_write,
                        deactivate: false,
                        swappiness: None,
                    };
                    run.after(self.background_pass(id, &lists, above), target);
                    let hopeless = self.failures(id, node).is_hopeless();
                    if self.pages.reserve_of(id, hopeless).allows_reclaim() {
                        node.throttled.wake_all(self.pages.platform());
                    }
                }
            }
        };
        // Whether it came to something or not (P217).
        if let WakeCompaction::Order(order) = self.pages.work_off(id, &boosts) {
            let highest = Some(highest);
            self.wake_compaction(id, Demand { order, highest });
        }
        self.pages.settle_reserves(id);
        if end == RunEnd::Failed {
            self.found_nothing();
        }
        let before = node.failures().is_hopeless();
        if node.change_failures(|f| f.after_run(end)).is_hopeless() && !before {
            self.pages.lose_hope(id);
        }
        end
    }

    fn background_pass<A>(&self, id: NodeId, lists: &ListPass, above: &A) -> PassResult
    where
        A: Above + ?Sized,
    {
        match self.begin(&"kswapd") {
            Some(_reclaiming) => self.pass(lists, once(id), above).pages,
            None => PassResult::default(),
        }
    }

    /// P404: a direct reclaimer freed memory.
    pub(super) fn freed_directly(&self, id: NodeId, highest: ZoneKind) {
        let Some(node) = self.nodes.get(usize::from(id.0)) else {
            return;
        };
        if node.failures().is_hopeless() {
            let balance = self.pages.balance(id, 0, highest);
            node.change_failures(|f| f.after_free(balance, HopeReason::Direct).0);
        }
    }
}

#[cfg(test)]
mod test_only {
    use super::*;

    impl<P: Platform> Reclaim<P> {
        /// The node has failed for long.
        pub(in crate::reclaim) fn play_hopeless(&self, id: NodeId) {
            let node = &self.nodes[usize::from(id.0)];
            let fail = |failures: Failures| failures.after_run(RunEnd::Failed);
            while !node.change_failures(fail).is_hopeless() {}
            self.pages.lose_hope(id);
        }
    }
}
