//! The OOM killer: one dies so that the others go on (P128-P131, P430-P435).
//!
//! 1. **Concept.** Who may be killed, and how, the machine knows: it registers an [`OomSource`].
//!    Without one nobody is killed, and a request that would kill fails. Whom, and whether at all,
//!    `policy::oom` decides; here it is asked and obeyed.
//! 2. **Lock.** One request at a time is in here (P128). It is a try-lock: who does not get it
//!    takes that for progress. It protects all state, and is held from before the last look at
//!    memory until after the kill, so that nobody kills for want of what another just freed.
//! 3. **Victims** are kept until they have ended, so nobody is killed twice. While one is dying
//!    nobody else is killed, for at most
//!    [`Reaper::MS_MAX`](crate::policy::oom::Reaper::MS_MAX) of the platform's clock. Attempts to
//!    take a victim's memory (P435) are made, when they are due, by the requests that wait for it:
//!    there is no task for them.
//! 4. **Failure.** Nobody left to kill: the source is told ([`OomSource::deadlocked`]), and if that
//!    returns the request fails, or looks on if it must not fail. The same if [`VICTIMS_MAX`] were
//!    killed and none has ended.
//! 5. **Fork.** The copy of a machine in a child may have a lock whose holder was not copied, amid
//!    a change. There nobody is killed any more, and requests end as without a source.
//! 6. **Not done.** Shortages of groups (issue 8) and of cpusets. Of a policy of nodes it is known,
//!    but who is killed may have his memory elsewhere: candidates have no nodes.

mod lock;
mod report;
mod source;
#[cfg(test)]
mod tests;
mod victims;

use super::Reclaim;
use super::shortages::Looked;
use super::warn::RateLimit;
use crate::page::Need;
use crate::platform::Platform;
use crate::policy::oom::{
    Before, Candidate, Considered, Constraint, Outcome, ScanFacts, Selection, Trigger, Verdict,
    after_scan, before_scan, runs_notifiers, score,
};
use crate::sync::atomic::{AtomicU32, Ordering::Relaxed};
use core::cell::UnsafeCell;
use core::ops::ControlFlow;
use core::ptr::NonNull;
pub(crate) use lock::OomLock;
use victims::{State, Victims};

pub use report::{OomEnd, OomReport, OomTasks};
pub use source::{OomCaller, OomId, OomNotifier, OomSettings, OomSource};
pub use victims::VICTIMS_MAX;

/// Notifiers that a machine can have.
pub const NOTIFIERS_MAX: usize = 16;

/// Why a source or a notifier was not registered.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum OomRegisterError {
    /// The machine has a source already, or [`NOTIFIERS_MAX`] notifiers.
    Full,
    /// This is the copy of a machine that a fork made while somebody was being killed: its killer
    /// cannot be used any more ([`Mm::oom_holder_is_gone`](crate::Mm::oom_holder_is_gone)).
    Lost,
}

/// A registered source: what [`Reclaim::unregister_oom_source`] takes.
#[derive(Debug, PartialEq, Eq)]
pub struct OomSourceId {
    addr: usize,
}

/// A registered notifier: what [`Reclaim::unregister_oom_notifier`] takes.
#[derive(Debug, PartialEq, Eq)]
pub struct OomNotifierId {
    at: usize,
    addr: usize,
}

/// What tells one who is registered from others, of other machines too.
fn addr_of<T: ?Sized>(registered: NonNull<T>) -> usize {
    registered.addr().get()
}

/// What the lock protects.
struct Inside {
    source: Option<NonNull<dyn OomSource>>,
    notifiers: [Option<NonNull<dyn OomNotifier>>; NOTIFIERS_MAX],
    victims: Victims,
}

/// The killer of a machine.
pub(super) struct Oom {
    lock: OomLock,
    /// 1 while there is a source.
    can_kill: AtomicU32,
    /// Reports of "nobody can be killed".
    deadlocks: RateLimit,
    /// [INV-OOM-1] Touched by who holds the lock only.
    inside: UnsafeCell<Inside>,
}

// SAFETY: [INV-OOM-1] the lock guards what is inside; sources and notifiers are `Sync`, and live
// until they are unregistered (INV-OOM-2).
unsafe impl Sync for Oom {}
// SAFETY: as above; nothing is bound to a thread.
unsafe impl Send for Oom {}

