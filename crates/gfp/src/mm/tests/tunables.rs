//! Tunables: everything that follows is recomputed at once, and what is refused changes nothing.

use super::machine;
use crate::Mm;
use crate::error::AllocError;
use crate::flags::{GFP_DMA32, GFP_NOWAIT, ZoneKind};
use crate::frame::{NodeId, Order, PhysAddr};
use crate::page::{BootConfig, MemoryRegion, PageRequest, RegionKind, ZoneStats};
use crate::platform::Platform;
use crate::policy::pcp::PcpLimits;
use crate::policy::tunable::{Access, ELSEWHERE, Numbers, Tunable, TunableError};
use crate::policy::watermark::{LowMemory, MinFree, min_free_kbytes, zone_watermarks};
use crate::testing::{TestPlatform, region};
use core::sync::atomic::Ordering::Relaxed;
use std::string::ToString;
use std::vec::Vec;

const MIB: u64 = 1 << 20;
const BASE: u64 = 4 << 30;

/// 16 MiB of DMA32, 48 MiB of Normal, and 64 MiB of it that may come.
fn two_zones() -> Mm<TestPlatform> {
    let config = BootConfig {
        memory_is_zero: true,
        memory_block_bytes: 4 * MIB,
        dma32_end: Some(PhysAddr(BASE + 16 * MIB)),
        ..BootConfig::default()
    };
    let part = |kind, from, to| MemoryRegion {
        kind,
        ..region(BASE + from * MIB, BASE + to * MIB)
    };
    let map = [
        part(RegionKind::Usable, 0, 64),
        part(RegionKind::Hotpluggable, 64, 128),
    ];
    Mm::boot(TestPlatform::new(BASE, (128 * MIB) as usize), &map, &config).unwrap()
}

fn zones(mm: &Mm<TestPlatform>) -> Vec<ZoneStats> {
    mm.pages().zone_stats().collect()
}

fn zone(mm: &Mm<TestPlatform>, kind: ZoneKind) -> ZoneStats {
    let mut zones = mm.pages().zone_stats();
    zones.find(|zone| zone.kind == kind).unwrap()
}

/// What follows from the tunables: marks and protection of each zone, sizes of the caches.
fn derived(mm: &Mm<TestPlatform>) -> std::string::String {
    let mut text = std::string::String::new();
    for zone in zones(mm) {
        text += &std::format!("{:?} {:?};", zone.watermarks, zone.protection);
        let pages = mm.pages();
        pages.for_each_pageset(zone.node, zone.kind, &mut |_, _, limits| {
            text += &std::format!("{limits:?};");
        });
    }
    text
}

/// The marks that all zones must have by the rules.
fn check_marks(mm: &Mm<TestPlatform>) {
    let zones = zones(mm);
    let low_memory = LowMemory {
        min_free_kbytes: mm.pages().min_free_kbytes(),
        pages: zones.iter().map(|z| z.managed).sum(),
        scale_factor: mm.pages().watermark_scale_factor(),
    };
    for zone in zones {
        let marks = zone_watermarks(zone.kind, zone.managed, &low_memory);
        assert_eq!(zone.watermarks, marks, "{:?}", zone.kind);
    }
}

/// Takes single pages until there is none above low, counts them and gives them back.
fn pages_to_be_had(mm: &Mm<TestPlatform>) -> usize {
    let request = PageRequest::new(GFP_NOWAIT, Order::ZERO);
    let all: Vec<_> = core::iter::from_fn(|| mm.pages().alloc(&request).ok()).collect();
    for pfn in &all {
        // SAFETY: they are ours, each once.
        unsafe { mm.pages().free(*pfn, Order::ZERO) }.unwrap();
    }
    all.len()
}

#[test]
fn min_free_kbytes_is_shared_out_at_once_and_the_next_request_obeys() {
    // P212, P218, P700
    let mm = two_zones();
    let vm = mm.tunables();
    check_marks(&mm);
    let before = pages_to_be_had(&mm);
    let min = |mm| zones(mm).iter().map(|z| z.watermarks.min).sum::<usize>();
    vm.write("min_free_kbytes", "16384\n").unwrap();
    assert_eq!(vm.read("vm.min_free_kbytes").unwrap().to_string(), "16384");
    check_marks(&mm);
    assert!((4095..=4096).contains(&min(&mm)), "{}", min(&mm));
    // A request that may not use reserves leaves that much, and what zones keep from higher ones.
    mm.pages().drain_all();
    let left = mm.pages().free_page_count() - pages_to_be_had(&mm);
    assert!((4095..=5000).contains(&left), "{left}");
    // Less than would be computed is obeyed as well.
    vm.write("min_free_kbytes", "0").unwrap();
    check_marks(&mm);
    assert_eq!(min(&mm), 0);
    assert!(pages_to_be_had(&mm) > before);
    mm.verify().unwrap();
}

