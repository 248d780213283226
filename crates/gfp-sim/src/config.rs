//! How a run is made: CPUs, strategy, how often what happens.

use crate::rng::Rng;

/// How often a thing happens: so many times in 65,536 points (or requests).
pub type PerPoints = u16;

/// Who goes on at a point.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Strategy {
    /// Somebody else with this probability.
    Random(PerPoints),
    /// The next CPU after this many points.
    RoundRobin(u32),
    /// Always the runnable task of the highest priority. So often, at random places of the first
    /// `within` points, the running one gets the lowest: PCT.
    Priorities {
        /// How many changes of a priority.
        changes: u32,
        /// Points among which they lie.
        within: u32,
    },
}

/// How often things happen.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Rates {
    /// Interrupts, a point at which they are on.
    pub interrupt: PerPoints,
    /// Softirqs, a point at which interrupts are on and no softirq runs.
    pub softirq: PerPoints,
    /// NMIs, a point.
    pub nmi: PerPoints,
    /// A preempted task goes on on another CPU.
    pub migrate: PerPoints,
    /// Another CPU's place cannot be taken.
    pub refuse_remote: PerPoints,
    /// A mapping cannot be made.
    pub refuse_map: PerPoints,
    /// A CPU stands still for long.
    pub slow_cpu: PerPoints,
    /// The clock jumps, by up to a second.
    pub clock_jump: PerPoints,
}

/// Which events a failure shows.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Shown {
    /// The last so many, without points at which nothing happened.
    Last(usize),
    /// The last so many, with them.
    LastWithPoints(usize),
}

/// A promise of [`Platform`](gfp::Platform) that is broken on purpose, to see it noticed.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Violation {
    /// A section does not keep NMIs out.
    NmisEnterSections,
    /// A CPU's place is taken also while it is inside.
    TakesCpusInside,
    /// A sleeper does not look at the word once more.
    SleepsWithoutLooking,
}

/// A mistake of a scenario's, made on purpose to see it found.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Planted {
    /// A page is dropped without being given back.
    LostPage,
    /// Nobody reclaims in the background.
    NoBackground,
    /// A page is moved, and its content is not.
    MovedWithoutContent,
    /// Memory that was taken out is written to.
    WrittenWhileOut,
    /// What is to be bound to nodes only prefers them.
    SpilledPolicy,
}

/// How a run is made.
#[derive(Clone, Debug)]
pub struct Config {
    pub(crate) seed: u64,
    pub(crate) cpus: u32,
    /// `None`: as the library cuts a zone of that size.
    pub(crate) shard_bytes: Option<u64>,
    pub(crate) strategy: Strategy,
    pub(crate) rates: Rates,
    pub(crate) max_steps: u64,
    pub(crate) violation: Option<Violation>,
    pub(crate) planted: Option<Planted>,
    pub(crate) shown: Shown,
}

impl Config {
    /// Four CPUs, random choice, no interrupts, no faults.
    pub fn new(seed: u64) -> Config {
        Config {
            seed,
            cpus: 4,
            shard_bytes: None,
            strategy: Strategy::Random(1 << 13),
            rates: Rates::default(),
            max_steps: 40_000_000,
            violation: None,
            planted: None,
            shown: Shown::Last(32),
        }
    }

    /// Four CPUs, all else from the seed: each run has other rates, some of them zero, so that what
    /// one kind of event would hide is seen in a run without it.
    pub fn swarm(seed: u64) -> Config {
        let mut rng = Rng::stream(seed, 0x5_a2);
        let strategy = match rng.below(8) {
            0..4 => Strategy::Random(rng.pick(&[1 << 9, 1 << 11, 1 << 13, 1 << 15])),
            4 => Strategy::RoundRobin(rng.pick(&[1, 2, 3, 7])),
            _ => Strategy::Priorities {
                changes: rng.pick(&[3, 5, 50, 500]),
                within: 40_000,
            },
        };
        let mut often = |choices: &[PerPoints]| rng.pick(choices);
        let rates = Rates {
            interrupt: often(&[0, 100, 600, 3000]),
            softirq: often(&[0, 0, 100, 600]),
            nmi: often(&[0, 100, 600, 3000]),
            migrate: often(&[0, 2000, 30_000]),
            refuse_remote: often(&[0, 0, 2000]),
            refuse_map: often(&[0, 0, 2000]),
            slow_cpu: often(&[0, 0, 10]),
            clock_jump: often(&[0, 0, 100]),
        };
        // A stream of its own: what else a seed stands for stays.
        let shards = [None, None, Some(4 << 20), Some(8 << 20)];
        Config {
            shard_bytes: Rng::stream(seed, 0x5_4d).pick(&shards),
            strategy,
            rates,
            ..Config::new(seed)
        }
    }

    /// The seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// How many CPUs.
    ///
    /// # Panics
    /// If that is none, or more than 64.
    #[must_use]
    pub fn cpus(mut self, cpus: u32) -> Config {
        assert!((1..=64).contains(&cpus));
        self.cpus = cpus;
        self
    }

    /// Cuts zones into shards of this size, a power of two of at least 4 MiB.
    #[must_use]
    pub fn shard_bytes(mut self, bytes: u64) -> Config {
        self.shard_bytes = Some(bytes);
        self
    }

    /// Who goes on at a point.
    #[must_use]
    pub fn strategy(mut self, strategy: Strategy) -> Config {
        self.strategy = strategy;
        self
    }

    /// How often things happen.
    #[must_use]
    pub fn rates(mut self, rates: Rates) -> Config {
        self.rates = rates;
        self
    }

    /// How many points a run may have before it counts as a livelock.
    #[must_use]
    pub fn max_steps(mut self, steps: u64) -> Config {
        self.max_steps = steps;
        self
    }

    /// Which events a failure shows.
    #[must_use]
    pub fn shown(mut self, shown: Shown) -> Config {
        self.shown = shown;
        self
    }

    /// Has the scenario make a mistake, if it is one of its own, to see whether that is noticed.
    #[must_use]
    pub fn planting(mut self, planted: Planted) -> Config {
        self.planted = Some(planted);
        self
    }

    /// Breaks a promise, to see whether that is noticed.
    ///
    /// # Safety
    /// A library that trusts the promise may do anything. Only for a process that is used for
    /// nothing else that matters, over a library whose reaction is known.
    #[must_use]
    pub unsafe fn violating(mut self, violation: Violation) -> Config {
        self.violation = Some(violation);
        self
    }
}
