//! A stack that sequences are kept out of.
//!
//! | `limit` | who may touch `len` and the words | left by |
//! |---|---|---|
//! | above 0: open | sequences of the CPU | [`Closing::begin`]: one swap, so only one has it |
//! | 0, [`Closing`] | sequences that began before | [`Closing::stopped`], or dropped: open again |
//! | 0, [`Closed`] | the owner | dropped: open again |

use super::stack::{Header, PushError};
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ptr::NonNull;
use core::sync::atomic::Ordering;

/// Closed to sequences that begin now; some may be under way. Dropped, it opens the stack.
#[must_use = "dropped, it opens the stack again"]
pub struct Closing<'a> {
    header: NonNull<Header>,
    limit: u32,
    capacity: u32,
    _stacks: PhantomData<&'a Header>,
}

impl<'a> Closing<'a> {
    /// # Safety
    /// [INV-RESTART-3] `header` is that of a stack of `capacity` words which outlives `'a`.
    pub(super) unsafe fn begin(header: NonNull<Header>, capacity: u32) -> Option<Closing<'a>> {
        // Acquire: pairs with the Release of `reopen`, so we see what the last owner did. What
        // sequences did is seen by whoever stops them.
        // SAFETY: the caller's promise.
        let limit = unsafe { header.as_ref() }.limit.swap(0, Ordering::Acquire);
        (limit != 0).then(|| Closing {
            header,
            limit,
            capacity,
            _stacks: PhantomData,
        })
    }

    /// The stack is the caller's.
    ///
    /// # Safety
    /// Since [`Stacks::close`](super::Stacks::close) every sequence that was under way on the CPU
    /// (or under the compact id) has ended or is going to be restarted, and what it stored is seen
    /// here: an interrupt was taken there, or a `membarrier` of the kind for restartable sequences
    /// is done.
    pub unsafe fn stopped(self) -> Closed<'a> {
        let closing = ManuallyDrop::new(self);
        Closed {
            header: closing.header,
            limit: closing.limit,
            capacity: closing.capacity,
            _stacks: PhantomData,
        }
    }
}

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        // SAFETY: [INV-RESTART-3] it is valid as long as the stacks, which `self` borrows.
        reopen(unsafe { self.header.as_ref() }, self.limit);
    }
}

fn reopen(header: &Header, limit: u32) {
    // Release: pairs with the load of `limit` in the sequences (an acquire, as every load of x86),
    // and with the swap of the next who closes.
    header.limit.store(limit, Ordering::Release);
}

/// The stack of a CPU, owned. Dropped, it opens the stack.
pub struct Closed<'a> {
    header: NonNull<Header>,
    limit: u32,
    capacity: u32,
    /// Not `Send`: `close_here` binds it to a CPU.
    _stacks: PhantomData<(&'a Header, *mut ())>,
}

impl Closed<'_> {
    /// How many words are there.
    pub fn len(&self) -> u32 {
        // Relaxed: [INV-RESTART-3] nobody else writes it while we own the stack.
        self.header().len.load(Ordering::Relaxed)
    }

    /// True if no word is there.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many words may be there once it is open.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// Changes the limit.
    ///
    /// # Panics
    /// If it is 0, above the capacity, or below the number of words there.
    pub fn set_limit(&mut self, limit: u32) {
        assert!(limit > 0 && limit <= self.capacity && limit >= self.len());
        self.limit = limit;
    }

    /// Takes the last word.
    pub fn pop(&mut self) -> Option<usize> {
        let index = self.len().checked_sub(1)?;
        // SAFETY: [INV-RESTART-3] the stack is ours, and holds a word there.
        let word = unsafe { self.word(index).read() };
        self.set_len(index);
        Some(word)
    }

    /// Adds a word.
    ///
    /// # Errors
    /// [`PushError::Full`] if there are as many as the limit allows.
    pub fn push(&mut self, word: usize) -> Result<(), PushError> {
        let len = self.len();
        if len >= self.limit {
            return Err(PushError::Full);
        }
        // SAFETY: [INV-RESTART-3] the stack is ours, and len < limit <= capacity.
        unsafe { self.word(len).write(word) };
        self.set_len(len + 1);
        Ok(())
    }

    fn header(&self) -> &Header {
        // SAFETY: [INV-RESTART-3] it is valid as long as the stacks, which `self` borrows.
        unsafe { self.header.as_ref() }
    }

    fn set_len(&mut self, len: u32) {
        // Relaxed: seen by sequences through the Release of `reopen`.
        self.header().len.store(len, Ordering::Relaxed);
    }

    fn word(&self, index: u32) -> *mut usize {
        debug_assert!(index < self.capacity);
        // SAFETY: [INV-RESTART-3] the words follow the header: there is room for `capacity` words
        // behind the header.
        unsafe {
            self.header
                .add(1)
                .cast::<usize>()
                .add(index as usize)
                .as_ptr()
        }
    }
}

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        debug_assert!(self.len() <= self.limit);
        reopen(self.header(), self.limit);
    }
}
