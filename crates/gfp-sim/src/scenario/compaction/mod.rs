//! Requests of all orders from memory in pieces: most of it can be moved, some given up.
//!
//! 1. **Who.** Eight tasks, one of each level and one in a scope, [ask](ask) for orders 0 to 9, in
//!    bulk, by kmalloc, vmalloc and kvmalloc. A [tenant](tenant) has nearly all memory, in blocks
//!    of four orders, half of them on the lists of reclaim; two [movers](others) add, free, use,
//!    pin, write and move its blocks; a guest is an owner that comes and goes. Interrupts, softirqs
//!    and NMIs ask for large blocks, free and pin. Two nodes, each with a task that reclaims and
//!    one that compacts; the killer of `reclaim`; one who compacts nodes, drains CPUs, plugs memory
//!    in, and has the killer come and go.
//! 2. **What must hold.** Nobody waits for ever. A request that may not fail is served, up to order
//!    3; one of level 4 up to order 3 fails for a victim only (P107). A block that is moved has its
//!    content; one that is pinned stays. An owner is called by tasks that may sleep, about one
//!    block once at a time, and not after it has gone.
//! 3. **Rounds.** After each, all tasks [rest](checks) outside of the library. Then every book is
//!    right, the movable frames are those of the owners, and no move is left half done.
//! 4. **Liveness.** At the end faults and interrupts stop, the tenant takes all memory down to min,
//!    and all zones are above low within [`CALM_STEPS`](super::CALM_STEPS). From what is left then,
//!    all of it the tenant's, requests of order 3 are served, each within [`LARGE_STEPS`]; so soon
//!    one of order 9 has an answer, from two fifths of a node in pieces.
//! 5. **Controls.** What is [`Planted`](crate::Planted) must be found. Seen to fail with one of
//!    these broken in the library, in brackets the first seed that saw it when it was tried: a
//!    captured block that is dropped (0), a target that is not given back (0), a page freed while
//!    it is held that is never freed (0), no `put_back` of what found no target (0), a hold that
//!    two can have (0), a move without the tag of the page (0), without a word to the lists (1),
//!    without the marks (0), an owner that leaves without a wait (58), the tag of a page for a
//!    block (199), a kswapd that is not woken by single pages (5).
//! 6. **What it does not see**: what costs only attempts. A deferral that is never reset or never
//!    ends, and reserves that are not given up, passed.

mod ask;
mod checks;
mod others;
pub(super) mod tenant;

use super::reclaim::killer::Killer;
use super::reclaim::levels::LEVELS;
use super::reclaim::nodes;
use super::{Block, Lab};
use crate::sim::TaskHandle;
pub use checks::LARGE_STEPS;
use gfp::flags::{GFP_HIGHUSER_MOVABLE, GFP_KERNEL, Gfp};
use gfp::frame::{NodeId, PAGE_SIZE, Pfn};
use gfp::policy::reclaim::lru::Kind;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::{Rc, Weak};
use tenant::Tenant;

/// What can be plugged in.
pub(super) const PLUG_BYTES: usize = 4 << 20;

/// Rounds of a run.
const ROUNDS: usize = 2;

/// Who rests after each round: the eight, two movers, the guest.
const WORKERS: usize = LEVELS.len() + 3;

/// Who does as well, once all others do: two tasks of the background for each node, and a device.
const ATTENDANTS: usize = 2 * super::reclaim::NODES as usize + 1;

/// Frames whose slots are made at once.
const LIST_SLOTS: usize = 256;

/// Movable, and no reason to make an effort.
const EASY: Gfp = GFP_HIGHUSER_MOVABLE.without(Gfp::RECLAIM);

/// Memory that can be plugged in.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Plug {
    /// Comes, some time.
    Due,
    /// Is there, or never comes.
    Over,
}

/// What the tasks of a run share.
struct Run {
    lab: Weak<Lab>,
    tenant: Rc<Tenant>,
    guest: Rc<Tenant>,
    killer: Rc<Killer>,
    /// What nobody gives back until the end.
    fixed: RefCell<Vec<Block>>,
    /// How much each of the eight holds at most, in blocks.
    most_held: usize,
    /// Of single pages of the tenant, how many in a hundred are on the lists.
    listed_percent: usize,
    round: Cell<usize>,
    resting: Cell<usize>,
    /// The background is to rest too.
    pausing: Cell<bool>,
    /// What becomes of the memory that can be plugged in.
    plug: Cell<Plug>,
    /// Handlers do nothing.
    quiet: Cell<bool>,
    stopped: Cell<bool>,
}

impl Run {
    /// One block more for the tenant.
    fn grow(&self, lab: &Lab, order: u8, gfp: Gfp) -> bool {
        self.tenant.add(lab, gfp, order, self.list_of(lab))
    }

    /// On which list a new page goes.
    fn list_of(&self, lab: &Lab) -> Option<Kind> {
        let below = |n| lab.handler_rng.borrow_mut().below(n);
        let kind = [Kind::Droppable, Kind::Storable][below(2)];
        (below(100) < self.listed_percent).then_some(kind)
    }

