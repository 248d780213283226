use super::*;

const GIB: usize = 262_144; // pages
const LIMIT: usize = 3072; // P333

fn noted(times: usize, order: u32, event: Event) -> Demand {
    (0..times).fold(Demand::default(), |demand, _| demand.note(order, event))
}

#[test]
fn one_small_request_reserves_two_pages_not_512() {
    // P337, P823
    let demand = noted(1, 1, Event::NearMiss);
    assert_eq!(demand.wanted(GIB), 2);
    assert_eq!(demand.change(GIB, 0), Change::Take(2));
    assert_eq!(demand.change(GIB, 512), Change::Keep);
    // A block is there because parts of blocks cannot be reserved: only the demand is withheld.
    assert_eq!((demand.withheld(GIB, 512), demand.withheld(GIB, 1)), (2, 1));
    assert_eq!(noted(1, 1, Event::Failure).wanted(GIB), 8);
}

#[test]
fn the_reserve_stays_below_one_percent() {
    // P333, P959
    let demand = noted(100_000, 3, Event::Failure);
    assert_eq!(demand.wanted(GIB), LIMIT);
    assert_eq!(demand.change(GIB, LIMIT), Change::Keep);
    assert_eq!(demand.change(GIB, LIMIT - 5), Change::Take(5));
    assert_eq!(demand.wanted(51_199), 0); // 1 % is less than a pageblock
    assert_eq!(
        noted(3, u32::MAX, Event::Failure).wanted(usize::MAX),
        3 * 4 * 1024
    );
}

#[test]
fn a_demand_that_has_ended_is_forgotten_in_bounded_time() {
    // P823
    let mut demand = noted(100_000, 10, Event::Failure);
    assert_eq!(demand.0, Demand::MAX);
    let mut reserved = LIMIT;
    for tick in 1..=Demand::TICKS_MAX {
        let before = demand;
        demand = demand.tick();
        assert!(demand.0 < before.0, "{tick}: it fades with every tick");
        match demand.change(GIB, reserved) {
            Change::GiveBlocks(blocks) => reserved -= blocks * 512,
            Change::Keep => {}
            Change::Take(pages) => panic!("{pages} more while nobody asks"),
        }
        assert!(reserved >= demand.wanted(GIB));
    }
    assert_eq!((demand, reserved), (Demand::default(), 0));
    assert_eq!(demand.tick(), demand);
    const { assert!(Demand::TICKS_MAX <= 128, "about two minutes") };
}

#[test]
fn a_steady_demand_keeps_a_steady_reserve() {
    // P823: 20 near misses of order 2 a second: 80 pages, 8 seconds of them.
    let mut demand = Demand::default();
    let mut largest_change = 0;
    let mut reserved = 0;
    for second in 0..200 {
        for _ in 0..20 {
            demand = demand.note(2, Event::NearMiss);
        }
        match demand.change(GIB, reserved) {
            Change::Take(pages) => reserved += pages.next_multiple_of(512),
            Change::GiveBlocks(blocks) => {
                largest_change = largest_change.max(blocks);
                reserved -= blocks * 512;
            }
            Change::Keep => {}
        }
        if second > 50 {
            assert_eq!((reserved, demand.wanted(GIB)), (1024, 640));
        }
        demand = demand.tick();
        assert_eq!(demand.change(GIB, reserved), Change::Keep, "no swinging");
    }
    assert_eq!(largest_change, 0);
}

#[test]
fn blocks_go_back_when_a_quarter_more_than_wanted_is_left() {
    // P823
    let demand = noted(200, 1, Event::NearMiss); // 400 pages
    for (reserved, change) in [
        (399, Change::Take(1)),
        (400, Change::Keep),
        (1011, Change::Keep),
        (1012, Change::GiveBlocks(1)),
        (1523, Change::GiveBlocks(1)),
        (1524, Change::GiveBlocks(2)),
    ] {
        assert_eq!(demand.change(GIB, reserved), change, "{reserved}");
    }
}

