extern crate std;

use super::*;
use crate::flags::{GFP_KERNEL, GFP_NOFS, Gfp, MigrateType};
use crate::frame::NodeId;
use crate::policy::watermark::{AllocFlags, FreeState};
use std::string::ToString;

fn using(rss: usize) -> Candidate {
    Candidate {
        rss,
        ..Candidate::default()
    }
}

#[test]
fn scores() {
    // P433: rss + swap entries + page tables + adj * total / 1000
    let c = Candidate {
        rss: 1000,
        swap_entries: 200,
        page_tables: 30,
        ..Candidate::default()
    };
    let at = |adj| score(&Candidate { adj, ..c }, 50_000);
    assert_eq!(at(0), Ok(1230));
    assert_eq!(at(1), Ok(1280));
    assert_eq!(at(1000), Ok(51_230));
    assert_eq!(at(i16::MAX), Ok(51_230));
    assert_eq!(at(-999), Ok(1230 - 49_950));
    assert_eq!(at(-1000), Err(Ineligible::Adj));
    assert_eq!(at(i16::MIN), Err(Ineligible::Adj));
    assert_eq!(score(&Candidate { adj: 1, ..c }, 999), Ok(1230));
    let huge = Candidate {
        rss: usize::MAX,
        swap_entries: usize::MAX,
        page_tables: usize::MAX,
        adj: 1000,
        ..c
    };
    assert_eq!(score(&huge, usize::MAX), Ok(i64::MAX));
}

#[test]
fn who_is_never_chosen() {
    // P433
    use Standing::*;
    for standing in [KernelTask, Init, VforkChild, Reaped, OtherNodes] {
        let candidate = Candidate {
            standing,
            ..using(1 << 30)
        };
        assert_eq!(score(&candidate, 1), Err(Ineligible::Standing(standing)));
        let mut selection = Selection::new(1);
        assert_eq!(selection.consider('x', &candidate), Considered::Next);
        assert_eq!(selection.verdict(), Verdict::Nobody);
    }
}

fn select(candidates: &[Candidate]) -> Verdict<usize> {
    let mut selection = Selection::new(1000);
    for (i, candidate) in candidates.iter().enumerate() {
        if selection.consider(i, candidate) == Considered::Abort {
            break;
        }
    }
    selection.verdict()
}

#[test]
fn the_first_of_the_highest_is_chosen() {
    // P433
    let low = Candidate {
        adj: -999,
        ..using(1)
    };
    assert_eq!(select(&[]), Verdict::Nobody);
    assert_eq!(
        select(&[low]),
        Verdict::Victim {
            who: 0,
            score: -998
        }
    );
    assert_eq!(
        select(&[using(5), using(9), using(9), using(1)]),
        Verdict::Victim { who: 1, score: 9 }
    );
    // For every order of four candidates the largest dies.
    for a in 0..4 {
        for b in 0..4 {
            for c in 0..4 {
                let sizes = [a, b, c];
                let Verdict::Victim { who, score } = select(&sizes.map(using)) else {
                    panic!("nobody")
                };
                let max = *sizes.iter().max().unwrap();
                assert_eq!(score, max as i64);
                assert_eq!(who, sizes.iter().position(|&size| size == max).unwrap());
            }
        }
    }
}

#[test]
fn one_who_is_dying_is_waited_for() {
    // P433
    let dying = Candidate {
        standing: Standing::DyingVictim,
        ..using(1)
    };
    assert_eq!(
        select(&[using(500), dying, using(600)]),
        Verdict::SomebodyIsDying
    );
    let mut by_hand = Selection::by_hand(1000);
    assert_eq!(by_hand.consider(0, &dying), Considered::Next);
    assert_eq!(by_hand.verdict(), Verdict::Nobody);
    by_hand.consider(1, &using(3));
    assert_eq!(by_hand.verdict(), Verdict::Victim { who: 1, score: 3 });
}

fn facts() -> ScanFacts {
    ScanFacts {
        trigger: Trigger::Request,
        gfp: GFP_KERNEL,
        constraint: Constraint::None,
        notifiers_freed: 0,
        current_is_dying: false,
        panic_on_oom: PanicOnOom::Never,
        kills_current: false,
    }
}

const CONSTRAINTS: [Constraint; 4] = [
    Constraint::None,
    Constraint::Cpuset,
    Constraint::MemoryPolicy,
    Constraint::Memcg,
];

