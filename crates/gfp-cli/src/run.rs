//! `gfp run`: the order of things.
//!
//! 1. Everything that can be wrong is looked at first: the program, the library, the report's path,
//!    the `--proc` directory. A failure here leaves nothing behind and has run nothing.
//! 2. Signals are blocked, the directory of records is made, the program starts with `LD_PRELOAD`
//!    and `GFP_*` in its environment.
//! 3. gfp waits, passing signals on.
//! 4. It reads the records, prints the summary, writes the report, removes the directory, and ends
//!    as the program ended.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use crate::failure::{Failure, say};
use crate::records::{Images, TempDir, is_alive};
use crate::report::Target;
use crate::signals::Blocked;
use crate::{Oom, RunArgs};
use crate::{library, machine, program, summary};

/// How the program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With this exit status.
    Status(u8),
    /// By this signal.
    Signal(i32),
}

impl End {
    fn of(status: ExitStatus) -> End {
        match (status.code(), status.signal()) {
            (Some(code), _) => End::Status(code as u8),
            (None, Some(signal)) => End::Signal(signal),
            // Neither can only be "stopped", which is not waited for.
            (None, None) => End::Status(crate::failure::OWN),
        }
    }
}

/// What a run came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// PROGRAM ARGS.
    pub(crate) command: Vec<OsString>,
    /// Process id of the program.
    pub(crate) main_pid: u32,
    /// How it ended.
    pub(crate) end: End,
    /// From its start to its end.
    pub(crate) elapsed: Duration,
    /// Budget of each process.
    pub(crate) memory_bytes: u64,
    /// The processes.
    pub(crate) images: Images,
}

/// Runs the program of `args` to its end.
pub(crate) fn run(args: &RunArgs) -> Result<End, Failure> {
    let prepared = Prepared::new(args)?;
    let report = args.report.as_deref().map(Target::open).transpose()?;
    match prepared.run() {
        Ok(outcome) => {
            say(&summary::render(&outcome));
            match report.map(|report| report.write(&outcome)) {
                // The program's own status matters more to the caller than ours, so only a success
                // turns into a failure.
                Some(Err(failure)) if outcome.end == End::Status(0) => return Err(failure),
                Some(Err(failure)) => failure.print(),
                Some(Ok(())) | None => {}
            }
            Ok(outcome.end)
        }
        Err(failure) => {
            if let Some(report) = report {
                report.abandon();
            }
            Err(failure)
        }
    }
}

/// A run that nothing is known to stand against.
struct Prepared<'a> {
    command: &'a [OsString],
    program: PathBuf,
    library: PathBuf,
    memory_bytes: u64,
    oom: Oom,
    proc_dir: Option<PathBuf>,
}

impl Prepared<'_> {
    fn new(args: &RunArgs) -> Result<Prepared<'_>, Failure> {
        let name = args
            .command
            .first()
            .ok_or_else(|| Failure::own("no PROGRAM given"))?;
        let program = program::resolve(name, env::var_os("PATH").as_deref())?;
        let exe = env::current_exe()
            .map_err(|error| Failure::own(format!("cannot find gfp's own path: {error}")))?;
        let library = library::find(env::var_os("GFP_MALLOC_LIB").as_deref(), &exe)?;
        let memory_bytes = match args.memory {
            Some(bytes) => bytes,
            None => machine::default_bytes()?,
        };
        let proc_dir = args.proc.as_deref().map(make_proc_dir).transpose()?;
        Ok(Prepared {
            command: &args.command,
            program,
            library,
            memory_bytes,
            oom: args.oom,
            proc_dir,
        })
    }

    /// Starts the program and sees it to its end.
    fn run(self) -> Result<Outcome, Failure> {
        let blocked = Blocked::new();
        let dir = TempDir::new("run").map_err(|error| {
            Failure::own(format!(
                "cannot make a directory for the records: {error}; set TMPDIR"
            ))
        })?;
        let mut command = self.child_command(dir.path());
        let start = Instant::now();
        let mut child = blocked.spawn(&mut command).map_err(|error| {
            let message = format!("{}: {error}", self.program.display());
            match error.kind() {
                io::ErrorKind::NotFound => Failure::not_found(message),
                _ => Failure::not_executable(message),
            }
        })?;
        let status = blocked.wait(&mut child).map_err(|error| {
            Failure::own(format!(
                "cannot wait for {}: {error}",
                self.program.display()
            ))
        })?;
        let elapsed = start.elapsed();
        let images = Images::read(dir.path(), is_alive).unwrap_or_else(|error| Images {
            unreadable: vec![format!("{}: {error}", dir.path().display())],
            ..Images::default()
        });
        Ok(Outcome {
            command: self.command.to_vec(),
            main_pid: child.id(),
            end: End::of(status),
            elapsed,
            memory_bytes: self.memory_bytes,
            images,
        })
    }

    fn child_command(&self, records: &Path) -> Command {
        let preload = library::preload(&self.library, env::var_os("LD_PRELOAD").as_deref());
        let mut command = Command::new(&self.program);
        command
            .arg0(&self.command[0])
            .args(&self.command[1..])
            .env("LD_PRELOAD", preload)
            .env("GFP_MEMORY", self.memory_bytes.to_string())
            .env("GFP_OOM", self.oom.name())
            .env("GFP_RECORD_DIR", records)
            // Set or not by us alone: it would be that of a gfp around us.
            .env_remove("GFP_PROC_DIR");
        if let Some(dir) = &self.proc_dir {
            command.env("GFP_PROC_DIR", dir);
        }
        command
    }
}

