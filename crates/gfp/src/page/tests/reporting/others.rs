//! Reporting beside what else happens to free memory.

use super::super::shards::{BASE, MIB, Machine, config, exhaust, get, machine, order, put};
use super::{Device, SECOND_NS, register, settle, told};
use crate::flags::{GFP_HIGHUSER_MOVABLE, GFP_KERNEL, Gfp};
use crate::frame::{Order, PAGEBLOCK_ORDER, PAGEBLOCK_PAGES, Pfn};
use crate::page::{
    BootConfig, IsolateMode, PageAllocator, PageRequest, RegionKind, Reported, ReportingDevice,
};
use crate::platform::FrameRun;
use crate::sync::atomic::Ordering::Relaxed;
use crate::testing::{Rng, TestPlatform, region};
use std::sync::Arc;
use std::vec::Vec;

#[test]
fn isolated_blocks_are_not_told_before_that_ends() {
    // P521
    let machine = machine(64, 64);
    let at = |mib: u64| Pfn(((BASE + mib * MIB) >> 12) as usize);
    let isolated = machine
        .isolate_pages(at(40)..at(48), IsolateMode::Other)
        .unwrap();
    let mut reporting = register(&machine, 1);
    settle(&mut reporting, &machine);
    let inside = |pfn: &Pfn| (at(40)..at(48)).contains(pfn);
    assert!(!told(reporting.device()).iter().any(inside));
    drop(isolated);
    assert_eq!(settle(&mut reporting, &machine), 4 * PAGEBLOCK_PAGES);
    assert!(told(reporting.device()).iter().any(inside));
}

/// 64 MiB; a zone keeps one pageblock.
fn reporting_machine(config: BootConfig) -> Machine {
    let platform = TestPlatform::new(BASE, 64 << 20);
    let config = BootConfig {
        report_keep_blocks: 1,
        ..config
    };
    PageAllocator::boot(platform, &[region(BASE, BASE + 64 * MIB)], &config).unwrap()
}

#[test]
fn while_a_device_is_registered_frees_give_nothing_to_the_platform() {
    // P520
    let machine = reporting_machine(config(64));
    let discarded = || machine.platform().discarded.load(Relaxed);
    let use_all = || {
        let all = exhaust(&machine, GFP_KERNEL | Gfp::NOWARN, 9);
        all.iter().for_each(|pfn| put(&machine, *pfn, 9));
        machine.drain_all();
        all.len() * PAGEBLOCK_PAGES
    };
    let used = use_all();
    let before = discarded();
    assert!(before >= used - 3 * PAGEBLOCK_PAGES);
    let reporting = register(&machine, 1);
    use_all();
    assert_eq!(discarded(), before);
    // Asked for, it gets all, and the device is not told.
    machine.trim();
    assert!(discarded() > before);
    let mut reporting = reporting;
    assert_eq!(settle(&mut reporting, &machine), 0);
    drop(reporting);
    let before = discarded();
    use_all();
    assert!(discarded() > before, "as before the device");
    machine.verify().unwrap();
}

#[test]
fn what_the_device_spoils_is_not_taken_for_zero() {
    // P351, P521, P835
    for init_on_free in [false, true] {
        let machine = reporting_machine(BootConfig {
            init_on_free,
            ..config(64)
        });
        let mut reporting = register(&machine, 1);
        assert!(settle(&mut reporting, &machine) != 0);
        for o in [0, 3, PAGEBLOCK_ORDER, 10] {
            let pfn = get(&machine, GFP_KERNEL | Gfp::ZERO, o);
            let ptr = machine.ptr_of(pfn).as_ptr();
            // SAFETY: ours.
            let bytes = unsafe { std::slice::from_raw_parts(ptr, 4096 << o) };
            assert!(bytes.iter().all(|byte| *byte == 0), "order {o}");
        }
        machine.verify().unwrap();
    }
}

