//! Compaction: moving pages together so that a large block becomes free (P420-P429).
//!
//! 1. **Concept.** A zone may have plenty of free pages and no block of the order that is wanted.
//!    Two scanners walk towards each other: one collects movable pages from the zone's start, the
//!    other free pages from its end. What is collected moves to what is free, and at the start
//!    large blocks appear.
//!
//!    ```text
//!    zone start                                                     zone end
//!    [m.m.][.mm.][u...][....]      ...      [..m.][m.m.][mmm.][mmmm]
//!       migrate scanner ->                                <- free scanner
//!                          done when a block is there, or they meet
//!    ```
//! 2. **Questions and who answers.** Is it fragmentation at all, or too little memory
//!    ([`Fragmentation`])? Is there room to work ([`suitability`])? Has it failed too often lately
//!    ([`Deferral`])? Which blocks and pages may be touched ([`migrate_block`], [`free_block`],
//!    [`page_verdict`])? Is it over ([`finished`])? And what follows from how it ended
//!    ([`after_zone`])? The task of each node also compacts before anybody asks ([`Proactive`]).
//! 3. **Progress.** One compaction of a zone ends: each step of a scanner passes a pageblock, and
//!    there are finitely many ([`Scanners`]). Failures thin the attempts out: after 1, 2, 4 ... 64.
//! 4. **The executor** keeps for each zone: the deferral, the two cached scanner positions, the
//!    skip hint of each pageblock; for each node: the proactive state.
//! 5. **Not done.** How a page is moved: its owner's callback does that.

mod blocks;
mod daemon;
mod deferral;
mod finish;
mod index;
mod proactive;
mod suitable;
#[cfg(test)]
mod task_tests;
#[cfg(test)]
mod tests;

pub use blocks::{
    BlockFacts, Hints, PageFacts, PageVerdict, Unevictable, Use, free_block, migrate_block,
    page_verdict,
};
pub use daemon::{DAEMON_PRIORITY, DaemonWake, wakes_daemon};
pub use deferral::{Deferral, SHIFT_MAX};
pub use finish::{
    AfterZone, Interrupted, Met, Scanners, ZoneProgress, after_zone, best, block_available,
    captures, finished,
};
pub use index::{Fragmentation, fragmentation, unusable_permille};
pub use proactive::{
    BACKOFF_ROUNDS, Background, DEFAULT_PROACTIVENESS, Marks, PERIOD_MS, Proactive, RoundResult,
    Wanted, node_score, zone_score,
};
pub use suitable::{
    EXTFRAG_THRESHOLD, Suitability, ZoneRoom, could_become_suitable, suitability, zone_mark,
};

/// How hard compaction tries and how it ends are words of [`effort`](crate::policy::effort).
pub use crate::policy::effort::{CompactOutcome, CompactPriority};

/// P421: the most that the gap is, in pages: what one round of compaction isolates.
pub const GAP_PAGES_MAX: usize = 32;

/// P421: how many pages more than the watermark must be free for compaction of this order: twice
/// the block, as source and target exist at the same time, but never more than a round isolates.
///
/// Linux before 2026 had no such limit, and reclaimed 1024 pages for an order-9 block that it could
/// not make (P827).
pub const fn gap(order: u32) -> usize {
    if order >= GAP_PAGES_MAX.trailing_zeros() - 1 {
        GAP_PAGES_MAX
    } else {
        2 << order
    }
}
