//! When a direct reclaimer waits (P406, P407).
//!
//! Two reasons to wait. At the entry: the pages below min are what reclaim itself lives on; who
//! finds half of them gone waits for the background instead of taking more. Inside: a pass that
//! found everything written back, isolated by others, or simply used would only burn time.

use super::{PassResult, Priority};
use crate::flags::Gfp;

/// P406: how long a request without `FS` waits at most, in milliseconds. It may hold what the
/// background needs, so it must go on by itself.
pub const WAIT_WITHOUT_FS_MS: u32 = 1000;

/// P406: the reserve of the first node that a request could use: sums over its zones up to
/// `Normal` that have managed pages.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Reserve {
    /// Free pages.
    pub free: usize,
    /// Min watermarks, without boost: a boost is no reserve (the rule does not say).
    pub min: usize,
    /// The node's background reclaim has given up ([`super::kswapd::Failures`]): nobody would end
    /// the wait.
    pub hopeless: bool,
}

impl Reserve {
    /// P406: direct reclaim may go on. Who waits is woken when this turns true, or when the node
    /// turns hopeless.
    pub const fn allows_reclaim(&self) -> bool {
        self.hopeless || self.min == 0 || self.free > self.min / 2
    }
}

/// P406: who wants to reclaim.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Reclaimer {
    /// The flags of its request, with scopes.
    pub gfp: Gfp,
    /// A task of the kernel itself: others may wait for it.
    pub kernel_task: bool,
    /// It is dying: it frees memory when it gets through.
    pub dying: bool,
}

/// P406: what a reclaimer does at the entry. For each wait the background is woken and the counter
/// `pgscan_direct_throttle` goes up.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Reclaim.
    Reclaim,
    /// Sleep on the node's queue until [`Reserve::allows_reclaim`] or a fatal signal.
    WaitKillable,
    /// Sleep on the node's queue until [`Reserve::allows_reclaim`], at most
    /// [`WAIT_WITHOUT_FS_MS`].
    WaitAtMost {
        /// The limit, in milliseconds.
        ms: u32,
    },
}

/// P406: the decision at the entry of direct reclaim. Asked once: after the wait the request goes
/// on ([`after_wait`]).
pub const fn at_entry(reclaimer: &Reclaimer, reserve: &Reserve) -> Entry {
    if reclaimer.kernel_task || reclaimer.dying || reserve.allows_reclaim() {
        Entry::Reclaim
    } else if reclaimer.gfp.contains(Gfp::FS) {
        Entry::WaitKillable
    } else {
        Entry::WaitAtMost {
            ms: WAIT_WITHOUT_FS_MS,
        }
    }
}

/// How a wait ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Woken {
    /// Woken, or the time is over.
    GoOn,
    /// By a fatal signal.
    Killed,
}

/// P406: what follows the wait.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum AfterWait {
    /// Reclaim now.
    Reclaim,
    /// Do not reclaim and report one page of progress: the task dies and frees its memory, so
    /// nobody must be killed for it.
    PretendProgress,
}

/// P406.
pub const fn after_wait(woken: Woken) -> AfterWait {
    match woken {
        Woken::GoOn => AfterWait::Reclaim,
        Woken::Killed => AfterWait::PretendProgress,
    }
}

/// P407: why a reclaimer waits inside a pass.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// All that was looked at is being written.
    Writeback,
    /// Others have taken too many pages off the lists.
    Isolated,
    /// Nothing is gained.
    NoProgress,
    /// What pages are written to is busy.
    Congested,
}

/// How long a wait inside a pass is at most.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Milliseconds.
    Ms(u32),
    /// One tick of the clock.
    Tick,
}

impl Reason {
    /// P407: the longest wait. All waits end before that when there is progress ([`ends_waits`]).
    pub const fn limit(self) -> Limit {
        match self {
            Reason::Writeback => Limit::Ms(100),
            Reason::Isolated => Limit::Ms(20),
            Reason::NoProgress | Reason::Congested => Limit::Tick,
        }
    }
}

/// P407: the pass gained enough that those who wait for [`Reason::NoProgress`] go on.
pub const fn ends_waits(pass: &PassResult) -> bool {
    pass.freed > pass.scanned / 8
}

/// P407: whether a reclaimer waits for [`Reason::NoProgress`] after a pass. Only at priority 1:
/// before that a harder pass is better than a wait, and after priority 0 there is nothing to wait
/// for.
pub const fn waits_for_progress(priority: Priority, freed_so_far: usize) -> bool {
    priority.get() == 1 && freed_so_far == 0
}

