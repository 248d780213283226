//! Those who keep memory moving: movers, a guest, the background, a device, handlers.

use super::super::reclaim::nodes;
use super::super::{Block, Lab};
use super::{EASY, PLUG_BYTES, Plug, ROUNDS, Run};
use crate::sim::TaskHandle;
use gfp::flags::{GFP_ATOMIC, GFP_HIGHUSER_MOVABLE, GFP_NOWAIT, Gfp};
use gfp::frame::{NodeId, PAGE_SIZE};
use gfp::page::{MigrateError, MigrateMode};
use std::rc::Rc;

/// Steps of a mover in a round.
const MOVER_STEPS: usize = 40;

/// Visits of the guest in a round.
const VISITS: usize = 3;

/// Most that is posted, in blocks.
const MOST_POSTED: usize = 20;

impl Run {
    /// Adds, frees, uses, pins, writes and moves blocks of the tenant.
    pub(super) fn move_pages(&self, lab: &Lab, task: &TaskHandle) {
        for _ in 0..ROUNDS {
            for _ in 0..MOVER_STEPS {
                self.mover_step(lab, task);
            }
            self.rest(lab, task, None);
        }
    }

    fn mover_step(&self, lab: &Lab, task: &TaskHandle) {
        let (mm, tenant) = (lab.mm(), &self.tenant);
        let moving = match task.below(2) {
            0 => tenant.pick_moving(),
            _ => None,
        };
        let Some(pfn) = moving.or_else(|| tenant.pick(|n| task.below(n))) else {
            return;
        };
        match task.below(12) {
            0 | 1 => {
                let gfp = task.pick(&[EASY, GFP_HIGHUSER_MOVABLE | Gfp::NORETRY]);
                self.grow(lab, task.pick(&[0, 0, 1, 2, 3]), gfp);
            }
            2 | 3 => _ = tenant.free(lab, pfn),
            4 => {
                if tenant.pin(lab, pfn) {
                    task.sleep_ns(1 + task.below(5000) as u64);
                    tenant.unpin(lab, pfn);
                }
            }
            5 | 6 => self.move_one(lab, task, pfn),
            7 => tenant.dirty(lab, pfn),
            8 => _ = tenant.begin_write(lab, pfn),
            9 => mm.mark_page_accessed(pfn),
            10 => tenant.list_late(lab, pfn),
            // A huge page for a while.
            _ => {
                let gfp = GFP_HIGHUSER_MOVABLE | Gfp::NORETRY;
                if tenant.add(lab, gfp & !Gfp::KSWAPD_RECLAIM, 9, None) {
                    lab.mark("huge", 1);
                    task.sleep_ns(1 + task.below(20_000) as u64);
                    tenant.free_largest(lab);
                }
            }
        }
    }

    fn move_one(&self, lab: &Lab, task: &TaskHandle, pfn: gfp::frame::Pfn) {
        let Some(order) = self.tenant.order(pfn) else {
            return;
        };
        let mode = task.pick(&[
            MigrateMode::Async,
            MigrateMode::SyncLight,
            MigrateMode::Sync,
        ]);
        let gfp = GFP_HIGHUSER_MOVABLE | Gfp::NORETRY;
        match lab.mm().migrate_page(pfn, order, gfp, mode) {
            Ok(to) => assert!(to != pfn, "moved to where it was"),
            Err(MigrateError::NotMovable | MigrateError::Alloc(_)) => lab.refused(),
            Err(_) => {}
        }
    }

    /// An owner of its own: registers, takes some pages, and goes.
    pub(super) fn come_and_go(&self, lab: &Lab, task: &TaskHandle) {
        for _ in 0..ROUNDS {
            for _ in 0..VISITS {
                self.guest.register(lab);
                let most = 1 + task.below(30);
                for _ in 0..most {
                    let order = task.pick(&[0, 0, 1, 2]);
                    self.guest.add(lab, EASY, order, self.list_of(lab));
                }
                task.sleep_ns(1 + task.below(300_000) as u64);
                self.guest.leave(lab, task);
            }
            self.rest(lab, task, None);
        }
    }

    /// Reclaims in the background.
    pub(super) fn background(&self, lab: &Lab, task: &TaskHandle, node: NodeId) {
        while !self.stopped.get() {
            let stop = || self.stopped.get() || self.pausing.get();
            lab.mm().kswapd(node, stop).expect("its only task");
            self.rest_if_pausing(lab, task);
        }
    }

    /// Compacts in the background.
    pub(super) fn compact(&self, lab: &Lab, task: &TaskHandle, node: NodeId) {
        while !self.stopped.get() {
            let stop = || self.stopped.get() || self.pausing.get();
            lab.mm().kcompactd(node, stop).expect("its only task");
            self.rest_if_pausing(lab, task);
        }
    }

