//! Whose an address is.

use super::Slabs;
use super::cache::CacheName;
use super::desc::ALLOCATED;
use crate::frame::FrameKind;
use crate::platform::Platform;
use crate::report::Owner;
use crate::sync::Local;
use crate::sync::atomic::Ordering::Relaxed;

impl<P: Platform> Slabs<P> {
    /// The usable bytes of the object or large block that starts at this address; `None` if none
    /// that is in use does, or its cache was destroyed: it cannot be freed any more (S70).
    #[inline]
    pub fn usable_size(&self, ptr: *const u8) -> Option<usize> {
        let addr = ptr.addr();
        if let Some((slab, index)) = self.object_at(addr) {
            let in_use = slab.state(index).load(Relaxed) == ALLOCATED;
            if !in_use || slab.has(super::desc::ON_SLAB) {
                return None;
            }
            // SAFETY: [INV-SLAB-2] a cache outlives its slabs, and the object keeps the slab.
            let cache = unsafe { slab.cache.as_ref() };
            return (!cache.dead.load(Relaxed)).then_some(cache.object_size);
        }
        let pfn = self.pages().pfn_of(addr);
        let word = self.pages().frames().get(pfn);
        let start =
            word.is(FrameKind::LargeKmalloc) && self.pages().ptr_of(pfn).addr().get() == addr;
        start.then(|| word.order().bytes())
    }

    /// Whose the memory at an address is, if it is that of a slab or of a large kmalloc block.
    /// `name` receives the cache's name, which may be gone with the cache a moment later.
    ///
    /// `None` also when called from inside the allocator.
    pub fn describe<'n>(&self, addr: usize, name: &'n mut CacheName) -> Option<Owner<'n>> {
        let local = Local::enter(self.platform()).ok()?;
        if let Some(slab) = self.slab_of(addr) {
            // SAFETY: [INV-SLAB-2] a cache outlives its slabs; whose slab this is cannot be freed
            // while the caller's object is in it. A stale address races with nobody that he may
            // rely on.
            let cache = unsafe { slab.cache.as_ref() };
            *name = cache.name;
            let index = slab.covering(addr).unwrap_or(slab.objects as usize - 1); // S44: clamped
            let start = slab.object(index).addr().get();
            drop(local);
            let size = cache.object_size;
            return Some(Owner::Object {
                cache: name.as_str(),
                start,
                size,
            });
        }
        let pfn = self.pages().pfn_of(addr);
        let (head, word) = self.pages().head_of(pfn)?;
        if !word.is(FrameKind::LargeKmalloc) {
            return None;
        }
        let start = self.pages().ptr_of(head).addr().get();
        Some(Owner::LargeKmalloc {
            start,
            size: word.order().bytes(),
        })
    }
}