#[test]
fn more_demand_never_reserves_less() {
    // P823
    for level in (0..Demand::MAX).step_by(9973) {
        let (demand, more) = (Demand(level), Demand(level + 9973));
        assert!(demand.wanted(GIB) <= more.wanted(GIB));
        assert!(demand.tick().0 <= more.tick().0);
        for order in [1, 3, 9, 10] {
            let near = demand.note(order, Event::NearMiss);
            let failed = demand.note(order, Event::Failure);
            assert!(demand.0 < near.0.max(Demand::MAX.min(level + 1)) && near.0 <= failed.0);
        }
        for reserved in [0, 1, 511, 512, 3072] {
            let settled = match demand.change(GIB, reserved) {
                Change::Keep => reserved,
                Change::Take(pages) => reserved + pages,
                Change::GiveBlocks(blocks) => reserved - blocks * 512,
            };
            assert!(settled >= demand.wanted(GIB));
            assert_eq!(demand.change(GIB, settled), Change::Keep);
        }
    }
}

#[test]
fn the_last_block_stays_unless_forced() {
    // P335, P123, P959
    for (reserved, after_reclaim, before_oom) in [
        (0, false, false),
        (1, false, true),
        (512, false, true),
        (513, true, true),
        (1024, true, true),
    ] {
        assert_eq!(
            unreserves(reserved, Need::AfterReclaim),
            after_reclaim,
            "{reserved}"
        );
        assert_eq!(
            unreserves(reserved, Need::BeforeOom),
            before_oom,
            "{reserved}"
        );
    }
    for (need, left) in [(Need::AfterReclaim, 512), (Need::BeforeOom, 0)] {
        let mut reserved = 3072;
        while unreserves(reserved, need) {
            reserved -= 512;
        }
        assert_eq!(reserved, left);
    }
}

#[test]
fn the_atomic_reserve_grows_to_min_and_fades() {
    // P824
    let mut reserve = AtomicReserve::default();
    for expected in [256, 512, 768, 1024, 1024] {
        reserve = reserve.failed(1024, GIB);
        assert_eq!(reserve.pages(), expected);
    }
    for _ in 0..AtomicReserve::TICKS_MAX {
        reserve = reserve.tick();
    }
    assert_eq!(reserve, AtomicReserve::default());
    const { assert!(AtomicReserve::TICKS_MAX < 128) };
    assert_eq!(AtomicReserve::default().failed(10, GIB).pages(), 10); // cap: min
    assert_eq!(AtomicReserve::default().failed(1024, 2000).pages(), 20); // cap: 1 %
    assert_eq!(
        AtomicReserve::default()
            .failed(usize::MAX, usize::MAX)
            .pages(),
        1 << 20
    );
}

/// Bursts of urgent single pages against a zone that reclaim refills at a fixed speed: ordinary
/// requests take what is above their mark all the time. Returns the failures of the urgent.
fn bursts(adaptive: bool) -> (usize, usize) {
    let min = 1024;
    let urgent_floor = min * 3 / 8;
    let (mut reserve, mut free) = (AtomicReserve::default(), 4 * min);
    let (mut early, mut late) = (0, 0);
    for second in 0..60 {
        for burst in 0..900 {
            let _ = burst;
            if free > urgent_floor {
                free -= 1;
            } else {
                if second < 30 {
                    early += 1
                } else {
                    late += 1
                }
                if adaptive {
                    reserve = reserve.failed(min, GIB);
                }
            }
        }
        // Between two bursts: 2000 pages come back, ordinary requests eat down to their mark.
        free = (free + 2000).min(2 * min + 4000);
        let mark = min + reserve.pages();
        free = free.min(mark.max(urgent_floor));
        reserve = reserve.tick();
    }
    (early, late)
}

#[test]
fn bursts_fail_less_with_an_adaptive_reserve() {
    // P824: test with a burst generator
    let (early, late) = bursts(false);
    assert!(early > 7000 && late > 7000, "{early} {late}");
    let (adaptive_early, adaptive_late) = bursts(true);
    assert!(
        adaptive_early + adaptive_late < (early + late) / 4,
        "{adaptive_early} {adaptive_late}"
    );
}
