//! How unmovable memory spreads over blocks: `cargo xtask bench frag`.
//!
//! 1. **Why.** One page that cannot be moved keeps a 2 MiB block from ever becoming a huge page or
//!    being given away, and a 1 GiB superblock from becoming a gigantic one. A large fleet reports
//!    that 7 % of its memory is unmovable and 34 % of its 2 MiB blocks hold some of it.
//! 2. **Load** (`load.rs`): one thread, a fixed seed, so each run does the same. Memory fills to 80
//!    to 90 %; 7 % of it, now more, now less, is unmovable or reclaimable, of orders 0 to 3; the
//!    rest is movable, single pages and huge ones. Lifetimes are mixed: most blocks are freed soon
//!    after, some by chance, some never.
//! 3. **Figures** (`map.rs`), at the end: the share of 2 MiB blocks that hold a page that cannot be
//!    moved (target: at most 12 %), the least share that could hold them, and how many 1 GiB
//!    superblocks hold none; and a picture, one small square a block.
//! 4. **What it leaves out.** Nobody reclaims or moves pages: this is placement alone.

mod load;
mod map;

use load::Load;
use map::Map;
use std::process::exit;
use std::time::Instant;

const HELP: &str = "bench frag: how far unmovable pages spread over blocks

  --ops N      operations, by default 100000000
  --gib N      memory, by default 16
  --fill N     percent of memory that is in use on average, by default 85
  --seed N     of the load, by default 1
  --svg FILE   where to draw the map of blocks; by default nowhere
  --json       one JSON object";

/// At most so many percent of the blocks hold unmovable pages.
const TARGET_PERCENT: f64 = 12.0;

struct Options {
    ops: u64,
    gib: u64,
    fill: u64,
    seed: u64,
    svg: Option<String>,
    json: bool,
}

fn main() {
    let options = options();
    let start = Instant::now();
    let mut load = Load::new((options.gib << 30) as usize, options.fill, options.seed);
    load.run(options.ops);
    let elapsed = start.elapsed();
    let map = load.map();
    let (tainted, least, clean) = (
        map.tainted_percent(),
        map.least_percent(),
        map.clean_superblocks(),
    );
    let huge = load.huge_percent();
    let met = tainted <= TARGET_PERCENT;
    if options.json {
        println!(
            "{{\"bench\":\"frag\",\"ops\":{},\"gib\":{},\"seed\":{},\"used_percent\":{:.1},\
             \"unmovable_percent\":{:.2},\"tainted_blocks_percent\":{tainted:.2},\
             \"least_percent\":{least:.2},\"target_percent\":{TARGET_PERCENT},\"met\":{met},\
             \"superblocks\":{},\"superblocks_without\":{clean},\
             \"huge_served_percent\":{huge:.1}}}",
            options.ops,
            options.gib,
            options.seed,
            map.used_percent(),
            map.unmovable_percent(),
            map.superblocks(),
        );
    } else {
        println!(
            "{} operations on {} GiB in {:.1} s, seed {}: {:.1} % of memory is in use, {:.2} % of \
             it unmovable",
            options.ops,
            options.gib,
            elapsed.as_secs_f64(),
            options.seed,
            map.used_percent(),
            map.unmovable_percent(),
        );
        println!(
            "2 MiB blocks with unmovable pages: {tainted:.2} % (no fewer than {least:.2} % could \
             be; target {TARGET_PERCENT} %: {})",
            if met { "met" } else { "MISS" },
        );
        println!(
            "1 GiB superblocks without any: {clean} of {}",
            map.superblocks()
        );
        println!("requests for 2 MiB that were served: {huge:.1} %");
    }
    if let Some(file) = &options.svg {
        draw(&map, file, options.json);
    }
}

fn draw(map: &Map, file: &str, json: bool) {
    if let Err(error) = std::fs::write(file, map.svg()) {
        eprintln!("bench frag: {file}: {error}");
        exit(1);
    }
    if !json {
        println!("map of blocks: {file}");
    }
}

fn options() -> Options {
    let mut options = Options {
        ops: 100_000_000,
        gib: 16,
        fill: 85,
        seed: 1,
        svg: None,
        json: false,
    };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().unwrap_or_else(|| wrong(&arg));
        let mut number = |least| match value().parse() {
            Ok(n) if n >= least => n,
            _ => wrong(&arg),
        };
        match arg.as_str() {
            "--ops" => options.ops = number(1),
            "--gib" => options.gib = number(1),
            "--fill" => options.fill = number(20).min(99),
            "--seed" => options.seed = number(0),
            "--svg" => options.svg = Some(value()),
            "--json" => options.json = true,
            "--help" | "-h" => {
                println!("{HELP}");
                exit(0);
            }
            _ => wrong(&arg),
        }
    }
    options
}

fn wrong(what: &str) -> ! {
    eprintln!("bench frag: {what}: not understood\n\n{HELP}");
    exit(2);
}
