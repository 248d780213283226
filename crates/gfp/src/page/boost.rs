//! The watermark boost: raised when memory of another type is taken, worked off by the background
//! (P215-P217, P318).
//!
//! A boost withholds memory from ordinary requests until the background has run. So there is one
//! only on nodes that have a background task, it ends with the task, and a request gives it up
//! before anybody is killed for it.

use super::PageAllocator;
use super::lists::MAX_ZONES;
use super::relief::{Relief, WakeUp};
use super::zone::Zone;
use crate::flags::ZoneKind;
use crate::frame::NodeId;
use crate::platform::Platform;
use crate::policy::boost::{MayWake, WakeCompaction, after_run, raised};
use crate::sync::Local;
use crate::sync::atomic::AtomicUsize;
use crate::sync::atomic::Ordering::Relaxed;

/// What a zone keeps above its watermarks, in pages. Read anywhere.
pub(super) struct Boost {
    /// P216: because blocks were mixed. Raised under the lock of the shard of the block, by several
    /// at once; all are Relaxed: it is a figure by itself.
    mixing: AtomicUsize,
    /// P824: for single pages that cannot be waited for. Changed under the lock of the reserves.
    single: AtomicUsize,
    /// `vm.watermark_boost_factor`; 0: nobody would work a boost off.
    factor: AtomicUsize,
}

impl Boost {
    pub(super) const fn new() -> Boost {
        Boost {
            mixing: AtomicUsize::new(0),
            single: AtomicUsize::new(0),
            factor: AtomicUsize::new(0),
        }
    }

    /// What every reader of a watermark adds (P215).
    #[inline]
    pub(super) fn sum(&self) -> usize {
        self.mixing() + self.single()
    }

    /// The part that a run of the background works off.
    pub(super) fn mixing(&self) -> usize {
        self.mixing.load(Relaxed)
    }

    /// Changes that part. Returns what it was.
    fn change_mixing(&self, change: impl Fn(usize) -> usize) -> usize {
        let mut old = self.mixing();
        loop {
            let new = change(old);
            match self
                .mixing
                .compare_exchange_weak(old, new, Relaxed, Relaxed)
            {
                Ok(_) => return old,
                Err(now) => old = now,
            }
        }
    }

    /// The part that fades by itself.
    pub(super) fn single(&self) -> usize {
        self.single.load(Relaxed)
    }

    pub(super) fn set_single(&self, pages: usize) {
        self.single.store(pages, Relaxed);
    }

    /// P216, P318: a pageblock of this zone is about to be mixed; its shard's lock is held. Whether
    /// the background is to be woken for it.
    pub(super) fn raise(&self, zone: &Zone) -> MayWake {
        let (managed, high) = (zone.managed_pages(), zone.watermarks().high);
        let factor = self.factor.load(Relaxed);
        let by = |now| raised(now, managed, high, factor, MayWake::Yes);
        let before = self.change_mixing(|now| by(now).map_or(now, |raised| raised.boost));
        match by(before) {
            Some(raised) if raised.wake => MayWake::Yes,
            _ => MayWake::No,
        }
    }
}

/// The boosts of a node's zones when a run of the background began, by kind, in pages (P217).
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Boosts([usize; ZoneKind::COUNT]);

impl Boosts {
    /// Pages to work off.
    pub(crate) fn pages(&self) -> usize {
        self.0.iter().sum()
    }
}

impl<P: Platform> PageAllocator<P> {
    /// A background task runs for the node: its zones may be boosted.
    pub(crate) fn begin_boosting(&self, node: NodeId) {
        let factor = self.config.watermark_boost_factor;
        for zone in self.zones.iter().filter(|zone| zone.node == node) {
            zone.boost.factor.store(factor, Relaxed);
            self.attend(zone);
        }
    }

    /// It runs no more: nobody would work a boost off.
    ///
    /// Context: outside of sections.
    pub(crate) fn end_boosting(&self, node: NodeId) {
        for zone in self.zones.iter().filter(|zone| zone.node == node) {
            zone.boost.factor.store(0, Relaxed);
            // Who raises it with the old factor holds a shard's lock. Who takes it after us sees
            // the new one.
            if let Ok(local) = Local::enter(&self.platform) {
                for shard in zone.shards() {
                    drop(zone.lock_shard(&self.blocks, &local, shard));
                }
            }
            self.neglect(zone);
            zone.boost.change_mixing(|_| 0);
        }
    }

    /// P217: the boosts of a node's zones up to this one.
    pub(crate) fn boosts(&self, node: NodeId, highest: ZoneKind) -> Boosts {
        let mut boosts = Boosts::default();
        for zone in self.zones_up_to(node, highest) {
            boosts.0[zone.kind as usize] = zone.boost.mixing();
        }
        boosts
    }

    /// P217: takes off what a run began with. Whether the compaction task is to be woken.
    pub(crate) fn work_off(&self, node: NodeId, began: &Boosts) -> WakeCompaction {
        let mut wake = WakeCompaction::No;
        for zone in self.zones_up_to(node, ZoneKind::Movable) {
            let at_start = began.0[zone.kind as usize];
            if at_start == 0 {
                continue;
            }
            wake = after_run(0, at_start).1;
            zone.boost.change_mixing(|now| after_run(now, at_start).0);
        }
        wake
    }

    /// What withholds memory only for later is given up, before a request fails for good or
    /// somebody is killed for it. True if there was something.
    pub(super) fn give_up_boost(&self, zone: &Zone) -> bool {
        zone.boost.mixing() != 0 && zone.boost.change_mixing(|_| 0) != 0
    }

    /// P318: the background is to be woken because of the zone's boost, by who is next outside of
    /// sections.
    #[cold]
    pub(super) fn note_boost(&self, zone: &Zone) {
        // Relaxed, as in the others: who reads it late wakes late.
        self.boosted.fetch_or(1 << zone.id, Relaxed);
    }

    /// A boost was noted.
    #[inline]
    pub(super) fn has_boost_to_tell(&self) -> bool {
        self.boosted.load(Relaxed) != 0
    }

    /// Wakes the background for what was noted.
    ///
    /// Context: outside of sections.
    pub(super) fn tell_boost<R>(&self, relief: &R)
    where
        R: Relief<P> + ?Sized,
    {
        if !self.has_boost_to_tell() {
            return;
        }
        let noted = self.boosted.swap(0, Relaxed);
        for zone in self.zones.iter().filter(|zone| noted >> zone.id & 1 != 0) {
            let call = WakeUp {
                order: 0,
                highest: zone.kind,
                direct_reclaim: false,
            };
            relief.wake_background(self, zone.node, &call);
        }
    }
}

const _: () = assert!(MAX_ZONES <= usize::BITS as usize, "a bit for each zone");
