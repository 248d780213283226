//! Size arithmetic that cannot overflow silently (V60-V62).
//!
//! 1. **Concept.** Sizes of allocations are computed from counts that come from elsewhere. A
//!    product that wraps gives a small buffer and a large loop. Here it *saturates*: the result is
//!    [`SIZE_MAX`], which no allocator serves, so the overflow ends as a failed allocation.
//! 2. **Sticky.** Once a size is [`SIZE_MAX`] it stays so through every further step, subtraction
//!    included. [`SatSize`] carries that rule in its type.
//! 3. **Checked.** [`check_add_overflow`] and relatives compute in mathematical integers whatever
//!    the operand types, give the wrapped result in the wanted type, and say whether it is the true
//!    one.
#![forbid(unsafe_code)]

use core::ops::{Add, AddAssign, Mul, MulAssign, Sub, SubAssign};

/// The poison: the size that means "overflowed" and that no allocator serves (V60).
pub const SIZE_MAX: usize = usize::MAX;

/// V60: `a * b` bytes, [`SIZE_MAX`] on overflow.
#[must_use = "an overflow is seen only in the result"]
#[inline]
pub const fn size_mul(a: usize, b: usize) -> usize {
    // MAX * 0 is 0, as in Linux; SatSize keeps the poison there too.
    a.saturating_mul(b)
}

/// V60: `a + b` bytes, [`SIZE_MAX`] on overflow.
#[must_use = "an overflow is seen only in the result"]
#[inline]
pub const fn size_add(a: usize, b: usize) -> usize {
    a.saturating_add(b)
}

/// V60: `a - b` bytes; [`SIZE_MAX`] if that is negative, and if either operand is [`SIZE_MAX`],
/// which keeps the poison.
#[must_use = "an overflow is seen only in the result"]
#[inline]
pub const fn size_sub(a: usize, b: usize) -> usize {
    // A poisoned `b` is either larger than `a` or meets a poisoned `a`.
    if a == SIZE_MAX || a < b {
        SIZE_MAX
    } else {
        a - b
    }
}

/// V60: bytes in `n` elements of `size` bytes.
#[must_use = "an overflow is seen only in the result"]
#[inline]
pub const fn array_size(n: usize, size: usize) -> usize {
    size_mul(n, size)
}

/// V60: bytes in `a` by `b` elements of `size` bytes.
#[must_use = "an overflow is seen only in the result"]
#[inline]
pub const fn array3_size(a: usize, b: usize, size: usize) -> usize {
    size_mul(size_mul(a, b), size)
}

/// V60: bytes in a trailing array of `n` elements of type `E`.
#[must_use = "an overflow is seen only in the result"]
#[inline]
pub const fn flex_array_size<E>(n: usize) -> usize {
    size_mul(n, size_of::<E>())
}

/// Byte offset of a trailing array of `E` behind a header `H` in one allocation.
#[inline]
pub const fn flex_offset<H, E>() -> usize {
    size_of::<H>().next_multiple_of(align_of::<E>())
}

/// V60: bytes in a header `H` followed by `n` elements of type `E`, padding between them included.
#[must_use = "an overflow is seen only in the result"]
#[inline]
pub const fn struct_size<H, E>(n: usize) -> usize {
    size_add(flex_offset::<H, E>(), flex_array_size::<E>(n))
}

/// V62: a size in bytes that remembers an overflow: once [`SatSize::OVERFLOWED`], always.
///
/// Stricter than the functions in one case: `OVERFLOWED * 0` stays overflowed.
///
/// ```
/// use gfp::overflow::SatSize;
/// let rows = SatSize::new(usize::MAX / 2) * 4;
/// assert_eq!((rows - 100).get(), None);
/// assert_eq!((SatSize::new(10) * 4 + 2).get(), Some(42));
/// ```
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct SatSize(usize);

impl SatSize {
    /// The poison, [`SIZE_MAX`].
    pub const OVERFLOWED: SatSize = SatSize(SIZE_MAX);
    /// Nothing.
    pub const ZERO: SatSize = SatSize(0);

    /// This many bytes; [`SIZE_MAX`] counts as overflowed.
    #[inline]
    pub const fn new(bytes: usize) -> SatSize {
        SatSize(bytes)
    }

    /// Bytes of one `T`.
    #[inline]
    pub const fn of<T>() -> SatSize {
        SatSize(size_of::<T>())
    }

    /// The size, if nothing overflowed on the way to it.
    #[inline]
    pub const fn get(self) -> Option<usize> {
        if self.is_overflowed() {
            None
        } else {
            Some(self.0)
        }
    }

    /// The size as allocators take it: [`SIZE_MAX`] if it overflowed, which they refuse.
    #[inline]
    pub const fn bytes(self) -> usize {
        self.0
    }

