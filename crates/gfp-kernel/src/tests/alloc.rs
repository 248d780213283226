//! Each allocator, from a task: sizes, alignments, zeroes, and what is refused.

use super::fixture::{Ledger, all_bytes, bytes, free_all, kmalloc, settle};
use crate::memory::mm;
use gfp::AllocError;
use gfp::flags::{GFP_KERNEL, Gfp};
use gfp::frame::PAGE_SIZE;
use gfp::slab::{CacheArgs, CacheError, ZERO_SIZE_PTR};

super::tests! { "alloc":
    objects_of_all_sizes_are_aligned_and_do_not_overlap,
    alignments_up_to_a_page_are_honoured,
    size_zero_is_the_sentinel_and_too_much_is_refused,
    krealloc_keeps_the_content,
    what_is_asked_zeroed_reads_as_zero,
    blocks_of_all_orders_are_aligned_and_their_own,
    an_order_above_ten_is_refused,
    exact_pages_are_no_more_than_asked,
    many_pages_at_once,
    a_split_block_is_freed_page_by_page,
    a_cache_is_made_used_and_taken_down,
    a_constructor_is_called_once_for_each_object,
    objects_in_bulk,
    copies_hold_what_was_copied,
}

/// The sizes that tests ask for: around each class, and large ones.
fn sizes() -> impl Iterator<Item = usize> {
    let around = (3..=21).flat_map(|shift| [(1 << shift) - 1, 1 << shift, (1 << shift) + 1]);
    around.chain([96, 192, 1000, 3000, 4 << 20])
}

fn objects_of_all_sizes_are_aligned_and_do_not_overlap() {
    // S1, S13, S26
    let books = Ledger::open();
    let objects = [(); 2].map(|()| sizes().map(|size| (size, kmalloc(size))));
    let objects: alloc::vec::Vec<_> = objects.into_iter().flatten().collect();
    for (n, (size, object)) in objects.iter().enumerate() {
        let align = (1 << size.trailing_zeros()).max(8);
        assert!(object.ptr().addr().is_multiple_of(align), "{size}");
        assert!(mm().ksize(object.ptr()) >= *size, "{size}");
        // SAFETY: ours.
        unsafe { object.ptr().write_bytes(n as u8, *size) };
    }
    for (n, (size, object)) in objects.iter().enumerate() {
        // SAFETY: ours.
        assert!(unsafe { all_bytes(object.ptr(), *size, n as u8) }, "{size}");
    }
    drop(objects);
    books.close();
}

fn alignments_up_to_a_page_are_honoured() {
    // S41
    let books = Ledger::open();
    for align in (0..=12).map(|shift| 1 << shift) {
        for size in [1, 24, 100, 700, 5000] {
            let p = mm().kmalloc_aligned(size, align, GFP_KERNEL);
            let p = p.expect("memory is there").as_ptr();
            assert!(p.addr().is_multiple_of(align), "{size} at {align}");
            assert!(mm().ksize(p) >= size);
            // SAFETY: freed once.
            unsafe { mm().kfree(p) };
        }
    }
    let odd = mm().kmalloc_aligned(8, 24, GFP_KERNEL);
    assert!(matches!(odd, Err(AllocError::BadAlign { .. })));
    books.close();
}

fn size_zero_is_the_sentinel_and_too_much_is_refused() {
    // S11, S15
    let books = Ledger::open();
    let none = mm().kmalloc(0, GFP_KERNEL).expect("the sentinel");
    assert_eq!(none, ZERO_SIZE_PTR);
    // SAFETY: ignored.
    unsafe {
        mm().kfree(none.as_ptr());
        mm().kfree(core::ptr::null_mut());
    }
    let largest = mm().kmalloc((4 << 20) + 1, GFP_KERNEL);
    assert_eq!(largest, Err(AllocError::TooLarge { max: 4 << 20 }));
    let overflow = mm().kmalloc_array(usize::MAX, 2, GFP_KERNEL);
    assert_eq!(overflow, Err(AllocError::Overflow));
    books.close();
}

