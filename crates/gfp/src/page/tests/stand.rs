//! Where in a zone a CPU takes from (P820).

use super::shards::{BASE, EASY, MIB, config, exhaust, get, hold, machine, put, shard_of};
use crate::flags::{GFP_HIGHUSER_MOVABLE, GFP_KERNEL, Gfp};
use crate::frame::{CpuId, PAGEBLOCK_PAGES, Pfn};
use crate::page::{BootConfig, PageAllocator};
use crate::testing::{CPUS, TestPlatform, region};
use std::collections::BTreeSet;

#[test]
fn the_last_whole_blocks_at_home_are_not_broken_while_there_are_pieces_elsewhere() {
    // P305 over shards: the smallest that fits.
    let config = BootConfig {
        min_free_kbytes: Some(0),
        ..config(32)
    };
    let platform = TestPlatform::new(BASE, 64 << 20);
    let map = [region(BASE, BASE + 64 * MIB)];
    let machine = PageAllocator::boot(platform, &map, &config).unwrap();
    let movable = GFP_HIGHUSER_MOVABLE.without(Gfp::RECLAIM).with(Gfp::NOWARN);
    let pages = exhaust(&machine, movable, 0);
    let home = shard_of(&machine, Pfn((BASE >> 12) as usize));
    let whole = pages.iter().find(|pfn| {
        let first = pfn.0 / PAGEBLOCK_PAGES * PAGEBLOCK_PAGES;
        let all = (first..first + PAGEBLOCK_PAGES).all(|i| pages.contains(&Pfn(i)));
        all && shard_of(&machine, **pfn) == home
    });
    let whole = whole.unwrap().0 / PAGEBLOCK_PAGES;
    // One block at home comes free, and every other page away from it.
    for pfn in pages {
        let away = shard_of(&machine, pfn) != home && pfn.0.is_multiple_of(2);
        if away || pfn.0 / PAGEBLOCK_PAGES == whole {
            put(&machine, pfn, 0);
        }
    }
    machine.drain_all();
    for _ in 0..2000 {
        let pfn = get(&machine, movable, 0);
        assert_ne!(pfn.0 / PAGEBLOCK_PAGES, whole, "the whole block was broken");
    }
    machine.drain_all();
    assert_eq!(get(&machine, movable, 9).0 / PAGEBLOCK_PAGES, whole);
    machine.verify().unwrap();
}

#[test]
fn each_cpu_takes_from_its_own_shard_first() {
    // P820
    let machine = machine(64, 16);
    for cpu in 0..CPUS {
        machine.platform().on(cpu as u32);
        for o in [9, 4, 0, 10] {
            let pfn = get(&machine, GFP_HIGHUSER_MOVABLE, o);
            assert_eq!(shard_of(&machine, pfn), cpu, "order {o}");
        }
    }
}

#[test]
fn cpus_whose_homes_are_used_up_part_again() {
    // P820: three shards each for two CPUs, though each has the other's home next to its own.
    let machine = machine(96, 16);
    let mut shards = [BTreeSet::new(), BTreeSet::new()];
    for _ in 0..20 {
        for cpu in 0..2 {
            machine.platform().on(cpu);
            let pfn = get(&machine, EASY, 9);
            shards[cpu as usize].insert(shard_of(&machine, pfn));
        }
    }
    assert!(shards.iter().all(|used| used.len() == 3), "{shards:?}");
    assert!(shards[0].is_disjoint(&shards[1]), "{shards:?}");
    machine.verify().unwrap();
}

#[test]
fn pages_of_another_type_are_claimed_at_home_while_there_are_plenty() {
    // P820: not taken from the block that another CPU claimed.
    let machine = machine(64, 16);
    for round in 0..200 {
        for cpu in 0..CPUS {
            machine.platform().on(cpu as u32);
            let pfn = get(&machine, GFP_KERNEL, 3);
            assert_eq!(shard_of(&machine, pfn), cpu, "{round}");
        }
    }
    machine.verify().unwrap();
}

#[test]
fn pieces_where_nobody_stands_are_taken_before_a_block_is_claimed() {
    // P317, P318: as few blocks as may be have pages that cannot be moved.
    let machine = machine(64, 16);
    machine.platform().on(1);
    get(&machine, GFP_KERNEL, 3);
    machine.drain_all();
    let zone = &machine.zones[0];
    zone.shards()[1].stander.leave(CpuId(1));
    machine.platform().on(0);
    let pfn = get(&machine, GFP_KERNEL, 3);
    assert_eq!(shard_of(&machine, pfn), 1);
}

#[test]
fn a_shard_whose_lock_is_taken_is_left_for_another() {
    // P820: it would wait for ever.
    let machine = machine(64, 16);
    hold(&machine, &[0], || {
        for o in [0, 4, 9, 10] {
            let pfn = get(&machine, GFP_HIGHUSER_MOVABLE, o);
            assert_ne!(shard_of(&machine, pfn), 0, "order {o}");
        }
    });
    machine.verify().unwrap();
}
