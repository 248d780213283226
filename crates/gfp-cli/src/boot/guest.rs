//! What the guest says, and the verdict on a run.
//!
//! A run is judged by two things that must agree: QEMU's exact exit status, and the closing line. A
//! triple fault ends QEMU with status 0, and a kernel that lost its way may stop after some tests.

use std::process::ExitStatus;

use crate::failure::Failure;

/// QEMU's status when the kernel said that all is well; `isa-debug-exit` makes `2 v + 1` of `v`.
const STATUS_OK: i32 = 33;
/// It said that something failed.
const STATUS_FAILED: i32 = 35;
/// It panicked, or took a fatal exception, outside of any test.
const STATUS_BROKEN: i32 = 37;

/// How the line begins in which it says why.
const BREAKS: [&str; 5] = [
    "panic on cpu ",
    "page fault: ",
    "exception ",
    "fatal exception ",
    "boot: refused: ",
];

const NO_TEST: &str = "no test was run: does the filter match any?";

/// What a line of the guest is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// A test begins.
    Begins(&'a str),
    /// A test has ended.
    Ended(&'a str, Outcome),
    /// `N passed, N failed`.
    Closing(u64, u64),
    /// Anything else.
    Other,
}

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Passed,
    Failed,
}

/// Reads a line of the guest.
pub(super) fn read_line(line: &str) -> Line<'_> {
    let line = line.trim_end();
    if let Some(rest) = line.strip_prefix("test ") {
        // The reason may follow, and more lines of it.
        if let Some((name, _)) = rest.split_once(" ... FAILED") {
            return Line::Ended(name, Outcome::Failed);
        }
        if let Some((name, _)) = rest.split_once(" ... ok") {
            return Line::Ended(name, Outcome::Passed);
        }
        if let Some(name) = rest.strip_suffix(" ...") {
            return Line::Begins(name);
        }
    }
    let counts = line
        .strip_suffix(" failed")
        .and_then(|rest| rest.split_once(" passed, "));
    match counts.map(|(passed, failed)| (passed.parse(), failed.parse())) {
        Some((Ok(passed), Ok(failed))) => Line::Closing(passed, failed),
        _ => Line::Other,
    }
}

/// What was heard so far.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// The test that runs.
    pub(super) running: Option<String>,
    passed: u64,
    failed: Vec<String>,
    closing: Option<(u64, u64)>,
    /// The last line that is not empty.
    pub(super) last: String,
    /// What the kernel said when it broke, before its report of what everybody did.
    broke: Option<String>,
    /// Lines that are JSON objects.
    pub(super) objects: Vec<String>,
}

impl Heard {
    /// Takes the next line.
    pub(super) fn take(&mut self, line: &str) {
        match read_line(line) {
            Line::Begins(name) => self.running = Some(name.to_owned()),
            Line::Ended(name, outcome) => {
                self.running = None;
                match outcome {
                    Outcome::Passed => self.passed += 1,
                    Outcome::Failed => self.failed.push(name.to_owned()),
                }
            }
            Line::Closing(passed, failed) => self.closing = Some((passed, failed)),
            Line::Other => {}
        }
        if line.starts_with('{') {
            self.objects.push(line.trim_end().to_owned());
        }
        let breaks = BREAKS.iter().any(|first| line.starts_with(first));
        if breaks && self.broke.is_none() {
            self.broke = Some(line.trim_end().to_owned());
        }
        if !line.trim().is_empty() {
            self.last = line.trim_end().to_owned();
        }
    }

    /// Where it was when it ended or hung.
    pub(super) fn place(&self) -> String {
        match (&self.running, self.last.as_str()) {
            (Some(test), _) => format!("in test {test}"),
            (None, "") => "before its first line".to_owned(),
            (None, last) => format!("after the line: {last}"),
        }
    }
}

/// What a run must show to be good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The status.
    Status,
    /// The status, and a closing line that counts tests, none of which failed.
    Tests,
    /// The status, and figures.
    Figures,
}

/// The verdict on a machine that has ended.
pub(super) fn judge(wanted: Wanted, status: ExitStatus, heard: &Heard) -> Result<(), Failure> {
    match status.code() {
        Some(STATUS_OK) => {}
        Some(STATUS_FAILED) => return Err(Failure::inside(what_failed(heard))),
        Some(STATUS_BROKEN) => {
            let why = match (&heard.running, &heard.broke) {
                (None, Some(why)) => format!("the kernel broke: {why}"),
                _ => format!("the kernel broke {}", heard.place()),
            };
            return Err(Failure::inside(why));
        }
        Some(0) => {
            return Err(Failure::inside(format!(
                "the machine reset itself (triple fault) {}",
                heard.place()
            )));
        }
        _ => {
            return Err(Failure::own(format!(
                "QEMU ended with {status} {}",
                heard.place()
            )));
        }
    }
    match wanted {
        Wanted::Status => Ok(()),
        Wanted::Figures if heard.objects.is_empty() => Err(Failure::inside(
            "the kernel said that all is well, and gave no figures",
        )),
        Wanted::Figures => Ok(()),
        Wanted::Tests => judge_tests(heard),
    }
}

