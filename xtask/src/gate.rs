//! The test command: what must hold before a change goes in, cheapest first.

use anyhow::Result;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use crate::bench;
use crate::e2e;
use crate::loom;
use crate::parity;
use crate::shell::{self, Bless, Repo, step};
use crate::sim;
use crate::tidy;
use crate::tools::{self, Need};
use crate::vm;

/// Runs every step; stops at the first that fails. At the end, the totals of cargo's test runs.
pub(crate) fn run(repo: &Repo) -> Result<()> {
    let start = Instant::now();
    step("tools", "cargo xtask install-tools", || {
        tools::provide(Need::Test)
    })?;
    step(
        "format",
        "cargo fmt --all && cargo fmt --manifest-path fuzz/Cargo.toml",
        || {
            shell::run(&mut repo.cargo(&["fmt", "--all", "--check"]))?;
            let fuzz = &["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"];
            shell::run(&mut repo.cargo(fuzz))
        },
    )?;
    step("tidy", "cargo xtask tidy", || tidy::run(repo, Bless::No))?;
    step("parity", "cargo xtask parity", || {
        parity::run(repo, Bless::No)
    })?;
    const CLIPPY: &[&str] = &[
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ];
    step(
        "clippy",
        "cargo clippy --workspace --all-targets -- -D warnings",
        || shell::run(&mut repo.cargo(CLIPPY)),
    )?;
    const DOC_FLAGS: &str = "-D warnings -A rustdoc::private_intra_doc_links";
    let line = "cargo doc --workspace --no-deps";
    let repeat = format!("RUSTDOCFLAGS='{DOC_FLAGS}' {line}");
    step(line, &repeat, || {
        let mut doc = repo.cargo(&["doc", "--workspace", "--no-deps"]);
        shell::run(doc.env("RUSTDOCFLAGS", DOC_FLAGS))
    })?;
    bare_metal(repo)?;
    // What the kernel's image has and a hosted build has not.
    let image = "clippy -p gfp-kernel --bin gfp-kernel --profile kernel -- --cfg image -D warnings";
    step("clippy of the image", &format!("cargo {image}"), || {
        let args: Vec<&str> = image.split(' ').collect();
        shell::run(&mut repo.cargo(&args))
    })?;
    let build = &["build", "--release", "--workspace"];
    step(
        "build --release",
        "cargo build --release --workspace",
        || shell::run(&mut repo.cargo(build)),
    )?;
    let mut results = Vec::new();
    for args in [
        &["test", "--workspace"][..],
        &["test", "--workspace", "--release", "--lib", "--tests"],
        &["test", "-p", "gfp", "--all-features", "--lib", "allocator"],
    ] {
        let line = format!("cargo {}", args.join(" "));
        results.extend(step(&line, &line, || {
            shell::run_and_keep(&mut repo.cargo(args), |line| {
                line.starts_with("test result:")
            })
        })?);
    }
    results.extend(loom::run(repo)?);
    for gate in sim::GATE {
        let line = format!("cargo xtask sim {}", gate.join(" "));
        step(&line, &line, || sim::gate(repo, &gate))?;
    }
    let smoke = "cargo xtask bench page --quick";
    step(smoke, smoke, || bench::page_smoke(repo))?;
    let smoke = "cargo xtask bench percpu --quick";
    step(smoke, smoke, || bench::percpu_smoke(repo))?;
    let machines = step("vm-test", "cargo xtask vm-test", || {
        vm::run(repo, &vm::Options::default())
    })?;
    step("e2e --short", "cargo xtask e2e --short", || {
        e2e::run(repo, &e2e::Options::short())
    })?;

    let (passed, failed, ignored) = totals(&results);
    println!("\n==> closing lines of cargo test");
    results
        .iter()
        .filter(|line| !line.contains(" 0 passed;"))
        .for_each(|line| println!("{line}"));
    println!(
        "\nin virtual machines: {} passed; {} failed",
        machines.passed, machines.failed
    );
    println!(
        "all tests: {} passed; {} failed; {ignored} ignored",
        passed + machines.passed,
        failed + machines.failed
    );
    println!(
        "cargo xtask test: ok, {}",
        shell::show_time(start.elapsed())
    );
    Ok(())
}

/// The library for a target without an operating system, where that target is installed; that it
/// needs none is shown by the kernel's image in any case.
fn bare_metal(repo: &Repo) -> Result<()> {
    const TARGET: &str = "x86_64-unknown-none";
    let folder = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", TARGET])
        .output()?;
    let folder = String::from_utf8_lossy(&folder.stdout).trim().to_owned();
    if folder.is_empty() || !Path::new(&folder).is_dir() {
        println!("\n{TARGET} is not installed here: not built for it");
        return Ok(());
    }
    let line = format!("cargo build -p gfp --target {TARGET}");
    step(&line, &line, || {
        shell::run(&mut repo.cargo(&["build", "-p", "gfp", "--target", TARGET]))
    })
}

/// Sums cargo's closing lines: passed, failed, ignored.
fn totals(results: &[String]) -> (u64, u64, u64) {
    let count = |line: &str, word: &str| -> u64 {
        let before = line.split(word).next().unwrap_or("");
        let digits = before.trim_end().rsplit(' ').next().unwrap_or("");
        digits.parse().unwrap_or(0)
    };
    results
        .iter()
        .fold((0, 0, 0), |(passed, failed, ignored), line| {
            (
                passed + count(line, " passed"),
                failed + count(line, " failed"),
                ignored + count(line, " ignored"),
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_summed() {
        let line = "test result: ok. 12 passed; 1 failed; 3 ignored; 0 measured; 0 filtered out; \
                    finished in 0.01s";
        assert_eq!(totals(&[line.into(), line.into()]), (24, 2, 6));
        assert_eq!(totals(&[]), (0, 0, 0));
    }
}
