//! Many threads on one page allocator, with a map of who owns what: a frame that is given out twice
//! is seen in the moment it happens.
//!
//! 1. **The map** has one bit a frame. Whoever allocates a block sets the bits of all its frames,
//!    with an atomic operation that answers what they were; whoever frees it clears them before the
//!    call. The allocator is right only if every bit was clear, and set.
//! 2. **The load**: more threads than cores, every order, all mobility types, bulk and exact
//!    requests, blocks that another thread frees, threads that end while the next inherit their
//!    slots and caches, drains and free page reporting from outside, and three machines that share
//!    the slots. Two budgets are small, so that requests fail, steal and drain. All of it once with
//!    slots, and once with a machine of each kind of CPUs.
//! 3. **At the end** all is freed, the books are checked, and no frame is missing but the pages of
//!    the per-CPU caches themselves.
//!
//! `GFP_STRESS_SEED` repeats a run's choices (not its interleaving), `GFP_STRESS_MS` its length.
//!
//! Seen to fail, each in one run, with: `free_local` putting a block into its zone after the cache
//! took it; `ZoneGuard::take_from` leaving the bit of the last frame set; `Lock::lock` without its
//! wait; `put_batch` passing over one block; `enter_remote` not waiting for the owner.
#![cfg(not(loom))]

#[path = "common/per_cpu.rs"]
mod per_cpu;
#[path = "common/shared.rs"]
mod shared;

use gfp::flags::{GFP_ATOMIC, GFP_HIGHUSER_MOVABLE, GFP_KERNEL, GFP_NOWAIT, Gfp};
use gfp::frame::{CpuId, Order, PAGE_SIZE, Pfn};
use gfp::page::{BootConfig, PageAllocator, PageRequest};
use gfp::platform::Platform;
use gfp_host::{Backing, HostConfig, HostPlatform, PerCpu};
use shared::Shared;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const SEED: u64 = 0x5eed_0009;
const THREADS: usize = 8;
/// Threads of a generation of those that come and go.
const VISITORS: usize = 4;
const SIZES: [usize; 3] = [24 << 20, 96 << 20, 40 << 20];
/// The machine that is never full for long.
const ROOMY: usize = 1;

/// A small deterministic generator.
struct Rng(u64);

impl Rng {
    fn new(seed: u64) -> Rng {
        Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 11) as usize) % n
    }
}

/// A block that somebody owns.
#[derive(Copy, Clone)]
struct Held {
    pfn: Pfn,
    order: Order,
    /// Written into its first and last frame while it is owned.
    mark: u64,
}

struct Machine {
    pages: PageAllocator<HostPlatform>,
    /// One bit a frame: owned by a thread of this test.
    owned: Vec<AtomicU64>,
    /// Blocks that wait for another thread to free them.
    mailbox: Shared<VecDeque<Held>>,
    granted: AtomicUsize,
    refused: AtomicUsize,
    seed: u64,
}

impl Machine {
    fn new(bytes: usize, seed: u64, per_cpu: PerCpu) -> Machine {
        let config = HostConfig::new(bytes).backing(Backing::Private);
        let config = config.per_cpu(per_cpu);
        let platform = HostPlatform::new(&config).unwrap();
        let map = platform.memory_map();
        let boot = BootConfig {
            memory_is_zero: true,
            report_keep_blocks: 2,
            // The smallest has one shard, the others have 5 and 12 (P820).
            shard_bytes: (bytes > SIZES[0]).then_some(8 << 20),
            ..BootConfig::default()
        };
        let pages = PageAllocator::boot(platform, &map, &boot).unwrap();
        let words = pages.frames().len().div_ceil(64);
        Machine {
            pages,
            owned: (0..words).map(|_| AtomicU64::new(0)).collect(),
            mailbox: Shared::default(),
            granted: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
            seed,
        }
    }

    /// Sets or clears the bits of a block; panics if one of them was not as it should be.
    fn account(&self, block: Held, own: bool, tag: &str) {
        let first = self
            .pages
            .frames()
            .index(block.pfn)
            .expect("a frame of the machine");
        let (mut at, end) = (first, first + block.order.pages());
        while at < end {
            let here = (64 - at % 64).min(end - at);
            let mask = (u64::MAX >> (64 - here)) << (at % 64);
            // AcqRel: the owner's marks are ordered with its bits.
            let old = if own {
                self.owned[at / 64].fetch_or(mask, Ordering::AcqRel) & mask
            } else {
                !self.owned[at / 64].fetch_and(!mask, Ordering::AcqRel) & mask
            };
            assert!(
                old == 0,
                "{tag}: {:?} of {:?}: frames {old:#x} of word {at} have {} owner; seed {:#x}",
                block.order,
                block.pfn,
                if own { "another" } else { "no" },
                self.seed,
            );
            at += here;
        }
    }

