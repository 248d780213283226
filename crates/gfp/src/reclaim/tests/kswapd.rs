//! The background: who wakes it, what it does, how it falls asleep.

use super::{Cache, boot, with};
use crate::Mm;
use crate::flags::{GFP_ATOMIC, GFP_HIGHUSER_MOVABLE, GFP_KERNEL, GFP_NOWAIT, Gfp, ZoneKind};
use crate::frame::{NodeId, Order};
use crate::page::tests::is_movable;
use crate::page::{PageRequest, WakeUp};
use crate::platform::Context;
use crate::policy::reclaim::kswapd::{Balance, Demand, TaskState, Wake};
use crate::policy::reclaim::shrink::Settings;
use crate::reclaim::{Nobody, NodeTaskError, ReclaimEvents};
use crate::testing::TestPlatform;
use std::cell::{Cell, RefCell};
use std::format;
use std::string::String;
use std::vec::Vec;

type Machine = Mm<TestPlatform>;

const NODE: NodeId = NodeId(0);

fn wake(mm: &Machine, order: u32) -> Wake {
    let call = WakeUp {
        order,
        highest: ZoneKind::Normal,
        direct_reclaim: true,
    };
    mm.slabs().reclaim().wake_background(NODE, &call)
}

fn play_task(mm: &Machine, running: bool) {
    let state = match running {
        true => TaskState::Running,
        false => TaskState::Asleep,
    };
    mm.slabs().reclaim().nodes[0].post.play(state);
}

fn wanted(mm: &Machine) -> (Demand, bool) {
    mm.slabs().reclaim().nodes[0].post.wanted()
}

fn balance(mm: &Machine) -> Balance {
    mm.pages().balance(NODE, 0, ZoneKind::Normal)
}

fn events(mm: &Machine) -> ReclaimEvents {
    mm.slabs().reclaim().events()
}

fn demand(order: u32) -> Demand {
    Demand {
        order,
        highest: Some(ZoneKind::Normal),
    }
}

/// Runs the node's task. Whenever it looks whether it is to stop, `script` is asked, with whether
/// the task sleeps, for what the others do meanwhile.
pub(super) fn run(mm: &Machine, script: impl FnMut(bool) -> bool) {
    let script = RefCell::new(script);
    let stop = || {
        let asleep = mm.slabs().reclaim().nodes[0].post.state() == Some(TaskState::Asleep);
        script.borrow_mut()(asleep)
    };
    let result = mm.slabs().reclaim().kswapd(NODE, mm.slabs(), stop);
    assert_eq!(result, Ok(()));
    assert!(!mm.slabs().reclaim().nodes[0].has_task());
}

/// A request that finds nothing without effort: wakes, if it may.
pub(super) fn ask(mm: &Machine, gfp: Gfp) {
    if let Ok(p) = mm.kmalloc(4096, gfp) {
        // SAFETY: freed once.
        unsafe { mm.kfree(p.as_ptr()) };
    }
}

#[test]
fn who_wakes_it() {
    // P112, P400
    let mm = boot();
    let cache = Cache::new(&mm);
    assert_eq!(wake(&mm, 0), Wake::Nothing, "there is no task");
    play_task(&mm, false);
    assert_eq!(wake(&mm, 0), Wake::Nothing, "there is enough");
    assert_eq!(
        wanted(&mm),
        (Demand::NONE, false),
        "what is not needed is not noted"
    );
    cache.fill();
    play_task(&mm, false);
    mm.slabs().reclaim().nodes[0].post.forget();
    ask(&mm, GFP_NOWAIT & !Gfp::KSWAPD_RECLAIM);
    assert_eq!(wanted(&mm), (Demand::NONE, false), "level 1 wakes nobody");
    for gfp in [GFP_NOWAIT, GFP_ATOMIC] {
        mm.slabs().reclaim().nodes[0].post.forget();
        ask(&mm, gfp);
        assert_eq!(wanted(&mm), (demand(0), true), "{gfp}");
    }
    cache.give(usize::MAX);
}

#[test]
fn demands_are_maxima_and_a_running_task_is_not_called() {
    // P400
    let mm = boot();
    let cache = Cache::new(&mm);
    cache.fill();
    play_task(&mm, true);
    assert_eq!(wake(&mm, 3), Wake::Record);
    assert_eq!(wake(&mm, 1), Wake::Record);
    assert_eq!(wanted(&mm), (demand(3), false));
    cache.give(usize::MAX);
}

#[test]
fn an_nmi_wakes_nobody_and_its_demand_stays() {
    // P112: the wake-up of an NMI is put off
    let mm = boot();
    let cache = Cache::new(&mm);
    cache.fill();
    play_task(&mm, false);
    mm.slabs().reclaim().nodes[0].post.forget();
    mm.platform().play(Context::Nmi);
    assert_eq!(wake(&mm, 2), Wake::Kswapd);
    assert_eq!(wanted(&mm), (demand(2), false));
    mm.platform().play(Context::HardIrq);
    assert_eq!(wake(&mm, 0), Wake::Kswapd);
    assert_eq!(wanted(&mm), (demand(2), true));
    mm.platform().play(Context::Task);
    cache.give(usize::MAX);
}

