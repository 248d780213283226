//! A shard: a run of a zone's pageblocks under a lock of its own (P820).

use super::index::{BlockIndex, IndexSets};
use super::mail::Mail;
use super::stand::Stander;
use super::zone::NR_LISTS;
use crate::flags::MigrateType;
use crate::frame::{NR_ORDERS, PAGEBLOCK_ORDER};
use crate::platform::Platform;
use crate::policy::fallback::is_mergeable;
use crate::policy::placement::{self, End};
use crate::policy::shards;
use crate::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use crate::sync::{Carved, LineBreak, Local, Lock, LockGuard, Rank};

/// For which types and orders there are blocks with a largest free run of that order: one bit each.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Runs(pub(super) u64);

const _: () = assert!(NR_LISTS * NR_ORDERS <= 64, "a bit for each type and order");

const _: () = assert!(
    NR_LISTS == MigrateType::Isolate as usize,
    "isolated ones come last"
);

impl Runs {
    /// Where the bits of a type start. Those of isolated ones are never set.
    #[inline]
    const fn shift(kind: MigrateType) -> u32 {
        kind as u32 * NR_ORDERS as u32
    }

    #[inline]
    const fn bit(kind: MigrateType, order: u8) -> u64 {
        1 << (Runs::shift(kind) + order as u32)
    }

    /// The bits of a type that stand for this order or larger.
    #[inline]
    const fn fits(self, kind: MigrateType, order: u8) -> u64 {
        let orders = (1 << NR_ORDERS) - 1;
        self.0 & (orders & (u64::MAX << order)) << Runs::shift(kind)
    }

    /// True if there is such a block of this order.
    #[inline]
    pub(crate) const fn has(self, kind: MigrateType, order: u8) -> bool {
        self.0 >> Runs::shift(kind) >> order & 1 != 0
    }

    /// True if there is one of this order or larger.
    #[inline]
    pub(crate) const fn has_at_least(self, kind: MigrateType, order: u8) -> bool {
        self.fits(kind, order) != 0
    }

    /// The smallest order from this one on.
    #[inline]
    pub(crate) const fn smallest(self, kind: MigrateType, order: u8) -> Option<u8> {
        let fits = self.fits(kind, order);
        if fits == 0 {
            return None;
        }
        Some((fits.trailing_zeros() - Runs::shift(kind)) as u8)
    }

    /// Everything of this order or larger, of whatever type.
    #[inline]
    pub(crate) const fn from(order: u8) -> Runs {
        const FROM: [u64; 16] = {
            let mut from = [0; 16];
            let mut order = 0;
            while order < NR_ORDERS {
                let mut kind = 0;
                while kind < NR_LISTS {
                    let orders = ((1 << NR_ORDERS) - 1) & (u64::MAX << order);
                    from[order] |= orders << (kind * NR_ORDERS);
                    kind += 1;
                }
                order += 1;
            }
            from
        };
        Runs(FROM[order as usize & 15])
    }

    /// What one has and the other does not.
    #[inline]
    pub(crate) const fn without(self, other: Runs) -> Runs {
        Runs(self.0 & !other.0)
    }

    /// What both have.
    #[inline]
    pub(crate) const fn and(self, other: Runs) -> Runs {
        Runs(self.0 & other.0)
    }

    /// What one of two has.
    #[inline]
    pub(crate) const fn or(self, other: Runs) -> Runs {
        Runs(self.0 | other.0)
    }
}

/// Sets of a shard: one a type and order, and [`Shard::dirty`].
const SETS: usize = NR_LISTS * NR_ORDERS + 1;

