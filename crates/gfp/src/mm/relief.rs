//! Where memory comes from when none is free: caches that give way.

use super::Mm;
use crate::error::AllocError;
use crate::platform::Platform;
use crate::policy::reclaim::shrink::Settings;
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
}
