//! A page that has an owner: freed, held and asked about, and its owner that goes. What an owner
//! lives on, and the content of the page, are cells: two threads that touch one unordered panic.
//!
//! Seen to fail: `replace`, by which all changes of a word are made, relaxed; a free of a held page
//! that gives it back at once; `hold_over` or `is_idle` relaxed; `page_freed_held` with the pages
//! first; a generation beside the word of the state.
//!
//! Not seen: `leave` without a look at the pages. Who leaves waits for them then.

use crate::frame::{FrameKind, FrameTable, FrameWord, Freed, LetGo, Order, Pfn};
use crate::owners::{Leave, Place};
use crate::sync::Carved;
use core::ptr::NonNull;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::AtomicU64;
use loom::thread;
use std::vec::Vec;

const PAGE: Pfn = Pfn(1024);

struct Machine {
    frames: FrameTable,
    place: Place<u32>,
    /// What the owner's calls live on.
    owner: UnsafeCell<bool>,
    /// The memory of the page.
    content: UnsafeCell<u32>,
    _words: Vec<AtomicU64>,
}

// SAFETY: the cells check every access.
unsafe impl Send for Machine {}
// SAFETY: as above.
unsafe impl Sync for Machine {}

impl Machine {
    /// An owner with one page. Returns its generation too.
    fn new() -> (Arc<Machine>, u32) {
        let words: Vec<_> = (0..1).map(|_| AtomicU64::new(0)).collect();
        // SAFETY: the vector lives beside the table and never grows.
        let carved = unsafe { Carved::new(NonNull::from(&*words).cast(), 1) };
        let machine = Machine {
            frames: FrameTable::new(PAGE, carved, 1),
            place: Place::new(),
            owner: UnsafeCell::new(true),
            content: UnsafeCell::new(0),
            _words: words,
        };
        let generation = machine.place.claim().unwrap().publish(7);
        let page = FrameWord::new(FrameKind::Page, Order::ZERO, 1);
        machine.frames.set(PAGE, page);
        assert!(machine.place.add_page(generation));
        machine.frames.give_owner(PAGE, 0).unwrap();
        (Arc::new(machine), generation)
    }

    /// A call of the owner, which looks at the page.
    fn ask(&self) {
        // SAFETY: a page is held.
        assert_eq!(unsafe { self.place.get() }, Some(7));
        // SAFETY: the cells check it.
        self.owner.with(|alive| assert!(unsafe { *alive }));
    }

    /// The memory is somebody else's now.
    fn reuse(&self) {
        assert!(!self.frames.get(PAGE).is(FrameKind::Movable));
        // SAFETY: the cell checks that nobody else is here.
        self.content.with_mut(|content| unsafe { *content += 1 });
    }

    /// The owner frees the page. True if it is free now.
    fn free(&self) -> bool {
        match self.frames.free_movable(PAGE, Order::ZERO) {
            Freed::Now { .. } => {
                self.place.page_gone();
                self.reuse();
                true
            }
            Freed::ByHolder { .. } => {
                self.place.page_freed_held();
                false
            }
            Freed::Misuse => panic!("it was the owner's"),
        }
    }

    /// Somebody asks the owner about the page and moves its content. True if the page was freed by
    /// that.
    fn hold_and_ask(&self) -> bool {
        if self.frames.hold(PAGE).is_none() {
            return false;
        }
        self.ask();
        // SAFETY: the cell checks that nobody else is here.
        self.content.with_mut(|content| unsafe { *content += 10 });
        let freed = self.frames.let_go(PAGE) == LetGo::Freed;
        if freed {
            self.reuse();
            self.place.hold_over();
        }
        freed
    }

    /// The owner goes, and then ends.
    fn leave(&self, generation: u32) {
        loop {
            match self.place.leave(generation) {
                Leave::Leaving => break,
                Leave::HasPages(_) => thread::yield_now(),
                Leave::Gone => panic!("it goes once"),
            }
        }
        while !self.place.is_idle() {
            thread::yield_now();
        }
        self.place.vacate();
        // SAFETY: the cell checks that nobody else is here.
        self.owner.with_mut(|alive| unsafe { *alive = false });
    }
}

