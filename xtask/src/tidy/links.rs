//! What is pointed at exists: files behind links in Markdown, pages of the book, and invariants
//! that SAFETY comments cite.

use std::collections::BTreeSet;
use std::path::Path;

use super::{Finding, Source};

/// Where the invariants are numbered.
const SOUNDNESS: &str = "docs/book/src/soundness.md";

/// All checks; `exists` tells whether a path from the root is there.
pub(super) fn check(sources: &[Source], exists: impl Fn(&str) -> bool) -> Vec<Finding> {
    let mut findings = invariants(sources);
    for source in sources.iter().filter(|source| source.path.ends_with(".md")) {
        for (line, target) in links(&source.text) {
            let file = target.split('#').next().unwrap_or("");
            let is_local =
                !file.is_empty() && !file.contains("://") && !file.starts_with("mailto:");
            if is_local && !exists(&from_root(&source.path, file)) {
                findings.push(Finding::new(
                    source,
                    line,
                    format!("link to `{target}`: not there"),
                ));
            }
        }
    }
    findings
}

/// Targets of `[text](target)`, each with its line.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (i, line) in text.lines().enumerate() {
        for part in line.split("](").skip(1) {
            if let Some((target, _)) = part.split_once(')') {
                found.push((i + 1, target.to_owned()));
            }
        }
    }
    found
}

/// `target` as seen from the folder of `page`, with `.` and `..` resolved.
fn from_root(page: &str, target: &str) -> String {
    let folder = Path::new(page).parent().unwrap_or(Path::new(""));
    let joined = folder.join(target);
    let mut parts: Vec<&str> = Vec::new();
    for part in joined.iter().filter_map(|part| part.to_str()) {
        match part {
            "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// Names such as `INV-PAGE-3` in a line.
fn names(line: &str) -> impl Iterator<Item = &str> {
    line.match_indices("INV-").filter_map(|(at, _)| {
        let rest = &line[at..];
        let letter = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '-';
        let end = rest.find(|c| !letter(c)).unwrap_or(rest.len());
        let name = rest[..end].trim_end_matches('-');
        name.ends_with(|c: char| c.is_ascii_digit()).then_some(name)
    })
}

/// Every invariant that a comment cites is stated on the soundness page.
fn invariants(sources: &[Source]) -> Vec<Finding> {
    let page = sources.iter().find(|source| source.path == SOUNDNESS);
    let stated: BTreeSet<&str> = page
        .into_iter()
        .flat_map(|page| page.text.lines().flat_map(names))
        .collect();
    let mut findings = Vec::new();
    for source in sources
        .iter()
        .filter(|s| s.is_rust() && s.path.starts_with("crates/"))
    {
        for (i, line) in source.text.lines().enumerate() {
            for name in names(line).filter(|name| !stated.contains(name)) {
                let what = format!("{name} is not stated in {SOUNDNESS}");
                findings.push(Finding::new(source, i + 1, what));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_to_nothing_is_found() {
        let text = "[a](b.md#part) and [c](../../README.md)\n[d](https://x.org/y) [e](#here)";
        let pages = [Source::new("docs/book/src/a.md", text)];
        let seen = std::cell::RefCell::new(Vec::new());
        let all = check(&pages, |path| {
            seen.borrow_mut().push(path.to_owned());
            path == "docs/book/src/b.md"
        });
        assert_eq!(*seen.borrow(), ["docs/book/src/b.md", "docs/README.md"]);
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].line, 1);
    }

    #[test]
    fn an_invariant_that_nobody_states_is_found() {
        let code = Source::new(
            "crates/gfp/src/a.rs",
            "// SAFETY: [INV-PAGE-1], [INV-PAGE-22].",
        );
        let page = Source::new(SOUNDNESS, "**INV-PAGE-1.** A frame has one owner.");
        let found = invariants(&[code, page]);
        assert_eq!(found.len(), 1);
        assert!(found[0].what.starts_with("INV-PAGE-22 "));
    }
}
