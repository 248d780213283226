//! A device that is told of free memory while threads allocate, free and isolate, with the owner of
//! every frame on record (P520, P521, P512).
//!
//! 1. **The record** has one word a frame. Who gets frames swaps its name into their words and must
//!    find nobody, the device as well: so a frame that is told while somebody has it, or given out
//!    while it is told, is seen in the moment it happens.
//! 2. **The device** writes to what it is told of, takes most of it, refuses some and panics at
//!    times. Whatever it does, the blocks must come back.
//! 3. **The clock** goes on by two seconds whenever somebody looks at it, so each tick is due and
//!    nobody waits for time to pass.
//! 4. **At the end**, alone: as many pages are free as before, and of all free blocks that a zone
//!    can do without each is told once.
//!
//! Which blocks are told while threads run depends on them; what must hold does not.
//!
//! Seen to fail with: blocks that are told and not taken out; what a device wrote that counts as
//! zero; blocks that are told again though nobody used them; isolation that isolates nothing; and,
//! by a hang, a batch that is not put back when the device refuses or panics: who finds no memory
//! waits for it.
#![cfg(not(loom))]

#[path = "common/shared.rs"]
mod shared;

use gfp::flags::{GFP_HIGHUSER_MOVABLE, GFP_NOWAIT, Gfp};
use gfp::frame::{CpuId, Order, PAGE_SIZE, PAGEBLOCK_PAGES, Pfn};
use gfp::page::{BootConfig, IsolateMode, PageAllocator, PageRequest, Reported, ReportingDevice};
use gfp::platform::{Context, DirectMap, FrameRun, Nested, Platform};
use gfp::policy::reporting::{DELAY_NS, may_part};
use gfp_host::{HostConfig, HostPlatform, Section};
use shared::Shared;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::thread;

const BYTES: usize = 48 << 20;
const THREADS: usize = 5;
const STEPS: usize = 4000;
const NOBODY: u32 = 0;
const DEVICE: u32 = THREADS as u32 + 1;
const ISOLATOR: u32 = DEVICE + 1;

/// A process whose clock goes on by the delay of reporting whenever it is looked at.
struct Hasty {
    host: HostPlatform,
    now_ns: AtomicU64,
}

// SAFETY: all that the promises are about is done by the platform of a process, of which this is
// the only user.
unsafe impl Platform for Hasty {
    type Section<'a> = Section<'static>;

    fn direct_map(&self) -> DirectMap {
        self.host.direct_map()
    }

    fn nr_cpus(&self) -> u32 {
        self.host.nr_cpus()
    }

    fn enter(&self) -> Result<(CpuId, Section<'static>), Nested> {
        self.host.enter()
    }

    fn enter_remote(&self, cpu: CpuId) -> Option<Section<'static>> {
        self.host.enter_remote(cpu)
    }

    fn context(&self) -> Context {
        self.host.context()
    }

    fn now_ns(&self) -> u64 {
        self.now_ns.fetch_add(DELAY_NS, Ordering::Relaxed) // a number by itself
    }

    fn relax(&self, spins: u32) {
        self.host.relax(spins);
    }

    fn discard(&self, first: Pfn, pages: usize) -> bool {
        self.host.discard(first, pages)
    }
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % n
    }
}

struct Arena {
    pages: PageAllocator<Hasty>,
    first: Pfn,
    owners: Vec<AtomicU32>,
    /// Blocks on their way to whoever takes them.
    shelf: Shared<Vec<(Pfn, Order, u32)>>,
    /// Threads that still allocate.
    busy: AtomicUsize,
}

impl Arena {
    fn new() -> Arena {
        let host = HostPlatform::new(&HostConfig::new(BYTES)).unwrap();
        let map = host.memory_map();
        let boot = BootConfig {
            memory_is_zero: true,
            shard_bytes: Some(8 << 20),
            ..BootConfig::default()
        };
        let platform = Hasty {
            host,
            now_ns: AtomicU64::new(0),
        };
        let pages = PageAllocator::boot(platform, &map, &boot).unwrap();
        let owners = (0..BYTES / PAGE_SIZE).map(|_| AtomicU32::new(NOBODY));
        Arena {
            pages,
            first: map[0].start.pfn(),
            owners: owners.collect(),
            shelf: Shared::default(),
            busy: AtomicUsize::new(THREADS),
        }
    }

