//! Caches adapt to what their CPUs do, and what nobody uses goes back.

use crate::flags::{GFP_KERNEL, GFP_NOWAIT, Gfp};
use crate::frame::{CpuId, NodeId, Order, Pfn};
use crate::page::{BootConfig, PageAllocator, PageRequest, Tuning};
use crate::policy::pcp::PcpLimits;
use crate::testing::{Rng, TestPlatform, pages, region};
use std::vec::Vec;

const O0: Order = Order::ZERO;
const CPU0: CpuId = CpuId(0);

type Machine = PageAllocator<TestPlatform>;

fn get(machine: &Machine, gfp: Gfp, order: u8) -> Pfn {
    let order = Order::new(order).unwrap();
    machine.alloc(&PageRequest::new(gfp, order)).unwrap()
}

fn put(machine: &Machine, pfn: Pfn, order: u8) {
    // SAFETY: tests free what they own, once.
    unsafe { machine.free(pfn, Order::new(order).unwrap()).unwrap() }
}

fn limits(machine: &Machine) -> PcpLimits {
    machine.sizing[0].get()
}

/// A machine whose CPUs may keep as much as a share of its memory says, neither more nor less.
fn keeping(mib: usize, watermark_scale_factor: usize) -> Machine {
    let (start, bytes) = (4 << 30, mib << 20);
    let map = [region(start, start + bytes as u64)];
    let config = BootConfig {
        watermark_scale_factor,
        ..BootConfig::default()
    };
    Machine::boot(TestPlatform::new(start, bytes), &map, &config).unwrap()
}

/// Allocates until nothing is cached, and once more. What is cached then, and the page.
fn refill(machine: &Machine, held: &mut Vec<Pfn>) -> usize {
    while machine.cached_pages(CPU0) != 0 {
        held.push(get(machine, GFP_KERNEL, 0));
    }
    held.push(get(machine, GFP_KERNEL, 0));
    machine.cached_pages(CPU0) + 1
}

#[test]
fn refills_double_until_something_is_freed() {
    // P326, P960
    let machine = keeping(256, 1000);
    let PcpLimits {
        batch, high_min, ..
    } = limits(&machine);
    assert_eq!((batch, high_min > 500), (15, true));
    let mut held = Vec::new();
    let mut sizes = || refill(&machine, &mut held);
    // The list has room for 128: two holds of the lock.
    let expected = [15, 30, 60, 120, 126, 126];
    assert_eq!(expected.map(|_| sizes()), expected);
    refill(&machine, &mut held);
    for _ in 0..2 {
        put(&machine, held.pop().unwrap(), 0);
    }
    assert_eq!(refill(&machine, &mut held), 30, "two frees: 5, 2, 1");
    held.into_iter().for_each(|pfn| put(&machine, pfn, 0));
    machine.verify().unwrap();
}

#[test]
fn a_full_cache_gives_back_what_was_freed_in_a_row() {
    // P327, P704: as many as were freed, but for a batch; nothing is lost.
    let machine = keeping(64, 10);
    machine.tune(Tuning::PagelistHighFraction(40)).unwrap();
    get(&machine, GFP_KERNEL, 0); // its caches have memory from now on
    machine.drain_all();
    let PcpLimits {
        batch,
        high_min,
        high_max,
    } = limits(&machine);
    assert!(high_min == high_max && high_max < 128, "{high_max}");
    let free = machine.free_page_count();
    for gfp in [GFP_KERNEL, GFP_KERNEL | Gfp::MOVABLE, GFP_NOWAIT] {
        let held: Vec<Pfn> = (0..3000).map(|_| get(&machine, gfp, 0)).collect();
        let mut falls = Vec::new();
        for pfn in held {
            let before = machine.cached_pages(CPU0);
            put(&machine, pfn, 0);
            let after = machine.cached_pages(CPU0);
            assert!(after <= high_max, "{after}");
            falls.extend((after < before).then_some(after));
        }
        assert!(falls.len() > 20);
        // What was allocated before, and other lists in turn, count for the first.
        let rows = &falls[4..];
        assert!(rows.iter().all(|left| *left <= batch + 1), "{falls:?}");
        assert_eq!(machine.free_page_count() + machine.cached_pages(CPU0), free);
        machine.verify().unwrap();
    }
    machine.drain_all();
    assert_eq!(
        (machine.free_page_count(), machine.cached_pages(CPU0)),
        (free, 0)
    );
}

