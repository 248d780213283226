//! The CPUs that a process can have, side by side: `cargo xtask bench percpu`.
//!
//! 1. **Sides.** Thread-bound slots, the default; places of processors that are claimed by a
//!    restartable sequence, by processor and by compact id (`rseq-cpu`, `rseq-cid`); and beside
//!    them what they compete with: the whole operation as one sequence (`sequence-cpu`,
//!    `sequence-cid`), a try-lock and a mutex for each processor, one locked
//!    compare-and-exchange, and an array of the thread's own.
//! 2. **Rows.** `section`: enter and leave. `pair`: pop and push, each under a section of its own.
//!    `page`: a page from the page allocator and back. `held`: pages in private caches after
//!    many threads have freed. `drain`: another CPU's place, from outside, with nobody and with
//!    three threads inside and out.
//! 3. **How.** As `bench page`: rounds in which each side does its part, on the same threads, in
//!    CPU time; the figure is the median of rounds and threads. With more threads than
//!    processors a part is longer than a time slice, so that threads are preempted inside.
//! 4. **Guests.** The share of entries that found their place taken, by a thread that did not run
//!    or had moved.

#[path = "../bench_page/floor.rs"]
mod floor;
#[path = "../bench_page/pace.rs"]
mod pace;

mod held;
mod measure;
mod options;
mod pairs;
mod report;
mod sides;

use options::Options;
use report::Printer;
use sides::Machines;

fn main() {
    let options = Options::from_args();
    let printer = Printer::new(&options);
    let machines = Machines::new(&options);
    printer.head();
    for (row, turns) in pairs::rows(&machines) {
        if !options.picks(row) {
            continue;
        }
        for &threads in &options.threads {
            printer.times(row, &measure::measure(&turns, &options.scale(threads)));
        }
    }
    if options.picks("percpu/held") {
        for side in machines.allocators() {
            printer.held(side.name, &held::held(side, options.held_threads()));
        }
    }
    if options.picks("percpu/drain") {
        for side in &machines.sides {
            for running in [0, 3] {
                printer.drain(side.name, running, held::drain(side, running, &options));
            }
        }
    }
}
