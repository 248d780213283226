//! Every order in turn, fought over by more threads than cores, with the owner of every frame on
//! record.
//!
//! 1. **The record** has one word a frame: nobody, or the thread that was given it. Who allocates
//!    swaps its name into the words of all its frames and must find nobody; who frees swaps them
//!    out again and must find the name of whom the block was given to. So a frame that is given
//!    twice is seen in the moment it happens, and by name.
//! 2. **Phases.** One order at a time, 0 to 10, then all orders mixed. An allocator that is right
//!    when orders are mixed can be wrong when eight threads want nothing but order 7: then each
//!    split and each merge is fought over. Memory is small, so that requests fail and types take
//!    each other's blocks. All threads live through all phases.
//! 3. **Around them** another thread empties all caches, has free memory reported, which takes
//!    whole blocks out and puts them back, and isolates pageblocks. While one is isolated and all
//!    of it is free, its frames are on record as that thread's: whoever is given one is caught.
//!    Blocks go round: each thread frees some of its neighbour's.
//! 4. **Thieves.** Some requests make believe that they reclaim, so that they take what other CPUs
//!    have cached, of their order, or else all of it.
//! 5. **Shards.** All of it once with memory in one piece, and once cut into as many as there can
//!    be, so that blocks are freed under another lock than that of the CPU's own shard.
//! 6. **CPUs.** And with machines whose CPUs are claimed by restartable sequences, where there are
//!    such, so that a thread is preempted or moved in the middle of a section that others want.
//! 7. **At the end** all is freed and as many pages are free as before, or caches of a CPU.
//!
//! `GFP_OWNERSHIP_SEED` repeats a run's choices (not its interleaving), `GFP_OWNERSHIP_OPS` is the
//! number of steps a thread does in each phase.
//!
//! Seen to fail, each in every one of three runs, with: `Lock::lock` without its wait;
//! `ZoneGuard::take_from` leaving the bit of the last frame set; `refill` putting the block that it
//! returns into the cache as well; isolation that isolates nothing.
#![cfg(not(loom))]

#[path = "common/per_cpu.rs"]
mod per_cpu;
#[path = "common/shared.rs"]
mod shared;

use gfp::flags::{GFP_ATOMIC, GFP_HIGHUSER_MOVABLE, GFP_KERNEL, GFP_NOWAIT, Gfp};
use gfp::frame::{NR_ORDERS, Order, PAGEBLOCK_PAGES, Pfn};
use gfp::page::{
    Alone, BootConfig, IsolateMode, Need, PageAllocator, PageRequest, Reclaimed, Relief,
};
use gfp_host::{HostConfig, HostPlatform, PerCpu};
use shared::Shared;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::thread;

const SEED: u64 = 0x5eed_0b01;
const THREADS: usize = 8;
const BYTES: usize = 48 << 20;
/// Steps of a thread in a phase. A step of a large order is hundreds of words of the record.
const STEPS: usize = 3000;
/// One phase an order, and one for all of them.
const PHASES: usize = NR_ORDERS + 1;

struct Rng(u64);

impl Rng {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % n
    }
}

/// A block and the thread that it was given to.
#[derive(Copy, Clone)]
struct Held {
    pfn: Pfn,
    order: Order,
    name: u32,
}

const NOBODY: u32 = 0;
const ISOLATOR: u32 = THREADS as u32 + 1;

struct Record {
    first: Pfn,
    owner: Vec<AtomicU32>,
}

impl Record {
    /// Every frame of the block changes from `from` to `to`; panics if one had another owner.
    fn change(&self, block: Held, from: u32, to: u32) {
        let at = block.pfn.0 - self.first.0;
        for (i, owner) in self.owner[at..][..block.order.pages()].iter().enumerate() {
            // AcqRel: what a thread did with a frame comes before what the next one does.
            let found = owner.swap(to, Ordering::AcqRel);
            assert!(
                found == from,
                "frame {i} of {block_pfn:?} of {order:?} goes from thread {from} to {to}, but is \
                 with {found} (0: nobody)",
                block_pfn = block.pfn,
                order = block.order,
            );
        }
    }
}

