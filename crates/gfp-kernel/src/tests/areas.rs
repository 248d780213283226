//! vmalloc and kvmalloc as an allocator: who gets what, on all CPUs. What the page tables do is
//! shown by `paging`.

use super::fixture::{Ledger, Random, Wrong, all_bytes, kmalloc, patience};
use super::threads::on_all_cpus;
use crate::arch::{time, traps};
use crate::memory::mm;
use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering, Ordering::Relaxed};
use gfp::AllocError;
use gfp::flags::GFP_KERNEL;
use gfp::frame::PAGE_SIZE;
use gfp::stat::View;

super::tests! { "areas":
    small_requests_are_contiguous_and_large_ones_are_areas,
    areas_read_as_zero_where_that_is_asked,
    resizing_an_area_keeps_its_content,
    what_is_too_large_is_refused,
    misused_areas_are_reported,
    areas_are_listed_with_who_asked,
    areas_of_all_cpus_stay_apart,
    an_area_freed_in_an_interrupt_is_unmapped_later,
}

fn vfree(p: *mut u8) {
    // SAFETY: the tests free each once, or to see it refused.
    unsafe { mm().vfree(p) }
}

fn small_requests_are_contiguous_and_large_ones_are_areas() {
    // V29, V32, V34
    let books = Ledger::open();
    for (size, area) in [
        (0, false),
        (100, false),
        (PAGE_SIZE, false),
        (6 << 20, true),
    ] {
        let p = mm().kvmalloc(size, GFP_KERNEL).expect("memory is there");
        assert_eq!(mm().is_vmalloc_addr(p.addr().get()), area, "{size}");
        // SAFETY: ours, and freed once.
        unsafe {
            p.write_bytes(0x11, size);
            assert!(all_bytes(p.as_ptr(), size, 0x11));
            mm().kvfree(p.as_ptr());
        }
    }
    books.close();
}

fn areas_read_as_zero_where_that_is_asked() {
    // V1
    let books = Ledger::open();
    for size in [1, PAGE_SIZE + 1, 300_000] {
        let dirty = mm().vmalloc(size).expect("memory is there").as_ptr();
        // SAFETY: ours, and freed once.
        unsafe { dirty.write_bytes(0xff, size) }
        vfree(dirty);
        let clean = mm().vzalloc(size).expect("memory is there").as_ptr();
        // SAFETY: ours.
        assert!(unsafe { all_bytes(clean, size, 0) }, "{size}");
        vfree(clean);
    }
    books.close();
}

fn resizing_an_area_keeps_its_content() {
    // V11, V33
    let books = Ledger::open();
    let mut at = core::ptr::null_mut();
    let mut old = 0;
    for size in [100, 5000, 9 << 20, 2 << 20, 20_000, 10] {
        // SAFETY: what the last call gave.
        unsafe {
            let new = mm().kvrealloc(at, size, GFP_KERNEL);
            at = new.expect("memory is there").as_ptr();
            assert!(all_bytes(at, size.min(old), 0x42), "{old} to {size}");
            at.write_bytes(0x42, size);
        }
        old = size;
    }
    // SAFETY: freed once.
    unsafe { mm().kvfree(at) }
    books.close();
}

fn what_is_too_large_is_refused() {
    // V3, V29
    let books = Ledger::open();
    assert_eq!(mm().vmalloc(0), Err(AllocError::ZeroSize));
    let machine = mm().pages().managed_pages() * PAGE_SIZE;
    assert!(mm().vmalloc(machine + PAGE_SIZE).is_err());
    assert!(mm().kvmalloc(1 << 40, GFP_KERNEL).is_err());
    let overflow = mm().vmalloc_array(usize::MAX, 2);
    assert_eq!(overflow, Err(AllocError::Overflow));
    books.close();
}

fn misused_areas_are_reported() {
    // V10
    let books = Ledger::open();
    let area = mm()
        .vmalloc(3 * PAGE_SIZE)
        .expect("memory is there")
        .as_ptr();
    vfree(area.wrapping_add(PAGE_SIZE));
    let object = kmalloc(64);
    vfree(object.ptr());
    drop(object);
    vfree(area);
    vfree(area);
    books.close_after(3);
}

fn areas_are_listed_with_who_asked() {
    // V28
    let books = Ledger::open();
    let area = mm()
        .vmalloc(7 * PAGE_SIZE)
        .expect("memory is there")
        .as_ptr();
    let mut text = alloc::string::String::new();
    View::Vmallocinfo.write(mm(), &mut text).expect("room");
    let start = alloc::format!("{:#x}-", area.addr());
    let line = text.lines().find(|line| line.starts_with(&start));
    let line = line.expect("it is listed");
    assert!(
        line.contains("areas.rs") && line.contains("pages=7"),
        "{line}"
    );
    drop((text, start));
    vfree(area);
    books.close();
}

fn areas_of_all_cpus_stay_apart() {
    // V1, V2: each word of each area says whose it is.
    let books = Ledger::open();
    on_all_cpus(|me| {
        let mut random = Random(me.into());
        let mut held: [Option<(*mut u64, usize)>; 6] = [None; 6];
        let mark = |n: usize, i: usize| u64::from(me) << 48 | (n as u64) << 24 | i as u64;
        for n in 0..400 {
            let place = &mut held[random.below(6)];
            if let Some((at, words)) = place.take() {
                // SAFETY: ours until it is freed.
                let word = |i: usize| unsafe { at.wrapping_add(i).read_volatile() };
                let first = word(0);
                let same = (0..words).step_by(64).all(|i| word(i) == first + i as u64);
                Wrong::Content.unless(same && first >> 48 == u64::from(me));
                vfree(at.cast());
            } else if let Ok(area) = mm().vmalloc((random.below(20) + 1) * PAGE_SIZE) {
                let at = area.as_ptr().cast::<u64>();
                let words = mm().kvsize(at.cast()).unwrap_or(0) / 8;
                for i in (0..words).step_by(64) {
                    // SAFETY: ours.
                    unsafe { at.add(i).write_volatile(mark(n, i)) }
                }
                *place = Some((at, words));
            } else {
                Wrong::Refused.count();
            }
        }
        held.iter().flatten().for_each(|(at, _)| vfree(at.cast()));
    });
    books.close();
}

fn an_area_freed_in_an_interrupt_is_unmapped_later() {
    // V10: an interrupt may free, but neither wait for other CPUs nor sleep.
    const AREAS: usize = 40;
    static HANDED: AtomicPtr<u8> = AtomicPtr::new(core::ptr::null_mut());
    static FREED: AtomicUsize = AtomicUsize::new(0);
    let books = Ledger::open();
    FREED.store(0, Relaxed);
    traps::ON_TIMER.set(Some(|_| {
        // Acquire: pairs with the Release below.
        let area = HANDED.swap(core::ptr::null_mut(), Ordering::Acquire);
        if !area.is_null() {
            vfree(area);
            FREED.fetch_add(1, Relaxed);
        }
    }));
    let limit = patience();
    for _ in 0..AREAS {
        let area = mm().vmalloc(2 * PAGE_SIZE).expect("memory is there");
        // Release: pairs with the Acquire in the handler.
        HANDED.store(area.as_ptr(), Ordering::Release);
        while !HANDED.load(Relaxed).is_null() && time::now_ns() < limit {
            core::hint::spin_loop();
        }
    }
    while FREED.load(Relaxed) < AREAS && time::now_ns() < limit {
        core::hint::spin_loop();
    }
    traps::ON_TIMER.set(None);
    assert_eq!(FREED.load(Relaxed), AREAS);
    books.close();
}
