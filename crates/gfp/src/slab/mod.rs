//! Slab caches and kmalloc: many objects of one size from few pages.
//!
//! 1. **Concepts.** A *cache* gives out objects of one size. A *slab* is a block of pages cut into
//!    such objects. A *sheaf* is an array of free objects that one CPU has at hand.
//! 2. **Structures.** `sheaf`: a page a CPU with one slot a cache. `desc`: the descriptor of a
//!    slab, apart from its objects: a free bit and a state byte for each. `home`: a cache's slabs
//!    are kept apart by node and CPU, each home under a lock of its own; `lists`: those of one
//!    home by fullness. The word of every frame of a slab names its descriptor, so `kfree` needs
//!    nothing but the address.
//! 3. **Allocation.** Section, sheaf, pop. An empty sheaf is filled to half from partial slabs of
//!    the CPU's own home, then from empty ones; when there is none, a slab is made, with the
//!    section left meanwhile. Other homes are asked only when no page is to be had.
//! 4. **Free.** Frame word, descriptor, object number by multiplication (S44), state, push. The
//!    oldest half of a full sheaf goes back to the slabs, one home after the other; of the empty
//!    slabs a home keeps a few (S58) and a share of what it had of late, the rest goes to the
//!    pages.
//! 5. **Objects are never written** by the allocator, but for `ZERO`, constructors and
//!    `kfree_sensitive`. So no free list can be forged, and a second free is seen at once, in every
//!    build, by the object's state; an address inside an object by its number not being whole.
//! 6. **Boot** (S89). A few internal caches hold descriptors, sheaves and the caches themselves;
//!    their slabs start with their own descriptor and need pages only.
//! 7. **Locking.** The sheaves of a CPU belong to its section; one lock a home
//!    ([`Rank::Cache`](crate::sync::Rank)), never two at a time; one for the registry. Pages and
//!    descriptors are taken and given back with no lock and no section held. A free from inside the
//!    allocator marks the object and puts its slab on a lock-free stack.
//! 8. **Failure.** Without memory, all CPUs' sheaves and all empty slabs are given back once before
//!    a request fails. Misuse is an error value, and the memory leaks; the layer above reports it.
//! 9. **What it does not do yet.** Barns, spare and RCU sheaves, remote-free bitmaps, ageing, slab
//!    hardening (issue 6); charging, debugging.

mod buckets;
mod cache;
mod deferred;
mod desc;
mod drain;
mod flow;
mod grace;
mod home;
mod kmalloc;
mod kmem_cache;
mod lists;
mod nolock;
mod owner;
mod pages;
mod resize;
mod sheaf;
#[cfg(test)]
mod tests;
mod typed;
mod usercopy;
mod verify;
mod view;

use crate::error::AllocError;
use crate::flags::{GFP_KERNEL, Gfp};
use crate::frame::PAGE_SIZE;
use crate::page::{BootError, PageAllocator};
use crate::platform::Platform;
use crate::policy::size_class::{KMALLOC, KmallocFamily, class_size};
use crate::policy::slab_order::SlabOrderParams;
use crate::reclaim::Reclaim;
use crate::sync::atomic::{AtomicPtr, Ordering};
use crate::sync::{Carved, LineBreak, Local, Lock, Rank};

pub use buckets::{BucketArgs, KmemBuckets};
pub use cache::{
    CacheArgs, CacheError, CacheFlags, CacheName, CacheRef, MAX_NAME_LEN, MAX_SHEAF_CAPACITY,
};
pub use grace::{RcuCookie, RcuGuard};
pub use kmalloc::ZERO_SIZE_PTR;
pub use usercopy::SlabCopy;
pub use view::CacheView;

use cache::Cache;
use deferred::DeferredSlabs;
use desc::Slab;
use grace::{GracePeriods, Readers};
use home::{Home, HomeMap, HomePages};
use sheaf::{CpuTable, Entry, SLOTS, Slot};

/// Caches that a machine can have, kmalloc's own included.
const MAX_CACHES: usize = 1024;
/// Numbers below this are kmalloc's: 16 a family.
const KMALLOC_IDS: usize = KmallocFamily::COUNT * 16;

