//! What the killer asks of its machine: who there is, and how they die.

use super::report::OomReport;
use crate::policy::oom::{Candidate, PanicOnOom, TaskRow};
use core::ops::ControlFlow;

/// The machine's name of one who may be killed: a task, a group, a cache.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct OomId(pub u64);

/// P717: what the machine wants of its killer. The default is Linux's.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct OomSettings {
    /// `panic_on_oom`.
    pub panic_on_oom: PanicOnOom,
    /// `oom_kill_allocating_task`: the caller is the victim, if it may be killed at all.
    pub kills_caller: bool,
    /// `oom_dump_tasks`: the report lists all candidates.
    pub dumps_tasks: bool,
}

impl Default for OomSettings {
    fn default() -> OomSettings {
        OomSettings {
            panic_on_oom: PanicOnOom::default(),
            kills_caller: false,
            dumps_tasks: true,
        }
    }
}

/// The request that found nothing, as far as the machine knows its caller.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct OomCaller {
    /// Who it is; `None`: nobody who could be killed.
    pub id: Option<OomId>,
    /// It has begun to die by itself (P430).
    pub is_dying: bool,
}

/// The candidates of a machine, and what can be done to them (P430-P435).
///
/// Every method is called with the machine's OOM lock held, by one request at a time, in the
/// context of a request that may sleep, outside of sections. It may free memory. What it allocates
/// must be asked for without `DIRECT_RECLAIM` (as [`GFP_NOWAIT`](crate::flags::GFP_NOWAIT)), and it
/// must not wait for a task that allocates: both may wait for the lock that is held.
pub trait OomSource: Sync {
    /// Shows each candidate until `visit` says that it has seen enough. One that has ended
    /// ([`OomSource::has_ended`]) is not shown again: it would be killed again.
    fn for_each(&self, visit: &mut dyn FnMut(OomId, &Candidate) -> ControlFlow<()>);

    /// Who asks now.
    fn caller(&self) -> OomCaller {
        OomCaller::default()
    }

    /// P435: gives one access to the victims' reserves: notes
    /// [`Fact::OomVictim`](crate::platform::Fact::OomVictim) in its tasks.
    fn mark(&self, who: OomId);

    /// P435: kills one, that is, lets it know that it must end. It is marked already. Need not wait
    /// for the end.
    fn kill(&self, who: OomId);

    /// Whether one that was killed has ended, and its memory has come back.
    fn has_ended(&self, who: OomId) -> bool;

    /// P435: takes what can be taken of a victim's memory without waiting for its end. True if that
    /// was possible: nobody waits for the victim any more.
    fn reap(&self, who: OomId) -> bool {
        let _ = who;
        false
    }

    /// P717: asked before each kill.
    fn settings(&self) -> OomSettings {
        OomSettings::default()
    }

    /// What the report says of one. Not called in the middle of [`OomSource::for_each`].
    fn describe(&self, who: OomId) -> TaskRow<'_> {
        TaskRow {
            pid: who.0 as u32,
            tgid: who.0 as u32,
            comm: "?",
            ..TaskRow::default()
        }
    }

    /// P435a: somebody was killed; the report says why and whom.
    fn report(&self, report: &OomReport<'_>) {
        let _ = report;
    }

    /// P432, P434: nobody can be killed, or the settings want a panic. A kernel panics here. If
    /// this returns, the request ends without memory, or looks on if it must not fail.
    fn deadlocked(&self, report: &OomReport<'_>) {
        let _ = report;
    }
}

/// Somebody who can free memory before anybody is killed (P430). Called as [`OomSource`] is.
pub trait OomNotifier: Sync {
    /// Frees what it can. Returns the pages that it freed.
    fn free_pages(&self) -> usize;
}
