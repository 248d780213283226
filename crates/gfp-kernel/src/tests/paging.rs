//! Page tables, vmalloc over them, and shootdown.

use crate::memory::mm;
use crate::paging::{self, shootdown};
use core::ptr::NonNull;
use gfp::frame::PAGE_SIZE;

super::tests! { "paging":
    areas_show_their_frames,
    a_batch_of_frees_costs_one_shootdown,
}

/// A word that depends on the area and the place in it.
fn mark(tag: usize, page: usize) -> u64 {
    (tag as u64) << 32 | page as u64
}

fn fill(at: NonNull<u8>, pages: usize, tag: usize) {
    for page in 0..pages {
        let at = at.as_ptr().wrapping_add(page * PAGE_SIZE).cast::<u64>();
        // SAFETY: the caller owns the area.
        unsafe { at.write_volatile(mark(tag, page)) }
    }
}

fn check(at: NonNull<u8>, pages: usize, tag: usize) {
    for page in 0..pages {
        let at = at.as_ptr().wrapping_add(page * PAGE_SIZE);
        // SAFETY: the caller owns the area; the direct map shows all frames.
        unsafe {
            assert_eq!(at.cast::<u64>().read_volatile(), mark(tag, page));
            let frame = mm().vmalloc_to_pfn(at.addr()).expect("mapped");
            assert_eq!(paging::frame_at(at.addr()), Some(frame.phys()));
            let alias = crate::arch::phys_to_ptr(frame.phys().0).cast::<u64>();
            assert_eq!(alias.read_volatile(), mark(tag, page));
        }
    }
}

fn free(at: NonNull<u8>) {
    // SAFETY: the tests give up what they free.
    unsafe { mm().vfree(at.as_ptr()) }
}

// V1, V2, V12: sizes around a table of 512 pages.
fn areas_show_their_frames() {
    const PAGES: [usize; 6] = [1, 2, 511, 512, 513, 1500];
    let areas = PAGES.map(|pages| {
        let area = mm().vmalloc(pages * PAGE_SIZE).expect("memory is there");
        fill(area, pages, pages);
        area
    });
    for (area, pages) in areas.into_iter().zip(PAGES) {
        check(area, pages, pages);
        let guard = area.as_ptr().addr() + pages * PAGE_SIZE;
        assert_eq!(paging::frame_at(guard), None, "V2");
        free(area);
        assert_eq!(paging::frame_at(area.as_ptr().addr()), None);
    }
    let _quiet = super::disturb::quiet();
    mm().verify().expect("all invariants hold");
}

// V17, V18
fn a_batch_of_frees_costs_one_shootdown() {
    let areas: [_; 40] = core::array::from_fn(|_| mm().vmalloc(PAGE_SIZE).expect("memory"));
    let before = shootdown::sent();
    areas.iter().step_by(2).copied().for_each(free);
    assert_eq!(shootdown::sent(), before, "frees wait for a flush");
    let pages = mm().vmalloc_space().vm_unmap_aliases().expect("a task");
    assert!(pages >= 40, "each with its guard");
    assert_eq!(
        shootdown::sent(),
        before + 1,
        "20 ranges apart, one request"
    );
    areas.iter().skip(1).step_by(2).copied().for_each(free);
}
