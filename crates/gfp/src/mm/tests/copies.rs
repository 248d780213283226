//! Copies, and what may be copied to and from user space.

use super::{machine, report_of};
use crate::error::AllocError;
use crate::flags::{GFP_KERNEL, Gfp};
use crate::frame::PAGE_SIZE;
use crate::mm::{CopyRefusal, PrintError};
use crate::platform::UserAddr;
use crate::slab::{CacheArgs, ZERO_SIZE_PTR};
use crate::testing::TestPlatform;
use core::cell::Cell;
use core::ffi::CStr;
use core::fmt;
use core::ptr::NonNull;
use std::vec;
use std::vec::Vec;

type Mm = super::Mm<TestPlatform>;

fn text(p: NonNull<u8>) -> Vec<u8> {
    // SAFETY: a string that ends with a NUL.
    unsafe { CStr::from_ptr(p.as_ptr().cast()) }
        .to_bytes()
        .to_vec()
}

fn free(mm: &Mm, p: NonNull<u8>) {
    // SAFETY: from kmalloc, and freed once.
    unsafe { mm.kfree(p.as_ptr()) }
}

// S27
#[test]
fn a_copy_of_an_array_holds_its_elements_aligned() {
    #[derive(Copy, Clone, Debug, PartialEq)]
    #[repr(align(32))]
    struct Wide(u16);
    let mm = machine();
    let array: Vec<_> = (0..5).map(Wide).collect();
    let copy = mm.kmemdup_array(&array, GFP_KERNEL).unwrap();
    assert!(copy.cast::<Wide>().is_aligned());
    // SAFETY: five elements were copied.
    assert_eq!(unsafe { copy.as_ref() }, &array[..]);
    free(&mm, copy.cast());
    let none = mm.kmemdup_array::<u32>(&[], GFP_KERNEL).unwrap();
    assert_eq!(none.cast(), ZERO_SIZE_PTR);
}

// S27
#[test]
fn a_string_that_is_only_read_is_not_copied_nor_freed() {
    let mm = machine();
    let (constant, other) = (c"constant", c"other");
    let range = constant.as_ptr().addr();
    *mm.platform().read_only.lock().unwrap() = range..range + 9;
    let itself = mm.kstrdup_const(constant, GFP_KERNEL).unwrap();
    assert_eq!(itself.as_ptr().addr(), range);
    let copy = mm.kstrdup_const(other, GFP_KERNEL).unwrap();
    assert_ne!(copy.as_ptr().addr(), other.as_ptr().addr());
    assert_eq!(text(copy), b"other");
    // SAFETY: each was given by `kstrdup_const`.
    unsafe {
        mm.kfree_const(itself.as_ptr());
        mm.kfree_const(copy.as_ptr());
    }
    assert!(mm.platform().reports().is_empty());
    // SAFETY: freed before, which the machine sees.
    let twice = report_of(&mm, |mm| unsafe { mm.kfree_const(copy.as_ptr()) });
    assert!(twice.contains("double free"), "{twice}");
}

/// Prints as many dashes as it says, other numbers the second time.
struct Fickle(Cell<usize>, usize);

impl fmt::Display for Fickle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.0.replace(self.1);
        (0..n).try_for_each(|_| f.write_str("-"))
    }
}

struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Err(fmt::Error)
    }
}

// S27
#[test]
fn printed_text_is_as_long_as_it_was_measured() {
    let mm = machine();
    for n in [0, 1, 7, 8, 100, 9000] {
        let long = "x".repeat(n);
        let p = mm.kasprintf(GFP_KERNEL | Gfp::ZERO, format_args!("{long}{}", 5));
        let p = p.unwrap();
        assert_eq!(text(p), std::format!("{long}5").into_bytes());
        free(&mm, p);
    }
    let same = Fickle(Cell::new(3), 3);
    let p = mm.kvasprintf(GFP_KERNEL, format_args!("{same}")).unwrap();
    assert_eq!(text(p), b"---");
    free(&mm, p);
    for then in [2, 4, 4000] {
        let fickle = Fickle(Cell::new(3), then);
        let failed = mm.kasprintf(GFP_KERNEL, format_args!("<{fickle}>"));
        assert_eq!(failed, Err(PrintError::Failed), "{then}");
    }
    let failed = mm.kasprintf(GFP_KERNEL, format_args!("{Broken}"));
    assert_eq!(failed, Err(PrintError::Failed));
    let large = "x".repeat(5 << 20);
    let failed = mm.kasprintf(GFP_KERNEL, format_args!("{large}"));
    let max = 4 << 20;
    assert_eq!(failed, Err(PrintError::Alloc(AllocError::TooLarge { max })));
    mm.slabs().shrink_all();
    mm.verify().unwrap();
}

