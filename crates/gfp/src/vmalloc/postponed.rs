//! Frees from where no lock can be taken: a signal handler or NMI in the middle of the allocator.
//!
//! The address is written down in one of a few slots, without a lock. When all are taken, it is put
//! on a stack threaded through the first word of the freed memory itself (V10), after the same test
//! of the range. A slot is preferred since nothing is written to memory that may not be the
//! caller's.
//!
//! A slot goes `EMPTY` -> `WRITING` (its writer alone) -> `FULL` -> `READING` (its reader alone) ->
//! `EMPTY`. `interleavings.rs` tries every interleaving.

use crate::report::Caller;
use crate::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};
use crate::sync::cell::UnsafeCell;
use core::ptr;

const EMPTY: u32 = 0;
const WRITING: u32 = 1;
const FULL: u32 = 2;
const READING: u32 = 3;

/// Enough for a handler that frees what one operation of it allocated.
pub(super) const SLOTS: usize = if cfg!(loom) { 1 } else { 32 };

struct Slot {
    state: AtomicU32,
    item: UnsafeCell<(usize, Caller)>,
}

/// Frees that were written down.
pub(super) struct Postponed {
    /// There may be something to do.
    any: AtomicBool,
    slots: [Slot; SLOTS],
    stack: AtomicPtr<u8>,
}

// SAFETY: [INV-VM-4] a slot's item is touched only in `WRITING` and `READING`, which one CPU enters
// by compare-and-swap.
unsafe impl Sync for Postponed {}

impl Postponed {
    pub(super) fn new() -> Postponed {
        Postponed {
            any: AtomicBool::new(false),
            slots: core::array::from_fn(|_| Slot {
                state: AtomicU32::new(EMPTY),
                item: UnsafeCell::new((0, Caller::Address(0))),
            }),
            stack: AtomicPtr::new(ptr::null_mut()),
        }
    }

    /// Enters a slot that is in state `from`; `to` belongs to the caller.
    fn claim(&self, from: u32, to: u32) -> Option<&Slot> {
        self.slots.iter().find(|slot| {
            // Acquire: pairs with the Release of who left the slot in `from`.
            let claimed =
                slot.state
                    .compare_exchange(from, to, Ordering::Acquire, Ordering::Relaxed);
            claimed.is_ok()
        })
    }

    /// Writes down an address to be freed later. Lock-free; in any context.
    ///
    /// # Safety
    /// `ptr` is aligned for a pointer, and the memory there is mapped and the caller's own until it
    /// is taken from here.
    pub(super) unsafe fn write_down(&self, ptr: *mut u8, caller: Caller) {
        if let Some(slot) = self.claim(EMPTY, WRITING) {
            // SAFETY: [INV-VM-4] we are the one that brought it to `WRITING`.
            slot.item
                .with_mut(|item| unsafe { *item = (ptr.addr(), caller) });
            // Release: pairs with the Acquire in `claim` of the reader.
            slot.state.store(FULL, Ordering::Release);
        } else {
            let mut head = self.stack.load(Ordering::Relaxed);
            loop {
                // SAFETY: promised by the caller.
                unsafe { ptr.cast::<*mut u8>().write(head) };
                // Release: pairs with the Acquire in `take_stack`.
                let pushed =
                    self.stack
                        .compare_exchange(head, ptr, Ordering::Release, Ordering::Relaxed);
                match pushed {
                    Ok(_) => break,
                    Err(now) => head = now,
                }
            }
        }
        // Release: pairs with the Acquire in `take_any`. After the entry, so that it is not missed.
        // A swap and no store: it continues the release sequences of other writers, so that who
        // takes `any` once sees the entries of all.
        self.any.swap(true, Ordering::Release);
    }

    /// One free from the slots.
    pub(super) fn take_slot(&self) -> Option<(usize, Caller)> {
        let slot = self.claim(FULL, READING)?;
        // SAFETY: [INV-VM-4] we are the one that brought it to `READING`.
        let item = slot.item.with_mut(|item| unsafe { *item });
        // Release: pairs with the Acquire in `claim` of the next writer.
        slot.state.store(EMPTY, Ordering::Release);
        Some(item)
    }

    /// The whole stack: the first address. Follow it with [`Postponed::below`].
    pub(super) fn take_stack(&self) -> *mut u8 {
        // Acquire: pairs with the Release of the pushes; the first words are seen.
        self.stack.swap(ptr::null_mut(), Ordering::Acquire)
    }

    /// What stands below `ptr` on a stack that was taken.
    ///
    /// # Safety
    /// `ptr` must come from [`Postponed::take_stack`] or from here, and not be freed yet.
    pub(super) unsafe fn below(ptr: *mut u8) -> *mut u8 {
        // SAFETY: the memory is mapped until it is freed; `write_down` wrote its first word.
        unsafe { ptr.cast::<*mut u8>().read() }
    }

    /// True if there may be something to take. A hint: a writer may be about to say so.
    pub(super) fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    /// True if something was written down since the last call: the caller takes all that there is.
    pub(super) fn take_any(&self) -> bool {
        // Acquire: pairs with the Release in `write_down`.
        self.any.swap(false, Ordering::Acquire)
    }
}