#[test]
fn what_a_cpu_may_keep_rises_with_its_work_and_decays() {
    // P328
    let machine = keeping(64, 10);
    let PcpLimits {
        batch,
        high_min,
        high_max,
    } = limits(&machine);
    assert!(high_min + 20 * batch < high_max);
    let most_cached = |frees: usize| {
        let held: Vec<Pfn> = (0..frees).map(|_| get(&machine, GFP_KERNEL, 2)).collect();
        let mixed = (0..frees).map(|_| get(&machine, GFP_KERNEL, 0));
        let mixed: Vec<Pfn> = mixed.collect();
        let mut most = 0;
        for (large, single) in held.into_iter().zip(mixed) {
            put(&machine, large, 2);
            put(&machine, single, 0);
            most = most.max(machine.cached_pages(CPU0));
        }
        most
    };
    for _ in 0..100 {
        most_cached(100);
    }
    let grown = most_cached(100);
    assert!(grown > high_min, "{grown} of {high_min}");
    assert!(grown <= high_max);
    // It works on: so nothing goes back but what is too much.
    let cached = machine.cached_pages(CPU0);
    for _ in 0..30 {
        put(&machine, get(&machine, GFP_KERNEL, 0), 0);
        machine.age_caches();
    }
    let left = machine.cached_pages(CPU0);
    assert_eq!(left, cached.min(high_min), "{cached}");
    machine.verify().unwrap();
}

#[test]
fn while_a_node_is_reclaimed_its_caches_keep_four_batches() {
    // P329, P960
    let machine = keeping(256, 1000);
    let PcpLimits {
        batch, high_min, ..
    } = limits(&machine);
    assert!(high_min > 8 * batch);
    let work = |machine: &Machine| {
        let held: Vec<Pfn> = (0..200).map(|_| get(machine, GFP_KERNEL, 0)).collect();
        held.into_iter().for_each(|pfn| put(machine, pfn, 0));
        machine.cached_pages(CPU0)
    };
    assert!(work(&machine) > 4 * batch);
    let other = machine.reclaiming(NodeId(1));
    assert!(work(&machine) > 4 * batch, "of another node");
    let reclaiming = machine.reclaiming(NodeId(0));
    machine.drain_all();
    assert!(work(&machine) <= 4 * batch);
    drop(reclaiming);
    assert!(work(&machine) > 4 * batch);
    drop(other);
}

#[test]
fn below_high_a_zone_wants_back_what_its_caches_grew_by() {
    // P277, P329
    let machine = keeping(64, 10);
    let PcpLimits {
        batch, high_min, ..
    } = limits(&machine);
    put(&machine, get(&machine, GFP_KERNEL, 0), 0);
    let high = || machine.caches_of(CPU0).unwrap()[0].adapted.high();
    let mut held = Vec::new();
    while high() < high_min + 8 * batch {
        held.extend((0..400).map(|_| get(&machine, GFP_KERNEL, 0)));
        held.drain(..).for_each(|pfn| put(&machine, pfn, 0));
    }
    let zone = &machine.zones[0];
    while zone.free_pages() > zone.watermarks().high {
        held.push(get(&machine, GFP_KERNEL, 4));
    }
    let grown = high();
    put(&machine, get(&machine, GFP_KERNEL, 0), 0);
    for _ in 0..200 {
        let pages: Vec<Pfn> = (0..50).map(|_| get(&machine, GFP_KERNEL, 0)).collect();
        assert!(zone.free_pages() <= zone.watermarks().high);
        pages.into_iter().for_each(|pfn| put(&machine, pfn, 0));
    }
    assert!(grown >= high_min + 8 * batch);
    // It falls as long as that makes a difference.
    let (high, cached) = (high(), machine.cached_pages(CPU0));
    assert!(high <= high_min + 4 * batch && cached <= high, "{high}");
}

