//! Policies of nodes (P137-P139).

use super::plug::{BASE, Machine, put};
use crate::error::AllocError;
use crate::flags::{GFP_ATOMIC, GFP_KERNEL, GFP_NOWAIT, GFP_TRANSHUGE, Gfp};
use crate::frame::{NodeId, NodeMask, Order, Pfn};
use crate::page::{BootConfig, MemPolicy, MemoryRegion, PageAllocator, PageRequest, Weights};
use crate::testing::{TestPlatform, region};
use std::string::{String, ToString};
use std::vec::Vec;

const O0: Order = Order::ZERO;

/// Nodes of so many MiB each.
fn nodes_of(mib: &[u64]) -> Machine {
    let mut at = BASE;
    let mut map = Vec::new();
    for (node, mib) in mib.iter().enumerate() {
        let end = at + (mib << 20);
        if end > at {
            map.push(MemoryRegion {
                node: NodeId(node as u8),
                ..region(at, end)
            });
        }
        at = end;
    }
    let platform = TestPlatform::new(BASE, (at - BASE) as usize);
    PageAllocator::boot(platform, &map, &BootConfig::default()).unwrap()
}

fn mask(nodes: &[u8]) -> NodeMask {
    nodes.iter().copied().map(NodeId).collect()
}

fn by(machine: &Machine, policy: &MemPolicy, gfp: Gfp, order: u8) -> Result<Pfn, AllocError> {
    let order = Order::new(order).unwrap();
    machine.alloc_by_policy(policy, gfp, order, |req| machine.alloc(req))
}

/// The node of one more page by a policy.
fn node_by(machine: &Machine, policy: &MemPolicy, gfp: Gfp) -> u8 {
    machine.node_of(by(machine, policy, gfp, 0).unwrap()).0
}

/// All that requests of one node can have of it.
fn use_up(machine: &Machine, node: u8, gfp: Gfp) -> Vec<Pfn> {
    let req = PageRequest::new(gfp | Gfp::THISNODE, O0).at(Some(NodeId(node)));
    core::iter::from_fn(|| machine.alloc(&req).ok()).collect()
}

fn interleaved(machine: &Machine) -> Vec<u64> {
    let stats = machine.zone_stats();
    stats.map(|zone| zone.events.numa_interleave).collect()
}

#[test]
fn a_node_is_preferred_and_others_serve_when_it_is_full() {
    // P137, P140
    let machine = nodes_of(&[16, 16, 16]);
    let near = MemPolicy::preferred(NodeId(2));
    assert_eq!(node_by(&machine, &near, GFP_KERNEL), 2);
    assert_eq!(node_by(&machine, &MemPolicy::local(), GFP_KERNEL), 0);
    assert_eq!(node_by(&machine, &MemPolicy::default(), GFP_KERNEL), 0);
    use_up(&machine, 2, GFP_NOWAIT);
    assert_eq!(
        node_by(&machine, &near, GFP_NOWAIT),
        0,
        "the nearest to node 2"
    );
    machine.verify().unwrap();
}

#[test]
fn who_is_bound_gets_nothing_from_elsewhere() {
    let machine = nodes_of(&[16, 16, 16]);
    let bound = MemPolicy::bind(mask(&[1, 2]));
    let mut seen = [0; 3];
    while let Ok(pfn) = by(&machine, &bound, GFP_NOWAIT, 0) {
        seen[usize::from(machine.node_of(pfn).0)] += 1;
    }
    assert!(seen[0] == 0 && seen[1] > 3000 && seen[2] > 3000, "{seen:?}");
    assert!(machine.alloc(&PageRequest::new(GFP_NOWAIT, O0)).is_ok());
    let nowhere = MemPolicy::bind(mask(&[5]));
    let refused = by(&machine, &nowhere, GFP_KERNEL | Gfp::NOFAIL, 0);
    assert_eq!(refused, Err(AllocError::NoSuchNode));
    machine.verify().unwrap();
}

