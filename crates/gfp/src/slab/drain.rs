//! Giving back what is at hand: sheaves to slabs, empty slabs to pages.

use super::Slabs;
use super::cache::{Cache, CacheRef};
use super::desc::{CACHED, SlabPtr};
use super::lists::Released;
use super::sheaf::{CpuTable, Entry, SLOTS, Slot};
use crate::frame::CpuId;
use crate::platform::Platform;
use crate::sync::Local;
use crate::sync::atomic::Ordering::Relaxed;
use core::cell::Cell;
use core::ptr::NonNull;

/// The memory of sheaves that were taken out, linked through itself until it can be given back.
struct Spent {
    head: Option<NonNull<SpentSheaf>>,
}

struct SpentSheaf {
    next: Option<NonNull<SpentSheaf>>,
    capacity: usize,
}

const _: () = assert!(size_of::<SpentSheaf>() <= super::SHEAF_CAPACITIES[0] * size_of::<Entry>());

impl Spent {
    const fn new() -> Spent {
        Spent { head: None }
    }

    fn push(&mut self, entries: NonNull<Entry>, capacity: usize) {
        let at = entries.cast::<SpentSheaf>();
        // SAFETY: the sheaf is empty and in no slot: its memory is ours, and large enough.
        unsafe {
            at.write(SpentSheaf {
                next: self.head,
                capacity,
            })
        };
        self.head = Some(at);
    }

    fn pop(&mut self) -> Option<(NonNull<Entry>, usize)> {
        let at = self.head?;
        // SAFETY: `push` wrote it.
        let SpentSheaf { next, capacity } = unsafe { at.read() };
        self.head = next;
        Some((at.cast(), capacity))
    }
}

impl<P: Platform> Slabs<P> {
    /// Gives back all that the section's CPU has at hand, the sheaves themselves included, and
    /// leaves the section. Returns the pages that this freed.
    pub fn drain(&self, local: Local<'_, P>) -> usize {
        let (mut released, mut spent) = (Released::new(), Spent::new());
        self.drain_slots(&local, &mut released, &mut spent);
        drop(local);
        self.give_back(released, spent)
    }

    /// Empties and takes away all sheaves of the section's CPU.
    fn drain_slots(&self, local: &Local<'_, P>, released: &mut Released, spent: &mut Spent) {
        let Some(table) = self.table(local.cpu()) else {
            return;
        };
        for id in 0..SLOTS as u16 {
            if let Some(cache) = self.cache_at(local, id) {
                self.drain_slot(local, table, cache, id, released, spent);
            }
        }
    }

    /// True if nodes got their first memory since the section's CPU chose the one it is near to.
    #[inline]
    pub(super) fn is_stale(&self, local: &Local<'_, P>) -> bool {
        let nodes = |table: &CpuTable| table.nodes.load(Relaxed) as usize;
        self.table(local.cpu())
            .is_some_and(|table| nodes(table) != self.pages().node_mask())
    }

    /// Chooses the node that the section's CPU is near to once more. Sheaves hold objects of that
    /// node only, so they are given back if it is another.
    #[cold]
    pub(super) fn choose_node(&self, local: Local<'_, P>) {
        let Some(table) = self.table(local.cpu()) else {
            return;
        };
        // The mask first: what comes after it is found once more.
        let (nodes, node) = (self.pages().node_mask(), self.nearest_node());
        let (mut released, mut spent) = (Released::new(), Spent::new());
        if table.node.load(Relaxed) != node {
            self.drain_slots(&local, &mut released, &mut spent);
            table.node.store(node, Relaxed);
        }
        table.nodes.store(nodes as u16, Relaxed);
        drop(local);
        self.give_back(released, spent);
    }

