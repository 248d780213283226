//! Splitting, merging and placement (P300-P307), and a long random run of them.

use crate::flags::{GFP_ATOMIC, GFP_HIGHUSER_MOVABLE, GFP_KERNEL, GFP_NOWAIT, Gfp, MigrateType};
use crate::frame::{Order, PAGEBLOCK_PAGES, Pfn};
use crate::page::{PageAllocator, PageRequest};
use crate::sync::Local;
use crate::testing::{CPUS, Rng, TestPlatform, pages};
use std::vec;
use std::vec::Vec;

type Machine = PageAllocator<TestPlatform>;

fn order(o: u8) -> Order {
    Order::new(o).unwrap()
}

fn try_get(machine: &Machine, gfp: Gfp, o: u8) -> Option<Pfn> {
    machine.alloc(&PageRequest::new(gfp, order(o))).ok()
}

fn get(machine: &Machine, gfp: Gfp, o: u8) -> Pfn {
    try_get(machine, gfp, o).unwrap()
}

fn put(machine: &Machine, pfn: Pfn, o: u8) {
    // SAFETY: tests free what they own, once.
    unsafe { machine.free(pfn, order(o)) }.unwrap();
}

/// Every CPU has its caches, whose memory stays away, and they are empty.
fn settled(mib: usize) -> Machine {
    let machine = pages(mib);
    for cpu in 0..CPUS as u32 {
        machine.platform().on(cpu);
        put(&machine, get(&machine, GFP_KERNEL, 0), 0);
    }
    machine.drain_all();
    machine
}

/// Who owns each frame, too simple to be wrong.
struct Model {
    first: Pfn,
    owned: Vec<bool>,
    live: Vec<(Pfn, u8)>,
}

impl Model {
    fn take(&mut self, pfn: Pfn, o: u8) {
        assert!(pfn.is_aligned(order(o)), "{pfn:?} of order {o}");
        let at = pfn.0 - self.first.0;
        for owned in &mut self.owned[at..][..1 << o] {
            assert!(!*owned, "{pfn:?} of order {o} overlaps what is in use");
            *owned = true;
        }
        self.live.push((pfn, o));
    }

    fn give(&mut self, which: usize) -> (Pfn, u8) {
        let (pfn, o) = self.live.swap_remove(which);
        self.owned[pfn.0 - self.first.0..][..1 << o].fill(false);
        (pfn, o)
    }
}

/// Random allocations and frees of all orders and types on all CPUs. Returns how many of each order
/// were served.
fn churn(machine: &Machine, seed: u64, ops: usize) -> [usize; 11] {
    let mut rng = Rng::new(seed);
    let mut model = Model {
        first: machine.frames().base(),
        owned: vec![false; machine.frames().len()],
        live: Vec::new(),
    };
    let kinds = [
        GFP_KERNEL,
        GFP_ATOMIC,
        GFP_HIGHUSER_MOVABLE,
        GFP_NOWAIT | Gfp::RECLAIMABLE,
    ];
    let mut served = [0; 11];
    for step in 0..ops {
        if step % 64 == 0 {
            machine.platform().on(rng.below(CPUS) as u32);
        }
        // Phases in which memory fills up, and others in which it empties.
        let wanted = if step / 5000 % 2 == 0 { 60 } else { 40 };
        if rng.below(100) < wanted {
            // As many pages of each order, about: small ones come more often.
            let o = rng.below(1 << 11).trailing_zeros().min(10) as u8;
            if let Some(pfn) = try_get(machine, kinds[rng.below(kinds.len())], o) {
                model.take(pfn, o);
                served[o as usize] += 1;
            }
        } else if !model.live.is_empty() {
            let (pfn, o) = model.give(rng.below(model.live.len()));
            put(machine, pfn, o);
        }
        if step % 4096 == 0 {
            let verified = machine.verify();
            assert!(verified.is_ok(), "{verified:?}; seed {seed} step {step}");
        }
    }
    while !model.live.is_empty() {
        let (pfn, o) = model.give(model.live.len() - 1);
        put(machine, pfn, o);
    }
    served
}

#[test]
fn after_a_million_operations_exactly_the_first_blocks_are_back() {
    // P301, P302, P305, P306, P307, P953. Seen to fail: `put_as` merging one order less; a block
    // that `put_batch` passes over.
    let ops = match (cfg!(miri), cfg!(debug_assertions)) {
        (true, _) => 500,
        (_, true) => 100_000,
        _ => 1_000_000,
    };
    let machine = settled(64);
    let (blocks, free) = (machine.nr_free_by_order(), machine.free_page_count());
    let served = churn(&machine, 953, ops);
    machine.drain_all();
    machine.verify().unwrap();
    assert_eq!(machine.nr_free_by_order(), blocks);
    assert_eq!(machine.free_page_count(), free);
    assert!(cfg!(miri) || served.iter().all(|n| *n > 0), "{served:?}");
    assert!(machine.platform().reports().is_empty());
}

