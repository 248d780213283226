//! An owner of pages that can be moved, and given up.
//!
//! 1. **The table** says where each page is now. Whoever frees, moves or gives a page up takes it
//!    out first, in one step of the run; so each of them happens once, and all others are told no.
//! 2. **A move** copies in two halves, with points before, between and after. Meanwhile tasks and
//!    interrupts may free the page, pin it, or free the new one as soon as it is in the table.
//! 3. **A pin** is the promise that a page stays where it is: its user looks at it by address.
//! 4. **A shrinker** gives up blocks of all orders, also those that are on no list.
//! 5. **Refusals** of all kinds, so often as the run says, until [`Tenant::behave`].

use super::super::{Block, Lab};
use crate::config::Planted;
use crate::sim::TaskHandle;
use gfp::flags::{GFP_KERNEL, Gfp};
use gfp::frame::{PAGE_SIZE, Pfn};
use gfp::page::{GivenUp, MigrateMode, Migrated, OwnerId, PageOwner, PageOwnerError, ReclaimMode};
use gfp::platform::{Context, Platform};
use gfp::policy::compaction::PageFacts;
use gfp::policy::reclaim::lru::Kind;
use gfp::policy::reclaim::shrink::{Counted, Scanned, Settings};
use gfp::reclaim::{ShrinkControl, Shrinker, ShrinkerId};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::rc::{Rc, Weak};

/// How long who may wait does so for a pin, in points.
const PATIENCE: u32 = 200;

/// A block of the tenant's.
#[derive(Copy, Clone, Default)]
struct Page {
    order: u8,
    pins: u32,
    dirty: bool,
    writing: bool,
    /// Moves that were begun and not ended.
    isolated: u32,
}

impl Page {
    /// Nobody relies on where it is.
    fn is_free_to_go(&self) -> bool {
        self.pins == 0 && !self.writing
    }
}

/// An owner.
pub(super) struct Tenant {
    lab: Weak<Lab>,
    id: Cell<Option<OwnerId>>,
    shrinker: RefCell<Option<ShrinkerId>>,
    pages: RefCell<BTreeMap<Pfn, Page>>,
    /// Calls under way.
    inside: Cell<usize>,
    /// One request in so many is refused; 0: none.
    refuses: Cell<usize>,
    /// Its shrinker gives something once in so many calls.
    stingy: Cell<usize>,
    moved: Cell<u64>,
}

// SAFETY: [INV-SIM-1] of one thread, as the machine that calls it.
unsafe impl Sync for Tenant {}

impl Tenant {
    pub(super) fn new(lab: &Rc<Lab>, refuses: usize, stingy: usize) -> Tenant {
        Tenant {
            lab: Rc::downgrade(lab),
            id: Cell::new(None),
            shrinker: RefCell::default(),
            pages: RefCell::default(),
            inside: Cell::new(0),
            refuses: Cell::new(refuses),
            stingy: Cell::new(stingy),
            moved: Cell::new(0),
        }
    }

    /// From now on it may have blocks, and is asked for them in need.
    pub(super) fn register(&self, lab: &Lab) {
        let owner: NonNull<dyn PageOwner> = NonNull::from(self as &dyn PageOwner);
        // SAFETY: whoever runs the scenario keeps it until it is unregistered, or the run ends for
        // good.
        let id = unsafe { lab.mm().register_page_owner_for(owner) };
        self.id.set(Some(id.expect("few owners")));
        let shrinker: NonNull<dyn Shrinker> = NonNull::from(self as &dyn Shrinker);
        // SAFETY: as above.
        let id = unsafe {
            lab.mm()
                .register_shrinker_for(shrinker, Settings::default())
        };
        *self.shrinker.borrow_mut() = id.ok();
    }

    /// Frees all pages, and goes. Nobody is inside when this returns.
    pub(super) fn leave(&self, lab: &Lab, task: &TaskHandle) {
        let shrinker = self.shrinker.borrow_mut().take();
        shrinker
            .into_iter()
            .for_each(|id| lab.mm().unregister_shrinker(id));
        while let Some(pfn) = self.pick(|_| 0) {
            assert!(self.free(lab, pfn), "nobody uses it");
        }
        let id = self.id.get().expect("it is registered");
        lab.mark("left while called", self.inside.get() as u64);
        // What was just given up or moved away counts until whoever asked is done.
        while let Err(error) = lab.mm().unregister_page_owner(id) {
            assert!(matches!(error, PageOwnerError::HasPages { .. }), "{error}");
            task.sleep_ns(1000);
        }
        assert_eq!(self.inside.get(), 0, "unregistered, and called");
        self.id.set(None);
    }

