use super::*;
use crate::flags::{GFP_KERNEL, GFP_NOFS, GFP_NOIO};

fn priority(value: u8) -> Priority {
    Priority::new(value).unwrap()
}

/// Runs a pass against a provider; returns the sizes asked for: how many, their sum, the last.
fn run(pass: &mut Pass, mut provider: impl FnMut(usize) -> Scanned) -> (usize, usize, usize) {
    let (mut calls, mut sum, mut last) = (0, 0, 0);
    while let Some(n) = pass.next() {
        assert!(n > 0 && n <= pass.total);
        (calls, sum, last) = (calls + 1, sum + n, n);
        pass.scanned(provider(n));
        assert!(calls <= 2 * pass.freeable, "the stated bound");
    }
    (calls, sum, last)
}

fn willing(n: usize) -> Scanned {
    Scanned::Done {
        looked_at: n,
        freed: n,
    }
}

#[test]
fn the_vectors_of_the_specification() {
    // P412, P963
    let settings = Settings::default();
    assert_eq!(delta(10_000, priority(3), 2), 2500);
    let mut pass = Pass::new(&settings, 10_000, 0, priority(3));
    assert_eq!(run(&mut pass, willing), (19, 2432, 128));
    assert_eq!(
        (pass.deferred(), pass.freed(), pass.looked_at()),
        (68, 2432, 2432)
    );

    assert_eq!(delta(10_000, priority(12), 2), 4);
    let mut pass = Pass::new(&settings, 10_000, 0, priority(12));
    assert_eq!(run(&mut pass, willing), (0, 0, 0));
    assert_eq!(pass.deferred(), 4);
}

#[test]
fn objects_that_cost_nothing_go_by_halves() {
    // P412: seeks 0
    for value in 0..=12 {
        assert_eq!(delta(1001, priority(value), 0), 500);
    }
    assert_eq!(delta(1000, priority(0), 1), 4000);
    assert_eq!(delta(1000, priority(0), 4), 1000);
    assert_eq!(delta(1000, priority(0), 5), 800);
    assert_eq!(delta(usize::MAX, priority(0), 1), usize::MAX);
}

#[test]
fn deferred_work_is_paid_by_priority_and_never_more_than_twice_the_cache() {
    // P412: (nr >> priority) + delta, at most 2 * freeable
    let settings = Settings::default();
    let pass = Pass::new(&settings, 10_000, 8000, priority(3));
    assert_eq!((pass.total, pass.owed), (1000 + 2500, 10_500));
    let pass = Pass::new(&settings, 100, 1_000_000, priority(0));
    assert_eq!(pass.total, 200);
    assert_eq!(pass.deferred(), 200); // and what is deferred is cut down too
    let pass = Pass::new(&settings, usize::MAX, usize::MAX, priority(0));
    assert_eq!(pass.deferred(), usize::MAX); // no overflow
}

#[test]
fn a_small_cache_is_scanned_whole_though_less_than_a_batch() {
    // P412: total >= freeable
    let mut pass = Pass::new(&Settings::default(), 50, 0, priority(1));
    assert_eq!(run(&mut pass, willing), (1, 50, 50)); // delta 50
    assert_eq!(pass.deferred(), 0);
    let mut pass = Pass::new(&Settings::default(), 50, 0, priority(2));
    assert_eq!(run(&mut pass, willing), (0, 0, 0)); // delta 24
    assert_eq!(pass.deferred(), 24);
    let mut pass = Pass::new(&Settings::default(), 0, 700, priority(0));
    assert_eq!(run(&mut pass, willing), (0, 0, 0));
}

#[test]
fn a_stop_ends_the_pass_and_defers_the_rest() {
    // P411, P963: SHRINK_STOP after k scans
    for k in 0..19 {
        let mut pass = Pass::new(&Settings::default(), 10_000, 0, priority(3));
        let mut calls = 0;
        let (asked, _, _) = run(&mut pass, |n| {
            calls += 1;
            if calls > k { Scanned::Stop } else { willing(n) }
        });
        assert_eq!(asked, k + 1);
        assert_eq!(pass.deferred(), 2500 - 128 * k);
    }
}

