//! Where in a zone a CPU takes from (P820).
//!
//! 1. A CPU has a *stand* for each type: the shard that it took from last. It stays there as long
//!    as the shard serves it, so that CPUs which took apart from each other go on so. Its first
//!    stand is its home.
//! 2. A shard that serves no more, or whose lock somebody has, is left for another. One in which no
//!    CPU stands is better than one in which somebody does; of several the next after the CPU's
//!    home is taken. Only if all locks are held it waits.
//! 3. Pieces are better than a whole pageblock, wherever they are, once whole ones are scarce
//!    ([`shards::is_scarce`](crate::policy::shards::is_scarce)). While there are plenty, a whole
//!    block of another type is claimed (P317, P318) rather than pieces taken where another CPU
//!    stands.
//! 4. What cannot be moved is claimed in shards that have such memory, whoever stands there, before
//!    another one gets some (P825): the lowest. But CPUs that disturb each other there part
//!    ([`Crowd`]): then a CPU claims at home.
//! 5. What stands, and who does, is a hint: each may be wrong, and costs time then.

use super::PageAllocator;
use super::claim::{Found, Want};
use super::ground::Locking;
use super::guard::Taken;
use super::shard::Shard;
use super::zone::Zone;
use crate::flags::MigrateType;
use crate::frame::{CpuId, Order, PAGEBLOCK_ORDER};
use crate::platform::Platform;
use crate::policy::fallback::fallbacks;
use crate::policy::placement::{self, Crowd, WasHeld};
use crate::policy::shards::SHARDS_MAX;
use crate::sync::Local;
use crate::sync::atomic::AtomicU32;
use crate::sync::atomic::Ordering::Relaxed;

const _: () = assert!(SHARDS_MAX <= u64::BITS as usize, "a bit for each shard");

/// The stands of one CPU in one zone; only who holds the CPU's section changes them.
#[derive(Default)]
pub(crate) struct Stands {
    /// By type: the shard's number and 1; 0: nothing of the type was taken yet.
    shards: [AtomicU32; MigrateType::COUNT],
    /// A [`Crowd`].
    crowd: AtomicU32,
}

impl Stands {
    /// The shard of a type, by its number; `None`: nothing of the type was taken yet.
    #[inline]
    fn get(&self, kind: MigrateType) -> Option<usize> {
        self.shards[kind as usize]
            .load(Relaxed)
            .checked_sub(1)
            .map(|n| n as usize)
    }

    fn set(&self, kind: MigrateType, shard: usize) {
        self.shards[kind as usize].store(shard as u32 + 1, Relaxed);
    }

    /// How crowded it is where this CPU takes what cannot be moved and another one stands.
    fn crowd(&self) -> Crowd {
        Crowd::from_bits(self.crowd.load(Relaxed))
    }

    /// Notes whether the lock was somebody's there.
    pub(super) fn note_lock(&self, was: WasHeld) {
        self.crowd.store(self.crowd().after(was).bits(), Relaxed);
    }
}

/// The CPU that stands in a shard, if one does.
#[derive(Default)]
pub(super) struct Stander(AtomicU32);

impl Stander {
    pub(super) fn new() -> Stander {
        Stander(AtomicU32::new(0))
    }

    fn is(&self, cpu: CpuId) -> bool {
        self.0.load(Relaxed) == cpu.0 + 1
    }

    /// Somebody else stands here.
    fn is_other(&self, cpu: CpuId) -> bool {
        self.0.load(Relaxed) != 0 && !self.is(cpu)
    }

    /// Relaxed, as all here: of two that come at the same time one is not known.
    fn come(&self, cpu: CpuId) {
        if self.0.load(Relaxed) == 0 {
            self.0.store(cpu.0 + 1, Relaxed);
        }
    }

    pub(super) fn leave(&self, cpu: CpuId) {
        if self.is(cpu) {
            self.0.store(0, Relaxed);
        }
    }
}

/// How well a shard serves, the best first.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Service {
    /// From what is broken already; or it is whole blocks that are wanted.
    Fits,
    /// Whole blocks are to be broken, of which there are plenty.
    Breaks,
    /// Plenty of whole blocks, but of another type.
    Claims,
    /// One of the last whole blocks is to be broken.
    Wastes,
}

impl Shard {
    /// True if it serves without a loss for anybody else.
    #[inline]
    pub(super) fn serves(&self, order: Order, kind: MigrateType) -> bool {
        match self.runs().smallest(kind, order.get()) {
            Some(PAGEBLOCK_ORDER..) => order >= Order::PAGEBLOCK || !self.is_scarce(),
            found => found.is_some(),
        }
    }

