//! Runs that need a nightly toolchain: AddressSanitizer, ThreadSanitizer, Miri, fuzzing.
//!
//! 1. ThreadSanitizer refuses the precompiled std unless told that the ABI mismatch is meant; the
//!    std stays uninstrumented, so its own fences are not seen: `--cfg gfp_tsan` turns ours into
//!    loads.
//! 2. Doc tests are left out: rustdoc does not pass the sanitizer on.
//! 3. Fuzzing needs no cargo-fuzz: the coverage pass of the compiler and `libfuzzer-sys` are
//!    enough.

use anyhow::{Context, Result, bail};
use clap::Args;
use std::path::Path;
use std::process::Command;

use crate::shell::{self, Repo, step};

/// The only target whose sanitizer runtimes we use.
const TARGET: &str = "x86_64-unknown-linux-gnu";
const ADDRESS: &str = "-Zsanitizer=address";
const THREAD: &str = "-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer --cfg gfp_tsan";
/// Edge counters, the table of program counters, and comparisons: what libFuzzer feeds on.
const COVERAGE: &str = "--cfg fuzzing -Cdebug-assertions -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares";
/// Targets that bring a `malloc` of their own, where AddressSanitizer would bring another.
const OWN_MALLOC: &[&str] = &["malloc_abi"];
/// The budget of a target that lives on gfp: ample for libFuzzer, small enough to be used up.
const FUZZ_MEMORY_BYTES: u64 = 1 << 30;

#[derive(Args)]
pub(crate) struct FuzzOptions {
    /// A file name in fuzz/fuzz_targets, without .rs; all of them if left out
    target: Option<String>,
    /// Seconds for each target
    #[arg(long, default_value_t = 60)]
    seconds: u32,
}

fn need_nightly() -> Result<()> {
    if !shell::succeeds(Path::new("cargo"), &["+nightly", "--version"]) {
        bail!(
            "no nightly toolchain; get it with: rustup toolchain install nightly --profile minimal"
        );
    }
    Ok(())
}

fn hosted_tests(repo: &Repo, name: &str, flags: &str, options: &[(&str, &str)]) -> Result<()> {
    need_nightly()?;
    step(name, &format!("cargo xtask {name}"), || {
        let mut command = repo.cargo_nightly(&["test", "--target", TARGET, "--lib", "--tests"]);
        command.args(["-p", "gfp", "-p", "gfp-host", "-p", "gfp-malloc"]);
        command.arg("--target-dir").arg(repo.target.join(name));
        command.env("RUSTFLAGS", flags);
        command.envs(options.iter().copied());
        shell::run_without_limit(&mut command)
    })
}

/// The hosted tests under AddressSanitizer, leaks included.
pub(crate) fn asan(repo: &Repo) -> Result<()> {
    let known = repo.root.join("xtask/lsan-suppressions.txt");
    let leaks = format!("suppressions={}", known.display());
    let options = [("ASAN_OPTIONS", "detect_leaks=1"), ("LSAN_OPTIONS", &leaks)];
    hosted_tests(repo, "asan", ADDRESS, &options)
}

/// The hosted tests under ThreadSanitizer.
pub(crate) fn tsan(repo: &Repo) -> Result<()> {
    let known = repo.root.join("xtask/tsan-suppressions.txt");
    let options = format!("suppressions={}", known.display());
    // What tests print in threads would be kept under a lock of std, which is not instrumented.
    let aloud = ("RUST_TEST_NOCAPTURE", "1");
    hosted_tests(repo, "tsan", THREAD, &[("TSAN_OPTIONS", &options), aloud])
}

/// The core's tests under Miri with strict provenance; where the component is missing, one line
/// says so.
pub(crate) fn miri(repo: &Repo) -> Result<()> {
    need_nightly()?;
    if !shell::succeeds(Path::new("cargo"), &["+nightly", "miri", "--version"]) {
        println!(
            "miri: NOT RUN, the component is not installed; get it with: \
             rustup +nightly component add miri rust-src"
        );
        return Ok(());
    }
    step("miri", "cargo xtask miri", || {
        let mut command = repo.cargo_nightly(&["miri", "test", "-p", "gfp", "--lib"]);
        command.arg("--target-dir").arg(repo.target.join("miri"));
        shell::run_without_limit(command.env("MIRIFLAGS", "-Zmiri-strict-provenance"))
    })
}

/// Builds the fuzz crate with coverage and runs its targets for a bounded time each.
pub(crate) fn fuzz(repo: &Repo, options: &FuzzOptions) -> Result<()> {
    need_nightly()?;
    let all = targets(&repo.root.join("fuzz/fuzz_targets"))?;
    let chosen: Vec<_> = match &options.target {
        Some(name) if all.contains(name) => vec![name.clone()],
        Some(name) => bail!("no fuzz target `{name}`; there are: {}", all.join(", ")),
        None => all,
    };
    for name in chosen {
        let repeat = format!("cargo xtask fuzz {name} --seconds {}", options.seconds);
        step(&format!("fuzz {name}"), &repeat, || {
            fuzz_one(repo, &name, options.seconds)
        })?;
    }
    Ok(())
}

fn fuzz_one(repo: &Repo, name: &str, seconds: u32) -> Result<()> {
    let own_malloc = OWN_MALLOC.contains(&name);
    let (folder, flags) = if own_malloc {
        ("fuzz-plain", COVERAGE.to_owned())
    } else {
        ("fuzz-asan", format!("{ADDRESS} {COVERAGE}"))
    };
    let target_dir = repo.target.join(folder);
    let mut build = repo.cargo_nightly(&["build", "--release", "--target", TARGET, "--bin", name]);
    build
        .current_dir(repo.root.join("fuzz"))
        .arg("--target-dir")
        .arg(&target_dir);
    shell::run_without_limit(build.env("RUSTFLAGS", flags))?;
    // libFuzzer adds what it finds to the first folder; the committed corpus is only read.
    let found = target_dir.join("found").join(name);
    let artifacts = target_dir.join("artifacts").join(name);
    std::fs::create_dir_all(&found)?;
    std::fs::create_dir_all(&artifacts)?;
    let mut run = Command::new(target_dir.join(TARGET).join("release").join(name));
    run.arg(&found);
    let corpus = repo.root.join("fuzz/corpus").join(name);
    if corpus.is_dir() {
        run.arg(corpus);
    }
    run.arg(format!("-max_total_time={seconds}"))
        .arg("-print_final_stats=1");
    run.env("GFP_MEMORY", FUZZ_MEMORY_BYTES.to_string());
    run.arg(format!("-artifact_prefix={}/", artifacts.display()));
    shell::run_without_limit(&mut run).with_context(|| {
        let program = run.get_program().to_string_lossy().into_owned();
        format!(
            "repeat the crash with: {program} {}/crash-...",
            artifacts.display()
        )
    })
}

/// Names of the fuzz targets, sorted.
fn targets(folder: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(
                path.file_stem()
                    .map(|stem| stem.to_string_lossy().into_owned()),
            );
        }
    }
    names.sort();
    Ok(names)
}