/// One shard. What is changed is changed under its lock, and read anywhere.
#[repr(C)]
pub(crate) struct Shard {
    /// Number of its first block in [`Blocks`](super::zone::Blocks), and how many it spans.
    pub(super) first_block: usize,
    pub(super) nr_blocks: usize,
    /// The blocks of each type and largest free run, and [`Shard::dirty`].
    sets: IndexSets,
    /// Requests on all CPUs read `runs`, which changes seldom; so it has a line of its own.
    _read: LineBreak,
    /// [`Runs`].
    runs: AtomicU64,
    pub(super) stander: Stander,
    pub(super) mail: Mail,
    _written: LineBreak,
    lock: Lock<(), { Rank::Zone as u8 }>,
    pub(super) nr_free: [[AtomicU32; MigrateType::COUNT]; NR_ORDERS],
    /// Blocks whose type is fixed ([`placement::is_fixed`]).
    fixed: AtomicU32,
    /// The most blocks that went in and out under one hold of the lock.
    #[cfg(test)]
    pub(crate) most_work: AtomicU32,
    _end: LineBreak,
}

impl Shard {
    /// Words of index that a shard of so many blocks needs.
    pub(super) const fn index_words(nr_blocks: usize) -> usize {
        IndexSets::words_for(SETS, nr_blocks)
    }

    /// A shard with no free memory; the words are zero.
    pub(super) fn new(blocks: core::ops::Range<usize>, words: Carved<AtomicU64>) -> Shard {
        Shard {
            first_block: blocks.start,
            nr_blocks: blocks.len(),
            sets: IndexSets::new(words, SETS, blocks.len()),
            runs: AtomicU64::new(0),
            stander: Stander::new(),
            mail: Mail::new(),
            lock: Lock::new(()),
            nr_free: core::array::from_fn(|_| core::array::from_fn(|_| AtomicU32::new(0))),
            fixed: AtomicU32::new(0),
            #[cfg(test)]
            most_work: AtomicU32::new(0),
            _read: LineBreak,
            _written: LineBreak,
            _end: LineBreak,
        }
    }

    /// What it has. Without its lock: a moment ago.
    #[inline]
    pub(crate) fn runs(&self) -> Runs {
        // Relaxed: who acts on it takes the lock and looks again.
        Runs(self.runs.load(Relaxed))
    }

    /// Notes that the index of a type and order has a block from now on. The lock is held.
    #[inline]
    pub(super) fn note_some(&self, kind: MigrateType, order: u8) {
        let runs = self.runs.load(Relaxed) | Runs::bit(kind, order);
        self.runs.store(runs, Relaxed);
    }

    /// Notes that it has none any more. The lock is held.
    #[inline]
    pub(super) fn note_none(&self, kind: MigrateType, order: u8) {
        let runs = self.runs.load(Relaxed) & !Runs::bit(kind, order);
        self.runs.store(runs, Relaxed);
    }

    /// Blocks whose type is fixed. Without its lock: a moment ago.
    #[inline]
    pub(crate) fn fixed(&self) -> usize {
        self.fixed.load(Relaxed) as usize
    }

    /// Notes that a block of one type is of another from now on. The lock is held.
    pub(super) fn note_type(&self, old: MigrateType, new: MigrateType) {
        let (lost, won) = (placement::is_fixed(old), placement::is_fixed(new));
        let fixed = self.fixed.load(Relaxed) + u32::from(won);
        debug_assert!(fixed >= u32::from(lost));
        self.fixed.store(fixed - u32::from(lost), Relaxed);
    }

    /// Free blocks of an order and type.
    #[inline]
    pub(crate) fn nr_free(&self, order: usize, kind: MigrateType) -> usize {
        self.nr_free[order][kind as usize].load(Relaxed) as usize
    }

    /// True if it has few wholly free pageblocks, of whatever type that may become another
    /// ([`shards::is_scarce`]). Without its lock: a moment ago.
    pub(super) fn is_scarce(&self) -> bool {
        let types = MigrateType::ALL
            .into_iter()
            .filter(|kind| is_mergeable(*kind));
        let of = |order: u8, kind| self.nr_free(usize::from(order), kind);
        let whole = types.map(|kind| of(PAGEBLOCK_ORDER, kind) + 2 * of(PAGEBLOCK_ORDER + 1, kind));
        shards::is_scarce(whole.sum(), self.nr_blocks)
    }

