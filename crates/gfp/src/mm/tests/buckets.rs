//! Private size classes.

use super::{machine, report_of};
use crate::error::AllocError;
use crate::flags::{GFP_KERNEL, Gfp};
use crate::mm::CopyRefusal;
use crate::policy::size_class::kmalloc_align;
use crate::slab::{BucketArgs, CacheArgs, CacheError, ZERO_SIZE_PTR};
use crate::testing::TestPlatform;
use std::string::{String, ToString};
use std::vec::Vec;

type Mm = super::Mm<TestPlatform>;

/// The name of the cache that an address is an object of.
fn cache_of(mm: &Mm, addr: usize) -> String {
    mm.with_owner_of(addr, |owner| match owner {
        crate::report::Owner::Object { cache, .. } => cache.to_string(),
        other => other.to_string(),
    })
}

/// Names of all caches that start like this.
fn named(mm: &Mm, prefix: &str) -> Vec<String> {
    let mut names = Vec::new();
    mm.slabs().for_each_cache(&mut |view| {
        if view.name.starts_with(prefix) {
            names.push(view.name.to_string());
        }
    });
    names
}

// S8, S13
#[test]
fn buckets_have_kmallocs_classes_and_nobody_elses_objects() {
    let mm = machine();
    let buckets = mm.kmem_buckets_create(&BucketArgs::new("msg")).unwrap();
    assert_eq!(named(&mm, "msg-").len(), 13);
    for (size, name) in [
        (1, "msg-8"),
        (65, "msg-96"),
        (100, "msg-128"),
        (192, "msg-192"),
        (8192, "msg-8k"),
    ] {
        let shared = mm.kmalloc(size, GFP_KERNEL).unwrap();
        // SAFETY: freed once: its place is the next that kmalloc gives.
        unsafe { mm.kfree(shared.as_ptr()) };
        for gfp in [GFP_KERNEL, GFP_KERNEL | Gfp::ZERO] {
            let own = mm.kmem_buckets_alloc(&buckets, size, gfp).unwrap();
            assert_eq!(cache_of(&mm, own.addr().get()), name);
            assert!(own.addr().get().is_multiple_of(kmalloc_align(size)));
            assert_ne!(own, shared);
            let capacity = mm.ksize(own.as_ptr());
            assert_eq!(capacity, mm.kmalloc_size_roundup(size));
            // SAFETY: as many bytes are ours, initialised if zeroed; freed once.
            unsafe {
                let zero = |i| own.add(i).read() == 0;
                assert!(!gfp.contains(Gfp::ZERO) || (0..capacity).all(zero));
                own.write_bytes(0xA5, capacity);
                mm.kfree(own.as_ptr());
            }
        }
    }
    let none = mm.kmem_buckets_alloc(&buckets, 0, GFP_KERNEL).unwrap();
    assert_eq!(none, ZERO_SIZE_PTR);
    let large = mm.kmem_buckets_alloc(&buckets, 9000, GFP_KERNEL).unwrap();
    assert_eq!(mm.ksize(large.as_ptr()), 16384);
    // SAFETY: freed once.
    unsafe { mm.kfree(large.as_ptr()) };
    mm.kmem_buckets_destroy(&buckets).unwrap();
    assert!(named(&mm, "msg-").is_empty());
    let gone = mm.kmem_buckets_alloc(&buckets, 8, GFP_KERNEL);
    assert_eq!(gone, Err(AllocError::BadPointer));
    mm.verify().unwrap();
    assert!(mm.platform().reports().is_empty());
}

// S8, D60
#[test]
fn the_window_ends_with_the_class() {
    let mm = machine();
    let args = BucketArgs {
        useroffset: 32,
        usersize: 48,
        ..BucketArgs::new("user")
    };
    let buckets = mm.kmem_buckets_create(&args).unwrap();
    // Offset and bytes that may be copied: none up to 32 bytes, the rest of 64, all of it in 96.
    for (size, window) in [(16, 0), (32, 0), (64, 32), (96, 48), (4096, 48)] {
        let object = mm.kmem_buckets_alloc(&buckets, size, GFP_KERNEL).unwrap();
        let at = object.as_ptr().wrapping_add(32);
        let check = |n| mm.check_object_size(at, n);
        if window > 0 {
            assert_eq!(check(window), Ok(()), "{size}");
        }
        assert!(check(window + 1).is_err(), "{size}");
        let before = mm.check_object_size(object.as_ptr(), 1);
        assert_eq!(before, Err(CopyRefusal::OutsideWindow));
        // SAFETY: freed once.
        unsafe { mm.kfree(object.as_ptr()) };
    }
    mm.kmem_buckets_destroy(&buckets).unwrap();
}

// S8, S47
#[test]
fn buckets_that_cannot_be_made_leave_nothing() {
    let mm = machine();
    let before = named(&mm, "").len();
    for prefix in ["", "two words", "a-name-that-is-much-too-long-for-it"] {
        let bad = mm.kmem_buckets_create(&BucketArgs::new(prefix));
        assert_eq!(bad, Err(CacheError::BadName), "{prefix}");
    }
    // The last class of all meets a cache of its name.
    let taken = mm.kmem_cache_create(&CacheArgs::new("it-8k", 8)).unwrap();
    let twice = mm.kmem_buckets_create(&BucketArgs::new("it"));
    assert_eq!(twice, Err(CacheError::DuplicateName));
    mm.kmem_cache_destroy(taken).unwrap();
    assert_eq!(named(&mm, "").len(), before);
    mm.verify().unwrap();
}

// S68
#[test]
fn live_objects_of_buckets_are_reported_and_the_rest_goes() {
    let mm = machine();
    let buckets = mm.kmem_buckets_create(&BucketArgs::new("kept")).unwrap();
    let kept = mm.kmem_buckets_alloc(&buckets, 20, GFP_KERNEL).unwrap();
    let text = report_of(&mm, |mm| {
        let result = mm.kmem_buckets_destroy(&buckets);
        let first = kept.addr().get();
        assert_eq!(result, Err(CacheError::LiveObjects { count: 1, first }));
    });
    assert!(text.contains("live object"), "{text}");
    assert!(named(&mm, "kept-").is_empty());
}
