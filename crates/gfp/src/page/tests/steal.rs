//! What other CPUs have cached serves a request in need.

use crate::error::AllocError;
use crate::flags::{GFP_KERNEL, GFP_NOWAIT, Gfp, MigrateType, ZoneKind};
use crate::frame::{CpuId, FrameWord, Order, Pfn};
use crate::page::{Alone, Need, PageAllocator, PageRequest, Reclaimed, Relief};
use crate::platform::Context;
use crate::policy::watermark::AllocFlags;
use crate::sync::Local;
use crate::testing::{CPUS, Rng, TestPlatform, pages};
use std::boxed::Box;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::vec::Vec;

type Machine = PageAllocator<TestPlatform>;

/// Counts how often it is asked to reclaim.
#[derive(Default)]
struct Asked(Cell<usize>);

impl Relief<TestPlatform> for Asked {
    fn reclaim(&self, _: &Machine, _: &Need<'_>, _: u32) -> Reclaimed {
        self.0.set(self.0.get() + 1);
        Reclaimed::default()
    }
}

fn ask<R>(machine: &Machine, gfp: Gfp, order: u8, relief: &R) -> Result<Pfn, AllocError>
where
    R: Relief<TestPlatform>,
{
    let gfp = gfp | Gfp::NOWARN;
    machine.alloc_with(&PageRequest::new(gfp, Order::new(order).unwrap()), relief)
}

fn put(machine: &Machine, pfn: Pfn, order: u8) {
    // SAFETY: tests free what they own, once.
    unsafe { machine.free(pfn, Order::new(order).unwrap()).unwrap() }
}

fn cached(machine: &Machine) -> [usize; CPUS] {
    core::array::from_fn(|cpu| machine.cached_pages(CpuId(cpu as u32)))
}

/// A machine whose CPUs have caches, and whose free memory is used up by CPU 0 down to min, by who
/// may wait for no other CPU. `held` are blocks of an order that are not used up.
fn used_up(held: &[u8]) -> (Machine, Vec<Pfn>) {
    let machine = pages(64);
    for cpu in (0..CPUS as u32).rev() {
        machine.platform().on(cpu);
        put(&machine, ask(&machine, GFP_KERNEL, 0, &Alone).unwrap(), 0);
    }
    let block = |order: &u8| ask(&machine, GFP_KERNEL, *order, &Alone).unwrap();
    let held = held.iter().map(block).collect();
    machine.drain_all();
    machine.platform().play(Context::HardIrq);
    while ask(&machine, GFP_NOWAIT, 0, &Alone).is_ok() {}
    machine.platform().play(Context::Task);
    machine.drain_all();
    let zone = &machine.zones[0];
    assert_eq!(zone.free_pages(), zone.watermarks().min);
    (machine, held)
}

/// Frees the first pages of a block one by one on a CPU.
fn cache_pages(machine: &Machine, cpu: u32, block: Pfn, pages: usize) {
    machine.platform().on(cpu);
    machine.split(block, Order::new(4).unwrap());
    for i in 0..pages {
        put(machine, block.add(i), 0);
    }
    machine.platform().on(0);
}

#[test]
fn a_request_takes_what_it_needs_of_the_fullest_cache_and_leaves_the_rest() {
    // P118, P821
    let (machine, held) = used_up(&[4, 4]);
    cache_pages(&machine, 1, held[0], 5);
    cache_pages(&machine, 2, held[1], 9);
    assert_eq!(cached(&machine), [0, 5, 9, 0]);
    let asked = Asked::default();
    for (left, gfp) in [
        ([0, 5, 8, 0], GFP_KERNEL),
        ([0, 5, 7, 0], GFP_NOWAIT),
        ([0, 5, 6, 0], GFP_KERNEL | Gfp::NORETRY),
    ] {
        ask(&machine, gfp, 0, &asked).unwrap();
        assert_eq!(cached(&machine), left);
    }
    // Each goes to the fullest; of two the one with the lower number.
    for _ in 0..3 {
        ask(&machine, GFP_KERNEL, 0, &asked).unwrap();
    }
    assert_eq!(cached(&machine), [0, 4, 4, 0]);
    for _ in 0..8 {
        ask(&machine, GFP_KERNEL, 0, &asked).unwrap();
    }
    assert_eq!(cached(&machine), [0; CPUS]);
    assert_eq!(
        (machine.stolen_blocks(), asked.0.get()),
        (14, 0),
        "nobody reclaimed"
    );
    let zone = &machine.zones[0];
    assert_eq!(
        zone.free_pages(),
        zone.watermarks().min,
        "what is kept is still there"
    );
    // Now there is nothing anywhere.
    ask(&machine, GFP_KERNEL | Gfp::NORETRY, 0, &asked).unwrap_err();
    assert_eq!(asked.0.get(), 1);
    machine.verify().unwrap();
}

