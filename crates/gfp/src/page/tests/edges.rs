//! What is rare: frees that race, memory on its way to the platform, requests that no zone can
//! serve, odd maps.

use crate::error::AllocError;
use crate::flags::{GFP_DMA, GFP_HIGHUSER, GFP_KERNEL, GFP_NOWAIT, Gfp, MigrateType, ZoneKind};
use crate::frame::{FrameKind, FrameWord, NodeId, Order, PAGEBLOCK_PAGES, Pfn, PhysAddr};
use crate::page::{Alone, BootConfig, BootError, MemoryRegion};
use crate::page::{PageAllocator, PageRequest, Place, Relief};
use crate::policy::effort::Machine as Abilities;
use crate::report::{Misuse, OnMisuse};
use crate::sync::Local;
use crate::testing::{TestPlatform, pages, region};
use core::sync::atomic::Ordering;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::vec::Vec;

const MIB: u64 = 1 << 20;
const BASE: u64 = 4 << 30;
const O0: Order = Order::ZERO;

type Machine = PageAllocator<TestPlatform>;

fn order(o: u8) -> Order {
    Order::new(o).unwrap()
}

fn try_get(machine: &Machine, gfp: Gfp, o: u8) -> Result<Pfn, AllocError> {
    machine.alloc(&PageRequest::new(gfp, order(o)))
}

fn get(machine: &Machine, gfp: Gfp, o: u8) -> Pfn {
    try_get(machine, gfp, o).unwrap()
}

fn put(machine: &Machine, pfn: Pfn, o: u8) -> Result<(), Misuse> {
    // SAFETY: tests free what they own, or a block that the allocator refuses.
    unsafe { machine.free(pfn, order(o)) }
}

fn exhaust(machine: &Machine, gfp: Gfp, o: u8) -> Vec<Pfn> {
    core::iter::from_fn(|| try_get(machine, gfp, o).ok()).collect()
}

fn boot(bytes: u64, map: &[MemoryRegion], config: BootConfig) -> Machine {
    let start = map[0].start.0 / (4 * MIB) * (4 * MIB);
    PageAllocator::boot(TestPlatform::new(start, bytes as usize), map, &config).unwrap()
}

fn node(n: u8, start: u64, end: u64) -> MemoryRegion {
    MemoryRegion {
        node: NodeId(n),
        ..region(start, end)
    }
}

/// A page in the caches of CPU 0 and CPU 1: what two frees leave that run at the same time.
fn freed_twice(machine: &Machine) -> Pfn {
    machine.platform().on(0);
    let pfn = get(machine, GFP_KERNEL, 0);
    put(machine, pfn, 0).unwrap();
    machine.set_word(pfn, FrameWord::new(FrameKind::Page, O0, 1));
    machine.platform().on(1);
    put(machine, pfn, 0).unwrap();
    pfn
}

#[test]
fn a_page_that_was_freed_twice_at_once_is_given_out_once() {
    let machine = pages(64);
    let pfn = freed_twice(&machine);
    assert_eq!(get(&machine, GFP_KERNEL, 0), pfn, "CPU 1 has it cached");
    machine.platform().on(0);
    let others: Vec<_> = (0..300).map(|_| get(&machine, GFP_KERNEL, 0)).collect();
    assert!(!others.contains(&pfn), "CPU 0 had it cached too");
    assert_eq!(machine.misuses(), 1);
    assert!(machine.platform().reports()[0].contains("double free"));
}

#[test]
fn a_page_that_was_freed_twice_at_once_is_not_freed_under_its_new_owner() {
    let machine = pages(64);
    let pfn = freed_twice(&machine);
    assert_eq!(get(&machine, GFP_KERNEL, 0), pfn);
    machine.drain_all(); // of CPU 0, among others
    assert!(!machine.is_free(pfn), "its owner is there");
    assert_eq!(machine.misuses(), 1);
    put(&machine, pfn, 0).unwrap();
    machine.drain_all();
    machine.verify().unwrap();
}

#[test]
fn a_panic_on_misuse_leaves_the_books_in_order() {
    let config = BootConfig {
        on_misuse: OnMisuse::Panic,
        memory_is_zero: true,
        ..BootConfig::default()
    };
    let machine = boot(64 * MIB, &[region(BASE, BASE + 64 * MIB)], config);
    let twice: Vec<_> = (0..3).map(|_| freed_twice(&machine)).collect();
    for _ in 0..16 {
        if catch_unwind(AssertUnwindSafe(|| machine.drain_all())).is_ok() {
            break;
        }
        machine.verify().unwrap();
    }
    assert_eq!(machine.cached_page_count(), 0);
    assert!(machine.misuses() > 0 && twice.iter().all(|pfn| machine.is_free(*pfn)));
    machine.verify().unwrap();
}