#[test]
fn a_page_that_is_freed_while_somebody_asks_comes_free_once_and_its_owner_may_go() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let (machine, generation) = Machine::new();
        let asker = {
            let machine = Arc::clone(&machine);
            thread::spawn(move || machine.hold_and_ask())
        };
        let freer = {
            let machine = Arc::clone(&machine);
            thread::spawn(move || machine.free())
        };
        machine.leave(generation);
        let later = asker.join().unwrap();
        assert!(freer.join().unwrap() != later, "once");
        // Nothing is left of it.
        assert!(machine.place.claim().is_some());
    });
}

#[test]
fn a_page_is_held_by_one_at_a_time() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let (machine, generation) = Machine::new();
        let askers: Vec<_> = (0..2)
            .map(|_| {
                let machine = Arc::clone(&machine);
                thread::spawn(move || machine.hold_and_ask())
            })
            .collect();
        let now = machine.free();
        let mut freed = usize::from(now);
        for asker in askers {
            freed += usize::from(asker.join().unwrap());
        }
        assert_eq!(freed, 1);
        machine.leave(generation);
    });
}

#[test]
fn an_owner_that_went_gets_no_pages_by_its_name() {
    loom::model(|| {
        let (machine, generation) = Machine::new();
        let giver = {
            let machine = Arc::clone(&machine);
            thread::spawn(move || {
                // The page that it has is taken away meanwhile: it may have gone by now.
                let added = machine.place.add_page(generation);
                if added {
                    machine.place.page_gone();
                }
            })
        };
        machine.frames.take_owner(PAGE).unwrap();
        machine.place.page_gone();
        machine.leave(generation);
        let next = machine.place.claim().unwrap().publish(8);
        assert!(next != generation);
        assert!(!machine.place.add_page(generation));
        giver.join().unwrap();
    });
}

#[test]
fn an_owner_that_is_let_go_twice_does_not_take_a_later_one_with_it() {
    loom::model(|| {
        let (machine, generation) = Machine::new();
        machine.frames.take_owner(PAGE).unwrap();
        machine.place.page_gone();
        let go = move |place: &Place<u32>| match place.leave(generation) {
            Leave::Leaving => {
                place.vacate();
                true
            }
            Leave::HasPages(_) => panic!("it has none"),
            Leave::Gone => false,
        };
        let twice = {
            let machine = Arc::clone(&machine);
            thread::spawn(move || go(&machine.place))
        };
        let mine = go(&machine.place);
        let next = machine.place.claim().map(|claimed| claimed.publish(8));
        assert!(mine != twice.join().unwrap(), "once");
        if let Some(next) = next {
            assert_eq!(machine.place.leave(next), Leave::Leaving);
        }
    });
}

#[test]
fn a_tag_is_kept_by_who_holds_the_page_and_gone_with_it() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let (machine, _) = Machine::new();
        let asker = {
            let machine = Arc::clone(&machine);
            thread::spawn(move || machine.hold_and_ask())
        };
        let tagger = {
            let machine = Arc::clone(&machine);
            thread::spawn(move || machine.frames.change_movable_tag(PAGE, |tag| tag | 1 << 31))
        };
        let own = machine.frames.change_movable_tag(PAGE, |tag| tag | 1);
        assert_eq!(own.map(|tag| tag & 1), Some(0));
        let other = tagger.join().unwrap().unwrap();
        assert_eq!(machine.frames.movable_tag(PAGE), 1 << 31 | 1);
        assert!(other == 0 || own == Some(0), "one was first");
        let now = machine.free();
        assert!(asker.join().unwrap() != now);
        assert_eq!(machine.frames.movable_tag(PAGE), 0);
    });
}
