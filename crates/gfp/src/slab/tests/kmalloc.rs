//! kmalloc, sizes, alignment, zeroes, krealloc, copies.

use super::{baseline, counts, machine, names, pages_in_use, verify};
use crate::error::AllocError;
use crate::flags::{GFP_ATOMIC, GFP_KERNEL, Gfp};
use crate::policy::size_class::{KMALLOC_MAX_SIZE, kmalloc_align, kmalloc_size_roundup};
use crate::slab::ZERO_SIZE_PTR;
use std::vec::Vec;

const ZEROED: Gfp = GFP_KERNEL.with(Gfp::ZERO);

#[test]
fn every_size_is_as_large_and_as_aligned_as_promised() {
    // S3, S13, S19, S26: all sizes; under Miri a sample.
    let slabs = machine(16);
    let step = if cfg!(miri) { 997 } else { 1 };
    let mut size = 0;
    while size <= 65_536 {
        let p = slabs.kmalloc(size, ZEROED, None).unwrap();
        let usable = slabs.ksize(p.as_ptr());
        assert_eq!(usable, kmalloc_size_roundup(size), "{size}");
        assert_eq!(p.addr().get() % kmalloc_align(size), 0, "{size}");
        assert_eq!(slabs.kmalloc_size_roundup(size), usable);
        if usable > 0 {
            // SAFETY: `p` is ours and has `usable` bytes.
            unsafe {
                let bytes = core::slice::from_raw_parts_mut(p.as_ptr(), usable);
                assert!(bytes.iter().all(|b| *b == 0), "{size}");
                bytes.fill(0xa5);
            }
        }
        // SAFETY: not used any more.
        unsafe { slabs.kfree(p.as_ptr()) }.unwrap();
        size += step;
    }
    verify(&slabs);
}

#[test]
fn zero_bytes_are_the_sentinel_everywhere() {
    // S15, S20, S24, S25, S26
    let slabs = machine(8);
    let p = slabs.kmalloc(0, GFP_KERNEL, None).unwrap();
    assert_eq!((p, p.addr().get()), (ZERO_SIZE_PTR, 16));
    assert_eq!(slabs.kmalloc_array(0, 8, GFP_KERNEL), Ok(p));
    assert_eq!(slabs.kcalloc(8, 0, GFP_KERNEL), Ok(p));
    assert_eq!(slabs.kmemdup(&[], GFP_KERNEL), Ok(p));
    assert_eq!(
        (slabs.ksize(p.as_ptr()), slabs.ksize(core::ptr::null())),
        (0, 0)
    );
    // SAFETY: the sentinel and NULL are allowed.
    unsafe {
        slabs.kfree(p.as_ptr()).unwrap();
        slabs.kfree(core::ptr::null_mut()).unwrap();
        slabs.kfree_sensitive(p.as_ptr()).unwrap();
        slabs.kfree_sensitive(core::ptr::null_mut()).unwrap();
    }
}

#[test]
fn products_that_overflow_and_sizes_beyond_all_memory_are_refused() {
    // S11, S20, S23
    let slabs = machine(8);
    assert_eq!(
        slabs.kmalloc_array(usize::MAX / 2, 3, GFP_KERNEL),
        Err(AllocError::Overflow)
    );
    assert_eq!(
        slabs.kcalloc(1 << 40, 1 << 40, GFP_KERNEL),
        Err(AllocError::Overflow)
    );
    let too_large = Err(AllocError::TooLarge {
        max: KMALLOC_MAX_SIZE,
    });
    assert_eq!(
        slabs.kmalloc(KMALLOC_MAX_SIZE + 1, GFP_KERNEL, None),
        too_large
    );
    assert_eq!(slabs.kmalloc(usize::MAX, GFP_KERNEL, None), too_large);
    let p = slabs.kmalloc(100, GFP_KERNEL, None).unwrap().as_ptr();
    // SAFETY: `p` is in use, and stays so when the call fails.
    unsafe {
        assert_eq!(
            slabs.krealloc_array(p, usize::MAX, 2, GFP_KERNEL),
            Err(AllocError::Overflow)
        );
        assert_eq!(slabs.krealloc(p, usize::MAX, GFP_KERNEL), too_large);
        slabs.kfree(p).unwrap();
    }
}

