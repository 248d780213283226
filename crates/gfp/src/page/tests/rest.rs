//! Memory that boot leaves for later.

use super::plug::{BASE, MIB, Machine, at, get, node, put};
use crate::flags::{GFP_DMA32, GFP_KERNEL, Gfp, ZoneKind};
use crate::frame::{FrameKind, FrameWord, NodeId, Order, PAGE_SIZE, Pfn, PhysAddr};
use crate::page::IsolateMode;
use crate::page::contig::Mover;
use crate::page::{AddMemoryError, BootConfig, MemoryRegion, PageAllocator, PageRequest};
use crate::page::{Held, Moved, RegionKind, Tuning, ZoneStats};
use crate::platform::Platform;
use crate::testing::TestPlatform;
use std::vec::Vec;

/// What memory holds that nobody cleared: words of blocks of one page that somebody owns.
const GARBAGE: u64 = FrameWord::new(FrameKind::Page, Order::ZERO, 1).bits();

/// Boots over memory full of garbage, with tables of 4 MiB units.
fn boot(mib: u64, map: &[MemoryRegion], config: &BootConfig) -> Machine {
    let platform = TestPlatform::new(BASE, (mib * MIB) as usize);
    let words = platform.direct_map().ptr(at(0)).cast::<u64>();
    for i in 0..(mib * MIB / 8) as usize {
        // SAFETY: the platform has so much memory, which nobody uses yet.
        unsafe { words.add(i).write(GARBAGE) };
    }
    let machine = PageAllocator::boot(platform, map, config).unwrap();
    machine.verify().unwrap();
    machine
}

fn config(at_once_mib: u64) -> BootConfig {
    BootConfig {
        at_once_bytes: at_once_mib * MIB,
        memory_block_bytes: 4 * MIB,
        ..BootConfig::default()
    }
}

fn usable(mib: u64) -> [MemoryRegion; 1] {
    [node(0, RegionKind::Usable, 0, mib)]
}

/// 256 MiB, of which 8 are taken in at boot.
fn machine() -> Machine {
    boot(256, &usable(256), &config(8))
}

const PAGES_A_MIB: usize = (MIB as usize) / PAGE_SIZE;

#[test]
fn boot_takes_in_the_first_part_and_the_rest_comes_when_asked() {
    // P722
    let machine = machine();
    let first = machine.managed_pages();
    assert_eq!(first, 8 * PAGES_A_MIB);
    let all = 256 * PAGES_A_MIB - machine.metadata_pages();
    assert_eq!(machine.rest_pages(), all - first);
    assert_eq!(machine.take_in_rest(), all - first);
    assert_eq!((machine.managed_pages(), machine.rest_pages()), (all, 0));
    assert_eq!(machine.free_page_count(), all);
    assert_eq!(machine.take_in_rest(), 0);
    machine.verify().unwrap();
}

#[test]
fn in_the_end_all_is_as_if_it_was_taken_in_at_once() {
    // P207, P210, P212: for each part of the memory, and with what the administrator said.
    let map = [
        node(0, RegionKind::Usable, 0, 32),
        node(1, RegionKind::Usable, 32, 97),
        node(1, RegionKind::Usable, 99, 160),
    ];
    for min_free_kbytes in [None, Some(64)] {
        for movable_bytes in [0, 20 * MIB] {
            let config = BootConfig {
                min_free_kbytes,
                movable_bytes,
                ..config(4)
            };
            let later = boot(160, &map, &config);
            assert!(later.rest_pages() > 50 * PAGES_A_MIB);
            later.take_in_rest();
            later.verify().unwrap();
            let at_once = BootConfig {
                at_once_bytes: u64::MAX,
                ..config
            };
            let at_once = boot(160, &map, &at_once);
            assert_eq!(at_once.rest_pages(), 0);
            // A part of the rest is a few words of the tables.
            let differ = at_once.managed_pages() - later.managed_pages();
            assert!(differ <= 1, "{differ}");
            let (stats, expected) = (later.zone_stats(), at_once.zone_stats());
            for (is, expected) in stats.zip(expected) {
                assert_eq!((is.node, is.kind), (expected.node, expected.kind));
                assert_eq!(
                    (is.present, is.spanned),
                    (expected.present, expected.spanned)
                );
                let marks = |s: &ZoneStats| [s.watermarks.min, s.watermarks.low, s.watermarks.high];
                for (is, expected) in marks(&is).into_iter().zip(marks(&expected)) {
                    assert!(is.abs_diff(expected) <= 1, "{is} {expected}");
                }
            }
            assert_eq!(later.min_free_kbytes(), at_once.min_free_kbytes());
        }
    }
}

