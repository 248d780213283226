//! Memory pressure: how hard memory is to come by, in one word.
//!
//! Two things are looked at. Where free memory stands beside the watermarks says what goes on now:
//!
//! | free memory | what goes on | at least |
//! |---|---|---|
//! | above high | nothing | [`Pressure::None`], and what was measured is forgotten |
//! | above low | the background may finish what it began | what was measured last |
//! | below low | the background frees memory | [`Pressure::Low`] |
//! | below min | requests free memory themselves | [`Pressure::Medium`] |
//!
//! How much of what reclaim looks at comes free says how it goes on: of [`WINDOW`] objects or
//! pages, the part that was looked at in vain.
//!
//! | in vain | level |
//! |---|---|
//! | less than 60 % | [`Pressure::Low`] |
//! | 60 % or more | [`Pressure::Medium`] |
//! | 95 % or more | [`Pressure::Critical`] |
//! | a whole ladder freed nothing | [`Pressure::Critical`], at once |
//!
//! Levels, window and limits are those of Linux's `memory.pressure_level`. Linux says critical when
//! reclaim has come to priority 3 as well; that supposes lists of millions of pages. A cache of a
//! thousand objects is not asked before, so here the end of the ladder counts.

/// How hard memory is to come by.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pressure {
    /// Enough is free.
    #[default]
    None = 0,
    /// Memory is reclaimed, and comes.
    Low = 1,
    /// It does not come easily: requests wait, or most of what is looked at stays. Caches should
    /// shrink by themselves.
    Medium = 2,
    /// Next to nothing comes: requests are about to fail. Whatever can be done without should go.
    Critical = 3,
}

impl Pressure {
    /// All levels, in ascending order.
    pub const ALL: [Pressure; 4] = [
        Pressure::None,
        Pressure::Low,
        Pressure::Medium,
        Pressure::Critical,
    ];

    /// The word for it, as Linux writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Pressure::None => "none",
            Pressure::Low => "low",
            Pressure::Medium => "medium",
            Pressure::Critical => "critical",
        }
    }
}

impl core::fmt::Display for Pressure {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.pad(self.name())
    }
}

/// Where free memory stands: that of the zone which is best off.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stand {
    /// A request that may not go below min fails.
    BelowMin,
    /// The background is woken.
    BelowLow,
    /// The background would not have been woken.
    AboveLow,
    /// The background has done its work.
    AboveHigh,
}

/// Objects or pages that are looked at before reclaim is judged.
pub const WINDOW: u32 = 512;
/// From this part in vain on, in percent: [`Pressure::Medium`].
pub const MEDIUM_PERCENT: u32 = 60;
/// From this part in vain on, in percent: [`Pressure::Critical`].
pub const CRITICAL_PERCENT: u32 = 95;

/// The level of a window: `freed` of `looked_at` came free. More than `looked_at` counts as all.
pub const fn of_window(looked_at: u32, freed: u32) -> Pressure {
    if looked_at == 0 {
        return Pressure::None;
    }
    let in_vain = looked_at.saturating_sub(freed) as u64 * 100;
    let all = looked_at as u64;
    if in_vain >= all * CRITICAL_PERCENT as u64 {
        Pressure::Critical
    } else if in_vain >= all * MEDIUM_PERCENT as u64 {
        Pressure::Medium
    } else {
        Pressure::Low
    }
}

/// What was measured since enough was free last.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Gauge {
    looked_at: u32,
    freed: u32,
    level: Pressure,
}

const FIELD_BITS: u32 = 24;
const FIELD: u32 = (1 << FIELD_BITS) - 1;

impl Gauge {
    /// Nothing was measured.
    pub const NONE: Gauge = Gauge {
        looked_at: 0,
        freed: 0,
        level: Pressure::None,
    };

    /// The level of the last whole window.
    pub const fn level(self) -> Pressure {
        self.level
    }

    /// Reclaim looked at so many objects or pages, and so many of them came free.
    #[must_use]
    pub const fn after(self, looked_at: usize, freed: usize) -> Gauge {
        let sum = Gauge {
            looked_at: add(self.looked_at, looked_at),
            freed: add(self.freed, freed),
            level: self.level,
        };
        if sum.looked_at < WINDOW {
            return sum;
        }
        Gauge {
            level: of_window(sum.looked_at, sum.freed),
            ..Gauge::NONE
        }
    }

    /// A whole ladder freed nothing.
    #[must_use]
    pub const fn after_nothing(self) -> Gauge {
        Gauge {
            level: Pressure::Critical,
            ..Gauge::NONE
        }
    }

