//! Tasks that allocate and free at random.

use super::{Block, Lab, Op};
use crate::sim::TaskHandle;
use gfp::flags::{GFP_ATOMIC, GFP_KERNEL, GFP_NOWAIT, Gfp};
use std::rc::Rc;

/// How much a task holds at most, in pieces.
const MOST_HELD: usize = 24;

/// Tasks that do random things of a list, so many steps each; then each frees what it holds.
fn storm(lab: &Rc<Lab>, tasks: usize, steps: usize, ops: &'static [Op]) {
    for number in 0..tasks {
        let lab_of_task = Rc::clone(lab);
        let name = format!("storm-{number}");
        lab.sim().spawn(&name, move |task| {
            let lab = lab_of_task;
            let mut held = Vec::new();
            for _ in 0..steps {
                lab.step(task, &mut held, task.pick(ops));
                if held.len() > MOST_HELD {
                    lab.step(task, &mut held, Op::Free);
                    lab.step(task, &mut held, Op::Free);
                }
            }
            lab.step(task, &mut held, Op::FreeAll);
        });
    }
}

pub(super) fn pages(lab: &Rc<Lab>) {
    const OPS: &[Op] = &[
        Op::Pages,
        Op::Pages,
        Op::Pages,
        Op::Pages,
        Op::Exact,
        Op::Bulk,
        Op::Post,
        Op::FreeTheirs,
        Op::Free,
        Op::Free,
        Op::Free,
        Op::Free,
    ];
    free_from_handlers(lab);
    storm(lab, 6, 120, OPS);
}

const OBJECTS: &[Op] = &[
    Op::Kmalloc,
    Op::Kmalloc,
    Op::Kmalloc,
    Op::Kmalloc,
    Op::Krealloc,
    Op::Post,
    Op::FreeTheirs,
    Op::Free,
    Op::Free,
    Op::Sleep,
];

pub(super) fn kmalloc(lab: &Rc<Lab>) {
    free_from_handlers(lab);
    storm(lab, 8, 150, OBJECTS);
}

const AREAS: &[Op] = &[
    Op::Vmalloc,
    Op::Vmalloc,
    Op::Kvmalloc,
    Op::Vrealloc,
    Op::Purge,
    Op::Post,
    Op::FreeTheirs,
    Op::Free,
    Op::Free,
];

pub(super) fn vmalloc(lab: &Rc<Lab>) {
    free_from_handlers(lab);
    storm(lab, 5, 40, AREAS);
}

/// Interrupts of all kinds free what was posted.
pub(super) fn free_from_handlers(lab: &Rc<Lab>) {
    let weak = Rc::downgrade(lab);
    let free = move || {
        let Some(lab) = weak.upgrade() else { return };
        let theirs = lab.receive();
        theirs.into_iter().for_each(|block| lab.free(block));
    };
    lab.sim().on_interrupt(free.clone());
    lab.sim().on_softirq(free.clone());
    lab.sim().on_nmi(free);
}

/// Interrupts of all kinds allocate too, and leave some of it to the tasks.
fn work_in_handlers(lab: &Rc<Lab>) {
    let weak = Rc::downgrade(lab);
    let work = move || {
        let Some(lab) = weak.upgrade() else { return };
        let below = |n| lab.handler_rng.borrow_mut().below(n);
        if lab.posted() > 60 || below(2) == 0 {
            let theirs = lab.receive();
            return theirs.into_iter().for_each(|block| lab.free(block));
        }
        let gfp = [GFP_ATOMIC, GFP_NOWAIT][below(2)];
        let block = match below(3) {
            0 => {
                let order = below(4) as u8;
                let pfn = lab.mm().alloc_pages(gfp, order);
                pfn.ok().map(|pfn| {
                    let ptr = lab.mm().page_address(pfn).as_ptr();
                    lab.own(ptr, 4096 << order, "block of a handler");
                    Block::Pages(pfn, order)
                })
            }
            _ => {
                let size = 1 + below(2000);
                let ptr = lab.mm().kmalloc(size, gfp);
                ptr.ok().map(|ptr| {
                    lab.own(ptr.as_ptr(), size, "object of a handler");
                    Block::Object(ptr.as_ptr())
                })
            }
        };
        match block {
            Some(block) => lab.post(block),
            None => lab.refused(),
        }
    };
    lab.sim().on_interrupt(work.clone());
    lab.sim().on_softirq(work.clone());
    lab.sim().on_nmi(work);
}

