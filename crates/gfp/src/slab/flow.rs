//! How objects flow: slab to sheaf to user, and back.

use super::Slabs;
use super::cache::{Cache, CacheRef};
use super::desc::{ALLOCATED, CACHED, DEFERRED, NO_ID, SlabPtr};
use super::lists::{HomeSlabs, Released};
use super::pages::{Plan, Reach};
use super::sheaf::{Entry, Slot};
use crate::error::AllocError;
use crate::flags::{GFP_NOWAIT, Gfp};
use crate::frame::NodeId;
use crate::platform::Platform;
use crate::report::{Caller, Misuse, Owner, Report};
use crate::sync::Local;
use crate::sync::atomic::Ordering;

use core::ptr::NonNull;

use Ordering::Relaxed;

/// Which cache an allocation is for.
#[derive(Copy, Clone)]
pub(super) enum Target {
    /// One of kmalloc's: always there.
    Kmalloc(u16),
    /// Another, as long as it is there.
    Cache(CacheRef),
}

impl Target {
    #[inline]
    pub(super) fn id(self) -> u16 {
        match self {
            Target::Kmalloc(id) => id,
            Target::Cache(cache) => cache.id,
        }
    }
}

fn entry(slab: SlabPtr, index: usize) -> Entry {
    Entry {
        object: slab.object(index),
        state: NonNull::from(slab.state(index)),
    }
}

impl<P: Platform> Slabs<P> {
    /// The fast path: takes an object from this CPU's sheaf. No lock, no locked instruction.
    #[inline]
    pub(super) fn pop(&self, local: &Local<'_, P>, id: u16) -> Option<NonNull<u8>> {
        let slot = self.slot(local, id)?;
        // SAFETY: [INV-PCPU-1] the section is held.
        let entry = unsafe { slot.pop() }?;
        // SAFETY: [INV-SLAB-1] an object in a sheaf keeps its slab.
        let state = unsafe { entry.state.as_ref() };
        if state.load(Relaxed) != CACHED {
            return self.spoiled(entry.object);
        }
        state.store(ALLOCATED, Relaxed);
        Some(entry.object)
    }

    /// [`Slabs::pop`] without any call: `None` where more is to be done than to take an object.
    #[inline(always)]
    pub(super) fn pop_quick(&self, id: u16) -> Option<NonNull<u8>> {
        let local = Local::enter_quick(self.platform())?;
        self.pop_quick_in(local, id)
    }

    /// [`Slabs::pop_quick`] in a section that is entered; leaves it.
    #[inline(always)]
    pub(super) fn pop_quick_in(&self, local: Local<'_, P>, id: u16) -> Option<NonNull<u8>> {
        let slot = self.slot(&local, id)?;
        // SAFETY: [INV-PCPU-1] the section is held.
        let entry = unsafe { slot.top() }?;
        // SAFETY: [INV-SLAB-1] an object in a sheaf keeps its slab.
        let state = unsafe { entry.state.as_ref() };
        if state.load(Relaxed) != CACHED {
            return None;
        }
        // SAFETY: [INV-PCPU-1] as above; there is an entry.
        unsafe { slot.drop_top() };
        state.store(ALLOCATED, Relaxed);
        local.leave();
        Some(entry.object)
    }

    /// Frees an object without any call. False, and nothing done, where more is to be done than to
    /// put it into this CPU's sheaf, or if it is no object in use.
    ///
    /// # Safety
    /// If the address is that of an object in use, it is not used any more.
    #[inline(always)]
    pub(super) unsafe fn free_quick(&self, object: NonNull<u8>) -> bool {
        let Some((slab, index)) = self.object_at(object.addr().get()) else {
            return false;
        };
        // SAFETY: promised by the caller.
        unsafe { self.free_quick_in(slab, index, object) }
    }