#[test]
fn bad_flags_are_refused() {
    // S17
    let slabs = machine(8);
    for gfp in [Gfp::HIGHMEM, Gfp::DMA32, Gfp::from_bits_retain(1 << 30)] {
        let got = slabs.kmalloc(64, GFP_KERNEL | gfp, None);
        assert!(matches!(got, Err(AllocError::BadFlags(_))), "{gfp}");
        let got = slabs.kmalloc(64 << 10, GFP_KERNEL | gfp, None);
        assert!(matches!(got, Err(AllocError::BadFlags(_))), "{gfp}");
    }
}

#[test]
fn families_have_their_caches() {
    // S5, S6
    let slabs = machine(8);
    let all = names(&slabs);
    for name in [
        "kmalloc-8",
        "kmalloc-96",
        "kmalloc-8k",
        "kmalloc-rcl-1k",
        "dma-kmalloc-64",
    ] {
        assert!(all.iter().any(|n| n == name), "{name}");
    }
    for (gfp, name) in [
        (GFP_KERNEL, "kmalloc-64"),
        (GFP_KERNEL | Gfp::RECLAIMABLE, "kmalloc-rcl-64"),
        (GFP_KERNEL | Gfp::ACCOUNT, "kmalloc-cg-64"),
        (
            GFP_KERNEL | Gfp::ACCOUNT | Gfp::RECLAIMABLE,
            "kmalloc-rcl-64",
        ),
    ] {
        let before = counts(&slabs, name);
        let p = slabs.kmalloc(60, gfp, None).unwrap();
        let (active, cached, ..) = counts(&slabs, name);
        assert_eq!(active - cached, before.0 - before.1 + 1, "{name}");
        // SAFETY: not used any more.
        unsafe { slabs.kfree(p.as_ptr()) }.unwrap();
    }
    assert!(slabs.slab_pages().1 > 0);
    // No zone DMA on this machine: not served rather than served from elsewhere.
    assert!(slabs.kmalloc(64, GFP_KERNEL | Gfp::DMA, None).is_err());
    verify(&slabs);
}

#[test]
fn large_blocks_are_counted_aligned_and_given_back() {
    // S10
    let slabs = machine(16);
    let before = pages_in_use(&slabs);
    for (size, pages) in [(8193, 4), (16_384, 4), (1 << 20, 256), (4 << 20, 1024)] {
        let p = slabs.kmalloc(size, GFP_KERNEL | Gfp::COMP, None).unwrap();
        assert_eq!(slabs.large_kmalloc_pages(), pages);
        assert_eq!(p.addr().get() % (pages * 4096), 0);
        assert_eq!(slabs.ksize(p.as_ptr()), pages * 4096);
        // SAFETY: not used any more.
        unsafe { slabs.kfree(p.as_ptr()) }.unwrap();
        assert_eq!(slabs.large_kmalloc_pages(), 0);
    }
    assert_eq!(pages_in_use(&slabs), before);
}

#[test]
fn explicit_alignment_is_honoured_or_refused() {
    // S14, S41
    let slabs = machine(32);
    let mut held = Vec::new();
    for shift in 0..=22 {
        for size in [1, 24, 100, 150, 5000, 9000] {
            let p = slabs.kmalloc_aligned(size, 1 << shift, GFP_KERNEL).unwrap();
            assert_eq!(p.addr().get() % (1 << shift), 0, "{size} by {}", 1 << shift);
            assert!(slabs.ksize(p.as_ptr()) >= size);
            if shift < 16 {
                held.push(p);
            } else {
                // SAFETY: not used any more.
                unsafe { slabs.kfree(p.as_ptr()) }.unwrap();
            }
        }
    }
    for p in held {
        // SAFETY: not used any more.
        unsafe { slabs.kfree(p.as_ptr()) }.unwrap();
    }
    for align in [0, 3, 24, 8 << 20] {
        let got = slabs.kmalloc_aligned(64, align, GFP_KERNEL);
        assert!(matches!(got, Err(AllocError::BadAlign { .. })), "{align}");
    }
    assert!(slabs.kmalloc_aligned(0, 64, GFP_KERNEL).is_err());
    assert_eq!(slabs.kmalloc_aligned(0, 16, GFP_KERNEL), Ok(ZERO_SIZE_PTR));
    verify(&slabs);
}

