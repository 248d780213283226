//! Pure decisions: plain data in, plain data out.
//!
//! 1. **Concept.** Every number and every choice that can be made without touching memory is made
//!    here: how large, which class, which order, is there enough left, may this block be claimed.
//!    The rooms that own memory ask, and do.
//! 2. **Structures.** Plain `Copy` values; sizes in bytes, amounts of memory in pages of
//!    [`order::PAGE_SIZE`] bytes unless a name says `_kb`.
//! 3. **Safety.** No `unsafe`, no state, no allocation: a wrong answer here wastes memory or fails
//!    a request, it never breaks memory safety. Every function may be called in any context.
//! 4. **Failure.** Impossible inputs give `None` or a saturated value, never a panic in release
//!    builds.
//! 5. **Contents.** [`order`] (sizes to orders, buddies), [`size_class`] (kmalloc classes),
//!    [`slab_order`] (slab geometry), [`pcp`] (per-CPU page lists), [`watermark`] (how much must
//!    stay free and who may go below), [`fallback`] (mixing of mobility types), [`context`] (what a
//!    caller may wait for), [`effort`] (how hard to try), [`reclaim`] (who gives memory back),
//!    [`compaction`] (moving pages together), [`oom`] (who is killed), [`pressure`] (what to tell
//!    those who could use less), [`stall`] (the time lost to reclaim), [`boost`] and [`highatomic`]
//!    (what is kept for later), [`shards`] (how a zone is cut), [`placement`] (which end of a zone
//!    is whose), [`mempolicy`] (on which nodes memory is to lie),
//!    [`reporting`] (when a device is told of free memory), [`tunable`] (what an
//!    administrator may set).
#![forbid(unsafe_code)]

pub mod boost;
pub mod compaction;
pub mod context;
pub mod effort;
pub mod fallback;
pub mod highatomic;
pub mod mempolicy;
pub mod oom;
pub mod order;
pub mod pcp;
pub mod placement;
pub mod pressure;
pub mod reclaim;
pub mod reporting;
pub mod shards;
pub mod size_class;
pub mod slab_order;
pub mod stall;
pub mod tunable;
pub mod watermark;
