//! Reserves for requests that cannot wait.

use crate::flags::{GFP_ATOMIC, GFP_KERNEL, GFP_NOWAIT, Gfp, MigrateType};
use crate::frame::{NodeId, Order, PAGEBLOCK_PAGES, Pfn};
use crate::page::{Alone, BootConfig, Need, PageAllocator, PageRequest, Reclaimed, Relief};
use crate::policy::effort::Machine as Abilities;
use crate::policy::highatomic::{AtomicReserve, Demand};
use crate::policy::watermark::{AllocFlags, TaskRights};
use crate::sync::Local;
use crate::testing::{TestPlatform, pages, region};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::vec::Vec;

type Machine = PageAllocator<TestPlatform>;

const NODE: NodeId = NodeId(0);
const NOWAIT: Gfp = GFP_NOWAIT;

fn order(o: u8) -> Order {
    Order::new(o).unwrap()
}

fn get(machine: &Machine, gfp: Gfp, o: u8) -> Option<Pfn> {
    machine.alloc(&PageRequest::new(gfp, order(o))).ok()
}

fn exhaust(machine: &Machine, gfp: Gfp) -> Vec<(Pfn, u8)> {
    core::iter::from_fn(|| get(machine, gfp, 0).map(|pfn| (pfn, 0))).collect()
}

fn free(machine: &Machine, held: impl IntoIterator<Item = (Pfn, u8)>) {
    for (pfn, o) in held {
        // SAFETY: it is ours.
        unsafe { machine.free(pfn, order(o)) }.unwrap();
    }
    machine.drain_all();
    machine.verify().unwrap();
}

/// Pages reserved, free ones of them, and those that others may not count.
fn reserve(machine: &Machine) -> (usize, usize, usize) {
    let zone = machine.zone_stats().next().unwrap();
    assert_eq!(
        zone.reserved_highatomic,
        zone.blocks_by_type[MigrateType::HighAtomic as usize] * PAGEBLOCK_PAGES
    );
    (
        zone.reserved_highatomic,
        zone.free_highatomic,
        zone.free.free_highatomic,
    )
}

/// A machine of 256 MiB with a background task, of which all is in use above min.
fn full() -> (Machine, Vec<(Pfn, u8)>) {
    let config = BootConfig {
        watermark_boost_factor: 0,
        ..BootConfig::default()
    };
    let platform = TestPlatform::new(4 << 30, 256 << 20);
    let map = [region(4 << 30, (4 << 30) + (256 << 20))];
    let machine = PageAllocator::boot(platform, &map, &config).unwrap();
    machine.begin_boosting(NODE);
    let held = exhaust(&machine, NOWAIT);
    assert_eq!(machine.free_page_count(), machine.zones[0].watermarks().min);
    (machine, held)
}

#[test]
fn an_urgent_block_in_need_reserves_its_pageblock_of_which_only_the_demand_is_withheld() {
    // P278, P333, P334, P823
    let (machine, mut held) = full();
    assert_eq!(reserve(&machine), (0, 0, 0));
    // Of an order that no CPU keeps.
    let pfn = get(&machine, GFP_ATOMIC, 6).unwrap();
    held.push((pfn, 6));
    assert_eq!(machine.blocks.kind_of(pfn), MigrateType::HighAtomic);
    let (reserved, _, withheld) = reserve(&machine);
    assert_eq!((reserved, withheld), (512, 64), "not 512 pages (P337)");
    // The next comes from there, if it can, though there may be others.
    let (_, before, _) = reserve(&machine);
    let next = get(&machine, GFP_ATOMIC, 2).unwrap();
    held.push((next, 2));
    assert_eq!(machine.blocks.kind_of(next), MigrateType::HighAtomic);
    let (_, after, withheld) = reserve(&machine);
    assert_eq!(
        (before - after, withheld),
        (4, after.min(68)),
        "P331: only this one"
    );
    free(&machine, held);
}