/// Two pageblocks of which each is the other's buddy, allocated singly; the second gets `kind`.
fn buddies(machine: &Machine, kind: MigrateType) -> [Pfn; 2] {
    let pair = get(machine, GFP_HIGHUSER_MOVABLE, 10);
    machine.split(pair, order(10));
    let second = pair.add(PAGEBLOCK_PAGES);
    let local = Local::enter(machine.platform()).unwrap();
    let mut guard = machine.zones[0].lock(&machine.blocks, &local);
    guard.retype(machine.blocks.of(second).unwrap(), kind);
    [pair, second]
}

#[test]
fn buddies_of_types_that_never_mix_stay_apart() {
    // P303, P954: MOVABLE and UNMOVABLE become one, MOVABLE and CMA or the reserve stay two.
    // Seen to fail: `is_mergeable` always true.
    use MigrateType::{Cma, HighAtomic, Movable, Reclaimable, Unmovable};
    for (kind, merge) in [
        (Unmovable, true),
        (Reclaimable, true),
        (Cma, false),
        (HighAtomic, false),
    ] {
        let machine = settled(64);
        let both = buddies(&machine, kind);
        let before = machine.nr_free_by_order();
        for half in both {
            // SAFETY: these pages are ours.
            unsafe { machine.free_exact(half, PAGEBLOCK_PAGES) }.unwrap();
        }
        machine.drain_all();
        let after = machine.nr_free_by_order();
        let [low, high] = both.map(|half| machine.blocks.kind_of(half));
        assert_eq!(low == high, merge, "{kind:?}");
        assert!(merge || (low, high) == (Movable, kind));
        let grown = (after[9] - before[9], after[10] - before[10]);
        assert_eq!(grown, if merge { (0, 1) } else { (2, 0) }, "{kind:?}");
        machine.verify().unwrap();
    }
}

#[test]
fn the_smallest_run_that_fits_is_split_and_the_rest_stays() {
    // P305; P955 differs: what decides is the size of the run and its address, not what was freed
    // last or is likely to merge (P304; docs/adr/0014). Seen to fail: `best_run` taking
    // the largest.
    let machine = settled(64);
    let block = get(&machine, GFP_KERNEL, 9);
    machine.split(block, order(9));
    // In a block of nothing else: a lone page next to a free pair's place, a pair, a run of four.
    let free = [3, 8, 9, 16, 17, 18, 19];
    free.iter().for_each(|at| put(&machine, block.add(*at), 0));
    machine.drain_all();
    let take = |o| {
        let local = Local::enter(machine.platform()).unwrap();
        let mut guard = machine.zones[0].lock(&machine.blocks, &local);
        let block = machine.blocks.of(block).unwrap();
        guard.take_from(block, order(o), 1).pfn
    };
    assert_eq!(take(0), block.add(3), "the lone page");
    assert_eq!(take(0), block.add(8), "then half of the pair");
    assert_eq!(take(0), block.add(9), "then what is left of it");
    assert_eq!(take(1), block.add(16), "a pair from the run of four");
    assert_eq!(take(1), block.add(18));
    machine.verify().unwrap();
}

#[test]
fn half_a_block_is_the_threshold_of_a_claim() {
    // P318, P319, P957: with 255 of 512 pages free a page is stolen and the block keeps its type,
    // with 256 the block is the request's. Seen to fail: `claim` with `>` for `>=`.
    for (free, kind) in [
        (PAGEBLOCK_PAGES / 2 - 1, MigrateType::Reclaimable),
        (PAGEBLOCK_PAGES / 2, MigrateType::Unmovable),
    ] {
        let machine = settled(64);
        let movable = GFP_HIGHUSER_MOVABLE.without(Gfp::RECLAIM) | Gfp::MEMALLOC | Gfp::NOWARN;
        let all: Vec<Pfn> = core::iter::from_fn(|| try_get(&machine, movable, 0)).collect();
        let whole = |pfn: &&Pfn| {
            let mut frames = (0..PAGEBLOCK_PAGES).map(|i| pfn.add(i));
            pfn.0.is_multiple_of(PAGEBLOCK_PAGES) && frames.all(|frame| all.contains(&frame))
        };
        let block = *all.iter().find(whole).unwrap();
        {
            let local = Local::enter(machine.platform()).unwrap();
            let mut guard = machine.zones[0].lock(&machine.blocks, &local);
            let block = machine.blocks.of(block).unwrap();
            guard.retype(block, MigrateType::Reclaimable);
        }
        // Every second page: no run of two, so that nothing but the count decides.
        (0..free).for_each(|i| put(&machine, block.add(2 * i), 0));
        machine.drain_all();
        assert_eq!(machine.free_page_count(), free);
        let taken = get(&machine, GFP_NOWAIT | Gfp::MEMALLOC, 0);
        assert_eq!(taken.0 / PAGEBLOCK_PAGES, block.0 / PAGEBLOCK_PAGES);
        assert_eq!(machine.blocks.kind_of(block), kind, "{free} free");
        machine.verify().unwrap();
    }
}
