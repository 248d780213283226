//! Tasks of all levels with little memory free, a cache that gives way, and the background.
//!
//! 1. The cache takes all but a twentieth of the machine, and grows as long as it is let.
//! 2. Tasks of all levels, and interrupts of all kinds, ask for more; the cache's shrinker asks
//!    too, for what it needs to free something. Every request that may not fail is served.
//! 3. When the last task is done, faults and interrupts end, and every zone is above its low
//!    watermark within [`CALM_STEPS`].

use super::{Block, Lab};
use crate::sim::TaskHandle;
use gfp::flags::{GFP_ATOMIC, GFP_KERNEL, GFP_NOFS, GFP_NOWAIT, Gfp};
use gfp::frame::{NodeId, PAGE_SIZE};
use gfp::policy::reclaim::shrink::{Counted, Scanned, Settings};
use gfp::reclaim::{ShrinkControl, Shrinker, ShrinkerId};
use std::cell::{Cell, RefCell};
use std::ptr::NonNull;
use std::rc::{Rc, Weak};

/// Points that pass at most, once pressure is gone, until all zones are above low. What is under
/// way then is one run of the background, and what it frees in one pass is far more than it takes.
pub const CALM_STEPS: u64 = 60_000;

/// P100-P106, and a scope's.
const LEVELS: [Gfp; 8] = [
    GFP_KERNEL.without(Gfp::RECLAIM),
    GFP_NOWAIT,
    GFP_ATOMIC,
    GFP_KERNEL,
    GFP_KERNEL.with(Gfp::NORETRY),
    GFP_KERNEL.with(Gfp::RETRY_MAYFAIL),
    GFP_KERNEL.with(Gfp::NOFAIL),
    GFP_NOFS,
];

const NODE: NodeId = NodeId(0);

/// Pages that can be read again.
struct Cache {
    lab: Weak<Lab>,
    pages: RefCell<Vec<Block>>,
}

// SAFETY: [INV-SIM-1] of one thread, as the machine that calls it.
unsafe impl Sync for Cache {}

impl Cache {
    /// Takes one page more, if that needs no effort.
    fn grow(&self, lab: &Lab) -> bool {
        match lab.mm().alloc_pages(GFP_KERNEL & !Gfp::RECLAIM, 0) {
            Ok(pfn) => {
                let ptr = lab.mm().page_address(pfn).as_ptr();
                lab.own(ptr, PAGE_SIZE, "page of the cache");
                self.pages.borrow_mut().push(Block::Pages(pfn, 0));
                true
            }
            Err(_) => false,
        }
    }

    /// Gives a page up, if there is one.
    fn give(&self, lab: &Lab) -> bool {
        let page = self.pages.borrow_mut().pop();
        page.map(|page| lab.free(page)).is_some()
    }
}

impl Shrinker for Cache {
    fn count(&self, _: &ShrinkControl) -> Counted {
        match self.pages.borrow().len() {
            0 => Counted::Empty,
            n => Counted::Objects(n),
        }
    }

    /// Needs memory itself, as one does that writes pages back.
    fn scan(&self, control: &ShrinkControl) -> Scanned {
        let Some(lab) = self.lab.upgrade() else {
            return Scanned::Stop;
        };
        let request = lab.mm().kmalloc(300, GFP_KERNEL);
        let freed = (0..control.objects).take_while(|_| self.give(&lab));
        let freed = freed.count();
        if let Ok(ptr) = request {
            // SAFETY: ours.
            unsafe { lab.mm().kfree(ptr.as_ptr()) };
        }
        Scanned::Done {
            looked_at: control.objects,
            freed,
        }
    }
}

/// What the tasks of a run share.
struct Run {
    lab: Weak<Lab>,
    cache: Rc<Cache>,
    shrinker: Cell<Option<ShrinkerId>>,
    at_work: Cell<usize>,
    calm: Cell<bool>,
    stopped: Cell<bool>,
}

