//! A page cache on the lists gives way: to requests, and to the background.

use super::chain::{Chain, TRY};
use super::fixture::{Ledger, Wrong, machine_has, patience};
use super::threads::on_all_cpus;
use crate::arch::{percpu, time};
use crate::memory::mm;
use crate::sched;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::AcqRel, Ordering::Relaxed};
use gfp::flags::{GFP_HIGHUSER_MOVABLE, GFP_KERNEL, GFP_NOWAIT, Gfp};
use gfp::frame::{NodeId, PAGE_SIZE, Pfn};
use gfp::page::{GivenUp, MigrateMode, Migrated, OwnerId, PageOwner, ReclaimMode};
use gfp::policy::reclaim::lru::Kind;

super::tests! { "lists":
    a_page_cache_gives_way_to_requests_of_all_cpus,
    a_page_cache_gives_way_to_the_background,
}

/// Pages whose content can be made again: each begins and ends with its number.
struct Cache {
    /// One bit a frame: it is the cache's.
    mine: Box<[AtomicU64]>,
    pages: AtomicUsize,
}

// SAFETY: it gives up a page only when it took its bit out, which one caller does.
unsafe impl PageOwner for Cache {
    fn isolate(&self, _: Pfn) -> bool {
        false
    }

    fn migrate(&self, _: Pfn, _: Pfn, _: MigrateMode) -> Migrated {
        Migrated::Failed
    }

    fn reclaim(&self, page: Pfn, _: Gfp, _: ReclaimMode) -> GivenUp {
        match self.forget(page) {
            true => GivenUp::Now,
            false => GivenUp::Busy,
        }
    }
}

/// The first and the last word of a page.
fn ends(page: Pfn) -> [*mut usize; 2] {
    let start = mm().page_address(page).cast::<usize>().as_ptr();
    [
        start,
        start.wrapping_add(PAGE_SIZE / size_of::<usize>() - 1),
    ]
}

impl Cache {
    fn new() -> Cache {
        let frames = mm().pages().frames().len();
        let words = (0..frames.div_ceil(64)).map(|_| AtomicU64::new(0));
        Cache {
            mine: words.collect(),
            pages: AtomicUsize::new(0),
        }
    }

    fn bit(&self, page: Pfn) -> (&AtomicU64, u64) {
        let index = page.0 - mm().pages().frames().base().0;
        (&self.mine[index / 64], 1 << (index % 64))
    }

    /// One page more, without reclaim. False: there is none.
    fn add(&self, id: OwnerId) -> bool {
        let gfp = (GFP_HIGHUSER_MOVABLE & !Gfp::RECLAIM) | Gfp::NOWARN;
        let Ok(page) = mm().alloc_pages(gfp, 0) else {
            return false;
        };
        // SAFETY: ours, and nobody else knows it.
        ends(page)
            .iter()
            .for_each(|word| unsafe { word.write(page.0) });
        let (word, bit) = self.bit(page);
        Wrong::GivenTwice.unless(word.fetch_or(bit, AcqRel) & bit == 0);
        self.pages.fetch_add(1, Relaxed);
        let owned = mm().set_page_owner(page, id);
        let added = mm().lru_add(page, Kind::Droppable);
        Wrong::NotOwned.unless(owned.is_ok());
        if added.is_err() {
            self.free(page);
        }
        added.is_ok()
    }

    /// Takes a page out of the cache; false if it is not there.
    fn forget(&self, page: Pfn) -> bool {
        let (word, bit) = self.bit(page);
        let mine = word.fetch_and(!bit, AcqRel) & bit != 0;
        if mine {
            self.pages.fetch_sub(1, Relaxed);
            // SAFETY: it was the cache's, and its memory stays until it is freed.
            let words = ends(page).map(|word| unsafe { word.read() });
            Wrong::Content.unless(words == [page.0; 2]);
        }
        mine
    }

    fn free(&self, page: Pfn) {
        if self.forget(page) {
            mm().lru_del(page);
            // SAFETY: it was the cache's, which has forgotten it.
            unsafe { mm().free_frames(page, 0) }
        }
    }

