//! Pressure: measured by reclaim, asked for by those who can do something about it.

use super::Reclaim;
use crate::flags::ZoneKind;
use crate::platform::{Platform, Sleep};
use crate::policy::pressure::{Gauge, Pressure};
use crate::sync::WaitQueue;
use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What a machine keeps of it.
pub(super) struct PressureState {
    /// A [`Gauge`].
    pub(super) gauge: AtomicU64,
    watchers: WaitQueue,
}

impl PressureState {
    pub(super) const fn new() -> PressureState {
        PressureState {
            gauge: AtomicU64::new(Gauge::NONE.to_bits()),
            watchers: WaitQueue::new(),
        }
    }

    pub(super) fn change(&self, change: impl Fn(Gauge) -> Gauge) {
        let next = |bits| Some(change(Gauge::from_bits(bits)).to_bits());
        let changed = self.gauge.fetch_update(Relaxed, Relaxed, next);
        debug_assert!(changed.is_ok());
    }
}

impl<P: Platform> Reclaim<P> {
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
        let watchers = &self.pressure.watchers;
        watchers.wait_by(self.pages.platform(), deadline_ns, done);
        level
    }

    /// What [`Mm::stop_wait_pressure`](crate::Mm::stop_wait_pressure) describes.
    pub fn stop_wait_pressure(&self) {
        self.tell_pressure();
        self.stall_times.watchers.wake_all(self.pages.platform());
    }
}