#[test]
fn it_works_until_there_is_enough_and_then_sleeps_100_ms_before_it_sleeps_long() {
    // P401, P403
    let mm = boot();
    let cache = Cache::new(&mm);
    with(&cache, Settings::default(), || {
        let full = cache.fill();
        let stalls = events(&mm).stalls;
        assert_eq!(balance(&mm), Balance::Unbalanced);
        let trials = Cell::new(0);
        let mut called = false;
        run(&mm, |asleep| {
            let worked = events(&mm).runs != 0;
            match (asleep, worked) {
                (true, false) if !called => {
                    ask(&mm, GFP_NOWAIT);
                    called = true;
                }
                (true, true) => {
                    trials.set(trials.get() + 1);
                    assert!(trials.get() < 10, "99 ms were not the end of the trial");
                    mm.platform().advance(33);
                    return trials.get() > 4;
                }
                _ => (),
            }
            false
        });
        assert_eq!(trials.get(), 5, "4 looks in the trial, one after it");
        assert_eq!(balance(&mm), Balance::Balanced);
        let left = cache.objects.lock().unwrap().len();
        assert!(left > full * 3 / 4, "{left} of {full} are left");
        let seen = events(&mm);
        assert!(seen.runs >= 1 && seen.objects_scanned > 0);
        assert_eq!((seen.low_hit_quickly, seen.high_hit_quickly), (0, 0));
        assert_eq!(seen.stalls, stalls, "no request reclaimed");
    });
    cache.give(usize::MAX);
    mm.verify().unwrap();
}

/// Wakes it; in its first trial `meanwhile` happens, in the second the run ends.
fn disturbed(gfp: Gfp, ms: u64) -> ReclaimEvents {
    let mm = boot();
    let cache = Cache::new(&mm);
    with(&cache, Settings::default(), || {
        cache.fill();
        let mut taken = Vec::new();
        let mut done = 0;
        run(&mm, |asleep| {
            let runs = events(&mm).runs;
            if asleep && done == 0 {
                ask(&mm, GFP_NOWAIT);
                done = 1;
            } else if asleep && done == 1 && runs != 0 {
                while balance(&mm) == Balance::Balanced || wanted(&mm).1 != gfp.wakes_kswapd() {
                    let Ok(pfn) = mm.pages().alloc(&PageRequest::new(gfp, Order::ZERO)) else {
                        break;
                    };
                    taken.push(pfn);
                }
                ask(&mm, gfp);
                mm.platform().advance(ms);
                done = 2;
            } else if asleep && done == 2 {
                let seen = events(&mm);
                return runs >= 2 && seen.low_hit_quickly + seen.high_hit_quickly != 0;
            }
            false
        });
        for pfn in taken {
            // SAFETY: freed once.
            unsafe { mm.pages().free(pfn, Order::ZERO) }.unwrap();
        }
    });
    cache.give(usize::MAX);
    mm.verify().unwrap();
    events(&mm)
}

#[test]
fn a_short_sleep_that_a_request_ends_is_counted() {
    // P403
    let seen = disturbed(GFP_NOWAIT, 0);
    assert_eq!((seen.low_hit_quickly, seen.high_hit_quickly), (1, 0));
}

#[test]
fn a_short_sleep_after_which_there_is_too_little_is_counted() {
    // P403
    let seen = disturbed(GFP_NOWAIT & !Gfp::KSWAPD_RECLAIM, 101);
    assert_eq!((seen.low_hit_quickly, seen.high_hit_quickly), (0, 1));
}

#[test]
fn after_16_runs_without_a_page_a_node_is_hopeless_until_somebody_frees() {
    // P400, P402, P404
    let mm = boot();
    let (cache, empty) = (Cache::new(&mm), Cache::new(&mm));
    with(&empty, Settings::default(), || {
        cache.fill();
        let mut called = false;
        run(&mm, |asleep| {
            if asleep && !called {
                ask(&mm, GFP_NOWAIT);
                called = true;
            } else if asleep && events(&mm).runs != 0 {
                mm.platform().advance(101);
                return mm.slabs().reclaim().is_hopeless(NODE) && !wanted(&mm).1;
            }
            assert!(events(&mm).runs <= 16);
            false
        });
    });
    let hopeless = || mm.slabs().reclaim().is_hopeless(NODE);
    assert_eq!((events(&mm).runs, hopeless()), (16, true));
    play_task(&mm, false);
    assert_eq!(wake(&mm, 0), Wake::Nothing, "nobody hopes");
    cache.give(1);
    mm.trim();
    assert!(hopeless(), "one page is not enough");
    cache.give(1000);
    mm.trim();
    assert_eq!(balance(&mm), Balance::Balanced);
    // It is used again before anybody looks: what counts is that it was there.
    cache.fill();
    assert_eq!(balance(&mm), Balance::Unbalanced);
    assert!(!hopeless());
    assert_eq!(wake(&mm, 0), Wake::Kswapd);
    cache.give(usize::MAX);
}

