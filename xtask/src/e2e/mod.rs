//! Real, unmodified programs under `gfp run`: what they print must not change.
//!
//! 1. **Concepts.** A *row* is a program with its input files. It runs twice, in two fresh folders:
//!    plainly, and under `gfp run`. A row with a *limit* runs under gfp only: it asks for more than
//!    it may have, and must see that as a failed allocation and go on.
//! 2. **What is compared.** Standard output and exit status, byte for byte. For `python3 -m test`,
//!    whose output holds times, the outcome: how many tests ran, which failed, how many were
//!    skipped.
//! 3. **What keeps us honest.** The report of `gfp run` must show that memory was taken from gfp: a
//!    row whose library was not loaded fails.
//! 4. **Failure.** A row that differs shows both outputs and one command that repeats it; all rows
//!    run first.
//!
//! | module | what |
//! |---|---|
//! | [`rows`] | the table of rows |
//! | [`programs`] | generated inputs: C source, SQL, git history, scripts |
//! | [`python`] | CPython's own tests and their outcome |
//! | [`exec`] | one run: time, output, a bound on time; the report |

mod exec;
mod programs;
mod python;
mod rows;

use anyhow::{Context, Result, bail};
use clap::Args;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::shell::{self, Repo};
use crate::tools::{self, Need};
use exec::{Report, Run};
use rows::{Compare, Length, Row};

#[derive(Args)]
pub(crate) struct Options {
    /// Only the rows that take a few seconds each
    #[arg(long)]
    short: bool,
    /// Only rows whose name contains this
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Print the names of the rows and stop
    #[arg(long)]
    list: bool,
    /// Take this binary in place of building ours
    #[arg(long, value_name = "FILE")]
    gfp: Option<PathBuf>,
}

impl Options {
    /// What the test command runs.
    pub(crate) fn short() -> Options {
        Options {
            short: true,
            only: None,
            list: false,
            gfp: None,
        }
    }

    fn picks(&self, row: &Row) -> bool {
        let by_length = !self.short || row.length == Length::Short;
        by_length
            && self
                .only
                .as_ref()
                .is_none_or(|name| row.name.contains(name.as_str()))
    }
}

/// Builds `gfp`, installs what is missing, and runs the rows that the options pick.
pub(crate) fn run(repo: &Repo, options: &Options) -> Result<()> {
    let only_short = options.short;
    tools::provide(if only_short {
        Need::Test
    } else {
        Need::Everything
    })?;
    let python =
        tools::python_with_tests().context("a python3 with its tests was just provided")?;
    let all = rows::all(&python)?;
    let rows: Vec<&Row> = all.iter().filter(|row| options.picks(row)).collect();
    if rows.is_empty() {
        let names: Vec<_> = all.iter().map(|row| row.name.as_str()).collect();
        bail!("no such row; there are: {}", names.join(", "));
    }
    if options.list {
        rows.iter().for_each(|row| println!("{}", row.name));
        return Ok(());
    }
    let gfp = match &options.gfp {
        Some(file) => file
            .canonicalize()
            .with_context(|| format!("find {}", file.display()))?,
        None => {
            const BUILD: &[&str] = &[
                "build",
                "--release",
                "-p",
                "gfp-cli",
                "-p",
                "gfp-malloc-preload",
            ];
            shell::run(&mut repo.cargo(BUILD))?;
            repo.target.join("release/gfp")
        }
    };
    table(&gfp, &repo.target.join("e2e"), &rows)
}

/// Runs the rows one after the other and prints one line for each.
fn table(gfp: &Path, folder: &Path, rows: &[&Row]) -> Result<()> {
    println!(
        "{:<41} {:>9} {:>9} {:>10}  result",
        "row", "plain", "gfp", "peak"
    );
    let mut failed = Vec::new();
    for row in rows {
        let once = || {
            run_row(gfp, &folder.join(&row.name), row)
                .with_context(|| format!("row {} could not run", row.name))
        };
        let mut result = once()?;
        let first = result.fault.take();
        if first.is_some() {
            // Programs that time themselves differ now and then, with gfp and without: what differs
            // twice is ours. The first difference is printed all the same.
            result = once()?;
        }
        let time = |time: Option<Duration>| time.map_or("-".to_owned(), shell::show_time);
        let peak = result.peak_bytes.map_or("-".to_owned(), |b| {
            format!("{:.1} MiB", b as f64 / 1048576.0)
        });
        let word = match (&first, &result.fault) {
            (None, _) => "ok",
            (Some(_), None) => "ok, the second time",
            (Some(_), Some(_)) => "FAILED",
        };
        let (plain, under) = (time(result.plain), time(Some(result.gfp)));
        println!("{:<41} {plain:>9} {under:>9} {peak:>10}  {word}", row.name);
        if let (Some(fault), None) = (&first, &result.fault) {
            println!("the first time: {fault}\n");
        }
        if let Some(fault) = result.fault {
            println!(
                "{fault}\nrepeat it with:  cargo xtask e2e --only {}\n",
                row.name
            );
            failed.push(row.name.clone());
        }
    }
    if !failed.is_empty() {
        bail!(
            "e2e: {} of {} rows failed: {}",
            failed.len(),
            rows.len(),
            failed.join(", ")
        );
    }
    println!("e2e: {} rows, all as without gfp", rows.len());
    Ok(())
}

