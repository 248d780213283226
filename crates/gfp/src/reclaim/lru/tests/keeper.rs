//! An owner of pages on the lists whose answers are scripted.

use crate::Mm;
use crate::flags::{GFP_HIGHUSER_MOVABLE, Gfp};
use crate::frame::Pfn;
use crate::page::{GivenUp, MigrateMode, Migrated, OwnerId, PageOwner, ReclaimMode};
use crate::policy::reclaim::lru::Kind;
use crate::testing::TestPlatform;
use std::boxed::Box;
use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::sync::Mutex;
use std::vec::Vec;

pub(super) type Machine = Mm<TestPlatform>;

/// What happens while the owner is asked about a page.
pub(super) type InCall<'m> = Box<dyn FnMut(&Keeper<'m>, Pfn) + Send + 'm>;

/// The same while it moves a page.
pub(super) type InMove<'m> = Box<dyn FnMut(Pfn, Pfn) + Send + 'm>;

/// One question.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) page: Pfn,
    pub(super) gfp: Gfp,
    pub(super) mode: ReclaimMode,
}

/// The owner.
pub(super) struct Keeper<'m> {
    pub(super) mm: &'m Machine,
    /// Its pages, each with its answer.
    pub(super) pages: Mutex<BTreeMap<Pfn, GivenUp>>,
    pub(super) asked: Mutex<Vec<Asked>>,
    pub(super) in_call: Mutex<Option<InCall<'m>>>,
    /// What happens while it moves a page, from where and to where.
    pub(super) in_move: Mutex<Option<InMove<'m>>>,
}

// SAFETY: it answers for pages in its table only; a page that it gave up is not in it any more.
unsafe impl PageOwner for Keeper<'_> {
    fn isolate(&self, page: Pfn) -> bool {
        self.pages.lock().unwrap().contains_key(&page)
    }

    fn migrate(&self, from: Pfn, to: Pfn, _: MigrateMode) -> Migrated {
        if let Some(call) = self.in_move.lock().unwrap().as_mut() {
            call(from, to);
        }
        let mut pages = self.pages.lock().unwrap();
        let Some(answer) = pages.remove(&from) else {
            return Migrated::Failed;
        };
        pages.insert(to, answer);
        Migrated::Done
    }

    fn reclaim(&self, page: Pfn, gfp: Gfp, mode: ReclaimMode) -> GivenUp {
        self.asked.lock().unwrap().push(Asked { page, gfp, mode });
        if let Some(call) = self.in_call.lock().unwrap().as_mut() {
            call(self, page);
        }
        let mut pages = self.pages.lock().unwrap();
        match pages.get(&page).copied() {
            Some(GivenUp::Now) => {
                pages.remove(&page);
                GivenUp::Now
            }
            Some(GivenUp::Writeback) => {
                assert!(mode == ReclaimMode::Write && self.mm.start_page_writeback(page));
                GivenUp::Writeback
            }
            Some(answer) => answer,
            None => GivenUp::Busy,
        }
    }
}

impl<'m> Keeper<'m> {
    pub(super) fn new(mm: &'m Machine) -> Keeper<'m> {
        Keeper {
            mm,
            pages: Mutex::default(),
            asked: Mutex::default(),
            in_call: Mutex::new(None),
            in_move: Mutex::new(None),
        }
    }

    /// Runs `body` while it is registered; then its pages are freed and the machine is checked.
    pub(super) fn with<R>(&self, body: impl FnOnce(OwnerId) -> R) -> R {
        let owner = NonNull::from(self as &dyn PageOwner);
        // SAFETY: lifetimes only; it is unregistered below, before it goes.
        let owner = unsafe {
            std::mem::transmute::<NonNull<dyn PageOwner + '_>, NonNull<dyn PageOwner>>(owner)
        };
        // SAFETY: as above.
        let id = unsafe { self.mm.register_page_owner_for(owner) }.unwrap();
        let result = body(id);
        self.mm.verify().unwrap();
        for pfn in self.frames() {
            self.free(pfn);
        }
        self.mm.unregister_page_owner(id).unwrap();
        self.mm.verify().unwrap();
        assert!(self.mm.platform().reports().is_empty());
        result
    }

    /// Takes a page with an answer and puts it on the lists; `None` if there is none to be had
    /// without reclaim.
    pub(super) fn add(&self, id: OwnerId, kind: Kind, answer: GivenUp) -> Option<Pfn> {
        let gfp = (GFP_HIGHUSER_MOVABLE & !Gfp::RECLAIM) | Gfp::NOWARN;
        let pfn = self.mm.alloc_pages(gfp, 0).ok()?;
        self.pages.lock().unwrap().insert(pfn, answer);
        self.mm.set_page_owner(pfn, id).unwrap();
        if self.mm.lru_add(pfn, kind).is_err() {
            self.free(pfn);
            return None;
        }
        Some(pfn)
    }

    /// Takes all memory that there is, what CPUs have cached included, for pages of one answer. How
    /// many.
    pub(super) fn fill(&self, id: OwnerId, kind: Kind, answer: GivenUp) -> usize {
        let page = || self.add(id, kind, answer);
        let mut pages = 0;
        loop {
            pages += core::iter::from_fn(page).count();
            if self.mm.pages().drain_all() == 0 {
                return pages;
            }
        }
    }

    /// Free pages, once what CPUs have cached is free as well.
    pub(super) fn free_pages(&self) -> usize {
        self.mm.pages().drain_all();
        self.mm.pages().free_page_count()
    }

    /// Takes a page off the lists and frees it.
    pub(super) fn free(&self, pfn: Pfn) {
        self.mm.lru_del(pfn);
        self.free_as_it_is(pfn);
    }

    pub(super) fn free_as_it_is(&self, pfn: Pfn) {
        assert!(self.pages.lock().unwrap().remove(&pfn).is_some());
        // SAFETY: it is the keeper's, who has forgotten it.
        unsafe { self.mm.free_frames(pfn, 0) };
    }

    pub(super) fn frames(&self) -> Vec<Pfn> {
        self.pages.lock().unwrap().keys().copied().collect()
    }

    /// The pages that were asked about since the last look, in order.
    pub(super) fn take_asked(&self) -> Vec<Pfn> {
        let asked = core::mem::take(&mut *self.asked.lock().unwrap());
        asked.into_iter().map(|asked| asked.page).collect()
    }
}
