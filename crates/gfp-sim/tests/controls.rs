//! The scenarios under pressure: what is broken on purpose is found, and all that is to be tested
//! happens.

use gfp_sim::scenario::{self, Lab, Scenario};
use gfp_sim::{Config, Failure, FailureKind, Planted, Violation};
use std::collections::BTreeMap;

fn named(name: &str) -> &'static Scenario {
    scenario::find(name).unwrap()
}

/// The failure of the first of so many seeds of a scenario that fails.
fn first(scenario: &str, seeds: u64, change: impl Fn(Config) -> Config) -> Box<Failure> {
    let run = |seed| named(scenario).run(change(Config::swarm(seed))).err();
    let failure = (0..seeds).find_map(run).expect("it is found");
    let seed = failure.seed;
    let repeat = format!("cargo xtask sim --seed {seed} --scenario {scenario}");
    assert!(failure.to_string().ends_with(&repeat), "{failure}");
    failure
}

fn pressure(seeds: u64, change: impl Fn(Config) -> Config) -> Box<Failure> {
    first("reclaim", seeds, change)
}

fn said(failure: &Failure) -> &str {
    match &failure.kind {
        FailureKind::Panic(message) => message,
        other => panic!("{other:?}: {failure}"),
    }
}

#[test]
fn under_pressure_a_page_that_is_lost_is_found() {
    let failure = pressure(1, |config| config.planting(Planted::LostPage));
    assert!(said(&failure).contains("were at the start"), "{failure}");
}

#[test]
fn under_pressure_a_node_that_stays_low_is_found() {
    let failure = pressure(1, |config| config.planting(Planted::NoBackground));
    assert!(
        said(&failure).contains("a zone is below low after"),
        "{failure}"
    );
}

#[test]
fn under_pressure_a_lost_wake_up_is_found() {
    let failure = pressure(200, |config| {
        // SAFETY: it wakes too little, and touches no memory.
        unsafe { config.violating(Violation::SleepsWithoutLooking) }
    });
    assert_eq!(failure.kind, FailureKind::Deadlock);
}

/// What happened in so many seeds of a scenario, and how often.
fn marks_of(scenario: &str, seeds: u64) -> BTreeMap<&'static str, u64> {
    let mut marks = BTreeMap::new();
    for seed in 0..seeds {
        let add = |lab: &Lab| {
            for (what, times) in lab.marks() {
                *marks.entry(what).or_insert(0) += times;
            }
        };
        let outcome = named(scenario).run_and_look(Config::swarm(seed), add);
        assert!(outcome.is_ok(), "{}", outcome.unwrap_err());
    }
    marks
}

#[test]
fn under_pressure_all_happens_that_is_to_be_tested() {
    let marks = marks_of("reclaim", 100);
    for what in [
        "noreclaim",
        "nowait",
        "atomic",
        "kernel",
        "noretry",
        "mayfail",
        "nofail",
        "nofs",
        "a shrinker stops",
        "unregistered while called",
        "throttled",
        "runs of the background",
        "notified",
        "killed",
    ] {
        assert!(
            marks.get(what).is_some_and(|times| *times > 10),
            "{what}: {marks:?}"
        );
    }
}

#[test]
fn a_page_that_is_moved_without_its_content_is_found() {
    let failure = first("compaction", 1, |config| {
        config.planting(Planted::MovedWithoutContent)
    });
    let text = said(&failure);
    assert!(text.contains("block that can be moved of"), "{failure}");
    assert!(text.contains("was written by somebody else"), "{failure}");
}

#[test]
fn while_pages_are_moved_all_happens_that_is_to_be_tested() {
    let marks = marks_of("compaction", 100);
    for what in [
        "noreclaim",
        "nowait",
        "atomic",
        "kernel",
        "noretry",
        "mayfail",
        "nofail",
        "nofs",
        "bulk",
        "huge",
        "plugged in",
        "from an NMI",
        "given up",
        "shrunk",
        "moved, async",
        "moved, sync light",
        "moved, sync",
        "not moved",
        "put back",
        "freed while it is moved",
        "pinned while it is moved",
        "compactions that succeeded",
        "compactions that failed",
        "pages moved by compaction",
        "runs of the background",
        "wakes of compaction tasks",
        "frames passed by compaction tasks",
    ] {
        assert!(
            marks.get(what).is_some_and(|times| *times > 10),
            "{what}: {marks:?}"
        );
    }
    // One for each node.
    assert!(marks["large: made"] > 100, "{marks:?}");
}

#[test]
fn frames_side_by_side_that_are_lost_are_found() {
    let failure = first("contig", 4, |config| config.planting(Planted::LostPage));
    // By who counts, or by who wants that very frame.
    let found = ["were at the start", "Err(Isolate(Unmovable"];
    let said = said(&failure);
    assert!(found.iter().any(|text| said.contains(text)), "{failure}");
}

#[test]
fn memory_that_is_written_to_while_it_is_out_is_found() {
    let failure = first("contig", 1, |config| {
        config.planting(Planted::WrittenWhileOut)
    });
    let text = said(&failure);
    assert!(text.contains("memory that is out of"), "{failure}");
    assert!(text.contains("was written by somebody else"), "{failure}");
}

#[test]
fn a_policy_that_binds_and_spills_is_found() {
    let failure = first("contig", 200, |config| {
        config.planting(Planted::SpilledPolicy)
    });
    assert!(said(&failure).contains("mode: Bind"), "{failure}");
}

#[test]
fn while_frames_are_wanted_all_happens_that_is_to_be_tested() {
    let marks = marks_of("contig", 40);
    for what in [
        "contig: had",
        "contig: refused",
        "cma: had",
        "cma: refused",
        "isolated",
        "isolated: refused",
        "memory: added",
        "memory: removed",
        "memory: kept by who listens",
        "memory: not isolated",
        "memory: busy",
        "device: blocks told",
        "device: refused",
        "policy: bound to one",
        "policy: bound",
        "policy: interleaved",
        "policy: preferred",
        "moved, sync",
        "at rest: removed",
        "at rest: told",
    ] {
        assert!(
            marks.get(what).is_some_and(|times| *times > 10),
            "{what}: {marks:?}"
        );
    }
}
