//! How long the page allocator takes to boot: `cargo xtask bench boot [--json]`.
//!
//! Memory is addresses only, from 4 MiB to 1 TiB. `zero`: the platform says that it reads as zero,
//! as a process's does, so tables are not cleared; what is touched of them is. `unknown`: nothing
//! is said, as on bare metal, so tables are cleared, 8 bytes a frame for what boot takes in
//! (`BootConfig::at_once_bytes`); `rest` is how long `take_in_rest` takes then, and `at-once` is
//! boot that leaves nothing. In a process most of these is the operating system's, for the pages of
//! the tables. Each time is the median of seven boots of new machines, by the clock on the wall.

use gfp::page::{BootConfig, PageAllocator};
use gfp_host::{HostConfig, HostPlatform};
use std::time::{Duration, Instant};

const ROUNDS: usize = 7;
/// What boot may take of 64 GiB, with what is at hand then.
const TARGET: Duration = Duration::from_millis(5);

#[derive(Copy, Clone, PartialEq, Eq)]
enum What {
    Zero,
    Unknown,
    Rest,
    AtOnce,
}

/// The time of one boot, and the pages of its tables; `None`: there are not so many addresses.
fn boot(bytes: usize, what: What) -> Option<(Duration, usize)> {
    let platform = HostPlatform::new(&HostConfig::new(bytes)).ok()?;
    let map = platform.memory_map();
    let mut config = BootConfig {
        memory_is_zero: what == What::Zero,
        ..BootConfig::default()
    };
    if what == What::AtOnce {
        config.at_once_bytes = u64::MAX;
    }
    let mut start = Instant::now();
    let pages = PageAllocator::boot(platform, &map, &config).expect("the map of the platform");
    if what == What::Rest {
        start = Instant::now();
        pages.take_in_rest();
    }
    let took = start.elapsed();
    Some((took, pages.metadata_pages()))
}

fn main() {
    let json = std::env::args().any(|arg| arg == "--json");
    let sizes = [
        ("4mib", 22),
        ("1gib", 30),
        ("16gib", 34),
        ("64gib", 36),
        ("1tib", 40),
    ];
    for (name, shift) in sizes {
        for (kind, what) in [
            ("zero", What::Zero),
            ("unknown", What::Unknown),
            ("rest", What::Rest),
            ("at-once", What::AtOnce),
        ] {
            let mut boots: Vec<_> = (0..ROUNDS).filter_map(|_| boot(1 << shift, what)).collect();
            boots.sort_unstable();
            let Some((took, pages)) = boots.get(boots.len() / 2) else {
                println!("boot/{name}-{kind}: this process has not so many addresses");
                continue;
            };
            let us = took.as_secs_f64() * 1e6;
            let bounded = matches!(what, What::Zero | What::Unknown) && shift == 36;
            if json {
                let target = bounded.then(|| TARGET.as_micros());
                let target = target.map_or(String::from("null"), |us| us.to_string());
                print!("{{\"bench\":\"boot/{name}-{kind}\",\"ours_us\":{us:.1},");
                println!("\"table_pages\":{pages},\"target_us\":{target}}}");
                continue;
            }
            let verdict = match (bounded, *took <= TARGET) {
                (false, _) => "",
                (true, true) => "  target 5 ms: met",
                (true, false) => "  target 5 ms: missed",
            };
            println!("boot/{name:6} {kind:8} {us:12.1} us {pages:8} pages of tables{verdict}");
        }
    }
}
