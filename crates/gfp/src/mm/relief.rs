//! Where memory comes from when none is free: caches that give way, the background, and who dies.

use super::Mm;
use crate::error::AllocError;
use crate::frame::NodeId;
use crate::platform::{Platform, Sleep};
use crate::policy::pressure::Pressure;
use crate::policy::reclaim::shrink::Settings;
use crate::reclaim::oom::{OomNotifier, OomNotifierId, OomRegisterError, OomSource, OomSourceId};
use crate::reclaim::{KswapdError, Shrinker, ShrinkerId};
use core::ptr::NonNull;

impl<P: Platform> Mm<P> {
    /// Has a cache asked for objects when memory is short (`register_shrinker`; P411, P412).
    ///
    /// Context: a task; may take a page, so early rather than in need.
    ///
    /// # Errors
    /// No memory for a slot.
    pub fn register_shrinker(
        &self,
        shrinker: &'static dyn Shrinker,
        settings: Settings,
    ) -> Result<ShrinkerId, AllocError> {
        self.slabs().reclaim().register_shrinker(shrinker, settings)
    }

    /// [`Mm::register_shrinker`] for one that does not live for ever.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Safety
    /// The shrinker lives until [`Mm::unregister_shrinker`] has returned.
    pub unsafe fn register_shrinker_for(
        &self,
        shrinker: NonNull<dyn Shrinker>,
        settings: Settings,
    ) -> Result<ShrinkerId, AllocError> {
        // SAFETY: promised by the caller.
        unsafe {
            self.slabs()
                .reclaim()
                .register_shrinker_for(shrinker, settings)
        }
    }

    /// Has it asked no more (`unregister_shrinker`). When this returns no call of it is under way.
    ///
    /// Context: a task that may sleep; not from the shrinker itself.
    ///
    /// # Panics
    /// If another machine gave the id.
    pub fn unregister_shrinker(&self, id: ShrinkerId) {
        self.slabs().reclaim().unregister_shrinker(id);
    }

    /// From now on requests in need may kill: `source` lists whom (P433).
    ///
    /// Context: a task that may sleep; not from a source or notifier.
    ///
    /// # Errors
    /// The machine has a source.
    pub fn register_oom_source(
        &self,
        source: &'static dyn OomSource,
    ) -> Result<OomSourceId, OomRegisterError> {
        self.slabs().reclaim().register_oom_source(source)
    }

    /// Nobody is killed any more. When this returns no call of the source is under way.
    ///
    /// Context: as [`Mm::register_oom_source`].
    ///
    /// # Panics
    /// If another machine gave the id.
    pub fn unregister_oom_source(&self, id: OomSourceId) {
        self.slabs().reclaim().unregister_oom_source(id);
    }

    /// Has `notifier` asked for memory before anybody is killed (`register_oom_notifier`; P430).
    ///
    /// Context: as [`Mm::register_oom_source`].
    ///
    /// # Errors
    /// There are [`NOTIFIERS_MAX`](crate::reclaim::oom::NOTIFIERS_MAX).
    pub fn register_oom_notifier(
        &self,
        notifier: &'static dyn OomNotifier,
    ) -> Result<OomNotifierId, OomRegisterError> {
        self.slabs().reclaim().register_oom_notifier(notifier)
    }

    /// Has it asked no more (`unregister_oom_notifier`). When this returns no call of it is under
    /// way.
    ///
    /// Context: as [`Mm::register_oom_source`].
    ///
    /// # Panics
    /// If another machine gave the id.
    pub fn unregister_oom_notifier(&self, id: OomNotifierId) {
        self.slabs().reclaim().unregister_oom_notifier(id);
    }

    /// Background reclaim of one node (P400): frees memory when requests find the node below its
    /// low watermark, until it is above high, so that they need not do it themselves. The platform
    /// runs this in a task of its own, one for each node; no node must have one.
    ///
    /// Returns when `stop` says so, which is asked whenever the task is woken and between two
    /// passes over the shrinkers: make it true, then call [`Mm::stop_kswapd`].
    ///
    /// Context: a task that may sleep. Shrinkers are called in it. While it runs, direct reclaimers
    /// wait for it when the reserve runs low (P406).
    ///
    /// # Errors
    /// [`KswapdError`]: there is no such node, or it has a task.
    pub fn kswapd(&self, node: NodeId, stop: impl Fn() -> bool) -> Result<(), KswapdError>
    where
        P: Sleep,
    {
        self.slabs().reclaim().kswapd(node, self.slabs(), stop)
    }

    /// Has the task in [`Mm::kswapd`] look whether it is to stop. Context: any but an NMI.
    pub fn stop_kswapd(&self, node: NodeId) {
        self.slabs().reclaim().stop_kswapd(node);
    }

    /// The task in [`Mm::kswapd`] has ended without returning: this process is the child of a fork,
    /// which copied the machine and not the thread. Nobody wakes it or waits for it any more, and
    /// another may take its place. Context: any but an NMI.
    pub fn kswapd_is_gone(&self, node: NodeId) {
        self.slabs().reclaim().kswapd_is_gone(node);
    }

    /// Compacts all zones of a node as far as pages can be moved (the node's file `compact`; P708).
    ///
    /// Context: a task that may sleep. Owners of pages are called in it.
    pub fn compact_node(&self, node: NodeId) {
        self.slabs().reclaim().compact_node(node);
    }

    /// [`Mm::compact_node`] of all nodes (`vm.compact_memory`; P708).
    ///
    /// Context: as there.
    pub fn compact_memory(&self) {
        self.pages()
            .nodes()
            .for_each(|node| self.compact_node(node));
    }

    /// How hard memory is to come by now: by where free memory stands beside the watermarks, and by
    /// how much of what reclaim looks at comes free ([`crate::policy::pressure`]).
    /// Of a machine with several nodes the one that is best off counts, as requests go there.
    ///
    /// Context: any; reads a few words of each zone.
    pub fn pressure(&self) -> Pressure {
        self.slabs().reclaim().pressure()
    }

    /// Sleeps until the pressure is another than `seen`, or the clock
    /// ([`Platform::now_ns`]) shows `deadline_ns`, or `give_up` says so. Returns the pressure then.
    ///
    /// Who waits is told when reclaim has freed memory or found none. That memory came free
    /// otherwise, nobody says: who wants to see that soon gives a deadline. `give_up` is asked
    /// whenever there is something to look at: make it true, then call [`Mm::stop_wait_pressure`].
    ///
    /// Context: a task that may sleep.
    pub fn wait_pressure(
        &self,
        seen: Pressure,
        deadline_ns: Option<u64>,
        give_up: impl Fn() -> bool,
    ) -> Pressure
    where
        P: Sleep,
    {
        let reclaim = self.slabs().reclaim();
        reclaim.wait_pressure(seen, deadline_ns, give_up)
    }

    /// Has those in [`Mm::wait_pressure`] look whether they are to give up. Context: any but an
    /// NMI.
    pub fn stop_wait_pressure(&self) {
        self.slabs().reclaim().stop_wait_pressure();
    }

    /// P409: microseconds in which at least one task reclaimed, of its own or in the background:
    /// the total of `some` in Linux's `/proc/pressure/memory`. Context: any.
    pub fn memory_stall_us(&self) -> u64 {
        self.slabs().reclaim().memory_stall_us()
    }
}
