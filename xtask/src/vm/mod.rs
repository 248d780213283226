//! `cargo xtask vm-test`: the kernel in several machines, its negative controls, its costs.
//!
//! 1. **Concepts.** A *machine* is a way to call `gfp boot`; its tests print a closing line
//!    `N passed, N failed`. A *negative control* takes one check of the kernel out and must make
//!    the tests fail that exist for it. The *ratchet* holds the instructions of each operation.
//! 2. **Order.** Machines, the smallest kernel, the time to the first allocation, controls, the
//!    ratchet. All run, whatever fails; then the sum of everything is the closing line, where
//!    each that is not a machine counts as one test.
//! 3. **Failure.** Each part names the command that repeats it. A machine that hangs is killed by
//!    `gfp boot`, and if that hangs, by the watch on each command.
//! 4. **Not done here.** Judging a run by its status and lines: `gfp boot` does that for all its
//!    users.
//!
//! | module | what |
//! |---|---|
//! | [`controls`] | the table of controls, and what each must break |
//! | [`instructions`] | counts of instructions against the recorded ones |

mod controls;
mod instructions;

use anyhow::{Result, bail};
use clap::Args;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::shell::{self, Bless, Repo};
use crate::tools::{self, Need};
pub(crate) use instructions::bench;

#[derive(Args, Default)]
pub(crate) struct Options {
    /// Only tests and controls whose names contain this
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// The first machine only, and no controls
    #[arg(long)]
    quick: bool,
}

/// Tests counted inside machines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl Sum {
    fn one(good: bool) -> Sum {
        Sum {
            passed: good.into(),
            failed: (!good).into(),
        }
    }

    fn add(&mut self, other: Sum) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// A machine to run the tests in.
struct Machine {
    name: &'static str,
    args: &'static [&'static str],
}

const MACHINES: [Machine; 3] = [
    Machine {
        name: "4 CPUs, 2 nodes, a memory module",
        args: &["--cpus", "4", "--numa", "2", "--dimm", "256M"],
    },
    Machine {
        name: "1 CPU",
        args: &["--cpus", "1"],
    },
    Machine {
        name: "64 GiB of memory",
        args: &["--memory", "64G"],
    },
];

/// Needs an area from the command line. Tests that fill zones reckon with none, so it has a machine
/// of its own.
const AREA_TEST: &str = "contig::the_area_of_the_command_line_is_there";

/// Guest time from entry to the first allocation, with 64 GiB.
const FIRST_ALLOCATION_US_MAX: u64 = 5_000;

/// Builds `gfp`; the path of the command.
fn build_gfp(repo: &Repo) -> Result<PathBuf> {
    shell::run(&mut repo.cargo(&["build", "--release", "-p", "gfp-cli"]))?;
    Ok(repo.target.join("release/gfp"))
}

/// `gfp boot`, in the checkout.
fn boot(repo: &Repo, gfp: &Path) -> Command {
    let mut command = Command::new(gfp);
    command.arg("boot").current_dir(&repo.root);
    command
}

/// How a user repeats it.
fn repeat(args: &[&str]) -> String {
    format!("cargo run --release -- boot {}", args.join(" "))
}

/// Runs everything that the options pick; an error if anything failed.
pub(crate) fn run(repo: &Repo, options: &Options) -> Result<Sum> {
    let start = Instant::now();
    tools::provide(Need::Machine)?;
    let gfp = build_gfp(repo)?;
    let mut sum = Sum::default();
    let machines = if options.quick {
        &MACHINES[..1]
    } else {
        &MACHINES
    };
    let mut skipped: Option<Vec<String>> = None;
    for machine in machines {
        let (result, here) = run_machine(repo, &gfp, machine, options.filter.as_deref())?;
        sum.add(result);
        skipped = Some(match skipped {
            None => here,
            Some(before) => before.into_iter().filter(|t| here.contains(t)).collect(),
        });
    }
    if !options.quick {
        let mut skipped = skipped.unwrap_or_default();
        let wanted = |text: &str| AREA_TEST.contains(text);
        if options.filter.as_deref().is_none_or(wanted) {
            skipped.retain(|test| test != AREA_TEST);
            sum.add(run_with_area(repo, &gfp)?);
        }
        for test in skipped {
            println!("FAILED: no machine has what {test} needs");
            sum.add(Sum::one(false));
        }
    }
    if options.filter.is_none() && !options.quick {
        sum.add(run_smallest(repo, &gfp)?);
        sum.add(run_first_allocation(repo, &gfp)?);
    }
    if !options.quick {
        sum.add(controls::run(repo, &gfp, options.filter.as_deref())?);
    }
    if options.filter.is_none() {
        println!("\n==> instructions of each operation");
        let compared = instructions::run(repo, &gfp, Bless::No);
        if let Err(error) = &compared {
            println!("{error:#}\nrepeat it with:  cargo xtask bench kernel");
        }
        sum.add(Sum::one(compared.is_ok()));
    }
    println!(
        "\nvm-test: {}\n{} passed, {} failed",
        shell::show_time(start.elapsed()),
        sum.passed,
        sum.failed
    );
    if sum == Sum::default() {
        bail!("vm-test: no test and no control is called so");
    }
    if sum.failed > 0 {
        bail!("vm-test: {} failed", sum.failed);
    }
    Ok(sum)
}

/// One test in a machine with an area for contiguous allocations.
fn run_with_area(repo: &Repo, gfp: &Path) -> Result<Sum> {
    let machine = Machine {
        name: "an area for contiguous allocations",
        args: &["--cpus", "1", "--cma", "32M"],
    };
    let (sum, skipped) = run_machine(repo, gfp, &machine, Some(AREA_TEST))?;
    Ok(Sum::one(sum == Sum::one(true) && skipped.is_empty()))
}

