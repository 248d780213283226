//! P109-P134: which step comes before which.

use super::*;

fn words(effort: &Effort, script: &Script) -> String {
    run(effort, script).words()
}

#[test]
fn a_request_that_may_not_wait_looks_and_fails() {
    // P100-P102, P112, P113, P116
    let no_reclaim = effort(GFP_KERNEL & !Gfp::RECLAIM, 4);
    let expected = "begin pass:MIN|NON_BLOCK|CPUSET HaveZonesChanged? fail+report";
    assert_eq!(words(&no_reclaim, &BARREN), expected);
    let nowait = effort(GFP_NOWAIT, 4);
    let expected = "begin wake:4 pass:MIN|NON_BLOCK|CPUSET|KSWAPD await HaveZonesChanged? fail";
    assert_eq!(words(&nowait, &BARREN), expected);
    let atomic = effort(GFP_ATOMIC, 4);
    let expected = "begin wake:4 pass:MIN|NON_BLOCK|MIN_RESERVE|HIGHATOMIC|KSWAPD await \
        HaveZonesChanged? fail+report";
    assert_eq!(words(&atomic, &BARREN), expected);
}

#[test]
fn one_page_that_may_not_wait_takes_back_what_cpus_keep() {
    // P821
    let nowait = words(&effort(GFP_NOWAIT, 0), &BARREN);
    assert!(nowait.contains("take-back pass:MIN"), "{nowait}");
    let irq = Caller::in_context(Context::HardIrq);
    let from_irq = words(&Effort::of(GFP_NOWAIT, 0, &irq, &Machine::LINUX), &BARREN);
    assert!(!from_irq.contains("take-back"), "{from_irq}");
}

#[test]
fn noretry_is_one_round_in_this_order() {
    // P104, P114, P118-P120
    let small = effort(GFP_KERNEL | Gfp::NORETRY, 2);
    let pass = "pass:MIN|CPUSET|KSWAPD";
    let expected = format!(
        "begin wake:2 {pass} compact:2:Async {pass} reclaim:2 {pass} compact:2:Async {pass} await \
         HaveZonesChanged? fail+report"
    );
    assert_eq!(words(&small, &BARREN), expected);
    // P118: what was freed may be in other CPUs' caches.
    let reclaim = |_| 1;
    let with_progress = words(&small, &Script { reclaim, ..BARREN });
    assert!(with_progress.contains(&format!("reclaim:2 {pass} take-back {pass} compact")));
    // Movable small blocks: reclaim first.
    let movable = words(&effort(GFP_HIGHUSER_MOVABLE | Gfp::NORETRY, 2), &BARREN);
    assert!(
        movable.find("reclaim") < movable.find("compact"),
        "{movable}"
    );
}

#[test]
fn who_may_ignore_watermarks_looks_there_before_it_compacts() {
    // P114, P115
    let memalloc = words(&effort(GFP_KERNEL | Gfp::MEMALLOC, 4), &BARREN);
    let first = "begin wake:4 pass:MIN|CPUSET|KSWAPD pass-anywhere:MIN|NO_WATERMARKS|KSWAPD \
        reclaim:4";
    assert!(memalloc.starts_with(first), "{memalloc}");
}

#[test]
fn the_reserve_is_consumed_before_anybody_is_killed() {
    // P123: three blocks are there: three more rounds, then the kill.
    let unreserve = |n| n < 3;
    let run = run(
        &effort(GFP_KERNEL, 0),
        &Script {
            unreserve,
            ..BARREN
        },
    );
    let words = run.words();
    assert_eq!(run.count(|s| matches!(s, Step::UnreserveHighatomic)), 4);
    assert!(words.rfind("unreserve").unwrap() < words.find("lock").unwrap());
    assert_eq!((run.reclaims(), run.kills()), (20, 1));
}