#[test]
fn a_block_of_the_reserve_that_is_used_up_is_none_any_more() {
    // P333, P823: there is nothing in it to keep, and it must not stand in the way of another.
    let (machine, mut held) = full();
    let first = get(&machine, GFP_ATOMIC, 6).unwrap();
    held.push((first, 6));
    assert_eq!(reserve(&machine).0, PAGEBLOCK_PAGES);
    let (_, mut left, _) = reserve(&machine);
    while left != 0 {
        let local = Local::enter(machine.platform()).unwrap();
        let o = left.ilog2().min(6) as u8;
        let request = PageRequest::new(GFP_ATOMIC, order(o));
        let flags = AllocFlags::NO_WATERMARKS.with(AllocFlags::HIGHATOMIC);
        let pfn = match o {
            0 => machine.take_last(&local, &request, flags.with(AllocFlags::NON_BLOCK)),
            _ => machine.take_reserved(&local, &request, flags),
        };
        drop(local);
        let pfn = pfn.unwrap();
        machine.hand_out(pfn, &request);
        held.push((pfn, o));
        left -= order(o).pages();
    }
    assert_eq!(reserve(&machine), (0, 0, 0));
    assert_ne!(machine.blocks.kind_of(first), MigrateType::HighAtomic);
    // A page that was taken from it and is used up makes no reserve of it again.
    machine.note_near_miss(first, order(6));
    assert_eq!(reserve(&machine), (0, 0, 0));
    // What comes free there is for everybody, and the demand is met from elsewhere.
    free(&machine, held);
    assert_eq!(reserve(&machine), (0, 0, 0));
    machine.settle_reserves(NODE);
    assert_eq!(reserve(&machine).0, PAGEBLOCK_PAGES);
}

#[test]
fn a_machine_of_less_than_a_hundred_pageblocks_reserves_none() {
    // P333
    let machine = pages(64);
    machine.begin_boosting(NODE);
    let mut held = exhaust(&machine, NOWAIT);
    held.push((get(&machine, GFP_ATOMIC, 1).unwrap(), 1));
    assert_eq!(reserve(&machine), (0, 0, 0));
    free(&machine, held);
}

#[test]
fn without_a_background_nothing_is_kept() {
    let machine = pages(256);
    let mut held = exhaust(&machine, NOWAIT);
    held.push((get(&machine, GFP_ATOMIC, 1).unwrap(), 1));
    held.extend(exhaust(&machine, GFP_ATOMIC));
    assert_eq!(
        (reserve(&machine), machine.zones[0].boost()),
        ((0, 0, 0), 0)
    );
    free(&machine, held);
    // And what was kept is given back when it ends.
    let (machine, mut held) = full();
    held.push((get(&machine, GFP_ATOMIC, 1).unwrap(), 1));
    held.extend(exhaust(&machine, GFP_ATOMIC));
    assert!(machine.zones[0].boost() != 0);
    free(&machine, held.split_off(held.len() - 50));
    machine.end_boosting(NODE);
    assert_eq!(
        (reserve(&machine), machine.zones[0].boost()),
        ((0, 0, 0), 0)
    );
    free(&machine, held);
}

#[test]
fn a_demand_that_has_ended_gives_its_blocks_back() {
    // P823: by a request in need, or by the background
    for background in [false, true] {
        let (machine, mut held) = full();
        held.push((get(&machine, GFP_ATOMIC, 1).unwrap(), 1));
        machine.platform().advance(1000);
        held.extend(exhaust(&machine, NOWAIT));
        assert_eq!(reserve(&machine).0, 512, "a second is not enough");
        machine
            .platform()
            .advance(u64::from(Demand::TICKS_MAX) * 1000);
        match background {
            true => machine.settle_reserves(NODE),
            false => assert_eq!(get(&machine, NOWAIT, 0), None),
        }
        assert_eq!(reserve(&machine), (0, 0, 0));
        free(&machine, held);
    }
}

