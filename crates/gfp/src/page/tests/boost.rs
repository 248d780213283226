//! The watermark boost.

use crate::flags::{GFP_ATOMIC, GFP_HIGHUSER_MOVABLE, GFP_KERNEL, GFP_NOWAIT, Gfp, ZoneKind};
use crate::frame::{NodeId, Order, PAGEBLOCK_PAGES, Pfn};
use crate::page::{PageAllocator, PageRequest, Relief, WakeUp};
use crate::policy::boost::WakeCompaction;
use crate::testing::{TestPlatform, pages};
use std::cell::Cell;
use std::vec::Vec;

type Machine = PageAllocator<TestPlatform>;

const NODE: NodeId = NodeId(0);

/// Counts the wake-ups of the background.
#[derive(Default)]
struct Wakes(Cell<usize>);

impl Relief<TestPlatform> for Wakes {
    fn wake_background(&self, _: &Machine, node: NodeId, call: &WakeUp) {
        assert_eq!(
            (node, call.order, call.highest),
            (NODE, 0, ZoneKind::Normal)
        );
        self.0.set(self.0.get() + 1);
    }
}

/// A machine whose memory is in use by movable pages, but for half of each of the first `blocks`
/// pageblocks that are wholly in use. With what is in use.
fn half_used(blocks: usize) -> (Machine, Vec<Pfn>) {
    let machine = pages(64);
    let request = PageRequest::new(GFP_HIGHUSER_MOVABLE | Gfp::MEMALLOC, Order::ZERO);
    let mut held: Vec<Pfn> = core::iter::from_fn(|| machine.alloc(&request).ok()).collect();
    held.sort();
    let first = held.iter().position(|pfn| pfn.is_aligned(Order::PAGEBLOCK));
    let first = held[first.unwrap()];
    let is_given = |pfn: &Pfn| {
        let at = pfn.0.wrapping_sub(first.0);
        at / PAGEBLOCK_PAGES < blocks && at % PAGEBLOCK_PAGES < PAGEBLOCK_PAGES / 2
    };
    for pfn in held.extract_if(.., |pfn| is_given(pfn)) {
        // SAFETY: it is ours.
        unsafe { machine.free(pfn, Order::ZERO) }.unwrap();
    }
    machine.drain_all();
    assert_eq!(machine.free_page_count(), blocks * PAGEBLOCK_PAGES / 2);
    (machine, held)
}

fn boost(machine: &Machine) -> usize {
    machine.zones[0].boost()
}

fn exhaust(machine: &Machine, gfp: Gfp) -> Vec<Pfn> {
    let request = PageRequest::new(gfp, Order::ZERO);
    core::iter::from_fn(|| machine.alloc(&request).ok()).collect()
}

fn finish(machine: &Machine, held: impl IntoIterator<Item = Pfn>) {
    for pfn in held {
        // SAFETY: it is ours.
        unsafe { machine.free(pfn, Order::ZERO) }.unwrap();
    }
    machine.drain_all();
    machine.verify().unwrap();
}

/// Takes unmovable pages, which have no block of their own, until the boost changes.
fn mix(machine: &Machine, gfp: Gfp, relief: &Wakes) -> Vec<Pfn> {
    let before = boost(machine);
    let mut taken = Vec::new();
    while boost(machine) == before && taken.len() < PAGEBLOCK_PAGES {
        let request = PageRequest::new(gfp, Order::ZERO);
        taken.push(machine.alloc_with(&request, relief).unwrap());
    }
    taken
}

#[test]
fn each_mixed_block_raises_the_boost_to_its_cap_and_wakes_the_background() {
    // P215, P216, P318
    let (machine, mut held) = half_used(16);
    machine.begin_boosting(NODE);
    let high = machine.zones[0].watermarks().high;
    let cap = (high * 3 / 2).max(512);
    assert!(cap < 1024, "{cap}: the second step is the last");
    let wakes = Wakes::default();
    for (pages, woken) in [(512, true), (cap, true), (cap, false)] {
        let before = wakes.0.get();
        held.extend(mix(&machine, GFP_NOWAIT, &wakes));
        assert_eq!((boost(&machine), wakes.0.get() != before), (pages, woken));
        assert!(!machine.has_boost_to_tell());
    }
    let stats = machine.zone_stats().next().unwrap();
    assert_eq!(
        (stats.boost, stats.watermarks.high),
        (cap, high),
        "as zoneinfo shows them"
    );
    assert_eq!(
        machine.cycle_target(NODE, ZoneKind::Normal),
        high + cap,
        "P215: a pass frees for it"
    );
    finish(&machine, held);
}

