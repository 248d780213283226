//! A bound on the time of one command, so that a test that hangs ends the run and is named.
//!
//! 1. **Concepts.** A *watch* belongs to one started command. A thread waits until the command has
//!    ended or its time is over; in the second case it prints which command of which step hung, and
//!    all processes that the command left running, with the names of their threads: a test of
//!    Rust's harness runs on a thread of its name. Then it kills them.
//! 2. **Which processes.** Those below the command by parent process id, and those that carry its
//!    mark: a variable in the environment, which also an orphan keeps whose parent has ended.
//! 3. **Not done here.** No process groups and no sessions: Ctrl-C reaches everything as always.
//! 4. **Failure.** If we are still blocked after everything was killed, we end ourselves: nothing
//!    is worse than a run without an end.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::process::{self, Command};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// One command may take this long: several times what a clean build takes on a slow machine.
const LIMIT_MINUTES: u64 = 20;
/// Minutes for one command, in place of [`LIMIT_MINUTES`].
pub(crate) const LIMIT_VARIABLE: &str = "XTASK_COMMAND_MINUTES";
/// How long the caller may need to notice that everything was killed.
const GRACE: Duration = Duration::from_secs(30);
/// Processes that start others while we kill: look again this often.
const KILL_ROUNDS: usize = 10;

/// The step that runs, for the message of a command that hangs.
static STEP: Mutex<Option<String>> = Mutex::new(None);

/// Says which step runs now; returns the one before, to be put back.
pub(crate) fn enter_step(name: Option<String>) -> Option<String> {
    let mut step = STEP.lock().unwrap_or_else(|poison| poison.into_inner());
    std::mem::replace(&mut *step, name)
}

/// The limit of one command of the test command.
pub(crate) fn limit() -> Duration {
    let asked = std::env::var(LIMIT_VARIABLE).ok();
    let minutes = asked.and_then(|text| text.parse().ok());
    Duration::from_secs(60 * minutes.unwrap_or(LIMIT_MINUTES))
}

/// The mark of one command's processes, set before it starts.
pub(crate) struct Mark(String);

impl Mark {
    /// Marks the command; no other command has the same mark.
    pub(crate) fn put_on(command: &mut Command) -> Mark {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // Relaxed: only distinct numbers are wanted.
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let mark = format!("XTASK_COMMAND_{}_{number}", process::id());
        command.env(&mark, "1");
        Mark(mark)
    }
}

/// Watches one command that runs.
pub(crate) struct Watch {
    ended: Sender<()>,
    thread: JoinHandle<bool>,
}

impl Watch {
    /// Begins with the process `root`, which was started with `mark`.
    pub(crate) fn start(root: u32, mark: Mark, shown: String, limit: Duration) -> Watch {
        let (ended, end) = mpsc::channel();
        let thread = thread::spawn(move || {
            if end.recv_timeout(limit) != Err(RecvTimeoutError::Timeout) {
                return false;
            }
            let step = STEP.lock().unwrap_or_else(|poison| poison.into_inner());
            let step = step.clone().unwrap_or_else(|| "none".to_owned());
            let found = descendants(root, &mark);
            say(&message(&shown, &step, limit, &found));
            kill(root, &mark);
            if end.recv_timeout(GRACE) == Err(RecvTimeoutError::Timeout) {
                say("everything was killed, and still we wait: giving up\n");
                process::exit(1);
            }
            true
        });
        Watch { ended, thread }
    }

    /// The command has ended: was it by us?
    pub(crate) fn finish(self) -> bool {
        // A thread that is gone already has nobody to tell.
        let _ = self.ended.send(());
        self.thread.join().unwrap_or(false)
    }
}

fn say(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}

/// What `/proc` says of one process.
struct Process {
    pid: u32,
    parent: u32,
    state: char,
    command: String,
    threads: Vec<String>,
}

/// All processes that belong to the command, the eldest first.
fn descendants(root: u32, mark: &Mark) -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let mut all: Vec<Process> = pids.filter_map(look_at).collect();
    all.sort_by_key(|process| process.pid);
    let ours = process::id();
    let parent_of = |pid: u32| all.iter().find(|p| p.pid == pid).map(|p| p.parent);
    let is_below = |process: &Process| {
        let mut pid = process.pid;
        // A chain of parents is no longer than the list; a process that ends meanwhile cuts it.
        for _ in 0..all.len() {
            match parent_of(pid) {
                Some(parent) if pid == root => return parent == ours,
                Some(parent) => pid = parent,
                None => return false,
            }
        }
        false
    };
    let wanted: Vec<u32> = all
        .iter()
        .filter(|process| process.pid != ours && process.state != 'Z')
        .filter(|process| is_below(process) || is_marked(process.pid, mark))
        .map(|process| process.pid)
        .collect();
    all.retain(|process| wanted.contains(&process.pid));
    all
}

