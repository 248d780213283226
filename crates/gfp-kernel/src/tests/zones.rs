//! Zones: whose memory a request gets.

use super::chain::{Chain, TRY};
use super::disturb;
use super::fixture::{Ledger, free_all, kind_of, kmalloc, machine_has, phys, platform, zones};
use crate::memory::mm;
use alloc::vec::Vec;
use gfp::AllocError;
use gfp::flags::{GFP_KERNEL, Gfp, ZoneKind};
use gfp::frame::{PAGE_SIZE, PhysAddr};
use gfp::page::ZoneStats;
use gfp::platform::Platform;
use gfp::pool::dma::{DmaDevice, DmaMask};
use gfp::slab::{CacheArgs, CacheFlags};

super::tests! { "zones":
    zones_lie_where_their_names_say,
    gfp_dma_is_below_16_mib,
    gfp_dma32_is_below_4_gib,
    a_plain_request_gets_the_highest_zone,
    a_full_zone_sends_its_requests_to_the_next_lower_one,
    low_memory_is_kept_for_those_who_need_it,
    a_device_gets_what_it_reaches,
}

const DMA_END: u64 = 16 << 20;
const DMA32_END: u64 = 4 << 30;

/// The zone kinds that this machine has memory of, lowest first.
fn kinds() -> Vec<ZoneKind> {
    let has = |kind: &ZoneKind| zones().any(|z| z.kind == *kind && z.managed > 0);
    ZoneKind::ALL.into_iter().filter(has).collect()
}

fn zones_lie_where_their_names_say() {
    // P200
    for zone in zones().filter(|zone| zone.managed > 0) {
        let (start, end) = (zone.start.phys().0, zone.start.add(zone.spanned).phys().0);
        match zone.kind {
            ZoneKind::Dma => assert!(end <= DMA_END),
            ZoneKind::Dma32 => assert!(start >= DMA_END && end <= DMA32_END),
            _ => assert!(start >= DMA32_END),
        }
    }
    assert!(kinds().contains(&ZoneKind::Dma) && kinds().contains(&ZoneKind::Dma32));
}

/// Asks every allocator for memory with these flags, all of which must end below `end`.
fn all_end_below(end: u64, gfp: Gfp, cache: CacheFlags) {
    let below = |at: *const u8, size: usize| {
        let last = phys(at).0 + size as u64;
        assert!(last <= end, "{last:#x} is not below {end:#x}");
    };
    for size in [8, 100, 4096, 100_000] {
        let p = mm()
            .kmalloc(size, GFP_KERNEL | gfp)
            .expect("memory is there");
        below(p.as_ptr(), size);
        // SAFETY: freed once.
        unsafe { mm().kfree(p.as_ptr()) }
    }
    for order in [0, 3, 8] {
        let p = mm().get_free_pages(GFP_KERNEL | gfp, order).expect("pages");
        below(p.as_ptr(), PAGE_SIZE << order);
        // SAFETY: freed once.
        unsafe { mm().free_pages(p.as_ptr(), order) }
    }
    let flags = CacheArgs {
        flags: cache,
        ..CacheArgs::new("tests-zone", 600)
    };
    let cache = mm().kmem_cache_create(&flags).expect("a cache");
    let p = mm().kmem_cache_alloc(cache, GFP_KERNEL).expect("an object");
    below(p.as_ptr(), 600);
    // SAFETY: freed once.
    unsafe { mm().kmem_cache_free(cache, p.as_ptr()) }
    assert_eq!(mm().kmem_cache_destroy(cache), Ok(()));
}

fn gfp_dma_is_below_16_mib() {
    // P46, G10
    let books = Ledger::open();
    all_end_below(DMA_END, Gfp::DMA, CacheFlags::CACHE_DMA);
    // To the last: it never comes from elsewhere.
    let (all, _) = Chain::pages(TRY | Gfp::DMA, 3);
    let below = all.len > 100 && all.frames().all(|pfn| pfn.phys() < PhysAddr(DMA_END));
    all.free_pages(3);
    assert!(below, "all of it is below 16 MiB");
    books.close();
}

