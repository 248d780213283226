//! Two nodes of 8 MiB: what a request gets from its own node, and when it goes to the other.

use super::Keeper;
use super::keeper::Machine;
use crate::Mm;
use crate::flags::{GFP_KERNEL, Gfp};
use crate::frame::NodeId;
use crate::page::{BootConfig, GivenUp, MemoryRegion};
use crate::policy::reclaim::lru::Kind::Droppable;
use crate::testing::{TestPlatform, region};
use std::vec::Vec;

const START: u64 = 4 << 30;
const BYTES: u64 = 8 << 20;

fn two_nodes() -> Machine {
    let part = |node: u8| MemoryRegion {
        node: NodeId(node),
        ..region(
            START + u64::from(node) * BYTES,
            START + u64::from(node + 1) * BYTES,
        )
    };
    let platform = TestPlatform::new(START, 2 * BYTES as usize);
    Mm::boot(platform, &[part(0), part(1)], &BootConfig::default()).unwrap()
}

#[test]
fn who_will_write_gets_the_near_node_however_much_of_it_is_dirty() {
    // P13: there are no limits of dirty pages that the flag could keep a node below
    let mm = two_nodes();
    let keeper = Keeper::new(&mm);
    keeper.with(|id| {
        while let Some(page) = keeper.add(id, Droppable, GivenUp::Busy) {
            assert!(mm.set_page_dirty(page));
            if mm.pages().node_of(page) != NodeId(0) {
                break;
            }
        }
        // Of its pages, all but a few are dirty.
        let own: Vec<_> = keeper.frames();
        for page in &own[..64] {
            keeper.free(*page);
        }
        mm.pages().drain_all();
        for bits in [Gfp::NONE, Gfp::WRITE] {
            let page = mm.alloc_pages(GFP_KERNEL | bits, 0).unwrap();
            assert_eq!(mm.pages().node_of(page), NodeId(0), "{bits}");
            // SAFETY: ours, freed once.
            unsafe { mm.free_frames(page, 0) };
        }
    });
}
