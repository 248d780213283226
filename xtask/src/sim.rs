//! Simulated machines: `gfp-sim` over many seeds, or over one again.

use anyhow::Result;
use clap::Args;
use std::process::Command;

use crate::shell::{self, Repo};

#[derive(Args)]
pub(crate) struct Options {
    /// How many seeds
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first seed, when there are many
    #[arg(long, visible_alias = "first", default_value_t = 0)]
    from: u64,
    /// Only this seed, with what happened
    #[arg(long, conflicts_with_all = ["seeds", "from", "minutes"])]
    seed: Option<u64>,
    /// With --seed: this many events before a failure, every point among them
    #[arg(long, requires = "seed")]
    events: Option<usize>,
    /// Only this scenario
    #[arg(long)]
    scenario: Option<String>,
    /// New seeds for this many minutes
    #[arg(long, conflicts_with = "seeds")]
    minutes: Option<u64>,
    /// Name the scenarios
    #[arg(long)]
    list: bool,
}

impl Options {
    /// What `gfp-sim` is started with.
    fn arguments(&self) -> Vec<String> {
        let mut arguments = Vec::new();
        let mut add = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
        match (self.seed, self.minutes) {
            (Some(seed), _) => add("--seed", seed.to_string()),
            (None, Some(minutes)) => add("--minutes", minutes.to_string()),
            (None, None) => add("--seeds", self.seeds.to_string()),
        }
        if self.from != 0 {
            add("--from", self.from.to_string());
        }
        if let Some(events) = self.events {
            add("--events", events.to_string());
        }
        if let Some(scenario) = &self.scenario {
            add("--scenario", scenario.clone());
        }
        if self.list {
            arguments.push("--list".to_owned());
        }
        arguments
    }
}

/// Of the test command: many seeds of the scenarios with the most that can go wrong. The others run
/// with `cargo test`, some hundred seeds of each.
pub(crate) const GATE: [[&str; 4]; 3] = [
    ["--scenario", "reclaim", "--seeds", "1000"],
    ["--scenario", "compaction", "--seeds", "1000"],
    ["--scenario", "contig", "--seeds", "500"],
];

/// Runs it with assertions on.
pub(crate) fn run(repo: &Repo, options: &Options) -> Result<()> {
    shell::run_without_limit(command(repo).args(options.arguments()))
}

/// One of [`GATE`], with the time limit of all steps.
pub(crate) fn gate(repo: &Repo, arguments: &[&str]) -> Result<()> {
    shell::run(command(repo).args(arguments))
}

fn command(repo: &Repo) -> Command {
    repo.cargo(&["run", "--quiet", "-p", "gfp-sim", "--"])
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn arguments(line: &str) -> String {
        let words = ["sim"].into_iter().chain(line.split_whitespace());
        Line::parse_from(words).options.arguments().join(" ")
    }

    #[test]
    fn what_a_failure_prints_is_passed_on() {
        assert_eq!(
            arguments("--seed 7 --scenario oom"),
            "--seed 7 --scenario oom"
        );
        assert_eq!(arguments(""), "--seeds 1000");
        // The steps of the test command are lines that can be typed.
        let typed = GATE.map(|gate| arguments(&gate.join(" ")));
        assert_eq!(
            typed,
            [
                "--seeds 1000 --scenario reclaim",
                "--seeds 1000 --scenario compaction",
                "--seeds 500 --scenario contig",
            ]
        );
        assert_eq!(arguments("--seeds 5 --first 9"), "--seeds 5 --from 9");
        assert_eq!(arguments("--minutes 3 --from 9"), "--minutes 3 --from 9");
    }
}
