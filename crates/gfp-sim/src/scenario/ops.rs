//! What a task does in one step.

use super::{Block, Lab};
use crate::sim::TaskHandle;
use gfp::flags::{GFP_ATOMIC, GFP_HIGHUSER_MOVABLE, GFP_KERNEL, GFP_NOWAIT, Gfp};
use gfp::frame::PAGE_SIZE;

/// One thing to do.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Op {
    /// A block of any order.
    Pages,
    /// Many single pages.
    Bulk,
    /// Pages of an exact size.
    Exact,
    /// An object of any size.
    Kmalloc,
    /// An object changes its size.
    Krealloc,
    /// An area.
    Vmalloc,
    /// An area changes its size.
    Vrealloc,
    /// Either.
    Kvmalloc,
    /// Waiting addresses become free.
    Purge,
    /// All CPUs give back their pages.
    DrainPages,
    /// A CPU gives back its objects.
    DrainCpu,
    /// Everything that nobody needs goes back.
    Trim,
    /// Something is given to the others.
    Post,
    /// Something of the others is freed.
    FreeTheirs,
    /// Something is freed.
    Free,
    /// All is freed.
    FreeAll,
    /// A while passes.
    Sleep,
}

const FROM_TASKS: [Gfp; 6] = [
    GFP_KERNEL,
    GFP_KERNEL,
    GFP_KERNEL.with(Gfp::NORETRY),
    GFP_KERNEL.with(Gfp::ZERO),
    GFP_NOWAIT,
    GFP_ATOMIC,
];

impl Lab {
    fn gfp(&self, task: &TaskHandle) -> Gfp {
        task.pick(&FROM_TASKS)
    }

    /// A size: mostly small, sometimes up to `most`.
    fn size(&self, task: &TaskHandle, most: usize) -> usize {
        let bits = task.below(most.ilog2() as usize + 1);
        1 + task.below(1 << bits)
    }

    /// Does one thing with what the task holds.
    pub fn step(&self, task: &TaskHandle, held: &mut Vec<Block>, op: Op) {
        match op {
            Op::Pages | Op::Bulk | Op::Exact => self.step_pages(task, held, op),
            Op::Kmalloc | Op::Krealloc => self.step_objects(task, held, op),
            Op::Vmalloc | Op::Vrealloc | Op::Kvmalloc => self.step_areas(task, held, op),
            Op::Purge => _ = self.mm().vmalloc_space().purge(),
            Op::DrainPages => _ = self.mm().pages().drain_all(),
            Op::DrainCpu => {
                let cpus = gfp::Platform::nr_cpus(self.mm().platform());
                let cpu = gfp::frame::CpuId(task.below(cpus as usize) as u32);
                self.mm().slabs().drain_cpu(cpu);
            }
            Op::Trim => _ = self.mm().trim(),
            Op::Post if !held.is_empty() => self.post(held.swap_remove(task.below(held.len()))),
            Op::FreeTheirs => {
                let theirs = self.receive();
                theirs.into_iter().for_each(|block| self.free(block));
            }
            Op::Free if !held.is_empty() => self.free(held.swap_remove(task.below(held.len()))),
            Op::FreeAll => held.drain(..).for_each(|block| self.free(block)),
            Op::Post | Op::Free => (),
            Op::Sleep => task.sleep_ns(1 + task.below(20_000) as u64),
        }
    }