/// Where all threads wait for each other.
#[derive(Default)]
struct Line {
    arrived: AtomicUsize,
    /// A thread panicked, and will not come.
    broken: AtomicBool,
}

impl Line {
    fn wait(&self) {
        let all = (self.arrived.fetch_add(1, Ordering::AcqRel) / THREADS + 1) * THREADS;
        while self.arrived.load(Ordering::Acquire) < all {
            let broken = self.broken.load(Ordering::Acquire);
            assert!(!broken, "another thread failed first");
            thread::yield_now();
        }
    }
}

/// Tells the others when its thread panics.
struct Watched<'l>(&'l Line);

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.broken.store(true, Ordering::Release);
        }
    }
}

/// Says that it reclaims, which makes a large request take back what CPUs have cached (P118).
struct MakeBelieve;

impl Relief<HostPlatform> for MakeBelieve {
    fn reclaim(&self, _: &PageAllocator<HostPlatform>, _: &Need<'_>, _: u32) -> Reclaimed {
        Reclaimed { pages: 1, left: 0 }
    }
}

struct Arena {
    pages: PageAllocator<HostPlatform>,
    record: Record,
    line: Line,
    /// Blocks on their way to a neighbour.
    boxes: [Shared<Vec<Held>>; THREADS],
    /// Pageblocks that were isolated while all of them was free.
    isolated: AtomicUsize,
    granted: [AtomicUsize; PHASES],
    refused: AtomicUsize,
}

impl Arena {
    fn new(shard_bytes: Option<u64>, per_cpu: PerCpu) -> Arena {
        let config = HostConfig::new(BYTES).per_cpu(per_cpu);
        let platform = HostPlatform::new(&config).unwrap();
        let map = platform.memory_map();
        let boot = BootConfig {
            memory_is_zero: true,
            report_keep_blocks: 2,
            shard_bytes,
            ..BootConfig::default()
        };
        let first = map[0].start.pfn();
        let pages = PageAllocator::boot(platform, &map, &boot).unwrap();
        let owner = (0..BYTES / gfp::frame::PAGE_SIZE).map(|_| AtomicU32::new(NOBODY));
        Arena {
            pages,
            record: Record {
                first,
                owner: owner.collect(),
            },
            line: Line::default(),
            boxes: Default::default(),
            isolated: AtomicUsize::new(0),
            granted: [const { AtomicUsize::new(0) }; PHASES],
            refused: AtomicUsize::new(0),
        }
    }

    fn alloc(&self, rng: &mut Rng, name: u32, order: Order) -> Option<Held> {
        let gfp = [
            GFP_NOWAIT,
            GFP_NOWAIT | Gfp::RECLAIMABLE,
            GFP_HIGHUSER_MOVABLE.without(Gfp::RECLAIM) | Gfp::NOWARN,
            GFP_ATOMIC | Gfp::NOWARN,
            GFP_NOWAIT | Gfp::COMP,
            GFP_KERNEL | Gfp::NORETRY | Gfp::NOWARN,
            GFP_HIGHUSER_MOVABLE | Gfp::NORETRY | Gfp::NOWARN,
        ][rng.below(7)];
        self.ask(name, gfp, order)
    }

    fn ask(&self, name: u32, gfp: Gfp, order: Order) -> Option<Held> {
        let request = PageRequest::new(gfp, order);
        let pfn = match gfp.contains(Gfp::NORETRY) {
            true => self.pages.alloc_with(&request, &MakeBelieve).ok()?,
            false => self.pages.alloc_with(&request, &Alone).ok()?,
        };
        assert!(pfn.is_aligned(order), "{pfn:?} of {order:?}");
        let block = Held { pfn, order, name };
        self.record.change(block, NOBODY, name);
        Some(block)
    }

