//! References of compound blocks, which anybody may take who knows a frame.
//!
//! | the word says | it means | next |
//! |---|---|---|
//! | `Compound`, n > 0 | n references | n + 1, n - 1 |
//! | `Compound`, 0 | the last one was dropped: its dropper frees the block | `Cached`, `None` |
//!
//! A block without the kind `Compound` has an owner that knows all who have references: there the
//! last free needs no exchange. Here it does, since a reference may be taken at any time by
//! somebody who has none yet ([`FrameTable::try_get`]): he gets one, or it is the last no more.
//! `tests.rs` tries every interleaving.

use super::{FrameKind, FrameTable, FrameWord, Order, Pfn};

/// What came of dropping a reference.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Dropped {
    /// It was the last: the block belongs to the caller, who frees it.
    Last,
    /// Others have references.
    Shared,
    /// There was none to drop: the block is being freed already.
    Free,
    /// The frame is not the first of a compound block of this order.
    NoBlock,
}

impl FrameTable {
    /// Takes one more reference of a compound block by its first frame; `None` if it is none, or if
    /// its last reference was dropped. Answers the word: the block keeps its order now.
    pub(crate) fn try_get(&self, pfn: Pfn) -> Option<FrameWord> {
        loop {
            let old = self.get(pfn);
            if !old.is(FrameKind::Compound) || old.payload() == 0 {
                return None;
            }
            // AcqRel, in `replace`: pairs with `drop_ref` and with the Release of who made the
            // block known.
            let new = old.with_payload(old.payload() + 1);
            if self.replace(pfn, old, new) {
                return Some(new);
            }
        }
    }

    /// Drops a reference of a compound block.
    pub(crate) fn drop_ref(&self, pfn: Pfn, order: Order) -> Dropped {
        loop {
            let old = self.get(pfn);
            if !old.is_block(FrameKind::Compound, order) {
                return Dropped::NoBlock;
            }
            let Some(left) = old.payload().checked_sub(1) else {
                return Dropped::Free;
            };
            // AcqRel, in `replace`: what the others did with the memory comes before the last one
            // frees it.
            if self.replace(pfn, old, old.with_payload(left)) {
                return match left {
                    0 => Dropped::Last,
                    _ => Dropped::Shared,
                };
            }
        }
    }
}
