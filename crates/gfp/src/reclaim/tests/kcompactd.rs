//! The compaction task of a node: who wakes it, what it does, and what it does unasked.

use super::compact::{compact, events, fragment, largest_free, machine, outcome};
use super::kswapd;
use crate::Mm;
use crate::flags::{GFP_ATOMIC, GFP_HIGHUSER_MOVABLE, GFP_KERNEL, GFP_NOWAIT, Gfp, ZoneKind};
use crate::frame::{NodeId, Order, PAGE_SIZE};
use crate::page::tests::tenant::Renting;
use crate::page::{BootConfig, Migrated, PageRequest, WakeUp};
use crate::platform::{Context, Platform};
use crate::policy::compaction::{DaemonWake, PERIOD_MS};
use crate::policy::effort::{CompactOutcome, CompactPriority};
use crate::policy::reclaim::kswapd::{Balance, Demand, TaskState, Wake};
use crate::reclaim::{CompactEvents, Nobody, NodeTaskError};
use crate::testing::{TestPlatform, region};
use std::cell::{Cell, RefCell};
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

type Machine = Mm<TestPlatform>;

const NODE: NodeId = NodeId(0);

fn demand(order: u32) -> Demand {
    Demand {
        order,
        highest: Some(ZoneKind::Normal),
    }
}

/// What is wanted of the task, and whether it is to get up.
fn wanted(mm: &Machine) -> (Demand, bool) {
    mm.slabs().reclaim().compactors[0].post.wanted()
}

fn wake(mm: &Machine, order: u32) -> DaemonWake {
    mm.slabs().reclaim().wake_compaction(NODE, demand(order))
}

/// There is a compaction task, and background reclaim that sleeps.
fn play_tasks(mm: &Machine) {
    let reclaim = mm.slabs().reclaim();
    reclaim.compactors[0].post.play(TaskState::Asleep);
    reclaim.nodes[0].post.play(TaskState::Asleep);
}

/// Runs the node's task. Whenever it looks whether it is to stop, `script` is asked.
fn run(mm: &Machine, script: impl FnMut() -> bool) {
    let script = RefCell::new(script);
    let stop = || script.borrow_mut()();
    assert_eq!(mm.slabs().reclaim().kcompactd(NODE, stop), Ok(()));
    assert!(mm.slabs().reclaim().compactors[0].post.state().is_none());
}

/// A request of order 9 that is made with `gfp`, and given back.
fn ask(mm: &Machine, gfp: Gfp) -> bool {
    let block = mm.alloc_pages(gfp | Gfp::NOWARN, 9);
    // SAFETY: freed once.
    block.map(|pfn| unsafe { mm.free_frames(pfn, 9) }).is_ok()
}

#[test]
fn requests_that_cannot_reclaim_wake_it_on_a_hopeless_node() {
    // P400
    let mm = machine();
    let tenant = Renting::new(&mm);
    fragment(&tenant, 0);
    play_tasks(&mm);
    assert!(!ask(&mm, GFP_ATOMIC));
    assert_eq!(wanted(&mm), (Demand::NONE, false), "reclaim is tried first");
    mm.slabs().reclaim().play_hopeless(NODE);
    assert!(!ask(&mm, GFP_NOWAIT & !Gfp::KSWAPD_RECLAIM));
    assert_eq!(wanted(&mm), (Demand::NONE, false), "level 1 wakes nobody");
    for gfp in [GFP_NOWAIT, GFP_ATOMIC] {
        mm.slabs().reclaim().compactors[0].post.forget();
        assert!(!ask(&mm, gfp));
        assert_eq!(wanted(&mm), (demand(9), true), "{gfp}");
    }
    mm.slabs().reclaim().compactors[0].post.forget();
    mm.kswapd_is_gone(NODE);
    assert!(!ask(&mm, GFP_ATOMIC));
    assert_eq!(wanted(&mm), (demand(9), true), "nobody reclaims there");
    mm.slabs().reclaim().compactors[0].post.forget();
    assert!(ask(&mm, GFP_KERNEL | Gfp::RETRY_MAYFAIL));
    assert_eq!(wanted(&mm), (Demand::NONE, false), "it compacts itself");
}