#[test]
fn who_may_not_wait_for_other_cpus_takes_nothing_of_theirs() {
    let (machine, held) = used_up(&[4]);
    cache_pages(&machine, 1, held[0], 5);
    machine.platform().play(Context::HardIrq);
    ask(&machine, GFP_NOWAIT, 0, &Alone).unwrap_err();
    assert_eq!(cached(&machine), [0, 5, 0, 0]);
}

#[test]
fn what_is_cached_of_another_type_goes_back_and_serves() {
    // P821: a single page, before anybody reclaims
    let (machine, held) = used_up(&[4, 4]);
    cache_pages(&machine, 1, held[0], 2);
    cache_pages(&machine, 3, held[1], 3);
    let asked = Asked::default();
    // What is given back may be of use for no one: so it is one CPU's.
    ask(&machine, GFP_KERNEL | Gfp::RECLAIMABLE, 0, &asked).unwrap();
    let left = cached(&machine);
    assert_eq!((left[1], left[3], asked.0.get()), (2, 0, 0));
    machine.verify().unwrap();
}

#[test]
fn pieces_that_are_cached_make_a_larger_block_after_reclaim() {
    // P118
    let (machine, held) = used_up(&[4, 4]);
    cache_pages(&machine, 1, held[0], 7);
    cache_pages(&machine, 2, held[1], 16);
    let asked = Asked::default();
    let block = ask(&machine, GFP_KERNEL, 4, &asked).unwrap();
    assert_eq!((block, asked.0.get()), (held[1], 1));
    assert_eq!(cached(&machine), [0, 7, 0, 0], "the other's stays");
    assert_eq!(machine.stolen_blocks(), 0);
    // There is no other: all is given back, and it fails.
    ask(&machine, GFP_KERNEL | Gfp::RETRY_MAYFAIL, 4, &asked).unwrap_err();
    assert_eq!(cached(&machine), [0; CPUS]);
    machine.verify().unwrap();
}

#[test]
fn a_block_that_was_freed_twice_is_not_given_to_a_thief() {
    let (machine, held) = used_up(&[4]);
    cache_pages(&machine, 1, held[0], 3);
    // Its second copy was taken out of another cache before.
    let word = machine.frames.get(held[0].add(2));
    machine.frames.set(held[0].add(2), FrameWord::NONE);
    assert_eq!(ask(&machine, GFP_KERNEL, 0, &Alone), Ok(held[0].add(1)));
    assert_eq!(machine.misuses(), 1);
    assert_eq!(cached(&machine), [0, 1, 0, 0]);
    assert!(word.is_block(crate::frame::FrameKind::Cached, Order::ZERO));
}

#[test]
fn a_cpu_that_cannot_be_kept_out_keeps_what_it_has() {
    let (machine, held) = used_up(&[4, 4]);
    cache_pages(&machine, 1, held[0], 7);
    cache_pages(&machine, 2, held[1], 3);
    let inside = crate::Platform::enter_remote(machine.platform(), CpuId(1));
    ask(&machine, GFP_KERNEL, 0, &Alone).unwrap();
    assert_eq!(cached(&machine), [0, 7, 2, 0]);
    for _ in 0..2 {
        ask(&machine, GFP_KERNEL, 0, &Alone).unwrap();
    }
    ask(&machine, GFP_KERNEL | Gfp::NORETRY, 0, &Alone).unwrap_err();
    drop(inside);
    ask(&machine, GFP_KERNEL | Gfp::NORETRY, 0, &Alone).unwrap();
}

#[test]
fn what_goes_back_for_a_request_is_there_when_it_looks_though_a_lock_was_taken() {
    // P118, P820: the flush finds the shard's lock taken, and sends what it has.
    let (machine, held) = used_up(&[4]);
    cache_pages(&machine, 1, held[0], 16);
    let (taken, wanted) = (AtomicBool::new(false), Arc::new(AtomicBool::new(false)));
    let on_wait = wanted.clone();
    let waited = move || on_wait.store(true, Relaxed);
    *machine.platform().on_relax.lock().unwrap() = Some(Box::new(waited));
    let until = |what: &AtomicBool| {
        while !what.load(Relaxed) {
            thread::yield_now();
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            let local = Local::enter_remote(machine.platform(), CpuId(3)).unwrap();
            let zone = &machine.zones[0];
            let lock = zone.lock_shard(&machine.blocks, &local, &zone.shards()[0]);
            taken.store(true, Relaxed);
            until(&wanted);
            drop(lock);
        });
        until(&taken);
        let gfp = GFP_KERNEL | Gfp::RETRY_MAYFAIL;
        let block = ask(&machine, gfp, 4, &Asked::default());
        // Also where it fails the other thread is to end.
        wanted.store(true, Relaxed);
        assert_eq!(block, Ok(held[0]));
    });
    assert_eq!(machine.pages_in_mail(), 0);
    machine.verify().unwrap();
}

