//! Reserves for requests that cannot wait, sized by demand (P333-P337, P823, P824, P986).
//!
//! 1. **Concept.** A request of order > 0 that cannot wait (`HIGHATOMIC` right) finds no block when
//!    memory is fragmented, and one of order 0 finds no page when a burst comes faster than
//!    reclaim. Linux reserves a whole pageblock of 512 pages after the first such request, and lets
//!    it lie until direct reclaim fails; hosts lost 620 MB to requests of order 1. For order 0 it
//!    has nothing but a min watermark that grows with the square root of memory.
//! 2. **Here** both reserves are sized by what was needed lately. A *near miss* (served, but only
//!    below the low watermark) counts once, a *failure* four times; each second an eighth is
//!    forgotten, rounded up, so that a demand that has ended is gone after a bounded time.
//!
//!    ```text
//!    events -> level (1/16 page) -> wanted pages -> change: take or give back blocks
//!                ^ decays 1/8 a second              (never above P333's 1 %)
//!    ```
//! 3. **Structures.** [`Demand`] of a zone for orders > 0; [`AtomicReserve`] of a zone for order 0,
//!    which works like a watermark boost: it makes others stop earlier, never the urgent (P272).
//! 4. **The executor** keeps both words for each zone, tells them each event of the slow path, and
//!    calls their `tick` once a second with the statistics (P713).
//! 5. **Failure.** Numbers saturate. A reserve that is too large shrinks by itself.

use crate::policy::fallback::highatomic_limit;
use crate::policy::order::{MAX_PAGE_ORDER, PAGEBLOCK_PAGES};

/// Parts of a page in which demand is counted, so that it can fade.
const PARTS: u32 = 16;
/// What a failure counts more than a near miss.
const FAILURE_WEIGHT: u32 = 4;
/// The part of demand that is forgotten each tick: 1/8, half in five seconds.
const DECAY: u32 = 8;

/// How a request with the `HIGHATOMIC` right ended. One served above the low watermark is not told.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Served in the slow path (P278), from the reserve or from what is free.
    NearMiss,
    /// Not served.
    Failure,
}

/// What became of one second's demand.
const fn faded(level: u32) -> u32 {
    level - level.div_ceil(DECAY)
}

/// P823: the recent demand of one zone for blocks of order > 0.
///
/// Bound: [`Demand::TICKS_MAX`] ticks after the last event it is 0.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Demand(u32);

/// What to do with the reserve of a zone.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It fits.
    Keep,
    /// Take so many pages more, in as few pageblocks as possible.
    Take(usize),
    /// Give so many whole pageblocks back to ordinary types.
    GiveBlocks(usize),
}

impl Demand {
    /// The largest level: 2^20 pages.
    const MAX: u32 = PARTS << 20;

    /// After so many ticks without an event nothing is left, whatever there was.
    pub const TICKS_MAX: u32 = {
        let (mut level, mut ticks) = (Self::MAX, 0);
        while level > 0 {
            (level, ticks) = (faded(level), ticks + 1);
        }
        ticks
    };

    /// What [`Demand::bits`] gave, from where the executor keeps it.
    pub const fn from_bits(bits: u32) -> Demand {
        Demand(bits)
    }

    /// One word.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// A request for `2^order` pages ended like this.
    pub const fn note(self, order: u32, event: Event) -> Demand {
        let order = if order < MAX_PAGE_ORDER {
            order
        } else {
            MAX_PAGE_ORDER
        };
        let weight = match event {
            Event::NearMiss => 1,
            Event::Failure => FAILURE_WEIGHT,
        };
        let level = self.0.saturating_add((weight * PARTS) << order);
        Demand(if level < Self::MAX { level } else { Self::MAX })
    }

    /// One second later.
    pub const fn tick(self) -> Demand {
        Demand(faded(self.0))
    }

    /// Pages that the zone should keep, at most what P333 allows for `managed` pages.
    pub const fn wanted(self, managed: usize) -> usize {
        let pages = self.0.div_ceil(PARTS) as usize;
        let limit = highatomic_limit(managed);
        if pages < limit { pages } else { limit }
    }

