//! Certain frames, isolated pageblocks and areas (CMA), while handlers of interrupts and NMIs
//! allocate and free.

use super::fixture::{Ledger, Wrong, free_all, machine_has};
use super::threads::on_all_cpus;
use crate::boot::{AREA, options};
use crate::memory::mm;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use gfp::flags::{GFP_KERNEL, Gfp};
use gfp::frame::{PAGE_SIZE, PAGEBLOCK_PAGES, Pfn};
use gfp::page::IsolateMode;
use gfp::pool::cma::{CmaId, CmaSpec};

super::tests! { "contig":
    frames_side_by_side_are_had_while_handlers_allocate,
    a_page_in_use_keeps_its_block_and_all_is_as_before,
    nothing_is_had_of_isolated_blocks,
    all_cpus_take_from_an_area_and_give_back,
    the_area_of_the_command_line_is_there,
}

/// Writes a number into each page.
fn sign(first: Pfn, pages: usize, number: usize) {
    for i in 0..pages {
        let at = mm().page_address(first.add(i)).cast::<usize>();
        // SAFETY: the caller's pages.
        unsafe { at.write(number + i) }
    }
}

/// Whether each page has the number that was written into it.
fn is_signed(first: Pfn, pages: usize, number: usize) -> bool {
    (0..pages).all(|i| {
        let at = mm().page_address(first.add(i)).cast::<usize>();
        // SAFETY: the caller's pages.
        unsafe { at.read() == number + i }
    })
}

fn frames_side_by_side_are_had_while_handlers_allocate() {
    // P500, P503, P504
    let books = Ledger::open();
    let mut had = 0;
    for round in 0..20 {
        let pages = PAGEBLOCK_PAGES >> (round % 4);
        // Handlers may be in the way of one window after the other: that is an error and no harm.
        let Ok(first) = mm().alloc_contig_pages(pages, GFP_KERNEL, None) else {
            continue;
        };
        assert!(first.0.is_multiple_of(pages));
        sign(first, pages, round << 20);
        let others = mm().alloc_pages(GFP_KERNEL, 3).expect("pages");
        assert!(others.0 + 8 <= first.0 || others.0 >= first.0 + pages);
        free_all(&[others], 3);
        assert!(is_signed(first, pages, round << 20));
        // SAFETY: ours, freed once.
        unsafe { mm().free_contig_range(first, pages) }
        had += 1;
    }
    books.close();
    assert!(had != 0, "not one of 20");
}

fn a_page_in_use_keeps_its_block_and_all_is_as_before() {
    // P501
    let books = Ledger::open();
    let page = mm().alloc_pages(GFP_KERNEL, 0).expect("a page");
    sign(page, 1, 77);
    let start = Pfn(page.0 / PAGEBLOCK_PAGES * PAGEBLOCK_PAGES);
    for _ in 0..20 {
        let got = mm().alloc_contig_range(start..start.add(PAGEBLOCK_PAGES), GFP_KERNEL);
        assert!(got.is_err());
    }
    assert!(is_signed(page, 1, 77));
    free_all(&[page], 0);
    books.close();
}

fn nothing_is_had_of_isolated_blocks() {
    // P511, P512
    let books = Ledger::open();
    let mut isolated = 0;
    for _ in 0..20 {
        let Ok(first) = mm().alloc_contig_pages(PAGEBLOCK_PAGES, GFP_KERNEL, None) else {
            continue;
        };
        // SAFETY: ours, freed once.
        unsafe { mm().free_contig_range(first, PAGEBLOCK_PAGES) }
        let range = first..first.add(PAGEBLOCK_PAGES);
        let Ok(block) = mm()
            .pages()
            .isolate_pages(range.clone(), IsolateMode::Other)
        else {
            continue; // a handler took one of them
        };
        let mut held = [Pfn(0); 256];
        let gfp = GFP_KERNEL.without(Gfp::DIRECT_RECLAIM) | Gfp::NOWARN;
        let mut n = 0;
        for place in &mut held {
            let Ok(pfn) = mm().alloc_pages(gfp, 0) else {
                break;
            };
            *place = pfn;
            n += 1;
        }
        Wrong::Other.unless(held[..n].iter().all(|pfn| !range.contains(pfn)));
        drop(block);
        free_all(&held[..n], 0);
        isolated += 1;
    }
    books.close();
    assert!(isolated != 0, "not one of 20");
}

/// Pages of the area.
const AREA_PAGES: usize = 4 * PAGEBLOCK_PAGES;

/// An area for the test. It stays as long as the machine.
fn area() -> Option<CmaId> {
    let bytes = mm().pages().managed_pages() * PAGE_SIZE;
    if !machine_has("128 MiB of memory", bytes >= 96 << 20) {
        return None;
    }
    let spec = CmaSpec::new("tests", (AREA_PAGES * PAGE_SIZE) as u64);
    (0..100).find_map(|_| mm().cma_create(&spec).ok())
}

fn all_cpus_take_from_an_area_and_give_back() {
    // P505-P508
    static HAD: AtomicUsize = AtomicUsize::new(0);
    let Some(id) = area() else {
        return;
    };
    HAD.store(0, Relaxed);
    let books = Ledger::open();
    let before = mm().cma_stats(id).expect("the area");
    let inside = before.first..before.first.add(AREA_PAGES);
    on_all_cpus(|cpu| {
        for round in 0..10 {
            let pages = 64 << (round % 3);
            let Ok(first) = mm().cma_alloc(id, pages, 4) else {
                continue;
            };
            let number = (cpu as usize * 10 + round) << 20;
            Wrong::Other.unless(inside.contains(&first) && first.0.is_multiple_of(16));
            sign(first, pages, number);
            crate::sched::yield_now();
            Wrong::GivenTwice.unless(is_signed(first, pages, number));
            // SAFETY: ours, freed once.
            Wrong::NotOwned.unless(unsafe { mm().cma_release(id, first, pages) });
            HAD.fetch_add(1, Relaxed);
        }
    });
    // Nothing but movable memory may lie in it: all of it is to be had at once.
    let whole = (0..100).find_map(|_| mm().cma_alloc(id, AREA_PAGES, 0).ok());
    if let Some(first) = whole {
        // SAFETY: ours, freed once.
        Wrong::NotOwned.unless(unsafe { mm().cma_release(id, first, AREA_PAGES) });
    }
    books.close();
    let after = mm().cma_stats(id).expect("the area");
    assert_eq!(after.available_pages, AREA_PAGES);
    assert!(whole == Some(before.first) && HAD.load(Relaxed) != 0);
}

fn the_area_of_the_command_line_is_there() {
    // P505
    let bytes = options().command.cma_bytes;
    if !machine_has("cma= on its command line", bytes != 0) {
        return;
    }
    let id = mm().cma_area(AREA).expect("boot made it");
    let before = mm().cma_stats(id).expect("the area");
    assert_eq!(before.total_pages, bytes as usize / PAGE_SIZE);
    assert_eq!(before.available_pages, before.total_pages);
    // Handlers may be in the way: that is an error and no harm.
    let all = (0..100).find_map(|_| mm().cma_alloc(id, before.total_pages, 0).ok());
    assert_eq!(all, Some(before.first));
    sign(before.first, before.total_pages, 99);
    assert!(is_signed(before.first, before.total_pages, 99));
    // SAFETY: ours, freed once.
    assert!(unsafe { mm().cma_release(id, before.first, before.total_pages) });
}