fn krealloc_keeps_the_content() {
    // S22
    let books = Ledger::open();
    let mut at = kmalloc(8).into_ptr();
    let mut old = 8;
    // SAFETY: ours; each call's result replaces what it was given.
    unsafe {
        at.write_bytes(0x5a, old);
        for size in [16, 17, 200, 5000, 70_000, 4000, 1 << 20, 100, 8] {
            let new = mm().krealloc(at, size, GFP_KERNEL);
            at = new.expect("memory is there").as_ptr();
            assert!(all_bytes(at, old.min(size), 0x5a), "{old} to {size}");
            assert!(mm().ksize(at) >= size);
            at.write_bytes(0x5a, size);
            old = size;
        }
        let none = mm().krealloc(at, 0, GFP_KERNEL);
        assert_eq!(none, Ok(ZERO_SIZE_PTR));
    }
    books.close();
}

fn what_is_asked_zeroed_reads_as_zero() {
    // S19, P56
    let books = Ledger::open();
    for size in [8, 100, 4096, 9000, 300_000] {
        let dirty = kmalloc(size);
        // SAFETY: ours, and freed once; so is the second.
        unsafe {
            dirty.ptr().write_bytes(0xff, size);
            drop(dirty);
            let clean = mm().kzalloc(size, GFP_KERNEL).expect("memory is there");
            assert!(all_bytes(clean.as_ptr(), size, 0), "{size}");
            mm().kfree(clean.as_ptr());
        }
    }
    for order in 0..=10 {
        // SAFETY: ours, and freed once; so is the second.
        unsafe {
            let dirty = mm().get_free_pages(GFP_KERNEL, order).expect("pages");
            dirty.write_bytes(0xff, bytes(order));
            mm().free_pages(dirty.as_ptr(), order);
            let clean = mm().get_free_pages(GFP_KERNEL | Gfp::ZERO, order);
            let clean = clean.expect("pages").as_ptr();
            assert!(all_bytes(clean, bytes(order), 0), "order {order}");
            mm().free_pages(clean, order);
        }
    }
    books.close();
}

fn blocks_of_all_orders_are_aligned_and_their_own() {
    // P341
    let books = Ledger::open();
    let take = |order| mm().get_free_pages(GFP_KERNEL, order).expect("pages");
    let blocks = [(); 2].map(|()| core::array::from_fn::<_, 11, _>(|order| take(order as u8)));
    let blocks = || blocks.iter().flat_map(|all| (0u8..).zip(all));
    for (n, (order, block)) in (1u8..).zip(blocks()) {
        assert!(block.addr().get().is_multiple_of(bytes(order)), "{order}");
        // SAFETY: ours.
        unsafe { block.write_bytes(n, bytes(order)) };
    }
    for (n, (order, block)) in (1u8..).zip(blocks()) {
        // SAFETY: ours, and freed once.
        unsafe {
            assert!(all_bytes(block.as_ptr(), bytes(order), n), "order {order}");
            mm().free_pages(block.as_ptr(), order);
        }
    }
    books.close();
}

fn an_order_above_ten_is_refused() {
    // P52
    let books = Ledger::open();
    let result = mm().alloc_pages(GFP_KERNEL, 11);
    assert_eq!(result, Err(AllocError::TooLarge { max: 4 << 20 }));
    books.close();
}

fn exact_pages_are_no_more_than_asked() {
    // P346
    let books = Ledger::open();
    let size = 5 * PAGE_SIZE - 100;
    let at = mm().alloc_pages_exact(size, GFP_KERNEL).expect("pages");
    let first = mm().virt_to_pfn(at.addr().get()).expect("a frame");
    let _quiet = settle();
    assert!((0..5).all(|i| !mm().pages().is_free(first.add(i))));
    assert!((5..8).all(|i| mm().pages().is_free(first.add(i))));
    // SAFETY: freed once, with its size.
    unsafe { mm().free_pages_exact(at.as_ptr(), size) };
    books.close();
}

fn many_pages_at_once() {
    // P344
    let books = Ledger::open();
    let mut pages = [None; 100];
    let got = mm().alloc_pages_bulk(GFP_KERNEL, &mut pages);
    assert_eq!(got, pages.len());
    let mut pages = pages.map(|p| p.expect("filled"));
    pages.sort();
    assert!(pages.windows(2).all(|two| two[0] != two[1]));
    free_all(&pages, 0);
    books.close();
}

