//! Scopes: what a stretch of code takes away from all its requests (P150-P152).

use super::Mm;
use crate::platform::{Platform, Reason, ScopeError, ScopeGuard, Snapshot, task_of};
use crate::policy::effort::Scopes;

impl<P: Platform> Mm<P> {
    /// Until the guard is dropped, requests of this task start no I/O and do not enter file systems
    /// (`memalloc_noio_save`; P150). `reason` is what reports say, such as `&"writing back"`.
    ///
    /// ```
    /// # use gfp::{flags::GFP_KERNEL, frame::*, page::*, platform::*, Mm};
    /// # let layout = std::alloc::Layout::from_size_align(16 << 20, 4 << 20)?;
    /// # let ram = unsafe { std::alloc::alloc(layout) };
    /// # let (start, end, node) = (PhysAddr(0), PhysAddr(16 << 20), NodeId(0));
    /// # let map = [MemoryRegion { start, end, node, kind: RegionKind::Usable }];
    /// # let platform = unsafe { SingleCore::new(DirectMap::new(ram, PhysAddr(0))) };
    /// # let mm = Mm::boot(platform, &map, &BootConfig::default())?;
    /// use gfp::policy::effort::Scopes;
    /// let outer = mm.scope_noio(&"suspending the disk")?;
    /// {
    ///     let _inner = mm.scope_nofs(&"committing the journal")?;
    ///     assert_eq!(mm.scopes().reason(), Some(&"committing the journal"));
    ///     let p = mm.kmalloc(100, GFP_KERNEL)?; // as with GFP_NOIO
    ///     # unsafe { mm.kfree(p.as_ptr()) };
    /// }
    /// assert_eq!(mm.scopes().scopes(), Scopes::NOIO);
    /// drop(outer);
    /// assert_eq!(mm.scopes(), Snapshot::default());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// Context: task or softirq. Guards are dropped last opened first; debug builds panic
    /// otherwise.
    ///
    /// # Errors
    /// [`ScopeError`]: in an interrupt, and on a platform that keeps no word for its tasks.
    pub fn scope_noio(&self, reason: Reason) -> Result<ScopeGuard<'_>, ScopeError> {
        self.scope(Scopes::NOIO, reason)
    }

    /// As [`Mm::scope_noio`], but only file systems are not entered (`memalloc_nofs_save`).
    ///
    /// # Errors
    /// As there.
    pub fn scope_nofs(&self, reason: Reason) -> Result<ScopeGuard<'_>, ScopeError> {
        self.scope(Scopes::NOFS, reason)
    }

    /// As [`Mm::scope_noio`]; the task frees memory itself: its requests ignore watermarks and do
    /// not reclaim (`memalloc_noreclaim_save`, `PF_MEMALLOC`).
    ///
    /// # Errors
    /// As there.
    pub fn scope_noreclaim(&self, reason: Reason) -> Result<ScopeGuard<'_>, ScopeError> {
        self.scope(Scopes::NORECLAIM, reason)
    }

    /// As [`Mm::scope_noio`]; what is allocated will be pinned for long, so `__GFP_MOVABLE` is
    /// dropped (`memalloc_pin_save`).
    ///
    /// # Errors
    /// As there.
    pub fn scope_pin(&self, reason: Reason) -> Result<ScopeGuard<'_>, ScopeError> {
        self.scope(Scopes::PIN, reason)
    }

    /// Several scopes at once.
    ///
    /// # Errors
    /// As [`Mm::scope_noio`].
    pub fn scope(&self, scopes: Scopes, reason: Reason) -> Result<ScopeGuard<'_>, ScopeError> {
        ScopeGuard::open(self.platform(), scopes, Some(reason))
    }

    /// The scopes that are open for the caller, with the reason of the innermost: to travel with
    /// work that another task does for this one.
    pub fn scopes(&self) -> Snapshot {
        Snapshot::take(self.platform())
    }

    /// Opens the scopes of who the work is for, beside the own ones.
    ///
    /// # Errors
    /// As [`Mm::scope_noio`].
    pub fn enter_scopes(&self, snapshot: Snapshot) -> Result<ScopeGuard<'_>, ScopeError> {
        snapshot.enter(self.platform())
    }

    /// Opens scopes without a guard, as Linux's `memalloc_*_save` do. Returns exactly those that
    /// were not open (P151), for [`Mm::memalloc_restore`]. In an interrupt nothing is opened.
    ///
    /// # Panics
    /// On a platform that keeps no word for its tasks: the caller relies on the scope.
    #[must_use = "the scope stays open until this is restored"]
    pub fn memalloc_save(&self, scopes: Scopes) -> u32 {
        match task_of(self.platform()) {
            Ok(task) => task.save(scopes).bits().into(),
            Err(ScopeError::NoTask) => 0,
            Err(error @ ScopeError::NotKept) => panic!("{error}"),
        }
    }

    /// Closes of `scopes` what the matching [`Mm::memalloc_save`] opened, and nothing else (P151).
    pub fn memalloc_restore(&self, scopes: Scopes, saved: u32) {
        let opened = Scopes::from_bits(saved as u8 & scopes.bits());
        if let Ok(task) = task_of(self.platform()) {
            task.restore(opened);
        }
    }
}
