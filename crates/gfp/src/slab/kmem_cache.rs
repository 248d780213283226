//! Caches of one's own: create, alloc, free, bulk, shrink, destroy (S45-S70).

use super::cache::{Cache, CacheArgs, CacheError, CacheFlags, CacheRef};
use super::desc::{ALLOCATED, NO_ID, SlabPtr};
use super::flow::Target;
use super::kmalloc::SPECIAL;
use super::lists::Released;
use super::{KMALLOC_IDS, MAX_CACHES, SLOTS, Slabs};
use crate::error::AllocError;
use crate::flags::{Entry, GFP_KERNEL, Gfp};
use crate::frame::NodeId;
use crate::platform::Platform;
use crate::report::Misuse;
use crate::sync::Local;
use crate::sync::atomic::Ordering;
use core::ptr::NonNull;

use Ordering::Relaxed;

impl<P: Platform> Slabs<P> {
    /// Makes a cache (S45-S49).
    ///
    /// Context: task.
    ///
    /// # Errors
    /// [`CacheError`]: what is wrong with `args`, or no memory.
    ///
    /// # Panics
    /// On any error, with [`CacheFlags::PANIC`].
    pub fn cache_create(&self, args: &CacheArgs<'_>) -> Result<CacheRef, CacheError> {
        let made = self.create(args, None);
        if let Err(error) = made
            && args.flags.contains(CacheFlags::PANIC)
        {
            panic!("cache {}: {error}", args.name);
        }
        made
    }

    pub(super) fn create(
        &self,
        args: &CacheArgs<'_>,
        id: Option<u16>,
    ) -> Result<CacheRef, CacheError> {
        let cache = Cache::new(args, &self.order_params)?;
        let at = self.take_cache(GFP_KERNEL).map_err(CacheError::NoMemory)?;
        // SAFETY: the memory is ours, and has room for a cache and its homes.
        let made = unsafe { self.register(cache, at, id) };
        if made.is_err() {
            self.give_cache(at);
        }
        made
    }

    /// Finds a number for a new cache, if no other has its name, and writes it to `at`, where all
    /// can find it from then on: under one lock, so that of two with the same name one is refused.
    ///
    /// # Safety
    /// As [`Cache::place_whole`]; if it succeeds, the memory belongs to the registry.
    unsafe fn register(
        &self,
        mut cache: Cache,
        at: NonNull<u8>,
        id: Option<u16>,
    ) -> Result<CacheRef, CacheError> {
        let nested = |_| CacheError::NoMemory(AllocError::Nested);
        let local = Local::enter(self.platform()).map_err(nested)?;
        let mut registry = self.registry.lock(&local);
        let busy = |id: u16| registry.closing[id as usize / 64] >> (id % 64) & 1 != 0;
        let mut free = id;
        for other in 0..MAX_CACHES as u16 {
            match self.cache_at(&local, other) {
                Some(other) if other.name == cache.name => return Err(CacheError::DuplicateName),
                Some(_) => (),
                None if other as usize >= KMALLOC_IDS && !busy(other) => {
                    free = free.or(Some(other));
                }
                None => (),
            }
        }
        if self.internal.iter().any(|other| other.name == cache.name) {
            return Err(CacheError::DuplicateName);
        }
        let id = free.ok_or(CacheError::TooManyCaches {
            max: MAX_CACHES - KMALLOC_IDS,
        })?;
        cache.id = id;
        cache.generation = registry.next_generation;
        let sheaves = (id as usize) < SLOTS && !cache.flags.contains(CacheFlags::NO_SHEAVES);
        cache.sheaf_id = if sheaves { id } else { NO_ID };
        registry.next_generation = registry.next_generation.wrapping_add(1);
        let handle = cache.handle();
        // SAFETY: [INV-SLAB-3] promised by the caller.
        let placed = unsafe { cache.place_whole(at, self.homes) };
        // Release: pairs with the Acquire in `cache_at`; the cache is written before it is found.
        self.caches[id as usize].store(placed.as_ptr(), Ordering::Release);
        Ok(handle)
    }

