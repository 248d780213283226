//! CPython's own tests: which modules, and the outcome of a run.

use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::Command;

use super::rows::{Compare, Length, Row};

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
    // Two names of one package: Python 3.11 changed it.
    "test_sqlite3",
    "test_sqlite",
];
/// Modules that take longer.
const LONG: &[&str] = &[
    "test_subprocess",
    "test_io",
    "test_asyncio",
    "test_multiprocessing_fork",
    "test_concurrent_futures",
    "test_queue",
    "test_weakref",
    "test_decimal",
];

/// Else CPython takes small objects from arenas of its own, and gfp would see few of them.
const MALLOC: &[(&str, &str)] = &[("PYTHONMALLOC", "malloc"), ("PYTHONHASHSEED", "0")];

/// Modules that must be there, whatever a distribution of Python leaves out.
const MODULES_MIN: usize = 20;

/// One row for each module that this Python ships, and rows of our own for what some leave out.
pub(super) fn rows(python: &Path) -> Result<Vec<Row>> {
    let short = SHORT.iter().map(|module| (*module, Length::Short));
    let long = LONG.iter().map(|module| (*module, Length::Long));
    let shipped = shipped(python)?;
    let all = short
        .chain(long)
        .filter(|(module, _)| shipped.iter().any(|name| name == module));
    let mut rows: Vec<Row> = all
        .map(|(module, length)| row(python, module, length))
        .collect();
    if rows.len() < MODULES_MIN {
        bail!(
            "{} ships only {} of the test modules",
            python.display(),
            rows.len()
        );
    }
    let pool = include_str!("inputs/pool.py");
    rows.push(script(python, "python-multiprocessing", pool, "forks 50\n"));
    let sqlite = include_str!("inputs/rows.py");
    rows.push(script(python, "python-sqlite3", sqlite, "rows read\n"));
    Ok(rows)
}

/// Which of our modules this Python has.
fn shipped(python: &Path) -> Result<Vec<String>> {
    const PROBE: &str = "import sys; from importlib.util import find_spec; \
        print('\\n'.join(name for name in sys.argv[1:] if find_spec('test.' + name)))";
    let mut command = Command::new(python);
    command.args(["-c", PROBE]).args(SHORT).args(LONG);
    let output = command
        .output()
        .with_context(|| format!("run {}", python.display()))?;
    Ok(String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(str::to_owned)
        .collect())
}

fn script(python: &Path, name: &str, text: &str, must_contain: &'static str) -> Row {
    let command = [&python.display().to_string(), "script.py"].map(str::to_owned);
    let mut row = Row::new(name, Length::Short, command.to_vec());
    row.environment = MALLOC;
    row.files = vec![("script.py", text.to_owned())];
    row.compare = Compare::Exact { must_contain };
    row
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