    /// Nobody is in the library: no move is half done, and all content is as it was.
    pub(super) fn look(&self, lab: &Lab) {
        assert_eq!(self.inside.get(), 0, "called by nobody");
        for (pfn, page) in self.pages.borrow().iter() {
            assert_eq!(page.isolated, 0, "isolated, neither moved nor put back");
            lab.look(self.address(lab, *pfn));
        }
    }

    /// Frees a block of the largest order.
    pub(super) fn free_largest(&self, lab: &Lab) {
        let largest = {
            let pages = self.pages.borrow();
            let largest = pages.iter().max_by_key(|(_, page)| page.order);
            largest.map(|(pfn, _)| *pfn)
        };
        largest.into_iter().for_each(|pfn| _ = self.free(lab, pfn));
    }

    /// Nothing is refused from now on without a reason.
    pub(super) fn behave(&self) {
        self.refuses.set(0);
        self.stingy.set(1);
    }

    pub(super) fn moved(&self) -> u64 {
        self.moved.get()
    }

    /// How many frames it has.
    pub(super) fn frames(&self) -> usize {
        let pages = self.pages.borrow();
        pages.values().map(|page| 1 << page.order).sum()
    }

    /// One block more; false if there is none.
    pub(super) fn add(&self, lab: &Lab, gfp: Gfp, order: u8, on_lists: Option<Kind>) -> bool {
        match lab.mm().alloc_pages(gfp, order) {
            Ok(pfn) => {
                self.adopt(lab, pfn, order, on_lists);
                true
            }
            Err(_) => {
                lab.refused();
                false
            }
        }
    }

    /// Takes an allocated block as its own.
    pub(super) fn adopt(&self, lab: &Lab, pfn: Pfn, order: u8, on_lists: Option<Kind>) {
        let ptr = lab.mm().page_address(pfn).as_ptr();
        lab.own(ptr, PAGE_SIZE << order, "block that can be moved");
        let id = self.id.get().expect("it is registered");
        assert_eq!(lab.mm().set_page_owner(pfn, id), Ok(()));
        let page = Page {
            order,
            ..Page::default()
        };
        let before = self.pages.borrow_mut().insert(pfn, page);
        assert!(before.is_none(), "it had this block");
        // From now on it may be moved, and freed by an interrupt.
        if let (Some(kind), 0) = (on_lists, order)
            && lab.mm().lru_add(pfn, kind).is_err()
        {
            lab.mark("not put on a list", 1);
        }
    }

    /// Takes a block out of the table, if nobody relies on it.
    fn take_out(&self, pfn: Pfn) -> Option<Page> {
        let mut pages = self.pages.borrow_mut();
        pages.get(&pfn).filter(|page| page.is_free_to_go())?;
        pages.remove(&pfn)
    }

    /// Frees a block, if it is there and nobody relies on it.
    pub(super) fn free(&self, lab: &Lab, pfn: Pfn) -> bool {
        let Some(page) = self.take_out(pfn) else {
            return false;
        };
        lab.mark("freed while it is moved", page.isolated.into());
        // A page that is freed as it is leaves the lists as well.
        if page.order == 0 && !pfn.0.is_multiple_of(3) {
            lab.mm().lru_del(pfn);
        }
        lab.free(Block::Pages(pfn, page.order));
        true
    }

    /// The same in an NMI: off the lists it is taken by who finds it there.
    pub(super) fn free_in_nmi(&self, lab: &Lab, pfn: Pfn) {
        if let Some(page) = self.take_out(pfn) {
            lab.free(Block::Pages(pfn, page.order));
        }
    }

    /// Any block, by a number.
    pub(super) fn pick(&self, below: impl FnOnce(usize) -> usize) -> Option<Pfn> {
        let pages = self.pages.borrow();
        let (first, last) = (pages.keys().next()?.0, pages.keys().next_back()?.0);
        let at = Pfn(first + below(last - first + 1));
        pages.range(at..).next().map(|(pfn, _)| *pfn)
    }

    /// A block that is being moved.
    pub(super) fn pick_moving(&self) -> Option<Pfn> {
        let pages = self.pages.borrow();
        let mut moving = pages.iter().filter(|(_, page)| page.isolated != 0);
        moving.next().map(|(pfn, _)| *pfn)
    }

    /// Its order, if it is there.
    pub(super) fn order(&self, pfn: Pfn) -> Option<u8> {
        self.pages.borrow().get(&pfn).map(|page| page.order)
    }

