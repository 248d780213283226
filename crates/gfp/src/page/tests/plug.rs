//! Memory that comes while the machine runs.

use crate::error::AllocError;
use crate::flags::{GFP_DMA32, GFP_KERNEL, Gfp, ZoneKind};
use crate::frame::{NodeId, Order, PAGE_SIZE, Pfn, PhysAddr};
use crate::page::{AddMemoryError, AddedMemory, BootConfig, BootError, MemoryRegion};
use crate::page::{PageAllocator, PageRequest, RegionKind, ZoneStats};
use crate::policy::watermark::{MinFree, min_free_kbytes};
use crate::testing::{TestPlatform, region};
use core::sync::atomic::Ordering::Relaxed;
use std::string::ToString;
use std::vec::Vec;

pub(super) const MIB: u64 = 1 << 20;
pub(super) const BASE: u64 = 4 << 30;

pub(super) type Machine = PageAllocator<TestPlatform>;

pub(super) fn config() -> BootConfig {
    BootConfig {
        memory_is_zero: true,
        memory_block_bytes: 4 * MIB,
        ..BootConfig::default()
    }
}

pub(super) fn node(n: u8, kind: RegionKind, start_mib: u64, end_mib: u64) -> MemoryRegion {
    MemoryRegion {
        node: NodeId(n),
        kind,
        ..region(BASE + start_mib * MIB, BASE + end_mib * MIB)
    }
}

pub(super) fn boot(mib: u64, map: &[MemoryRegion], config: &BootConfig) -> Machine {
    let platform = TestPlatform::new(BASE, (mib * MIB) as usize);
    let machine = PageAllocator::boot(platform, map, config).unwrap();
    machine.verify().unwrap();
    machine
}

/// 16 MiB that are there, a hole of 16, 32 that may be plugged in.
pub(super) fn small() -> Machine {
    let map = [
        node(0, RegionKind::Usable, 0, 16),
        node(0, RegionKind::Hotpluggable, 32, 64),
    ];
    boot(64, &map, &config())
}

pub(super) fn add(
    machine: &Machine,
    from_mib: u64,
    to_mib: u64,
) -> Result<AddedMemory, AddMemoryError> {
    let (start, end) = (BASE + from_mib * MIB, BASE + to_mib * MIB);
    // SAFETY: the platform of a test has all the memory that its map describes.
    let added = unsafe { machine.add_memory(PhysAddr(start), PhysAddr(end)) };
    machine.verify().unwrap();
    added
}

pub(super) fn get(machine: &Machine, gfp: Gfp, order: u8) -> Result<Pfn, AllocError> {
    machine.alloc(&PageRequest::new(gfp, Order::new(order).unwrap()))
}

pub(super) fn put(machine: &Machine, pfn: Pfn, order: u8) {
    // SAFETY: tests free what they own, once.
    unsafe { machine.free(pfn, Order::new(order).unwrap()) }.unwrap();
}

pub(super) fn at(mib: u64) -> PhysAddr {
    PhysAddr(BASE + mib * MIB)
}

#[test]
fn added_memory_is_free_and_given_out() {
    // P516
    let machine = small();
    let before = machine.managed_pages();
    assert_eq!((before + machine.metadata_pages()) * 4, 16 << 10);
    assert!(!machine.is_free(at(40).pfn()));
    assert_eq!(add(&machine, 40, 48).unwrap().pages, 8 * 256);
    assert_eq!(machine.managed_pages(), before + 8 * 256);
    assert!(machine.is_free(at(40).pfn()) && !machine.is_free(at(48).pfn()));
    assert_eq!(machine.peak_pages(), 0);
    let mut live = Vec::new();
    while let Ok(pfn) = get(&machine, GFP_KERNEL, 10) {
        live.push(pfn);
    }
    assert!(live.contains(&at(40).pfn()) && live.contains(&at(44).pfn()));
    for pfn in live {
        put(&machine, pfn, 10);
    }
    machine.verify().unwrap();
}

