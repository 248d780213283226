//! Has it failed too often lately? (P426)

use super::{CompactOutcome, CompactPriority};
use crate::policy::order::NR_PAGE_ORDERS;

/// P426: the largest shift: 64 attempts are left out.
pub const SHIFT_MAX: u8 = 6;

/// P426: what a zone remembers of its failed compactions.
///
/// After failures in a row at some order, the next 1, 2, 4, 8, 16, 32, 64, 64 ... attempts at that
/// order or above are left out (P964). P426 says that the shift is raised first and then used,
/// which would be 2, 4 ... 64; P964 has the vector from 1, and it is what is done here.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Deferral {
    shift: u8,
    to_skip: u8,
    /// The lowest order that failed; [`NR_PAGE_ORDERS`]: none.
    order_failed: u8,
}

impl Deferral {
    /// Nothing has failed.
    pub const fn new() -> Deferral {
        Deferral {
            shift: 0,
            to_skip: 0,
            order_failed: NR_PAGE_ORDERS as u8,
        }
    }

    /// As one word, for who keeps it in an atomic.
    pub const fn to_bits(self) -> u32 {
        self.shift as u32 | (self.to_skip as u32) << 8 | (self.order_failed as u32) << 16
    }

    /// What [`Deferral::to_bits`] gave.
    pub const fn from_bits(bits: u32) -> Deferral {
        Deferral {
            shift: bits as u8,
            to_skip: (bits >> 8) as u8,
            order_failed: (bits >> 16) as u8,
        }
    }

    /// The lowest order that is deferred at all.
    pub const fn order_failed(&self) -> u32 {
        self.order_failed as u32
    }

    /// P426: whether this attempt is left out; counts it if so. A sync-full attempt never is.
    pub const fn defers(&mut self, order: u32, priority: CompactPriority) -> bool {
        let concerned = order >= self.order_failed();
        if !concerned || self.to_skip == 0 || matches!(priority, CompactPriority::SyncFull) {
            return false;
        }
        self.to_skip -= 1;
        true
    }

    /// P426: after an attempt that was not left out.
    ///
    /// Only a synchronous attempt that came to an end counts as a failure: an asynchronous one
    /// skips so much that it proves nothing (the rule is silent).
    pub const fn after(&mut self, order: u32, priority: CompactPriority, outcome: CompactOutcome) {
        match outcome {
            CompactOutcome::Success => self.succeeded(order),
            CompactOutcome::Complete | CompactOutcome::PartialSkipped
                if !matches!(priority, CompactPriority::Async) =>
            {
                self.failed(order);
            }
            _ => {}
        }
    }

    const fn failed(&mut self, order: u32) {
        if order < self.order_failed() {
            self.order_failed = order as u8;
        }
        self.to_skip = 1 << self.shift;
        if self.shift < SHIFT_MAX {
            self.shift += 1;
        }
    }

    /// P426: a block of this order was made, or was allocated without compaction.
    pub const fn succeeded(&mut self, order: u32) {
        self.shift = 0;
        self.to_skip = 0;
        if order >= self.order_failed() {
            let above = order + 1;
            self.order_failed = if above < NR_PAGE_ORDERS as u32 {
                above as u8
            } else {
                NR_PAGE_ORDERS as u8
            };
        }
    }
}

impl Default for Deferral {
    fn default() -> Deferral {
        Deferral::new()
    }
}