    /// [`Slabs::free_quick`] where it is known already which object that is.
    ///
    /// # Safety
    /// As there; `object` is the address of object `index` of `slab`.
    #[inline(always)]
    pub(super) unsafe fn free_quick_in(
        &self,
        slab: SlabPtr,
        index: usize,
        object: NonNull<u8>,
    ) -> bool {
        let state = slab.state(index);
        if state.load(Relaxed) != ALLOCATED {
            return false;
        }
        let Some(local) = Local::enter_quick(self.platform()) else {
            return false;
        };
        let Some(table) = self.table(local.cpu()) else {
            return false;
        };
        let Some(slot) = table.slot(slab.id.load(Relaxed)) else {
            return false;
        };
        if u16::from(slab.node) != table.node.load(Relaxed) {
            return false;
        }
        // The caller's address by way of the direct map: the equal `slab.object(index)` would make
        // the next allocation wait for that arithmetic, and the caller's own pointer may have been
        // narrowed to his type since he got it.
        let map = self.pages().direct_map();
        let Some(object) = NonNull::new(map.ptr(map.phys(object.addr().get()))) else {
            return false;
        };
        let entry = Entry {
            object,
            state: NonNull::from(state),
        };
        // SAFETY: [INV-PCPU-1] the section is held.
        if !unsafe { slot.push(entry) } {
            return false;
        }
        state.store(CACHED, Relaxed);
        local.leave();
        true
    }

    /// An object in a sheaf is in another state than cached: two frees of it raced. It is left out.
    #[cold]
    pub(super) fn spoiled(&self, object: NonNull<u8>) -> Option<NonNull<u8>> {
        let addr = object.addr().get();
        let owner = Owner::Free {
            pfn: self.pages().pfn_of(addr),
        };
        let caller = Caller::here();
        self.pages().complain(&Report {
            misuse: Misuse::DoubleFree,
            addr,
            owner,
            caller,
        });
        None
    }

