//! What requests in need ask of a scripted machine, call by call (P412, P961-P963): the same in a
//! simulator, in a process, and on bare metal. Their tests include this folder.
//!
//! 1. The machine is the caller's alone meanwhile: nobody else allocates or frees, and no
//!    background runs. Calls that others make all the same are left out of the counts.
//! 2. All its memory is hoarded, so that only what the script gives is there.
//! 3. What is expected is written down from the rules: how many rounds, how many kills. How often
//!    the cache is counted and scanned in them follows from P405 and P412, by their words.
//! 4. Nothing here panics while the script is registered: what was seen is returned, and compared
//!    by the caller ([`table::Checked::check`]).
//!
//! | module | what |
//! |---|---|
//! | `hoard` | all memory of the machine |
//! | `script` | the cache that gives what the script says, and who can be killed |
//! | `model` | how often it must be called for that |
//! | `table` | rows: a request, what the script says, and how it ends |
//! | `levels` | P961: the levels, by what the cache gives |
//! | `orders` | P961: the levels, for blocks, with and without compaction |
//! | `contexts` | P961: the levels, in scopes, and where nobody may sleep |
//! | `retries` | P125: how often a request compacts in vain |
//! | `reserves` | P270: who may take how much of what is kept for the urgent |
//! | `shrinkers` | P962, P963: shrinkers that allocate, and that stop |

mod contexts;
mod hoard;
mod levels;
mod model;
mod orders;
mod reserves;
mod retries;
mod script;
mod shrinkers;
mod table;

pub(super) use contexts::{Ran, contexts, scopes};
pub(super) use levels::levels;
pub(super) use orders::orders;
pub(super) use reserves::reserves;
pub(super) use retries::retries;
pub(super) use script::touch;
pub(super) use shrinkers::{recursion, stops};

/// What one request did.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
struct Calls {
    /// It was served.
    served: bool,
    /// Direct reclaims.
    rounds: usize,
    /// Calls of `count`.
    counts: usize,
    /// Calls of `scan`.
    scans: usize,
    /// Kills.
    kills: usize,
    /// Calls of `count` that told other bits of IO and FS than the request had (P416).
    misled: usize,
}
