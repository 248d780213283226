//! Tasks of all levels with a twentieth of memory free, caches that give way, the background of
//! each node, and a killer.
//!
//! 1. **Who.** Eight tasks, one for each of the seven levels and one in a scope; interrupts,
//!    softirqs and NMIs at any point; kswapd for each of two nodes; two [caches](cache); a
//!    [killer](killer) to whom each of the eight is a candidate; one who has the caches and the
//!    notifier registered and unregistered all the time.
//! 2. **What must hold.** Nobody waits for ever. A request that may not fail is served; one of
//!    level 4 fails for a victim only (P107). Nobody is entered twice who must not be, nor called
//!    after it was unregistered. At the end every page is accounted for.
//! 3. **Liveness.** When the last of the eight is done, faults and interrupts end, the cache takes
//!    all memory down to the min watermarks, and then every zone is above low within
//!    [`CALM_STEPS`].
//! 4. **Controls.** What is [`Planted`] must be found.

mod cache;
pub(super) mod calm;
pub(super) mod killer;
pub(super) mod levels;

use super::{Block, Lab};
use crate::config::Planted;
use crate::sim::TaskHandle;
use cache::{Cache, Kind};
use gfp::flags::{GFP_ATOMIC, GFP_KERNEL, GFP_NOWAIT, Gfp};
use gfp::frame::{NodeId, PAGE_SIZE};
use gfp::policy::effort::Scopes;
use killer::Killer;
use levels::{LEVELS, Level};
use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};

/// Points that pass at most, once pressure is gone, until all zones are above low.
///
/// What is due then is one run of the background of each node: up to 14 passes that free too little
/// ([`Run::IDLE_PASSES_MAX`]), each some points an object and some thousand to have four CPUs give
/// back what they keep. The slowest of 2,600 seeds took 152,000.
///
/// [`Run::IDLE_PASSES_MAX`]: gfp::policy::reclaim::kswapd::Run::IDLE_PASSES_MAX
pub const CALM_STEPS: u64 = 300_000;

/// Nodes of the machine.
pub(super) const NODES: u8 = 2;

/// Steps of each of the eight.
const STEPS: usize = 30;

/// What the tasks of a run share.
struct Run {
    lab: Weak<Lab>,
    pages: Rc<Cache>,
    objects: Rc<Cache>,
    killer: Rc<Killer>,
    /// What nobody gives back until the end.
    fixed: RefCell<Vec<Block>>,
    /// How much each of the eight holds at most, in blocks.
    most_held: usize,
    at_work: Cell<usize>,
    calm: Cell<bool>,
    stopped: Cell<bool>,
}

impl Run {
    fn caches(&self) -> [&Rc<Cache>; 2] {
        [&self.pages, &self.objects]
    }

    /// One request of a task; what it holds is the killer's to count and to take.
    fn ask(&self, lab: &Lab, task: &TaskHandle, number: usize, level: &Level) {
        let order = match level.waits_for_ever() {
            true => 0, // nobody makes large blocks for it yet
            false => task.pick(&[0, 0, 0, 0, 1, 2, 3]),
        };
        let gfp = match level.gfp.contains(Gfp::NOFAIL) {
            true => task.pick(&[level.gfp, level.gfp & !Gfp::FS]),
            false => level.gfp,
        };
        let term = self.killer.term();
        match lab.mm().alloc_pages(gfp, order) {
            Ok(pfn) => {
                lab.mark(level.name, 1);
                let ptr = lab.mm().page_address(pfn).as_ptr();
                lab.own(ptr, PAGE_SIZE << order, "block");
                self.killer.hold(number, Block::Pages(pfn, order));
            }
            Err(error) => {
                // P107: while there is a killer, only its victims.
                let could_kill = term.is_some() && term == self.killer.term();
                let promised = level.gfp == GFP_KERNEL && could_kill;
                let failed = promised && !self.killer.is_victim(number);
                let failed = failed || level.gfp.contains(Gfp::NOFAIL);
                assert!(!failed, "{} of order {order}: {error}", level.name);
                lab.refused();
            }
        }
    }

    /// Asks at one level again and again, holds a little, and lets the caches grow.
    fn work(&self, lab: &Lab, task: &TaskHandle, number: usize) {
        let level = &LEVELS[number];
        let scope = lab.mm().scope(level.scopes, &"a level's task");
        let _scope = scope.expect("a task has scopes");
        self.killer.begin(lab, number, task.id());
        for _ in 0..STEPS {
            let requests = task.pick(&[1, 1, 2, 8]);
            (0..requests).for_each(|_| self.ask(lab, task, number, level));
            // Down to the low watermark, at times.
            let cache = self.caches()[task.below(2)];
            let most = task.pick(&[0, 1, 4, 40]);
            _ = (0..most).take_while(|_| cache.grow(lab)).count();
            self.killer.obey(lab, number);
            // Who waits for ever, and has nobody killed, must not wait for itself.
            let most = match level.scopes.contains(Scopes::NOFS) {
                true => 4,
                false => self.most_held,
            };
            while self.killer.held(number) > most {
                self.killer.give(lab, number);
            }
            if let Some(theirs) = lab.receive() {
                lab.free(theirs);
            }
            if task.below(8) == 0 {
                task.sleep_ns(1 + task.below(20_000) as u64);
            }
        }
        self.killer.end(lab, number);
        self.at_work.set(self.at_work.get() - 1);
    }

