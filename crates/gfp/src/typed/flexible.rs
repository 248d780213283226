//! Headers that count the elements behind them.

use crate::overflow::flex_offset;
use core::ptr::NonNull;

/// A header with a flexible array behind it, and a field that counts the array's elements.
/// Implemented by [`flexible!`](crate::flexible).
///
/// # Safety
/// At byte [`Flexible::COUNT_AT`] of the header lies a field of type [`Flexible::Count`].
pub unsafe trait Flexible: Sized {
    /// An element.
    type Item;
    /// The counter: an integer.
    type Count: TryFrom<usize>;
    /// Where in the header the counter is, in bytes.
    const COUNT_AT: usize;
}

/// The first element behind a header.
///
/// # Safety
/// Header and elements are one allocation of [`Shape::of_flexible`](super::Shape::of_flexible),
/// which `header` may reach as a whole.
#[inline]
pub unsafe fn flex_items<H: Flexible>(header: NonNull<H>) -> NonNull<H::Item> {
    // SAFETY: the elements begin inside of the allocation, or at its end.
    unsafe { header.byte_add(flex_offset::<H, H::Item>()).cast() }
}

/// Stores `n` in the header's counter. False, and nothing stored, if it does not fit.
///
/// # Safety
/// The header's memory may be written; it need not be initialised.
#[inline]
pub unsafe fn store_count<H: Flexible>(header: NonNull<H>, n: usize) -> bool {
    let Ok(count) = H::Count::try_from(n) else {
        return false;
    };
    // SAFETY: the field lies there, as whoever implements the trait promised; a packed header may
    // have it at any address.
    unsafe {
        let field = header.byte_add(H::COUNT_AT).cast::<H::Count>();
        field.write_unaligned(count);
    }
    true
}

/// Says that `$header` is followed by elements, which its field `$field` counts: `kmalloc_flex` and
/// its relatives take it then (S40).
///
/// ```
/// struct Message {
///     kind: u8,
///     len: u16,
/// }
/// gfp::flexible!(Message, len: u16, [u32]);
/// # use gfp::typed::Shape;
/// assert_eq!(Shape::of_flexible::<Message>(3).map(|s| s.size), Ok(4 + 3 * 4));
/// assert!(Shape::of_flexible::<Message>(65536).is_err());
/// ```
///
/// A field of another type than it says does not compile:
/// ```compile_fail
/// struct Message { len: u16 }
/// gfp::flexible!(Message, len: u32, [u8]);
/// ```
#[macro_export]
macro_rules! flexible {
    ($header:ty, $field:ident: $count:ty, [$item:ty]) => {
        // SAFETY: `offset_of` names a field of the header itself, and `_its_type` its type.
        unsafe impl $crate::typed::Flexible for $header {
            type Item = $item;
            type Count = $count;
            const COUNT_AT: usize = {
                const fn _its_type(header: &$header) -> *const $count {
                    &raw const header.$field
                }
                ::core::mem::offset_of!($header, $field)
            };
        }
    };
}
