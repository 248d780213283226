//! What holds for every word, by enumeration.

use super::*;

/// The bits that effort depends on, without those whose only effect is on text and content.
const BITS: [Gfp; 13] = [
    Gfp::DMA,
    Gfp::MOVABLE,
    Gfp::HIGH,
    Gfp::IO,
    Gfp::FS,
    Gfp::DIRECT_RECLAIM,
    Gfp::KSWAPD_RECLAIM,
    Gfp::RETRY_MAYFAIL,
    Gfp::NOFAIL,
    Gfp::NORETRY,
    Gfp::MEMALLOC,
    Gfp::NOMEMALLOC,
    Gfp::THISNODE,
];

const ORDERS: [u32; 6] = [0, 1, 3, 4, 10, 11];

fn words() -> impl Iterator<Item = Gfp> {
    // Under Miri a sample, with a step that is odd, so that each bit is seen both ways.
    let step = if cfg!(miri) { 1021 } else { 1 };
    (0u32..1 << BITS.len()).step_by(step).map(|set| {
        let chosen = BITS
            .into_iter()
            .enumerate()
            .filter(|(i, _)| set >> i & 1 != 0);
        chosen.fold(Gfp::NONE, |gfp, (_, bit)| gfp | bit)
    })
}

/// Ends soon: a round of reclaim never looks worth another one.
const SHORT: Script = Script {
    answer: |_, _| false,
    max_steps: 60,
    ..BARREN
};

fn machines() -> [Machine; 4] {
    let bare = Machine {
        can_compact: false,
        can_kill: false,
        ..Machine::LINUX
    };
    let strict = Machine {
        defrag_mode: true,
        cpusets: true,
        costly_noretry: CostlyNoretry::NoEffort,
        ..Machine::LINUX
    };
    let old = Machine {
        costly_noretry: CostlyNoretry::GiveUpEarly,
        ..Machine::LINUX
    };
    [Machine::LINUX, bare, strict, old]
}

#[test]
fn every_request_ends_or_must_not_fail() {
    // Totality: no panic, an end, and the ends of P49, P52, P107, P132.
    for machine in machines() {
        for (gfp, context) in words().flat_map(|w| Context::ALL.map(|c| (w, c))) {
            for order in ORDERS {
                let caller = Caller::in_context(context);
                let effort = Effort::of(gfp, order, &caller, &machine);
                let run = run(&effort, &SHORT);
                let legal = gfp.never_fails() && context.may_sleep() && order <= MAX_PAGE_ORDER;
                let waits = effort.oom == OomRule::WaitForOthers
                    && effort.rounds == Rounds::UntilNoProgress;
                let what = || format!("{gfp} order {order} {context:?}: {}", run.words());
                assert_eq!(effort.may_fail, !legal, "{}", what());
                assert_eq!(run.failed, !legal && !waits, "{}", what());
            }
        }
    }
}

#[test]
fn who_may_not_wait_never_waits() {
    // P100-P102, P116: nothing that sleeps, in any context, with any script.
    let eager = Script {
        answer: |question, _| question != Question::HaveZonesChanged,
        unreserve: |_| true,
        kill: |_| true,
        ..SHORT
    };
    for (gfp, context) in words().flat_map(|w| Context::ALL.map(|c| (w, c))) {
        if gfp.allows_blocking() && context.may_sleep() {
            continue;
        }
        for (order, machine) in ORDERS.into_iter().flat_map(|o| machines().map(|m| (o, m))) {
            let caller = Caller::in_context(context);
            let run = run(&Effort::of(gfp, order, &caller, &machine), &eager);
            let sleeps = run.count(|step| {
                matches!(
                    step,
                    Step::DirectReclaim { .. }
                        | Step::Compact { .. }
                        | Step::OomLock
                        | Step::OomKill
                        | Step::Backoff(_)
                        | Step::CheckStall
                        | Step::UnreserveHighatomic
                )
            });
            assert_eq!(
                sleeps,
                0,
                "{gfp} order {order} {context:?}: {}",
                run.words()
            );
            // What waits for another CPU is for tasks alone.
            let waits = run.count(|step| *step == Step::TakeBack);
            assert!(waits == 0 || context.is_task(), "{gfp} {context:?}");
        }
    }
}

