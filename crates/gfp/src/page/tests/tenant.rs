//! An owner of pages for tests: knows what each of its pages contains, and where it is now.

use crate::Mm;
use crate::flags::{GFP_HIGHUSER_MOVABLE, Gfp};
use crate::frame::{Order, PAGE_SIZE, Pfn};
use crate::page::{MigrateMode, Migrated, OwnerId, PageOwner, PageOwnerError};
use crate::policy::compaction::PageFacts;
use crate::testing::TestPlatform;
use std::boxed::Box;
use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::vec::Vec;

/// A call of the owner.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum During {
    Isolate,
    Migrate,
}

/// The owner. Each page has a name, and each of its words contains it.
#[derive(Default)]
pub(crate) struct Tenant {
    pages: Mutex<BTreeMap<Pfn, (usize, Order)>>,
    next: AtomicUsize,
    /// The facts of pages that are not just movable.
    pub(crate) facts: Mutex<BTreeMap<Pfn, PageFacts>>,
    /// What it answers instead of moving.
    pub(crate) refuses: Mutex<Option<Migrated>>,
    /// It frees the page in the middle of this call about it.
    pub(crate) frees: Mutex<Option<During>>,
    /// It panics instead of moving, when this many have moved.
    pub(crate) panics_after: Mutex<Option<usize>>,
    /// Where it was to move a page when it panicked.
    pub(crate) panicked: Mutex<Option<Pfn>>,
    pub(crate) moved: AtomicUsize,
    pub(crate) moved_pages: AtomicUsize,
    pub(crate) put_back: AtomicUsize,
    /// The highest mode that it was asked with.
    pub(crate) modes: Mutex<Vec<MigrateMode>>,
}

#[allow(clippy::mut_from_ref, reason = "as with any allocator")]
fn words(mm: &Mm<TestPlatform>, pfn: Pfn, order: Order) -> &mut [usize] {
    let start = mm.page_address(pfn).cast::<usize>();
    // SAFETY: pages of RAM, which the tenant owns, one thread at a time under its lock.
    unsafe { core::slice::from_raw_parts_mut(start.as_ptr(), order.pages() * PAGE_SIZE / 8) }
}

/// A tenant on its machine. Gone from it when dropped: its pages are freed.
pub(crate) struct Renting<'m> {
    pub(crate) mm: &'m Mm<TestPlatform>,
    tenant: Box<Rented>,
    pub(crate) id: OwnerId,
}

/// What the machine calls.
struct Rented {
    tenant: Tenant,
    mm: *const Mm<TestPlatform>,
}

// SAFETY: the machine outlives it, and is `Sync`.
unsafe impl Sync for Rented {}
// SAFETY: as above.
unsafe impl Send for Rented {}

impl Rented {
    fn free_during(&self, call: During, page: Pfn) {
        if *self.tenant.frees.lock().unwrap() != Some(call) {
            return;
        }
        let Some((_, order)) = self.tenant.pages.lock().unwrap().remove(&page) else {
            return;
        };
        // SAFETY: the machine outlives it.
        let mm = unsafe { &*self.mm };
        // SAFETY: it is the tenant's, which has forgotten it.
        unsafe { mm.free_frames(page, order.get()) };
        // It is not anybody else's before the question is over.
        assert!(!mm.pages().is_free(page));
        let new = mm.alloc_pages(GFP_HIGHUSER_MOVABLE, order.get());
        if let Ok(new) = new {
            assert!(new != page);
            // SAFETY: just allocated.
            unsafe { mm.free_frames(new, order.get()) };
        }
        // SAFETY: it is refused: freed already.
        unsafe { mm.free_frames(page, order.get()) };
    }
}

// SAFETY: it answers for pages in its table only, which it has under its lock; a page that is
// moved is another in the table from then on.
unsafe impl PageOwner for Rented {
    fn facts(&self, page: Pfn) -> PageFacts {
        let movable = PageFacts {
            movable: true,
            ..PageFacts::default()
        };
        let facts = self.tenant.facts.lock().unwrap();
        facts.get(&page).copied().unwrap_or(movable)
    }