#[test]
fn more_than_there_is_leaves_everybody_without_until_it_is_taken_back() {
    // P700: absurd values
    let mm = two_zones();
    mm.tunables()
        .write("min_free_kbytes", "2147483647")
        .unwrap();
    mm.pages().drain_all();
    check_marks(&mm);
    let request = PageRequest::new(GFP_NOWAIT, Order::ZERO);
    let refused = mm.pages().alloc(&request);
    assert!(matches!(refused, Err(AllocError::NoMemory { .. })));
    mm.tunables().write("min_free_kbytes", "1024").unwrap();
    assert!(pages_to_be_had(&mm) > 1000);
}

#[test]
fn watermark_scale_factor_widens_the_distances_and_keeps_min() {
    // P213, P218, P701
    let mm = two_zones();
    let before = zone(&mm, ZoneKind::Normal).watermarks;
    mm.tunables()
        .write("watermark_scale_factor", "3000")
        .unwrap();
    check_marks(&mm);
    let (after, managed) = {
        let zone = zone(&mm, ZoneKind::Normal);
        (zone.watermarks, zone.managed)
    };
    assert_eq!(after.min, before.min);
    assert_eq!(after.low, after.min + managed * 3 / 10);
    assert_eq!(after.high, after.low + managed * 3 / 10);
    let read = mm.tunables().read("watermark_scale_factor").unwrap();
    assert_eq!(read.to_string(), "3000");
    mm.tunables().write("watermark_scale_factor", "10").unwrap();
    assert_eq!(zone(&mm, ZoneKind::Normal).watermarks, before);
}

#[test]
fn sizes_of_cpu_caches_follow() {
    // P218, P325: what a CPU may keep follows from low.
    let mm = two_zones();
    pages_to_be_had(&mm);
    let before = derived(&mm);
    assert!(before.contains("high_min"), "{before}");
    let sizes = |mm: &Mm<TestPlatform>| {
        let mut sizes = Vec::new();
        let pages = mm.pages();
        pages.for_each_pageset(NodeId(0), ZoneKind::Normal, &mut |_, _, limits| {
            sizes.push(limits.high_min);
        });
        sizes
    };
    let before = sizes(&mm);
    mm.tunables()
        .write("watermark_scale_factor", "3000")
        .unwrap();
    assert!(sizes(&mm) > before, "{:?} {before:?}", sizes(&mm));
}

#[test]
fn a_fraction_fixes_the_sizes_of_cpu_caches() {
    // P325, P704
    let mm = two_zones();
    let vm = mm.tunables();
    pages_to_be_had(&mm);
    let limits = || {
        let mut all = Vec::new();
        let visit = &mut |_, _, limits: &PcpLimits| all.push(*limits);
        mm.pages()
            .for_each_pageset(NodeId(0), ZoneKind::Normal, visit);
        all[0]
    };
    let before = limits();
    assert!(before.is_tuned());
    let managed = zone(&mm, ZoneKind::Normal).managed;
    let cpus = mm.platform().nr_cpus_running() as usize;
    for fraction in [8, 100] {
        let text = fraction.to_string();
        vm.write("percpu_pagelist_high_fraction", &text).unwrap();
        let read = vm.read("vm.percpu_pagelist_high_fraction").unwrap();
        assert_eq!(read.to_string(), text);
        let high = (managed / fraction / cpus).max(4 * before.batch);
        assert_eq!((limits().high_min, limits().high_max), (high, high));
    }
    let error = vm.write("percpu_pagelist_high_fraction", "7").unwrap_err();
    let text = "percpu_pagelist_high_fraction takes 0, or 8 and more";
    assert_eq!(error.to_string(), text);
    assert_eq!(mm.pages().percpu_pagelist_high_fraction(), 100);
    vm.write("percpu_pagelist_high_fraction", "0").unwrap();
    assert_eq!(limits(), before);
}

