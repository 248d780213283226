//! The vectors of compaction (P423, P426, P964) in the simulator.

#[path = "../../gfp/vectors/compact.rs"]
mod vectors;

use gfp_sim::{Config, Rates, Sim, SimPlatform, Strategy};
use std::rc::Rc;

/// Memory of a node.
const BYTES: usize = 32 << 20;

/// Runs `check` in a task of machines with one node and with two, interrupted at any point.
fn in_a_task(check: fn(&gfp::Mm<SimPlatform>)) {
    for nodes in [1, 2] {
        let rates = Rates {
            interrupt: 300,
            nmi: 300,
            migrate: 2000,
            ..Rates::default()
        };
        let strategy = Strategy::Random(1 << 12);
        let sim = Sim::new(Config::new(1).rates(rates).strategy(strategy));
        let mm = Rc::new(sim.boot_nodes(usize::from(nodes) * BYTES, nodes));
        sim.on_interrupt(|| ());
        sim.on_nmi(|| ());
        // Another runs, and takes the CPUs' places.
        let of_other = Rc::clone(&mm);
        sim.spawn("other", move |task| {
            for _ in 0..20 {
                task.sleep_ns(50_000);
                of_other.pages().drain_all();
            }
        });
        let of_task = Rc::clone(&mm);
        sim.spawn("script", move |_| {
            let free = || {
                of_task.slabs().shrink_all();
                of_task.pages().drain_all();
                of_task.pages().free_page_count()
            };
            check(&of_task); // the pages that are kept from the first use on
            let before = free();
            check(&of_task);
            assert_eq!(free(), before);
        });
        let outcome = sim.run();
        assert!(outcome.is_ok(), "{}", outcome.unwrap_err());
        mm.verify().unwrap();
    }
}

#[test]
fn the_index_of_a_zone_with_nothing_with_64_single_pages_and_with_a_block() {
    // P423, P964
    in_a_task(|mm| assert_eq!(vectors::indices(mm), Some([0, 922, -1000])));
}

#[test]
fn failures_are_left_out_1_2_4_to_64_times_and_success_resets() {
    // P426, P964
    in_a_task(|mm| {
        let expected = vectors::LeftOut {
            at_first: [0, 1, 2, 4, 8, 16, 32, 64, 64],
            after_success: [0, 1, 2],
        };
        assert_eq!(vectors::left_out(mm), Some(expected));
    });
}