/// Sizes of descriptors that are kept apart; the last is for slabs of 512 objects, as many as there
/// ever are: a page of 8 bytes each.
const DESC_SIZES: [usize; 10] = [80, 96, 112, 128, 144, 192, 256, 384, 448, 640];
const DESC_NAMES: [&str; DESC_SIZES.len()] = [
    "slab-80", "slab-96", "slab-112", "slab-128", "slab-144", "slab-192", "slab-256", "slab-384",
    "slab-448", "slab-640",
];
/// Capacities of sheaves (S75), each with a cache for its entries.
const SHEAF_CAPACITIES: [usize; 6] = [4, 12, 28, 60, 124, MAX_SHEAF_CAPACITY];
const SHEAF_NAMES: [&str; SHEAF_CAPACITIES.len()] = [
    "sheaf-4",
    "sheaf-12",
    "sheaf-28",
    "sheaf-60",
    "sheaf-124",
    "sheaf-252",
];
/// The internal caches: descriptors, sheaves, caches.
const NR_INTERNAL: usize = DESC_SIZES.len() + SHEAF_CAPACITIES.len() + 1;
const INTERNAL_CACHE: usize = NR_INTERNAL - 1;

/// What the lock of the registry guards.
struct Registry {
    next_generation: u32,
    /// Numbers of caches that are being destroyed: not to be given to another yet.
    closing: [u64; MAX_CACHES / 64],
}

/// The slab caches of one machine, kmalloc, and the page allocator below.
///
/// A plain value that may be moved: everything that others point to lies in pages of the machine.
#[repr(C)]
pub struct Slabs<P: Platform> {
    reclaim: Reclaim<P>,
    /// One entry a CPU id: its sheaves; null until its first use.
    cpus: Carved<AtomicPtr<CpuTable>>,
    /// The caches by number; null where there is none.
    caches: Carved<AtomicPtr<Cache>>,
    internal: Carved<Cache>,
    homes: HomeMap,
    home_pages: Carved<HomePages>,
    order_params: SlabOrderParams,
    _written: LineBreak,
    registry: Lock<Registry, { Rank::CacheList as u8 }>,
    /// Slabs with objects that were freed inside the allocator.
    deferred: DeferredSlabs<Slab>,
    grace: GracePeriods,
    _end: LineBreak,
}

impl<P: Platform> Slabs<P> {
    /// Makes kmalloc's caches over a machine's pages (S5, S89). No slab is made before it is
    /// needed.
    ///
    /// # Errors
    /// [`BootError::NoRoomForMetadata`], [`BootError::Nested`].
    pub fn boot(pages: PageAllocator<P>) -> Result<Slabs<P>, BootError> {
        let nr_cpus = pages.platform().nr_cpus() as usize;
        let running = pages.platform().nr_cpus_running();
        let nodes = pages.last_node().0 as usize + 1;
        let will_have = pages.managed_pages() + pages.rest_pages();
        let homes = HomeMap::new(running, nodes, will_have);
        let places = grace::places(nr_cpus);
        let bytes = places * size_of::<Readers>()
            + homes.len() * (size_of::<HomePages>() + NR_INTERNAL * size_of::<Home>())
            + NR_INTERNAL * size_of::<Cache>()
            + (MAX_CACHES + nr_cpus) * size_of::<AtomicPtr<()>>();
        let no_room = BootError::NoRoomForMetadata { bytes };
        let (first, _) = pages
            .alloc_exact(bytes, GFP_KERNEL.with(Gfp::ZERO))
            .map_err(|e| {
                if e == AllocError::Nested {
                    BootError::Nested
                } else {
                    no_room
                }
            })?;
        let at = pages.ptr_of(first);
        // SAFETY: [INV-BOOT-1] the memory is ours, never given back, large enough for all pieces,
        // page aligned, and zero, which is a null `AtomicPtr`, a `HomePages` of nothing, a place
        // without readers; those places and homes come first, and a multiple of their size is
        // aligned for all that follows. The internal caches are written first.
        let (internal, readers, home_pages, caches, cpus) = unsafe {
            let readers = at.cast::<Readers>();
            let home_pages = readers.add(places).cast::<HomePages>();
            let first = home_pages.add(homes.len()).cast::<Home>();
            let internal = first.add(homes.len() * NR_INTERNAL).cast::<Cache>();
            let sizes = SHEAF_CAPACITIES.map(|c| c * size_of::<Entry>());
            let named = DESC_NAMES
                .iter()
                .zip(DESC_SIZES)
                .chain(SHEAF_NAMES.iter().zip(sizes));
            let cache = (&"kmem_cache", homes.cache_bytes());
            let mut n = 0;
            for (name, size) in named.chain(core::iter::once(cache)) {
                let its = first.add(n * homes.len());
                Cache::internal(name, size).place(internal.add(n), its, homes);
                n += 1;
            }
            debug_assert!(n == NR_INTERNAL);
            let caches = internal.add(NR_INTERNAL).cast::<AtomicPtr<Cache>>();
            let cpus = caches.add(MAX_CACHES).cast::<AtomicPtr<CpuTable>>();
            (
                Carved::new(internal, NR_INTERNAL),
                Carved::new(readers, places),
                Carved::new(home_pages, homes.len()),
                Carved::new(caches, MAX_CACHES),
                Carved::new(cpus, nr_cpus),
            )
        };
        let order_params = SlabOrderParams {
            present_cpus: pages.platform().nr_cpus_running(),
            ..SlabOrderParams::for_cpus(pages.platform().nr_cpus_running())
        };
        let slabs = Slabs {
            reclaim: Reclaim::boot(pages),
            cpus,
            caches,
            internal,
            homes,
            home_pages,
            order_params,
            _written: LineBreak,
            registry: Lock::new(Registry {
                next_generation: 1,
                closing: [0; MAX_CACHES / 64],
            }),
            deferred: DeferredSlabs::new(),
            grace: GracePeriods::new(readers),
            _end: LineBreak,
        };
        for family in KmallocFamily::ALL {
            for class in KMALLOC.classes() {
                slabs.boot_class(family, class).map_err(|_| no_room)?;
            }
        }
        Ok(slabs)
    }

