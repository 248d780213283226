//! Objects for who may wait for nobody: an NMI, a signal handler, the holder of any lock (S36-S39).
//!
//! As for pages (`page/nolock.rs`): a section is entered only where that takes a few instructions,
//! locks are tried, and what cannot be done at once is refused, or put on a lock-free stack. A new
//! slab is made with its home's lock held, all in one section, so that nothing that was taken must
//! be given back under a lock.

use super::cache::{Cache, DescPlace, on_slab_start};
use super::desc::{ALLOCATED, SlabPtr};
use super::flow::serve;
use super::kmalloc::zero_or_null;
use super::pages::{Plan, SlabBlock, desc_cache};
use super::{Slabs, ZERO_SIZE_PTR, kmalloc_id};
use crate::flags::{Entry, Gfp};
use crate::frame::{FrameKind, NodeId};
use crate::page::PageRequest;
use crate::platform::Platform;
use crate::policy::size_class::{KmallocFamily, class_size, kmalloc_index};
use crate::report::Misuse;
use crate::sync::Local;
use crate::sync::atomic::Ordering::Relaxed;
use core::ptr::NonNull;

impl<P: Platform> Slabs<P> {
    /// `size` bytes of at most 8 KiB, if they can be had without waiting for anybody (S36, S37).
    /// The flags may contain `ZERO` and `ACCOUNT` only. `None` is normal: it says that there is
    /// none at hand, in the class of this size and in the next. Size 0 gives [`ZERO_SIZE_PTR`].
    ///
    /// Context: any, an NMI inside the allocator too.
    pub fn kmalloc_nolock(
        &self,
        size: usize,
        gfp: Gfp,
        node: Option<NodeId>,
    ) -> Option<NonNull<u8>> {
        let (gfp, None) = gfp.sanitize_for(Entry::SlabNoLock) else {
            return None;
        };
        if size == 0 {
            return Some(ZERO_SIZE_PTR);
        }
        let try_class = |size: usize| {
            let class = kmalloc_index(size)?;
            let bytes = class_size(class)?;
            let id = kmalloc_id(KmallocFamily::of(gfp), class);
            Some((self.object_nolock(id, node), bytes))
        };
        let (first, bytes) = try_class(size)?;
        let (object, bytes) = match first {
            Some(object) => (object, bytes),
            None => {
                let (second, bytes) = try_class(bytes + 1)?;
                (second?, bytes)
            }
        };
        if gfp.contains(Gfp::ZERO) {
            // SAFETY: the object is ours, and as large as its class.
            unsafe { object.write_bytes(0, bytes) };
        }
        Some(object)
    }

    fn object_nolock(&self, id: u16, node: Option<NodeId>) -> Option<NonNull<u8>> {
        if node.is_none()
            && let Some(object) = self.pop_quick(id)
        {
            return Some(object);
        }
        let local = Local::enter_quick(self.platform())?;
        let cache = self.cache_at(&local, id)?;
        let here = self.near(&local);
        let known = |n: &NodeId| self.pages().nodes().any(|has| has == *n);
        let wanted = node.filter(known).map_or(here, |n| n.0.into());
        let at = self.homes.home(wanted, local.cpu())?;
        if let Some(mut home) = cache.homes[at].try_lock(&local) {
            let slot = self.slot(&local, cache.sheaf_id);
            let slot = slot.filter(|slot| slot.capacity() > 0 && wanted == here);
            if let Some(object) = serve(&mut home, slot) {
                return Some(object);
            }
            if let Some(slab) = self.slab_nolock(&local, cache, wanted) {
                self.join(&mut home, slab, at);
                return serve(&mut home, slot);
            }
        }
        // What other CPUs' and nodes' slabs have.
        self.homes.starting_on(wanted).find_map(|at| {
            let mut home = cache.homes[at].try_lock(&local)?;
            serve(&mut home, None)
        })
    }

    /// A new slab on a node, on no list yet.
    fn slab_nolock(&self, local: &Local<'_, P>, cache: &Cache, node: usize) -> Option<SlabPtr> {
        let plan = Plan::of(cache);
        let (order, objects) = (plan.shape.min_order, plan.shape.min_objects);
        let gfp = plan.page_gfp.with(Gfp::THISNODE);
        let req = PageRequest::new(gfp, order).at(Some(NodeId(node as u8)));
        let pfn = self.pages().take_nolock(local, &req)?;
        let start = self.pages().ptr_of(pfn);
        let (desc, base) = match plan.shape.place {
            DescPlace::OnSlab => {
                // SAFETY: [INV-PAGE-1] the block is ours; `Shape::on_slab` left room for both.
                (start, unsafe {
                    start.add(on_slab_start(objects, plan.shape.stride))
                })
            }
            DescPlace::OutOfLine => match self.desc_nolock(local, objects) {
                Some(desc) => (desc, start),
                None => {
                    self.pages().put_nolock(local, pfn, order);
                    return None;
                }
            },
        };
        let block = SlabBlock {
            pfn,
            order,
            objects,
            base,
            desc,
        };
        Some(self.build_slab(&plan, &block))
    }

    /// Memory for a descriptor. The slabs of internal caches hold their own, so this goes no
    /// deeper.
    fn desc_nolock(&self, local: &Local<'_, P>, objects: usize) -> Option<NonNull<u8>> {
        let cache = &self.internal[desc_cache(objects)];
        debug_assert!(cache.shape.place == DescPlace::OnSlab);
        let here = self.near(local);
        let at = self.homes.home(here, local.cpu())?;
        let mut home = cache.homes[at].try_lock(local)?;
        if let Some(desc) = serve(&mut home, None) {
            return Some(desc);
        }
        let slab = self.slab_nolock(local, cache, here)?;
        self.join(&mut home, slab, at);
        serve(&mut home, None)
    }

    /// Frees an object without waiting for anybody: into this CPU's sheaf, else on a lock-free
    /// stack that a later call empties (S38). Always succeeds for an object in use. Null and
    /// [`ZERO_SIZE_PTR`]: nothing.
    ///
    /// Context: any, an NMI inside the allocator too.
    ///
    /// # Errors
    /// What is wrong with the address; [`Misuse::WrongCall`] for large blocks, which
    /// [`Slabs::kmalloc_nolock`] does not give.
    ///
    /// # Safety
    /// As [`Slabs::kfree`].
    pub unsafe fn kfree_nolock(&self, ptr: *mut u8) -> Result<(), Misuse> {
        let Some(object) = NonNull::new(ptr).filter(|p| !zero_or_null(p.addr().get())) else {
            return Ok(());
        };
        // SAFETY: promised by the caller.
        if unsafe { self.free_quick(object) } {
            return Ok(());
        }
        let addr = ptr.addr();
        match self.object_at(addr) {
            Some((slab, index)) if slab.state(index).load(Relaxed) == ALLOCATED => {
                self.defer(slab, index)
            }
            Some(_) => Err(self.misuse_of(addr)),
            None => {
                let word = self.pages().word_at(addr);
                match word.is(FrameKind::LargeKmalloc) {
                    true => Err(Misuse::WrongCall),
                    false => Err(self.misuse_of(addr)),
                }
            }
        }
    }
}
