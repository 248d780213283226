//! Where in a zone the memory of a type lies (P825).
//!
//! One page that cannot be moved keeps its pageblock from ever becoming a huge page, and its
//! superblock of 1 GiB from becoming a gigantic one. So types grow towards each other: what cannot
//! be moved takes the lowest shards and blocks that serve it, what can be moved the highest. The
//! first superblocks then hold all that cannot be moved, the last ones nothing of it, and what is
//! free lies between. A type that grows again takes the blocks next to those that it has.
//!
//! ```text
//!   low  | unmovable, reclaimable | mixed, if memory is full | movable                | high
//!        |  superblock 0, 1 -->   |    free pageblocks       |  <-- ..., last but one, last |
//! ```
//!
//! When a type takes from another:
//!
//! * What cannot be moved claims whole blocks in shards that have fixed blocks already, then parts
//!   of blocks there, and only then a block of a shard that has none ([`passes`]).
//! * What can be moved borrows pages of a fixed block, but claims it only if nothing in it is stuck
//!   ([`claim`]): else the type would leave pages behind there that nobody can move, and would need
//!   another block for the next ones.

use super::fallback::{self, BlockUse, Claim, Grouping};
use super::order::{MAX_PAGE_ORDER, PAGEBLOCK_ORDER, PAGEBLOCK_PAGES};
use crate::flags::MigrateType;
use core::ops::RangeInclusive;

/// One end of a zone.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum End {
    /// The lowest addresses.
    Low,
    /// The highest.
    High,
}

/// The end from which a type takes what serves it equally well.
#[inline]
pub const fn end_of(kind: MigrateType) -> End {
    match kind {
        MigrateType::Movable => End::High,
        _ => End::Low,
    }
}

/// Which of a zone's `shards` is the `nth` that a CPU with this `home` takes a type from: shards
/// follow each other upwards or downwards, and the homes of what can be moved are counted from the
/// other end. `home` and `nth` are less than `shards`.
#[inline]
pub const fn shard(kind: MigrateType, home: usize, nth: usize, shards: usize) -> usize {
    let mut at = home + nth;
    if at >= shards {
        at -= shards;
    }
    match end_of(kind) {
        End::Low => at,
        End::High => shards - 1 - at,
    }
}

/// Whether what is in blocks of this type cannot be moved, as far as the type says.
#[inline]
pub const fn is_fixed(kind: MigrateType) -> bool {
    use MigrateType::{HighAtomic, Reclaimable, Unmovable};
    matches!(kind, Unmovable | Reclaimable | HighAtomic)
}

/// The shards that are looked at.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Shards {
    /// Those that have fixed blocks.
    Tainted,
    /// All.
    Any,
}

impl Shards {
    /// Whether a shard with so many fixed blocks is one of them.
    #[inline]
    pub const fn include(self, fixed: usize) -> bool {
        matches!(self, Shards::Any) || fixed > 0
    }
}

/// Whether the lock of a shard was somebody's when it was wanted.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum WasHeld {
    /// It was.
    Yes,
    /// It was free.
    No,
}

/// How crowded it is where a CPU takes what cannot be moved beside another CPU. Such memory keeps
/// together whoever asks for it, unless they wait for each other: about one time in nine and more.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Crowd(u32);

impl Crowd {
    const STEP: u32 = 8;
    const LIMIT: u32 = 4 * Crowd::STEP;

    /// As it was kept.
    #[inline]
    pub const fn from_bits(bits: u32) -> Crowd {
        Crowd(bits)
    }

    /// To be kept.
    #[inline]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// After one more try.
    #[inline]
    pub const fn after(self, held: WasHeld) -> Crowd {
        match held {
            WasHeld::No => Crowd(self.0.saturating_sub(1)),
            WasHeld::Yes if self.is_too_large() => self,
            WasHeld::Yes => Crowd(self.0 + Crowd::STEP),
        }
    }

    /// True if this CPU had better go elsewhere, though memory is tainted by that.
    #[inline]
    pub const fn is_too_large(self) -> bool {
        self.0 >= Crowd::LIMIT
    }
}

/// One look for a block of another type.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pass {
    /// Where.
    pub shards: Shards,
    /// The order of its largest free run, the largest first.
    pub orders: RangeInclusive<u32>,
}

const ALL: RangeInclusive<u32> = 0..=MAX_PAGE_ORDER;

/// The looks of a request of this type, first choice first: what each finds may be claimed (P317),
/// and what all together do not find may be stolen (P319).
pub const fn passes(kind: MigrateType) -> &'static [Pass] {
    const FIXED: &[Pass] = &[
        Pass {
            shards: Shards::Tainted,
            orders: PAGEBLOCK_ORDER..=MAX_PAGE_ORDER,
        },
        Pass {
            shards: Shards::Tainted,
            orders: 0..=PAGEBLOCK_ORDER - 1,
        },
        ANY,
    ];
    const ANY: Pass = Pass {
        shards: Shards::Any,
        orders: ALL,
    };
    match end_of(kind) {
        End::Low => FIXED,
        End::High => &[ANY],
    }
}

/// Where a request of this type steals single blocks of pages (P319), first choice first.
pub const fn steals_from(kind: MigrateType) -> &'static [Shards] {
    match end_of(kind) {
        End::Low => &[Shards::Tainted, Shards::Any],
        End::High => &[Shards::Any],
    }
}