fn gfp_dma32_is_below_4_gib() {
    // P46
    let books = Ledger::open();
    // kmalloc refuses DMA32 (S17): pages and caches only.
    let refused = mm().kmalloc(8, GFP_KERNEL | Gfp::DMA32);
    assert!(matches!(refused, Err(AllocError::BadFlags(_))));
    let held: [_; 64] = core::array::from_fn(|_| {
        let pfn = mm().alloc_pages(GFP_KERNEL | Gfp::DMA32, 9).expect("pages");
        assert!(pfn.phys() < PhysAddr(DMA32_END));
        pfn
    });
    free_all(&held, 9);
    let args = CacheArgs {
        flags: CacheFlags::CACHE_DMA32,
        ..CacheArgs::new("tests-dma32", 700)
    };
    let cache = mm().kmem_cache_create(&args).expect("a cache");
    let p = mm().kmem_cache_alloc(cache, GFP_KERNEL).expect("an object");
    assert!(phys(p.as_ptr()) < PhysAddr(DMA32_END));
    // SAFETY: freed once.
    unsafe { mm().kmem_cache_free(cache, p.as_ptr()) }
    assert_eq!(mm().kmem_cache_destroy(cache), Ok(()));
    books.close();
    machine_has("memory above 4 GiB", kinds().contains(&ZoneKind::Normal));
}

fn a_plain_request_gets_the_highest_zone() {
    // P201
    let books = Ledger::open();
    let highest = kinds().last().copied();
    let pfn = mm().alloc_pages(GFP_KERNEL, 0).expect("pages");
    assert_eq!(Some(kind_of(pfn)), highest);
    let object = kmalloc(700);
    let at = mm().virt_to_pfn(object.ptr().addr()).expect("a frame");
    assert_eq!(Some(kind_of(at)), highest);
    drop(object);
    free_all(&[pfn], 0);
    books.close();
}

/// Pages that a zone could give to a plain request for blocks of order 9.
fn may_give(zone: &ZoneStats) -> usize {
    let blocks: usize = zone.nr_free[9].iter().sum();
    let double: usize = zone.nr_free[10].iter().sum();
    let kept = zone.watermarks.low + zone.protection[ZoneKind::Normal as usize];
    zone.free
        .free
        .saturating_sub(kept)
        .min((blocks + 2 * double) << 9)
}

fn a_full_zone_sends_its_requests_to_the_next_lower_one() {
    // P201, P202, P275
    let books = Ledger::open();
    let _quiet = disturb::quiet(); // what handlers give back could be had again
    let node = platform().node();
    let mut held = Chain::new();
    let mut at = None;
    let mut most_left = 0;
    let mut order = Vec::with_capacity(8);
    let all_on_node = loop {
        let Ok(block) = mm().get_free_pages(TRY | Gfp::THISNODE, 9) else {
            break true;
        };
        held.push(block.as_ptr());
        let pfn = mm().pages().pfn_of(block.addr().get());
        if mm().pages().node_of(pfn) != node {
            break false;
        }
        let kind = kind_of(pfn);
        if at == Some(kind) {
            continue;
        }
        // The one before has no block left that it may give.
        let before = at.and_then(|kind| zones().find(|z| z.node == node && z.kind == kind));
        most_left = before.map_or(0, |zone| may_give(&zone)).max(most_left);
        at = Some(kind);
        if !order.contains(&kind) {
            order.push(kind);
        }
    };
    held.free_pages(9);
    assert!(all_on_node);
    assert!(most_left < 2 << 9, "{most_left} pages were left in a zone");
    assert!(order.is_sorted_by(|a, b| a > b), "{order:?}");
    drop(order);
    books.close();
}

fn low_memory_is_kept_for_those_who_need_it() {
    // P207, P703
    let books = Ledger::open();
    let (large, _) = Chain::pages(TRY, 9);
    let (rest, _) = Chain::pages(TRY, 4);
    // Who can use any zone has used all it may; who needs low memory is still served.
    let (low, _) = Chain::pages(TRY | Gfp::DMA, 0);
    let kept = low.len;
    let below = low.frames().all(|pfn| pfn.phys() < PhysAddr(DMA_END));
    low.free_pages(0);
    rest.free_pages(4);
    large.free_pages(9);
    assert!(kept > 100, "{kept} pages were kept");
    assert!(below, "all of them below 16 MiB");
    books.close();
}

fn a_device_gets_what_it_reaches() {
    // M10
    let books = Ledger::open();
    for bits in [24, 32, 64] {
        let device = DmaDevice::new(DmaMask::bits(bits));
        let (p, dma) = mm()
            .dma_alloc_coherent(&device, 20_000, GFP_KERNEL)
            .expect("memory is there");
        assert!(dma.0 + 20_000 - 1 <= DmaMask::bits(bits).highest());
        assert_eq!(phys(p.as_ptr()).0, dma.0, "no bus in between");
        // SAFETY: freed once, as it was allocated.
        unsafe { mm().dma_free_coherent(&device, 20_000, p.as_ptr(), dma) }
    }
    books.close();
}
