//! The stack of slabs with objects that were freed inside the allocator.
//!
//! The word of a slab: bit 0, it is on the stack; the rest counts nested frees in progress, two
//! each. While it is not 0 the slab is *pinned*: it may be empty, but is not freed.
//! `interleavings/deferred.rs` tries every interleaving.

use crate::sync::atomic::{AtomicPtr, AtomicU8, AtomicU16, Ordering};
use core::ptr::NonNull;

use Ordering::Relaxed;

const ON_STACK: u16 = 1;
const PIN: u16 = 2;

/// What a slab has for the stack.
pub(crate) trait Deferring: Sized {
    /// [`ON_STACK`] and pins.
    fn word(&self) -> &AtomicU16;
    /// The next slab on the stack.
    fn link(&self) -> &AtomicPtr<Self>;

    /// True if an interrupt is about to put an object of this slab on the stack, or has.
    fn is_pinned(&self) -> bool {
        // Acquire: pairs with the Release of the last nested free, which touches the slab no more.
        self.word().load(Ordering::Acquire) != 0
    }
}

/// The stack.
pub(crate) struct DeferredSlabs<S>(AtomicPtr<S>);

impl<S: Deferring> DeferredSlabs<S> {
    pub(crate) fn new() -> DeferredSlabs<S> {
        DeferredSlabs(AtomicPtr::new(core::ptr::null_mut()))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.load(Relaxed).is_null()
    }

    /// Marks an object: its state goes from the first of `step` to the second, and its slab on the
    /// stack. False, and nothing done, if the state is another. Lock-free; in any context.
    ///
    /// # Safety
    /// `at` points to the slab, which the object keeps until it is marked.
    pub(crate) unsafe fn defer(&self, at: NonNull<S>, state: &AtomicU8, step: (u8, u8)) -> bool {
        // SAFETY: promised by the caller; pinned from here on.
        let slab = unsafe { at.as_ref() };
        // Pinned before the object is marked: it keeps the slab until then, the pin from then on.
        slab.word().fetch_add(PIN, Relaxed);
        // AcqRel: what the user wrote is seen by who puts the object back.
        let marked = state.compare_exchange(step.0, step.1, Ordering::AcqRel, Relaxed);
        if marked.is_ok() && slab.word().fetch_or(ON_STACK, Ordering::AcqRel) & ON_STACK == 0 {
            let mut head = self.0.load(Relaxed);
            loop {
                slab.link().store(head, Relaxed);
                // Release: pairs with the Acquire in `take`; the link is seen.
                let pushed =
                    self.0
                        .compare_exchange_weak(head, at.as_ptr(), Ordering::Release, Relaxed);
                match pushed {
                    Ok(_) => break,
                    Err(now) => head = now,
                }
            }
        }
        // Release: pairs with the Acquire in `is_pinned`. From here on the slab is not touched.
        slab.word().fetch_sub(PIN, Ordering::Release);
        marked.is_ok()
    }

    /// Takes all slabs; `put_back` finds their marked objects (an Acquire load of the state), each
    /// slab pinned meanwhile. What it returns, a lock on the slab's books, is held until the slab
    /// is not pinned any more.
    pub(crate) fn take<G>(&self, mut put_back: impl FnMut(NonNull<S>) -> G) {
        // Acquire: pairs with the Release in `defer`. The whole stack is taken, so there is no ABA.
        let mut head = self.0.swap(core::ptr::null_mut(), Ordering::Acquire);
        while let Some(at) = NonNull::new(head) {
            // SAFETY: [INV-SLAB-1] `ON_STACK` is set while a slab is on the stack: pinned.
            let slab = unsafe { at.as_ref() };
            head = slab.link().load(Relaxed);
            slab.word().fetch_add(PIN, Relaxed); // our own pin, before the bit goes
            // AcqRel: an object marked before the bit was seen set is seen below; one marked after
            // puts the slab on the stack again.
            slab.word().fetch_and(!ON_STACK, Ordering::AcqRel);
            let books = put_back(at);
            slab.word().fetch_sub(PIN, Ordering::Release);
            drop(books);
        }
    }
}
