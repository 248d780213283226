//! The rows: every operation of the project's table of peers that exists.

use super::Report;
use crate::memory::mm;
use crate::platform::Machine;
use alloc::format;
use alloc::vec::Vec;
use core::hint::black_box;
use core::ptr::null_mut;
use gfp::context::{InTask, Kernel};
use gfp::flags::{GFP_ATOMIC, GFP_KERNEL, Gfp};
use gfp::frame::{PAGE_SIZE, Pfn};
use gfp::platform::Platform;
use gfp::slab::CacheArgs;

/// Pairs in a round.
const N: usize = 2000;

/// Prints all rows that the report wants.
pub(super) fn all(report: &mut Report<'_>) {
    floor(report);
    kmalloc(report);
    kmalloc_batches(report);
    caches(report);
    pages(report);
    areas(report);
}

fn floor(report: &mut Report<'_>) {
    let machine: &Machine = mm().platform();
    report.pairs("section", N, &mut |_| drop(black_box(machine.enter())));
}

/// One pair of kmalloc and kfree.
#[inline(always)]
fn pair(size: usize, gfp: Gfp) {
    if let Ok(p) = mm().kmalloc(size, gfp) {
        // SAFETY: freed once.
        unsafe { mm().kfree(black_box(p.as_ptr())) }
    }
}

fn kmalloc(report: &mut Report<'_>) {
    macro_rules! sizes {
        ($($size:literal)*) => {$(
            report.pairs(concat!("kmalloc_kernel_", $size), N, &mut |_| pair($size, GFP_KERNEL));
            report.pairs(concat!("kmalloc_atomic_", $size), N, &mut |_| pair($size, GFP_ATOMIC));
        )*};
    }
    sizes!(8 16 32 64 96 128 192 256 512 1024 2048 4096 8192 16384 65536);
    // SAFETY: the benchmark is a task, and no lock is held.
    let task = unsafe { InTask::assume() };
    report.pairs("kmalloc_typed_64", N, &mut |_| {
        if let Ok(p) = mm().with(&task).kmalloc(64, Kernel) {
            // SAFETY: freed once.
            unsafe { mm().kfree(black_box(p.as_ptr())) }
        }
    });
    report.pairs("kmalloc_obj_64", N, &mut |_| {
        if let Ok(p) = mm().kmalloc_obj::<[u64; 8]>(GFP_KERNEL) {
            // SAFETY: freed once.
            unsafe { mm().kfree(black_box(p.as_ptr().cast())) }
        }
    });
    for size in [64, 256] {
        let name = format!("kmalloc_varsize_{size}");
        report.pairs(&name, N, &mut |_| pair(black_box(size), GFP_KERNEL));
    }
    for size in [64, 4096] {
        let name = format!("kzalloc_{size}");
        report.pairs(&name, N, &mut |_| pair(size, GFP_KERNEL | Gfp::ZERO));
    }
}

/// In which order a batch is freed.
#[derive(Copy, Clone)]
enum Order {
    Lifo,
    Fifo,
    Random,
}

impl Order {
    const ALL: [(Order, &str); 3] = [
        (Order::Lifo, "lifo"),
        (Order::Fifo, "fifo"),
        (Order::Random, "random"),
    ];

    /// The order of `n` things; the random one is the same in each run.
    fn of(self, n: usize) -> Vec<u32> {
        let mut order: Vec<u32> = (0..n as u32).collect();
        match self {
            Order::Fifo => {}
            Order::Lifo => order.reverse(),
            Order::Random => {
                let mut seed = 0x9e37_79b9_7f4a_7c15u64;
                for i in (1..n).rev() {
                    seed ^= seed << 13;
                    seed ^= seed >> 7;
                    seed ^= seed << 17;
                    order.swap(i, (seed % (i as u64 + 1)) as usize);
                }
            }
        }
        order
    }
}

fn kmalloc_batches(report: &mut Report<'_>) {
    let mut batch = |n: usize, size: usize, order: Order, name: &str| {
        let name = format!("kmalloc_batch{n}_{name}_{size}");
        let order = order.of(n);
        let held = alloc::vec![core::cell::Cell::new(null_mut()); n];
        let mut alloc = |i: usize| {
            held[i].set(
                mm().kmalloc(size, GFP_KERNEL)
                    .map_or(null_mut(), |p| p.as_ptr()),
            );
        };
        // SAFETY: each is freed once.
        let mut free = |i: usize| unsafe { mm().kfree(held[order[i] as usize].get()) };
        report.halves(&name, n, &mut alloc, &mut free);
    };
    for n in [16, 128] {
        batch(n, 64, Order::Lifo, "lifo");
    }
    for n in [1000, 10_000] {
        for size in [64, 256, 4096] {
            for (order, name) in Order::ALL {
                batch(n, size, order, name);
            }
        }
    }
}