    fn change(&self, first: Pfn, pages: usize, from: u32, to: u32) {
        let at = first.0 - self.first.0;
        for (i, owner) in self.owners[at..][..pages].iter().enumerate() {
            // AcqRel: what one owner did with a frame comes before what the next one does.
            let found = owner.swap(to, Ordering::AcqRel);
            assert_eq!(found, from, "frame {i} from {first} on goes to {to}");
        }
    }

    /// The caller's frames, whose words are checked at both ends.
    fn words(&self, first: Pfn, pages: usize) -> [*mut u64; 2] {
        let start = self.pages.platform().direct_map().ptr(first.phys());
        [0, pages * PAGE_SIZE - 8].map(|offset| start.wrapping_add(offset).cast())
    }

    fn alloc(&self, dice: &mut Dice, name: u32) -> Option<(Pfn, Order, u32)> {
        let order = [0, 0, 1, 3, 5, 8, 9, 9, 10][dice.below(9)];
        let gfp = [
            GFP_NOWAIT,
            GFP_NOWAIT | Gfp::ZERO,
            GFP_NOWAIT | Gfp::RECLAIMABLE,
            GFP_HIGHUSER_MOVABLE.without(Gfp::RECLAIM) | Gfp::NOWARN,
        ][dice.below(4)];
        let order = Order::new(order).unwrap();
        let pfn = self.pages.alloc(&PageRequest::new(gfp, order)).ok()?;
        self.change(pfn, order.pages(), NOBODY, name);
        for word in self.words(pfn, order.pages()) {
            // SAFETY: ours.
            let found = unsafe { word.replace(pfn.0 as u64) };
            assert!(found == 0 || !gfp.contains(Gfp::ZERO), "not zeroed");
        }
        Some((pfn, order, name))
    }

    fn free(&self, (pfn, order, name): (Pfn, Order, u32)) {
        for word in self.words(pfn, order.pages()) {
            // SAFETY: ours until it is freed.
            assert_eq!(unsafe { word.read() }, pfn.0 as u64, "somebody wrote to it");
        }
        self.change(pfn, order.pages(), name, NOBODY);
        // SAFETY: the block is on record as ours, or was given to us.
        let freed = unsafe { self.pages.free(pfn, order) };
        assert_eq!(freed, Ok(()));
    }

    /// What one of the threads does.
    fn work(&self, name: u32) {
        let mut dice = Dice(u64::from(name) * 0x9e37_79b9 + 7);
        let mut held = Vec::new();
        for _ in 0..STEPS {
            match dice.below(10) {
                0..4 if held.len() < 12 => held.extend(self.alloc(&mut dice, name)),
                4 => self.shelf.with(|shelf| shelf.extend(held.pop())),
                5 => {
                    let theirs = self.shelf.with(Vec::pop);
                    theirs.into_iter().for_each(|block| self.free(block));
                }
                _ if held.is_empty() => {}
                _ => self.free(held.swap_remove(dice.below(held.len()))),
            }
        }
        held.into_iter().for_each(|block| self.free(block));
    }

    /// Isolates pageblocks as long as others work, and owns those that are free meanwhile.
    fn isolate(&self) {
        let mut dice = Dice(0x150_1a7e);
        while self.goes_on() {
            let at = self.first.add(dice.below(BYTES >> 21) * PAGEBLOCK_PAGES);
            let range = at..at.add(PAGEBLOCK_PAGES);
            let mode = IsolateMode::Other;
            if let Ok(isolated) = self.pages.isolate_pages(range.clone(), mode)
                && isolated.first_used(range).is_none()
            {
                self.change(at, PAGEBLOCK_PAGES, NOBODY, ISOLATOR);
                thread::yield_now();
                self.change(at, PAGEBLOCK_PAGES, ISOLATOR, NOBODY);
            }
            thread::yield_now();
        }
    }

    fn goes_on(&self) -> bool {
        self.busy.load(Ordering::Acquire) != 0
    }

    /// Has a device told as long as others work; one after the other.
    fn report(&self) {
        let mut dice = Dice(0xde_71ce);
        while self.goes_on() {
            let device = Device {
                arena: self,
                capacity: [1, 3, 32][dice.below(3)],
                dice: Dice(dice.below(1 << 30) as u64 + 1),
                whims: Whims::Many,
                told: Vec::new(),
            };
            let least = [None, Order::new(10)][dice.below(2)];
            let mut reporting = self.pages.register_reporting(device, least).unwrap();
            for _ in 0..20 {
                // What panics on purpose has this payload; all else goes on.
                if let Err(payload) = catch_unwind(AssertUnwindSafe(|| reporting.tick()))
                    && payload.downcast_ref::<Whims>().is_none()
                {
                    resume_unwind(payload);
                }
                thread::yield_now();
            }
        }
    }

