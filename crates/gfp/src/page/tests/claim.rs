//! Blocks whose type is changed, or not, because another type has nothing free (P314-P319).

use super::tenant::Renting;
use crate::Mm;
use crate::flags::{GFP_HIGHUSER_MOVABLE, GFP_NOWAIT, Gfp, MigrateType};
use crate::frame::{PAGEBLOCK_PAGES, Pfn};
use crate::page::BootConfig;
use crate::testing::{TestPlatform, region};
use std::vec::Vec;

fn machine() -> Mm<TestPlatform> {
    const START: u64 = 4 << 30;
    const BYTES: u64 = 32 << 20;
    let platform = TestPlatform::new(START, BYTES as usize);
    let map = [region(START, START + BYTES)];
    Mm::boot(platform, &map, &BootConfig::default()).unwrap()
}

fn free(mm: &Mm<TestPlatform>, pfn: Pfn, order: u8) {
    // SAFETY: tests free what they took.
    unsafe { mm.free_frames(pfn, order) };
}

/// Fills the machine with movable memory, which `give` gives back, but for the first 32 pages of
/// each pageblock. Then takes pages that are not movable. How many pageblocks changed their type.
fn retyped(mm: &Mm<TestPlatform>, take: impl Fn(Gfp) -> Option<Pfn>, give: impl Fn(Pfn)) -> usize {
    let easy = GFP_HIGHUSER_MOVABLE.without(Gfp::DIRECT_RECLAIM) | Gfp::NOWARN;
    let taken: Vec<Pfn> = core::iter::from_fn(|| take(easy)).collect();
    let starts = |pfn: &&Pfn| pfn.0.is_multiple_of(PAGEBLOCK_PAGES);
    let firsts: Vec<Pfn> = taken.iter().filter(starts).copied().collect();
    firsts.iter().for_each(|pfn| give(*pfn));
    let pages = mm.pages();
    pages.drain_all();
    let movable = || {
        let kinds = firsts.iter().map(|pfn| pages.blocks.kind_of(*pfn));
        kinds.filter(|kind| *kind == MigrateType::Movable).count()
    };
    let before = movable();
    assert_eq!(before, firsts.len());
    let next = || mm.alloc_pages(GFP_NOWAIT | Gfp::NOWARN, 0).ok();
    let mine: Vec<Pfn> = core::iter::from_fn(next).collect();
    let block = |pfn: &Pfn| pfn.0 / PAGEBLOCK_PAGES;
    let in_firsts = |pfn: &&Pfn| firsts.iter().any(|first| block(first) == block(pfn));
    assert!(mine.iter().filter(in_firsts).count() > 32);
    let after = movable();
    mm.verify().unwrap();
    mine.iter().for_each(|pfn| free(mm, *pfn, 0));
    let rest = taken.iter().filter(|pfn| !firsts.contains(pfn));
    rest.for_each(|pfn| give(*pfn));
    before - after
}

#[test]
fn a_block_full_of_pages_that_can_be_moved_keeps_its_type() {
    // P318, P956. Seen to fail: movable pages that count as used by who takes the block.
    let mm = machine();
    let tenant = Renting::new(&mm);
    let take = |gfp| tenant.take_with(gfp, 5);
    assert_eq!(retyped(&mm, take, |pfn| tenant.give(pfn)), 0);
    // Memory of which nobody says so cannot be moved: it is as good as the request's own.
    let mm = machine();
    let take = |gfp| mm.alloc_pages(gfp, 5).ok();
    assert!(retyped(&mm, take, |pfn| free(&mm, pfn, 5)) > 0);
}
