//! The special allocators: what the general calls cannot promise.
//!
//! 1. **What is here.** [`dma`]: memory that a device reads and writes together with the CPU.
//!    [`cma`]: areas for contiguous allocations, lent meanwhile. `contig`: certain frames, and many
//!    side by side.
//! 2. **Place.** Each allocator is a folder over [`Slabs`](crate::slab::Slabs) and what that owns;
//!    `mm` has the public calls.
//! 3. **What it does not have yet.** mempool, dma_pool, gen_pool, page_frag, the per-CPU allocator
//!    and zsmalloc (issue 8).

pub mod cma;
pub(crate) mod contig;
pub mod dma;
