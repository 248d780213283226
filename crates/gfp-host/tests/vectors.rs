//! The vectors of requests in need (P412, P961-P963) in a process, as in the simulator and on bare
//! metal.
//!
//! Seen to fail with: another limit of rounds without progress; a scan that may reclaim, which ends
//! the stack.
#![cfg(not(loom))]

#[path = "../../gfp/vectors/mod.rs"]
mod vectors;

use gfp::frame::NodeId;
use gfp::platform::{Context, Platform};
use gfp_host::{Host, HostConfig, HostPlatform};
use std::thread;
use vectors::Ran;

type Check = fn(&gfp::Mm<HostPlatform>, &(dyn Fn() -> bool + Sync));

/// What most tests have on each node: little, so that they take no time.
const SMALL: usize = 16 << 20;

/// Runs `check` on a machine with so many nodes, which nobody else uses. It is given who tells
/// whether it runs in this thread.
fn on_a_machine(nodes: u8, check: Check) {
    on_a_machine_of(SMALL, nodes, check);
}

/// [`on_a_machine`] with so many bytes on each node.
fn on_a_machine_of(bytes: usize, nodes: u8, check: Check) {
    let mut config = HostConfig::new(bytes);
    for node in 1..nodes {
        config = config.node(NodeId(node), bytes);
    }
    let host = Host::boot(&config).unwrap();
    let me = thread::current().id();
    vectors::touch(&host);
    let free = || {
        host.trim();
        host.pages().free_page_count()
    };
    let before = free();
    check(&host, &|| thread::current().id() == me);
    assert_eq!(free(), before);
    host.verify().unwrap();
}

#[test]
fn each_level_asks_for_what_the_rules_say() {
    // P961, P121, P122, P129, P405, P412
    for nodes in [1, 2] {
        on_a_machine(nodes, |mm, mine| {
            vectors::levels(mm, mine).check();
        });
    }
}

#[test]
fn each_level_asks_for_what_the_rules_say_for_blocks() {
    // P961, P103-P106, P108, P120-P126, P129
    for nodes in [1, 2] {
        on_a_machine(nodes, |mm, mine| {
            vectors::orders(mm, mine)
                .iter()
                .for_each(|rows| rows.check());
        });
    }
}

#[test]
fn blocks_that_somebody_else_takes_are_made_again_as_often_as_the_rules_say() {
    // P961, P114, P120, P125
    for nodes in [1, 2] {
        on_a_machine(nodes, |mm, _| {
            for (expected, seen) in vectors::retries(mm) {
                assert_eq!(seen, expected);
            }
        });
    }
}

#[test]
fn scopes_take_their_bits_and_give_their_rights() {
    // P961, P150, P152, P129, P116, P265, P416
    for nodes in [1, 2] {
        on_a_machine(nodes, |mm, mine| vectors::scopes(mm, mine).check());
    }
}

#[test]
fn who_may_not_sleep_asks_nobody() {
    // P961, P154, P270: a signal handler that interrupts the allocator counts as an NMI.
    on_a_machine(1, |mm, mine| {
        let within = |context, work: &mut dyn FnMut()| {
            if context != Context::Nmi {
                return Ran::No;
            }
            let section = mm.platform().enter().unwrap();
            work();
            drop(section);
            Ran::InSection
        };
        vectors::contexts(mm, mine, &within).check();
    });
}

#[test]
fn a_shrinker_that_allocates_lives_on_the_reserve_and_is_not_entered_again() {
    // P962, P133
    for nodes in [1, 2] {
        on_a_machine(nodes, |mm, mine| {
            assert_eq!(vectors::recursion(mm, mine), Some(true));
        });
    }
}

#[test]
fn a_shrinker_that_stops_is_left_alone_for_the_rest_of_the_pass() {
    // P963, P411
    on_a_machine(1, |mm, mine| {
        assert_eq!(vectors::stops(mm, mine), Some(5));
    });
}

#[test]
fn each_kind_of_request_takes_exactly_its_part_of_the_reserve() {
    // P268-P270, P263, P265, ADR 0012
    // The zone of such a machine has a min watermark of 127 pages: of that 64, 48, and 24 are left.
    on_a_machine(1, |mm, _| {
        let seen = vectors::reserves(mm);
        seen.check();
        assert_eq!(seen.beyond(), (127, 127 - 48, 48 - 24));
    });
    on_a_machine(2, |mm, _| vectors::reserves(mm).check());
    // On a larger one CPUs take more than they need, for their next requests.
    on_a_machine_of(512 << 20, 1, |mm, _| vectors::reserves(mm).check());
}