/// Reads `n` bytes.
fn read(p: *mut u8, n: usize) -> Vec<u8> {
    // SAFETY: the tests read what they own.
    unsafe { core::slice::from_raw_parts(p, n) }.to_vec()
}

#[test]
fn krealloc_follows_its_rules() {
    // S22
    let slabs = machine(16);
    // SAFETY: every pointer below is NULL, the sentinel, or in use.
    unsafe {
        // a, b
        let p = slabs
            .krealloc(core::ptr::null_mut(), 100, GFP_KERNEL)
            .unwrap()
            .as_ptr();
        assert_eq!(slabs.ksize(p), 128);
        assert_eq!(slabs.krealloc(p, 0, GFP_KERNEL), Ok(ZERO_SIZE_PTR));
        assert_eq!(
            slabs.krealloc(core::ptr::null_mut(), 0, GFP_KERNEL),
            Ok(ZERO_SIZE_PTR)
        );
        let p = slabs
            .krealloc(ZERO_SIZE_PTR.as_ptr(), 100, GFP_KERNEL)
            .unwrap()
            .as_ptr();
        // c: in place up to the capacity, and whenever it shrinks
        p.write_bytes(0x11, 128);
        for size in [128, 1, 100] {
            assert_eq!(slabs.krealloc(p, size, GFP_KERNEL).unwrap().as_ptr(), p);
        }
        assert_eq!(read(p, 128), [0x11; 128]);
        // d: grows by copying all that was usable
        let q = slabs.krealloc(p, 129, GFP_KERNEL).unwrap().as_ptr();
        assert_ne!(p, q);
        assert_eq!(read(q, 128), [0x11; 128]);
        // e, f: with ZERO in every call, growth shows zeroes
        let z = slabs.kmalloc(20, ZEROED, None).unwrap().as_ptr();
        z.write_bytes(0x22, 20);
        assert_eq!(slabs.krealloc(z, 10, ZEROED).unwrap().as_ptr(), z);
        assert_eq!(read(z, 32), [[0x22; 10].as_slice(), &[0; 22]].concat());
        let z = slabs.krealloc(z, 5000, ZEROED).unwrap().as_ptr();
        assert_eq!(read(z, 8192), [[0x22; 10].as_slice(), &[0; 8182]].concat());
        // large: shrinks in place, moves when it must
        let l = slabs.krealloc(z, 100_000, GFP_KERNEL).unwrap().as_ptr();
        assert_eq!(read(l, 10), [0x22; 10]);
        assert_eq!(slabs.krealloc(l, 1, GFP_KERNEL).unwrap().as_ptr(), l);
        // h: forced move by alignment copies the smaller size
        let r = slabs.kmalloc(8, GFP_KERNEL, None).unwrap().as_ptr();
        let s = slabs.kmalloc(8, GFP_KERNEL, None).unwrap().as_ptr();
        let odd = if r.addr() % 16 == 8 { r } else { s };
        assert_eq!(odd.addr() % 16, 8);
        odd.write_bytes(0x33, 8);
        let moved = slabs
            .krealloc_node_align(odd, 4, 4096, GFP_KERNEL, None)
            .unwrap()
            .as_ptr();
        assert_eq!(moved.addr() % 4096, 0);
        assert_eq!(read(moved, 4), [0x33; 4]);
        // what is not in use is refused
        assert_eq!(
            slabs.krealloc(p, 10, GFP_KERNEL),
            Err(AllocError::BadPointer)
        );
        assert_eq!(
            slabs.krealloc(q.add(8), 10, GFP_KERNEL),
            Err(AllocError::BadPointer)
        );
        assert_eq!(
            slabs.krealloc(l.add(4096), 10, GFP_KERNEL),
            Err(AllocError::BadPointer)
        );
        for p in [q, l, moved, if odd == r { s } else { r }] {
            slabs.kfree(p).unwrap();
        }
    }
    verify(&slabs);
}

