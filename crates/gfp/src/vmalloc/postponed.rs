//! Frees from where no lock can be taken: a signal handler or NMI in the middle of the allocator.
//!
//! The address is written down in one of a few slots, without a lock. When all are taken, it is put
//! on a stack threaded through the first word of the freed memory itself (V10), after the same test
//! of the range. A slot is preferred since nothing is written to memory that may not be the
//! caller's.
//!
//! A slot goes `EMPTY` -> `WRITING` (its writer alone) -> `FULL` -> `READING` (its reader alone) ->
//! `EMPTY`.

use super::Vmalloc;
use crate::frame::PAGE_SIZE;
use crate::platform::Paging;
use crate::report::{Caller, Misuse};
use crate::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};
use core::cell::UnsafeCell;
use core::ptr;

const EMPTY: u32 = 0;
const WRITING: u32 = 1;
const FULL: u32 = 2;
const READING: u32 = 3;

/// Enough for a handler that frees what one operation of it allocated.
pub(super) const SLOTS: usize = 32;

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
    pub(super) const fn new() -> Postponed {
        Postponed {
            any: AtomicBool::new(false),
            slots: [const {
                Slot {
                    state: AtomicU32::new(EMPTY),
                    item: UnsafeCell::new((0, Caller::Address(0))),
                }
            }; SLOTS],
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
}

impl<P: Paging> Vmalloc<P> {
    /// Writes down an address to be freed later.
    ///
    /// # Safety
    /// As [`Vmalloc::vfree`].
    pub(super) unsafe fn write_down(&self, ptr: *mut u8, caller: Caller) -> Result<(), Misuse> {
        debug_assert!(self.is_vmalloc_addr(ptr.addr()));
        if !ptr.addr().is_multiple_of(PAGE_SIZE) {
            return Err(Misuse::InteriorFree);
        }
        let list = &self.postponed;
        if let Some(slot) = list.claim(EMPTY, WRITING) {
            // SAFETY: [INV-VM-4] we are the one that brought it to `WRITING`.
            unsafe { *slot.item.get() = (ptr.addr(), caller) };
            // Release: pairs with the Acquire in `claim` of the reader.
            slot.state.store(FULL, Ordering::Release);
        } else {
            let mut head = list.stack.load(Ordering::Relaxed);
            loop {
                // SAFETY: the area is mapped memory that the caller gave up; its start is aligned.
                unsafe { ptr.cast::<*mut u8>().write(head) };
                // Release: pairs with the Acquire in `take_stack`.
                let pushed =
                    list.stack
                        .compare_exchange(head, ptr, Ordering::Release, Ordering::Relaxed);
                match pushed {
                    Ok(_) => break,
                    Err(now) => head = now,
                }
            }
        }
        // Release: pairs with the Acquire in `any_written_down`. After the entry, so that it is not
        // missed.
        list.any.store(true, Ordering::Release);
        Ok(())
    }

    /// One free from the slots.
    pub(super) fn take_slot(&self) -> Option<(usize, Caller)> {
        let slot = self.postponed.claim(FULL, READING)?;
        // SAFETY: [INV-VM-4] we are the one that brought it to `READING`.
        let item = unsafe { *slot.item.get() };
        // Release: pairs with the Acquire in `claim` of the next writer.
        slot.state.store(EMPTY, Ordering::Release);
        Some(item)
    }

    /// The whole stack: the first address. Follow it with [`Vmalloc::below`].
    pub(super) fn take_stack(&self) -> *mut u8 {
        // Acquire: pairs with the Release of the pushes; the first words are seen.
        self.postponed
            .stack
            .swap(ptr::null_mut(), Ordering::Acquire)
    }

    /// What stands below `ptr` on a stack that was taken.
    ///
    /// # Safety
    /// `ptr` must come from [`Vmalloc::take_stack`] or from here, and not be freed yet.
    pub(super) unsafe fn below(&self, ptr: *mut u8) -> *mut u8 {
        // SAFETY: the memory is mapped until it is freed; `write_down` wrote its first word.
        unsafe { ptr.cast::<*mut u8>().read() }
    }

    /// True if something was written down since the last call.
    pub(super) fn any_written_down(&self) -> bool {
        let any = &self.postponed.any;
        // Acquire: pairs with the Release in `write_down`.
        any.load(Ordering::Relaxed) && any.swap(false, Ordering::Acquire)
    }
}