/// [`fallback::claim`], but a fixed block becomes movable only if none of its pages is stuck: if
/// all are free, or used and can be moved.
pub fn claim(
    found: u32,
    request: MigrateType,
    block: MigrateType,
    grouping: Grouping,
    usage: impl FnOnce() -> BlockUse,
) -> Claim {
    let mut stuck = 0;
    let usage = || {
        let usage = usage();
        stuck = PAGEBLOCK_PAGES.saturating_sub(usage.free + usage.movable);
        usage
    };
    match fallback::claim(found, request, block, grouping, usage) {
        Claim::RetypeBlock if stuck > 0 && grouping == Grouping::On => match request {
            MigrateType::Movable => Claim::LeaveBlock,
            _ => Claim::RetypeBlock,
        },
        decided => decided,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use MigrateType::{Cma, HighAtomic, Movable, Reclaimable, Unmovable};
    use std::vec::Vec;

    #[test]
    fn what_can_be_moved_keeps_away_from_what_cannot() {
        // P825
        assert_eq!(end_of(Movable), End::High);
        assert!(!is_fixed(Movable) && !is_fixed(Cma));
        for kind in [Unmovable, Reclaimable, HighAtomic] {
            assert_eq!(end_of(kind), End::Low, "{kind:?}");
            assert!(is_fixed(kind));
        }
    }

    #[test]
    fn the_shards_of_a_type_follow_each_other_from_its_home_on() {
        // P820, P825
        let of = |kind, home| [0, 1, 2, 3].map(|nth| shard(kind, home, nth, 4));
        assert_eq!(of(Unmovable, 0), [0, 1, 2, 3]);
        assert_eq!(of(Reclaimable, 3), [3, 0, 1, 2]);
        assert_eq!(of(Movable, 0), [3, 2, 1, 0]);
        assert_eq!(of(Movable, 3), [0, 3, 2, 1]);
        for kind in [Unmovable, Movable] {
            assert_eq!(shard(kind, 0, 0, 1), 0);
        }
    }

    #[test]
    fn what_cannot_be_moved_stays_where_such_memory_is_before_it_goes_elsewhere() {
        // P825
        for kind in [Unmovable, Reclaimable] {
            let looks: Vec<_> = passes(kind)
                .iter()
                .map(|pass| (pass.shards, pass.orders.clone()))
                .collect();
            let expected = [
                (Shards::Tainted, 9..=10),
                (Shards::Tainted, 0..=8),
                (Shards::Any, 0..=10),
            ];
            assert_eq!(looks, expected);
        }
        let [only] = passes(Movable) else {
            panic!("one look")
        };
        assert_eq!((only.shards, &only.orders), (Shards::Any, &ALL));
        assert!(Shards::Any.include(0) && Shards::Tainted.include(1));
        assert!(!Shards::Tainted.include(0));
    }

    #[test]
    fn cpus_that_wait_for_each_other_often_part_and_those_that_do_seldom_stay() {
        // P820, P825
        let after = |rounds: usize, free: usize| {
            let mut crowd = Crowd::default();
            for _ in 0..rounds {
                crowd = crowd.after(WasHeld::Yes);
                if crowd.is_too_large() {
                    return true;
                }
                (0..free).for_each(|_| crowd = crowd.after(WasHeld::No));
            }
            crowd.is_too_large()
        };
        assert!(!after(3, 0) && after(4, 0));
        assert!(after(30, 7) && !after(100_000, 8));
        let mut crowd = Crowd::default();
        (0..1000).for_each(|_| crowd = crowd.after(WasHeld::Yes));
        assert_eq!(Crowd::from_bits(crowd.bits()), crowd);
        (0..9).for_each(|_| crowd = crowd.after(WasHeld::No));
        assert!(!crowd.is_too_large());
    }

    #[test]
    fn every_request_looks_at_all_orders_everywhere_at_last() {
        for kind in [Unmovable, Movable, Reclaimable] {
            let last = passes(kind).last().unwrap();
            assert_eq!((last.shards, &last.orders), (Shards::Any, &ALL));
            assert_eq!(steals_from(kind).last(), Some(&Shards::Any));
        }
    }

    #[test]
    fn a_fixed_block_becomes_movable_only_if_nothing_in_it_is_stuck() {
        // P318, P825
        let decide = |request, block, grouping, free, movable| {
            claim(4, request, block, grouping, || BlockUse { free, movable })
        };
        let on = Grouping::On;
        assert_eq!(decide(Movable, Unmovable, on, 511, 0), Claim::LeaveBlock);
        assert_eq!(
            decide(Movable, Reclaimable, on, 300, 211),
            Claim::LeaveBlock
        );
        assert_eq!(decide(Movable, Unmovable, on, 300, 212), Claim::RetypeBlock);
        // Others go by P318 alone, and so does a machine that does not group.
        assert_eq!(decide(Unmovable, Movable, on, 256, 256), Claim::RetypeBlock);
        assert_eq!(
            decide(Reclaimable, Unmovable, on, 256, 0),
            Claim::RetypeBlock
        );
        assert_eq!(decide(Unmovable, Movable, on, 100, 400), Claim::LeaveBlock);
        let off = decide(Movable, Unmovable, Grouping::Off, 8, 0);
        assert_eq!(off, Claim::RetypeBlock);
        let whole = claim(10, Movable, Unmovable, on, || unreachable!());
        assert_eq!(whole, Claim::WholeBlocks { count: 2 });
    }
}
