//! Length of files and lines. What is over may shrink, never grow.
//!
//! `xtask/tidy-ratchet.toml` holds, for a file that is over, the number it may have. `--bless` only
//! lowers; a new entry is written by hand, where a reviewer sees it.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::{Finding, Source};

/// A file of one concept fits here; what does not is usually two concepts.
const FILE_LINES_MAX: usize = 500;
/// As rustfmt.
const LINE_CHARS_MAX: usize = 100;

/// The allowed numbers by path.
#[derive(Default, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ratchet {
    /// Lines of a file that has more than 500
    #[serde(default)]
    file_lines: BTreeMap<String, usize>,
    /// Number of lines with more than 100 characters
    #[serde(default)]
    long_lines: BTreeMap<String, usize>,
}

const HEAD: &str = "# What was over a limit of `cargo xtask tidy` may shrink, never grow.\n\
                    # `cargo xtask tidy --bless` lowers these numbers, and adds none.\n\n";

impl Ratchet {
    pub(super) fn parse(text: &str) -> Result<Ratchet> {
        toml::from_str(text).context("tidy-ratchet.toml")
    }

    pub(super) fn render(&self) -> Result<String> {
        Ok(format!("{HEAD}{}", toml::to_string(self)?))
    }

    pub(super) fn check(&self, sources: &[Source]) -> Vec<Finding> {
        let mut findings = Vec::new();
        for source in sources.iter().filter(|source| source.is_rust()) {
            let allowed = self
                .file_lines
                .get(&source.path)
                .copied()
                .unwrap_or(0)
                .max(FILE_LINES_MAX);
            let lines = source.text.lines().count();
            if lines > allowed {
                findings.push(Finding::new(
                    source,
                    lines,
                    format!("{lines} lines, {allowed} are allowed: split it by concept"),
                ));
            }
            let allowed = self.long_lines.get(&source.path).copied().unwrap_or(0);
            let long = long_lines(source);
            if long.len() > allowed {
                findings.extend(long.iter().map(|&line| {
                    Finding::new(
                        source,
                        line,
                        format!("more than {LINE_CHARS_MAX} characters"),
                    )
                }));
            }
        }
        findings
    }

    /// The same ratchet with every number no higher than what the sources have now.
    pub(super) fn lowered(&self, sources: &[Source]) -> Ratchet {
        let lower = |old: &BTreeMap<String, usize>, count: fn(&Source) -> usize, limit: usize| {
            let now = |path: &String| sources.iter().find(|s| s.path == *path).map_or(0, count);
            let lowered = old
                .iter()
                .map(|(path, &max)| (path.clone(), max.min(now(path))));
            lowered.filter(|&(_, max)| max > limit).collect()
        };
        Ratchet {
            file_lines: lower(&self.file_lines, |s| s.text.lines().count(), FILE_LINES_MAX),
            long_lines: lower(&self.long_lines, |s| long_lines(s).len(), 0),
        }
    }
}

/// Numbers of the lines that are too long.
fn long_lines(source: &Source) -> Vec<usize> {
    let long = |line: &str| line.chars().count() > LINE_CHARS_MAX;
    source
        .text
        .lines()
        .enumerate()
        .filter(|(_, line)| long(line))
        .map(|(i, _)| i + 1)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(lines: usize) -> Source {
        Source::new("crates/gfp/src/a.rs", &"x\n".repeat(lines))
    }

    #[test]
    fn a_file_over_its_number_is_found() {
        let none = Ratchet::default();
        assert!(none.check(&[file(500)]).is_empty());
        assert_eq!(none.check(&[file(501)]).len(), 1);
        let some = Ratchet::parse("[file_lines]\n'crates/gfp/src/a.rs' = 600").unwrap();
        assert!(some.check(&[file(600)]).is_empty());
        assert_eq!(some.check(&[file(601)]).len(), 1);
    }

    #[test]
    fn a_long_line_is_found_in_characters_not_bytes() {
        let fits = Source::new("a.rs", &"ü".repeat(100));
        let long = Source::new("a.rs", &format!("x\n{}", "ü".repeat(101)));
        assert!(Ratchet::default().check(&[fits]).is_empty());
        assert_eq!(Ratchet::default().check(&[long])[0].line, 2);
    }

    #[test]
    fn blessing_lowers_and_never_raises() {
        let some =
            Ratchet::parse("[file_lines]\n'crates/gfp/src/a.rs' = 600\n'gone.rs' = 700").unwrap();
        let grown = some.lowered(&[file(900)]);
        assert_eq!(grown.file_lines["crates/gfp/src/a.rs"], 600);
        assert!(!grown.file_lines.contains_key("gone.rs"));
        assert_eq!(
            some.lowered(&[file(550)]).file_lines["crates/gfp/src/a.rs"],
            550
        );
        assert!(some.lowered(&[file(400)]).file_lines.is_empty());
        assert_eq!(Ratchet::default().lowered(&[file(900)]), Ratchet::default());
        assert_eq!(Ratchet::parse(&grown.render().unwrap()).unwrap(), grown);
    }
}