#[test]
fn a_provider_that_looks_at_less_is_asked_again_and_at_nothing_is_not() {
    // P413
    let mut pass = Pass::new(&Settings::default(), 1000, 0, priority(2));
    let one = |_| Scanned::Done {
        looked_at: 1,
        freed: 0,
    };
    let (calls, _, _) = run(&mut pass, one);
    assert_eq!((calls, pass.deferred()), (500 - 127, 127));
    let mut pass = Pass::new(&Settings::default(), 1000, 0, priority(2));
    let none = |_| Scanned::Done {
        looked_at: 0,
        freed: 0,
    };
    assert_eq!(run(&mut pass, none).0, 1);
    assert_eq!(pass.deferred(), 500);
}

#[test]
fn every_pass_ends_and_owes_what_it_did_not_look_at() {
    // P412: enumeration; a provider that looks at 1, half, all, or more than asked.
    for value in [0, 1, 3, 7, 12] {
        for seeks in [0, 1, 2, 5] {
            for batch in [0, 1, 32, 1024] {
                for freeable in [1, 2, 127, 128, 129, 4096, 10_007] {
                    for deferred in [0, 1, 127, 5000, 1 << 30] {
                        one_pass(priority(value), seeks, batch, freeable, deferred);
                    }
                }
            }
        }
    }
}

fn one_pass(priority: Priority, seeks: u32, batch: usize, freeable: usize, deferred: usize) {
    let settings = Settings {
        seeks,
        batch,
        ..Settings::default()
    };
    let looks: [fn(usize) -> usize; 4] = [|_| 1, |n| n.div_ceil(2), |n| n, |n| n + 3];
    for look in looks {
        let mut pass = Pass::new(&settings, freeable, deferred, priority);
        let owed = deferred + delta(freeable, priority, seeks);
        let (calls, sum, _) = run(&mut pass, |n| Scanned::Done {
            looked_at: look(n),
            freed: 0,
        });
        assert!(pass.total < pass.batch && pass.total < freeable || pass.total == 0);
        assert_eq!(
            pass.deferred(),
            owed.saturating_sub(pass.looked_at()).min(2 * freeable)
        );
        if look(7) == 7 {
            assert!(calls <= 2 * freeable / settings.batch() + 1);
            assert!(sum <= 2 * freeable, "never more than twice the cache");
        }
    }
}

#[test]
fn deferring_loses_nothing_over_passes() {
    // P412: thirty mild passes do in the end what one would have.
    let settings = Settings::default();
    let (mut deferred, mut looked_at) = (0, 0);
    for _ in 0..64 {
        let mut pass = Pass::new(&settings, 100_000, deferred, priority(10));
        run(&mut pass, willing);
        looked_at += pass.looked_at();
        deferred = pass.deferred();
    }
    assert_eq!(looked_at + deferred, 64 * 194); // 100000 >> 10 = 97, * 2
    assert!(looked_at >= 64 * 128);
}

#[test]
fn more_pressure_never_asks_for_less() {
    // P412: monotone in priority, freeable and deferred.
    let settings = Settings::default();
    for freeable in (0..5000).step_by(37) {
        for value in 1..=12 {
            let milder = Pass::new(&settings, freeable, 300, priority(value));
            let harder = Pass::new(&settings, freeable, 300, priority(value - 1));
            assert!(milder.total <= harder.total);
            let more = Pass::new(&settings, freeable + 37, 300, priority(value));
            assert!(milder.total <= more.total);
            let owing = Pass::new(&settings, freeable, 4000, priority(value));
            assert!(milder.total <= owing.total);
        }
    }
}

