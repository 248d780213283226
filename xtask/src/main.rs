//! `cargo xtask`: the project's own chores, in Rust.
//!
//! 1. **One test command.** `cargo xtask test` is what a contributor, the README and CI run. It is
//!    a list of steps; each prints its time, and the first that fails prints one command that
//!    repeats just it.
//! 2. **Rules that are executed.** `tidy` holds the style rules that a compiler does not, `parity`
//!    the table of what of Linux is supported. Both are pure functions over file contents, so each
//!    rule has a unit test that shows it can fail.
//! 3. **Real programs.** `e2e` runs unmodified programs with and without gfp and compares what they
//!    print.
//! 4. **What is not here:** nothing that a user of the library needs; this crate is never
//!    published.
//!
//! | module | what |
//! |---|---|
//! | [`shell`] | the repository, running commands, steps with their time |
//! | [`watchdog`] | a bound on the time of one command; what hung, when one does |
//! | [`tools`] | which tools of the machine are needed, and how to get them |
//! | [`gate`] | the test command |
//! | [`tidy`] | style rules and ratchets |
//! | [`parity`] | `docs/parity.toml` and the table in the book |
//! | [`loom`] | models of lock-free protocols |
//! | [`sanitize`] | ASan, TSan, Miri, fuzzing |
//! | [`sim`] | simulated machines |
//! | [`mod@bench`] | benchmarks beside peers |
//! | [`e2e`] | real programs under `gfp run` |
//! | [`vm`] | the kernel in virtual machines; what its operations cost |

mod bench;
mod e2e;
mod gate;
mod loom;
mod parity;
mod sanitize;
mod shell;
mod sim;
mod tidy;
mod tools;
mod vm;
mod watchdog;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use std::process::ExitCode;

use shell::Repo;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The project's own chores")]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Everything that must hold before a change goes in: formatting, lints, tests, tidy, parity,
    /// short e2e
    Test,
    /// Style rules and ratchets
    Tidy(BlessArgs),
    /// docs/parity.toml: every name of the spec has a status, a test, and a row in the book
    Parity(BlessArgs),
    /// Real programs, with and without gfp: their output must not differ
    E2e(e2e::Options),
    /// The kernel's tests in virtual machines, its negative controls, and the instructions of its
    /// operations against the recorded ones
    VmTest(vm::Options),
    /// The models of lock-free protocols, every interleaving
    Loom,
    /// The hosted tests under AddressSanitizer (nightly)
    Asan,
    /// The hosted tests under ThreadSanitizer (nightly)
    Tsan,
    /// The core's tests under Miri (nightly, where the component is installed)
    Miri,
    /// One fuzz target, or all of them one after the other (nightly)
    Fuzz(sanitize::FuzzOptions),
    /// A benchmark, side by side with its peers
    Bench(bench::Options),
    /// Simulated machines: many seeds, or one again
    Sim(sim::Options),
    /// Install the system packages that the tests use
    InstallTools,
}

#[derive(Args)]
struct BlessArgs {
    /// Write what was found: ratchets only downwards, generated pages as they must be
    #[arg(long)]
    bless: bool,
}

fn run(cli: Cli) -> Result<()> {
    let repo = Repo::find()?;
    match cli.chore {
        Chore::Test => gate::run(&repo),
        Chore::Tidy(args) => tidy::run(&repo, args.bless.into()),
        Chore::Parity(args) => parity::run(&repo, args.bless.into()),
        Chore::E2e(options) => e2e::run(&repo, &options),
        Chore::VmTest(options) => vm::run(&repo, &options).map(|_| ()),
        Chore::Loom => loom::run(&repo).map(|_| ()),
        Chore::Asan => sanitize::asan(&repo),
        Chore::Tsan => sanitize::tsan(&repo),
        Chore::Miri => sanitize::miri(&repo),
        Chore::Fuzz(options) => sanitize::fuzz(&repo, &options),
        Chore::Bench(options) => bench::run(&repo, &options),
        Chore::Sim(options) => sim::run(&repo, &options),
        Chore::InstallTools => tools::provide(tools::Need::Everything),
    }
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