#[test]
fn lowmem_reserve_ratio_protects_lower_zones_at_once() {
    // P207, P218, P703
    let mm = two_zones();
    let vm = mm.tunables();
    let normal = zone(&mm, ZoneKind::Normal).managed;
    let protection = |mm| zone(mm, ZoneKind::Dma32).protection[ZoneKind::Normal as usize];
    assert_eq!(
        vm.read("lowmem_reserve_ratio").unwrap().to_string(),
        "256\t256\t32\t0\t0"
    );
    assert_eq!(protection(&mm), normal / 256);
    // What is left out at the end stays.
    vm.write("lowmem_reserve_ratio", "256 4").unwrap();
    assert_eq!(protection(&mm), normal / 4);
    assert_eq!(
        vm.read("lowmem_reserve_ratio").unwrap().to_string(),
        "256\t4\t32\t0\t0"
    );
    let protected = pages_to_be_had(&mm);
    // Less than 1 is no protection.
    vm.write("lowmem_reserve_ratio", "256 -1").unwrap();
    assert_eq!(protection(&mm), 0);
    assert_eq!(
        vm.read("lowmem_reserve_ratio").unwrap().to_string(),
        "256\t0\t32\t0\t0"
    );
    let open = pages_to_be_had(&mm);
    assert_eq!(open - protected, normal / 4);
    // Marks are not touched, and requests for the lower zone are not kept out.
    check_marks(&mm);
    let low = PageRequest::new(GFP_NOWAIT | GFP_DMA32, Order::ZERO);
    let pfn = mm.pages().alloc(&low).unwrap();
    // SAFETY: it is ours.
    unsafe { mm.pages().free(pfn, Order::ZERO) }.unwrap();
}

#[test]
fn added_memory_honours_what_was_set() {
    // P211, P218
    let add = |mm: &Mm<TestPlatform>, from, to| {
        // SAFETY: the platform of the test has it.
        unsafe { mm.add_memory(PhysAddr(BASE + from * MIB), PhysAddr(BASE + to * MIB)) }.unwrap()
    };
    let mm = two_zones();
    let vm = mm.tunables();
    vm.write("watermark_scale_factor", "100").unwrap();
    vm.write("lowmem_reserve_ratio", "256 8").unwrap();
    // A larger value stays.
    vm.write("min_free_kbytes", "8000").unwrap();
    assert_eq!(add(&mm, 64, 96).min_free, MinFree::UserStays(8000));
    check_marks(&mm);
    let normal = zone(&mm, ZoneKind::Normal).managed;
    let dma32 = zone(&mm, ZoneKind::Dma32);
    assert_eq!(dma32.protection[ZoneKind::Normal as usize], normal / 8);
    // A smaller one goes.
    vm.write("min_free_kbytes", "300").unwrap();
    let high: usize = zones(&mm).iter().map(|z| z.watermarks.high).sum();
    let min_free = add(&mm, 96, 128).min_free;
    let above_high = mm.pages().managed_pages() - high;
    let computed = min_free_kbytes(above_high as u64 * 4);
    assert_eq!(min_free, MinFree::Computed(computed));
    assert_eq!(mm.pages().min_free_kbytes(), computed);
    check_marks(&mm);
    // What was computed is kept when something else is set.
    vm.write("watermark_scale_factor", "10").unwrap();
    assert_eq!(mm.pages().min_free_kbytes(), computed);
    mm.verify().unwrap();
}

/// What each takes wrongly, and a value that it takes.
const WRONG: &[(&str, &[&str], &str)] = &[
    (
        "compact_unevictable_allowed",
        &["", "-1", "2", "0 1", "yes"],
        "0",
    ),
    ("compaction_proactiveness", &["", "-1", "101", "20%"], "50"),
    ("extfrag_threshold", &["", "-1", "1001", "0.5"], "0"),
    (
        "lowmem_reserve_ratio",
        &["", "x", "1 2 3 4 5 6", "1 9999999999"],
        "9 9 9 9 9",
    ),
    (
        "min_free_kbytes",
        &["", "-1", "2147483648", "1 1", "1k"],
        "5000",
    ),
    (
        "percpu_pagelist_high_fraction",
        &["", "1", "7", "-8", "8.5", "2147483648", "8 8"],
        "8",
    ),
    ("swappiness", &["", "-1", "201", "60%"], "7"),
    ("min_slab_ratio", &["", "-1", "101", "5%"], "8"),
    ("min_unmapped_ratio", &["", "-1", "101", "1.5"], "0"),
    ("numa_stat", &["", "-1", "2", "on"], "0"),
    ("zone_reclaim_mode", &["", "-1", "8", "on"], "5"),
    (
        "vfs_cache_pressure",
        &["", "-1", "2147483648", "half"],
        "50",
    ),
    (
        "watermark_scale_factor",
        &["", "0", "-10", "3001", "1.5"],
        "77",
    ),
];

