//! Free page reporting to a device (P520, P521).

mod others;

use super::shards::{Machine, get, machine, order, put};
use crate::flags::{GFP_HIGHUSER_MOVABLE, GFP_KERNEL};
use crate::frame::{Order, PAGEBLOCK_PAGES, Pfn};
use crate::page::{PageReporting, Reported, ReportingDevice, ReportingError};
use crate::platform::{FrameRun, Platform};
use crate::sync::atomic::Ordering::Relaxed;
use crate::testing::TestPlatform;
use std::collections::BTreeSet;
use std::string::ToString;
use std::vec::Vec;

const SECOND_NS: u64 = 1_000_000_000;

/// Remembers what it is told.
struct Device<'m> {
    machine: &'m Machine,
    capacity: usize,
    batches: Vec<Vec<FrameRun>>,
    answer: Reported,
}

impl<'m> Device<'m> {
    fn new(machine: &'m Machine, capacity: usize) -> Device<'m> {
        Device {
            machine,
            capacity,
            batches: Vec::new(),
            answer: Reported::Taken,
        }
    }
}

impl ReportingDevice for Device<'_> {
    fn capacity(&self) -> usize {
        self.capacity
    }

    fn report(&mut self, blocks: &[FrameRun]) -> Reported {
        assert!((1..=self.capacity).contains(&blocks.len()));
        for block in blocks {
            for frame in 0..block.pages {
                assert!(
                    !self.machine.is_free(block.first.add(frame)),
                    "it is taken out"
                );
            }
            // Whoever wants to know what it was finds something else.
            let bytes = block.pages * 4096;
            // SAFETY: the blocks are the device's until it returns.
            unsafe {
                let ptr = self.machine.ptr_of(block.first).as_ptr();
                ptr.write_bytes(0xa5, bytes);
            }
        }
        self.batches.push(blocks.to_vec());
        self.answer
    }
}

fn register<'m>(
    machine: &'m Machine,
    capacity: usize,
) -> PageReporting<'m, TestPlatform, Device<'m>> {
    let device = Device::new(machine, capacity);
    machine.register_reporting(device, None).unwrap()
}

/// Ticks until nothing more is reported. Returns the pages that were.
fn settle(reporting: &mut PageReporting<'_, TestPlatform, Device<'_>>, machine: &Machine) -> usize {
    let mut all = 0;
    reporting.tick();
    loop {
        machine.platform().pass_ns(2 * SECOND_NS);
        let pages = reporting.tick();
        machine.verify().unwrap();
        if pages == 0 {
            return all;
        }
        all += pages;
    }
}

/// Frames that the device was told of, each time.
fn told(device: &Device<'_>) -> Vec<Pfn> {
    let runs = device.batches.iter().flatten();
    runs.flat_map(|run| (0..run.pages).map(|i| run.first.add(i)))
        .collect()
}

#[test]
fn a_second_device_is_refused_until_the_first_is_gone() {
    // P520
    let machine = machine(32, 32);
    let first = register(&machine, 4);
    let second = machine.register_reporting(Device::new(&machine, 4), None);
    let error = second.err().unwrap();
    assert_eq!(error, ReportingError::Busy);
    assert!(error.to_string().contains("drop its registration first"));
    drop(first);
    drop(register(&machine, 4));
    machine.platform().nested.store(true, Relaxed);
    let nested = machine.register_reporting(Device::new(&machine, 4), None);
    assert_eq!(nested.err(), Some(ReportingError::Nested));
    machine.platform().nested.store(false, Relaxed);
    machine.verify().unwrap();
}

#[test]
fn orders_and_capacities_that_cannot_be_are_refused() {
    // P520, P521
    let machine = machine(32, 32);
    let small = machine.register_reporting(Device::new(&machine, 4), Some(order(8)));
    let error = small.err().unwrap();
    assert_eq!(error, ReportingError::TooSmall { order: order(8) });
    assert!(error.to_string().contains("report from order 9 on"));
    for capacity in [0, 33] {
        let error = machine.register_reporting(Device::new(&machine, capacity), None);
        assert_eq!(error.err(), Some(ReportingError::Capacity { capacity }));
    }
    // None of them is in the way.
    drop(register(&machine, 32));
}

