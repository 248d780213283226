//! Caches of one's own.

use super::{counts, machine, names, pages_in_use, verify};
use crate::error::AllocError;
use crate::flags::{GFP_KERNEL, Gfp};
use crate::report::Misuse;
use crate::slab::{CacheArgs, CacheError, CacheFlags, MAX_SHEAF_CAPACITY};
use crate::sync::Local;
use std::format;
use std::vec::Vec;

#[test]
fn a_cache_gives_objects_of_its_size_and_alignment() {
    // S45, S49, S54, S65
    let slabs = machine(16);
    let line = CacheFlags::HWCACHE_ALIGN;
    for (i, (size, align, flags, expected)) in [
        (1, 0, CacheFlags::NONE, 8),
        (24, 0, CacheFlags::NONE, 8),
        (24, 0, line, 32),
        (100, 0, line, 64),
        (100, 128, CacheFlags::NONE, 128),
        (100, 8192, CacheFlags::NONE, 8192),
        (70_000, 0, CacheFlags::NONE, 8),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("c{i}");
        let args = CacheArgs {
            align,
            flags,
            ..CacheArgs::new(&name, size)
        };
        let cache = slabs.cache_create(&args).unwrap();
        assert_eq!(slabs.cache_size(cache), Some(size));
        assert_eq!(slabs.cache_align(cache), Some(expected));
        let mut objects = [core::ptr::null_mut(); 20];
        slabs.alloc_bulk(cache, GFP_KERNEL, &mut objects).unwrap();
        for p in objects {
            assert_eq!(p.addr() % expected, 0);
            assert_eq!(slabs.ksize(p), size);
            // SAFETY: the object is ours.
            unsafe { p.write_bytes(i as u8, size) };
        }
        verify(&slabs);
        // SAFETY: not used any more.
        unsafe { slabs.free_bulk(cache, &objects) }.unwrap();
        slabs
            .destroy(cache, &mut |_| panic!("no object lives"))
            .unwrap();
    }
    verify(&slabs);
}

#[test]
fn wrong_arguments_are_refused() {
    // S46, S47, S48
    let slabs = machine(8);
    let new = |args: CacheArgs<'_>| slabs.cache_create(&args).unwrap_err();
    let base = CacheArgs::new("x", 64);
    for name in [
        "",
        "two words",
        "tab\t",
        "nul\0",
        "a-name-of-more-than-thirty-one-bytes",
    ] {
        assert_eq!(
            new(CacheArgs { name, ..base }),
            CacheError::BadName,
            "{name}"
        );
    }
    for size in [0, (4 << 20) + 1, usize::MAX] {
        assert!(matches!(
            new(CacheArgs { size, ..base }),
            CacheError::BadSize { .. }
        ));
    }
    for align in [3, 12, 8 << 20] {
        assert!(matches!(
            new(CacheArgs { align, ..base }),
            CacheError::BadAlign { .. }
        ));
    }
    for (useroffset, usersize) in [(60, 5), (1, 0), (usize::MAX, 2)] {
        assert_eq!(
            new(CacheArgs {
                useroffset,
                usersize,
                ..base
            }),
            CacheError::BadUsercopy
        );
    }
    let flags = CacheFlags::CACHE_DMA | CacheFlags::CACHE_DMA32;
    assert_eq!(new(CacheArgs { flags, ..base }), CacheError::BadFlags);
    let sheaf_capacity = MAX_SHEAF_CAPACITY + 1;
    let max = MAX_SHEAF_CAPACITY;
    let bad = CacheError::BadSheafCapacity { max };
    assert_eq!(
        new(CacheArgs {
            sheaf_capacity,
            ..base
        }),
        bad
    );
    for name in ["kmalloc-64", "kmem_cache", "sheaf-60"] {
        assert_eq!(new(CacheArgs { name, ..base }), CacheError::DuplicateName);
    }
    let x = slabs
        .cache_create(&CacheArgs {
            useroffset: 8,
            usersize: 56,
            ..base
        })
        .unwrap();
    assert_eq!(slabs.cache_usercopy(x), Some((8, 56)));
    assert_eq!(new(base), CacheError::DuplicateName);
    slabs.destroy(x, &mut |_| ()).unwrap();
    let again = slabs.cache_create(&base).unwrap(); // the name is free again
    assert!(names(&slabs).iter().any(|n| n == "x"));
    assert_ne!(again, x);
}

