//! A balloon that threads inflate and deflate, while others move its pages, take ranges of frames
//! from under it and compact, with the owner of every frame on record (P522).
//!
//! 1. **The record** has one word a frame. Who gets a frame swaps its name into the word and must
//!    find nobody, the device as well: so a page that the device has while somebody else does is
//!    seen in the moment it happens.
//! 2. **The device** writes to its pages, finds what it wrote, and refuses some moves.
//! 3. **At the end**, alone: the balloon has as many pages as the device, gives all back, and as
//!    many pages are free as before.
//!
//! The number of steps is fixed. Which pages move depends on the threads; what must hold does not.
//!
//! Seen to fail with: a move that does not take the page out of the set first; pages that are freed
//! before the device has given them back.
#![cfg(not(loom))]

use gfp::Mm;
use gfp::flags::{GFP_HIGHUSER_MOVABLE, GFP_KERNEL, Gfp};
use gfp::frame::{NodeId, PAGE_SIZE, PAGEBLOCK_PAGES, Pfn};
use gfp::mm::{Balloon, BalloonDevice, UnderPressure};
use gfp::page::{BootConfig, MigrateMode, Migrated};
use gfp_host::{Backing, HostConfig, HostPlatform};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::thread;

const BYTES: usize = 32 << 20;
const FRAMES: usize = BYTES / PAGE_SIZE;
const USERS: usize = 2;
const STEPS: usize = 600;
const MOVES: usize = 4000;
const RANGES: usize = 60;
const NOBODY: u32 = 0;
const DEVICE: u32 = 1;
const TAKER: u32 = 2;
const OTHERS: u32 = 3;

struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 20) as usize % n
    }
}

struct Arena {
    mm: Mm<HostPlatform>,
    first: Pfn,
    owners: Vec<AtomicU32>,
    /// Pages that the device has.
    has: AtomicUsize,
    /// Moves that the device was asked for.
    asked: AtomicUsize,
}

impl Arena {
    fn new() -> Arena {
        let config = HostConfig::new(BYTES).backing(Backing::Private);
        let platform = HostPlatform::new(&config).unwrap();
        let map = platform.memory_map();
        Arena {
            mm: Mm::boot(platform, &map, &BootConfig::default()).unwrap(),
            first: map[0].start.pfn(),
            owners: (0..FRAMES).map(|_| AtomicU32::new(NOBODY)).collect(),
            has: AtomicUsize::new(0),
            asked: AtomicUsize::new(0),
        }
    }

    fn change(&self, page: Pfn, from: u32, to: u32) {
        // AcqRel: what one owner did with a frame comes before what the next one does.
        let found = self.owners[page.0 - self.first.0].swap(to, Ordering::AcqRel);
        assert_eq!(found, from, "{page:?} goes to {to}");
    }

    fn word(&self, page: Pfn) -> *mut usize {
        self.mm.page_address(page).cast::<usize>().as_ptr()
    }

    fn device_gets(&self, page: Pfn) {
        self.change(page, NOBODY, DEVICE);
        // SAFETY: the device's now.
        unsafe { self.word(page).write(page.0) };
    }

    fn device_gives(&self, page: Pfn) {
        // SAFETY: still the device's.
        let found = unsafe { self.word(page).read() };
        assert_eq!(found, page.0, "somebody wrote to it");
        self.change(page, DEVICE, NOBODY);
    }

    fn use_balloon(&self, balloon: &Balloon<'_, HostPlatform>, mut dice: Dice) {
        let mut in_it = 0usize;
        for _ in 0..STEPS {
            let pages = 1 + dice.below(150);
            if dice.below(2) == 0 && in_it < FRAMES / 4 {
                in_it += balloon.inflate(pages);
            } else {
                in_it = in_it.saturating_sub(balloon.deflate(pages));
            }
        }
    }

    /// Moves whatever pages can be moved.
    fn move_pages(&self, mut dice: Dice) {
        for _ in 0..MOVES {
            let page = self.first.add(dice.below(FRAMES));
            let gfp = GFP_HIGHUSER_MOVABLE | Gfp::NORETRY | Gfp::NOWARN;
            _ = self.mm.migrate_page(page, 0, gfp, MigrateMode::Sync);
        }
    }

    /// Takes pageblocks with all that is in them, and compacts the node.
    fn take_ranges(&self, mut dice: Dice) {
        for _ in 0..RANGES {
            let at = dice.below(FRAMES / PAGEBLOCK_PAGES) * PAGEBLOCK_PAGES;
            let first = self.first.add(at);
            let range = first..first.add(PAGEBLOCK_PAGES);
            if self.mm.alloc_contig_range(range, GFP_KERNEL).is_ok() {
                let frames = || (0..PAGEBLOCK_PAGES).map(|i| first.add(i));
                frames().for_each(|page| self.change(page, NOBODY, TAKER));
                thread::yield_now();
                frames().for_each(|page| self.change(page, TAKER, NOBODY));
                // SAFETY: allocated above.
                unsafe { self.mm.free_contig_range(first, PAGEBLOCK_PAGES) };
            }
            self.mm.compact_node(NodeId(0));
        }
    }

