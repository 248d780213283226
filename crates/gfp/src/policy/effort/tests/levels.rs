//! P100-P106, P961: each level x order class x context, against providers that free nothing, a
//! page, a batch, or a page at a time for ever.

use super::*;

/// A name and how much a reclaim gives, by how often it was asked before.
type Provider = (&'static str, fn(usize) -> usize);

const PROVIDERS: [Provider; 4] = [
    ("0", |_| 0),
    ("1", |n| usize::from(n == 0)),
    ("32", |n| if n == 0 { 32 } else { 0 }),
    ("1,1..", |_| 1),
];

fn row(name: &str, order: u32, context: Context, provider: &Provider, gfp: Gfp) -> String {
    let caller = Caller::in_context(context);
    let effort = Effort::of(gfp, order, &caller, &Machine::LINUX);
    let reclaim = provider.1;
    let run = run(&effort, &Script { reclaim, ..BARREN });
    let head = format!("{name:16}{order:>3} {:8}{:6}", context.name(), provider.0);
    if !run.failed {
        let does = [
            (" reclaims", run.reclaims()),
            (" compacts", run.compactions()),
            (" kills", run.kills()),
        ];
        let does: String = does.iter().filter(|d| d.1 > 0).map(|d| d.0).collect();
        return format!("{head}for ever:{does}\n");
    }
    let counts = [
        run.wakes(),
        run.passes(),
        run.reclaims(),
        run.compactions(),
        run.kills(),
    ];
    let numbers: String = counts.iter().map(|n| format!("{n:>4}")).collect();
    format!("{head}{numbers}  fails\n")
}

fn table() -> String {
    let mut text = String::from(
        "level         order context provider  wakes passes reclaims compactions kills\n",
    );
    for (name, gfp) in LEVELS {
        for order in [0, 1, 3, 4, 9] {
            for provider in &PROVIDERS {
                text += &row(name, order, Context::Task, provider, gfp);
            }
        }
        for context in Context::ALL.into_iter().filter(|c| !c.may_sleep()) {
            for order in [0, 4] {
                text += &row(name, order, context, &PROVIDERS[3], gfp);
            }
        }
    }
    text
}

#[test]
fn call_counts_of_every_level_order_and_context() {
    // P961. If a change is meant, put the printed table into levels.txt and read the difference.
    let table = table();
    if table != include_str!("levels.txt") {
        std::println!("{table}");
        let golden = include_str!("levels.txt")
            .lines()
            .chain(core::iter::repeat(""));
        for (now, then) in table.lines().zip(golden).filter(|(now, then)| now != then) {
            std::println!("was: {then}\nnow: {now}");
        }
        panic!("the table differs from levels.txt");
    }
}

#[test]
fn level_4_goes_on_while_kills_make_progress() {
    // P103: practically never NULL.
    let kill = |_| true;
    for order in 0..=3 {
        let run = run(&effort(GFP_KERNEL, order), &Script { kill, ..BARREN });
        assert!(!run.failed && run.kills() > 5, "order {order}");
    }
}

#[test]
fn costly_orders_never_kill_and_nofail_never_ends() {
    // P103, P106
    for order in 4..=10 {
        let default = run(&effort(GFP_KERNEL, order), &BARREN);
        assert_eq!((default.reclaims(), default.kills()), (1, 0));
        assert!(default.failed);
        let nofail = run(&effort(GFP_KERNEL | Gfp::NOFAIL, order), &BARREN);
        assert!(!nofail.failed && nofail.reclaims() > 50);
        assert_eq!(nofail.kills(), 0);
    }
}

#[test]
fn retry_mayfail_stops_where_level_4_would_kill() {
    // P105
    let default = run(&effort(GFP_KERNEL, 0), &BARREN);
    let mayfail = run(&effort(GFP_KERNEL | Gfp::RETRY_MAYFAIL, 0), &BARREN);
    assert_eq!(default.reclaims(), mayfail.reclaims());
    assert_eq!((default.kills(), mayfail.kills()), (1, 0));
}

#[test]
fn sixteen_rounds_without_progress_whatever_is_freed_for_a_costly_order() {
    // P122: the first round, and at most 16 repeats by reclaim; then compaction's own (P125).
    let reclaim = |_| 32;
    let gfp = GFP_KERNEL | Gfp::RETRY_MAYFAIL;
    let skipped = Script {
        reclaim,
        compact: |_| CompactOutcome::Skipped,
        answer: |question, _| question != Question::HaveZonesChanged,
        ..BARREN
    };
    assert_eq!(run(&effort(gfp, 4), &skipped).reclaims(), 17);
    let complete = Script { reclaim, ..BARREN };
    // One more at the raised priority.
    assert_eq!(run(&effort(gfp, 4), &complete).reclaims(), 18);
    assert!(!run(&effort(gfp, 3), &complete).failed);
}

#[test]
fn level_of_a_word() {
    for (i, (_, gfp)) in LEVELS.into_iter().enumerate() {
        assert_eq!(effort(gfp, 0).level as usize, i + 1, "{gfp}");
    }
    // P51, P49
    let both = GFP_KERNEL | Gfp::NOFAIL | Gfp::NORETRY;
    assert_eq!(effort(both, 0).level, Level::Nofail);
    assert_eq!(effort(GFP_NOWAIT | Gfp::NOFAIL, 0).level, Level::Background);
}

#[test]
fn costly_noretry_by_kernel_version() {
    // P108: rows are the policy, the flags, what compaction says first; columns: reclaims,
    // compactions.
    use CompactOutcome::{Complete, Deferred};
    let local = Gfp::THISNODE;
    let table = [
        (CostlyNoretry::GiveUpEarly, Gfp::NONE, Deferred, (0, 1)),
        (CostlyNoretry::GiveUpEarly, Gfp::NONE, Complete, (1, 2)),
        (CostlyNoretry::OneRound, Gfp::NONE, Deferred, (1, 2)),
        (CostlyNoretry::OneRound, Gfp::NONE, Complete, (1, 2)),
        (CostlyNoretry::OneRound, local, Complete, (0, 1)),
        (CostlyNoretry::NoEffort, Gfp::NONE, Complete, (0, 0)),
        (CostlyNoretry::NoEffort, local, Complete, (1, 2)),
    ];
    for (costly_noretry, bits, outcome, expected) in table {
        let machine = Machine {
            costly_noretry,
            ..Machine::LINUX
        };
        let gfp = GFP_KERNEL | Gfp::NORETRY | bits;
        let effort = Effort::of(gfp, 9, &Caller::default(), &machine);
        let compact = match outcome {
            Deferred => |_| Deferred,
            _ => |_| Complete,
        };
        let run = run(&effort, &Script { compact, ..BARREN });
        let counts = (run.reclaims(), run.compactions());
        assert_eq!(counts, expected, "{costly_noretry:?} {bits} {outcome:?}");
        assert!(run.failed);
    }
}