    fn empty(&self) {
        let base = mm().pages().frames().base();
        for (index, word) in self.mine.iter().enumerate() {
            while let bits = word.load(Relaxed)
                && bits != 0
            {
                self.free(base.add(index * 64 + bits.trailing_zeros() as usize));
            }
        }
    }

    fn pages(&self) -> usize {
        self.pages.load(Relaxed)
    }
}

/// Pages of the cache, about. The rest of the memory is taken in large blocks, which is quick.
const CACHE_PAGES: usize = 4096;
const REST_ORDER: u8 = 9;

/// A machine whose free memory is a page cache, while `work` runs.
fn with_cache(work: impl FnOnce(&Cache, usize)) {
    let bytes = mm().pages().managed_pages() * PAGE_SIZE;
    if !machine_has("less than 2 GiB of memory", bytes < 2 << 30) {
        return;
    }
    let cache = Arc::new(Cache::new());
    let books = Ledger::open();
    let owner: &dyn PageOwner = &*cache;
    // SAFETY: it is unregistered below; a test that dies leaks what it has.
    let id = unsafe { mm().register_page_owner_for(NonNull::from(owner)) };
    let id = id.expect("a place");
    let mut rest = Chain::new();
    while mm().pages().free_page_count() > CACHE_PAGES
        && let Ok(block) = mm().get_free_pages(TRY & !Gfp::RECLAIM, REST_ORDER)
    {
        rest.push(block.as_ptr());
    }
    // P821: what CPUs have cached would serve requests before anything is reclaimed.
    mm().pages().drain_all();
    while cache.add(id) {}
    work(&cache, cache.pages());
    cache.empty();
    rest.free_pages(REST_ORDER);
    assert_eq!(mm().unregister_page_owner(id), Ok(()));
    books.close();
    drop(cache); // older than the books
}

fn a_page_cache_gives_way_to_requests_of_all_cpus() {
    // P405, P410: nobody frees in the background
    with_cache(|cache, full| {
        let before = mm().slabs().reclaim().lru_events();
        // All CPUs together take a quarter of the cache.
        let each = full / 4 / percpu::all().count();
        on_all_cpus(|_| {
            let mut mine = Chain::new();
            while mine.len < each
                && let Ok(page) = mm().get_free_pages(GFP_KERNEL | Gfp::NOWARN, 0)
            {
                mine.push(page.as_ptr());
            }
            Wrong::Refused.unless(mine.len == each);
            mine.free_pages(0);
        });
        let after = mm().slabs().reclaim().lru_events();
        let [by_tasks, by_requests] = [0, 1].map(|who| after.freed[who] - before.freed[who]);
        assert_eq!(by_tasks, 0, "there are none");
        assert!(by_requests > 0 && cache.pages() < full);
        assert_eq!(by_requests as usize, full - cache.pages());
    });
}

fn a_page_cache_gives_way_to_the_background() {
    // P400, P410: requests that may not reclaim wake it
    with_cache(|cache, full| {
        let freed = || mm().slabs().reclaim().lru_events().freed[0];
        let before = freed();
        let nodes: Vec<NodeId> = mm().pages().nodes().collect();
        let stop = Arc::new(AtomicBool::new(false));
        let start = |&node: &NodeId| {
            let stop = stop.clone();
            sched::spawn("kswapd", move || mm().kswapd(node, || stop.load(Relaxed)))
        };
        let tasks: Vec<_> = nodes.iter().map(start).collect();
        let deadline = patience();
        let mut held = Chain::new();
        while freed() == before && time::now_ns() < deadline {
            match mm().get_free_pages(GFP_NOWAIT | Gfp::NOWARN, 0) {
                Ok(page) => held.push(page.as_ptr()),
                Err(_) => sched::sleep_ns(1_000_000),
            }
        }
        held.free_pages(0);
        stop.store(true, Relaxed);
        nodes.iter().for_each(|node| mm().stop_kswapd(*node));
        for task in tasks {
            let ended = task.join().expect("it does not die");
            assert_eq!(ended, Ok(()), "each node had no other");
        }
        assert!(freed() > before, "pages freed in the background");
        assert!(cache.pages() < full);
    });
}
