//! Whom the OOM killer may choose, registered without unsafe code.

use super::Host;
use super::registered::Registered;
use super::std::sync::Arc;
use core::fmt;
use core::ops::ControlFlow;
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
/// its memory is kept. Another may take its place there, unless somebody was just being killed
/// ([`OomRegisterError::Lost`]).
pub struct OomSourceGuard {
    /// First, so that it goes before the machine does.
    entry: Registered<Entry>,
    host: Host,
    id: Option<OomSourceId>,
}

impl Host {
    /// From now on a request that finds no memory anywhere may have somebody give up: a job, a
    /// connection, a group of them. `source` lists whom, and knows how (P433).
    ///
    /// Its calls come with the machine's OOM lock held: what they ask for must not wait, and `kill`
    /// need not wait for the end. What a job held comes back when it is told so and lets go.
    ///
    /// # Errors
    /// [`OomRegisterError`]: the machine has a source, or its killer was lost in a fork.
    pub fn register_oom_source(
        &self,
        source: Arc<dyn OomSource + Send>,
    ) -> Result<OomSourceGuard, OomRegisterError> {
        let entry = Entry {
            source,
            retired: AtomicBool::new(false),
        };
        let mut guard = OomSourceGuard {
            entry: Registered::new(entry),
            host: self.clone(),
            id: None,
        };
        let reclaim = self.slabs().reclaim();
        // SAFETY: [INV-HOST-7] it lives until the guard's drop, which unregisters it first.
        let id = unsafe { reclaim.register_oom_source_for(guard.entry.address()) };
        guard.id = Some(id?);
        Ok(guard)
    }
}

impl Drop for OomSourceGuard {
    fn drop(&mut self) {
        if !self.entry.is_ours() {
            // If the killer was lost it is not unregistered: who looks once more does no harm.
            self.entry.retired.store(true, Relaxed);
        }
        if let Some(id) = self.id.take() {
            self.host.unregister_oom_source(id);
        }
    }
}

impl fmt::Debug for OomSourceGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OomSourceGuard")
    }
}