/// The lock, for who registers; given back when dropped.
struct Held<'a, P: Platform>(&'a Oom, &'a P);

impl<P: Platform> Held<'_, P> {
    fn inside(&mut self) -> &mut Inside {
        // SAFETY: [INV-OOM-1] we hold the lock.
        unsafe { &mut *self.0.inside.get() }
    }
}

impl<P: Platform> Drop for Held<'_, P> {
    fn drop(&mut self) {
        // SAFETY: [INV-OOM-1] we hold it.
        unsafe { self.0.unlock(self.1) };
    }
}

impl Oom {
    pub(super) fn new() -> Oom {
        Oom {
            lock: OomLock::default(),
            can_kill: AtomicU32::new(0),
            deadlocks: RateLimit::new(),
            inside: UnsafeCell::new(Inside {
                source: None,
                notifiers: [None; NOTIFIERS_MAX],
                victims: Victims::new(),
            }),
        }
    }

    /// Whether there is a source. Who is told yes finds none if it was unregistered meanwhile, and
    /// kills nobody.
    pub(super) fn can_kill(&self) -> bool {
        // Relaxed: a hint; what counts is inside of the lock.
        self.can_kill.load(Relaxed) != 0 && !self.lock.is_lost()
    }

    /// P128.
    pub(super) fn try_lock(&self) -> bool {
        self.lock.try_lock()
    }

    /// Gives the lock back.
    ///
    /// # Safety
    /// [INV-OOM-1] The caller holds the lock.
    pub(super) unsafe fn unlock<P: Platform>(&self, platform: &P) {
        // SAFETY: promised by the caller.
        unsafe { self.lock.unlock(platform) };
    }

    fn lock<'a, P: Platform>(&'a self, platform: &'a P) -> Result<Held<'a, P>, OomRegisterError> {
        match self.lock.lock(platform) {
            true => Ok(Held(self, platform)),
            false => Err(OomRegisterError::Lost),
        }
    }
}

/// One call of the killer.
struct Call<'a, P: Platform> {
    reclaim: &'a Reclaim<P>,
    need: &'a Need<'a>,
    source: &'a dyn OomSource,
    now_ns: u64,
}

impl<P: Platform> Reclaim<P> {
    /// From now on requests in need may kill: `source` lists whom (P433).
    ///
    /// Context: a task that may sleep; not from a source or notifier.
    ///
    /// # Errors
    /// [`OomRegisterError`]: there is a source, or the killer was lost in a fork.
    pub fn register_oom_source(
        &self,
        source: &'static dyn OomSource,
    ) -> Result<OomSourceId, OomRegisterError> {
        // SAFETY: it lives for ever.
        unsafe { self.register_oom_source_for(NonNull::from(source)) }
    }

    /// [`Reclaim::register_oom_source`] for one that does not live for ever.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Safety
    /// The source lives until [`Reclaim::unregister_oom_source`] has returned.
    pub unsafe fn register_oom_source_for(
        &self,
        source: NonNull<dyn OomSource>,
    ) -> Result<OomSourceId, OomRegisterError> {
        let mut held = self.oom.lock(self.pages.platform())?;
        let inside = held.inside();
        if inside.source.is_some() {
            return Err(OomRegisterError::Full);
        }
        inside.source = Some(source);
        inside.victims = Victims::new();
        self.oom.can_kill.store(1, Relaxed);
        let addr = addr_of(source);
        Ok(OomSourceId { addr })
    }

    /// Nobody is killed any more. When this returns no call of the source is under way.
    ///
    /// Context: as [`Reclaim::register_oom_source`].
    ///
    /// # Panics
    /// If another machine gave the id: its source goes on being called.
    pub fn unregister_oom_source(&self, id: OomSourceId) {
        let Ok(mut held) = self.oom.lock(self.pages.platform()) else {
            return; // nobody calls it
        };
        let mine = held.inside().source.take_if(|s| addr_of(*s) == id.addr);
        assert!(mine.is_some(), "the source is registered with this machine");
        self.oom.can_kill.store(0, Relaxed);
    }

