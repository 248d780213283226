//! What of Linux is there: `docs/parity.toml`, checked, and shown as a table in the book.
//!
//! 1. **Concepts.** An *entry* is a name of Linux (a bit, a mask, a function, a file, a tunable)
//!    with the rule of the specification that describes it and a *status*. `supported`, `differs`
//!    and `refused` are claims, so each names the test that proves it; `planned` is no claim and
//!    names the open issue instead.
//! 2. **What is checked.** Required fields; no name twice; every rule that must be covered has an
//!    entry; each test named is a function under `#[test]` in that crate and module; the book's
//!    table is what the file says.
//! 3. **Failure.** All faults are printed, then the command fails. `--bless` rewrites the table
//!    only.
//!
//! | module | what |
//! |---|---|
//! | [`render`] | the table in the book |
//! | [`proof`] | finding the named tests in the sources |

mod proof;
mod render;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::fs;

use crate::shell::{Bless, Repo};
use crate::tidy;

/// Where gfp stands with one name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// Same meaning as in Linux
    Supported,
    /// There, with a stated difference
    Differs,
    /// Turned down with an error, for a stated reason
    Refused,
    /// Not there yet; an open issue has it
    Planned,
}

/// One name of Linux.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Entry {
    pub(crate) name: String,
    /// The rule of the specification, such as `P30`
    pub(crate) rule: String,
    pub(crate) status: Status,
    /// Why it differs or is refused; optional elsewhere
    pub(crate) why: Option<String>,
    /// Number of the open issue, for what is planned
    pub(crate) issue: Option<u32>,
    /// `crate::module::test_function`
    pub(crate) test: Option<String>,
}

/// The whole file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parity {
    #[serde(default)]
    flag: Vec<Entry>,
    #[serde(default)]
    composite: Vec<Entry>,
    #[serde(default)]
    function: Vec<Entry>,
    #[serde(default)]
    proc: Vec<Entry>,
    #[serde(default)]
    tunable: Vec<Entry>,
}

/// Rules that no section may leave out: letter, first, last.
const REQUIRED: &[(&str, char, u32, u32)] = &[
    ("flag", 'P', 1, 27),
    ("composite", 'P', 30, 46),
    ("proc", 'P', 610, 613),
    ("proc", 'P', 620, 620),
    ("proc", 'D', 13, 13),
    ("proc", 'V', 28, 28),
    ("tunable", 'P', 700, 722),
];

impl Parity {
    fn parse(text: &str) -> Result<Parity> {
        toml::from_str(text).context("docs/parity.toml")
    }

    /// The sections in the order of the book.
    pub(crate) fn sections(&self) -> [(&'static str, &'static str, &[Entry]); 5] {
        [
            ("flag", "GFP bits", self.flag.as_slice()),
            ("composite", "Composite masks", &self.composite),
            ("function", "Functions", &self.function),
            ("proc", "Files of /proc", &self.proc),
            ("tunable", "Tunables", &self.tunable),
        ]
    }

    /// Faults that the file has by itself.
    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (section, _, entries) in self.sections() {
            let mut names = BTreeSet::new();
            for entry in entries {
                let who = format!("{section} {}", entry.name);
                if !names.insert(&entry.name) {
                    faults.push(format!("{who}: twice"));
                }
                faults.extend(
                    entry
                        .faults()
                        .into_iter()
                        .map(|fault| format!("{who}: {fault}")),
                );
            }
        }
        for &(section, letter, first, last) in REQUIRED {
            let entries = self
                .sections()
                .into_iter()
                .find(|(name, ..)| *name == section);
            let covered = |rule: &str| {
                entries.is_some_and(|(.., entries)| entries.iter().any(|entry| entry.rule == rule))
            };
            for rule in (first..=last).map(|number| format!("{letter}{number}")) {
                if !covered(&rule) {
                    faults.push(format!("{section}: rule {rule} has no entry"));
                }
            }
        }
        faults
    }
}

impl Entry {
    fn faults(&self) -> Vec<&'static str> {
        let blank =
            |field: &Option<String>| field.as_deref().is_none_or(|text| text.trim().is_empty());
        let mut faults = Vec::new();
        let is_claim = self.status != Status::Planned;
        if is_claim && blank(&self.test) {
            faults.push("names no test");
        }
        if matches!(self.status, Status::Differs | Status::Refused) && blank(&self.why) {
            faults.push("does not say why");
        }
        if !is_claim && self.issue.is_none() {
            faults.push("is planned but names no issue");
        }
        if is_claim && self.issue.is_some() {
            faults.push("names an issue though it is not planned");
        }
        if !is_claim && self.test.is_some() {
            faults.push("names a test though it is only planned");
        }
        faults
    }
}

/// Checks the file and the table; with `bless`, writes the table.
pub(crate) fn run(repo: &Repo, bless: Bless) -> Result<()> {
    let file = repo.root.join("docs/parity.toml");
    let text = fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    let parity = Parity::parse(&text)?;
    let mut faults = parity.faults();

    let proofs = proof::Proofs::of(&tidy::sources(&repo.root)?);
    for (section, _, entries) in parity.sections() {
        for entry in entries {
            if let Some(test) = entry.test.as_deref().filter(|test| !proofs.has(test)) {
                faults.push(format!(
                    "{section} {}: there is no test `{test}`",
                    entry.name
                ));
            }
        }
    }

    let table = render::table(&parity);
    let page = repo.root.join("docs/book/src/parity.md");
    if bless == Bless::Yes {
        fs::write(&page, &table)?;
    } else if fs::read_to_string(&page).unwrap_or_default() != table {
        faults.push("docs/book/src/parity.md is stale: cargo xtask parity --bless".to_owned());
    }

    for fault in &faults {
        println!("docs/parity.toml: {fault}");
    }
    if !faults.is_empty() {
        bail!("parity: {} to mend", faults.len());
    }
    println!("parity: {}", render::counts(&parity));
    Ok(())
}

#[cfg(test)]
mod tests;
