//! Stacks of tasks, and the one function that leaves one for another.

use crate::memory::{flags_here, mm};
use core::arch::global_asm;
use core::ptr::NonNull;
use gfp::error::AllocError;
use gfp::frame::PAGE_SIZE;

global_asm!(include_str!("switch.s"));

unsafe extern "C" {
    /// Saves what a call must preserve, notes the stack pointer at `save`, and goes on where the
    /// stack `to` was left.
    ///
    /// # Safety
    /// Interrupts are off; `to` was noted by this function or is [`Stack::prepare`]'s, and is left
    /// for good by this.
    pub(super) fn switch_stacks(save: *mut usize, to: usize);
}

/// Pages that a task runs on: an area of vmalloc.
///
/// The page below it is never mapped: it is the guard page that ends the area before, or belongs to
/// no area, and addresses are given out only after all CPUs have forgotten what was there. So who
/// overflows the stack faults.
pub(super) struct Stack {
    at: NonNull<u8>,
    bytes: usize,
}

// SAFETY: plain memory.
unsafe impl Send for Stack {}

impl Stack {
    /// A stack of at least `bytes`.
    ///
    /// # Errors
    /// As `vmalloc`.
    pub(super) fn new(bytes: usize) -> Result<Stack, AllocError> {
        let bytes = bytes.next_multiple_of(PAGE_SIZE);
        let at = mm().vmalloc_gfp(bytes, flags_here(mm()))?;
        Ok(Stack { at, bytes })
    }

    /// Its lowest address.
    pub(super) fn start(&self) -> usize {
        self.at.addr().get()
    }

    /// Where it ends: what was pushed first lies below.
    pub(super) fn end(&self) -> usize {
        self.at.as_ptr().expose_provenance() + self.bytes
    }

    /// Writes what [`switch_stacks`] pops so that it enters `entry`; the stack pointer to give it.
    ///
    /// ```text
    ///   end -  8   0: where `entry` would return to
    ///   end - 16   entry: popped by `ret`, which leaves rsp as after a call
    ///   end - 64   r15 r14 r13 r12 rbx rbp: 0
    ///   end - 72   control words of SSE and x87, as after reset
    /// ```
    pub(super) fn prepare(&mut self, entry: extern "C" fn() -> !) -> usize {
        const MXCSR: u64 = 0x1f80;
        const X87_CONTROL: u64 = 0x37f;
        let words = [
            X87_CONTROL << 32 | MXCSR,
            0,
            0,
            0,
            0,
            0,
            0,
            entry as *const () as u64,
            0,
        ];
        // SAFETY: [INV-SCHED-3] the stack is ours and not in use; it is larger than 9 words.
        unsafe {
            let to = self.at.as_ptr().add(self.bytes).cast::<[u64; 9]>().sub(1);
            to.write(words);
            to.expose_provenance()
        }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: [INV-SCHED-3] allocated by `new`; nobody runs on it any more.
        unsafe { mm().vfree(self.at.as_ptr()) }
    }
}
