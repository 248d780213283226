//! The time that is spent on making room, and who wants to know of it (P409, P680).

use super::Reclaim;
use crate::platform::{Nested, Platform, Sleep};
use crate::policy::stall::{Ledger, StallKind, StallLine, Trigger, Watch};
use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};
use crate::sync::{Local, Lock, Rank, WaitQueue};

/// What a machine keeps of it.
pub(super) struct Stalls {
    ledger: Lock<Ledger, { Rank::Stalls as u8 }>,
    /// The total of [`StallKind::Some`] when a task began or ended to stall last: for who may not
    /// take the lock.
    known_us: AtomicU64,
    /// Who waits for a trigger while nothing stalls.
    pub(super) watchers: WaitQueue,
}

/// A task in a stall; out of it when dropped.
pub(super) struct Stalled<'a, P: Platform> {
    reclaim: &'a Reclaim<P>,
}

impl Stalls {
    pub(super) const fn new() -> Stalls {
        Stalls {
            ledger: Lock::new(Ledger::NONE),
            known_us: AtomicU64::new(0),
            watchers: WaitQueue::new(),
        }
    }

    /// Does something with the ledger, at the time that it is then: clocks are read under the lock,
    /// so that nobody's time is lost to who read his later.
    fn with<P, R>(
        &self,
        platform: &P,
        work: impl FnOnce(&mut Ledger, u64) -> R,
    ) -> Result<R, Nested>
    where
        P: Platform,
    {
        let local = Local::enter(platform)?;
        let mut ledger = self.ledger.lock(&local);
        Ok(work(&mut ledger, platform.now_ns() / 1000))
    }

    /// [`Stalls::with`], by who reclaims: outside of any section, so it succeeds.
    fn change<P: Platform>(&self, platform: &P, work: impl Fn(&mut Ledger, u64, u32)) {
        let at_once = platform.nr_tasks_at_once();
        let mut spins = 0u32;
        let change = |ledger: &mut Ledger, now_us| {
            work(ledger, now_us, at_once);
            let total_us = ledger.lines()[StallKind::Some as usize].total_us;
            // Relaxed: a number by itself.
            self.known_us.store(total_us, Relaxed);
        };
        while self.with(platform, change).is_err() {
            platform.relax(spins);
            spins = spins.saturating_add(1);
        }
    }
}

impl<P: Platform> Drop for Stalled<'_, P> {
    fn drop(&mut self) {
        let platform = self.reclaim.pages.platform();
        self.reclaim.stall_times.change(platform, Ledger::leave);
    }
}

impl<P: Platform> Reclaim<P> {
    /// P409: the caller reclaims, until this is dropped.
    pub(super) fn stall(&self) -> Stalled<'_, P> {
        let platform = self.pages.platform();
        self.stall_times.change(platform, Ledger::enter);
        self.stall_times.watchers.wake_all(platform);
        Stalled { reclaim: self }
    }

    /// The tasks that reclaimed are not there any more: this is the child of a fork.
    pub(super) fn stalls_are_gone(&self) {
        let forgotten = self
            .stall_times
            .with(self.pages.platform(), Ledger::forget_tasks);
        // A fork in the middle of the allocator: its child may do no more than `exec`.
        let _ = forgotten;
    }

    /// The ledger as of now.
    fn ledger(&self) -> Result<(Ledger, u64), Nested> {
        let pass = |ledger: &mut Ledger, now_us| {
            ledger.pass(now_us);
            (*ledger, now_us)
        };
        self.stall_times.with(self.pages.platform(), pass)
    }

    /// What [`Mm::memory_stalls`](crate::Mm::memory_stalls) describes.
    ///
    /// # Errors
    /// As there.
    pub fn memory_stalls(&self) -> Result<[StallLine; 2], Nested> {
        Ok(self.ledger()?.0.lines())
    }

    /// What [`Mm::memory_stall_us`](crate::Mm::memory_stall_us) describes.
    pub fn memory_stall_us(&self) -> u64 {
        match self.memory_stalls() {
            Ok(lines) => lines[StallKind::Some as usize].total_us,
            Err(Nested) => self.stall_times.known_us.load(Relaxed),
        }
    }

    /// What [`Mm::watch_stalls`](crate::Mm::watch_stalls) describes.
    ///
    /// # Errors
    /// As there.
    pub fn watch_stalls(&self, trigger: Trigger) -> Result<Watch, Nested> {
        let (ledger, now_us) = self.ledger()?;
        Ok(Watch::new(trigger, now_us, &ledger.lines()))
    }

    /// What [`Mm::has_stalled`](crate::Mm::has_stalled) describes.
    ///
    /// # Errors
    /// As there.
    pub fn has_stalled(&self, watch: &mut Watch) -> Result<bool, Nested> {
        let (ledger, now_us) = self.ledger()?;
        Ok(watch.look(now_us, &ledger.lines()))
    }

    /// What [`Mm::wait_stall`](crate::Mm::wait_stall) describes.
    ///
    /// # Errors
    /// As there.
    pub fn wait_stall(
        &self,
        watch: &mut Watch,
        deadline_ns: Option<u64>,
        give_up: impl Fn() -> bool,
    ) -> Result<bool, Nested>
    where
        P: Sleep,
    {
        let (watchers, platform) = (&self.stall_times.watchers, self.pages.platform());
        loop {
            let (ledger, now_us) = self.ledger()?;
            if watch.look(now_us, &ledger.lines()) {
                return Ok(true);
            }
            let now_ns = platform.now_ns();
            if give_up() || deadline_ns.is_some_and(|deadline| now_ns >= deadline) {
                return Ok(false);
            }
            // What does not stall, and did not, need not be looked at until it does. What begins
            // may have ended before a sleeper is up.
            let rests = |ledger: &Ledger| ledger.tasks() == 0 && watch.is_cold(&ledger.lines());
            let begun = || self.ledger().is_ok_and(|(ledger, _)| !rests(&ledger));
            if rests(&ledger) {
                watchers.wait_by(platform, deadline_ns, || begun() || give_up());
            } else {
                let look = now_ns.saturating_add(watch.trigger().look_us() * 1000);
                let until = deadline_ns.map_or(look, |deadline| deadline.min(look));
                watchers.wait_until_ns(platform, until, &give_up);
            }
        }
    }
}
