//! Values, arrays and vectors that own their memory, which comes from a machine.
//!
//! 1. **Containers.** [`Box`] holds one value or slice, [`Vec`] grows, [`Flex`] is a header with
//!    elements behind it. Each takes memory from a [`Source`]: [`Kmalloc`], physically contiguous;
//!    [`Vmalloc`], virtually; [`KVmalloc`], whichever is had. The names say which: [`KBox`],
//!    [`VVec`], [`KVBox`] and so on. [`kvec!`](crate::kvec) is `vec!` that can fail.
//! 2. **Fallible.** What may allocate says so in its result, and takes a [`Permit`] saying how
//!    hard to try: a [`Gfp`](crate::flags::Gfp) word, the token of a context (`&task`, which asks
//!    with what is usual there), or a token with a class: `(&task, Kernel.noretry())`. A permit
//!    that the context or the source forbids does not compile. Nothing else allocates: shrinking
//!    calls, and those with `within_capacity`, never do.
//! 3. **Structure.** A reference to the machine, a pointer, and for [`Vec`] length and capacity.
//!    The capacity is all of the class that serves the request. Values without size, and vectors
//!    without capacity, have no memory; their pointer dangles.
//! 4. **Ownership** [INV-OWNED-1]. A container has the only pointer to its memory, which was
//!    allocated by its source on its machine, and which it gives back once. The value of a box is
//!    initialised; of a vector the first `len` elements are, and memory holds `cap` of them,
//!    aligned.
//! 5. **Panics.** An index out of range panics, where its documentation says so; failure of an
//!    allocation never does. Code of the user that panics inside (clones, destructors, predicates)
//!    leaks at worst: lengths are set so that nothing is dropped twice.
//! 6. **Pinning.** The machine lives as long as its containers, but a forgotten one does not keep
//!    it. So a value can be pinned only on a machine that lives for ever ([`Box::into_pin`]).
//! 7. **What it does not do.** No handle of size 0 for a kernel's one machine: a container has a
//!    reference to it. No unsizing to `dyn`, which needs unstable traits; [`Box::into_raw`] and
//!    [`Box::from_raw`] do that by hand.
//!
//! ```
//! use gfp::context::Class;
//! use gfp::flags::GFP_KERNEL;
//! use gfp::owned::{KBox, KVec};
//! # use gfp::frame::{NodeId, PhysAddr};
//! # use gfp::page::{BootConfig, MemoryRegion, RegionKind};
//! # use gfp::platform::{DirectMap, SingleCore};
//! # let layout = std::alloc::Layout::from_size_align(16 << 20, 4 << 20)?;
//! # let ram = unsafe { std::alloc::alloc(layout) };
//! # let (start, end, node) = (PhysAddr(0), PhysAddr(16 << 20), NodeId(0));
//! # let map = [MemoryRegion { start, end, node, kind: RegionKind::Usable }];
//! # let platform = unsafe { SingleCore::new(DirectMap::new(ram, PhysAddr(0))) };
//! # let mm = gfp::Mm::boot(platform, &map, &BootConfig::default())?;
//! let mut names = KVec::new(&mm);
//! names.push("zone", GFP_KERNEL)?;
//!
//! let task = mm.in_task().ok_or("main is a task")?;
//! names.push("node", &task)?; // GFP_KERNEL: what a task asks with
//! names.push("slab", (&task, gfp::context::Kernel.noretry()))?;
//! assert_eq!(names[..], ["zone", "node", "slab"]);
//!
//! let squares = gfp::kvec!(&mm, &task; [1, 4, 9])?;
//! let boxed: KBox<'_, [u32], _> = squares.into_boxed_slice();
//! assert_eq!(boxed.iter().sum::<u32>(), 14);
//! # drop((names, boxed));
//! # drop(mm);
//! # unsafe { std::alloc::dealloc(ram, layout) };
//! # Ok::<(), std::boxed::Box<dyn std::error::Error>>(())
//! ```

#[cfg(any(feature = "allocator-api2-02", feature = "allocator-api2-04"))]
mod allocator;
mod boxed;
mod drain;
mod flex;
mod heap;
mod into_iter;
mod permit;
mod source;
mod vec;
mod vec_edit;

#[cfg(any(feature = "allocator-api2-02", feature = "allocator-api2-04"))]
pub use allocator::At;
pub use boxed::{Box, KBox, KVBox, VBox};
pub use drain::Drain;
pub use flex::{Flex, KFlex, KVFlex};
pub use heap::Heap;
pub use into_iter::IntoIter;
pub use permit::Permit;
pub use source::{KVmalloc, Kmalloc, Source, Vmalloc};
pub use vec::{KVVec, KVec, VVec, Vec};

#[cfg(test)]
mod tests;