    /// Something overflowed on the way here.
    #[inline]
    pub const fn is_overflowed(self) -> bool {
        self.0 == SIZE_MAX
    }

    /// The sum; overflowed if it does not fit or either side was.
    #[must_use]
    #[inline]
    pub const fn plus(self, other: SatSize) -> SatSize {
        SatSize(size_add(self.0, other.0))
    }

    /// The difference; overflowed if it is negative or either side was.
    #[must_use]
    #[inline]
    pub const fn minus(self, other: SatSize) -> SatSize {
        SatSize(size_sub(self.0, other.0))
    }

    /// The product; overflowed if it does not fit or either side was.
    #[must_use]
    #[inline]
    pub const fn times(self, other: SatSize) -> SatSize {
        if self.is_overflowed() || other.is_overflowed() {
            return SatSize::OVERFLOWED;
        }
        SatSize(size_mul(self.0, other.0))
    }

    /// The next multiple of `align`; overflowed if that does not fit, if `self` was, or if `align`
    /// is 0.
    #[must_use]
    #[inline]
    pub const fn rounded_up_to(self, align: usize) -> SatSize {
        if align == 0 || self.is_overflowed() {
            return SatSize::OVERFLOWED;
        }
        match self.0.checked_next_multiple_of(align) {
            Some(bytes) => SatSize(bytes),
            None => SatSize::OVERFLOWED,
        }
    }
}

impl From<usize> for SatSize {
    fn from(bytes: usize) -> SatSize {
        SatSize(bytes)
    }
}

macro_rules! operators {
    ($($trait:ident $method:ident $assign_trait:ident $assign:ident $function:ident;)*) => {$(
        impl<T: Into<SatSize>> $trait<T> for SatSize {
            type Output = SatSize;
            #[inline]
            fn $method(self, other: T) -> SatSize {
                self.$function(other.into())
            }
        }
        impl<T: Into<SatSize>> $assign_trait<T> for SatSize {
            #[inline]
            fn $assign(&mut self, other: T) {
                *self = self.$function(other.into());
            }
        }
    )*};
}

operators! {
    Add add AddAssign add_assign plus;
    Sub sub SubAssign sub_assign minus;
    Mul mul MulAssign mul_assign times;
}

mod sealed {
    pub trait Sealed {}
}

/// The integer types that [`check_add_overflow`] and relatives take and give: 8 to 64 bits, signed
/// and unsigned, in any mixture.
pub trait CheckedInt: Copy + sealed::Sealed {
    /// The mathematical value.
    fn widen(self) -> i128;
    /// The low bits of the value.
    fn wrap(value: i128) -> Self;
    /// Bits in the type.
    const BITS: u32;
}

macro_rules! checked_ints {
    ($($int:ident)*) => {$(
        impl sealed::Sealed for $int {}
        impl CheckedInt for $int {
            #[inline]
            fn widen(self) -> i128 {
                self as i128
            }
            #[inline]
            fn wrap(value: i128) -> $int {
                value as $int
            }
            const BITS: u32 = $int::BITS;
        }
    )*};
}

checked_ints!(u8 u16 u32 u64 usize i8 i16 i32 i64 isize);

/// The wrapped value in `D`, and whether the true value differs from it.
fn fit<D: CheckedInt>(value: i128, overflowed: bool) -> (D, bool) {
    let wrapped = D::wrap(value);
    (wrapped, overflowed || wrapped.widen() != value)
}

/// V61: `a + b` in type `D`: the wrapped result, and true if it overflowed.
#[must_use]
#[inline]
pub fn check_add_overflow<D: CheckedInt>(a: impl CheckedInt, b: impl CheckedInt) -> (D, bool) {
    fit(a.widen() + b.widen(), false) // 65 bits
}

/// V61: `a - b` in type `D`: the wrapped result, and true if it overflowed.
#[must_use]
#[inline]
pub fn check_sub_overflow<D: CheckedInt>(a: impl CheckedInt, b: impl CheckedInt) -> (D, bool) {
    fit(a.widen() - b.widen(), false) // 65 bits
}

/// V61: `a * b` in type `D`: the wrapped result, and true if it overflowed.
#[must_use]
#[inline]
pub fn check_mul_overflow<D: CheckedInt>(a: impl CheckedInt, b: impl CheckedInt) -> (D, bool) {
    // u64::MAX * u64::MAX needs 128 bits without a sign; its low 64 bits are right all the same.
    let (product, overflowed) = a.widen().overflowing_mul(b.widen());
    fit(product, overflowed)
}

