//! The compaction task of a node (P427).
//!
//! 1. Who cannot compact leaves it to the task: requests that may not wait (P400), background
//!    reclaim before it sleeps (P403) and after it worked off a boost (P217). Nobody wakes it where
//!    it cannot help: no zone is suitable, or nobody's pages can be moved.
//! 2. Woken, it goes once over the node's zones, and tells each zone's deferral what came of it.
//! 3. Every [`PERIOD_MS`] it looks whether the node is fragmented, and compacts before anybody
//!    asks, while background reclaim sleeps.
//! 4. Every [`STAT_INTERVAL_NS`] it has the per-CPU caches of the node's zones age (P713).
//! 5. How it is called is said in `reclaim::post`. Platforms run it ([`Reclaim::kcompactd`]).

use super::super::Reclaim;
use super::super::post::{NodeTaskError, Post};
use super::zone::{Captures, Ended, Goal, Job};
use crate::flags::{MigrateType, ZoneKind};
use crate::frame::{NodeId, Order};
use crate::page::STAT_INTERVAL_NS;
use crate::platform::{Platform, ScopeGuard};
use crate::policy::compaction::{
    Background, CompactOutcome, DAEMON_PRIORITY, DaemonWake, PERIOD_MS, Proactive, RoundResult,
    Use, Wanted, wakes_daemon,
};
use crate::policy::effort::Scopes;
use crate::policy::reclaim::kswapd::{Demand, TaskState};
use crate::sync::atomic::{AtomicBool, Ordering};

const PERIOD_NS: u64 = PERIOD_MS as u64 * 1_000_000;

/// What the task does.
const fn job(goal: Goal, highest: ZoneKind) -> Job {
    Job {
        goal,
        captures: Captures::No,
        // Whose request it is nobody knows: a block that any may claim.
        mobility: MigrateType::Unmovable,
        highest,
        by: Use::Background,
        priority: DAEMON_PRIORITY,
    }
}

/// What is wanted: nothing, if it is a single page.
fn job_for(demand: Demand) -> Option<(Order, ZoneKind)> {
    let order = Order::new(demand.order as u8).filter(|order| *order > Order::ZERO);
    order.zip(demand.highest)
}

/// The compaction task of one node.
#[derive(Default)]
pub(in crate::reclaim) struct Compactor {
    pub(in crate::reclaim) post: Post,
    /// P707: it is to look now whether the node is fragmented.
    raised: AtomicBool,
}

impl Compactor {
    /// P707: what is compacted ahead was raised. Context: any but an NMI.
    pub(super) fn look_now<P: Platform>(&self, platform: &P) {
        // Relaxed: ordered by the call, which the task answers before it looks at this.
        self.raised.store(true, Ordering::Relaxed);
        self.post.call(platform);
    }
}

/// The right to be a node's task, until dropped.
struct Duty<'a>(&'a Post);

impl Drop for Duty<'_> {
    fn drop(&mut self) {
        self.0.leave();
    }
}

impl<P: Platform> Reclaim<P> {
    /// Whether background reclaim of a node is at work.
    pub(in crate::reclaim) fn background_of(&self, node: NodeId) -> Background {
        let node = self.nodes.get(usize::from(node.0));
        match node.and_then(|node| node.post.state()) {
            Some(TaskState::Running) => Background::Running,
            _ => Background::Idle,
        }
    }

    /// P217, P400, P403: has the node's pages moved together for a demand, if that is of use.
    ///
    /// Context: any. From an NMI nobody is woken: the demand stays for who comes next, or for the
    /// next look ahead.
    pub(in crate::reclaim) fn wake_compaction(&self, id: NodeId, demand: Demand) -> DaemonWake {
        let post = self.compactors.get(usize::from(id.0)).map(|c| &c.post);
        let post = post.filter(|post| post.state().is_some() && self.pages.has_page_owners());
        let (Some(post), Some((order, highest))) = (post, job_for(demand)) else {
            return DaemonWake::No;
        };
        let job = job(Goal::Block(order), highest);
        let zones = self.pages.grounds_of(id, highest);
        let decision = wakes_daemon(demand, zones.map(|ground| self.suits(&ground, &job)));
        if decision == DaemonWake::Yes {
            post.want(self.pages.platform(), demand);
        }
        decision
    }

