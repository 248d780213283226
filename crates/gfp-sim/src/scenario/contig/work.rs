//! Frames side by side, pages of an area and by policies, isolated blocks.

use super::super::reclaim::nodes;
use super::super::{Block, Lab};
use super::Run;
use crate::config::Planted;
use crate::sim::TaskHandle;
use gfp::flags::{GFP_HIGHUSER_MOVABLE, GFP_KERNEL, GFP_NOWAIT, Gfp};
use gfp::frame::{FrameKind, NodeMask, Order, PAGE_SIZE, PAGEBLOCK_PAGES, Pfn};
use gfp::page::{IsolateMode, MemPolicy};
use gfp::policy::mempolicy::Mode;
use gfp::pool::cma::CmaId;

impl Lab {
    fn alloc_contig(&self, task: &TaskHandle) -> Option<Block> {
        let pages = task.pick(&[16, 64, 64, 128, 512]);
        let node = task.below(3).checked_sub(1).and_then(|n| nodes().nth(n));
        let Ok(first) = self.mm().alloc_contig_pages(pages, GFP_KERNEL, node) else {
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
        let zones: Vec<_> = pages.zone_frames().collect();
        let (_, zone) = &zones[task.below(zones.len())];
        let blocks = (zone.end.0 - zone.start.0) / PAGEBLOCK_PAGES;
        let block = zone.start.0 / PAGEBLOCK_PAGES + task.below(blocks);
        let start = Pfn(block * PAGEBLOCK_PAGES);
        let range = start..start.add(PAGEBLOCK_PAGES);
        let Ok(isolated) = pages.isolate_pages(range.clone(), IsolateMode::Other) else {
            return self.mark("isolated: refused", 1);
        };
        let frames = || (range.start.0..range.end.0).map(Pfn);
        let cached = |pfn: &Pfn| pages.frames().get(*pfn).kind() == FrameKind::Cached;
        // Unless a CPU could not be reached.
        let settled = self.sim().may_refuse_remote() || !frames().any(|pfn| cached(&pfn));
        assert!(settled, "a CPU keeps a page of an isolated block");
        let free = || -> Vec<Pfn> { frames().filter(|pfn| pages.is_free(*pfn)).collect() };
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

impl Run {
    /// By a policy that others use too.
    fn alloc_by_policy(&self, lab: &Lab, task: &TaskHandle, held: &mut Vec<Block>) {
        const FLAGS: [Gfp; 4] = [
            GFP_KERNEL,
            GFP_KERNEL.with(Gfp::ZERO),
            GFP_NOWAIT,
            GFP_HIGHUSER_MOVABLE,
        ];
        let policy = &self.policies[task.below(self.policies.len())];
        let spilled = MemPolicy::preferred_many(policy.nodes());
        let asked = match lab.sim().has_planted(Planted::SpilledPolicy) {
            true => &spilled,
            false => policy,
        };
        let mm = lab.mm();
        let mut pages = [None; 12];
        let order = match task.below(4) {
            0 => {
                let n = mm.alloc_pages_bulk_mpol(asked, GFP_KERNEL, &mut pages);
                assert!(pages[n..].iter().all(Option::is_none));
                0
            }
            1 => {
                let folio = mm.folio_alloc_mpol(asked, GFP_KERNEL, task.pick(&[0, 2, 9]));
                return match folio {
                    Ok(folio) => self.check_place(lab, policy, folio.head()),
                    Err(_) => lab.refused(),
                };
            }
            _ => {
                let (gfp, order) = (task.pick(&FLAGS), task.pick(&[0, 0, 1, 3, 9]));
                pages[0] = mm.alloc_pages_mpol(asked, gfp, order).ok();
                if let Some(pfn) = pages[0] {
                    lab.expect_zero(mm.page_address(pfn).as_ptr(), PAGE_SIZE << order, gfp);
                }
                order
            }
        };
        if pages[0].is_none() {
            lab.refused();
        }
        for pfn in pages.into_iter().flatten() {
            self.check_place(lab, policy, pfn);
            let ptr = mm.page_address(pfn).as_ptr();
            lab.own(ptr, PAGE_SIZE << order, "pages by a policy");
            held.push(Block::Pages(pfn, order));
        }
    }

    /// P137, P138: a policy that binds gives nothing else.
    fn check_place(&self, lab: &Lab, policy: &MemPolicy, pfn: Pfn) {
        let node = lab.mm().pages().node_of(pfn);
        let bound = policy.mode() == Mode::Bind;
        assert!(
            !bound || policy.nodes().has(node),
            "{policy:?} got {node:?}"
        );
        lab.mark(
            match policy.mode() {
                Mode::Bind if policy.nodes() == NodeMask::of(node) => "policy: bound to one",
                Mode::Bind => "policy: bound",
                Mode::Interleave | Mode::WeightedInterleave => "policy: interleaved",
                _ => "policy: preferred",
            },
            1,
        );
    }
}

pub(super) fn work(run: &Run, lab: &Lab, task: &TaskHandle) {
    let area = run.area;
    let mut held = Vec::new();
    for _ in 0..50 {
        match task.below(12) {
            10.. => run.alloc_by_policy(lab, task, &mut held),
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
