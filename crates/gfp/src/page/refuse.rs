//! Requests that no shard can serve.
//!
//! 1. A zone knows in one word what its shards may have ([`Presence`](super::presence::Presence)).
//!    A request that finds nothing there goes on without a look at the shards.
//! 2. Who cannot do anything about it is refused at once: a request whose plan is one more look
//!    ([`Effort::is_one_look`](crate::policy::effort::Effort::is_one_look)), when nothing is on its
//!    way back either: no mail, nothing hidden, nothing kept for the urgent, no rest of boot's.
//! 3. The word may promise too much. A request in need that is misled has it looked at again.
//! 4. What fails is counted by the CPU where it does.

use super::cache::Counter;
use super::shard::{Runs, Shard};
use super::zone::Zone;
use super::{PageAllocator, PageRequest};
use crate::frame::{NR_ORDERS, Order};
use crate::platform::Platform;
use crate::sync::Local;
use crate::sync::atomic::AtomicUsize;
use crate::sync::atomic::Ordering::Relaxed;

impl Zone {
    /// What some shard may have: all that some shard has, and perhaps more.
    #[inline]
    pub(crate) fn may_have(&self) -> Runs {
        Runs(self.presence.seen())
    }

    /// True if no shard has a run of this order or larger, of whatever type.
    #[inline]
    pub(super) fn lacks(&self, order: Order) -> bool {
        self.may_have().and(Runs::from(order.get())) == Runs::default()
    }

    /// Notes what a shard has, when its lock is about to be let go.
    #[inline(always)]
    pub(super) fn note_runs(&self, shard: &Shard) {
        self.presence
            .note(shard.runs().0, |order| Runs::from(order).0);
    }

    /// True if nothing is on its way back to its shards, nor in the hands of who puts it. What came
    /// back before is in [`Zone::may_have`] by now.
    fn is_settled(&self) -> bool {
        self.hidden() == 0
            && self.urgent.is_idle()
            && self.shards().iter().all(|shard| shard.mail.pages() == 0)
    }
}

impl<P: Platform> PageAllocator<P> {
    /// True if no zone that may serve a request has anything for it, now or soon.
    pub(super) fn has_nothing_for(&self, req: &PageRequest) -> bool {
        // What came back between the two looks is seen by the second.
        let has_nothing =
            |zone: &Zone| zone.lacks(req.order) && zone.is_settled() && zone.lacks(req.order);
        !self.has_rest() && self.candidates(req).all(has_nothing)
    }

    /// Has those zones looked at that seem to have something for a request in need, and do not.
    #[inline]
    pub(super) fn look_again_for(&self, req: &PageRequest) {
        let wanted = Runs::from(req.order.get());
        let has_some = |runs: Runs| runs.and(wanted) != Runs::default();
        let misled = |zone: &&Zone| has_some(zone.may_have()) && !has_some(zone.runs());
        for zone in self.candidates(req).filter(misled) {
            self.look_at_shards(zone, req.order);
        }
    }

    /// Looks whether the shards of a zone have anything of this order or larger. A shard whose lock
    /// somebody has may have it.
    #[cold]
    #[inline(never)]
    fn look_at_shards(&self, zone: &Zone, order: Order) {
        let Ok(local) = Local::enter(&self.platform) else {
            return;
        };
        if !zone.presence.begin(order.get()) {
            return;
        }
        let mut missing = Runs::from(order.get());
        for shard in zone.shards() {
            match zone.try_lock_shard(&self.blocks, &local, shard) {
                Some(_guard) => missing = missing.without(shard.runs()),
                None => missing = Runs::default(),
            }
            self.look_for_mail(&local, zone, shard);
        }
        zone.presence.end(missing.0);
    }

    /// Counts a request that fails.
    ///
    /// Context: any.
    pub(super) fn count_failure(&self, order: Order) {
        let local = Local::enter_quick(&self.platform);
        let own = local
            .as_ref()
            .and_then(|l| self.failed.own.get(l.cpu().0 as usize));
        match own {
            Some(own) => own.0[order.index()].add(1),
            None => _ = self.failed.others[order.index()].fetch_add(1, Relaxed),
        }
    }

    /// Requests that failed, by order.
    pub fn failures(&self) -> [usize; NR_ORDERS] {
        core::array::from_fn(|order| {
            let own = self
                .failed
                .own
                .iter()
                .map(|own| own.0[order].get() as usize);
            self.failed.others[order].load(Relaxed) + own.sum::<usize>()
        })
    }
}

/// CPUs that count their failures apart from others; few in tests, so that there are others.
const OWN: usize = if cfg!(test) { 2 } else { 15 };

/// Requests that failed, by order.
pub(super) struct Failures {
    /// By CPU; written by who holds its section.
    own: [Own; OWN],
    /// Of the CPUs after those, and of who could not enter.
    others: [AtomicUsize; NR_ORDERS],
}

/// Of one CPU.
#[derive(Default)]
#[repr(align(64))]
struct Own([Counter; NR_ORDERS]);

impl Failures {
    pub(super) fn new() -> Failures {
        Failures {
            own: Default::default(),
            others: Default::default(),
        }
    }
}