    /// Is the compaction task of a node until `stop` says so: what
    /// [`Mm::kcompactd`](crate::Mm::kcompactd) describes.
    ///
    /// # Errors
    /// As there.
    pub fn kcompactd(&self, id: NodeId, stop: impl Fn() -> bool) -> Result<(), NodeTaskError> {
        let compactor = self.compactors.get(usize::from(id.0));
        let compactor = compactor.ok_or(NodeTaskError::NoSuchNode)?;
        let post = &compactor.post;
        post.enter()?;
        let _duty = Duty(post);
        let platform = self.pages.platform();
        // A platform that keeps no word for its tasks: `begin` sees to it, one work at a time.
        let _scope = ScopeGuard::open(platform, Scopes::NORECLAIM, Some(&"kcompactd"));
        let mut proactive = Proactive::default();
        let mut look_ns = platform.now_ns().saturating_add(PERIOD_NS);
        let mut age_ns = platform.now_ns().saturating_add(STAT_INTERVAL_NS);
        while !stop() {
            let until_ns = match self.compaction_proactiveness() > 0 {
                true => look_ns.min(age_ns),
                false => age_ns,
            };
            post.sleep(platform, Some(until_ns), &stop);
            if stop() {
                break;
            }
            if platform.now_ns() >= age_ns {
                self.pages.age_caches_of(id);
                age_ns = platform.now_ns().saturating_add(STAT_INTERVAL_NS);
            }
            let demand = post.answer();
            let raised = compactor.raised.swap(false, Ordering::Relaxed);
            if !self.compact_for(id, demand, &stop) {
                post.note(demand); // somebody else reclaims, on a machine for one: later
            }
            if raised {
                proactive.raised();
            }
            if raised || platform.now_ns() >= look_ns {
                self.look_ahead(id, &mut proactive, &stop);
                look_ns = platform.now_ns().saturating_add(PERIOD_NS);
            }
        }
        Ok(())
    }

    /// Has the node's task look whether it is to stop.
    pub fn stop_kcompactd(&self, node: NodeId) {
        if let Some(compactor) = self.compactors.get(usize::from(node.0)) {
            compactor.post.look(self.pages.platform());
        }
    }

    /// What [`Mm::kcompactd_is_gone`](crate::Mm::kcompactd_is_gone) describes.
    pub fn kcompactd_is_gone(&self, node: NodeId) {
        if let Some(compactor) = self.compactors.get(usize::from(node.0)) {
            compactor.post.leave();
        }
    }

    /// P427: compacts a node for what is wanted. False: not now.
    fn compact_for(&self, id: NodeId, demand: Demand, stop: &impl Fn() -> bool) -> bool {
        let Some((goal, highest)) = job_for(demand) else {
            return true;
        };
        let Some(_reclaiming) = self.begin(&"kcompactd") else {
            return false;
        };
        self.events.compact.task_wakes.add(1);
        let _stalled = self.stall(); // P409
        let (order, job) = (demand.order, job(Goal::Block(goal), highest));
        for ground in self.pages.grounds_of(id, highest) {
            if stop() {
                break;
            }
            if ground.with_deferral(|deferral| deferral.defers(order, DAEMON_PRIORITY)) {
                continue;
            }
            let Ended::Without(mut outcome) = self.compact_zone(ground, &job) else {
                continue; // it captures nothing
            };
            let met = [CompactOutcome::Complete, CompactOutcome::PartialSkipped];
            if met.contains(&outcome) {
                // What CPUs have cached may be all that is missing.
                self.pages.drain_all();
                if ground.has_block(order, job.mobility) {
                    outcome = CompactOutcome::Success;
                }
            }
            ground.with_deferral(|deferral| deferral.after(order, DAEMON_PRIORITY, outcome));
        }
        true
    }

    /// P427: compacts a node that is fragmented, before anybody asks.
    fn look_ahead(&self, id: NodeId, state: &mut Proactive, stop: &impl Fn() -> bool) {
        if !self.pages.has_page_owners() {
            return;
        }
        let proactiveness = self.compaction_proactiveness();
        let score = || self.pages.fragmentation_score(id);
        let before = score();
        if state.period(proactiveness, self.background_of(id), before) == Wanted::Wait {
            return;
        }
        let Some(_reclaiming) = self.begin(&"kcompactd") else {
            return;
        };
        let _stalled = self.stall(); // P409
        let job = job(Goal::Ahead(proactiveness), ZoneKind::Movable);
        for ground in self.pages.grounds_of(id, ZoneKind::Movable) {
            if stop() || Proactive::is_enough(proactiveness, score()) {
                break;
            }
            // What it comes to is seen in the score.
            let _ = self.compact_zone(ground, &job);
        }
        let after = score();
        state.after(RoundResult { before, after });
    }
}
