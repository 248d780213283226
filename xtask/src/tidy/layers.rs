//! Dependencies inside `crates/gfp/src` run downwards only.
//!
//! Where the flow must turn back up, the lower room owns a small trait that `mm` fills in;
//! `account`, `debug` and `stat` are reached through such hooks as well, so no room below `mm` may
//! name them.

use super::mask::without_test_modules;
use super::{Finding, Source};

const HOME: &str = "crates/gfp/src/";

/// The rooms from the ground up: those of one line may use each other.
const LAYERS: &[&[&str]] = &[
    &["flags", "policy", "overflow", "typed"],
    &["error", "report", "platform", "sync", "frame"],
    &["page"],
    &["reclaim"],
    &["slab"],
    &["vmalloc"],
    &["pool"],
    &["account", "debug", "stat"],
    &["mm", "global"],
    &["owned"],
    &["context"],
];

/// Words that every room speaks, the pure ones too: frame numbers and orders, and the error type.
const VOCABULARY: &[&str] = &["frame", "error"];

/// The rooms that see everything: the crate's root, and the models under a model checker.
const ROOT: &[&str] = &["lib", "interleavings"];

fn rank(room: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&room))
}

/// The room that a path below `crates/gfp/src/` is in.
fn room_of(path: &str) -> Option<&str> {
    let inside = path.strip_prefix(HOME)?;
    let first = inside.split('/').next()?;
    Some(first.strip_suffix(".rs").unwrap_or(first))
}

/// Every use of a higher room, and every room that the table above does not know.
pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources
        .iter()
        .filter(|source| source.is_rust() && !source.is_test())
    {
        let Some(room) = room_of(&source.path) else {
            continue;
        };
        if ROOT.contains(&room) {
            continue;
        }
        let Some(own) = rank(room) else {
            let what =
                format!("room `{room}` is not in the layer table of xtask/src/tidy/layers.rs");
            findings.push(Finding::new(source, 1, what));
            continue;
        };
        let code = without_test_modules(&source.code);
        for (line, used) in rooms_used(&code) {
            // A name re-exported by the root hides the room that it comes from.
            let Some(theirs) = rank(&used) else {
                if used.starts_with(char::is_uppercase) {
                    let what =
                        format!("`crate::{used}`: name it by its room, so that the layer shows");
                    findings.push(Finding::new(source, line, what));
                }
                continue;
            };
            if theirs > own && !VOCABULARY.contains(&used.as_str()) {
                let what =
                    format!("`{room}` uses `{used}`, a room above: own a trait that `mm` fills in");
                findings.push(Finding::new(source, line, what));
            }
        }
    }
    findings
}

/// First path segments behind `crate::`, also inside `crate::{a, b::c}`, each with its line.
fn rooms_used(code: &str) -> Vec<(usize, String)> {
    const PREFIX: &str = "crate::";
    let mut used = Vec::new();
    for (at, _) in code.match_indices(PREFIX) {
        let word_before = code[..at].chars().next_back();
        if word_before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let line = code[..at].matches('\n').count() + 1;
        let rest = &code[at + PREFIX.len()..];
        match rest.strip_prefix('{') {
            None => used.push((line, identifier(rest))),
            Some(group) => used.extend(heads(group).into_iter().map(|head| (line, head))),
        }
    }
    used
}

fn identifier(text: &str) -> String {
    text.chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}

/// The first segments of a brace group, whose opening brace is already gone.
fn heads(group: &str) -> Vec<String> {
    let mut heads = Vec::new();
    let mut depth = 1usize;
    let mut at_head = true;
    for (i, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => at_head = true,
            c if at_head && (c.is_alphanumeric() || c == '_') => {
                heads.push(identifier(&group[i..]));
                at_head = false;
            }
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    heads
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> usize {
        check(&[Source::new(path, text)]).len()
    }

    #[test]
    fn upward_use_is_found() {
        assert_eq!(
            findings("crates/gfp/src/page/zone.rs", "use crate::slab::Cache;"),
            1
        );
        assert_eq!(
            findings(
                "crates/gfp/src/page/zone.rs",
                "fn f() { crate::stat::count(); }"
            ),
            1
        );
        assert_eq!(
            findings(
                "crates/gfp/src/flags/mod.rs",
                "use crate::{policy::X, mm::Mm};"
            ),
            1
        );
        assert_eq!(
            findings(
                "crates/gfp/src/frame.rs",
                "use crate::{sync::{A, B}, page, vmalloc};"
            ),
            2
        );
        assert_eq!(
            findings("crates/gfp/src/page/mod.rs", "use crate::PageError;"),
            1
        );
    }

    #[test]
    fn pure_rooms_speak_of_frames_but_hold_no_locks() {
        let policy = "crates/gfp/src/policy/mod.rs";
        assert_eq!(findings(policy, "use crate::frame::Order;"), 0);
        assert_eq!(findings(policy, "use crate::sync::Lock;"), 1);
        assert_eq!(findings(policy, "use crate::platform::Platform;"), 1);
    }

    #[test]
    fn downward_use_tests_and_comments_are_not() {
        let slab = "crates/gfp/src/slab/mod.rs";
        assert_eq!(findings(slab, "use crate::{page::Pages, sync::Lock};"), 0);
        assert_eq!(
            findings(
                slab,
                "// use crate::mm::Mm;\nconst A: &str = \"crate::mm\";"
            ),
            0
        );
        assert_eq!(
            findings(slab, "#[cfg(test)]\nmod tests {\n use crate::mm::Mm;\n}"),
            0
        );
        assert_eq!(
            findings("crates/gfp/src/slab/tests.rs", "use crate::mm::Mm;"),
            0
        );
        assert_eq!(
            findings("crates/gfp/src/mm.rs", "use crate::stat::Text;"),
            0
        );
        assert_eq!(
            findings("crates/gfp/src/lib.rs", "pub use crate::mm::Mm;"),
            0
        );
        assert_eq!(
            findings("crates/gfp-host/src/lib.rs", "use crate::slab;"),
            0
        );
    }

    #[test]
    fn an_unknown_room_is_found() {
        assert_eq!(findings("crates/gfp/src/attic/mod.rs", ""), 1);
    }
}