#[test]
fn it_is_woken_for_a_boost_though_there_is_enough_and_takes_it_off() {
    // P217, P318, P400, P402
    let mm = boot();
    let boost = || mm.pages().boosts(NODE, ZoneKind::Normal).pages();
    let movable = PageRequest::new(GFP_HIGHUSER_MOVABLE | Gfp::MEMALLOC, Order::ZERO);
    let mut held: Vec<_> = core::iter::from_fn(|| mm.pages().alloc(&movable).ok()).collect();
    held.sort();
    let free = |pfn| {
        // SAFETY: freed once.
        unsafe { mm.pages().free(pfn, Order::ZERO) }.unwrap();
    };
    // The lower half of each pageblock of their type.
    held.extract_if(.., |pfn| pfn.0 & 256 == 0 && is_movable(mm.pages(), *pfn))
        .for_each(free);
    mm.trim();
    assert_eq!(balance(&mm), Balance::Balanced);
    let mut mixed = Vec::new();
    let (mut seen, mut looks) = (0, 0);
    run(&mm, |asleep| {
        if asleep && mixed.is_empty() {
            let request = PageRequest::new(GFP_NOWAIT, Order::ZERO);
            mixed.push(mm.slabs().reclaim().alloc(&request, &Nobody));
            seen = boost();
            assert!(wanted(&mm).1, "the request has woken it");
        }
        looks += 1;
        assert!(looks < 1000);
        asleep && events(&mm).runs != 0 && !wanted(&mm).1
    });
    assert!(seen >= 512, "{seen}");
    assert_eq!((events(&mm).runs, boost()), (1, 0));
    assert!(!mm.slabs().reclaim().is_hopeless(NODE));
    mixed.into_iter().flatten().chain(held).for_each(free);
    mm.verify().unwrap();
}

#[test]
fn a_node_has_one_task() {
    let mm = boot();
    let reclaim = mm.slabs().reclaim();
    let again = Cell::new(None);
    run(&mm, |_| {
        again.set(Some(reclaim.kswapd(NODE, mm.slabs(), || true)));
        true
    });
    assert_eq!(again.get(), Some(Err(NodeTaskError::HasOne)));
    let nowhere = reclaim.kswapd(NodeId(99), mm.slabs(), || true);
    assert_eq!(nowhere, Err(NodeTaskError::NoSuchNode));
}

#[test]
fn its_own_requests_do_not_reclaim() {
    // P133: the shrinker allocates
    let mm = boot();
    let cache = Cache {
        allocates: true,
        ..Cache::new(&mm)
    };
    with(&cache, Settings::default(), || {
        cache.fill();
        let stalls = events(&mm).stalls;
        let mut called = false;
        run(&mm, |asleep| {
            if asleep && !called {
                ask(&mm, GFP_NOWAIT);
                called = true;
            }
            asleep && events(&mm).runs != 0
        });
        assert_eq!(balance(&mm), Balance::Balanced);
        assert_eq!(events(&mm).stalls, stalls);
        assert_eq!(
            cache.refused.load(super::Relaxed),
            0,
            "reserves were theirs"
        );
    });
    cache.give(usize::MAX);
    ask(&mm, GFP_KERNEL);
    mm.verify().unwrap();
}

#[test]
fn vmstat_shows_what_reclaim_did() {
    // P617
    let mm = boot();
    let cache = Cache::new(&mm);
    with(&cache, Settings::default(), || {
        cache.fill();
        ask(&mm, GFP_KERNEL);
        let mut called = false;
        run(&mm, |asleep| {
            if asleep && !called {
                cache.fill();
                ask(&mm, GFP_NOWAIT);
                called = true;
            }
            asleep && events(&mm).runs != 0
        });
    });
    let seen = events(&mm);
    let mut text = String::new();
    crate::stat::View::Vmstat.write(&mm, &mut text).unwrap();
    for (name, n) in [
        ("allocstall_normal", seen.stalls[ZoneKind::Normal as usize]),
        ("slabs_scanned", seen.objects_scanned),
        ("pageoutrun", seen.runs),
    ] {
        assert!(
            n != 0 && text.contains(&format!("\n{name} {n}\n")),
            "{name} {n}: {text}"
        );
    }
    cache.give(usize::MAX);
}

#[test]
fn a_task_that_a_fork_did_not_copy_is_not_waited_for() {
    // P406
    let mm = boot();
    let cache = Cache::new(&mm);
    cache.fill();
    play_task(&mm, true);
    assert_eq!(wake(&mm, 0), Wake::Record);
    mm.kswapd_is_gone(NODE);
    mm.kswapd_is_gone(NodeId(u8::MAX));
    assert_eq!(wake(&mm, 0), Wake::Nothing);
    let throttled = events(&mm).throttled;
    assert!(mm.kmalloc(4096, GFP_KERNEL).is_err(), "it does not hang");
    assert_eq!(events(&mm).throttled, throttled);
    run(&mm, |_| true);
    cache.give(usize::MAX);
}
