//! `Mm`: the memory of one machine.
//!
//! 1. **Concept.** A machine is a value. It owns its platform and all its memory; a program may
//!    have many. There is no global state in this library: [`global!`](crate::global) makes the
//!    free functions with Linux's names over an instance that you keep.
//! 2. **Structure.** `Mm` owns `vmalloc`, which owns `slab`, which owns `reclaim`, which owns
//!    `page`: what stands higher may call what it owns, never the other way.
//! 3. **What is here.** The public calls with Linux's names, each a thin call into one subsystem
//!    (`pages`, `mempolicy`, `contig`, `objects`, `buckets`, `typed`, `copies`, `user`, `areas`,
//!    `dma`, `cma`, `scopes`, `nolock`), and the balloon, which is built of them (`balloon`); the
//!    report of every misuse, with the owner that only the whole machine can name (`misuse`), and
//!    of who asks to sleep where he must not (`might`); the numbers for the text views (`source`),
//!    and those that an administrator sets (`tunables`).
//! 4. **Context.** Unless it says otherwise a call may be made from any context. From an interrupt
//!    or a signal handler that came in the middle of another call on the same CPU, allocations
//!    return [`AllocError::Nested`] and frees are put off.

mod areas;
mod balloon;
mod buckets;
mod cma;
mod compaction;
mod contig;
mod copies;
mod dma;
mod folio;
mod global;
mod lru;
mod manual;
mod mempolicy;
mod might;
mod misuse;
mod mobile;
mod nolock;
mod objects;
mod pages;
mod rcu;
mod relief;
mod reporting;
mod scopes;
mod source;
#[cfg(test)]
mod tests;
mod tunables;
mod typed;
mod user;

use crate::frame::PhysAddr;
use crate::page::{AddMemoryError, AddedMemory};
use crate::page::{BootConfig, BootError, MemoryRegion, PageAllocator, VerifyError};
use crate::platform::Platform;
use crate::pool::cma::{Cma, Reserved};
use crate::slab::Slabs;
use crate::vmalloc::Vmalloc;

pub use balloon::{Balloon, BalloonDevice, BalloonError, UnderPressure};
pub use copies::PrintError;
pub use pages::nr_pages_of;
pub use tunables::Tunables;
pub use user::{CopyRefusal, UserError};

#[doc(no_inline)]
pub use crate::error::AllocError;

/// The memory of one machine.
///
/// ```
/// use gfp::flags::GFP_KERNEL;
/// use gfp::frame::{NodeId, PhysAddr};
/// use gfp::page::{BootConfig, MemoryRegion, RegionKind};
/// use gfp::platform::{DirectMap, SingleCore};
/// use gfp::Mm;
///
/// // RAM of the machine: here 16 MiB from the heap, seen at physical address 0.
/// let layout = std::alloc::Layout::from_size_align(16 << 20, 4 << 20)?;
/// let ram = unsafe { std::alloc::alloc(layout) };
/// let map = [MemoryRegion {
///     start: PhysAddr(0),
///     end: PhysAddr(16 << 20),
///     node: NodeId(0),
///     kind: RegionKind::Usable,
/// }];
/// // SAFETY: the RAM is ours, and one thread uses the machine.
/// let platform = unsafe { SingleCore::new(DirectMap::new(ram, PhysAddr(0))) };
/// let mm = Mm::boot(platform, &map, &BootConfig::default())?;
///
/// let p = mm.kmalloc(100, GFP_KERNEL)?;
/// unsafe { mm.kfree(p.as_ptr()) };
/// # drop(mm);
/// # unsafe { std::alloc::dealloc(ram, layout) };
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Mm<P: Platform> {
    vm: Vmalloc<P>,
    sleepers: might::Sleepers,
    cma: Cma,
    balloons: balloon::BalloonCounts,
}

impl<P: Platform> Mm<P> {
    /// Brings a machine up over the memory that `map` lists.
    ///
    /// # Errors
    /// [`BootError`]: what is wrong with the map.
    pub fn boot(
        platform: P,
        map: &[MemoryRegion],
        config: &BootConfig,
    ) -> Result<Mm<P>, BootError> {
        let pages = PageAllocator::boot(platform, map, config)?;
        let reserved = Reserved::take(&pages, &config.cma)?;
        let slabs = Slabs::boot(pages)?;
        let cma = Cma::boot(&slabs, reserved)?;
        Ok(Mm {
            vm: Vmalloc::boot(slabs),
            sleepers: might::Sleepers::new(),
            cma,
            balloons: balloon::BalloonCounts::new(),
        })
    }

    /// The platform.
    pub fn platform(&self) -> &P {
        self.pages().platform()
    }

    /// The page allocator.
    #[inline]
    pub fn pages(&self) -> &PageAllocator<P> {
        self.slabs().pages()
    }

    /// Slab caches and kmalloc.
    #[inline]
    pub fn slabs(&self) -> &Slabs<P> {
        self.vm.slabs()
    }

    /// vmalloc and kvmalloc.
    #[inline]
    pub fn vmalloc_space(&self) -> &Vmalloc<P> {
        &self.vm
    }

    /// Checks every invariant of every subsystem. Slow; nothing else may run on this machine.
    ///
    /// # Errors
    /// The first rule that does not hold.
    pub fn verify(&self) -> Result<(), VerifyError> {
        self.pages().verify()?;
        self.slabs().reclaim().verify()?;
        self.slabs().verify()?;
        self.cma.verify()?;
        self.vm.verify()
    }

    /// Brings memory in while the machine runs, where the memory map of boot said that it may be
    /// plugged in (`add_memory`; P514, P516).
    ///
    /// Context: task, outside of the allocator; allocations and other additions may run meanwhile.
    ///
    /// # Errors
    /// [`AddMemoryError`]: what is wrong with the range; nothing was changed.
    ///
    /// # Safety
    /// As [`PageAllocator::add_memory`]: the range is RAM now and stays so, and nobody else uses
    /// it.
    pub unsafe fn add_memory(
        &self,
        start: PhysAddr,
        end: PhysAddr,
    ) -> Result<AddedMemory, AddMemoryError> {
        // SAFETY: promised by the caller.
        unsafe { self.pages().add_memory(start, end) }
    }

    /// Takes in the memory that boot left for later: all of it is managed then. Returns the pages.
    /// A machine calls it when its CPUs run; without it requests in need take in more, piece by
    /// piece (P275). See [`BootConfig::at_once_bytes`].
    ///
    /// Context: task, outside of the allocator; allocations may run meanwhile.
    pub fn take_in_rest(&self) -> usize {
        self.pages().take_in_rest()
    }

    /// Gives memory that nobody needs back: what CPUs have cached, empty slabs, and to the platform
    /// all wholly free pageblocks. Returns the pages that the platform got.
    ///
    /// Context: task, outside of the allocator; waits for other CPUs to leave it.
    pub fn trim(&self) -> usize {
        self.slabs().shrink_all();
        self.pages().trim()
    }
}
