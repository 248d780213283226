//! Compaction before anybody asks (P427, P707).

/// P427: how often the task of a node looks, in milliseconds.
pub const PERIOD_MS: u32 = 500;
/// P427: rounds left out after one that gained nothing: 64, that is 32 s.
pub const BACKOFF_ROUNDS: u8 = 1 << 6;
/// P707: default of the sysctl `compaction_proactiveness`.
pub const DEFAULT_PROACTIVENESS: u8 = 20;

/// P427: the scores between which the task works, 0 to 100.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Marks {
    /// It stops below.
    pub low: u8,
    /// It starts above.
    pub high: u8,
}

impl Marks {
    /// P427: the marks of a proactiveness of 0 to 100 (more counts as 100): those of Linux 7.0.
    pub const fn of(proactiveness: u8) -> Marks {
        let low = 100u8.saturating_sub(proactiveness);
        let low = if low < 5 { 5 } else { low };
        Marks {
            low,
            high: if low > 90 { 100 } else { low + 10 },
        }
    }
}

/// P427: how fragmented a zone is for huge pages, 0 to 100: the part of its free pages that is in
/// smaller blocks. 0 if nothing is free.
pub const fn zone_score(free: usize, usable: usize) -> u8 {
    if free == 0 {
        return 0;
    }
    (free.saturating_sub(usable) as u128 * 100 / free as u128) as u8
}

/// P427: the score of a node: its zones' scores, weighted by their size. One item a zone: present
/// pages, [`zone_score`].
///
/// Large numbers are summed first and divided once, so that many small zones do not round to
/// nothing.
pub fn node_score(zones: impl IntoIterator<Item = (usize, u8)>) -> u8 {
    let (mut pages, mut sum) = (0u128, 0u128);
    for (present, score) in zones {
        pages += present as u128;
        sum += present as u128 * u128::from(score.min(100));
    }
    sum.checked_div(pages).unwrap_or(0) as u8
}

/// What the task does in this period.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Nothing.
    Wait,
    /// Compact until the score is below the low mark ([`Proactive::is_enough`]).
    Round,
}

/// What a round did to the score.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct RoundResult {
    /// Before.
    pub before: u8,
    /// After.
    pub after: u8,
}

/// P427: the state of one node's proactive compaction.
///
/// Bound: of 65 periods in a row at most one has a round that gains nothing.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Proactive {
    /// Periods to leave out.
    backoff: u8,
}

impl Proactive {
    /// Asked every [`PERIOD_MS`]. `proactiveness` 0 switches it off; the background of the node
    /// must be idle, or both would work against each other.
    pub const fn period(&mut self, proactiveness: u8, background: Background, score: u8) -> Wanted {
        if proactiveness == 0 {
            return Wanted::Wait;
        }
        if self.backoff > 0 {
            self.backoff -= 1;
            return Wanted::Wait;
        }
        let above = score > Marks::of(proactiveness).high;
        match background {
            Background::Idle if above => Wanted::Round,
            _ => Wanted::Wait,
        }
    }

    /// P427: a round may stop.
    pub const fn is_enough(proactiveness: u8, score: u8) -> bool {
        score < Marks::of(proactiveness).low
    }

    /// P427: after a round: one that did not improve the score is not repeated soon.
    pub const fn after(&mut self, result: RoundResult) {
        self.backoff = if result.after < result.before {
            0
        } else {
            BACKOFF_ROUNDS
        };
    }

    /// P707: the sysctl was raised: the next period decides at once.
    pub const fn raised(&mut self) {
        self.backoff = 0;
    }
}

/// Whether the background reclaim of a node is at work.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Background {
    /// It sleeps.
    Idle,
    /// It runs.
    Running,
}