#[test]
fn a_block_of_the_largest_order_comes_back_whole_or_not_at_all() {
    let machine = pages(64);
    let pfn = get(&machine, GFP_KERNEL, 10);
    let half = pfn.add(PAGEBLOCK_PAGES);
    let local = Local::enter(machine.platform()).unwrap();
    let mut guard = machine.zones[0].lock(&machine.blocks, &local);
    assert!(guard.put(half, Order::PAGEBLOCK));
    let free = machine.free_page_count();
    assert!(!guard.put(pfn, Order::MAX), "its second half is free");
    assert_eq!(machine.free_page_count(), free, "and nothing changed");
    assert!(!machine.is_free(pfn));
}

#[test]
fn a_cache_full_of_one_order_makes_room_for_another() {
    // P327
    let machine = pages(256);
    let mut big: Vec<_> = (0..200).map(|_| get(&machine, GFP_KERNEL, 5)).collect();
    let small: Vec<_> = (0..64).map(|_| get(&machine, GFP_KERNEL, 0)).collect();
    let mut reclaimable: Vec<_> = (0..200)
        .map(|_| get(&machine, GFP_KERNEL | Gfp::RECLAIMABLE, 4))
        .collect();
    machine.drain_all();
    big.drain(..).for_each(|pfn| put(&machine, pfn, 5).unwrap());
    reclaimable
        .drain(..)
        .for_each(|pfn| put(&machine, pfn, 4).unwrap());
    // When it has just been freed, each is cached.
    let cached = small.iter().filter(|pfn| {
        put(&machine, **pfn, 0).unwrap();
        !machine.is_free(**pfn)
    });
    let cached = cached.count();
    assert!(cached >= small.len() / 2, "{cached} pages found room");
    machine.drain_all();
    machine.verify().unwrap();
}

#[test]
fn a_tiny_zone_caches_nothing_ahead() {
    // P324, P326: the batch is one page
    let machine = pages(16);
    get(&machine, GFP_KERNEL, 0);
    assert_eq!(machine.cached_page_count(), 0);
}

#[test]
fn a_batch_never_goes_below_the_mark() {
    // P269: the caches are filled only from what is above.
    let machine = pages(256);
    let zone = &machine.zones[0];
    loop {
        let before = zone.free_pages();
        if try_get(&machine, GFP_NOWAIT, 0).is_err() {
            break;
        }
        assert!(zone.free_pages() >= zone.watermarks().min, "{before}");
    }
    assert_eq!(zone.free_pages(), zone.watermarks().min);
}

#[test]
fn no_request_fails_because_its_memory_is_being_reported() {
    let machine = pages(32);
    let mut held = exhaust(&machine, GFP_KERNEL, 9);
    put(&machine, held.pop().unwrap(), 9).unwrap();
    let peak = machine.peak_pages();
    let platform = machine.platform();
    platform.slow_discard.store(true, Ordering::Release);
    let got = std::thread::scope(|scope| {
        scope.spawn(|| machine.trim());
        while !platform.discarding.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
        platform.on(1);
        let got = try_get(&machine, GFP_KERNEL, 9);
        platform.slow_discard.store(false, Ordering::Release);
        got
    });
    assert!(got.is_ok(), "{got:?}");
    // The block was used before; the caches of CPU 1 took a page.
    assert!(machine.peak_pages() <= peak + 1, "reporting is no use");
    machine.verify().unwrap();
}

#[test]
fn a_request_that_no_zone_can_serve_is_told_so_at_once() {
    let machine = pages(16);
    let mut req = PageRequest::new(GFP_KERNEL | Gfp::NOFAIL, O0);
    req.place = Some(Place::near(NodeId(200)));
    assert_eq!(machine.alloc(&req), Err(AllocError::NoSuchNode));
    req.place = Some(Place::near(NodeId(3)));
    assert!(machine.alloc(&req).is_ok(), "the nearest node with memory");
    req.gfp |= Gfp::THISNODE;
    assert_eq!(machine.alloc(&req), Err(AllocError::NoSuchNode));
    let dma = try_get(&machine, GFP_KERNEL | GFP_DMA, 0);
    assert_eq!(dma, Err(AllocError::NoSuchNode), "no memory so low");
    assert_eq!(machine.alloc_bulk(&req, &mut [None; 4]), 0);
}

/// The zones of the machine change while a request looks what it may do.
struct Busy;

impl Relief<TestPlatform> for Busy {
    fn machine(&self, pages: &PageAllocator<TestPlatform>) -> Abilities {
        pages.changes.step();
        pages.changes.step();
        Relief::<TestPlatform>::machine(&Alone, pages)
    }
}