#[test]
fn what_is_refused_leaves_value_and_all_that_follows_unchanged() {
    // P723
    let mm = two_zones();
    let vm = mm.tunables();
    let readable = |t: &Tunable| t.access() == Access::ReadWrite;
    for tunable in Tunable::ALL.into_iter().filter(readable) {
        let name = tunable.name();
        let Some((_, wrong, right)) = WRONG.iter().find(|(known, ..)| *known == name) else {
            panic!("{name}: nobody tests what it refuses");
        };
        for text in *wrong {
            let before = (vm.read(name).unwrap(), derived(&mm));
            assert!(vm.write(name, text).is_err(), "{name} took {text:?}");
            assert_eq!(before, (vm.read(name).unwrap(), derived(&mm)), "{name}");
        }
        // Numbers that were not parsed.
        let (before, none) = (vm.read(name).unwrap(), Numbers::default());
        assert!(vm.set(tunable, &none).is_err(), "{name}");
        assert!(vm.set(tunable, &Numbers::from(i64::MAX)).is_err(), "{name}");
        assert_eq!(before, vm.read(name).unwrap());
        // Inside the allocator: nothing happens either, or it needs no lock.
        let before = (vm.read(name).unwrap(), derived(&mm));
        mm.platform().nested.store(true, Relaxed);
        let nested = vm.write(name, right);
        mm.platform().nested.store(false, Relaxed);
        match nested {
            Ok(()) => assert_eq!(before.1, derived(&mm), "{name}"),
            Err(error) => {
                assert_eq!(error, TunableError::Nested);
                assert_eq!(before, (vm.read(name).unwrap(), derived(&mm)), "{name}");
            }
        }
        vm.write(name, right).unwrap();
        assert_eq!(vm.read(name).unwrap(), tunable.parse(right).unwrap());
    }
    mm.verify().unwrap();
}

#[test]
fn what_has_only_an_effect_cannot_be_read() {
    // P708
    let mm = machine();
    let name = "compact_memory";
    let error = mm.tunables().read(name).unwrap_err();
    assert_eq!(error, TunableError::WriteOnly { name });
    assert!(mm.tunables().write(name, "0").is_err());
    mm.tunables().write(name, "1").unwrap();
}

#[test]
fn what_limits_commitments_is_refused_with_the_reason() {
    // P718
    let mm = machine();
    for name in [
        "overcommit_memory",
        "overcommit_ratio",
        "admin_reserve_kbytes",
        "user_reserve_kbytes",
    ] {
        let error = mm.tunables().write(name, "1").unwrap_err();
        assert!(matches!(error, TunableError::Elsewhere { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.starts_with(name), "{text}");
        assert!(text.contains("promises no memory"), "{text}");
    }
}

#[test]
fn what_is_elsewhere_is_neither_read_nor_written() {
    let mm = machine();
    for (name, why) in ELSEWHERE {
        let error = TunableError::Elsewhere { name, why };
        assert_eq!(mm.tunables().write(name, "1"), Err(error));
        assert_eq!(mm.tunables().read(name), Err(error));
    }
}

#[test]
fn numa_events_are_nought_while_they_are_off_and_then_begin_again() {
    // P615, P712. Seen to fail: `set_numa_counting` that keeps what was before.
    let map = [0, 1].map(|node| MemoryRegion {
        node: NodeId(node),
        ..region(
            BASE + u64::from(node) * 32 * MIB,
            BASE + u64::from(node + 1) * 32 * MIB,
        )
    });
    let platform = TestPlatform::new(BASE, (64 * MIB) as usize);
    let mm = Mm::boot(platform, &map, &BootConfig::default()).unwrap();
    let vm = mm.tunables();
    // Served here, and on the other node: a hit, and one that is not this CPU's.
    let take = |blocks| {
        for _ in 0..blocks {
            mm.alloc_pages(GFP_NOWAIT, 0).unwrap();
            let there = PageRequest::new(GFP_NOWAIT, Order::ZERO).at(Some(NodeId(1)));
            mm.pages().alloc(&there).unwrap();
        }
    };
    let shown = || {
        let mut text = std::string::String::new();
        crate::stat::View::Vmstat.write(&mm, &mut text).unwrap();
        let value = |name: &str| -> u64 {
            let line = text
                .lines()
                .find(|line| line.split(' ').next() == Some(name));
            line.unwrap().split(' ').nth(1).unwrap().parse().unwrap()
        };
        ["numa_hit", "numa_miss", "numa_local", "numa_other"].map(value)
    };
    assert_eq!(vm.read("numa_stat").unwrap().to_string(), "1");
    let [hit, miss, near, other] = shown();
    let pages = || zones(&mm).iter().map(|z| z.events.alloc_pages).sum::<u64>();
    let before = pages();
    take(10);
    assert_eq!(shown(), [hit + 20, miss, near + 10, other + 10]);
    vm.write("numa_stat", "0\n").unwrap();
    assert_eq!(vm.read("numa_stat").unwrap().to_string(), "0");
    take(5);
    assert_eq!(shown(), [0; 4]);
    vm.write("numa_stat", "1").unwrap();
    assert_eq!(shown(), [0; 4], "what was before, or meanwhile, is gone");
    take(7);
    // It was on already: nothing happens.
    vm.write("numa_stat", "1").unwrap();
    assert_eq!(shown(), [14, 0, 7, 7]);
    // P617: other events go on as they are.
    assert_eq!(pages() - before, 44);
}