#[test]
fn requests_that_cannot_reclaim_wake_it_on_a_balanced_node() {
    // P400: one zone is balanced, and has blocks; the other has pages, but no block
    let (low, high) = ((4u64 << 30) - (16 << 20), 4u64 << 30);
    let platform = TestPlatform::new(low, 48 << 20);
    let map = [region(low, high + (32 << 20))];
    let config = BootConfig {
        watermark_boost_factor: 0,
        ..BootConfig::default()
    };
    let mm = Mm::boot(platform, &map, &config).unwrap();
    let tenant = Renting::new(&mm);
    let easy = GFP_HIGHUSER_MOVABLE.without(Gfp::DIRECT_RECLAIM) | Gfp::NOWARN;
    while tenant.take_with(easy, 0).is_some() {}
    let is_low = |pfn: &&crate::frame::Pfn| pfn.0 < high as usize / PAGE_SIZE;
    let (lows, highs): (Vec<_>, Vec<_>) = tenant.frames().iter().partition(is_low);
    lows.iter().for_each(|pfn| tenant.give(*pfn));
    highs.iter().step_by(2).for_each(|pfn| tenant.give(*pfn));
    mm.pages().drain_all();
    play_tasks(&mm);
    let balance = mm.pages().balance(NODE, 9, ZoneKind::Normal);
    assert_eq!(balance, Balance::Balanced);
    for (direct_reclaim, decision, is_wanted) in [
        (true, Wake::Nothing, (Demand::NONE, false)),
        (false, Wake::Kcompactd, (demand(9), true)),
    ] {
        let call = WakeUp {
            order: 9,
            highest: ZoneKind::Normal,
            direct_reclaim,
        };
        let woken = mm.slabs().reclaim().wake_background(NODE, &call);
        assert_eq!((woken, wanted(&mm)), (decision, is_wanted));
    }
}

#[test]
fn nobody_is_woken_who_cannot_help() {
    // P400, P427
    let mm = machine();
    let tenant = Renting::new(&mm);
    let easy = GFP_HIGHUSER_MOVABLE.without(Gfp::DIRECT_RECLAIM) | Gfp::NOWARN;
    play_tasks(&mm);
    assert_eq!(wake(&mm, 9), DaemonWake::No, "there is a block");
    while tenant.take_with(easy, 0).is_some() {}
    mm.pages().drain_all();
    assert_eq!(wake(&mm, 9), DaemonWake::No, "there is no room to move to");
    let frames = tenant.frames();
    frames.iter().step_by(2).for_each(|pfn| tenant.give(*pfn));
    mm.pages().drain_all();
    assert_eq!(wake(&mm, 0), DaemonWake::No, "a single page needs none");
    let nobody = Demand {
        order: 9,
        highest: None,
    };
    let reclaim = mm.slabs().reclaim();
    assert_eq!(reclaim.wake_compaction(NODE, nobody), DaemonWake::No);
    assert_eq!(
        reclaim.wake_compaction(NodeId(99), demand(9)),
        DaemonWake::No
    );
    assert_eq!(wanted(&mm), (Demand::NONE, false), "nothing was noted");
    assert_eq!(wake(&mm, 9), DaemonWake::Yes);
    reclaim.compactors[0].post.forget();
    mm.kcompactd_is_gone(NODE);
    mm.kcompactd_is_gone(NodeId(99));
    assert_eq!(wake(&mm, 9), DaemonWake::No, "there is no task");
}

#[test]
fn nobody_is_woken_on_a_machine_whose_pages_have_no_owner() {
    // P126, P427
    let mm = machine();
    let easy = GFP_HIGHUSER_MOVABLE.without(Gfp::DIRECT_RECLAIM) | Gfp::NOWARN;
    let taken: Vec<_> = core::iter::from_fn(|| mm.alloc_pages(easy, 0).ok()).collect();
    // SAFETY: freed once.
    let free = |pfn: &_| unsafe { mm.free_frames(*pfn, 0) };
    taken.iter().step_by(2).for_each(free);
    mm.pages().drain_all();
    play_tasks(&mm);
    assert_eq!(wake(&mm, 9), DaemonWake::No);
    mm.kcompactd_is_gone(NODE);
    let mut looks = 0;
    run(&mm, || {
        mm.platform().advance(PERIOD_MS.into());
        looks += 1;
        looks > 20
    });
    assert_eq!(events(&mm), CompactEvents::default());
    taken.iter().skip(1).step_by(2).for_each(free);
}

