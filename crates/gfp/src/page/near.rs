//! Who would rather reclaim on its own node than go to another (P275, P408).
//!
//! Off by default: then a request pays a look at one word for each zone after its first. Turned on,
//! the first pass takes from the node only that the request wants most. If that has nothing, the
//! pass is made here once more, outside of sections: the node of the CPU is reclaimed, by who may,
//! before zones that come after it are looked at.

use super::relief::{Need, Relief};
use super::zone::Zone;
use super::{PageAllocator, PageRequest};
use crate::error::AllocError;
use crate::frame::Pfn;
use crate::platform::Platform;
use crate::policy::effort::Rounds;
use crate::policy::reclaim::node::{DISTANCE_MAX, Mode};
use crate::policy::watermark::{AllocFlags, WatermarkLevel};
use crate::sync::Local;
use crate::sync::atomic::Ordering::Relaxed;

impl<P: Platform> PageAllocator<P> {
    /// P710: `vm.zone_reclaim_mode`.
    #[inline]
    pub fn zone_reclaim_mode(&self) -> Mode {
        Mode::new(self.zone_reclaim_mode.load(Relaxed)).unwrap_or_default()
    }

    /// P710. The next request obeys. Context: any.
    pub fn set_zone_reclaim_mode(&self, mode: Mode) {
        self.zone_reclaim_mode.store(mode.bits(), Relaxed);
    }

    /// Whether a pass is not to take from this zone now: it is the first pass of a request, on a
    /// node that it did not want first. It comes back by [`PageAllocator::pass_near`]; or at once,
    /// if it looks for blocks that it does not mix (P275).
    #[cold]
    #[inline(never)]
    pub(super) fn stays_near(&self, zone: &Zone, preferred: &Zone, flags: AllocFlags) -> bool {
        // Relaxed: who sees the old mode is served by it.
        let near = self.zone_reclaim_mode.load(Relaxed) != 0;
        zone.node != preferred.node
            && flags.level() == WatermarkLevel::Low
            && (near || self.rather_mixes(preferred, flags))
    }

    /// The first pass of a request, with reclaim on the node of its CPU.
    ///
    /// # Errors
    /// [`AllocError::Nested`].
    #[cold]
    pub(super) fn pass_near<R>(
        &self,
        need: &Need<'_>,
        relief: &R,
    ) -> Result<Option<Pfn>, AllocError>
    where
        R: Relief<P> + ?Sized,
    {
        let may_reclaim = !matches!(need.effort.rounds, Rounds::None(_));
        let mut preferred: Option<&Zone> = None;
        for zone in self.candidates(need.request) {
            let first = *preferred.get_or_insert(zone);
            let mut found = self.take_near(need.request, zone, first, relief)?;
            let reclaims = found.is_none()
                && may_reclaim
                && zone.node == self.platform.node()
                && self.config.distance_of(first.node, zone.node) <= DISTANCE_MAX;
            if reclaims && relief.reclaim_near(self, need, zone.node) {
                found = self.take_near(need.request, zone, first, relief)?;
            }
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn take_near<R>(
        &self,
        req: &PageRequest,
        zone: &Zone,
        first: &Zone,
        relief: &R,
    ) -> Result<Option<Pfn>, AllocError>
    where
        R: Relief<P> + ?Sized,
    {
        let (highest, kind) = (self.highest(req.gfp), self.mobility(req.gfp));
        let flags = AllocFlags::fast(req.gfp);
        loop {
            let local = Local::enter(&self.platform)?;
            let found = self.take(&local, zone, req.order, kind, highest, flags, first);
            drop(local);
            if found.is_some() || !self.has_boost_to_tell() {
                return Ok(found);
            }
            self.tell_boost(relief); // it may be in the cache now
        }
    }
}