#[test]
fn the_device_is_told_two_seconds_after_memory_came_free() {
    // P520
    let machine = machine(64, 64);
    let mut reporting = register(&machine, 1);
    assert_eq!(reporting.due_ns(), None);
    settle(&mut reporting, &machine);
    machine.platform().pass_ns(10 * SECOND_NS);
    assert_eq!((reporting.tick(), reporting.due_ns()), (0, None));
    let block = get(&machine, GFP_KERNEL, 10);
    put(&machine, block, 10);
    let before = reporting.device().batches.len();
    let start = machine.platform().now_ns();
    assert_eq!(reporting.tick(), 0);
    let due = reporting.due_ns().unwrap();
    assert!((start + 2 * SECOND_NS..start + 2 * SECOND_NS + 100).contains(&due));
    machine.platform().pass_ns(2 * SECOND_NS - 1000);
    assert_eq!(reporting.tick(), 0, "too early");
    assert_eq!(reporting.due_ns(), Some(due), "nothing puts it off");
    assert_eq!(reporting.device().batches.len(), before);
    machine.platform().pass_ns(1000);
    assert_eq!(reporting.tick(), Order::MAX.pages());
    assert_eq!(reporting.due_ns(), None);
    machine.verify().unwrap();
}

#[test]
fn all_free_blocks_above_the_mark_are_told_once_until_they_are_used() {
    // P521
    let machine = machine(64, 16);
    let mut reporting = register(&machine, 2);
    let pages = settle(&mut reporting, &machine);
    let zone = &machine.zones[0];
    let all = told(reporting.device());
    let once: BTreeSet<Pfn> = all.iter().copied().collect();
    assert_eq!((all.len(), once.len()), (pages, pages), "each of them once");
    assert_eq!(
        zone.nr_dirty(),
        0,
        "this zone has more than low and a batch"
    );
    let free: usize = (9..=10).map(|o| machine.nr_free_by_order()[o] << o).sum();
    assert_eq!(pages, free);
    assert_eq!(settle(&mut reporting, &machine), 0, "nothing is told again");

    // Used and free again: of a block of which one page was used too, but not of others.
    let page = get(&machine, GFP_KERNEL, 0);
    let block = get(&machine, GFP_HIGHUSER_MOVABLE, 9);
    put(&machine, page, 0);
    put(&machine, block, 9);
    machine.drain_all();
    let waiting = zone.nr_dirty();
    assert!((1..=2).contains(&waiting), "{waiting}");
    let before = reporting.device().batches.len();
    assert!(settle(&mut reporting, &machine) != 0);
    let again = &reporting.device().batches[before..];
    assert!(
        again
            .iter()
            .flatten()
            .any(|run| { (run.first..run.first.add(run.pages)).contains(&block) })
    );
    assert_eq!(zone.nr_dirty(), 0);
}

#[test]
fn a_round_takes_a_sixteenth_in_batches_of_the_capacity() {
    // P521
    let machine = machine(256, 64);
    let blocks = machine.zones[0].nr_free(10, crate::flags::MigrateType::Movable);
    assert!(blocks > 32);
    let mut reporting = register(&machine, 1);
    reporting.tick();
    machine.platform().pass_ns(2 * SECOND_NS);
    let pages = reporting.tick();
    let batches = &reporting.device().batches;
    let largest = |run: &&FrameRun| run.pages == Order::MAX.pages();
    let told = batches.iter().flatten().filter(largest).count();
    assert_eq!(told, blocks.div_ceil(16));
    assert!(batches.iter().all(|batch| batch.len() == 1));
    assert!(pages >= told * Order::MAX.pages());
    // Highest address first.
    let firsts: Vec<_> = batches.iter().map(|batch| batch[0]).collect();
    let firsts: Vec<_> = firsts.iter().filter(largest).map(|run| run.first).collect();
    assert!(firsts.is_sorted_by(|a, b| a > b), "{firsts:?}");
    assert!(reporting.due_ns().is_some(), "the rest follows");
    machine.verify().unwrap();
}

#[test]
fn a_zone_keeps_low_and_a_batch() {
    // P521: 32 blocks of order 10 are 128 MiB, of order 9 half of that
    let machine = machine(64, 64);
    let mut reporting = register(&machine, 32);
    assert_eq!(settle(&mut reporting, &machine), 0);
    drop(reporting);
    let zone = &machine.zones[0];
    // The largest batch that may be taken of the largest order.
    let free = zone.free_pages() - zone.watermarks().low;
    let capacity = free >> 10;
    assert!((1..32).contains(&capacity));
    let mut reporting = register(&machine, capacity + 1);
    assert_eq!(settle_order(&mut reporting, &machine, 10), 0);
    drop(reporting);
    let mut reporting = register(&machine, capacity);
    assert!(settle_order(&mut reporting, &machine, 10) != 0);
}

