//! What is tested inside the machine.
//!
//! 1. A test is a function that panics if something is wrong. Tests run one after the other, in the
//!    order of [`TESTS`], while timer interrupts and NMIs come all the time.
//! 2. `filter=` of the command line picks those whose name contains a text.
//! 3. The last line is `N passed, N failed`; QEMU's status says the same.

mod machine;
mod paging;
mod virtio;

use crate::arch::exit::{Outcome, exit};
use crate::boot::Options;
use crate::println;

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
const TESTS: &[&[Test]] = &[machine::TESTS, paging::TESTS, virtio::TESTS];

/// Runs the tests and ends the machine.
pub fn run(options: &Options) -> ! {
    let (mut passed, failed) = (0, 0);
    let filter = options.command.filter.unwrap_or("");
    let wanted = |test: &&Test| test.name.contains(filter);
    for test in TESTS.iter().copied().flatten().filter(wanted) {
        println!("test {} ...", test.name);
        (test.run)();
        println!("test {} ... ok", test.name);
        passed += 1;
    }
    println!("{passed} passed, {failed} failed");
    // A filter that nothing matches must not look like success.
    exit(if failed == 0 && passed > 0 {
        Outcome::Passed
    } else {
        Outcome::Failed
    })
}