    /// The words that are marked: the first of the first frame, the last of the last.
    fn marks(&self, block: Held) -> [*mut u64; 2] {
        let first = self.pages.ptr_of(block.pfn).as_ptr();
        let last = first.wrapping_add(block.order.bytes() - size_of::<u64>());
        [first.cast(), last.cast()]
    }

    fn own(&self, pfn: Pfn, order: Order, mark: u64, zero: bool) -> Held {
        let block = Held { pfn, order, mark };
        assert!(pfn.is_aligned(order));
        self.account(block, true, "alloc");
        self.granted.fetch_add(1, Ordering::Relaxed);
        for place in self.marks(block) {
            // SAFETY: the block is ours; both words lie inside it, aligned.
            unsafe {
                assert!(
                    !zero || place.read() == 0,
                    "not zeroed; seed {:#x}",
                    self.seed
                );
                place.write(mark);
            }
        }
        block
    }

    fn free(&self, block: Held) {
        for place in self.marks(block) {
            // SAFETY: the block is ours; both words lie inside it, aligned.
            let found = unsafe { place.read() };
            assert!(
                found == block.mark,
                "{:?} of {:?} was written by another; seed {:#x}",
                block.order,
                block.pfn,
                self.seed
            );
        }
        self.account(block, false, "free");
        // SAFETY: the block is ours, and nobody uses it any more.
        let freed = unsafe { self.pages.free(block.pfn, block.order) };
        assert_eq!(freed, Ok(()), "seed {:#x}", self.seed);
    }

    /// One random step of a thread.
    fn step(&self, rng: &mut Rng, held: &mut Vec<Held>) {
        let mark = rng.0;
        match rng.below(100) {
            0..45 => {
                let gfp = [
                    GFP_KERNEL,
                    GFP_KERNEL | Gfp::NORETRY | Gfp::ZERO,
                    GFP_ATOMIC,
                    GFP_NOWAIT,
                    GFP_HIGHUSER_MOVABLE,
                    GFP_KERNEL | Gfp::RECLAIMABLE,
                    GFP_KERNEL | Gfp::COMP,
                ][rng.below(7)];
                let order = [0, 0, 0, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 10][rng.below(16)];
                let order = Order::new(order).unwrap();
                match self.pages.alloc(&PageRequest::new(gfp, order)) {
                    Ok(pfn) => held.push(self.own(pfn, order, mark, gfp.contains(Gfp::ZERO))),
                    Err(_) => _ = self.refused.fetch_add(1, Ordering::Relaxed),
                }
            }
            45..50 => {
                let mut out = [None; 40];
                let request = PageRequest::new(GFP_KERNEL, Order::ZERO);
                let n = self.pages.alloc_bulk(&request, &mut out);
                let got = out[..n].iter().flatten();
                held.extend(got.map(|pfn| self.own(*pfn, Order::ZERO, mark, false)));
            }
            50..53 => {
                let bytes = 1 + rng.below(100) * PAGE_SIZE / 2;
                if let Ok((pfn, n)) = self.pages.alloc_exact(bytes, GFP_KERNEL) {
                    held.extend((0..n).map(|i| self.own(pfn.add(i), Order::ZERO, mark, false)));
                }
            }
            53..60 => {
                // Memory goes from thread to thread.
                let theirs = self.mailbox.with(|mailbox| {
                    if !held.is_empty() {
                        mailbox.push_back(held.swap_remove(rng.below(held.len())));
                    }
                    if mailbox.len() > 64 {
                        mailbox.pop_front()
                    } else {
                        None
                    }
                });
                theirs.into_iter().for_each(|block| self.free(block));
            }
            60 if rng.below(8) == 0 => held.drain(..).for_each(|block| self.free(block)),
            _ if held.is_empty() => (),
            _ => self.free(held.swap_remove(rng.below(held.len()))),
        }
    }

