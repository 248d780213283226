//! Mixing of mobility types: when it is allowed, and when a whole pageblock changes its type
//! (P303, P309, P312, P314, P316-P318, P333).
//!
//! A request whose own type has nothing free looks at the other types, largest blocks first. If it
//! takes (*claims*) most of a pageblock, the block gets the request's type, so that the next such
//! requests go there too; otherwise it *steals* single pages and leaves the type alone.

use super::order::{MAX_PAGE_ORDER, PAGEBLOCK_ORDER, PAGEBLOCK_PAGES};
use crate::flags::{MigrateType, ZoneKind};

/// P314: where a request of this type looks when its own lists are empty, first choice first. Empty
/// for types that no request has.
pub const fn fallbacks(of: MigrateType) -> &'static [MigrateType] {
    use MigrateType::*;
    match of {
        Unmovable => &[Reclaimable, Movable],
        Movable => &[Reclaimable, Unmovable],
        Reclaimable => &[Unmovable, Movable],
        HighAtomic | Cma | Isolate => &[],
    }
}

/// P303: the types that may mix with each other in one free block.
pub const fn is_mergeable(mt: MigrateType) -> bool {
    matches!(
        mt,
        MigrateType::Unmovable | MigrateType::Movable | MigrateType::Reclaimable
    )
}

/// P303: whether two free buddies of this order may become one block. Below a pageblock they are in
/// the same pageblock and always may.
pub const fn may_merge(order: u32, a: MigrateType, b: MigrateType) -> bool {
    if order >= MAX_PAGE_ORDER {
        return false;
    }
    order < PAGEBLOCK_ORDER || a.index() == b.index() || (is_mergeable(a) && is_mergeable(b))
}

/// P309: whether pages are grouped by mobility at all.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Grouping {
    /// They are.
    On,
    /// Too little memory: every request counts as unmovable (P48), every block may be claimed.
    Off,
}

impl Grouping {
    /// P309: grouping needs a pageblock for each type, counted in the pages above the high
    /// watermarks.
    pub const fn for_pages(above_high: usize) -> Grouping {
        if above_high < PAGEBLOCK_PAGES * MigrateType::COUNT {
            Grouping::Off
        } else {
            Grouping::On
        }
    }
}

/// P312: whether a request may split the blocks of another type.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Fragmenting {
    /// It may.
    Allowed,
    /// It prefers another zone first (`NOFRAGMENT`).
    Avoided,
}

/// P312, P313: what the choice between zones and mixing types depends on.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct FragmentContext {
    /// The zone that the request would use first.
    pub preferred: ZoneKind,
    /// Pages in the local `DMA32` zone; `None` if the machine is built without one.
    pub dma32_pages: Option<usize>,
    /// The machine has more than one node.
    pub is_numa: bool,
    /// The sysctl `defrag_mode`.
    pub defrag_mode: bool,
}

/// P312: on the fast path, mixing is avoided if a `DMA32` zone below can serve instead, and always
/// in defrag mode.
pub const fn fragmenting(context: &FragmentContext) -> Fragmenting {
    if context.defrag_mode {
        return Fragmenting::Avoided;
    }
    match (context.preferred, context.dma32_pages) {
        (ZoneKind::Normal, Some(pages)) if !context.is_numa || pages > 0 => Fragmenting::Avoided,
        _ => Fragmenting::Allowed,
    }
}

/// P317: the smallest order at which a request of `order` looks for a block to claim; it starts at
/// [`MAX_PAGE_ORDER`] and goes down to this.
pub const fn claim_lowest_order(order: u32, fragmenting: Fragmenting) -> u32 {
    match fragmenting {
        Fragmenting::Avoided if order < PAGEBLOCK_ORDER => PAGEBLOCK_ORDER,
        _ => order,
    }
}

/// P317: whether a free block of order `found` of another type is worth a claim by a request of
/// type `request`; otherwise pages are only stolen from it (P319).
pub const fn should_try_claim(found: u32, request: MigrateType, grouping: Grouping) -> bool {
    found >= PAGEBLOCK_ORDER / 2 // includes whole pageblocks
        || matches!(request, MigrateType::Unmovable | MigrateType::Reclaimable)
        || matches!(grouping, Grouping::Off)
}