/// P407: whether too many pages are off the lists, so that a reclaimer waits for
/// [`Reason::Isolated`] before it takes more.
///
/// The rule gives no number. More isolated than inactive pages is too many; for who may do I/O and
/// enter file systems an eighth of that is, so that those who hold what they need get through
/// first. The background and priority 0 do not wait: the executor does not ask.
pub const fn too_many_isolated(isolated: usize, inactive: usize, gfp: Gfp) -> bool {
    let allowed = if gfp.has_io_fs() {
        inactive / 8
    } else {
        inactive
    };
    isolated > allowed
}

/// P407: whether a reclaimer waits for [`Reason::Writeback`]: pages were looked at, all of them are
/// being written, and it may wait for I/O.
pub const fn waits_for_writeback(scanned: usize, under_writeback: usize, gfp: Gfp) -> bool {
    scanned > 0 && under_writeback >= scanned && gfp.contains(Gfp::IO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::{GFP_KERNEL, GFP_NOFS, GFP_NOIO};

    const TASK: Reclaimer = Reclaimer {
        gfp: GFP_KERNEL,
        kernel_task: false,
        dying: false,
    };

    fn reserve(free: usize, min: usize) -> Reserve {
        Reserve {
            free,
            min,
            hopeless: false,
        }
    }

    #[test]
    fn half_of_the_reserve_is_for_those_who_reclaim() {
        // P406: more than half of the sum of mins
        for min in 0..600 {
            let refused = (0..600)
                .take_while(|&free| !reserve(free, min).allows_reclaim())
                .count();
            assert_eq!(refused, if min == 0 { 0 } else { min / 2 + 1 });
        }
        let hopeless = Reserve {
            hopeless: true,
            ..reserve(0, 800)
        };
        assert!(hopeless.allows_reclaim());
        assert_eq!(at_entry(&TASK, &hopeless), Entry::Reclaim);
    }

    #[test]
    fn who_waits_at_the_entry_and_how_long() {
        // P406
        let kernel_task = Reclaimer {
            kernel_task: true,
            ..TASK
        };
        let dying = Reclaimer {
            dying: true,
            ..TASK
        };
        let nofs = Reclaimer {
            gfp: GFP_NOFS,
            ..TASK
        };
        let noio = Reclaimer {
            gfp: GFP_NOIO,
            ..TASK
        };
        let low = reserve(400, 800);
        let table = [
            (TASK, Entry::WaitKillable),
            (nofs, Entry::WaitAtMost { ms: 1000 }),
            (noio, Entry::WaitAtMost { ms: 1000 }),
            (kernel_task, Entry::Reclaim),
            (dying, Entry::Reclaim),
        ];
        for (who, expected) in table {
            assert_eq!(at_entry(&who, &low), expected, "{who:?}");
            assert_eq!(at_entry(&who, &reserve(401, 800)), Entry::Reclaim);
        }
        assert_eq!(after_wait(Woken::GoOn), AfterWait::Reclaim);
        assert_eq!(after_wait(Woken::Killed), AfterWait::PretendProgress);
    }

    #[test]
    fn waits_inside_a_pass() {
        // P407
        assert_eq!(Reason::Writeback.limit(), Limit::Ms(100));
        assert_eq!(Reason::Isolated.limit(), Limit::Ms(20));
        assert_eq!(Reason::NoProgress.limit(), Limit::Tick);
        assert_eq!(Reason::Congested.limit(), Limit::Tick);
        let pass = |freed, scanned| PassResult { scanned, freed };
        assert!(!ends_waits(&pass(0, 0)) && !ends_waits(&pass(4, 32)) && ends_waits(&pass(5, 32)));
        for value in 0..=12 {
            let priority = Priority::new(value).unwrap();
            assert_eq!(waits_for_progress(priority, 0), value == 1);
            assert!(!waits_for_progress(priority, 1));
        }
        assert!(
            too_many_isolated(101, 800, GFP_KERNEL) && !too_many_isolated(100, 800, GFP_KERNEL)
        );
        assert!(too_many_isolated(801, 800, GFP_NOFS) && !too_many_isolated(800, 800, GFP_NOFS));
        assert!(waits_for_writeback(32, 32, GFP_KERNEL) && waits_for_writeback(32, 32, GFP_NOFS));
        assert!(!waits_for_writeback(32, 32, GFP_NOIO) && !waits_for_writeback(32, 31, GFP_KERNEL));
        assert!(!waits_for_writeback(0, 0, GFP_KERNEL));
    }
}
