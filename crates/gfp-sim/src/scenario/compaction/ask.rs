//! What the eight ask for.

use super::super::reclaim::levels::{LEVELS, Level};
use super::super::{Block, Lab};
use super::{EASY, ROUNDS, Run};
use crate::sim::TaskHandle;
use gfp::flags::{GFP_KERNEL, Gfp};
use gfp::frame::PAGE_SIZE;
use gfp::mm::AllocError;
use std::ptr::NonNull;

/// Steps of each of the eight in a round.
const STEPS: usize = 12;

/// Blocks of more pages are given back at the end of the step.
const MOST_KEPT_BYTES: usize = PAGE_SIZE << 3;

/// A request of one of the eight.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Request {
    Pages(u8),
    Kmalloc(usize),
    Vmalloc(usize),
    Kvmalloc(usize),
    Bulk,
}

impl Request {
    fn draw(task: &TaskHandle, level: &Level) -> Request {
        let kib = |most: usize| (1 + task.below(most)) << 10;
        let waits = level.gfp.allows_blocking();
        match task.below(16) {
            0 => Request::Bulk,
            1 | 2 => Request::Kmalloc(kib(8)),
            3 => Request::Kmalloc(kib(32)),
            4 if !level.waits_for_ever() => Request::Kmalloc(kib(256)),
            5 | 6 if waits => Request::Kvmalloc(kib(64)),
            7 if waits => Request::Vmalloc(kib(64)),
            _ if level.waits_for_ever() => Request::Pages(task.pick(&[0, 0, 1, 2, 3])),
            _ => Request::Pages(task.pick(&[0, 0, 1, 2, 3, 1, 2, 3, 4, 5, 6, 8, 9])),
        }
    }

    /// Up to order 3: made at any cost, by who may (P107).
    fn is_small(self) -> bool {
        match self {
            Request::Pages(order) => order <= 3,
            Request::Kmalloc(bytes) => bytes <= MOST_KEPT_BYTES,
            // A platform that cannot map fails it.
            Request::Vmalloc(_) | Request::Kvmalloc(_) => false,
            Request::Bulk => false,
        }
    }

    fn bytes(self) -> usize {
        match self {
            Request::Pages(order) => PAGE_SIZE << order,
            Request::Kmalloc(bytes) | Request::Vmalloc(bytes) | Request::Kvmalloc(bytes) => bytes,
            Request::Bulk => PAGE_SIZE,
        }
    }

    fn made(self, lab: &Lab, gfp: Gfp) -> Result<Block, AllocError> {
        let ptr = |ptr: NonNull<u8>| ptr.as_ptr();
        match self {
            Request::Pages(order) => {
                let pfn = lab.mm().alloc_pages(gfp, order);
                pfn.map(|pfn| Block::Pages(pfn, order))
            }
            Request::Kmalloc(bytes) => lab.mm().kmalloc(bytes, gfp).map(ptr).map(Block::Object),
            Request::Vmalloc(bytes) => lab.mm().vmalloc_gfp(bytes, gfp).map(ptr).map(Block::Area),
            Request::Kvmalloc(bytes) => lab.mm().kvmalloc(bytes, gfp).map(ptr).map(Block::Either),
            Request::Bulk => unreachable!("asked for elsewhere"),
        }
    }
}

impl Run {
    /// One request; what is kept of it is the killer's to count and to take.
    fn ask(&self, lab: &Lab, task: &TaskHandle, number: usize, large: &mut Vec<Block>) {
        let level = &LEVELS[number];
        let request = Request::draw(task, level);
        if request == Request::Bulk {
            return self.ask_bulk(lab, level.gfp & !Gfp::NOFAIL, number);
        }
        let gfp = match (level.may_not_fail(), request) {
            (true, Request::Pages(_) | Request::Kmalloc(_)) => {
                task.pick(&[level.gfp, level.gfp & !Gfp::FS])
            }
            _ => level.gfp,
        };
        let term = self.killer.term();
        match request.made(lab, gfp) {
            Ok(block) => {
                lab.mark(level.name, 1);
                lab.own(lab.address(block), request.bytes(), "block");
                match request.bytes() > MOST_KEPT_BYTES {
                    true => large.push(block),
                    false => self.killer.hold(number, block),
                }
            }
            Err(error) => {
                // P107: while there is a killer, only its victims.
                let could_kill = term.is_some() && term == self.killer.term();
                let promised = level.gfp == GFP_KERNEL && could_kill && request.is_small();
                let failed = promised && level.name == "kernel" && !self.killer.is_victim(number);
                let failed = failed || level.may_not_fail();
                assert!(!failed, "{} {request:?}: {error}", level.name);
                lab.refused();
            }
        }
    }

    fn ask_bulk(&self, lab: &Lab, gfp: Gfp, number: usize) {
        let mut out = [None; 8];
        let n = lab.mm().alloc_pages_bulk(gfp, &mut out);
        for pfn in out[..n].iter().flatten() {
            let ptr = lab.mm().page_address(*pfn).as_ptr();
            lab.own(ptr, PAGE_SIZE, "page of a bulk");
            self.killer.hold(number, Block::Pages(*pfn, 0));
        }
        lab.mark("bulk", n as u64);
    }

    /// Asks at one level again and again, holds a little, and lets the tenant grow.
    pub(super) fn work(&self, lab: &Lab, task: &TaskHandle, number: usize) {
        let level = &LEVELS[number];
        self.killer.begin(lab, number, task.id());
        for _ in 0..ROUNDS {
            let scope = lab.mm().scope(level.scopes, &"a level's task");
            let scope = scope.expect("a task has scopes");
            for _ in 0..STEPS {
                self.work_step(lab, task, number);
            }
            drop(scope);
            // Who rests must not have what others wait for.
            while self.killer.give(lab, number) {}
            self.rest(lab, task, Some(number));
        }
        self.killer.end(lab, number);
    }

    fn work_step(&self, lab: &Lab, task: &TaskHandle, number: usize) {
        let mut large = Vec::new();
        let requests = task.pick(&[1, 1, 2, 8]);
        (0..requests).for_each(|_| self.ask(lab, task, number, &mut large));
        // Down to the low watermark, at times.
        let most = task.pick(&[0, 1, 4, 20]);
        let grow = || self.grow(lab, task.pick(&[0, 0, 0, 1, 2, 3]), EASY);
        _ = (0..most).take_while(|_| grow()).count();
        if task.below(4) == 0 {
            task.sleep_ns(1 + task.below(20_000) as u64);
        }
        large.into_iter().for_each(|block| lab.free(block));
        self.killer.obey(lab, number);
        // Who waits for ever, and has nobody killed, must not wait for itself.
        let most = match LEVELS[number].waits_for_ever() {
            true => 4,
            false => self.most_held,
        };
        while self.killer.held(number) > most {
            self.killer.give(lab, number);
        }
        if let Some(theirs) = lab.receive() {
            lab.free(theirs);
        }
    }
}
