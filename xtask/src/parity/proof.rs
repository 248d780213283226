//! Finding the tests that entries name.

use std::collections::BTreeSet;

use crate::tidy::Source;

/// Every test function of the workspace: crate folder, module of its file, name.
pub(super) struct Proofs {
    tests: BTreeSet<(String, String, String)>,
}

impl Proofs {
    pub(super) fn of(sources: &[Source]) -> Proofs {
        let mut tests = BTreeSet::new();
        for source in sources.iter().filter(|source| source.is_rust()) {
            let Some((folder, module)) = place_of(&source.path) else {
                continue;
            };
            for name in test_functions(&source.code) {
                tests.insert((folder.clone(), module.clone(), name));
            }
        }
        Proofs { tests }
    }

    /// Is there a test with this `crate::module::name`? Modules inside a file may follow the file's
    /// own.
    pub(super) fn has(&self, path: &str) -> bool {
        let Some((head, name)) = path.rsplit_once("::") else {
            return false;
        };
        let (folder, modules) = head.split_once("::").unwrap_or((head, ""));
        self.tests
            .iter()
            .any(|(test_folder, test_module, test_name)| {
                let inside = modules
                    .strip_prefix(test_module.as_str())
                    .is_some_and(|rest| {
                        rest.is_empty() || test_module.is_empty() || rest.starts_with("::")
                    });
                test_folder == folder && test_name == name && inside
            })
    }
}

/// `crates/gfp/src/page/tests.rs` is (`gfp`, `page::tests`); `crates/gfp-cli/tests/run.rs` is
/// (`gfp-cli`, `run`).
fn place_of(path: &str) -> Option<(String, String)> {
    let path = path.strip_prefix("crates/").unwrap_or(path);
    let (folder, file) = ["/src/", "/tests/"]
        .iter()
        .find_map(|part| path.split_once(part))?;
    let file = file.strip_suffix(".rs")?;
    let file = file.strip_suffix("/mod").unwrap_or(file);
    let module = if matches!(file, "lib" | "main" | "mod") {
        ""
    } else {
        file
    };
    Some((folder.to_owned(), module.replace('/', "::")))
}

/// Names of the functions under `#[test]` in masked text.
fn test_functions(code: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in code.match_indices("#[test]") {
        let Some((between, rest)) = code[at + "#[test]".len()..].split_once("fn ") else {
            continue;
        };
        // Only attributes and qualifiers may stand between; a brace means that the attribute was
        // another's.
        if between.contains('{') || between.contains('}') {
            continue;
        }
        names.push(
            rest.chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect(),
        );
    }
    names
}
