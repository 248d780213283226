//! Objects freed inside the allocator, and the slabs that they pin. A mutex stands for the lock of
//! the slab's home. Every access of the protocol to a slab checks that it was not freed.
//!
//! Seen to fail: `defer` without its pin; the bit set and taken relaxed; the bit taken after the
//! objects were looked at; a push without a look at the bit; `is_pinned` always false;
//! `take` without its pin.

use crate::deferred::{DeferredSlabs, Deferring};
use core::ptr::NonNull;
use loom::sync::atomic::{AtomicPtr, AtomicU8, AtomicU16, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;
use std::sync::atomic::AtomicBool;
use std::vec::Vec;

const FREE: u8 = 0;
const ALLOCATED: u8 = 1;
const DEFERRED: u8 = 2;

struct Slab {
    word: AtomicU16,
    link: AtomicPtr<Slab>,
    states: [AtomicU8; 2],
    in_use: Mutex<usize>,
    freed: AtomicBool,
}

impl Deferring for Slab {
    fn word(&self) -> &AtomicU16 {
        assert!(!self.freed.load(Ordering::Relaxed), "used after free");
        &self.word
    }

    fn link(&self) -> &AtomicPtr<Slab> {
        assert!(!self.freed.load(Ordering::Relaxed), "used after free");
        &self.link
    }
}

struct Shared {
    slab: Slab,
    stack: DeferredSlabs<Slab>,
}

impl Shared {
    fn defer(&self, object: usize) -> bool {
        let at = NonNull::from(&self.slab);
        let state = &self.slab.states[object];
        // SAFETY: the memory stays until the end; what stands for its life is `freed`.
        unsafe { self.stack.defer(at, state, (ALLOCATED, DEFERRED)) }
    }

    /// A task: puts back what was deferred, then frees the slab if it may. The objects.
    fn drain(&self) -> Vec<usize> {
        let mut done = Vec::new();
        if !self.stack.is_empty() {
            self.stack.take(|_| {
                let mut in_use = self.slab.in_use.lock().unwrap();
                assert!(!self.slab.freed.load(Ordering::Relaxed), "used after free");
                for (object, state) in self.slab.states.iter().enumerate() {
                    if state.load(Ordering::Acquire) == DEFERRED {
                        state.store(FREE, Ordering::Relaxed);
                        *in_use -= 1;
                        done.push(object);
                    }
                }
                in_use
            });
        }
        let in_use = self.slab.in_use.lock().unwrap();
        if *in_use == 0 && !self.slab.freed.load(Ordering::Relaxed) && !self.slab.is_pinned() {
            self.slab.freed.store(true, Ordering::Relaxed);
        }
        done
    }
}

#[test]
fn no_deferred_object_is_lost_and_no_pinned_slab_freed() {
    loom::model(|| {
        let shared = Arc::new(Shared {
            slab: Slab {
                word: AtomicU16::new(0),
                link: AtomicPtr::new(core::ptr::null_mut()),
                states: [AtomicU8::new(ALLOCATED), AtomicU8::new(ALLOCATED)],
                in_use: Mutex::new(2),
                freed: AtomicBool::new(false),
            },
            stack: DeferredSlabs::new(),
        });
        let theirs = shared.clone();
        let other = thread::spawn(move || {
            assert!(theirs.defer(1));
            theirs.drain()
        });
        assert!(shared.defer(0));
        let mut done = shared.drain();
        done.extend(other.join().unwrap());
        done.extend(shared.drain());
        done.sort_unstable();
        assert_eq!(done, [0, 1]);
        assert!(shared.slab.freed.load(Ordering::Relaxed));
    });
}
