//! `gfp`: the command.
//!
//! `gfp run -- PROGRAM ARGS` runs an unmodified program whose malloc is gfp; `gfp boot` starts a
//! machine that lives on gfp; `gfp explain EXPR` says what a flag word does. This file is the
//! command line only; each subcommand is a module.
//!
//! | module | what it knows |
//! |---|---|
//! | `run` | the order of things in `gfp run` |
//! | `boot` | `gfp boot`: the kernel in QEMU |
//! | `explain` | `gfp explain`: what a flag word does |
//! | `size`, `machine` | sizes as text; how much memory there is |
//! | `program`, `elf` | finding a program; whether it can be interposed |
//! | `library` | finding `libgfp_malloc.so`, and `LD_PRELOAD` |
//! | `signals` | waiting for a child while signals arrive; dying as it died |
//! | `records` | the directory of records, and what they say |
//! | `summary`, `report` | text for people, JSON for programs |

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

mod boot;
mod elf;
mod explain;
mod failure;
mod library;
mod machine;
mod program;
mod records;
mod report;
mod run;
mod signals;
mod size;
mod summary;

/// Linux's memory allocation subsystem for programs that do not know it.
#[derive(Debug, Parser)]
#[command(name = "gfp", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(RunArgs),
    Boot(boot::BootArgs),
    Explain(explain::ExplainArgs),
}

/// Run an unmodified program whose malloc is gfp
///
/// PROGRAM gets all its memory from gfp, over SIZE of managed RAM. When that is used up, the
/// program sees NULL and ENOMEM, or is killed (--oom kill). At its end a summary is printed on
/// stderr. Every process of the program's tree has a budget of its own, and is named in it.
#[derive(Debug, Args)]
#[command(
    after_long_help = AFTER_RUN,
    verbatim_doc_comment,
    override_usage = "gfp run [--memory SIZE] [--oom fail|kill] [--report FILE.json] [--proc DIR] \
                      -- PROGRAM ARGS..."
)]
struct RunArgs {
    /// Memory of each process: bytes, or a number with K, M, G, T (powers of 1024) [default: half
    /// of the machine's memory]
    #[arg(short, long, value_name = "SIZE", value_parser = size::parse)]
    memory: Option<u64>,

    /// What follows a request that memory is used up for
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = Oom::Fail)]
    oom: Oom,

    /// Write what the summary says, of all processes, to FILE as JSON
    #[arg(long, value_name = "FILE.json")]
    report: Option<PathBuf>,

    /// Keep files in the formats of /proc in `DIR/<pid>/` up to date while the program runs:
    /// buddyinfo, zoneinfo, pagetypeinfo, vmstat, meminfo, slabinfo, vmallocinfo, pressure/memory,
    /// extfrag/unusable_index, extfrag/extfrag_index
    #[arg(long, value_name = "DIR")]
    proc: Option<PathBuf>,

    /// The program, looked up in PATH, and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "PROGRAM")]
    command: Vec<OsString>,
}

/// What follows when a process has used its memory up.
#[derive(Copy, Clone, Debug, PartialEq, Eq, ValueEnum)]
enum Oom {
    /// The program sees NULL and ENOMEM
    Fail,
    /// The process ends by SIGKILL, after a report: who asked for how much, and the biggest caches
    Kill,
}

impl Oom {
    /// The value of `GFP_OOM`.
    const fn name(self) -> &'static str {
        match self {
            Oom::Fail => "fail",
            Oom::Kill => "kill",
        }
    }
}

const AFTER_RUN: &str = "\
Examples:
  gfp run --memory 256M -- python3 -c 'print(sum(range(10**6)))'
  gfp run --memory 64M --report r.json -- sort big.txt     # what failed, and how large it was
  gfp run --memory 1G --proc /tmp/p -- redis-server &      # then: cat /tmp/p/*/buddyinfo

Exit status: the program's own. If it died by a signal, so does gfp. Otherwise
  125  gfp itself failed (bad SIZE, static program, unwritable report, ...)
  126  PROGRAM was found but cannot be executed
  127  PROGRAM was not found

Signals: what is sent to gfp alone (HUP, INT, QUIT, TERM, USR1, USR2) is passed on to the program;
Ctrl-C reaches it through the terminal.

--proc DIR is made if need be, and stays when the program has ended.

Environment:
  GFP_MALLOC_LIB     path of libgfp_malloc.so, if it is not found beside gfp
  GFP_MALLOC_REPORT  report (default) or abort: what a double or foreign free does to the program
  TMPDIR             where the records of the processes are kept while the program runs";

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are "errors" with status 0, on stdout; a closed stdout is not our
            // problem.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { failure::OWN } else { 0 });
        }
    };
    let result = match &cli.command {
        Command::Run(args) => run::run(args),
        Command::Boot(args) => boot::run(args),
        Command::Explain(args) => explain::run(args),
    };
    match result {
        Ok(run::End::Status(code)) => ExitCode::from(code),
        Ok(run::End::Signal(signal)) => signals::die_by(signal),
        Err(failure) => {
            failure.print();
            ExitCode::from(failure.status)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_end_where_the_program_starts() {
        let parse = |line: &[&str]| match Cli::try_parse_from(line).unwrap().command {
            Command::Run(args) => args,
            other => panic!("{other:?}"),
        };
        let args = parse(&["gfp", "run", "-m", "64M", "ls", "--memory", "x"]);
        assert_eq!(args.memory, Some(64 << 20));
        assert_eq!(args.command, ["ls", "--memory", "x"]);
        let args = parse(&["gfp", "run", "--", "--odd", "--", "y"]);
        assert_eq!(args.command, ["--odd", "--", "y"]);
        assert_eq!((args.memory, args.oom), (None, Oom::Fail));
        let args = parse(&["gfp", "run", "--oom", "kill", "ls"]);
        assert_eq!(args.oom, Oom::Kill);
        assert!(Cli::try_parse_from(["gfp", "run", "--oom", "x", "ls"]).is_err());
        assert!(Cli::try_parse_from(["gfp", "run", "--memory", "64M"]).is_err());
        assert!(Cli::try_parse_from(["gfp", "run", "--memroy", "64M", "ls"]).is_err());
    }
}
