//! A tenant, whose blocks can be moved, but for those that are pinned.

use super::super::Lab;
use super::Run;
use crate::sim::TaskHandle;
use gfp::flags::{GFP_HIGHUSER_MOVABLE, Gfp};

/// Pages that it has at most.
const MOST_PAGES: usize = 600;

pub(super) fn rent(run: &Run, lab: &Lab, task: &TaskHandle) {
    let tenant = &run.tenant;
    while run.plugging.get() {
        task.sleep_ns(1 + task.below(5000) as u64);
        let any = tenant.pick(|n| task.below(n));
        let gfp = GFP_HIGHUSER_MOVABLE | task.pick(&[Gfp::NORETRY, Gfp::NOWARN]);
        match (task.below(10), any) {
            (0..5, _) if tenant.frames() < MOST_PAGES => {
                tenant.add(lab, gfp, task.pick(&[0, 0, 0, 1, 2, 3]), None);
            }
            // A huge page for a while.
            (5, _) if tenant.add(lab, gfp, 9, None) => {
                task.sleep_ns(1 + task.below(20_000) as u64);
                tenant.free_largest(lab);
            }
            (6, Some(pfn)) => {
                // Rather where it is in the way of who takes memory out.
                let in_the_way = tenant.first_in(&Run::plug_frames(lab, 0));
                let pfn = in_the_way.unwrap_or(pfn);
                if tenant.pin(lab, pfn) {
                    task.sleep_ns(1 + task.below(200_000) as u64);
                    tenant.unpin(lab, pfn);
                }
            }
            (7.., Some(pfn)) => _ = tenant.free(lab, pfn),
            _ => (),
        }
    }
}
