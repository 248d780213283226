//! Threads that take, renew and free movable pages, and threads that take certain frames from under
//! them: no frame is given to two, each page contains what was written into it, and none is lost.
//!
//! The number of steps is fixed. Which ranges are had depends on the threads; what must hold does
//! not.
#![cfg(not(loom))]

use gfp::Mm;
use gfp::flags::{GFP_HIGHUSER_MOVABLE, GFP_KERNEL, Gfp};
use gfp::frame::{PAGE_SIZE, Pfn};
use gfp::page::{BootConfig, ContigError, IsolateMode, MigrateMode, Migrated, OwnerId, PageOwner};
use gfp_host::{Backing, HostConfig, HostPlatform};
use std::collections::HashMap;
use std::ptr::NonNull;
use std::sync::Mutex;
use std::thread;

const USERS: usize = 3;
const STEPS: usize = 3000;
const TAKERS: usize = 2;
const RANGES: usize = 60;

struct Owner<'m> {
    mm: &'m Mm<HostPlatform>,
    /// What each page contains.
    pages: Mutex<HashMap<Pfn, usize>>,
}

fn boot() -> Mm<HostPlatform> {
    let config = HostConfig::new(32 << 20).backing(Backing::Private);
    let platform = HostPlatform::new(&config).unwrap();
    let map = platform.memory_map();
    Mm::boot(platform, &map, &BootConfig::default()).unwrap()
}

/// A small deterministic generator.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) as usize % n
    }
}

/// The words of a page that its user alone knows.
fn words(mm: &Mm<HostPlatform>, pfn: Pfn) -> [*mut usize; 2] {
    let first = mm.page_address(pfn).cast::<usize>().as_ptr();
    [first, first.wrapping_add(PAGE_SIZE / 8 - 1)]
}

fn write(mm: &Mm<HostPlatform>, pfn: Pfn, value: usize) {
    for word in words(mm, pfn) {
        // SAFETY: the caller's page.
        unsafe { word.write(value) };
    }
}

fn check(mm: &Mm<HostPlatform>, pfn: Pfn, value: usize) {
    for word in words(mm, pfn) {
        // SAFETY: the caller's page.
        assert_eq!(unsafe { word.read() }, value, "{pfn}");
    }
}

// SAFETY: it answers for pages in its table only, under its lock, and all use of them is under that
// lock too.
unsafe impl PageOwner for Owner<'_> {
    fn isolate(&self, page: Pfn) -> bool {
        self.pages.lock().unwrap().contains_key(&page)
    }

    fn migrate(&self, from: Pfn, to: Pfn, _: MigrateMode) -> Migrated {
        let mut pages = self.pages.lock().unwrap();
        let Some(value) = pages.remove(&from) else {
            return Migrated::Failed;
        };
        check(self.mm, from, value);
        write(self.mm, to, value);
        pages.insert(to, value);
        Migrated::Done
    }
}

impl Owner<'_> {
    fn use_pages(&self, id: OwnerId, mut dice: Dice) {
        for step in 0..STEPS {
            if dice.below(3) != 0
                && let Ok(pfn) = self.mm.alloc_pages(GFP_HIGHUSER_MOVABLE | Gfp::NORETRY, 0)
            {
                let mut pages = self.pages.lock().unwrap();
                write(self.mm, pfn, step);
                assert_eq!(pages.insert(pfn, step), None, "given twice");
                self.mm.set_page_owner(pfn, id).unwrap();
            } else {
                let mut pages = self.pages.lock().unwrap();
                let any = pages.keys().nth(dice.below(pages.len().max(1))).copied();
                let Some(pfn) = any else { continue };
                let value = pages.remove(&pfn).unwrap();
                check(self.mm, pfn, value);
                // SAFETY: nobody knows it any more.
                unsafe { self.mm.free_frames(pfn, 0) };
            }
        }
    }

    /// Takes ranges, and isolates others.
    fn take_ranges(&self, mut dice: Dice) -> usize {
        let (_, zone) = self.mm.pages().zone_frames().next().unwrap();
        let mut got = 0;
        for round in 0..RANGES {
            let pages = 1 + dice.below(700);
            let first = zone
                .start
                .add(dice.below(zone.end.0 - zone.start.0 - pages));
            let range = first..first.add(pages);
            if dice.below(4) == 0 {
                let isolated = self.mm.pages().isolate_pages(range, IsolateMode::Other);
                drop(isolated);
                continue;
            }
            match self.mm.alloc_contig_range(range, GFP_KERNEL) {
                Ok(()) => {
                    let frames = || (0..pages).map(|i| first.add(i));
                    frames().for_each(|pfn| write(self.mm, pfn, !round));
                    thread::yield_now();
                    frames().for_each(|pfn| check(self.mm, pfn, !round));
                    // SAFETY: ours.
                    unsafe { self.mm.free_contig_range(first, pages) };
                    got += 1;
                }
                Err(error) => {
                    let usual = error.is_busy() || matches!(error, ContigError::NoMemory(_));
                    assert!(usual, "{error}");
                }
            }
        }
        got
    }
}

#[test]
fn frames_are_taken_from_under_threads_and_nothing_is_lost_or_given_twice() {
    // P500, P501, P504, P512
    let mm = boot();
    let owner = Owner {
        mm: &mm,
        pages: Mutex::default(),
    };
    let call: NonNull<dyn PageOwner + '_> = NonNull::from(&owner);
    // SAFETY: only the lifetime is forgotten; it is unregistered before the owner ends.
    let call: NonNull<dyn PageOwner> = unsafe { core::mem::transmute(call) };
    // SAFETY: as above.
    let id = unsafe { mm.register_page_owner_for(call) }.unwrap();
    thread::scope(|scope| {
        for user in 0..USERS {
            let owner = &owner;
            scope.spawn(move || owner.use_pages(id, Dice(77 + user as u64)));
        }
        for taker in 0..TAKERS {
            let owner = &owner;
            scope.spawn(move || owner.take_ranges(Dice(991 + taker as u64)));
        }
    });
    // Alone, whatever the threads came to: a range that all lie in is had.
    assert!(owner.take_ranges(Dice(5)) > 0);
    for (pfn, value) in std::mem::take(&mut *owner.pages.lock().unwrap()) {
        check(&mm, pfn, value);
        // SAFETY: the owner has forgotten it.
        unsafe { mm.free_frames(pfn, 0) };
    }
    mm.unregister_page_owner(id).unwrap();
    assert_eq!(mm.pages().misuses(), 0);
    mm.verify().unwrap();
}
