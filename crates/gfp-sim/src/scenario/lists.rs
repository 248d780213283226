//! Pages on the lists of reclaim: they come, are used, written, freed and given up, all at once.
//!
//! 1. A cache of pages takes all but a twentieth of the machine. Tasks add to it and free from it,
//!    use and write its pages, and ask for more than there is; the background runs.
//! 2. Interrupts free pages of the cache too, also in the middle of the allocator; NMIs use them.
//! 3. No page is lost, none is given up that is not the cache's, and all sums are right at the end.

use super::{Block, Lab};
use crate::sim::TaskHandle;
use gfp::flags::{GFP_HIGHUSER_MOVABLE, GFP_KERNEL, Gfp};
use gfp::frame::{NodeId, PAGE_SIZE, Pfn};
use gfp::page::{GivenUp, MigrateMode, Migrated, OwnerId, PageOwner, PageOwnerError, ReclaimMode};
use gfp::policy::reclaim::lru::Kind;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ptr::NonNull;
use std::rc::{Rc, Weak};

const NODE: NodeId = NodeId(0);
const TASKS: usize = 6;

/// Pages that can be read again.
struct Cache {
    lab: Weak<Lab>,
    pages: RefCell<BTreeSet<Pfn>>,
    id: Cell<Option<OwnerId>>,
    at_work: Cell<usize>,
    stopped: Cell<bool>,
}

// SAFETY: [INV-SIM-1] of one thread, as the machine that calls it.
unsafe impl Sync for Cache {}

// SAFETY: it gives up only what it takes out of its table.
unsafe impl PageOwner for Cache {
    fn isolate(&self, _: Pfn) -> bool {
        false
    }

    fn migrate(&self, _: Pfn, _: Pfn, _: MigrateMode) -> Migrated {
        Migrated::Failed
    }

    fn reclaim(&self, page: Pfn, _: Gfp, mode: ReclaimMode) -> GivenUp {
        let Some(lab) = self.lab.upgrade() else {
            return GivenUp::Busy;
        };
        // Needs memory itself, as one does that writes pages back.
        if mode == ReclaimMode::Write
            && let Ok(ptr) = lab.mm().kmalloc(300, GFP_KERNEL)
        {
            // SAFETY: ours.
            unsafe { lab.mm().kfree(ptr.as_ptr()) };
        }
        if !self.pages.borrow_mut().remove(&page) {
            return GivenUp::Busy;
        }
        lab.hand_over(Block::Pages(page, 0));
        GivenUp::Now
    }
}

impl Cache {
    /// One page more; false if there is none.
    fn add(&self, lab: &Lab, gfp: Gfp, kind: Kind) -> bool {
        let (Ok(page), Some(id)) = (lab.mm().alloc_pages(gfp, 0), self.id.get()) else {
            lab.refused();
            return false;
        };
        let ptr = lab.mm().page_address(page).as_ptr();
        lab.own(ptr, PAGE_SIZE, "page of the cache");
        let owned = lab.mm().set_page_owner(page, id);
        assert_eq!(owned, Ok(()));
        self.pages.borrow_mut().insert(page);
        // An interrupt may free it before it is on the lists.
        let added = lab.mm().lru_add(page, kind).is_ok();
        if !added {
            self.free(lab, page);
        }
        added
    }

    /// Frees a page, if it is still there.
    fn free(&self, lab: &Lab, page: Pfn) {
        if self.pages.borrow_mut().remove(&page) {
            lab.mm().lru_del(page);
            lab.free(Block::Pages(page, 0));
        }
    }

    /// A page of the cache, by a number.
    fn pick(&self, below: impl FnOnce(usize) -> usize) -> Option<Pfn> {
        let pages = self.pages.borrow();
        let number = (!pages.is_empty()).then(|| below(pages.len()))?;
        pages.iter().nth(number).copied()
    }

