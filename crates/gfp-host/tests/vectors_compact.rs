//! The vectors of compaction (P423, P426, P964) in a process, as in the simulator and on bare
//! metal.
//!
//! Seen to fail with: a shift that is raised before it is used; a success that resets nothing.
#![cfg(not(loom))]

#[path = "../../gfp/vectors/compact.rs"]
mod vectors;

use gfp::frame::NodeId;
use gfp_host::{Host, HostConfig, HostPlatform};

/// Runs `check` on machines with one node and with two, which nobody else uses.
fn on_a_machine(check: fn(&gfp::Mm<HostPlatform>)) {
    for nodes in [1, 2] {
        let mut config = HostConfig::new(32 << 20);
        for node in 1..nodes {
            config = config.node(NodeId(node), 32 << 20);
        }
        let host = Host::boot(&config).unwrap();
        check(&host); // what CPUs keep from their first use on
        let free = || {
            host.trim();
            host.pages().free_page_count()
        };
        let before = free();
        check(&host);
        assert_eq!(free(), before);
        host.verify().unwrap();
    }
}

#[test]
fn the_index_of_a_zone_with_nothing_with_64_single_pages_and_with_a_block() {
    // P423, P964
    on_a_machine(|mm| assert_eq!(vectors::indices(mm), Some([0, 922, -1000])));
}

#[test]
fn failures_are_left_out_1_2_4_to_64_times_and_success_resets() {
    // P426, P964
    on_a_machine(|mm| {
        let expected = vectors::LeftOut {
            at_first: [0, 1, 2, 4, 8, 16, 32, 64, 64],
            after_success: [0, 1, 2],
        };
        assert_eq!(vectors::left_out(mm), Some(expected));
    });
}