#[test]
fn more_rights_never_fewer_steps() {
    // A bit that permits something leaves everything else as it was, or more of it. FS is not
    // among them: without it a request keeps trying where with it somebody is killed (P129).
    let permits = [
        Gfp::KSWAPD_RECLAIM,
        Gfp::DIRECT_RECLAIM,
        Gfp::IO,
        Gfp::NOFAIL,
    ];
    for (gfp, bit) in words().flat_map(|w| permits.map(|bit| (w, bit))) {
        if gfp.contains(bit) {
            continue;
        }
        for order in [0, 1, 4] {
            let less = run(&effort(gfp, order), &SHORT);
            let more = run(&effort(gfp | bit, order), &SHORT);
            if !less.failed || !more.failed {
                assert!(!more.failed, "{gfp} + {bit} order {order}");
                continue;
            }
            for (name, few, many) in [
                ("wakes", less.wakes(), more.wakes()),
                ("reclaims", less.reclaims(), more.reclaims()),
                ("compactions", less.compactions(), more.compactions()),
                ("kills", less.kills(), more.kills()),
                ("passes", less.passes(), more.passes()),
            ] {
                assert!(few <= many, "{name}: {gfp} + {bit} order {order}");
            }
        }
    }
}

#[test]
fn harder_levels_try_at_least_as_hard() {
    // P100-P106 in their order of effort: 1, 2, 5, 6, 4, 7.
    for order in ORDERS {
        let reclaims = |level: usize| run(&effort(LEVELS[level - 1].1, order), &BARREN).reclaims();
        let tries = [1, 2, 5, 4, 7].map(reclaims);
        assert!(tries.is_sorted(), "order {order}: {tries:?}");
        assert!(reclaims(5) <= reclaims(6), "order {order}");
    }
}

#[test]
fn other_bits_change_nothing() {
    let other = [
        Gfp::ZERO,
        Gfp::WRITE,
        Gfp::COMP,
        Gfp::ACCOUNT,
        Gfp::ZEROTAGS,
        Gfp::HARDWALL,
        Gfp::NOLOCKDEP,
        Gfp::NO_OBJ_EXT,
    ];
    for (_, gfp) in LEVELS {
        for (bit, order) in other.into_iter().flat_map(|b| ORDERS.map(|o| (b, o))) {
            let plain = effort(gfp, order);
            let with = effort(gfp | bit, order);
            let same = Effort {
                asked: plain.asked,
                gfp: plain.gfp,
                ..with
            };
            assert_eq!(same, plain, "{gfp} + {bit}");
        }
    }
}

#[test]
fn steps_follow_from_the_table() {
    // No step that the table does not announce.
    for (gfp, order) in words().flat_map(|w| ORDERS.map(|o| (w, o))) {
        let effort = effort(gfp, order);
        let run = run(&effort, &SHORT);
        let reclaims = !matches!(effort.rounds, Rounds::None(_));
        assert_eq!(run.reclaims() > 0, reclaims, "{gfp} order {order}");
        let compacts = matches!(effort.compaction, Compaction::UpTo(_));
        assert!(compacts || run.compactions() == 0, "{gfp} order {order}");
        assert!(
            !matches!(effort.oom, OomRule::Never(_)) || run.kills() == 0,
            "{gfp} order {order}"
        );
        assert_eq!(run.wakes() > 0, effort.wake_background, "{gfp}");
    }
}

#[test]
fn who_has_one_look_wakes_looks_once_and_fails() {
    // P101, P112, P116: what the slow path relies on to refuse without a plan.
    let mut seen = [0; 2];
    for (gfp, context) in words().flat_map(|w| Context::ALL.map(|c| (w, c))) {
        for (order, machine) in ORDERS.into_iter().flat_map(|o| machines().map(|m| (o, m))) {
            let effort = Effort::of(gfp, order, &Caller::in_context(context), &machine);
            if !effort.is_one_look() {
                seen[0] += 1;
                continue;
            }
            seen[1] += 1;
            let run = run(&effort, &SHORT);
            let first = effort.wake_background.then_some(Step::WakeBackground {
                order: effort.goal_order,
                highest: effort.highest,
            });
            let pass = Step::Pass {
                rights: effort.slow.unwrap(),
                reach: Reach::Policy,
            };
            let awaits = effort.awaits_reported.then_some(Step::AwaitReported);
            let changed = Step::Ask(Question::HaveZonesChanged);
            let report = effort.warn == Warn::Report;
            let expected = [Some(Step::Begin), first, Some(pass), awaits, Some(changed)];
            let fail = Step::Fail { report };
            let expected: Vec<Step> = expected.into_iter().flatten().chain([fail]).collect();
            assert_eq!(run.steps, expected, "{gfp} order {order} {context:?}");
        }
    }
    assert!(seen.iter().all(|n| *n > 0));
}
