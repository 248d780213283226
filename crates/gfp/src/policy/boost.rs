//! The watermark boost: what is reclaimed ahead because of fragmentation (P216, P217, P318).
//!
//! Each time a pageblock is entered by pages of another mobility, the zone's watermarks rise by a
//! pageblock ([`raised`]). Background reclaim sees them, frees more than usual, and the compaction
//! task makes whole blocks of it, so that the next request finds a block of its own type. What a
//! run of the background began with is taken off when the run is over ([`after_run`]).
//!
//! The executor keeps one word a zone: the boost, in pages. What it adds goes through [`raised`];
//! what it takes off is a subtraction, so that a boost that comes during a run is not lost.

pub use crate::policy::watermark::{DEFAULT_BOOST_FACTOR, boosted};

use crate::policy::order::PAGEBLOCK_ORDER;

/// What follows a theft of pages for another type.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Raised {
    /// The zone's boost from now on, in pages.
    pub boost: usize,
    /// The background of the node is to be woken: the request allows it (P318), and the boost is
    /// new.
    pub wake: bool,
}

/// P216, P318: the boost after a theft; `None`: the zone is not boosted.
///
/// `boost`, `managed`, `high` in pages, `high` without boost; `factor`: the sysctl
/// `watermark_boost_factor`; `may_wake`: the request's rights contain
/// [`crate::policy::watermark::AllocFlags::KSWAPD`].
pub const fn raised(
    boost: usize,
    managed: usize,
    high: usize,
    factor: usize,
    may_wake: MayWake,
) -> Option<Raised> {
    match boosted(boost, managed, high, factor) {
        None => None,
        Some(now) => Some(Raised {
            boost: now,
            wake: now > boost && matches!(may_wake, MayWake::Yes),
        }),
    }
}

/// Whether a request may wake the background.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum MayWake {
    /// It may not.
    No,
    /// It may.
    Yes,
}

/// P217: what the compaction task is woken for after a run with a boost.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum WakeCompaction {
    /// The run had no boost.
    No,
    /// For whole pageblocks.
    Order(u32),
}

/// P217: a zone's boost after a run that it began with `at_start` pages of boost, and whether the
/// compaction task is woken (once for the node, if any zone says so).
///
/// Whatever the run freed: a boost that cannot be worked off must not keep the marks high (the
/// rule's detail is unverified).
pub const fn after_run(now: usize, at_start: usize) -> (usize, WakeCompaction) {
    let wake = if at_start > 0 {
        WakeCompaction::Order(PAGEBLOCK_ORDER)
    } else {
        WakeCompaction::No
    };
    (now.saturating_sub(at_start), wake)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_theft_raises_the_boost_and_wakes_who_may_be_woken() {
        // P216, P318: the vector of P214
        let raise = |boost, may_wake| raised(boost, 262_144, 1548, DEFAULT_BOOST_FACTOR, may_wake);
        let mut boost = 0;
        for (expected, wake) in [
            (512, true),
            (1024, true),
            (1536, true),
            (2048, true),
            (2322, true),
            (2322, false),
        ] {
            let expected = Raised {
                boost: expected,
                wake,
            };
            assert_eq!(raise(boost, MayWake::Yes), Some(expected));
            assert!(!raise(boost, MayWake::No).unwrap().wake);
            boost = expected.boost;
        }
        assert_eq!(
            raised(0, 2047, 1548, DEFAULT_BOOST_FACTOR, MayWake::Yes),
            None
        );
    }

    #[test]
    fn a_run_takes_off_what_it_began_with() {
        // P217
        let blocks = WakeCompaction::Order(9);
        assert_eq!(after_run(2322, 1024), (1298, blocks)); // more came meanwhile
        assert_eq!(after_run(512, 1024), (0, blocks)); // somebody else took it off
        assert_eq!(after_run(512, 0), (512, WakeCompaction::No));
    }

    #[test]
    fn without_thefts_one_run_ends_every_boost() {
        // P216, P217
        for thefts in 0..10 {
            let boost = (0..thefts).fold(0, |boost, _| {
                boosted(boost, 262_144, 1548, DEFAULT_BOOST_FACTOR).unwrap()
            });
            assert_eq!(after_run(boost, boost).0, 0);
        }
    }
}