#[test]
fn copies_hold_what_was_copied() {
    // S27
    let slabs = machine(8);
    let a = slabs.kmemdup(b"abc", GFP_KERNEL).unwrap().as_ptr();
    let b = slabs.kmemdup_nul(b"abc", GFP_KERNEL).unwrap().as_ptr();
    let c = slabs.kstrdup(c"hello", GFP_KERNEL).unwrap().as_ptr();
    let d = slabs
        .kstrndup(b"hello\0world", 100, GFP_KERNEL)
        .unwrap()
        .as_ptr();
    let e = slabs.kstrndup(b"hello", 2, GFP_KERNEL).unwrap().as_ptr();
    assert_eq!(
        (read(a, 3), read(b, 4)),
        (b"abc".to_vec(), b"abc\0".to_vec())
    );
    assert_eq!(
        (read(c, 6), read(d, 6)),
        (b"hello\0".to_vec(), b"hello\0".to_vec())
    );
    assert_eq!(read(e, 3), b"he\0");
    // SAFETY: not used any more.
    unsafe { slabs.kfree_bulk(&[a, b, c, d, e, core::ptr::null_mut()]) }.unwrap(); // S28
    verify(&slabs);
}

#[test]
fn kfree_sensitive_leaves_nothing() {
    // S25
    let slabs = machine(8);
    for size in [60, 9000] {
        let p = slabs.kmalloc(size, GFP_KERNEL, None).unwrap().as_ptr();
        let usable = slabs.ksize(p);
        // SAFETY: `p` is ours; after the free it is the sheaf's or a free page, which we only read,
        // on the one thread of this machine.
        unsafe {
            p.write_bytes(0x77, usable);
            slabs.kfree_sensitive(p).unwrap();
            assert_eq!(read(p, usable), std::vec![0; usable]);
            assert!(slabs.kfree_sensitive(p).is_err());
        }
    }
}

#[test]
fn out_of_memory_is_an_error_and_all_of_it_comes_back() {
    let slabs = machine(8);
    let before = baseline(&slabs);
    for (size, gfp) in [
        (64, GFP_KERNEL),
        (4096, GFP_KERNEL),
        (64, GFP_ATOMIC),
        (100_000, GFP_KERNEL),
    ] {
        let mut held = Vec::new();
        let error = loop {
            match slabs.kmalloc(size, gfp, None) {
                Ok(p) => held.push(p),
                Err(e) => break e,
            }
        };
        assert!(matches!(error, AllocError::NoMemory { .. }), "{error}");
        let bytes = held.len() * slabs.kmalloc_size_roundup(size);
        assert!(bytes > 6 << 20, "{size}: {}", held.len());
        for p in held {
            // SAFETY: not used any more.
            unsafe { slabs.kfree(p.as_ptr()) }.unwrap();
        }
        slabs.shrink_all();
        verify(&slabs);
        assert_eq!(pages_in_use(&slabs), before, "{size}");
    }
}

#[test]
fn sheaves_and_empty_slabs_of_others_save_a_request() {
    // W3: what one CPU hoards is taken back before a request of another fails.
    let slabs = machine(8);
    let mut held = Vec::new();
    while let Ok(p) = slabs.kmalloc(4096, GFP_KERNEL, None) {
        held.push(p);
    }
    for p in held.drain(..) {
        // SAFETY: not used any more.
        unsafe { slabs.kfree(p.as_ptr()) }.unwrap();
    }
    slabs.platform().on(1);
    while let Ok(p) = slabs.kmalloc(65_536, GFP_KERNEL, None) {
        held.push(p);
    }
    assert!(held.len() * 65_536 > 6 << 20, "{}", held.len());
    for p in held {
        // SAFETY: not used any more.
        unsafe { slabs.kfree(p.as_ptr()) }.unwrap();
    }
    verify(&slabs);
}
