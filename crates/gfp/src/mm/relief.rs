//! Where memory comes from when none is free: caches that give way, the background, and who dies.

use super::Mm;
use crate::error::AllocError;
use crate::frame::NodeId;
use crate::platform::{Nested, Platform, Sleep};
use crate::policy::pressure::Pressure;
use crate::policy::reclaim::shrink::Settings;
use crate::policy::stall::{StallLine, Trigger, Watch};
use crate::reclaim::oom::{OomNotifier, OomNotifierId, OomRegisterError, OomSource, OomSourceId};
use crate::reclaim::{NodeTaskError, Shrinker, ShrinkerId};
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
    /// [`OomRegisterError`]: the machine has a source, or its killer was lost in a fork.
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

    /// Of all tasks only the caller is left: this process is the child of a fork, which copied the
    /// machine and no other thread. If one of those was at the OOM killer, nobody is killed any
    /// more on this copy, and nothing can be registered with the killer. Context: any.
    pub fn oom_holder_is_gone(&self) {
        self.slabs().reclaim().oom_holder_is_gone();
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
    /// [`NodeTaskError`]: there is no such node, or it has a task.
    pub fn kswapd(&self, node: NodeId, stop: impl Fn() -> bool) -> Result<(), NodeTaskError>
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
    /// which copied the machine and not the thread. Nobody wakes it or waits for it any more,
    /// nothing is withheld for it to work off, and another may take its place. Nor does any task
    /// reclaim. Context: any but an NMI.
    pub fn kswapd_is_gone(&self, node: NodeId) {
        self.slabs().reclaim().kswapd_is_gone(node);
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

    /// Has those in [`Mm::wait_pressure`] and [`Mm::wait_stall`] look whether they are to give up.
    /// Context: any but an NMI.
    pub fn stop_wait_pressure(&self) {
        self.slabs().reclaim().stop_wait_pressure();
    }

    /// P409: microseconds in which at least one task reclaimed or compacted for a request, of its
    /// own or in the background: the total of `some` in Linux's `/proc/pressure/memory`.
    ///
    /// Context: any; who interrupted the allocator on its own CPU is told the total of the last
    /// begin or end of a stall.
    pub fn memory_stall_us(&self) -> u64 {
        self.slabs().reclaim().memory_stall_us()
    }

    /// P680: the time lost to memory, as of now: `some` and `full` of Linux's
    /// `/proc/pressure/memory`, with averages over 10, 60 and 300 s ([`crate::policy::stall`]).
    /// Full is the time in which as many tasks stalled as can work at once
    /// ([`Platform::nr_tasks_at_once`]).
    ///
    /// Context: any. Takes a lock for some hundred instructions.
    ///
    /// # Errors
    /// [`Nested`]: the caller interrupted the allocator on its own CPU; try again outside.
    pub fn memory_stalls(&self) -> Result<[StallLine; 2], Nested> {
        self.slabs().reclaim().memory_stalls()
    }

    /// P680: begins to watch for so much stall within such a window. For who polls:
    /// [`Mm::has_stalled`], at least every [`Trigger::look_us`]; for who waits: [`Mm::wait_stall`].
    ///
    /// Context: as [`Mm::memory_stalls`].
    ///
    /// # Errors
    /// As there.
    pub fn watch_stalls(&self, trigger: Trigger) -> Result<Watch, Nested> {
        self.slabs().reclaim().watch_stalls(trigger)
    }

    /// True if within the window so much time was lost; it is said at most once a window.
    ///
    /// Context: as [`Mm::memory_stalls`].
    ///
    /// # Errors
    /// As there.
    pub fn has_stalled(&self, watch: &mut Watch) -> Result<bool, Nested> {
        self.slabs().reclaim().has_stalled(watch)
    }

    /// Sleeps until [`Mm::has_stalled`] would say so: then true. False if the clock
    /// ([`Platform::now_ns`]) shows `deadline_ns`, or `give_up` says so: make it true, then call
    /// [`Mm::stop_wait_pressure`]. While nothing stalls nobody is woken.
    ///
    /// Context: a task that may sleep.
    ///
    /// # Errors
    /// As [`Mm::memory_stalls`].
    pub fn wait_stall(
        &self,
        watch: &mut Watch,
        deadline_ns: Option<u64>,
        give_up: impl Fn() -> bool,
    ) -> Result<bool, Nested>
    where
        P: Sleep,
    {
        let reclaim = self.slabs().reclaim();
        reclaim.wait_stall(watch, deadline_ns, give_up)
    }
}