#[test]
fn a_request_that_no_zone_can_serve_ends_though_zones_change_meanwhile() {
    // P111: a change that brought it no zone is none to wait for.
    let machine = pages(16);
    let mut req = PageRequest::new(GFP_KERNEL | Gfp::NOFAIL | Gfp::THISNODE, O0);
    req.place = Some(Place::near(NodeId(3)));
    let got = machine.alloc_with(&req, &Busy);
    assert_eq!(got, Err(AllocError::NoSuchNode));
}

#[test]
fn a_zone_that_is_not_configured_counts_as_normal() {
    // P47
    let config = BootConfig {
        dma_end: None,
        dma32_end: None,
        ..BootConfig::default()
    };
    let machine = boot(16 * MIB, &[region(BASE, BASE + 16 * MIB)], config);
    for selector in [GFP_DMA, Gfp::DMA32, Gfp::HIGHMEM] {
        get(&machine, GFP_KERNEL | selector, 0);
    }
}

#[test]
fn zeroed_pages_come_from_memory_that_the_direct_map_shows() {
    // P2, P9
    let config = BootConfig {
        highmem_start: Some(PhysAddr(BASE + 32 * MIB)),
        ..BootConfig::default()
    };
    let machine = boot(64 * MIB, &[region(BASE, BASE + 64 * MIB)], config);
    let high = PhysAddr(BASE + 32 * MIB).pfn();
    assert!(get(&machine, GFP_HIGHUSER, 0) >= high);
    assert!(get(&machine, GFP_HIGHUSER | Gfp::ZERO, 0) < high);
}

#[test]
fn bulk_stays_on_its_node() {
    // P344
    let map = [
        node(0, BASE, BASE + 32 * MIB),
        node(1, BASE + 32 * MIB, BASE + 64 * MIB),
    ];
    let machine = boot(64 * MIB, &map, BootConfig::default());
    let mut out = std::vec![None; 10_000];
    let n = machine.alloc_bulk(&PageRequest::new(GFP_KERNEL, O0), &mut out);
    assert!(n > 4000, "{n}");
    assert!(
        out[..n]
            .iter()
            .flatten()
            .all(|p| machine.node_of(*p).0 == 0)
    );
    // One page comes all the same.
    let mut one = [None; 2];
    assert_eq!(
        machine.alloc_bulk(&PageRequest::new(GFP_KERNEL, O0), &mut one),
        1
    );
    assert_eq!(machine.node_of(one[0].unwrap()), NodeId(1));
}

#[test]
fn a_split_keeps_the_references_of_the_first_page() {
    // P347
    let machine = pages(16);
    let pfn = get(&machine, GFP_KERNEL, 1);
    assert!(machine.get_ref(pfn));
    machine.split(pfn, order(1));
    put(&machine, pfn.add(1), 0).unwrap();
    put(&machine, pfn, 0).unwrap();
    assert_eq!(
        machine.frames().get(pfn).payload(),
        1,
        "one reference is left"
    );
    put(&machine, pfn, 0).unwrap();
    assert_eq!(put(&machine, pfn, 0), Err(Misuse::DoubleFree));
    // A word without a reference is no owner's.
    let pfn = get(&machine, GFP_KERNEL, 0);
    machine.set_word(pfn, FrameWord::new(FrameKind::Page, O0, 0));
    assert_eq!(put(&machine, pfn, 0), Err(Misuse::DoubleFree));
}

#[test]
fn a_drain_takes_what_was_put_off() {
    // P173
    let machine = pages(16);
    let pfn = get(&machine, GFP_KERNEL, 4);
    machine.platform().nested.store(true, Ordering::Relaxed);
    put(&machine, pfn, 4).unwrap();
    machine.platform().nested.store(false, Ordering::Relaxed);
    machine.drain_all();
    assert!(machine.is_free(pfn));
    machine.verify().unwrap();
}

#[test]
fn movable_memory_is_found_below_a_region_too_small_for_it() {
    // P206
    let config = BootConfig {
        movable_bytes: 8 * MIB,
        ..BootConfig::default()
    };
    let map = [
        region(BASE, BASE + 32 * MIB),
        region(BASE + 35 * MIB, BASE + 36 * MIB),
    ];
    let machine = boot(36 * MIB, &map, config);
    let movable = machine.zones.iter().find(|z| z.kind == ZoneKind::Movable);
    assert_eq!(movable.map(|z| z.present_pages()), Some(8 * 256));
    machine.verify().unwrap();
}

#[test]
fn a_map_that_spans_more_than_frame_numbers_of_32_bits_is_refused() {
    let far = 1 << 45;
    let map = [region(BASE, BASE + 16 * MIB), region(far, far + 16 * MIB)];
    let platform = TestPlatform::new(BASE, 16 << 20);
    let error = PageAllocator::boot(platform, &map, &BootConfig::default()).err();
    let pages = ((far - BASE) / 4096) as usize + 16 * 256;
    assert_eq!(error, Some(BootError::SpanTooLarge { pages }));
}

