//! All others are done: what must hold exactly now.

use super::super::compaction::tenant::Tenant;
use super::super::reclaim::nodes;
use super::super::{Block, Lab};
use super::plug::{Removal, add, remove};
use super::report::{Device, RefusesPercent};
use super::{PLUG_BLOCKS, PLUG_NODE, Run};
use crate::sim::TaskHandle;
use gfp::flags::{GFP_KERNEL, Gfp, MigrateType};
use gfp::frame::{NodeMask, Order, PAGE_SIZE, Pfn};
use gfp::page::{
    ContigError, IsolateError, MemPolicy, MemoryAnswer, MemoryEvent, Obstacle, RemoveMemoryError,
    ZoneStats,
};
use gfp::policy::reporting::{DELAY_NS, may_part};
use std::collections::BTreeSet;
use std::ops::Range;

const CANCELLED: [MemoryEvent; 2] = [MemoryEvent::GoingOffline, MemoryEvent::CancelOffline];

/// How often who rests looks whether it is alone.
const LOOK_NS: u64 = 20_000;

pub(super) fn rest(run: &Run, lab: &Lab, task: &TaskHandle) {
    while !task.is_alone() {
        task.sleep_ns(LOOK_NS);
    }
    lab.sim().end_faults();
    run.tenant.behave();
    while let Some(theirs) = lab.receive() {
        lab.free(theirs);
    }
    lab.give_back();
    run.tenant.look(lab);
    spread(lab);
    let absent = (0..PLUG_BLOCKS).filter(|block| !run.present[*block].get());
    absent.for_each(|block| add(run, lab, block));
    let block = task.below(PLUG_BLOCKS);
    stays(run, lab, task, block);
    goes(run, lab, task, block);
    all_is_told(lab, task);
    add(run, lab, block);
    run.tenant.leave(lab, task);
}

/// Each zone, when no CPU keeps any of it.
fn zones(lab: &Lab) -> Vec<ZoneStats> {
    lab.mm().pages().drain_all();
    if let Err(error) = lab.mm().verify() {
        panic!("at rest: {error:?}");
    }
    let zones: Vec<ZoneStats> = lab.mm().pages().zone_stats().collect();
    for zone in &zones {
        assert_eq!(zone.blocks_by_type[MigrateType::Isolate as usize], 0);
    }
    zones
}

/// All that may not change when memory stays (P970).
fn shown(lab: &Lab) -> String {
    let one = |zone: &ZoneStats| {
        let sizes = (zone.spanned, zone.present, zone.managed, zone.free);
        let blocks = (zone.nr_free, zone.blocks_by_type, zone.reserved_highatomic);
        format!(
            "{:?} {sizes:?} {blocks:?} {:?}\n",
            zone.node, zone.watermarks
        )
    };
    zones(lab).iter().map(one).collect()
}

/// P137: what interleaves does so exactly, while there is enough of all nodes.
fn spread(lab: &Lab) {
    let policy = MemPolicy::interleave(nodes().fold(NodeMask::NONE, NodeMask::with));
    for turn in 0..6 {
        let pfn = lab.mm().alloc_pages_mpol(&policy, GFP_KERNEL, 0);
        let pfn = pfn.expect("there is enough");
        let node = nodes().nth(turn % nodes().count());
        assert_eq!(Some(lab.mm().pages().node_of(pfn)), node);
        let ptr = lab.mm().page_address(pfn).as_ptr();
        lab.own(ptr, PAGE_SIZE, "page in turn");
        lab.free(Block::Pages(pfn, 0));
    }
}

/// P517, P518, P970: a memory block that must stay is as it was.
fn stays(run: &Run, lab: &Lab, task: &TaskHandle, block: usize) {
    let frames = Run::plug_frames(lab, block);
    let at = frames.start.add(task.below(Order::MAX.pages()));
    let page = take(lab, at);
    let before = shown(lab);
    let Removal { result, heard } = remove(run, lab, task, block, MemoryAnswer::Agreed);
    let why = ContigError::Isolate(IsolateError::Unmovable { at });
    assert_eq!(result, Err(RemoveMemoryError::Contig(why)));
    assert_eq!(heard, []);
    assert_eq!(shown(lab), before, "with an unmovable page");
    lab.free(page);

    let before = shown(lab);
    let Removal { result, heard } = remove(run, lab, task, block, MemoryAnswer::Refused);
    assert_eq!(result, Err(RemoveMemoryError::Refused));
    assert_eq!(heard, CANCELLED);
    assert_eq!(shown(lab), before, "kept by who listens");

    let pinned = pinned_in(&run.tenant, lab, &frames);
    let totals = |zone: ZoneStats| (zone.managed, zone.present, zone.watermarks);
    let before: Vec<_> = zones(lab).into_iter().map(totals).collect();
    let Removal { result, heard } = remove(run, lab, task, block, MemoryAnswer::Agreed);
    let why = ContigError::Busy {
        at: pinned,
        why: Obstacle::Busy,
    };
    assert_eq!(result, Err(RemoveMemoryError::Contig(why)));
    assert_eq!(heard, CANCELLED);
    let after: Vec<_> = zones(lab).into_iter().map(totals).collect();
    assert_eq!(after, before, "with a page that is pinned");
    run.tenant.unpin(lab, pinned);
}

