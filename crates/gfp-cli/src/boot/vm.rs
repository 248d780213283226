//! One run of QEMU: what the guest prints as it comes, a bound on its time, its end.
//!
//! The machine ends with gfp, however gfp ends: the kernel kills it when we die. Its disk is a file
//! without a name, so nothing is left behind.

use std::ffi::{CStr, OsString};
use std::fs::File;
use std::io::{IsTerminal, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::console::{self, RawTerminal, Shared};
use super::guest::{Heard, Line, read_line};
use crate::failure::{Failure, say};
use crate::signals::{Blocked, Event};

/// Where lines of the guest go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Show {
    /// To standard output as they come, tests with their results.
    Lines,
    /// To standard error, but for figures, which are kept.
    Figures,
    /// To the terminal byte by byte, and its keys to the guest.
    Console,
}

/// How a machine ended.
#[derive(Debug)]
pub(super) enum End {
    /// By itself.
    Status(ExitStatus, Heard),
    /// By Ctrl-A X.
    Quit,
    /// By a signal that is gfp's own as well.
    Signal(i32),
}

/// A file in memory that has no name and outlives this function: QEMU inherits it.
pub(super) struct Disk {
    file: File,
}

impl Disk {
    /// One of `bytes`, all zero.
    pub(super) fn new(bytes: u64) -> Result<Disk, Failure> {
        const NAME: &CStr = c"gfp-disk";
        let refused = |error| Failure::own(format!("cannot make the machine's disk: {error}"));
        // SAFETY: the name ends in zero. Without MFD_CLOEXEC the child has it too.
        let number = unsafe { libc::memfd_create(NAME.as_ptr(), 0) };
        if number < 0 {
            return Err(refused(std::io::Error::last_os_error()));
        }
        // SAFETY: it was just opened and is nobody else's.
        let file = unsafe { File::from_raw_fd(number) };
        file.set_len(bytes).map_err(refused)?;
        Ok(Disk { file })
    }

    /// The path under which the child sees it.
    pub(super) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }
}

/// Starts QEMU and sees it to its end, or to the end of its time.
pub(super) fn run(
    qemu: &Path,
    args: Vec<OsString>,
    show: Show,
    limit: Option<Duration>,
) -> Result<End, Failure> {
    let blocked = Blocked::new();
    let lost = |error| Failure::own(format!("{}: {error}", qemu.display()));
    let mut command = Command::new(qemu);
    let input = if show == Show::Console {
        Stdio::piped()
    } else {
        Stdio::null()
    };
    command.args(args).stdin(input).stdout(Stdio::piped());
    let die_with_us = || {
        // SAFETY: an async-signal-safe call without pointers.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        Ok(())
    };
    // SAFETY: between fork and exec only prctl is called.
    unsafe { command.pre_exec(die_with_us) };
    let mut child = blocked.spawn(&mut command).map_err(lost)?;

    let shared: &'static Shared = Box::leak(Box::default());
    let terminal = (show == Show::Console).then(RawTerminal::enter).flatten();
    let heard = Arc::new(Mutex::new(Heard::default()));
    let reader = child
        .stdout
        .take()
        .map(|out| listen(out, show, Arc::clone(&heard), shared));
    if let Some(input) = child.stdin.take() {
        console::forward(input, shared);
    }
    let event = blocked.next(&mut child, limit.map(|limit| Instant::now() + limit));
    if !matches!(event, Ok(Event::Ended(_))) {
        kill(&mut child);
    }
    // The pipe is at its end now: what was heard is complete.
    let listened = reader.map(JoinHandle::join);
    debug_assert!(matches!(listened, Some(Ok(()))));
    drop(terminal);
    let heard = std::mem::take(&mut *heard.lock().unwrap_or_else(PoisonError::into_inner));
    match event.map_err(lost)? {
        Event::Ended(status) => Ok(End::Status(status, heard)),
        Event::Signal(_) if shared.has_quit() => Ok(End::Quit),
        Event::Signal(signal) => Ok(End::Signal(signal)),
        Event::Late => Err(Failure::inside(format!(
            "no end within {} s: it was killed {}; --timeout SECONDS gives it more",
            limit.unwrap_or_default().as_secs(),
            heard.place()
        ))),
    }
}

fn kill(child: &mut Child) {
    // An error here is a machine that has ended by itself.
    let _ = child.kill();
    let _ = child.wait();
}

/// Reads what the guest prints, on a thread, up to the end.
fn listen(
    mut out: ChildStdout,
    show: Show,
    heard: Arc<Mutex<Heard>>,
    shared: &'static Shared,
) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut screen = Screen::new(show);
        let mut line = Vec::new();
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = out.read(&mut buffer) {
            if show == Show::Console {
                screen.copy(&buffer[..count]);
            }
            let mut take = |line: &mut Vec<u8>| {
                let text = String::from_utf8_lossy(line).replace('\r', "");
                heard
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .take(&text);
                screen.show(&text);
                line.clear();
            };
            for &byte in &buffer[..count] {
                match byte {
                    b'\n' => take(&mut line),
                    _ => line.push(byte),
                }
            }
            if line.ends_with(b"> ") {
                shared.prompted();
            }
        }
        if !line.is_empty() {
            let text = String::from_utf8_lossy(&line).into_owned();
            heard
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(&text);
            screen.show(&text);
        }
    })
}

