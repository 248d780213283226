//! One run of one program: its time and output, bounded in time; and the report that `gfp run`
//! writes.

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::fs::{self, File};
use std::io::{IsTerminal, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::rows::Row;

/// How often we look whether the program has ended; also the grain of the times shown.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// Lines of stderr shown with a fault.
const SHOWN_LINES: usize = 30;

/// What a program did.
pub(super) struct Run {
    pub(super) time: Duration,
    pub(super) status: ExitStatus,
    pub(super) stdout: String,
    stderr: String,
}

impl Run {
    pub(super) fn ended_well(&self) -> bool {
        self.status.success()
    }

    /// Status and the last lines of both outputs.
    pub(super) fn show(&self) -> String {
        let (out, err) = (last_lines(&self.stdout), last_lines(&self.stderr));
        let status = match self.status.signal() {
            Some(signal) => format!("killed by signal {signal}"),
            None => self.status.to_string(),
        };
        format!("{status}\n--- stdout\n{out}\n--- stderr\n{err}\n---")
    }
}

fn last_lines(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
}

/// Runs `command` in `folder`; output goes through files, so that a talkative program cannot block.
pub(super) fn run(command: &[String], folder: &Path, row: &Row) -> Result<Run> {
    let (program, args) = command.split_first().context("an empty command")?;
    let (out, err) = (folder.join(".stdout"), folder.join(".stderr"));
    let start = Instant::now();
    let mut child = Command::new(program)
        .args(args)
        .current_dir(folder)
        .env("TMPDIR", folder)
        .env("LC_ALL", "C.UTF-8")
        .envs(row.environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(File::create(&out)?)
        .stderr(File::create(&err)?)
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start {program}"))?;
    let status = wait(&mut child, row, start)?;
    let time = start.elapsed();
    let read =
        |path: &Path| fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Ok(Run {
        time,
        status,
        stdout: read(&out)?,
        stderr: read(&err)?,
    })
}

/// Waits with a bound; on a terminal, shows how long it has been.
fn wait(child: &mut Child, row: &Row, start: Instant) -> Result<ExitStatus> {
    let terminal = std::io::stdout().is_terminal();
    let mut shown = 0;
    loop {
        if let Some(status) = child.try_wait()? {
            if shown > 0 {
                print!("\r{:<60}\r", "");
            }
            return Ok(status);
        }
        let elapsed = start.elapsed();
        if elapsed > row.time_max {
            // The whole group: the program's children go with it.
            // By the shell's own `kill`, since a bare system has no other.
            let line = format!("kill -KILL -{}", child.id());
            let _ = Command::new("sh").args(["-c", &line]).status();
            let _ = child.wait();
            bail!(
                "{} ran longer than {} s and was ended",
                row.name,
                row.time_max.as_secs()
            );
        }
        if terminal && elapsed.as_secs() > shown {
            shown = elapsed.as_secs();
            print!("\r{} ... {shown} s", row.name);
            std::io::stdout().flush()?;
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// What we read of `gfp run --report`; the file has more.
#[derive(Debug, Deserialize)]
pub(super) struct Report {
    library_loaded: bool,
    processes: Vec<Process>,
    unreadable_records: Vec<String>,
}

/// One process image of the tree.
#[derive(Debug, Deserialize)]
struct Process {
    name: String,
    state: String,
    peak_bytes: u64,
    failed: Total,
    misuse: Total,
}

#[derive(Debug, Deserialize)]
struct Total {
    total: u64,
}

impl Report {
    pub(super) fn read(path: &Path) -> Result<Report> {
        let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_str(&text).context("the report has another form")
    }

    /// The highest peak of any process of the tree.
    pub(super) fn peak_bytes(&self) -> u64 {
        self.processes
            .iter()
            .map(|process| process.peak_bytes)
            .max()
            .unwrap_or(0)
    }

    /// Failed allocations of all processes.
    pub(super) fn failed_allocations(&self) -> u64 {
        self.processes
            .iter()
            .map(|process| process.failed.total)
            .sum()
    }

    /// What a right program's report must not have.
    pub(super) fn fault(&self) -> Option<String> {
        if !self.library_loaded || self.peak_bytes() == 0 {
            return Some("no memory was taken from gfp: was the library loaded?".to_owned());
        }
        if let Some(record) = self.unreadable_records.first() {
            return Some(format!("a record could not be read: {record}"));
        }
        let wrong = |process: &&Process| process.misuse.total > 0 || process.state == "aborted";
        let process = self.processes.iter().find(wrong)?;
        let (name, state) = (&process.name, &process.state);
        Some(format!(
            "{} misuses reported in {name} ({state})",
            process.misuse.total
        ))
    }
}
