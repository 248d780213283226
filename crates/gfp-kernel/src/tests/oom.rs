//! Out of memory, and back: requests fail with a reason, who cannot wait is served from the
//! reserves, and when memory is freed the machine is as before.

use super::chain::{Chain, TRY};
use super::disturb;
use super::fixture::{Ledger, Wrong, cpus, machine_has, patience, settle};
use super::threads::on_all_cpus;
use crate::arch::{time, traps};
use crate::memory::mm;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering, Ordering::Relaxed};
use gfp::AllocError;
use gfp::flags::{GFP_ATOMIC, GFP_KERNEL, Gfp};
use gfp::frame::PAGE_SIZE;

super::tests! { "oom":
    pages_to_the_last_and_the_reserves_still_serve,
    objects_to_the_last_and_all_comes_back,
    all_cpus_run_out_together,
    interrupts_are_served_while_memory_is_out,
    single_pages_are_left_where_no_block_is,
    blocks_grow_together_again,
    a_request_that_must_not_fail_waits_for_a_free,
    areas_and_collections_fail_without_a_loss,
}

/// What is used up here is written to, so a machine with much memory is none for these tests.
fn small_machine() -> bool {
    let bytes = mm().pages().managed_pages() * PAGE_SIZE;
    machine_has("less than 2 GiB of memory", bytes < 2 << 30)
}

fn pages_to_the_last_and_the_reserves_still_serve() {
    // P100, P101, P262
    if !small_machine() {
        return;
    }
    let books = Ledger::open();
    let _quiet = disturb::quiet(); // handlers take from what is kept back, too
    let (pages, error) = Chain::pages(TRY, 0);
    // What cannot wait digs into what was kept back: well over a batch of a CPU's cache.
    let (reserve, _) = Chain::pages(GFP_ATOMIC | Gfp::NOWARN, 0);
    // What handlers give back meanwhile is taken too.
    let quiet = disturb::quiet();
    let (rest, _) = Chain::pages(GFP_ATOMIC | Gfp::NOWARN, 0);
    let more = mm().alloc_pages(TRY, 0);
    drop(quiet);
    let (taken, reserved) = (pages.len, reserve.len);
    rest.free_pages(0);
    reserve.free_pages(0);
    pages.free_pages(0);
    assert!(matches!(error, AllocError::NoMemory { .. }), "{error}");
    assert!(taken > mm().pages().managed_pages() / 2, "{taken} pages");
    assert!(reserved > 200, "{reserved} pages were kept back");
    assert!(more.is_err());
    books.close();
}

fn objects_to_the_last_and_all_comes_back() {
    if !small_machine() {
        return;
    }
    let books = Ledger::open();
    for size in [192, 4096, 1 << 20] {
        // Handlers take from what is kept back, too, and have it in the caches of all CPUs then.
        let quiet = disturb::quiet();
        let (objects, error) = Chain::objects(TRY, size);
        let (reserve, _) = Chain::objects(GFP_ATOMIC | Gfp::NOWARN, 192);
        let verified = mm().verify();
        drop(quiet);
        let reserved = reserve.len;
        reserve.free_objects();
        objects.free_objects();
        assert!(matches!(error, AllocError::NoMemory { .. }), "{error}");
        assert!(reserved > 0, "no object beyond {size}");
        verified.expect("all invariants hold");
    }
    books.close();
}

fn all_cpus_run_out_together() {
    if !small_machine() {
        return;
    }
    let books = Ledger::open();
    let all = AtomicUsize::new(0);
    on_all_cpus(|me| {
        for round in 0..3 {
            let (objects, _) = Chain::objects(TRY, 1000 + 500 * me as usize);
            let (pages, _) = Chain::pages(TRY, (me as u8 + round) % 3);
            all.fetch_add(pages.len + objects.len, Relaxed);
            pages.free_pages((me as u8 + round) % 3);
            objects.free_objects();
        }
    });
    assert!(all.load(Relaxed) > 1000);
    books.close();
}

fn interrupts_are_served_while_memory_is_out() {
    if !small_machine() {
        return;
    }
    static SERVED: AtomicUsize = AtomicUsize::new(0);
    let books = Ledger::open();
    let _quiet = disturb::quiet(); // this test's interrupts alone live on what is kept back
    SERVED.store(0, Relaxed);
    let (pages, _) = Chain::pages(TRY, 0);
    traps::ON_TIMER.set(Some(|_| {
        match mm().alloc_pages(GFP_ATOMIC, 0) {
            // SAFETY: freed once.
            Ok(pfn) => unsafe { mm().free_frames(pfn, 0) },
            Err(_) => Wrong::Refused.count(),
        }
        SERVED.fetch_add(1, Relaxed);
    }));
    let limit = patience();
    while SERVED.load(Relaxed) < 20 * cpus() as usize && time::now_ns() < limit {
        Wrong::Other.unless(mm().alloc_pages(TRY, 2).is_err());
    }
    traps::ON_TIMER.set(None);
    pages.free_pages(0);
    assert!(SERVED.load(Relaxed) >= 20);
    books.close();
}