    /// One kmalloc cache.
    fn boot_class(&self, family: KmallocFamily, class: usize) -> Result<(), CacheError> {
        let (Some(name), Some(size)) = (family.cache_name(class), class_size(class)) else {
            return Ok(());
        };
        let flags = match family {
            KmallocFamily::Normal => CacheFlags::NONE,
            KmallocFamily::Reclaim => CacheFlags::RECLAIM_ACCOUNT,
            KmallocFamily::Dma => CacheFlags::CACHE_DMA,
            KmallocFamily::Cgroup => CacheFlags::ACCOUNT,
        };
        // S13: the largest power of two that divides the size.
        let align = 1 << size.trailing_zeros();
        let args = CacheArgs {
            align,
            flags,
            usersize: size, // D60: all of the class
            ..CacheArgs::new(name, size)
        };
        self.create(&args, Some(kmalloc_id(family, class)))
            .map(|_| ())
    }

    /// Where memory comes from when none is free.
    #[inline]
    pub fn reclaim(&self) -> &Reclaim<P> {
        &self.reclaim
    }

    /// The page allocator below.
    #[inline]
    pub fn pages(&self) -> &PageAllocator<P> {
        self.reclaim.pages()
    }

    /// The platform.
    #[inline]
    pub fn platform(&self) -> &P {
        self.pages().platform()
    }

    /// The sheaves of a CPU.
    #[inline]
    fn table(&self, cpu: crate::frame::CpuId) -> Option<&CpuTable> {
        // Acquire: pairs with the Release in `make_table`.
        let table = self.cpus.get(cpu.0 as usize)?.load(Ordering::Acquire);
        // SAFETY: [INV-PCPU-2] a table stays where it is until the machine ends; its fields are
        // atomics.
        unsafe { table.as_ref() }
    }

    /// The sheaf of a cache on the section's CPU.
    #[inline]
    fn slot(&self, local: &Local<'_, P>, id: u16) -> Option<&Slot> {
        self.table(local.cpu())?.slot(id)
    }

    /// The cache with this number.
    ///
    /// [INV-SLAB-2] A cache found in the registry stays until the section of `local` ends: who
    /// destroys one takes it out of the registry, then waits for every CPU to leave its section.
    #[inline]
    fn cache_at<'l>(&'l self, _local: &'l Local<'_, P>, id: u16) -> Option<&'l Cache> {
        // Acquire: pairs with the Release in `create`.
        let cache = self.caches.get(id as usize)?.load(Ordering::Acquire);
        // SAFETY: [INV-SLAB-2].
        unsafe { cache.as_ref() }
    }

    /// The cache of a handle; `None` if it was destroyed.
    #[inline]
    fn cache_of<'l>(&'l self, local: &'l Local<'_, P>, cache: CacheRef) -> Option<&'l Cache> {
        let found = self.cache_at(local, cache.id)?;
        (found.generation == cache.generation).then_some(found)
    }
}

/// The number of a kmalloc cache.
#[inline]
const fn kmalloc_id(family: KmallocFamily, class: usize) -> u16 {
    (family.index() * 16 + class) as u16
}

const _: () = assert!(KMALLOC_IDS < SLOTS && PAGE_SIZE >= SLOTS * size_of::<Slot>());
