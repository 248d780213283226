//! The ratchet of instructions: what each operation of the kernel's benchmark costs may not rise.
//!
//! 1. `xtask/ratchet/instructions.json` holds one row an operation, and which compiler made them.
//!    Counts are the same in each run, so with that compiler one instruction more is a failure
//!    ([`SHIFT`] is less). A row that is missing on either side is one too.
//! 2. Another compiler makes other code. Then a row may rise by [`OTHER_COMPILER_PERCENT`].
//! 3. A typed call takes no more instructions than the untyped one ([`TWINS`]), with any compiler.
//! 4. A fall passes, and is named: `--bless` writes what was measured. It writes rises as well, and
//!    prints them: the reviewer sees them in the change.

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use super::{boot, build_gfp};
use crate::shell::{self, Bless, Repo};
use crate::tools::{self, Need};

const FILE: &str = "xtask/ratchet/instructions.json";
const BLESS: &str = "cargo xtask bench kernel --bless";
/// Where memory begins moves with the size of the image, and with it how a batch meets the edges of
/// pageblocks: hundredths of an instruction for each of its calls.
const SHIFT: f64 = 0.25;
/// The same for calls that walk over much memory. Up to 1500, one instruction more is still seen.
const SHIFT_PERCENT: f64 = 0.05;
/// What another version of the compiler may add to a row.
const OTHER_COMPILER_PERCENT: f64 = 5.0;
/// Typed calls, each with the untyped one that it must not cost more than.
const TWINS: [(&str, &str); 2] = [
    ("kmalloc_typed_64", "kmalloc_kernel_64"),
    ("kmalloc_obj_64", "kmalloc_kernel_64"),
];

/// One row, as `gfp boot --bench --json` prints it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Row {
    bench: String,
    cpus: u32,
    /// A multiple of a hundredth, read and written as it was printed
    ours_instructions: f64,
}

/// The recorded rows.
#[derive(Clone, Debug, PartialEq, Deserialize)]
struct Recorded {
    /// `rustc --version`
    rustc: String,
    rows: Vec<Row>,
}

impl Recorded {
    /// A row a line, so that a change shows what changed.
    fn render(&self) -> Result<String> {
        let rows: Result<Vec<_>, _> = self.rows.iter().map(serde_json::to_string).collect();
        Ok(format!(
            "{{\n\"rustc\": {},\n\"rows\": [\n{}\n]\n}}\n",
            serde_json::to_string(&self.rustc)?,
            rows?.join(",\n")
        ))
    }
}

/// Old and new count of an operation.
type Change = (String, f64, f64);

/// What the comparison found.
#[derive(Debug, Default, PartialEq)]
struct Changes {
    rises: Vec<Change>,
    falls: Vec<Change>,
    /// Recorded, not measured
    gone: Vec<String>,
    /// Measured, not recorded
    new: Vec<String>,
}

/// `cargo xtask bench kernel`: the rows, compared; or the rows alone as JSON.
pub(crate) fn bench(repo: &Repo, bless: Bless, json: bool) -> Result<()> {
    tools::provide_quietly(Need::Machine)?;
    let gfp = build_gfp(repo)?;
    if json {
        return shell::run(boot(repo, &gfp).args(["--bench", "--json"]));
    }
    run(repo, &gfp, bless)
}

/// Measures, shows all rows beside the recorded ones, and compares.
pub(super) fn run(repo: &Repo, gfp: &Path, bless: Bless) -> Result<()> {
    let path = repo.root.join(FILE);
    let rows = measure(repo, gfp)?;
    let now = Recorded {
        rustc: rustc_version()?,
        rows,
    };
    let before = match fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text).context(FILE)?,
        Err(_) if bless == Bless::Yes => Recorded {
            rustc: now.rustc.clone(),
            rows: Vec::new(),
        },
        Err(error) => return Err(error).with_context(|| format!("{FILE}; record with: {BLESS}")),
    };
    print!("{}", table(&before.rows, &now.rows));
    let changes = compare(&before, &now);
    if bless == Bless::Yes {
        fs::write(&path, now.render()?)?;
        println!(
            "{FILE}: {} rows written; {}",
            now.rows.len(),
            summary(&changes)
        );
        for (bench, old, new) in &changes.rises {
            println!("RISES: {bench}: {old} -> {new}");
        }
        return Ok(());
    }
    verdict(&changes)?;
    twins(&now.rows)?;
    println!("{} operations, {}", now.rows.len(), summary(&changes));
    Ok(())
}

