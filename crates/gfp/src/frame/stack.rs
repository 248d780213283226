//! Blocks whose free was put off: a stack that is linked through the frame words.
//!
//! Whoever may take no lock pushes (P173); whoever holds a section takes all. There is no pop of
//! one, hence no ABA. `tests.rs` tries every interleaving.

use super::{FrameKind, FrameTable, FrameWord, Order, Pfn};
use crate::sync::atomic::{AtomicU64, Ordering};

/// The stack; a block on it has the kind [`FrameKind::Deferred`] and as payload the next entry.
pub(crate) struct FrameStack {
    /// Index + 1 of the frame on top; 0: empty.
    head: AtomicU64,
}

impl FrameStack {
    /// An empty stack.
    pub(crate) fn new() -> FrameStack {
        FrameStack {
            head: AtomicU64::new(0),
        }
    }

    /// Puts a block that the caller owns. Lock-free; in any context.
    pub(crate) fn push(&self, frames: &FrameTable, pfn: Pfn, order: Order) {
        let Some(index) = frames.index(pfn) else {
            debug_assert!(false, "a block outside of the table");
            return;
        };
        let me = index as u64 + 1;
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            frames.set(pfn, FrameWord::new(FrameKind::Deferred, order, head));
            // Release: pairs with the Acquire in `take`; the word is seen before the entry, and all
            // that the last owner did with the memory. The exchange continues the release sequence
            // of the entries below.
            let pushed =
                self.head
                    .compare_exchange_weak(head, me, Ordering::Release, Ordering::Relaxed);
            match pushed {
                Ok(_) => return,
                Err(new) => head = new,
            }
        }
    }

    /// True if no block is there: a moment ago.
    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.head.load(Ordering::Relaxed) == 0
    }

    /// Puts all blocks of a chain at once, as [`FrameStack::push`].
    pub(crate) fn push_chain(&self, frames: &FrameTable, chain: Chain<'_>) {
        let (Some(first), last) = (chain.first, chain.last) else {
            return;
        };
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            frames.set(
                first,
                FrameWord::new(FrameKind::Deferred, chain.order, head),
            );
            // Release: as in `push`.
            let pushed =
                self.head
                    .compare_exchange_weak(head, last, Ordering::Release, Ordering::Relaxed);
            match pushed {
                Ok(_) => return,
                Err(new) => head = new,
            }
        }
    }

    /// Takes all blocks, last first. Their words are `None` as they are shown; what the caller does
    /// not ask for leaks.
    #[inline]
    pub(crate) fn take<'f>(
        &self,
        frames: &'f FrameTable,
    ) -> impl Iterator<Item = (Pfn, Order)> + use<'f> {
        let mut head = 0;
        if self.head.load(Ordering::Relaxed) != 0 {
            // Acquire: pairs with the Release in `push`.
            head = self.head.swap(0, Ordering::Acquire);
        }
        core::iter::from_fn(move || {
            let pfn = frames.base().add(head.checked_sub(1)? as usize);
            let word = frames.owned(pfn);
            if !word.is(FrameKind::Deferred) {
                // Freed twice at once, and not ours any more: its word leads anywhere. What lay
                // below leaks.
                return None;
            }
            head = word.payload();
            frames.set(pfn, FrameWord::NONE);
            Some((pfn, word.order()))
        })
    }
}

/// Blocks of one order that the caller owns, linked as those of a stack.
pub(crate) struct Chain<'f> {
    frames: &'f FrameTable,
    order: Order,
    first: Option<Pfn>,
    /// Index + 1 of the block that was added last; 0: none was.
    last: u64,
}

impl FrameTable {
    /// A chain of no blocks.
    pub(crate) fn chain(&self, order: Order) -> Chain<'_> {
        Chain {
            frames: self,
            order,
            first: None,
            last: 0,
        }
    }
}

impl Chain<'_> {
    /// Adds a block.
    pub(crate) fn add(&mut self, pfn: Pfn) {
        let Some(index) = self.frames.index(pfn) else {
            debug_assert!(false, "a block outside of the table");
            return;
        };
        let word = FrameWord::new(FrameKind::Deferred, self.order, self.last);
        self.frames.set(pfn, word);
        self.first.get_or_insert(pfn);
        self.last = index as u64 + 1;
    }
}
