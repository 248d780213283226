//! Pressure: measured by reclaim, asked for by those who can do something about it; and the time
//! that is spent in reclaim (P409).

use super::Reclaim;
use crate::flags::ZoneKind;
use crate::platform::{Platform, Sleep};
use crate::policy::pressure::{Gauge, Pressure};
use crate::sync::WaitQueue;
use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Low bits of [`Stalls::now`]: tasks.
const TASK_BITS: u32 = 16;
const TASKS: u64 = (1 << TASK_BITS) - 1;

/// What a machine keeps of it.
pub(super) struct PressureState {
    /// A [`Gauge`].
    pub(super) gauge: AtomicU64,
    watchers: WaitQueue,
    stalls: Stalls,
}

/// P409: the time in which at least one task reclaims.
struct Stalls {
    /// How many do, and since when, in microseconds of the platform's clock: one word, so that who
    /// leaves last takes the very beginning that who came first wrote.
    now: AtomicU64,
    /// Microseconds of stalls that have ended.
    total_us: AtomicU64,
}

/// A task in a stall; out of it when dropped.
pub(super) struct Stalled<'a, P: Platform> {
    stalls: &'a Stalls,
    platform: &'a P,
}

fn now_us<P: Platform>(platform: &P) -> u64 {
    // A clock of 48 bits runs for 8 years.
    (platform.now_ns() / 1000) & (u64::MAX >> TASK_BITS)
}

impl Stalls {
    fn enter<P: Platform>(&self, platform: &P) {
        let now = now_us(platform);
        let next = |word| match word & TASKS {
            0 => Some(now << TASK_BITS | 1),
            _ => Some(word + 1),
        };
        // Relaxed, here and below: numbers by themselves.
        let entered = self.now.fetch_update(Relaxed, Relaxed, next);
        debug_assert!(entered.is_ok_and(|word| word & TASKS < TASKS));
    }

    fn leave<P: Platform>(&self, platform: &P) {
        let now = now_us(platform);
        let next = |word| match word & TASKS {
            0 | 1 => Some(0),
            _ => Some(word - 1),
        };
        let before = self.now.fetch_update(Relaxed, Relaxed, next);
        if let Ok(word) = before
            && word & TASKS == 1
        {
            let since = word >> TASK_BITS;
            self.total_us.fetch_add(now.saturating_sub(since), Relaxed);
        }
    }

    fn total_us<P: Platform>(&self, platform: &P) -> u64 {
        let word = self.now.load(Relaxed);
        let running = match word & TASKS {
            0 => 0,
            _ => now_us(platform).saturating_sub(word >> TASK_BITS),
        };
        self.total_us.load(Relaxed) + running
    }
}

impl<P: Platform> Drop for Stalled<'_, P> {
    fn drop(&mut self) {
        self.stalls.leave(self.platform);
    }
}

impl PressureState {
    pub(super) const fn new() -> PressureState {
        PressureState {
            gauge: AtomicU64::new(Gauge::NONE.to_bits()),
            watchers: WaitQueue::new(),
            stalls: Stalls {
                now: AtomicU64::new(0),
                total_us: AtomicU64::new(0),
            },
        }
    }

    pub(super) fn change(&self, change: impl Fn(Gauge) -> Gauge) {
        let next = |bits| Some(change(Gauge::from_bits(bits)).to_bits());
        let changed = self.gauge.fetch_update(Relaxed, Relaxed, next);
        debug_assert!(changed.is_ok());
    }
}

impl<P: Platform> Reclaim<P> {
    /// P409: the caller reclaims, until this is dropped.
    pub(super) fn stall(&self) -> Stalled<'_, P> {
        let (stalls, platform) = (&self.pressure.stalls, self.pages.platform());
        stalls.enter(platform);
        Stalled { stalls, platform }
    }

    /// What [`Mm::memory_stall_us`](crate::Mm::memory_stall_us) describes.
    pub fn memory_stall_us(&self) -> u64 {
        self.pressure.stalls.total_us(self.pages.platform())
    }

    /// One pass looked at so many objects or pages, and so many of them came free.
    pub(super) fn looked(&self, looked_at: usize, freed: usize) {
        self.pressure.change(|gauge| gauge.after(looked_at, freed));
        self.tell_pressure();
    }

    /// A whole ladder freed nothing.
    pub(super) fn found_nothing(&self) {
        self.pressure.change(Gauge::after_nothing);
        self.tell_pressure();
    }

    /// Has those who wait for another level look. Free memory may have changed, or a measurement.
    pub(super) fn tell_pressure(&self) {
        self.pressure.watchers.wake_all(self.pages.platform());
    }

    /// What [`Mm::pressure`](crate::Mm::pressure) describes.
    pub fn pressure(&self) -> Pressure {
        let stand = self.pages.stand(ZoneKind::Normal);
        let bits = self.pressure.gauge.load(Relaxed);
        let (level, kept) = Gauge::from_bits(bits).read(stand);
        if kept.to_bits() != bits {
            // If it fails, something was measured meanwhile; that stays.
            let _ = self
                .pressure
                .gauge
                .compare_exchange(bits, kept.to_bits(), Relaxed, Relaxed);
        }
        level
    }

    /// What [`Mm::wait_pressure`](crate::Mm::wait_pressure) describes.
    pub fn wait_pressure(
        &self,
        seen: Pressure,
        deadline_ns: Option<u64>,
        give_up: impl Fn() -> bool,
    ) -> Pressure
    where
        P: Sleep,
    {
        let mut level = seen;
        let done = || {
            level = self.pressure();
            level != seen || give_up()
        };
        let (watchers, platform) = (&self.pressure.watchers, self.pages.platform());
        match deadline_ns {
            Some(deadline) => _ = watchers.wait_until_ns(platform, deadline, done),
            None => watchers.wait_until(platform, done),
        }
        level
    }

    /// What [`Mm::stop_wait_pressure`](crate::Mm::stop_wait_pressure) describes.
    pub fn stop_wait_pressure(&self) {
        self.tell_pressure();
    }
}
