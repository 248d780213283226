//! What one entry and exit of a section costs: `cargo run --release -p gfp-host --example
//! section_cost`.

use gfp::platform::Platform;
use gfp_host::{HostConfig, HostPlatform};
use std::hint::black_box;
use std::time::Instant;

const PAIRS: u32 = 20_000_000;
const ROUNDS: usize = 9;

fn main() {
    let platform = HostPlatform::new(&HostConfig::new(4 << 20)).expect("address space");
    let mut counter = 0u64;
    let mut rounds = [0.0; ROUNDS];
    for round in &mut rounds {
        let start = Instant::now();
        for _ in 0..PAIRS {
            let (cpu, section) = platform.enter().expect("not nested");
            *black_box(&mut counter) += u64::from(cpu.0) + 1;
            drop(section);
        }
        *round = start.elapsed().as_secs_f64() * 1e9 / f64::from(PAIRS);
    }
    rounds.sort_by(f64::total_cmp);
    let (median, least) = (rounds[ROUNDS / 2], rounds[0]);
    println!("enter + leave: {median:.2} ns (median of {ROUNDS} rounds, least {least:.2})");
    assert_ne!(counter, 0);
}
