//! P961: what each level asks for one page, by what the cache gives.
//!
//! Where the numbers come from. A request that may reclaim goes on while its counter of rounds
//! without progress is at most 16 (P121): 17 rounds. A page is progress and sets the counter to 0
//! (P122), so what is given in the first round makes it 18. `__GFP_NORETRY` has one (P120). Then
//! the levels that may kill do (P129), and what the victim had serves them. A request is refused
//! one page while `min` are free and served with one more (P269), so with a page a round it takes
//! as many rounds as are missing, and one.
//!
//! Seen to fail with: another limit of rounds; progress that does not set the counter to 0; a round
//! that goes on after 32 pages; `__GFP_RETRY_MAYFAIL` that kills; a page that is served at min.

use super::script::{Free, Gives};
use super::table::{BATCH, Checked, LEVEL_1, MAYFAIL, NO, NOFAIL, NORETRY, NOTHING, ONE};
use super::table::{LATER, ROUNDS, Row, YES, check, row};
use gfp::flags::{GFP_ATOMIC, GFP_KERNEL, GFP_NOIO, GFP_NOWAIT, Gfp};
use gfp::{Mm, Platform};

/// So many pages are missing until one can be served: less than a machine of 8 MiB lets
/// `GFP_ATOMIC` have below min, and not as many as there are rounds without progress.
const MISSING: usize = 20;

const LOCAL: Gfp = GFP_KERNEL.with(Gfp::THISNODE);

/// [`row`] with a page a round, and so much free that these many are missing.
const fn missing(what: &'static str, gfp: Gfp, seen: (usize, usize, bool)) -> Row {
    row(what, gfp, Gives::One, seen).free(Free::BelowMin(MISSING))
}

/// What the request is, what the cache gives; rounds, kills, and whether it is served.
const ROWS: [Row; 35] = [
    row("1 no reclaim", LEVEL_1, NOTHING, (0, 0, NO)),
    row("1 no reclaim", LEVEL_1, Gives::PlentyIn(1), (0, 0, NO)),
    missing("1 no reclaim", LEVEL_1, (0, 0, NO)),
    row("2 background", GFP_NOWAIT, NOTHING, (0, 0, NO)),
    row("2 background", GFP_NOWAIT, Gives::PlentyIn(1), (0, 0, NO)),
    missing("2 background", GFP_NOWAIT, (0, 0, NO)),
    row("3 atomic", GFP_ATOMIC, NOTHING, (0, 0, NO)),
    row("3 atomic", GFP_ATOMIC, Gives::PlentyIn(1), (0, 0, NO)),
    missing("3 atomic: from the reserve", GFP_ATOMIC, (0, 0, YES)),
    row("4 kernel", GFP_KERNEL, NOTHING, (ROUNDS, 1, YES)),
    row("4 kernel", GFP_KERNEL, ONE, (ROUNDS + 1, 1, YES)),
    row("4 kernel", GFP_KERNEL, BATCH, (ROUNDS + 1, 1, YES)),
    row("4 kernel", GFP_KERNEL, LATER, (10 + ROUNDS, 1, YES)),
    row("4 kernel", GFP_KERNEL, Gives::PlentyIn(9), (9, 0, YES)),
    missing("4 kernel", GFP_KERNEL, (MISSING + 1, 0, YES)),
    row("4 kernel", GFP_KERNEL, NOTHING, (ROUNDS, 0, NO)).alone(),
    row("5 noretry", NORETRY, NOTHING, (1, 0, NO)),
    row("5 noretry", NORETRY, ONE, (1, 0, NO)),
    row("5 noretry", NORETRY, BATCH, (1, 0, NO)),
    row("5 noretry", NORETRY, Gives::PlentyIn(1), (1, 0, YES)),
    missing("5 noretry", NORETRY, (1, 0, NO)),
    row("6 mayfail", MAYFAIL, NOTHING, (ROUNDS, 0, NO)),
    row("6 mayfail", MAYFAIL, ONE, (ROUNDS + 1, 0, NO)),
    row("6 mayfail", MAYFAIL, BATCH, (ROUNDS + 1, 0, NO)),
    row("6 mayfail", MAYFAIL, Gives::PlentyIn(9), (9, 0, YES)),
    missing("6 mayfail", MAYFAIL, (MISSING + 1, 0, YES)),
    row("7 nofail", NOFAIL, NOTHING, (ROUNDS, 1, YES)),
    row("7 nofail", NOFAIL, ONE, (ROUNDS + 1, 1, YES)),
    row("7 nofail", NOFAIL, BATCH, (ROUNDS + 1, 1, YES)),
    missing("7 nofail", NOFAIL, (MISSING + 1, 0, YES)),
    row("7 nofail", NOFAIL, Gives::PlentyIn(40), (40, 0, YES)).alone(),
    row("4, this node", LOCAL, NOTHING, (ROUNDS, 0, NO)),
    row("4, this node", LOCAL, ONE, (ROUNDS + 1, 0, NO)),
    row(
        "5 without I/O",
        GFP_NOIO.with(Gfp::NORETRY),
        NOTHING,
        (1, 0, NO),
    ),
    row(
        "6 without I/O",
        GFP_NOIO.with(Gfp::RETRY_MAYFAIL),
        ONE,
        (ROUNDS + 1, 0, NO),
    ),
];

/// P961: what each level asked of the machine, row by row.
///
/// `mine`: the caller is the task that calls this.
pub(in super::super) fn levels<P: Platform>(
    mm: &Mm<P>,
    mine: &(dyn Fn() -> bool + Sync),
) -> Checked<Row>
where
    Mm<P>: Sync,
{
    check(mm, mine, &ROWS)
}