    /// How it serves, if it does.
    fn service(&self, order: Order, kind: MigrateType) -> Option<Service> {
        let (runs, whole) = (self.runs(), order >= Order::PAGEBLOCK);
        match runs.smallest(kind, order.get()) {
            Some(found) if whole || found < PAGEBLOCK_ORDER => Some(Service::Fits),
            Some(_) if self.is_scarce() => Some(Service::Wastes),
            Some(_) => Some(Service::Breaks),
            None if self.claimable(order, kind).is_none() => None,
            None if self.is_tainted_by(kind) => Some(Service::Claims),
            None if whole || !self.is_scarce() => Some(Service::Claims),
            None => None,
        }
    }

    /// True if it has memory that cannot be moved, as this is: all of it goes before another shard
    /// gets some (P825).
    fn is_tainted_by(&self, kind: MigrateType) -> bool {
        placement::is_fixed(kind) && self.fixed() > 0
    }

    /// The type and order of the whole blocks that a request may claim (P317). What is movable may
    /// be borrowed from areas first (P315).
    fn claimable(&self, order: Order, kind: MigrateType) -> Option<(MigrateType, u8)> {
        if kind == MigrateType::Movable {
            return None;
        }
        let lowest = order.max(Order::PAGEBLOCK).get();
        let orders = (lowest..=Order::MAX.get()).rev();
        let each = orders.flat_map(|order| fallbacks(kind).iter().map(move |from| (*from, order)));
        let runs = self.runs();
        each.into_iter()
            .find(|(from, order)| runs.has(*from, *order))
    }
}

/// How well a shard suits a request, the best first: what stands first decides.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    /// Pieces before whole blocks; where the CPU stands before other shards, unless a block of
    /// another type is to be claimed and there are pieces where nobody stands.
    class: u8,
    disturbs: bool,
    service: Service,
    distance: usize,
}

/// [`Rank::class`] of who claims where nothing is of its type.
const TAINTS: u8 = 5;

/// A shard by its number, and how well it suits.
type Choice = (Rank, usize);

