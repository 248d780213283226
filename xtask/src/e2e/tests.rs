//! The harness against a stand-in for `gfp`: a script that runs the program and writes a report.

use super::*;
use std::os::unix::fs::PermissionsExt;

/// A folder of this test's own, and in it a `gfp` with the given shell lines; `$report` is the
/// report's path, and the program and its arguments are the script's.
fn stand_in(name: &str, lines: &str) -> (PathBuf, PathBuf) {
    let folder = std::env::temp_dir().join(format!("gfp-xtask-{}-{name}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let gfp = folder.join("gfp");
    let head = "#!/bin/sh\n[ \"$1\" = run ] || exit 9\nshift\n\
                while [ \"$1\" != -- ]; do\n\
                [ \"$1\" = --report ] && report=$2\nshift\ndone\nshift\n";
    fs::write(&gfp, format!("{head}{lines}\n")).unwrap();
    fs::set_permissions(&gfp, fs::Permissions::from_mode(0o755)).unwrap();
    (gfp, folder)
}

/// A report with one process.
fn report(peak: u64, failed: u64, misuse: u64) -> String {
    format!(
        r#"{{"schema": "gfp-run/1", "library_loaded": true, "unreadable_records": [], "processes": [
        {{"name": "sh", "state": "exited", "peak_bytes": {peak}, "failed": {{"total": {failed}}},
          "misuse": {{"total": {misuse}}}}}]}}"#
    )
}

/// Shell lines that write it and run the program.
fn honest(peak: u64, failed: u64, misuse: u64) -> String {
    format!(
        "echo '{}' > \"$report\"\nexec \"$@\"",
        report(peak, failed, misuse)
    )
}

fn echo_row() -> Row {
    let command = ["sh", "-c", "cat input; exit 0"]
        .map(str::to_owned)
        .to_vec();
    let mut row = Row::new("echo", Length::Short, command);
    row.files = vec![("input", "hello\n".to_owned())];
    row
}

fn fault(name: &str, lines: &str, row: &Row) -> Option<String> {
    let (gfp, folder) = stand_in(name, lines);
    let result = run_row(&gfp, &folder.join("row"), row).unwrap();
    fs::remove_dir_all(&folder).unwrap();
    result.fault
}

#[test]
fn a_run_that_is_the_same_passes() {
    assert_eq!(fault("same", &honest(4096, 2, 0), &echo_row()), None);
}

#[test]
fn other_output_status_or_no_memory_from_gfp_fails() {
    let row = echo_row();
    let more = format!("echo more\n{}", honest(4096, 0, 0));
    let other = fault("output", &more, &row).unwrap();
    assert!(other.contains("output differs"), "{other}");
    let status = fault("status", "\"$@\"\nexit 3", &row).unwrap();
    assert!(status.contains("gfp: exit status: 3"), "{status}");
    let unused = fault("unused", &honest(0, 0, 0), &row).unwrap();
    assert!(unused.contains("was the library loaded"), "{unused}");
    let misused = fault("misuse", &honest(4096, 0, 1), &row).unwrap();
    assert!(misused.contains("1 misuses reported in sh"), "{misused}");
    let silent = fault("silent", "exec \"$@\"", &row).unwrap();
    assert!(silent.contains("no readable report"), "{silent}");
}

#[test]
fn a_plain_run_that_fails_proves_nothing() {
    let mut row = echo_row();
    row.compare = Compare::Exact {
        must_contain: "good bye",
    };
    let fault = fault("plain", &honest(4096, 2, 0), &row).unwrap();
    assert!(fault.contains("the plain run itself failed"), "{fault}");
}

#[test]
fn a_limit_must_be_met_and_counted() {
    let mut row = echo_row();
    row.compare = Compare::Limit { stdout: "hello\n" };
    assert_eq!(fault("limit", &honest(4096, 2, 0), &row), None);
    let uncounted = fault("uncounted", &honest(4096, 0, 0), &row).unwrap();
    assert!(uncounted.contains("no failed allocation"), "{uncounted}");
    row.compare = Compare::Limit { stdout: "other\n" };
    assert!(
        fault("unmet", &honest(4096, 2, 0), &row)
            .unwrap()
            .contains("expected")
    );
}

#[test]
fn a_row_that_hangs_is_ended() {
    let (gfp, folder) = stand_in("hang", "exec \"$@\"");
    let mut row = Row::new(
        "hang",
        Length::Short,
        ["sleep", "60"].map(str::to_owned).to_vec(),
    );
    row.time_max = Duration::from_millis(100);
    let error = run_row(&gfp, &folder.join("row"), &row)
        .err()
        .expect("it must be ended");
    assert!(format!("{error:#}").contains("was ended"), "{error:#}");
    fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn the_outcome_of_python_tests_has_no_times() {
    let run = |time: &str, ran: u32, last: &str| {
        python::outcome(&format!(
            "0:00:00 load avg: 1 Run tests\ntest_a (x) ... ok\n\
             Ran {ran} tests in {time}s\n\n{last}\n\
             == Tests result: SUCCESS ==\nTotal duration: {time} sec\n"
        ))
    };
    assert_eq!(
        run("0.1", 5, "OK (skipped=1)"),
        run("2.5", 5, "OK (skipped=1)")
    );
    assert_ne!(run("0.1", 5, "OK"), run("0.1", 4, "OK"));
    assert_ne!(run("0.1", 5, "OK"), run("0.1", 5, "FAILED (failures=1)"));
    assert_ne!(run("0.1", 5, "OK"), run("0.1", 5, "FAIL: test_a (x)"));
}

#[test]
fn rows_have_their_own_names_and_enough_python_modules() {
    let python = tools::python_with_tests().expect("cargo xtask install-tools brings it");
    let rows = rows::all(&python).unwrap();
    let mut names: Vec<_> = rows.iter().map(|row| row.name.as_str()).collect();
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
    assert!(
        names
            .iter()
            .filter(|name| name.starts_with("python-test_"))
            .count()
            >= 20
    );
    assert!(Options::short().picks(&rows[0]));
    let only = Options {
        short: false,
        only: Some("redis".to_owned()),
        list: false,
        gfp: None,
    };
    assert_eq!(rows.iter().filter(|row| only.picks(row)).count(), 1);
}
