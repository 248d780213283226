//! Isolation of pageblocks.

use super::plug::{Machine, at, boot, config, get, node, put};
use crate::flags::{GFP_HIGHUSER_MOVABLE, GFP_KERNEL, Gfp, MigrateType, ZoneKind};
use crate::frame::{NodeId, Order, PAGEBLOCK_PAGES, Pfn};
use crate::page::{BootConfig, IsolateError, IsolateMode, Locking, RegionKind, ZoneStats};
use core::ops::Range;
use std::string::{String, ToString};
use std::vec::Vec;

/// 32 MiB in one zone.
fn machine() -> Machine {
    boot(32, &[node(0, RegionKind::Usable, 0, 32)], &config())
}

fn range(from_mib: u64, to_mib: u64) -> Range<Pfn> {
    at(from_mib).pfn()..at(to_mib).pfn()
}

fn stats(machine: &Machine) -> ZoneStats {
    let all: Vec<_> = machine.zone_stats().collect();
    assert_eq!(all.len(), 1);
    all[0]
}

/// All that a view shows, but for what counts events and the most that was ever in use.
fn shown(machine: &Machine) -> String {
    let mut stats = stats(machine);
    stats.events = Default::default();
    std::format!("{stats:?}")
}

/// Everything that a request of this kind gets, in single pages.
fn take_all(machine: &Machine, gfp: Gfp) -> Vec<Pfn> {
    core::iter::from_fn(|| get(machine, gfp, 0).ok()).collect()
}

#[test]
fn isolated_memory_is_given_to_nobody_and_comes_back_as_it_was() {
    // P306, P311, P512
    let machine = machine();
    let before = shown(&machine);
    let free = machine.free_page_count();
    // Half a pair, and a whole one.
    let isolated = machine
        .isolate_pages(range(6, 12), IsolateMode::Other)
        .unwrap();
    assert_eq!(isolated.frames(), range(6, 12));
    assert_eq!(isolated.first_used(isolated.frames()), None);
    machine.verify().unwrap();
    let now = stats(&machine);
    assert_eq!(machine.free_page_count(), free - 3 * PAGEBLOCK_PAGES);
    assert_eq!(now.nr_free[9][MigrateType::Isolate as usize], 3);
    assert_eq!(now.blocks_by_type[MigrateType::Isolate as usize], 3);
    assert_eq!(machine.peak_pages(), 0, "it is not in use");
    for gfp in [GFP_KERNEL, GFP_HIGHUSER_MOVABLE] {
        let all = take_all(&machine, gfp | Gfp::MEMALLOC);
        assert!(all.len() > 5000 && all.iter().all(|pfn| !isolated.frames().contains(pfn)));
        all.into_iter().for_each(|pfn| put(&machine, pfn, 0));
    }
    machine.drain_all();
    drop(isolated);
    machine.verify().unwrap();
    let after = machine.free_page_count();
    assert_eq!(after, free - 1, "but for this CPU's caches");
    let fresh = self::machine();
    drop(
        fresh
            .isolate_pages(range(6, 12), IsolateMode::Other)
            .unwrap(),
    );
    assert_eq!(shown(&fresh), before);
}