#[test]
#[should_panic(expected = "cache x y")]
fn a_cache_that_must_exist_panics() {
    // S50
    let slabs = machine(8);
    let flags = CacheFlags::PANIC;
    let _ = slabs.cache_create(&CacheArgs {
        flags,
        ..CacheArgs::new("x y", 64)
    });
}

#[test]
fn constructors_run_once_an_object() {
    // S53, S17
    fn ctor(p: *mut u8) {
        // SAFETY: the cache's objects have 16 bytes, and this is their maker.
        unsafe { p.add(8).write(p.add(8).read().wrapping_add(1)) };
    }
    let slabs = machine(8);
    let args = CacheArgs {
        ctor: Some(ctor),
        ..CacheArgs::new("made", 16)
    };
    let cache = slabs.cache_create(&args).unwrap();
    for _ in 0..3 {
        let mut objects = [core::ptr::null_mut(); 300];
        slabs.alloc_bulk(cache, GFP_KERNEL, &mut objects).unwrap();
        for p in objects {
            // SAFETY: the object is ours; RAM was zero before the constructor.
            assert_eq!(unsafe { p.add(8).read() }, 1);
        }
        // SAFETY: not used any more.
        unsafe { slabs.free_bulk(cache, &objects) }.unwrap();
    }
    let zeroed = slabs.cache_alloc(cache, GFP_KERNEL | Gfp::ZERO, None);
    assert!(matches!(zeroed, Err(AllocError::BadFlags(_))));
}

#[test]
fn zero_clears_the_object() {
    // S19, S60
    let slabs = machine(8);
    let cache = slabs.cache_create(&CacheArgs::new("z", 100)).unwrap();
    for _ in 0..3 {
        let p = slabs
            .cache_alloc(cache, GFP_KERNEL | Gfp::ZERO, None)
            .unwrap()
            .as_ptr();
        // SAFETY: the object is ours, then freed.
        unsafe {
            assert!(core::slice::from_raw_parts(p, 100).iter().all(|b| *b == 0));
            p.write_bytes(1, 100);
            slabs.cache_free(cache, p).unwrap();
        }
    }
}

#[test]
fn bulk_is_all_or_nothing() {
    // S61, S62
    let slabs = machine(8);
    let cache = slabs.cache_create(&CacheArgs::new("bulk", 4096)).unwrap();
    let mut objects = std::vec![core::ptr::null_mut(); 3000];
    let got = slabs.alloc_bulk(cache, GFP_KERNEL, &mut objects);
    assert!(matches!(got, Err(AllocError::NoMemory { .. })));
    assert!(objects.iter().all(|p| p.is_null()));
    let (active, cached, ..) = counts(&slabs, "bulk");
    assert_eq!(active, cached);
    slabs
        .alloc_bulk(cache, GFP_KERNEL, &mut objects[..1000])
        .unwrap();
    let mut sorted = objects[..1000].to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted.len(), 1000);
    // SAFETY: not used any more.
    unsafe { slabs.free_bulk(cache, &objects[..1000]) }.unwrap();
    slabs.alloc_bulk(cache, GFP_KERNEL, &mut []).unwrap();
    verify(&slabs);
}

#[test]
fn shrink_leaves_only_slabs_with_objects() {
    // S58, S66
    let slabs = machine(16);
    let cache = slabs.cache_create(&CacheArgs::new("s", 256)).unwrap();
    assert_eq!(slabs.shrink(cache), Ok(true));
    let mut objects = [core::ptr::null_mut(); 800];
    slabs.alloc_bulk(cache, GFP_KERNEL, &mut objects).unwrap();
    let (_, _, total, made) = counts(&slabs, "s");
    // SAFETY: none of the freed is used any more.
    unsafe { slabs.free_bulk(cache, &objects[1..]) }.unwrap();
    let kept = counts(&slabs, "s").3;
    assert!((5..=8).contains(&kept), "S58: {kept} of {made} slabs kept");
    assert_eq!(slabs.shrink(cache), Ok(false));
    assert_eq!(counts(&slabs, "s"), (1, 0, total / made, 1));
    // SAFETY: not used any more.
    unsafe { slabs.cache_free(cache, objects[0]) }.unwrap();
    assert_eq!(slabs.shrink(cache), Ok(true));
    assert_eq!(counts(&slabs, "s"), (0, 0, 0, 0));
    slabs.destroy(cache, &mut |_| ()).unwrap();
    assert_eq!(slabs.shrink(cache), Err(CacheError::Destroyed));
}