    /// Puts the oldest `n` objects of a sheaf back into their slabs.
    pub(super) fn flush(
        &self,
        local: &Local<'_, P>,
        cache: &Cache,
        slot: &Slot,
        n: usize,
        released: &mut Released,
    ) {
        // SAFETY: [INV-PCPU-1] the section is held, and nothing is put or taken meanwhile.
        let entries = unsafe { &slot.entries()[..n] };
        let mut start = 0;
        while start < n {
            start += self.flush_home(local, cache, &entries[start..], released);
        }
        // SAFETY: as above.
        unsafe { slot.forget_oldest(n) };
    }

    /// Puts those of some objects back that belong to the same home as the first of them, under one
    /// lock. The entries change places: those come first then. Returns how many they are.
    fn flush_home(
        &self,
        local: &Local<'_, P>,
        cache: &Cache,
        entries: &[Cell<Entry>],
        released: &mut Released,
    ) -> usize {
        // Where two frees of an object raced, its slab may have become another cache's, or new.
        let ours =
            |slab: SlabPtr| slab.cache == NonNull::from(cache) && slab.home() < cache.homes.len();
        let found = |entry: &Cell<Entry>| {
            let addr = entry.get().object.addr().get();
            let slab = self.slab_in(self.pages().owned_word_at(addr))?;
            Some((slab, slab.locate(addr)?)).filter(|found| ours(found.0))
        };
        let Some((first, _)) = entries.first().and_then(found) else {
            // No object of ours any more.
            entries
                .first()
                .map(|entry| self.spoiled(entry.get().object));
            return 1;
        };
        let mut twice = None;
        let at = first.home();
        let mut home = cache.homes[at].lock(local);
        // Neighbours in a sheaf are often neighbours in a slab: each run is counted once.
        let mut run: Option<(SlabPtr, usize)> = None;
        let mut done = 0;
        for entry in entries {
            let addr = entry.get().object.addr().get();
            let same = run.and_then(|(slab, n)| Some((slab, slab.locate(addr)?, n)));
            let (slab, index, before) = match same {
                Some(found) => found,
                None => match found(entry) {
                    Some((slab, index)) if slab.home() == at => {
                        if let Some((slab, n)) = run.take() {
                            home.returned(slab, n, released);
                        }
                        (slab, index, 0)
                    }
                    _ => continue,
                },
            };
            // What was put must not be looked at again: without a lock, its slab may go.
            entries[done].swap(entry);
            let entry = &entries[done];
            done += 1;
            let put = slab.put(index, CACHED);
            if !put {
                twice = Some(entry);
            }
            run = Some((slab, before + usize::from(put)));
        }
        if let Some((slab, n)) = run {
            home.returned(slab, n, released);
        }
        drop(home);
        if let Some(entry) = twice {
            self.spoiled(entry.get().object);
        }
        done.max(1) // the first is dealt with, even if its slab went meanwhile
    }

    fn drain_slot(
        &self,
        local: &Local<'_, P>,
        table: &CpuTable,
        cache: &Cache,
        id: u16,
        released: &mut Released,
        spent: &mut Spent,
    ) {
        let Some(slot) = table.slot(id) else { return };
        if slot.capacity() == 0 {
            return;
        }
        self.flush(local, cache, slot, slot.len(), released);
        // SAFETY: [INV-PCPU-1] the section is held.
        if let Some((entries, capacity)) = unsafe { slot.uninstall() } {
            spent.push(entries, capacity);
        }
    }

    fn give_back(&self, released: Released, mut spent: Spent) -> usize {
        while let Some((entries, capacity)) = spent.pop() {
            self.free_sheaf(entries, capacity);
        }
        self.free_released(released)
    }