#[test]
fn a_single_page_is_had_as_long_as_it_is_cached_anywhere() {
    // P821: from CPUs in any turn, types and orders in caches mixed
    let machine = pages(32);
    let mut rng = Rng::new(821);
    let mut held: Vec<(Pfn, u8)> = Vec::new();
    let (mut refused, mut served) = (0, 0);
    for step in 0..40_000 {
        machine.platform().on(rng.below(CPUS) as u32);
        let gfp = [
            GFP_KERNEL,
            GFP_KERNEL | Gfp::MOVABLE,
            GFP_KERNEL | Gfp::RECLAIMABLE,
            GFP_NOWAIT,
        ][rng.below(4)];
        // It fills up, and empties again.
        let fills = step % 8000 < 5000;
        if rng.below(100) < if fills { 90 } else { 10 } {
            let order = [0, 0, 0, 1, 2, 3][rng.below(6)];
            let gfp = gfp | Gfp::NORETRY;
            match ask(&machine, gfp, order, &Alone) {
                Ok(pfn) => held.push((pfn, order)),
                Err(_) if order == 0 => {
                    let zone = &machine.zones[0];
                    let (free, cached) = (zone.free_pages(), machine.cached_page_count());
                    let min = zone.watermarks().min + zone.boost();
                    assert!(free + cached <= min, "step {step}: {free}, {cached} cached");
                    refused += 1;
                }
                Err(_) => (),
            }
        } else if !held.is_empty() {
            let (pfn, order) = held.swap_remove(rng.below(held.len()));
            put(&machine, pfn, order);
            served += 1;
        }
    }
    assert!(refused > 20 && served > 1000, "{refused} {served}");
    assert!(machine.stolen_blocks() > 20, "{}", machine.stolen_blocks());
    machine.verify().unwrap();
    assert_eq!(machine.misuses(), 0);
}

#[test]
fn what_is_cached_of_a_lower_zone_is_not_stolen_below_its_reserve() {
    // P207, P821: nothing, though blocks that fit are cached, as the steals that follow show.
    let machine = super::whole::machine(None);
    // Each CPU has its caches.
    for cpu in (0..2).rev() {
        machine.platform().on(cpu);
        put(&machine, ask(&machine, GFP_KERNEL, 0, &Alone).unwrap(), 0);
    }
    machine.drain_all();
    machine.platform().play(Context::HardIrq);
    let all = GFP_NOWAIT | Gfp::MEMALLOC;
    let of_dma32 = |pfn: &Pfn| {
        let fixed = machine.blocks.kind_of(*pfn) == MigrateType::Unmovable;
        fixed && machine.place_of(*pfn).unwrap().1 == ZoneKind::Dma32
    };
    let taken = core::iter::from_fn(|| ask(&machine, all, 0, &Alone).ok());
    let mut held: Vec<Pfn> = taken.filter(of_dma32).collect();
    machine.platform().play(Context::Task);
    let zone = &machine.zones[0];
    assert_eq!((zone.kind, zone.free_pages()), (ZoneKind::Dma32, 0));
    let kept = zone.watermarks().min + zone.boost() + zone.reserve(ZoneKind::Normal);
    assert!(zone.reserve(ZoneKind::Normal) > 0);
    machine.platform().on(1);
    held.drain(..kept).for_each(|pfn| put(&machine, pfn, 0));
    machine.platform().on(0);
    let there = || zone.free_pages() + machine.cached_in(zone);
    assert!(machine.cached_pages(CpuId(1)) > 0 && there() == kept);
    let normal = PageRequest::new(GFP_KERNEL, Order::ZERO);
    let dma32 = PageRequest::new(GFP_KERNEL | Gfp::DMA32, Order::ZERO);
    assert_eq!(machine.steal_cached(&normal, AllocFlags::MIN), None);
    // A page more is one that it may have; and it is not kept from who wants that zone.
    machine.platform().on(1);
    held.drain(..2).for_each(|pfn| put(&machine, pfn, 0));
    machine.platform().on(0);
    assert!(machine.steal_cached(&normal, AllocFlags::MIN).is_some());
    assert!(machine.steal_cached(&normal, AllocFlags::MIN).is_some());
    assert_eq!(machine.steal_cached(&normal, AllocFlags::MIN), None);
    assert!(machine.steal_cached(&dma32, AllocFlags::MIN).is_some());
    assert!(ask(&machine, GFP_KERNEL, 0, &Alone).is_err());
    machine.verify().unwrap();
}
