//! Frames side by side, isolated blocks, an area (CMA), memory that comes and goes, a device that
//! is told of free memory, and policies of nodes, beside tasks and handlers that allocate and free.
//!
//! 1. **Who.** The tasks and handlers of `pages`. Two that [take](work) frames side by side, pages
//!    of the area and pages by policies that both share, and isolate blocks. A tenant, whose blocks
//!    can be moved, and who [pins](rent) some. One who [plugs](plug) two memory blocks in and takes
//!    them out. One whose [device](report) is slow, and refuses at times. Two nodes.
//! 2. **What must hold.** What is had has an [owner](crate::Owners), so a frame that is given twice
//!    is found at once: while the device is told of a block nobody has it, and memory that is out
//!    is somebody else's. While a block is isolated its free frames may become more, never less
//!    (P512). Memory that stays is told so. A policy that binds gives nothing else.
//! 3. **At [rest](rest)**, when all others are done, what must hold exactly: nothing is isolated;
//!    memory with an unmovable page, or that who listens wants to keep, stays, and all is as before
//!    (P970); what goes is missed by its zone only; interleaving is exact; of all free memory that
//!    the device may be told of, it is told once.
//! 4. **Controls.** What is [`Planted`](crate::Planted) must be found. Seen to fail with one of
//!    these broken in the library, in brackets the first seed that saw it when it was tried:
//!    isolation that does not end where a removal fails (0), or not in the last block of a range
//!    (0); a type that isolation changes (0); pages that are left in a block that goes (0); a zone
//!    that is not told what went (0); free frames of what is out (0); who listens is not told of
//!    the end (0); blocks that the device is told of and not given (0); what it spoilt counts as
//!    zero (0); what it took is told again (0), or what another took is not (5); a policy that
//!    binds and spills (1); a place in turn that is passed over (0); CPUs that keep pages of an
//!    isolated block (23).
//! 5. **What it does not see**: isolated blocks that are told. They never wait, and the look at
//!    their type is a second lock on that door.

mod plug;
mod rent;
mod report;
mod rest;
mod work;

use super::Lab;
use super::compaction::tenant::Tenant;
use super::reclaim::{NODES, nodes};
use crate::sim::TaskHandle;
use gfp::frame::{NodeId, NodeMask, Order, PAGE_SIZE, Pfn, PhysAddr};
use gfp::page::{MemPolicy, Weights};
use gfp::pool::cma::{CmaId, CmaSpec};
use std::cell::Cell;
use std::ops::Range;
use std::rc::Rc;

/// Pageblocks of the area.
const AREA_BLOCKS: usize = 2;

/// Memory blocks that come and go.
const PLUG_BLOCKS: usize = 2;

/// What can be plugged in.
pub(super) const PLUG_BYTES: usize = PLUG_BLOCKS * Order::MAX.bytes();

/// The node that it joins.
const PLUG_NODE: NodeId = NodeId(NODES - 1);

/// What the tasks of a run share.
struct Run {
    area: CmaId,
    tenant: Tenant,
    policies: Vec<MemPolicy>,
    /// Memory still comes and goes.
    plugging: Cell<bool>,
    /// Which memory blocks are plugged in.
    present: [Cell<bool>; PLUG_BLOCKS],
}

impl Run {
    fn new(lab: &Rc<Lab>, area: CmaId) -> Run {
        let pick = |choices: &[usize]| lab.handler_rng.borrow_mut().pick(choices);
        Run {
            area,
            tenant: Tenant::new(lab, pick(&[0, 0, 4]), pick(&[1, 4, 30])),
            policies: policies(),
            plugging: Cell::new(true),
            present: Default::default(),
        }
    }

    /// Where a memory block begins and ends.
    fn plug_range(lab: &Lab, block: usize) -> (PhysAddr, PhysAddr) {
        let bytes = Order::MAX.bytes() as u64;
        let start = lab.mm().platform().plug_range().0.0 + block as u64 * bytes;
        (PhysAddr(start), PhysAddr(start + bytes))
    }

    fn plug_frames(lab: &Lab, block: usize) -> Range<Pfn> {
        let (start, end) = Run::plug_range(lab, block);
        start.pfn()..end.pfn()
    }
}

/// One of each mode, some of them over both nodes.
fn policies() -> Vec<MemPolicy> {
    let (first, last) = (NodeMask::of(NodeId(0)), NodeMask::of(PLUG_NODE));
    let both = nodes().fold(NodeMask::NONE, NodeMask::with);
    vec![
        MemPolicy::local(),
        MemPolicy::preferred(PLUG_NODE),
        MemPolicy::preferred_many(last),
        MemPolicy::bind(first),
        MemPolicy::bind(last),
        MemPolicy::bind(both),
        MemPolicy::interleave(both),
        MemPolicy::weighted_interleave(both, Weights::new([3, 1, 0, 0, 0, 0, 0, 0])),
    ]
}

/// Memory that is not in the machine belongs to whoever took it out.
fn keep_out(lab: &Lab, frames: &Range<Pfn>) {
    let bytes = (frames.end.0 - frames.start.0) * PAGE_SIZE;
    lab.own_outside(frames.start, bytes, "memory that is out");
}

/// What a task of the run does.
type Work = fn(&Run, &Lab, &TaskHandle);

pub(super) fn contig(lab: &Rc<Lab>) {
    let bytes = AREA_BLOCKS * Order::PAGEBLOCK.bytes();
    let area = lab.mm().cma_create(&CmaSpec::new("sim", bytes as u64));
    let run = Rc::new(Run::new(lab, area.expect("an empty machine")));
    run.tenant.register(lab);
    for block in 0..PLUG_BLOCKS {
        keep_out(lab, &Run::plug_frames(lab, block));
    }
    lab.start_here();
    super::storms::pages(lab);
    let tasks: [(&str, Work); 6] = [
        ("contig-0", work::work),
        ("contig-1", work::work),
        ("tenant", rent::rent),
        ("plug", plug::plug),
        ("device", report::report),
        ("rest", rest::rest),
    ];
    for (name, work) in tasks {
        let (lab, run) = (Rc::clone(lab), Rc::clone(&run));
        let sim = lab.sim().clone();
        sim.spawn(name, move |task| work(&run, &lab, task));
    }
}