#[test]
fn answers_of_count() {
    // P411
    assert_eq!(Counted::from_raw(0), Counted::Nothing);
    assert_eq!(Counted::from_raw(SHRINK_EMPTY), Counted::Empty);
    assert_eq!(Counted::from_raw(SHRINK_STOP), Counted::Nothing);
    assert_eq!(Counted::from_raw(7), Counted::Objects(7));
    use CountNumber::{AfterClear, First};
    let table = [
        (Counted::Empty, First, GroupCount::ClearAndRecount),
        (Counted::Empty, AfterClear, GroupCount::Skip),
        (Counted::Nothing, First, GroupCount::Skip),
        (Counted::Nothing, AfterClear, GroupCount::MarkAndSkip),
        (Counted::Objects(5), First, GroupCount::Scan(5)),
        (Counted::Objects(5), AfterClear, GroupCount::MarkAndScan(5)),
        (Counted::Objects(0), First, GroupCount::Skip),
        (Counted::Objects(0), AfterClear, GroupCount::MarkAndSkip),
    ];
    for (counted, number, expected) in table {
        assert_eq!(
            group_count(counted, number),
            expected,
            "{counted:?} {number:?}"
        );
    }
}

#[test]
fn who_is_asked_on_whose_behalf() {
    // P414: (group aware, nonslab, bit set, kernel accounting) -> asked
    let table = [
        ((false, false, true, true), false),
        ((false, true, true, true), false),
        ((true, false, true, true), true),
        ((true, false, false, true), false),
        ((true, false, true, false), false),
        ((true, true, true, false), true),
        ((true, true, false, false), false),
    ];
    for ((group_aware, nonslab, marked, kernel_accounting), expected) in table {
        let settings = Settings {
            group_aware,
            nonslab,
            ..Settings::default()
        };
        let group = GroupPass::Group {
            marked,
            kernel_accounting,
        };
        assert_eq!(
            settings.is_asked_by(group),
            expected,
            "{settings:?} {group:?}"
        );
        assert!(settings.is_asked_by(GroupPass::Root));
    }
    let aware = Settings {
        numa_aware: true,
        ..Settings::default()
    };
    assert_eq!(
        (aware.deferred_node(3), Settings::default().deferred_node(3)),
        (3, 0)
    );
}

#[test]
fn names_and_inodes_count_for_as_much_as_the_administrator_says() {
    // P715
    let vfs = Settings {
        vfs: true,
        ..Settings::default()
    };
    for (percent, counted) in [(0, 0), (1, 10), (50, 500), (100, 1000), (250, 2500)] {
        assert_eq!(vfs.counted(1000, percent), counted);
        assert_eq!(Settings::default().counted(1000, percent), 1000);
    }
    assert_eq!(vfs.counted(usize::MAX, 200), usize::MAX);
    assert_eq!(vfs.counted(99, 1), 0);
}

#[test]
fn what_a_request_does_not_allow_is_deferred() {
    // P416
    let fs = Settings {
        needs: Gfp::FS,
        ..Settings::default()
    };
    let io = Settings {
        needs: Gfp::IO,
        ..Settings::default()
    };
    assert!(fs.allowed_by(GFP_KERNEL) && !fs.allowed_by(GFP_NOFS) && !fs.allowed_by(GFP_NOIO));
    assert!(io.allowed_by(GFP_KERNEL) && io.allowed_by(GFP_NOFS) && !io.allowed_by(GFP_NOIO));
    assert!(Settings::default().allowed_by(Gfp::NONE));
    // Not called: everything owed stays owed.
    assert_eq!(Pass::new(&fs, 10_000, 100, priority(3)).deferred(), 2600);
}

#[test]
fn dropping_caches_ends_even_if_they_fill_again() {
    // P417
    assert!(!drop_again(0, 0) && !drop_again(1, 0) && drop_again(2, 0));
    assert!(!drop_again(1000, 9) && drop_again(1024, 9));
    let mut round = 0;
    while drop_again(usize::MAX, round) {
        round += 1;
    }
    assert_eq!(round, 63);
    for round in 0..70 {
        for freed in 0..100 {
            assert!(drop_again(freed, round) <= drop_again(freed + 1, round));
            assert!(drop_again(freed, round + 1) <= drop_again(freed, round));
        }
    }
}
