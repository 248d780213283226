//! Linux's memory-allocation subsystem as a library. Begin at [`Mm`], [`Platform`] and [`flags`];
//! [`global!`] makes the functions with Linux's names.
//!
#![doc = include_str!("../../../README.md")]
#![no_std]

#[cfg(test)]
extern crate std;

#[cfg(loom)]
#[cfg_attr(not(test), allow(dead_code))]
#[path = "mm/balloon/set.rs"]
mod balloon_set;
#[cfg(not(loom))]
pub mod context;
#[cfg(loom)]
#[cfg_attr(not(test), allow(dead_code))]
#[path = "slab/deferred.rs"]
mod deferred;
#[cfg(loom)]
#[cfg_attr(not(test), allow(dead_code))]
#[path = "page/descriptor.rs"]
mod descriptor;
pub mod error;
pub mod flags;
pub mod frame;
#[cfg(all(test, loom))]
mod interleavings;
#[cfg(loom)]
#[cfg_attr(not(test), allow(dead_code))]
#[path = "page/known.rs"]
mod known;
#[cfg(loom)]
#[cfg_attr(not(test), allow(dead_code))]
#[path = "reclaim/lru/link.rs"]
mod link;
#[cfg(loom)]
#[cfg_attr(not(test), allow(dead_code))]
#[path = "reclaim/lru/marks.rs"]
mod marks;
#[cfg(not(loom))]
pub mod mm;
#[cfg(loom)]
#[cfg_attr(not(test), allow(dead_code))]
#[path = "reclaim/oom/lock.rs"]
mod oom_lock;
pub mod overflow;
#[cfg(not(loom))]
pub mod owned;
#[cfg(loom)]
#[cfg_attr(not(test), allow(dead_code))]
#[path = "page/owners.rs"]
mod owners;
#[cfg(not(loom))]
pub mod page;
pub mod platform;
pub mod policy;
#[cfg(not(loom))]
pub mod pool;
#[cfg(loom)]
#[cfg_attr(not(test), allow(dead_code))]
#[path = "reclaim/post.rs"]
mod post;
#[cfg(loom)]
#[cfg_attr(not(test), allow(dead_code))]
#[path = "vmalloc/postponed.rs"]
mod postponed;
#[cfg(loom)]
#[cfg_attr(not(test), allow(dead_code))]
#[path = "page/presence.rs"]
mod presence;
#[cfg(not(loom))]
pub mod reclaim;
pub mod report;
#[cfg(not(loom))]
pub mod slab;
#[cfg(not(loom))]
pub mod stat;
pub mod sync;
#[cfg(all(test, not(loom)))]
mod testing;
pub mod typed;
#[cfg(not(loom))]
pub mod vmalloc;

pub use error::AllocError;
#[cfg(not(loom))]
pub use mm::Mm;
pub use platform::{Paging, Platform};
