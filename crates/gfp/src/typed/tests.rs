use super::{Flexible, Shape, flex_items, may_hold_pointers, store_count};
use crate::error::AllocError;
use core::mem::MaybeUninit;
use core::ptr::NonNull;

struct Wide {
    _head: u64,
    count: u8,
}
crate::flexible!(Wide, count: u8, [u64]);

#[repr(C, packed)]
struct Packed {
    _kind: u8,
    count: u32,
}
crate::flexible!(Packed, count: u32, [u16]);

struct Signed {
    count: i8,
}
crate::flexible!(Signed, count: i8, [Line]);

#[repr(align(64))]
struct Line(#[allow(dead_code)] [u8; 64]);

// S40, V60
#[test]
fn shapes_come_from_the_type_and_do_not_wrap() {
    assert_eq!(
        Shape::of::<Line>(),
        Shape {
            size: 64,
            align: 64
        }
    );
    assert_eq!(Shape::of_array::<u32>(5), Ok(Shape { size: 20, align: 4 }));
    let much = usize::MAX / 4;
    assert_eq!(Shape::of_array::<u32>(much + 1), Err(AllocError::Overflow));
    assert_eq!(Shape::of_array::<u32>(much).unwrap().size, much * 4);
    assert_eq!(Shape::of_array::<()>(usize::MAX).unwrap().size, 0);
    assert_eq!(
        Shape::of_flexible::<Signed>(2),
        Ok(Shape {
            size: 64 + 128,
            align: 64
        })
    );
}

// S40
#[test]
fn a_number_that_the_counter_cannot_hold_is_an_overflow() {
    assert!(Shape::of_flexible::<Wide>(255).is_ok());
    assert_eq!(Shape::of_flexible::<Wide>(256), Err(AllocError::Overflow));
    assert!(Shape::of_flexible::<Signed>(127).is_ok());
    assert_eq!(Shape::of_flexible::<Signed>(128), Err(AllocError::Overflow));
    let large = usize::MAX / 2;
    assert_eq!(
        Shape::of_flexible::<Packed>(large),
        Err(AllocError::Overflow)
    );
}

#[test]
fn the_count_is_stored_where_the_header_has_it() {
    fn stored<H: Flexible>(n: usize) -> Option<H> {
        let mut header = MaybeUninit::<H>::zeroed();
        let at = NonNull::from(&mut header).cast::<H>();
        // SAFETY: memory of a header, zeroed, of which zeroes are a value.
        unsafe { store_count(at, n).then(|| header.assume_init()) }
    }
    let wide = stored::<Wide>(200).unwrap();
    assert_eq!((wide.count, wide._head), (200, 0));
    let packed = stored::<Packed>(70_000).unwrap();
    assert_eq!({ packed.count }, 70_000);
    assert_eq!(stored::<Signed>(3).unwrap().count, 3);
    assert!(stored::<Signed>(200).is_none());
    let mut memory = MaybeUninit::<[u8; 16]>::uninit();
    let at = NonNull::from(&mut memory).cast::<Packed>();
    // SAFETY: a header and its elements have room there.
    let items = unsafe { flex_items(at) };
    assert_eq!(items.addr().get() - at.addr().get(), 6);
}

// S7
#[test]
fn what_has_room_for_a_pointer_may_be_one() {
    assert!(!may_hold_pointers::<u8>() && !may_hold_pointers::<[u32; 100]>());
    assert!(!may_hold_pointers::<()>() && !may_hold_pointers::<(u8, u32)>());
    assert!(may_hold_pointers::<&u8>() && may_hold_pointers::<[*mut u8; 3]>());
    assert!(may_hold_pointers::<u64>() && may_hold_pointers::<(u8, usize)>());
}
