//! Allocation by type.

use super::machine;
use crate::error::AllocError;
use crate::flags::{GFP_KERNEL, Gfp};
use crate::frame::NodeId;
use crate::slab::ZERO_SIZE_PTR;
use crate::testing::TestPlatform;
use crate::typed::flex_items;
use core::ptr::NonNull;

type Mm = super::Mm<TestPlatform>;

#[repr(align(64))]
struct Line(#[allow(dead_code)] [u8; 150]);

#[repr(align(4096))]
struct Paged(#[allow(dead_code)] u8);

#[repr(align(64))]
struct Nothing;

struct Header {
    _id: u64,
    len: u16,
}
crate::flexible!(Header, len: u16, [Line]);

/// Allocates a `T`, looks at it, fills it and frees it.
fn fits<T>(mm: &Mm, gfp: Gfp) {
    let p = mm.kmalloc_obj::<T>(gfp).unwrap();
    assert!(p.is_aligned(), "{}", core::any::type_name::<T>());
    assert!(mm.ksize(p.as_ptr().cast()) >= size_of::<T>());
    // SAFETY: as many bytes are ours; freed once.
    unsafe {
        p.as_ptr().cast::<u8>().write_bytes(0xA5, size_of::<T>());
        mm.kfree(p.as_ptr().cast());
    }
}

// S40, S41
#[test]
fn an_object_has_the_size_and_the_alignment_of_its_type() {
    let mm = machine();
    // The first finds no sheaf, the second one.
    for _ in 0..2 {
        for gfp in [GFP_KERNEL, GFP_KERNEL | Gfp::ACCOUNT] {
            fits::<u8>(&mm, gfp);
            fits::<[u64; 9]>(&mm, gfp);
            fits::<Line>(&mm, gfp);
            fits::<Paged>(&mm, gfp);
            fits::<[u8; 8192]>(&mm, gfp);
            fits::<[Paged; 3]>(&mm, gfp);
            fits::<[u64; 100_000]>(&mm, gfp);
        }
    }
    let node = mm.kmalloc_node(8, GFP_KERNEL, NodeId(0)).unwrap();
    // SAFETY: freed once.
    unsafe { mm.kfree(node.as_ptr()) };
    mm.verify().unwrap();
    assert!(mm.platform().reports().is_empty());
}

// S15, S41
#[test]
fn what_has_no_size_is_the_sentinel_or_refused() {
    let mm = machine();
    assert_eq!(mm.kmalloc_obj::<()>(GFP_KERNEL), Ok(ZERO_SIZE_PTR.cast()));
    let none = mm.kmalloc_objs::<u32>(0, GFP_KERNEL).unwrap();
    assert_eq!((none.len(), none.cast()), (0, ZERO_SIZE_PTR));
    let many = mm.kmalloc_objs::<()>(usize::MAX, GFP_KERNEL).unwrap();
    assert_eq!(many.len(), usize::MAX);
    let refused = Err(AllocError::BadAlign { max: 16 });
    assert_eq!(mm.kmalloc_obj::<Nothing>(GFP_KERNEL), refused);
}

// S41: never a weaker alignment than that of the type.
#[test]
fn what_is_larger_than_kmalloc_serves_is_refused() {
    #[repr(align(8388608))]
    struct Huge(#[allow(dead_code)] u8);
    let mm = machine();
    let max = 4 << 20;
    let too_large = |r: Result<NonNull<_>, _>| r == Err(AllocError::TooLarge { max });
    assert!(too_large(mm.kmalloc_obj::<[u8; (4 << 20) + 1]>(GFP_KERNEL)));
    let refused = Err(AllocError::BadAlign { max });
    assert_eq!(mm.kmalloc_obj::<Huge>(GFP_KERNEL), refused);
}

// S40, V60
#[test]
fn a_product_that_does_not_fit_gives_nothing() {
    let mm = machine();
    let n = usize::MAX / size_of::<Line>() + 1;
    assert_eq!(
        mm.kmalloc_objs::<Line>(n, GFP_KERNEL),
        Err(AllocError::Overflow)
    );
    assert_eq!(
        mm.kzalloc_objs::<Line>(n, GFP_KERNEL),
        Err(AllocError::Overflow)
    );
    let lines = mm.kmalloc_objs::<Line>(5, GFP_KERNEL).unwrap();
    let first = lines.cast::<Line>();
    assert!(lines.len() == 5 && first.is_aligned());
    assert!(mm.ksize(first.as_ptr().cast()) >= 5 * size_of::<Line>());
    // SAFETY: freed once.
    unsafe { mm.kfree(first.as_ptr().cast()) };
}

// S40
#[test]
fn a_flexible_array_knows_how_many_it_holds() {
    let mm = machine();
    for n in [0, 1, 7, 500] {
        let header = mm.kmalloc_flex::<Header>(n, GFP_KERNEL).unwrap();
        // SAFETY: header and elements are ours; freed once. The counter is initialised.
        unsafe {
            let items = flex_items(header);
            assert!(header.is_aligned() && items.is_aligned());
            assert_eq!((&raw const (*header.as_ptr()).len).read(), n as u16);
            let end = items.add(n).addr().get() - header.addr().get();
            assert!(mm.ksize(header.as_ptr().cast()) >= end);
            items.write_bytes(0xA5, n);
            mm.kfree(header.as_ptr().cast());
        }
    }
    let refused = mm.kmalloc_flex::<Header>(65_536, GFP_KERNEL);
    assert_eq!(refused, Err(AllocError::Overflow));
    mm.verify().unwrap();
}

// S19, S40
#[test]
fn with_z_memory_reads_as_zero() {
    fn zero(p: NonNull<u8>, bytes: usize) -> bool {
        // SAFETY: as many bytes are ours, and initialised.
        unsafe { core::slice::from_raw_parts(p.as_ptr(), bytes) }
            .iter()
            .all(|byte| *byte == 0)
    }
    let mm = machine();
    for dirty in [
        mm.kmalloc_obj::<[u64; 5]>(GFP_KERNEL).unwrap().cast(),
        mm.kmalloc_objs::<u16>(700, GFP_KERNEL).unwrap().cast(),
        mm.kmalloc_flex::<Header>(2, GFP_KERNEL).unwrap().cast(),
    ] {
        let dirty: NonNull<u8> = dirty;
        // SAFETY: ours, this large; freed once. The next of its class is the same object.
        unsafe {
            dirty.write_bytes(0xA5, mm.ksize(dirty.as_ptr()));
            mm.kfree(dirty.as_ptr());
        }
    }
    let one = mm.kzalloc_obj::<[u64; 5]>(GFP_KERNEL).unwrap().cast();
    assert!(zero(one, 64)); // S19: all of the class
    let many = mm.kzalloc_objs::<u16>(700, GFP_KERNEL).unwrap().cast();
    assert!(zero(many, 1400));
    let flex = mm.kzalloc_flex::<Header>(2, GFP_KERNEL).unwrap();
    // SAFETY: ours; zeroes are a header.
    unsafe {
        assert_eq!((flex.as_ref().len, flex.as_ref()._id), (2, 0));
        assert!(zero(flex_items(flex).cast(), 2 * size_of::<Line>()));
        for p in [one, many, flex.cast()] {
            mm.kfree(p.as_ptr());
        }
    }
}