fn measure(repo: &Repo, gfp: &Path) -> Result<Vec<Row>> {
    let (status, lines) = shell::run_and_capture(boot(repo, gfp).args(["--bench", "--json"]))?;
    if !status.success() {
        bail!("gfp boot --bench --json: {status}");
    }
    let parse = |line: &String| {
        serde_json::from_str(line).with_context(|| format!("a row has another form: {line}"))
    };
    lines.iter().map(parse).collect()
}

fn rustc_version() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .arg("--version")
        .output()
        .context("rustc --version")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn by_name(rows: &[Row]) -> BTreeMap<(&str, u32), f64> {
    rows.iter()
        .map(|row| ((row.bench.as_str(), row.cpus), row.ours_instructions))
        .collect()
}

fn compare(before: &Recorded, now: &Recorded) -> Changes {
    let (old, new) = (by_name(&before.rows), by_name(&now.rows));
    let may_be = |count: f64| match before.rustc == now.rustc {
        true => count + SHIFT + count * SHIFT_PERCENT / 100.0,
        false => (count * (1.0 + OTHER_COMPILER_PERCENT / 100.0)).ceil(),
    };
    let mut changes = Changes::default();
    for ((bench, cpus), &count) in &new {
        match old.get(&(*bench, *cpus)) {
            None => changes.new.push((*bench).to_owned()),
            Some(&was) if count > may_be(was) => {
                changes.rises.push(((*bench).to_owned(), was, count));
            }
            Some(&was) if count < was => changes.falls.push(((*bench).to_owned(), was, count)),
            Some(_) => {}
        }
    }
    let gone = old.keys().filter(|key| !new.contains_key(key));
    changes.gone = gone.map(|(bench, _)| (*bench).to_owned()).collect();
    changes
}

/// An error that names each operation that may not be as it is.
fn verdict(changes: &Changes) -> Result<()> {
    let rises = changes.rises.iter();
    let mut faults: Vec<String> = rises
        .map(|(bench, old, new)| format!("{bench} takes more instructions: {old} -> {new}"))
        .collect();
    faults.extend(
        changes
            .gone
            .iter()
            .map(|bench| format!("{bench} is recorded, and was not run")),
    );
    faults.extend(
        changes
            .new
            .iter()
            .map(|bench| format!("{bench} is not recorded")),
    );
    if faults.is_empty() {
        return Ok(());
    }
    bail!(
        "instructions: {}\nmend it; or, where it must be so, record it with: {BLESS}",
        faults.join("\n              ")
    )
}

/// An error if a typed call is not what the untyped one is.
fn twins(rows: &[Row]) -> Result<()> {
    let counts = by_name(rows);
    for (typed, untyped) in TWINS {
        let of = |name| {
            let count = counts.get(&(name, 1)).copied();
            count.with_context(|| format!("{name} was not run"))
        };
        let (with, without) = (of(typed)?, of(untyped)?);
        if with > without {
            bail!(
                "{typed} takes {with} instructions, {untyped} {without}: types must cost nothing"
            );
        }
    }
    Ok(())
}

fn summary(changes: &Changes) -> String {
    let (rises, falls) = (changes.rises.len(), changes.falls.len());
    let (new, gone) = (changes.new.len(), changes.gone.len());
    match (rises, falls, new + gone) {
        (0, 0, 0) => "all as recorded".to_owned(),
        (0, _, 0) => format!("{falls} take fewer instructions; keep it so with: {BLESS}"),
        _ => format!("{rises} rise, {falls} fall, {new} are new, {gone} are gone"),
    }
}

