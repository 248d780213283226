//! The levels of the rules, one task each.

use gfp::flags::{GFP_ATOMIC, GFP_KERNEL, GFP_NOWAIT, Gfp};
use gfp::policy::effort::Scopes;

/// What one of the eight asks with.
#[derive(Copy, Clone)]
pub(in crate::scenario) struct Level {
    pub(in crate::scenario) name: &'static str,
    pub(in crate::scenario) gfp: Gfp,
    pub(in crate::scenario) scopes: Scopes,
}

const fn level(name: &'static str, gfp: Gfp) -> Level {
    let scopes = Scopes::NONE;
    Level { name, gfp, scopes }
}

impl Level {
    /// P106, P129: until memory comes.
    pub(in crate::scenario) fn waits_for_ever(&self) -> bool {
        self.may_not_fail() || self.scopes.contains(Scopes::NOFS)
    }

    /// P106.
    pub(in crate::scenario) fn may_not_fail(&self) -> bool {
        self.gfp.contains(Gfp::NOFAIL)
    }
}

/// P100-P106, and the fourth in a scope (P150).
pub(in crate::scenario) const LEVELS: [Level; 8] = [
    level("noreclaim", GFP_KERNEL.without(Gfp::RECLAIM)),
    level("nowait", GFP_NOWAIT),
    level("atomic", GFP_ATOMIC),
    level("kernel", GFP_KERNEL),
    level("noretry", GFP_KERNEL.with(Gfp::NORETRY)),
    level("mayfail", GFP_KERNEL.with(Gfp::RETRY_MAYFAIL)),
    level("nofail", GFP_KERNEL.with(Gfp::NOFAIL)),
    Level {
        name: "nofs",
        gfp: GFP_KERNEL,
        scopes: Scopes::NOFS,
    },
];
