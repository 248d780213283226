//! Frames: the units of physical memory, their names and their one word of state.
//!
//! 1. **Concepts.** A *frame* is one page of physical memory. [`Pfn`] names it, [`PhysAddr`] is its
//!    first byte, [`Order`] is the size of a naturally aligned group of 2^order frames, a
//!    *pageblock* is 512 frames (2 MiB), the unit of mobility grouping.
//! 2. **Structure.** [`FrameTable`] holds one 8-byte word a frame, [`FrameWord`] is its decoded
//!    form. The word says what the frame *is* to its owner; whether it is free is said by the block
//!    bitmaps of `page`, never by the word.
//! 3. **States.** The table of meanings and of legal transitions stands at [`FrameKind`].
//! 4. **Locking.** None: each word is one atomic; who may change it follows from who owns the
//!    frame.
//! 5. **What it does not do.** It does not know zones, lists or caches.

mod movable;
mod nodes;
mod refs;
mod stack;
mod table;
#[cfg(all(test, loom))]
mod tests;
mod types;

#[cfg_attr(loom, allow(unused_imports))]
pub(crate) use movable::{Freed, LetGo, MovableBlock, OWNERS, TAG_ARRIVING, Unfit};
pub(crate) use nodes::Listed;
pub use nodes::NodeMask;
#[cfg_attr(loom, allow(unused_imports))]
pub(crate) use refs::Dropped;
pub(crate) use stack::FrameStack;
pub use table::{FrameKind, FrameTable, FrameWord};
pub use types::*;
