//! A full check of all caches, for tests and for who suspects memory corruption.

use super::Slabs;
use super::cache::Cache;
use super::desc::{ALLOCATED, CACHED, DEFERRED, FREE, NO_ID, SlabPtr};
use super::lists::{HomeSlabs, Sums};
use crate::frame::{CpuId, FrameKind, FrameWord};
use crate::page::{VerifyError, same};
use crate::platform::Platform;
use crate::sync::Local;
use crate::sync::atomic::Ordering::Relaxed;

impl<P: Platform> Slabs<P> {
    /// Checks every invariant of the caches: lists against descriptors, state bytes against free
    /// bits and sheaves, frame words, counters. Slow; nothing else may run on this machine
    /// meanwhile.
    ///
    /// # Errors
    /// The first rule that does not hold.
    pub fn verify(&self) -> Result<(), VerifyError> {
        let local = Local::enter(self.platform()).map_err(|_| VerifyError {
            rule: "verify runs outside of the allocator",
            at: 0,
            found: 1,
            expected: 0,
        })?;
        let mut pages = [0; 2];
        let mut descriptors = 0;
        for id in 0..self.caches.len() as u16 {
            let Some(cache) = self.cache_at(&local, id) else {
                continue;
            };
            same(
                "a cache knows its number",
                id.into(),
                cache.id.into(),
                id.into(),
            )?;
            pages[usize::from(cache.is_reclaimable())] += self.verify_cache(&local, cache)?;
            descriptors += cache.sums(&local).slabs;
        }
        let mut internal_objects = 0;
        for (i, cache) in self.internal.iter().enumerate() {
            pages[0] += self.verify_cache(&local, cache)?;
            if i < super::DESC_SIZES.len() {
                internal_objects += cache.sums(&local).in_use;
            }
        }
        drop(local);
        // Leaked slabs of destroyed caches have descriptors and pages too, hence "at least".
        let at_least = |rule, found: usize, least: usize| same(rule, 0, found.max(least), found);
        at_least("a descriptor for each slab", internal_objects, descriptors)?;
        at_least("unreclaimable slab pages", self.slab_pages().0, pages[0])?;
        at_least("reclaimable slab pages", self.slab_pages().1, pages[1])?;
        self.verify_sheaves()
    }

    /// Checks one cache. Returns its pages.
    fn verify_cache(&self, local: &Local<'_, P>, cache: &Cache) -> Result<usize, VerifyError> {
        let id = cache.id as usize;
        let (mut all, mut cached) = (Sums::default(), 0);
        same("homes of a cache", id, cache.homes.len(), self.homes.len())?;
        for (at, home) in cache.homes.iter().enumerate() {
            let slabs = home.lock(local);
            let mut sums = Sums::default();
            for slab in slabs.iter() {
                sums += Sums {
                    slabs: 1,
                    pages: slab.order().pages(),
                    objects: slab.objects as usize,
                    in_use: slab.in_use(),
                };
                let base = slab.base.addr().get();
                same("home of a slab", base, slab.home(), at)?;
                let near = self.homes.is_on(at, slab.node.into());
                same("a home has slabs of one node", base, near.into(), 1)?;
                cached += self.verify_slab(cache, slab)?;
            }
            self.verify_lists(&slabs)?;
            let kept = slabs.sums;
            same("slabs on the lists of a cache", id, sums.slabs, kept.slabs)?;
            same("pages of a cache", id, sums.pages, kept.pages)?;
            same("objects of a cache", id, sums.objects, kept.objects)?;
            same("objects in use of a cache", id, sums.in_use, kept.in_use)?;
            all += sums;
        }
        let in_sheaves = self.cached_objects(cache.sheaf_id);
        same("objects in sheaves", id, in_sheaves, cached)?;
        Ok(all.pages)
    }