/// The status says that all is well: do the lines say so too?
fn judge_tests(heard: &Heard) -> Result<(), Failure> {
    let counted = (heard.passed, heard.failed.len() as u64);
    match heard.closing {
        None => Err(Failure::inside(
            "the kernel said that all is well, without a closing line",
        )),
        Some((0, 0)) => Err(Failure::inside(NO_TEST)),
        Some(closing) if closing != counted => Err(Failure::inside(format!(
            "the closing line says {} passed, {} failed; the lines before it {} and {}",
            closing.0, closing.1, counted.0, counted.1
        ))),
        Some((_, 0)) => Ok(()),
        Some(_) => Err(Failure::inside(what_failed(heard))),
    }
}

fn what_failed(heard: &Heard) -> String {
    if heard.closing == Some((0, 0)) {
        return NO_TEST.to_owned();
    }
    match heard.failed.as_slice() {
        [] => format!("the kernel said that something failed, {}", heard.place()),
        [name] => format!("a test failed: {name}"),
        names => format!("{} tests failed: {}", names.len(), names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure;
    use std::os::unix::process::ExitStatusExt;

    fn heard(text: &str) -> Heard {
        let mut heard = Heard::default();
        text.lines().for_each(|line| heard.take(line));
        heard
    }

    fn verdict(wanted: Wanted, code: i32, text: &str) -> Result<(), Failure> {
        judge(wanted, ExitStatus::from_raw(code << 8), &heard(text))
    }

    const GOOD: &str = "boot: x\ntest a::b ...\ntest a::b ... ok\n1 passed, 0 failed\n";

    #[test]
    fn lines_are_read() {
        assert_eq!(read_line("test a::b ...\r"), Line::Begins("a::b"));
        assert_eq!(
            read_line("test a::b ... ok"),
            Line::Ended("a::b", Outcome::Passed)
        );
        assert_eq!(
            read_line("test a ... FAILED"),
            Line::Ended("a", Outcome::Failed)
        );
        assert_eq!(read_line("12 passed, 1 failed"), Line::Closing(12, 1));
        for other in [
            "12 passed, x failed",
            "test a",
            "",
            "passed, failed",
            "boot: 1 failed",
        ] {
            assert_eq!(read_line(other), Line::Other, "{other}");
        }
    }

    #[test]
    fn a_reason_may_follow_the_result() {
        let line = "test a::b ... FAILED (panicked at x.rs:1:2:";
        assert_eq!(read_line(line), Line::Ended("a::b", Outcome::Failed));
        assert_eq!(
            read_line("test a ... ok (3 ms)"),
            Line::Ended("a", Outcome::Passed)
        );
    }

    #[test]
    fn status_and_closing_line_must_agree() {
        assert_eq!(verdict(Wanted::Tests, 33, GOOD), Ok(()));
        for (code, text, part) in [
            (33, "test a ... ok\n", "without a closing line"),
            (33, "0 passed, 0 failed\n", "no test was run"),
            (
                33,
                "test a ... ok\n2 passed, 0 failed\n",
                "the lines before it 1 and 0",
            ),
            (
                33,
                "test a ... FAILED\n0 passed, 1 failed\n",
                "a test failed: a",
            ),
            (35, "0 passed, 0 failed\n", "no test was run"),
            (35, GOOD, "something failed"),
            (
                35,
                "test a ... FAILED\ntest b ... FAILED\n0 passed, 2 failed",
                "2 tests failed: a, b",
            ),
            (37, "test a ...\npanic\n", "broke in test a"),
            (
                37,
                "panic on cpu 0: why\nnow 7 ns",
                "broke: panic on cpu 0: why",
            ),
            (37, "", "broke before its first line"),
            (0, GOOD, "reset itself"),
            (0, "", "before its first line"),
        ] {
            let failure = verdict(Wanted::Tests, code, text).unwrap_err();
            assert!(failure.message.contains(part), "{code} {text}: {failure:?}");
            assert_eq!(failure.status, failure::INSIDE);
        }
    }

    #[test]
    fn a_qemu_that_fails_is_not_a_test_that_fails() {
        let failure = verdict(Wanted::Tests, 1, "").unwrap_err();
        assert_eq!(failure.status, failure::OWN);
    }

    #[test]
    fn figures_are_wanted_from_a_benchmark() {
        assert_eq!(verdict(Wanted::Figures, 33, "{\"bench\":\"x\"}"), Ok(()));
        assert!(verdict(Wanted::Figures, 33, "boot").is_err());
        assert_eq!(verdict(Wanted::Status, 33, ""), Ok(()));
        assert!(verdict(Wanted::Status, 35, "").is_err());
    }
}