#[test]
fn shrink_sorts_the_fullest_first() {
    // S66
    let slabs = machine(16);
    let flags = CacheFlags::NO_SHEAVES;
    let cache = slabs
        .cache_create(&CacheArgs {
            flags,
            ..CacheArgs::new("sort", 512)
        })
        .unwrap();
    let mut objects = [core::ptr::null_mut(); 6 * 32];
    slabs.alloc_bulk(cache, GFP_KERNEL, &mut objects).unwrap();
    let per_slab = slabs.object_at(objects[0].addr()).unwrap().0.objects as usize;
    assert!(per_slab <= 32);
    // Of slab n, free this many; the last but one is the fullest.
    for (n, free) in [5, 3, 5, 8, 1, 2].into_iter().enumerate() {
        for p in &objects[n * per_slab..n * per_slab + free] {
            // SAFETY: not used any more.
            unsafe { slabs.cache_free(cache, *p) }.unwrap();
        }
    }
    assert_eq!(slabs.shrink(cache), Ok(false));
    verify(&slabs);
    let of = |p: *mut u8| slabs.object_at(p.addr()).unwrap().0.base;
    for n in [4, 5, 5, 1, 1, 1] {
        let p = slabs.cache_alloc(cache, GFP_KERNEL, None).unwrap().as_ptr();
        assert_eq!(of(p), of(objects[n * per_slab + per_slab - 1]), "slab {n}");
    }
    verify(&slabs);
}

#[test]
fn a_cache_with_live_objects_is_gone_and_its_objects_stay() {
    // S67, S68, S70
    let slabs = machine(16);
    let cache = slabs.cache_create(&CacheArgs::new("live", 64)).unwrap();
    let mut objects = [core::ptr::null_mut(); 200];
    slabs.alloc_bulk(cache, GFP_KERNEL, &mut objects).unwrap();
    let kept = [objects[3], objects[150]];
    for p in objects {
        // SAFETY: only the two that are kept are used any more.
        unsafe {
            if kept.contains(&p) {
                p.write_bytes(0x5c, 64);
            } else {
                slabs.cache_free(cache, p).unwrap();
            }
        }
    }
    let mut seen = Vec::new();
    let error = slabs
        .destroy(cache, &mut |addr| seen.push(addr))
        .unwrap_err();
    let CacheError::LiveObjects { count, first } = error else {
        panic!("{error}")
    };
    assert_eq!((count, seen.len()), (2, 2));
    assert!(seen.contains(&first));
    assert!(kept.iter().all(|p| seen.contains(&p.addr())));
    assert!(!names(&slabs).iter().any(|n| n == "live"));
    assert_eq!(
        slabs.destroy(cache, &mut |_| ()),
        Err(CacheError::Destroyed)
    );
    assert_eq!(
        slabs.cache_alloc(cache, GFP_KERNEL, None),
        Err(AllocError::BadPointer)
    );
    assert_eq!(slabs.cache_size(cache), None);
    // The name may be used again; late frees are told, and hit nobody.
    let again = slabs.cache_create(&CacheArgs::new("live", 64)).unwrap();
    // The new cache has the old one's number, and a sheaf with room.
    let p = slabs.cache_alloc(again, GFP_KERNEL, None).unwrap().as_ptr();
    // SAFETY: not used any more.
    unsafe { slabs.cache_free(again, p) }.unwrap();
    // SAFETY: refused.
    unsafe {
        let grown = slabs.krealloc(kept[0], 100, GFP_KERNEL);
        assert_eq!(
            grown,
            Err(AllocError::BadPointer),
            "the old one could not be freed"
        );
        assert_eq!(slabs.kfree_sensitive(kept[0]), Err(Misuse::LiveObject));
        assert_eq!(slabs.kfree(kept[0]), Err(Misuse::LiveObject));
        assert_eq!(slabs.cache_free(again, kept[0]), Err(Misuse::WrongCache));
        assert_eq!(slabs.cache_free(cache, kept[1]), Err(Misuse::LiveObject));
        for p in kept {
            assert_eq!(core::slice::from_raw_parts(p, 64), [0x5c; 64]);
        }
    }
    assert_eq!(slabs.destroy(again, &mut |_| ()), Ok(()));
    verify(&slabs);
}