/// All rows, with the recorded count where it is another.
fn table(before: &[Row], now: &[Row]) -> String {
    let old = by_name(before);
    let width = now
        .iter()
        .map(|row| row.bench.len())
        .max()
        .unwrap_or(0)
        .max(9);
    let mut text = format!(
        "{:<width$} {:>12} {:>12}\n",
        "operation", "instructions", "recorded"
    );
    for row in now {
        let was = match old.get(&(row.bench.as_str(), row.cpus)) {
            Some(&was) if was == row.ours_instructions => "same".to_owned(),
            Some(was) => was.to_string(),
            None => "-".to_owned(),
        };
        text += &format!(
            "{:<width$} {:>12} {was:>12}\n",
            row.bench, row.ours_instructions
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded(rustc: &str, rows: &[(&str, f64)]) -> Recorded {
        let row = |&(bench, ours_instructions): &(&str, f64)| Row {
            bench: bench.to_owned(),
            cpus: 1,
            ours_instructions,
        };
        Recorded {
            rustc: rustc.to_owned(),
            rows: rows.iter().map(row).collect(),
        }
    }

    fn changes(now: &[(&str, f64)]) -> Changes {
        compare(
            &recorded("1", &[("a", 100.0), ("b", 7.0)]),
            &recorded("1", now),
        )
    }

    #[test]
    fn one_instruction_more_fails_and_names_the_command() {
        let text = verdict(&changes(&[("a", 101.0), ("b", 7.0)]))
            .unwrap_err()
            .to_string();
        assert!(
            text.contains("a takes more instructions: 100 -> 101"),
            "{text}"
        );
        assert!(text.contains("cargo xtask bench kernel --bless"), "{text}");
        assert!(verdict(&changes(&[("a", 100.0), ("b", 7.0)])).is_ok());
        assert!(verdict(&changes(&[("a", 100.02), ("b", 7.0)])).is_ok());
    }

    #[test]
    fn a_fall_passes_and_asks_to_be_kept() {
        let fewer = changes(&[("a", 90.0), ("b", 7.0)]);
        assert!(verdict(&fewer).is_ok());
        assert!(summary(&fewer).contains("1 take fewer") && summary(&fewer).contains("--bless"));
    }

    #[test]
    fn rows_missing_on_either_side_fail() {
        let text = |now: &[(&str, f64)]| verdict(&changes(now)).unwrap_err().to_string();
        assert!(text(&[("a", 100.0)]).contains("b is recorded, and was not run"));
        assert!(text(&[("a", 100.0), ("b", 7.0), ("c", 1.0)]).contains("c is not recorded"));
    }

    #[test]
    fn a_typed_call_costs_no_more_than_the_untyped_one() {
        let with = |typed, untyped| {
            let rows = [
                ("kmalloc_typed_64", typed),
                ("kmalloc_obj_64", untyped),
                ("kmalloc_kernel_64", untyped),
            ];
            twins(&recorded("1", &rows).rows)
        };
        assert!(with(133.0, 133.0).is_ok() && with(131.0, 133.0).is_ok());
        let text = with(134.0, 133.0).unwrap_err().to_string();
        assert!(
            text.contains("kmalloc_typed_64 takes 134 instructions"),
            "{text}"
        );
        assert!(twins(&[]).is_err());
    }

    #[test]
    fn another_compiler_has_a_little_room() {
        let with_other = |count| {
            let before = recorded("1", &[("a", 100.0), ("b", 7.0)]);
            verdict(&compare(
                &before,
                &recorded("2", &[("a", count), ("b", 8.0)]),
            ))
        };
        assert!(with_other(105.0).is_ok());
        assert!(with_other(105.01).is_err());
    }

    #[test]
    fn what_is_written_is_read_again() {
        let recorded = recorded("rustc 1.2.3", &[("a", 1.0), ("b", 2.0)]);
        let text = recorded.render().unwrap();
        assert_eq!(serde_json::from_str::<Recorded>(&text).unwrap(), recorded);
        assert_eq!(
            text.lines().filter(|line| line.contains("bench")).count(),
            2
        );
        let table = table(&recorded.rows[..1], &recorded.rows);
        assert!(table.contains("same") && table.lines().last().unwrap().ends_with('-'));
    }
}
