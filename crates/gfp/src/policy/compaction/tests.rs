use super::*;
use crate::flags::MigrateType::{self, *};
use crate::policy::fallback::Grouping;
use crate::policy::watermark::{FreeState, Watermarks};

const PRIORITIES: [CompactPriority; 3] = [
    CompactPriority::Async,
    CompactPriority::SyncLight,
    CompactPriority::SyncFull,
];

#[test]
fn the_gap_is_two_blocks_and_at_most_one_round() {
    // P421
    let gaps = [2, 4, 8, 16, 32, 32, 32, 32, 32, 32, 32];
    for (order, pages) in gaps.into_iter().enumerate() {
        assert_eq!(gap(order as u32), pages);
    }
    assert_eq!(gap(u32::MAX), 32);
}

#[test]
fn fragmentation_index_vectors() {
    // P423, P964: 64 single pages, order 4
    assert_eq!(fragmentation(4, 64, 64, 0), Fragmentation::Index(922));
    assert_eq!(fragmentation(4, 64, 64, 0).value(), 922);
    assert_eq!(fragmentation(4, 3, 40, 1).value(), -1000);
    assert_eq!(fragmentation(4, 0, 0, 0).value(), 0);
    assert_eq!(fragmentation(4, 1, 8, 0).value(), 0); // -500 by the formula
    assert_eq!(fragmentation(10, usize::MAX, usize::MAX, 0).value(), 1000);
    assert_eq!(fragmentation(64, 5, 5, 0).value(), 0);
}

#[test]
fn the_index_stays_in_its_range_and_grows_with_fragmentation() {
    // P423: for all mixes of two kinds of blocks too small for the order.
    for order in 1..=MAX {
        for singles in 0..40 {
            for larger in 0..40 {
                let free = singles + larger * (1 << (order - 1));
                let index = fragmentation(order, singles + larger, free, 0).value();
                assert!((0..=1000).contains(&index));
                if singles + larger > 0 {
                    // The same pages in twice the blocks.
                    let finer = fragmentation(order, 2 * (singles + larger), free, 0).value();
                    assert!(finer >= index);
                }
            }
        }
    }
}

const MAX: u32 = crate::policy::order::MAX_PAGE_ORDER;

#[test]
fn unusable_free_memory() {
    // P623
    assert_eq!(unusable_permille(0, 0), 1000);
    assert_eq!(unusable_permille(1000, 1000), 0);
    assert_eq!(unusable_permille(1000, 1), 999);
    assert_eq!(unusable_permille(3, 5), 0);
}

fn room(free: usize) -> ZoneRoom {
    ZoneRoom {
        marks: Watermarks {
            min: 1000,
            low: 1200,
            high: 1400,
            promo: 1600,
        },
        boost: 0,
        reserve: 50,
        state: FreeState {
            free,
            free_cma: 500,
            ..FreeState::default()
        },
    }
}

#[test]
fn room_to_work_is_the_mark_and_the_gap() {
    // P422: min (costly: low) + gap + reserve, CMA pages count, equality fails
    let index = Fragmentation::Index(900);
    for (order, mark) in [(1, 1004), (3, 1016), (4, 1232), (9, 1232)] {
        let at = |free| suitability(order, &room(free), index, CompactPriority::Async, 500);
        assert_eq!(zone_mark(order, &room(0)), mark);
        assert_eq!(at(mark + 50), Suitability::TooFull, "{order}");
        assert_eq!(at(mark + 51), Suitability::Suitable, "{order}");
    }
    let boosted = ZoneRoom {
        boost: 7,
        ..room(1011 + 51)
    };
    assert_eq!(zone_mark(1, &boosted), 1011);
}

