use crate::flags::ZoneKind;
use crate::frame::{NodeId, PAGE_SIZE, PhysAddr};
use crate::page::boot::Needs;
use crate::page::map::Extents;
use crate::page::{BootConfig, BootError, MemoryRegion, PageAllocator, RegionKind};
use crate::testing::{TestPlatform, region};
use std::vec::Vec;

const MIB: u64 = 1 << 20;

fn boot(
    base: u64,
    bytes: u64,
    map: &[MemoryRegion],
    config: &BootConfig,
) -> Result<PageAllocator<TestPlatform>, BootError> {
    PageAllocator::boot(TestPlatform::new(base, bytes as usize), map, config)
}

#[test]
fn a_machine_with_holes_gets_its_zones() {
    // P200, P201
    let config = BootConfig {
        dma32_end: Some(PhysAddr(64 * MIB)),
        ..BootConfig::default()
    };
    let map = [
        region(4096, 640 << 10),
        MemoryRegion {
            kind: RegionKind::Reserved,
            ..region(640 << 10, MIB)
        },
        region(MIB, 40 * MIB),
        region(48 * MIB, 100 * MIB),
    ];
    let pages = boot(0, 104 * MIB, &map, &config).unwrap();
    let zones: Vec<_> = pages
        .zones
        .iter()
        .map(|z| (z.kind, z.present_pages() * 4))
        .collect();
    assert_eq!(
        zones,
        [
            (ZoneKind::Dma, (640 - 4) + 15 * 1024),
            (ZoneKind::Dma32, (40 - 16 + 64 - 48) * 1024),
            (ZoneKind::Normal, 36 * 1024),
        ]
    );
    let managed = pages.managed_pages() + pages.metadata_pages();
    assert_eq!(managed * 4, 636 + 15 * 1024 + 40 * 1024 + 36 * 1024);
    assert_eq!(pages.free_page_count(), pages.managed_pages());
    pages.verify().unwrap();
    // A hole is no memory: its frames are not free and nobody's.
    assert!(!pages.is_free(PhysAddr(44 * MIB).pfn()));
    assert!(pages.is_free(PhysAddr(20 * MIB).pfn()));
}

#[test]
fn movable_memory_is_taken_from_the_end_of_each_node() {
    // P206
    let config = BootConfig {
        movable_bytes: 16 * MIB,
        ..BootConfig::default()
    };
    let node = |n, start, end| MemoryRegion {
        node: NodeId(n),
        ..region(start, end)
    };
    let base = 4u64 << 30;
    let map = [
        node(0, base, base + 32 * MIB),
        node(1, base + 32 * MIB, base + 64 * MIB),
    ];
    let pages = boot(base, 64 * MIB, &map, &config).unwrap();
    let zones: Vec<_> = pages
        .zones
        .iter()
        .map(|z| (z.node.0, z.kind, z.present_pages() / 256))
        .collect();
    assert_eq!(
        zones,
        [
            (0, ZoneKind::Normal, 24),
            (0, ZoneKind::Movable, 8),
            (1, ZoneKind::Normal, 24),
            (1, ZoneKind::Movable, 8),
        ]
    );
    // P202, P203: own node first, high zone first.
    assert_eq!(pages.lists[0].known(), [1, 0, 3, 2]);
    assert_eq!(pages.lists[1].known(), [3, 2, 1, 0]);
    pages.verify().unwrap();
}

#[test]
fn wrong_maps_are_refused_with_the_region_that_is_wrong() {
    let base = 4u64 << 30;
    let try_map = |map: &[MemoryRegion]| boot(base, 16 * MIB, map, &BootConfig::default()).err();
    assert_eq!(try_map(&[]), Some(BootError::NoMemory));
    assert_eq!(
        try_map(&[region(base + 4096, base)]),
        Some(BootError::BadRegion { index: 0 })
    );
    let overlap = [
        region(base, base + 8 * MIB),
        region(base + 4 * MIB, base + 16 * MIB),
    ];
    assert_eq!(try_map(&overlap), Some(BootError::Overlap { index: 1 }));
    let node = MemoryRegion {
        node: NodeId(8),
        ..region(base, base + MIB)
    };
    assert_eq!(try_map(&[node]), Some(BootError::BadNode { index: 0 }));
    let tiny = try_map(&[region(base, base + 8192)]);
    assert!(
        matches!(tiny, Some(BootError::NoRoomForMetadata { .. })),
        "{tiny:?}"
    );
    let config = BootConfig {
        dma_end: Some(PhysAddr(4096)),
        ..BootConfig::default()
    };
    let unaligned = boot(base, 16 * MIB, &[region(base, base + 16 * MIB)], &config).err();
    assert_eq!(unaligned, Some(BootError::UnalignedLimit));
}

