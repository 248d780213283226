//! Misuse is reported, the memory leaks at worst, and the machine goes on.

use super::disturb;
use super::fixture::{Ledger, kmalloc};
use crate::memory::mm;
use gfp::flags::GFP_KERNEL;
use gfp::slab::{CacheArgs, CacheError};

super::tests! { "misuse":
    a_second_free_of_an_object_is_reported,
    a_second_free_of_pages_is_reported,
    a_wild_free_is_reported,
    an_interior_free_is_reported,
    a_free_by_the_wrong_call_or_order_is_reported,
    a_free_to_the_wrong_cache_is_reported,
    live_objects_of_a_destroyed_cache_are_reported,
}

fn a_second_free_of_an_object_is_reported() {
    // S43
    let _quiet = disturb::quiet(); // a handler may be given what is free
    let books = Ledger::open();
    for size in [8, 96, 4096, 100_000] {
        let p = kmalloc(size).into_ptr();
        // SAFETY: the second is refused.
        unsafe {
            mm().kfree(p);
            mm().kfree(p);
        }
    }
    books.close_after(4);
}

fn a_second_free_of_pages_is_reported() {
    // P342
    let _quiet = disturb::quiet(); // a handler may be given what is free
    let books = Ledger::open();
    for order in [0, 3, 10] {
        let pfn = mm().alloc_pages(GFP_KERNEL, order).expect("pages");
        // SAFETY: the second is refused.
        unsafe {
            mm().free_frames(pfn, order);
            mm().free_frames(pfn, order);
        }
    }
    books.close_after(3);
}

fn a_wild_free_is_reported() {
    let books = Ledger::open();
    static CONSTANT: u64 = 0;
    let local = 0u64;
    let device = crate::arch::phys_to_ptr(0xfee0_0000);
    let wild = [
        core::ptr::without_provenance_mut(0x7000),
        (&raw const CONSTANT).cast_mut().cast(),
        (&raw const local).cast_mut().cast(),
        device,
    ];
    for p in wild {
        // SAFETY: refused.
        unsafe { mm().kfree(p) }
    }
    books.close_after(wild.len());
}

fn an_interior_free_is_reported() {
    let books = Ledger::open();
    let object = kmalloc(64);
    let pages = mm().get_free_pages(GFP_KERNEL, 2).expect("pages").as_ptr();
    // SAFETY: refused, but for the last.
    unsafe {
        mm().kfree(object.ptr().add(8));
        mm().free_pages(pages.add(8), 2);
        mm().free_pages(pages.add(4096), 2);
        mm().free_pages(pages, 2);
    }
    drop(object);
    books.close_after(3);
}

fn a_free_by_the_wrong_call_or_order_is_reported() {
    let books = Ledger::open();
    let object = kmalloc(64);
    let pages = mm().get_free_pages(GFP_KERNEL, 2).expect("pages").as_ptr();
    let page = object.ptr().map_addr(|a| a & !4095);
    // SAFETY: refused, but for the last.
    unsafe {
        mm().free_pages(page, 0);
        mm().kfree(pages);
        mm().free_pages(pages, 1);
        mm().free_pages(pages, 3);
        mm().free_pages(pages, 2);
    }
    drop(object);
    books.close_after(4);
}

fn a_free_to_the_wrong_cache_is_reported() {
    // S43
    let books = Ledger::open();
    let cache = |name| mm().kmem_cache_create(&CacheArgs::new(name, 80));
    let (mine, yours) = (cache("tests-mine"), cache("tests-yours"));
    let (mine, yours) = (mine.expect("a cache"), yours.expect("a cache"));
    let p = mm().kmem_cache_alloc(mine, GFP_KERNEL).expect("an object");
    // SAFETY: the first is refused.
    unsafe {
        mm().kmem_cache_free(yours, p.as_ptr());
        mm().kmem_cache_free(mine, p.as_ptr());
    }
    assert_eq!(mm().kmem_cache_destroy(mine), Ok(()));
    assert_eq!(mm().kmem_cache_destroy(yours), Ok(()));
    books.close_after(1);
}

fn live_objects_of_a_destroyed_cache_are_reported() {
    // S67, S68, S70
    let reports = mm().pages().misuses();
    let cache = mm().kmem_cache_create(&CacheArgs::new("tests-live", 200));
    let cache = cache.expect("a cache");
    for _ in 0..3 {
        mm().kmem_cache_alloc(cache, GFP_KERNEL).expect("an object");
    }
    let result = mm().kmem_cache_destroy(cache);
    assert!(matches!(
        result,
        Err(CacheError::LiveObjects { count: 3, .. })
    ));
    assert_eq!(mm().pages().misuses(), reports + 3);
    // Their memory leaks, so the books are opened after that.
    let books = Ledger::open();
    drop(kmalloc(200));
    books.close();
}
