//! What an area for contiguous allocations (CMA) is to be, and why it may not be had (P505).
//!
//! The areas themselves are `pool::cma`; boot speaks of them as well.

use super::contig::ContigError;
use crate::error::AllocError;
use crate::frame::{Order, PAGE_SHIFT, PhysAddr};
use core::fmt;

/// Areas that a machine can have.
pub const CMA_AREAS_MAX: usize = 8;

/// What an area is to be.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct CmaSpec {
    /// For who reads the numbers of areas, and for [`Mm::cma_area`](crate::Mm::cma_area).
    pub name: &'static str,
    /// Bytes: a multiple of the alignment.
    pub bytes: u64,
    /// Of start and size, in bytes: a power of two, at least 2 MiB.
    pub alignment: u64,
    /// A bit of the bitmap stands for 2^order_per_bit pages.
    pub order_per_bit: Order,
    /// The first byte; `None`: anywhere, above 4 GiB if there is room.
    pub at: Option<PhysAddr>,
    /// Where all of it must lie: the first byte, and the first after it, as for a device that
    /// reaches no more; `None`: anywhere.
    pub within: Option<(PhysAddr, PhysAddr)>,
}

impl CmaSpec {
    /// An area of so many bytes anywhere, aligned to a pageblock, a bit a page.
    pub const fn new(name: &'static str, bytes: u64) -> CmaSpec {
        CmaSpec {
            name,
            bytes,
            alignment: Order::PAGEBLOCK.bytes() as u64,
            order_per_bit: Order::ZERO,
            at: None,
            within: None,
        }
    }

    /// P505: the pages of an area that may be.
    pub(crate) fn check(&self) -> Result<usize, CmaError> {
        let unit = Order::PAGEBLOCK.bytes() as u64;
        let aligned = |n: u64| n.is_multiple_of(self.alignment);
        let good = self.alignment.is_power_of_two()
            && self.alignment >= unit
            && self.bytes != 0
            && aligned(self.bytes)
            && self.at.is_none_or(|at| aligned(at.0) && self.fits(at))
            && self.order_per_bit <= Order::PAGEBLOCK;
        match good {
            true => Ok((self.bytes >> PAGE_SHIFT) as usize),
            false => Err(CmaError::Invalid),
        }
    }

    /// Whether an area from `at` on lies where it must.
    pub(crate) fn fits(&self, at: PhysAddr) -> bool {
        let end = at.0.checked_add(self.bytes);
        let inside = |(first, last): (PhysAddr, PhysAddr)| {
            first <= at && end.is_some_and(|end| end <= last.0)
        };
        self.within.is_none_or(inside)
    }
}

/// Why an area was not made (P505); nothing was changed.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum CmaError {
    /// The alignment is no power of two or less than a pageblock, or the size or the start no
    /// multiple of it; or the start is not where the area must lie; or the pages of a bit are no
    /// part of a pageblock (`-EINVAL`).
    Invalid,
    /// There are [`CMA_AREAS_MAX`] areas (`-ENOSPC`).
    TooMany,
    /// The place that was asked for cannot be had (`-EBUSY`).
    Taken(ContigError),
    /// No place of the machine can be had, or there is no memory for the bitmap (`-ENOMEM`).
    NoMemory(Option<AllocError>),
    /// The task has got a fatal signal.
    Interrupted,
    /// This is the copy of a machine that a fork made while somebody made an area: none can be made
    /// ([`Mm::cma_holder_is_gone`](crate::Mm::cma_holder_is_gone)).
    Lost,
}

impl fmt::Display for CmaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CmaError::Invalid => f.write_str(
                "size, start and alignment of a CMA area must be multiples of 2 MiB, the alignment \
                 a power of two, and the start where the area must lie",
            ),
            CmaError::TooMany => f.write_str("there are too many CMA areas"),
            CmaError::Taken(error) => write!(f, "the place of the CMA area is taken: {error}"),
            CmaError::NoMemory(Some(error)) => write!(f, "no memory for a CMA area: {error}"),
            CmaError::NoMemory(None) => {
                f.write_str("no place for the CMA area: make it earlier, or smaller")
            }
            CmaError::Interrupted => f.write_str("the task is to end"),
            CmaError::Lost => f.write_str("who made a CMA area was lost in a fork"),
        }
    }
}

impl core::error::Error for CmaError {}
