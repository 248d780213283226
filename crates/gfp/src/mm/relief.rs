//! Where memory comes from when none is free: caches that give way, and who dies.

use super::Mm;
use crate::error::AllocError;
use crate::platform::Platform;
use crate::policy::reclaim::shrink::Settings;
use crate::reclaim::oom::{OomNotifier, OomNotifierId, OomRegisterError, OomSource, OomSourceId};
use crate::reclaim::{Shrinker, ShrinkerId};
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
    pub fn unregister_oom_notifier(&self, id: OomNotifierId) {
        self.slabs().reclaim().unregister_oom_notifier(id);
    }
}
