//! The marks of a page on the lists, while it is used, written and forgotten at once.
//!
//! Seen to fail: an unknown page that gets marks; a change of two steps instead of one exchange.

use crate::marks::{Back, Mark, Marks};
use crate::policy::reclaim::lru::Kind;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicIsize, Ordering::Relaxed};
use loom::thread;

struct Page {
    marks: Marks,
    dirty: AtomicIsize,
    writing: AtomicIsize,
}

impl Page {
    fn on_list() -> Arc<Page> {
        let page = Page {
            marks: Marks::new(),
            dirty: AtomicIsize::new(0),
            writing: AtomicIsize::new(0),
        };
        page.marks.enter(Kind::Droppable);
        Arc::new(page)
    }

    fn sums(&self) -> [isize; 2] {
        [self.dirty.load(Relaxed), self.writing.load(Relaxed)]
    }

    fn soil(&self) {
        if self.marks.note_dirty() {
            self.dirty.fetch_add(1, Relaxed);
        }
    }

    fn begin_write(&self) {
        if let Some(old) = self.marks.begin_write() {
            self.writing.fetch_add(1, Relaxed);
            self.dirty.fetch_sub(old.is_dirty().into(), Relaxed);
        }
    }

    fn end_write(&self) -> Option<Mark> {
        let old = self.marks.end_write();
        if old.is_some() {
            self.writing.fetch_sub(1, Relaxed);
        }
        old
    }

    fn forget(&self) {
        let old = self.marks.leave();
        self.dirty.fetch_sub(old.is_dirty().into(), Relaxed);
        self.writing.fetch_sub(old.is_writing().into(), Relaxed);
    }
}

#[test]
fn what_is_counted_is_counted_off_whoever_comes_first() {
    loom::model(|| {
        let page = Page::on_list();
        let theirs = page.clone();
        let writer = thread::spawn(move || {
            theirs.soil();
            theirs.begin_write();
            theirs.soil();
            theirs.end_write();
        });
        page.forget();
        writer.join().unwrap();
        assert_eq!(page.sums(), [0, 0]);
        assert!(!page.marks.get().is_known());
    });
}

#[test]
fn a_use_is_not_lost_while_the_page_is_taken_and_put_back() {
    loom::model(|| {
        let page = Page::on_list();
        let theirs = page.clone();
        let user = thread::spawn(move || theirs.marks.note_use());
        page.marks.take();
        page.marks.put_back(Back::Inactive);
        user.join().unwrap();
        let mark = page.marks.get();
        assert!(mark.is_used() && mark.is_on_list() && !mark.is_taken());
    });
}

#[test]
fn the_end_of_a_write_is_told_to_one_and_nobody_puts_it_back() {
    loom::model(|| {
        let page = Page::on_list();
        page.begin_write();
        page.marks.take();
        let theirs = page.clone();
        let device = thread::spawn(move || theirs.end_write().is_some());
        page.marks.put_back(Back::Rotate);
        let told = page.end_write().is_some();
        assert!(told ^ device.join().unwrap());
        assert!(!page.marks.get().is_writing());
        assert_eq!(page.sums(), [0, 0]);
    });
}
