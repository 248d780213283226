//! What an allocator can know from a type alone (S40, S41).
//!
//! 1. **Shape.** Size and alignment of a request come from the type: [`Shape`]. What does not fit
//!    is an error before anybody is asked, and an alignment is honoured or refused.
//! 2. **Zeroes.** Memory that reads as zero is a value of the types that are [`Zeroable`], and of
//!    no others.
//! 3. **Flexible arrays** ([`Flexible`]): a header that counts the elements behind it. The count is
//!    stored when the memory is made, and a number that the counter cannot hold is an error.
//! 4. **Pointers.** [`may_hold_pointers`] is false only for types in which no pointer fits, aligned
//!    as it must be. It errs to the safe side: plain data that could be pointers counts as such.
//!
//! Nothing here allocates; `mm` has the calls.

mod flexible;
mod zeroable;

pub use flexible::{Flexible, flex_items, store_count};
pub use zeroable::Zeroable;

use crate::error::AllocError;
use crate::overflow::{SIZE_MAX, array_size, struct_size};

/// Size and alignment of a request, in bytes.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Shape {
    /// Bytes.
    pub size: usize,
    /// A power of two.
    pub align: usize,
}

impl Shape {
    /// One `T`.
    #[inline]
    pub const fn of<T>() -> Shape {
        Shape {
            size: size_of::<T>(),
            align: align_of::<T>(),
        }
    }

    /// `n` times `T`, one behind the other.
    ///
    /// # Errors
    /// [`AllocError::Overflow`].
    #[inline]
    pub const fn of_array<T>(n: usize) -> Result<Shape, AllocError> {
        match array_size(n, size_of::<T>()) {
            SIZE_MAX => Err(AllocError::Overflow),
            size => Ok(Shape {
                size,
                align: align_of::<T>(),
            }),
        }
    }

    /// A header `H` with `n` elements behind it.
    ///
    /// # Errors
    /// [`AllocError::Overflow`], also if the header's counter cannot hold `n` (S40).
    #[inline]
    pub fn of_flexible<H: Flexible>(n: usize) -> Result<Shape, AllocError> {
        let size = struct_size::<H, H::Item>(n);
        if size == SIZE_MAX || H::Count::try_from(n).is_err() {
            return Err(AllocError::Overflow);
        }
        let (header, item) = (align_of::<H>(), align_of::<H::Item>());
        let align = if header > item { header } else { item };
        Ok(Shape { size, align })
    }
}

/// False if no value of type `T` has room for a pointer that is aligned as pointers are: bytes,
/// text, structures of smaller numbers. Of other types nothing is known, so they may (S7).
///
/// A `repr(packed)` type may hide a pointer from this.
#[inline]
pub const fn may_hold_pointers<T>() -> bool {
    align_of::<T>() >= align_of::<usize>() && size_of::<T>() >= size_of::<usize>()
}

#[cfg(test)]
mod tests;