    fn step_pages(&self, task: &TaskHandle, held: &mut Vec<Block>, op: Op) {
        match op {
            Op::Bulk => {
                let mut out = [None; 20];
                let n = self.mm().alloc_pages_bulk(GFP_KERNEL, &mut out);
                for pfn in out[..n].iter().flatten() {
                    let ptr = self.mm().page_address(*pfn).as_ptr();
                    self.own(ptr, PAGE_SIZE, "page of a bulk");
                    held.push(Block::Pages(*pfn, 0));
                }
            }
            Op::Exact => {
                let bytes = 1 + task.below(20 * PAGE_SIZE);
                match self.mm().alloc_pages_exact(bytes, GFP_KERNEL) {
                    Ok(ptr) => {
                        self.own(ptr.as_ptr(), bytes, "exact pages");
                        held.push(Block::Exact(ptr.as_ptr(), bytes));
                    }
                    Err(_) => self.refused(),
                }
            }
            _ => {
                let order = task.pick(&[0, 0, 0, 0, 0, 1, 1, 2, 3, 3, 4, 5, 6, 7, 8, 9, 10]);
                let gfp = match task.below(4) {
                    0 => GFP_HIGHUSER_MOVABLE,
                    1 => GFP_KERNEL | Gfp::RECLAIMABLE,
                    _ => self.gfp(task),
                };
                match self.mm().alloc_pages(gfp, order) {
                    Ok(pfn) => {
                        let ptr = self.mm().page_address(pfn).as_ptr();
                        self.expect_zero(ptr, PAGE_SIZE << order, gfp);
                        self.own(ptr, PAGE_SIZE << order, "block");
                        held.push(Block::Pages(pfn, order));
                    }
                    Err(_) => self.refused(),
                }
            }
        }
    }

    /// Memory that was asked for as zero is: looked at where patterns are.
    pub(super) fn expect_zero(&self, ptr: *mut u8, bytes: usize, gfp: Gfp) {
        if gfp.contains(Gfp::ZERO) {
            for at in (0..bytes).step_by(PAGE_SIZE) {
                // SAFETY: the memory was given to us.
                let byte = unsafe { ptr.add(at).read() };
                assert!(byte == 0, "not zeroed at byte {at} of {bytes}");
            }
        }
    }

    fn step_objects(&self, task: &TaskHandle, held: &mut Vec<Block>, op: Op) {
        let gfp = self.gfp(task);
        let most = task.pick(&[256, 2048, 8192, 64 << 10]);
        let size = self.size(task, most);
        if op == Op::Kmalloc {
            match self.mm().kmalloc(size, gfp) {
                Ok(ptr) => {
                    self.expect_zero(ptr.as_ptr(), size, gfp);
                    self.own(ptr.as_ptr(), size, "object");
                    held.push(Block::Object(ptr.as_ptr()));
                }
                Err(_) => self.refused(),
            }
            return;
        }
        let mine = held.iter().position(|b| matches!(b, Block::Object(_)));
        let Some(index) = mine else { return };
        let Block::Object(old) = held[index] else {
            return;
        };
        let resize = || {
            // SAFETY: the object is ours; only what was given out is used afterwards.
            let new = unsafe { self.mm().krealloc(old, size, gfp) };
            new.ok().map(|new| new.as_ptr())
        };
        held[index] = Block::Object(self.resize(old, size, "object, resized", resize));
    }

    fn step_areas(&self, task: &TaskHandle, held: &mut Vec<Block>, op: Op) {
        let size = self.size(task, 256 << 10);
        let result = match op {
            Op::Kvmalloc => self.mm().kvmalloc(size, GFP_KERNEL),
            Op::Vmalloc if task.below(2) == 0 => self.mm().vzalloc(size),
            Op::Vmalloc => self.mm().vmalloc(size),
            _ => {
                let mine = held.iter().position(|b| matches!(b, Block::Area(_)));
                let Some(index) = mine else { return };
                let Block::Area(old) = held[index] else {
                    return;
                };
                let resize = || {
                    // SAFETY: the area is ours; only what was given out is used afterwards.
                    let new = unsafe { self.mm().vrealloc(old, size, GFP_KERNEL) };
                    new.ok().flatten().map(|new| new.as_ptr())
                };
                held[index] = Block::Area(self.resize(old, size, "area, resized", resize));
                return;
            }
        };
        match (result, op) {
            (Ok(ptr), Op::Kvmalloc) => {
                self.own(ptr.as_ptr(), size, "kvmalloc");
                held.push(Block::Either(ptr.as_ptr()));
            }
            (Ok(ptr), _) => {
                self.own(ptr.as_ptr(), size, "area");
                held.push(Block::Area(ptr.as_ptr()));
            }
            (Err(_), _) => self.refused(),
        }
    }
}