// D60, S16, S48
#[test]
fn copies_stay_inside_of_what_may_be_copied() {
    use CopyRefusal::*;
    let mm = machine();
    let check =
        |p: NonNull<u8>, at: usize, n: usize| mm.check_object_size(p.as_ptr().wrapping_add(at), n);
    let end = NonNull::without_provenance(core::num::NonZeroUsize::MAX);
    assert_eq!(check(end, 0, 2), Err(WrappedAddress));
    assert_eq!(check(ZERO_SIZE_PTR, 0, 1), Err(NullAddress));
    assert_eq!(mm.check_object_size(core::ptr::null(), 1), Err(NullAddress));
    assert_eq!(check(ZERO_SIZE_PTR, 0, 0), Ok(()));
    // kmalloc: all of the class, and no byte more.
    let object = mm.kmalloc(100, GFP_KERNEL).unwrap();
    for (at, n, result) in [
        (0, 1, Ok(())),
        (0, 128, Ok(())),
        (100, 28, Ok(())),
        (127, 1, Ok(())),
        (0, 129, Err(OutsideWindow)),
        (127, 2, Err(OutsideWindow)),
        (1, usize::MAX / 2, Err(OutsideWindow)),
    ] {
        assert_eq!(check(object, at, n), result, "{n} bytes at {at}");
    }
    free(&mm, object);
    assert_eq!(check(object, 0, 1), Err(Free));
    // A cache: its window.
    let window = CacheArgs {
        useroffset: 8,
        usersize: 16,
        ..CacheArgs::new("window", 40)
    };
    for (args, expected) in [
        (window, [Err(OutsideWindow), Ok(()), Err(OutsideWindow)]),
        (CacheArgs::new("closed", 40), [Err(OutsideWindow); 3]),
    ] {
        let cache = mm.kmem_cache_create(&args).unwrap();
        let object = mm.kmem_cache_alloc(cache, GFP_KERNEL).unwrap();
        let found = [(7, 2), (8, 16), (9, 16)].map(|(at, n)| check(object, at, n));
        assert_eq!(found, expected);
        assert_eq!(check(object, 24, 1), Err(OutsideWindow));
        // SAFETY: freed once.
        unsafe { mm.kmem_cache_free(cache, object.as_ptr()) };
        mm.kmem_cache_destroy(cache).unwrap();
    }
    // Large blocks and pages: up to their end, wherever in them it begins.
    let large = mm.kmalloc(3 * PAGE_SIZE, GFP_KERNEL).unwrap();
    assert_eq!(check(large, PAGE_SIZE + 1, 3 * PAGE_SIZE - 1), Ok(()));
    assert_eq!(check(large, PAGE_SIZE + 1, 3 * PAGE_SIZE), Err(PastEnd));
    free(&mm, large);
    assert_eq!(check(large, 0, 1), Err(Free));
    let pages = mm.alloc_pages(GFP_KERNEL | Gfp::COMP, 1).unwrap();
    let first = mm.pages().ptr_of(pages);
    assert_eq!(check(first, PAGE_SIZE, PAGE_SIZE), Ok(()));
    assert_eq!(check(first, PAGE_SIZE, PAGE_SIZE + 1), Err(PastEnd));
    // SAFETY: freed once.
    unsafe { mm.free_frames(pages, 1) };
    // What is nobody's here is not looked at.
    let local = [0u8; 4];
    assert_eq!(mm.check_object_size(local.as_ptr(), 100), Ok(()));
    assert!(mm.platform().reports().is_empty());
}

// D60
#[test]
fn a_copy_that_is_refused_is_reported_and_not_made() {
    let mm = machine();
    let cache = mm.kmem_cache_create(&CacheArgs::new("secret", 64)).unwrap();
    let object = mm.kmem_cache_alloc(cache, GFP_KERNEL).unwrap().as_ptr();
    let mut user = vec![7u8; 64];
    let at = UserAddr(user.as_mut_ptr().expose_provenance());
    // SAFETY: both buffers have 64 bytes, and the object's are written first.
    unsafe {
        object.write_bytes(1, 64);
        let shown = report_of(&mm, |mm| {
            assert!(mm.copy_to_user(at, object, 64).is_err());
        });
        assert!(shown.contains("copy of 64 bytes to user space"), "{shown}");
        assert!(shown.contains("cache secret") && shown.contains("copies.rs"));
        let written = report_of(&mm, |mm| {
            assert!(mm.copy_from_user(object, at, 9).is_err());
        });
        assert!(written.contains("copy of 9 bytes from user space"));
        assert!(user.iter().all(|byte| *byte == 7) && *object == 1);
        mm.kmem_cache_free(cache, object);
    }
    mm.kmem_cache_destroy(cache).unwrap();
}