/// A certain frame, of nobody who could move it.
fn take(lab: &Lab, pfn: Pfn) -> Block {
    let taken = lab.mm().alloc_contig_range(pfn..pfn.add(1), GFP_KERNEL);
    assert_eq!(taken, Ok(()));
    let ptr = lab.mm().page_address(pfn).as_ptr();
    lab.own(ptr, PAGE_SIZE, "a certain frame");
    Block::Pages(pfn, 0)
}

/// The first block of the tenant's in the frames, pinned.
fn pinned_in(tenant: &Tenant, lab: &Lab, frames: &Range<Pfn>) -> Pfn {
    if tenant.first_in(frames).is_none() {
        let block = take(lab, frames.start);
        lab.hand_over(block);
        tenant.adopt(lab, frames.start, 0, None);
    }
    let pfn = tenant.first_in(frames).expect("there is one now");
    assert!(tenant.pin(lab, pfn));
    pfn
}

/// P514, P517: a memory block that may go is missed in its zone, and nowhere else.
fn goes(run: &Run, lab: &Lab, task: &TaskHandle, block: usize) {
    let before = zones(lab);
    let removal = remove(run, lab, task, block, MemoryAnswer::Agreed);
    let pages = removal.result.expect("all of it can be moved").pages;
    run.tenant.look(lab);
    assert_eq!(pages, Order::MAX.pages());
    for (before, after) in before.iter().zip(zones(lab)) {
        let its = after.node == PLUG_NODE;
        let gone = if its { pages } else { 0 };
        assert_eq!(after.managed + gone, before.managed);
        assert_eq!(after.present + gone, before.present);
        let (old, new) = (before.watermarks.high, after.watermarks.high);
        assert!(new < old || !its, "P970: the watermarks stay");
    }
    lab.mark("at rest: removed", 1);
}

/// P520, P521: what is free is told once, as far as a zone can do without it.
fn all_is_told(lab: &Lab, task: &TaskHandle) {
    let mm = lab.mm();
    zones(lab);
    let device = Device::new(lab, task, None, RefusesPercent(0));
    let capacity = device.capacity;
    let registered = mm.register_reporting(device, None);
    let mut reporting = registered.expect("there is no other");
    let mut rounds = 0;
    loop {
        task.pass_ns(DELAY_NS);
        if reporting.tick() == 0 && rounds != 0 {
            break;
        }
        rounds += 1;
        assert!(rounds < 1000, "it is told again and again");
    }
    let known = &reporting.device().known;
    let once: BTreeSet<Pfn> = known.iter().copied().collect();
    assert_eq!(once.len(), known.len(), "told twice");
    for zone in zones(lab) {
        let free = zone.free.free - zone.free.free_highatomic;
        let low = zone.watermarks.low + zone.boost;
        let fits = |order: &usize| may_part(free, low, capacity, *order as u8);
        let orders = Order::PAGEBLOCK.index()..=Order::MAX.index();
        let due: usize = orders.clone().filter(fits).map(|o| blocks(&zone, o)).sum();
        let there: usize = orders.map(|order| blocks(&zone, order)).sum();
        let of_zone = |pfn: &&Pfn| mm.pages().node_of(**pfn) == zone.node;
        let told = once.iter().filter(of_zone).count();
        assert!((due..=there).contains(&told), "{told} of {due} to {there}");
        lab.mark("at rest: told", told as u64);
    }
    drop(reporting);
    // The device has written to it.
    let pfn = mm.alloc_pages(GFP_KERNEL | Gfp::ZERO, Order::PAGEBLOCK.get());
    if let Ok(pfn) = pfn {
        let (ptr, bytes) = (mm.page_address(pfn).as_ptr(), Order::PAGEBLOCK.bytes());
        lab.expect_zero(ptr, bytes, Gfp::ZERO);
        lab.own(ptr, bytes, "zeroed");
        lab.free(Block::Pages(pfn, Order::PAGEBLOCK.get()));
    }
}

/// Free blocks of an order that are reported.
fn blocks(zone: &ZoneStats, order: usize) -> usize {
    let types = MigrateType::ALL.into_iter();
    let reported = types.filter(|kind| *kind != MigrateType::Isolate);
    reported
        .map(|kind| zone.nr_free[order][kind as usize])
        .sum()
}
