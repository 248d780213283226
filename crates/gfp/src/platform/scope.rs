//! Scopes of the running task: opened by a guard, closed when it is dropped (P150-P152).

use super::{Platform, Reason, ThisTask, task_in};
use crate::policy::effort::Scopes;
use core::fmt;

/// Why no scope could be opened.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum ScopeError {
    /// The platform keeps no word for its tasks: implement
    /// [`Platform::this_task`](super::Platform::this_task).
    NotKept,
    /// The caller is a hard interrupt or an NMI, which is no task; it never reclaims, so it needs
    /// no scope.
    NoTask,
}

impl fmt::Display for ScopeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ScopeError::NotKept => "no scope: this platform keeps no word for its tasks",
            ScopeError::NoTask => "no scope in an interrupt: it is not a task",
        })
    }
}

impl core::error::Error for ScopeError {}

/// Scopes that are open until this is dropped; last opened, first dropped.
///
/// ```compile_fail
/// fn is_send<T: Send>() {}
/// is_send::<gfp::platform::ScopeGuard<'static>>();
/// ```
#[must_use = "the scope ends when this is dropped"]
#[derive(Debug)]
pub struct ScopeGuard<'a> {
    task: ThisTask<'a>,
    /// P151: what was not open before.
    newly: Scopes,
    reason_before: Option<Reason>,
    /// Which of the guards that are alive it is.
    depth: u32,
}

impl<'a> ScopeGuard<'a> {
    /// Opens scopes for the running task.
    ///
    /// Context: task or softirq.
    ///
    /// # Errors
    /// [`ScopeError`]; nothing is open then that was not before.
    pub fn open<P: Platform>(
        platform: &'a P,
        scopes: Scopes,
        reason: Option<Reason>,
    ) -> Result<ScopeGuard<'a>, ScopeError> {
        let task = task_of(platform)?;
        let reason_before = task.reason_kept();
        if reason.is_some() {
            task.set_reason(reason);
        }
        Ok(ScopeGuard {
            task,
            newly: task.save(scopes),
            reason_before,
            depth: task.deeper(),
        })
    }

    /// What this guard opened, and will close: exactly what was not open before (P151).
    pub fn newly(&self) -> Scopes {
        self.newly
    }
}

impl Drop for ScopeGuard<'_> {
    /// # Panics
    /// In debug builds, if a guard that was opened later is alive.
    fn drop(&mut self) {
        let innermost = self.task.shallower();
        self.task.restore(self.newly);
        self.task.set_reason(self.reason_before);
        debug_assert_eq!(
            innermost, self.depth,
            "scopes are closed in the order opposite to that in which they were opened"
        );
    }
}

/// The scopes of a task at one moment, to be entered by who does work for it elsewhere.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Snapshot {
    scopes: Scopes,
    reason: Option<Reason>,
}

impl Snapshot {
    /// What is open for the caller now. Nothing, in a hard interrupt and an NMI.
    pub fn take<P: Platform>(platform: &P) -> Snapshot {
        match task_of(platform) {
            Ok(task) => Snapshot {
                scopes: task.scopes(),
                reason: task.reason(),
            },
            Err(_) => Snapshot::default(),
        }
    }

    /// Opens the same scopes for the running task, beside those that it has.
    ///
    /// # Errors
    /// As [`ScopeGuard::open`].
    pub fn enter<P: Platform>(self, platform: &P) -> Result<ScopeGuard<'_>, ScopeError> {
        ScopeGuard::open(platform, self.scopes, self.reason)
    }

    /// The scopes.
    pub fn scopes(self) -> Scopes {
        self.scopes
    }

    /// Why the innermost of them was opened.
    pub fn reason(self) -> Option<Reason> {
        self.reason
    }
}

/// The task whose scopes the caller may open.
pub(crate) fn task_of<P: Platform>(platform: &P) -> Result<ThisTask<'_>, ScopeError> {
    let context = platform.context();
    if context.is_task() || context == super::Context::SoftIrq {
        return task_in(platform, context).ok_or(ScopeError::NotKept);
    }
    Err(ScopeError::NoTask)
}
