//! Threads that use, free and take movable pages, while others have them moved: each page contains
//! what was written into it, wherever it is, and no page is lost.
//!
//! The number of steps is fixed. How much is moved depends on the threads; what must hold does not.
//!
//! Seen to fail with: a waker that does not call the compaction task (it hangs).
#![cfg(not(loom))]

use gfp::Mm;
use gfp::flags::{GFP_ATOMIC, GFP_HIGHUSER_MOVABLE, GFP_KERNEL, GFP_NOWAIT, Gfp};
use gfp::frame::{NodeId, PAGE_SIZE, Pfn};
use gfp::page::{BootConfig, MigrateMode, Migrated, OwnerId, PageOwner};
use gfp_host::{Backing, HostConfig, HostPlatform};
use std::collections::HashMap;
use std::ptr::NonNull;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;

const PAGES: usize = 3000;
const USERS: usize = 3;
const STEPS: usize = 4000;
const MOVERS: usize = 2;
const ROUNDS: usize = 12;

/// Where each page is: by its number, and by its frame.
#[derive(Default)]
struct Places {
    frames: HashMap<usize, Pfn>,
    numbers: HashMap<Pfn, usize>,
}

struct Owner<'m> {
    mm: &'m Mm<HostPlatform>,
    places: Mutex<Places>,
    moved: AtomicUsize,
}

fn boot() -> Mm<HostPlatform> {
    let config = HostConfig::new(24 << 20).backing(Backing::Private);
    let platform = HostPlatform::new(&config).unwrap();
    let map = platform.memory_map();
    Mm::boot(platform, &map, &BootConfig::default()).unwrap()
}

impl<'m> Owner<'m> {
    fn new(mm: &'m Mm<HostPlatform>) -> Owner<'m> {
        Owner {
            mm,
            places: Mutex::default(),
            moved: AtomicUsize::new(0),
        }
    }

    /// Until [`Owner::leave`], which the test calls before it ends.
    fn register(&self) -> OwnerId {
        let call: NonNull<dyn PageOwner + '_> = NonNull::from(self);
        // SAFETY: only the lifetime is forgotten; it is unregistered before the owner ends.
        let call: NonNull<dyn PageOwner> = unsafe { core::mem::transmute(call) };
        // SAFETY: as above.
        unsafe { self.mm.register_page_owner_for(call) }.unwrap()
    }

    /// Gives all pages back, and goes.
    fn leave(&self, id: OwnerId) {
        let places = std::mem::take(&mut *self.places.lock().unwrap());
        assert_eq!(places.numbers.len(), places.frames.len());
        for (number, pfn) in places.frames {
            self.check(pfn, number);
            // SAFETY: the owner has forgotten it.
            unsafe { self.mm.free_frames(pfn, 0) };
        }
        self.mm.unregister_page_owner(id).unwrap();
        assert_eq!(self.mm.pages().misuses(), 0);
        self.mm.verify().unwrap();
    }

    /// The first and last word of a page. The caller has the lock of `places`.
    fn words(&self, pfn: Pfn) -> [*mut usize; 2] {
        let first = self.mm.page_address(pfn).cast::<usize>().as_ptr();
        [first, first.wrapping_add(PAGE_SIZE / 8 - 1)]
    }

    /// Puts a new page in the place of a number, and takes the old one out.
    fn renew(&self, number: usize, id: OwnerId) {
        // Not under the lock: the request may have pages moved.
        if let Ok(new) = self.mm.alloc_pages(GFP_HIGHUSER_MOVABLE | Gfp::NORETRY, 0) {
            self.put(number, new, id);
        }
    }

    /// Puts a page, which is the caller's, in the place of a number, and takes the old one out.
    fn put(&self, number: usize, new: Pfn, id: OwnerId) {
        let mut places = self.places.lock().unwrap();
        for word in self.words(new) {
            // SAFETY: the page is ours, and nobody else has the lock.
            unsafe { word.write(number) };
        }
        let old = places.frames.insert(number, new);
        places.numbers.insert(new, number);
        self.mm.set_page_owner(new, id).unwrap();
        if let Some(old) = old {
            places.numbers.remove(&old);
            self.check(old, number);
            // SAFETY: nobody knows the old page any more.
            unsafe { self.mm.free_frames(old, 0) };
        }
    }

    fn check(&self, pfn: Pfn, number: usize) {
        for word in self.words(pfn) {
            // SAFETY: the page is ours, and nobody else has the lock.
            assert_eq!(unsafe { word.read() }, number, "{pfn}");
        }
    }
}

// SAFETY: it answers for frames in its table only, under its lock, and all use of pages is under
// that lock too.
unsafe impl PageOwner for Owner<'_> {
    fn isolate(&self, page: Pfn) -> bool {
        self.places.lock().unwrap().numbers.contains_key(&page)
    }

