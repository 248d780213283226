//! The page allocator beside its peers: `cargo xtask bench page`.
//!
//! 1. **One run.** All sides stand in one process, each over addresses of its own that are reserved
//!    and never touched. Every round lets each side do its part, one after the other, on the same
//!    threads; the figure is the median of all rounds and threads. So ratios hold where times
//!    drift.
//! 2. **Sides** (`side.rs`, `peers.rs`): gfp's [`PageAllocator`](gfp::page::PageAllocator); the
//!    crates `frame-alloc` (bare, and behind its own cache) and `buddy_system_allocator` behind a
//!    mutex. **Floors** (`floor.rs`): one locked compare-and-exchange that nobody contends for, and
//!    push and pop on an array of the thread's own.
//! 3. **Time** is CPU time of the thread: waiting for a processor that other programs use does not
//!    count. Neither does sleeping on a mutex, which is in favour of the peer that has one;
//!    spinning counts. `--wall` measures by the clock on the wall, on a machine with nothing else
//!    to do.
//! 4. **Rows** (`work.rs`) and their targets (`rows.rs`): what is got and put, how much, how
//!    fragmented memory is made.
//! 5. **Settings of gfp**: see [`SETTINGS`], which the table prints.

mod floor;
mod measure;
mod options;
mod pace;
mod peers;
mod report;
mod rows;
mod side;
mod work;

use measure::{Scale, measure};
use options::Options;
use report::{Measured, Printer};
use rows::{GROUPS, Group, Memory};
use side::Sides;

/// What a reader must know of how gfp was set up.
const SETTINGS: &str = "gfp: PageAllocator::alloc(GFP_NOWAIT) and free; no reclaim; memory reads \
                        as zero at boot; reporting of free memory to the operating system off";

fn main() {
    let options = Options::from_args();
    let mut printer = Printer::new(&options);
    let mut sides: Option<(Memory, Sides)> = None;
    let wanted = |group: &&Group| group.rows.iter().any(|row| options.picks(row.name));
    for group in GROUPS.iter().filter(wanted) {
        let memory = group.memory.at_scale(options.scale);
        // The sides of one kind of memory serve all groups that want it; only one kind at a time.
        if sides.as_ref().is_none_or(|(of, _)| *of != memory) {
            drop(sides.take());
            printer.progress(&memory);
            sides = Some((memory, Sides::new(memory, options.peers)));
        }
        let Some((_, sides)) = &sides else { continue };
        let mut by_threads: Vec<Measured> = Vec::new();
        for &threads in &options.threads {
            let scale = Scale {
                rounds: options.rounds,
                clock: options.clock,
                ..options.scale.of(threads)
            };
            by_threads.push(measure(sides, group.work, &scale, memory.bytes()));
        }
        for row in group.rows.iter().filter(|row| options.picks(row.name)) {
            for measured in &by_threads {
                printer.row(row, measured, memory);
            }
            printer.scaling(row, &by_threads, memory);
        }
    }
    printer.end();
}
