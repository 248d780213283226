extern crate std;

use super::*;
use crate::flags::{MigrateType, ZoneKind};
use crate::policy::reclaim::{PassResult, Priority};
use crate::policy::watermark::FreeState;
use std::vec::Vec;

fn demand(order: u32) -> Demand {
    Demand {
        order,
        highest: Some(ZoneKind::Normal),
    }
}

fn failures(count: u32) -> Failures {
    (0..count).fold(Failures::default(), |f, _| f.after_run(RunEnd::Failed))
}

#[test]
fn demands_are_maxima() {
    // P400
    let a = Demand {
        order: 3,
        highest: Some(ZoneKind::Dma32),
    };
    assert_eq!(a.and(demand(1)), demand(3));
    assert_eq!(demand(1).and(a), demand(3));
    assert_eq!(a.and(Demand::NONE), a);
    assert_eq!(Demand::NONE.and(a), a);
    assert_eq!(Demand::NONE.and(Demand::NONE), Demand::NONE);
}

#[test]
fn who_wakes_what() {
    // P400: all combinations against the sentence of the rule.
    for bits in 0..128u32 {
        let bit = |n: u32| bits >> n & 1 != 0;
        for order in [0, 1, 9] {
            let request = WakeRequest {
                order,
                zone_managed: bit(0).into(),
                cpuset_allows: bit(1),
                direct_reclaim: bit(2),
            };
            let node = NodeTask {
                task: if bit(3) {
                    TaskState::Running
                } else {
                    TaskState::Asleep
                },
                failures: failures(if bit(4) { 16 } else { 15 }),
                balance: if bit(5) {
                    Balance::Balanced
                } else {
                    Balance::Unbalanced
                },
                boost: bit(6).into(),
            };
            let in_vain = bit(4) || bit(5) && !bit(6);
            let expected = match (bit(0) && bit(1), bit(3), in_vain) {
                (false, _, _) => Wake::Nothing,
                (true, true, _) => Wake::Record,
                (true, false, false) => Wake::Kswapd,
                (true, false, true) if !bit(2) && order > 0 => Wake::Kcompactd,
                (true, false, true) => Wake::Nothing,
            };
            assert_eq!(wake(&request, &node), expected, "{request:?} {node:?}");
        }
    }
}

#[test]
fn sixteen_failures_in_a_row_are_hopeless() {
    // P400, P404
    assert!(!failures(15).is_hopeless() && failures(16).is_hopeless());
    assert_eq!(failures(15).after_run(RunEnd::Exhausted).get(), 0);
    assert_eq!(
        failures(15).after_run(RunEnd::Balanced { order: 0 }).get(),
        0
    );
    assert_eq!(failures(15).after_run(RunEnd::BoostGivenUp).get(), 15);
    assert_eq!(failures(15).after_run(RunEnd::Excused).get(), 15);
    let by = HopeReason::Direct;
    assert_eq!(
        failures(16).after_free(Balance::Unbalanced, by),
        (failures(16), None)
    );
    assert_eq!(
        failures(16).after_free(Balance::Balanced, by),
        (failures(0), Some(by))
    );
    assert_eq!(
        failures(15).after_free(Balance::Balanced, by),
        (failures(0), None)
    );
}

#[test]
fn one_zone_above_high_is_enough() {
    // P401
    assert_eq!(node_is_balanced([]), Balance::Balanced);
    assert_eq!(node_is_balanced([(0, false)]), Balance::Balanced);
    assert_eq!(
        node_is_balanced([(0, true), (9, false)]),
        Balance::Unbalanced
    );
    assert_eq!(
        node_is_balanced([(9, false), (9, true), (9, false)]),
        Balance::Balanced
    );
    // P402
    assert_eq!(cycle_target([10, 100, 32, 0]), 32 + 100 + 32 + 32);
    assert_eq!(cycle_target([usize::MAX, 5]), usize::MAX);
}

