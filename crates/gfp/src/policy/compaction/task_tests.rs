//! Tests of what the compaction task of a node does (P400, P403, P427).

use super::*;
use crate::flags::ZoneKind;
use crate::policy::reclaim::kswapd::Demand;

#[test]
fn proactive_marks() {
    // P427
    let marks = |low, high| Marks { low, high };
    for (proactiveness, expected) in [
        (0, marks(100, 100)),
        (5, marks(95, 100)),
        (10, marks(90, 100)),
        (20, marks(80, 90)),
        (95, marks(5, 15)),
        (100, marks(5, 15)),
        (255, marks(5, 15)),
    ] {
        assert_eq!(Marks::of(proactiveness), expected, "{proactiveness}");
    }
    for proactiveness in 0..100 {
        let (mild, eager) = (Marks::of(proactiveness), Marks::of(proactiveness + 1));
        assert!(eager.low <= mild.low && eager.high <= mild.high && mild.low <= mild.high);
    }
}

#[test]
fn scores_are_weighted_by_size() {
    // P427
    assert_eq!(zone_score(0, 0), 0);
    assert_eq!(
        (
            zone_score(1000, 0),
            zone_score(1000, 1000),
            zone_score(1000, 250)
        ),
        (100, 0, 75)
    );
    assert_eq!(node_score([]), 0);
    assert_eq!(node_score([(0, 100)]), 0);
    assert_eq!(node_score([(3000, 80), (1000, 0)]), 60);
    assert_eq!(node_score([(usize::MAX, 100); 4]), 100);
}

#[test]
fn proactive_rounds_start_above_high_and_stop_below_low() {
    // P427: proactiveness 20: 80 and 90
    let mut state = Proactive::default();
    assert_eq!(state.period(20, Background::Idle, 90), Wanted::Wait);
    assert_eq!(state.period(20, Background::Idle, 91), Wanted::Round);
    assert_eq!(state.period(20, Background::Running, 100), Wanted::Wait);
    assert_eq!(state.period(0, Background::Idle, 100), Wanted::Wait);
    assert!(!Proactive::is_enough(20, 80) && Proactive::is_enough(20, 79));
}

#[test]
fn a_round_that_gains_nothing_is_not_repeated_soon() {
    // P427: 500 ms << 6
    let mut state = Proactive::default();
    let round = |before, after| RoundResult { before, after };
    state.after(round(95, 94));
    assert_eq!(state.period(20, Background::Idle, 94), Wanted::Round);
    state.after(round(94, 94));
    let mut rounds = 0;
    for period in 1..=650 {
        if state.period(20, Background::Idle, 94) == Wanted::Round {
            rounds += 1;
            assert_eq!(period % 65, 0);
            state.after(round(94, 95));
        }
    }
    assert_eq!(rounds, 10);
    state.raised(); // P707
    assert_eq!(state.period(20, Background::Idle, 94), Wanted::Round);
}

#[test]
fn the_task_is_woken_for_what_it_can_make() {
    // P400, P403, P427
    use Suitability::{AlreadyThere, NotFragmented, Suitable, TooFull};
    let demand = |order| Demand {
        order,
        highest: Some(ZoneKind::Normal),
    };
    let wakes = |demand, zones: &[Suitability]| wakes_daemon(demand, zones.iter().copied());
    assert_eq!(wakes(demand(1), &[TooFull, Suitable]), DaemonWake::Yes);
    assert_eq!(
        wakes(demand(9), &[AlreadyThere, TooFull, NotFragmented]),
        DaemonWake::No
    );
    assert_eq!(wakes(demand(0), &[Suitable]), DaemonWake::No);
    assert_eq!(wakes(demand(3), &[]), DaemonWake::No);
    let nobody = Demand {
        order: 3,
        highest: None,
    };
    assert_eq!(wakes(nobody, &[Suitable]), DaemonWake::No);
    // What it fails at counts, so that it thins out too.
    let mut deferral = Deferral::new();
    deferral.after(9, DAEMON_PRIORITY, CompactOutcome::Complete);
    assert!(deferral.defers(9, DAEMON_PRIORITY) && !deferral.defers(9, DAEMON_PRIORITY));
}
