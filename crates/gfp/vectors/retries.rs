//! P961, P125: how often a request compacts whose blocks somebody else takes as soon as they are
//! made.
//!
//! Where the numbers come from. A block that is not movable is compacted for once before anything
//! is reclaimed (P114). Then each round reclaims and compacts (P118, P119). After 16 rounds that
//! made a block which somebody else got, of a costly order 4, the priority rises, and the count
//! begins anew: 17 or 5 calls at each; a costly request stops at the second (P125). Whoever does
//! not retry, and whoever is to die, has one round (P120, P125); without I/O nobody compacts
//! (P110).
//!
//! Seen to fail with: a retry more; a count that is not set back; a third priority for costly
//! orders; a fatal signal that is not looked at.

use super::hoard::Hoard;
use super::table::{MAYFAIL, NORETRY};
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use gfp::flags::{GFP_NOIO, Gfp};
use gfp::frame::Order;
use gfp::page::{Compacted, Need, PageAllocator, PageRequest, Reclaimed, Relief};
use gfp::policy::effort::{CompactOutcome, CompactPriority, Machine, Now};
use gfp::{Mm, Platform};

/// Reclaim that always frees something, and compaction that always makes a block for others.
#[derive(Default)]
struct Robbed {
    killed: bool,
    rounds: AtomicUsize,
    /// Calls at each priority.
    compactions: [AtomicUsize; 3],
}

impl<P: Platform> Relief<P> for Robbed {
    fn machine(&self, _: &PageAllocator<P>) -> Machine {
        Machine {
            can_kill: false,
            ..Machine::LINUX
        }
    }

    fn oom_lock(&self, _: &PageAllocator<P>) -> bool {
        true
    }

    fn now(&self, _: &PageAllocator<P>) -> Now {
        Now {
            fatal_signal: self.killed,
            ..Now::default()
        }
    }

    fn reclaim(&self, _: &PageAllocator<P>, _: &Need<'_>, _: u32) -> Reclaimed {
        self.rounds.fetch_add(1, Relaxed);
        Reclaimed { pages: 1, left: 0 }
    }

    fn compact(
        &self,
        _: &PageAllocator<P>,
        _: &Need<'_>,
        _: u32,
        priority: CompactPriority,
    ) -> Compacted {
        self.compactions[priority as usize].fetch_add(1, Relaxed);
        Compacted::Ended(CompactOutcome::Success)
    }
}

/// What one request did.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Tried {
    what: &'static str,
    served: bool,
    rounds: usize,
    compactions: [usize; 3],
}

/// A request that ends unserved: its rounds, and its compactions at each priority.
const fn row(
    what: &'static str,
    (gfp, order): (Gfp, u8),
    rounds: usize,
    compactions: [usize; 3],
) -> (Gfp, u8, Tried) {
    let tried = Tried {
        what,
        served: false,
        rounds,
        compactions,
    };
    (gfp, order, tried)
}

const MOVABLE: Gfp = MAYFAIL.with(Gfp::MOVABLE);
const NO_IO: Gfp = GFP_NOIO.with(Gfp::RETRY_MAYFAIL);
const KILLED: &str = "order 3, to be killed";

const ROWS: [(Gfp, u8, Tried); 8] = [
    row("order 1", (MAYFAIL, 1), 3 * 17, [1 + 17, 17, 17]),
    row("order 3", (MAYFAIL, 3), 3 * 17, [1 + 17, 17, 17]),
    row("order 3, movable", (MOVABLE, 3), 3 * 17, [17, 17, 17]),
    row("order 3, noretry", (NORETRY, 3), 1, [1 + 1, 0, 0]),
    row(KILLED, (MAYFAIL, 3), 1, [1 + 1, 0, 0]),
    row("order 4", (MAYFAIL, 4), 2 * 5, [1 + 5, 5, 0]),
    row("order 9", (MAYFAIL, 9), 2 * 5, [1 + 5, 5, 0]),
    row("order 9 without I/O", (NO_IO, 9), 1, [0, 0, 0]),
];

/// P125: each request as the rules say, and as it was seen.
pub(in super::super) fn retries<P: Platform>(mm: &Mm<P>) -> [(Tried, Tried); ROWS.len()] {
    let mut hoard = Hoard::of(mm);
    hoard.take(mm);
    let tried = ROWS.map(|(gfp, order, expected)| {
        let script = Robbed {
            killed: expected.what == KILLED,
            ..Robbed::default()
        };
        let size = Order::new(order).unwrap_or(Order::ZERO);
        let request = PageRequest::new(gfp | Gfp::NOWARN, size);
        let block = mm.pages().alloc_with(&request, &script);
        let seen = Tried {
            what: expected.what,
            served: block.is_ok(),
            rounds: script.rounds.load(Relaxed),
            compactions: script.compactions.each_ref().map(|n| n.load(Relaxed)),
        };
        // SAFETY: ours.
        block
            .iter()
            .for_each(|pfn| unsafe { mm.free_frames(*pfn, order) });
        (expected, seen)
    });
    hoard.end(mm);
    tried
}