fn single_pages_are_left_where_no_block_is() {
    if !small_machine() {
        return;
    }
    let books = Ledger::open();
    let _quiet = disturb::quiet();
    let (mut pages, _) = Chain::pages(TRY | Gfp::MEMALLOC, 0);
    let (mut even, mut odd) = (Chain::new(), Chain::new());
    while let Some(page) = pages.pop() {
        match page.addr() / PAGE_SIZE % 2 {
            0 => even.push(page),
            _ => odd.push(page),
        }
    }
    // All odd pages are free, and no two pages together.
    let free = odd.len;
    odd.free_pages(0);
    mm().pages().drain_all();
    let block = mm().alloc_pages(TRY, 4);
    let object = mm().kmalloc(1 << 20, TRY);
    // An area needs no block.
    let area = mm().kvmalloc(1 << 20, GFP_KERNEL);
    // SAFETY: freed once.
    area.into_iter()
        .for_each(|p| unsafe { mm().kvfree(p.as_ptr()) });
    let (again, _) = Chain::pages(TRY | Gfp::MEMALLOC, 0);
    let all_again = again.len + 100 > free;
    again.free_pages(0);
    even.free_pages(0);
    assert!(
        matches!(block, Err(AllocError::NoMemory { .. })),
        "{block:?}"
    );
    assert!(
        matches!(object, Err(AllocError::NoMemory { .. })),
        "{object:?}"
    );
    let area = area.expect("single pages are enough").addr().get();
    assert!(mm().is_vmalloc_addr(area));
    assert!(all_again, "single pages can be had");
    books.close();
}

fn blocks_grow_together_again() {
    if !small_machine() {
        return;
    }
    // P340: what was taken page by page is whole again.
    let books = Ledger::open();
    let _quiet = settle();
    let whole = mm().pages().nr_free_by_order();
    let (pages, _) = Chain::pages(TRY, 0);
    pages.free_pages(0);
    mm().trim();
    assert_eq!(mm().pages().nr_free_by_order(), whole);
    books.close();
}

fn a_request_that_must_not_fail_waits_for_a_free() {
    // P132
    if !small_machine() {
        return;
    }
    static HELD: AtomicPtr<u8> = AtomicPtr::new(core::ptr::null_mut());
    static FREED: AtomicUsize = AtomicUsize::new(0);
    let books = Ledger::open();
    FREED.store(0, Relaxed);
    // In a small zone the few pages that handlers give back are enough for who must not fail.
    let _quiet = disturb::quiet();
    let (pages, _) = Chain::pages(TRY, 0);
    let (reserve, _) = Chain::pages(GFP_ATOMIC | Gfp::NOWARN, 0);
    let reserved = reserve.len;
    // Release: pairs with the Acquire in the handler.
    HELD.store(reserve.into_head(), Ordering::Release);
    traps::ON_TIMER.set(Some(|_| {
        // Acquire: pairs with the Release in the test.
        let page = HELD.swap(core::ptr::null_mut(), Ordering::Acquire);
        if !page.is_null() {
            let mut chain = Chain::from_head(page);
            for page in (0..32).map_while(|_| chain.pop()) {
                FREED.fetch_add(1, Relaxed); // first: who waits may have it at once
                // SAFETY: ours, and freed once.
                unsafe { mm().free_pages(page, 0) }
            }
            // Release: pairs with the Acquire above.
            HELD.store(chain.into_head(), Ordering::Release);
        }
    }));
    let page = mm().alloc_pages(GFP_KERNEL | Gfp::NOFAIL, 0);
    let waited = FREED.load(Relaxed) > 0;
    let limit = patience();
    while FREED.load(Relaxed) < reserved && time::now_ns() < limit {
        core::hint::spin_loop();
    }
    traps::ON_TIMER.set(None);
    let page = page.expect("it does not fail");
    // SAFETY: freed once.
    unsafe { mm().free_frames(page, 0) }
    pages.free_pages(0);
    assert!(waited, "there was nothing to have before the first free");
    books.close();
}

fn areas_and_collections_fail_without_a_loss() {
    if !small_machine() {
        return;
    }
    let books = Ledger::open();
    let (mut pages, _) = Chain::pages(TRY, 0);
    let before = mm().pages().free_page_count();
    let area = mm().vmalloc(before * PAGE_SIZE + (8 << 20));
    let mut bytes = alloc::vec::Vec::<u8>::new();
    let much = bytes.try_reserve(64 << 20);
    let absurd = bytes.try_reserve(1 << 45);
    for _ in 0..2000 {
        let Some(page) = pages.pop() else { break };
        // SAFETY: freed once.
        unsafe { mm().free_pages(page, 0) }
    }
    let little = bytes.try_reserve(4 << 20);
    drop(bytes);
    pages.free_pages(0);
    assert!(area.is_err() && much.is_err() && absurd.is_err());
    assert!(little.is_ok(), "then there was memory");
    books.close();
}