    fn isolate(&self, page: Pfn) -> bool {
        self.free_during(During::Isolate, page);
        self.tenant.pages.lock().unwrap().contains_key(&page)
    }

    fn migrate(&self, from: Pfn, to: Pfn, mode: MigrateMode) -> Migrated {
        self.free_during(During::Migrate, from);
        self.tenant.modes.lock().unwrap().push(mode);
        let panics_after = *self.tenant.panics_after.lock().unwrap();
        if panics_after.is_some_and(|n| n <= self.tenant.moved.load(Relaxed)) {
            *self.tenant.panicked.lock().unwrap() = Some(to);
            panic!("meant to be: the owner panics");
        }
        if let Some(refusal) = *self.tenant.refuses.lock().unwrap() {
            return refusal;
        }
        let mut pages = self.tenant.pages.lock().unwrap();
        let Some((name, order)) = pages.remove(&from) else {
            return Migrated::Failed;
        };
        // SAFETY: the machine outlives it.
        let mm = unsafe { &*self.mm };
        mm.platform().pass_ns(1000);
        words(mm, to, order).copy_from_slice(words(mm, from, order));
        pages.insert(to, (name, order));
        self.tenant.moved.fetch_add(1, Relaxed);
        self.tenant.moved_pages.fetch_add(order.pages(), Relaxed);
        Migrated::Done
    }

    fn put_back(&self, _: Pfn) {
        self.tenant.put_back.fetch_add(1, Relaxed);
    }
}

impl std::ops::Deref for Renting<'_> {
    type Target = Tenant;

    fn deref(&self) -> &Tenant {
        &self.tenant.tenant
    }
}

impl<'m> Renting<'m> {
    pub(crate) fn new(mm: &'m Mm<TestPlatform>) -> Renting<'m> {
        let tenant = Box::new(Rented {
            tenant: Tenant::default(),
            mm,
        });
        // SAFETY: unregistered in `drop`, before the box goes.
        let id = unsafe { mm.register_page_owner_for(NonNull::from(&*tenant)) };
        Renting {
            mm,
            tenant,
            id: id.unwrap(),
        }
    }

    /// Takes one block, and fills it with its name.
    pub(crate) fn take(&self, order: u8) -> Option<Pfn> {
        self.take_with(GFP_HIGHUSER_MOVABLE, order)
    }

    pub(crate) fn take_with(&self, gfp: Gfp, order: u8) -> Option<Pfn> {
        let pfn = self.mm.alloc_pages(gfp, order).ok()?;
        let order = Order::new(order).unwrap();
        let name = self.next.fetch_add(1, Relaxed);
        words(self.mm, pfn, order).fill(name);
        self.pages.lock().unwrap().insert(pfn, (name, order));
        self.mm.set_page_owner(pfn, self.id).unwrap();
        Some(pfn)
    }

    /// Gives one block up.
    pub(crate) fn give(&self, pfn: Pfn) {
        let page = self.pages.lock().unwrap().remove(&pfn);
        let (name, order) = page.expect("it is here");
        assert!(words(self.mm, pfn, order).iter().all(|word| *word == name));
        // SAFETY: it is the tenant's, which has forgotten it.
        unsafe { self.mm.free_frames(pfn, order.get()) };
    }

    /// Where its pages are now.
    pub(crate) fn frames(&self) -> Vec<Pfn> {
        self.pages.lock().unwrap().keys().copied().collect()
    }

    /// Every page contains what was written into it.
    pub(crate) fn check(&self) {
        for (pfn, (name, order)) in self.pages.lock().unwrap().iter() {
            let content = words(self.mm, *pfn, *order);
            assert!(content.iter().all(|word| word == name), "{pfn} is {name}");
        }
    }
}

impl Drop for Renting<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return; // the machine may not be well either
        }
        self.check();
        self.frames().into_iter().for_each(|pfn| self.give(pfn));
        match self.mm.unregister_page_owner(self.id) {
            Ok(()) | Err(PageOwnerError::NoSuchOwner) => {}
            Err(error) => panic!("{error}"),
        }
    }
}
