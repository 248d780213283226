//! The repository on disk, running commands within a limit, and steps with their time.

use anyhow::{Context, Result, bail};
use std::env;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::watchdog::{self, Mark, Watch};

/// Whether a check may write what it found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Bless {
    /// Compare only
    No,
    /// Write ratchets downwards and generated pages
    Yes,
}

impl From<bool> for Bless {
    fn from(asked: bool) -> Self {
        if asked { Bless::Yes } else { Bless::No }
    }
}

/// Where the checkout and its build products are.
pub(crate) struct Repo {
    pub(crate) root: PathBuf,
    pub(crate) target: PathBuf,
}

impl Repo {
    /// The checkout that this xtask was started in (cargo names it), else the one it was built
    /// from.
    pub(crate) fn find() -> Result<Repo> {
        let here = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = here
            .parent()
            .context("xtask has no parent folder")?
            .to_path_buf();
        if !root.join("crates/gfp").is_dir() {
            bail!(
                "{} is not a checkout of gfp: crates/gfp is missing",
                root.display()
            );
        }
        let target = match env::var_os("CARGO_TARGET_DIR") {
            Some(dir) => root.join(dir),
            None => root.join("target"),
        };
        Ok(Repo { root, target })
    }

    /// `cargo ARGS` at the root of the checkout, with the toolchain that runs us.
    pub(crate) fn cargo(&self, args: &[&str]) -> Command {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.args(args).current_dir(&self.root);
        command
    }

    /// `cargo +nightly ARGS`: through rustup, which picks the toolchain.
    pub(crate) fn cargo_nightly(&self, args: &[&str]) -> Command {
        let mut command = Command::new("cargo");
        command.arg("+nightly").args(args).current_dir(&self.root);
        // Set by the cargo that runs us; they would pin the inner cargo to stable.
        for name in ["CARGO", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN"] {
            command.env_remove(name);
        }
        command
    }
}

/// Runs a command with our own stdout and stderr, within the limit of one command; a non-zero
/// status is an error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    run_within(command, watchdog::limit())
}

/// The same for what may take as long as its user asked for.
pub(crate) fn run_without_limit(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot start {command:?}"))?;
    judge(status, &format!("{command:?}"))
}

/// The same within a limit.
pub(crate) fn run_within(command: &mut Command, limit: Duration) -> Result<()> {
    let shown = format!("{command:?}");
    let (mut child, watch) = start(command, &shown, limit)?;
    let status = child.wait();
    end(watch, &shown, limit)?;
    judge(status?, &shown)
}

/// Runs a command, shows its stdout as it comes, and returns the lines that `keep` picks.
pub(crate) fn run_and_keep(command: &mut Command, keep: fn(&str) -> bool) -> Result<Vec<String>> {
    run_and_keep_within(command, watchdog::limit(), keep)
}

/// The same within a limit.
pub(crate) fn run_and_keep_within(
    command: &mut Command,
    limit: Duration,
    keep: fn(&str) -> bool,
) -> Result<Vec<String>> {
    let shown = format!("{command:?}");
    let (status, kept) = run_and_read(command, limit, Show::Yes, keep)?;
    judge(status, &shown)?;
    Ok(kept)
}

/// Runs a command whose status its caller judges; shows its stdout as it comes and returns it.
pub(crate) fn run_and_show(command: &mut Command) -> Result<(ExitStatus, Vec<String>)> {
    run_and_read(command, watchdog::limit(), Show::Yes, |_| true)
}

/// The same without showing it.
pub(crate) fn run_and_capture(command: &mut Command) -> Result<(ExitStatus, Vec<String>)> {
    run_and_read(command, watchdog::limit(), Show::No, |_| true)
}

/// Whether output is shown while it is read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Show {
    No,
    Yes,
}

