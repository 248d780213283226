//! Caches that give way.

use super::super::{Block, Lab};
use crate::config::Planted;
use gfp::flags::{GFP_KERNEL, Gfp};
use gfp::frame::PAGE_SIZE;
use gfp::platform::Platform;
use gfp::policy::reclaim::shrink::{Counted, Scanned, Settings};
use gfp::reclaim::{ShrinkControl, Shrinker, ShrinkerId};
use std::cell::{Cell, RefCell};
use std::ptr::NonNull;
use std::rc::{Rc, Weak};

/// What a cache keeps.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// Pages that can be read again, by node.
    Pages,
    /// Objects that a file system can make again.
    Objects,
}

/// A cache and its shrinker, which allocates itself.
pub(super) struct Cache {
    lab: Weak<Lab>,
    kind: Kind,
    /// What it has of each node; all in the first, if it does not tell nodes apart.
    kept: [RefCell<Vec<Block>>; super::NODES as usize],
    registered: RefCell<Option<ShrinkerId>>,
    /// Tasks that are in its shrinker.
    inside: RefCell<Vec<usize>>,
    scans: Cell<usize>,
}

// SAFETY: [INV-SIM-1] of one thread, as the machine that calls it.
unsafe impl Sync for Cache {}

impl Cache {
    pub(super) fn new(lab: &Rc<Lab>, kind: Kind) -> Cache {
        Cache {
            lab: Rc::downgrade(lab),
            kind,
            kept: Default::default(),
            registered: RefCell::default(),
            inside: RefCell::default(),
            scans: Cell::new(0),
        }
    }

    /// Takes a little more, if that needs no effort.
    pub(super) fn grow(&self, lab: &Lab) -> bool {
        const NO_EFFORT: Gfp = GFP_KERNEL.without(Gfp::RECLAIM);
        match self.kind {
            Kind::Pages => match lab.mm().alloc_pages(NO_EFFORT, 0) {
                Ok(pfn) => {
                    let ptr = lab.mm().page_address(pfn).as_ptr();
                    lab.own(ptr, PAGE_SIZE, "page of the cache");
                    let node = lab.mm().pages().node_of(pfn);
                    self.kept[usize::from(node.0)]
                        .borrow_mut()
                        .push(Block::Pages(pfn, 0));
                    true
                }
                Err(_) => false,
            },
            Kind::Objects => match lab.mm().kmalloc(700, NO_EFFORT) {
                Ok(ptr) => {
                    lab.own(ptr.as_ptr(), 700, "object of the cache");
                    self.kept[0].borrow_mut().push(Block::Object(ptr.as_ptr()));
                    true
                }
                Err(_) => false,
            },
        }
    }

    fn place(&self, control: &ShrinkControl) -> &RefCell<Vec<Block>> {
        match self.kind {
            Kind::Pages => &self.kept[usize::from(control.node.0)],
            Kind::Objects => &self.kept[0],
        }
    }

    fn settings(&self) -> Settings {
        Settings {
            numa_aware: self.kind == Kind::Pages,
            needs: match self.kind {
                Kind::Pages => Gfp::NONE,
                Kind::Objects => Gfp::FS,
            },
            ..Settings::default()
        }
    }

    /// Registers the shrinker, if it is not.
    pub(super) fn register(&self, lab: &Lab) {
        if self.registered.borrow().is_some() {
            return;
        }
        let shrinker: NonNull<dyn Shrinker> = NonNull::from(self as &dyn Shrinker);
        // SAFETY: whoever runs the scenario keeps the cache until it is unregistered, or the run
        // ends for good.
        let id = unsafe { lab.mm().register_shrinker_for(shrinker, self.settings()) };
        *self.registered.borrow_mut() = id.ok();
    }

    /// P415: nobody is inside when this returns.
    pub(super) fn unregister(&self, lab: &Lab) {
        let Some(id) = self.registered.borrow_mut().take() else {
            return;
        };
        let inside = self.inside.borrow().len();
        lab.mark("unregistered while called", inside as u64);
        lab.mm().unregister_shrinker(id);
        assert!(self.inside.borrow().is_empty(), "unregistered, and called");
    }

    /// Gives all of it back.
    pub(super) fn empty(&self, lab: &Lab) {
        for place in &self.kept {
            let kept = std::mem::take(&mut *place.borrow_mut());
            kept.into_iter().for_each(|block| lab.free(block));
        }
    }

    fn give(&self, lab: &Lab, control: &ShrinkControl) -> bool {
        let block = self.place(control).borrow_mut().pop();
        let Some(block) = block else { return false };
        self.scans.set(self.scans.get() + 1);
        if self.scans.get() == 1 && lab.sim().has_planted(Planted::LostPage) {
            lab.lose(block);
        } else {
            lab.free(block);
        }
        true
    }

    fn scan_inside(&self, lab: &Lab, control: &ShrinkControl) -> Scanned {
        // It would have to wait for what its caller holds.
        let stop = lab.handler_rng.borrow_mut().below(16) == 0;
        if stop {
            lab.mark("a shrinker stops", 1);
            return Scanned::Stop;
        }
        // Needs memory itself, as one does that writes pages back.
        let request = lab.mm().kmalloc(300, GFP_KERNEL);
        let gives = (0..control.objects).take_while(|_| self.give(lab, control));
        let freed = gives.count();
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

impl Shrinker for Cache {
    fn count(&self, control: &ShrinkControl) -> Counted {
        match self.place(control).borrow().len() {
            0 => Counted::Empty,
            n => Counted::Objects(n),
        }
    }

    fn scan(&self, control: &ShrinkControl) -> Scanned {
        let Some(lab) = self.lab.upgrade() else {
            return Scanned::Stop;
        };
        assert!(control.gfp.contains(self.settings().needs), "P416");
        let task = lab.sim().running().expect("shrinkers are called in tasks");
        // P133: not from a request that it made itself.
        assert!(!self.inside.borrow().contains(&task), "entered again");
        self.inside.borrow_mut().push(task);
        lab.mm().platform().step();
        let scanned = self.scan_inside(&lab, control);
        lab.mm().platform().step();
        self.inside.borrow_mut().retain(|inside| *inside != task);
        scanned
    }
}