fn a_split_block_is_freed_page_by_page() {
    // P347
    let books = Ledger::open();
    let block = mm().alloc_pages(GFP_KERNEL, 3).expect("pages");
    assert!(mm().split_page(block, 3));
    let pages: [_; 8] = core::array::from_fn(|i| block.add(7 - i));
    free_all(&pages, 0);
    let block = mm().alloc_pages(GFP_KERNEL | Gfp::COMP, 3).expect("pages");
    assert!(!mm().split_page(block, 3), "compound");
    free_all(&[block], 3);
    books.close();
}

fn a_cache_is_made_used_and_taken_down() {
    // S45, S60, S67
    let books = Ledger::open();
    let cache = mm().kmem_cache_create(&CacheArgs::new("tests-304", 304));
    let cache = cache.expect("a cache");
    let again = mm().kmem_cache_create(&CacheArgs::new("tests-304", 304));
    assert_eq!(again, Err(CacheError::DuplicateName));
    let objects: alloc::vec::Vec<_> = (0..1000)
        .map(|_| mm().kmem_cache_alloc(cache, GFP_KERNEL))
        .map(|p| p.expect("memory is there").as_ptr())
        .collect();
    for (n, p) in objects.iter().enumerate() {
        // SAFETY: ours.
        unsafe { p.write_bytes(n as u8, 304) };
    }
    for (n, p) in objects.iter().enumerate() {
        // SAFETY: ours, and freed once.
        unsafe {
            assert!(all_bytes(*p, 304, n as u8));
            mm().kmem_cache_free(cache, *p);
        }
    }
    drop(objects);
    assert_eq!(mm().kmem_cache_destroy(cache), Ok(()));
    let gone = mm().kmem_cache_alloc(cache, GFP_KERNEL);
    assert_eq!(gone, Err(AllocError::BadPointer));
    books.close();
}

fn a_constructor_is_called_once_for_each_object() {
    // S53
    use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    let books = Ledger::open();
    let args = CacheArgs {
        ctor: Some(|object| {
            CALLS.fetch_add(1, Relaxed);
            // SAFETY: called with an object of the cache.
            unsafe { object.write_bytes(0x77, 64) }
        }),
        ..CacheArgs::new("tests-ctor", 64)
    };
    let cache = mm().kmem_cache_create(&args).expect("a cache");
    for _ in 0..1000 {
        let p = mm().kmem_cache_alloc(cache, GFP_KERNEL);
        let p = p.expect("memory is there").as_ptr();
        // SAFETY: ours, and freed once, as the constructor left it.
        unsafe {
            assert!(all_bytes(p, 64, 0x77));
            mm().kmem_cache_free(cache, p);
        }
    }
    let calls = CALLS.load(Relaxed);
    assert!((1..500).contains(&calls), "{calls} calls for few slabs");
    assert_eq!(mm().kmem_cache_destroy(cache), Ok(()));
    books.close();
}

fn objects_in_bulk() {
    // S61, S62
    let books = Ledger::open();
    let cache = mm().kmem_cache_create(&CacheArgs::new("tests-bulk", 128));
    let cache = cache.expect("a cache");
    let mut objects = [core::ptr::null_mut(); 300];
    let result = mm().kmem_cache_alloc_bulk(cache, GFP_KERNEL, &mut objects);
    assert_eq!(result, Ok(()));
    let mut sorted = objects;
    sorted.sort();
    assert!(
        sorted
            .windows(2)
            .all(|two| two[0].addr() + 128 <= two[1].addr())
    );
    // SAFETY: freed once.
    unsafe { mm().kmem_cache_free_bulk(cache, &objects) };
    assert_eq!(mm().kmem_cache_shrink(cache), Ok(true));
    assert_eq!(mm().kmem_cache_destroy(cache), Ok(()));
    books.close();
}

fn copies_hold_what_was_copied() {
    // S27
    let books = Ledger::open();
    let copy = mm().kmemdup(b"abc", GFP_KERNEL).expect("memory is there");
    let text = mm()
        .kstrdup(c"kernel", GFP_KERNEL)
        .expect("memory is there");
    // SAFETY: ours, as long as asked, and freed once.
    unsafe {
        assert_eq!(core::slice::from_raw_parts(copy.as_ptr(), 3), b"abc");
        assert_eq!(core::slice::from_raw_parts(text.as_ptr(), 7), b"kernel\0");
        mm().kfree(copy.as_ptr());
        mm().kfree_sensitive(text.as_ptr());
    }
    books.close();
}
