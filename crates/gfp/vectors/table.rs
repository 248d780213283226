//! Tables of requests: each row says what is asked for, what the script says, and how it ends.

use super::hoard::Hoard;
use super::script::{Free, Gives, Killer, Owner, Setting, with_script};
use super::{Calls, model};
use gfp::flags::{GFP_KERNEL, Gfp};
use gfp::policy::effort::Scopes;
use gfp::{Mm, Platform};

/// One request, what the script says, and how it ends.
#[derive(Copy, Clone, Debug)]
pub(in super::super) struct Row {
    #[allow(dead_code, reason = "it is shown")]
    what: &'static str,
    gfp: Gfp,
    order: u8,
    setting: Setting,
    rounds: usize,
    kills: usize,
    served: bool,
}

/// Rounds without progress (P121, P122): the first, and 16 more.
pub(super) const ROUNDS: usize = 17;

pub(super) const LEVEL_1: Gfp = GFP_KERNEL.without(Gfp::RECLAIM);
pub(super) const NORETRY: Gfp = GFP_KERNEL.with(Gfp::NORETRY);
pub(super) const MAYFAIL: Gfp = GFP_KERNEL.with(Gfp::RETRY_MAYFAIL);
pub(super) const NOFAIL: Gfp = GFP_KERNEL.with(Gfp::NOFAIL);

pub(super) const NOTHING: Gives = Gives::Nothing;
pub(super) const ONE: Gives = Gives::In { round: 1, pages: 1 };
pub(super) const BATCH: Gives = Gives::In {
    round: 1,
    pages: 32,
};
pub(super) const LATER: Gives = Gives::In {
    round: 10,
    pages: 1,
};
pub(super) const NO: bool = false;
pub(super) const YES: bool = true;

/// A request for one page; nothing is free, somebody can be killed. It ends after so many rounds
/// and kills, served or not.
pub(super) const fn row(
    what: &'static str,
    gfp: Gfp,
    gives: Gives,
    (rounds, kills, served): (usize, usize, bool),
) -> Row {
    let setting = Setting {
        gives,
        ..Setting::BARREN
    };
    Row {
        what,
        gfp,
        order: 0,
        setting,
        rounds,
        kills,
        served,
    }
}

impl Row {
    /// For a block of this order.
    pub(super) const fn order(mut self, order: u8) -> Row {
        self.order = order;
        self
    }

    /// So much is free.
    pub(super) const fn free(mut self, free: Free) -> Row {
        self.setting.free = free;
        self
    }

    /// On a machine without a killer.
    pub(super) const fn alone(mut self) -> Row {
        self.setting.killer = Killer::None;
        self
    }

    /// In a task that has these scopes open.
    pub(super) const fn within(mut self, scopes: Scopes) -> Row {
        self.setting.scopes = scopes;
        self
    }

    /// On a machine that can compact.
    pub(super) const fn compacts(mut self) -> Row {
        self.setting.owner = Owner::WithoutPages;
        self
    }

    /// On one where compaction begins, and finds nothing to move. The cache is scanned for a few
    /// objects, since a round of reclaim is over after one pass then.
    pub(super) const fn compacts_in_vain(mut self) -> Row {
        self.setting.batch = 4;
        self.compacts().free(Free::RoomToCompact)
    }

    fn expected(&self, all_nodes: usize) -> Calls {
        let nodes = match self.gfp.contains(Gfp::THISNODE) {
            true => 1,
            false => all_nodes,
        };
        let (counts, scans) = model::calls(nodes, self.rounds, &self.setting);
        Calls {
            served: self.served,
            rounds: self.rounds,
            counts,
            scans,
            kills: self.kills,
            misled: 0,
        }
    }
}

/// Runs all rows.
///
/// `mine`: the caller is the task that calls this.
pub(super) fn check<P: Platform>(
    mm: &Mm<P>,
    mine: &(dyn Fn() -> bool + Sync),
    rows: &[Row],
) -> Checked<Row>
where
    Mm<P>: Sync,
{
    let nodes = mm.pages().nodes().count();
    let mut hoard = Hoard::of(mm);
    let mut checked = Checked::new();
    for row in rows {
        let seen = with_script(mm, mine, &mut hoard, row.setting, |script| {
            script.request(row.gfp, row.order)
        });
        checked.note(*row, row.expected(nodes), seen);
    }
    hoard.end(mm);
    checked
}

/// What the rules say, and what was seen instead.
#[derive(Copy, Clone, Debug)]
struct Wrong<T> {
    #[allow(dead_code, reason = "it is shown")]
    row: T,
    #[allow(dead_code, reason = "it is shown")]
    expected: Calls,
    #[allow(dead_code, reason = "it is shown")]
    seen: Calls,
}

/// The rows of a table, compared with what was seen.
#[must_use]
#[derive(Copy, Clone, Debug)]
pub(in super::super) struct Checked<T> {
    right: usize,
    /// The first of them.
    wrong: Option<Wrong<T>>,
    wrongs: usize,
    /// Rows without memory for the script itself.
    skipped: usize,
}

impl<T: Copy + core::fmt::Debug> Checked<T> {
    pub(super) const fn new() -> Checked<T> {
        Checked {
            right: 0,
            wrong: None,
            wrongs: 0,
            skipped: 0,
        }
    }

    pub(super) fn note(&mut self, row: T, expected: Calls, seen: Option<Calls>) {
        match seen {
            None => self.skipped += 1,
            Some(seen) if seen == expected => self.right += 1,
            Some(seen) => {
                self.wrongs += 1;
                self.wrong.get_or_insert(Wrong {
                    row,
                    expected,
                    seen,
                });
            }
        }
    }

    /// # Panics
    /// If a row is not what the rules say, or there was none.
    #[track_caller]
    pub(in super::super) fn check(&self) {
        assert!(
            self.wrong.is_none() && self.skipped == 0 && self.right != 0,
            "{self:#?}"
        );
    }
}