    /// P333, P823: what to do with a reserve of `reserved` pages; asked after each event and tick.
    ///
    /// It grows as soon as it is too small, by the pages that are missing: the executor may take
    /// part of a pageblock if it can. It shrinks only by whole pageblocks, and only below a quarter
    /// more than is wanted: a steady demand falls by an eighth between two events and rises again,
    /// and the reserve must not swing with it.
    pub const fn change(self, managed: usize, reserved: usize) -> Change {
        let wanted = self.wanted(managed);
        if wanted > reserved {
            return Change::Take(wanted - reserved);
        }
        let surplus = reserved.saturating_sub(wanted + wanted / 4);
        match surplus / PAGEBLOCK_PAGES {
            0 => Change::Keep,
            blocks => Change::GiveBlocks(blocks),
        }
    }

    /// P334, P823: of the free pages in reserved blocks, how many count as not free for others.
    /// More than the demand is withheld from nobody: others get single pages of it when nothing
    /// else is left.
    pub const fn withheld(self, managed: usize, free_reserved: usize) -> usize {
        let wanted = self.wanted(managed);
        if free_reserved < wanted {
            free_reserved
        } else {
            wanted
        }
    }
}

/// P335, P123: how urgently a block of the reserve is wanted back.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// Direct reclaim freed pages and the request still failed (P118).
    AfterReclaim,
    /// It is this or a kill (P123).
    BeforeOom,
}

/// P335, P123: whether a zone with so many reserved pages gives one pageblock back to the
/// requester's type. The last one stays, unless it is this or a kill.
pub const fn unreserves(reserved: usize, need: Need) -> bool {
    match need {
        Need::AfterReclaim => reserved > PAGEBLOCK_PAGES,
        Need::BeforeOom => reserved > 0,
    }
}

/// P824: what a zone keeps above its watermarks for single pages that cannot be waited for.
///
/// Added to the zone's boost: ordinary requests stop earlier and wake the background earlier, the
/// urgent do not see it (P272).
///
/// Bound: at most [`AtomicReserve::cap`] pages, and none [`AtomicReserve::TICKS_MAX`] ticks after
/// the last failure.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct AtomicReserve(u32);

impl AtomicReserve {
    /// The largest reserve, in pages: 4 GiB.
    const MAX: u32 = 1 << 20;

    /// After so many ticks without a failure nothing is left.
    pub const TICKS_MAX: u32 = {
        let (mut pages, mut ticks) = (Self::MAX, 0);
        while pages > 0 {
            (pages, ticks) = (faded(pages), ticks + 1);
        }
        ticks
    };

    /// The most that a zone keeps: as much as its min watermark once more, at most 1 % of it. In
    /// pages.
    pub const fn cap(min: usize, managed: usize) -> usize {
        let percent = managed / 100;
        let cap = if min < percent { min } else { percent };
        if cap < Self::MAX as usize {
            cap
        } else {
            Self::MAX as usize
        }
    }

    /// What [`AtomicReserve::bits`] gave, from where the executor keeps it.
    pub const fn from_bits(bits: u32) -> AtomicReserve {
        AtomicReserve(bits)
    }

    /// One word.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Pages to add to the boost.
    pub const fn pages(self) -> usize {
        self.0 as usize
    }

    /// A request of order 0 with `HIGH` that could not wait failed: a quarter of min more, 32 pages
    /// at least. `min`: without boost.
    pub const fn failed(self, min: usize, managed: usize) -> AtomicReserve {
        let cap = Self::cap(min, managed);
        let step = if min / 4 > 32 { min / 4 } else { 32 };
        let pages = self.pages().saturating_add(step);
        AtomicReserve(if pages < cap { pages } else { cap } as u32)
    }

    /// One second later.
    pub const fn tick(self) -> AtomicReserve {
        AtomicReserve(faded(self.0))
    }
}

#[cfg(test)]
mod tests;
