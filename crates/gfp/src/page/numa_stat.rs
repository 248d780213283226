//! Whether NUMA events are counted (P712).
//!
//! Lists count what passes them, for other ends too, so that there is nothing to save by counting
//! less. What is off are the events as they are shown: all 0; and from when they are turned on
//! again they are counted from 0.

use super::lists::MAX_ZONES;
use super::zone::Zone;
use super::{PageAllocator, ZoneEvents};
use crate::platform::Platform;
use crate::sync::atomic::Ordering::Relaxed;
use crate::sync::atomic::{AtomicBool, AtomicU64};

const EVENTS: usize = 5;

impl ZoneEvents {
    fn numa(&mut self) -> [&mut u64; EVENTS] {
        [
            &mut self.numa_hit,
            &mut self.numa_miss,
            &mut self.numa_foreign,
            &mut self.numa_other,
            &mut self.numa_interleave,
        ]
    }
}

/// Whether they are counted, and how many there were when that began.
pub(super) struct NumaStat {
    off: AtomicBool,
    /// By zone id.
    before: [[AtomicU64; EVENTS]; MAX_ZONES],
}

impl NumaStat {
    pub(super) const fn new() -> NumaStat {
        NumaStat {
            off: AtomicBool::new(false),
            before: [const { [const { AtomicU64::new(0) }; EVENTS] }; MAX_ZONES],
        }
    }

    /// Makes of all events those that are shown.
    pub(super) fn show(&self, zone: &Zone, events: &mut ZoneEvents) {
        // Relaxed: numbers for views.
        let off = self.off.load(Relaxed);
        for (event, before) in events
            .numa()
            .into_iter()
            .zip(&self.before[usize::from(zone.id)])
        {
            *event = match off {
                true => 0,
                false => event.saturating_sub(before.load(Relaxed)),
            };
        }
    }
}

/// P712: the sysctl `numa_stat`.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum NumaCounting {
    /// They are counted.
    On,
    /// They are not, and show as 0.
    Off,
}

impl<P: Platform> PageAllocator<P> {
    /// P712: whether NUMA events are counted.
    pub fn numa_counting(&self) -> NumaCounting {
        match self.numa_stat.off.load(Relaxed) {
            true => NumaCounting::Off,
            false => NumaCounting::On,
        }
    }

    /// P712: turns NUMA events off, which sets them to 0, or on again. Context: any.
    pub fn set_numa_counting(&self, events: NumaCounting) {
        let stat = &self.numa_stat;
        if events == NumaCounting::On && self.numa_counting() == NumaCounting::Off {
            for zone in self.zones.iter() {
                let mut all = self.events_of(zone);
                let before = &stat.before[usize::from(zone.id)];
                for (event, before) in all.numa().into_iter().zip(before) {
                    before.store(*event, Relaxed);
                }
            }
        }
        stat.off.store(events == NumaCounting::Off, Relaxed);
    }
}