impl<P: Platform> PageAllocator<P> {
    /// Takes from the free memory of the type that is wanted, or from whole blocks of another as
    /// long as there are plenty.
    #[inline(always)]
    pub(super) fn take_own<'z>(
        &'z self,
        local: &'z Local<'_, P>,
        zone: &'z Zone,
        want: &Want,
    ) -> Option<Found<'z>> {
        if let [only] = zone.shards() {
            return self.take_from_shard(local, zone, only, want);
        }
        let stands = self.stands(local, zone);
        let stand = stands.and_then(|stands| stands.get(want.kind));
        if let Some(at) = stand
            && let Some(shard) = zone.shards().get(at)
            && shard.serves(want.order, want.kind)
            && let Some(found) = self.take_at_stand(local, zone, shard, want, stands)
        {
            return Some(found);
        }
        self.take_elsewhere(local, zone, want, stand)
    }

    pub(super) fn stands(&self, local: &Local<'_, P>, zone: &Zone) -> Option<&Stands> {
        let caches = self.caches_of(local.cpu())?;
        Some(&caches.get(zone.id as usize)?.stands)
    }

    /// [`PageAllocator::take_own`] where the CPU took from last. Who holds the lock of a shard in
    /// which no other CPU stands gives something back, and is gone at once.
    #[inline(always)]
    fn take_at_stand<'z>(
        &'z self,
        local: &'z Local<'_, P>,
        zone: &'z Zone,
        shard: &'z Shard,
        want: &Want,
        stands: Option<&Stands>,
    ) -> Option<Found<'z>> {
        if want.locking == Locking::Wait && shard.stander.is(local.cpu()) {
            return self.take_from_shard(local, zone, shard, want);
        }
        let locking = Locking::Try;
        let found = self.take_from_shard(local, zone, shard, &Want { locking, ..*want });
        if let Some(stands) = stands
            && placement::is_fixed(want.kind)
        {
            stands.note_lock(match found {
                Some(_) => WasHeld::No,
                None => WasHeld::Yes,
            });
        }
        found
    }

    /// [`PageAllocator::take_own`] away from where the CPU took from last.
    #[cold]
    #[inline(never)]
    fn take_elsewhere<'z>(
        &'z self,
        local: &'z Local<'_, P>,
        zone: &'z Zone,
        want: &Want,
        stand: Option<usize>,
    ) -> Option<Found<'z>> {
        let attempt = |at: usize, locking| {
            let shard = &zone.shards()[at];
            let found = self.take_or_claim(local, zone, shard, &Want { locking, ..*want })?;
            if let Some(stands) = self.stands(local, zone) {
                if let Some(old) = stand.and_then(|old| zone.shards().get(old)) {
                    old.stander.leave(local.cpu());
                }
                stands.set(want.kind, at);
                shard.stander.come(local.cpu());
            }
            Some(found)
        };
        let stands = self.stands(local, zone);
        let crowd = stands.map_or(Crowd::default(), Stands::crowd);
        let (mut tried, mut tainted) = (0u64, false);
        while let Some((rank, at)) = zone.best_shard(local.cpu(), want, stand, tried, crowd) {
            if rank.class == TAINTS && tainted && !crowd.is_too_large() {
                break; // it is worth a moment
            }
            if let Some(found) = attempt(at, Locking::Try) {
                return Some(found);
            }
            tried |= 1 << at;
            tainted |= rank.class < TAINTS && want.locking == Locking::Wait;
        }
        if want.locking == Locking::Try {
            return None;
        }
        // All that serve are locked: wait.
        let mut waited = 0u64;
        while let Some((_, at)) = zone.best_shard(local.cpu(), want, stand, waited, crowd) {
            if let Some(found) = attempt(at, Locking::Wait) {
                return Some(found);
            }
            waited |= 1 << at;
        }
        None
    }

    #[inline(always)]
    fn take_from_shard<'z>(
        &'z self,
        local: &'z Local<'_, P>,
        zone: &'z Zone,
        shard: &'z Shard,
        want: &Want,
    ) -> Option<Found<'z>> {
        if !shard.runs().has_at_least(want.kind, want.order.get()) {
            return None;
        }
        let mut guard = zone.lock_in(&self.blocks, local, shard, want.locking)?;
        let taken = guard.take(want.order, want.kind, want.blocks)?;
        Some((guard, taken))
    }

    /// As [`PageAllocator::take_from_shard`]; what it does not have is claimed (P317, P318).
    fn take_or_claim<'z>(
        &'z self,
        local: &'z Local<'_, P>,
        zone: &'z Zone,
        shard: &'z Shard,
        want: &Want,
    ) -> Option<Found<'z>> {
        let mut guard = zone.lock_in(&self.blocks, local, shard, want.locking)?;
        let &Want { order, kind, .. } = want;
        let taken: Option<Taken> = guard.take(order, kind, want.blocks).or_else(|| {
            let (from, found) = shard.claimable(order, kind)?;
            let block = shard.at_end(placement::end_of(kind), from, found)?;
            let whole = || 0; // it has no used pages
            let claimed = guard.claim(block, found, kind, self.grouping(), whole);
            debug_assert!(claimed, "whole blocks always may be");
            guard.take(order, kind, want.blocks)
        });
        Some((guard, taken?))
    }
}

impl Zone {
    /// The shard that suits a request best, of those that are not in `tried`.
    fn best_shard(
        &self,
        cpu: CpuId,
        want: &Want,
        stand: Option<usize>,
        tried: u64,
        crowd: Crowd,
    ) -> Option<Choice> {
        let kind = want.kind;
        let stand = stand.unwrap_or(self.nth_shard(cpu, kind, 0));
        let choices = (0..self.shards().len()).filter_map(|distance| -> Option<Choice> {
            let at = self.nth_shard(cpu, kind, distance);
            let shard = &self.shards()[at];
            let service = shard.service(want.order, kind)?;
            let mut disturbs = shard.stander.is_other(cpu);
            let mut distance = distance;
            let large = want.order >= Order::PAGEBLOCK;
            let class = match service {
                Service::Claims if !shard.is_tainted_by(kind) => TAINTS,
                Service::Fits | Service::Breaks if at == stand => 0,
                Service::Fits if !disturbs => 1,
                Service::Claims if at == stand => 2,
                Service::Fits if !large => 3,
                Service::Wastes if !shard.is_tainted_by(kind) => TAINTS + 1,
                _ => 4,
            };
            if class == TAINTS && !crowd.is_too_large() {
                // Decided once for the zone: the lowest.
                (disturbs, distance) = (false, at);
            }
            let rank = Rank {
                class,
                disturbs,
                service,
                distance,
            };
            (tried >> at & 1 == 0).then_some((rank, at))
        });
        choices.min()
    }
}