#[test]
fn the_oom_step() {
    // P128-P130: lock, a look at HIGH, kill, and for NOFAIL a pass without watermarks.
    let nofail = words(&effort(GFP_KERNEL | Gfp::NOFAIL, 0), &BARREN);
    let step = "HaveZonesChanged? lock pass:HIGH|CPUSET kill \
        pass:MIN|NO_WATERMARKS|CPUSET|KSWAPD unlock";
    assert!(nofail.contains(step), "{nofail}");
    // Nor may it depend on others who kill (P129): without FS it gets that pass too.
    let nofs = words(&effort(GFP_NOFS | Gfp::NOFAIL, 0), &BARREN);
    let step = "lock pass:HIGH|CPUSET kill pass:MIN|NO_WATERMARKS|CPUSET|KSWAPD unlock backoff";
    assert!(nofs.contains(step), "{nofs}");
    let nofs = words(&effort(GFP_NOFS, 0), &BARREN);
    let step = "lock pass:HIGH|CPUSET kill unlock backoff";
    assert!(nofs.contains(step), "{nofs}");
    // P132: then MIN_RESERVE, and again.
    let end = "pass:MIN|MIN_RESERVE|CPUSET|KSWAPD backoff:Reschedule wake:0";
    assert!(nofail.contains(end), "{nofail}");
    let default = words(&effort(GFP_KERNEL, 0), &BARREN);
    assert!(
        default.contains("lock pass:HIGH|CPUSET kill unlock await"),
        "{default}"
    );
}

#[test]
fn a_busy_oom_lock_is_progress() {
    // P128: sleeps a tick, and the counter is zero again.
    let oom_lock = |n| n > 0;
    let run = run(&effort(GFP_KERNEL, 0), &Script { oom_lock, ..BARREN });
    assert!(run.words().contains("lock backoff:Tick wake:0"));
    assert_eq!((run.reclaims(), run.kills()), (34, 1));
}

#[test]
fn who_is_killed_for() {
    // P129
    let task = Caller::default();
    let dumping = Caller {
        dumping_core: true,
        ..task
    };
    let suspended = Machine {
        storage_suspended: true,
        ..Machine::LINUX
    };
    let table = [
        (GFP_KERNEL, 0, task, Machine::LINUX, OomRule::Kill),
        (GFP_KERNEL, 3, task, Machine::LINUX, OomRule::Kill),
        (
            GFP_KERNEL,
            0,
            dumping,
            Machine::LINUX,
            OomRule::Never(NoKill::DumpingCore),
        ),
        (
            GFP_KERNEL,
            4,
            task,
            Machine::LINUX,
            OomRule::Never(NoKill::Costly),
        ),
        (
            GFP_KERNEL | Gfp::RETRY_MAYFAIL,
            0,
            task,
            Machine::LINUX,
            OomRule::Never(NoKill::RetryMayfail),
        ),
        (
            GFP_KERNEL | Gfp::THISNODE,
            0,
            task,
            Machine::LINUX,
            OomRule::Never(NoKill::ThisNode),
        ),
        (
            GFP_KERNEL | GFP_DMA32,
            0,
            task,
            Machine::LINUX,
            OomRule::Never(NoKill::LowZone),
        ),
        (
            GFP_KERNEL,
            0,
            task,
            suspended,
            OomRule::Never(NoKill::StorageSuspended),
        ),
        (GFP_NOFS, 0, task, Machine::LINUX, OomRule::WaitForOthers),
        (GFP_NOIO, 0, task, Machine::LINUX, OomRule::WaitForOthers),
    ];
    for (gfp, order, caller, machine, expected) in table {
        let effort = Effort::of(gfp, order, &caller, &machine);
        assert_eq!(effort.oom, expected, "{gfp} order {order}");
        let run = run(&effort, &BARREN);
        match expected {
            OomRule::WaitForOthers => assert!(!run.failed && run.kills() > 1, "{gfp}"),
            _ => {
                let kills = usize::from(expected == OomRule::Kill);
                assert_eq!((run.failed, run.kills()), (true, kills), "{gfp}");
            }
        }
    }
}

#[test]
fn a_request_without_fs_ends_when_nobody_is_left_who_could_kill() {
    // P431: the source may go while the request waits for others.
    let others = |n| n < 3;
    for gfp in [GFP_NOFS, GFP_NOIO] {
        let run = run(&effort(gfp, 0), &Script { others, ..BARREN });
        assert_eq!((run.failed, run.kills()), (true, 4), "{gfp}");
    }
}

#[test]
fn a_machine_without_killer_ends_where_a_kill_would_be_next() {
    let machine = Machine {
        can_kill: false,
        ..Machine::LINUX
    };
    for gfp in [GFP_KERNEL, GFP_NOFS, GFP_NOIO] {
        let run = run(&Effort::of(gfp, 0, &Caller::default(), &machine), &BARREN);
        assert!(run.failed, "{gfp}");
        assert_eq!(run.reclaims(), 17);
        assert_eq!(run.count(|s| matches!(s, Step::OomLock)), 0);
    }
}

