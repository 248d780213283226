//! The small rules: each is one function over one source.

use super::mask::without_test_modules;
use super::{Finding, Source};

const CORE: &str = "crates/gfp/src/";
/// Rooms that may be wrong without undefined behaviour: no `unsafe` at all.
const SAFE_ROOMS: &[&str] = &["crates/gfp/src/policy/", "crates/gfp/src/flags/"];
/// How far above an unsafe block its SAFETY comment may begin.
const SAFETY_REACH_LINES: usize = 12;

/// All small rules over all sources.
pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources {
        findings.extend(places(source));
        if source.is_rust() {
            findings.extend(leftovers(source));
            findings.extend(safety_comments(source));
            findings.extend(safe_rooms(source));
            findings.extend(statics(source));
            findings.extend(theory(source));
        }
    }
    findings.extend(folders_without_mod(sources));
    findings
}

/// Is `word` at `at` in `line` a word of its own?
fn is_word(line: &str, at: usize, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    let before = line[..at].chars().next_back();
    let after = line[at + word.len()..].chars().next();
    !before.is_some_and(|c| part(c) || c == '\'') && !after.is_some_and(part)
}

/// Lines (1-based) of `code` that have `word` as a word.
fn lines_with(code: &str, word: &str) -> Vec<usize> {
    let has = |line: &str| {
        line.match_indices(word)
            .any(|(at, _)| is_word(line, at, word))
    };
    code.lines()
        .enumerate()
        .filter(|(_, line)| has(line))
        .map(|(i, _)| i + 1)
        .collect()
}

/// No absolute path of the place where somebody works.
fn places(source: &Source) -> Vec<Finding> {
    // Put together, so that this file does not hold them.
    let bad = [["/wo", "rk/"], ["/ho", "me/"], ["/ro", "ot/"]].map(|parts| parts.concat());
    let has = |line: &str| bad.iter().any(|place| line.contains(place.as_str()));
    let lines = source
        .text
        .lines()
        .enumerate()
        .filter(|(_, line)| has(line));
    lines
        .map(|(i, _)| Finding::new(source, i + 1, "an absolute path of somebody's workplace"))
        .collect()
}

/// Nothing unfinished and no test switched off.
fn leftovers(source: &Source) -> Vec<Finding> {
    const WORDS: &[&str] = &["todo!", "unimplemented!", "dbg!", "#[ignore"];
    let mut findings = Vec::new();
    for (i, line) in source.code.lines().enumerate() {
        for word in WORDS.iter().filter(|word| line.contains(**word)) {
            findings.push(Finding::new(
                source,
                i + 1,
                format!("`{word}` is left in the code"),
            ));
        }
    }
    findings
}

/// Every `unsafe {` and `unsafe impl` has a SAFETY comment close above it or on its line.
fn safety_comments(source: &Source) -> Vec<Finding> {
    let text: Vec<&str> = source.text.lines().collect();
    let mut findings = Vec::new();
    for line in lines_with(&source.code, "unsafe") {
        let code = source.code.lines().nth(line - 1).unwrap_or("");
        let behind = code.split("unsafe").nth(1).unwrap_or("").trim_start();
        if !(behind.starts_with('{') || behind.starts_with("impl")) {
            continue;
        }
        let first = line.saturating_sub(1 + SAFETY_REACH_LINES);
        if !text[first..line]
            .iter()
            .any(|above| above.contains("SAFETY:"))
        {
            findings.push(Finding::new(
                source,
                line,
                "unsafe without a `// SAFETY:` that names its invariant",
            ));
        }
    }
    findings
}

/// `policy/` and `flags/` have no unsafe code, and their `mod.rs` forbids it.
fn safe_rooms(source: &Source) -> Vec<Finding> {
    let Some(room) = SAFE_ROOMS
        .iter()
        .find(|room| source.path.starts_with(**room))
    else {
        return Vec::new();
    };
    let mut findings: Vec<_> = lines_with(&source.code, "unsafe")
        .into_iter()
        .map(|line| Finding::new(source, line, format!("unsafe in {room}")))
        .collect();
    if source.path == format!("{room}mod.rs") && !source.code.contains("#![forbid(unsafe_code)]") {
        findings.push(Finding::new(
            source,
            1,
            "`#![forbid(unsafe_code)]` is missing",
        ));
    }
    findings
}

/// All state hangs off an instance: no `static` in the library outside tests.
fn statics(source: &Source) -> Vec<Finding> {
    if !source.path.starts_with(CORE) || source.is_test() {
        return Vec::new();
    }
    lines_with(&without_test_modules(&source.code), "static")
        .into_iter()
        .map(|line| Finding::new(source, line, "`static` in the library: hang it off `Mm`"))
        .collect()
}

