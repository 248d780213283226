//! P961: every level in every context and scope.
//!
//! Where the numbers come from. Who may not sleep does not reclaim, whatever its flags say (P116,
//! P154), nor kills; `__GFP_NOFAIL` may fail there (P49). `GFP_ATOMIC` is served below min, in any
//! context (P270), but inside a section of its own CPU nobody is. What a task's scopes give is for
//! requests of the task, not for interrupts (P152). A scope takes its bits from the request and
//! from what the cache is told (P150, P152, P416). Without `__GFP_FS` nobody is killed, and the
//! request goes on until it is served (P129); in a `noreclaim` scope it takes what is there and
//! does not reclaim (P116, P265), but with `__GFP_NOMEMALLOC` (P53).
//!
//! Seen to fail with: an interrupt that reclaims; a cache that is told the bits of the request
//! without what its scope takes off; a kill without `__GFP_FS`; a task that reclaims while it frees
//! memory.

use super::Calls;
use super::hoard::Hoard;
use super::script::{Free, Gives, Setting, with_script};
use super::table::{Checked, LEVEL_1, MAYFAIL, NO, NOFAIL, NORETRY, NOTHING, ONE};
use super::table::{ROUNDS, Row, YES, check, row};
use gfp::flags::{GFP_ATOMIC, GFP_KERNEL, GFP_NOWAIT, Gfp};
use gfp::platform::Context;
use gfp::policy::effort::Scopes;
use gfp::{Mm, Platform};

/// What came of the wish to run something in a context.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Ran {
    /// It ran there.
    Yes,
    /// It ran there, inside a section of this CPU.
    #[allow(dead_code, reason = "only a process cannot be interrupted elsewhere")]
    InSection,
    /// This machine has no such context.
    No,
}

/// Runs something in a context of the machine, and returns when it has run.
pub(in super::super) type Within<'a> = &'a dyn Fn(Context, &mut dyn FnMut()) -> Ran;

const LATE: usize = 40;
const SOME: Free = Free::Pages(8);
const LATER: Gives = Gives::PlentyIn(LATE);
const NOIO: Scopes = Scopes::NOIO;
const NOFS: Scopes = Scopes::NOFS;
const BOTH: Scopes = NOIO.with(NOFS);
const OURS: Scopes = Scopes::NORECLAIM;
const CAREFUL: Gfp = GFP_KERNEL.with(Gfp::NOMEMALLOC);

/// Of a task.
const SCOPES: [Row; 15] = [
    row("nofs, 4 kernel", GFP_KERNEL, LATER, (LATE, 0, YES)).within(NOFS),
    row("nofs, 5 noretry", NORETRY, ONE, (1, 0, NO)).within(NOFS),
    row("nofs, 6 mayfail", MAYFAIL, NOTHING, (ROUNDS, 0, NO)).within(NOFS),
    row("nofs, 7 nofail", NOFAIL, LATER, (LATE, 0, YES)).within(NOFS),
    row("noio, 4 kernel", GFP_KERNEL, LATER, (LATE, 0, YES)).within(NOIO),
    row("noio, 5 noretry", NORETRY, ONE, (1, 0, NO)).within(NOIO),
    row("noio, 6 mayfail", MAYFAIL, ONE, (ROUNDS + 1, 0, NO)).within(NOIO),
    row("noio, 7 nofail", NOFAIL, LATER, (LATE, 0, YES)).within(NOIO),
    row("noio, nofs, 6 mayfail", MAYFAIL, NOTHING, (ROUNDS, 0, NO)).within(BOTH),
    row("noio: no compaction", MAYFAIL, Gives::One, (1, 0, NO))
        .order(4)
        .free(Free::Block(4))
        .compacts()
        .within(NOIO),
    row(
        "noreclaim, nothing there",
        GFP_KERNEL,
        Gives::PlentyIn(1),
        (0, 0, NO),
    )
    .within(OURS),
    row("noreclaim, 4 kernel", GFP_KERNEL, NOTHING, (0, 0, YES))
        .free(SOME)
        .within(OURS),
    row("noreclaim, 5 noretry", NORETRY, NOTHING, (0, 0, YES))
        .free(SOME)
        .within(OURS),
    row("noreclaim, atomic", GFP_ATOMIC, NOTHING, (0, 0, YES))
        .free(SOME)
        .within(OURS),
    row("noreclaim, careful", CAREFUL, NOTHING, (0, 0, NO))
        .free(SOME)
        .within(OURS),
];

const LEVELS: [Gfp; 7] = [
    LEVEL_1, GFP_NOWAIT, GFP_ATOMIC, GFP_KERNEL, NORETRY, MAYFAIL, NOFAIL,
];

/// A request in a context that may not sleep.
#[derive(Copy, Clone, Debug)]
#[allow(dead_code, reason = "it is shown")]
pub(in super::super) struct Asked {
    context: Context,
    gfp: Gfp,
    order: u8,
    scopes_of_task: Scopes,
}

/// P150, P152: requests of a task in scopes.
pub(in super::super) fn scopes<P: Platform>(
    mm: &Mm<P>,
    mine: &(dyn Fn() -> bool + Sync),
) -> Checked<Row>
where
    Mm<P>: Sync,
{
    check(mm, mine, &SCOPES)
}

/// P154: requests of all levels where nobody may sleep, a cache that would give enough at once, and
/// somebody who can be killed.
pub(in super::super) fn contexts<P: Platform>(
    mm: &Mm<P>,
    mine: &(dyn Fn() -> bool + Sync),
    within: Within<'_>,
) -> Checked<Asked>
where
    Mm<P>: Sync,
{
    let mut hoard = Hoard::of(mm);
    let mut checked = Checked::new();
    let mut ask = |asked: Asked, free, served: &dyn Fn(Ran) -> bool| {
        let setting = Setting {
            gives: Gives::PlentyIn(1),
            free,
            scopes: asked.scopes_of_task,
            ..Setting::BARREN
        };
        let mut ran = Ran::No;
        let seen = with_script(mm, mine, &mut hoard, setting, |script| {
            let mut calls = None;
            script.in_scope(|| {
                ran = within(asked.context, &mut || {
                    if mm.platform().context() == asked.context {
                        calls = Some(script.ask(asked.gfp, asked.order));
                    }
                });
            });
            calls
        });
        let expected = Calls {
            served: served(ran),
            ..Calls::default()
        };
        if ran != Ran::No {
            checked.note(asked, expected, seen.flatten());
        }
    };
    for context in Context::ALL.into_iter().filter(|c| !c.may_sleep()) {
        let outside = |ran| ran == Ran::Yes;
        let nobody = |_| false;
        let asked = |gfp, order, scopes_of_task| Asked {
            context,
            gfp,
            order,
            scopes_of_task,
        };
        for gfp in LEVELS {
            let urgent = |ran| outside(ran) && gfp == GFP_ATOMIC;
            ask(asked(gfp, 0, Scopes::NONE), Free::BelowMin(20), &urgent);
            ask(asked(gfp, 4, Scopes::NONE), Free::Block(4), &nobody);
        }
        // P152: the rights of the task are those of its own requests.
        let own = |ran| outside(ran) && context.is_task();
        ask(asked(GFP_NOWAIT, 0, OURS), SOME, &own);
        ask(asked(GFP_KERNEL, 0, OURS), SOME, &own);
    }
    hoard.end(mm);
    checked
}