pub(super) fn interrupts(lab: &Rc<Lab>) {
    const OPS: &[Op] = &[
        Op::Kmalloc,
        Op::Kmalloc,
        Op::Pages,
        Op::Vmalloc,
        Op::Post,
        Op::Post,
        Op::FreeTheirs,
        Op::Free,
        Op::Free,
        Op::DrainCpu,
    ];
    work_in_handlers(lab);
    storm(lab, 6, 120, OPS);
}

pub(super) fn drains(lab: &Rc<Lab>) {
    const OPS: &[Op] = &[
        Op::Kmalloc,
        Op::Kmalloc,
        Op::Kmalloc,
        Op::Pages,
        Op::Pages,
        Op::DrainPages,
        Op::DrainCpu,
        Op::DrainCpu,
        Op::Trim,
        Op::Post,
        Op::FreeTheirs,
        Op::Free,
        Op::Free,
        Op::Free,
    ];
    free_from_handlers(lab);
    storm(lab, 6, 60, OPS);
}

const ALL_OPS: &[Op] = &[
    Op::Pages,
    Op::Pages,
    Op::Bulk,
    Op::Exact,
    Op::Kmalloc,
    Op::Kmalloc,
    Op::Kmalloc,
    Op::Kmalloc,
    Op::Krealloc,
    Op::Vmalloc,
    Op::Vrealloc,
    Op::Kvmalloc,
    Op::Purge,
    Op::DrainCpu,
    Op::Trim,
    Op::Post,
    Op::Post,
    Op::FreeTheirs,
    Op::Free,
    Op::Free,
    Op::Free,
    Op::Free,
    Op::Sleep,
];

pub(super) fn mixed(lab: &Rc<Lab>) {
    work_in_handlers(lab);
    storm(lab, 8, 80, ALL_OPS);
}

/// Takes until something is refused, then gives some back; at last asks for what may not fail.
fn hungry(lab: &Lab, task: &TaskHandle) {
    const TAKE: &[Op] = &[
        Op::Pages,
        Op::Kmalloc,
        Op::Bulk,
        Op::Vmalloc,
        Op::Kvmalloc,
        Op::Post,
    ];
    let mut held = Vec::new();
    for _ in 0..2 {
        let most = 20 + task.below(30);
        for _ in 0..most {
            lab.step(task, &mut held, task.pick(TAKE));
        }
        for _ in 0..held.len() / 2 {
            lab.step(task, &mut held, Op::Free);
        }
        lab.step(task, &mut held, Op::FreeTheirs);
    }
    // Who holds memory and waits for more may wait for itself.
    lab.step(task, &mut held, Op::FreeAll);
    while let Some(theirs) = lab.receive() {
        lab.free(theirs);
    }
    let pfn = lab.mm().alloc_pages(GFP_KERNEL | Gfp::NOFAIL, 0);
    let pfn = pfn.expect("a request that may not fail");
    lab.own(lab.mm().page_address(pfn).as_ptr(), 4096, "page");
    lab.free(Block::Pages(pfn, 0));
}

pub(super) fn oom(lab: &Rc<Lab>) {
    free_from_handlers(lab);
    for number in 0..6 {
        let lab_of_task = Rc::clone(lab);
        let name = format!("hungry-{number}");
        let work = move |task: &TaskHandle| hungry(&lab_of_task, task);
        lab.sim().spawn(&name, work);
    }
}