    fn change<R>(&self, pfn: Pfn, change: impl FnOnce(&mut Page) -> R) -> Option<R> {
        self.pages.borrow_mut().get_mut(&pfn).map(change)
    }

    /// Has it stay where it is. False if it is not there.
    pub(super) fn pin(&self, lab: &Lab, pfn: Pfn) -> bool {
        let isolated = self.change(pfn, |page| {
            page.pins += 1;
            page.isolated
        });
        lab.mark("pinned while it is moved", isolated.unwrap_or(0).into());
        isolated.is_some()
    }

    /// It may be moved again; it is where it was.
    pub(super) fn unpin(&self, lab: &Lab, pfn: Pfn) {
        lab.look(self.address(lab, pfn));
        let unpinned = self.change(pfn, |page| page.pins -= 1);
        assert!(unpinned.is_some(), "a pinned block was moved or given up");
    }

    fn address(&self, lab: &Lab, pfn: Pfn) -> *mut u8 {
        lab.mm().page_address(pfn).as_ptr()
    }

    pub(super) fn dirty(&self, lab: &Lab, pfn: Pfn) {
        if self.change(pfn, |page| page.dirty = true).is_some() {
            lab.mm().set_page_dirty(pfn);
        }
    }

    /// Begins to write it. It stays where it is until [`Tenant::end_write`].
    pub(super) fn begin_write(&self, lab: &Lab, pfn: Pfn) -> bool {
        let begun = self.change(pfn, |page| {
            let begins = page.dirty && page.is_free_to_go();
            page.writing |= begins;
            page.dirty &= !begins;
            begins
        });
        if begun == Some(true) {
            lab.mm().start_page_writeback(pfn);
        }
        begun == Some(true)
    }

    /// The device has written the first that is on its way; in an interrupt too. False if there is
    /// none.
    pub(super) fn end_write(&self, lab: &Lab) -> bool {
        let first = {
            let pages = self.pages.borrow();
            let mut pages = pages.iter();
            pages.find(|(_, page)| page.writing).map(|(pfn, _)| *pfn)
        };
        if let Some(pfn) = first {
            lab.mm().end_page_writeback(pfn);
            self.change(pfn, |page| page.writing = false);
        }
        first.is_some()
    }

    /// Refuses at times, without a reason.
    fn refuses(&self, lab: &Lab) -> bool {
        let one_in = self.refuses.get();
        one_in != 0 && lab.handler_rng.borrow_mut().one_in(one_in)
    }

    /// What all calls have in common: from a task that may sleep, of one who is registered.
    fn called<R>(&self, no: R, work: impl FnOnce(&Lab) -> R) -> R {
        let Some(lab) = self.lab.upgrade() else {
            return no;
        };
        assert!(self.id.get().is_some(), "called, and not registered");
        assert_eq!(lab.mm().platform().context(), Context::Task);
        self.inside.set(self.inside.get() + 1);
        let result = work(&lab);
        self.inside.set(self.inside.get() - 1);
        result
    }

    /// Waits until nobody relies on it, as far as `mode` allows. False if somebody does.
    fn await_pins(&self, lab: &Lab, pfn: Pfn, mode: MigrateMode) -> bool {
        let platform = lab.mm().platform();
        let most = match mode {
            MigrateMode::Async => 0,
            MigrateMode::SyncLight => PATIENCE / 10,
            MigrateMode::Sync => PATIENCE,
        };
        let is_pinned = || self.change(pfn, |page| !page.is_free_to_go()) == Some(true);
        let mut spins = 0;
        while is_pinned() && spins < most {
            platform.relax(spins);
            spins += 1;
        }
        !is_pinned()
    }

    fn move_inside(&self, lab: &Lab, from: Pfn, to: Pfn, mode: MigrateMode) -> Migrated {
        let Some(order) = self.order(from) else {
            return Migrated::Failed; // freed
        };
        if self.refuses(lab) {
            return [Migrated::Busy, Migrated::Failed][lab.handler_rng.borrow_mut().below(2)];
        }
        if !self.await_pins(lab, from, mode) {
            return Migrated::Busy;
        }
        // Needs memory itself, as one does that changes tables.
        if let Ok(ptr) = lab.mm().kmalloc(100, GFP_KERNEL) {
            // SAFETY: ours.
            unsafe { lab.mm().kfree(ptr.as_ptr()) };
        }
        self.copy(lab, from, to, order);
        // In one step: it is still there, and goes.
        let Some(page) = self.take_out(from) else {
            return Migrated::Busy;
        };
        let moved = Page {
            isolated: 0,
            ..page
        };
        self.pages.borrow_mut().insert(to, moved);
        lab.moved(Block::Pages(from, order), Block::Pages(to, order));
        self.moved.set(self.moved.get() + 1);
        lab.mm().platform().step();
        Migrated::Done
    }