#[test]
fn background_reclaim_leaves_large_blocks_to_it_before_it_sleeps() {
    // P403: nothing can be freed, so the node is hopeless in the end
    let mm = machine();
    let tenant = Renting::new(&mm);
    fragment(&tenant, 0);
    mm.slabs().reclaim().compactors[0]
        .post
        .play(TaskState::Asleep);
    let mut called = false;
    kswapd::run(&mm, |asleep| {
        if asleep && !called {
            assert!(!ask(&mm, GFP_ATOMIC));
            called = true;
        }
        wanted(&mm).1
    });
    assert_eq!(wanted(&mm), (demand(9), true));
    assert!(mm.slabs().reclaim().events().runs >= 16);
}

#[test]
fn background_reclaim_that_worked_off_a_boost_has_whole_blocks_made() {
    // P217
    let platform = TestPlatform::new(4 << 30, 32 << 20);
    let map = [region(4 << 30, (4 << 30) + (32 << 20))];
    let mm = Mm::boot(platform, &map, &BootConfig::default()).unwrap();
    let tenant = Renting::new(&mm);
    fragment(&tenant, 0);
    mm.slabs().reclaim().compactors[0]
        .post
        .play(TaskState::Asleep);
    let mut mixed = Vec::new();
    let boost = || mm.pages().boosts(NODE, ZoneKind::Normal).pages();
    kswapd::run(&mm, |asleep| {
        if asleep && mixed.is_empty() {
            let request = PageRequest::new(GFP_NOWAIT, Order::ZERO);
            while boost() < 512 {
                let pfn = mm.slabs().reclaim().alloc(&request, &Nobody).ok();
                mixed.push(pfn.unwrap());
            }
            assert!(!wanted(&mm).1);
        }
        asleep && mm.slabs().reclaim().events().runs != 0
    });
    assert_eq!(wanted(&mm), (demand(9), true));
    for pfn in mixed {
        // SAFETY: freed once.
        unsafe { mm.free_frames(pfn, 0) };
    }
}

#[test]
fn an_nmi_wakes_nobody_and_its_demand_is_seen_with_the_next_look() {
    // P112, P427
    let mm = machine();
    let tenant = Renting::new(&mm);
    fragment(&tenant, 0);
    let mut looks = 0;
    run(&mm, || {
        looks += 1;
        if looks == 3 {
            mm.platform().play(Context::Nmi);
            assert_eq!(wake(&mm, 9), DaemonWake::Yes);
            assert_eq!(wanted(&mm), (demand(9), false));
            mm.platform().play(Context::Task);
        }
        assert!(looks > 5 || events(&mm).task_wakes == 0);
        if looks == 5 {
            mm.platform().advance(PERIOD_MS.into());
        }
        largest_free(&mm) >= 9
    });
    assert_eq!(wanted(&mm), (Demand::NONE, false));
}

