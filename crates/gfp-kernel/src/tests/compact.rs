//! Compaction: free memory in single pages becomes large blocks, for who asks and for who may not
//! wait.

use super::chain::{Chain, TRY};
use super::disturb;
use super::fixture::{Ledger, Wrong, machine_has, patience};
use crate::arch::time;
use crate::memory::mm;
use crate::sched;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::AcqRel, Ordering::Relaxed};
use gfp::flags::{GFP_HIGHUSER_MOVABLE, GFP_KERNEL, GFP_NOWAIT, Gfp};
use gfp::frame::{NodeId, PAGE_SIZE, Pfn};
use gfp::page::{MigrateMode, Migrated, OwnerId, PageOwner};

#[path = "../../../gfp/vectors/compact.rs"]
mod vectors;

super::tests! { "compact":
    a_large_request_is_served_by_compaction,
    the_task_of_a_node_makes_large_blocks_for_who_may_not_wait,
    the_index_of_a_zone_follows_its_free_blocks,
    failures_are_left_out_1_2_4_to_64_times_and_success_resets,
}

const ORDER: u8 = 9;

/// Pages that can be moved: each begins and ends with the number of its frame when it was taken.
struct Tenant {
    /// One bit a frame: it is the tenant's.
    mine: Box<[AtomicU64]>,
    pages: AtomicUsize,
}

/// The first and the last word of a page.
fn ends(page: Pfn) -> [*mut usize; 2] {
    let start = mm().page_address(page).cast::<usize>().as_ptr();
    let last = start.wrapping_add(PAGE_SIZE / size_of::<usize>() - 1);
    [start, last]
}

/// What a page contains.
fn content(page: Pfn) -> [usize; 2] {
    // SAFETY: the tenant's page.
    ends(page).map(|word| unsafe { word.read() })
}

impl Tenant {
    fn new() -> Tenant {
        let frames = mm().pages().frames().len();
        let words = (0..frames.div_ceil(64)).map(|_| AtomicU64::new(0));
        Tenant {
            mine: words.collect(),
            pages: AtomicUsize::new(0),
        }
    }

    fn bit(&self, page: Pfn) -> (&AtomicU64, u64) {
        let index = page.0 - mm().pages().frames().base().0;
        (&self.mine[index / 64], 1 << (index % 64))
    }

    fn insert(&self, page: Pfn) {
        let (word, bit) = self.bit(page);
        Wrong::GivenTwice.unless(word.fetch_or(bit, AcqRel) & bit == 0);
        self.pages.fetch_add(1, Relaxed);
    }

    /// Takes a page out of the books; false if it is not there.
    fn remove(&self, page: Pfn) -> bool {
        let (word, bit) = self.bit(page);
        let mine = word.fetch_and(!bit, AcqRel) & bit != 0;
        if mine {
            self.pages.fetch_sub(1, Relaxed);
            let [first, last] = content(page);
            Wrong::Content.unless(first == last);
        }
        mine
    }

    /// One page more, without effort. False: there is none.
    fn add(&self, id: OwnerId) -> bool {
        let gfp = (GFP_HIGHUSER_MOVABLE & !Gfp::RECLAIM) | Gfp::NOWARN;
        let Ok(page) = mm().alloc_pages(gfp, 0) else {
            return false;
        };
        for word in ends(page) {
            // SAFETY: ours, and nobody else knows it.
            unsafe { word.write(page.0) }
        }
        self.insert(page);
        Wrong::NotOwned.unless(mm().set_page_owner(page, id).is_ok());
        true
    }

    /// Frees the pages of those frames that `which` picks.
    fn free(&self, which: impl Fn(Pfn) -> bool) {
        let base = mm().pages().frames().base();
        for (index, word) in self.mine.iter().enumerate() {
            let mut bits = word.load(Relaxed);
            while bits != 0 {
                let page = base.add(index * 64 + bits.trailing_zeros() as usize);
                bits &= bits - 1;
                if which(page) && self.remove(page) {
                    // SAFETY: it was the tenant's, which has forgotten it.
                    unsafe { mm().free_frames(page, 0) }
                }
            }
        }
    }

    fn pages(&self) -> usize {
        self.pages.load(Relaxed)
    }
}

// SAFETY: it moves only a page that it took out of its books, which one caller does.
unsafe impl PageOwner for Tenant {
    fn isolate(&self, page: Pfn) -> bool {
        let (word, bit) = self.bit(page);
        word.load(Relaxed) & bit != 0
    }

    fn migrate(&self, from: Pfn, to: Pfn, _: MigrateMode) -> Migrated {
        if !self.remove(from) {
            return Migrated::Failed;
        }
        for (word, new) in content(from).into_iter().zip(ends(to)) {
            // SAFETY: the new page is the tenant's from now on.
            unsafe { new.write(word) }
        }
        self.insert(to);
        Migrated::Done
    }
}

