//! The areas purged last: their addresses are nobody's now, and an access to them faults. What is
//! known of them here turns "a wild access" into "use after vfree".

use super::area::FreedArea;
use crate::frame::PAGE_SHIFT;

/// Areas that are remembered: 2 KiB.
pub(super) const RECENT: usize = 32;

/// Start and pages of the range that it had, guard included, and what it was.
type Purged = (usize, usize, FreedArea);

/// A ring; lives under the lock of the address space.
pub(super) struct Recent {
    list: [Option<Purged>; RECENT],
    next: usize,
}

impl Recent {
    pub(super) const fn new() -> Recent {
        Recent {
            list: [None; RECENT],
            next: 0,
        }
    }

    /// Remembers an area, and forgets the oldest.
    pub(super) fn push(&mut self, start: usize, pages: usize, area: FreedArea) {
        self.list[self.next] = Some((start, pages, area));
        self.next = (self.next + 1) % RECENT;
    }

    /// The last `n` that were remembered came newest first: turns them round, so that the oldest is
    /// forgotten first.
    pub(super) fn turn_round(&mut self, n: usize) {
        let at = |back: usize| (self.next + RECENT - 1 - back) % RECENT;
        for i in 0..n / 2 {
            self.list.swap(at(i), at(n - 1 - i));
        }
    }

    /// The last area purged that had an address.
    pub(super) fn find(&self, addr: usize) -> Option<FreedArea> {
        let (newer, older) = self.list.split_at(self.next);
        let newest_first = newer.iter().rev().chain(older.iter().rev()).flatten();
        newest_first
            .filter(|&&(start, pages, _)| addr.wrapping_sub(start) < pages << PAGE_SHIFT)
            .map(|&(_, _, area)| area)
            .next()
    }
}
