//! Threads that put pages on the lists, use them, write them and free them while others reclaim.
//!
//! Seen to fail with: an `lru_del` that leaves the page to who finds it; a page that was given up
//! and is not freed.
#![cfg(not(loom))]

use gfp::Mm;
use gfp::flags::{GFP_HIGHUSER_MOVABLE, Gfp};
use gfp::frame::{NodeId, PAGE_SIZE, Pfn, PhysAddr};
use gfp::page::{BootConfig, GivenUp, MigrateMode, Migrated, OwnerId, PageOwner, ReclaimMode};
use gfp::policy::reclaim::lru::Kind;
use gfp_host::{HostConfig, HostPlatform};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::thread;

type Machine = Mm<HostPlatform>;

const RAM: usize = 16 << 20;
const THREADS: usize = 4;

/// What the owner knows of a frame.
const NOT_MINE: u8 = 0;
const MINE: u8 = 1;
/// A thread works on it, or it is being given up.
const BUSY: u8 = 2;

/// A cache of pages, each of which contains its own number.
struct Cache<'m> {
    mm: &'m Machine,
    frames: Vec<AtomicU8>,
    given_up: AtomicUsize,
    /// A page that was not as it was left.
    wrong: AtomicUsize,
}

// SAFETY: it gives up a page only after it took it out of its table, which one thread does.
unsafe impl PageOwner for Cache<'_> {
    fn isolate(&self, _: Pfn) -> bool {
        false
    }

    fn migrate(&self, _: Pfn, _: Pfn, _: MigrateMode) -> Migrated {
        Migrated::Failed
    }

    fn reclaim(&self, page: Pfn, _: Gfp, _: ReclaimMode) -> GivenUp {
        if !self.take(page, MINE, BUSY) {
            return GivenUp::Busy;
        }
        self.look(page);
        self.put(page, NOT_MINE);
        self.given_up.fetch_add(1, Ordering::Relaxed);
        GivenUp::Now
    }
}

impl<'m> Cache<'m> {
    fn new(mm: &'m Machine) -> Cache<'m> {
        let frames = mm.pages().frames().len();
        Cache {
            mm,
            frames: (0..frames).map(|_| AtomicU8::new(NOT_MINE)).collect(),
            given_up: AtomicUsize::new(0),
            wrong: AtomicUsize::new(0),
        }
    }

    fn state(&self, page: Pfn) -> &AtomicU8 {
        &self.frames[self.mm.pages().frames().index(page).unwrap()]
    }

    fn take(&self, page: Pfn, from: u8, to: u8) -> bool {
        let (new, old) = (Ordering::AcqRel, Ordering::Relaxed);
        self.state(page)
            .compare_exchange(from, to, new, old)
            .is_ok()
    }

    fn put(&self, page: Pfn, state: u8) {
        self.state(page).store(state, Ordering::Release);
    }

    /// The page contains its number.
    fn look(&self, page: Pfn) {
        let start = self.mm.page_address(page).cast::<usize>();
        // SAFETY: the page is ours, and this thread has it.
        let words = unsafe { std::slice::from_raw_parts(start.as_ptr(), PAGE_SIZE / 8) };
        if words.iter().any(|word| *word != page.0) {
            self.wrong.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One page more, which may take another one's place.
    fn add(&self, id: OwnerId, kind: Kind) -> bool {
        let Ok(page) = self.mm.alloc_pages(GFP_HIGHUSER_MOVABLE | Gfp::NOWARN, 0) else {
            return false;
        };
        let start = self.mm.page_address(page).cast::<usize>();
        // SAFETY: the page is ours, and nobody else knows it.
        unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), PAGE_SIZE / 8) }.fill(page.0);
        assert!(self.take(page, NOT_MINE, BUSY), "given out twice");
        self.mm.set_page_owner(page, id).unwrap();
        let added = self.mm.lru_add(page, kind);
        if added.is_err() {
            self.put(page, NOT_MINE);
            // SAFETY: ours.
            unsafe { self.mm.free_frames(page, 0) };
            return false;
        }
        self.put(page, MINE);
        true
    }