    /// P430: has `notifier` asked for memory before anybody is killed.
    ///
    /// Context: as [`Reclaim::register_oom_source`].
    ///
    /// # Errors
    /// [`OomRegisterError`]: there are [`NOTIFIERS_MAX`], or the killer was lost in a fork.
    pub fn register_oom_notifier(
        &self,
        notifier: &'static dyn OomNotifier,
    ) -> Result<OomNotifierId, OomRegisterError> {
        // SAFETY: it lives for ever.
        unsafe { self.register_oom_notifier_for(NonNull::from(notifier)) }
    }

    /// [`Reclaim::register_oom_notifier`] for one that does not live for ever.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Safety
    /// The notifier lives until [`Reclaim::unregister_oom_notifier`] has returned.
    pub unsafe fn register_oom_notifier_for(
        &self,
        notifier: NonNull<dyn OomNotifier>,
    ) -> Result<OomNotifierId, OomRegisterError> {
        let mut held = self.oom.lock(self.pages.platform())?;
        let notifiers = &mut held.inside().notifiers;
        let free = notifiers.iter().position(Option::is_none);
        let at = free.ok_or(OomRegisterError::Full)?;
        notifiers[at] = Some(notifier);
        let addr = addr_of(notifier);
        Ok(OomNotifierId { at, addr })
    }

    /// Has the notifier asked no more. When this returns no call of it is under way.
    ///
    /// Context: as [`Reclaim::register_oom_source`].
    ///
    /// # Panics
    /// If another machine gave the id: its notifier goes on being called.
    pub fn unregister_oom_notifier(&self, id: OomNotifierId) {
        let Ok(mut held) = self.oom.lock(self.pages.platform()) else {
            return; // nobody calls it
        };
        let place = &mut held.inside().notifiers[id.at];
        let mine = place.take_if(|notifier| addr_of(*notifier) == id.addr);
        assert!(
            mine.is_some(),
            "the notifier is registered with this machine"
        );
    }

    /// What [`Mm::oom_holder_is_gone`](crate::Mm::oom_holder_is_gone) describes.
    pub fn oom_holder_is_gone(&self) {
        self.oom.lock.holder_is_gone();
    }

    /// P430-P435. True if that made progress.
    ///
    /// # Safety
    /// [INV-OOM-1] The caller holds the lock.
    pub(super) unsafe fn oom_kill(&self, need: &Need<'_>) -> bool {
        // SAFETY: [INV-OOM-1] the caller holds the lock. Who is called from here does not get it,
        // and so does not come here.
        let inside = unsafe { &mut *self.oom.inside.get() };
        let Some(source) = inside.source else {
            return false;
        };
        let call = Call {
            reclaim: self,
            need,
            // SAFETY: [INV-OOM-2] who unregisters it waits for the lock.
            source: unsafe { source.as_ref() },
            now_ns: self.pages.platform().now_ns(),
        };
        if inside.victims.advance(call.source, call.now_ns) {
            return true; // the memory of one who died is there
        }
        let freed = match runs_notifiers(Trigger::Request, call.constraint()) {
            true => notify(&inside.notifiers),
            false => 0,
        };
        call.kill(&mut inside.victims, freed)
    }
}

/// P430: pages that the notifiers freed.
fn notify(notifiers: &[Option<NonNull<dyn OomNotifier>>]) -> usize {
    // SAFETY: [INV-OOM-2] as the source.
    let ask = |n: &NonNull<dyn OomNotifier>| unsafe { n.as_ref() }.free_pages();
    notifiers.iter().flatten().map(ask).sum()
}

