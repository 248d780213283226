//! Which end of a zone a type lives at (P825).

use super::support::{get, put};
use crate::flags::{GFP_HIGHUSER_MOVABLE, GFP_KERNEL, Gfp};
use crate::frame::{PAGEBLOCK_PAGES, Pfn};
use crate::testing::pages;
use std::vec::Vec;

const RECLAIMABLE: Gfp = GFP_KERNEL.with(Gfp::RECLAIMABLE);

/// How many pageblocks these blocks lie in.
fn spread(blocks: &[Pfn]) -> usize {
    let mut numbers: Vec<usize> = blocks.iter().map(|pfn| pfn.0 / PAGEBLOCK_PAGES).collect();
    numbers.sort_unstable();
    numbers.dedup();
    numbers.len()
}

#[test]
fn what_cannot_be_moved_grows_upwards_and_what_can_downwards() {
    // P825. Seen to fail: `end_of` always `Low`.
    let machine = pages(64);
    let (mut fixed, mut movable) = (Vec::new(), Vec::new());
    for round in 0..8 {
        // Single pages and huge ones in turn, so that each type asks for a pageblock after the
        // other has.
        let order = [0, 9][round % 2];
        let gfp = [GFP_KERNEL, RECLAIMABLE][round / 2 % 2];
        fixed.push(get(&machine, gfp, order));
        movable.push(get(&machine, GFP_HIGHUSER_MOVABLE, order));
    }
    let (highest, lowest) = (fixed.iter().max().unwrap(), movable.iter().min().unwrap());
    assert!(highest < lowest, "{fixed:?} {movable:?}");
    // What is free lies between: the blocks of each type are neighbours.
    let first = fixed.iter().min().unwrap().0 / PAGEBLOCK_PAGES;
    assert!(highest.0 / PAGEBLOCK_PAGES - first < spread(&fixed) + 2);
    machine.verify().unwrap();
}

#[test]
fn memory_that_grows_again_takes_the_same_blocks() {
    // P825: what was unmovable and is free serves unmovable requests before another block is taken,
    // lowest first.
    let machine = pages(64);
    let grow = || -> Vec<Pfn> { (0..2000).map(|_| get(&machine, GFP_KERNEL, 0)).collect() };
    let _movable: Vec<Pfn> = (0..2000)
        .map(|_| get(&machine, GFP_HIGHUSER_MOVABLE, 0))
        .collect();
    let first = grow();
    let highest = *first.iter().max().unwrap();
    for pfn in first {
        put(&machine, pfn, 0);
    }
    machine.drain_all();
    let again = grow();
    assert!(*again.iter().max().unwrap() <= highest);
    assert!(spread(&again) <= 2000 / PAGEBLOCK_PAGES + 2);
    machine.verify().unwrap();
}