/// Makes the directory of `--proc` and checks that files can be made in it.
fn make_proc_dir(dir: &Path) -> Result<PathBuf, Failure> {
    let refused = |error: io::Error| Failure::own(format!("--proc {}: {error}", dir.display()));
    fs::create_dir_all(dir).map_err(refused)?;
    let probe = dir.join(format!(".gfp-{}", std::process::id()));
    fs::write(&probe, "")
        .and_then(|()| fs::remove_file(&probe))
        .map_err(refused)?;
    dir.canonicalize().map_err(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Default for Outcome {
        fn default() -> Outcome {
            Outcome {
                command: Vec::new(),
                main_pid: 0,
                end: End::Status(0),
                elapsed: Duration::ZERO,
                memory_bytes: 0,
                images: Images::default(),
            }
        }
    }

    #[test]
    fn the_program_gets_the_agreed_environment() {
        let prepared = Prepared {
            command: &["prog".into(), "arg".into()],
            program: "/bin/prog".into(),
            library: "/lib/l.so".into(),
            memory_bytes: 4096,
            oom: Oom::Kill,
            proc_dir: Some("/tmp/p".into()),
        };
        let command = prepared.child_command(Path::new("/tmp/r"));
        let value = |name: &str| {
            let found = command.get_envs().find(|(key, _)| *key == name);
            found
                .and_then(|(_, value)| value)
                .map(|value| value.to_str().unwrap().to_string())
        };
        assert_eq!(value("GFP_MEMORY").unwrap(), "4096");
        assert_eq!(value("GFP_OOM").unwrap(), "kill");
        assert_eq!(value("GFP_RECORD_DIR").unwrap(), "/tmp/r");
        assert_eq!(value("GFP_PROC_DIR").unwrap(), "/tmp/p");
        assert!(value("LD_PRELOAD").unwrap().starts_with("/lib/l.so"));
        assert_eq!(command.get_program(), "/bin/prog");
        assert_eq!(command.get_args().collect::<Vec<_>>(), ["arg"]);
        let without = Prepared {
            proc_dir: None,
            ..prepared
        };
        let command = without.child_command(Path::new("/tmp/r"));
        assert!(
            command
                .get_envs()
                .any(|(key, value)| key == "GFP_PROC_DIR" && value.is_none())
        );
    }

    #[test]
    fn a_proc_directory_is_made_with_its_parents() {
        let dir = TempDir::new("proc").unwrap();
        let made = make_proc_dir(&dir.path().join("a/b")).unwrap();
        assert!(made.is_absolute() && made.is_dir());
        assert_eq!(fs::read_dir(&made).unwrap().count(), 0);
        fs::write(dir.path().join("file"), "").unwrap();
        for wrong in ["file", "file/x"] {
            let refused = make_proc_dir(&dir.path().join(wrong)).unwrap_err();
            assert!(refused.message.contains("--proc"), "{refused:?}");
        }
    }
}