#[test]
fn who_frees_memory_is_not_bound() {
    // P115: nodemask and policy limits are dropped with the rights to reserves.
    let machine = nodes_of(&[16, 16]);
    let bound = MemPolicy::bind(mask(&[1]));
    use_up(&machine, 1, GFP_NOWAIT | Gfp::MEMALLOC);
    assert!(by(&machine, &bound, GFP_ATOMIC, 0).is_err());
    let pfn = by(&machine, &bound, GFP_NOWAIT | Gfp::MEMALLOC, 0).unwrap();
    assert_eq!(machine.node_of(pfn), NodeId(0));
}

#[test]
fn interleaving_is_exact_for_every_set_of_nodes_and_weights() {
    // P137
    let machine = nodes_of(&[16, 16, 16, 16]);
    let weights = Weights::new([4, 1, 3, 2, 9, 9, 9, 9]);
    for bits in 1..16u8 {
        let nodes: NodeMask = (0..4).filter(|n| bits >> n & 1 != 0).map(NodeId).collect();
        for (policy, weights) in [
            (MemPolicy::interleave(nodes), Weights::EQUAL),
            (MemPolicy::weighted_interleave(nodes, weights), weights),
        ] {
            let turn = weights.period(nodes) as usize;
            let mut held = Vec::new();
            for rounds in 1..4 {
                held.extend((0..turn).map(|_| by(&machine, &policy, GFP_KERNEL, 0).unwrap()));
                for node in NodeMask::ALL.iter() {
                    let got = held.iter().filter(|p| machine.node_of(**p) == node).count();
                    let share = if nodes.has(node) { weights.of(node) } else { 0 };
                    assert_eq!(got, rounds * share as usize, "{nodes:?} {node:?}");
                }
            }
            held.into_iter().for_each(|pfn| put(&machine, pfn, 0));
        }
    }
    machine.verify().unwrap();
}

#[test]
fn a_bulk_is_spread_as_one_by_one_and_both_go_on_where_the_other_left_off() {
    // P137, P344
    let machine = nodes_of(&[16, 16, 16]);
    let nodes = mask(&[0, 1, 2]);
    let weights = Weights::new([2, 1, 4, 0, 0, 0, 0, 0]);
    let (bulk, single) = (
        MemPolicy::weighted_interleave(nodes, weights),
        MemPolicy::weighted_interleave(nodes, weights),
    );
    let count = |pages: &[Option<Pfn>]| {
        let node = |p: &Option<Pfn>| machine.node_of(p.unwrap()).0;
        [0, 1, 2].map(|n| pages.iter().filter(|p| node(p) == n).count())
    };
    for n in [1, 2, 3, 5, 7, 8, 13, 64, 70, 100, 1, 200] {
        let mut many = std::vec![None; n];
        let get = |req: &PageRequest, out: &mut [Option<Pfn>]| machine.alloc_bulk(req, out);
        let got = machine.alloc_bulk_by_policy(&bulk, GFP_KERNEL, &mut many, get);
        assert_eq!(got, n);
        let one = || by(&machine, &single, GFP_KERNEL, 0).ok();
        let ones: Vec<_> = (0..n).map(|_| one()).collect();
        assert_eq!(count(&many), count(&ones), "{n} pages");
        let all = many.into_iter().chain(ones).flatten();
        all.for_each(|pfn| put(&machine, pfn, 0));
    }
    let total: u64 = interleaved(&machine).iter().sum();
    assert_eq!(
        total,
        2 * (1 + 2 + 3 + 5 + 7 + 8 + 13 + 64 + 70 + 100 + 1 + 200)
    );
    machine.verify().unwrap();
}

