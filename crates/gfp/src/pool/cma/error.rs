//! What can be wrong with an area, or a request to it.

use crate::error::AllocError;
use crate::page::ContigError;
use core::fmt;

/// Why an area was not made (P505); nothing was changed.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum CmaError {
    /// The alignment is no power of two or less than a pageblock, or the size or the start no
    /// multiple of it; or the pages of a bit are no part of it (`-EINVAL`).
    Invalid,
    /// There are [`CMA_AREAS_MAX`](super::CMA_AREAS_MAX) areas (`-ENOSPC`).
    TooMany,
    /// The place that was asked for cannot be had (`-EBUSY`).
    Taken(ContigError),
    /// No place of the machine can be had, or there is no memory for the bitmap (`-ENOMEM`).
    NoMemory(Option<AllocError>),
    /// The task has got a fatal signal.
    Interrupted,
}

impl fmt::Display for CmaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CmaError::Invalid => f.write_str(
                "size, start and alignment of a CMA area must be multiples of 2 MiB, the alignment \
                 a power of two",
            ),
            CmaError::TooMany => f.write_str("there are too many CMA areas"),
            CmaError::Taken(error) => write!(f, "the place of the CMA area is taken: {error}"),
            CmaError::NoMemory(Some(error)) => write!(f, "no memory for a CMA area: {error}"),
            CmaError::NoMemory(None) => {
                f.write_str("no place for the CMA area: make it earlier, or smaller")
            }
            CmaError::Interrupted => f.write_str("the task is to end"),
        }
    }
}

impl core::error::Error for CmaError {}

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
            CmaAllocError::Contig(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for CmaAllocError {}
