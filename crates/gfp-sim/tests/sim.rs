//! The simulator itself: the same seed gives the same run, and what is broken on purpose is found.

use gfp::flags::GFP_ATOMIC;
use gfp::platform::{Context, Platform, Sleep};
use gfp::sync::WaitQueue;
use gfp_sim::scenario::{self, Lab, Op, Scenario};
use gfp_sim::{Config, Failure, FailureKind, Outcome, Rates, Sim, Strategy, Violation};
use std::cell::{Cell, RefCell};
use std::process::Command;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};

const STRATEGIES: [Strategy; 3] = [
    Strategy::Random(1 << 12),
    Strategy::RoundRobin(3),
    Strategy::Priorities {
        changes: 50,
        within: 20_000,
    },
];

fn named(name: &str) -> &'static Scenario {
    scenario::find(name).unwrap()
}

#[test]
fn a_seed_gives_the_same_run_twice_and_another_seed_another_run() {
    for scenario in scenario::ALL.iter().filter(|s| s.name != "oom") {
        let outcome = |seed| scenario.run(Config::swarm(seed)).unwrap();
        assert_eq!(outcome(11), outcome(11), "{}", scenario.name);
        assert_ne!(outcome(11).trace_hash, outcome(12).trace_hash);
    }
}

#[test]
fn two_processes_agree_on_the_run_of_a_seed() {
    let run = |seed: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gfp-sim"));
        let output = command
            .args(["--scenario", "mixed", "--seed", seed])
            .output();
        let output = output.unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let here = named("mixed").run(Config::swarm(5)).unwrap();
    assert_eq!(run("5"), format!("mixed {here}\n"));
    assert_eq!(run("5"), run("5"));
    assert_ne!(run("5"), run("6"));
}

#[test]
fn all_events_happen() {
    let rates = Rates {
        interrupt: 600,
        softirq: 600,
        nmi: 600,
        migrate: 2000,
        refuse_remote: 2000,
        refuse_map: 2000,
        slow_cpu: 10,
        clock_jump: 100,
    };
    for strategy in STRATEGIES {
        let config = Config::new(1).rates(rates).strategy(strategy);
        let outcome = named("mixed").run(config).unwrap();
        let counts = [
            outcome.interrupts,
            outcome.softirqs,
            outcome.nmis,
            outcome.switches,
            outcome.taken,
            outcome.faults,
        ];
        assert!(counts.iter().all(|count| *count > 10), "{outcome}");
        // The clock jumped.
        assert!(outcome.virtual_ns > 64 * outcome.steps, "{outcome}");
    }
}

/// The first of so many seeds for which a run fails, and how.
///
/// With debug assertions only: the library notices that its platform lies. Without them the lie is
/// undefined behaviour, as the contract says, and this process would die of it.
#[cfg(debug_assertions)]
fn found(scenario: &str, seeds: u64, violation: Violation) -> (u64, String) {
    let rates = Rates {
        interrupt: 600,
        nmi: 3000,
        ..Rates::default()
    };
    for seed in 0..seeds {
        let config = Config::new(seed).rates(rates);
        // SAFETY: what goes wrong is noticed by assertions and by the map of owners, for these
        // seeds, which are always the same.
        let config = unsafe { config.violating(violation) };
        if let Err(failure) = named(scenario).run(config) {
            let text = failure.to_string();
            let repeat = format!("cargo xtask sim --seed {seed} --scenario {scenario}");
            assert!(text.ends_with(&repeat), "{text}");
            return (seed, text);
        }
    }
    panic!("{violation:?} was not noticed in {seeds} seeds");
}

#[test]
#[cfg(debug_assertions)]
fn a_section_that_lets_nmis_in_is_noticed() {
    let (seed, text) = found("interrupts", 20, Violation::NmisEnterSections);
    println!("seed {seed}: {text}");
}

#[test]
#[cfg(debug_assertions)]
fn a_place_taken_from_a_cpu_inside_is_noticed() {
    let (seed, text) = found("drains", 20, Violation::TakesCpusInside);
    println!("seed {seed}: {text}");
}