/// Asks at one level again and again, holds a little, and lets the cache grow.
fn work(run: &Run, lab: &Lab, task: &TaskHandle, gfp: Gfp) {
    let mut held = Vec::new();
    for _ in 0..60 {
        let order = match gfp.contains(Gfp::NOFAIL) {
            true => 0, // nobody makes large blocks for it yet
            false => task.pick(&[0, 0, 0, 0, 1, 2, 3]),
        };
        match lab.mm().alloc_pages(gfp, order) {
            Ok(pfn) => {
                let ptr = lab.mm().page_address(pfn).as_ptr();
                lab.own(ptr, PAGE_SIZE << order, "block");
                held.push(Block::Pages(pfn, order));
            }
            Err(error) => {
                assert!(!gfp.contains(Gfp::NOFAIL), "{error}");
                lab.refused();
            }
        }
        // Down to the low watermark, at times.
        let most = task.pick(&[0, 1, 4, 40]);
        _ = (0..most).take_while(|_| run.cache.grow(lab)).count();
        if held.len() > 12 {
            lab.free(held.swap_remove(task.below(held.len())));
        }
        if let Some(theirs) = lab.receive() {
            lab.free(theirs);
        }
        if task.below(8) == 0 {
            task.sleep_ns(1 + task.below(20_000) as u64);
        }
    }
    held.into_iter().for_each(|block| lab.free(block));
}

/// Pressure is gone: waits until all zones are above low.
fn calm_down(run: &Run, lab: &Lab, task: &TaskHandle) {
    run.calm.set(true);
    lab.sim().end_faults();
    // What found the node at its low watermark woke the background; so does this.
    if let Ok(pfn) = lab.mm().alloc_pages(GFP_NOWAIT, 0) {
        // SAFETY: ours.
        unsafe { lab.mm().free_frames(pfn, 0) };
    }
    let since = lab.sim().outcome().steps;
    let is_low = || {
        let mut zones = lab.mm().pages().zone_stats();
        zones.any(|zone| zone.free.free <= zone.watermarks.low)
    };
    while is_low() {
        let steps = lab.sim().outcome().steps - since;
        assert!(
            steps <= CALM_STEPS,
            "a zone is below low after {steps} steps"
        );
        task.sleep_ns(1000);
    }
    run.stopped.set(true);
    lab.mm().stop_kswapd(NODE);
    let shrinker = run.shrinker.take().expect("it is registered");
    lab.mm().slabs().reclaim().unregister_shrinker(shrinker);
    while run.cache.give(lab) {}
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
        match lab
            .mm()
            .alloc_pages([GFP_ATOMIC, GFP_NOWAIT][below(2)], order)
        {
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

pub(super) fn reclaim(lab: &Rc<Lab>) {
    let cache = Rc::new(Cache {
        lab: Rc::downgrade(lab),
        pages: RefCell::default(),
    });
    let pages = lab.mm().pages();
    while pages.free_page_count() > pages.managed_pages() / 20 && cache.grow(lab) {}
    let shrinker: NonNull<dyn Shrinker> = NonNull::from(&*cache as &dyn Shrinker);
    let reclaim = lab.mm().slabs().reclaim();
    // SAFETY: the tasks keep it until `calm_down` has unregistered it, or the run ends for good.
    let shrinker = unsafe { reclaim.register_shrinker_for(shrinker, Settings::default()) };
    let run = Rc::new(Run {
        lab: Rc::downgrade(lab),
        cache,
        shrinker: Cell::new(shrinker.ok()),
        at_work: Cell::new(LEVELS.len()),
        calm: Cell::new(false),
        stopped: Cell::new(false),
    });
    asks_from_handlers(lab, &run);
    let (lab_of_task, run_of_task) = (Rc::clone(lab), Rc::clone(&run));
    lab.sim().spawn("kswapd", move |_| {
        let stop = || run_of_task.stopped.get();
        lab_of_task.mm().kswapd(NODE, stop).expect("its only task");
    });
    for (number, gfp) in LEVELS.into_iter().enumerate() {
        let (lab_of_task, run) = (Rc::clone(lab), Rc::clone(&run));
        lab.sim()
            .spawn(&format!("level-{}", number + 1), move |task| {
                let lab = lab_of_task;
                work(&run, &lab, task, gfp);
                run.at_work.set(run.at_work.get() - 1);
                if run.at_work.get() == 0 {
                    calm_down(&run, &lab, task);
                }
            });
    }
}
