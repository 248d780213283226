//! gfp in a simulator: virtual CPUs, interrupts, a virtual clock, faults; every run is repeatable
//! from its seed.
//!
//! 1. **One thread.** Every task of a [`Sim`] is a coroutine with a stack of its own, and all of
//!    them run on the thread that made the `Sim`. Nothing depends on time, addresses or other
//!    threads, so the same seed gives the same run: the same [`Outcome::trace_hash`].
//! 2. **Points.** Whatever the library asks of its platform (enter, leave, relax, the clock, a
//!    mapping, a lock that is taken) is a *point*. There the scheduler draws from the seed: go on,
//!    let another CPU or another task run, deliver an interrupt or an NMI on this CPU. Between two
//!    points nothing comes in between. `world/`.
//! 3. **CPUs.** Each runs one task at a time. A section keeps interrupts and other tasks off its
//!    CPU, an NMI comes in nevertheless, and is told [`Nested`](gfp::platform::Nested). Another
//!    CPU's place can be taken when that CPU is outside; it stands still then, but for NMIs. This
//!    is what the bare machine does. `platform.rs`.
//! 4. **Tasks** are preempted at any point where that is allowed, move to other CPUs, sleep until a
//!    time or until somebody wakes them. If all sleep, the clock goes on to the next time; if
//!    nobody waits for a time either, that is a [`FailureKind::Deadlock`], and the list says who
//!    waits for what. A run of too many steps is a [`FailureKind::Livelock`].
//! 5. **Strategies**: random, round robin, and priorities with a few changes (PCT), which finds
//!    orders that random choice practically never makes.
//! 6. **Faults** of the platform: mappings that fail, other CPUs that cannot be taken, CPUs that
//!    stand still for long, a clock that jumps.
//! 7. **Checks.** [`Owners`] knows who has each byte, with a pattern in it. `scenario/` has storms
//!    over the whole library; each ends with everything freed, every book checked, every frame
//!    accounted for.
//! 8. **What it does not see**: data races (use loom), and orders of memory accesses within what
//!    lies between two points.
//!
//! ```
//! use gfp::flags::GFP_KERNEL;
//! use gfp_sim::{Config, Sim};
//! use std::rc::Rc;
//!
//! let sim = Sim::new(Config::swarm(7));
//! let mm = Rc::new(sim.boot(16 << 20));
//! for name in ["one", "two"] {
//!     let mm = Rc::clone(&mm);
//!     sim.spawn(name, move |_| {
//!         let object = mm.kmalloc(100, GFP_KERNEL).expect("there is memory");
//!         // SAFETY: not used any more.
//!         unsafe { mm.kfree(object.as_ptr()) };
//!     });
//! }
//! let outcome = sim.run().expect("all tasks end");
//! assert!(outcome.steps > 0);
//! mm.verify().expect("the books are right");
//! ```

mod capture;
mod config;
mod outcome;
mod owners;
mod paging;
mod platform;
mod ram;
mod rng;
pub mod scenario;
mod sim;
mod sleep;
mod task;
mod world;

pub use config::{Config, PerPoints, Planted, Rates, Shown, Strategy, Violation};
pub use outcome::{Failure, FailureKind, Outcome};
pub use owners::{Lent, Owners};
pub use platform::{SimPlatform, SimSection};
pub use rng::Rng;
pub use sim::{Sim, TaskHandle};
