//! Frames side by side, isolated blocks and an area (CMA), beside tasks and handlers that allocate
//! and free.
//!
//! What is had has an [owner](crate::Owners), so a frame that is given twice is found at once.
//! While a block is isolated its free frames may become more, never less (P512).

use super::{Block, Lab};
use crate::config::Planted;
use crate::sim::TaskHandle;
use gfp::flags::GFP_KERNEL;
use gfp::frame::{Order, PAGE_SIZE, PAGEBLOCK_PAGES, Pfn};
use gfp::page::IsolateMode;
use gfp::pool::cma::{CmaId, CmaSpec};
use std::rc::Rc;

/// Pageblocks of the area.
const AREA_BLOCKS: usize = 2;

impl Lab {
    fn alloc_contig(&self, task: &TaskHandle) -> Option<Block> {
        let pages = task.pick(&[16, 64, 64, 128, 512]);
        let Ok(first) = self.mm().alloc_contig_pages(pages, GFP_KERNEL, None) else {
            self.refused();
            self.mark("contig: refused", 1);
            return None;
        };
        assert!(first.0.is_multiple_of(pages), "P503: not aligned");
        self.mark("contig: had", 1);
        let ptr = self.mm().page_address(first).as_ptr();
        self.own(ptr, pages * PAGE_SIZE, "frames side by side");
        Some(Block::Contig(first, pages))
    }

    fn alloc_cma(&self, task: &TaskHandle, area: CmaId) -> Option<Block> {
        let (pages, align) = (task.pick(&[1, 16, 100, 512]), task.below(7) as u8);
        let Ok(first) = self.mm().cma_alloc(area, pages, align) else {
            self.refused();
            self.mark("cma: refused", 1);
            return None;
        };
        let order = Order::new(align).unwrap_or_default();
        assert!(first.is_aligned(order), "P507: not aligned");
        self.mark("cma: had", 1);
        let ptr = self.mm().page_address(first).as_ptr();
        self.own(ptr, pages * PAGE_SIZE, "pages of an area");
        Some(Block::Cma(area, first, pages))
    }

    /// P511, P512.
    fn isolate(&self, task: &TaskHandle) {
        let pages = self.mm().pages();
        let (_, zone) = pages.zone_frames().next().expect("the machine has memory");
        let blocks = (zone.end.0 - zone.start.0) / PAGEBLOCK_PAGES;
        let block = zone.start.0 / PAGEBLOCK_PAGES + task.below(blocks);
        let start = Pfn(block * PAGEBLOCK_PAGES);
        let range = start..start.add(PAGEBLOCK_PAGES);
        let Ok(isolated) = pages.isolate_pages(range.clone(), IsolateMode::Other) else {
            return self.mark("isolated: refused", 1);
        };
        let free = || -> Vec<Pfn> {
            let frames = (range.start.0..range.end.0).map(Pfn);
            frames.filter(|pfn| pages.is_free(*pfn)).collect()
        };
        let mut before = free();
        for _ in 0..1 + task.below(6) {
            task.sleep_ns(1 + task.below(3000) as u64);
            let taken = before.iter().find(|pfn| !pages.is_free(**pfn));
            assert!(
                taken.is_none(),
                "{taken:?} of an isolated block was given out"
            );
            before = free();
        }
        drop(isolated);
        self.mark("isolated", 1);
    }
}

fn work(lab: &Lab, task: &TaskHandle, area: CmaId) {
    let mut held = Vec::new();
    for _ in 0..40 {
        match task.below(10) {
            0..3 => held.extend(lab.alloc_contig(task)),
            3..5 => held.extend(lab.alloc_cma(task, area)),
            5 => lab.isolate(task),
            // Handlers free frames; an area gets its pages back from tasks.
            6 if matches!(held.last(), Some(Block::Contig(..))) => {
                held.pop().into_iter().for_each(|block| lab.post(block));
            }
            _ if held.is_empty() => (),
            _ => lab.free(held.swap_remove(task.below(held.len()))),
        }
    }
    if lab.sim().has_planted(Planted::LostPage) {
        held.pop().into_iter().for_each(|block| lab.lose(block));
    }
    held.drain(..).for_each(|block| lab.free(block));
}

pub(super) fn contig(lab: &Rc<Lab>) {
    let bytes = AREA_BLOCKS * Order::PAGEBLOCK.bytes();
    let area = lab.mm().cma_create(&CmaSpec::new("sim", bytes as u64));
    let area = area.expect("an empty machine");
    lab.start_here();
    super::storms::pages(lab);
    for number in 0..2 {
        let lab_of_task = Rc::clone(lab);
        let name = format!("contig-{number}");
        let work = move |task: &TaskHandle| work(&lab_of_task, task, area);
        lab.sim().spawn(&name, work);
    }
}