    /// Has everything registered and unregistered while it is in use.
    fn change(&self, lab: &Lab, task: &TaskHandle) {
        while self.at_work.get() != 0 {
            task.sleep_ns(1 + task.below(200_000) as u64);
            match task.below(4) {
                0 => self.pages.unregister(lab),
                1 => self.objects.unregister(lab),
                2 => self.killer.forget_notifier(lab),
                _ => self.killer.resign(lab),
            }
            task.pause();
            self.register(lab);
            self.killer.keep(lab);
        }
        self.calm_down(lab, task);
    }

    /// Leaves a twentieth of each node free, and so many percent to the caches.
    fn fill(&self, lab: &Lab, cached_percent: usize) {
        for node in nodes() {
            let is_left = |percent| {
                let mut zones = lab.mm().pages().zone_stats();
                let zone = zones.find(|zone| zone.node == node).expect("its zone");
                zone.free.free <= zone.managed / 100 * percent
            };
            while !is_left(5 + cached_percent) {
                let pfn = lab
                    .mm()
                    .alloc_pages_node(node, GFP_KERNEL | Gfp::THISNODE, 0);
                let pfn = pfn.expect("there is enough");
                let ptr = lab.mm().page_address(pfn).as_ptr();
                lab.own(ptr, PAGE_SIZE, "page that stays");
                self.fixed.borrow_mut().push(Block::Pages(pfn, 0));
            }
            lab.sim().act_as(node.0.into()); // a CPU of that node
            while !is_left(5) && self.pages.grow(lab) && self.objects.grow(lab) {}
        }
        lab.sim().act_as(0);
    }

    fn register(&self, lab: &Lab) {
        self.caches().iter().for_each(|cache| cache.register(lab));
        self.killer.register(lab);
    }

    /// Pressure is gone, and the caches have taken all that they may have: waits until all zones
    /// are above low.
    fn calm_down(&self, lab: &Lab, task: &TaskHandle) {
        self.calm.set(true);
        lab.sim().end_faults();
        while let Some(theirs) = lab.receive() {
            lab.free(theirs);
        }
        // What other CPUs have cached as well.
        while lab.mm().pages().drain_all() > 0 && self.pages.grow(lab) {
            while self.pages.grow(lab) {}
        }
        let steps = calm::until_above_low(lab, task, CALM_STEPS);
        lab.mark("calm after steps", steps);
        let events = lab.mm().slabs().reclaim().events();
        lab.mark("throttled", events.throttled);
        lab.mark("runs of the background", events.runs);
        self.stopped.set(true);
        nodes().for_each(|node| lab.mm().stop_kswapd(node));
        self.killer.forget_notifier(lab);
        self.killer.resign(lab);
        for cache in self.caches() {
            cache.unregister(lab);
            cache.empty(lab);
        }
        let fixed = std::mem::take(&mut *self.fixed.borrow_mut());
        fixed.into_iter().for_each(|block| lab.free(block));
    }
}

pub(super) fn nodes() -> impl Iterator<Item = NodeId> {
    (0..NODES).map(NodeId)
}

fn asks_from_handlers(lab: &Rc<Lab>, run: &Rc<Run>) {
    let run = Rc::clone(run);
    let ask = move || {
        let Some(lab) = run.lab.upgrade() else { return };
        let below = |n| lab.handler_rng.borrow_mut().below(n);
        if run.calm.get() || lab.posted() > 30 || below(3) == 0 {
            let theirs = lab.receive();
            return theirs.into_iter().for_each(|block| lab.free(block));
        }
        let order = below(3) as u8;
        let gfp = [GFP_ATOMIC, GFP_NOWAIT][below(2)];
        match lab.mm().alloc_pages(gfp, order) {
            Ok(pfn) => {
                let ptr = lab.mm().page_address(pfn).as_ptr();
                lab.own(ptr, PAGE_SIZE << order, "block of a handler");
                lab.post(Block::Pages(pfn, order));
            }
            Err(_) => lab.refused(),
        }
    };
    lab.sim().on_interrupt(ask.clone());
    lab.sim().on_softirq(ask.clone());
    lab.sim().on_nmi(ask);
}

/// What a task of the run does.
type Work = Box<dyn FnOnce(&Run, &Lab, &TaskHandle)>;

pub(super) fn reclaim(lab: &Rc<Lab>) {
    let below = |choices: &[usize]| lab.handler_rng.borrow_mut().pick(choices);
    let run = Rc::new(Run {
        lab: Rc::downgrade(lab),
        pages: Rc::new(Cache::new(lab, Kind::Pages)),
        objects: Rc::new(Cache::new(lab, Kind::Objects)),
        killer: Rc::new(Killer::new(lab, LEVELS.len())),
        fixed: RefCell::default(),
        most_held: below(&[10, 40, 100]),
        at_work: Cell::new(LEVELS.len()),
        calm: Cell::new(false),
        stopped: Cell::new(false),
    });
    run.fill(lab, below(&[2, 10, 60]));
    run.register(lab);
    asks_from_handlers(lab, &run);
    let spawn = |name: &str, work: Work| {
        let (lab, run) = (Rc::clone(lab), Rc::clone(&run));
        let sim = lab.sim().clone();
        sim.spawn(name, move |task| work(&run, &lab, task));
    };
    if !lab.sim().has_planted(Planted::NoBackground) {
        for node in nodes() {
            let kswapd = move |run: &Run, lab: &Lab, _: &TaskHandle| {
                let stop = || run.stopped.get();
                lab.mm().kswapd(node, stop).expect("its only task");
            };
            spawn(&format!("kswapd{}", node.0), Box::new(kswapd));
        }
    }
    for (number, level) in LEVELS.iter().enumerate() {
        let work = move |run: &Run, lab: &Lab, task: &TaskHandle| run.work(lab, task, number);
        spawn(level.name, Box::new(work));
    }
    spawn("change", Box::new(Run::change));
}