#[test]
fn a_free_of_what_is_left_is_refused_whatever_the_table_holds() {
    let machine = machine();
    let words = machine.frames().len();
    let first = machine.frames().base();
    for pfn in (8 * PAGES_A_MIB..words).map(|i| first.add(i)) {
        assert!(machine.frames().get(pfn) == FrameWord::NONE);
        assert!(!machine.is_free(pfn) && machine.place_of(pfn).is_none());
    }
    // SAFETY: a mistake that must be refused.
    let freed = unsafe { machine.free(at(100).pfn(), Order::ZERO) };
    assert!(freed.is_err());
    let mut refused = 0;
    // SAFETY: as above.
    unsafe { machine.free_bulk(&mut [at(101).pfn()], |_, _| refused += 1) };
    assert_eq!(refused, 1);
    machine.verify().unwrap();
    machine.take_in_rest();
    // Free now, and it has no word.
    assert!(machine.is_free(at(100).pfn()));
    assert!(machine.frames().get(at(100).pfn()) == FrameWord::NONE);
}

#[test]
fn a_request_takes_in_more_before_it_goes_to_a_lower_zone_or_fails() {
    // P275: 32 MiB of DMA32, 8 of Normal at once, 216 more.
    let config = BootConfig {
        dma32_end: Some(at(32)),
        ..config(8)
    };
    let machine = boot(256, &usable(256), &config);
    assert_eq!(machine.managed_pages(), 40 * PAGES_A_MIB);
    let all = machine.managed_pages() + machine.rest_pages();
    let mut held = Vec::new();
    let mut low = 0;
    while let Ok(pfn) = get(&machine, GFP_KERNEL.with(Gfp::NORETRY), 0) {
        let is_low = pfn < at(32).pfn();
        assert!(
            !is_low || machine.rest_pages() == 0,
            "{pfn} before the rest"
        );
        low += usize::from(is_low);
        held.push(pfn);
    }
    assert_eq!(machine.rest_pages(), 0);
    assert_eq!(machine.managed_pages(), all);
    assert!(held.len() > all * 9 / 10 && low > 20 * PAGES_A_MIB, "{low}");
    held.into_iter().for_each(|pfn| put(&machine, pfn, 0));
    machine.drain_all();
    machine.verify().unwrap();
    assert_eq!(machine.free_page_count(), all - cached_tables(&machine));
}

/// Pages that the caches of the CPU that was used took for themselves.
fn cached_tables(machine: &Machine) -> usize {
    let used = machine.managed_pages() - machine.free_page_count();
    assert!(used < 32, "{used}");
    used
}

#[test]
fn what_no_more_memory_helps_takes_nothing_in() {
    let config = BootConfig {
        dma32_end: Some(at(8)),
        ..config(8)
    };
    let machine = boot(256, &usable(256), &config);
    let rest = machine.rest_pages();
    let mut held = Vec::new();
    while let Ok(pfn) = get(&machine, GFP_DMA32.with(Gfp::NORETRY), 0) {
        held.push(pfn);
    }
    assert!(held.len() > 6 * PAGES_A_MIB);
    assert_eq!(machine.rest_pages(), rest, "another zone's");
    held.into_iter().for_each(|pfn| put(&machine, pfn, 0));
}

#[test]
fn a_stretch_comes_at_a_time() {
    let machine = machine();
    let rest = machine.rest_pages();
    // A block of the largest order more than there is.
    let blocks: Vec<_> = (0..2).map(|_| get(&machine, GFP_KERNEL, 10)).collect();
    let stretch = 128 * PAGES_A_MIB;
    assert_eq!(machine.rest_pages(), rest - stretch);
    for pfn in blocks {
        put(&machine, pfn.unwrap(), 10);
    }
    machine.verify().unwrap();
}

#[test]
fn every_node_has_memory_from_boot_on() {
    let map = [0, 1, 2].map(|n| {
        node(
            n,
            RegionKind::Usable,
            64 * u64::from(n),
            64 * u64::from(n) + 64,
        )
    });
    let machine = boot(192, &map, &config(8));
    let managed = |n| machine.managed_pages_of(NodeId(n)) / PAGES_A_MIB;
    assert_eq!((managed(0), managed(1), managed(2)), (64, 64, 8));
    assert_eq!(machine.nodes().count(), 3);
}

#[test]
fn movable_memory_is_part_of_the_rest() {
    // P206
    let config = BootConfig {
        movable_bytes: 64 * MIB,
        ..config(8)
    };
    let machine = boot(256, &usable(256), &config);
    let managed = |kind| {
        let of = |s: ZoneStats| (s.kind == kind).then_some(s.managed);
        machine.zone_stats().find_map(of).unwrap_or(0)
    };
    assert_eq!(managed(ZoneKind::Movable), 0);
    // It comes after what lies before it.
    let pfn = get(
        &machine,
        GFP_KERNEL.with(Gfp::HIGHMEM).with(Gfp::MOVABLE),
        0,
    )
    .unwrap();
    assert!(pfn < at(192).pfn());
    put(&machine, pfn, 0);
    machine.take_in_rest();
    machine.verify().unwrap();
    assert_eq!(managed(ZoneKind::Movable), 64 * PAGES_A_MIB);
    let pfn = get(
        &machine,
        GFP_KERNEL.with(Gfp::HIGHMEM).with(Gfp::MOVABLE),
        0,
    )
    .unwrap();
    assert!(pfn >= at(192).pfn());
    put(&machine, pfn, 0);
}

/// For a machine in which nothing is in use.
struct Nothing;