#[test]
fn before_anybody_is_looked_at() {
    // P430-P432, P435: all combinations against the rules, in their order.
    use PanicOnOom::{Always, IfUnconstrained, Never};
    for bits in 0..16u32 {
        let bit = |n: u32| bits >> n & 1 != 0;
        for constraint in CONSTRAINTS {
            for panic_on_oom in [Never, IfUnconstrained, Always] {
                let facts = ScanFacts {
                    gfp: if bit(0) { GFP_KERNEL } else { GFP_NOFS },
                    constraint,
                    notifiers_freed: bit(1).into(),
                    current_is_dying: bit(2),
                    panic_on_oom,
                    kills_current: bit(3),
                    ..facts()
                };
                let global = constraint != Constraint::Memcg;
                let panics = panic_on_oom == Always
                    || panic_on_oom == IfUnconstrained && constraint == Constraint::None;
                let expected = if bit(1) && global {
                    Before::Retry
                } else if bit(2) {
                    Before::MarkCurrent
                } else if !bit(0) && global {
                    Before::PretendProgress
                } else if panics {
                    Before::Panic
                } else if bit(3) {
                    Before::KillCurrent
                } else {
                    Before::Scan
                };
                assert_eq!(before_scan(&facts), expected, "{facts:?}");
                let sysrq = ScanFacts {
                    trigger: Trigger::Sysrq,
                    ..facts
                };
                assert_eq!(before_scan(&sysrq), Before::Scan);
            }
        }
    }
    assert!(runs_notifiers(Trigger::Request, Constraint::Cpuset));
    assert!(!runs_notifiers(Trigger::Request, Constraint::Memcg));
    assert!(!runs_notifiers(Trigger::Sysrq, Constraint::None));
}

#[test]
fn after_the_scan() {
    // P434
    for constraint in CONSTRAINTS {
        let request = |verdict| after_scan(verdict, Trigger::Request, constraint);
        let kill = request(Verdict::Victim { who: 7, score: -3 });
        assert_eq!((kill, kill.is_progress()), (Outcome::Kill(7), true));
        let wait = request(Verdict::SomebodyIsDying);
        assert_eq!((wait, wait.is_progress()), (Outcome::Wait, true));
        let nobody = request(Verdict::Nobody);
        let expected = if constraint == Constraint::Memcg {
            Outcome::Fail
        } else {
            Outcome::Panic
        };
        assert_eq!((nobody, nobody.is_progress()), (expected, false));
        let sysrq = after_scan::<u8>(Verdict::Nobody, Trigger::Sysrq, constraint);
        assert_eq!(sysrq, Outcome::Message);
    }
}

#[test]
fn the_narrowest_constraint_is_named() {
    // P432, P435a
    for bits in 0..8u32 {
        let limits = Limits {
            group: bits & 1 != 0,
            policy: bits & 2 != 0,
            cpuset: bits & 4 != 0,
        };
        let expected = [
            "NONE",
            "MEMCG",
            "MEMORY_POLICY",
            "MEMCG",
            "CPUSET",
            "MEMCG",
            "MEMORY_POLICY",
            "MEMCG",
        ];
        assert_eq!(constraint(&limits).name(), expected[bits as usize]);
    }
}

#[test]
fn a_victim_holds_the_machine_up_for_three_seconds_at_most() {
    // P435
    let mut reaper = Reaper::default();
    let (mut ms_total, mut attempts) = (0, 0);
    while let Reap::After { ms } = reaper.next() {
        assert_eq!(ms, if attempts == 0 { 2000 } else { 100 });
        (ms_total, attempts) = (ms_total + ms, attempts + 1);
        reaper.failed();
    }
    assert_eq!((ms_total, attempts), (Reaper::MS_MAX, 10));
    assert_eq!(Reaper::MS_MAX, 2900);
}

#[test]
fn killing_ends() {
    // P433, P434, P435: victims that never die; each is waited for and reaped, and at last nobody
    // is left.
    let mut candidates = [using(3), using(5), using(4), using(0)];
    let (mut kills, mut waits) = (std::vec::Vec::new(), 0);
    let mut reaper = Reaper::default();
    loop {
        match after_scan(select(&candidates), Trigger::Request, Constraint::Memcg) {
            Outcome::Kill(who) => {
                candidates[who].standing = Standing::DyingVictim;
                reaper = Reaper::default();
                kills.push(who);
            }
            Outcome::Wait => {
                waits += 1;
                reaper.failed();
                if reaper.next() == Reap::GiveUp {
                    let dying = candidates
                        .iter_mut()
                        .find(|c| c.standing == Standing::DyingVictim);
                    dying.unwrap().standing = Standing::Reaped;
                }
            }
            Outcome::Fail => break,
            other => panic!("{other:?}"),
        }
        assert!(kills.len() <= candidates.len() && waits <= 10 * candidates.len());
    }
    assert_eq!(kills, [1, 2, 0, 3]);
    assert_eq!(waits, 40);
}