fn look_at(pid: u32) -> Option<Process> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // `pid (name) state parent ...`; the name may hold blanks and parentheses.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let command = String::from_utf8_lossy(&command).replace('\0', " ");
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter();
    let mut threads: Vec<String> = tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .map(|name| name.trim_end().to_owned())
        .collect();
    threads.dedup();
    Some(Process {
        pid,
        parent,
        state,
        command: command.trim_end().to_owned(),
        threads,
    })
}

fn is_marked(pid: u32, mark: &Mark) -> bool {
    let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else {
        return false;
    };
    let entry = format!("{}=1", mark.0);
    environment
        .split(|byte| *byte == 0)
        .any(|variable| variable == entry.as_bytes())
}

fn message(shown: &str, step: &str, limit: Duration, found: &[Process]) -> String {
    let mut text = format!(
        "\nHUNG: this command of step `{step}` did not end in {}:\n  {shown}\n\
         its processes that still run, which are now killed:\n",
        crate::shell::show_time(limit)
    );
    for process in found {
        let (pid, parent, state) = (process.pid, process.parent, process.state);
        let _ = writeln!(
            text,
            "  pid {pid} (parent {parent}, state {state}): {}",
            process.command
        );
        if process.threads.len() > 1 {
            let _ = writeln!(text, "    threads: {}", process.threads.join(", "));
        }
    }
    let _ = writeln!(
        text,
        "(threads of a Rust test are named after it; {LIMIT_VARIABLE}=N gives a slow machine N \
         minutes)"
    );
    text
}

/// Kills them all, and whatever they started meanwhile.
fn kill(root: u32, mark: &Mark) {
    for _ in 0..KILL_ROUNDS {
        let pids: Vec<String> = descendants(root, mark)
            .iter()
            .map(|process| process.pid.to_string())
            .collect();
        if pids.is_empty() {
            return;
        }
        // The shell's own `kill`: a bare system has no other.
        let line = format!("kill -KILL {} 2>/dev/null", pids.join(" "));
        let _ = Command::new("sh").args(["-c", &line]).status();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shell;
    use std::time::Instant;

    const SHORT: Duration = Duration::from_millis(300);

    /// Two processes below the command and an orphan that holds its output open.
    const HANGS: &str = "(sleep 1000 &); sleep 1001 & wait";

    // Seen to fail: without the mark the orphan lives on and keeps the pipe open.
    #[test]
    fn a_command_that_hangs_is_ended_with_its_orphans() {
        let start = Instant::now();
        let mut command = Command::new("sh");
        command.args(["-c", HANGS]);
        let error = shell::run_and_keep_within(&mut command, SHORT, |_| true).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("did not end in 0.3 s"), "{text}");
        assert!(text.contains("sleep 1001"), "{text}");
        assert!(start.elapsed() < GRACE);
        let error = shell::run_within(&mut command, SHORT).unwrap_err();
        assert!(error.to_string().contains("did not end"), "{error:#}");
    }

    #[test]
    fn the_message_names_command_step_and_processes() {
        let mut command = Command::new("sh");
        command.args(["-c", HANGS]);
        let mark = Mark::put_on(&mut command);
        let mut child = command.spawn().unwrap();
        // The orphan is there when it is found; nothing else is waited for.
        let found = loop {
            let found = descendants(child.id(), &mark);
            if found
                .iter()
                .filter(|p| p.command.starts_with("sleep 100"))
                .count()
                == 2
            {
                break found;
            }
        };
        let text = message("sh -c ...", "lint", SHORT, &found);
        kill(child.id(), &mark);
        child.wait().unwrap();
        // Who is killed is there until somebody has taken notice.
        let start = Instant::now();
        while !descendants(child.id(), &mark).is_empty() {
            assert!(start.elapsed() < GRACE, "somebody lives on");
            std::thread::yield_now();
        }
        for part in ["step `lint`", "sh -c ...", "sleep 1000", "sleep 1001"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn a_command_that_ends_in_time_is_left_alone() {
        let mut command = Command::new("sh");
        shell::run_within(command.args(["-c", "exit 0"]), GRACE).unwrap();
        let error = shell::run_within(Command::new("sh").args(["-c", "exit 3"]), GRACE);
        assert!(!error.unwrap_err().to_string().contains("did not end"));
    }
}