/// P318: what the pages of a pageblock are used for, in pages; at most a pageblock together.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct BlockUse {
    /// Free pages.
    pub free: usize,
    /// Used pages that can be moved (on an LRU, or with a migrate callback).
    pub movable: usize,
}

/// P318: what to do with a candidate.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Whole pageblocks: give all of them the new type.
    WholeBlocks {
        /// How many pageblocks.
        count: usize,
    },
    /// Part of a pageblock: move its free pages to the new type and retype it. The zone's watermark
    /// boost is raised.
    RetypeBlock,
    /// Part of a pageblock that is used mostly otherwise: leave its type alone. The zone's
    /// watermark boost is raised.
    LeaveBlock,
}

/// P318: the decision for a free block of order `found` that lies in a pageblock of type `block`.
///
/// `usage` is read only if the block is smaller than a pageblock.
pub fn claim(
    found: u32,
    request: MigrateType,
    block: MigrateType,
    grouping: Grouping,
    usage: impl FnOnce() -> BlockUse,
) -> Claim {
    if found >= PAGEBLOCK_ORDER {
        return Claim::WholeBlocks {
            count: 1 << (found - PAGEBLOCK_ORDER),
        };
    }
    let BlockUse { free, movable } = usage();
    debug_assert!(
        free + movable <= PAGEBLOCK_PAGES,
        "more pages than a pageblock has"
    );
    let compatible = match (request, block) {
        (MigrateType::Movable, _) => movable,
        (_, MigrateType::Movable) => PAGEBLOCK_PAGES.saturating_sub(free + movable),
        // Unmovable against reclaimable: the used pages cannot be told apart.
        _ => 0,
    };
    if free + compatible >= PAGEBLOCK_PAGES / 2 || grouping == Grouping::Off {
        Claim::RetypeBlock
    } else {
        Claim::LeaveBlock
    }
}

/// P316: whether a request with the CMA right takes CMA pages before its own type: more than half
/// of the zone's free pages are CMA pages. In pages.
pub const fn cma_first(free: usize, free_cma: usize) -> bool {
    free_cma > free / 2
}