#[test]
fn a_bulk_wakes_the_background_as_well() {
    // P318, P344
    let (machine, mut held) = half_used(16);
    machine.begin_boosting(NODE);
    let wakes = Wakes::default();
    let mut places = [None; 64];
    let request = PageRequest::new(GFP_NOWAIT, Order::ZERO);
    assert!(machine.alloc_bulk_with(&request, &mut places, &wakes) > 0);
    assert_eq!((boost(&machine), wakes.0.get()), (512, 1));
    held.extend(places.into_iter().flatten());
    finish(&machine, held);
}

#[test]
fn who_may_not_wake_raises_the_boost_and_wakes_nobody() {
    // P318
    let (machine, mut held) = half_used(16);
    machine.begin_boosting(NODE);
    let wakes = Wakes::default();
    held.extend(mix(&machine, GFP_NOWAIT & !Gfp::KSWAPD_RECLAIM, &wakes));
    assert_eq!((boost(&machine), wakes.0.get()), (512, 0));
    finish(&machine, held);
}

#[test]
fn nothing_is_withheld_where_no_background_would_work_it_off() {
    // P216; and a factor of 0 (P702)
    let (machine, mut held) = half_used(16);
    held.extend(mix(&machine, GFP_NOWAIT, &Wakes::default()));
    assert_eq!(boost(&machine), 0);
    // What was withheld is given back when the background ends.
    machine.begin_boosting(NODE);
    held.extend(mix(&machine, GFP_NOWAIT, &Wakes::default()));
    assert_eq!(boost(&machine), 512);
    machine.end_boosting(NODE);
    assert_eq!(boost(&machine), 0);
    held.extend(mix(&machine, GFP_NOWAIT, &Wakes::default()));
    assert_eq!(boost(&machine), 0);
    finish(&machine, held);
}

#[test]
fn ordinary_requests_stop_above_the_boost_and_urgent_ones_do_not_see_it() {
    // P215, P272
    let (machine, mut held) = half_used(16);
    machine.begin_boosting(NODE);
    held.extend(mix(&machine, GFP_NOWAIT, &Wakes::default()));
    let zone = &machine.zones[0];
    let min = zone.watermarks().min;
    held.extend(exhaust(&machine, GFP_NOWAIT & !Gfp::KSWAPD_RECLAIM));
    assert_eq!(zone.free_pages(), min + boost(&machine));
    held.extend(exhaust(&machine, GFP_ATOMIC));
    let floor = min - min / 2;
    assert_eq!(zone.free_pages(), floor - floor / 4);
    finish(&machine, held);
}

#[test]
fn a_boost_is_given_up_before_a_request_ends_without_memory() {
    // P123: as reserves are
    let (machine, mut held) = half_used(16);
    machine.begin_boosting(NODE);
    held.extend(mix(&machine, GFP_NOWAIT, &Wakes::default()));
    held.extend(exhaust(&machine, GFP_NOWAIT & !Gfp::KSWAPD_RECLAIM));
    let zone = &machine.zones[0];
    let min = zone.watermarks().min;
    assert_eq!(zone.free_pages(), min + boost(&machine));
    held.extend(exhaust(&machine, GFP_KERNEL));
    assert_eq!((zone.free_pages(), boost(&machine)), (min, 0));
    finish(&machine, held);
}

#[test]
fn a_run_takes_off_what_it_began_with_and_not_what_came_meanwhile() {
    // P217
    let (machine, mut held) = half_used(16);
    machine.begin_boosting(NODE);
    held.extend(mix(&machine, GFP_NOWAIT, &Wakes::default()));
    let began = machine.boosts(NODE, ZoneKind::Normal);
    assert_eq!(began.pages(), 512);
    held.extend(mix(&machine, GFP_NOWAIT, &Wakes::default()));
    let more = boost(&machine) - 512;
    assert!(more > 0);
    let wake = machine.work_off(NODE, &began);
    assert_eq!(
        (wake, boost(&machine)),
        (WakeCompaction::Order(9), more),
        "whole blocks are to be made"
    );
    let nothing = machine.boosts(NODE, ZoneKind::Dma);
    assert_eq!(machine.work_off(NODE, &nothing), WakeCompaction::No);
    assert_eq!(boost(&machine), more);
    finish(&machine, held);
}