/// A `mod.rs` of the library, and each file that is a room of its own, opens with its theory.
fn theory(source: &Source) -> Vec<Finding> {
    let inside = source.path.strip_prefix(CORE);
    let is_room = inside.is_some_and(|path| path.ends_with("/mod.rs") || !path.contains('/'));
    if is_room && !source.text.starts_with("//!") {
        return vec![Finding::new(
            source,
            1,
            "opens without `//!`: a short theory of the room",
        )];
    }
    Vec::new()
}

/// Each folder of the library has a `mod.rs`.
fn folders_without_mod(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    for source in sources
        .iter()
        .filter(|source| source.is_rust() && source.path.starts_with(CORE))
    {
        let Some((folder, _)) = source.path.rsplit_once('/') else {
            continue;
        };
        if folder.len() < CORE.len() || seen.contains(&folder) {
            continue;
        }
        seen.push(folder);
        let wanted = [format!("{folder}/mod.rs"), format!("{folder}.rs")];
        if !sources.iter().any(|other| wanted.contains(&other.path)) {
            let wanted = &wanted[0];
            findings.push(Finding::new(source, 1, format!("{wanted} is missing")));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(path: &str, text: &str) -> Source {
        Source::new(path, text)
    }

    #[test]
    fn workplaces_are_found() {
        let path = ["see /wo", "rk/x"].concat();
        assert_eq!(places(&source("README.md", &path)).len(), 1);
        assert!(places(&source("README.md", "the work/life balance")).is_empty());
    }

    #[test]
    fn leftovers_are_found_in_code_only() {
        let text = "fn f() { todo!() }\n#[ignore]\nfn g() { dbg!(1); unimplemented!() }";
        assert_eq!(leftovers(&source("a.rs", text)).len(), 4);
        assert!(
            leftovers(&source(
                "a.rs",
                "// todo!() later\nconst A: &str = \"dbg!\";"
            ))
            .is_empty()
        );
    }

    #[test]
    fn unsafe_without_its_reason_is_found() {
        let bare = "fn f() {\n    unsafe { g() }\n}";
        let good = "fn f() {\n    // SAFETY: [INV-PAGE-1]\n    unsafe { g() }\n}";
        assert_eq!(safety_comments(&source("a.rs", bare))[0].line, 2);
        assert!(safety_comments(&source("a.rs", good)).is_empty());
        assert_eq!(
            safety_comments(&source("a.rs", "unsafe impl Send for A {}")).len(),
            1
        );
        assert!(
            safety_comments(&source("a.rs", "unsafe fn f();\n#![deny(unsafe_code)]")).is_empty()
        );
        let far = format!(
            "// SAFETY: too far\n{}unsafe {{ g() }}",
            "\n".repeat(SAFETY_REACH_LINES)
        );
        assert_eq!(safety_comments(&source("a.rs", &far)).len(), 1);
    }

    #[test]
    fn unsafe_in_a_safe_room_is_found() {
        let path = "crates/gfp/src/policy/mod.rs";
        assert!(safe_rooms(&source(path, "#![forbid(unsafe_code)]")).is_empty());
        assert_eq!(safe_rooms(&source(path, "//! theory")).len(), 1);
        assert_eq!(
            safe_rooms(&source("crates/gfp/src/flags/a.rs", "unsafe fn f() {}")).len(),
            1
        );
        assert!(safe_rooms(&source("crates/gfp/src/page/mod.rs", "unsafe fn f() {}")).is_empty());
    }

    #[test]
    fn statics_are_found_and_lifetimes_are_not() {
        let path = "crates/gfp/src/page/a.rs";
        assert_eq!(
            statics(&source(path, "static A: u8 = 0;\nstatic mut B: u8 = 0;")).len(),
            2
        );
        assert!(statics(&source(path, "fn f(a: &'static str) {} // static")).is_empty());
        assert!(
            statics(&source(
                path,
                "#[cfg(test)]\nmod tests {\nstatic A: u8 = 0;\n}"
            ))
            .is_empty()
        );
        assert!(statics(&source("crates/gfp-host/src/a.rs", "static A: u8 = 0;")).is_empty());
    }

    #[test]
    fn a_room_without_theory_or_mod_is_found() {
        let path = "crates/gfp/src/page/mod.rs";
        assert_eq!(theory(&source(path, "mod a;")).len(), 1);
        assert!(theory(&source(path, "//! 1. Pages.")).is_empty());
        let file = || source("crates/gfp/src/page/zone.rs", "");
        assert_eq!(folders_without_mod(&[file()]).len(), 1);
        assert!(folders_without_mod(&[file(), source(path, "")]).is_empty());
        let beside = source("crates/gfp/src/page.rs", "");
        assert!(folders_without_mod(&[file(), beside]).is_empty());
        assert_eq!(
            theory(&source("crates/gfp/src/mm.rs", "struct Mm;")).len(),
            1
        );
    }
}
