//! Data of more than one word that another process reads while it is written.
//!
//! A sequence counter tells the reader that what it copied is of one writer (`interleavings.rs`).

use super::Text;
use crate::atomic::{AtomicU8, AtomicU64, Ordering, fence};

/// Reader's attempts at a section before it takes what is there.
const READ_TRIES: usize = 1000;

#[repr(transparent)]
pub(super) struct Bytes<const N: usize>(pub(super) [AtomicU8; N]);

impl<const N: usize> Bytes<N> {
    pub(super) fn store(&self, text: &Text<N>) {
        for (to, from) in self.0.iter().zip(text.0) {
            to.store(from, Ordering::Relaxed);
        }
    }

    pub(super) fn load(&self) -> Text<N> {
        let mut out = [0; N];
        for (to, from) in out.iter_mut().zip(&self.0) {
            *to = from.load(Ordering::Relaxed);
        }
        Text(out)
    }
}

/// Data of more than one word under a sequence counter.
///
/// | sequence | meaning | left by |
/// |---|---|---|
/// | even | complete | a writer entering: compare-and-swap to odd, Acquire |
/// | odd | a writer is in, or died in | that writer: store to even, Release |
#[repr(C)]
pub(super) struct Section<T> {
    pub(super) sequence: AtomicU64,
    pub(super) data: T,
}

impl<T> Section<T> {
    /// Runs `write` unless another writer is in; tells whether it ran.
    pub(super) fn write(&self, write: impl FnOnce(&T)) -> Written {
        let now = self.sequence.load(Ordering::Relaxed);
        // Acquire pairs with the Release store of the writer before us.
        if now & 1 == 1
            || self
                .sequence
                .compare_exchange(
                    now,
                    now.wrapping_add(1),
                    Ordering::Acquire,
                    Ordering::Relaxed,
                )
                .is_err()
        {
            return Written::Busy;
        }
        // Pairs with the Acquire fence in `try_read`: odd is seen before the data.
        fence(Ordering::Release);
        write(&self.data);
        // Pairs with the first load in `try_read`.
        self.sequence.store(now.wrapping_add(2), Ordering::Release);
        Written::Yes
    }

    /// One attempt at a consistent copy.
    pub(super) fn try_read<R>(&self, read: impl Fn(&T) -> R) -> Option<R> {
        // Pairs with the store that ends `write`.
        let before = self.sequence.load(Ordering::Acquire);
        let copy = read(&self.data);
        fence(Ordering::Acquire); // pairs with the Release fence in `write`
        (before & 1 == 0 && self.sequence.load(Ordering::Relaxed) == before).then_some(copy)
    }

    /// A consistent copy, or after [`READ_TRIES`] attempts whatever is there.
    pub(super) fn read<R>(&self, read: impl Fn(&T) -> R) -> R {
        for _ in 0..READ_TRIES {
            if let Some(copy) = self.try_read(&read) {
                return copy;
            }
            core::hint::spin_loop();
        }
        read(&self.data)
    }
}

/// Whether a setter wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It did.
    Yes,
    /// Another writer was in the section; this write was dropped.
    Busy,
}