#[test]
fn what_the_device_has_is_hidden_and_not_in_use() {
    // P521: who is in need waits for it (`Zone::hidden`)
    struct Looks<'m>(&'m Machine, Arc<std::sync::atomic::AtomicUsize>);
    impl ReportingDevice for Looks<'_> {
        fn capacity(&self) -> usize {
            1
        }
        fn report(&mut self, blocks: &[FrameRun]) -> Reported {
            let zone = &self.0.zones[0];
            let pages: usize = blocks.iter().map(|run| run.pages).sum();
            assert_eq!(zone.hidden() * PAGEBLOCK_PAGES, pages);
            self.1.fetch_add(1, Relaxed);
            Reported::Taken
        }
    }
    let machine = machine(64, 64);
    let calls = Arc::default();
    let device = Looks(&machine, Arc::clone(&calls));
    let mut reporting = machine.register_reporting(device, None).unwrap();
    reporting.tick();
    machine.platform().pass_ns(2 * SECOND_NS);
    assert!(reporting.tick() != 0);
    assert!(calls.load(Relaxed) != 0);
    assert_eq!(machine.peak_pages(), 0, "it is not in use");
    machine.verify().unwrap();
}

#[test]
fn ticks_at_random_between_requests_lose_and_mix_up_nothing() {
    // P520, P521
    for seed in 0..20 {
        let mut rng = Rng::new(seed);
        let machine = machine(64, [16, 64][rng.below(2)]);
        let device = Device::new(&machine, 1 + rng.below(8));
        let least = [None, Some(Order::MAX)][rng.below(2)];
        let mut reporting = machine.register_reporting(device, least).unwrap();
        let mut live: Vec<(Pfn, u8)> = Vec::new();
        for step in 0..300 {
            match rng.below(6) {
                0 | 1 => {
                    let gfp = [GFP_KERNEL, GFP_HIGHUSER_MOVABLE][rng.below(2)] | Gfp::NOWARN;
                    let o = [0, 3, 8, 9, 10][rng.below(5)];
                    if let Ok(pfn) = machine.alloc(&PageRequest::new(gfp, order(o))) {
                        live.push((pfn, o));
                    }
                }
                2 | 3 if !live.is_empty() => {
                    let (pfn, o) = live.swap_remove(rng.below(live.len()));
                    put(&machine, pfn, o);
                }
                4 => _ = machine.drain_all(),
                _ => {
                    machine.platform().pass_ns(SECOND_NS);
                    let before = reporting.device().batches.len();
                    reporting.tick();
                    for run in reporting.device().batches[before..].iter().flatten() {
                        let used = |(pfn, o): &(Pfn, u8)| {
                            *pfn < run.first.add(run.pages) && run.first < pfn.add(1 << o)
                        };
                        assert!(!live.iter().any(used), "seed {seed} step {step}: {run:?}");
                    }
                }
            }
            machine.verify().unwrap();
        }
        live.drain(..).for_each(|(pfn, o)| put(&machine, pfn, o));
        machine.drain_all();
        settle(&mut reporting, &machine);
        machine.verify().unwrap();
    }
}

#[test]
fn memory_that_is_added_is_told() {
    // P514, P521: also if it is zero, of which the device does not know
    let platform = TestPlatform::new(BASE, 64 << 20);
    let mut later = region(BASE + 32 * MIB, BASE + 64 * MIB);
    later.kind = RegionKind::Hotpluggable;
    let config = BootConfig {
        memory_block_bytes: 4 << 20,
        ..config(64)
    };
    let map = [region(BASE, BASE + 32 * MIB), later];
    let machine = PageAllocator::boot(platform, &map, &config).unwrap();
    let mut reporting = register(&machine, 1);
    settle(&mut reporting, &machine);
    // SAFETY: the platform has RAM there, which nobody else uses.
    unsafe { machine.add_memory(later.start, later.end) }.unwrap();
    let pages = (32 << 20) / 4096;
    assert_eq!(settle(&mut reporting, &machine), pages);
    machine.verify().unwrap();
}