/// Makes single pages of a block of the largest order and frees one half of them.
fn free_half(machine: &Machine, block: Pfn, half: Pfn) {
    machine.split(block, Order::MAX);
    (0..PAGEBLOCK_PAGES).for_each(|i| put(machine, half.add(i), 0));
    machine.drain_all();
}

/// [`settle`], but the pages of blocks of an order.
fn settle_order(
    reporting: &mut PageReporting<'_, TestPlatform, Device<'_>>,
    machine: &Machine,
    order: u8,
) -> usize {
    settle(reporting, machine);
    let runs = reporting.device().batches.iter().flatten();
    let pages = runs.map(|run| run.pages);
    pages.filter(|pages| *pages == 1 << order).sum()
}

#[test]
fn an_order_above_pageblocks_leaves_these_alone() {
    // P520
    let machine = machine(64, 64);
    let single = get(&machine, GFP_KERNEL, 10);
    free_half(&machine, single, single.add(PAGEBLOCK_PAGES));
    let device = Device::new(&machine, 1);
    let least = Some(Order::MAX);
    let mut reporting = machine.register_reporting(device, least).unwrap();
    assert!(settle(&mut reporting, &machine) != 0);
    let runs: Vec<_> = reporting.device().batches.iter().flatten().collect();
    assert!(
        runs.iter()
            .all(|run| run.pages == 1024 && run.first.0 % 1024 == 0)
    );
    let zone = &machine.zones[0];
    assert_eq!(zone.nr_dirty(), machine.nr_free_by_order()[9]);
    // Its other half waits; joined, the mark that is missing has both told (P521).
    assert_ne!(zone.nr_dirty(), 0);
    let before = reporting.device().batches.len();
    (0..PAGEBLOCK_PAGES).for_each(|i| put(&machine, single.add(i), 0));
    machine.drain_all();
    assert_eq!(settle(&mut reporting, &machine), Order::MAX.pages());
    assert_eq!(reporting.device().batches[before][0].first, single);
    assert_eq!(zone.nr_dirty(), machine.nr_free_by_order()[9]);
}

#[test]
fn a_large_block_of_which_half_is_marked_is_told_again() {
    // P521: the mark disappears on merge with an unreported block
    let machine = machine(64, 64);
    let pair = get(&machine, GFP_KERNEL, 10);
    free_half(&machine, pair, pair);
    let mut reporting = register(&machine, 1);
    settle(&mut reporting, &machine);
    let of_half = |reporting: &PageReporting<'_, TestPlatform, Device<'_>>| {
        let all = told(reporting.device());
        all.iter().filter(|pfn| **pfn == pair).count()
    };
    assert_eq!(of_half(&reporting), 1);
    let half = pair.add(PAGEBLOCK_PAGES);
    (0..PAGEBLOCK_PAGES).for_each(|i| put(&machine, half.add(i), 0));
    machine.drain_all();
    assert_eq!(settle(&mut reporting, &machine), Order::MAX.pages());
    assert_eq!(of_half(&reporting), 2);
}

#[test]
fn what_the_device_refuses_waits_as_before() {
    // P521
    let machine = machine(64, 64);
    let mut reporting = register(&machine, 2);
    reporting.device_mut().answer = Reported::Refused;
    reporting.tick();
    let before = (machine.zones[0].nr_dirty(), machine.nr_free_by_order());
    machine.platform().pass_ns(2 * SECOND_NS);
    assert_eq!(reporting.tick(), 0);
    assert_eq!(reporting.device().batches.len(), 1, "the round ends");
    machine.verify().unwrap();
    let after = (machine.zones[0].nr_dirty(), machine.nr_free_by_order());
    assert_eq!(before, after);
    reporting.device_mut().answer = Reported::Taken;
    assert!(settle(&mut reporting, &machine) != 0);
    assert_eq!(machine.zones[0].nr_dirty(), 0);
}

#[test]
fn a_device_that_panics_loses_no_memory() {
    // P521
    struct Panics;
    impl ReportingDevice for Panics {
        fn report(&mut self, _: &[FrameRun]) -> Reported {
            panic!("the device is gone");
        }
        fn capacity(&self) -> usize {
            2
        }
    }
    let machine = machine(64, 64);
    let free = machine.free_page_count();
    let mut reporting = machine.register_reporting(Panics, None).unwrap();
    reporting.tick();
    machine.platform().pass_ns(2 * SECOND_NS);
    let round = std::panic::AssertUnwindSafe(|| reporting.tick());
    assert!(std::panic::catch_unwind(round).is_err());
    drop(reporting);
    machine.verify().unwrap();
    assert_eq!(machine.free_page_count(), free);
    drop(register(&machine, 2));
}
