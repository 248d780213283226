//! Style rules that the compiler does not know.
//!
//! 1. **Concepts.** A *check* is a pure function from the sources to *findings*; a finding has a
//!    place, what is wrong and what to do. A *ratchet* is a number that a file had when the rule
//!    came; it may shrink, never grow.
//! 2. **Structures.** [`Source`] is one file: its path from the root, its text, and for Rust the
//!    text with comments and strings blanked out ([`mask`](mod@mask)), so that a word in a comment
//!    is not code.
//! 3. **Algorithms.** Plain scans of lines and words. No parser: a rule that needs one belongs into
//!    clippy.
//! 4. **Failure.** All findings are printed, then the command fails.
//! 5. **Not done here.** Formatting (rustfmt) and lints (clippy).
//!
//! | module | rules |
//! |---|---|
//! | [`ratchet`] | length of files and of lines |
//! | [`layers`] | dependencies inside `crates/gfp/src` run downwards |
//! | [`rules`] | SAFETY comments, words that must not be left, statics, `mod.rs` theories, places |
//! | [`links`] | links in Markdown, and invariants that SAFETY comments cite |
//! | [`quotes`] | a file that a page shows whole is the file |
//! | [`mask`](mod@mask) | comments, strings and test modules blanked out |

mod layers;
mod links;
mod mask;
mod quotes;
mod ratchet;
mod rules;

use anyhow::{Context, Result, bail};
use std::fmt;
use std::fs;
use std::path::Path;

use crate::shell::{Bless, Repo};

pub(crate) use mask::mask;

/// One text file of the repository.
pub(crate) struct Source {
    /// Path from the root, with `/`
    pub(crate) path: String,
    pub(crate) text: String,
    /// Rust only: `text` with comments and literals blanked out, line by line the same shape
    pub(crate) code: String,
}

impl Source {
    /// Takes the text of `path`; Rust text is masked.
    pub(crate) fn new(path: &str, text: &str) -> Source {
        let code = if path.ends_with(".rs") {
            mask(text)
        } else {
            String::new()
        };
        Source {
            path: path.to_owned(),
            text: text.to_owned(),
            code,
        }
    }

    pub(crate) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Is the whole file test code? (`tests.rs`, `testing.rs`, or below `tests` or `benches`)
    pub(crate) fn is_test(&self) -> bool {
        ["/tests.rs", "/testing.rs"]
            .iter()
            .any(|end| self.path.ends_with(end))
            || self
                .path
                .split('/')
                .any(|part| part == "tests" || part == "benches")
    }
}

/// Something to mend.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    path: String,
    line: usize,
    what: String,
}

impl Finding {
    fn new(source: &Source, line: usize, what: impl Into<String>) -> Finding {
        Finding {
            path: source.path.clone(),
            line,
            what: what.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.what)
    }
}

/// Folders that are not ours or not sources.
const SKIPPED: &[&str] = &["target", ".git", "corpus", "artifacts", "node_modules"];
const EXTENSIONS: &[&str] = &[
    "rs", "toml", "md", "sh", "py", "pl", "c", "h", "yml", "yaml", "sql", "txt", "s", "ld",
];

/// Reads every text file of ours below the root.
pub(crate) fn sources(root: &Path) -> Result<Vec<Source>> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))? {
            let path = entry?.path();
            let name = path
                .file_name()
                .map(|n| n.to_string_lossy().into_owned())
                .unwrap_or_default();
            if path.is_dir() {
                if !SKIPPED.contains(&name.as_str()) && !path.is_symlink() {
                    folders.push(path);
                }
                continue;
            }
            let known = path
                .extension()
                .is_some_and(|e| EXTENSIONS.iter().any(|known| e == *known));
            if !known && !folder.ends_with(".ci") {
                continue;
            }
            let text =
                fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            let relative = path
                .strip_prefix(root)?
                .to_string_lossy()
                .replace('\\', "/");
            found.push(Source::new(&relative, &text));
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// Runs every check; with `bless`, ratchets are first written downwards.
pub(crate) fn run(repo: &Repo, bless: Bless) -> Result<()> {
    let sources = sources(&repo.root)?;
    if !sources.iter().any(Source::is_rust) {
        bail!("no Rust sources below {}", repo.root.display());
    }
    let path = repo.root.join("xtask/tidy-ratchet.toml");
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let mut ratchet = ratchet::Ratchet::parse(&text)?;
    if bless == Bless::Yes {
        ratchet = ratchet.lowered(&sources);
        fs::write(&path, ratchet.render()?)?;
    }

    let mut findings = ratchet.check(&sources);
    findings.extend(layers::check(&sources));
    findings.extend(rules::check(&sources));
    findings.extend(quotes::check(&sources));
    findings.extend(links::check(&sources, |path| repo.root.join(path).exists()));
    findings.sort();
    for finding in &findings {
        println!("{finding}");
    }
    if !findings.is_empty() {
        bail!("tidy: {} to mend", findings.len());
    }
    println!("tidy: {} files, nothing to mend", sources.len());
    Ok(())
}