#[test]
fn it_makes_blocks_for_who_cannot_and_what_it_does_is_counted() {
    // P409, P427, P617: blocks of several orders in the way
    for top in [0, 3] {
        let mm = machine();
        let tenant = Renting::new(&mm);
        fragment(&tenant, top);
        let mut called = false;
        let stalled_us = mm.memory_stall_us();
        run(&mm, || {
            if !called {
                assert_eq!(wake(&mm, 9), DaemonWake::Yes);
                called = true;
            }
            mm.platform().advance(1);
            events(&mm).migrated != 0
        });
        assert!(largest_free(&mm) >= 9);
        assert!(ask(&mm, GFP_ATOMIC), "it is there for anybody");
        let done = events(&mm);
        assert_eq!((done.task_wakes, done.stalls, done.success), (1, 0, 0));
        assert!(done.task_migrate_scanned > 0 && done.task_free_scanned > 0);
        assert_eq!(
            (done.task_migrate_scanned, done.task_free_scanned),
            (done.migrate_scanned, done.free_scanned),
            "nobody else compacted"
        );
        assert!(mm.memory_stall_us() - stalled_us >= 1000);
        let mut text = String::new();
        crate::stat::View::Vmstat.write(&mm, &mut text).unwrap();
        for (name, n) in [
            ("compact_daemon_wake", 1),
            ("compact_daemon_migrate_scanned", done.task_migrate_scanned),
            ("compact_daemon_free_scanned", done.task_free_scanned),
        ] {
            assert!(text.contains(&format!("\n{name} {n}\n")), "{name}: {text}");
        }
        let task = events(&mm).task_migrate_scanned;
        mm.compact_memory();
        assert_eq!(
            events(&mm).task_migrate_scanned,
            task,
            "an administrator did"
        );
        mm.verify().unwrap();
    }
}

#[test]
fn what_it_fails_at_is_left_out_for_a_while_by_everybody() {
    // P426, P427
    let mm = machine();
    let tenant = Renting::new(&mm);
    fragment(&tenant, 0);
    *tenant.refuses.lock().unwrap() = Some(Migrated::Busy);
    let (mut calls, mut looks) = (0, 0);
    run(&mm, || {
        if !wanted(&mm).1 && calls < 2 {
            calls += 1;
            assert_eq!(wake(&mm, 9), DaemonWake::Yes);
        }
        looks += u32::from(events(&mm).task_wakes == 2);
        looks == 2 // the first is before it begins
    });
    let light = || outcome(compact(&mm, 9, CompactPriority::SyncLight));
    assert_ne!(
        light(),
        CompactOutcome::Deferred,
        "it left one attempt out itself"
    );
    assert_eq!(light(), CompactOutcome::Deferred);
    let modes = tenant.modes.lock().unwrap();
    assert!(
        modes
            .iter()
            .all(|mode| *mode == crate::page::MigrateMode::SyncLight)
    );
}

fn now_ms(mm: &Machine) -> u64 {
    mm.platform().now_ns() / 1_000_000
}

/// Runs the task for so long, and `meanwhile` whenever it looks whether it is to stop. When it
/// asked for pages: in milliseconds since it began, once a round.
fn rounds(mm: &Machine, tenant: &Renting<'_>, ms: u64, meanwhile: impl Fn()) -> Vec<u64> {
    let asked = || tenant.modes.lock().unwrap().len();
    let (begin, mut seen) = (now_ms(mm), asked());
    let mut rounds = Vec::new();
    run(mm, || {
        let since = now_ms(mm) - begin;
        if asked() != seen {
            rounds.push(since);
            seen = asked();
        }
        meanwhile();
        mm.platform().advance(100);
        since >= ms
    });
    rounds
}

fn score(mm: &Machine) -> u8 {
    mm.pages().fragmentation_score(NODE)
}

#[test]
fn a_fragmented_node_is_compacted_before_anybody_asks() {
    // P427: proactiveness 20: above 90, until below 80
    let mm = machine();
    let tenant = Renting::new(&mm);
    fragment(&tenant, 0);
    assert!(score(&mm) > 90);
    let times = rounds(&mm, &tenant, 10_000, || ());
    assert!(score(&mm) < 80, "{}", score(&mm));
    assert!(largest_free(&mm) >= 9);
    assert!(
        (u64::from(PERIOD_MS)..2000).contains(&times[0]),
        "{times:?}"
    );
    let done = events(&mm);
    assert_eq!((done.task_wakes, done.stalls), (0, 0));
    assert_eq!(done.task_migrate_scanned, done.migrate_scanned);
    assert!(mm.memory_stall_us() > 0, "P409");
    // It stopped early: there is more to gain.
    let after = score(&mm);
    mm.compact_memory();
    assert!(score(&mm) < after, "{after}");
    tenant.check();
    mm.verify().unwrap();
}