    fn migrate(&self, from: Pfn, to: Pfn, _: MigrateMode) -> Migrated {
        let mut places = self.places.lock().unwrap();
        let Some(number) = places.numbers.remove(&from) else {
            return Migrated::Failed;
        };
        for (from, to) in self.words(from).into_iter().zip(self.words(to)) {
            // SAFETY: both pages are ours, and nobody else has the lock.
            unsafe { to.write(from.read()) };
        }
        places.numbers.insert(to, number);
        places.frames.insert(number, to);
        self.moved.fetch_add(1, Relaxed);
        Migrated::Done
    }
}

#[test]
fn pages_are_used_and_freed_while_they_are_moved() {
    // P420, P424
    let mm = boot();
    let owner = Owner::new(&mm);
    let id = owner.register();
    (0..PAGES).for_each(|number| owner.renew(number, id));
    thread::scope(|scope| {
        for user in 0..USERS {
            let owner = &owner;
            scope.spawn(move || {
                let mut state = user as u64 + 1;
                for _ in 0..STEPS {
                    state = state
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(99);
                    owner.renew((state >> 33) as usize % PAGES, id);
                }
            });
        }
        for mover in 0..MOVERS {
            let mm = &mm;
            scope.spawn(move || {
                for _ in 0..ROUNDS {
                    if mover == 0 {
                        mm.compact_memory();
                    } else if let Ok(block) = mm.alloc_pages(GFP_KERNEL | Gfp::NORETRY, 9) {
                        // SAFETY: just allocated.
                        unsafe { mm.free_frames(block, 9) };
                    }
                }
            });
        }
    });
    // Whatever the threads did: this moves pages now.
    mm.compact_memory();
    assert_eq!(owner.places.lock().unwrap().frames.len(), PAGES);
    owner.leave(id);
    let events = mm.slabs().reclaim().events().compact;
    assert_eq!(events.migrated as usize, owner.moved.load(Relaxed));
}

/// A task of a node.
type Task = fn(&Mm<HostPlatform>, &AtomicBool);

fn kswapd(mm: &Mm<HostPlatform>, stop: &AtomicBool) {
    mm.kswapd(NodeId(0), || stop.load(Relaxed)).unwrap();
}

fn kcompactd(mm: &Mm<HostPlatform>, stop: &AtomicBool) {
    mm.kcompactd(NodeId(0), || stop.load(Relaxed)).unwrap();
}

/// On a machine of which every second page is in use by movable ones: so many large blocks for
/// requests that may not wait, made by these tasks.
fn large_blocks(blocks: usize, gfp: Gfp, tasks: &[Task]) {
    let mm = boot();
    let owner = Owner::new(&mm);
    let id = owner.register();
    let easy = (GFP_HIGHUSER_MOVABLE & !Gfp::RECLAIM) | Gfp::NOWARN;
    let pages = core::iter::from_fn(|| mm.alloc_pages(easy, 0).ok());
    let (keep, give): (Vec<Pfn>, Vec<Pfn>) = pages.partition(|pfn| pfn.0 % 2 == 0);
    for (number, pfn) in keep.into_iter().enumerate() {
        owner.put(number, pfn, id);
    }
    // SAFETY: ours, freed once.
    let free = |pfn, order| unsafe { mm.free_frames(pfn, order) };
    give.into_iter().for_each(|pfn| free(pfn, 0));
    mm.pages().drain_all();
    assert!(mm.alloc_pages(gfp | Gfp::NOWARN, 9).is_err(), "fragmented");
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for task in tasks {
            scope.spawn(|| task(&mm, &stop));
        }
        let mut made = Vec::new();
        while made.len() < blocks {
            match mm.alloc_pages(gfp | Gfp::NOWARN, 9) {
                Ok(block) => made.push(block),
                Err(_) => thread::yield_now(),
            }
        }
        stop.store(true, Relaxed);
        mm.stop_kswapd(NodeId(0));
        mm.stop_kcompactd(NodeId(0));
        made.into_iter().for_each(|block| free(block, 9));
    });
    let events = mm.slabs().reclaim().events().compact;
    assert!(events.task_wakes > 0 && events.stalls == 0, "{events:?}");
    assert_eq!(events.task_migrate_scanned, events.migrate_scanned);
    assert_eq!(events.migrated as usize, owner.moved.load(Relaxed));
    owner.leave(id);
}

#[test]
fn the_compaction_task_alone_makes_large_blocks_for_who_may_not_wait() {
    // P427
    large_blocks(3, GFP_NOWAIT, &[kcompactd]);
}

#[test]
fn background_reclaim_leaves_large_blocks_to_the_compaction_task() {
    // P400, P403: nothing can be freed
    for gfp in [GFP_NOWAIT, GFP_ATOMIC] {
        large_blocks(3, gfp, &[kswapd, kcompactd]);
    }
}