    /// Works on a page, if it is in the cache and nobody else does.
    fn with(&self, page: Pfn, work: impl FnOnce(&Machine) -> u8) {
        if self.take(page, MINE, BUSY) {
            self.look(page);
            let next = work(self.mm);
            if next == NOT_MINE {
                self.mm.lru_del(page);
                self.put(page, NOT_MINE);
                // SAFETY: ours, and out of the table.
                unsafe { self.mm.free_frames(page, 0) };
            } else {
                self.put(page, next);
            }
        }
    }
}

/// One thread's calls.
fn calls(cache: &Cache<'_>, id: OwnerId, seed: usize) -> usize {
    let frames = cache.mm.pages().frames();
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut below = |n: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 11) % n
    };
    let mut added = 0;
    for _ in 0..20_000 {
        let page = frames.base().add(below(frames.len()));
        match below(8) {
            0..=3 => {
                let kind = [Kind::Droppable, Kind::Storable][below(2)];
                added += usize::from(cache.add(id, kind));
            }
            4 => cache.with(page, |_| NOT_MINE),
            5 => cache.with(page, |mm| {
                mm.set_page_dirty(page);
                mm.start_page_writeback(page);
                mm.end_page_writeback(page);
                MINE
            }),
            6 => cache.with(page, |mm| {
                mm.set_page_dirty(page);
                mm.clear_page_dirty(page);
                assert!(mm.lru_del(page));
                assert_eq!(mm.lru_add(page, Kind::Droppable), Ok(()));
                MINE
            }),
            _ => cache.mm.mark_page_accessed(page),
        }
    }
    added
}

#[test]
fn pages_come_and_go_on_all_threads_while_they_reclaim_from_each_other() {
    // P410
    let platform = HostPlatform::new(&HostConfig::new(RAM)).unwrap();
    let map = platform.memory_map();
    let mm = Mm::boot(platform, &map, &BootConfig::default()).unwrap();
    storm(&mm);
}

#[test]
fn the_same_on_two_nodes_whose_requests_reclaim_before_they_go_to_the_other() {
    // P408, P410
    let platform = HostPlatform::new(&HostConfig::new(RAM)).unwrap();
    let whole = platform.memory_map()[0];
    let middle = PhysAddr(whole.start.0 + RAM as u64 / 2);
    let (mut near, mut far) = (whole, whole);
    (near.end, far.start, far.node) = (middle, middle, NodeId(1));
    let mm = Mm::boot(platform, &[near, far], &BootConfig::default()).unwrap();
    mm.tunables().write("zone_reclaim_mode", "7").unwrap();
    storm(&mm);
    let events = mm.slabs().reclaim().events();
    assert!(events.node_success > 0, "{events:?}");
}

/// All threads call, and nothing is lost.
fn storm(mm: &Machine) {
    let cache = Cache::new(mm);
    let owner = NonNull::from(&cache as &dyn PageOwner);
    // SAFETY: lifetimes only; it is unregistered below, before it goes.
    let owner = unsafe {
        std::mem::transmute::<NonNull<dyn PageOwner + '_>, NonNull<dyn PageOwner>>(owner)
    };
    // SAFETY: as above.
    let id = unsafe { mm.register_page_owner_for(owner) }.unwrap();
    let added: usize = thread::scope(|scope| {
        let start = |seed| {
            scope.spawn({
                let cache = &cache;
                move || calls(cache, id, seed)
            })
        };
        let threads: Vec<_> = (1..=THREADS).map(start).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    });
    let given_up = cache.given_up.load(Ordering::Relaxed);
    assert!(
        added > cache.frames.len(),
        "more than there is room for: {added}"
    );
    assert_eq!(cache.wrong.load(Ordering::Relaxed), 0);
    let events = mm.slabs().reclaim().lru_events();
    assert_eq!(events.freed, [0, given_up as u64]);
    assert!(given_up > 0);
    mm.verify().unwrap();
    let base = mm.pages().frames().base();
    for page in (0..cache.frames.len()).map(|index| base.add(index)) {
        cache.with(page, |_| NOT_MINE);
    }
    for node in mm.pages().nodes() {
        let lists = mm.slabs().reclaim().lru_node_pages(node);
        assert_eq!(lists, Default::default());
    }
    mm.unregister_page_owner(id).unwrap();
    mm.verify().unwrap();
}
