//! Memory blocks that are plugged in and taken out (P514-P518).

use super::super::Lab;
use super::{Run, keep_out};
use crate::config::Planted;
use crate::sim::TaskHandle;
use gfp::flags::GFP_KERNEL;
use gfp::frame::{Order, PAGE_SIZE, Pfn, PhysAddr};
use gfp::page::{
    AddMemoryError, ContigError, MemoryAnswer, MemoryEvent, RemoveMemoryError, RemovedMemory,
};
use gfp::platform::Platform;
use std::ops::Range;

const STEPS: usize = 24;

/// What became of one removal.
pub(super) struct Removal {
    pub(super) result: Result<RemovedMemory, RemoveMemoryError>,
    pub(super) heard: Vec<MemoryEvent>,
}

pub(super) fn plug(run: &Run, lab: &Lab, task: &TaskHandle) {
    for _ in 0..STEPS {
        task.sleep_ns(1 + task.below(20_000) as u64);
        let block = task.below(run.present.len());
        match (run.present[block].get(), task.below(8)) {
            (_, 0) => mistake(run, lab, block),
            (true, _) => try_remove(run, lab, task, block),
            (false, _) => {
                add(run, lab, block);
                move_in(run, lab, task, block);
            }
        }
    }
    run.plugging.set(false);
}

/// P516.
pub(super) fn add(run: &Run, lab: &Lab, block: usize) {
    let (start, end) = Run::plug_range(lab, block);
    if lab.sim().has_planted(Planted::WrittenWhileOut) {
        let ptr = lab.mm().platform().direct_map().ptr(start);
        // SAFETY: RAM that is not in the machine; the mistake is to write to it.
        unsafe { ptr.write(!ptr.read()) };
    }
    lab.let_in(start.pfn(), Order::MAX.bytes());
    // SAFETY: it is RAM, as long as the machine, and nobody's; zeroed just now.
    let added = unsafe { lab.mm().add_memory(start, end) };
    let pages = added.expect("it is absent, and whole").pages;
    assert_eq!(pages, Order::MAX.pages());
    run.present[block].set(true);
    lab.mark("memory: added", 1);
}

/// The tenant gets some certain pages of a block.
fn move_in(run: &Run, lab: &Lab, task: &TaskHandle, block: usize) {
    let start = Run::plug_frames(lab, block).start;
    for _ in 0..task.below(8) {
        let pfn = start.add(task.below(Order::MAX.pages()));
        match lab.mm().alloc_contig_range(pfn..pfn.add(1), GFP_KERNEL) {
            Ok(()) => run.tenant.adopt(lab, pfn, 0, None),
            Err(_) => lab.refused(),
        }
    }
}

/// P517, P518: takes a block out, unless who listens wants to keep it.
pub(super) fn remove(
    run: &Run,
    lab: &Lab,
    task: &TaskHandle,
    block: usize,
    answer: MemoryAnswer,
) -> Removal {
    let (start, end) = Run::plug_range(lab, block);
    let frames = start.pfn()..end.pfn();
    let mut heard = Vec::new();
    let result = lab.mm().remove_memory(start, end, &mut |event| {
        lab.sim().called_back(|| {
            heard.push(event);
            if event == MemoryEvent::GoingOffline {
                nothing_is_given_out(lab, task, &frames);
            }
        });
        answer
    });
    if result.is_ok() {
        assert_eq!(answer, MemoryAnswer::Agreed);
        assert_eq!(heard, [MemoryEvent::GoingOffline, MemoryEvent::Offline]);
        let mut left = (frames.start.0..frames.end.0).map(Pfn);
        assert!(
            !left.any(|pfn| lab.mm().pages().is_free(pfn)),
            "free, and out"
        );
        run.present[block].set(false);
        keep_out(lab, &frames);
    }
    Removal { result, heard }
}

/// P512: what is isolated and free stays free.
fn nothing_is_given_out(lab: &Lab, task: &TaskHandle, frames: &Range<Pfn>) {
    let pages = lab.mm().pages();
    let all = (frames.start.0..frames.end.0).map(Pfn);
    let free: Vec<Pfn> = all.filter(|pfn| pages.is_free(*pfn)).collect();
    task.sleep_ns(1 + task.below(5000) as u64);
    let taken = free.iter().find(|pfn| !pages.is_free(**pfn));
    assert!(taken.is_none(), "{taken:?} of memory that goes was given");
}

fn try_remove(run: &Run, lab: &Lab, task: &TaskHandle, block: usize) {
    let answer = match task.below(5) {
        0 => MemoryAnswer::Refused,
        _ => MemoryAnswer::Agreed,
    };
    let Removal { result, heard } = remove(run, lab, task, block, answer);
    let cancelled = [MemoryEvent::GoingOffline, MemoryEvent::CancelOffline];
    match result {
        Ok(removed) => {
            assert_eq!(removed.pages, Order::MAX.pages());
            lab.mark("memory: removed", 1);
        }
        Err(RemoveMemoryError::Refused) => {
            assert_eq!(answer, MemoryAnswer::Refused);
            assert_eq!(heard, cancelled);
            lab.mark("memory: kept by who listens", 1);
        }
        // Before anybody was asked.
        Err(RemoveMemoryError::Contig(ContigError::Isolate(_))) => {
            assert_eq!(heard, []);
            lab.mark("memory: not isolated", 1);
        }
        Err(RemoveMemoryError::Contig(error)) => {
            assert!(matches!(
                error,
                ContigError::Busy { .. } | ContigError::NoMemory(_)
            ));
            assert_eq!(heard, cancelled);
            lab.mark("memory: busy", 1);
        }
        Err(error) => panic!("{error}"),
    }
}

/// What must be refused, and change nothing.
fn mistake(run: &Run, lab: &Lab, block: usize) {
    let (start, end) = Run::plug_range(lab, block);
    let there = run.present[block].get();
    let block_bytes = Order::MAX.bytes() as u64;
    let off = PhysAddr(start.0 + PAGE_SIZE as u64);
    // SAFETY: nothing is added.
    let added = |from, to| unsafe { lab.mm().add_memory(from, to) };
    let removed = |from, to| {
        let mut heard = |_| panic!("told of what cannot be");
        lab.mm().remove_memory(from, to, &mut heard)
    };
    match there {
        true => {
            let present = AddMemoryError::AlreadyPresent { at: start };
            assert_eq!(added(start, end), Err(present));
        }
        false => {
            let absent = RemoveMemoryError::NotPresent { at: start };
            assert_eq!(removed(start, end), Err(absent));
        }
    }
    assert_eq!(
        added(off, end),
        Err(AddMemoryError::Unaligned { block_bytes })
    );
    let unaligned = RemoveMemoryError::Unaligned { block_bytes };
    assert_eq!(removed(off, end), Err(unaligned));
    // What is there since boot stays.
    let at = PhysAddr(Run::plug_range(lab, 0).0.0 - block_bytes);
    let stays = RemoveMemoryError::NotHotpluggable { at };
    assert_eq!(removed(at, PhysAddr(at.0 + block_bytes)), Err(stays));
}
