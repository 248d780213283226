//! Threads that use, free and take movable pages, while others have them moved: each page contains
//! what was written into it, wherever it is, and no page is lost.
//!
//! The number of steps is fixed. How much is moved depends on the threads; what must hold does not.
#![cfg(not(loom))]

use gfp::Mm;
use gfp::flags::{GFP_HIGHUSER_MOVABLE, GFP_KERNEL, Gfp};
use gfp::frame::{PAGE_SIZE, Pfn};
use gfp::page::{BootConfig, MigrateMode, Migrated, PageOwner};
use gfp_host::{Backing, HostConfig, HostPlatform};
use std::collections::HashMap;
use std::ptr::NonNull;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
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

impl Owner<'_> {
    /// The first and last word of a page. The caller has the lock of `places`.
    fn words(&self, pfn: Pfn) -> [*mut usize; 2] {
        let first = self.mm.page_address(pfn).cast::<usize>().as_ptr();
        [first, first.wrapping_add(PAGE_SIZE / 8 - 1)]
    }

    /// Puts a new page in the place of a number, and takes the old one out.
    fn renew(&self, number: usize, id: gfp::page::OwnerId) {
        // Not under the lock: the request may have pages moved.
        let Ok(new) = self.mm.alloc_pages(GFP_HIGHUSER_MOVABLE | Gfp::NORETRY, 0) else {
            return;
        };
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
    let config = HostConfig::new(24 << 20).backing(Backing::Private);
    let platform = HostPlatform::new(&config).unwrap();
    let map = platform.memory_map();
    let mm = Mm::boot(platform, &map, &BootConfig::default()).unwrap();
    let owner = Owner {
        mm: &mm,
        places: Mutex::default(),
        moved: AtomicUsize::new(0),
    };
    let call: NonNull<dyn PageOwner + '_> = NonNull::from(&owner);
    // SAFETY: only the lifetime is forgotten; it is unregistered below, before the owner ends.
    let call: NonNull<dyn PageOwner> = unsafe { core::mem::transmute(call) };
    // SAFETY: as above.
    let id = unsafe { mm.register_page_owner_for(call) }.unwrap();
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
    let places = std::mem::take(&mut *owner.places.lock().unwrap());
    assert_eq!(places.frames.len(), PAGES);
    assert_eq!(places.numbers.len(), PAGES);
    for (number, pfn) in places.frames {
        owner.check(pfn, number);
        // SAFETY: the owner has forgotten it.
        unsafe { mm.free_frames(pfn, 0) };
    }
    mm.unregister_page_owner(id).unwrap();
    assert_eq!(mm.pages().misuses(), 0);
    mm.verify().unwrap();
    let events = mm.slabs().reclaim().events().compact;
    assert_eq!(events.migrated as usize, owner.moved.load(Relaxed));
}