#[test]
fn a_bulk_leaves_what_is_there_and_fills_the_first_places() {
    // P344, P966
    let machine = nodes_of(&[16, 16]);
    let spread = MemPolicy::interleave(mask(&[0, 1]));
    let mine = Some(machine.alloc(&PageRequest::new(GFP_KERNEL, O0)).unwrap());
    let mut out = [None, mine, None, None, mine, None, None];
    let bulk = |req: &PageRequest, out: &mut [Option<Pfn>]| machine.alloc_bulk(req, out);
    let got = machine.alloc_bulk_by_policy(&spread, GFP_KERNEL, &mut out, bulk);
    assert_eq!((got, out[1], out[4]), (7, mine, mine));
    // One node is full: its share is missing, what is there stands in front.
    use_up(&machine, 1, GFP_NOWAIT);
    let mut out = [None; 10];
    let bulk = |req: &PageRequest, out: &mut [Option<Pfn>]| match req.node() {
        Some(NodeId(1)) => 0,
        _ => machine.alloc_bulk(req, out),
    };
    let got = machine.alloc_bulk_by_policy(&spread, GFP_NOWAIT, &mut out, bulk);
    assert_eq!((got, out.iter().flatten().count()), (5, 5));
}

#[test]
fn bulks_obey_policies_that_do_not_interleave() {
    // P137, P138
    let machine = nodes_of(&[16, 16, 16]);
    let bulk = |policy: &MemPolicy, gfp| {
        let mut out = [None; 40];
        let get = |req: &PageRequest, out: &mut [Option<Pfn>]| machine.alloc_bulk(req, out);
        let got = machine.alloc_bulk_by_policy(policy, gfp, &mut out, get);
        let nodes: NodeMask = out.iter().flatten().map(|p| machine.node_of(*p)).collect();
        (got, nodes.to_string())
    };
    let one = |node: &str| (40, String::from(node));
    assert_eq!(bulk(&MemPolicy::local(), GFP_KERNEL), one("0"));
    assert_eq!(bulk(&MemPolicy::preferred(NodeId(1)), GFP_KERNEL), one("1"));
    assert_eq!(bulk(&MemPolicy::bind(mask(&[1, 2])), GFP_KERNEL), one("1"));
    let many = MemPolicy::preferred_many(mask(&[2]));
    assert_eq!(bulk(&many, GFP_KERNEL), one("2"));
    let here = bulk(
        &MemPolicy::interleave(mask(&[1, 2])),
        GFP_KERNEL | Gfp::THISNODE,
    );
    assert_eq!(here, one("0"), "P22");
    use_up(&machine, 2, GFP_NOWAIT);
    assert_eq!(bulk(&many, GFP_NOWAIT), one("0"), "the second attempt");
    let bound = bulk(&MemPolicy::bind(mask(&[2])), GFP_NOWAIT);
    assert_eq!(bound, (0, String::new()));
}

#[test]
fn preferred_many_takes_from_others_only_at_the_second_attempt() {
    // P138
    let machine = nodes_of(&[16, 16, 16]);
    let policy = MemPolicy::preferred_many(mask(&[1, 2]));
    let gfp = GFP_KERNEL | Gfp::NOFAIL;
    let mut tried = Vec::new();
    let pfn = machine.alloc_by_policy(&policy, gfp, O0, |req| {
        tried.push(*req);
        machine.alloc(req)
    });
    assert_eq!(machine.node_of(pfn.unwrap()), NodeId(1));
    let light = GFP_KERNEL.without(Gfp::DIRECT_RECLAIM) | Gfp::NOWARN;
    let chosen = PageRequest::new(light, O0).among(NodeId(1), mask(&[1, 2]));
    assert_eq!(tried, [chosen]);
    use_up(&machine, 1, GFP_NOWAIT);
    use_up(&machine, 2, GFP_NOWAIT);
    tried.clear();
    let pfn = machine.alloc_by_policy(&policy, gfp, O0, |req| {
        tried.push(*req);
        machine.alloc(req)
    });
    assert_eq!(machine.node_of(pfn.unwrap()), NodeId(0));
    assert_eq!(tried, [chosen, PageRequest::new(gfp, O0)]);
}

