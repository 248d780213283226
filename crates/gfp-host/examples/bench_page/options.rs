//! The command line.

use crate::measure::Scale;
use crate::pace::Clock;
use crate::side::Peers;
use std::process::exit;

const HELP: &str = "bench page: gfp's page allocator beside its peers and two floors

  --json           one JSON object for each row, number of threads, and peer
  --filter TEXT    only rows whose names have TEXT
  --threads LIST   numbers of threads, by default 1,2,4
  --rounds N       rounds, by default 11; the figure is their median
  --quick          small memory, few rounds: seconds; what it prints is no measurement
  --no-peers       only gfp and the floors
  --wall           by the clock on the wall instead of CPU time";

/// How large the memory and the batches are.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(crate) enum Size {
    Full,
    Quick,
}

impl Size {
    /// Rounds and clock are the caller's.
    pub(crate) fn of(self, threads: usize) -> Scale {
        let full = self == Size::Full;
        Scale {
            threads,
            rounds: 0,
            clock: Clock::Cpu,
            pairs: if full { 1 << 16 } else { 1 << 10 },
            frames: if full { 1 << 18 } else { 1 << 12 },
            large: if full { 1 << 12 } else { 1 << 6 },
            rare: if full { 1 << 10 } else { 1 << 5 },
            failures: if full { 1 << 10 } else { 1 << 4 },
        }
    }
}

pub(crate) struct Options {
    pub(crate) json: bool,
    pub(crate) filter: Option<String>,
    pub(crate) threads: Vec<usize>,
    pub(crate) rounds: usize,
    pub(crate) scale: Size,
    pub(crate) peers: Peers,
    pub(crate) clock: Clock,
}

impl Options {
    /// Reads the command line; ends the program if it makes no sense, or asks for help.
    pub(crate) fn from_args() -> Options {
        let mut options = Options {
            json: false,
            filter: None,
            threads: vec![1, 2, 4],
            rounds: 0,
            scale: Size::Full,
            peers: Peers::All,
            clock: Clock::Cpu,
        };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            let mut value = || args.next().unwrap_or_else(|| wrong(&arg));
            match arg.as_str() {
                "--json" => options.json = true,
                "--filter" => options.filter = Some(value()),
                "--threads" => options.threads = value().split(',').map(positive).collect(),
                "--rounds" => options.rounds = positive(&value()),
                "--quick" => options.scale = Size::Quick,
                "--no-peers" => options.peers = Peers::None,
                "--wall" => options.clock = Clock::Wall,
                "--help" | "-h" => {
                    println!("{HELP}");
                    exit(0);
                }
                _ => wrong(&arg),
            }
        }
        if options.rounds == 0 {
            options.rounds = if options.scale == Size::Full { 11 } else { 3 };
        }
        options
    }

    pub(crate) fn picks(&self, row: &str) -> bool {
        let text = self.filter.as_ref();
        text.is_none_or(|text| row.contains(text.as_str()))
    }
}

fn positive(text: &str) -> usize {
    match text.parse() {
        Ok(n) if (1..=1024).contains(&n) => n,
        _ => wrong(text),
    }
}

fn wrong(what: &str) -> ! {
    eprintln!("bench page: {what}: not understood\n\n{HELP}");
    exit(2);
}
