//! The text of `/proc` agrees with the machine.

use super::fixture::{Ledger, kmalloc, settle, zones};
use crate::arch::smp;
use crate::memory::mm;
use alloc::string::String;
use alloc::vec::Vec;
use gfp::flags::GFP_KERNEL;
use gfp::slab::CacheArgs;
use gfp::stat::View;

super::tests! { "views":
    buddyinfo_counts_the_free_blocks,
    zoneinfo_shows_each_zone,
    meminfo_adds_up,
    slabinfo_follows_a_cache,
    vmstat_counts_what_happens,
}

fn text(view: View) -> String {
    // Room first: what is counted must not change while it is written.
    let mut text = String::with_capacity(64 << 10);
    view.write(mm(), &mut text).expect("room");
    text
}

/// The number that follows a word at the start of a line.
fn field(text: &str, name: &str) -> usize {
    let mut lines = text.lines().map(str::split_whitespace);
    let mut line = lines.find(|line| line.clone().next() == Some(name));
    let number = line.as_mut().and_then(|line| line.nth(1));
    number
        .and_then(|n| n.parse().ok())
        .expect("the field is there")
}

fn buddyinfo_counts_the_free_blocks() {
    // P610
    let books = Ledger::open();
    let _quiet = settle();
    let held = [(); 7].map(|()| mm().alloc_pages(GFP_KERNEL, 3).expect("pages"));
    let mut text = text(View::Buddyinfo);
    let mut sums = [0usize; 11];
    for zone in zones().filter(|zone| zone.managed > 0) {
        let name = alloc::format!("zone {:>8} ", zone.kind.name());
        let node = alloc::format!("Node {}, ", zone.node.0);
        let line = text
            .lines()
            .find(|l| l.starts_with(&node) && l.contains(&name));
        let numbers = line
            .expect("each zone has a line")
            .split_whitespace()
            .skip(4);
        let numbers: Vec<usize> = numbers.map(|n| n.parse().expect("a number")).collect();
        assert_eq!(numbers.len(), sums.len());
        sums.iter_mut().zip(numbers).for_each(|(sum, n)| *sum += n);
    }
    let pages: usize = sums.iter().enumerate().map(|(order, n)| n << order).sum();
    // Between the two looks each CPU may fill or empty its caches.
    let margin = 512 * smp::count() as usize;
    let free = mm().pages().free_page_count();
    assert!(
        pages.abs_diff(free) < margin,
        "{pages} in the text, {free} free"
    );
    text.clear();
    drop(text);
    super::fixture::free_all(&held, 3);
    books.close();
}

fn zoneinfo_shows_each_zone() {
    // P612
    let books = Ledger::open();
    let text = text(View::Zoneinfo);
    for zone in zones().filter(|zone| zone.managed > 0) {
        let head = alloc::format!("Node {}, zone {:>8}", zone.node.0, zone.kind.name());
        let from = text.find(&head).expect("each zone is shown");
        let part = &text[from..];
        assert_eq!(field(part, "managed"), zone.managed, "{head}");
        assert_eq!(field(part, "spanned"), zone.spanned, "{head}");
        assert_eq!(field(part, "min"), zone.watermarks.min, "{head}");
        assert_eq!(field(part, "start_pfn:"), zone.start.0, "{head}");
    }
    drop(text);
    books.close();
}

fn meminfo_adds_up() {
    // P620
    let books = Ledger::open();
    let _quiet = settle();
    let before = text(View::Meminfo);
    assert_eq!(
        field(&before, "MemTotal:"),
        mm().pages().managed_pages() * 4
    );
    let free = field(&before, "MemFree:");
    assert!(free.abs_diff(mm().pages().free_page_count() * 4) < 1024);
    let slab = field(&before, "Slab:");
    let objects: Vec<_> = (0..4096).map(|_| kmalloc(2048)).collect();
    let after = text(View::Meminfo);
    let (taken, grown) = (
        free - field(&after, "MemFree:"),
        field(&after, "Slab:") - slab,
    );
    assert!(
        (8192..12_000).contains(&grown),
        "8 MiB of objects: {grown} KiB"
    );
    assert!(taken >= grown, "{taken} KiB taken, {grown} KiB in slabs");
    drop((before, after, objects));
    books.close();
}

fn slabinfo_follows_a_cache() {
    // D13
    let books = Ledger::open();
    let cache = mm().kmem_cache_create(&CacheArgs::new("tests-view", 500));
    let cache = cache.expect("a cache");
    let objects: Vec<_> = (0..300)
        .map(|_| mm().kmem_cache_alloc(cache, GFP_KERNEL).expect("memory"))
        .collect();
    let shown = text(View::Slabinfo);
    let line = shown.lines().find(|l| l.starts_with("tests-view "));
    let mut numbers = line.expect("it is shown").split_whitespace().skip(1);
    let mut number = || -> usize {
        numbers
            .next()
            .and_then(|n| n.parse().ok())
            .expect("a number")
    };
    let (active, all, size) = (number(), number(), number());
    assert!((300..=all).contains(&active), "{active} of {all}");
    assert!(size >= 500 && all < 600, "{all} objects of {size}");
    for p in objects {
        // SAFETY: freed once.
        unsafe { mm().kmem_cache_free(cache, p.as_ptr()) }
    }
    assert_eq!(mm().kmem_cache_destroy(cache), Ok(()));
    assert!(!text(View::Slabinfo).contains("tests-view "));
    drop(shown);
    books.close();
}

fn vmstat_counts_what_happens() {
    // P613, P617
    let books = Ledger::open();
    let sum = |text: &str| -> usize {
        [
            "pgalloc_dma",
            "pgalloc_dma32",
            "pgalloc_normal",
            "pgalloc_movable",
        ]
        .map(|name| {
            if text.contains(&alloc::format!("{name} ")) {
                field(text, name)
            } else {
                0
            }
        })
        .iter()
        .sum()
    };
    let before = text(View::Vmstat);
    for _ in 0..1000 {
        let pfn = mm().alloc_pages(GFP_KERNEL, 2).expect("pages");
        super::fixture::free_all(&[pfn], 2);
    }
    let after = text(View::Vmstat);
    assert!(sum(&after) - sum(&before) >= 4000);
    assert!(field(&after, "pgfree") - field(&before, "pgfree") >= 4000);
    drop((before, after));
    books.close();
}