#[test]
fn what_is_freed_in_it_goes_straight_to_it_and_the_type_survives() {
    // P311, P331, P969
    let machine = machine();
    // A block of unmovable pages, in use.
    let pages: Vec<_> = (0..64)
        .map(|_| get(&machine, GFP_KERNEL, 0).unwrap())
        .collect();
    let block = machine.blocks.of(pages[0]).unwrap();
    let kind = machine.blocks.blocks[block].kind();
    assert_eq!(kind, MigrateType::Unmovable);
    let frames = machine.blocks.pfn(block)..machine.blocks.pfn(block + 1);
    let refused = machine.isolate_pages(frames.clone(), IsolateMode::Other);
    let error = IsolateError::Unmovable {
        at: pages.iter().copied().min().unwrap(),
    };
    assert_eq!(refused.unwrap_err(), error);
    // The frames beside those in use are isolated with them: pages come free in an isolated block.
    let last = frames.end.0 - 1;
    let isolated = machine
        .isolate_pages(Pfn(last)..frames.end, IsolateMode::Other)
        .unwrap();
    assert_eq!(machine.blocks.blocks[block].kind(), MigrateType::Isolate);
    assert_eq!(machine.blocks.blocks[block].kind_beneath(), kind);
    for pfn in &pages {
        put(&machine, *pfn, 0);
        assert!(machine.is_free(*pfn), "it is in no cache");
    }
    machine.verify().unwrap();
    assert!(
        take_all(&machine, GFP_KERNEL)
            .iter()
            .all(|pfn| !frames.contains(pfn))
    );
    drop(isolated);
    assert_eq!(machine.blocks.blocks[block].kind(), kind);
    machine.verify().unwrap();
    assert!(
        take_all(&machine, GFP_KERNEL)
            .iter()
            .any(|pfn| frames.contains(pfn))
    );
}

#[test]
fn what_any_cpu_has_cached_and_what_was_put_off_comes_back_first() {
    // P332, P500
    let machine = machine();
    for cpu in 0..3 {
        machine.platform().on(cpu);
        let pages: Vec<_> = (0..30)
            .map(|_| get(&machine, GFP_KERNEL, 0).unwrap())
            .collect();
        pages.into_iter().for_each(|pfn| put(&machine, pfn, 0));
        assert_ne!(machine.cached_pages(crate::frame::CpuId(cpu)), 0);
    }
    let late = get(&machine, GFP_KERNEL, 0).unwrap();
    let inside = crate::sync::Local::enter(machine.platform()).unwrap();
    put(&machine, late, 0);
    drop(inside);
    assert!(!machine.is_free(late), "its free was put off");
    let block = machine.blocks.of(late).unwrap();
    let last = machine.blocks.pfn(block + 1);
    let isolated = machine
        .isolate_pages(Pfn(last.0 - 1)..last, IsolateMode::Other)
        .unwrap();
    assert_eq!(machine.cached_page_count(), 0);
    assert!(machine.is_free(late));
    machine.verify().unwrap();
    drop(isolated);
}

#[test]
fn a_range_is_isolated_wholly_or_not_at_all() {
    // P511
    let machine = machine();
    let before = shown(&machine);
    let other = IsolateMode::Other;
    let held = machine.isolate_pages(range(8, 10), other).unwrap();
    let error = machine.isolate_pages(range(4, 12), other).unwrap_err();
    assert_eq!(error, IsolateError::Isolated { at: at(8).pfn() });
    machine.verify().unwrap();
    drop(held);
    let end = at(32).pfn();
    let beyond = machine.isolate_pages(at(30).pfn()..end.add(1), other);
    assert_eq!(beyond.unwrap_err(), IsolateError::NotOneZone { at: end });
    let empty = machine.isolate_pages(end..end, other).unwrap_err();
    assert_eq!(empty, IsolateError::Empty);
    machine
        .platform()
        .nested
        .store(true, core::sync::atomic::Ordering::Relaxed);
    let nested = machine.isolate_pages(range(4, 6), other).unwrap_err();
    machine
        .platform()
        .nested
        .store(false, core::sync::atomic::Ordering::Relaxed);
    assert_eq!(nested, IsolateError::Nested);
    assert_eq!(shown(&machine), before);
    assert!(error.to_string().contains("isolated already"));
}

#[test]
fn two_zones_and_holes_are_no_range() {
    // P502
    let map = [
        node(0, RegionKind::Usable, 0, 16),
        node(0, RegionKind::Reserved, 16, 20),
        node(0, RegionKind::Usable, 20, 32),
        node(1, RegionKind::Usable, 32, 48),
    ];
    let machine = boot(48, &map, &config());
    for (from, to, wrong) in [(12, 24, 16), (28, 36, 32), (16, 20, 16)] {
        let error = machine
            .isolate_pages(range(from, to), IsolateMode::Other)
            .unwrap_err();
        assert_eq!(
            error,
            IsolateError::NotOneZone {
                at: at(wrong).pfn()
            }
        );
    }
    machine.verify().unwrap();
}