    /// Gives each node to the tenant, but for a twentieth in pieces, and some percent to nobody.
    fn fill(&self, lab: &Lab, fixed_percent: usize) {
        let below = |n| lab.handler_rng.borrow_mut().below(n);
        let mut slots = BTreeSet::new();
        for node in nodes() {
            lab.sim().act_as(node.0.into()); // a CPU of that node
            let fixed = managed(lab, node) * fixed_percent / 100;
            for _ in 0..fixed {
                let gfp = GFP_KERNEL | Gfp::THISNODE;
                let pfn = lab.mm().alloc_pages_node(node, gfp, 0);
                self.fixed
                    .borrow_mut()
                    .push(page(lab, pfn.expect("there is enough")));
            }
            while free_percent(lab, node) > 3 {
                let order = [0, 0, 0, 1, 2, 3][below(6)];
                let gfp = EASY | Gfp::THISNODE;
                let Ok(pfn) = lab.mm().alloc_pages_node(node, gfp, order) else {
                    break;
                };
                // Slots of the lists are made with the first page of so many frames, and kept: so
                // no page that moves finds none.
                let on_lists = match order == 0 && slots.insert(pfn.0 / LIST_SLOTS) {
                    true => Some(Kind::Droppable),
                    false => self.list_of(lab),
                };
                self.tenant.adopt(lab, pfn, order, on_lists);
            }
            while free_percent(lab, node) < 5 {
                self.free_of(lab, node);
            }
        }
        lab.sim().act_as(0);
    }

    /// Frees one of the tenant's blocks on a node.
    fn free_of(&self, lab: &Lab, node: NodeId) {
        let below = |n| lab.handler_rng.borrow_mut().below(n);
        if let Some(pfn) = self.tenant.pick(below)
            && lab.mm().pages().node_of(pfn) == node
        {
            self.tenant.free(lab, pfn);
        }
    }

    fn register(&self, lab: &Lab) {
        self.killer.register(lab);
        self.killer.keep(lab);
    }
}

fn managed(lab: &Lab, node: NodeId) -> usize {
    let mut zones = lab.mm().pages().zone_stats();
    zones
        .find(|zone| zone.node == node)
        .expect("its zone")
        .managed
}

fn free_percent(lab: &Lab, node: NodeId) -> usize {
    let mut zones = lab.mm().pages().zone_stats();
    let zone = zones.find(|zone| zone.node == node).expect("its zone");
    zone.free.free * 100 / zone.managed
}

/// A single page that was given out.
fn page(lab: &Lab, pfn: Pfn) -> Block {
    let ptr = lab.mm().page_address(pfn).as_ptr();
    lab.own(ptr, PAGE_SIZE, "page that stays");
    Block::Pages(pfn, 0)
}

/// What a task of the run does.
type Work = Box<dyn FnOnce(&Run, &Lab, &TaskHandle)>;

pub(super) fn compaction(lab: &Rc<Lab>) {
    let pick = |choices: &[usize]| lab.handler_rng.borrow_mut().pick(choices);
    let (refuses, stingy) = (pick(&[0, 0, 2, 8]), pick(&[1, 4, 30, 100]));
    let run = Rc::new(Run {
        lab: Rc::downgrade(lab),
        tenant: Rc::new(Tenant::new(lab, refuses, stingy)),
        guest: Rc::new(Tenant::new(lab, refuses, stingy)),
        killer: Rc::new(Killer::new(lab, LEVELS.len())),
        fixed: RefCell::default(),
        most_held: pick(&[8, 24, 60]),
        listed_percent: pick(&[30, 60, 90]),
        round: Cell::new(0),
        resting: Cell::new(0),
        pausing: Cell::new(false),
        plug: Cell::new([Plug::Due, Plug::Over][pick(&[0, 1])]),
        quiet: Cell::new(false),
        stopped: Cell::new(false),
    });
    run.tenant.register(lab);
    run.fill(lab, pick(&[0, 2]));
    run.register(lab);
    others::work_in_handlers(lab, &run);
    let spawn = |name: &str, work: Work| {
        let (lab, run) = (Rc::clone(lab), Rc::clone(&run));
        let sim = lab.sim().clone();
        sim.spawn(name, move |task| work(&run, &lab, task));
    };
    for node in nodes() {
        let name = format!("kswapd{}", node.0);
        spawn(
            &name,
            Box::new(move |run, lab, task| run.background(lab, task, node)),
        );
        spawn(
            &format!("kcompactd{}", node.0),
            Box::new(move |run, lab, task| run.compact(lab, task, node)),
        );
    }
    spawn("device", Box::new(Run::device));
    for (number, level) in LEVELS.iter().enumerate() {
        spawn(
            level.name,
            Box::new(move |run, lab, task| run.work(lab, task, number)),
        );
    }
    spawn("mover-0", Box::new(Run::move_pages));
    spawn("mover-1", Box::new(Run::move_pages));
    spawn("guest", Box::new(Run::come_and_go));
    spawn("change", Box::new(Run::conduct));
}