#[test]
fn what_cannot_be_added_is_refused_with_its_reason_and_nothing_changes() {
    // P514
    let machine = small();
    add(&machine, 36, 44).unwrap();
    let (managed, free) = (machine.managed_pages(), machine.free_page_count());
    let unaligned = AddMemoryError::Unaligned {
        block_bytes: 4 << 20,
    };
    let outside = |mib| AddMemoryError::NotHotpluggable { at: at(mib) };
    let present = |mib| AddMemoryError::AlreadyPresent { at: at(mib) };
    for (from, to, error) in [
        (48, 48, AddMemoryError::Empty),
        (52, 48, AddMemoryError::Empty),
        (46, 52, unaligned),
        (48, 54, unaligned),
        (28, 36, outside(28)), // starts in a hole
        (60, 68, outside(64)), // ends above all memory
        (200, 204, outside(200)),
        (8, 12, present(8)),   // there since boot
        (36, 44, present(36)), // added before
        (32, 40, present(36)), // half of it added before
    ] {
        assert_eq!(add(&machine, from, to), Err(error), "{from}..{to}");
    }
    // SAFETY: below all memory, and at the end of all addresses: refused.
    unsafe {
        let low = machine.add_memory(PhysAddr(0), PhysAddr(4 * MIB));
        assert_eq!(
            low,
            Err(AddMemoryError::NotHotpluggable { at: PhysAddr(0) })
        );
        let high = PhysAddr(u64::MAX - 4 * MIB + 1);
        let high = machine.add_memory(PhysAddr(high.0 - 4 * MIB), high);
        assert!(matches!(high, Err(AddMemoryError::NotHotpluggable { .. })));
    }
    machine.platform().nested.store(true, Relaxed);
    // SAFETY: refused.
    let nested = unsafe { machine.add_memory(at(48), at(52)) };
    machine.platform().nested.store(false, Relaxed);
    assert_eq!(nested, Err(AddMemoryError::Nested));
    assert_eq!(machine.managed_pages(), managed);
    assert_eq!(machine.free_page_count(), free);
    assert!(
        unaligned.to_string().contains("blocks of 4 MiB"),
        "{unaligned}"
    );
    add(&machine, 32, 36).unwrap();
    add(&machine, 44, 64).unwrap();
}

#[test]
fn marks_and_reserves_are_those_of_a_machine_that_had_the_memory_from_the_start() {
    // P207, P212, P213, P218, P325. The amount that is shared out is given, so that it is the same.
    let config = BootConfig {
        min_free_kbytes: Some(4000),
        dma32_end: Some(PhysAddr(BASE + 64 * MIB)),
        ..config()
    };
    let [whole, grown] = [RegionKind::Usable, RegionKind::Hotpluggable].map(|kind| {
        let map = [
            node(0, RegionKind::Usable, 0, 224),
            node(0, kind, 224, 320),
            node(1, RegionKind::Usable, 320, 384),
            node(1, kind, 384, 448),
        ];
        boot(448, &map, &config)
    });
    // Boot's own tables lie in the largest region, in node 0, zone Normal.
    let protected = |m: &Machine| m.zones[0].reserve(ZoneKind::Normal);
    assert!(protected(&grown) < protected(&whole));
    let added = add(&grown, 224, 320).unwrap();
    assert_eq!(added.min_free, MinFree::UserStays(4000));
    add(&grown, 384, 448).unwrap();
    assert_eq!(whole.zone_stats().count(), 3);
    for (a, b) in whole.zone_stats().zip(grown.zone_stats()) {
        let extent = |z: &ZoneStats| (z.start, z.spanned, z.present, z.managed);
        assert_eq!(extent(&a), extent(&b));
        assert_eq!(a.watermarks, b.watermarks);
        assert_eq!((a.protection, a.peak_used), (b.protection, b.peak_used));
        assert_eq!(a.blocks_by_type, b.blocks_by_type);
    }
    for (a, b) in whole.sizing.iter().zip(&grown.sizing) {
        assert_eq!(a.get(), b.get());
    }
}