#[test]
fn a_huge_page_for_who_may_not_wait_comes_from_its_node_or_not_at_all() {
    // P139
    let machine = nodes_of(&[32, 16]);
    let near = MemPolicy::preferred(NodeId(1));
    let mut huge = 0;
    while let Ok(pfn) = by(&machine, &near, GFP_NOWAIT, 9) {
        assert_eq!(machine.node_of(pfn), NodeId(1));
        huge += 1;
    }
    assert!(huge > 2, "{huge}");
    let far = by(&machine, &near, GFP_TRANSHUGE, 9).unwrap();
    assert_eq!(machine.node_of(far), NodeId(0), "who may wait goes on");
    let far = by(&machine, &near, GFP_NOWAIT, 8);
    assert!(far.is_ok(), "other orders fall back at once");
}

#[test]
fn nodes_without_memory_are_passed_over() {
    let machine = nodes_of(&[16, 0, 16]);
    let spread = MemPolicy::interleave(mask(&[0, 1, 2, 7]));
    let nodes: Vec<_> = (0..6)
        .map(|_| node_by(&machine, &spread, GFP_KERNEL))
        .collect();
    assert_eq!(nodes, [0, 2, 0, 2, 0, 2]);
    let nobody = MemPolicy::interleave(mask(&[1, 7]));
    assert_eq!(
        node_by(&machine, &nobody, GFP_KERNEL),
        0,
        "as without a policy"
    );
    let empty = MemPolicy::preferred(NodeId(200));
    assert_eq!(node_by(&machine, &empty, GFP_KERNEL), 0);
}

#[test]
fn interleaving_is_counted_where_it_got_what_it_wanted() {
    // P615
    let machine = nodes_of(&[16, 16]);
    let spread = MemPolicy::interleave(mask(&[0, 1]));
    for _ in 0..10 {
        node_by(&machine, &spread, GFP_KERNEL);
    }
    assert_eq!(interleaved(&machine), [5, 5]);
    use_up(&machine, 1, GFP_NOWAIT);
    for _ in 0..10 {
        node_by(&machine, &spread, GFP_NOWAIT);
    }
    assert_eq!(
        interleaved(&machine),
        [10, 5],
        "the rest came from elsewhere"
    );
}

#[test]
fn threads_that_share_a_policy_spread_exactly_together() {
    // P137: no two get the same place of a turn.
    let policy =
        MemPolicy::weighted_interleave(mask(&[0, 1]), Weights::new([3, 1, 0, 0, 0, 0, 0, 0]));
    let taken = std::sync::Mutex::new([0usize; 4]);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (policy, taken) = (&policy, &taken);
            scope.spawn(move || {
                let mut mine = [0; 4];
                for i in 0..100 {
                    let n = 1 + (i + thread) % 5;
                    let at = policy.take_places(policy.nodes(), n) as usize;
                    (at..at + n).for_each(|at| mine[at % 4] += 1);
                }
                let mut taken = taken.lock().unwrap();
                taken
                    .iter_mut()
                    .zip(mine)
                    .for_each(|(all, mine)| *all += mine);
            });
        }
    });
    let taken = taken.into_inner().unwrap();
    let all: usize = taken.iter().sum();
    assert_eq!(all, 4 * 100 * 3);
    assert_eq!(taken, [all / 4; 4]);
}

#[test]
fn nodes_at_rest_are_looked_at_before_those_that_are_reclaimed() {
    // P276
    let machine = nodes_of(&[16, 16, 16]);
    let node_of = |gfp| {
        machine.drain_all(); // what a CPU has cached was paid for
        let pfn = machine.alloc(&PageRequest::new(gfp, O0)).unwrap();
        machine.node_of(pfn).0
    };
    assert_eq!(node_of(GFP_NOWAIT), 0);
    let first = machine.reclaiming(NodeId(0));
    assert_eq!(node_of(GFP_NOWAIT), 1);
    assert_eq!(node_of(GFP_NOWAIT | Gfp::THISNODE), 0);
    let second = machine.reclaiming(NodeId(1));
    assert_eq!(node_of(GFP_NOWAIT), 2);
    use_up(&machine, 2, GFP_NOWAIT);
    assert_eq!(node_of(GFP_NOWAIT), 0, "the second pass leaves none out");
    drop(first);
    assert_eq!(node_of(GFP_NOWAIT), 0);
    drop(second);
    machine.verify().unwrap();
}
