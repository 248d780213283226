//! Reclaim: who is asked to give memory back, how much, and when to stop (P400-P418).
//!
//! 1. **Concept.** Two parties reclaim. The *background* ([`kswapd`], one task a node) is woken at
//!    the low watermark and works until one zone is above high. A *direct* reclaimer ([`direct`])
//!    is a request that found nothing: it frees 32 pages and looks again. Both ask the same
//!    providers: shrinkers ([`shrink`]), which count and scan objects, and lists of pages whose
//!    owner can drop, write or move them ([`lru`]). An administrator may ask for it ([`manual`]).
//! 2. **Structures.** [`Priority`] says which part of everything one pass looks at. Each loop is a
//!    small state machine of plain data: the executor asks it for the next step, does the step, and
//!    tells it what came of it.
//!
//!    ```text
//!    priority   12      11      10    ...    1      0
//!    looks at  1/4096  1/2048  1/1024       1/2    all
//!              direct: 12 down to 0, at most 4 times (second chances, P405)
//!              background: 12 down to 1; for a watermark boost alone 12 down to 10 (P402)
//!    ```
//! 3. **Progress.** Every loop here ends for every provider. A pass lowers the priority unless it
//!    freed at least a page, and a ladder is climbed down at most a fixed number of times; each
//!    function states its bound, and its tests drive it with providers that give 0, 1, 32, or 1 for
//!    ever.
//! 4. **Who waits.** [`throttle`]: a direct reclaimer waits while the reserve that reclaim itself
//!    needs is half gone, or while a pass would only burn time. Nobody waits for a hopeless node.
//! 5. **Recursion.** A reclaimer runs with the right to ignore watermarks and without the right to
//!    reclaim (P133), so a shrinker that allocates cannot come back here. That is the executor's
//!    job; nothing here calls out.
//! 6. **Not done.** Swapping, page tables and reverse maps: the owner of a page does what is
//!    needed to free it.

pub mod direct;
pub mod kswapd;
pub mod lru;
pub mod manual;
pub mod node;
pub mod shrink;
pub mod throttle;

/// P405: what a direct reclaimer wants, and how many pages are taken off a list at once, in pages.
pub const CLUSTER_PAGES: usize = 32;

/// P402, P405, P412: which part of everything one pass looks at: `1 / 2^priority`.
///
/// 12 is the mildest: 1/4096 of a list, that is one page in 16 MiB. 0 is all of it.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(u8);

impl Priority {
    /// Where every ladder begins.
    pub const START: Priority = Priority(12);
    /// Everything is looked at: where direct reclaim ends.
    pub const LAST: Priority = Priority(0);
    /// P402: where the background ends. One half is looked at.
    pub const BACKGROUND_LAST: Priority = Priority(1);
    /// P402: where a run that only has a watermark boost to work off ends.
    pub const BOOST_LAST: Priority = Priority(10);
    /// P408: where reclaim inside one node begins, before going to another node.
    pub const NODE_RECLAIM: Priority = Priority(4);
    /// Steps on the whole ladder: 12 down to 0.
    pub const STEPS: u32 = Self::START.0 as u32 + 1;

    /// This priority, if there is one: 0 to 12.
    pub const fn new(value: u8) -> Option<Priority> {
        if value <= Self::START.0 {
            Some(Priority(value))
        } else {
            None
        }
    }

    /// 0 to 12.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// The next step: twice as much. `None` after the last.
    pub const fn next(self) -> Option<Priority> {
        match self.0 {
            0 => None,
            value => Some(Priority(value - 1)),
        }
    }

    /// The part of `all` that a pass looks at.
    pub const fn part(self, all: usize) -> usize {
        all >> self.0
    }
}

/// What one pass over the providers did, in pages.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct PassResult {
    /// Looked at.
    pub scanned: usize,
    /// Given back. Objects of shrinkers count by the pages that they freed.
    pub freed: usize,
}

impl PassResult {
    /// The sum of two passes.
    pub const fn and(self, other: PassResult) -> PassResult {
        PassResult {
            scanned: self.scanned.saturating_add(other.scanned),
            freed: self.freed.saturating_add(other.freed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ladder_doubles_from_a_4096th_to_all() {
        // P402, P405
        let mut priority = Priority::START;
        let mut steps = 1;
        assert_eq!(priority.part(4096), 1);
        while let Some(next) = priority.next() {
            assert_eq!(next.part(1 << 20), 2 * priority.part(1 << 20));
            assert!(next < priority);
            (priority, steps) = (next, steps + 1);
        }
        assert_eq!((priority, steps), (Priority::LAST, Priority::STEPS));
        assert_eq!(priority.part(4097), 4097);
        assert_eq!(Priority::new(12), Some(Priority::START));
        assert_eq!(Priority::new(13), None);
    }
}