    /// Calls `f` in the section of each CPU in turn, ours and others'; with `None` for one that
    /// cannot be entered. When it returns, every CPU has been outside of the allocator once.
    fn on_each_cpu(&self, f: &mut dyn FnMut(CpuId, Option<&Local<'_, P>>)) {
        for cpu in (0..self.cpus.len() as u32).map(CpuId) {
            let here = Local::enter(self.platform());
            if let Ok(local) = &here
                && local.cpu() == cpu
            {
                f(cpu, Some(local));
                continue;
            }
            drop(here);
            let there = Local::enter_remote(self.platform(), cpu);
            f(cpu, there.as_ref());
        }
    }

    /// Empties and takes away every CPU's sheaf of one cache. False if a CPU that is in use could
    /// not be reached, so that nobody knows what it has or is doing; the others are done then.
    ///
    /// Context: outside of sections; waits for other CPUs to leave theirs.
    pub(super) fn drain_cache(&self, cache: &Cache) -> bool {
        let (mut released, mut spent) = (Released::new(), Spent::new());
        let mut all = true;
        self.on_each_cpu(&mut |cpu, local| {
            let Some(table) = self.table(cpu) else { return };
            match local {
                Some(local) => {
                    let id = cache.sheaf_id;
                    self.drain_slot(local, table, cache, id, &mut released, &mut spent);
                }
                None => all = false,
            }
        });
        self.give_back(released, spent);
        all
    }

    /// Gives back what a CPU has at hand: it goes off line, or its thread ends. Returns the pages
    /// that this freed; 0 also if that CPU cannot be reached.
    ///
    /// Context: outside of sections; waits for that CPU to leave its own.
    pub fn drain_cpu(&self, cpu: CpuId) -> usize {
        if self.table(cpu).is_none() {
            return 0;
        }
        if let Ok(local) = Local::enter(self.platform())
            && local.cpu() == cpu
        {
            return self.drain(local);
        }
        Local::enter_remote(self.platform(), cpu).map_or(0, |local| self.drain(local))
    }

    /// Gives back what a CPU has at hand of one cache.
    pub(super) fn drain_cpu_of(&self, cache: CacheRef, cpu: CpuId) {
        let has = self
            .table(cpu)
            .and_then(|t| t.slot(cache.id))
            .is_some_and(|s| s.capacity() > 0);
        if !has {
            return;
        }
        let (mut released, mut spent) = (Released::new(), Spent::new());
        let mut local = Local::enter(self.platform()).ok();
        if local.as_ref().is_none_or(|l| l.cpu() != cpu) {
            drop(local);
            local = Local::enter_remote(self.platform(), cpu);
        }
        if let Some(local) = &local
            && let Some(found) = self.cache_of(local, cache)
            && let Some(table) = self.table(cpu)
        {
            self.drain_slot(local, table, found, cache.id, &mut released, &mut spent);
        }
        drop(local);
        self.give_back(released, spent);
    }

    /// [`Slabs::drain_cpu`] for all CPUs.
    pub fn drain_all(&self) -> usize {
        (0..self.cpus.len() as u32)
            .map(|cpu| self.drain_cpu(CpuId(cpu)))
            .sum()
    }

    /// Gives everything back that nobody uses: sheaves, empty slabs, descriptors. Returns the
    /// pages.
    ///
    /// Context: as [`Slabs::drain_cpu`].
    pub fn shrink_all(&self) -> usize {
        self.take_deferred();
        let mut pages = self.drain_all();
        for id in 0..self.caches.len() as u16 {
            pages += self.release_empty(|slabs, local| slabs.cache_at(local, id));
        }
        for index in 0..self.internal.len() {
            pages += self.release_empty(|slabs, _| Some(&slabs.internal[index]));
        }
        pages
    }

    /// Gives the empty slabs of one cache back. Returns their pages.
    fn release_empty<F>(&self, find: F) -> usize
    where
        F: for<'l> Fn(&'l Self, &'l Local<'_, P>) -> Option<&'l Cache>,
    {
        let mut released = Released::new();
        if let Ok(local) = Local::enter(self.platform())
            && let Some(cache) = find(self, &local)
        {
            for home in cache.homes.iter() {
                home.lock(&local).release_empty(&mut released);
            }
        }
        self.free_released(released)
    }
}