#[test]
fn costly_orders_must_suffer_from_fragmentation() {
    // P422, P706
    let at = |order, index, priority| {
        suitability(
            order,
            &room(9000),
            Fragmentation::Index(index),
            priority,
            EXTFRAG_THRESHOLD,
        )
    };
    for priority in [CompactPriority::Async, CompactPriority::SyncLight] {
        assert_eq!(at(4, 500, priority), Suitability::NotFragmented);
        assert_eq!(at(4, 501, priority), Suitability::Suitable);
        assert_eq!(at(3, 0, priority), Suitability::Suitable);
    }
    assert_eq!(at(4, 0, CompactPriority::SyncFull), Suitability::Suitable);
    for (order, fragmentation) in [(0, Fragmentation::Index(900)), (4, Fragmentation::Suitable)] {
        let any = suitability(order, &room(0), fragmentation, CompactPriority::Async, 500);
        assert_eq!(any, Suitability::AlreadyThere);
    }
}

#[test]
fn reclaim_can_make_room() {
    // P125
    assert!(
        could_become_suitable(1, &room(1000), 55) && !could_become_suitable(1, &room(1000), 54)
    );
    assert!(could_become_suitable(9, &room(1000), 283 * 9));
    assert!(!could_become_suitable(9, &room(1000), 283 * 9 - 1));
    assert!(!could_become_suitable(0, &room(0), 0));
}

/// How many attempts are left out from now on.
fn skipped(deferral: &mut Deferral, order: u32) -> u32 {
    let mut count = 0;
    while deferral.defers(order, CompactPriority::SyncLight) {
        count += 1;
        assert!(count <= 64, "the stated bound");
    }
    count
}

#[test]
fn failures_thin_the_attempts_out() {
    // P426, P964: 1, 2, 4 ... 64; success resets
    let sync = CompactPriority::SyncLight;
    let mut deferral = Deferral::new();
    assert_eq!(skipped(&mut deferral, 9), 0);
    for round in [1, 2, 4, 8, 16, 32, 64, 64] {
        deferral.after(9, sync, CompactOutcome::Complete);
        assert_eq!(skipped(&mut deferral, 9), round);
        assert_eq!(skipped(&mut deferral, 9), 0, "then one goes through");
    }
    deferral.after(9, sync, CompactOutcome::Success);
    assert_eq!(
        (skipped(&mut deferral, 9), deferral.order_failed()),
        (0, 10)
    );
    deferral.after(9, sync, CompactOutcome::PartialSkipped);
    assert_eq!(skipped(&mut deferral, 9), 1);
}

#[test]
fn deferral_concerns_the_orders_that_failed() {
    // P426
    let sync = CompactPriority::SyncLight;
    let mut deferral = Deferral::new();
    deferral.after(4, sync, CompactOutcome::Complete);
    for order in 0..4 {
        assert!(!deferral.defers(order, sync));
    }
    assert!(!deferral.defers(9, CompactPriority::SyncFull)); // ignores it, and does not count
    assert!(deferral.defers(9, sync) && !deferral.defers(9, sync));
    deferral.after(2, sync, CompactOutcome::Complete);
    assert_eq!(deferral.order_failed(), 2);
    deferral.after(3, sync, CompactOutcome::Success);
    assert_eq!(deferral.order_failed(), 4);
    deferral.after(1, sync, CompactOutcome::Success); // says nothing of order 4
    assert_eq!(deferral.order_failed(), 4);
    deferral.succeeded(10);
    assert_eq!(deferral.order_failed(), 11); // none
}

#[test]
fn only_thorough_failures_count() {
    // P426
    use CompactOutcome::*;
    let outcomes = [
        Skipped,
        Deferred,
        NoSuitablePage,
        Continue,
        Complete,
        PartialSkipped,
        Contended,
        Success,
    ];
    for priority in PRIORITIES {
        for outcome in outcomes {
            let mut deferral = Deferral::new();
            deferral.after(3, priority, outcome);
            let counts =
                priority != CompactPriority::Async && matches!(outcome, Complete | PartialSkipped);
            let left_out = skipped(&mut deferral, 3);
            assert_eq!(left_out, counts.into(), "{priority:?} {outcome:?}");
        }
    }
}