#[test]
fn an_oom_victim_has_its_reserves_then_fails() {
    // P115, P131, P107: chosen from the start, chosen by its own kill, and with NOMEMALLOC.
    let victim = Caller {
        oom_victim: true,
        ..Caller::default()
    };
    let kill = |_| true;
    let script = Script { kill, ..BARREN };
    let from_start = run(
        &Effort::of(GFP_KERNEL, 0, &victim, &Machine::LINUX),
        &script,
    );
    assert!(from_start.failed && from_start.kills() == 1);
    let words = from_start.words();
    let first =
        "pass:MIN|CPUSET|KSWAPD pass-anywhere:MIN|OOM|NON_BLOCK|MIN_RESERVE|KSWAPD reclaim:0";
    assert!(words.contains(first), "{words}");

    let now = |steps| Now {
        oom_victim: steps > 200,
        fatal_signal: false,
    };
    let chosen_later = run(&effort(GFP_KERNEL, 0), &Script { now, ..script });
    assert!(chosen_later.failed && chosen_later.words().contains("MIN|OOM"));

    let none = run(
        &effort(GFP_KERNEL | Gfp::NOMEMALLOC, 0),
        &Script { now, ..script },
    );
    assert!(none.failed && !none.words().contains("MIN|OOM"));
}

#[test]
fn who_reclaims_does_not_reclaim_again() {
    // P116, P133, P962: all watermarks ignored, no second reclaim.
    let caller = Caller {
        scopes: Scopes::NORECLAIM,
        ..Caller::default()
    };
    for order in [0, 4] {
        let run = run(
            &Effort::of(GFP_KERNEL, order, &caller, &Machine::LINUX),
            &BARREN,
        );
        assert_eq!((run.reclaims(), run.compactions(), run.kills()), (0, 0, 0));
        assert!(run.failed);
        let rights = "pass-anywhere:MIN|NO_WATERMARKS|KSWAPD";
        assert!(run.words().contains(rights), "{}", run.words());
    }
    // P53
    let none = Effort::of(GFP_KERNEL | Gfp::NOMEMALLOC, 4, &caller, &Machine::LINUX);
    let run = run(&none, &BARREN);
    assert_eq!((run.reclaims(), run.compactions()), (0, 0));
    assert!(!run.words().contains("NO_WATERMARKS"));
}

#[test]
fn a_change_of_zonelists_begins_anew() {
    // P111: before the kill, and before the failure; counters are zero again.
    let answer = |question, n| match question {
        Question::WouldReclaimSuffice => true,
        Question::HaveZonesChanged => n == 17 - 1,
        _ => false,
    };
    let before_kill = run(&effort(GFP_KERNEL, 0), &Script { answer, ..BARREN });
    assert_eq!((before_kill.reclaims(), before_kill.kills()), (34, 1));
    let answer = |question, n| question == Question::HaveZonesChanged && n == 0;
    let nowait = run(&effort(GFP_NOWAIT, 1), &Script { answer, ..BARREN });
    assert_eq!((nowait.wakes(), nowait.passes()), (2, 2));
}

#[test]
fn compaction_rises_and_costly_stops_below_the_top() {
    // P125
    let reclaim = |_| 1;
    let answer = |_, _| false;
    let script = Script {
        reclaim,
        answer,
        ..BARREN
    };
    let priorities = |order| {
        let effort = effort(GFP_KERNEL | Gfp::RETRY_MAYFAIL, order);
        let steps = run(&effort, &script).steps;
        let priority = |step: &Step| match step {
            Step::Compact { priority, .. } => Some(*priority),
            _ => None,
        };
        steps.iter().filter_map(priority).collect::<Vec<_>>()
    };
    use CompactPriority::{Async, SyncFull, SyncLight};
    assert_eq!(priorities(3), [Async, Async, SyncLight, SyncFull]); // the first is P114's
    assert_eq!(priorities(4), [Async, Async, SyncLight]);
    // A fatal signal ends it.
    let now = |_| Now {
        oom_victim: false,
        fatal_signal: true,
    };
    let gfp = GFP_KERNEL | Gfp::RETRY_MAYFAIL;
    assert_eq!(
        run(&effort(gfp, 3), &Script { now, ..script }).reclaims(),
        1
    );
    // No progress, no retry for compaction's sake.
    let reclaim = |_| 0;
    assert_eq!(
        run(&effort(gfp, 3), &Script { reclaim, ..script }).reclaims(),
        1
    );
}

