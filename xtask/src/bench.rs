//! Benchmarks: examples of the crates that they measure, built and run; their rows are their own.

use anyhow::{Result, ensure};
use clap::{Args, Subcommand};
use std::path::PathBuf;

use crate::shell::{self, Repo};
use crate::vm;

#[derive(Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    what: Benchmark,
}

#[derive(Subcommand)]
enum Benchmark {
    /// gfp's malloc beside the C library's
    Malloc {
        /// One JSON object a row: bench, threads, ours_ns, peer, peer_ns, ratio
        #[arg(long)]
        json: bool,
        /// Also the rows beyond pairs and batches
        #[arg(long)]
        all: bool,
        /// A fraction of the time, with more noise
        #[arg(long)]
        quick: bool,
    },
    /// The page allocator beside its peers and two floors
    Page(Page),
    /// The CPUs that a process can have, side by side: slots, and places by restartable sequences
    Percpu(Percpu),
    /// How long the page allocator takes to boot, from 4 MiB to 1 TiB
    Boot {
        /// One JSON object a row: bench, ours_us, table_pages, target_us
        #[arg(long)]
        json: bool,
    },
    /// How far pages that cannot be moved spread over blocks of 2 MiB, after a long mixed load
    Frag(Frag),
    /// The instructions of the kernel's operations, beside the recorded ones
    Kernel {
        /// One JSON object a row: bench, cpus, ours_instructions; nothing is compared
        #[arg(long, conflicts_with = "bless")]
        json: bool,
        /// Record what was measured, in xtask/ratchet/instructions.json
        #[arg(long)]
        bless: bool,
    },
}

#[derive(Args, Default)]
struct Page {
    /// One JSON object a row and peer: bench, threads, ours_ns, peer, peer_ns, ratio, target, met
    #[arg(long)]
    json: bool,
    /// Only rows whose names have this text
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Numbers of threads, by default 1,2,4
    #[arg(long, value_name = "LIST")]
    threads: Option<String>,
    /// Rounds, of which the median counts; by default 11
    #[arg(long)]
    rounds: Option<usize>,
    /// Small memory, few rounds: shows that all works, measures nothing
    #[arg(long)]
    quick: bool,
    /// Only gfp and the floors
    #[arg(long)]
    no_peers: bool,
    /// By the clock on the wall instead of CPU time
    #[arg(long)]
    wall: bool,
}

impl Page {
    fn args(&self) -> Vec<String> {
        let flags = [
            (self.json, "--json"),
            (self.quick, "--quick"),
            (self.no_peers, "--no-peers"),
            (self.wall, "--wall"),
        ];
        let mut args = chosen(&flags);
        let rounds = self.rounds.map(|n| n.to_string());
        let values = [
            ("--filter", &self.filter),
            ("--threads", &self.threads),
            ("--rounds", &rounds),
        ];
        for (option, value) in values {
            if let Some(value) = value {
                args.extend([option.to_owned(), value.clone()]);
            }
        }
        args
    }
}

#[derive(Args, Default)]
struct Percpu {
    /// One JSON object a row, number of threads, and side
    #[arg(long)]
    json: bool,
    /// Only rows whose names have this text
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Numbers of threads, by default 1,2,4,16
    #[arg(long, value_name = "LIST")]
    threads: Option<String>,
    /// Rounds, of which the median counts; by default 11
    #[arg(long)]
    rounds: Option<usize>,
    /// Few rounds of little: shows that all works, measures nothing
    #[arg(long)]
    quick: bool,
}

impl Percpu {
    fn args(&self) -> Vec<String> {
        let page = Page {
            json: self.json,
            filter: self.filter.clone(),
            threads: self.threads.clone(),
            rounds: self.rounds,
            quick: self.quick,
            ..Page::default()
        };
        page.args()
    }
}

#[derive(Args, Default)]
struct Frag {
    /// One JSON object
    #[arg(long)]
    json: bool,
    /// Operations, by default 100000000
    #[arg(long)]
    ops: Option<u64>,
    /// GiB of memory, by default 16
    #[arg(long)]
    gib: Option<u64>,
    /// Percent of memory that is in use on average, by default 85
    #[arg(long)]
    fill: Option<u64>,
    /// Seed of the load, by default 1
    #[arg(long)]
    seed: Option<u64>,
    /// Where to draw the map of blocks, by default frag.svg in the target folder
    #[arg(long)]
    svg: Option<PathBuf>,
}