#[test]
fn large_blocks_freed_in_a_row_come_back_for_other_cpus() {
    // P330: CPU 0 allocates, CPU 1 frees.
    let machine = keeping(256, 1000);
    let PcpLimits {
        batch, high_min, ..
    } = limits(&machine);
    let held: Vec<Pfn> = (0..2000).map(|_| get(&machine, GFP_KERNEL, 2)).collect();
    machine.platform().on(1);
    let cached = || machine.cached_pages(CpuId(1));
    let mut most = 0;
    for (i, pfn) in held.iter().enumerate() {
        put(&machine, *pfn, 2);
        if 4 * i > batch + high_min / 2 + 128 {
            most = most.max(cached());
        }
    }
    assert!(most <= 2 * (batch + 1), "{most}");
    // Single pages are its own.
    let held: Vec<Pfn> = (0..2000).map(|_| get(&machine, GFP_KERNEL, 0)).collect();
    held.iter().for_each(|pfn| put(&machine, *pfn, 0));
    assert!(cached() > 2 * (batch + 1));
    machine.verify().unwrap();
}

#[test]
fn whatever_caches_do_no_page_is_lost() {
    // P960: total pages conserved, and a drain leaves none cached
    let machine = keeping(128, 10);
    let mut rng = Rng::new(32);
    for cpu in 0..4 {
        machine.platform().on(cpu);
        put(&machine, get(&machine, GFP_KERNEL, 0), 0);
    }
    machine.drain_all();
    let (free, mut held) = (machine.free_page_count(), Vec::new());
    let mut reclaiming = None;
    for step in 0..30_000 {
        machine.platform().on(rng.below(4) as u32);
        match rng.below(200) {
            0 => _ = machine.age_caches(),
            1 => reclaiming = Some(machine.reclaiming(NodeId(0))),
            2 => reclaiming = None,
            n if n < 110 => {
                let order = [0, 0, 0, 1, 2, 3, 5, 9][rng.below(8)];
                let gfp = [GFP_NOWAIT, GFP_NOWAIT | Gfp::MOVABLE][rng.below(2)];
                let request = PageRequest::new(gfp, Order::new(order).unwrap());
                held.extend(machine.alloc(&request).map(|pfn| (pfn, order)));
            }
            _ if held.is_empty() => (),
            _ => {
                let (pfn, order) = held.swap_remove(rng.below(held.len()));
                put(&machine, pfn, order);
            }
        }
        if step % 1000 == 0 {
            let in_use: usize = held.iter().map(|(_, order)| 1 << order).sum();
            let known = machine.free_page_count() + machine.cached_page_count() + in_use;
            assert_eq!(known, free, "step {step}");
            machine.verify().unwrap();
        }
    }
    drop(reclaiming);
    held.into_iter()
        .for_each(|(pfn, order)| put(&machine, pfn, order));
    machine.drain_all();
    assert_eq!(
        (machine.free_page_count(), machine.cached_page_count()),
        (free, 0)
    );
}

/// Allocates one page and frees it.
fn use_cache(machine: &PageAllocator<TestPlatform>) {
    let pfn = machine.alloc(&PageRequest::new(GFP_KERNEL, O0)).unwrap();
    // SAFETY: it is freed once.
    unsafe { machine.free(pfn, O0).unwrap() }
}

#[test]
fn what_nobody_uses_goes_back_when_it_ages() {
    // P328, P713: of the CPU that ages caches, and of others.
    let machine = pages(64);
    for cpu in [0, 1] {
        machine.platform().on(cpu);
        use_cache(&machine);
    }
    let free = machine.free_page_count();
    let cached = || [0, 1].map(|cpu| machine.cached_pages(CpuId(cpu)));
    let [other, own] = cached();
    assert!(own > 0 && other > 0);
    assert_eq!(machine.age_caches(), 0, "all were used just now");
    assert_eq!(cached(), [other, own]);
    use_cache(&machine);
    assert_eq!(
        machine.age_caches_of(NodeId(1)),
        0,
        "nothing of its is cached"
    );
    assert_eq!(
        machine.age_caches_of(NodeId(0)),
        other,
        "CPU 1 has used its own"
    );
    assert_eq!(cached(), [0, own]);
    assert_eq!((machine.age_caches(), cached()), (own, [0, 0]));
    assert_eq!(machine.free_page_count(), free + own + other);
    assert_eq!(machine.age_caches(), 0);
    machine.verify().unwrap();
    use_cache(&machine);
    assert!(machine.cached_pages(CpuId(1)) > 0, "it goes on");
}