/// P333: how many pages of a zone may become the reserve for urgent requests of order > 0: 1 %,
/// rounded up to pageblocks; none if 1 % is less than a pageblock.
pub const fn highatomic_limit(managed: usize) -> usize {
    let percent = managed / 100;
    if percent < PAGEBLOCK_PAGES {
        0
    } else {
        percent.next_multiple_of(PAGEBLOCK_PAGES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use MigrateType::*;

    const REQUESTS: [MigrateType; 3] = [Unmovable, Movable, Reclaimable];

    #[test]
    fn fallback_order() {
        // P314
        assert_eq!(fallbacks(Unmovable), [Reclaimable, Movable]);
        assert_eq!(fallbacks(Movable), [Reclaimable, Unmovable]);
        assert_eq!(fallbacks(Reclaimable), [Unmovable, Movable]);
        for special in [HighAtomic, Cma, Isolate] {
            assert!(fallbacks(special).is_empty());
            assert!(!is_mergeable(special));
        }
        for request in REQUESTS {
            assert!(!fallbacks(request).contains(&request) && is_mergeable(request));
        }
    }

    #[test]
    fn merging_respects_reserved_types() {
        // P303, P954
        assert!(!may_merge(9, Movable, Cma) && may_merge(9, Movable, Unmovable));
        for a in MigrateType::ALL {
            for b in MigrateType::ALL {
                assert!(may_merge(8, a, b), "same pageblock");
                let ordinary = a.index() < 3 && b.index() < 3;
                assert_eq!(may_merge(9, a, b), ordinary || a == b, "{a:?} {b:?}");
                assert!(!may_merge(10, a, b), "nothing above the largest order");
            }
        }
    }

    #[test]
    fn grouping_needs_a_block_for_each_type() {
        // P309
        assert_eq!(Grouping::for_pages(6 * 512 - 1), Grouping::Off);
        assert_eq!(Grouping::for_pages(6 * 512), Grouping::On);
    }

    #[test]
    fn fragmenting_is_avoided_where_dma32_can_serve() {
        // P312, P313
        let base = FragmentContext {
            preferred: ZoneKind::Normal,
            dma32_pages: Some(1),
            is_numa: true,
            defrag_mode: false,
        };
        assert_eq!(fragmenting(&base), Fragmenting::Avoided);
        let allowed = [
            FragmentContext {
                preferred: ZoneKind::Movable,
                ..base
            },
            FragmentContext {
                preferred: ZoneKind::Dma32,
                ..base
            },
            FragmentContext {
                dma32_pages: None,
                ..base
            },
            FragmentContext {
                dma32_pages: Some(0),
                ..base
            },
        ];
        for context in allowed {
            assert_eq!(fragmenting(&context), Fragmenting::Allowed, "{context:?}");
            let defrag = FragmentContext {
                defrag_mode: true,
                ..context
            };
            assert_eq!(fragmenting(&defrag), Fragmenting::Avoided);
        }
        let uma = FragmentContext {
            dma32_pages: Some(0),
            is_numa: false,
            ..base
        };
        assert_eq!(fragmenting(&uma), Fragmenting::Avoided);
    }

    #[test]
    fn claims_are_tried_for_large_blocks_and_by_sticky_types() {
        // P317
        for found in 0..=MAX_PAGE_ORDER {
            assert!(should_try_claim(found, Unmovable, Grouping::On));
            assert!(should_try_claim(found, Reclaimable, Grouping::On));
            assert!(should_try_claim(found, Movable, Grouping::Off));
            assert_eq!(
                should_try_claim(found, Movable, Grouping::On),
                found >= 4,
                "{found}"
            );
            assert_eq!(claim_lowest_order(found, Fragmenting::Allowed), found);
            assert_eq!(
                claim_lowest_order(found, Fragmenting::Avoided),
                found.max(9)
            );
        }
    }

    #[test]
    fn half_a_block_of_compatible_use_is_the_threshold() {
        // P318, P957: 255 of 512 stays, 256 is retyped.
        let decide = |request, block, free, movable| {
            claim(3, request, block, Grouping::On, || BlockUse {
                free,
                movable,
            })
        };
        for (request, block) in [
            (Unmovable, Movable),
            (Movable, Unmovable),
            (Unmovable, Reclaimable),
        ] {
            // Free pages alone: the used ones are made incompatible.
            let incompatible = if block == Movable { 512 - 255 } else { 0 };
            assert_eq!(decide(request, block, 255, incompatible), Claim::LeaveBlock);
            let incompatible = if block == Movable { 512 - 256 } else { 0 };
            assert_eq!(
                decide(request, block, 256, incompatible),
                Claim::RetypeBlock
            );
        }
        // A movable request counts movable pages, whatever the block is.
        assert_eq!(decide(Movable, Reclaimable, 100, 155), Claim::LeaveBlock);
        assert_eq!(decide(Movable, Reclaimable, 100, 156), Claim::RetypeBlock);
        // A request that cannot move counts the pages of a movable block that cannot either.
        assert_eq!(
            decide(Reclaimable, Movable, 100, 512 - 255),
            Claim::LeaveBlock
        );
        assert_eq!(
            decide(Reclaimable, Movable, 100, 512 - 256),
            Claim::RetypeBlock
        );
        // Unmovable and reclaimable use cannot be told apart: only free pages count.
        assert_eq!(decide(Unmovable, Reclaimable, 255, 257), Claim::LeaveBlock);
        // With grouping off every block may be claimed.
        let off = claim(3, Movable, Unmovable, Grouping::Off, || BlockUse {
            free: 8,
            movable: 0,
        });
        assert_eq!(off, Claim::RetypeBlock);
    }

    #[test]
    fn whole_blocks_are_converted_without_a_look_inside() {
        // P318
        for (order, count) in [(9, 1), (10, 2)] {
            let found = claim(order, Unmovable, Movable, Grouping::On, || unreachable!());
            assert_eq!(found, Claim::WholeBlocks { count });
        }
    }

    #[test]
    fn cma_goes_first_when_it_is_most_of_what_is_free() {
        // P316
        assert!(!cma_first(1000, 500) && cma_first(1000, 501) && !cma_first(0, 0));
    }

    #[test]
    fn highatomic_reserve_is_one_percent_in_blocks() {
        // P333
        assert_eq!(highatomic_limit(262_144), 3072);
        assert_eq!(highatomic_limit(51_199), 0);
        assert_eq!(highatomic_limit(51_200), 512);
        assert_eq!(highatomic_limit(51_300), 1024);
    }
}
