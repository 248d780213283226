//! What can be wrong with a request to an area.

use crate::page::ContigError;
use core::fmt;

/// Why an area gave nothing (P507).
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum CmaAllocError {
    /// There is no such area; or no pages were asked for, or an alignment above the area's size.
    Invalid,
    /// The area has given out too much of its pages.
    NotEnough {
        /// Pages that it has left, perhaps not side by side.
        available: usize,
    },
    /// In each place something stays where it is. This was the last.
    Busy(ContigError),
    /// This is the copy of an area that a fork made while somebody was taking pages from it: it
    /// gives nothing any more ([`Mm::cma_holder_is_gone`](crate::Mm::cma_holder_is_gone)).
    Lost,
    /// The attempt ended for another reason.
    Contig(ContigError),
}

impl fmt::Display for CmaAllocError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CmaAllocError::Invalid => f.write_str("no such CMA area, or a request for nothing"),
            CmaAllocError::NotEnough { available } => write!(
                f,
                "the CMA area has no such place: {available} pages are available, in pieces"
            ),
            CmaAllocError::Busy(last) => write!(f, "every place of the CMA area is busy: {last}"),
            CmaAllocError::Lost => f.write_str("the CMA area was lost in a fork: make another"),
            CmaAllocError::Contig(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for CmaAllocError {}
