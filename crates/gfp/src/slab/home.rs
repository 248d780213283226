//! Homes: a cache's slabs, apart for CPUs that would be in each other's way.
//!
//! ```text
//!  Cache                    Home 0            Home 1            ...
//! +----------------------+ +----------------+ +----------------+
//! | name, size, ...      | | lock           | | lock           |
//! | homes ----------------->| lists, sums    | | lists, sums    |
//! +----------------------+ +----------------+ +----------------+
//! ```
//!
//! Home `node * shards + cpu % shards` has the slabs that lie on `node` and were made on such a
//! CPU. A slab stays in its home until it is freed, whoever uses its objects. So CPUs fill their
//! sheaves from different slabs: they share neither lock, nor descriptors, nor cache lines of
//! objects, until objects are freed elsewhere than where they were allocated.

use super::Slabs;
use super::cache::Cache;
use super::desc::SlabPtr;
use super::lists::{HomeSlabs, Sums};
use super::pages::Reach;
use crate::frame::{CpuId, MAX_NODES, NodeId};
use crate::platform::Platform;
use crate::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use crate::sync::{Local, Lock, LockGuard, Rank};
use core::ptr::NonNull;

/// Homes stand apart by this: two cache lines, since processors fetch lines in pairs.
pub(super) const HOME_ALIGN: usize = 128;
/// The most homes of one node.
const MAX_SHARDS: usize = 16;

/// The homes of a cache together keep one part of so many of all memory in empty slabs at most:
/// caches that were large once, each at another time, must not come to hold most of it.
const SPARE_PART: usize = 128;

const RANK: u8 = Rank::Cache as u8;

/// One home of a cache.
#[repr(align(128))]
pub(super) struct Home(Lock<HomeSlabs, RANK>);

const _: () = assert!(align_of::<Home>() == HOME_ALIGN && size_of::<Home>() == HOME_ALIGN);
const _: () = assert!(MAX_SHARDS * MAX_NODES <= super::desc::NO_HOME);

impl Home {
    #[inline]
    pub(super) fn lock<'l, P: Platform>(
        &'l self,
        local: &'l Local<'_, P>,
    ) -> LockGuard<'l, HomeSlabs, RANK> {
        self.0.lock(local)
    }

    /// Takes the lock if it is free.
    pub(super) fn try_lock<'l, P: Platform>(
        &'l self,
        local: &'l Local<'_, P>,
    ) -> Option<LockGuard<'l, HomeSlabs, RANK>> {
        self.0.try_lock(local)
    }
}

/// Pages of the slabs of one home of all caches: unreclaimable, reclaimable.
#[repr(align(128))]
pub(super) struct HomePages([AtomicUsize; 2]);

/// The homes of one cache.
///
/// [INV-SLAB-3] They are written together with their cache, and their memory is kept as long.
pub(super) struct Homes {
    first: NonNull<Home>,
    len: usize,
}

impl Homes {
    /// No home.
    pub(super) const NONE: Homes = Homes {
        first: NonNull::dangling(),
        len: 0,
    };
}

impl core::ops::Deref for Homes {
    type Target = [Home];

    #[inline]
    fn deref(&self) -> &[Home] {
        // SAFETY: [INV-SLAB-3] `Cache::place` wrote `len` homes there.
        unsafe { core::slice::from_raw_parts(self.first.as_ptr(), self.len) }
    }
}

// SAFETY: [INV-SLAB-3] a shared slice of homes, which are locks.
unsafe impl Send for Homes {}
// SAFETY: as above.
unsafe impl Sync for Homes {}

/// Which homes each cache of a machine has.
#[derive(Copy, Clone)]
pub(super) struct HomeMap {
    /// Homes of a node; a power of two.
    shards: usize,
    nodes: usize,
    /// Pages that a home may keep in empty slabs.
    spare: usize,
}

impl HomeMap {
    /// For a machine with this many CPUs running, and `pages` of memory on nodes below `nodes`.
    pub(super) fn new(cpus: u32, nodes: usize, pages: usize) -> HomeMap {
        let shards = (cpus.max(1) as usize).next_power_of_two().min(MAX_SHARDS);
        let nodes = nodes.clamp(1, MAX_NODES);
        HomeMap {
            shards,
            nodes,
            spare: pages / SPARE_PART / (shards * nodes),
        }
    }

    /// All homes.
    pub(super) fn len(self) -> usize {
        self.shards * self.nodes
    }

    /// The home of a CPU's slabs on a node; `None` if no node with memory has this number or a
    /// higher one.
    #[inline]
    pub(super) fn home(self, node: usize, cpu: CpuId) -> Option<usize> {
        (node < self.nodes).then(|| node * self.shards + cpu.0 as usize % self.shards)
    }

    /// Whether slabs of this home lie on this node.
    pub(super) fn is_on(self, home: usize, node: usize) -> bool {
        home / self.shards == node
    }

    /// All homes, those of `node` first.
    pub(super) fn starting_on(self, node: usize) -> impl Iterator<Item = usize> {
        (0..self.len()).map(move |i| (node % self.nodes * self.shards + i) % self.len())
    }

    /// True if all homes lie on one node.
    pub(super) fn is_one_node(self) -> bool {
        self.nodes == 1
    }

