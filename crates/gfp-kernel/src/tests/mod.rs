//! What is tested inside the machine.
//!
//! 1. A test is a function that panics if something is wrong. Each runs in a task of its own, one
//!    after the other in the order of [`TESTS`]; one that dies has failed, and the run goes on.
//! 2. All the time each CPU takes timer interrupts and NMIs whose handlers allocate and free
//!    ([`disturb`]).
//!    Between tests all invariants of the library are checked; a test that wants to do that or to
//!    count frames itself asks for [`disturb::quiet`].
//! 3. `filter=` of the command line picks those whose name contains a text.
//! 4. A test that takes longer than [`LIMIT_NS`] ends the run, with what every CPU and task was
//!    doing then: what it holds would stop the others.
//! 5. Each test prints `test NAME ... ok` or `test NAME ... FAILED (why)`. The last line is
//!    `N passed, N failed`; QEMU's status says the same.

mod alloc;
mod areas;
mod at_hand;
mod bytes;
mod chain;
mod compact;
mod context;
mod contig;
mod death;
pub mod disturb;
mod faults;
mod fixture;
mod heap;
mod hotplug;
mod levels;
mod lists;
mod machine;
mod misuse;
mod nolock;
mod numa;
mod oom;
mod owners;
mod paging;
mod reclaim;
mod reporting;
mod restart;
mod restart_owned;
mod sched;
mod scopes;
mod sections;
mod shootdown;
mod start;
mod stress;
pub mod threads;
mod typed;
mod views;
mod virtio;
mod wakeups;
mod zones;

use crate::arch::exit::{Outcome, exit};
use crate::arch::{time, traps};
use crate::boot::Options;
use crate::memory::mm;
use crate::println;
use crate::sched::{Builder, report, wait_for_reaper};

/// One test.
pub struct Test {
    /// Its name: `file::function`.
    pub name: &'static str,
    /// What it does.
    pub run: fn(),
}

/// Makes the table of a file: `tests! { "machine": a, b, c }`.
macro_rules! tests {
    ($file:literal: $($name:ident),* $(,)?) => {
        pub(super) const TESTS: &[crate::tests::Test] = &[
            $(crate::tests::Test { name: concat!($file, "::", stringify!($name)), run: $name }),*
        ];
    };
}
pub(crate) use tests;

/// All tests.
const TESTS: &[&[Test]] = &[
    machine::TESTS,
    start::TESTS,
    bytes::TESTS,
    sched::TESTS,
    wakeups::TESTS,
    scopes::TESTS,
    typed::TESTS,
    nolock::TESTS,
    sections::TESTS,
    death::TESTS,
    restart::TESTS,
    restart_owned::TESTS,
    at_hand::TESTS,
    paging::TESTS,
    shootdown::TESTS,
    faults::TESTS,
    alloc::TESTS,
    misuse::TESTS,
    context::TESTS,
    heap::TESTS,
    areas::TESTS,
    views::TESTS,
    zones::TESTS,
    numa::TESTS,
    hotplug::TESTS,
    reporting::TESTS,
    stress::TESTS,
    oom::TESTS,
    reclaim::TESTS,
    lists::TESTS,
    compact::TESTS,
    levels::TESTS,
    virtio::TESTS,
    contig::TESTS,
];

/// The longest that a test may take. An emulator on a busy host needs many times what it needs
/// alone, where the longest takes some seconds.
const LIMIT_NS: u64 = 400_000_000_000;

/// Timer interrupts a second on each CPU during tests.
const TIMER_HZ: u64 = 2000;

/// Runs the tests that the command line asks for and ends the machine. In a task.
pub fn run(options: &Options) -> ! {
    let filter = options.command.filter.unwrap_or("");
    let (mut passed, mut failed) = (0, 0);
    let tests = TESTS.iter().copied().flatten();
    for test in tests.filter(|test| test.name.contains(filter)) {
        println!("test {} ...", test.name);
        match run_one(test) {
            true => passed += 1,
            false => failed += 1,
        }
        traps::ON_TIMER.set(None);
        traps::ON_NMI.set(None);
        traps::ON_DEBUG.set(None);
    }
    println!("{}", disturb::summary());
    end(passed, failed)
}

fn end(passed: u32, failed: u32) -> ! {
    println!("{passed} passed, {failed} failed");
    // A filter that nothing matches must not look like success.
    exit(match failed == 0 && passed > 0 {
        true => Outcome::Passed,
        false => Outcome::Failed,
    })
}

/// Runs a test in a task of its own, and says how it ended; true if well.
fn run_one(test: &Test) -> bool {
    threads::on_all_cpus(|_| time::timer_hz(TIMER_HZ));
    disturb::start();
    let from_ns = time::now_ns();
    let task = Builder::new(test.name).stack_bytes(128 << 10);
    let task = task.spawn(test.run).expect("memory for a test");
    if !task.wait_until_ns(from_ns + LIMIT_NS) {
        println!("test {} ... FAILED (it hangs)", test.name);
        report();
        end(0, 1)
    }
    if let Err(why) = task.join() {
        println!("test {} ... FAILED ({})", test.name, why.message());
        return false;
    }
    wait_for_reaper();
    let _quiet = disturb::quiet();
    if let Err(broken) = mm().verify() {
        println!("test {} ... FAILED (after it {broken:?})", test.name);
        return false;
    }
    println!("test {} ... ok", test.name);
    true
}
