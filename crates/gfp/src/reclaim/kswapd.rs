//! Background reclaim: what wakes a node's task, and what the task does (P400-P404).
//!
//! ```text
//!  waker                                    the node's task
//!  decision = wake(..)                      task = ASLEEP
//!  Record: demand = max(demand, mine)       demand taken once more: nothing new?
//!          task is RUNNING still? done      sleep until called
//!  Kswapd: demand = max(demand, mine)       task = RUNNING
//!          called = 1, wake                 called = 0, demand taken
//! ```
//!
//! 1. Platforms run the task ([`Reclaim::kswapd`]); without it nobody wakes and nobody waits.
//! 2. No demand is lost: `task` and `demand` are changed and read in one order (`SeqCst`). Either a
//!    waker sees that the task fell asleep, and decides anew, or the task sees the demand.
//! 3. The task runs with `NORECLAIM`: what its shrinkers allocate does not reclaim (P133).

use super::lru::{ListPass, Who};
use super::{Above, Reclaim};
use crate::flags::{GFP_KERNEL, ZoneKind};
use crate::frame::NodeId;
use crate::page::PageAllocator;
use crate::platform::{Context, FsReclaimPass, Platform, ScopeGuard};
use crate::policy::effort::Scopes;
use crate::policy::reclaim::PassResult;
use crate::policy::reclaim::kswapd::{
    AfterTrial, Balance, BeforeSleep, Demand, Failures, HopeReason, NodeTask, Run, RunEnd, RunStep,
    SleepFacts, TaskState, Trial, Wake, WakeRequest, after_trial, before_sleep, wake,
};
use crate::sync::WaitQueue;
use crate::sync::atomic::{AtomicU32, Ordering, Ordering::SeqCst};
use core::fmt;
use core::iter::once;

/// What a node's task does.
const NO_TASK: u32 = 0;
const ASLEEP: u32 = 1;
const RUNNING: u32 = 2;

/// Background reclaim of one node.
pub(super) struct Node {
    /// A [`Demand`]: the order in the low byte, the highest zone and one above it.
    demand: AtomicU32,
    /// [`Failures`].
    failures: AtomicU32,
    task: AtomicU32,
    /// 1: the task is to get up.
    called: AtomicU32,
    /// Where the task sleeps.
    sleeper: WaitQueue,
    /// Where requests wait for it (P406).
    pub(super) throttled: WaitQueue,
}

/// Why a task cannot be the background of a node.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum KswapdError {
    /// There cannot be such a node.
    NoSuchNode,
    /// The node has a task already.
    HasOne,
}

impl fmt::Display for KswapdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            KswapdError::NoSuchNode => "no such node",
            KswapdError::HasOne => "another task reclaims this node in the background",
        })
    }
}

impl core::error::Error for KswapdError {}

fn pack(demand: Demand) -> u32 {
    let highest = demand.highest.map_or(0, |kind| kind as u32 + 1);
    highest << 8 | demand.order
}

fn unpack(word: u32) -> Demand {
    let zone = |kind: &&ZoneKind| **kind as u32 + 1 == word >> 8;
    Demand {
        order: word & 0xff,
        highest: ZoneKind::ALL.iter().find(zone).copied(),
    }
}

impl Node {
    pub(super) const fn new() -> Node {
        Node {
            demand: AtomicU32::new(0),
            failures: AtomicU32::new(0),
            task: AtomicU32::new(NO_TASK),
            called: AtomicU32::new(0),
            sleeper: WaitQueue::new(),
            throttled: WaitQueue::new(),
        }
    }

