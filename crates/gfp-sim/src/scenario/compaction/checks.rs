//! Rests between rounds, what must hold then, and what must come about at the end.

use super::super::reclaim::{CALM_STEPS, calm, nodes};
use super::super::{Block, Lab};
use super::{ATTENDANTS, EASY, ROUNDS, Run, WORKERS, free_percent};
use crate::sim::TaskHandle;
use gfp::flags::{GFP_KERNEL, Gfp};
use gfp::frame::{FrameKind, NodeId, PAGE_SIZE, Pfn};

/// Points that pass at most, once pressure is gone, until a request of order 3 is served, and until
/// one of order 9 has an answer, with two fifths of its node free in pieces.
pub const LARGE_STEPS: u64 = 100_000;

/// Requests of order 3 at the end.
const AT_THE_END: usize = 8;

/// How often who rests looks whether the round is over.
const LOOK_NS: u64 = 20_000;

impl Run {
    /// Waits outside of the library until the next round. Who is killed dies.
    pub(super) fn rest(&self, lab: &Lab, task: &TaskHandle, number: Option<usize>) {
        let round = self.round.get();
        self.resting.set(self.resting.get() + 1);
        while self.round.get() == round {
            task.sleep_ns(LOOK_NS);
            // Nobody dies while the books are looked at.
            if let (Some(number), false) = (number, self.pausing.get()) {
                self.killer.obey(lab, number);
            }
        }
    }

    /// The same for who serves the others, once they all rest.
    pub(super) fn rest_if_pausing(&self, lab: &Lab, task: &TaskHandle) {
        if self.pausing.get() {
            self.rest(lab, task, None);
        }
    }

    /// Disturbs until all rest, looks at the books, and lets the next round begin.
    pub(super) fn conduct(&self, lab: &Lab, task: &TaskHandle) {
        for _ in 0..ROUNDS {
            while self.resting.get() < WORKERS {
                task.sleep_ns(1 + task.below(200_000) as u64);
                self.disturb(lab, task);
            }
            self.pausing.set(true);
            while self.resting.get() < WORKERS + ATTENDANTS {
                stop_background(lab);
                task.sleep_ns(LOOK_NS);
            }
            task.irqs_off(|| self.look(lab));
            self.resting.set(0);
            self.pausing.set(false);
            self.round.set(self.round.get() + 1);
        }
        self.calm_down(lab, task);
    }

    /// Everybody is outside of the library: what must hold then.
    fn look(&self, lab: &Lab) {
        self.quiet.set(true);
        if let Err(error) = lab.mm().verify() {
            panic!("between two rounds: {error:?}");
        }
        let pages = lab.mm().pages();
        let mut movable = 0;
        for (_, zone) in pages.zone_frames() {
            let frames = (zone.start.0..zone.end.0).map(Pfn);
            let words = frames.map(|pfn| pages.frames().get(pfn));
            let of_owners = words.filter(|word| word.kind() == FrameKind::Movable);
            movable += of_owners.map(|word| word.order().pages()).sum::<usize>();
        }
        let owned = self.tenant.frames() + self.guest.frames();
        assert_eq!(movable, owned, "movable frames, and those of the owners");
        self.tenant.look(lab);
        self.quiet.set(false);
    }

    /// Pressure is gone, and the tenant has taken all that it may have: waits until all zones are
    /// above low, then until there are large blocks.
    fn calm_down(&self, lab: &Lab, task: &TaskHandle) {
        self.quiet.set(true);
        lab.sim().end_faults();
        self.tenant.behave();
        while let Some(theirs) = lab.receive() {
            lab.free(theirs);
        }
        let fixed = std::mem::take(&mut *self.fixed.borrow_mut());
        fixed.into_iter().for_each(|block| lab.free(block));
        // What other CPUs have cached as well.
        while lab.mm().pages().drain_all() > 0 && self.grow(lab, 0, EASY) {
            while self.grow(lab, 0, EASY) {}
        }
        let steps = calm::until_above_low(lab, task, CALM_STEPS);
        lab.mark_most("calm after steps", steps);
        self.ask_small(lab, task);
        nodes().for_each(|node| self.ask_large(lab, task, node));
        self.note_events(lab);
        self.stopped.set(true);
        stop_background(lab);
        self.killer.forget_notifier(lab);
        self.killer.resign(lab);
        while self.tenant.end_write(lab) {}
        self.tenant.leave(lab, task);
    }

    /// With all memory taken, and all of it the tenant's, blocks of order 3 are made.
    fn ask_small(&self, lab: &Lab, task: &TaskHandle) {
        let mut held = Vec::new();
        for _ in 0..AT_THE_END {
            let since = lab.sim().outcome().steps;
            let pfn = lab.mm().alloc_pages(GFP_KERNEL | Gfp::NOFAIL, 3);
            let steps = lab.sim().outcome().steps - since;
            assert!(
                steps <= LARGE_STEPS,
                "a block of order 3 after {steps} steps"
            );
            lab.mark_most("small after steps", steps);
            let pfn = pfn.expect("a request that may not fail");
            lab.own(lab.mm().page_address(pfn).as_ptr(), PAGE_SIZE << 3, "small");
            held.push(Block::Pages(pfn, 3));
            task.pause();
        }
        held.into_iter().for_each(|block| lab.free(block));
    }

    /// With two fifths of a node free in pieces one of order 9 mostly is: what other requests left
    /// in pageblocks of their own may be too much in the way.
    fn ask_large(&self, lab: &Lab, task: &TaskHandle, node: NodeId) {
        while free_percent(lab, node) < 40 {
            self.free_of(lab, node);
            lab.mm().pages().drain_all();
        }
        let since = lab.sim().outcome().steps;
        let gfp = GFP_KERNEL | Gfp::RETRY_MAYFAIL | Gfp::THISNODE;
        let block = lab.mm().alloc_pages_node(node, gfp, 9);
        let steps = lab.sim().outcome().steps - since;
        assert!(steps <= LARGE_STEPS, "an answer after {steps} steps");
        lab.mark_most("large after steps", steps);
        let Ok(pfn) = block else {
            return lab.mark("large: none", 1);
        };
        lab.mark("large: made", 1);
        lab.own(lab.mm().page_address(pfn).as_ptr(), PAGE_SIZE << 9, "large");
        task.pause();
        lab.free(Block::Pages(pfn, 9));
    }

    fn note_events(&self, lab: &Lab) {
        let events = lab.mm().slabs().reclaim().events();
        lab.mark("throttled", events.throttled);
        lab.mark("runs of the background", events.runs);
        lab.mark("compactions that succeeded", events.compact.success);
        lab.mark("compactions that failed", events.compact.fail);
        lab.mark("pages moved by compaction", events.compact.migrated);
        lab.mark("moved", self.tenant.moved());
        lab.mark("wakes of compaction tasks", events.compact.task_wakes);
        let scanned = events.compact.task_migrate_scanned;
        lab.mark("frames passed by compaction tasks", scanned);
    }
}

/// Has the tasks of all nodes look whether they are to stop.
fn stop_background(lab: &Lab) {
    for node in nodes() {
        lab.mm().stop_kswapd(node);
        lab.mm().stop_kcompactd(node);
    }
}