fn zone(free: usize) -> ZoneShortage {
    ZoneShortage {
        managed: 10_000,
        state: FreeState {
            free,
            free_highatomic: 0,
            free_cma: 0,
        },
        mark: 800,
        boost: 0,
        reserve: 0,
    }
}

#[test]
fn a_report_says_why() {
    // P606, P269
    let why = |order, zone: ZoneShortage| shortage(order, AllocFlags::MIN, &zone, |_, _| false);
    assert_eq!(why(0, zone(801)), Shortage::None);
    assert_eq!(why(0, zone(800)), Shortage::BelowMark { missing: 1 });
    assert_eq!(why(0, zone(0)), Shortage::BelowMark { missing: 801 });
    assert_eq!(why(2, zone(800)), Shortage::BelowMark { missing: 4 });
    assert_eq!(why(2, zone(804)), Shortage::Fragmented);
    let there = shortage(2, AllocFlags::MIN, &zone(804), |o, t| {
        (o, t) == (5, MigrateType::Movable)
    });
    assert_eq!(there, Shortage::None);
    let empty = ZoneShortage {
        managed: 0,
        ..zone(5000)
    };
    assert_eq!(why(0, empty), Shortage::Empty);
    let boosted = ZoneShortage {
        mark: 1300,
        boost: 500,
        ..zone(900)
    };
    assert_eq!(why(0, boosted), Shortage::Boost);
    let kept = ZoneShortage {
        reserve: 500,
        ..zone(900)
    };
    assert_eq!(why(0, kept), Shortage::LowmemReserve);
    let mut urgent = zone(900);
    urgent.state.free_highatomic = 200;
    assert_eq!(why(0, urgent), Shortage::Highatomic);
    let mut cma = zone(900);
    cma.state.free_cma = 200;
    assert_eq!(why(0, cma), Shortage::Cma);
    let both = ZoneShortage {
        mark: 1300,
        boost: 500,
        reserve: 500,
        ..zone(900)
    };
    assert_eq!(why(0, both), Shortage::BelowMark { missing: 901 });
    assert_eq!(
        shortage(u32::MAX, AllocFlags::MIN, &zone(900), |_, _| true),
        Shortage::BelowMark {
            missing: usize::MAX
        }
    );
}

#[test]
fn the_lines_of_the_report() {
    // P435a
    let invocation = Invocation {
        comm: "stress",
        gfp: GFP_KERNEL | Gfp::ZERO,
        order: 2,
        adj: -5,
    };
    assert_eq!(
        invocation.to_string(),
        "stress invoked oom-killer: gfp_mask=0xdc0(GFP_KERNEL|__GFP_ZERO), order=2, \
         oom_score_adj=-5"
    );
    let task = TaskRow {
        pid: 4711,
        uid: 1000,
        tgid: 4711,
        total_vm: 262_144,
        rss: 131_072,
        rss_anon: 131_000,
        rss_file: 70,
        rss_shmem: 2,
        pgtables_bytes: 1_064_960,
        swapents: 0,
        adj: 0,
        comm: "hog",
    };
    assert_eq!(
        task.to_string(),
        "[   4711]  1000  4711   262144   131072   131000       70         2        \
         1064960        0             0 hog"
    );
    assert_eq!(
        TABLE_HEADER,
        "[  pid  ]   uid  tgid total_vm      rss rss_anon rss_file rss_shmem pgtables_bytes \
         swapents oom_score_adj name"
    );
    assert_eq!(
        TABLE_HEADER.find(" name"),
        task.to_string().find(" hog"),
        "columns end together"
    );
    let killed = KilledBy {
        constraint: Constraint::None,
        nodemask: None,
        cpuset: "/",
        mems_allowed: "0",
        scope: Constrained::Global,
        task_memcg: "/user",
        task: "hog",
        pid: 4711,
        uid: 1000,
    };
    assert_eq!(
        killed.to_string(),
        "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,\
         task_memcg=/user,task=hog,pid=4711,uid=1000"
    );
    let group = KilledBy {
        constraint: Constraint::Memcg,
        nodemask: Some([NodeId(0), NodeId(1)].into_iter().collect()),
        scope: Constrained::Group("/user"),
        ..killed
    };
    assert!(group.to_string().contains("CONSTRAINT_MEMCG,nodemask=0-1,"));
    assert!(group.to_string().contains(",oom_memcg=/user,task_memcg="));
    let line = VictimLine {
        constraint: Constraint::None,
        task,
    };
    assert_eq!(
        line.to_string(),
        "Out of memory: Killed process 4711 (hog) total-vm:1048576kB, anon-rss:524000kB, \
         file-rss:280kB, shmem-rss:8kB, UID:1000 pgtables:1040kB oom_score_adj:0"
    );
}