impl<P: Platform> Mover<P> for Nothing {
    fn take(&self, _: Order) -> Result<Pfn, crate::error::AllocError> {
        unreachable!("nothing is in use")
    }

    fn migrate(&self, _: Held<'_, P>, _: Pfn) -> Moved {
        unreachable!("nothing is in use")
    }

    fn is_interrupted(&self) -> bool {
        false
    }
}

#[test]
fn who_names_frames_of_the_rest_gets_them() {
    // P500, P503, P512
    let machine = machine();
    let range = at(50).pfn()..at(60).pfn();
    let taken = machine.alloc_contig_range(range.clone(), GFP_KERNEL, IsolateMode::Other, &Nothing);
    assert_eq!(taken, Ok(()));
    assert_eq!(machine.managed_pages(), 60 * PAGES_A_MIB);
    let isolated = machine.isolate_pages(at(80).pfn()..at(88).pfn(), IsolateMode::Other);
    drop(isolated.unwrap());
    assert_eq!(machine.managed_pages(), 88 * PAGES_A_MIB);
    // More than there is beside the first, but not more than there will be.
    let req = PageRequest::new(GFP_KERNEL, Order::ZERO);
    let window = machine
        .alloc_contig_pages(64 * PAGES_A_MIB, &req, &Nothing)
        .unwrap();
    assert!(window >= range.end && machine.rest_pages() == 0);
    // Outside of all memory nothing is taken in.
    let other = self::machine();
    let far = at(1 << 20).pfn()..at((1 << 20) + 4).pfn();
    assert!(other.isolate_pages(far, IsolateMode::Other).is_err());
    assert_eq!(other.managed_pages(), 8 * PAGES_A_MIB);
    machine.verify().unwrap();
}

#[test]
fn words_of_what_may_be_plugged_in_come_with_it() {
    // P514, P516
    let map = [
        node(0, RegionKind::Usable, 0, 64),
        node(0, RegionKind::Hotpluggable, 96, 128),
    ];
    let machine = boot(128, &map, &config(8));
    let add = |from, to| {
        // SAFETY: the platform of a test has all the memory that its map describes.
        let added = unsafe { machine.add_memory(at(from), at(to)) };
        machine.verify().unwrap();
        added
    };
    // What is left is there.
    let error = add(32, 36).unwrap_err();
    assert_eq!(error, AddMemoryError::AlreadyPresent { at: at(32) });
    let error = add(72, 76).unwrap_err();
    assert_eq!(error, AddMemoryError::NotHotpluggable { at: at(72) });
    assert_eq!(machine.managed_pages(), 8 * PAGES_A_MIB);
    assert_eq!(add(100, 104).unwrap().pages, 4 * PAGES_A_MIB);
    assert_eq!(machine.rest_pages(), 0, "it lies lower");
    let border = machine.frames().border();
    assert_eq!(border, at(104).pfn());
    assert_eq!(add(96, 100).unwrap().pages, 4 * PAGES_A_MIB);
    assert_eq!(add(104, 128).unwrap().pages, 24 * PAGES_A_MIB);
    let all = 96 * PAGES_A_MIB - machine.metadata_pages();
    assert_eq!(machine.managed_pages(), all);
    let mut held = Vec::new();
    while let Ok(pfn) = get(&machine, GFP_KERNEL.with(Gfp::NORETRY), 0) {
        held.push(pfn);
    }
    assert!(held.iter().any(|pfn| *pfn >= at(104).pfn()));
    held.into_iter().for_each(|pfn| put(&machine, pfn, 0));
    machine.verify().unwrap();
}

#[test]
fn memory_is_cleared_as_it_is_taken_in_if_free_memory_is_zero() {
    // P351
    let config = BootConfig {
        init_on_free: true,
        ..config(8)
    };
    let machine = boot(64, &usable(64), &config);
    machine.take_in_rest();
    let pfn = get(&machine, GFP_KERNEL, 10).unwrap();
    let words = machine.ptr_of(pfn).cast::<[u64; 512]>();
    for page in 0..Order::MAX.pages() {
        // SAFETY: ours, and so large.
        let page = unsafe { words.add(page).read() };
        assert!(page.iter().all(|word| *word == 0));
    }
    put(&machine, pfn, 10);
    machine.verify().unwrap();
}

#[test]
fn known_zero_memory_is_taken_in_at_once() {
    let platform = TestPlatform::new(BASE, 64 << 20);
    let config = BootConfig {
        memory_is_zero: true,
        ..config(8)
    };
    let machine = PageAllocator::boot(platform, &usable(64), &config).unwrap();
    assert_eq!(machine.rest_pages(), 0);
    assert_eq!(
        machine.managed_pages() + machine.metadata_pages(),
        64 * PAGES_A_MIB
    );
}

#[test]
fn what_the_administrator_says_meanwhile_stays() {
    // P218
    let machine = machine();
    machine.tune(Tuning::MinFreeKbytes(777)).unwrap();
    machine.take_in_rest();
    assert_eq!(machine.min_free_kbytes(), 777);
    let end = PhysAddr(BASE + 256 * MIB).pfn();
    assert!(machine.frames().border() <= end);
}