/// Two tasks hand a ball to and fro; each waits for its turn.
fn ping_pong(config: Config) -> Result<Outcome, Box<Failure>> {
    let sim = Sim::new(config);
    let platform = Rc::new(sim.platform(1 << 20));
    let queue = Rc::new(WaitQueue::new());
    let turn = Rc::new(AtomicU32::new(0));
    for me in 0..2 {
        let (platform, queue, turn) = (platform.clone(), queue.clone(), turn.clone());
        sim.spawn(&format!("player-{me}"), move |task| {
            for _ in 0..20 {
                queue.wait_until(&*platform, || {
                    task.pause();
                    turn.load(Ordering::Relaxed) == me
                });
                turn.store(1 - me, Ordering::Relaxed);
                task.pause();
                queue.wake_all(&*platform);
            }
        });
    }
    sim.run()
}

#[test]
fn no_wake_up_is_lost_in_any_order() {
    for strategy in STRATEGIES {
        for seed in 0..100 {
            let outcome = ping_pong(Config::new(seed).strategy(strategy));
            assert!(outcome.is_ok(), "{}", outcome.unwrap_err());
        }
    }
}

#[test]
fn a_sleeper_that_does_not_look_again_is_found_as_a_deadlock() {
    let failure = (0..200).find_map(|seed| {
        // SAFETY: no memory is touched.
        let config = unsafe { Config::new(seed).violating(Violation::SleepsWithoutLooking) };
        ping_pong(config).err()
    });
    let failure = failure.expect("a wake-up is lost within 200 seeds");
    assert_eq!(failure.kind, FailureKind::Deadlock);
    assert!(!failure.tasks.is_empty());
}

#[test]
fn a_deadlock_lists_who_waits_for_what() {
    let sim = Sim::new(Config::new(3));
    let platform = Rc::new(sim.platform(1 << 20));
    let words = Rc::new([AtomicU32::new(0), AtomicU32::new(0)]);
    for me in 0..2 {
        let (platform, words) = (platform.clone(), words.clone());
        sim.spawn(&format!("philosopher-{me}"), move |_| {
            // Takes one fork, wants the other.
            words[me].store(1, Ordering::Relaxed);
            platform.wait(&words[1 - me], 1, None);
            while words[1 - me].load(Ordering::Relaxed) == 1 {
                platform.wait(&words[1 - me], 1, None);
            }
        });
    }
    sim.spawn("bystander", |task| task.sleep_ns(1000));
    let failure = sim.run().unwrap_err();
    assert_eq!(failure.kind, FailureKind::Deadlock);
    assert_eq!(failure.tasks.len(), 2, "{failure}");
    for me in 0..2 {
        let word = std::ptr::from_ref(&words[1 - me]).addr();
        let line = format!("task philosopher-{me} waits on the word at {word:#x}");
        assert_eq!(failure.tasks[me], line);
    }
}

#[test]
fn a_task_that_spins_for_ever_is_a_livelock() {
    for strategy in STRATEGIES {
        let sim = Sim::new(Config::new(3).strategy(strategy).max_steps(10_000));
        let platform = Rc::new(sim.platform(1 << 20));
        sim.spawn("spinner", move |_| {
            loop {
                platform.relax(0);
            }
        });
        sim.spawn("worker", |task| task.pause());
        let failure = sim.run().unwrap_err();
        assert_eq!(failure.kind, FailureKind::Livelock);
        assert_eq!(failure.tasks, ["task spinner runs on CPU 0"]);
    }
}

#[test]
fn who_spins_lets_those_run_for_whom_it_waits() {
    for strategy in STRATEGIES {
        for seed in 0..50 {
            let sim = Sim::new(Config::new(seed).strategy(strategy).max_steps(100_000));
            let platform = Rc::new(sim.platform(1 << 20));
            let flag = Rc::new(Cell::new(false));
            for _ in 0..4 {
                let (platform, flag) = (platform.clone(), flag.clone());
                sim.spawn("waiter", move |_| {
                    while !flag.get() {
                        platform.relax(0);
                    }
                });
            }
            sim.spawn("setter", move |task| {
                (0..10).for_each(|_| task.pause());
                flag.set(true);
            });
            assert!(sim.run().is_ok(), "{strategy:?} seed {seed}");
        }
    }
}

#[test]
fn time_passes_while_all_sleep_and_wakes_them_in_order() {
    let sim = Sim::new(Config::new(1));
    let order = Rc::new(RefCell::new(Vec::new()));
    for ms in [30u64, 10, 20] {
        let order = order.clone();
        sim.spawn("sleeper", move |task| {
            task.sleep_ns(ms * 1_000_000);
            order.borrow_mut().push(ms);
        });
    }
    let outcome = sim.run().unwrap();
    assert_eq!(*order.borrow(), [10, 20, 30]);
    assert!((30_000_000..60_000_000).contains(&outcome.virtual_ns));
}

