//! What each operation costs, in instructions.
//!
//! 1. **Unit.** Under QEMU's `-icount shift=0` each instruction takes one tick of the time stamp
//!    counter, so a difference of two readings is a count, the same in each run. On anything else
//!    the figures are cycles of whatever the counter counts.
//! 2. **Method.** One CPU, no interrupts due, everything warm: one round is thrown away, and the
//!    median of three is taken. What an empty loop costs is taken off.
//! 3. **Names** are those that the project's measurements of Linux use, so that rows can be put
//!    side by side.
//! 4. **Output.** One JSON object a line: `bench`, `cpus`, `ours_instructions`.

mod rows;

use crate::arch::exit::{Outcome, exit};
use crate::arch::{cpu::rdtsc, smp, time};
use crate::println;

const ROUNDS: usize = 3;

/// Where rows are printed; those whose name does not contain the filter are not run.
struct Report<'a> {
    filter: &'a str,
    rows: usize,
}

/// Runs all rows whose names contain `filter`, and ends the machine.
pub fn run(filter: &str) -> ! {
    time::timer_hz(0);
    let mut report = Report { filter, rows: 0 };
    rows::all(&mut report);
    if report.rows == 0 {
        println!("no benchmark is called like `{filter}`");
    }
    exit(if report.rows > 0 {
        Outcome::Passed
    } else {
        Outcome::Failed
    })
}

/// The instructions that `n` calls of `f` take, with the loop and the calls. Never inlined, and
/// `f` behind a table: what is around the operation is the same for all of them, an empty one too.
#[inline(never)]
fn ticks(n: usize, f: &mut dyn FnMut(usize)) -> u64 {
    let from = rdtsc();
    for i in 0..n {
        f(i);
    }
    rdtsc() - from
}

/// What [`ticks`] itself takes.
fn empty(n: usize) -> u64 {
    ticks(n, core::hint::black_box(&mut |_| ()))
}

fn median(mut of: [u64; ROUNDS]) -> u64 {
    of.sort_unstable();
    of[ROUNDS / 2]
}

impl Report<'_> {
    fn wants(&self, name: &str) -> bool {
        name.contains(self.filter)
    }

    /// A row: `total` instructions for `operations` of them.
    fn row(&mut self, name: &str, total: u64, operations: usize) {
        self.rows += 1;
        let hundredths = (total * 100 + operations as u64 / 2) / operations as u64;
        let (whole, part) = (hundredths / 100, hundredths % 100);
        let cpus = smp::count();
        println!(
            "{{\"bench\":\"{name}\",\"cpus\":{cpus},\"ours_instructions\":{whole}.{part:02}}}"
        );
    }

    /// `n` times one operation, and its undoing.
    fn pairs(&mut self, name: &str, n: usize, f: &mut dyn FnMut(usize)) {
        if !self.wants(name) {
            return;
        }
        let empty = empty(n);
        ticks(n, f);
        let total = median(core::array::from_fn(|_| ticks(n, f)));
        self.row(name, total.saturating_sub(empty), n);
    }

    /// `n` times one operation, then `n` times another: each of them, and both together.
    fn halves(
        &mut self,
        name: &str,
        n: usize,
        first: &mut dyn FnMut(usize),
        second: &mut dyn FnMut(usize),
    ) {
        if !self.wants(name) {
            return;
        }
        let empty = empty(n);
        let mut both = [[0; ROUNDS]; 2];
        for round in 0..=ROUNDS {
            let one = ticks(n, first).saturating_sub(empty);
            let two = ticks(n, second).saturating_sub(empty);
            if round > 0 {
                both[0][round - 1] = one;
                both[1][round - 1] = two;
            }
        }
        let [one, two] = both.map(median);
        self.row(&alloc::format!("{name}.alloc"), one, n);
        self.row(&alloc::format!("{name}.free"), two, n);
        self.row(name, one + two, n);
    }
}
