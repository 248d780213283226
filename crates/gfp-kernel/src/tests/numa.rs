//! Nodes: memory comes from the node that is near, or asked for.

use super::chain::TRY;
use super::disturb;
use super::fixture::{Ledger, Wrong, free_all, machine_has, platform, zones};
use super::threads::on_all_cpus;
use crate::memory::mm;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use gfp::AllocError;
use gfp::flags::{GFP_KERNEL, Gfp};
use gfp::frame::{NodeId, NodeMask, Pfn};
use gfp::page::{MemPolicy, Weights};
use gfp::platform::Platform;
use gfp::slab::CacheArgs;

super::tests! { "numa":
    each_cpu_gets_memory_of_its_own_node,
    a_node_that_is_asked_for_gives,
    only_this_node_means_it,
    a_full_node_sends_its_requests_to_the_other,
    policies_spread_and_bind,
    objects_that_come_home_are_not_mixed,
}

fn nodes() -> Vec<NodeId> {
    mm().pages().nodes().collect()
}

fn two_nodes() -> bool {
    machine_has("two nodes", mm().pages().nodes().count() >= 2)
}

fn node_at(at: *mut u8) -> NodeId {
    mm().pages().node_of(mm().pages().pfn_of(at.addr()))
}

fn each_cpu_gets_memory_of_its_own_node() {
    // P201
    static SEEN: AtomicU32 = AtomicU32::new(0);
    let books = Ledger::open();
    SEEN.store(0, Relaxed);
    on_all_cpus(|_| {
        // The task stays here, so that the node stays the same.
        let stay = crate::arch::percpu::preempt_off();
        let node = platform().node();
        SEEN.fetch_or(1 << node.0, Relaxed);
        for size in [64, 5000, 100_000] {
            match mm().kmalloc(size, Gfp::KSWAPD_RECLAIM) {
                Ok(p) => {
                    Wrong::Other.unless(node_at(p.as_ptr()) == node);
                    // SAFETY: freed once.
                    unsafe { mm().kfree(p.as_ptr()) }
                }
                Err(_) => Wrong::Refused.count(),
            }
        }
        drop(stay);
    });
    if two_nodes() {
        assert!(SEEN.load(Relaxed).count_ones() >= 2, "CPUs of two nodes");
    }
    books.close();
}

fn a_node_that_is_asked_for_gives() {
    // S21
    let books = Ledger::open();
    let cache = mm().kmem_cache_create(&CacheArgs::new("tests-node", 96));
    let cache = cache.expect("a cache");
    for node in nodes() {
        let pfn = mm().alloc_pages_node(node, GFP_KERNEL, 2).expect("pages");
        assert_eq!(mm().pages().node_of(pfn), node);
        free_all(&[pfn], 2);
        let object = mm().kmalloc_node(300, GFP_KERNEL, node).expect("memory");
        assert_eq!(node_at(object.as_ptr()), node);
        let mine = mm().kmem_cache_alloc_node(cache, GFP_KERNEL, node);
        let mine = mine.expect("memory");
        assert_eq!(node_at(mine.as_ptr()), node);
        // SAFETY: freed once.
        unsafe {
            mm().kfree(object.as_ptr());
            mm().kmem_cache_free(cache, mine.as_ptr());
        }
    }
    assert_eq!(mm().kmem_cache_destroy(cache), Ok(()));
    books.close();
    two_nodes();
}

/// All blocks of order 6 that a node gives.
fn all_of(node: NodeId, gfp: Gfp) -> (Vec<Pfn>, AllocError) {
    let mut held = Vec::with_capacity(mm().pages().managed_pages() >> 6);
    loop {
        match mm().alloc_pages_node(node, gfp, 6) {
            Ok(pfn) => held.push(pfn),
            Err(error) => return (held, error),
        }
    }
}