#[test]
fn a_wait_with_a_deadline_ends_at_it() {
    let sim = Sim::new(Config::new(1));
    let platform = Rc::new(sim.platform(1 << 20));
    let queue = WaitQueue::new();
    sim.spawn("waiter", move |_| {
        let deadline = platform.now_ns() + 5_000_000;
        assert!(!queue.wait_until_ns(&*platform, deadline, || false));
        assert!(platform.now_ns() >= deadline && platform.now_ns() < deadline + 100_000);
        assert!(queue.wait_until_ns(&*platform, 0, || true));
    });
    assert!(sim.run().is_ok());
}

#[test]
fn contexts_are_told_and_sections_keep_interrupts_out_but_not_nmis() {
    let rates = Rates {
        interrupt: 8000,
        softirq: 8000,
        nmi: 8000,
        ..Rates::default()
    };
    let sim = Sim::new(Config::new(5).rates(rates));
    let platform = Rc::new(sim.platform(1 << 20));
    let inside = Rc::new(Cell::new(0u32));
    let seen = Rc::new(Cell::new([0u32; 4]));
    {
        let (platform, inside, seen) = (platform.clone(), inside.clone(), seen.clone());
        let count = move |what: usize| {
            let mut counts = seen.get();
            counts[what] += 1;
            seen.set(counts);
        };
        let (count_nmi, count_soft) = (count.clone(), count.clone());
        let (platform_nmi, inside_nmi) = (platform.clone(), inside.clone());
        let (platform_soft, inside_soft) = (platform.clone(), inside.clone());
        sim.on_softirq(move || {
            assert_eq!(platform_soft.context(), Context::SoftIrq);
            assert_eq!(inside_soft.get(), 0);
            count_soft(3);
        });
        sim.on_interrupt(move || {
            assert_eq!(platform.context(), Context::HardIrq);
            assert_eq!(inside.get(), 0);
            count(0);
        });
        sim.on_nmi(move || {
            assert_eq!(platform_nmi.context(), Context::Nmi);
            count_nmi(1);
            if inside_nmi.get() != 0 {
                assert!(platform_nmi.enter().is_err());
                count_nmi(2);
            }
        });
    }
    // One task: whatever comes, comes on its CPU.
    sim.spawn("worker", move |task| {
        for _ in 0..500 {
            let section = platform.enter().unwrap();
            inside.set(1);
            task.pause();
            inside.set(0);
            drop(section);
            assert_eq!(platform.context(), Context::Task);
            let atomic = task.atomic(|| platform.context());
            assert_eq!(atomic, Context::Atomic);
            assert_eq!(task.irqs_off(|| platform.context()), Context::Atomic);
        }
    });
    let result = sim.run();
    assert!(result.is_ok(), "{}", result.unwrap_err());
    assert!(
        seen.get().iter().all(|count| *count > 10),
        "{:?}",
        seen.get()
    );
}

#[test]
fn a_task_that_sleeps_under_a_spin_lock_is_told() {
    let sim = Sim::new(Config::new(5));
    sim.spawn("sleeper", |task| task.atomic(|| task.sleep_ns(1)));
    let failure = sim.run().unwrap_err();
    let FailureKind::Panic(message) = &failure.kind else {
        panic!("{failure}");
    };
    assert!(message.contains("sleeper") && message.contains("sleeps in atomic context"));
}

#[test]
fn a_page_that_is_never_given_back_is_noticed() {
    let sim = Sim::new(Config::new(5));
    let lab = Lab::new(&sim, 16 << 20);
    let thief = Rc::clone(&lab);
    sim.spawn("thief", move |task| {
        thief.mm().alloc_pages(GFP_ATOMIC, 0).unwrap();
        let mut held = Vec::new();
        thief.step(task, &mut held, Op::Kmalloc);
        thief.step(task, &mut held, Op::FreeAll);
    });
    sim.run().unwrap();
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| lab.end()));
    let payload = ended.unwrap_err();
    let text = payload.downcast_ref::<String>().unwrap();
    assert!(text.contains("pages are in use"), "{text}");
}

#[test]
fn a_machine_is_not_used_by_another_thread() {
    let sim = Sim::new(Config::new(5));
    let platform = sim.platform(1 << 20);
    let shared = &platform;
    let refused = std::thread::scope(|scope| scope.spawn(move || shared.now_ns()).join().is_err());
    assert!(refused);
}
