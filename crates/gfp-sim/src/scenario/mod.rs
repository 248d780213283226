//! Storms over the whole library, repeatable from a seed.
//!
//! 1. **A scenario** sets tasks and handlers up on a [`Lab`]: a machine, an [owner](crate::Owners)
//!    for every byte that was given out, a mailbox through which memory goes from task to task and
//!    to interrupts.
//! 2. **The end** of each is the same: what is left is freed, all CPUs give back what they keep,
//!    every book is checked, nothing was reported, and all frames are as they were at the start.
//! 3. **Repeating**: `cargo xtask sim --seed N --scenario NAME`.

mod caches;
mod compaction;
mod contig;
mod lab;
mod lists;
mod ops;
mod reclaim;
mod storms;

pub use compaction::LARGE_STEPS;
pub use lab::{Block, Lab};
pub use ops::Op;
pub use reclaim::CALM_STEPS;

use crate::capture;
use crate::config::Config;
use crate::outcome::{Failure, FailureKind, Outcome};
use crate::sim::Sim;
use std::rc::Rc;

/// One kind of run.
#[derive(Copy, Clone)]
pub struct Scenario {
    /// Its name, for `--scenario`.
    pub name: &'static str,
    /// What it does, in a line.
    pub about: &'static str,
    /// RAM of the machine.
    pub bytes: usize,
    /// Its nodes.
    pub nodes: u8,
    /// RAM that can be plugged into the last of them.
    pub plug_bytes: usize,
    set_up: fn(&Rc<Lab>),
}

/// All scenarios.
pub const ALL: &[Scenario] = &[
    Scenario {
        name: "pages",
        about: "blocks of all orders, in bulk, in exact sizes, freed by other tasks",
        bytes: 16 << 20,
        nodes: 1,
        plug_bytes: 0,
        set_up: storms::pages,
    },
    Scenario {
        name: "kmalloc",
        about: "objects of all sizes, resized, freed by other tasks",
        bytes: 16 << 20,
        nodes: 1,
        plug_bytes: 0,
        set_up: storms::kmalloc,
    },
    Scenario {
        name: "caches",
        about: "caches come and go while others use theirs",
        bytes: 16 << 20,
        nodes: 1,
        plug_bytes: 0,
        set_up: caches::caches,
    },
    Scenario {
        name: "vmalloc",
        about: "areas and kvmalloc, resized, purged, freed by other tasks",
        bytes: 16 << 20,
        nodes: 1,
        plug_bytes: 0,
        set_up: storms::vmalloc,
    },
    Scenario {
        name: "interrupts",
        about: "interrupts and NMIs allocate, and free what tasks allocated",
        bytes: 16 << 20,
        nodes: 1,
        plug_bytes: 0,
        set_up: storms::interrupts,
    },
    Scenario {
        name: "drains",
        about: "CPUs lose what they keep while they allocate",
        bytes: 16 << 20,
        nodes: 1,
        plug_bytes: 0,
        set_up: storms::drains,
    },
    Scenario {
        name: "oom",
        about: "more is wanted than there is; requests that may not fail are served",
        bytes: 8 << 20,
        nodes: 1,
        plug_bytes: 0,
        set_up: storms::oom,
    },
    Scenario {
        name: "reclaim",
        about: "all levels and interrupts with 5 % free; shrinkers that allocate, kswapd, a killer",
        bytes: 16 << 20,
        nodes: reclaim::NODES,
        plug_bytes: 0,
        set_up: reclaim::reclaim,
    },
    Scenario {
        name: "compaction",
        about: "all orders from memory in pieces; owners that move, refuse, pin, come and go",
        bytes: 24 << 20,
        nodes: reclaim::NODES,
        plug_bytes: compaction::PLUG_BYTES,
        set_up: compaction::compaction,
    },
    Scenario {
        name: "contig",
        about: "frames side by side, areas, isolation, hotplug, reporting, policies, at once",
        bytes: 24 << 20,
        nodes: reclaim::NODES,
        plug_bytes: contig::PLUG_BYTES,
        set_up: contig::contig,
    },
    Scenario {
        name: "lists",
        about: "pages on the lists of reclaim are used, written, freed and given up",
        bytes: 8 << 20,
        nodes: 1,
        plug_bytes: 0,
        set_up: lists::lists,
    },
    Scenario {
        name: "mixed",
        about: "all of it at once",
        bytes: 24 << 20,
        nodes: 1,
        plug_bytes: 0,
        set_up: storms::mixed,
    },
];

/// The scenario of a name.
pub fn find(name: &str) -> Option<&'static Scenario> {
    ALL.iter().find(|scenario| scenario.name == name)
}

impl Scenario {
    /// Runs it, with the checks at its end.
    ///
    /// # Errors
    /// [`Failure`], with the command that repeats it.
    pub fn run(&self, config: Config) -> Result<Outcome, Box<Failure>> {
        self.run_and_look(config, |_| ())
    }

    /// [`Scenario::run`], with a look at the machine at its end.
    ///
    /// # Errors
    /// As there.
    pub fn run_and_look(
        &self,
        config: Config,
        look: impl FnOnce(&Lab),
    ) -> Result<Outcome, Box<Failure>> {
        let sim = Sim::new(config);
        let result = capture::keeping(|| {
            let failed = |message| sim.failure(FailureKind::Panic(message));
            let lab =
                capture::catch(|| Lab::with_nodes(&sim, self.bytes, self.nodes, self.plug_bytes))
                    .map_err(failed)?;
            (self.set_up)(&lab);
            sim.run()?;
            capture::catch(|| lab.end()).map_err(failed)?;
            look(&lab);
            Ok(sim.outcome())
        });
        result.map_err(|mut failure: Box<Failure>| {
            failure.scenario = Some(self.name);
            failure
        })
    }
}
