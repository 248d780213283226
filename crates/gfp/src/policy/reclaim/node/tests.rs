//! When node reclaim is worth it, and how long it goes on.

use super::*;
use std::vec::Vec;

const RATIOS: Ratios = Ratios {
    unmapped: DEFAULT_MIN_UNMAPPED_RATIO,
    slab: DEFAULT_MIN_SLAB_RATIO,
};

fn mode(bits: u8) -> Mode {
    Mode::new(bits).unwrap()
}

#[test]
fn more_than_one_percent_on_lists_or_five_in_slabs_is_worth_it() {
    // P408, P711: equality is not enough
    let node = |droppable, slab| NodeFacts {
        managed: 10_000,
        droppable,
        slab,
        ..NodeFacts::default()
    };
    for (facts, worth) in [
        (node(0, 0), false),
        (node(100, 500), false),
        (node(101, 0), true),
        (node(0, 501), true),
    ] {
        assert_eq!(is_worth_it(&facts, Mode::ON, &RATIOS), worth, "{facts:?}");
        assert!(!is_worth_it(&facts, Mode::OFF, &RATIOS));
    }
    let all = Ratios {
        unmapped: 100,
        slab: 100,
    };
    assert!(!is_worth_it(&node(10_000, 10_000), Mode::ON, &all));
    let none = Ratios {
        unmapped: 0,
        slab: 0,
    };
    assert!(!is_worth_it(&node(0, 0), Mode::ON, &none));
    assert!(is_worth_it(&node(1, 0), Mode::ON, &none));
    let huge = node(usize::MAX, usize::MAX);
    assert!(is_worth_it(&huge, mode(7), &RATIOS));
}

#[test]
fn dirty_and_storable_pages_count_only_in_their_modes() {
    // P710
    let facts = NodeFacts {
        managed: 10_000,
        droppable: 80,
        storable: 80,
        dirty: 60,
        slab: 0,
    };
    let worth = (0..8).filter(|bits| is_worth_it(&facts, mode(*bits), &RATIOS));
    assert_eq!(worth.collect::<Vec<_>>(), [6, 7]);
    let clean = NodeFacts { dirty: 0, ..facts };
    let worth = (0..8).filter(|bits| is_worth_it(&clean, mode(*bits), &RATIOS));
    assert_eq!(worth.collect::<Vec<_>>(), [4, 5, 6, 7]);
    assert_eq!(Mode::new(8), None);
}

#[test]
fn five_passes_at_most_from_priority_four_until_the_request_could_be_served() {
    // P408
    for (freed, passes) in [(0, &[4, 3, 2, 1, 0][..]), (2, &[4, 3, 2, 1]), (8, &[4])] {
        let mut run = Passes::new(8);
        let mut seen = Vec::new();
        while let Some(priority) = run.step() {
            seen.push(priority.get());
            run.after(freed);
        }
        assert_eq!(seen, passes);
        assert_eq!(run.is_enough(), freed != 0);
        assert_eq!(run.step(), None);
    }
}
