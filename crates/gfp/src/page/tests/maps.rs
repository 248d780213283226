//! Machines of any map: usable, reserved and hot-pluggable regions of any size, node and order.

use super::plug::{BASE, MIB, Machine, get, put};
use crate::flags::{GFP_HIGHUSER_MOVABLE, ZoneKind};
use crate::frame::{NodeId, PAGE_SIZE, Pfn, PhysAddr};
use crate::page::{BootConfig, MemoryRegion, PageAllocator, RegionKind};
use crate::testing::{Rng, TestPlatform};
use std::collections::BTreeSet;
use std::vec::Vec;

const SPAN_MIB: usize = 64;

/// Regions one behind the other, often touching, some empty, some cut inside a page.
fn random_map(rng: &mut Rng) -> Vec<MemoryRegion> {
    let mut at = BASE;
    let end = BASE + SPAN_MIB as u64 * MIB;
    let mut map = Vec::new();
    while map.len() < 12 {
        let unit = [MIB, 2 * MIB, 4 * MIB, 4096, 1000][rng.below(5)];
        let start = at + [0, 0, unit][rng.below(3)];
        let stop = start + rng.below(12) as u64 * unit;
        if stop > end {
            break;
        }
        let kind = match rng.below(6) {
            0 => RegionKind::Reserved,
            1 | 2 => RegionKind::Hotpluggable,
            _ => RegionKind::Usable,
        };
        map.push(MemoryRegion {
            start: PhysAddr(start),
            end: PhysAddr(stop),
            node: NodeId(rng.below(3) as u8),
            kind,
        });
        at = stop;
    }
    map
}

fn random_config(rng: &mut Rng) -> BootConfig {
    let limit = |rng: &mut Rng| {
        let mib = 2 * rng.below(SPAN_MIB / 2) as u64;
        (rng.below(2) == 0).then_some(PhysAddr(BASE + mib * MIB))
    };
    let (a, b) = (limit(rng), limit(rng));
    BootConfig {
        dma_end: a.min(b),
        dma32_end: a.max(b),
        movable_bytes: [0, 0, 8 * MIB][rng.below(3)],
        memory_is_zero: rng.below(2) == 0,
        memory_block_bytes: [4 * MIB, 8 * MIB][rng.below(2)],
        shard_bytes: [None, Some(4 * MIB), Some(16 * MIB)][rng.below(3)],
        ..BootConfig::default()
    }
}

/// The region of this kind that has all of `start .. end`.
fn inside(map: &[MemoryRegion], kind: RegionKind, start: u64, end: u64) -> Option<NodeId> {
    let holds = |r: &&MemoryRegion| r.kind == kind && r.start.0 <= start && end <= r.end.0;
    map.iter().find(holds).map(|r| r.node)
}

/// Adds random ranges of whole memory blocks; those that came, by their start.
fn add_some(
    machine: &Machine,
    map: &[MemoryRegion],
    block: u64,
    rng: &mut Rng,
    context: &str,
) -> BTreeSet<u64> {
    let mut added = BTreeSet::new();
    for _ in 0..24 {
        let first = BASE + block * rng.below((SPAN_MIB as u64 * MIB / block) as usize) as u64;
        let blocks = 1 + rng.below(3) as u64;
        let range = || (0..blocks).map(|i| first + i * block);
        let absent = |start| {
            let hot = inside(map, RegionKind::Hotpluggable, start, start + block).is_some();
            hot && !added.contains(&start)
        };
        let expected = range().all(absent);
        let end = PhysAddr(first + blocks * block);
        // SAFETY: the platform of a test has all the memory that its map describes.
        let result = unsafe { machine.add_memory(PhysAddr(first), end) };
        assert_eq!(result.is_ok(), expected, "{context}: {first:#x} {result:?}");
        if let Ok(more) = result {
            assert_eq!(more.pages, (blocks * block) as usize / PAGE_SIZE);
            added.extend(range());
        }
        let whole = machine.verify();
        whole.unwrap_or_else(|e| panic!("{context}: {e}"));
    }
    added
}

#[test]
fn a_machine_of_any_map_gives_out_what_is_there_and_nothing_else() {
    // P200, P201, P206, P514, P516
    let seeds = if cfg!(miri) { 2 } else { 100 };
    let (mut booted, mut grown) = (0, 0);
    for seed in 0..seeds {
        let mut rng = Rng::new(seed);
        let (map, config) = (random_map(&mut rng), random_config(&mut rng));
        let context = std::format!("seed {seed} {config:?} {map:#x?}");
        let platform = TestPlatform::new(BASE, SPAN_MIB << 20);
        let Ok(machine) = PageAllocator::boot(platform, &map, &config) else {
            continue;
        };
        booted += 1;
        let whole = machine.verify();
        whole.unwrap_or_else(|e| panic!("{context}: {e}"));
        let block = config.memory_block_bytes;
        let added = add_some(&machine, &map, block, &mut rng, &context);
        grown += added.len();
        let mut live = BTreeSet::new();
        while let Ok(pfn) = get(&machine, GFP_HIGHUSER_MOVABLE, 0) {
            assert!(live.insert(pfn), "{context}: {pfn:?} twice");
            check_frame(&machine, &map, &config, &added, pfn, &context);
        }
        live.into_iter().for_each(|pfn| put(&machine, pfn, 0));
        machine.drain_all();
        let whole = machine.verify();
        whole.unwrap_or_else(|e| panic!("{context}: {e}"));
        assert!(machine.platform().reports().is_empty(), "{context}");
    }
    assert!(
        cfg!(miri) || (booted > 60 && grown > 60),
        "{booted} {grown}"
    );
}

/// A frame that was given out is there, and counts for the node and zone of its address.
fn check_frame(
    machine: &Machine,
    map: &[MemoryRegion],
    config: &BootConfig,
    added: &BTreeSet<u64>,
    pfn: Pfn,
    context: &str,
) {
    let (start, end) = (pfn.phys().0, pfn.add(1).phys().0);
    let block = config.memory_block_bytes;
    let hot = inside(map, RegionKind::Hotpluggable, start, end)
        .filter(|_| added.contains(&(start / block * block)));
    let node = inside(map, RegionKind::Usable, start, end).or(hot);
    let node = node.unwrap_or_else(|| panic!("{context}: {pfn:?} is not there"));
    assert_eq!(machine.node_of(pfn), node, "{context}: {pfn:?}");
    let below = |limit: Option<PhysAddr>| limit.is_some_and(|limit| pfn < limit.pfn());
    let kind = match (below(config.dma_end), below(config.dma32_end)) {
        (true, _) => ZoneKind::Dma,
        (_, true) => ZoneKind::Dma32,
        _ => ZoneKind::Normal,
    };
    let zone = &machine.zones[machine.blocks.zone_of(pfn).unwrap()];
    let movable = zone.kind == ZoneKind::Movable && hot.is_none() && config.movable_bytes > 0;
    assert!(zone.kind == kind || movable, "{context}: {pfn:?}");
}