    /// The level now, and what is kept of the measurements.
    pub fn read(self, stand: Stand) -> (Pressure, Gauge) {
        match stand {
            Stand::AboveHigh => (Pressure::None, Gauge::NONE),
            Stand::AboveLow => (self.level, self),
            Stand::BelowLow => (self.level.max(Pressure::Low), self),
            Stand::BelowMin => (self.level.max(Pressure::Medium), self),
        }
    }

    /// As one word, for who keeps it in an atomic.
    pub const fn to_bits(self) -> u64 {
        (self.level as u64) << (2 * FIELD_BITS)
            | (self.looked_at as u64) << FIELD_BITS
            | self.freed as u64
    }

    /// From the word of [`Gauge::to_bits`].
    pub const fn from_bits(bits: u64) -> Gauge {
        Gauge {
            looked_at: (bits >> FIELD_BITS) as u32 & FIELD,
            freed: bits as u32 & FIELD,
            level: Pressure::ALL[(bits >> (2 * FIELD_BITS)) as usize % Pressure::ALL.len()],
        }
    }
}

/// Saturating, inside of a field.
const fn add(a: u32, b: usize) -> u32 {
    let sum = (a as usize).saturating_add(b);
    if sum > FIELD as usize {
        FIELD
    } else {
        sum as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Pressure::{Critical, Low, Medium, None};

    #[test]
    fn a_window_is_judged_by_what_was_looked_at_in_vain() {
        for (freed, level) in [
            (512, Low),
            (10_000, Low),
            (205, Low),
            (204, Medium),
            (26, Medium),
            (25, Critical),
            (0, Critical),
        ] {
            assert_eq!(of_window(512, freed), level, "{freed} of 512");
        }
        assert_eq!(of_window(0, 0), None);
        assert_eq!(of_window(u32::MAX, u32::MAX), Low);
    }

    #[test]
    fn a_level_changes_with_whole_windows_only() {
        let mut gauge = Gauge::NONE;
        for _ in 0..4 {
            assert_eq!(gauge.level(), None);
            gauge = gauge.after(128, 0);
        }
        assert_eq!(gauge.level(), Critical);
        gauge = gauge.after(511, 511);
        assert_eq!(gauge.level(), Critical, "the window is not full");
        assert_eq!(gauge.after(1, 0).level(), Low);
        assert_eq!(Gauge::NONE.after(usize::MAX, usize::MAX).level(), Low);
        assert_eq!(Gauge::NONE.after(usize::MAX, 0).level(), Critical);
    }

    #[test]
    fn a_ladder_that_freed_nothing_is_critical_at_once() {
        let gauge = Gauge::NONE.after(500, 500).after_nothing();
        assert_eq!(gauge.level(), Critical);
        assert_eq!(gauge.after(12, 0).level(), Critical);
        assert_eq!(gauge.after(512, 512).level(), Low, "it comes again");
    }

    #[test]
    fn where_free_memory_stands_is_the_least_level_and_the_end_of_all() {
        let levels = |gauge: Gauge| {
            use Stand::*;
            [BelowMin, BelowLow, AboveLow, AboveHigh].map(|stand| gauge.read(stand).0)
        };
        let [none, low, medium, critical] =
            [0, 512, 512, 512].map(|looked_at| Gauge::NONE.after(looked_at, 0));
        let (low, medium) = (
            Gauge { level: Low, ..low },
            Gauge {
                level: Medium,
                ..medium
            },
        );
        assert_eq!(levels(none), [Medium, Low, None, None]);
        assert_eq!(levels(low), [Medium, Low, Low, None]);
        assert_eq!(levels(medium), [Medium, Medium, Medium, None]);
        assert_eq!(levels(critical), [Critical, Critical, Critical, None]);
        assert_eq!(critical.read(Stand::AboveHigh).1, Gauge::NONE);
        assert_eq!(critical.read(Stand::AboveLow).1, critical);
    }

    #[test]
    fn a_gauge_survives_as_a_word() {
        for level in Pressure::ALL {
            for (looked_at, freed) in [(0, 0), (511, 510), (FIELD, FIELD)] {
                let gauge = Gauge {
                    looked_at,
                    freed,
                    level,
                };
                assert_eq!(Gauge::from_bits(gauge.to_bits()), gauge);
            }
        }
        assert!(Pressure::ALL.is_sorted());
        assert_eq!(std::format!("{:>8}", Critical), "critical");
    }
}
