//! Where in a zone a CPU takes from (P820).

use super::shards::{BASE, MIB, config, exhaust, get, hold, machine, put, shard_of};
use crate::flags::{GFP_HIGHUSER_MOVABLE, GFP_KERNEL, Gfp};
use crate::frame::{CpuId, PAGEBLOCK_PAGES, Pfn};
use crate::page::shard::Shard;
use crate::page::{BootConfig, PageAllocator};
use crate::policy::placement::WasHeld;
use crate::sync::Local;
use crate::testing::{CPUS, TestPlatform, region};
use std::boxed::Box;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

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
            // P825: the homes of what can be moved are counted from the upper end.
            assert_eq!(shard_of(&machine, pfn), CPUS - 1 - cpu, "order {o}");
        }
    }
}

#[test]
fn cpus_whose_homes_are_used_up_part_again() {
    // P820: three shards each for two CPUs, though each has the other's home next to its own.
    let movable = GFP_HIGHUSER_MOVABLE.without(Gfp::RECLAIM);
    let machine = machine(96, 16);
    let mut shards = [BTreeSet::new(), BTreeSet::new()];
    for _ in 0..20 {
        for cpu in 0..2 {
            machine.platform().on(cpu);
            let pfn = get(&machine, movable, 9);
            shards[cpu as usize].insert(shard_of(&machine, pfn));
        }
    }
    assert!(shards.iter().all(|used| used.len() == 3), "{shards:?}");
    assert!(shards[0].is_disjoint(&shards[1]), "{shards:?}");
    machine.verify().unwrap();
}

#[test]
fn what_cannot_be_moved_keeps_together_whichever_cpu_asks() {
    // P825: a shard is used up before the next, the lowest, gets some; each has 8 pageblocks.
    // Seen to fail: `TAINTS` less than where others stand.
    let machine = machine(64, 16);
    let kinds = [GFP_KERNEL, GFP_KERNEL | Gfp::RECLAIMABLE];
    for n in 0..26 * PAGEBLOCK_PAGES / 64 {
        machine.platform().on((n % CPUS) as u32);
        get(&machine, kinds[n / CPUS % 2], 6);
        let shards = machine.zones[0].shards();
        let used = shards.iter().take_while(|shard| shard.fixed() != 0).count();
        assert!(shards[used..].iter().all(|shard| shard.fixed() == 0), "{n}");
        let blocks = n * 64 / PAGEBLOCK_PAGES + 4; // some are of either type, or in caches
        assert!(used <= blocks.div_ceil(8), "{n}: {used}");
    }
    machine.verify().unwrap();
}

#[test]
fn cpus_that_disturb_each_other_part() {
    // P820, P825. It would wait for ever.
    let machine = machine(64, 16);
    for cpu in [0, 2] {
        machine.platform().on(cpu);
        let pfn = get(&machine, GFP_KERNEL, 6);
        assert_eq!(shard_of(&machine, pfn), 0);
    }
    let zone = &machine.zones[0];
    let local = Local::enter(machine.platform()).unwrap();
    let stands = machine.stands(&local, zone).unwrap();
    (0..4).for_each(|_| stands.note_lock(WasHeld::Yes));
    drop(local);
    hold(&machine, &[0], || {
        machine.platform().on(2);
        for _ in 0..20 {
            let pfn = get(&machine, GFP_KERNEL, 6);
            assert_eq!(shard_of(&machine, pfn), 2, "at home");
        }
    });
    machine.verify().unwrap();
}

#[test]
fn a_lock_that_is_seldom_held_is_waited_for() {
    // P825: what is tainted already is worth a moment.
    let machine = machine(64, 16);
    for cpu in [0, 2] {
        machine.platform().on(cpu);
        get(&machine, GFP_KERNEL, 6);
    }
    hold(&machine, &[0], || {
        machine.platform().on(2);
        let waits = || panic!("meant to be: it waits");
        *machine.platform().on_relax.lock().unwrap() = Some(Box::new(waits));
        let got = catch_unwind(AssertUnwindSafe(|| {
            (0..20).for_each(|_| _ = get(&machine, GFP_KERNEL, 6));
        }));
        assert!(got.is_err());
    });
    let tainted = |shard: &&Shard| shard.fixed() != 0;
    assert_eq!(machine.zones[0].shards().iter().filter(tainted).count(), 1);
    machine.verify().unwrap();
}

#[test]
fn pieces_where_nobody_stands_are_taken_before_a_block_is_claimed() {
    // P317, P318: as few blocks as may be have pages that cannot be moved.
    let machine = machine(64, 16);
    machine.platform().on(0);
    let first = get(&machine, GFP_KERNEL, 3);
    machine.drain_all();
    let shard = &machine.zones[0].shards()[shard_of(&machine, first)];
    shard.stander.leave(CpuId(0));
    machine.platform().on(1);
    let pfn = get(&machine, GFP_KERNEL, 3);
    assert_eq!(pfn.0 / PAGEBLOCK_PAGES, first.0 / PAGEBLOCK_PAGES);
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