#[test]
fn the_frame_at_address_null_is_left_out() {
    use crate::page::boot::first_with_address;
    let identity = crate::platform::DirectMap::new(core::ptr::null_mut(), PhysAddr(0));
    assert_eq!(first_with_address(Pfn(0), identity), Pfn(1));
    assert_eq!(first_with_address(Pfn(7), identity), Pfn(7));
    let shifted =
        crate::platform::DirectMap::new(core::ptr::without_provenance_mut(4096), PhysAddr(0));
    assert_eq!(first_with_address(Pfn(0), shifted), Pfn(0));
}

#[test]
fn odd_maps_boot_and_give_all_they_have() {
    // A base that is odd in every unit, holes inside a pageblock, regions smaller than a page or
    // between two frames, a last block that is not whole, a zone limit in the middle.
    let config = BootConfig {
        dma32_end: Some(PhysAddr(BASE + 14 * MIB)),
        ..BootConfig::default()
    };
    let map = [
        region(BASE + 2 * MIB + 12345, BASE + 2 * MIB + 12346),
        region(BASE + 2 * MIB + 20480, BASE + 2 * MIB + 45056),
        region(BASE + 2 * MIB + 45056, BASE + 2 * MIB + 53249),
        region(BASE + 3 * MIB + 1, BASE + 21 * MIB + 8191),
    ];
    let machine = boot(24 * MIB, &map, config);
    machine.verify().unwrap();
    let whole = 6 + 2 + (18 * 256); // without the half pages at the ends
    assert_eq!(machine.managed_pages() + machine.metadata_pages(), whole);
    let kinds: Vec<_> = machine.zones.iter().map(|z| z.kind).collect();
    assert_eq!(kinds, [ZoneKind::Dma32, ZoneKind::Normal]);
    let all = exhaust(&machine, GFP_NOWAIT | Gfp::MEMALLOC, 0);
    assert_eq!(machine.free_page_count() + machine.cached_page_count(), 0);
    assert!(
        all.len() >= machine.managed_pages() - 2,
        "but for the CPU's caches"
    );
    machine.verify().unwrap();
    all.iter().for_each(|pfn| put(&machine, *pfn, 0).unwrap());
    machine.drain_all();
    machine.verify().unwrap();
}

#[test]
fn machines_of_every_small_size_boot_or_say_why_not() {
    let mut booted = 0;
    for kib in (8..2048).step_by(68) {
        let end = BASE + kib * 1024 / 4096 * 4096;
        let platform = TestPlatform::new(BASE, 4 << 20);
        match PageAllocator::boot(platform, &[region(BASE, end)], &BootConfig::default()) {
            Ok(machine) => {
                let all = exhaust(&machine, GFP_NOWAIT | Gfp::MEMALLOC, 0);
                assert!(!all.is_empty(), "{kib} KiB");
                machine.verify().unwrap();
                booted += 1;
            }
            Err(e) => assert!(matches!(e, BootError::NoRoomForMetadata { .. }), "{e}"),
        }
    }
    assert!(booted > 20, "{booted}");
}

#[test]
fn a_batch_is_the_pages_of_one_run_and_the_rest_stays_counted() {
    // P305
    let machine = pages(64);
    let local = Local::enter(machine.platform()).unwrap();
    for (wanted, o) in [
        (1, 0),
        (3, 0),
        (63, 0),
        (64, 0),
        (100, 0),
        (511, 0),
        (600, 0),
        (5, 3),
    ] {
        let mut guard = machine.zones[0].lock(&machine.blocks, &local);
        let taken = guard.take(order(o), MigrateType::Movable, wanted).unwrap();
        drop(guard);
        assert!(taken.blocks >= 1 && taken.blocks <= wanted);
        machine.verify().unwrap();
        let mut guard = machine.zones[0].lock(&machine.blocks, &local);
        for i in 0..taken.blocks {
            assert!(guard.put(taken.pfn.add(i << o), order(o)));
        }
        drop(guard);
        machine.verify().unwrap();
    }
}

#[test]
fn one_free_reports_only_some_of_what_boot_left_to_report() {
    let config = BootConfig {
        memory_is_zero: false,
        ..BootConfig::default()
    };
    let machine = boot(256 * MIB, &[region(BASE, BASE + 256 * MIB)], config);
    let pfn = get(&machine, GFP_KERNEL, 10);
    put(&machine, pfn, 10).unwrap();
    let reported = || machine.platform().discarded.load(Ordering::Relaxed) / PAGEBLOCK_PAGES;
    assert_eq!(reported(), 64);
    machine.trim();
    assert!(reported() >= 125, "{}", reported());
    machine.verify().unwrap();
}
