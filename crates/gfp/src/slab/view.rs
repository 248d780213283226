//! What can be seen of the caches from outside.

use super::Slabs;
use super::cache::Cache;
use super::desc::NO_ID;
use crate::frame::CpuId;
use crate::platform::Platform;
use crate::sync::Local;

/// One cache, at one moment (D13).
#[derive(Copy, Clone, Debug)]
pub struct CacheView<'a> {
    /// Its name.
    pub name: &'a str,
    /// Objects that are not free on a slab: in use, or at hand on a CPU (W9).
    pub active_objs: usize,
    /// Of these, objects at hand on CPUs.
    pub cached: usize,
    /// Objects that all slabs together have room for.
    pub num_objs: usize,
    /// The size that was asked for, in bytes.
    pub object_size: usize,
    /// Distance of two objects in bytes.
    pub stride: usize,
    /// Objects in a slab of the preferred order.
    pub objs_per_slab: usize,
    /// Pages in a slab of the preferred order.
    pub pages_per_slab: usize,
    /// Slabs.
    pub num_slabs: usize,
    /// Pages of all slabs; of fewer than `num_slabs * pages_per_slab` if memory was short (S57).
    pub pages: usize,
    /// Its pages count as reclaimable.
    pub reclaimable: bool,
}

impl<P: Platform> Slabs<P> {
    /// Shows each cache, newest first, then the internal ones. `f` runs outside of the allocator
    /// and may use it.
    pub fn for_each_cache(&self, f: &mut dyn FnMut(&CacheView<'_>)) {
        for id in (0..self.caches.len() as u16).rev() {
            self.show(|slabs, local| slabs.cache_at(local, id), f);
        }
        for index in 0..self.internal.len() {
            self.show(|slabs, _| Some(&slabs.internal[index]), f);
        }
    }

    fn show<F>(&self, find: F, f: &mut dyn FnMut(&CacheView<'_>))
    where
        F: for<'l> Fn(&'l Self, &'l Local<'_, P>) -> Option<&'l Cache>,
    {
        let Ok(local) = Local::enter(self.platform()) else {
            return;
        };
        let Some(cache) = find(self, &local) else {
            return;
        };
        let name = cache.name;
        let sums = cache.sums(&local);
        let view = CacheView {
            name: name.as_str(),
            active_objs: sums.in_use,
            cached: self.cached_objects(cache.sheaf_id).min(sums.in_use),
            num_objs: sums.objects,
            object_size: cache.object_size,
            stride: cache.shape.stride,
            objs_per_slab: cache.shape.objects,
            pages_per_slab: cache.shape.order.pages(),
            num_slabs: sums.slabs,
            pages: sums.pages,
            reclaimable: cache.is_reclaimable(),
        };
        drop(local);
        f(&view);
    }

    /// Objects of a cache that CPUs have at hand.
    pub(super) fn cached_objects(&self, sheaf_id: u16) -> usize {
        if sheaf_id == NO_ID {
            return 0;
        }
        let tables = (0..self.cpus.len() as u32).filter_map(|cpu| self.table(CpuId(cpu)));
        tables
            .filter_map(|table| table.slot(sheaf_id))
            .map(|slot| slot.len())
            .sum()
    }

    /// Pages of large kmalloc blocks (S10).
    pub fn large_kmalloc_pages(&self) -> usize {
        self.pages().large_pages()
    }
}