    /// Allocates and frees, as all the others on a machine.
    fn use_pages(&self, mut dice: Dice) {
        let mut held = Vec::new();
        for _ in 0..20 * STEPS {
            if held.len() < 400 && dice.below(2) == 0 {
                let gfp = GFP_HIGHUSER_MOVABLE | Gfp::NORETRY | Gfp::NOWARN;
                let Ok(page) = self.mm.alloc_pages(gfp, 0) else {
                    continue;
                };
                self.change(page, NOBODY, OTHERS);
                held.push(page);
            } else if !held.is_empty() {
                self.free(held.swap_remove(dice.below(held.len())));
            }
        }
        held.into_iter().for_each(|page| self.free(page));
    }

    fn free(&self, page: Pfn) {
        self.change(page, OTHERS, NOBODY);
        // SAFETY: on record as ours before.
        unsafe { self.mm.free_frames(page, 0) };
    }

    /// Pages that are free when all caches are empty, with the page of each CPU's caches.
    fn free_pages(&self) -> usize {
        let pages = self.mm.pages();
        pages.drain_all();
        self.mm.verify().unwrap();
        let mut caches = 0;
        for zone in pages.zone_stats() {
            pages.for_each_pageset(zone.node, zone.kind, &mut |_, _, _| caches += 1);
        }
        pages.free_page_count() + caches
    }
}

impl BalloonDevice for Arena {
    fn inflate(&self, pages: &[Pfn]) {
        pages.iter().for_each(|page| self.device_gets(*page));
        self.has.fetch_add(pages.len(), Ordering::Relaxed);
    }

    fn deflate(&self, pages: &[Pfn]) {
        thread::yield_now();
        pages.iter().for_each(|page| self.device_gives(*page));
        self.has.fetch_sub(pages.len(), Ordering::Relaxed);
    }

    fn migrate(&self, from: Pfn, to: Pfn) -> Migrated {
        match self.asked.fetch_add(1, Ordering::Relaxed) % 16 {
            5 => return Migrated::Busy,
            11 => return Migrated::Failed,
            _ => (),
        }
        self.device_gets(to);
        thread::yield_now();
        self.device_gives(from);
        Migrated::Done
    }
}

/// Ends the process when its thread fails: others may wait for ever for what that one has.
struct Watched;

impl Drop for Watched {
    fn drop(&mut self) {
        if thread::panicking() {
            std::process::abort();
        }
    }
}

fn watched(work: impl FnOnce()) {
    let _watched = Watched;
    work();
}

#[test]
fn no_page_is_the_devices_and_anothers_at_once_and_none_is_lost() {
    // P522, P500, P420
    let arena = &Arena::new();
    // What is taken once and kept: the places of shrinkers.
    arena
        .mm
        .with_balloon(arena, UnderPressure::Deflate, |_| ())
        .unwrap();
    let before = arena.free_pages();
    let work = |balloon: &Balloon<'_, HostPlatform>| {
        thread::scope(|scope| {
            let mut threads = vec![
                scope.spawn(|| watched(|| arena.move_pages(Dice(0x5eed)))),
                scope.spawn(|| watched(|| arena.take_ranges(Dice(0x7a6e)))),
                scope.spawn(|| watched(|| arena.use_pages(Dice(0x0dd)))),
            ];
            threads.extend((1..=USERS as u64).map(|i| {
                let dice = Dice(i * 0x9e37_79b9 + 7);
                scope.spawn(move || watched(|| arena.use_balloon(balloon, dice)))
            }));
            // ThreadSanitizer sees a join, not the end of a scope.
            threads.into_iter().for_each(|t| t.join().unwrap());
        });
        assert_eq!(balloon.pages(), arena.has.load(Ordering::Relaxed));
        // Alone: what is in it now can all be moved or given back.
        balloon.inflate(100);
        let has = balloon.pages();
        assert!(has >= 100);
        arena.move_pages(Dice(3));
        assert_eq!(balloon.deflate(50), 50);
        assert_eq!(balloon.pages(), has - 50);
    };
    arena
        .mm
        .with_balloon(arena, UnderPressure::Deflate, work)
        .unwrap();
    assert_eq!(arena.has.load(Ordering::Relaxed), 0);
    let none = |owner: &AtomicU32| owner.load(Ordering::Relaxed) == NOBODY;
    assert!(arena.owners.iter().all(none));
    assert_ne!(arena.asked.load(Ordering::Relaxed), 0, "pages were moved");
    assert_eq!(arena.free_pages(), before);
    assert_eq!(arena.mm.pages().misuses(), 0);
}