    /// The cache of a target.
    pub(super) fn target<'l>(
        &'l self,
        local: &'l Local<'_, P>,
        target: Target,
    ) -> Option<&'l Cache> {
        match target {
            Target::Kmalloc(id) => self.cache_at(local, id),
            Target::Cache(cache) => self.cache_of(local, cache),
        }
    }

    /// Takes one object, filling the sheaf, making a slab, or taking back what others hold.
    #[cold]
    #[inline(never)]
    pub(super) fn alloc_slow(
        &self,
        target: Target,
        gfp: Gfp,
        node: Option<NodeId>,
    ) -> Result<NonNull<u8>, AllocError> {
        self.take_deferred();
        let strict = gfp.contains(Gfp::THISNODE);
        // No slab lies on a node without memory: then it is no preference.
        let node = node.filter(|n| strict || self.pages().nodes().any(|has| has == *n));
        let mut fresh: Option<SlabPtr> = None;
        let mut sheaf_tried = false;
        let mut reach: Option<Reach> = None;
        loop {
            let local = match Local::enter(self.platform()) {
                Ok(local) => local,
                Err(nested) => {
                    fresh.map(|slab| self.free_slab(slab));
                    return Err(nested.into());
                }
            };
            if self.is_stale(&local) {
                self.choose_node(local);
                continue;
            }
            let Some(cache) = self.target(&local, target) else {
                drop(local);
                fresh.map(|slab| self.free_slab(slab));
                return Err(AllocError::BadPointer);
            };
            let table = self.table(local.cpu());
            let here = self.near(&local);
            let wanted = node.map_or(here, |n| n.0.into());
            let mut slot = table.and_then(|t| t.slot(cache.sheaf_id));
            let bare = slot.is_none_or(|s| s.capacity() == 0);
            if bare && !sheaf_tried && cache.sheaf_id != NO_ID {
                sheaf_tried = true;
                let (id, capacity) = (cache.sheaf_id, cache.sheaf_capacity);
                let no_table = table.is_none();
                drop(local);
                if no_table {
                    self.make_table(gfp);
                }
                self.make_sheaf(id, capacity, gfp);
                continue;
            }
            if bare || wanted != here {
                slot = None;
            }
            // A sheaf holds objects of its CPU's node only.
            let serve = |at: usize, fresh: Option<SlabPtr>| {
                let mut home = cache.homes[at].lock(&local);
                if let Some(slab) = fresh {
                    self.join(&mut home, slab, at);
                }
                serve(&mut home, slot.filter(|_| self.homes.is_on(at, wanted)))
            };
            let from = fresh.as_ref().map_or(wanted, |slab| slab.node.into());
            let own = self.homes.home(from, local.cpu());
            let mut found = own.and_then(|at| serve(at, fresh.take()));
            if let (None, Some(reach)) = (found, reach) {
                // S78: what this CPU's slabs on other nodes, then all CPUs' slabs have.
                let within = self.homes.within(reach, wanted, local.cpu());
                let mut may = within.filter(|at| !strict || self.homes.is_on(*at, wanted));
                found = may.find_map(|at| serve(at, None));
            }
            if let Some(object) = found {
                return Ok(object);
            }
            let plan = Plan::of(cache);
            drop(local);
            let reach = reach.get_or_insert_with(|| self.first_reach(wanted, strict));
            fresh = self.next_slab(&plan, gfp, node, reach)?;
        }
    }

    /// Frees an object, once its state says that it is allocated.
    ///
    /// # Safety
    /// The object is not used any more.
    #[inline]
    pub(super) unsafe fn free_object(&self, slab: SlabPtr, index: usize) -> Result<(), Misuse> {
        let state = slab.state(index);
        if state.load(Relaxed) != ALLOCATED {
            return Err(Misuse::DoubleFree);
        }
        let Ok(local) = Local::enter(self.platform()) else {
            return self.defer(slab, index);
        };
        if let Some(table) = self.table(local.cpu())
            && let Some(slot) = table.slot(slab.id.load(Relaxed))
            && u16::from(slab.node) == table.node.load(Relaxed)
        {
            let entry = entry(slab, index);
            // SAFETY: [INV-PCPU-1] the section is held.
            if unsafe { slot.push(entry) } {
                state.store(CACHED, Relaxed);
                return Ok(());
            }
        }
        self.free_slow(local, slab, index)
    }

    /// Frees an object that finds no room in this CPU's sheaf.
    #[cold]
    #[inline(never)]
    fn free_slow(&self, local: Local<'_, P>, slab: SlabPtr, index: usize) -> Result<(), Misuse> {
        if slab.has(super::desc::ON_SLAB) {
            return Err(Misuse::WildFree);
        }
        // SAFETY: [INV-SLAB-2] a cache outlives its slabs, and the object keeps the slab.
        let cache = unsafe { slab.cache.as_ref() };
        if cache.dead.load(Relaxed) {
            return Err(Misuse::LiveObject);
        }
        let mut released = Released::new();
        let table = self.table(local.cpu());
        let near = table.is_none_or(|t| t.node.load(Relaxed) == u16::from(slab.node));
        let slot = table.and_then(|t| t.slot(slab.id.load(Relaxed)));
        let mut result = Ok(());
        let (mut make_sheaf, no_table) = (false, table.is_none());
        match slot {
            Some(slot) if near && slot.capacity() > 0 => {
                self.flush(
                    &local,
                    cache,
                    slot,
                    slot.len() - slot.len() / 2,
                    &mut released,
                );
                // SAFETY: [INV-PCPU-1] the section is held.
                let pushed = unsafe { slot.push(entry(slab, index)) };
                debug_assert!(pushed);
                slab.state(index).store(CACHED, Relaxed);
            }
            _ => {
                make_sheaf = near && cache.sheaf_id != NO_ID;
                let mut home = cache.home_of(slab).lock(&local);
                let put = home.put(slab, index, ALLOCATED, &mut released);
                drop(home);
                if !put {
                    result = Err(Misuse::DoubleFree);
                }
            }
        }
        let (id, capacity) = (cache.sheaf_id, cache.sheaf_capacity);
        drop(local);
        self.free_released(released);
        if make_sheaf {
            // For the next time (S77).
            if no_table {
                self.make_table(GFP_NOWAIT);
            }
            self.make_sheaf(id, capacity, GFP_NOWAIT);
        }
        result
    }

    /// A free from inside the allocator (an interrupt, a signal handler): marks the object, and
    /// puts its slab on the stack of slabs that have such objects.
    #[cold]
    pub(super) fn defer(&self, slab: SlabPtr, index: usize) -> Result<(), Misuse> {
        if slab.has(super::desc::ON_SLAB) {
            return Err(Misuse::WildFree);
        }
        // SAFETY: [INV-SLAB-2] a cache outlives its slabs, and the object keeps the slab.
        if unsafe { slab.cache.as_ref() }.dead.load(Relaxed) {
            return Err(Misuse::LiveObject);
        }
        let state = slab.state(index);
        // SAFETY: [INV-SLAB-1] the object keeps its slab until it is marked.
        let marked = unsafe { self.deferred.defer(slab.0, state, (ALLOCATED, DEFERRED)) };
        if marked {
            Ok(())
        } else {
            Err(Misuse::DoubleFree)
        }
    }

    /// Puts back what was freed inside the allocator. Outside of sections.
    #[inline]
    pub(super) fn take_deferred(&self) {
        if !self.deferred.is_empty() {
            self.take_deferred_slow();
        }
    }

    #[cold]
    fn take_deferred_slow(&self) {
        let Ok(local) = Local::enter(self.platform()) else {
            return;
        };
        let mut released = Released::new();
        self.deferred.take(|at| {
            // SAFETY: [INV-SLAB-1] a slab on the stack is pinned.
            let slab = unsafe { SlabPtr::new(at) };
            // SAFETY: [INV-SLAB-2] the slab is pinned.
            let cache = unsafe { slab.cache.as_ref() };
            let mut home = cache.home_of(slab).lock(&local);
            for index in 0..slab.objects as usize {
                // Acquire: pairs with the mark in `defer`.
                if slab.state(index).load(Ordering::Acquire) == DEFERRED {
                    let put = home.put(slab, index, DEFERRED, &mut released);
                    debug_assert!(put);
                }
            }
            home
        });
        drop(local);
        self.free_released(released);
    }
}

