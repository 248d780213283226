//! Policies of nodes on a machine of several nodes in a process (P137-P139).

use gfp::Mm;
use gfp::flags::{GFP_KERNEL, GFP_NOWAIT, Gfp};
use gfp::frame::{NodeId, NodeMask};
use gfp::page::{BootConfig, MemPolicy, Weights};
use gfp_host::{HostConfig, HostPlatform};

const NODES: usize = 4;

fn boot() -> Mm<HostPlatform> {
    let mut config = HostConfig::new(16 << 20);
    for node in 1..NODES as u8 {
        config = config.node(NodeId(node), 16 << 20);
    }
    let platform = HostPlatform::new(&config).unwrap();
    let map = platform.memory_map();
    Mm::boot(platform, &map, &BootConfig::default()).unwrap()
}

fn all(mm: &Mm<HostPlatform>) -> NodeMask {
    mm.pages().nodes().collect()
}

#[test]
fn threads_that_share_a_policy_fill_the_nodes_by_their_weights_exactly() {
    // P137
    const THREADS: usize = 4;
    const EACH: usize = 250;
    let mm = boot();
    let policy = MemPolicy::weighted_interleave(all(&mm), Weights::new([4, 3, 2, 1, 0, 0, 0, 0]));
    let take = || {
        let mut held = Vec::new();
        while held.len() < EACH {
            if held.len() % 50 == 0 {
                let mut many = [None; 25];
                let got = mm.alloc_pages_bulk_mpol(&policy, GFP_KERNEL, &mut many);
                assert_eq!(got, many.len());
                held.extend(many.iter().flatten());
            }
            held.push(mm.alloc_pages_mpol(&policy, GFP_KERNEL, 0).unwrap());
        }
        held
    };
    let held: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(take)).collect();
        let all = threads.into_iter().flat_map(|t| t.join().unwrap());
        all.collect()
    });
    let mut shares = [0; NODES];
    for pfn in &held {
        shares[usize::from(mm.pages().node_of(*pfn).0)] += 1;
    }
    let turns = held.len() / 10;
    assert_eq!(held.len() % 10, 0, "whole turns");
    assert_eq!(shares, [4 * turns, 3 * turns, 2 * turns, turns]);
    // SAFETY: ours, freed once.
    held.into_iter()
        .for_each(|pfn| unsafe { mm.free_frames(pfn, 0) });
    mm.verify().unwrap();
}

#[test]
fn who_is_bound_or_prefers_gets_what_he_asked_for() {
    // P137, P138
    let mm = boot();
    let (two, three) = (NodeMask::of(NodeId(2)), NodeMask::of(NodeId(3)));
    let bound = MemPolicy::bind(two);
    let mut held = Vec::new();
    while let Ok(folio) = mm.folio_alloc_mpol(&bound, GFP_NOWAIT | Gfp::NOWARN, 4) {
        assert_eq!(mm.pages().node_of(folio.head()), NodeId(2));
        held.push(folio);
    }
    assert!(held.len() > 100, "{} of about 250", held.len());
    for (policy, expected) in [
        (MemPolicy::preferred(NodeId(3)), 3),
        (MemPolicy::preferred_many(three), 3),
        (MemPolicy::preferred_many(two), 0),
        (MemPolicy::local(), 0),
    ] {
        // Node 2 has no block of this order left.
        let pfn = mm.alloc_pages_mpol(&policy, GFP_NOWAIT, 4).unwrap();
        assert_eq!(mm.pages().node_of(pfn), NodeId(expected), "{policy:?}");
        // SAFETY: ours, freed once.
        unsafe { mm.free_frames(pfn, 4) };
    }
    drop(held);
    mm.verify().unwrap();
}