#[test]
fn a_larger_min_free_kbytes_of_the_user_stays_and_a_smaller_one_goes() {
    // P210, P211
    let map = [
        node(0, RegionKind::Usable, 0, 16),
        node(0, RegionKind::Hotpluggable, 16, 272),
    ];
    for (user, expected) in [(None, None), (Some(300), None), (Some(9000), Some(9000))] {
        let config = BootConfig {
            min_free_kbytes: user,
            ..config()
        };
        let machine = boot(272, &map, &config);
        assert_eq!(
            machine.min_free_kbytes(),
            user.unwrap_or(machine.min_free_kbytes())
        );
        let high = machine.zones[0].watermarks().high;
        let added = add(&machine, 16, 272).unwrap();
        let lowmem = (machine.managed_pages() - high) as u64 * 4;
        let min_free = match expected {
            Some(kb) => MinFree::UserStays(kb),
            None => MinFree::Computed(min_free_kbytes(lowmem)),
        };
        assert_eq!(added.min_free, min_free);
        let kb = expected.unwrap_or(min_free_kbytes(lowmem));
        assert_eq!(machine.min_free_kbytes(), kb);
        assert_eq!(machine.zones[0].watermarks().min as u64, kb / 4);
    }
}

#[test]
fn a_node_without_memory_becomes_one_with_memory() {
    // P202, P203, P516
    let map = [
        node(0, RegionKind::Usable, 0, 16),
        node(1, RegionKind::Hotpluggable, 16, 32),
        node(2, RegionKind::Usable, 32, 48),
    ];
    let machine = boot(48, &map, &config());
    let nodes = |m: &Machine| m.nodes().map(|n| n.0).collect::<Vec<_>>();
    assert_eq!(nodes(&machine), [0, 2]);
    assert_eq!(machine.lists[1].known(), [2, 0]);
    assert_eq!(machine.zone_stats().count(), 2);
    let gfp = GFP_KERNEL | Gfp::THISNODE;
    let near = PageRequest::new(gfp, Order::ZERO).at(Some(NodeId(1)));
    assert_eq!(machine.alloc(&near), Err(AllocError::NoSuchNode));
    let far = PageRequest {
        gfp: GFP_KERNEL,
        ..near
    };
    let far = machine.alloc(&far).unwrap();
    assert_eq!(machine.node_of(far), NodeId(2));
    put(&machine, far, 0);
    add(&machine, 16, 20).unwrap();
    assert_eq!(nodes(&machine), [0, 1, 2]);
    assert_eq!(machine.lists[0].known(), [0, 1, 2]);
    assert_eq!(machine.lists[1].known(), [1, 2, 0]);
    let here = machine.alloc(&near).unwrap();
    assert_eq!(machine.node_of(here), NodeId(1));
    put(&machine, here, 0);
    let zone = machine.zone_stats().find(|z| z.node == NodeId(1)).unwrap();
    assert_eq!(
        (zone.start, zone.spanned, zone.present),
        (at(16).pfn(), 1024, 1024)
    );
    assert_eq!(zone.events.numa_hit, 1);
    machine.verify().unwrap();
}

#[test]
fn a_range_across_a_zone_limit_joins_both_zones() {
    // P200, P201
    let config = BootConfig {
        dma32_end: Some(PhysAddr(BASE + 30 * MIB)),
        ..config()
    };
    let map = [
        node(0, RegionKind::Usable, 0, 16),
        node(0, RegionKind::Hotpluggable, 24, 40),
    ];
    let machine = boot(40, &map, &config);
    assert_eq!(machine.zone_stats().count(), 1);
    assert!(machine.has_zone(ZoneKind::Normal));
    add(&machine, 28, 32).unwrap();
    let present: Vec<_> = machine.zone_stats().map(|z| (z.kind, z.present)).collect();
    let expected = [(ZoneKind::Dma32, 18 * 256), (ZoneKind::Normal, 2 * 256)];
    assert_eq!(present, expected);
    // The first page of a Normal zone that has just come, and a lower one.
    let high = get(&machine, GFP_KERNEL, 0).unwrap();
    let low = get(&machine, GFP_DMA32, 0).unwrap();
    assert!(high >= at(30).pfn() && low < at(30).pfn());
    put(&machine, high, 0);
    put(&machine, low, 0);
}

