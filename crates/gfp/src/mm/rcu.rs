//! Readers that wait for nobody, and what is freed when they have ended (S29-S35).

use super::Mm;
use crate::platform::Platform;
use crate::slab::{RcuCookie, RcuGuard};

impl<P: Platform> Mm<P> {
    /// Begins to read (`rcu_read_lock`; S35): what others unlink and free by
    /// [`Mm::synchronize_rcu`] or a cookie stays as it is until the guard is dropped. Costs
    /// two locked additions, waits for nobody.
    ///
    /// Context: any, NMIs too; guards may nest.
    ///
    /// ```
    /// # use gfp::{flags::*, frame::*, page::*, platform::*, Mm};
    /// # use std::sync::atomic::{AtomicPtr, Ordering};
    /// # let layout = std::alloc::Layout::from_size_align(16 << 20, 4 << 20)?;
    /// # let ram = unsafe { std::alloc::alloc(layout) };
    /// # let (start, end, node) = (PhysAddr(0), PhysAddr(16 << 20), NodeId(0));
    /// # let map = [MemoryRegion { start, end, node, kind: RegionKind::Usable }];
    /// # let platform = unsafe { SingleCore::new(DirectMap::new(ram, PhysAddr(0))) };
    /// # let mm = Mm::boot(platform, &map, &BootConfig::default())?;
    /// let config = AtomicPtr::new(mm.kzalloc(64, GFP_KERNEL)?.as_ptr());
    ///
    /// // A reader:
    /// let reading = mm.rcu_read_lock();
    /// // SAFETY: published whole, and not freed as long as we read.
    /// let byte = unsafe { *config.load(Ordering::Acquire) };
    /// drop(reading);
    ///
    /// // Who replaces it:
    /// let old = config.swap(mm.kzalloc(64, GFP_KERNEL)?.as_ptr(), Ordering::AcqRel);
    /// mm.synchronize_rcu();
    /// // SAFETY: nobody finds it any more, and all who had found it have ended.
    /// unsafe { mm.kfree(old) };
    /// # assert_eq!(byte, 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn rcu_read_lock(&self) -> RcuGuard<'_> {
        self.slabs().rcu_read()
    }

    /// Waits until all readers that run now have ended (`synchronize_rcu`; S35).
    ///
    /// Context: a task that may wait, outside of the allocator, and no reader itself: a reader that
    /// waits for itself waits for ever.
    pub fn synchronize_rcu(&self) {
        self.slabs().rcu_wait(self.slabs().rcu_cookie());
    }

    /// Names this moment (`get_state_synchronize_rcu`; S35).
    ///
    /// Context: any.
    #[inline]
    pub fn get_state_synchronize_rcu(&self) -> RcuCookie {
        self.slabs().rcu_cookie()
    }

    /// True if all readers that ran when the cookie was taken have ended
    /// (`poll_state_synchronize_rcu`; S35). Waits for nobody, but brings that nearer.
    ///
    /// Context: any.
    pub fn poll_state_synchronize_rcu(&self, cookie: RcuCookie) -> bool {
        self.slabs().rcu_poll(cookie)
    }

    /// Waits until all readers that ran when the cookie was taken have ended
    /// (`cond_synchronize_rcu`; S35).
    ///
    /// Context: as [`Mm::synchronize_rcu`].
    pub fn cond_synchronize_rcu(&self, cookie: RcuCookie) {
        self.slabs().rcu_wait(cookie);
    }
}