    fn work(&self, lab: &Lab, task: &TaskHandle) {
        let mm = lab.mm();
        let mut held = Vec::new();
        for _ in 0..150 {
            let page = self.pick(|n| task.below(n));
            match (task.below(10), page) {
                (0..=3, _) => {
                    let kind = [Kind::Droppable, Kind::Storable][task.below(2)];
                    self.add(lab, GFP_HIGHUSER_MOVABLE, kind);
                }
                (4, Some(page)) => self.free(lab, page),
                (5, Some(page)) => _ = mm.set_page_dirty(page),
                (6, Some(page)) => {
                    mm.start_page_writeback(page);
                    task.sleep_ns(1 + task.below(5000) as u64);
                    // It may have been freed meanwhile, and be another's now.
                    mm.end_page_writeback(page);
                }
                (7, Some(page)) => mm.mark_page_accessed(page),
                _ => {
                    let order = task.below(3) as u8;
                    match mm.alloc_pages(GFP_KERNEL, order) {
                        Ok(pfn) => {
                            let ptr = mm.page_address(pfn).as_ptr();
                            lab.own(ptr, PAGE_SIZE << order, "block");
                            held.push(Block::Pages(pfn, order));
                        }
                        Err(_) => lab.refused(),
                    }
                }
            }
            if held.len() > 40 {
                lab.free(held.swap_remove(task.below(held.len())));
            }
        }
        held.into_iter().for_each(|block| lab.free(block));
        self.at_work.set(self.at_work.get() - 1);
        if self.at_work.get() == 0 {
            self.end(lab, task);
        }
    }

    /// The last task is done.
    fn end(&self, lab: &Lab, task: &TaskHandle) {
        while let Some(page) = self.pick(|_| 0) {
            self.free(lab, page);
        }
        self.stopped.set(true);
        lab.mm().stop_kswapd(NODE);
        let id = self.id.take().expect("it is registered");
        // What the background was just given counts until it is free.
        while let Err(error) = lab.mm().unregister_page_owner(id) {
            assert!(matches!(error, PageOwnerError::HasPages { .. }), "{error}");
            lab.mark("waits for pages that were given up", 1);
            task.sleep_ns(1000);
        }
        let events = lab.mm().slabs().reclaim().lru_events();
        lab.mark("pages given up to the background", events.freed[0]);
        lab.mark("pages given up to requests", events.freed[1]);
    }
}

pub(super) fn lists(lab: &Rc<Lab>) {
    let cache = Rc::new(Cache {
        lab: Rc::downgrade(lab),
        pages: RefCell::default(),
        id: Cell::new(None),
        at_work: Cell::new(TASKS),
        stopped: Cell::new(false),
    });
    let owner: NonNull<dyn PageOwner> = NonNull::from(&*cache as &dyn PageOwner);
    // SAFETY: the tasks keep it until `end` has unregistered it, or the run ends for good.
    let id = unsafe { lab.mm().register_page_owner_for(owner) };
    cache.id.set(id.ok());
    let pages = lab.mm().pages();
    let gfp = GFP_HIGHUSER_MOVABLE & !Gfp::RECLAIM;
    while pages.free_page_count() > pages.managed_pages() / 20
        && cache.add(lab, gfp, Kind::Droppable)
    {}
    let (weak, of_handler) = (Rc::downgrade(lab), Rc::clone(&cache));
    lab.sim().on_interrupt(move || {
        let Some(lab) = weak.upgrade() else { return };
        let page = of_handler.pick(|n| lab.handler_rng.borrow_mut().below(n));
        page.into_iter()
            .for_each(|page| of_handler.free(&lab, page));
    });
    let (weak, of_handler) = (Rc::downgrade(lab), Rc::clone(&cache));
    lab.sim().on_nmi(move || {
        let Some(lab) = weak.upgrade() else { return };
        let page = of_handler.pick(|n| lab.handler_rng.borrow_mut().below(n));
        page.into_iter()
            .for_each(|page| lab.mm().mark_page_accessed(page));
    });
    let (lab_of_task, of_task) = (Rc::clone(lab), Rc::clone(&cache));
    lab.sim().spawn("kswapd", move |_| {
        let stop = || of_task.stopped.get();
        lab_of_task.mm().kswapd(NODE, stop).expect("its only task");
    });
    for number in 1..=TASKS {
        let (lab_of_task, of_task) = (Rc::clone(lab), Rc::clone(&cache));
        let work = move |task: &TaskHandle| of_task.work(&lab_of_task, task);
        lab.sim().spawn(&format!("user-{number}"), work);
    }
}
