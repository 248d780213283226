//! Runs scenarios over many seeds: what `cargo xtask sim` starts.

use clap::Parser;
use gfp_sim::scenario::{self, Scenario};
use gfp_sim::{Config, Failure, Outcome, Shown};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

#[derive(Parser)]
#[command(
    name = "gfp-sim",
    about = "Runs simulated machines; each run repeats from its seed"
)]
struct Cli {
    /// How many seeds
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// Only this seed, with what happened
    #[arg(long)]
    seed: Option<u64>,
    /// The first seed, when there are many
    #[arg(
        long,
        visible_alias = "first",
        default_value_t = 0,
        conflicts_with = "seed"
    )]
    from: u64,
    /// Only this scenario
    #[arg(long)]
    scenario: Option<String>,
    /// New seeds for so many minutes
    #[arg(long, conflicts_with = "seed")]
    minutes: Option<u64>,
    /// With `--seed`: shows so many events before a failure, all points among them
    #[arg(long, requires = "seed")]
    events: Option<usize>,
    /// Names the scenarios
    #[arg(long)]
    list: bool,
}

/// What several threads share.
struct Work<'a> {
    scenarios: &'a [Scenario],
    next: AtomicU64,
    stop: AtomicBool,
    /// The total of all runs, and the failure of the smallest seed.
    result: Mutex<(Outcome, Option<Box<Failure>>)>,
}

impl Work<'_> {
    /// Takes seeds until there are no more, or a run fails.
    fn run(&self, more: &(dyn Fn(u64) -> bool + Sync)) {
        while !self.stop.load(Ordering::Relaxed) {
            let seed = self.next.fetch_add(1, Ordering::Relaxed);
            if !more(seed) {
                return;
            }
            for scenario in self.scenarios {
                let outcome = scenario.run(Config::swarm(seed));
                let mut result = self.result.lock().expect("nobody panics");
                match outcome {
                    Ok(outcome) => add(&mut result.0, &outcome),
                    Err(failure) => {
                        self.stop.store(true, Ordering::Relaxed);
                        let known = result.1.as_ref().map(|known| known.seed);
                        if known.is_none_or(|known| seed < known) {
                            result.1 = Some(failure);
                        }
                        return;
                    }
                }
            }
        }
    }
}

fn add(total: &mut Outcome, one: &Outcome) {
    // A sum: the order in which threads come does not matter.
    total.trace_hash = total.trace_hash.wrapping_add(one.trace_hash);
    total.steps += one.steps;
    total.virtual_ns += one.virtual_ns;
    total.interrupts += one.interrupts;
    total.softirqs += one.softirqs;
    total.nmis += one.nmis;
    total.switches += one.switches;
    total.taken += one.taken;
    total.faults += one.faults;
}

/// One seed, one line a scenario.
fn one(scenarios: &[Scenario], seed: u64, events: Option<usize>) -> Result<(), Box<Failure>> {
    for scenario in scenarios {
        let mut config = Config::swarm(seed);
        if let Some(events) = events {
            config = config.shown(Shown::LastWithPoints(events));
        }
        let shape = format!("{config:?}");
        match scenario.run(config) {
            Ok(outcome) => println!("{} {outcome}", scenario.name),
            Err(failure) => {
                println!("{} {shape}", scenario.name);
                return Err(failure);
            }
        }
    }
    Ok(())
}

fn many(cli: &Cli, scenarios: &[Scenario]) -> Result<(), Box<Failure>> {
    let begin = Instant::now();
    let until = cli
        .minutes
        .map(|minutes| begin + Duration::from_secs(60 * minutes));
    let last = cli.from.saturating_add(cli.seeds);
    let work = Work {
        scenarios,
        next: AtomicU64::new(cli.from),
        stop: AtomicBool::new(false),
        result: Mutex::default(),
    };
    let more = |seed| until.map_or(seed < last, |until| Instant::now() < until);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| work.run(&more));
        }
    });
    let seeds = work.next.load(Ordering::Relaxed) - threads as u64 - cli.from;
    let (total, failure) = work.result.into_inner().expect("nobody panics");
    if let Some(failure) = failure {
        return Err(failure);
    }
    println!("{seeds} seeds of {} scenarios: {total}", scenarios.len());
    println!("{:.1} s", begin.elapsed().as_secs_f64());
    Ok(())
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if cli.list {
        for scenario in scenario::ALL {
            println!("{:12} {}", scenario.name, scenario.about);
        }
        return ExitCode::SUCCESS;
    }
    let scenarios = match cli.scenario.as_deref() {
        None => scenario::ALL,
        Some(name) => match scenario::find(name) {
            Some(scenario) => std::slice::from_ref(scenario),
            None => {
                eprintln!("no scenario is called {name}; --list names them");
                return ExitCode::FAILURE;
            }
        },
    };
    let result = match cli.seed {
        Some(seed) => one(scenarios, seed, cli.events),
        None => many(&cli, scenarios),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}
