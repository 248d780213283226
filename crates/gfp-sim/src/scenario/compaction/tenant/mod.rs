//! An owner of pages that can be moved, and given up.
//!
//! 1. **The table** says where each page is now. Whoever frees, moves or gives a page up takes it
//!    out first, in one step of the run; so each of them happens once, and all others are told no.
//! 2. **A move** copies in two halves, with points before, between and after. Meanwhile tasks and
//!    interrupts may free the page, pin it, or free the new one as soon as it is in the table.
//! 3. **A pin** is the promise that a page stays where it is: its user looks at it by address.
//! 4. **A shrinker** gives up blocks of all orders, also those that are on no list.
//! 5. **Refusals** of all kinds, so often as the run says, until [`Tenant::behave`].

mod calls;

use super::super::reclaim::nodes;
use super::super::{Block, Lab};
use crate::sim::TaskHandle;
use gfp::flags::Gfp;
use gfp::frame::{PAGE_SIZE, Pfn};
use gfp::page::{OwnerId, PageOwner, PageOwnerError};
use gfp::policy::reclaim::lru::Kind;
use gfp::policy::reclaim::shrink::Settings;
use gfp::reclaim::{Shrinker, ShrinkerId};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::Range;
use std::ptr::NonNull;
use std::rc::{Rc, Weak};

/// A block of the tenant's.
#[derive(Copy, Clone, Default)]
struct Page {
    order: u8,
    /// Its own, wherever it is.
    name: u64,
    /// It is on the lists. They may know more of them than we do.
    listed: bool,
    pins: u32,
    dirty: bool,
    /// The lists know that.
    noted: bool,
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
pub(in crate::scenario) struct Tenant {
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
    /// Names given out.
    names: Cell<u64>,
}

// SAFETY: [INV-SIM-1] of one thread, as the machine that calls it.
unsafe impl Sync for Tenant {}

impl Tenant {
    pub(in crate::scenario) fn new(lab: &Rc<Lab>, refuses: usize, stingy: usize) -> Tenant {
        Tenant {
            lab: Rc::downgrade(lab),
            id: Cell::new(None),
            shrinker: RefCell::default(),
            pages: RefCell::default(),
            inside: Cell::new(0),
            refuses: Cell::new(refuses),
            stingy: Cell::new(stingy),
            moved: Cell::new(0),
            names: Cell::new(0),
        }
    }

