//! What concurrency needs: atomics behind one facade, ranked locks, memory carved at boot, and
//! exclusive use of one CPU's private state.
//!
//! 1. **Atomics.** Production code imports [`atomic`] only, so that a model checker can take its
//!    place (`--cfg loom`: what is modelled is built then, and nothing above it). A cell that a
//!    protocol of atomics guards is one of `cell`, so that the checker sees who touches it.
//! 2. **Sections.** All work of the library runs inside a [`Local`]: the right to touch the private
//!    caches of one CPU, given by [`Platform::enter`](crate::Platform::enter). While a section is
//!    held, nothing else on this CPU (interrupt, signal handler) enters; who tries is told
//!    [`Nested`](crate::platform::Nested) and takes the path that needs no lock.
//! 3. **Locks.** [`Lock`] spins, can be taken only inside a section (so an interrupt on this CPU
//!    can never spin on a lock that it interrupted), and has a [`Rank`] in its type: debug builds
//!    panic when locks are taken out of order.
//! 4. **Restartable sequences**, on x86-64: `restart`. One CPU's data without a section: what is
//!    interrupted begins anew.
//! 5. **Waiting.** [`WaitQueue`]: tasks that sleep until a condition holds, where the platform can
//!    ([`Sleep`](crate::platform::Sleep)).
//! 6. **Stocks**: `stock`. What one CPU takes from and puts to in a few instructions.
//! 7. **Epochs**: `epochs`. When all readers that could see something have ended.
//! 8. **Carved memory.** [`Carved`] is a slice in memory taken from the machine's own RAM at boot.

mod carved;
pub(crate) mod cell;
pub(crate) mod epochs;
mod local;
mod lock;
pub mod stock;
mod wait;
// Model checkers see atomics, not instructions: the module says what takes their place.
#[cfg(all(target_arch = "x86_64", not(loom)))]
pub mod restart;

pub use carved::Carved;
pub use local::Local;
pub use lock::{Lock, LockGuard, Rank};
pub use wait::WaitQueue;

/// Starts a new cache line in a `repr(C)` struct: what is written often stands behind one, apart
/// from what every CPU reads on its fast path.
#[derive(Default)]
#[repr(align(64))]
pub struct LineBreak;

/// The atomics of the target, or those of a model checker.
pub mod atomic {
    #[cfg(not(loom))]
    pub use core::sync::atomic::*;
    #[cfg(loom)]
    pub use loom::sync::atomic::*;
}