    /// Free pages when nobody has any and all caches are empty, with the page of each CPU's caches.
    fn free_pages(&self) -> usize {
        self.pages.drain_all();
        self.pages.verify().unwrap();
        let mut caches = 0;
        for zone in self.pages.zone_stats() {
            let mut count = |_, _, _: &_| caches += 1;
            self.pages
                .for_each_pageset(zone.node, zone.kind, &mut count);
        }
        self.pages.free_page_count() + caches
    }

    /// P521: alone, a device is told of all that a zone can do without, of each block once.
    fn all_is_told_once(&self) {
        const CAPACITY: usize = 2;
        let device = Device {
            arena: self,
            capacity: CAPACITY,
            dice: Dice(1),
            whims: Whims::None,
            told: Vec::new(),
        };
        let mut reporting = self.pages.register_reporting(device, None).unwrap();
        assert_eq!(reporting.tick(), 0, "the first tick notices");
        let mut rounds = 0;
        while reporting.tick() != 0 {
            rounds += 1;
            assert!(rounds < 1000, "it is told again and again");
        }
        let told = &reporting.device().told;
        let once: BTreeSet<Pfn> = told.iter().copied().collect();
        assert_eq!(once.len(), told.len(), "told twice");
        let zone = self.pages.zone_stats().next().unwrap();
        let orders = [Order::PAGEBLOCK, Order::MAX];
        let there = orders.map(|order| zone.nr_free[order.index()].iter().sum::<usize>());
        let (free, low) = (zone.free.free, zone.watermarks.low + zone.boost);
        assert!(may_part(free, low, CAPACITY, Order::MAX.get()));
        assert_eq!(once.len(), there.iter().sum::<usize>());
    }
}

/// What a device does besides to take what it is told.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Whims {
    None,
    /// It refuses, and panics.
    Many,
}

struct Device<'a> {
    arena: &'a Arena,
    capacity: usize,
    dice: Dice,
    whims: Whims,
    told: Vec<Pfn>,
}

impl ReportingDevice for Device<'_> {
    fn capacity(&self) -> usize {
        self.capacity
    }

    fn report(&mut self, blocks: &[FrameRun]) -> Reported {
        assert!((1..=self.capacity).contains(&blocks.len()));
        let arena = self.arena;
        for block in blocks {
            arena.change(block.first, block.pages, NOBODY, DEVICE);
            for word in arena.words(block.first, block.pages) {
                // SAFETY: nobody else has it, and its content is not needed any more.
                unsafe { word.write(!0) };
            }
        }
        thread::yield_now();
        for block in blocks {
            arena.change(block.first, block.pages, DEVICE, NOBODY);
        }
        match self.dice.below(16) {
            0..3 if self.whims == Whims::Many => Reported::Refused,
            3 if self.whims == Whims::Many => resume_unwind(Box::new(Whims::Many)),
            _ => {
                self.told.extend(blocks.iter().map(|block| block.first));
                Reported::Taken
            }
        }
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

#[test]
fn no_frame_is_told_while_somebody_has_it_and_none_is_lost() {
    // P512, P520, P521
    let arena = &Arena::new();
    let before = arena.free_pages();
    thread::scope(|scope| {
        let mut threads = vec![
            scope.spawn(|| {
                let _watched = Watched;
                arena.report();
            }),
            scope.spawn(|| {
                let _watched = Watched;
                arena.isolate();
            }),
        ];
        threads.extend((1..=THREADS as u32).map(|name| {
            scope.spawn(move || {
                let _watched = Watched;
                arena.work(name);
                arena.busy.fetch_sub(1, Ordering::AcqRel);
            })
        }));
        // ThreadSanitizer sees a join, not the end of a scope.
        threads.into_iter().for_each(|t| t.join().unwrap());
    });
    let shelf = arena.shelf.with(std::mem::take);
    shelf.into_iter().for_each(|block| arena.free(block));
    assert_eq!(arena.free_pages(), before);
    let none = |owner: &AtomicU32| owner.load(Ordering::Relaxed) == NOBODY;
    assert!(arena.owners.iter().all(none));
    arena.all_is_told_once();
    assert_eq!(arena.free_pages(), before);
    assert_eq!(arena.pages.misuses(), 0);
}