#[test]
fn a_pageblock_where_two_zones_meet_belongs_to_the_first() {
    let node = |n, start, end| MemoryRegion {
        node: NodeId(n),
        ..region(start, end)
    };
    let base = 4u64 << 30;
    let map = [
        node(0, base, base + 17 * MIB),
        node(1, base + 17 * MIB, base + 32 * MIB),
    ];
    let pages = boot(base, 32 * MIB, &map, &BootConfig::default()).unwrap();
    let present: Vec<_> = pages
        .zones
        .iter()
        .map(|z| z.present_pages() / 256)
        .collect();
    assert_eq!(present, [17, 14]);
    pages.verify().unwrap();
}

#[test]
fn watermarks_and_reserves_are_those_of_the_rules() {
    // P207, P210, P212, P213: the zone shares out what the machine keeps.
    let config = BootConfig {
        dma32_end: Some(PhysAddr(32 * MIB)),
        ..BootConfig::default()
    };
    let pages = boot(0, 64 * MIB, &[region(0, 64 * MIB)], &config).unwrap();
    let managed: usize = pages.managed_pages();
    let min: usize = pages.zones.iter().map(|z| z.watermarks().min).sum();
    let kb = crate::policy::watermark::min_free_kbytes(managed as u64 * 4);
    assert!((min as u64 * 4).abs_diff(kb) <= 12, "{min} pages, {kb} kB");
    let dma = &pages.zones[0];
    let above = pages.zones[1].managed_pages() + pages.zones[2].managed_pages();
    assert_eq!(dma.reserve(ZoneKind::Normal), above / 256);
    assert_eq!(dma.reserve(ZoneKind::Dma), 0);
}

/// The tables of a machine with memory from 0 on, or on `nodes` nodes from 4 GiB on.
fn needs(bytes: u64, nodes: u8) -> Needs {
    let start = if nodes > 0 { 4 << 30 } else { 0 };
    let part = bytes / u64::from(nodes.max(1));
    let node = |n: u8| MemoryRegion {
        node: NodeId(n),
        ..region(start + part * u64::from(n), start + part * u64::from(n + 1))
    };
    let map: Vec<_> = (0..nodes.max(1)).map(node).collect();
    let extents = Extents::new(&map, &BootConfig::default()).unwrap();
    Needs::of(&extents, &BootConfig::default(), 4).unwrap()
}

#[test]
fn tables_take_8_bytes_and_1_2_bits_a_frame_from_4_mib_to_1_tib() {
    // design: section 6
    for shift in 22..=40 {
        for nodes in [0, 1, 4].into_iter().filter(|n| shift > 24 || *n < 2) {
            let needs = needs(1 << shift, nodes);
            let frames = (1usize << shift) / PAGE_SIZE;
            assert_eq!(needs.frames, frames);
            let most = frames * 8 + frames * 12 / 10 / 8 + needs.fixed_bytes();
            let bytes = needs.bytes();
            assert!(bytes <= most, "2^{shift} on {nodes}: {bytes} > {most}");
            assert!(needs.fixed_bytes() <= 48 << 10, "{}", needs.fixed_bytes());
            // The fixed part vanishes, and what grows is no less than it must be.
            let bits = (bytes - frames * 8) as f64 * 8.0 / frames as f64;
            assert!(shift < 36 || bits <= 1.2, "2^{shift}: {bits} bits a frame");
            assert!(bits > 1.17, "2^{shift}: {bits} bits a frame");
        }
    }
}

#[test]
fn the_smallest_machine_has_4_mib_and_most_of_it_is_free() {
    let pages = boot(
        4 << 30,
        4 * MIB,
        &[region(4 << 30, (4 << 30) + 4 * MIB)],
        &BootConfig::default(),
    )
    .unwrap();
    assert_eq!(pages.managed_pages() + pages.metadata_pages(), 1024);
    assert!(pages.metadata_pages() <= 8, "{}", pages.metadata_pages());
    pages.verify().unwrap();
}