    /// A number is not reserved any more: its cache is gone, or it is there again.
    fn settle(&self, id: u16) {
        if let Ok(local) = Local::enter(self.platform()) {
            self.registry.lock(&local).closing[id as usize / 64] &= !(1 << (id % 64));
        }
    }

    /// Allocates an object (S60). With `ZERO` it reads as zero. `node` as for [`Slabs::kmalloc`].
    ///
    /// # Errors
    /// [`AllocError::BadPointer`] if the cache was destroyed; [`AllocError::BadFlags`]
    /// also for `ZERO` with a constructor (S17, S53); else as [`Slabs::kmalloc`].
    #[inline]
    pub fn cache_alloc(
        &self,
        cache: CacheRef,
        gfp: Gfp,
        node: Option<NodeId>,
    ) -> Result<NonNull<u8>, AllocError> {
        if node.is_none()
            && !gfp.intersects(SPECIAL.with(Gfp::ZERO))
            && let Some(object) = self.cache_alloc_quick(cache)
        {
            return Ok(object);
        }
        self.cache_alloc_slow(cache, gfp, node)
    }

    /// An object of this CPU's sheaf, without any call.
    #[inline(always)]
    fn cache_alloc_quick(&self, cache: CacheRef) -> Option<NonNull<u8>> {
        let local = Local::enter_quick(self.platform())?;
        self.cache_of(&local, cache)?;
        self.pop_quick_in(local, cache.id)
    }

    #[cold]
    #[inline(never)]
    fn cache_alloc_slow(
        &self,
        cache: CacheRef,
        gfp: Gfp,
        node: Option<NodeId>,
    ) -> Result<NonNull<u8>, AllocError> {
        let (ctor, size) = {
            let local = Local::enter(self.platform())?;
            let found = self.cache_of(&local, cache).ok_or(AllocError::BadPointer)?;
            (found.ctor.is_some(), found.object_size)
        };
        gfp.check_for(if ctor { Entry::SlabCtor } else { Entry::Slab })?;
        let object = self.alloc_slow(Target::Cache(cache), gfp, node)?;
        if gfp.contains(Gfp::ZERO) {
            // SAFETY: the object is ours and has `size` bytes.
            unsafe { object.write_bytes(0, size) };
        }
        Ok(object)
    }

    /// Frees an object of this cache (S43). NULL: nothing.
    ///
    /// # Errors
    /// As [`Slabs::kfree`], and [`Misuse::WrongCache`]; the object is left as it is then.
    ///
    /// # Safety
    /// As [`Slabs::kfree`].
    #[inline]
    pub unsafe fn cache_free(&self, cache: CacheRef, ptr: *mut u8) -> Result<(), Misuse> {
        let addr = ptr.addr();
        if addr == 0 {
            return Ok(());
        }
        let Some((slab, index)) = self.object_at(addr) else {
            return Err(self.cache_misuse(addr));
        };
        // SAFETY: [INV-SLAB-2] a cache outlives its slabs, and the object keeps the slab.
        if unsafe { slab.cache.as_ref() }.handle() != cache {
            return Err(self.cache_misuse(addr));
        }
        if let Some(object) = NonNull::new(ptr)
            // SAFETY: promised by the caller; `object_at` found it at this address.
            && unsafe { self.free_quick_in(slab, index, object) }
        {
            return Ok(());
        }
        // SAFETY: promised by the caller.
        unsafe { self.free_object(slab, index) }.map_err(|misuse| match misuse {
            Misuse::DoubleFree => self.misuse_of(addr),
            other => other,
        })
    }

    /// Why an address is no object of a cache.
    #[cold]
    fn cache_misuse(&self, addr: usize) -> Misuse {
        match self.object_at(addr) {
            Some((slab, i)) if slab.state(i).load(Relaxed) == ALLOCATED => Misuse::WrongCache,
            _ => match self.misuse_of(addr) {
                Misuse::InteriorFree if self.slab_of(addr).is_none() => Misuse::WrongCall,
                other => other,
            },
        }
    }

