//! A range of physical addresses.

use gfp::frame::{PAGE_SIZE, PhysAddr};

/// Bytes from `start` up to, not including, `end`; never empty when made by [`Span::new`].
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Span {
    /// First byte.
    pub start: PhysAddr,
    /// First byte after it.
    pub end: PhysAddr,
}

/// Bits of an address inside its page.
const IN_PAGE: u64 = PAGE_SIZE as u64 - 1;

impl Span {
    /// No bytes: fills unused places of lists.
    pub const EMPTY: Span = Span {
        start: PhysAddr(0),
        end: PhysAddr(0),
    };

    /// `None` if there is no byte in it, or if it goes past the last address.
    pub fn new(start: PhysAddr, len: u64) -> Option<Span> {
        let end = PhysAddr(start.0.checked_add(len)?);
        (len > 0).then_some(Span { start, end })
    }

    /// The same, cut at the last address instead of refused: for ranges that forbid.
    pub fn clamped(start: PhysAddr, len: u64) -> Option<Span> {
        let end = PhysAddr(start.0.saturating_add(len));
        (start < end).then_some(Span { start, end })
    }

    /// Bytes in it.
    pub fn bytes(self) -> u64 {
        self.end.0.saturating_sub(self.start.0)
    }

    /// True if the byte at `at` is in it.
    pub fn covers(self, at: PhysAddr) -> bool {
        self.start <= at && at < self.end
    }

    /// True if some byte is in both.
    pub fn overlaps(self, other: Span) -> bool {
        self.start < other.end && other.start < self.end
    }

    /// The whole pages inside it; may be empty, then `end <= start`.
    pub fn inward(self) -> Span {
        let start = self.start.0.checked_next_multiple_of(PAGE_SIZE as u64);
        Span {
            start: PhysAddr(start.unwrap_or(u64::MAX)),
            end: floor(self.end),
        }
    }

    /// The pages of which any byte is in it.
    pub fn outward(self) -> Span {
        let end = self.end.0.checked_next_multiple_of(PAGE_SIZE as u64);
        Span {
            start: floor(self.start),
            end: PhysAddr(end.unwrap_or(u64::MAX)),
        }
    }

    /// Both ends moved down to the start of their pages: neighbours stay neighbours.
    pub fn floored(self) -> Span {
        Span {
            start: floor(self.start),
            end: floor(self.end),
        }
    }
}

/// The start of the page of `at`.
fn floor(at: PhysAddr) -> PhysAddr {
    PhysAddr(at.0 & !IN_PAGE)
}