    fn copy(&self, lab: &Lab, from: Pfn, to: Pfn, order: u8) {
        if self.moved.get() == 0 && lab.sim().has_planted(Planted::MovedWithoutContent) {
            return;
        }
        let (from, to) = (self.address(lab, from), self.address(lab, to));
        let half = (PAGE_SIZE << order) / 2;
        for offset in [0, half] {
            lab.mm().platform().step();
            // SAFETY: the old block stays as it is while it is held; the new one is ours.
            unsafe { from.add(offset).copy_to(to.add(offset), half) };
        }
        lab.mm().platform().step();
    }
}

// SAFETY: it says yes, moves and gives up only what is in its table, which changes in the same
// step.
unsafe impl PageOwner for Tenant {
    fn facts(&self, page: Pfn) -> PageFacts {
        let known = self.pages.borrow().get(&page).copied();
        PageFacts {
            movable: true,
            pinned: known.is_some_and(|page| page.pins != 0),
            writeback: known.is_some_and(|page| page.writing),
            dirty: known.is_some_and(|page| page.dirty),
            ..PageFacts::default()
        }
    }

    fn isolate(&self, page: Pfn) -> bool {
        self.called(false, |lab| {
            lab.mm().platform().step();
            let refuses = self.refuses(lab);
            let there = |page: &mut Page| {
                let yes = !refuses && page.pins == 0;
                assert_eq!(page.isolated, 0, "isolated twice");
                page.isolated += u32::from(yes);
                yes
            };
            let yes = self.change(page, there);
            lab.mm().platform().step();
            yes == Some(true)
        })
    }

    fn migrate(&self, from: Pfn, to: Pfn, mode: MigrateMode) -> Migrated {
        self.called(Migrated::Failed, |lab| {
            let moved = self.move_inside(lab, from, to, mode);
            lab.mark(
                match (moved, mode) {
                    (Migrated::Done, MigrateMode::Async) => "moved, async",
                    (Migrated::Done, MigrateMode::SyncLight) => "moved, sync light",
                    (Migrated::Done, MigrateMode::Sync) => "moved, sync",
                    _ => "not moved",
                },
                1,
            );
            moved
        })
    }

    fn put_back(&self, page: Pfn) {
        self.called((), |lab| {
            lab.mark("put back", 1);
            // Unless it was freed, and the frame is another's.
            self.change(page, |page| page.isolated -= 1);
        });
    }

    fn reclaim(&self, page: Pfn, gfp: Gfp, mode: ReclaimMode) -> GivenUp {
        self.called(GivenUp::Busy, |lab| {
            let is_dirty = self.change(page, |page| page.dirty);
            match (is_dirty, mode) {
                (None, _) => return GivenUp::Busy, // freed
                (Some(true), ReclaimMode::Drop) => return GivenUp::Busy,
                (Some(true), ReclaimMode::Write) => {
                    assert!(gfp.contains(Gfp::IO), "P416");
                    return match self.begin_write(lab, page) {
                        true => GivenUp::Writeback,
                        false => GivenUp::Busy,
                    };
                }
                (Some(false), _) if self.refuses(lab) => return GivenUp::Referenced,
                (Some(false), _) => {}
            }
            let Some(taken) = self.take_out(page) else {
                return GivenUp::Busy;
            };
            assert_eq!(taken.order, 0, "on a list");
            lab.hand_over(Block::Pages(page, 0));
            lab.mark("given up", 1);
            GivenUp::Now
        })
    }
}

impl Shrinker for Tenant {
    fn count(&self, _: &ShrinkControl) -> Counted {
        match self.pages.borrow().len() {
            0 => Counted::Empty,
            n => Counted::Objects(n),
        }
    }

    fn scan(&self, control: &ShrinkControl) -> Scanned {
        self.called(Scanned::Stop, |lab| {
            let stingy = self.stingy.get();
            if stingy > 1 && !lab.handler_rng.borrow_mut().one_in(stingy) {
                return Scanned::Stop;
            }
            let any = |n| lab.handler_rng.borrow_mut().below(n);
            let free = |_: &usize| self.pick(any).is_some_and(|pfn| self.free(lab, pfn));
            let freed = (0..control.objects).filter(free).count();
            lab.mark("shrunk", freed as u64);
            Scanned::Done {
                looked_at: control.objects,
                freed,
            }
        })
    }
}