/// What one row gave.
struct RowResult {
    plain: Option<Duration>,
    gfp: Duration,
    peak_bytes: Option<u64>,
    fault: Option<String>,
}

fn run_row(gfp: &Path, folder: &Path, row: &Row) -> Result<RowResult> {
    let plain = match row.compare {
        Compare::Limit { .. } => None,
        _ => Some(exec::run(
            &row.command,
            &prepare(folder, "plain", row)?,
            row,
        )?),
    };
    let inside = prepare(folder, "gfp", row)?;
    let report_file = folder.join("report.json");
    if report_file.exists() {
        fs::remove_file(&report_file)?;
    }
    let mut command = vec![gfp.display().to_string(), "run".to_owned()];
    if let Some(memory) = row.memory {
        command.extend(["--memory".to_owned(), memory.to_owned()]);
    }
    command.extend([
        "--report".to_owned(),
        report_file.display().to_string(),
        "--".to_owned(),
    ]);
    command.extend(row.command.iter().cloned());
    let under = exec::run(&command, &inside, row)?;
    let report = Report::read(&report_file);
    let fault = fault_of(row, plain.as_ref(), &under, &report);
    Ok(RowResult {
        plain: plain.map(|run| run.time),
        gfp: under.time,
        peak_bytes: report.as_ref().ok().map(Report::peak_bytes),
        fault,
    })
}

/// A fresh folder with the row's files.
fn prepare(folder: &Path, name: &str, row: &Row) -> Result<PathBuf> {
    let inside = folder.join(name);
    if inside.exists() {
        fs::remove_dir_all(&inside).with_context(|| format!("clear {}", inside.display()))?;
    }
    fs::create_dir_all(&inside)?;
    for (file, text) in &row.files {
        fs::write(inside.join(file), text)?;
    }
    Ok(inside)
}

/// What is wrong with a row's runs, if anything.
fn fault_of(
    row: &Row,
    plain: Option<&Run>,
    under: &Run,
    report: &Result<Report>,
) -> Option<String> {
    let fault = match (&row.compare, plain) {
        (Compare::Exact { must_contain }, Some(plain)) => {
            if !plain.ended_well() || !plain.stdout.contains(must_contain) {
                Some(format!("the plain run itself failed\n{}", plain.show()))
            } else {
                differs(&plain.stdout, &under.stdout, plain, under)
            }
        }
        (Compare::PythonTests, Some(plain)) => {
            let (expected, seen) = (
                python::outcome(&plain.stdout),
                python::outcome(&under.stdout),
            );
            if !expected.contains("Ran ") {
                Some(format!("the plain run ran no tests\n{}", plain.show()))
            } else {
                differs(&expected, &seen, plain, under)
            }
        }
        (Compare::Limit { stdout }, _) => {
            if under.stdout != *stdout || !under.ended_well() {
                Some(format!("expected on stdout: {stdout}\n{}", under.show()))
            } else if report
                .as_ref()
                .is_ok_and(|report| report.failed_allocations() == 0)
            {
                Some("the report counts no failed allocation".to_owned())
            } else {
                None
            }
        }
        (_, None) => Some("there was no plain run to compare with".to_owned()),
    };
    if fault.is_some() {
        return fault;
    }
    match report {
        Err(error) => Some(format!("no readable report: {error:#}\n{}", under.show())),
        Ok(report) => report.fault(),
    }
}

fn differs(expected: &str, seen: &str, plain: &Run, under: &Run) -> Option<String> {
    if plain.status != under.status {
        return Some(format!(
            "plain: {}, gfp: {}\n{}",
            plain.status,
            under.status,
            under.show()
        ));
    }
    if expected == seen {
        return None;
    }
    let mut lines = expected.lines().zip(seen.lines()).enumerate();
    let first = lines.find(|(_, (a, b))| a != b).map_or_else(
        || {
            format!(
                "{} lines plain, {} under gfp",
                expected.lines().count(),
                seen.lines().count()
            )
        },
        |(i, (a, b))| format!("line {}:\n  plain: {a}\n  gfp:   {b}", i + 1),
    );
    Some(format!("output differs; {first}\n{}", under.show()))
}

#[cfg(test)]
mod tests;