#[test]
fn a_zone_is_balanced_above_high_plus_what_it_keeps() {
    // P401, P269
    let zone = |free, free_in_blocks| ZoneBalance {
        managed: 10_000,
        high: 1000,
        reserve: 50,
        state: FreeState {
            free,
            ..FreeState::default()
        },
        free_in_blocks,
    };
    let ok = |order, zone, measure| {
        zone_is_balanced(order, &zone, measure, |o, t| {
            (o, t) == (3, MigrateType::Movable)
        })
    };
    assert!(!ok(0, zone(1050, 0), Measure::Pages) && ok(0, zone(1051, 0), Measure::Pages));
    assert!(ok(3, zone(1058, 0), Measure::Pages) && !ok(3, zone(1057, 0), Measure::Pages));
    assert!(!ok(4, zone(5000, 0), Measure::Pages));
    // P313: whole blocks count, whatever the order.
    assert!(!ok(3, zone(5000, 1050), Measure::WholeBlocks));
    assert!(ok(4, zone(5000, 1051), Measure::WholeBlocks));
    assert!(ok(0, zone(1051, 0), Measure::WholeBlocks));
}

/// Runs against a provider `(pass) -> freed` that looks at `scanned` pages, and a node that is
/// balanced when `needed` pages are freed at the order of the demand.
fn drive(
    run: &mut Run,
    scanned: usize,
    needed: usize,
    mut provider: impl FnMut(RunPass) -> usize,
) -> (Vec<RunPass>, RunEnd) {
    let mut passes = Vec::new();
    loop {
        let balance = if run.total().freed >= needed {
            Balance::Balanced
        } else {
            Balance::Unbalanced
        };
        match run.step(balance) {
            RunStep::Done(end) => {
                assert_eq!(
                    run.step(Balance::Unbalanced),
                    RunStep::Done(end),
                    "it stays over"
                );
                return (passes, end);
            }
            RunStep::Pass(pass) => {
                let freed = provider(pass);
                passes.push(pass);
                run.after(PassResult { scanned, freed }, 100);
            }
        }
        let bound = Run::IDLE_PASSES_MAX + run.total().freed;
        assert!(passes.len() <= bound, "the stated bound");
    }
}

fn priorities(passes: &[RunPass]) -> Vec<u8> {
    passes.iter().map(|pass| pass.priority.get()).collect()
}

#[test]
fn a_run_that_frees_nothing_goes_from_12_to_1_and_fails() {
    // P402
    for scanned in [0, 1000] {
        let (passes, end) = drive(&mut Run::new(demand(0), 0), scanned, 1, |_| 0);
        assert_eq!(priorities(&passes), (1..=12).rev().collect::<Vec<u8>>());
        assert!(passes.iter().all(|pass| pass.may_write));
        assert_eq!(end, RunEnd::Failed);
    }
}

#[test]
fn a_run_ends_when_the_node_is_balanced() {
    // P401, P402
    let (passes, end) = drive(&mut Run::new(demand(0), 0), 0, 0, |_| 0);
    assert_eq!((passes.len(), end), (0, RunEnd::Balanced { order: 0 }));
    let (passes, end) = drive(&mut Run::new(demand(0), 0), 1000, 96, |_| 32);
    assert_eq!(priorities(&passes), [12, 12, 12]); // gains: the priority stays
    assert_eq!(end, RunEnd::Balanced { order: 0 });
    let (passes, _) = drive(&mut Run::new(demand(0), 0), 99, 96, |_| 32);
    assert_eq!(priorities(&passes), [12, 11, 10]); // looked at less than the target
    let (passes, _) = drive(&mut Run::new(demand(0), 0), 100, 96, |_| 32);
    assert_eq!(priorities(&passes), [12, 12, 12]); // looked at just the target
    let (_, end) = drive(&mut Run::new(demand(0), 0), 99, 1000, |_| 1);
    assert_eq!(end, RunEnd::Exhausted); // 12 pages, not enough, but no failure
}

#[test]
fn a_large_order_is_left_to_compaction_when_the_gap_is_free() {
    // P402, P421
    for (order, gap) in [(1, 4), (2, 8), (3, 16), (4, 32), (9, 32)] {
        let mut run = Run::new(demand(order), 0);
        for freed in 1..gap {
            run.after(
                PassResult {
                    scanned: 500,
                    freed: 1,
                },
                100,
            );
            assert_eq!(run.order(), order, "{freed}");
        }
        run.after(
            PassResult {
                scanned: 500,
                freed: 1,
            },
            100,
        );
        assert_eq!((run.order(), run.demand().order), (0, order));
        assert_eq!(
            run.step(Balance::Balanced),
            RunStep::Done(RunEnd::Balanced { order: 0 })
        );
    }
}

