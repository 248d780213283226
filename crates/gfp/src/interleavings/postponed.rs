//! Frees of vmalloc that were written down. There is one slot, so that the stack is used too.
//!
//! Seen to fail: the claim of a slot relaxed, and as a load and a store; the stores of `FULL` and
//! `EMPTY` relaxed; the push and the taking of the stack relaxed, and the push as a load and a
//! store; `any` set before the entry is written; `any` set by a store.
//!
//! Not seen: `any` set or taken by a relaxed swap. The checker's exchanges always find the newest
//! value, so an old state of a slot, which the language allows, is not tried.

use crate::postponed::{Postponed, SLOTS};
use crate::report::Caller;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use std::boxed::Box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::vec::Vec;

struct Shared {
    postponed: Postponed,
    /// The first word of each area: what the stack is threaded through.
    words: Box<[core::cell::UnsafeCell<usize>]>,
    /// What the areas are for: panics when two threads touch it unordered.
    content: Vec<UnsafeCell<bool>>,
}

// SAFETY: the cells of `content` check every access; `words` is touched by the protocol beside it.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    fn new(areas: usize) -> Arc<Shared> {
        assert_eq!(SLOTS, 1);
        Arc::new(Shared {
            postponed: Postponed::new(),
            words: (0..areas).map(|_| core::cell::UnsafeCell::new(0)).collect(),
            content: (0..areas).map(|_| UnsafeCell::new(false)).collect(),
        })
    }

    /// A free where no lock can be taken.
    fn write_down(&self, area: usize) {
        // SAFETY: the cell checks that nobody else is here.
        self.content[area].with_mut(|freed| unsafe { assert!(!*freed) });
        // SAFETY: the word is there, and this is the one free of the area.
        unsafe {
            self.postponed
                .write_down(self.words[area].get().cast(), Caller::Address(area))
        };
    }

    /// Frees for good.
    fn finish(&self, addr: usize) -> usize {
        let area = (addr - self.words.as_ptr().addr()) / size_of::<usize>();
        // SAFETY: as in `write_down`.
        self.content[area].with_mut(|freed| unsafe {
            assert!(!*freed, "done twice");
            *freed = true;
        });
        area
    }

    /// What a task does before its own work; the areas that it freed.
    fn finish_postponed(&self) -> Vec<usize> {
        let mut done = Vec::new();
        if self.postponed.any() && self.postponed.take_any() {
            while let Some((addr, caller)) = self.postponed.take_slot() {
                let area = self.finish(addr);
                assert!(matches!(caller, Caller::Address(whose) if whose == area));
                done.push(area);
            }
            let mut ptr = self.postponed.take_stack();
            while !ptr.is_null() {
                // SAFETY: it is on the stack that was taken.
                let next = unsafe { Postponed::below(ptr) };
                done.push(self.finish(ptr.addr()));
                ptr = next;
            }
        }
        done
    }
}

/// Each of `writers` frees its areas in a thread of its own, and this thread looks meanwhile, and
/// once more in the end. Returns how often those that looked meanwhile found 0, 1, 2 areas.
fn model(writers: &'static [&'static [usize]], looks: Looks) -> [usize; 3] {
    let found: std::sync::Arc<[AtomicUsize; 3]> = Default::default();
    let inner = found.clone();
    loom::model(move || {
        let areas = writers.iter().map(|areas| areas.len()).sum();
        let shared = Shared::new(areas);
        let look = {
            let found = inner.clone();
            move |shared: &Shared| {
                let done = shared.finish_postponed();
                found[done.len()].fetch_add(1, Ordering::Relaxed);
                done
            }
        };
        let threads: Vec<_> = writers
            .iter()
            .map(|areas| {
                let (shared, look) = (shared.clone(), look.clone());
                thread::spawn(move || {
                    areas.iter().for_each(|&area| shared.write_down(area));
                    match looks {
                        Looks::Reader => Vec::new(),
                        Looks::Everyone => look(&shared),
                    }
                })
            })
            .collect();
        let mut done = look(&shared);
        for thread in threads {
            done.extend(thread.join().unwrap());
        }
        // What they missed is left for the next one.
        done.extend(shared.finish_postponed());
        done.sort_unstable();
        assert_eq!(done, (0..areas).collect::<Vec<_>>());
        assert!(!shared.postponed.any());
    });
    found.each_ref().map(|n| n.load(Ordering::Relaxed))
}

#[derive(Copy, Clone)]
enum Looks {
    Reader,
    Everyone,
}

#[test]
fn no_free_of_two_handlers_is_lost_or_done_twice() {
    let found = model(&[&[0], &[1]], Looks::Reader);
    assert!(found.iter().all(|n| *n > 0), "{found:?}");
}

#[test]
fn a_slot_is_used_again_while_a_task_reads() {
    let found = model(&[&[0, 1]], Looks::Reader);
    assert!(found.iter().all(|n| *n > 0), "{found:?}");
}

#[test]
fn two_tasks_do_no_free_twice() {
    let found = model(&[&[0, 1]], Looks::Everyone);
    assert!(found.iter().all(|n| *n > 0), "{found:?}");
}
