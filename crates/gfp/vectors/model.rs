//! How often direct reclaim calls the cache, by the words of P405 and P412: counted here a second
//! time, from the rules alone.

use super::script::{Free, Setting};

/// Passes of one round of direct reclaim that frees nothing: priorities 12 to 0 (P405).
const PASSES: usize = 13;
/// P405: a round that freed so many pages has done enough.
const ENOUGH: usize = 32;
/// What the cache says that it has (P412).
pub(super) const OBJECTS: usize = 10_000;
/// Objects a call of `scan`, if the cache does not say (P412).
pub(super) const BATCH: usize = 128;

/// Calls of `count` and of `scan` in so many rounds on so many nodes.
pub(super) fn calls(nodes: usize, rounds: usize, setting: &Setting) -> (usize, usize) {
    // P405: a round ends when compaction is possible.
    let passes = match setting.free {
        Free::RoomToCompact => 1,
        _ => PASSES,
    };
    let (mut counts, mut scans, mut deferred) = (0, 0, 0);
    for round in 1..=rounds {
        let mut freed = 0;
        for priority in (0..PASSES).rev().take(passes) {
            for _ in 0..nodes {
                let asked = scans_of_a_pass(priority, setting.batch, &mut deferred);
                (counts, scans) = (counts + 1, scans + asked);
                // The first scan of a round gives what the script says.
                if asked != 0 {
                    freed = setting.gives.pages(round);
                }
            }
            if freed >= ENOUGH {
                break;
            }
        }
    }
    (counts, scans)
}

/// P412: calls of `scan` in one pass over one node.
fn scans_of_a_pass(priority: usize, batch: usize, deferred: &mut usize) -> usize {
    let delta = (OBJECTS >> priority) * 4 / 2;
    let mut total = ((*deferred >> priority) + delta).min(2 * OBJECTS);
    let (mut scanned, mut calls) = (0, 0);
    while total >= batch || total >= OBJECTS {
        let now = total.min(batch);
        (total, scanned, calls) = (total - now, scanned + now, calls + 1);
    }
    *deferred = (*deferred + delta).saturating_sub(scanned).min(2 * OBJECTS);
    calls
}