impl Frag {
    fn args(&self, repo: &Repo) -> Vec<String> {
        let svg = self.svg.clone();
        let svg = svg.unwrap_or_else(|| repo.target.join("frag.svg"));
        let mut args = vec!["--svg".to_owned(), svg.display().to_string()];
        args.extend(chosen(&[(self.json, "--json")]));
        let numbers = [
            ("--ops", self.ops),
            ("--gib", self.gib),
            ("--fill", self.fill),
            ("--seed", self.seed),
        ];
        for (option, number) in numbers {
            args.extend(
                number
                    .map(|n| [option.to_owned(), n.to_string()])
                    .into_iter()
                    .flatten(),
            );
        }
        args
    }
}

fn chosen(flags: &[(bool, &str)]) -> Vec<String> {
    let wanted = flags.iter().filter(|(wanted, _)| *wanted);
    wanted.map(|(_, option)| (*option).to_owned()).collect()
}

fn example(repo: &Repo, package: &str, name: &str, args: &[String]) -> std::process::Command {
    let run = ["run", "--release", "-p", package, "--example", name, "--"];
    let mut command = repo.cargo(&run);
    command.args(args);
    command
}

pub(crate) fn run(repo: &Repo, options: &Options) -> Result<()> {
    let mut command = match &options.what {
        Benchmark::Kernel { json, bless } => return vm::bench(repo, (*bless).into(), *json),
        Benchmark::Malloc { json, all, quick } => {
            let flags = [(*json, "--json"), (*all, "--all"), (*quick, "--quick")];
            example(repo, "gfp-malloc", "bench_malloc", &chosen(&flags))
        }
        Benchmark::Boot { json } => {
            let flags = [(*json, "--json")];
            example(repo, "gfp-host", "bench_boot", &chosen(&flags))
        }
        Benchmark::Frag(frag) => example(repo, "gfp-host", "bench_frag", &frag.args(repo)),
        Benchmark::Page(page) => example(repo, "gfp-host", "bench_page", &page.args()),
        Benchmark::Percpu(percpu) => example(repo, "gfp-host", "bench_percpu", &percpu.args()),
    };
    shell::run_without_limit(&mut command)
}

/// Rows that a run of `bench page` has. The last stands for that of 1 TiB, which a quick run makes
/// smaller.
const PAGE_ROWS: [&str; 14] = [
    "page/o0-pair",
    "page/o3-pair",
    "page/o9-pair",
    "page/bulk64",
    "page/o0-bulk-get",
    "page/o0-put",
    "page/o0-put-random",
    "page/o0-put-remote",
    "page/o9-put-remote",
    "page/frag-o1",
    "page/frag-o2",
    "page/frag-o3",
    "page/fail-o9",
    "page/o9-get-64gib",
];

/// What the gate asks of `bench page`: every side does every row.
pub(crate) fn page_smoke(repo: &Repo) -> Result<()> {
    let page = Page {
        json: true,
        quick: true,
        ..Page::default()
    };
    let mut command = example(repo, "gfp-host", "bench_page", &page.args());
    let lines = shell::run_and_keep(&mut command, |line| line.contains("\"peer\""))?;
    for row in PAGE_ROWS {
        let name = format!("\"bench\":\"{row}\"");
        let its = || lines.iter().filter(|line| line.contains(&name));
        for peer in ["locked-cmpxchg", "frame-alloc", "buddy_system_allocator"] {
            let peer = format!("\"peer\":\"{peer}\"");
            ensure!(its().any(|line| line.contains(&peer)), "{row}: no {peer}");
        }
    }
    Ok(())
}

/// What the gate asks of `bench percpu`: slots do every row. (Sequences may be missing.)
pub(crate) fn percpu_smoke(repo: &Repo) -> Result<()> {
    let percpu = Percpu {
        json: true,
        quick: true,
        ..Percpu::default()
    };
    let mut command = example(repo, "gfp-host", "bench_percpu", &percpu.args());
    let lines = shell::run_and_keep(&mut command, |line| line.contains("\"side\":\"slots\""))?;
    for row in ["section", "pair", "page", "held", "drain"] {
        let name = format!("\"bench\":\"percpu/{row}\"");
        ensure!(lines.iter().any(|line| line.contains(&name)), "no {row}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_passed_on() {
        let page = Page {
            filter: Some("o0".into()),
            rounds: Some(3),
            wall: true,
            ..Page::default()
        };
        assert_eq!(
            page.args(),
            ["--wall", "--filter", "o0", "--rounds", "3"].map(str::to_owned)
        );
        assert!(Page::default().args().is_empty());
    }
}