#[test]
fn a_node_that_is_a_little_fragmented_is_left_alone() {
    // P427
    let mm = machine();
    let tenant = Renting::new(&mm);
    fragment(&tenant, 0);
    mm.compact_memory();
    assert!(score(&mm) <= 90);
    assert!(rounds(&mm, &tenant, 5000, || ()).is_empty());
}

#[test]
fn a_round_that_gains_nothing_is_not_repeated_for_32_s() {
    // P427
    let mm = machine();
    let tenant = Renting::new(&mm);
    fragment(&tenant, 0);
    *tenant.refuses.lock().unwrap() = Some(Migrated::Busy);
    let times = rounds(&mm, &tenant, 400_000, || ());
    assert!(times.len() >= 5, "{times:?}");
    let too_soon = times.windows(2).find(|pair| pair[1] - pair[0] < 32_000);
    assert_eq!(too_soon, None, "{times:?}");
}

#[test]
fn it_does_not_work_ahead_while_background_reclaim_works() {
    // P427
    let mm = machine();
    let tenant = Renting::new(&mm);
    fragment(&tenant, 0);
    let reclaim = mm.slabs().reclaim();
    reclaim.nodes[0].post.play(TaskState::Running);
    assert!(rounds(&mm, &tenant, 5000, || ()).is_empty());
    reclaim.nodes[0].post.play(TaskState::Asleep);
    assert!(!rounds(&mm, &tenant, 5000, || ()).is_empty());
    mm.kswapd_is_gone(NODE);
}

#[test]
fn a_node_has_one_compaction_task() {
    let mm = machine();
    let again = Cell::new(None);
    run(&mm, || {
        again.set(Some(mm.slabs().reclaim().kcompactd(NODE, || true)));
        true
    });
    assert_eq!(again.get(), Some(Err(NodeTaskError::HasOne)));
    let nowhere = mm.slabs().reclaim().kcompactd(NodeId(99), || true);
    assert_eq!(nowhere, Err(NodeTaskError::NoSuchNode));
    mm.stop_kcompactd(NodeId(99));
}

#[test]
fn raising_the_proactiveness_has_it_look_at_once() {
    // P707
    let mm = machine();
    let tenant = Renting::new(&mm);
    fragment(&tenant, 0);
    *tenant.refuses.lock().unwrap() = Some(Migrated::Busy);
    let vm = mm.tunables();
    let begin = now_ms(&mm);
    let set = Cell::new(0);
    let times = rounds(&mm, &tenant, 12_000, || {
        let since = now_ms(&mm) - begin;
        let steps: [(u64, &str); 3] = [(4000, "19"), (6000, "19"), (8000, "30")];
        if let Some((at, value)) = steps.get(set.get())
            && since >= *at
        {
            set.set(set.get() + 1);
            vm.write("compaction_proactiveness", value).unwrap();
        }
    });
    // The first one gained nothing; only the raise ended the pause, and that at once.
    assert_eq!(times.len(), 2, "{times:?}");
    assert!((8000..8500).contains(&times[1]), "{times:?}");
}

#[test]
fn the_proactiveness_says_where_it_starts_and_stops() {
    // P707, P723, P427
    let mm = machine();
    let tenant = Renting::new(&mm);
    fragment(&tenant, 0);
    let vm = mm.tunables();
    let show = || vm.read("vm.compaction_proactiveness").unwrap();
    assert_eq!(show().to_string(), "20");
    vm.write("compaction_proactiveness", "0").unwrap();
    assert!(rounds(&mm, &tenant, 5000, || ()).is_empty(), "0: never");
    let error = vm.write("compaction_proactiveness", "101").unwrap_err();
    let text = "compaction_proactiveness takes 0 to 100";
    assert_eq!(
        (error.to_string(), show().to_string()),
        (text.into(), "0".into())
    );
    vm.write("compaction_proactiveness", "60").unwrap();
    rounds(&mm, &tenant, 5000, || ());
    assert!(score(&mm) < 40, "{}", score(&mm));
    mm.verify().unwrap();
}