#[test]
fn a_boost_is_worked_off_without_writing_and_given_up_at_10() {
    // P402
    let (passes, end) = drive(&mut Run::new(demand(0), 64), 1000, 0, |_| 16);
    assert_eq!((passes.len(), end), (4, RunEnd::Balanced { order: 0 }));
    assert!(passes.iter().all(|pass| !pass.may_write));
    let (passes, end) = drive(&mut Run::new(demand(0), 64), 1000, 0, |_| 0);
    assert_eq!(priorities(&passes), [12, 11, 10]);
    assert_eq!(end, RunEnd::BoostGivenUp);
    // It may look at less than the target as long as it gains.
    let (passes, _) = drive(&mut Run::new(demand(0), 3), 1, 0, |_| 1);
    assert_eq!(priorities(&passes), [12, 12, 12]);
}

#[test]
fn a_boost_is_forgotten_when_the_node_is_short() {
    // P402: and no failure is counted
    let mut run = Run::new(demand(0), 64);
    assert!(matches!(
        run.step(Balance::Balanced),
        RunStep::Pass(RunPass {
            may_write: false,
            ..
        })
    ));
    run.after(PassResult::default(), 100);
    run.after(PassResult::default(), 100);
    let RunStep::Pass(pass) = run.step(Balance::Unbalanced) else {
        panic!("nothing was freed")
    };
    assert_eq!((pass.priority, pass.may_write), (Priority::START, true));
    let (passes, end) = drive(&mut run, 0, 1, |_| 0);
    assert_eq!((passes.len(), end), (12, RunEnd::Excused));
}

#[test]
fn every_run_ends_within_its_bound() {
    // P402: all scripts of eight results, with and without boost; the bound is asserted in `drive`.
    for script in 0..4u32.pow(8) {
        for boost in [0, 5] {
            let mut digits = script;
            let needed = if boost > 0 { 0 } else { 40 };
            drive(
                &mut Run::new(demand(script % 3), boost),
                150,
                needed,
                |_| {
                    let freed = [0, 1, 2, 32][(digits % 4) as usize];
                    digits /= 4;
                    freed
                },
            );
        }
    }
}

#[test]
fn sleep_comes_in_two_steps() {
    // P403
    let facts = |balance, count| SleepFacts {
        balance,
        failures: failures(count),
    };
    let trial = BeforeSleep::Trial { ms: 100 };
    assert_eq!(before_sleep(&facts(Balance::Balanced, 0)), trial);
    assert_eq!(
        before_sleep(&facts(Balance::Unbalanced, 15)),
        BeforeSleep::Stay
    );
    assert_eq!(before_sleep(&facts(Balance::Unbalanced, 16)), trial);
    for count in [0, 16] {
        for balance in [Balance::Balanced, Balance::Unbalanced] {
            let facts = facts(balance, count);
            assert_eq!(after_trial(Trial::Woken, &facts), AfterTrial::LowHitQuickly);
            let expected = if count == 16 || balance == Balance::Balanced {
                AfterTrial::Long
            } else {
                AfterTrial::HighHitQuickly
            };
            assert_eq!(after_trial(Trial::Elapsed, &facts), expected);
        }
    }
}

#[test]
fn a_node_that_nothing_helps_is_left_alone_after_sixteen_runs() {
    // P400, P402-P404: the whole life of the task against a provider that frees nothing.
    let (mut count, mut runs, mut passes) = (Failures::default(), 0, 0);
    while before_sleep(&SleepFacts {
        balance: Balance::Unbalanced,
        failures: count,
    }) == BeforeSleep::Stay
    {
        let (taken, end) = drive(&mut Run::new(demand(0), 0), 0, 1, |_| 0);
        count = count.after_run(end);
        (runs, passes) = (runs + 1, passes + taken.len());
    }
    assert_eq!((runs, passes), (16, 16 * 12));
}