/// The tests in one machine; also those that found that the machine lacks what they need.
fn run_machine(
    repo: &Repo,
    gfp: &Path,
    machine: &Machine,
    filter: Option<&str>,
) -> Result<(Sum, Vec<String>)> {
    let mut args = vec!["--test"];
    args.extend(machine.args);
    if let Some(filter) = filter {
        args.extend(["--filter", filter]);
    }
    println!("\n==> tests in a machine: {}", machine.name);
    let start = Instant::now();
    let (status, lines) = shell::run_and_show(boot(repo, gfp).args(&args))?;
    let none_matches = lines.iter().rev().find_map(|line| closing(line)) == Some(Sum::default());
    if none_matches && filter.is_some() {
        println!("no test in the machine is called so");
        return Ok((Sum::default(), Vec::new()));
    }
    let sum = count(&lines, status.success());
    if sum.failed > 0 {
        println!("repeat it with:  {}", repeat(&args));
    }
    println!(
        "<== {}: {}, {}",
        machine.name,
        if sum.failed == 0 { "ok" } else { "FAILED" },
        shell::show_time(start.elapsed())
    );
    Ok((sum, skipped(&lines)))
}

/// The tests that said `needs ...`: a machine without it shows nothing about them. What a test says
/// comes before the line of its end; the line of its beginning is not shown by all of `gfp boot`.
fn skipped(lines: &[String]) -> Vec<String> {
    let mut needs = false;
    let mut found = Vec::new();
    for line in lines {
        needs |= line.starts_with("    needs ");
        let ended = line
            .strip_prefix("test ")
            .and_then(|l| l.split_once(" ... "));
        if let Some((test, _)) = ended
            && std::mem::take(&mut needs)
        {
            found.push(test.to_owned());
        }
    }
    found
}

/// The smallest kernel boots and ends well.
fn run_smallest(repo: &Repo, gfp: &Path) -> Result<Sum> {
    const ARGS: [&str; 2] = ["--example", "smallest"];
    println!("\n==> the smallest kernel");
    let (status, _) = shell::run_and_show(boot(repo, gfp).args(ARGS))?;
    if !status.success() {
        println!("FAILED; repeat it with:  {}", repeat(&ARGS));
    }
    Ok(Sum::one(status.success()))
}

/// The first allocation comes soon enough, with much memory to take in. An instruction counts as a
/// nanosecond, so the time is the same on every host.
fn run_first_allocation(repo: &Repo, gfp: &Path) -> Result<Sum> {
    const ARGS: [&str; 7] = [
        "--bench",
        "--memory",
        "64G",
        "--filter",
        "section",
        "--timeout",
        "120",
    ];
    println!("\n==> boot to first allocation, 64 GiB");
    let log = repo.target.join("vm-test-first-allocation.log");
    let mut command = boot(repo, gfp);
    command.args(ARGS).stderr(File::create(&log)?);
    let (status, _) = shell::run_and_capture(&mut command)?;
    let said = fs::read_to_string(&log)?;
    let time = said.lines().find_map(first_allocation_us);
    let good = status.success() && time.is_some_and(|us| us <= FIRST_ALLOCATION_US_MAX);
    match time {
        Some(us) => println!("{us} us, at most {FIRST_ALLOCATION_US_MAX} us are allowed"),
        None => println!("the kernel did not say when\n{said}"),
    }
    if !good {
        println!("FAILED; repeat it with:  {}", repeat(&ARGS));
    }
    Ok(Sum::one(good))
}

/// Reads `boot: first allocation after N us`.
fn first_allocation_us(line: &str) -> Option<u64> {
    let time = line
        .trim_end()
        .strip_prefix("boot: first allocation after ")?;
    time.strip_suffix(" us")?.parse().ok()
}

/// Reads the closing line. A run that did not end well has failed, whatever it counted.
fn count(lines: &[String], ended_well: bool) -> Sum {
    let mut sum = lines
        .iter()
        .rev()
        .find_map(|line| closing(line))
        .unwrap_or_default();
    let nothing = sum == Sum::default();
    if (!ended_well && sum.failed == 0) || nothing {
        sum.failed += 1;
    }
    sum
}

fn closing(line: &str) -> Option<Sum> {
    let (passed, failed) = line.strip_suffix(" failed")?.split_once(" passed, ")?;
    Some(Sum {
        passed: passed.parse().ok()?,
        failed: failed.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(text: &str, ended_well: bool) -> (u64, u64) {
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let sum = count(&lines, ended_well);
        (sum.passed, sum.failed)
    }

    #[test]
    fn closing_lines_count_and_a_bad_end_is_a_failure() {
        assert_eq!(counted("test a ... ok\n40 passed, 0 failed", true), (40, 0));
        assert_eq!(counted("39 passed, 1 failed", false), (39, 1));
        assert_eq!(counted("40 passed, 0 failed", false), (40, 1));
        assert_eq!(counted("test a ... ok", false), (0, 1));
        assert_eq!(counted("", true), (0, 1));
        assert_eq!(counted("0 passed, 0 failed", true), (0, 1));
    }

    #[test]
    fn tests_that_lack_something_are_told_apart() {
        let text = "test a::b ... ok\n    needs two nodes: this machine has none\n\
                    test a::c ... ok\ntest a::d ...\ntest a::d ... ok\n    needs a fan: it broke";
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        assert_eq!(skipped(&lines), ["a::c"]);
    }

    #[test]
    fn the_time_of_the_first_allocation_is_read() {
        let line = "boot: first allocation after 37146 us";
        assert_eq!(first_allocation_us(line), Some(37146));
        assert_eq!(first_allocation_us("boot: 4 CPUs after 37146 us"), None);
    }
}