fn caches(report: &mut Report<'_>) {
    for size in [64, 256] {
        let args = CacheArgs::new("bench", size);
        let Ok(cache) = mm().kmem_cache_create(&args) else {
            return;
        };
        report.pairs(&format!("kmem_cache_{size}"), N, &mut |_| {
            if let Ok(p) = mm().kmem_cache_alloc(cache, GFP_KERNEL) {
                // SAFETY: freed once.
                unsafe { mm().kmem_cache_free(cache, black_box(p.as_ptr())) }
            }
        });
        for n in [16, 64] {
            bulk(report, &format!("kmem_cache_bulk{n}_{size}"), cache, n);
        }
        let destroyed = mm().kmem_cache_destroy(cache);
        assert!(destroyed.is_ok(), "every object was freed");
    }
}

/// Bulk calls of `n` objects; the row says the cost of one object.
fn bulk(report: &mut Report<'_>, name: &str, cache: gfp::slab::CacheRef, n: usize) {
    const CALLS: usize = 50;
    if !report.wants(name) {
        return;
    }
    let mut held = alloc::vec![null_mut::<u8>(); n];
    let mut round = || {
        super::ticks(CALLS, &mut |_| {
            let got = mm().kmem_cache_alloc_bulk(cache, GFP_KERNEL, &mut held);
            assert!(got.is_ok());
            // SAFETY: each is freed once.
            unsafe { mm().kmem_cache_free_bulk(cache, &held) }
        })
    };
    round();
    let total = super::median(core::array::from_fn(|_| round()));
    report.row(name, total, CALLS * n);
}

fn pages(report: &mut Report<'_>) {
    for order in [0u8, 1, 2, 3, 4, 9, 10] {
        report.pairs(&format!("page_order{order}"), N, &mut |_| {
            if let Ok(pfn) = mm().alloc_pages(GFP_KERNEL, order) {
                // SAFETY: freed once.
                unsafe { mm().free_frames(black_box(pfn), order) }
            }
        });
    }
    for (n, order) in [(10_000usize, 0u8), (1000, 2), (100, 9)] {
        let held = alloc::vec![core::cell::Cell::new(None::<Pfn>); n];
        let mut alloc = |i: usize| held[i].set(mm().alloc_pages(GFP_KERNEL, order).ok());
        let mut free = |i: usize| {
            if let Some(pfn) = held[i].take() {
                // SAFETY: freed once.
                unsafe { mm().free_frames(pfn, order) }
            }
        };
        report.halves(
            &format!("page_batch{n}_order{order}"),
            n,
            &mut alloc,
            &mut free,
        );
    }
    bulk_pages(report);
}

/// `alloc_pages_bulk` of 512 pages; the row says the cost of one page.
fn bulk_pages(report: &mut Report<'_>) {
    const PAGES: usize = 512;
    const CALLS: usize = 4;
    let name = "page_bulk512";
    if !report.wants(name) {
        return;
    }
    let mut held = alloc::vec![None::<Pfn>; PAGES];
    let mut round = || {
        super::ticks(CALLS, &mut |_| {
            let got = mm().alloc_pages_bulk(GFP_KERNEL, &mut held);
            assert_eq!(got, PAGES);
            for pfn in held.iter_mut().filter_map(Option::take) {
                // SAFETY: freed once.
                unsafe { mm().free_frames(pfn, 0) }
            }
        })
    };
    round();
    let total = super::median(core::array::from_fn(|_| round()));
    report.row(name, total, CALLS * PAGES);
}

fn areas(report: &mut Report<'_>) {
    const CALLS: usize = 50;
    for (name, size) in [("4K", 4 << 10), ("64K", 64 << 10), ("1M", 1 << 20)] {
        report.pairs(&format!("kvmalloc_{name}"), CALLS, &mut |_| {
            if let Ok(p) = mm().kvmalloc(size, GFP_KERNEL) {
                // SAFETY: freed once.
                unsafe { mm().kvfree(black_box(p.as_ptr())) }
            }
        });
    }
    for (name, pages, calls) in [
        ("1page", 1, CALLS),
        ("4pages", 4, CALLS),
        ("16pages", 16, CALLS),
        ("256pages", 256, CALLS),
        ("2MiB", 512, CALLS),
        ("64MiB", 16384, 3),
    ] {
        let held = alloc::vec![core::cell::Cell::new(null_mut()); calls];
        let mut alloc = |i: usize| {
            held[i].set(
                mm().vmalloc(pages * PAGE_SIZE)
                    .map_or(null_mut(), |p| p.as_ptr()),
            );
        };
        // SAFETY: each is freed once.
        let mut free = |i: usize| unsafe { mm().vfree(held[i].get()) };
        report.halves(&format!("vmalloc_{name}"), calls, &mut alloc, &mut free);
    }
}
