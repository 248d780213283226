//! A background that ended without returning: the child of a fork has it not.

use super::boot;
use crate::flags::{GFP_ATOMIC, Gfp};
use crate::frame::NodeId;
use crate::reclaim::Nobody;
use std::cell::Cell;
use std::vec::Vec;

const NODE: NodeId = NodeId(0);

#[test]
fn what_is_withheld_for_the_background_to_work_off_is_not_when_it_is_gone() {
    // P216, P824: nobody would work it off.
    let mm = boot();
    let reclaim = mm.slabs().reclaim();
    let boost = || mm.pages().zone_stats().map(|z| z.boost).sum::<usize>();
    let fail = || {
        let urgent = || mm.kmalloc(4096, GFP_ATOMIC | Gfp::NOWARN).ok();
        let taken: Vec<_> = core::iter::from_fn(urgent).collect();
        // SAFETY: ours, freed once.
        taken.iter().for_each(|p| unsafe { mm.kfree(p.as_ptr()) });
    };
    let looked = Cell::new(0);
    let ended = reclaim.kswapd(NODE, &Nobody, || {
        if looked.replace(looked.get() + 1) == 0 {
            fail();
            assert_ne!(boost(), 0, "there is a background, so something is kept");
            mm.kswapd_is_gone(NODE);
            assert_eq!(boost(), 0);
            fail();
            assert_eq!(boost(), 0, "nor is there anything new");
        }
        true
    });
    assert_eq!(ended, Ok(()));
}
