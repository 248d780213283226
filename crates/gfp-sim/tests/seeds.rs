//! Some hundred seeds of every scenario: the short form of `cargo xtask sim --seeds N`.

use gfp_sim::Config;
use gfp_sim::scenario::find;

fn seeds(scenario: &str, seeds: u64) {
    let scenario = find(scenario).unwrap();
    for seed in 0..seeds {
        if let Err(failure) = scenario.run(Config::swarm(seed)) {
            panic!("{failure}");
        }
    }
}

/// One test a scenario, so that they run side by side.
macro_rules! scenarios {
    ($($name:ident: $seeds:expr,)*) => {
        $(
            #[test]
            fn $name() {
                seeds(stringify!($name), $seeds);
            }
        )*

        #[test]
        fn every_scenario_is_listed_here() {
            let names: Vec<_> = gfp_sim::scenario::ALL.iter().map(|s| s.name).collect();
            assert_eq!(names, [$(stringify!($name)),*]);
        }
    };
}

scenarios! {
    pages: 100,
    kmalloc: 150,
    caches: 150,
    vmalloc: 150,
    interrupts: 100,
    drains: 60,
    oom: 10,
    reclaim: 40,
    compaction: 40,
    contig: 60,
    lists: 80,
    mixed: 60,
}