#[test]
fn scanners_meet_after_as_many_steps_as_there_are_blocks() {
    // P420: every split of the steps between the two, aligned ends and others
    for (start, end) in [
        (0, 8 * 512),
        (512, 512 * 9),
        (700, 3000),
        (5, 6),
        (0, 0),
        (513, 1023),
    ] {
        for script in 0..512u32 {
            let mut scanners = Scanners::at_ends(start, end);
            let mut steps = 0;
            while scanners.met() == Met::No {
                let before = scanners;
                if script >> (steps % 9) & 1 == 0 {
                    scanners.pass_migrate();
                    assert!(scanners.migrate > before.migrate && scanners.free == before.free);
                } else {
                    scanners.pass_free();
                    assert!(scanners.free < before.free && scanners.migrate == before.migrate);
                }
                steps += 1;
            }
            assert!(steps <= (end - start).div_ceil(512) + 2, "the stated bound");
        }
    }
}

#[test]
fn each_step_of_a_scanner_passes_one_block() {
    // P420
    let mut scanners = Scanners::at_ends(700, 3000);
    for migrate in [1024, 1536, 2048] {
        assert_eq!(scanners.met(), Met::No);
        scanners.pass_migrate();
        assert_eq!(scanners.migrate, migrate);
    }
    assert_eq!(scanners.met(), Met::No); // block 4 against block 5
    for free in [2560, 2048] {
        scanners.pass_free();
        assert_eq!(scanners.free, free);
    }
    assert_eq!(scanners.met(), Met::Yes);
    assert_eq!(Scanners::at_ends(2048, 2559).met(), Met::Yes); // inside one block
    assert_eq!(Scanners::at_ends(2047, 2048).met(), Met::No);
    let mut at_zero = Scanners::at_ends(0, 1);
    at_zero.pass_free();
    at_zero.pass_free();
    assert_eq!(at_zero.free, 0);
}

#[test]
fn the_end_of_a_compaction() {
    // P420, P425: all 16 states
    let table = |met, whole_zone, available, contended| {
        finished(&ZoneProgress {
            met,
            whole_zone,
            available,
            contended,
        })
    };
    for bits in 0..8u32 {
        let (whole, contended, met) = (bits & 1 != 0, bits & 2 != 0, bits & 4 != 0);
        let met = if met { Met::Yes } else { Met::No };
        assert_eq!(
            table(met, whole, true, contended),
            Some(CompactOutcome::Success)
        );
        let expected = match (met, whole, contended) {
            (Met::Yes, true, _) => Some(CompactOutcome::Complete),
            (Met::Yes, false, _) => Some(CompactOutcome::PartialSkipped),
            (Met::No, _, true) => Some(CompactOutcome::Contended),
            (Met::No, _, false) => None,
        };
        assert_eq!(table(met, whole, false, contended), expected);
    }
}

#[test]
fn a_block_counts_if_it_can_be_had() {
    // P420, P316, P317
    let there = |order, mt| move |o, t| (o, t) == (order, mt);
    let on =
        |order, request, found, mt| block_available(order, request, Grouping::On, there(found, mt));
    assert!(on(3, Movable, 3, Movable) && on(3, Movable, 10, Cma) && !on(3, Movable, 2, Movable));
    assert!(!on(3, Unmovable, 5, Cma) && !on(3, Unmovable, 5, HighAtomic));
    assert!(on(3, Unmovable, 3, Movable)); // unmovable requests claim anything
    assert!(on(3, Movable, 4, Unmovable) && !on(3, Movable, 3, Unmovable)); // movable: order >= 4
    assert!(block_available(
        3,
        Movable,
        Grouping::Off,
        there(3, Unmovable)
    ));
}

#[test]
fn what_follows_a_zone() {
    // P125, P425
    let none = Interrupted::No;
    for priority in PRIORITIES {
        assert_eq!(
            after_zone(CompactOutcome::Success, priority, none),
            AfterZone::Stop
        );
        assert_eq!(
            after_zone(CompactOutcome::Complete, priority, none),
            AfterZone::NextZone
        );
        let killed = after_zone(CompactOutcome::Complete, priority, Interrupted::Yes);
        assert_eq!(killed, AfterZone::Stop);
        let expected = if priority == CompactPriority::Async {
            AfterZone::Stop
        } else {
            AfterZone::NextZone
        };
        assert_eq!(
            after_zone(CompactOutcome::Contended, priority, none),
            expected
        );
    }
    assert_eq!(
        best(CompactOutcome::Skipped, CompactOutcome::Complete),
        CompactOutcome::Complete
    );
    assert_eq!(
        best(CompactOutcome::Success, CompactOutcome::Skipped),
        CompactOutcome::Success
    );
}

