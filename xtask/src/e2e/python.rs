//! CPython's own tests: which modules, and the outcome of a run.

use std::path::Path;

use super::rows::{Compare, Length, Row};
use crate::shell;

/// Modules that take a few seconds each.
const SHORT: &[&str] = &[
    "test_json",
    "test_re",
    "test_zlib",
    "test_struct",
    "test_dict",
    "test_list",
    "test_set",
    "test_bytes",
    "test_unicode",
    "test_pickle",
    "test_itertools",
    "test_collections",
    "test_ctypes",
    "test_hashlib",
    "test_array",
    "test_deque",
    "test_memoryview",
    "test_gc",
    "test_bz2",
    "test_lzma",
    "test_mmap",
    "test_threading",
    "test_multiprocessing_main_handling",
];
/// Modules that take longer.
const LONG: &[&str] = &[
    "test_subprocess",
    "test_io",
    "test_asyncio",
    "test_queue",
    "test_weakref",
    "test_decimal",
];

/// Else CPython takes small objects from arenas of its own, and gfp would see few of them.
const MALLOC: &[(&str, &str)] = &[("PYTHONMALLOC", "malloc"), ("PYTHONHASHSEED", "0")];

/// One row a module.
pub(super) fn rows(python: &Path) -> Vec<Row> {
    let short = SHORT.iter().map(|module| (*module, Length::Short));
    let long = LONG.iter().map(|module| (*module, Length::Long));
    // Python 3.11 gave the package its new name.
    let has_new_name = shell::succeeds(python, &["-c", "import test.test_sqlite3"]);
    let sqlite = if has_new_name {
        "test_sqlite3"
    } else {
        "test_sqlite"
    };
    let all = short.chain([(sqlite, Length::Short)]).chain(long);
    all.map(|(module, length)| row(python, module, length))
        .collect()
}

fn row(python: &Path, module: &str, length: Length) -> Row {
    let command = [&python.display().to_string(), "-m", "test", "-v", module].map(str::to_owned);
    let mut row = Row::new(&format!("python-{module}"), length, command.to_vec());
    row.environment = MALLOC;
    row.compare = Compare::PythonTests;
    row
}

/// The lines of `python3 -m test -v` that say what came out, without times, in a fixed order.
pub(super) fn outcome(stdout: &str) -> String {
    let mut lines: Vec<&str> = stdout.lines().filter_map(outcome_line).collect();
    lines.sort_unstable();
    lines.join("\n")
}

fn outcome_line(line: &str) -> Option<&str> {
    if line.starts_with("Ran ") {
        return line.split(" in ").next();
    }
    let says = [
        "OK",
        "FAILED (",
        "FAIL: ",
        "ERROR: ",
        "UNEXPECTED SUCCESS: ",
        "Result: ",
    ]
    .iter()
    .any(|start| line.starts_with(start));
    (says || line.contains("Tests result: ")).then_some(line)
}
