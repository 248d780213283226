//! Two that need the same page at once, and one that only looks: all find one page, written whole.
//!
//! Seen to fail: the exchange, or the first look, relaxed; the failed exchange relaxed; a store
//! instead of the exchange; the page of who was second kept.

use crate::frame::PAGE_SIZE;
use crate::link::{Nowhere, Source, follow};
use core::ptr::{NonNull, null_mut};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::Relaxed};
use loom::thread;
use std::alloc::{Layout, alloc_zeroed, dealloc};

/// What a page becomes.
struct Table(UnsafeCell<u32>);

/// Pages that are out.
struct Pages(AtomicUsize);

fn layout() -> Layout {
    Layout::from_size_align(PAGE_SIZE, PAGE_SIZE).unwrap()
}

impl Source for Pages {
    fn take(&self) -> Option<NonNull<u8>> {
        self.0.fetch_add(1, Relaxed);
        // SAFETY: the size is not zero.
        NonNull::new(unsafe { alloc_zeroed(layout()) })
    }

    fn give_back(&self, page: NonNull<u8>) {
        self.0.fetch_sub(1, Relaxed);
        // SAFETY: filled below, taken above, and linked by nobody.
        unsafe {
            page.cast::<Table>().drop_in_place();
            dealloc(page.as_ptr(), layout());
        }
    }
}

struct Machine {
    entry: AtomicPtr<Table>,
    pages: Pages,
}

impl Machine {
    fn look(&self, source: &impl Source) -> Option<*const Table> {
        let fill = |new: *mut Table| {
            // SAFETY: a page of our own, large enough.
            unsafe { new.write(Table(UnsafeCell::new(0))) };
            // SAFETY: as above; the cell checks who sees it.
            unsafe { &*new }
                .0
                .with_mut(|content| unsafe { *content = 7 });
        };
        // SAFETY: linked here only, and freed when all threads have ended.
        let table = unsafe { follow(&self.entry, source, fill) }?;
        // SAFETY: the cell checks that it was written before.
        assert_eq!(table.0.with(|content| unsafe { *content }), 7);
        Some(table)
    }
}

#[test]
fn all_find_the_same_page_and_see_it_written() {
    loom::model(|| {
        let machine = Arc::new(Machine {
            entry: AtomicPtr::new(null_mut()),
            pages: Pages(AtomicUsize::new(0)),
        });
        let makers: [_; 2] = core::array::from_fn(|_| {
            let machine = Arc::clone(&machine);
            thread::spawn(move || machine.look(&machine.pages).unwrap().addr())
        });
        let seen = machine.look(&Nowhere).map(<*const Table>::addr);
        let [one, other] = makers.map(|maker| maker.join().unwrap());
        assert!(one == other && seen.is_none_or(|seen| seen == one));
        assert_eq!(machine.pages.0.load(Relaxed), 1, "the other went back");
        let page = machine.entry.load(Relaxed).cast::<u8>();
        machine.pages.give_back(NonNull::new(page).unwrap());
    });
}