/// Free memory that is left to be in pieces, about. The rest is taken in large blocks, which is
/// quick.
const PAGES: usize = 16 << 10;

/// A machine whose free memory is every second page, beside movable ones, while `work` runs.
fn fragmented(work: impl FnOnce()) {
    let bytes = mm().pages().managed_pages() * PAGE_SIZE;
    if !machine_has("less than 2 GiB of memory", bytes < 2 << 30) {
        return;
    }
    let tenant = Arc::new(Tenant::new());
    let books = Ledger::open();
    let owner: &dyn PageOwner = &*tenant;
    // SAFETY: it is unregistered below; a test that dies leaks what it has.
    let id = unsafe { mm().register_page_owner_for(NonNull::from(owner)) };
    let id = id.expect("a place");
    let mut rest = Chain::new();
    while mm().pages().free_page_count() > PAGES
        && let Ok(block) = mm().get_free_pages(TRY & !Gfp::RECLAIM, ORDER)
    {
        rest.push(block.as_ptr());
    }
    while tenant.add(id) {}
    tenant.free(|page| page.0 % 2 == 1);
    mm().pages().drain_all();
    // What was below the watermark before may be in one piece.
    while let Ok(block) = mm().get_free_pages(TRY & !Gfp::RECLAIM, ORDER) {
        rest.push(block.as_ptr());
    }
    let pages = tenant.pages();
    work();
    assert_eq!(tenant.pages(), pages, "wherever they are");
    tenant.free(|_| true);
    rest.free_pages(ORDER);
    assert_eq!(mm().unregister_page_owner(id), Ok(()));
    books.close();
    drop(tenant); // older than the books
}

/// Pages that were moved so far.
fn moved() -> u64 {
    mm().slabs().reclaim().events().compact.migrated
}

fn a_large_request_is_served_by_compaction() {
    // P119, P420
    fragmented(|| {
        let _quiet = disturb::quiet(); // what handlers hold may be in the way of one request
        let before = moved();
        let block = mm().alloc_pages(GFP_KERNEL | Gfp::RETRY_MAYFAIL, ORDER);
        let block = block.expect("half of the memory is free");
        assert!(moved() > before, "it was made");
        // SAFETY: just allocated.
        unsafe { mm().free_frames(block, ORDER) }
    });
}

fn the_task_of_a_node_makes_large_blocks_for_who_may_not_wait() {
    // P400, P427
    fragmented(|| {
        let by_tasks = || mm().slabs().reclaim().events().compact.task_migrate_scanned;
        let (before, scanned) = (moved(), by_tasks());
        let nodes: Vec<NodeId> = mm().pages().nodes().collect();
        let stop = Arc::new(AtomicBool::new(false));
        let start = |&node: &NodeId| {
            let stop = stop.clone();
            sched::spawn("kcompactd", move || {
                mm().kcompactd(node, || stop.load(Relaxed))
            })
        };
        let tasks: Vec<_> = nodes.iter().map(start).collect();
        let deadline = patience();
        let block = loop {
            match mm().alloc_pages(GFP_NOWAIT | Gfp::NOWARN, ORDER) {
                Ok(block) => break Some(block),
                Err(_) if time::now_ns() >= deadline => break None,
                Err(_) => sched::sleep_ns(1_000_000),
            }
        };
        stop.store(true, Relaxed);
        nodes.iter().for_each(|node| mm().stop_kcompactd(*node));
        for task in tasks {
            let ended = task.join().expect("it does not die");
            assert_eq!(ended, Ok(()), "each node had no other");
        }
        let block = block.expect("a block, in time");
        assert!(moved() > before && by_tasks() > scanned, "a task made it");
        // SAFETY: allocated above.
        unsafe { mm().free_frames(block, ORDER) }
    });
}

/// Runs a vector while handlers hold nothing and ask for nothing.
fn undisturbed<R>(vector: impl FnOnce() -> R) -> Option<R> {
    let bytes = mm().pages().managed_pages() * PAGE_SIZE;
    if !machine_has("less than 2 GiB of memory", bytes < 2 << 30) {
        return None;
    }
    let books = Ledger::open();
    let quiet = disturb::quiet();
    let result = vector();
    drop(quiet);
    books.close();
    Some(result)
}

fn the_index_of_a_zone_follows_its_free_blocks() {
    // P423, P964: with nothing free, with 64 single pages, with a block
    if let Some(seen) = undisturbed(|| vectors::indices(mm())) {
        assert_eq!(seen, Some([0, 922, -1000]));
    }
}

fn failures_are_left_out_1_2_4_to_64_times_and_success_resets() {
    // P426, P964
    if let Some(seen) = undisturbed(|| vectors::left_out(mm())) {
        let expected = vectors::LeftOut {
            at_first: [0, 1, 2, 4, 8, 16, 32, 64, 64],
            after_success: [0, 1, 2],
        };
        assert_eq!(seen, Some(expected));
    }
}
