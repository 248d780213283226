//! Whom the OOM killer may choose, registered without unsafe code.

use super::Host;
use super::std::boxed::Box;
use super::std::sync::Arc;
use crate::sys;
use core::fmt;
use core::ops::ControlFlow;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use gfp::policy::oom::{Candidate, TaskRow};
use gfp::reclaim::oom::{
    OomCaller, OomId, OomRegisterError, OomReport, OomSettings, OomSource, OomSourceId,
};

/// What the machine calls: the owner's source.
struct Entry {
    source: Arc<dyn OomSource + Send>,
    /// It lists nobody any more, though the machine still asks it.
    retired: AtomicBool,
}

impl OomSource for Entry {
    fn for_each(&self, visit: &mut dyn FnMut(OomId, &Candidate) -> ControlFlow<()>) {
        if !self.retired.load(Relaxed) {
            self.source.for_each(visit);
        }
    }

    fn caller(&self) -> OomCaller {
        self.source.caller()
    }

    fn mark(&self, who: OomId) {
        self.source.mark(who);
    }

    fn kill(&self, who: OomId) {
        self.source.kill(who);
    }

    fn has_ended(&self, who: OomId) -> bool {
        self.source.has_ended(who)
    }

    fn reap(&self, who: OomId) -> bool {
        self.source.reap(who)
    }

    fn settings(&self) -> OomSettings {
        self.source.settings()
    }

    fn describe(&self, who: OomId) -> TaskRow<'_> {
        self.source.describe(who)
    }

    fn report(&self, report: &OomReport<'_>) {
        self.source.report(report);
    }

    fn deadlocked(&self, report: &OomReport<'_>) {
        self.source.deadlocked(report);
    }
}

/// The machine's OOM killer has somebody to choose while this lives.
///
/// When its drop returns, no call of the source is under way: do not drop it in the source itself.
/// In the child of a fork the drop waits for nobody; the source lists nobody there any more, and
/// its memory is kept.
pub struct OomSourceGuard {
    host: Host,
    /// What was registered, as it was given out by a box; freed when it is registered no more.
    entry: NonNull<Entry>,
    id: Option<OomSourceId>,
    /// The process that registered it.
    pid: i32,
}

// SAFETY: [INV-HOST-7] the entry is `Sync`, and freed by the drop only; it may be on any thread.
unsafe impl Send for OomSourceGuard {}
// SAFETY: as above; a shared guard does nothing.
unsafe impl Sync for OomSourceGuard {}

impl Host {
    /// From now on a request that finds no memory anywhere may have somebody give up: a job, a
    /// connection, a group of them. `source` lists whom, and knows how (P433).
    ///
    /// Its calls come with the machine's OOM lock held: what they ask for must not wait, and `kill`
    /// need not wait for the end. What a job held comes back when it is told so and lets go.
    ///
    /// # Errors
    /// The machine has a source.
    pub fn register_oom_source(
        &self,
        source: Arc<dyn OomSource + Send>,
    ) -> Result<OomSourceGuard, OomRegisterError> {
        let entry = Box::new(Entry {
            source,
            retired: AtomicBool::new(false),
        });
        let mut guard = OomSourceGuard {
            host: self.clone(),
            entry: NonNull::from(Box::leak(entry)),
            id: None,
            pid: sys::getpid(),
        };
        let reclaim = self.slabs().reclaim();
        // SAFETY: [INV-HOST-7] it lives until the guard's drop, which unregisters it first.
        let id = unsafe { reclaim.register_oom_source_for(guard.entry) };
        guard.id = Some(id?);
        Ok(guard)
    }
}

impl Drop for OomSourceGuard {
    fn drop(&mut self) {
        if sys::getpid() != self.pid {
            // SAFETY: [INV-HOST-7] it is not freed here.
            let entry = unsafe { self.entry.as_ref() };
            entry.retired.store(true, Relaxed); // who looks once more does no harm
            return;
        }
        if let Some(id) = self.id.take() {
            self.host.unregister_oom_source(id);
        }
        // SAFETY: [INV-HOST-7] from a box; it is registered no more, and no call is under way.
        drop(unsafe { Box::from_raw(self.entry.as_ptr()) });
    }
}

impl fmt::Debug for OomSourceGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OomSourceGuard")
    }
}
