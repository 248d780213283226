//! When the first pass finds nothing: more rights, and what other CPUs keep.
//!
//! What reclaim, compaction and the OOM killer add comes with the effort table; until then a
//! request has the passes P109-P115 and P132 name, and a `NOFAIL` request waits for others to free
//! memory.

use super::cache::List;
use super::zone::Zone;
use super::{PageAllocator, PageRequest};
use crate::error::AllocError;
use crate::flags::Gfp;
use crate::frame::{CpuId, Order, Pfn};
use crate::platform::Platform;
use crate::policy::watermark::{AllocFlags, TaskRights};
use crate::sync::Local;
use crate::sync::atomic::Ordering::Relaxed;

impl<P: Platform> PageAllocator<P> {
    /// The slow path of [`PageAllocator::alloc`].
    #[cold]
    #[inline(never)]
    pub(super) fn alloc_slow(&self, req: &PageRequest) -> Result<Pfn, AllocError> {
        loop {
            let seen = self.changes.now();
            let result = self.try_hard(req);
            if !matches!(
                result,
                Err(AllocError::NoMemory { .. } | AllocError::NoSuchNode)
            ) {
                return result;
            }
            // P111: perhaps a zone was missed because the lists were just being written.
            let wait = |spins| self.platform.relax(spins);
            if !req.gfp.allows_spinning() || !self.changes.since(seen, wait) {
                self.failures[req.order.index()].fetch_add(1, Relaxed);
                return result;
            }
        }
    }

    /// Everything that a request may try, once.
    fn try_hard(&self, req: &PageRequest) -> Result<Pfn, AllocError> {
        if self.candidates(req).next().is_none() {
            // No zone of the machine may serve it: not even NOFAIL can wait for that.
            return Err(AllocError::NoSuchNode);
        }
        let flags = self.slow_rights(req);
        if let Some(pfn) = self.pass(req, flags)? {
            return Ok(pfn);
        }
        // Others may keep what we need: take it back (P118, P821). Not from where we may not wait.
        if self.may_wait_for_others(req) {
            self.drain_all();
            if let Some(pfn) = self.pass(req, flags)? {
                return Ok(pfn);
            }
        }
        if req.gfp.allows_spinning()
            && self.wait_for_reporting()
            && let Some(pfn) = self.pass(req, flags)?
        {
            return Ok(pfn);
        }
        let mut spins = 0;
        while req.gfp.contains(Gfp::NOFAIL) && req.gfp.allows_blocking() {
            // P132: with the rights of a reserve, for ever.
            if let Some(pfn) = self.pass(req, flags.with(AllocFlags::MIN_RESERVE))? {
                return Ok(pfn);
            }
            self.platform.relax(spins);
            spins = spins.saturating_add(1);
            self.drain_all();
        }
        Err(AllocError::NoMemory {
            order: req.order,
            gfp: req.gfp,
        })
    }

    /// The rights of the slow path: those of the request, and those of who asks (P262-P265).
    fn slow_rights(&self, req: &PageRequest) -> AllocFlags {
        let task = TaskRights {
            context: self.platform.context(),
            ..TaskRights::default()
        };
        let flags = AllocFlags::slow(req.gfp, req.order.get().into(), &task);
        match AllocFlags::reserves(req.gfp, &task) {
            Some(reserves) => flags.with(reserves),
            None => flags,
        }
    }

    /// Waits until no block is on its way to the platform: each is memory that only seems to be in
    /// use. False if there was none. Who hides a block waits for nobody, so this ends.
    fn wait_for_reporting(&self) -> bool {
        let mut spins = 0;
        while self.zones.iter().any(|zone| zone.hidden() != 0) {
            self.platform.relax(spins);
            spins = spins.saturating_add(1);
        }
        spins != 0
    }

    fn pass(&self, req: &PageRequest, flags: AllocFlags) -> Result<Option<Pfn>, AllocError> {
        let local = Local::enter(&self.platform)?;
        Ok(self.alloc_local(&local, req, flags))
    }

    /// Draining all caches costs the others theirs: a request that is only a first try, with
    /// another way to go on, does without.
    fn may_wait_for_others(&self, req: &PageRequest) -> bool {
        let gfp = req.gfp;
        let in_earnest = gfp.allows_blocking() && !gfp.contains(Gfp::NORETRY);
        self.platform.context().is_task()
            && gfp.allows_spinning()
            && (in_earnest || req.order == Order::ZERO)
    }

    /// Gives back what all CPUs have cached. Returns the pages that came back.
    ///
    /// Context: task, outside of any section; waits for other CPUs to leave theirs.
    pub fn drain_all(&self) -> usize {
        let mut pages = 0;
        if let Ok(local) = Local::enter(&self.platform) {
            self.take_deferred(&local);
        }
        for cpu in 0..self.cpus.len() {
            let cpu = CpuId(cpu as u32);
            if self.cached_pages(cpu) == 0 {
                continue;
            }
            pages += match Local::enter(&self.platform) {
                Ok(local) if local.cpu() == cpu => self.drain(&local),
                Ok(_) | Err(_) => 0,
            };
            if self.cached_pages(cpu) != 0
                && let Some(local) = Local::enter_remote(&self.platform, cpu)
            {
                pages += self.drain(&local);
            }
        }
        pages
    }

    /// Pages that a CPU has cached.
    pub fn cached_pages(&self, cpu: CpuId) -> usize {
        let caches = self.caches_of(cpu).unwrap_or(&[]);
        caches.iter().map(|c| c.count()).sum()
    }

    /// Gives back what the section's CPU has cached. Returns the pages that came back.
    pub fn drain(&self, local: &Local<'_, P>) -> usize {
        self.take_deferred(local);
        let caches = self.caches_of(local.cpu()).unwrap_or(&[]);
        let mut pages = 0;
        for (zone, cache) in self.zones.iter().zip(caches) {
            pages += cache.count();
            for list in List::all().filter(|list| cache.blocks(*list) != 0) {
                self.flush(local, zone, cache, list, usize::MAX);
            }
        }
        pages
    }

    /// Gives all free memory that the platform could use back to it, now. Returns the pages.
    ///
    /// Context: as [`PageAllocator::drain_all`].
    pub fn trim(&self) -> usize {
        self.drain_all();
        let Ok(local) = Local::enter(&self.platform) else {
            return 0;
        };
        let report = |zone: &Zone| self.report_free(&local, zone, 0, usize::MAX);
        let blocks: usize = self.zones.iter().map(report).sum();
        blocks * crate::frame::PAGEBLOCK_PAGES
    }
}
