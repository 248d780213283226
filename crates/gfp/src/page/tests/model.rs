//! Random operations against a model: the set of frames that somebody owns (P953).

use crate::flags::{GFP_ATOMIC, GFP_HIGHUSER_MOVABLE, GFP_KERNEL, Gfp};
use crate::frame::{Order, Pfn};
use crate::page::PageRequest;
use crate::testing::{CPUS, Rng, pages};
use std::collections::BTreeSet;
use std::vec::Vec;

fn run(seed: u64, steps: usize, mib: usize) {
    let machine = pages(mib);
    let mut rng = Rng::new(seed);
    let mut live: Vec<(Pfn, Order)> = Vec::new();
    let mut owned = BTreeSet::new();
    let kinds = [
        GFP_KERNEL,
        GFP_ATOMIC,
        GFP_HIGHUSER_MOVABLE,
        GFP_KERNEL | Gfp::RECLAIMABLE,
    ];
    for step in 0..steps {
        let context = || std::format!("seed {seed} step {step}");
        machine.platform().on(rng.below(CPUS) as u32);
        if rng.below(100) < 52 {
            let order =
                Order::new([0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10][rng.below(13)]).unwrap();
            let gfp = kinds[rng.below(kinds.len())];
            let Ok(pfn) = machine.alloc(&PageRequest::new(gfp, order)) else {
                continue;
            };
            assert!(pfn.is_aligned(order), "{}", context());
            for i in 0..order.pages() {
                assert!(owned.insert(pfn.0 + i), "{}: given twice", context());
            }
            live.push((pfn, order));
        } else if !live.is_empty() {
            let (pfn, order) = live.swap_remove(rng.below(live.len()));
            (0..order.pages()).for_each(|i| assert!(owned.remove(&(pfn.0 + i))));
            // SAFETY: taken out of `live`, so freed once.
            unsafe { machine.free(pfn, order) }.unwrap();
        }
        let total = machine.free_page_count() + machine.cached_page_count() + owned.len();
        let caches = machine.managed_pages() - total;
        assert!(
            caches <= CPUS * 2,
            "{}: {caches} pages are nobody's",
            context()
        );
        machine
            .verify()
            .unwrap_or_else(|e| panic!("{}: {e}", context()));
    }
    for (pfn, order) in live {
        // SAFETY: each is freed once.
        unsafe { machine.free(pfn, order) }.unwrap();
    }
    machine.drain_all();
    machine.verify().unwrap();
    assert_eq!(machine.cached_page_count(), 0);
    assert!(machine.platform().reports().is_empty());
}

#[test]
fn no_frame_is_given_twice_and_none_is_lost() {
    let (seeds, steps) = if cfg!(miri) { (1, 60) } else { (24, 600) };
    for seed in 0..seeds {
        run(seed, steps, 24);
    }
}

#[test]
fn a_machine_too_small_to_group_works_as_well() {
    // P309
    run(99, if cfg!(miri) { 40 } else { 600 }, 8);
}

#[test]
fn after_all_is_freed_the_largest_blocks_are_back() {
    // P953
    let machine = pages(32);
    let before = machine.nr_free_by_order();
    let mut live = Vec::new();
    while let Ok(pfn) = machine.alloc(&PageRequest::new(GFP_KERNEL, Order::ZERO)) {
        live.push(pfn);
    }
    let cpu_caches = machine.managed_pages() - live.len() - machine.free_page_count();
    for i in 0..live.len() {
        let pfn = live[(i * 7919) % live.len()];
        // SAFETY: 7919 is prime and larger than no factor of the length that matters: checked
        // below.
        _ = unsafe { machine.free(pfn, Order::ZERO) };
    }
    machine.drain_all();
    machine.verify().unwrap();
    let after = machine.nr_free_by_order();
    // The page of the CPU's caches stays away: it splits one block.
    assert!(cpu_caches <= 2, "{cpu_caches}");
    assert!(before[10] - after[10] <= 1, "{before:?} {after:?}");
}

/// Every sequence of a few operations on a tiny machine (small scope hypothesis): orders 0, 1 and
/// 9, two types, free of any live block.
#[test]
fn every_short_sequence_keeps_the_books() {
    let depth = if cfg!(miri) { 2 } else { 5 };
    let machine = pages(16);
    let mut live = Vec::new();
    let mut sequences = 0;
    explore(&machine, depth, &mut live, &mut sequences);
    assert!(live.is_empty());
    assert!(cfg!(miri) || sequences > 5_000, "{sequences}");
}

fn explore(
    machine: &crate::page::PageAllocator<crate::testing::TestPlatform>,
    depth: usize,
    live: &mut Vec<(Pfn, Order)>,
    sequences: &mut usize,
) {
    if depth == 0 {
        *sequences += 1;
        machine.verify().unwrap();
        return;
    }
    for gfp in [GFP_KERNEL, GFP_HIGHUSER_MOVABLE] {
        for order in [0, 1, 9] {
            let order = Order::new(order).unwrap();
            let Ok(pfn) = machine.alloc(&PageRequest::new(gfp, order)) else {
                continue;
            };
            live.push((pfn, order));
            explore(machine, depth - 1, live, sequences);
            // The child may have freed and replaced it.
            let (pfn, order) = live.pop().unwrap();
            // SAFETY: it was live.
            unsafe { machine.free(pfn, order) }.unwrap();
        }
    }
    for i in 0..live.len() {
        let (pfn, order) = live.swap_remove(i);
        // SAFETY: it was live; it is allocated again below so that the caller's list stays true.
        unsafe { machine.free(pfn, order) }.unwrap();
        explore(machine, depth - 1, live, sequences);
        let again = machine.alloc(&PageRequest::new(GFP_KERNEL, order)).unwrap();
        live.push((again, order));
        let last = live.len() - 1;
        live.swap(i, last);
    }
}