    /// Ends what was begun to be written.
    pub(super) fn device(&self, lab: &Lab, task: &TaskHandle) {
        while !self.stopped.get() {
            task.sleep_ns(1 + task.below(50_000) as u64);
            while self.tenant.end_write(lab) {}
            self.rest_if_pausing(lab, task);
        }
    }

    /// One of the things that happen to a machine from outside.
    pub(super) fn disturb(&self, lab: &Lab, task: &TaskHandle) {
        match task.below(7) {
            0 => self.killer.forget_notifier(lab),
            1 => self.killer.resign(lab),
            2 => lab
                .mm()
                .compact_node(nodes().nth(task.below(2)).expect("two nodes")),
            3 => lab.mm().compact_memory(),
            4 => _ = lab.mm().trim(),
            5 if self.plug.replace(Plug::Over) == Plug::Due => {
                let (start, end) = lab.mm().platform().plug_range();
                // SAFETY: it is RAM, as long as the machine, and nobody's.
                let added = unsafe { lab.mm().add_memory(start, end) };
                assert!(added.is_ok_and(|added| added.pages == PLUG_BYTES / PAGE_SIZE));
                lab.mark("plugged in", 1);
            }
            _ => _ = lab.mm().slabs().shrink_all(),
        }
        task.pause();
        self.register(lab);
    }

    /// What an interrupt or a softirq does.
    fn interrupt(&self, lab: &Lab) {
        let below = |n| lab.handler_rng.borrow_mut().below(n);
        let theirs = lab.posted() > MOST_POSTED || below(3) == 0;
        match below(6) {
            _ if theirs => {
                let theirs = lab.receive();
                theirs.into_iter().for_each(|block| lab.free(block));
            }
            0 => {
                let pfn = self.tenant.pick(below);
                pfn.into_iter()
                    .for_each(|pfn| _ = self.tenant.free(lab, pfn));
            }
            1 => _ = self.tenant.end_write(lab),
            2 => {
                let bytes = 1 + below(20_000);
                let ptr = lab.mm().kmalloc(bytes, GFP_ATOMIC);
                match ptr {
                    Ok(ptr) => post(lab, Block::Object(ptr.as_ptr()), bytes),
                    Err(_) => lab.refused(),
                }
            }
            _ => {
                let order = [0, 0, 1, 2, 3, 4][below(6)];
                let gfp = [GFP_ATOMIC, GFP_ATOMIC, GFP_NOWAIT][below(3)];
                match lab.mm().alloc_pages(gfp, order) {
                    Ok(pfn) => post(lab, Block::Pages(pfn, order), PAGE_SIZE << order),
                    Err(_) => lab.refused(),
                }
            }
        }
    }

    /// What an NMI does.
    fn nmi(&self, lab: &Lab) {
        let below = |n| lab.handler_rng.borrow_mut().below(n);
        let pfn = self.tenant.pick(below);
        match (below(6), pfn) {
            (0, Some(pfn)) => self.tenant.free_in_nmi(lab, pfn),
            (1, Some(pfn)) => lab.mm().mark_page_accessed(pfn),
            (2, _) if lab.posted() <= MOST_POSTED => {
                let order = [0, 0, 1, 3, 5, 9][below(6)];
                let pfn = lab.mm().alloc_pages_nolock(Gfp::NONE, None, order);
                if let Some(pfn) = pfn {
                    lab.mark("from an NMI", 1);
                    post(lab, Block::Pages(pfn, order), PAGE_SIZE << order);
                }
            }
            (3, _) if lab.posted() <= MOST_POSTED => {
                let bytes = 1 + below(8000);
                if let Some(ptr) = lab.mm().kmalloc_nolock(bytes, Gfp::NONE, None) {
                    post(lab, Block::Object(ptr.as_ptr()), bytes);
                }
            }
            _ => {
                let theirs = lab.receive();
                theirs.into_iter().for_each(|block| lab.free(block));
            }
        }
    }
}

/// What a handler was given, for the others.
fn post(lab: &Lab, block: Block, bytes: usize) {
    lab.own(lab.address(block), bytes, "block of a handler");
    lab.post(block);
}

/// Handlers of all kinds.
pub(super) fn work_in_handlers(lab: &Rc<Lab>, run: &Rc<Run>) {
    let with = |work: fn(&Run, &Lab)| {
        let run = Rc::clone(run);
        move || {
            if let Some(lab) = run.lab.upgrade()
                && !run.quiet.get()
            {
                work(&run, &lab);
            }
        }
    };
    lab.sim().on_interrupt(with(Run::interrupt));
    lab.sim().on_softirq(with(Run::interrupt));
    lab.sim().on_nmi(with(Run::nmi));
}
