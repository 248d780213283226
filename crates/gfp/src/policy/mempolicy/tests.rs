use super::*;
use crate::flags::{GFP_ATOMIC, GFP_KERNEL, GFP_NOWAIT, GFP_TRANSHUGE};

const MODES: [Mode; 6] = [
    Mode::Local,
    Mode::Preferred,
    Mode::PreferredMany,
    Mode::Bind,
    Mode::Interleave,
    Mode::WeightedInterleave,
];

const HUGE: u32 = PAGEBLOCK_ORDER as u32;

fn plain(gfp: Gfp) -> Attempt {
    let among = Among::All;
    Attempt { gfp, among }
}

#[test]
fn an_ordinary_request_is_what_most_policies_make() {
    // P137
    for gfp in [GFP_KERNEL, GFP_ATOMIC, GFP_KERNEL | Gfp::NOFAIL] {
        for order in 0..=10 {
            for mode in [Mode::Interleave, Mode::WeightedInterleave] {
                assert_eq!(attempts(mode, gfp, order), (plain(gfp), None));
            }
            for mode in [Mode::Local, Mode::Preferred] {
                let one = attempts(mode, gfp, order) == (plain(gfp), None);
                assert_eq!(one, order != HUGE, "{mode:?} {order}");
            }
            let among = Among::Chosen;
            let bound = attempts(Mode::Bind, gfp, order);
            assert_eq!(bound, (Attempt { gfp, among }, None));
        }
    }
}

#[test]
fn preferred_many_asks_the_chosen_nodes_without_waiting_and_then_all() {
    // P138
    let (given, light) = (
        GFP_KERNEL | Gfp::NOFAIL,
        GFP_KERNEL.without(Gfp::DIRECT_RECLAIM) | Gfp::NOWARN,
    );
    for order in [0, 3, HUGE] {
        let (first, second) = attempts(Mode::PreferredMany, given, order);
        assert_eq!((first.gfp, first.among), (light, Among::Chosen));
        assert_eq!(second, Some(plain(given)));
    }
    let (_, second) = attempts(Mode::PreferredMany, GFP_NOWAIT, 0);
    assert_eq!(second, Some(plain(GFP_NOWAIT)), "also who may not wait");
}

#[test]
fn a_huge_page_comes_from_its_node_and_from_elsewhere_only_for_who_may_wait() {
    // P139
    for mode in [Mode::Local, Mode::Preferred] {
        let (first, second) = attempts(mode, GFP_TRANSHUGE, HUGE);
        assert!(
            first
                .gfp
                .contains(Gfp::THISNODE | Gfp::NORETRY | Gfp::NOWARN)
        );
        assert_eq!(first.among, Among::All);
        assert_eq!(second, Some(plain(GFP_TRANSHUGE)));
        let (first, second) = attempts(mode, GFP_NOWAIT, HUGE);
        let near = GFP_NOWAIT | Gfp::THISNODE | Gfp::NORETRY;
        assert_eq!((first.gfp, second), (near, None));
    }
    let hard = GFP_KERNEL | Gfp::NOFAIL;
    let (first, second) = attempts(Mode::Local, hard, HUGE);
    assert_eq!(
        first.gfp.check(),
        Ok(()),
        "no flags that contradict each other"
    );
    assert_eq!(second, Some(plain(hard)), "NOFAIL is kept where it counts");
}

#[test]
fn who_wants_one_node_has_no_policy() {
    // P22
    let gfp = GFP_KERNEL | Gfp::THISNODE;
    for mode in MODES {
        for order in [0, HUGE] {
            assert_eq!(attempts(mode, gfp, order), (plain(gfp), None), "{mode:?}");
        }
    }
}

#[test]
fn a_turn_gives_each_node_what_it_weighs_and_shares_add_up() {
    // P137: exact, for every set of nodes, from every place, for every length.
    let weights = Weights::new([3, 1, 2, 0, 5, 1, 1, 7]);
    for nodes in 1..=u8::MAX {
        let nodes: NodeMask = (0..8).filter(|n| nodes >> n & 1 != 0).map(NodeId).collect();
        let period = weights.period(nodes);
        let turn: std::vec::Vec<_> = (0..period)
            .map(|at| node_at(at, nodes, &weights).unwrap())
            .collect();
        assert_eq!(node_at(period, nodes, &weights), None);
        for node in NodeMask::ALL.iter() {
            let times = turn.iter().filter(|n| **n == node).count();
            let expected = if nodes.has(node) { weights.of(node) } else { 0 };
            assert_eq!(times, expected as usize);
            for at in 0..period {
                let n = 2 * period as usize + at as usize;
                let all = turn.iter().cycle().skip(at as usize).take(n);
                let mine = all.filter(|n| **n == node).count();
                assert_eq!(share_of(node, at, n, nodes, &weights), mine);
            }
        }
    }
    assert_eq!(Weights::EQUAL.period(NodeMask::ALL), 8);
    assert_eq!(node_at(0, NodeMask::NONE, &weights), None);
}