    /// From now on it may have blocks, and is asked for them in need.
    pub(in crate::scenario) fn register(&self, lab: &Lab) {
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
    pub(in crate::scenario) fn leave(&self, lab: &Lab, task: &TaskHandle) {
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
    pub(in crate::scenario) fn look(&self, lab: &Lab) {
        assert_eq!(self.inside.get(), 0, "called by nobody");
        let mut dirty = 0;
        for (pfn, page) in self.pages.borrow().iter() {
            assert_eq!(page.isolated, 0, "isolated, neither moved nor put back");
            lab.look(self.address(lab, *pfn));
            let on_lists = lab.mm().pages().frames().movable_tag(*pfn) & 1 != 0;
            assert!(on_lists || !page.listed, "a page fell off the lists");
            dirty += usize::from(page.listed && page.noted);
        }
        let of_node = |node| lab.mm().slabs().reclaim().lru_node_pages(node).dirty;
        let known: usize = nodes().map(of_node).sum();
        assert!(
            known >= dirty,
            "of {dirty} dirty pages the lists know {known}"
        );
    }

    /// Frees a block of the largest order.
    pub(in crate::scenario) fn free_largest(&self, lab: &Lab) {
        let largest = {
            let pages = self.pages.borrow();
            let largest = pages.iter().max_by_key(|(_, page)| page.order);
            largest.map(|(pfn, _)| *pfn)
        };
        largest.into_iter().for_each(|pfn| _ = self.free(lab, pfn));
    }

    /// Nothing is refused from now on without a reason.
    pub(in crate::scenario) fn behave(&self) {
        self.refuses.set(0);
        self.stingy.set(1);
    }

    pub(in crate::scenario) fn moved(&self) -> u64 {
        self.moved.get()
    }

    /// How many frames it has.
    pub(in crate::scenario) fn frames(&self) -> usize {
        let pages = self.pages.borrow();
        pages.values().map(|page| 1 << page.order).sum()
    }

    /// One block more; false if there is none.
    pub(in crate::scenario) fn add(
        &self,
        lab: &Lab,
        gfp: Gfp,
        order: u8,
        on_lists: Option<Kind>,
    ) -> bool {
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
    pub(in crate::scenario) fn adopt(
        &self,
        lab: &Lab,
        pfn: Pfn,
        order: u8,
        on_lists: Option<Kind>,
    ) {
        let ptr = lab.mm().page_address(pfn).as_ptr();
        lab.own(ptr, PAGE_SIZE << order, "block that can be moved");
        let id = self.id.get().expect("it is registered");
        assert_eq!(lab.mm().set_page_owner(pfn, id), Ok(()));
        self.names.set(self.names.get() + 1);
        let page = Page {
            order,
            name: self.names.get(),
            ..Page::default()
        };
        let before = self.pages.borrow_mut().insert(pfn, page);
        assert!(before.is_none(), "it had this block");
        // From now on it may be moved, and freed by an interrupt.
        if let (Some(kind), 0) = (on_lists, order) {
            self.list(lab, pfn, page.name, kind);
        }
    }

    /// Puts a page on the lists. Whatever is in the frame by then, if anything.
    fn list(&self, lab: &Lab, pfn: Pfn, name: u64, kind: Kind) {
        match lab.mm().lru_add(pfn, kind) {
            Ok(()) => _ = self.change(pfn, |page| page.listed |= page.name == name),
            Err(_) => lab.mark("not put on a list", 1),
        }
    }

    /// Puts one on the lists that is not.
    pub(in crate::scenario) fn list_late(&self, lab: &Lab, pfn: Pfn) {
        let fit = |page: &mut Page| (page.order == 0).then_some(page.name);
        if let Some(Some(name)) = self.change(pfn, fit) {
            self.list(lab, pfn, name, Kind::Droppable);
        }
    }

    /// Takes a block out of the table, if nobody relies on it.
    fn take_out(&self, pfn: Pfn) -> Option<Page> {
        let mut pages = self.pages.borrow_mut();
        pages.get(&pfn).filter(|page| page.is_free_to_go())?;
        pages.remove(&pfn)
    }

    /// Frees a block, if it is there and nobody relies on it.
    pub(in crate::scenario) fn free(&self, lab: &Lab, pfn: Pfn) -> bool {
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
    pub(in crate::scenario) fn free_in_nmi(&self, lab: &Lab, pfn: Pfn) {
        if let Some(page) = self.take_out(pfn) {
            lab.free(Block::Pages(pfn, page.order));
        }
    }

    /// Any block, by a number.
    pub(in crate::scenario) fn pick(&self, below: impl FnOnce(usize) -> usize) -> Option<Pfn> {
        let pages = self.pages.borrow();
        let (first, last) = (pages.keys().next()?.0, pages.keys().next_back()?.0);
        let at = Pfn(first + below(last - first + 1));
        pages.range(at..).next().map(|(pfn, _)| *pfn)
    }

    /// The first block in a range of frames.
    pub(in crate::scenario) fn first_in(&self, frames: &Range<Pfn>) -> Option<Pfn> {
        let pages = self.pages.borrow();
        pages.range(frames.clone()).next().map(|(pfn, _)| *pfn)
    }

    /// A block that is being moved.
    pub(in crate::scenario) fn pick_moving(&self) -> Option<Pfn> {
        let pages = self.pages.borrow();
        let mut moving = pages.iter().filter(|(_, page)| page.isolated != 0);
        moving.next().map(|(pfn, _)| *pfn)
    }

    /// Its order, if it is there.
    pub(in crate::scenario) fn order(&self, pfn: Pfn) -> Option<u8> {
        self.pages.borrow().get(&pfn).map(|page| page.order)
    }

    fn change<R>(&self, pfn: Pfn, change: impl FnOnce(&mut Page) -> R) -> Option<R> {
        self.pages.borrow_mut().get_mut(&pfn).map(change)
    }

    /// Has it stay where it is. False if it is not there.
    pub(in crate::scenario) fn pin(&self, lab: &Lab, pfn: Pfn) -> bool {
        let isolated = self.change(pfn, |page| {
            page.pins += 1;
            page.isolated
        });
        lab.mark("pinned while it is moved", isolated.unwrap_or(0).into());
        isolated.is_some()
    }

    /// It may be moved again; it is where it was.
    pub(in crate::scenario) fn unpin(&self, lab: &Lab, pfn: Pfn) {
        lab.look(self.address(lab, pfn));
        let unpinned = self.change(pfn, |page| page.pins -= 1);
        assert!(unpinned.is_some(), "a pinned block was moved or given up");
    }

    fn address(&self, lab: &Lab, pfn: Pfn) -> *mut u8 {
        lab.mm().page_address(pfn).as_ptr()
    }

    /// It is changed. The lists may not know it now: it is on none, or on its way.
    pub(in crate::scenario) fn dirty(&self, lab: &Lab, pfn: Pfn) {
        if self.change(pfn, |page| page.dirty = true).is_some() && lab.mm().set_page_dirty(pfn) {
            // Else it is of the page that the frame was before.
            self.change(pfn, |page| page.noted = page.listed);
        }
    }

    /// Begins to write it. It stays where it is until [`Tenant::end_write`].
    pub(in crate::scenario) fn begin_write(&self, lab: &Lab, pfn: Pfn) -> bool {
        let begun = self.change(pfn, |page| {
            let begins = page.dirty && page.is_free_to_go();
            page.writing |= begins;
            page.dirty &= !begins;
            page.noted &= !begins;
            begins
        });
        if begun == Some(true) {
            lab.mm().start_page_writeback(pfn);
        }
        begun == Some(true)
    }

    /// The device has written the first that is on its way; in an interrupt too. False if there is
    /// none.
    pub(in crate::scenario) fn end_write(&self, lab: &Lab) -> bool {
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
}