    /// The blocks of a type whose largest free run has this order; isolated ones are in no set.
    #[inline]
    pub(super) fn index(&self, kind: MigrateType, order: u8) -> Option<BlockIndex<'_>> {
        let kind = kind as usize;
        (kind < NR_LISTS).then(|| self.sets.set(kind * NR_ORDERS + order as usize))
    }

    /// Wholly free blocks whose memory the operating system does not have yet.
    #[inline]
    pub(super) fn dirty(&self) -> BlockIndex<'_> {
        self.sets.set(NR_LISTS * NR_ORDERS)
    }

    /// True if the index of a type and order has this block.
    pub(crate) fn index_contains(&self, list: usize, order: usize, block: usize) -> bool {
        let index = self.sets.set(list * NR_ORDERS + order);
        index.contains(block - self.first_block)
    }

    /// True if a block lies in it.
    #[inline]
    pub(super) fn has(&self, block: usize) -> bool {
        block.wrapping_sub(self.first_block) < self.nr_blocks
    }

    /// The lowest block whose largest free run has this type and order.
    #[inline]
    pub(super) fn first(&self, kind: MigrateType, order: u8) -> Option<usize> {
        Some(self.index(kind, order)?.first()? + self.first_block)
    }

    /// The block at one end of those whose largest free run has this type and order.
    #[inline]
    pub(super) fn at_end(&self, end: End, kind: MigrateType, order: u8) -> Option<usize> {
        let index = self.index(kind, order)?;
        let member = match end {
            End::Low => index.first(),
            End::High => index.last(),
        };
        Some(member? + self.first_block)
    }

    /// A block with a run of this type that is at least of this order, the smallest fit first, and
    /// of several the one at the type's end (P825). The lock is held.
    #[inline]
    pub(super) fn best(&self, kind: MigrateType, order: u8) -> Option<usize> {
        let order = self.runs().smallest(kind, order)?;
        // Of isolated ones there are no runs.
        let index = self.sets.set(kind as usize * NR_ORDERS + order as usize);
        let member = match placement::end_of(kind) {
            End::Low => index.first(),
            End::High => index.last(),
        };
        Some(member? + self.first_block)
    }

    #[inline]
    pub(super) fn lock<'z, P: Platform>(
        &'z self,
        local: &'z Local<'_, P>,
    ) -> LockGuard<'z, (), { Rank::Zone as u8 }> {
        self.lock.lock(local)
    }

    #[inline]
    pub(super) fn try_lock<'z, P: Platform>(
        &'z self,
        local: &'z Local<'_, P>,
    ) -> Option<LockGuard<'z, (), { Rank::Zone as u8 }>> {
        self.lock.try_lock(local)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bit_for_each_type_and_order_and_none_for_isolated_ones() {
        let mut seen = Runs::default();
        for kind in &MigrateType::ALL[..NR_LISTS] {
            for order in 0..NR_ORDERS as u8 {
                assert!(!seen.has(*kind, order));
                seen = seen.or(Runs(Runs::bit(*kind, order)));
                assert!(seen.has(*kind, order));
            }
        }
        assert_eq!(seen.0.count_ones() as usize, NR_LISTS * NR_ORDERS);
        for order in 0..NR_ORDERS as u8 {
            assert!(!seen.has(MigrateType::Isolate, order));
            assert!(!seen.has_at_least(MigrateType::Isolate, order));
        }
    }

    #[test]
    fn at_least_looks_at_this_order_and_all_above_of_one_type() {
        for kind in MigrateType::ALL
            .into_iter()
            .filter(|k| *k != MigrateType::Isolate)
        {
            for there in 0..NR_ORDERS as u8 {
                let runs = Runs(Runs::bit(kind, there));
                for other in MigrateType::ALL {
                    for order in 0..NR_ORDERS as u8 {
                        let expected = other == kind && order <= there;
                        assert_eq!(runs.has_at_least(other, order), expected);
                        let smallest = runs.smallest(other, order);
                        assert_eq!(smallest, expected.then_some(there));
                    }
                }
            }
        }
    }
}