/// Takes one object of a home for the user; with a sheaf, fills that to half first.
pub(super) fn serve(home: &mut HomeSlabs, slot: Option<&Slot>) -> Option<NonNull<u8>> {
    let mut found = None;
    let Some(slot) = slot else {
        home.take(1, ALLOCATED, |slab, index| found = Some(slab.object(index)));
        return found;
    };
    // SAFETY: [INV-PCPU-1] the caller holds the section that `slot` belongs to, here and below.
    while let Some(entry) = unsafe { slot.pop() } {
        // Somebody filled the sheaf meanwhile: an interrupt, or this task on another CPU.
        // SAFETY: [INV-SLAB-1] an object in a sheaf keeps its slab.
        let state = unsafe { entry.state.as_ref() };
        if state.load(Relaxed) == CACHED {
            state.store(ALLOCATED, Relaxed);
            return Some(entry.object);
        }
    }
    let want = (slot.capacity() / 2).max(1);
    // SAFETY: as above; the sheaf is empty, so half of it has room.
    let taken = unsafe {
        slot.fill(want, |place| {
            home.take(want, CACHED, |slab, index| place(entry(slab, index)))
        })
    };
    if taken == 0 {
        return None;
    }
    // SAFETY: as above. The lowest address is taken first.
    unsafe {
        let entry = slot.pop()?;
        entry.state.as_ref().store(ALLOCATED, Relaxed);
        Some(entry.object)
    }
}
