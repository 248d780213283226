//! Machines that grow at work: random steps, the views, requests that come in between.

use super::plug::{BASE, MIB, Machine, add, at, boot, config, get, node, put, small};
use crate::flags::{GFP_KERNEL, Gfp};
use crate::frame::{NodeId, Pfn};
use crate::mm::Mm;
use crate::page::{AddMemoryError, RegionKind};
use crate::stat::View;
use crate::testing::{CPUS, Rng, TestPlatform};
use core::sync::atomic::Ordering::Relaxed;
use std::collections::BTreeSet;
use std::string::String;
use std::vec::Vec;

#[test]
fn a_machine_that_grows_keeps_its_books() {
    // P516, P953: random allocations and frees on all CPUs, a memory block now and then.
    let (seeds, steps) = if cfg!(miri) { (1, 40) } else { (16, 500) };
    for seed in 0..seeds {
        let map = [
            node(0, RegionKind::Usable, 0, 12),
            node(0, RegionKind::Hotpluggable, 12, 28),
            node(1, RegionKind::Hotpluggable, 28, 52),
        ];
        grow(seed, steps, &boot(52, &map, &config()));
    }
}

fn grow(seed: u64, steps: usize, machine: &Machine) {
    let mut rng = Rng::new(seed);
    let mut live: Vec<(Pfn, u8)> = Vec::new();
    let mut owned = BTreeSet::new();
    let mut absent: Vec<u64> = (3..13).collect();
    let mut managed = machine.managed_pages();
    for step in 0..steps {
        let context = std::format!("seed {seed} step {step}");
        machine.platform().on(rng.below(CPUS) as u32);
        machine.platform().near.store(rng.below(2) as u8, Relaxed);
        let dice = rng.below(100);
        if dice < 3 && !absent.is_empty() {
            let block = absent.swap_remove(rng.below(absent.len()));
            assert_eq!(add(machine, 4 * block, 4 * block + 4).unwrap().pages, 1024);
            let again = add(machine, 4 * block, 4 * block + 4);
            assert_eq!(
                again,
                Err(AddMemoryError::AlreadyPresent { at: at(4 * block) })
            );
            managed += 1024;
        } else if dice < 55 {
            let order = [0, 0, 0, 1, 2, 3, 5, 7, 9, 10][rng.below(10)];
            let Ok(pfn) = get(machine, GFP_KERNEL, order) else {
                continue;
            };
            let mib = (pfn.phys().0 - BASE) / MIB;
            assert!(!absent.contains(&(mib / 4)), "{context}: absent memory");
            for i in 0..1 << order {
                assert!(owned.insert(pfn.0 + i), "{context}: given twice");
            }
            live.push((pfn, order));
        } else if !live.is_empty() {
            let (pfn, order) = live.swap_remove(rng.below(live.len()));
            (0..1 << order).for_each(|i| assert!(owned.remove(&(pfn.0 + i))));
            put(machine, pfn, order);
        }
        assert_eq!(machine.managed_pages(), managed, "{context}");
        let found = machine.free_page_count() + machine.cached_page_count() + owned.len();
        assert!(managed - found <= CPUS * 4, "{context}: {managed} {found}");
        machine
            .verify()
            .unwrap_or_else(|e| panic!("{context}: {e}"));
    }
    live.into_iter()
        .for_each(|(pfn, order)| put(machine, pfn, order));
    machine.drain_all();
    machine.verify().unwrap();
    assert!(machine.platform().reports().is_empty());
}

#[test]
fn the_whole_machine_grows_and_its_views_show_it() {
    // P610, P612, P620
    let map = [
        node(0, RegionKind::Usable, 0, 32),
        node(1, RegionKind::Hotpluggable, 32, 64),
    ];
    let platform = TestPlatform::new(BASE, 64 << 20);
    platform.near.store(1, Relaxed);
    let mm = Mm::boot(platform, &map, &config()).unwrap();
    let text = |view: View| {
        let mut text = String::new();
        view.write(&mm, &mut text).unwrap();
        text
    };
    let total = || std::format!("MemTotal:       {:>8} kB", mm.pages().managed_pages() * 4);
    let old = mm.kmalloc(64, GFP_KERNEL).unwrap();
    assert_eq!(node_of(&mm, old.as_ptr()), NodeId(0));
    assert!(text(View::Meminfo).contains(&total()));
    assert!(!text(View::Buddyinfo).contains("Node 1"));
    // SAFETY: the platform has the memory.
    unsafe { mm.add_memory(at(32), at(64)) }.unwrap();
    mm.verify().unwrap();
    assert!(text(View::Meminfo).contains(&total()));
    assert!(text(View::Buddyinfo).contains("Node 1, zone   Normal"));
    let zoneinfo = text(View::Zoneinfo);
    let one = zoneinfo.split("Node 1, zone   Normal").nth(1).unwrap();
    assert!(
        one.contains("present  8192\n        managed  8192\n"),
        "{one}"
    );
    // What this CPU had at hand is of the node that was nearest before: a strict request does not
    // get it.
    let strict = mm
        .kmalloc_node(64, GFP_KERNEL | Gfp::THISNODE, NodeId(1))
        .unwrap();
    assert_eq!(node_of(&mm, strict.as_ptr()), NodeId(1));
    let mut live = Vec::new();
    while live.len() < 1000 {
        live.push(mm.kmalloc(64, GFP_KERNEL).unwrap());
    }
    let far = live
        .iter()
        .filter(|p| node_of(&mm, p.as_ptr()) == NodeId(0));
    assert_eq!(far.count(), 0);
    for p in live.into_iter().chain([old, strict]) {
        // SAFETY: freed once.
        unsafe { mm.kfree(p.as_ptr()) };
    }
    mm.verify().unwrap();
    assert!(mm.platform().reports().is_empty());
}

fn node_of(mm: &Mm<TestPlatform>, p: *mut u8) -> NodeId {
    mm.pages().node_of(mm.pages().pfn_of(p.addr()))
}

#[test]
fn no_request_fails_because_the_zonelists_are_just_being_written() {
    // P111, P205
    let machine = small();
    let held: Vec<_> = core::iter::from_fn(|| get(&machine, GFP_KERNEL, 0).ok()).collect();
    // Another CPU has begun to write the lists. It is done while the request waits for that.
    machine.changes.step();
    let address = (&raw const machine).expose_provenance();
    let finish = move || {
        // SAFETY: the machine outlives the request that calls this.
        let machine: &Machine = unsafe { &*core::ptr::with_exposed_provenance(address) };
        add(machine, 32, 36).unwrap();
        machine.changes.step();
    };
    *machine.platform().on_relax.lock().unwrap() = Some(std::boxed::Box::new(finish));
    let failed = machine.failures()[0];
    let pfn = get(&machine, GFP_KERNEL | Gfp::NORETRY, 0).unwrap();
    assert_eq!(machine.failures()[0], failed);
    for pfn in held.into_iter().chain([pfn]) {
        put(&machine, pfn, 0);
    }
    machine.verify().unwrap();
}
