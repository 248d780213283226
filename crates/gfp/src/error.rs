//! Why an allocation failed.

use crate::flags::{Gfp, GfpError};
use crate::frame::Order;
use crate::platform::Nested;
use core::fmt;

/// Why an allocation failed. The Linux-shaped faces collapse it to NULL.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum AllocError {
    /// No memory that this request may use; free some, or ask with more rights.
    NoMemory {
        /// Order asked for.
        order: Order,
        /// Flags asked with.
        gfp: Gfp,
    },
    /// More than this allocator can ever give; use `kvmalloc` or `vmalloc` (P52, S11, V3).
    TooLarge {
        /// The largest size in bytes.
        max: usize,
    },
    /// The size does not fit a `usize` (V60).
    Overflow,
    /// Zero bytes where that means nothing (V3).
    ZeroSize,
    /// The alignment is no power of two, or larger than this allocator honours.
    BadAlign {
        /// The largest alignment in bytes.
        max: usize,
    },
    /// The flags contradict each other or this entry.
    BadFlags(GfpError),
    /// No free range of virtual addresses is left.
    NoAddressSpace,
    /// The platform offers no memory of this kind on that node.
    NoSuchNode,
    /// No zone lies where the device can reach it: let a zone end at the limit of its mask (M10).
    OutOfReach,
    /// The caller interrupted the allocator on its own CPU; try again outside.
    Nested,
    /// The pointer to resize is not from this allocator.
    BadPointer,
}

impl From<GfpError> for AllocError {
    fn from(e: GfpError) -> AllocError {
        AllocError::BadFlags(e)
    }
}

impl From<Nested> for AllocError {
    fn from(_: Nested) -> AllocError {
        AllocError::Nested
    }
}

impl fmt::Display for AllocError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            AllocError::NoMemory { order, gfp } => write!(
                f,
                "no memory for order {order} with {gfp}: free some, or use flags that may try \
                 harder"
            ),
            AllocError::TooLarge { max } => {
                write!(
                    f,
                    "larger than the {max} bytes that this call can give: use kvmalloc"
                )
            }
            AllocError::Overflow => f.write_str("the size in bytes does not fit usize"),
            AllocError::ZeroSize => f.write_str("a size of zero bytes"),
            AllocError::BadAlign { max } => {
                write!(f, "the alignment must be a power of two of at most {max}")
            }
            AllocError::BadFlags(e) => e.fmt(f),
            AllocError::NoAddressSpace => {
                f.write_str("no free virtual address range: free vmalloc areas")
            }
            AllocError::NoSuchNode => f.write_str("no memory on that node: ask without THISNODE"),
            AllocError::OutOfReach => f.write_str(
                "no zone lies where the device can reach it: let one end at the limit of its mask",
            ),
            AllocError::Nested => f.write_str(
                "called from an interrupt or signal handler in the middle of an allocation",
            ),
            AllocError::BadPointer => f.write_str("the pointer is not from this allocator"),
        }
    }
}

impl core::error::Error for AllocError {}
