use super::*;

const NOTHING_SPARED: Spared = Spared {
    groups: false,
    active: false,
    low: false,
};
const ALL_SPARED: Spared = Spared {
    groups: true,
    active: true,
    low: true,
};

fn freed(pages: usize) -> PassResult {
    PassResult {
        scanned: 64,
        freed: pages,
    }
}

/// Runs a ladder to its end; returns the passes taken.
fn run(ladder: &mut Ladder, spared: Spared, mut provider: impl FnMut(DirectPass) -> usize) -> u32 {
    let mut passes = 0;
    while let Some(pass) = ladder.step() {
        ladder.after(freed(provider(pass)), spared, Compactable::No);
        passes += 1;
        assert!(passes <= Ladder::PASSES_MAX, "the stated bound");
    }
    passes
}

#[test]
fn scripted_providers() {
    // P405, P961: 0, 1, 32, for ever 1
    let mut ladder = Ladder::new();
    assert_eq!(run(&mut ladder, NOTHING_SPARED, |_| 0), 13);
    assert_eq!(
        (ladder.end(), ladder.end().progress()),
        (DirectEnd::Nothing, 0)
    );

    let mut ladder = Ladder::new();
    assert_eq!(run(&mut ladder, NOTHING_SPARED, |_| 32), 1);
    assert_eq!(ladder.end(), DirectEnd::Freed(32));

    let mut ladder = Ladder::new();
    assert_eq!(run(&mut ladder, ALL_SPARED, |_| 1), 13);
    assert_eq!(
        (ladder.end(), ladder.end().progress()),
        (DirectEnd::Freed(13), 13)
    );

    let mut once = 1;
    let mut ladder = Ladder::new();
    assert_eq!(
        run(&mut ladder, ALL_SPARED, |_| core::mem::take(&mut once)),
        13
    );
    assert_eq!(ladder.end(), DirectEnd::Freed(1));
}

#[test]
fn a_pass_looks_at_twice_as_much_as_the_one_before() {
    // P405: 12 .. 0
    let mut seen = 13;
    let mut ladder = Ladder::new();
    run(&mut ladder, NOTHING_SPARED, |pass| {
        assert_eq!(
            (u32::from(pass.priority.get()), pass.wanted),
            (seen - 1, 32)
        );
        seen -= 1;
        0
    });
    assert_eq!(seen, 0);
}

#[test]
fn second_chances_come_in_order_and_only_where_something_was_spared() {
    // P405: full walk, forced deactivation, ignoring memory.low
    for bits in 0..8u32 {
        let spared = Spared {
            groups: bits & 1 != 0,
            active: bits & 2 != 0,
            low: bits & 4 != 0,
        };
        let mut ladders = [0; 4];
        let mut last = Chance::First;
        let mut ladder = Ladder::new();
        let passes = run(&mut ladder, spared, |pass| {
            assert!(pass.chance >= last);
            last = pass.chance;
            ladders[pass.chance as usize] += 1;
            0
        });
        assert_eq!(passes, 13 * (1 + bits.count_ones()));
        assert_eq!(ladders[0], 13);
        for chance in 0..3 {
            assert_eq!(ladders[chance + 1], 13 * (bits >> chance & 1));
        }
        assert_eq!(ladder.end(), DirectEnd::Nothing);
    }
    assert_eq!(Ladder::PASSES_MAX, 52);
}

#[test]
fn possible_compaction_ends_it_and_counts_as_progress() {
    // P405
    for (pages, progress) in [(0, 1), (1, 1), (7, 7)] {
        let mut ladder = Ladder::new();
        ladder.after(freed(pages), ALL_SPARED, Compactable::Yes);
        assert_eq!(ladder.step(), None);
        assert_eq!(ladder.end(), DirectEnd::Compactable(pages));
        assert_eq!(ladder.end().progress(), progress);
    }
    // What comes after the end changes nothing.
    let mut ladder = Ladder::new();
    ladder.after(freed(32), NOTHING_SPARED, Compactable::No);
    let ended = ladder;
    ladder.after(freed(32), ALL_SPARED, Compactable::Yes);
    assert_eq!(ladder, ended);
    assert_eq!(ladder.result(), freed(32));
}

#[test]
fn every_sequence_of_providers_ends() {
    // P405: all 3^7 beginnings of 0, 1, 31 freed pages, with and without compaction at the end.
    for script in 0..3u32.pow(7) {
        let mut digits = script;
        let mut total = 0;
        let mut ladder = Ladder::new();
        run(&mut ladder, ALL_SPARED, |_| {
            let pages = [0, 1, 31][(digits % 3) as usize];
            digits /= 3;
            total += pages;
            pages
        });
        assert_eq!(ladder.end().progress(), total);
        assert!(total < 32 + 31, "it stops at 32");
    }
}

#[test]
fn reclaim_inside_a_node_is_short() {
    // P408: priority 4 .. 0
    let mut ladder = Ladder::within_node(32);
    assert_eq!(run(&mut ladder, ALL_SPARED, |_| 0), 5);
    let node = |unmapped, slab| NodeUse {
        managed: 10_000,
        unmapped,
        slab,
    };
    assert!(!node_reclaim_worth_it(&node(100, 500)));
    assert!(node_reclaim_worth_it(&node(101, 0)) && node_reclaim_worth_it(&node(0, 501)));
}

#[test]
fn large_blocks_are_made_on_one_node() {
    let base = StayFacts {
        order: 9,
        priority: Priority::START,
        freed: 1,
        inactive: 33,
        compactable: Compactable::No,
    };
    assert!(stays_on_node(&base));
    let small = StayFacts { order: 1, ..base };
    assert!(!stays_on_node(&small));
    assert!(!stays_on_node(&StayFacts { order: 3, ..base }));
    let stops = [
        StayFacts { order: 0, ..base },
        StayFacts { freed: 0, ..base },
        StayFacts {
            inactive: 32,
            ..base
        },
        StayFacts {
            compactable: Compactable::Yes,
            ..base
        },
    ];
    assert!(stops.iter().all(|facts| !stays_on_node(facts)));
    let nine = Priority::new(9).unwrap();
    assert!(stays_on_node(&StayFacts {
        priority: nine,
        ..small
    }));
    assert!(!stays_on_node(&StayFacts {
        priority: Priority::new(10).unwrap(),
        ..small
    }));
    assert!(!stays_on_node(&StayFacts {
        priority: nine,
        order: 0,
        ..base
    }));
}

#[test]
fn another_round_can_help_only_if_all_reclaimable_pages_were_enough() {
    // P121, P269: equality fails
    let state = |free| FreeState {
        free,
        ..FreeState::default()
    };
    let ok = |order, free, reclaimable| {
        could_serve(
            order,
            800,
            7,
            AllocFlags::MIN,
            &state(free),
            reclaimable,
            |o, _| o == 3,
        )
    };
    assert!(!ok(0, 100, 707) && ok(0, 100, 708) && !ok(0, 807, 0) && ok(0, 808, 0));
    assert!(ok(3, 100, 1000) && !ok(4, 100, 100_000));
}
