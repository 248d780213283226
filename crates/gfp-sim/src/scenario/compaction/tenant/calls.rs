//! What the library calls: moves, questions of reclaim, the shrinker.

use super::super::super::{Block, Lab};
use super::{Page, Tenant};
use crate::config::Planted;
use gfp::flags::{GFP_KERNEL, Gfp};
use gfp::frame::{PAGE_SIZE, Pfn};
use gfp::page::{GivenUp, MigrateMode, Migrated, PageOwner, ReclaimMode};
use gfp::platform::{Context, Platform};
use gfp::policy::compaction::PageFacts;
use gfp::policy::reclaim::shrink::{Counted, Scanned};
use gfp::reclaim::{ShrinkControl, Shrinker};

/// How long who may wait does so for a pin, in points.
const PATIENCE: u32 = 200;

impl Tenant {
    /// Refuses at times, without a reason.
    fn refuses(&self, lab: &Lab) -> bool {
        let one_in = self.refuses.get();
        one_in != 0 && lab.handler_rng.borrow_mut().one_in(one_in)
    }

    /// What all calls have in common: from a task that may sleep, of one who is registered.
    fn called<R>(&self, no: R, work: impl FnOnce(&Lab) -> R) -> R {
        let Some(lab) = self.lab.upgrade() else {
            return no;
        };
        lab.sim().called_back(|| {
            assert!(self.id.get().is_some(), "called, and not registered");
            assert_eq!(lab.mm().platform().context(), Context::Task);
            self.inside.set(self.inside.get() + 1);
            let result = work(&lab);
            self.inside.set(self.inside.get() - 1);
            result
        })
    }

    /// Waits until nobody relies on it, as far as `mode` allows. False if somebody does.
    fn await_pins(&self, lab: &Lab, pfn: Pfn, mode: MigrateMode) -> bool {
        let platform = lab.mm().platform();
        let most = match mode {
            MigrateMode::Async => 0,
            MigrateMode::SyncLight => PATIENCE / 10,
            MigrateMode::Sync => PATIENCE,
        };
        let is_pinned = || self.change(pfn, |page| !page.is_free_to_go()) == Some(true);
        let mut spins = 0;
        while is_pinned() && spins < most {
            platform.relax(spins);
            spins += 1;
        }
        !is_pinned()
    }

    fn move_inside(&self, lab: &Lab, from: Pfn, to: Pfn, mode: MigrateMode) -> Migrated {
        let Some(order) = self.order(from) else {
            return Migrated::Failed; // freed
        };
        if self.refuses(lab) {
            return [Migrated::Busy, Migrated::Failed][lab.handler_rng.borrow_mut().below(2)];
        }
        if !self.await_pins(lab, from, mode) {
            return Migrated::Busy;
        }
        // Needs memory itself, as one does that changes tables.
        if let Ok(ptr) = lab.mm().kmalloc(100, GFP_KERNEL) {
            // SAFETY: ours.
            unsafe { lab.mm().kfree(ptr.as_ptr()) };
        }
        self.copy(lab, from, to, order);
        // In one step: it is still there, and goes.
        let Some(page) = self.take_out(from) else {
            return Migrated::Busy;
        };
        let moved = Page {
            isolated: 0,
            ..page
        };
        self.pages.borrow_mut().insert(to, moved);
        lab.moved(Block::Pages(from, order), Block::Pages(to, order));
        self.moved.set(self.moved.get() + 1);
        lab.mm().platform().step();
        Migrated::Done
    }

    fn copy(&self, lab: &Lab, from: Pfn, to: Pfn, order: u8) {
        if self.moved.get() == 0 && lab.sim().has_planted(Planted::MovedWithoutContent) {
            return;
        }
        let (from, to) = (self.address(lab, from), self.address(lab, to));
        let half = (PAGE_SIZE << order) / 2;
        for offset in [0, half] {
            lab.mm().platform().step();
            // SAFETY: the old block stays as it is while it is held; the new one is ours.
            unsafe { from.add(offset).copy_to(to.add(offset), half) };
        }
        lab.mm().platform().step();
    }
}