    /// A platform runs a task for it.
    pub(super) fn has_task(&self) -> bool {
        self.task.load(SeqCst) != NO_TASK
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

    /// P400: as maxima.
    fn record(&self, demand: Demand) {
        let merge = |word| Some(pack(unpack(word).and(demand)));
        // SeqCst: see the module.
        let merged = self.demand.fetch_update(SeqCst, SeqCst, merge);
        debug_assert!(merged.is_ok());
    }

    fn take_demand(&self) -> Demand {
        unpack(self.demand.swap(0, SeqCst))
    }

    fn is_called(&self) -> bool {
        // Acquire: pairs with the Release in `call`; what was wanted is seen.
        self.called.load(Ordering::Acquire) != 0
    }

    fn call<P: Platform>(&self, platform: &P) {
        self.called.store(1, Ordering::Release);
        self.sleeper.wake_all(platform);
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
        self.node.task.store(NO_TASK, SeqCst);
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
    pub(super) fn wake_background(&self, id: NodeId, order: u32, highest: ZoneKind) -> Wake {
        let Some(node) = self.nodes.get(usize::from(id.0)) else {
            return Wake::Nothing;
        };
        let request = WakeRequest {
            order,
            zone_managed: self.pages.managed_up_to(id, highest),
            cpuset_allows: true,
            // There is no compaction that could be woken instead.
            direct_reclaim: true,
        };
        let demand = Demand {
            order,
            highest: Some(highest),
        };
        loop {
            let task = match node.task.load(SeqCst) {
                NO_TASK => return Wake::Nothing,
                RUNNING => TaskState::Running,
                _ => TaskState::Asleep,
            };
            let facts = NodeTask {
                task,
                failures: self.failures(id, node),
                balance: self.pages.balance(id, order, highest),
                boost: self.pages.boosts(id, highest).pages(),
            };
            let decision = wake(&request, &facts);
            match decision {
                Wake::Nothing | Wake::Kcompactd => return decision,
                Wake::Record => {
                    node.record(demand);
                    // Fell it asleep before it saw this? Then it must perhaps be woken.
                    if node.task.load(SeqCst) == RUNNING {
                        return decision;
                    }
                }
                Wake::Kswapd => {
                    node.record(demand);
                    if self.pages.platform().context() != Context::Nmi {
                        node.call(self.pages.platform());
                    }
                    return decision;
                }
            }
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
    ) -> Result<(), KswapdError>
    where
        A: Above + ?Sized,
    {
        let node = self.nodes.get(usize::from(id.0));
        let node = node.ok_or(KswapdError::NoSuchNode)?;
        let platform = self.pages.platform();
        node.task
            .compare_exchange(NO_TASK, ASLEEP, SeqCst, SeqCst)
            .map_err(|_| KswapdError::HasOne)?;
        let _duty = Duty {
            node,
            id,
            pages: &self.pages,
        };
        self.pages.begin_boosting(id);
        // A platform that keeps no word for its tasks: `begin` sees to it, a pass at a time.
        let _scope = ScopeGuard::open(platform, Scopes::NORECLAIM, Some(&"kswapd"));
        while !stop() {
            node.sleeper
                .wait_until(platform, || node.is_called() || stop());
            if !stop() {
                self.work(id, node, above, &stop);
            }
        }
        Ok(())
    }

    /// Has the node's task look whether it is to stop.
    pub fn stop_kswapd(&self, node: NodeId) {
        if let Some(node) = self.nodes.get(usize::from(node.0)) {
            node.sleeper.wake_all(self.pages.platform());
        }
    }

    /// What [`Mm::kswapd_is_gone`](crate::Mm::kswapd_is_gone) describes.
    pub fn kswapd_is_gone(&self, node: NodeId) {
        if let Some(node) = self.nodes.get(usize::from(node.0)) {
            node.task.store(NO_TASK, SeqCst);
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
            node.task.store(RUNNING, SeqCst);
            // Acquire: pairs with the Release in `call`.
            node.called.swap(0, Ordering::Acquire);
            demand = demand.and(node.take_demand());
            let end = self.one_run(id, node, demand, above, stop);
            node.task.store(ASLEEP, SeqCst);
            let new = node.take_demand();
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
            let deadline = platform.now_ns().saturating_add(u64::from(ms) * 1_000_000);
            let woken = node
                .sleeper
                .wait_until_ns(platform, deadline, || node.is_called() || stop());
            let trial = match woken {
                true if node.is_called() => Trial::Woken,
                true => break, // it is to stop
                false => Trial::Elapsed,
            };
            match after_trial(trial, &facts()) {
                AfterTrial::Long => {
                    self.pages.forget_hints(id); // P403, P425
                    break;
                }
                AfterTrial::LowHitQuickly => self.events.low_hit_quickly.add(1),
                AfterTrial::HighHitQuickly => self.events.high_hit_quickly.add(1),
            }
        }
        node.task.store(ASLEEP, SeqCst);
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
                        deactivate: false,
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
        self.pages.work_off(id, &boosts);
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
        let Some(_reclaiming) = self.begin(&"kswapd") else {
            return PassResult::default();
        };
        let _fs_reclaim = FsReclaimPass::begin(self.pages.platform(), lists.gfp);
        self.pass(lists, once(id), above).pages
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
pub(super) mod test_only {
    use super::*;

    impl Node {
        /// Plays a task that somebody else runs.
        pub(in crate::reclaim) fn play_task(&self, running: bool) {
            self.task
                .store(if running { RUNNING } else { ASLEEP }, SeqCst);
        }

        pub(in crate::reclaim) fn is_asleep(&self) -> bool {
            self.task.load(SeqCst) == ASLEEP
        }

        /// Nobody has called.
        pub(in crate::reclaim) fn forget(&self) {
            self.demand.store(0, SeqCst);
            self.called.store(0, SeqCst);
        }

        /// What is wanted, and whether the task is to get up.
        pub(in crate::reclaim) fn wanted(&self) -> (Demand, bool) {
            (unpack(self.demand.load(SeqCst)), self.is_called())
        }
    }
}