#[test]
fn demand_that_found_no_block_is_met_by_the_background() {
    // P823: a failure counts four times
    let (machine, mut held) = full();
    held.extend(exhaust(&machine, GFP_ATOMIC | Gfp::MEMALLOC));
    assert_eq!(get(&machine, GFP_ATOMIC, 3), None);
    assert_eq!(reserve(&machine), (0, 0, 0));
    free(&machine, held);
    machine.settle_reserves(NODE);
    assert_eq!(reserve(&machine), (512, 512, 32));
    machine.settle_reserves(NODE);
    assert_eq!(reserve(&machine), (512, 512, 32), "once is enough");
    machine.verify().unwrap();
}

#[test]
fn pressure_leaves_one_block_and_takes_the_last_before_a_kill() {
    // P118, P123, P335, P959
    let (machine, held) = full();
    free(&machine, held);
    for _ in 0..200 {
        let zone = &machine.zones[0];
        let flags = AllocFlags::slow(GFP_ATOMIC, 3, &TaskRights::default());
        machine.note_failure(&PageRequest::new(GFP_ATOMIC, order(3)), flags);
        assert_eq!(zone.boost(), 0);
    }
    for _ in 0..4 {
        machine.settle_reserves(NODE);
    }
    assert_eq!(reserve(&machine), (1024, 1024, 1024), "P333: 1 %");
    let request = PageRequest::new(GFP_KERNEL, Order::ZERO);
    machine.unreserve_one(&request);
    assert_eq!(reserve(&machine).0, 512);
    machine.unreserve_one(&request);
    assert_eq!(reserve(&machine).0, 512, "the last stays");
    // Ordinary requests leave it alone until they would end without memory.
    let held = exhaust(&machine, NOWAIT & !Gfp::KSWAPD_RECLAIM);
    assert_eq!(reserve(&machine).0, 512);
    let more = exhaust(&machine, GFP_KERNEL);
    assert_eq!(reserve(&machine), (0, 0, 0));
    free(&machine, held.into_iter().chain(more));
}

#[test]
fn one_page_that_cannot_wait_may_come_from_the_reserve_when_nothing_else_is_left() {
    // P336, P959, P823
    let (machine, mut held) = full();
    held.push((get(&machine, GFP_ATOMIC, 1).unwrap(), 1));
    // Who may take all but what is in blocks of the reserve gets what nobody is kept from there.
    held.extend(exhaust(&machine, NOWAIT | Gfp::MEMALLOC));
    let (_, left, withheld) = reserve(&machine);
    assert_eq!((machine.free_page_count(), left, withheld), (2, 2, 2));
    let local = Local::enter(machine.platform()).unwrap();
    let request = PageRequest::new(NOWAIT, Order::ZERO);
    let take = |flags| machine.take_last(&local, &request, flags);
    assert_eq!(take(AllocFlags::NO_WATERMARKS), None);
    let pfn = take(AllocFlags::NO_WATERMARKS.with(AllocFlags::NON_BLOCK)).unwrap();
    drop(local);
    machine.hand_out(pfn, &request);
    held.push((pfn, 0));
    assert_eq!(machine.free_page_count(), 1);
    free(&machine, held);
}