/// V61: `a << shift` in type `D`: the wrapped result, and true if bits were lost, the shift is
/// negative or as large as the type, `a` is negative, or the result's sign bit is set. A shift out
/// of range gives `a` unshifted.
#[must_use]
#[inline]
pub fn check_shl_overflow<D: CheckedInt>(a: impl CheckedInt, shift: impl CheckedInt) -> (D, bool) {
    let (value, shift) = (a.widen(), shift.widen());
    let sane = shift >= 0 && shift < i128::from(D::BITS);
    let shifted = if sane { value << shift } else { value }; // 64 + 63 bits fit
    let (wrapped, lost) = fit::<D>(shifted, !sane);
    (wrapped, lost || value < 0)
}

/// V61: whether `n` has another value in type `T`.
#[must_use]
#[inline]
pub fn overflows_type<T: CheckedInt>(n: impl CheckedInt) -> bool {
    fit::<T>(n.widen(), false).1
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = usize::MAX;

    #[test]
    fn helpers_saturate() {
        // V60
        let half = MAX / 2;
        let table = [
            (size_mul(6, 7), 42),
            (size_mul(half, 2), MAX - 1),
            (size_mul(half, 3), MAX),
            (size_mul(MAX, 2), MAX),
            (size_mul(MAX, 0), 0),
            (size_add(40, 2), 42),
            (size_add(MAX - 1, 1), MAX),
            (size_add(MAX, 1), MAX),
            (size_sub(50, 8), 42),
            (size_sub(8, 8), 0),
            (size_sub(7, 8), MAX),
            (size_sub(MAX, 1), MAX),
            (size_sub(MAX, MAX), MAX),
            (size_sub(1, MAX), MAX),
            (array_size(3, 5), 15),
            (array_size(half, 4), MAX),
            (array3_size(3, 5, 7), 105),
            (array3_size(half, 3, 1), MAX),
            (array3_size(3, 1, half), MAX),
            (flex_array_size::<u32>(5), 20),
            (flex_array_size::<u32>(half), MAX),
        ];
        for (index, (found, expected)) in table.into_iter().enumerate() {
            assert_eq!(found, expected, "row {index}");
        }
    }

    #[test]
    fn flexible_structures_include_their_padding() {
        // V60
        assert_eq!(struct_size::<u64, u32>(3), 8 + 12);
        assert_eq!(struct_size::<u8, u64>(2), 8 + 16);
        assert_eq!((flex_offset::<u8, u64>(), flex_offset::<u64, u8>()), (8, 8));
        assert_eq!(struct_size::<u64, ()>(MAX), 8);
        assert_eq!(struct_size::<u64, u8>(MAX - 8), MAX);
        assert_eq!(struct_size::<u64, u8>(MAX - 9), MAX - 1);
        assert_eq!(struct_size::<u64, u64>(MAX / 8), MAX);
        assert_eq!(struct_size::<u64, u64>(MAX), MAX);
    }

    #[test]
    fn the_poison_is_sticky() {
        // V60, V62: from the first overflow on, no sequence of steps leads back.
        let edge = [0, 1, 2, 7, 4096, MAX / 2, MAX / 2 + 1, MAX - 1, MAX];
        let mut state: u64 = 62;
        for _ in 0..20_000 {
            let mut size = SatSize::new(1);
            let mut exact: Option<u128> = Some(1); // the model: no value once it left the range
            for _ in 0..8 {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                let operand = edge[(state >> 33) as usize % edge.len()];
                let (model, valid) = (exact, (operand != MAX).then_some(operand as u128));
                let both = model.zip(valid);
                match (state >> 60) % 3 {
                    0 => {
                        size += operand;
                        exact = both.and_then(|(a, b)| a.checked_add(b));
                    }
                    1 => {
                        size -= operand;
                        exact = both.and_then(|(a, b)| a.checked_sub(b));
                    }
                    _ => {
                        size *= operand;
                        exact = both.and_then(|(a, b)| a.checked_mul(b));
                    }
                }
                exact = exact.filter(|&value| value < MAX as u128);
                assert_eq!(size.get().map(|bytes| bytes as u128), exact);
                assert_eq!(size.is_overflowed(), size.bytes() == MAX);
            }
        }
        assert_eq!(SatSize::OVERFLOWED.times(SatSize::ZERO).get(), None);
        assert_eq!((SatSize::ZERO * MAX).get(), None);
    }

    #[test]
    fn rounding_up_saturates_too() {
        assert_eq!(SatSize::new(5).rounded_up_to(8).get(), Some(8));
        assert_eq!(SatSize::new(8).rounded_up_to(8).get(), Some(8));
        assert_eq!(SatSize::new(MAX - 3).rounded_up_to(4096).get(), None);
        assert_eq!(SatSize::OVERFLOWED.rounded_up_to(1).get(), None);
        assert_eq!(SatSize::new(5).rounded_up_to(0).get(), None);
        assert_eq!(SatSize::of::<[u16; 5]>().get(), Some(10));
    }

    #[test]
    fn sums_differences_and_products_over_all_bytes() {
        // V61: exhaustive for 8 bits, against arithmetic in 32 bits.
        for a in i16::from(i8::MIN)..=i16::from(u8::MAX) {
            for b in i16::from(i8::MIN)..=i16::from(u8::MAX) {
                let (wide_a, wide_b) = (i32::from(a), i32::from(b));
                let pairs = [
                    (
                        check_add_overflow::<u8>(a, b),
                        check_add_overflow::<i8>(a, b),
                        wide_a + wide_b,
                    ),
                    (
                        check_sub_overflow::<u8>(a, b),
                        check_sub_overflow::<i8>(a, b),
                        wide_a - wide_b,
                    ),
                    (
                        check_mul_overflow::<u8>(a, b),
                        check_mul_overflow::<i8>(a, b),
                        wide_a * wide_b,
                    ),
                ];
                for (unsigned, signed, exact) in pairs {
                    assert_eq!(unsigned, (exact as u8, u8::try_from(exact).is_err()));
                    assert_eq!(signed, (exact as i8, i8::try_from(exact).is_err()));
                }
            }
        }
    }

    #[test]
    fn mixed_types_and_extremes() {
        // V61
        assert_eq!(check_add_overflow::<u32>(u32::MAX, 1u8), (0, true));
        assert_eq!(check_add_overflow::<u64>(u32::MAX, 1u8), (1 << 32, false));
        assert_eq!(
            check_add_overflow::<u64>(u64::MAX, u64::MAX),
            (u64::MAX - 1, true)
        );
        assert_eq!(
            check_add_overflow::<i64>(u64::MAX, i64::MIN),
            (i64::MAX, false)
        );
        assert_eq!(check_sub_overflow::<u64>(0u8, 1u8), (u64::MAX, true));
        assert_eq!(check_sub_overflow::<i8>(0u64, 1u64), (-1, false));
        assert_eq!(
            check_sub_overflow::<i64>(i64::MIN, u64::MAX),
            (1 << 63 | 1, true)
        );
        assert_eq!(check_mul_overflow::<u64>(u64::MAX, u64::MAX), (1, true));
        assert_eq!(
            check_mul_overflow::<u64>(u64::MAX, i64::MIN),
            (1 << 63, true)
        );
        assert_eq!(check_mul_overflow::<i64>(i64::MIN, -1i8), (i64::MIN, true));
        assert_eq!(
            check_mul_overflow::<u64>(1u64 << 32, 1u64 << 31),
            (1 << 63, false)
        );
        assert!(overflows_type::<u8>(256u16) && !overflows_type::<u8>(255u16));
        assert!(overflows_type::<u64>(-1i8) && overflows_type::<i64>(u64::MAX));
        assert!(!overflows_type::<i8>(-128i64));
    }

    #[test]
    fn shifts_tell_lost_bits_and_nonsense() {
        // V61
        assert_eq!(check_shl_overflow::<u8>(1u8, 7), (128, false));
        assert_eq!(check_shl_overflow::<u8>(1u8, 8), (1, true)); // as large as the type
        assert_eq!(check_shl_overflow::<u8>(2u8, 7), (0, true)); // bit lost
        assert_eq!(check_shl_overflow::<u8>(1u8, -1), (1, true)); // negative shift
        assert_eq!(check_shl_overflow::<i8>(1u8, 6), (64, false));
        assert_eq!(check_shl_overflow::<i8>(1u8, 7), (-128, true)); // sign bit
        assert_eq!(check_shl_overflow::<i32>(-1i32, 0), (-1, true)); // negative value
        assert_eq!(check_shl_overflow::<u64>(1u64, 63), (1 << 63, false));
        assert_eq!(check_shl_overflow::<u64>(u64::MAX, 63), (1 << 63, true));
        assert_eq!(check_shl_overflow::<u64>(u64::MAX, 0), (u64::MAX, false));
        assert_eq!(check_shl_overflow::<u8>(256u16, 0), (0, true)); // does not fit unshifted
        assert_eq!(check_shl_overflow::<u64>(0u8, u64::MAX), (0, true));
        for shift in 0..8 {
            for a in 0..=u8::MAX {
                let exact = u32::from(a) << shift;
                let (found, overflowed) = check_shl_overflow::<u8>(a, shift);
                assert_eq!(
                    (u32::from(found) == exact, overflowed),
                    (exact < 256, exact > 255)
                );
            }
        }
    }
}
