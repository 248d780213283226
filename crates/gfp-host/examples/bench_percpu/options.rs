//! The command line.

use crate::measure::Scale;
use std::process::exit;

const HELP: &str = "bench percpu: the CPUs that a process can have, side by side

  --json           one JSON object for each row, number of threads, and side
  --filter TEXT    only rows whose names have TEXT
  --threads LIST   numbers of threads, by default 1,2,4,16
  --rounds N       rounds, by default 11; the figure is their median
  --quick          few rounds of little: seconds; what it prints is no measurement";

/// Threads that free pages at the same time.
const HELD_THREADS: usize = 64;

pub(crate) struct Options {
    pub(crate) json: bool,
    pub(crate) quick: bool,
    pub(crate) threads: Vec<usize>,
    filter: Option<String>,
    rounds: usize,
}

impl Options {
    /// Reads the command line; ends the program if it makes no sense, or asks for help.
    pub(crate) fn from_args() -> Options {
        let mut options = Options {
            json: false,
            quick: false,
            threads: vec![1, 2, 4, 16],
            filter: None,
            rounds: 0,
        };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            let mut value = || args.next().unwrap_or_else(|| wrong(&arg));
            match arg.as_str() {
                "--json" => options.json = true,
                "--filter" => options.filter = Some(value()),
                "--threads" => options.threads = value().split(',').map(positive).collect(),
                "--rounds" => options.rounds = positive(&value()),
                "--quick" => options.quick = true,
                "--help" | "-h" => {
                    println!("{HELP}");
                    exit(0);
                }
                _ => wrong(&arg),
            }
        }
        if options.rounds == 0 {
            options.rounds = if options.quick { 3 } else { 11 };
        }
        options
    }

    pub(crate) fn picks(&self, row: &str) -> bool {
        let text = self.filter.as_ref();
        text.is_none_or(|text| row.contains(text.as_str()))
    }

    pub(crate) fn scale(&self, threads: usize) -> Scale {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let pairs = match (self.quick, threads > cpus) {
            (true, _) => 1 << 10,
            (false, false) => 1 << 18,
            (false, true) => 1 << 20, // longer than a time slice
        };
        Scale {
            threads,
            rounds: self.rounds,
            pairs,
        }
    }

    pub(crate) fn held_threads(&self) -> usize {
        if self.quick { 8 } else { HELD_THREADS }
    }

    pub(crate) fn drains(&self) -> usize {
        if self.quick { 20 } else { 2000 }
    }
}

fn positive(text: &str) -> usize {
    match text.parse() {
        Ok(n) if (1..=1024).contains(&n) => n,
        _ => wrong(text),
    }
}

fn wrong(what: &str) -> ! {
    eprintln!("bench percpu: {what}: not understood\n\n{HELP}");
    exit(2);
}