    fn verify_lists(&self, slabs: &HomeSlabs) -> Result<(), VerifyError> {
        for (list, rule) in [
            (&slabs.partial, "a partial slab is on the partial list"),
            (&slabs.full, "a full slab is on the full list"),
            (&slabs.empty, "an empty slab is on the empty list"),
        ] {
            let mut n = 0;
            for slab in list.iter() {
                n += 1;
                let in_use = slab.in_use();
                let kind = match in_use {
                    0 => &raw const slabs.empty,
                    _ if in_use == slab.objects as usize => &raw const slabs.full,
                    _ => &raw const slabs.partial,
                };
                let base = slab.base.addr().get();
                same(rule, base, in_use * usize::from(kind != list), 0)?;
            }
            same("length of a list", 0, n, list.len)?;
        }
        Ok(())
    }

    /// Checks one slab. Returns how many of its objects are in sheaves.
    fn verify_slab(&self, cache: &Cache, slab: SlabPtr) -> Result<usize, VerifyError> {
        let base = slab.base.addr().get();
        let owner = slab.cache.addr().get();
        same(
            "a slab names its cache",
            base,
            owner,
            core::ptr::from_ref(cache).addr(),
        )?;
        same(
            "stride of a slab",
            base,
            slab.stride as usize,
            cache.shape.stride,
        )?;
        let desc = self.pages().direct_map().phys(slab.as_ptr().addr());
        let word = FrameWord::new(FrameKind::Slab, slab.order(), desc.0);
        let first = self.pages().pfn_of(base);
        same(
            "a slab is aligned",
            base,
            usize::from(!first.is_aligned(slab.order())),
            0,
        )?;
        for i in 0..slab.order().pages() {
            let right = self.pages().frames().get(first.add(i)) == word;
            same("frame word of a slab", first.0 + i, usize::from(right), 1)?;
            same(
                "a slab's node",
                first.0 + i,
                self.pages().node_of(first.add(i)).0.into(),
                slab.node.into(),
            )?;
        }
        let mut states = [0usize; 4];
        for index in 0..slab.objects as usize {
            let state = slab.state(index).load(Relaxed);
            let addr = slab.object(index).addr().get();
            same("a state that exists", addr, (state > DEFERRED).into(), 0)?;
            same(
                "free bit and state",
                addr,
                slab.is_free(index).into(),
                (state == FREE).into(),
            )?;
            same(
                "number by reciprocal",
                addr,
                slab.locate(addr).unwrap_or(usize::MAX),
                index,
            )?;
            same(
                "no number inside of an object",
                addr,
                slab.locate(addr + 1).is_some().into(),
                0,
            )?;
            states[state as usize] += 1;
        }
        let out = states[ALLOCATED as usize] + states[CACHED as usize] + states[DEFERRED as usize];
        same("objects in use of a slab", base, out, slab.in_use())?;
        Ok(states[CACHED as usize])
    }

    /// Every object in a sheaf is one of the sheaf's cache, and cached.
    fn verify_sheaves(&self) -> Result<(), VerifyError> {
        for cpu in (0..self.cpus.len() as u32).map(CpuId) {
            let mut local = Local::enter(self.platform()).ok();
            if local.as_ref().is_none_or(|l| l.cpu() != cpu) {
                drop(local);
                local = Local::enter_remote(self.platform(), cpu);
            }
            let (Some(local), Some(table)) = (local, self.table(cpu)) else {
                continue;
            };
            for id in 0..super::SLOTS as u16 {
                let Some(slot) = table.slot(id) else { continue };
                same(
                    "a sheaf is no fuller than full",
                    id.into(),
                    slot.len().max(slot.capacity()),
                    slot.capacity(),
                )?;
                // SAFETY: [INV-PCPU-1] the section is held.
                for entry in unsafe { slot.entries() } {
                    let entry = entry.get();
                    let addr = entry.object.addr().get();
                    let Some((slab, index)) = self.object_at(addr) else {
                        return same("an entry of a sheaf is an object", addr, 0, 1);
                    };
                    let right = core::ptr::from_ref(slab.state(index)) == entry.state.as_ptr();
                    same("an entry knows its state", addr, right.into(), 1)?;
                    same(
                        "an entry's state",
                        addr,
                        slab.state(index).load(Relaxed).into(),
                        CACHED.into(),
                    )?;
                    let of = slab.id.load(Relaxed);
                    same(
                        "an entry's cache",
                        addr,
                        of.into(),
                        if id == NO_ID { 0 } else { id.into() },
                    )?;
                }
            }
            drop(local);
        }
        Ok(())
    }
}