impl<P: Platform> Call<'_, P> {
    /// P432: what limits where the memory may come from: a policy that leaves out nodes which have
    /// some.
    fn constraint(&self) -> Constraint {
        let nodes = self.need.request.nodes();
        match self.reclaim.pages.nodes().all(|node| nodes.has(node)) {
            true => Constraint::None,
            false => Constraint::MemoryPolicy,
        }
    }

    fn kill(&self, victims: &mut Victims, notifiers_freed: usize) -> bool {
        let caller = self.source.caller();
        let settings = self.source.settings();
        let caller_dies = caller.id.filter(|_| settings.kills_caller);
        let killable = caller_dies.and_then(|who| self.killable(who, victims));
        let facts = ScanFacts {
            trigger: Trigger::Request,
            gfp: self.need.effort.gfp,
            constraint: self.constraint(),
            notifiers_freed,
            current_is_dying: caller.is_dying,
            panic_on_oom: settings.panic_on_oom,
            kills_current: killable.is_some(),
        };
        match (before_scan(&facts), caller.id) {
            (Before::Retry | Before::PretendProgress, _) => true,
            (Before::MarkCurrent, Some(who)) => {
                self.source.mark(who);
                true
            }
            (Before::Panic, _) => self.deadlocked(OomEnd::PanicWanted),
            (Before::KillCurrent, Some(who)) if !victims.is_anybody_dying() => {
                self.execute(victims, who, killable.unwrap_or_default())
            }
            _ => self.choose(victims),
        }
    }

    /// P433, P434.
    fn choose(&self, victims: &mut Victims) -> bool {
        let mut chosen = Candidate::default();
        let verdict = match victims.is_anybody_dying() {
            true => Verdict::SomebodyIsDying,
            false => self.scan(victims, &mut chosen),
        };
        match after_scan(verdict, Trigger::Request, self.constraint()) {
            Outcome::Kill(who) => self.execute(victims, who, chosen),
            Outcome::Wait => true,
            Outcome::Panic => self.deadlocked(OomEnd::Nobody),
            Outcome::Fail | Outcome::Message => false,
        }
    }

    /// Looks at all candidates but the victims.
    fn scan(&self, victims: &Victims, chosen: &mut Candidate) -> Verdict<OomId> {
        let mut selection = Selection::new(self.reclaim.pages.managed_pages());
        self.source.for_each(&mut |who, candidate| {
            if victims.state(who) == Some(State::Reaped) {
                return ControlFlow::Continue(());
            }
            let before = selection.verdict();
            let considered = selection.consider(who, candidate);
            if selection.verdict() != before {
                *chosen = *candidate;
            }
            match considered {
                Considered::Next => ControlFlow::Continue(()),
                Considered::Abort => ControlFlow::Break(()),
            }
        });
        selection.verdict()
    }

    /// P435: what `who` has, if it may be killed and has not been.
    fn killable(&self, who: OomId, victims: &Victims) -> Option<Candidate> {
        let total = self.reclaim.pages.managed_pages();
        let mut found = None;
        self.source.for_each(&mut |other, candidate| {
            if other != who {
                return ControlFlow::Continue(());
            }
            found = Some(*candidate);
            ControlFlow::Break(())
        });
        found.filter(|c| victims.state(who).is_none() && score(c, total).is_ok())
    }

    /// P435.
    fn execute(&self, victims: &mut Victims, who: OomId, candidate: Candidate) -> bool {
        if !victims.has_room() {
            return self.deadlocked(OomEnd::Nobody);
        }
        let end = OomEnd::Killed { who, candidate };
        // Before the kill: afterwards it may be gone.
        self.report(end, &|report| self.source.report(report));
        victims.add(who, self.now_ns);
        self.reclaim.events.kills.add(1);
        self.source.mark(who);
        self.source.kill(who);
        true
    }

    /// P432, P434. No progress.
    fn deadlocked(&self, end: OomEnd) -> bool {
        if self.reclaim.oom.deadlocks.take(self.now_ns).is_some() {
            self.report(end, &|report| self.source.deadlocked(report));
        }
        false
    }

    /// Hands the report to `told`.
    fn report(&self, end: OomEnd, told: &dyn Fn(&OomReport<'_>)) {
        let pages = &self.reclaim.pages;
        let describe = |who| self.source.describe(who);
        told(&OomReport {
            gfp: self.need.effort.gfp,
            order: self.need.effort.order,
            caller: self
                .source
                .caller()
                .id
                .map_or_else(Default::default, describe),
            end,
            victim: match end {
                OomEnd::Killed { who, .. } => describe(who),
                OomEnd::Nobody | OomEnd::PanicWanted => Default::default(),
            },
            tasks: (self.source.settings().dumps_tasks).then_some(OomTasks(self.source)),
            constraint: self.constraint(),
            nodemask: self.need.request.nodemask(),
            managed: pages.managed_pages(),
            free: pages.free_page_count(),
            shortages: Looked::at(pages, self.need).shortages(),
        });
    }
}
