//! The vectors of requests in need (P412, P961-P963) in the simulator.

#[path = "../../gfp/vectors/mod.rs"]
mod vectors;

use gfp_sim::{Config, Rates, Sim, Strategy};
use std::rc::Rc;

/// Runs `check` in a task of a machine with so many nodes, interrupted at any point.
fn in_a_task(nodes: u8, check: fn(&gfp::Mm<gfp_sim::SimPlatform>, &(dyn Fn() -> bool + Sync))) {
    for strategy in [Strategy::Random(1 << 12), Strategy::RoundRobin(3)] {
        let rates = Rates {
            interrupt: 300,
            nmi: 300,
            migrate: 2000,
            ..Rates::default()
        };
        let sim = Sim::new(Config::new(1).rates(rates).strategy(strategy));
        let mm = Rc::new(sim.boot_nodes(16 << 20, nodes));
        sim.on_interrupt(|| ());
        sim.on_nmi(|| ());
        // Others run, and take the CPUs' places from each other.
        for name in ["one", "two"] {
            let mm = Rc::clone(&mm);
            sim.spawn(name, move |task| {
                for _ in 0..20 {
                    task.sleep_ns(50_000);
                    mm.pages().drain_all();
                }
            });
        }
        let of_task = Rc::clone(&mm);
        sim.spawn("script", move |task| {
            let me = task.id();
            let platform = of_task.platform();
            let mine = || platform.sim().running() == Some(me);
            vectors::touch(&of_task);
            let free = || {
                of_task.slabs().shrink_all();
                of_task.pages().drain_all();
                of_task.pages().free_page_count()
            };
            let before = free();
            check(&of_task, &mine);
            assert_eq!(free(), before);
        });
        let outcome = sim.run();
        assert!(outcome.is_ok(), "{}", outcome.unwrap_err());
        mm.verify().unwrap();
    }
}

#[test]
fn each_level_asks_for_what_the_rules_say() {
    // P961, P121, P122, P129, P405, P412
    for nodes in [1, 2] {
        in_a_task(nodes, |mm, mine| {
            vectors::levels(mm, mine).check();
        });
    }
}

#[test]
fn each_level_asks_for_what_the_rules_say_for_blocks() {
    // P961, P103-P106, P108, P120-P126, P129
    for nodes in [1, 2] {
        in_a_task(nodes, |mm, mine| {
            vectors::orders(mm, mine)
                .iter()
                .for_each(|rows| rows.check());
        });
    }
}

#[test]
fn a_shrinker_that_allocates_lives_on_the_reserve_and_is_not_entered_again() {
    // P962, P133
    for nodes in [1, 2] {
        in_a_task(nodes, |mm, mine| {
            assert_eq!(vectors::recursion(mm, mine), Some(true));
        });
    }
}

#[test]
fn a_shrinker_that_stops_is_left_alone_for_the_rest_of_the_pass() {
    // P963, P411
    in_a_task(1, |mm, mine| {
        assert_eq!(vectors::stops(mm, mine), Some(5));
    });
}
