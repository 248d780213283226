//! P961: what each level asks for a block, by its order and by whether the machine can compact.
//!
//! Where the numbers come from. While a block of the order is free, pages are all that is missing:
//! a small order (1 to 3) goes on as one page does (P121). Where none is, no page that comes free
//! would serve it (P271): one round. After a round with progress compaction decides: without it, a
//! small order goes on while one page could be had (P126); with it, once for each priority that it
//! may take, three for a small order, two for a costly one (P125), if it began and made no block.
//! A costly order (4 and more) has one round (P103, P120), none with `__GFP_NORETRY` and
//! `__GFP_THISNODE` (P108), 17 with `__GFP_RETRY_MAYFAIL` where it can compact, whatever comes free
//! (P122), and kills nobody (P129); `__GFP_NOFAIL` goes on until it is served (P106).
//!
//! Seen to fail with: progress that does not set the counter to 0, or does so for costly orders; a
//! priority of compaction less; no look at one page (P126); a round for costly `__GFP_NORETRY` on
//! this node; compaction without I/O; a round that goes on though compaction could begin.

use super::script::{Free, Gives};
use super::table::{BATCH, Checked, LATER, LEVEL_1, MAYFAIL, NO, NOFAIL, NORETRY, NOTHING, ONE};
use super::table::{ROUNDS, Row, YES, check, row};
use gfp::flags::{GFP_ATOMIC, GFP_KERNEL, GFP_NOIO, GFP_NOWAIT, Gfp};
use gfp::{Mm, Platform};

const PLENTY: Gives = Gives::PlentyIn(1);
const LATE: usize = 40;
const LOCAL_NORETRY: Gfp = NORETRY.with(Gfp::THISNODE);
/// P7: without I/O there is no compaction.
const MAYFAIL_NOIO: Gfp = GFP_NOIO.with(Gfp::RETRY_MAYFAIL);

/// What a small order asks for.
const fn small(order: u8) -> [Row; 21] {
    let block = Free::Block(order);
    let below = Free::BelowMin(0);
    let rows = [
        row("1 no reclaim", LEVEL_1, PLENTY, (0, 0, NO)).free(block),
        row("2 background", GFP_NOWAIT, PLENTY, (0, 0, NO)).free(block),
        row("3 atomic", GFP_ATOMIC, PLENTY, (0, 0, NO)).free(block),
        row("4 kernel", GFP_KERNEL, NOTHING, (ROUNDS, 1, YES)).free(block),
        row("4 kernel", GFP_KERNEL, LATER, (10 + ROUNDS, 1, YES)).free(block),
        row("5 noretry", NORETRY, BATCH, (1, 0, NO)).free(block),
        row("6 mayfail", MAYFAIL, NOTHING, (ROUNDS, 0, NO)).free(block),
        row("6 mayfail", MAYFAIL, LATER, (10 + ROUNDS, 0, NO)).free(block),
        row("6 mayfail", MAYFAIL, Gives::PlentyIn(9), (9, 0, YES)).free(block),
        row("7 nofail", NOFAIL, NOTHING, (ROUNDS, 1, YES)).free(block),
        row("4: no block", GFP_KERNEL, NOTHING, (1, 1, YES)),
        row("6: no block", MAYFAIL, NOTHING, (1, 0, NO)),
        row("6: no block, nor a page", MAYFAIL, ONE, (1, 0, NO)),
        row("6: no block, but a page", MAYFAIL, ONE, (2, 0, NO)).free(below),
        row(
            "6: no block, but pages",
            MAYFAIL,
            Gives::OneUntil(LATE),
            (LATE, 0, YES),
        )
        .free(below),
        row("7: no block", NOFAIL, NOTHING, (1, 1, YES)),
        row("4 compacts", GFP_KERNEL, NOTHING, (ROUNDS, 1, YES))
            .free(block)
            .compacts(),
        row("6 without room to compact", MAYFAIL, ONE, (1, 0, NO)).compacts(),
        row("4 compacts in vain", GFP_KERNEL, Gives::One, (3, 1, YES)).compacts_in_vain(),
        row("6 compacts in vain", MAYFAIL, Gives::One, (3, 0, NO)).compacts_in_vain(),
        row("5 compacts in vain", NORETRY, Gives::One, (1, 0, NO)).compacts_in_vain(),
    ];
    of_order(rows, order)
}

/// What a costly order asks for.
const fn costly(order: u8) -> [Row; 18] {
    let block = Free::Block(order);
    let late = Gives::PlentyIn(LATE);
    let rows = [
        row("1 no reclaim", LEVEL_1, PLENTY, (0, 0, NO)).free(block),
        row("2 background", GFP_NOWAIT, PLENTY, (0, 0, NO)).free(block),
        row("3 atomic", GFP_ATOMIC, PLENTY, (0, 0, NO)).free(block),
        row("4 kernel", GFP_KERNEL, NOTHING, (1, 0, NO)).free(block),
        row("4 kernel", GFP_KERNEL, BATCH, (1, 0, NO)).free(block),
        row("4 kernel", GFP_KERNEL, PLENTY, (1, 0, YES)),
        row("5 noretry", NORETRY, BATCH, (1, 0, NO)).free(block),
        row("5 noretry, this node", LOCAL_NORETRY, PLENTY, (0, 0, NO)).free(block),
        row("6 mayfail", MAYFAIL, Gives::One, (1, 0, NO)).free(block),
        row("7 nofail", NOFAIL, late, (LATE, 0, YES)).free(block),
        row("4 compacts", GFP_KERNEL, BATCH, (1, 0, NO))
            .free(block)
            .compacts(),
        row("5 compacts", NORETRY, BATCH, (1, 0, NO))
            .free(block)
            .compacts(),
        row("6 compacts", MAYFAIL, NOTHING, (ROUNDS, 0, NO))
            .free(block)
            .compacts(),
        row("6 compacts", MAYFAIL, Gives::One, (ROUNDS, 0, NO))
            .free(block)
            .compacts(),
        row("6 without I/O", MAYFAIL_NOIO, Gives::One, (1, 0, NO))
            .free(block)
            .compacts(),
        row("6 compacts in vain", MAYFAIL, Gives::One, (2, 0, NO)).compacts_in_vain(),
        row("4 compacts in vain", GFP_KERNEL, Gives::One, (1, 0, NO)).compacts_in_vain(),
        row("7 compacts", NOFAIL, late, (LATE, 0, YES))
            .free(block)
            .compacts(),
    ];
    of_order(rows, order)
}

const fn of_order<const N: usize>(mut rows: [Row; N], order: u8) -> [Row; N] {
    let mut i = 0;
    while i < N {
        rows[i] = rows[i].order(order);
        i += 1;
    }
    rows
}

/// P961: what each level asked of the machine for blocks, row by row.
pub(in super::super) fn orders<P: Platform>(
    mm: &Mm<P>,
    mine: &(dyn Fn() -> bool + Sync),
) -> [Checked<Row>; 4]
where
    Mm<P>: Sync,
{
    [
        check(mm, mine, &small(1)),
        check(mm, mine, &small(3)),
        check(mm, mine, &costly(4)),
        check(mm, mine, &costly(9)),
    ]
}