#[test]
fn blocks_of_cma_are_isolated_for_their_area_only() {
    // P511
    let machine = machine();
    let block = machine.blocks.of(at(8).pfn()).unwrap();
    {
        let local = crate::sync::Local::enter(machine.platform()).unwrap();
        let mut guard = machine.zones[0].lock(&machine.blocks, &local);
        guard.unpair(block);
        guard.retype(block, MigrateType::Cma);
    }
    let error = machine
        .isolate_pages(range(8, 10), IsolateMode::Other)
        .unwrap_err();
    assert_eq!(error, IsolateError::Cma { at: at(8).pfn() });
    let isolated = machine
        .isolate_pages(range(8, 10), IsolateMode::Cma)
        .unwrap();
    assert_eq!(stats(&machine).free.free_cma, 0);
    machine.verify().unwrap();
    drop(isolated);
    assert_eq!(stats(&machine).free.free_cma, PAGEBLOCK_PAGES);
    machine.verify().unwrap();
}

#[test]
fn a_block_of_the_largest_order_is_found_from_its_second_half() {
    // P511
    let machine = machine();
    let large = get(&machine, GFP_KERNEL, 10).unwrap();
    let half = large.add(PAGEBLOCK_PAGES);
    let error = machine
        .isolate_pages(half..half.add(1), IsolateMode::Other)
        .unwrap_err();
    assert_eq!(error, IsolateError::Unmovable { at: large });
    put(&machine, large, 10);
    // Freed into two isolated blocks at once, it stays two.
    let isolated = machine
        .isolate_pages(large..large.add(1024), IsolateMode::Other)
        .unwrap();
    machine.verify().unwrap();
    assert_eq!(stats(&machine).nr_free[9][MigrateType::Isolate as usize], 2);
    drop(isolated);
    machine.verify().unwrap();
}

#[test]
fn a_whole_block_that_comes_free_while_half_of_it_is_isolated_does_not_merge() {
    // P303
    let machine = machine();
    let large = get(&machine, GFP_KERNEL, 10).unwrap();
    machine.split(large, Order::MAX);
    for i in 0..PAGEBLOCK_PAGES {
        put(&machine, large.add(i), 0);
    }
    machine.drain_all();
    let isolated = machine
        .isolate_pages(large..large.add(PAGEBLOCK_PAGES), IsolateMode::Other)
        .unwrap();
    for i in PAGEBLOCK_PAGES..1024 {
        put(&machine, large.add(i), 0);
    }
    machine.drain_all();
    machine.verify().unwrap();
    let pairs = |machine: &Machine| stats(machine).nr_free[10].iter().sum::<usize>();
    let apart = pairs(&machine);
    drop(isolated);
    assert_eq!(pairs(&machine), apart + 1, "they merge at the end");
    machine.verify().unwrap();
}

#[test]
fn free_page_reporting_leaves_isolated_blocks_alone() {
    // P521
    let config = BootConfig {
        memory_is_zero: false,
        report_keep_blocks: usize::MAX,
        ..config()
    };
    let machine = boot(32, &[node(0, RegionKind::Usable, 0, 32)], &config);
    let isolated = machine
        .isolate_pages(range(8, 12), IsolateMode::Other)
        .unwrap();
    let first = machine.trim();
    assert!(first != 0);
    machine.verify().unwrap();
    drop(isolated);
    assert_eq!(machine.trim(), 2 * PAGEBLOCK_PAGES);
    // What the platform has already does not wait again.
    drop(
        machine
            .isolate_pages(range(8, 12), IsolateMode::Other)
            .unwrap(),
    );
    assert_eq!(machine.trim(), 0);
    machine.verify().unwrap();
}