#[test]
fn only_whole_memory_blocks_of_a_region_can_be_plugged_in() {
    // P514
    let map = [
        node(0, RegionKind::Usable, 0, 17),
        node(0, RegionKind::Hotpluggable, 17, 35),
        node(0, RegionKind::Usable, 35, 40),
    ];
    let machine = boot(40, &map, &config());
    assert_eq!(
        add(&machine, 32, 36),
        Err(AddMemoryError::NotHotpluggable { at: at(32) })
    );
    // The pageblock at 16 MiB is there in part: so it is present.
    assert_eq!(
        add(&machine, 16, 20),
        Err(AddMemoryError::AlreadyPresent { at: at(16) })
    );
    assert_eq!(add(&machine, 20, 32).unwrap().pages, 12 * 256);
    for wrong in [0, MIB, 2 * MIB, 6 * MIB, 12 * MIB] {
        let config = BootConfig {
            memory_block_bytes: wrong,
            ..config()
        };
        let platform = TestPlatform::new(BASE, 40 << 20);
        let refused = PageAllocator::boot(platform, &map, &config).err();
        assert_eq!(refused, Some(BootError::BadMemoryBlock), "{wrong}");
    }
    let hot = [node(0, RegionKind::Hotpluggable, 0, 40)];
    let refused = PageAllocator::boot(TestPlatform::new(BASE, 40 << 20), &hot, &config()).err();
    assert_eq!(refused, Some(BootError::NoMemory), "nothing to boot from");
}

#[test]
fn memory_that_is_not_zero_boots_and_is_added_as_well() {
    let platform = TestPlatform::new(BASE, 64 << 20);
    let map = [
        node(0, RegionKind::Usable, 0, 16),
        node(0, RegionKind::Hotpluggable, 32, 64),
    ];
    use crate::platform::Platform;
    // SAFETY: the RAM of a machine that is not there yet.
    unsafe {
        platform
            .direct_map()
            .ptr(PhysAddr(BASE))
            .write_bytes(0xa5, 64 << 20)
    };
    let config = BootConfig {
        memory_is_zero: false,
        ..config()
    };
    let machine = PageAllocator::boot(platform, &map, &config).unwrap();
    machine.verify().unwrap();
    assert_eq!(put_wild(&machine, at(40).pfn()), 1);
    add(&machine, 32, 64).unwrap();
    let pfn = get(&machine, GFP_KERNEL | Gfp::ZERO, 10).unwrap();
    // SAFETY: the block is ours.
    let bytes = unsafe { core::slice::from_raw_parts(machine.ptr_of(pfn).as_ptr(), 4 << 20) };
    assert!(bytes.iter().all(|b| *b == 0));
    put(&machine, pfn, 10);
    machine.verify().unwrap();
}

/// Frees a frame that nobody owns; how many such frees were refused.
fn put_wild(machine: &Machine, pfn: Pfn) -> usize {
    // SAFETY: refused.
    unsafe { machine.free(pfn, Order::ZERO) }.is_err().into()
}

#[test]
fn room_for_much_more_memory_costs_only_its_tables() {
    // 16 MiB that are there, 2 GiB that may come: 8 bytes a frame and 1.2 bits.
    if cfg!(miri) {
        return;
    }
    let map = [
        node(0, RegionKind::Usable, 0, 16),
        node(0, RegionKind::Hotpluggable, 16, 2 << 10),
    ];
    let platform = TestPlatform::new(BASE, 2 << 30);
    let machine = PageAllocator::boot(platform, &map, &config()).unwrap();
    let frames = (2usize << 30) / PAGE_SIZE;
    let bytes = machine.metadata_pages() * PAGE_SIZE;
    assert!(
        bytes > frames * 8 && bytes < frames * 8 + frames / 5 + (64 << 10),
        "{bytes}"
    );
    machine.verify().unwrap();
}

#[test]
fn no_single_free_reports_all_that_waits_after_a_boot_on_memory_that_is_not_zero() {
    if cfg!(miri) {
        return;
    }
    let config = BootConfig {
        memory_is_zero: false,
        ..config()
    };
    // 192 pageblocks, all of which wait; the zone keeps 16.
    let machine = boot(384, &[node(0, RegionKind::Usable, 0, 384)], &config);
    let discarded = || machine.platform().discarded.load(Relaxed);
    let mut before = discarded();
    for _ in 0..2 {
        let pfn = get(&machine, GFP_KERNEL, 10).unwrap();
        put(&machine, pfn, 10);
        let pages = discarded() - before;
        assert_eq!(pages, 64 * 512);
        before = discarded();
    }
    machine.verify().unwrap();
}