#[test]
fn without_compaction_small_blocks_wait_for_single_pages() {
    // P126
    let machine = Machine {
        can_compact: false,
        ..Machine::LINUX
    };
    let script = Script {
        reclaim: |_| 1,
        answer: |question, n| question == Question::IsOnePageLeft && n < 8,
        ..BARREN
    };
    let rounds = |gfp, order| {
        let effort = Effort::of(gfp, order, &Caller::default(), &machine);
        run(&effort, &script).reclaims()
    };
    assert_eq!(rounds(GFP_KERNEL, 3), 5); // both questions are counted
    assert_eq!(rounds(GFP_KERNEL, 0), 1);
    assert_eq!(rounds(GFP_KERNEL | Gfp::RETRY_MAYFAIL, 4), 1); // P120
    // P34: built in, but not for NOIO: no such question.
    assert_eq!(
        run(&effort(GFP_NOIO, 3), &script).count(asks_for_one_page),
        0
    );
}

fn asks_for_one_page(step: &Step) -> bool {
    *step == Step::Ask(Question::IsOnePageLeft)
}

#[test]
fn a_pool_worker_sleeps_between_rounds() {
    // P124
    let worker = Caller {
        pool_worker: true,
        ..Caller::default()
    };
    let run = run(
        &Effort::of(GFP_KERNEL, 0, &worker, &Machine::LINUX),
        &BARREN,
    );
    let slept = run.count(|s| *s == Step::Backoff(Backoff::Tick));
    assert_eq!(slept, run.reclaims() - 1);
}

#[test]
fn stalls_are_looked_for_in_every_turn_but_the_first() {
    // P117
    let looks = |gfp| run(&effort(gfp, 0), &BARREN).count(|s| *s == Step::CheckStall);
    assert_eq!(looks(GFP_KERNEL), 16);
    assert_eq!(looks(GFP_KERNEL | Gfp::NOWARN), 0);
}

#[test]
fn defrag_mode_keeps_blocks_whole_until_the_end() {
    // P136
    let machine = Machine {
        defrag_mode: true,
        ..Machine::LINUX
    };
    let of = |gfp, order| Effort::of(gfp, order, &Caller::default(), &machine);
    // Non-movable requests work for whole blocks; movable ones for what they want.
    assert_eq!(of(GFP_KERNEL, 0).goal_order, 9);
    assert_eq!(of(GFP_HIGHUSER_MOVABLE, 0).goal_order, 0);
    // Blocking: dropped before the OOM step, and tried again.
    let blocking = words(&of(GFP_KERNEL, 0), &BARREN);
    let last_kept = blocking.rfind("NOFRAGMENT").unwrap();
    let first_without = blocking.find("pass:MIN|CPUSET|KSWAPD").unwrap();
    assert!(last_kept < first_without && first_without < blocking.find("lock").unwrap());
    // Not blocking: one more look, if background reclaim may be woken.
    let nowait = words(&of(GFP_NOWAIT, 1), &BARREN);
    let rights = "pass:MIN|NON_BLOCK|CPUSET|NOFRAGMENT|KSWAPD wake:9 \
        pass:MIN|NON_BLOCK|CPUSET|KSWAPD";
    assert!(nowait.contains(rights), "{nowait}");
    let silent = words(&of(GFP_NOWAIT & !Gfp::RECLAIM, 1), &BARREN);
    assert_eq!(silent.matches("pass:").count(), 1, "{silent}");
}

#[test]
fn nofail_inside_a_cpuset_looks_outside_too() {
    // P132, P57
    let machine = Machine {
        cpusets: true,
        ..Machine::LINUX
    };
    let effort = Effort::of(GFP_KERNEL | Gfp::NOFAIL, 4, &Caller::default(), &machine);
    let words = words(&effort, &BARREN);
    let twice = "pass:MIN|MIN_RESERVE|CPUSET|KSWAPD pass:MIN|MIN_RESERVE|KSWAPD backoff";
    assert!(words.contains(twice), "{words}");
    assert!(effort.gfp.contains(Gfp::HARDWALL));
}

#[test]
fn the_no_lock_entry_looks_once() {
    // P170-P172
    let nmi = Caller::in_context(Context::Nmi);
    let effort = Effort::nolock(GFP_NOLOCK | Gfp::ACCOUNT, 0, &nmi, &Machine::LINUX);
    assert_eq!(format!("{:?}", effort.fast), "MIN|NOLOCK");
    assert_eq!(words(&effort, &BARREN), "fail");
    assert_eq!(effort.complaints().count(), 0);
    let refused = |order| Effort::nolock(GFP_NOLOCK, order, &nmi, &Machine::LINUX).refused;
    let orders: Vec<u32> = (0..=11).filter(|order| !refused(*order)).collect();
    assert_eq!(orders, [0, 1, 2, 3, 9]);
}
