//! The lists over a small machine, with an owner whose answers are scripted.

extern crate std;

mod answers;
mod keeper;
mod manual;
mod members;
mod model;
mod moves;
mod near;
mod pressure;
mod waits;

use super::{ListPass, LruEvents, LruPages, Who};
use crate::Mm;
use crate::flags::{GFP_KERNEL, ZoneKind};
use crate::frame::NodeId;
use crate::page::BootConfig;
use crate::policy::reclaim::Priority;
use crate::testing::{TestPlatform, region};
use keeper::{Keeper, Machine};

const NODE: NodeId = NodeId(0);

/// A machine of 16 MiB.
fn boot() -> Machine {
    const START: u64 = 4 << 30;
    const BYTES: u64 = 16 << 20;
    let platform = TestPlatform::new(START, BYTES as usize);
    let map = [region(START, START + BYTES)];
    Mm::boot(platform, &map, &BootConfig::default()).unwrap()
}

fn events(mm: &Machine) -> LruEvents {
    mm.slabs().reclaim().lru_events()
}

fn lists(mm: &Machine) -> LruPages {
    mm.slabs().reclaim().lru_node_pages(NODE)
}

/// The last pass of a request: all lists are looked at.
fn last_pass() -> ListPass {
    ListPass {
        who: Who::Request,
        gfp: GFP_KERNEL,
        highest: ZoneKind::Movable,
        priority: Priority::LAST,
        wanted: usize::MAX,
        may_write: true,
        may_store: true,
        deactivate: false,
        swappiness: None,
    }
}

/// One pass at this priority. Pages looked at and freed.
fn pass_at(mm: &Machine, priority: u8) -> (usize, usize) {
    let pass = ListPass {
        priority: Priority::new(priority).unwrap(),
        ..last_pass()
    };
    let done = mm.slabs().reclaim().scan_lists(NODE, &pass).pages;
    (done.scanned, done.freed)
}