    /// One thread takes all memory, single page by single page, while all others wait: what they
    /// have cached as well.
    fn steal_all(&self, name: u32, per_cpu: PerCpu) {
        let gfp = GFP_KERNEL | Gfp::NORETRY | Gfp::NOWARN;
        let page = || self.ask(name, gfp, Order::ZERO);
        let all: Vec<Held> = std::iter::from_fn(page).collect();
        // Else several threads share the caches of one CPU.
        if per_cpu == PerCpu::Slots {
            assert_eq!(self.pages.cached_page_count(), 0);
            assert!(self.pages.stolen_blocks() >= THREADS - 1);
        }
        all.into_iter().for_each(|block| self.free(block));
    }

    fn free(&self, block: Held) {
        self.record.change(block, block.name, NOBODY);
        // SAFETY: the block is ours or was given to us, and the record says that it is in use.
        let freed = unsafe { self.pages.free(block.pfn, block.order) };
        assert_eq!(freed, Ok(()));
    }

    /// What one thread does in one phase.
    fn phase(&self, rng: &mut Rng, me: usize, phase: usize, steps: usize) {
        let name = me as u32 + 1;
        let mut held: Vec<Held> = Vec::new();
        let mine = &self.boxes[me];
        let next = &self.boxes[(me + 1) % THREADS];
        for _ in 0..steps {
            let order = match phase < NR_ORDERS {
                true => phase,
                false => rng.below(NR_ORDERS),
            };
            match rng.below(100) {
                0..48 => match self.alloc(rng, name, Order::new(order as u8).unwrap()) {
                    Some(block) => {
                        held.push(block);
                        self.granted[phase].fetch_add(1, Ordering::Relaxed);
                    }
                    None => _ = self.refused.fetch_add(1, Ordering::Relaxed),
                },
                48..56 if !held.is_empty() => {
                    let block = held.swap_remove(rng.below(held.len()));
                    next.with(|boxed| boxed.push(block));
                }
                56..60 => {
                    let theirs = mine.with(std::mem::take);
                    theirs.into_iter().for_each(|block| self.free(block));
                }
                60 if rng.below(16) == 0 => held.drain(..).for_each(|block| self.free(block)),
                _ if held.is_empty() => (),
                _ => self.free(held.swap_remove(rng.below(held.len()))),
            }
        }
        held.into_iter().for_each(|block| self.free(block));
        self.line.wait();
        let theirs = mine.with(std::mem::take);
        theirs.into_iter().for_each(|block| self.free(block));
        self.line.wait();
    }

    /// Isolates a pageblock, if nobody uses it, and owns it for a moment if all of it is free.
    fn isolate(&self, rng: &mut Rng) {
        let first = self
            .record
            .first
            .add(rng.below(BYTES >> 21) * PAGEBLOCK_PAGES);
        let range = first..first.add(PAGEBLOCK_PAGES);
        let Ok(isolated) = self.pages.isolate_pages(range.clone(), IsolateMode::Other) else {
            return;
        };
        if isolated.first_used(range).is_none() {
            let block = Held {
                pfn: first,
                order: Order::PAGEBLOCK,
                name: ISOLATOR,
            };
            self.record.change(block, NOBODY, ISOLATOR);
            self.isolated.fetch_add(1, Ordering::Relaxed);
            thread::yield_now();
            self.record.change(block, ISOLATOR, NOBODY);
        }
    }

    /// All threads are outside, nobody has anything: free pages, once every cache is empty, and the
    /// page of each CPU's caches, which stays away.
    fn free_pages(&self) -> usize {
        self.pages.drain_all();
        let verified = self.pages.verify();
        assert!(verified.is_ok(), "{verified:?}");
        assert_eq!(self.pages.cached_page_count(), 0);
        let mut caches = 0;
        for zone in self.pages.zone_stats() {
            let mut count = |_, _, _: &_| caches += 1;
            self.pages
                .for_each_pageset(zone.node, zone.kind, &mut count);
        }
        self.pages.free_page_count() + caches
    }
}

fn number(name: &str, default: u64) -> u64 {
    let Ok(text) = std::env::var(name) else {
        return default;
    };
    let parsed = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => text.parse(),
    };
    parsed.unwrap_or_else(|e| panic!("{name}: {e}"))
}