fn only_this_node_means_it() {
    let books = Ledger::open();
    for node in nodes() {
        let (held, error) = all_of(node, TRY | Gfp::THISNODE);
        let all_here = held.iter().all(|pfn| mm().pages().node_of(*pfn) == node);
        let other = nodes().into_iter().find(|other| *other != node);
        let there = other.map(|other| mm().alloc_pages_node(other, TRY, 0));
        let place = there.map(|pfn| pfn.map(|pfn| mm().pages().node_of(pfn)));
        there.iter().flatten().for_each(|pfn| free_all(&[*pfn], 0));
        free_all(&held, 6);
        assert!(all_here && held.len() > 10);
        assert!(matches!(error, AllocError::NoMemory { .. }), "{error}");
        assert_eq!(place, other.map(Ok), "the other has some");
    }
    let none = mm().alloc_pages_node(NodeId(7), GFP_KERNEL | Gfp::THISNODE, 0);
    assert_eq!(none, Err(AllocError::NoSuchNode));
    books.close();
    two_nodes();
}

fn policies_spread_and_bind() {
    // P137
    let books = Ledger::open();
    let all: NodeMask = nodes().into_iter().collect();
    let weights = Weights::new([3, 1, 2, 1, 1, 1, 1, 1]);
    let policy = MemPolicy::weighted_interleave(all, weights);
    let turn = weights.period(all) as usize;
    let mut out = [None; 64];
    let (many, one) = out[..2 * turn].split_at_mut(turn);
    assert_eq!(mm().alloc_pages_bulk_mpol(&policy, GFP_KERNEL, many), turn);
    one.fill_with(|| mm().alloc_pages_mpol(&policy, GFP_KERNEL, 0).ok());
    let held: Vec<Pfn> = out.iter().flatten().copied().collect();
    let on = |node| {
        held.iter()
            .filter(|pfn| mm().pages().node_of(**pfn) == node)
            .count()
    };
    let exact = nodes()
        .iter()
        .all(|node| on(*node) == 2 * weights.of(*node) as usize);
    free_all(&held, 0);
    assert!(exact && held.len() == 2 * turn);
    drop(held); // the books are of all memory
    for node in nodes() {
        let bound = MemPolicy::bind(NodeMask::of(node));
        let pfn = mm().alloc_pages_mpol(&bound, GFP_KERNEL, 3).expect("pages");
        assert_eq!(mm().pages().node_of(pfn), node);
        free_all(&[pfn], 3);
    }
    let nowhere = MemPolicy::bind(NodeMask::of(NodeId(7)));
    let none = mm().alloc_pages_mpol(&nowhere, GFP_KERNEL, 0);
    assert_eq!(none, Err(AllocError::NoSuchNode));
    books.close();
    two_nodes();
}

fn a_full_node_sends_its_requests_to_the_other() {
    // P201, P615
    if !two_nodes() {
        return;
    }
    let books = Ledger::open();
    let _quiet = disturb::quiet(); // what handlers give back could be had again
    for node in nodes() {
        let misses = || zones().map(|z| z.events.numa_miss).sum::<u64>();
        let (held, _) = all_of(node, TRY | Gfp::THISNODE);
        let before = misses();
        let pfn = mm().alloc_pages_node(node, TRY, 6);
        let counted = misses() > before;
        let place = pfn.map(|pfn| mm().pages().node_of(pfn));
        pfn.iter().for_each(|pfn| free_all(&[*pfn], 6));
        free_all(&held, 6);
        let place = place.expect("the other node gives");
        assert!(place != node && counted, "{place:?} for {node:?}");
    }
    books.close();
}

fn objects_that_come_home_are_not_mixed() {
    // A CPU that frees another node's objects does not give them out as its own.
    if !two_nodes() {
        return;
    }
    let books = Ledger::open();
    on_all_cpus(|_| {
        let stay = crate::arch::percpu::preempt_off();
        let here = platform().node();
        let far = mm().pages().nodes().find(|node| *node != here);
        for _ in 0..200 {
            let atomic = Gfp::KSWAPD_RECLAIM;
            if let Some(Ok(p)) = far.map(|far| mm().kmalloc_node(128, atomic, far)) {
                Wrong::Other.unless(node_at(p.as_ptr()) != here);
                // SAFETY: freed once.
                unsafe { mm().kfree(p.as_ptr()) }
            }
            if let Ok(p) = mm().kmalloc(128, atomic) {
                Wrong::Other.unless(node_at(p.as_ptr()) == here);
                // SAFETY: freed once.
                unsafe { mm().kfree(p.as_ptr()) }
            }
        }
        drop(stay);
    });
    books.close();
}