    /// Fills all places of `out` with objects, or none (S61).
    ///
    /// # Errors
    /// As [`Slabs::cache_alloc`]; what was taken is given back then, and `out` is as before.
    pub fn alloc_bulk(
        &self,
        cache: CacheRef,
        gfp: Gfp,
        out: &mut [*mut u8],
    ) -> Result<(), AllocError> {
        for i in 0..out.len() {
            match self.cache_alloc(cache, gfp, None) {
                Ok(object) => out[i] = object.as_ptr(),
                Err(error) => {
                    for ptr in &mut out[..i] {
                        // SAFETY: just allocated, and known to nobody else.
                        let freed = unsafe { self.cache_free(cache, *ptr) };
                        debug_assert!(freed.is_ok());
                        *ptr = core::ptr::null_mut();
                    }
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Frees many objects of one cache (S62).
    ///
    /// # Errors
    /// The first misuse found, with its place; all others are freed all the same.
    ///
    /// # Safety
    /// As [`Slabs::cache_free`], for each of them.
    pub unsafe fn free_bulk(
        &self,
        cache: CacheRef,
        ptrs: &[*mut u8],
    ) -> Result<(), (usize, Misuse)> {
        let mut result = Ok(());
        for (i, ptr) in ptrs.iter().enumerate() {
            // SAFETY: promised by the caller.
            if let Err(misuse) = unsafe { self.cache_free(cache, *ptr) } {
                result = result.and(Err((i, misuse)));
            }
        }
        result
    }

    /// S65: the size that the cache was made with; `None` if it was destroyed.
    pub fn cache_size(&self, cache: CacheRef) -> Option<usize> {
        let local = Local::enter(self.platform()).ok()?;
        Some(self.cache_of(&local, cache)?.object_size)
    }

    /// S49: the alignment of its objects; `None` if it was destroyed.
    pub fn cache_align(&self, cache: CacheRef) -> Option<usize> {
        let local = Local::enter(self.platform()).ok()?;
        Some(self.cache_of(&local, cache)?.align)
    }

    /// S48: the part of an object that may be copied to user space, offset and length.
    pub fn cache_usercopy(&self, cache: CacheRef) -> Option<(usize, usize)> {
        let local = Local::enter(self.platform()).ok()?;
        Some(self.cache_of(&local, cache)?.usercopy)
    }

    /// Gives back what the cache has in sheaves and empty slabs, and sorts the rest so that the
    /// fullest are used first (S66). True if no slab is left at all.
    ///
    /// Context: task; waits for other CPUs to leave the allocator.
    ///
    /// # Errors
    /// [`CacheError::Destroyed`].
    pub fn shrink(&self, cache: CacheRef) -> Result<bool, CacheError> {
        self.take_deferred();
        for cpu in 0..self.cpus.len() {
            self.drain_cpu_of(cache, crate::frame::CpuId(cpu as u32));
        }
        let mut released = Released::new();
        let nested = |_| CacheError::NoMemory(AllocError::Nested);
        let local = Local::enter(self.platform()).map_err(nested)?;
        let found = self.cache_of(&local, cache).ok_or(CacheError::Destroyed)?;
        for home in found.homes.iter() {
            let mut slabs = home.lock(&local);
            slabs.release_empty(&mut released);
            slabs.sort_partial();
        }
        let none_left = found.sums(&local).slabs == 0;
        drop(local);
        self.free_released(released);
        Ok(none_left)
    }

    /// Takes a cache down (S67). `live` is shown the address of every object that is still in use;
    /// it runs outside of the allocator.
    ///
    /// Context: task; waits for other CPUs to leave the allocator.
    ///
    /// # Errors
    /// [`CacheError::LiveObjects`]: the cache is gone, and its slabs stay for ever (S68,
    /// S70), so that a late use of an object hits nobody else's memory. [`CacheError::Destroyed`],
    /// [`CacheError::Permanent`], [`CacheError::CpuBusy`]: nothing happened.
    pub fn destroy(&self, cache: CacheRef, live: &mut dyn FnMut(usize)) -> Result<(), CacheError> {
        if (cache.id as usize) < KMALLOC_IDS {
            return Err(CacheError::Permanent);
        }
        self.take_deferred();
        let at = self.unregister(cache)?;
        // SAFETY: [INV-SLAB-2] out of the registry it is ours alone; its memory is freed below.
        let found = unsafe { at.as_ref() };
        // Once every CPU was outside, nobody who found it in the registry uses it.
        if !self.drain_cache(found) {
            self.caches[cache.id as usize].store(at.as_ptr(), Ordering::Release);
            self.settle(cache.id);
            return Err(CacheError::CpuBusy);
        }
        self.close(found);
        // Once every CPU was outside again, no free puts an object into a sheaf any more. All could
        // be reached just now: one that cannot be at this moment will be.
        let mut spins = 0;
        while !self.drain_cache(found) {
            self.platform().relax(spins);
            spins = spins.saturating_add(1);
        }
        self.take_deferred();
        let result = self.take_down(found, live);
        if result.is_ok() {
            self.give_cache(at.cast());
        }
        self.settle(cache.id);
        result
    }

    /// Takes a cache out of the registry; its number stays reserved.
    fn unregister(&self, cache: CacheRef) -> Result<NonNull<Cache>, CacheError> {
        let nested = |_| CacheError::NoMemory(AllocError::Nested);
        let local = Local::enter(self.platform()).map_err(nested)?;
        let mut registry = self.registry.lock(&local);
        self.cache_of(&local, cache).ok_or(CacheError::Destroyed)?;
        registry.closing[cache.id as usize / 64] |= 1 << (cache.id % 64);
        let at = self.caches[cache.id as usize].swap(core::ptr::null_mut(), Ordering::AcqRel);
        NonNull::new(at).ok_or(CacheError::Destroyed)
    }

    /// From now on frees of the cache's objects are refused.
    fn close(&self, cache: &Cache) {
        while {
            let done = Local::enter(self.platform()).is_ok_and(|local| {
                cache.dead.store(true, Relaxed);
                for home in cache.homes.iter() {
                    let slabs = home.lock(&local);
                    slabs.iter().for_each(|slab| slab.id.store(NO_ID, Relaxed));
                }
                true
            });
            !done
        } {
            self.platform().relax(0);
        }
    }

    /// Frees the slabs of a closed cache if none has a live object.
    fn take_down(&self, cache: &Cache, live: &mut dyn FnMut(usize)) -> Result<(), CacheError> {
        let mut spins = 0;
        loop {
            let mut released = Released::new();
            let Ok(local) = Local::enter(self.platform()) else {
                return Err(CacheError::CpuBusy);
            };
            // Nobody allocates any more: what is not in use stays so.
            let in_use = cache.sums(&local).in_use;
            if in_use == 0 {
                for home in cache.homes.iter() {
                    home.lock(&local).release_empty(&mut released);
                }
            }
            let left = cache.sums(&local).slabs;
            drop(local);
            self.free_released(released);
            if in_use != 0 {
                break;
            }
            if left == 0 {
                return Ok(());
            }
            // A nested free on another CPU is about to let go of the slab.
            self.platform().relax(spins);
            spins = spins.saturating_add(1);
        }
        Err(self.list_live(cache, live))
    }

    /// Shows the live objects of a closed cache, whose slabs stay where they are for ever.
    fn list_live(&self, cache: &Cache, live: &mut dyn FnMut(usize)) -> CacheError {
        let (mut count, mut first) = (0, 0);
        for home in cache.homes.iter() {
            let mut at: Option<SlabPtr> = None;
            while let Ok(local) = Local::enter(self.platform()) {
                let next = home.lock(&local).used_after(at);
                drop(local);
                let Some(slab) = next else { break };
                for index in 0..slab.objects as usize {
                    if slab.state(index).load(Relaxed) == ALLOCATED {
                        let addr = slab.object(index).addr().get();
                        first = if count == 0 { addr } else { first };
                        count += 1;
                        live(addr);
                    }
                }
                at = Some(slab);
            }
        }
        CacheError::LiveObjects { count, first }
    }
}