fn run_and_read(
    command: &mut Command,
    limit: Duration,
    show: Show,
    keep: fn(&str) -> bool,
) -> Result<(ExitStatus, Vec<String>)> {
    let shown = format!("{command:?}");
    let (mut child, watch) = start(command.stdout(Stdio::piped()), &shown, limit)?;
    let kept = read_and_keep(&mut child, show, keep);
    let status = child.wait();
    end(watch, &shown, limit)?;
    Ok((status?, kept?))
}

/// Starts a command that is watched; `shown` is how messages name it.
fn start(command: &mut Command, shown: &str, limit: Duration) -> Result<(Child, Watch)> {
    let mark = Mark::put_on(command);
    let child = command
        .spawn()
        .with_context(|| format!("cannot start {shown}"))?;
    let watch = Watch::start(child.id(), mark, shown.to_owned(), limit);
    Ok((child, watch))
}

fn read_and_keep(child: &mut Child, show: Show, keep: fn(&str) -> bool) -> Result<Vec<String>> {
    let stdout = child.stdout.take().context("stdout was piped")?;
    let mut kept = Vec::new();
    for line in BufReader::new(stdout).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        if show == Show::Yes {
            println!("{line}");
        }
        if keep(&line) {
            kept.push(line);
        }
    }
    Ok(kept)
}

/// The command has ended; an error if the watch had to end it.
fn end(watch: Watch, shown: &str, limit: Duration) -> Result<()> {
    if watch.finish() {
        bail!(
            "did not end in {} and was killed: {shown}",
            show_time(limit)
        );
    }
    Ok(())
}

fn judge(status: ExitStatus, shown: &str) -> Result<()> {
    if !status.success() {
        bail!("{status}: {shown}");
    }
    Ok(())
}

/// Does `NAME ARGS` run and succeed? Its output is dropped.
pub(crate) fn succeeds(program: &Path, args: &[&str]) -> bool {
    Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Seconds with one decimal, or minutes from 100 seconds up.
pub(crate) fn show_time(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 100.0 {
        format!("{seconds:.1} s")
    } else {
        format!("{}:{:02} min", time.as_secs() / 60, time.as_secs() % 60)
    }
}

/// One step of the test command: runs `work`, prints its time; a failure names the command that
/// repeats it.
pub(crate) fn step<T>(name: &str, repeat: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    println!("\n==> {name}");
    let start = Instant::now();
    let before = watchdog::enter_step(Some(name.to_owned()));
    let result = work();
    watchdog::enter_step(before);
    let time = show_time(start.elapsed());
    match result {
        Ok(value) => {
            println!("<== {name}: ok, {time}");
            Ok(value)
        }
        Err(error) => {
            println!("<== {name}: FAILED, {time}\nrepeat it with:  {repeat}");
            Err(error.context(format!("step `{name}` failed; repeat it with: {repeat}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_names_the_command_that_repeats_it() {
        let result: Result<()> = step("lint", "cargo clippy", || bail!("one warning"));
        let message = format!("{:#}", result.unwrap_err());
        assert!(
            message.contains("repeat it with: cargo clippy"),
            "{message}"
        );
        assert!(message.contains("one warning"), "{message}");
    }

    #[test]
    fn a_non_zero_status_is_an_error_and_lines_are_kept() {
        assert!(run(Command::new("sh").args(["-c", "exit 3"])).is_err());
        let mut command = Command::new("sh");
        command.args(["-c", "echo a1; echo b; echo a2"]);
        let kept = run_and_keep(&mut command, |line| line.starts_with('a')).unwrap();
        assert_eq!(kept, ["a1", "a2"]);
        let mut command = Command::new("sh");
        assert!(run_and_keep(command.args(["-c", "echo a; exit 1"]), |_| true).is_err());
    }

    #[test]
    fn times_are_short() {
        assert_eq!(show_time(Duration::from_millis(1240)), "1.2 s");
        assert_eq!(show_time(Duration::from_secs(125)), "2:05 min");
    }
}