#[test]
fn a_burst_that_fails_keeps_more_free_for_the_next_until_it_is_forgotten() {
    // P824
    let (machine, held) = full();
    let zone = &machine.zones[0];
    let (min, cap) = (zone.watermarks().min, AtomicReserve::cap(512, 65_536));
    let urgent = exhaust(&machine, GFP_ATOMIC);
    let kept = zone.boost.single();
    assert_eq!(kept, (min / 4).max(32), "one failure");
    free(&machine, held.into_iter().chain(urgent));
    // Ordinary requests stop earlier now, so that the next burst finds more.
    let held = exhaust(&machine, NOWAIT & !Gfp::KSWAPD_RECLAIM);
    assert_eq!(zone.free_pages(), min + kept);
    let urgent = exhaust(&machine, GFP_ATOMIC);
    let floor = min - min / 2;
    let floor = floor - floor / 4;
    assert_eq!(
        (urgent.len(), zone.free_pages()),
        (min + kept - floor, floor)
    );
    for _ in 0..20 {
        assert_eq!(get(&machine, GFP_ATOMIC, 0), None);
    }
    assert!(zone.boost() > kept && zone.boost() <= cap);
    machine
        .platform()
        .advance(u64::from(AtomicReserve::TICKS_MAX) * 1000);
    free(&machine, urgent);
    let more = exhaust(&machine, NOWAIT & !Gfp::KSWAPD_RECLAIM);
    assert_eq!((zone.boost(), zone.free_pages()), (0, min));
    free(&machine, held.into_iter().chain(more));
}

#[test]
fn what_is_kept_for_single_pages_refuses_no_urgent_block() {
    // P272, P824: the urgent do not see it, whatever their order.
    let (machine, mut held) = full();
    let urgent = exhaust(&machine, GFP_ATOMIC);
    free(&machine, urgent);
    let zone = &machine.zones[0];
    let (min, kept) = (zone.watermarks().min, zone.boost.single());
    assert!(kept != 0 && zone.free_pages() == min);
    held.extend(core::iter::from_fn(|| {
        get(&machine, GFP_ATOMIC, 1).map(|pfn| (pfn, 1))
    }));
    machine.drain_all();
    let floor = |mark: usize| {
        let half = mark - mark / 2;
        half - half / 4
    };
    assert_eq!(zone.boost.single(), kept);
    let left = zone.free_pages();
    assert!(
        left <= floor(min) + 2,
        "{left} of {min} and {kept}: stopped at {}",
        floor(min + kept)
    );
    free(&machine, held);
}

/// While a request reclaims, in vain, an urgent one fails; and somebody may be killed.
#[derive(Default)]
struct Storm {
    kills: AtomicUsize,
}

impl Relief<TestPlatform> for Storm {
    fn machine(&self, pages: &Machine) -> Abilities {
        Abilities {
            can_kill: true,
            ..Relief::<TestPlatform>::machine(&Alone, pages)
        }
    }

    fn reclaim(&self, pages: &Machine, _: &Need<'_>, _: u32) -> Reclaimed {
        assert_eq!(get(pages, GFP_ATOMIC, 0), None);
        assert_ne!(pages.zones[0].boost.single(), 0);
        Reclaimed::default()
    }

    fn oom_lock(&self, _: &Machine) -> bool {
        true
    }

    fn oom_kill(&self, _: &Machine, _: &Need<'_>) -> bool {
        self.kills.fetch_add(1, Relaxed);
        false
    }
}

#[test]
fn urgent_requests_that_fail_all_the_time_keep_nobody_from_the_oom_killer() {
    // P123, P824: what is given up each round, and is no help, is no reason for another.
    let (machine, mut held) = full();
    held.extend(exhaust(&machine, GFP_ATOMIC));
    let storm = Storm::default();
    let request = PageRequest::new(GFP_KERNEL, Order::ZERO);
    assert!(machine.alloc_with(&request, &storm).is_err());
    assert_eq!(storm.kills.load(Relaxed), 1);
    free(&machine, held);
}

#[test]
fn what_is_kept_for_bursts_is_given_up_before_a_request_ends() {
    // P123, P824
    let (machine, mut held) = full();
    let urgent = exhaust(&machine, GFP_ATOMIC);
    free(&machine, urgent);
    let zone = &machine.zones[0];
    assert!(zone.boost() != 0);
    held.extend(exhaust(&machine, GFP_KERNEL));
    assert_eq!(
        (zone.boost(), zone.free_pages()),
        (0, zone.watermarks().min)
    );
    free(&machine, held);
}