#[test]
fn isolations_at_random_between_requests_lose_and_change_nothing() {
    // P311, P511, P512
    let machine = machine();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = |n: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 20) as usize % n
    };
    let (mut live, mut isolated, mut refused) = (Vec::new(), Vec::new(), 0);
    for step in 0..4000 {
        machine.platform().on(next(4) as u32);
        match next(8) {
            0..3 => {
                let gfp = [GFP_KERNEL, GFP_HIGHUSER_MOVABLE][next(2)];
                let order = next(11) as u8;
                if let Ok(pfn) = get(&machine, gfp, order) {
                    let end = pfn.add(1 << order);
                    let out = |held: &crate::page::IsolatedPages<'_, _>| {
                        end <= held.frames().start || held.frames().end <= pfn
                    };
                    assert!(isolated.iter().all(out), "step {step}: {pfn} is isolated");
                    live.push((pfn, order));
                }
            }
            3..6 if !live.is_empty() => {
                let (pfn, order) = live.swap_remove(next(live.len()));
                put(&machine, pfn, order);
            }
            6 => {
                let start = at(0).pfn().add(next(7000));
                let range = start..start.add(1 + next(1200));
                match machine.isolate_pages(range, IsolateMode::Other) {
                    Ok(held) => isolated.push(held),
                    Err(_) => refused += 1,
                }
            }
            _ if !isolated.is_empty() => drop(isolated.swap_remove(next(isolated.len()))),
            _ => {}
        }
        if step % 8 == 0 {
            machine.verify().unwrap();
        }
    }
    assert!(refused > 20);
    isolated.clear();
    live.into_iter()
        .for_each(|(pfn, order)| put(&machine, pfn, order));
    machine.drain_all();
    machine.verify().unwrap();
    // Each CPU's caches stay.
    assert!(machine.free_page_count() > machine.managed_pages() - 64);
}

#[test]
fn free_blocks_of_a_pageblock_are_taken_out_while_the_zone_stays_above_min() {
    // P349
    let machine = machine();
    let ground = machine
        .grounds_of(NodeId(0), ZoneKind::Movable)
        .next()
        .unwrap();
    let block = at(8).pfn();
    let take = |order: u8, wanted| {
        let mut got = Vec::new();
        let order = Order::new(order).unwrap();
        let taken = ground.take_targets(block, order, wanted, Locking::Wait, |pfn| got.push(pfn));
        assert_eq!(taken.unwrap_or(0), got.len());
        (taken, got)
    };
    // Nothing of an isolated block, also not for who has looked at it before.
    let isolated = machine
        .isolate_pages(range(8, 10), IsolateMode::Other)
        .unwrap();
    assert_eq!(take(5, 4).0, Ok(0));
    let spare = get(&machine, GFP_KERNEL, 3).unwrap();
    let order = Order::new(3).unwrap();
    let captured = ground.give_back(&[Some(spare)], order, block, Some(order));
    assert_eq!(captured, None);
    drop(isolated);
    let (taken, got) = take(5, 4);
    assert_eq!(taken, Ok(4));
    let inside = |pfn: &Pfn| range(8, 10).contains(pfn) && pfn.0.is_multiple_of(32);
    assert!(got.iter().all(inside));
    // Until the zone is at its min watermark.
    let min = stats(&machine).watermarks.min;
    let mut live = Vec::new();
    while machine.free_page_count() > min + 64 {
        live.push(get(&machine, GFP_KERNEL | Gfp::HIGH, 0).unwrap());
        machine.drain_here();
    }
    let before = machine.free_page_count();
    let left = take(0, 512).1;
    assert!(
        before - left.len() >= min,
        "{before} - {} < {min}",
        left.len()
    );
    for (blocks, order) in [(&left, 0), (&got, 5)] {
        let blocks: Vec<_> = blocks.iter().copied().map(Some).collect();
        ground.give_back(&blocks, Order::new(order).unwrap(), block, None);
    }
    live.into_iter().for_each(|pfn| put(&machine, pfn, 0));
    machine.drain_here();
    machine.verify().unwrap();
}