fn block(mobility: MigrateType, hints: Hints, largest_free: Option<u32>) -> BlockFacts {
    BlockFacts {
        mobility,
        hints,
        largest_free,
    }
}

#[test]
fn where_the_migrate_scanner_looks() {
    // P424, P425
    for mobility in MigrateType::ALL {
        let plain = block(mobility, Hints::None, Some(3));
        let hinted = block(mobility, Hints::Skip, Some(3));
        let free = block(mobility, Hints::None, Some(9));
        for priority in PRIORITIES {
            let full = priority == CompactPriority::SyncFull;
            let withheld = mobility == Isolate;
            for by in [
                Use::Background,
                Use::Direct(Movable),
                Use::Direct(Unmovable),
            ] {
                let fits = match by {
                    Use::Direct(Movable) => matches!(mobility, Movable | Cma),
                    Use::Direct(request) => request == mobility,
                    Use::Background => true,
                };
                let expected = !withheld && (fits || priority != CompactPriority::Async);
                assert_eq!(migrate_block(&plain, by, priority), expected);
                assert_eq!(migrate_block(&hinted, by, priority), expected && full);
                assert!(!migrate_block(&free, by, priority));
            }
            let target = matches!(mobility, Movable | Cma);
            assert_eq!(free_block(&plain, priority), target);
            assert_eq!(free_block(&hinted, priority), target && full);
            assert_eq!(free_block(&free, priority), target && full);
            assert!(!free_block(&block(mobility, Hints::None, None), priority));
        }
    }
}

#[test]
fn which_pages_are_moved_and_after_which_wait() {
    // P424, P429
    use CompactPriority::*;
    use PageVerdict::*;
    let movable = PageFacts {
        movable: true,
        ..PageFacts::default()
    };
    let verdicts =
        |page| PRIORITIES.map(|priority| page_verdict(&page, priority, Unevictable::Move));
    assert_eq!(verdicts(PageFacts::default()), [Skip; 3]);
    assert_eq!(verdicts(movable), [Move; 3]);
    let pinned = PageFacts {
        pinned: true,
        ..movable
    };
    assert_eq!(verdicts(pinned), [Skip; 3]);
    let locked = PageFacts {
        locked: true,
        ..movable
    };
    assert_eq!(verdicts(locked), [Skip, WaitForLock, WaitForLock]);
    let writeback = PageFacts {
        writeback: true,
        ..movable
    };
    assert_eq!(verdicts(writeback), [Skip, Skip, WaitForWriteback]);
    let dirty = PageFacts {
        dirty: true,
        ..movable
    };
    assert_eq!(verdicts(dirty), [Skip, Move, Move]);
    let unevictable = PageFacts {
        unevictable: true,
        ..movable
    };
    assert_eq!(verdicts(unevictable), [Move; 3]);
    for priority in [Async, SyncLight, SyncFull] {
        assert_eq!(
            page_verdict(&unevictable, priority, Unevictable::Leave),
            Skip
        );
        assert_eq!(page_verdict(&movable, priority, Unevictable::Leave), Move);
    }
}

#[test]
fn what_a_request_makes_is_captured_where_it_pollutes_nothing() {
    // P320
    use MigrateType::{Cma, HighAtomic, Isolate, Movable, Reclaimable, Unmovable};
    for order in 1..=9 {
        for request in [Unmovable, Movable, Reclaimable] {
            for block in [Cma, Isolate, HighAtomic] {
                assert!(!captures(order, request, block));
            }
            assert!(captures(order, request, Unmovable) && captures(order, request, Reclaimable));
            let whole_or_like = order == 9 || request == Movable;
            assert_eq!(captures(order, request, Movable), whole_or_like);
        }
    }
}