#[test]
fn destroyed_caches_leave_no_page_behind() {
    // S67; issue 6: conservation.
    let slabs = machine(16);
    let use_and_destroy = |n: usize| {
        let caches: Vec<_> = (0..n)
            .map(|i| {
                let name = format!("tmp-{i}");
                slabs
                    .cache_create(&CacheArgs::new(&name, 8 + i * 40))
                    .unwrap()
            })
            .collect();
        for cache in &caches {
            let mut objects = [core::ptr::null_mut(); 100];
            slabs.alloc_bulk(*cache, GFP_KERNEL, &mut objects).unwrap();
            // SAFETY: not used any more.
            unsafe { slabs.free_bulk(*cache, &objects) }.unwrap();
        }
        for cache in caches {
            slabs
                .destroy(cache, &mut |_| panic!("nothing lives"))
                .unwrap();
        }
        slabs.shrink_all();
        verify(&slabs);
        pages_in_use(&slabs)
    };
    let once = use_and_destroy(1);
    // More than the sheaf tables have room for: the last go without sheaves.
    assert_eq!(use_and_destroy(if cfg!(miri) { 20 } else { 300 }), once);
    let handle = slabs.cache_create(&CacheArgs::new("k", 8)).unwrap();
    let kmalloc = crate::slab::CacheRef { id: 3, ..handle };
    assert_eq!(
        slabs.destroy(kmalloc, &mut |_| ()),
        Err(CacheError::Permanent)
    );
}

#[test]
fn the_number_of_caches_has_a_limit() {
    let slabs = machine(16);
    let mut n = 0;
    let error = loop {
        match slabs.cache_create(&CacheArgs::new(&format!("many-{n}"), 64)) {
            Ok(_) => n += 1,
            Err(e) => break e,
        }
        if cfg!(miri) && n == 20 {
            return;
        }
    };
    assert_eq!(error, CacheError::TooManyCaches { max: n });
    verify(&slabs);
}

#[test]
fn a_cache_stays_while_a_cpu_cannot_be_reached() {
    // S67: who is inside may have found the cache, even with nothing of it at hand.
    let slabs = machine(16);
    let cache = slabs.cache_create(&CacheArgs::new("busy", 64)).unwrap();
    slabs.platform().on(1);
    let p = slabs.kmalloc(8, GFP_KERNEL, None).unwrap().as_ptr();
    let inside = Local::enter(slabs.platform()).unwrap();
    slabs.platform().on(0);
    let destroyed = slabs.destroy(cache, &mut |_| ());
    assert_eq!(destroyed, Err(CacheError::CpuBusy));
    drop(inside);
    let q = slabs.cache_alloc(cache, GFP_KERNEL, None).unwrap().as_ptr();
    // SAFETY: not used any more.
    unsafe { slabs.kfree_bulk(&[p, q]) }.unwrap();
    assert_eq!(slabs.destroy(cache, &mut |_| ()), Ok(()));
    verify(&slabs);
}

#[test]
fn each_live_object_is_shown_once() {
    // S68: of full and partial slabs, in each home.
    let slabs = machine(16);
    let cache = slabs.cache_create(&CacheArgs::new("shown", 64)).unwrap();
    let mut objects = [core::ptr::null_mut(); 400];
    for (cpu, some) in objects.chunks_mut(200).enumerate() {
        slabs.platform().on(cpu as u32);
        slabs.alloc_bulk(cache, GFP_KERNEL, some).unwrap();
    }
    let mut seen = Vec::new();
    let destroyed = slabs.destroy(cache, &mut |addr| seen.push(addr));
    let error = destroyed.unwrap_err();
    assert_eq!(
        error,
        CacheError::LiveObjects {
            count: 400,
            first: seen[0]
        }
    );
    let mut expected = objects.map(|p| p.addr());
    expected.sort_unstable();
    seen.sort_unstable();
    assert_eq!(seen, expected);
}

#[test]
fn bad_flags_are_refused_with_and_without_objects_at_hand() {
    // S17, P48, P51
    let slabs = machine(16);
    let cache = slabs.cache_create(&CacheArgs::new("flags", 64)).unwrap();
    for warm in [false, true] {
        for gfp in [
            Gfp::MOVABLE | Gfp::RECLAIMABLE,
            Gfp::DMA | Gfp::DMA32,
            Gfp::DMA | Gfp::HIGHMEM,
            Gfp::NOFAIL | Gfp::NORETRY,
        ] {
            let got = slabs.cache_alloc(cache, GFP_KERNEL | gfp, None);
            assert!(matches!(got, Err(AllocError::BadFlags(_))), "{gfp} {warm}");
        }
        let p = slabs.cache_alloc(cache, GFP_KERNEL, None).unwrap().as_ptr();
        // SAFETY: not used any more.
        unsafe { slabs.cache_free(cache, p) }.unwrap();
    }
}