    /// The homes that a request of this CPU looks into beyond its own, those of `node` first.
    pub(super) fn within(
        self,
        reach: Reach,
        node: usize,
        cpu: CpuId,
    ) -> impl Iterator<Item = usize> {
        let shard = cpu.0 as usize % self.shards;
        let all = match reach {
            Reach::Near(_) => 0,
            // With one node the CPU's only home has been looked into.
            Reach::Around if self.is_one_node() => 0,
            Reach::Around | Reach::Everywhere(_) => self.len(),
        };
        let own = matches!(reach, Reach::Around);
        let mine = move |home: &usize| !own || home % self.shards == shard;
        self.starting_on(node).take(all).filter(mine)
    }

    /// Bytes of a cache with its homes.
    pub(super) fn cache_bytes(self) -> usize {
        HOMES_AT + self.len() * size_of::<Home>()
    }
}

/// Where homes start behind their cache.
const HOMES_AT: usize = size_of::<Cache>().next_multiple_of(HOME_ALIGN);

impl Cache {
    /// Writes a cache to `at` and its homes to `first`.
    ///
    /// # Safety
    /// `at` is valid for writes of a cache, `first` for writes of all homes of `map`, both aligned,
    /// used by nobody else, and freed together.
    pub(super) unsafe fn place(mut self, at: NonNull<Cache>, first: NonNull<Home>, map: HomeMap) {
        debug_assert!(first.is_aligned());
        let keep = (self.min_partial / map.shards).max(1);
        let len = map.len();
        self.homes = Homes { first, len };
        // SAFETY: promised by the caller.
        unsafe {
            for i in 0..len {
                first
                    .add(i)
                    .write(Home(Lock::new(HomeSlabs::new(keep, map.spare))));
            }
            at.write(self);
        }
    }

    /// [`Cache::place`] with the homes behind the cache.
    ///
    /// # Safety
    /// `at` is valid for writes of [`HomeMap::cache_bytes`] bytes, aligned to [`HOME_ALIGN`], and
    /// used by nobody else.
    pub(super) unsafe fn place_whole(self, at: NonNull<u8>, map: HomeMap) -> NonNull<Cache> {
        // SAFETY: promised by the caller.
        unsafe { self.place(at.cast(), at.add(HOMES_AT).cast(), map) };
        at.cast()
    }

    /// The home that a slab of this cache belongs to.
    #[inline]
    pub(super) fn home_of(&self, slab: SlabPtr) -> &Home {
        debug_assert!(slab.cache == NonNull::from(self));
        &self.homes[slab.home()]
    }

    /// The sums over all homes, one after the other.
    pub(super) fn sums<P: Platform>(&self, local: &Local<'_, P>) -> Sums {
        let mut sums = Sums::default();
        for home in self.homes.iter() {
            sums += home.lock(local).sums;
        }
        sums
    }
}

impl<P: Platform> Slabs<P> {
    /// The node that the section's CPU is nearest to, of those with memory.
    #[inline]
    pub(super) fn near(&self, local: &Local<'_, P>) -> usize {
        let table = self.table(local.cpu());
        table.map_or(0, |t| t.node.load(Relaxed).into())
    }

    /// Puts a new slab into its home, number `at`.
    pub(super) fn join(&self, home: &mut HomeSlabs, slab: SlabPtr, at: usize) {
        home.insert(slab, at);
        self.home_pages[at]
            .of(slab)
            .fetch_add(slab.order().pages(), Relaxed);
    }

    /// A slab is about to be freed, and counts no more.
    pub(super) fn leave(&self, slab: SlabPtr) {
        // A slab that never got a home is not counted.
        if let Some(pages) = self.home_pages.get(slab.home()) {
            pages.of(slab).fetch_sub(slab.order().pages(), Relaxed);
        }
    }

    /// Pages of slabs: unreclaimable, reclaimable. Large kmalloc blocks are not among them.
    pub fn slab_pages(&self) -> (usize, usize) {
        let sum = |i: usize| self.home_pages.iter().map(|p| p.0[i].load(Relaxed)).sum();
        (sum(0), sum(1))
    }

    /// Pages of reclaimable slabs on a node.
    pub(super) fn reclaimable_pages_of(&self, node: NodeId) -> usize {
        let homes = self.home_pages.iter().enumerate();
        let its = homes.filter(|(home, _)| self.homes.is_on(*home, node.0.into()));
        its.map(|(_, pages)| pages.0[1].load(Relaxed)).sum()
    }
}

impl HomePages {
    fn of(&self, slab: SlabPtr) -> &AtomicUsize {
        &self.0[usize::from(slab.has(super::desc::RECLAIMABLE))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn each_cpu_has_a_home_on_each_node() {
        for (cpus, nodes, shards) in [(0, 1, 1), (1, 1, 1), (3, 2, 4), (4, 1, 4), (100, 8, 16)] {
            let map = HomeMap::new(cpus, nodes, 0);
            assert_eq!(map.len(), nodes * shards);
            let mut seen: Vec<_> = (0..nodes)
                .flat_map(|n| (0..shards as u32).map(move |c| map.home(n, CpuId(c)).unwrap()))
                .collect();
            seen.sort_unstable();
            assert_eq!(seen, (0..map.len()).collect::<Vec<_>>());
            assert_eq!(map.home(0, CpuId(shards as u32)), Some(0), "by remainder");
            assert_eq!(map.home(nodes, CpuId(0)), None);
            let order: Vec<_> = map.starting_on(nodes - 1).collect();
            assert_eq!(order.len(), map.len());
            assert!(order[..shards].iter().all(|h| map.is_on(*h, nodes - 1)));
            assert!(!order[shards..].iter().any(|h| map.is_on(*h, nodes - 1)));
        }
    }
}
