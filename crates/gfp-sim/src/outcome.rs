//! What a run was like, and why it failed.

use core::fmt;

/// What a run was like. Two runs of a seed have equal outcomes.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Outcome {
    /// All decisions and all that the scenario noted, in order.
    pub trace_hash: u64,
    /// Points.
    pub steps: u64,
    /// The virtual clock at the end.
    pub virtual_ns: u64,
    /// Interrupts delivered.
    pub interrupts: u64,
    /// Softirqs delivered.
    pub softirqs: u64,
    /// NMIs delivered.
    pub nmis: u64,
    /// How often somebody else went on.
    pub switches: u64,
    /// How often a CPU's place was taken by another.
    pub taken: u64,
    /// Faults: refusals, slow CPUs, jumps of the clock.
    pub faults: u64,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "trace {:016x}: {} steps, {} ns, {} switches, {} interrupts, {} softirqs, \
             {} NMIs, {} CPUs taken, {} faults",
            self.trace_hash,
            self.steps,
            self.virtual_ns,
            self.switches,
            self.interrupts,
            self.softirqs,
            self.nmis,
            self.taken,
            self.faults
        )
    }
}

/// How a run failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FailureKind {
    /// A task or a check panicked.
    Panic(String),
    /// All tasks sleep, and none of them until a time.
    Deadlock,
    /// More points than the run may have.
    Livelock,
}

/// A run that failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// How.
    pub kind: FailureKind,
    /// The seed that repeats it.
    pub seed: u64,
    /// The scenario, if it was one.
    pub scenario: Option<&'static str>,
    /// What the run was like until then.
    pub outcome: Outcome,
    /// The tasks that did not end, and what each waits for.
    pub tasks: Vec<String>,
    /// The last events, oldest first.
    pub events: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            FailureKind::Panic(message) => writeln!(f, "{message}")?,
            FailureKind::Deadlock => writeln!(f, "deadlock: all tasks sleep, none until a time")?,
            FailureKind::Livelock => writeln!(f, "livelock: {} points", self.outcome.steps)?,
        }
        writeln!(f, "  {}", self.outcome)?;
        for event in &self.events {
            writeln!(f, "  {event}")?;
        }
        for task in &self.tasks {
            writeln!(f, "  {task}")?;
        }
        match self.scenario {
            Some(name) => write!(
                f,
                "repeat: cargo xtask sim --seed {} --scenario {name}",
                self.seed
            ),
            None => write!(f, "seed {}", self.seed),
        }
    }
}

impl core::error::Error for Failure {}