    /// Frees what is left and checks that everything is back.
    fn end(&self) {
        let left: Vec<Held> = self.mailbox.with(|mailbox| mailbox.drain(..).collect());
        left.into_iter().for_each(|block| self.free(block));
        let pages = &self.pages;
        pages.drain_all();
        let verified = pages.verify();
        assert!(verified.is_ok(), "{verified:?}; seed {:#x}", self.seed);
        assert!(
            self.owned
                .iter()
                .all(|word| word.load(Ordering::Relaxed) == 0)
        );
        assert_eq!(pages.cached_page_count(), 0);
        let mut caches = 0;
        for zone in pages.zone_stats() {
            pages.for_each_pageset(zone.node, zone.kind, &mut |_, _, _| caches += 1);
        }
        let lost = pages.managed_pages() - pages.free_page_count();
        assert_eq!(
            lost, caches,
            "one page a CPU is its caches; seed {:#x}",
            self.seed
        );
        assert_eq!(pages.misuses(), 0);
        let count = |n: &AtomicUsize| n.load(Ordering::Relaxed);
        let (granted, refused) = (count(&self.granted), count(&self.refused));
        println!("{granted} granted, {refused} refused, {caches} CPUs");
        assert!(granted > 0, "nothing was tested");
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

/// Sets the flag when dropped: also when a thread panics the others end.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[test]
fn every_frame_has_one_owner_at_a_time_and_none_is_lost() {
    stress([PerCpu::Slots; 3]);
}

/// The small machine, whose requests fail, has places by processor; the roomy one compact ids.
#[test]
fn the_same_with_machines_of_all_kinds_of_cpus() {
    if per_cpu::kinds().contains(&PerCpu::Rseq) {
        stress([PerCpu::RseqByCpu, PerCpu::Rseq, PerCpu::Slots]);
    }
}

fn stress(per_cpu: [PerCpu; 3]) {
    let seed = number("GFP_STRESS_SEED", SEED);
    let length = Duration::from_millis(number("GFP_STRESS_MS", 4000));
    println!("GFP_STRESS_SEED={seed:#x}");
    let machine = |i: usize| Machine::new(SIZES[i], seed, per_cpu[i]);
    let machines: [Machine; SIZES.len()] = std::array::from_fn(machine);
    let stop = AtomicBool::new(false);
    let running = || !stop.load(Ordering::Acquire);
    // Memory that one thread may hold: together more than there is.
    let work = |rng: &mut Rng, steps: Option<usize>| {
        let _stop = steps.is_none().then(|| StopAtEnd(&stop));
        let mut held = [const { Vec::new() }; SIZES.len()];
        let mut done = 0;
        while running() && steps.is_none_or(|n| done < n) {
            let m = rng.below(SIZES.len());
            machines[m].step(rng, &mut held[m]);
            done += 1;
            if done % 64 == 0 {
                // On one machine there is always room, so that whole blocks come and go.
                held[ROOMY]
                    .drain(..)
                    .for_each(|block| machines[ROOMY].free(block));
            }
        }
        for (machine, held) in machines.iter().zip(held) {
            held.into_iter().for_each(|block| machine.free(block));
        }
    };
    let work = &work;
    thread::scope(|scope| {
        for t in 0..THREADS {
            scope.spawn(move || work(&mut Rng::new(seed ^ t as u64), None));
        }
        scope.spawn(|| {
            let _stop = StopAtEnd(&stop);
            for generation in 0.. {
                if !running() {
                    break;
                }
                thread::scope(|visitors| {
                    for v in 0..VISITORS {
                        let mut rng = Rng::new(seed ^ (100 + generation * VISITORS + v) as u64);
                        visitors.spawn(move || work(&mut rng, Some(500)));
                    }
                });
            }
        });
        scope.spawn(|| {
            let _stop = StopAtEnd(&stop);
            let mut rng = Rng::new(seed ^ 99);
            let mut back = [0; 2];
            while running() {
                let pages = &machines[rng.below(SIZES.len())].pages;
                if rng.below(4) == 0 {
                    back[0] += pages.trim();
                } else {
                    back[1] += pages.drain_all();
                }
            }
            let roomy = &machines[ROOMY].pages;
            let used = |cpu: &u32| roomy.cached_pages(CpuId(*cpu)) != 0;
            let cpus = (0..roomy.platform().nr_cpus()).filter(used).count();
            println!(
                "{} pages trimmed, {} drained, {cpus} CPUs with pages",
                back[0], back[1]
            );
        });
        let end = Instant::now() + length;
        while running() && Instant::now() < end {
            thread::park_timeout(Duration::from_millis(20));
        }
        stop.store(true, Ordering::Release);
    });
    machines.iter().for_each(Machine::end);
}