/// Writes to standard output at once; a closed one is nobody's failure.
pub(super) fn write_out(bytes: &[u8]) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(bytes).and_then(|()| out.flush());
}

/// What is shown of the guest's lines. On a terminal a test stands there while it runs; its result
/// takes the place.
struct Screen {
    show: Show,
    terminal: bool,
    open: bool,
}

impl Screen {
    fn new(show: Show) -> Screen {
        Screen {
            show,
            terminal: std::io::stdout().is_terminal(),
            open: false,
        }
    }

    /// A console has line ends for terminals: a file gets its own.
    fn copy(&self, bytes: &[u8]) {
        if self.terminal {
            return write_out(bytes);
        }
        let kept: Vec<u8> = bytes
            .iter()
            .copied()
            .filter(|byte| *byte != b'\r')
            .collect();
        write_out(&kept);
    }

    fn show(&mut self, line: &str) {
        match self.show {
            Show::Console => {}
            Show::Figures if line.starts_with('{') => {}
            Show::Figures => say(&format!("{line}\n")),
            Show::Lines => {
                let text = self.render(line);
                write_out(text.as_bytes());
            }
        }
    }

    fn render(&mut self, line: &str) -> String {
        let begins = matches!(read_line(line), Line::Begins(_));
        let ends = matches!(read_line(line), Line::Ended(..));
        let was_open = std::mem::replace(&mut self.open, begins && self.terminal);
        let before = match (was_open, ends) {
            (true, true) => "\r",
            (true, false) => "\n",
            (false, _) => "",
        };
        match (begins, self.terminal) {
            // A log gets each test once, with its result.
            (true, false) => String::new(),
            (true, true) => format!("{before}{line}"),
            (false, _) => format!("{before}{line}\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure;

    fn script(text: &str) -> Vec<OsString> {
        vec!["-c".into(), text.into()]
    }

    fn sh(text: &str, show: Show, limit: Duration) -> Result<End, Failure> {
        run(Path::new("/bin/sh"), script(text), show, Some(limit))
    }

    const LONG: Duration = Duration::from_secs(100);

    #[test]
    fn figures_are_kept_and_the_status_is_exact() {
        let text = "echo boot; echo '{\"a\":1}'; printf 'no newline'; exit 33";
        let Ok(End::Status(status, heard)) = sh(text, Show::Figures, LONG) else {
            panic!("it ends by itself");
        };
        assert_eq!(status.code(), Some(33));
        assert_eq!(heard.objects, ["{\"a\":1}"]);
        assert_eq!(heard.last, "no newline");
    }

    // Seen to fail: without the kill, reading never ends.
    #[test]
    fn a_machine_without_end_is_killed_and_its_place_named() {
        let start = Instant::now();
        let text = "echo 'test a::b ...'; exec sleep 1000";
        let killed_after = |ms| sh(text, Show::Figures, Duration::from_millis(ms)).unwrap_err();
        // On a busy host it may take long until the first line.
        let mut failures = [500, 5_000, 50_000].into_iter().map(killed_after);
        let failure = failures.find(|failure| failure.message.contains("in test a::b"));
        let failure = failure.expect("its place is named");
        assert!(start.elapsed() < LONG);
        assert!(failure.message.contains("--timeout"), "{failure:?}");
        assert_eq!(failure.status, failure::INSIDE);
    }

    #[test]
    fn the_disk_has_its_size_in_the_child() {
        let disk = Disk::new(1 << 20).unwrap();
        let text = format!("wc -c < {}; exit 33", disk.path().display());
        let Ok(End::Status(_, heard)) = sh(&text, Show::Figures, LONG) else {
            panic!("it ends by itself");
        };
        assert_eq!(heard.last.trim(), "1048576");
    }

    #[test]
    fn a_log_has_each_test_once_and_a_terminal_sees_it_run() {
        let lines = [
            "test a ...",
            "test a ... ok",
            "test b ...",
            "panic",
            "1 passed, 1 failed",
        ];
        let rendered = |terminal| -> String {
            let mut screen = Screen {
                show: Show::Lines,
                terminal,
                open: false,
            };
            lines.iter().map(|line| screen.render(line)).collect()
        };
        assert_eq!(
            rendered(false),
            "test a ... ok\npanic\n1 passed, 1 failed\n"
        );
        assert_eq!(
            rendered(true),
            "test a ...\rtest a ... ok\ntest b ...\npanic\n1 passed, 1 failed\n"
        );
    }
}
