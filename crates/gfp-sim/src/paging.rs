//! `vmalloc` in the simulator: each page of the range is memory of its own.
//!
//! | page | map | unmap | flush |
//! |---|---|---|---|
//! | free | becomes mapped, zeroed | - | - |
//! | mapped | panics | becomes stale, full of poison | panics |
//! | stale | panics: some CPU may still remember the old mapping | panics | becomes free |
//!
//! The poison is looked at when the page is mapped again: who wrote to a freed area is found then.

use crate::platform::SimPlatform;
use crate::ram::Block;
use crate::world::{At, Event};
use gfp::frame::{Order, PAGE_SIZE, Pfn};
use gfp::platform::{FrameRun, MapError, Mapped, Paging, Protection};
use std::cell::RefCell;
use std::ptr::NonNull;

/// Addresses for vmalloc: few enough that they are used again and again.
const PAGES: usize = 4096;
const POISON: u8 = 0x6b;

#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Page {
    /// Never mapped.
    New,
    /// Unmapped and flushed.
    Free,
    Mapped,
    /// Unmapped; a CPU may still remember it.
    Stale,
}

/// The vmalloc range of a machine.
pub(crate) struct Space {
    memory: Block,
    pages: RefCell<Vec<Page>>,
}

impl Space {
    pub(crate) fn new() -> Space {
        Space {
            memory: Block::new(PAGES * PAGE_SIZE, Order::MAX.bytes()),
            pages: RefCell::new(vec![Page::New; PAGES]),
        }
    }

    fn index(&self, at: NonNull<u8>) -> usize {
        let offset = at.addr().get().wrapping_sub(self.memory.start().addr());
        assert!(offset.is_multiple_of(PAGE_SIZE) && offset / PAGE_SIZE < PAGES);
        offset / PAGE_SIZE
    }

    fn page(&self, index: usize) -> *mut u8 {
        self.memory.start().wrapping_add(index * PAGE_SIZE)
    }

    fn map_one(&self, index: usize) {
        let state = std::mem::replace(&mut self.pages.borrow_mut()[index], Page::Mapped);
        match state {
            Page::New => return, // reads as zero
            Page::Free => (),
            Page::Mapped => panic!("page {index} of vmalloc space is mapped twice"),
            Page::Stale => panic!("page {index} of vmalloc space is used again before its flush"),
        }
        // SAFETY: the page lies in our memory; who maps it owns its addresses.
        let bytes = unsafe { core::slice::from_raw_parts(self.page(index), PAGE_SIZE) };
        let intact = bytes.iter().all(|byte| *byte == POISON);
        assert!(
            intact,
            "page {index} of vmalloc space was written while it was free"
        );
        // SAFETY: as above; the slice is not used any more.
        unsafe { self.page(index).write_bytes(0, PAGE_SIZE) };
    }

    fn unmap_one(&self, index: usize) {
        let state = std::mem::replace(&mut self.pages.borrow_mut()[index], Page::Stale);
        assert!(
            state == Page::Mapped,
            "page {index} is unmapped but {state:?}"
        );
        // SAFETY: the page lies in our memory; nobody uses it any more.
        unsafe { self.page(index).write_bytes(POISON, PAGE_SIZE) };
    }

    fn flush_one(&self, index: usize) {
        // The guard page behind an area is flushed with it, and was never mapped.
        let page = &mut self.pages.borrow_mut()[index];
        assert!(*page != Page::Mapped, "page {index} is flushed but mapped");
        if *page == Page::Stale {
            *page = Page::Free;
        }
    }

    /// How many pages are mapped.
    pub(crate) fn mapped(&self) -> usize {
        let pages = self.pages.borrow();
        pages.iter().filter(|page| **page == Page::Mapped).count()
    }
}

impl SimPlatform {
    /// How many pages of the vmalloc range are mapped.
    pub fn mapped_pages(&self) -> usize {
        self.core();
        self.space.mapped()
    }
}

// SAFETY: the range is the machine's own memory; from `map` to `unmap` a page of it belongs to
// whoever mapped it. A page that is not mapped does not fault: it contains poison, whose change is
// found.
unsafe impl Paging for SimPlatform {
    fn vmalloc_range(&self) -> (NonNull<u8>, usize) {
        let start = NonNull::new(self.space.memory.start()).expect("memory from the heap");
        (start, PAGES * PAGE_SIZE)
    }

    unsafe fn map(
        &self,
        at: NonNull<u8>,
        runs: &mut dyn Iterator<Item = FrameRun>,
        _protection: Protection,
        _table: &mut dyn FnMut() -> Option<Pfn>,
    ) -> Result<Mapped, MapError> {
        self.core().point(At::Map);
        {
            let mut world = self.core().world.borrow_mut();
            let rate = world.config.rates.refuse_map;
            if world.fault(rate, Event::RefuseMap) {
                return Err(MapError::NoMemory);
            }
        }
        let first = self.space.index(at);
        let pages: usize = runs.map(|run| run.pages).sum();
        for index in first..first + pages {
            self.space.map_one(index);
            self.core().point(At::Map);
        }
        Ok(Mapped::Zeroed)
    }

    unsafe fn unmap(&self, at: NonNull<u8>, pages: usize) {
        let first = self.space.index(at);
        for index in first..first + pages {
            self.core().point(At::Unmap);
            self.space.unmap_one(index);
        }
    }

    fn flush(&self, at: NonNull<u8>, pages: usize) {
        self.core().point(At::Flush);
        let first = self.space.index(at);
        (first..first + pages).for_each(|index| self.space.flush_one(index));
        self.core().point(At::Flush);
    }

    fn aliases_frames(&self) -> bool {
        false
    }
}