#[test]
fn at_every_order_a_frame_has_one_owner_and_none_is_lost() {
    fight(None, PerCpu::Slots);
}

#[test]
fn the_same_with_memory_cut_into_many_shards() {
    const SHARD: u64 = 4 << 20;
    fight(Some(SHARD), PerCpu::Slots);
}

#[test]
fn the_same_with_the_cpus_of_restartable_sequences() {
    for kind in per_cpu::kinds() {
        if kind != PerCpu::Slots {
            fight(Some(8 << 20), kind);
        }
    }
}

fn fight(shard_bytes: Option<u64>, per_cpu: PerCpu) {
    let seed = number("GFP_OWNERSHIP_SEED", SEED);
    let steps = number("GFP_OWNERSHIP_OPS", STEPS as u64) as usize;
    println!("GFP_OWNERSHIP_SEED={seed:#x} GFP_OWNERSHIP_OPS={steps}");
    let arena = &Arena::new(shard_bytes, per_cpu);
    let (stop, before) = (&AtomicBool::new(false), &AtomicUsize::new(0));
    thread::scope(|scope| {
        let fighter = |me| {
            scope.spawn(move || {
                let _watched = Watched(&arena.line);
                let mut rng = Rng(seed.wrapping_mul(me as u64 * 2 + 1) | 1);
                // Every thread has its caches, whose memory stays away, before others are
                // everywhere: else they would stand in each of the largest blocks.
                let page = arena.ask(me as u32 + 1, GFP_NOWAIT, Order::ZERO);
                page.into_iter().for_each(|block| arena.free(block));
                arena.line.wait();
                if me == 0 {
                    arena.steal_all(1, per_cpu);
                    before.store(arena.free_pages(), Ordering::Release);
                }
                arena.line.wait();
                for phase in 0..PHASES {
                    arena.phase(&mut rng, me, phase, steps);
                }
                stop.store(true, Ordering::Release);
            })
        };
        let mut threads: Vec<_> = (0..THREADS).map(fighter).collect();
        // What the threads themselves have no reason to do. It has no caches of its own.
        threads.push(scope.spawn(|| {
            let _watched = Watched(&arena.line);
            let over = || stop.load(Ordering::Acquire) || arena.line.broken.load(Ordering::Acquire);
            // Until pages are counted nobody may touch them.
            while before.load(Ordering::Acquire) == 0 && !over() {
                thread::yield_now();
            }
            let mut rng = Rng(seed | 1);
            for round in 0.. {
                if over() {
                    break;
                }
                match round % 8 {
                    0 => _ = arena.pages.trim(),
                    1 | 2 => _ = arena.pages.drain_all(),
                    _ => arena.isolate(&mut rng),
                }
                thread::yield_now();
            }
        }));
        // ThreadSanitizer sees a join, not the end of a scope.
        threads.into_iter().for_each(|t| t.join().unwrap());
    });
    assert_eq!(arena.free_pages(), before.load(Ordering::Relaxed));
    let none = |owner: &AtomicU32| owner.load(Ordering::Relaxed) == NOBODY;
    assert!(arena.record.owner.iter().all(none));
    assert_eq!(arena.pages.misuses(), 0);
    let granted: Vec<usize> = arena
        .granted
        .iter()
        .map(|n| n.load(Ordering::Relaxed))
        .collect();
    let refused = arena.refused.load(Ordering::Relaxed);
    let isolated = arena.isolated.load(Ordering::Relaxed);
    let stolen = arena.pages.stolen_blocks();
    println!(
        "granted by phase {granted:?}, refused {refused}, stolen {stolen}; \
         isolated {isolated} free pageblocks"
    );
    // A page of each CPU's caches stays away, and there are few blocks of the largest order: each
    // may have one. Processors that a thread comes to later have them anywhere.
    let surely = match per_cpu {
        PerCpu::Slots => Order::MAX.index(),
        _ => 1,
    };
    assert!(granted[..surely].iter().all(|n| *n > 0), "{granted:?}");
    assert!(refused > 0, "memory was never used up");
}