// SAFETY: it says yes, moves and gives up only what is in its table, which changes in the same
// step.
unsafe impl PageOwner for Tenant {
    fn facts(&self, page: Pfn) -> PageFacts {
        let known = self.pages.borrow().get(&page).copied();
        PageFacts {
            movable: true,
            pinned: known.is_some_and(|page| page.pins != 0),
            writeback: known.is_some_and(|page| page.writing),
            dirty: known.is_some_and(|page| page.dirty),
            ..PageFacts::default()
        }
    }

    fn isolate(&self, page: Pfn) -> bool {
        self.called(false, |lab| {
            lab.mm().platform().step();
            let refuses = self.refuses(lab);
            let there = |page: &mut Page| {
                let yes = !refuses && page.pins == 0;
                assert_eq!(page.isolated, 0, "isolated twice");
                page.isolated += u32::from(yes);
                yes
            };
            let yes = self.change(page, there);
            lab.mm().platform().step();
            yes == Some(true)
        })
    }

    fn migrate(&self, from: Pfn, to: Pfn, mode: MigrateMode) -> Migrated {
        self.called(Migrated::Failed, |lab| {
            let moved = self.move_inside(lab, from, to, mode);
            lab.mark(
                match (moved, mode) {
                    (Migrated::Done, MigrateMode::Async) => "moved, async",
                    (Migrated::Done, MigrateMode::SyncLight) => "moved, sync light",
                    (Migrated::Done, MigrateMode::Sync) => "moved, sync",
                    _ => "not moved",
                },
                1,
            );
            moved
        })
    }

    fn put_back(&self, page: Pfn) {
        self.called((), |lab| {
            lab.mark("put back", 1);
            // Unless it was freed, and the frame is another's.
            self.change(page, |page| page.isolated -= 1);
        });
    }

    fn reclaim(&self, page: Pfn, gfp: Gfp, mode: ReclaimMode) -> GivenUp {
        self.called(GivenUp::Busy, |lab| {
            let is_dirty = self.change(page, |page| page.dirty);
            match (is_dirty, mode) {
                (None, _) => return GivenUp::Busy, // freed
                (Some(true), ReclaimMode::Drop) => return GivenUp::Busy,
                (Some(true), ReclaimMode::Write) => {
                    assert!(gfp.contains(Gfp::IO), "P416");
                    return match self.begin_write(lab, page) {
                        true => GivenUp::Writeback,
                        false => GivenUp::Busy,
                    };
                }
                (Some(false), _) if self.refuses(lab) => return GivenUp::Referenced,
                (Some(false), _) => {}
            }
            let Some(taken) = self.take_out(page) else {
                return GivenUp::Busy;
            };
            assert_eq!(taken.order, 0, "on a list");
            lab.hand_over(Block::Pages(page, 0));
            lab.mark("given up", 1);
            GivenUp::Now
        })
    }
}

impl Shrinker for Tenant {
    fn count(&self, _: &ShrinkControl) -> Counted {
        match self.pages.borrow().len() {
            0 => Counted::Empty,
            n => Counted::Objects(n),
        }
    }

    fn scan(&self, control: &ShrinkControl) -> Scanned {
        self.called(Scanned::Stop, |lab| {
            let stingy = self.stingy.get();
            if stingy > 1 && !lab.handler_rng.borrow_mut().one_in(stingy) {
                return Scanned::Stop;
            }
            let any = |n| lab.handler_rng.borrow_mut().below(n);
            let free = |_: &usize| self.pick(any).is_some_and(|pfn| self.free(lab, pfn));
            let freed = (0..control.objects).filter(free).count();
            lab.mark("shrunk", freed as u64);
            Scanned::Done {
                looked_at: control.objects,
                freed,
            }
        })
    }
}
