//! Memory stalls: what part of the time goes into making room, as Linux's `/proc/pressure/memory`
//! says it (P680, P409).
//!
//! 1. **Two kinds.** [`Some`](StallKind::Some): at least one task reclaims or compacts.
//!    [`Full`](StallKind::Full): so many do that nobody is left to do other work.
//! 2. **Averages.** Time is cut into periods of 2 s of the platform's clock. At the end of each,
//!    the part of it that was a stall goes into three averages, over 10, 60 and 300 s, in which
//!    what is past fades exponentially: `average * f + part * (1 - f)`, `f = e^(-2 s / length)`.
//! 3. **Nobody need look.** A stall begins and ends with a call, so between two calls time is all
//!    stall or none of it. However many periods have passed since, they are reckoned at once, by
//!    powers of `f`: as if somebody had looked at the end of each.
//! 4. **Being told.** A [`Trigger`] is what Linux takes as text: so much stall within such a
//!    window. A [`Watch`] says when that was so.
//!
//! Numbers are integers: microseconds, and parts of one in 1/2^30.

mod trigger;

use core::fmt;

pub use trigger::{Trigger, TriggerError, WINDOW_MAX_US, WINDOW_MIN_US, Watch};

/// A period of the averages, in microseconds.
pub const PERIOD_US: u64 = 2_000_000;

/// The lengths of the averages, in seconds.
pub const LENGTHS_S: [u32; 3] = [10, 60, 300];

/// 1 as a [`Part`].
const ONE: u64 = 1 << 30;
/// What is left of an average after a period: 2^30 e^(-2/10), 2^30 e^(-2/60), 2^30 e^(-2/300).
const KEPT: [u64; 3] = [879_105_452, 1_038_540_380, 1_066_607_353];

/// Which time is counted.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StallKind {
    /// At least one task stalls.
    Some = 0,
    /// As many stall as could work at once.
    Full = 1,
}

impl StallKind {
    /// Both, in the order of the file.
    pub const ALL: [StallKind; 2] = [StallKind::Some, StallKind::Full];

    /// The word for it, as Linux writes it.
    pub const fn name(self) -> &'static str {
        match self {
            StallKind::Some => "some",
            StallKind::Full => "full",
        }
    }
}

/// A part of the time, 0 to 1. Prints as percent with two decimals.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Part(u32);

impl Part {
    /// `us` of a period.
    const fn of_period(us: u64) -> u64 {
        let us = if us < PERIOD_US { us } else { PERIOD_US };
        us * ONE / PERIOD_US
    }

    /// In hundredths of a percent, rounded: 0 to 10,000.
    pub const fn hundredths(self) -> u32 {
        ((self.0 as u64 * 10_000 + ONE / 2) / ONE) as u32
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.hundredths();
        write!(f, "{}.{:02}", n / 100, n % 100)
    }
}

/// What is known of one kind. Prints as in the file, without the kind:
/// `avg10=0.00 avg60=0.00 avg300=0.00 total=0`.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct StallLine {
    /// Averages over the last 10, 60 and 300 s ([`LENGTHS_S`]), as of the last whole period.
    pub averages: [Part; 3],
    /// Microseconds, up to now.
    pub total_us: u64,
}

impl fmt::Display for StallLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (length, average) in LENGTHS_S.iter().zip(self.averages) {
            write!(f, "avg{length}={average} ")?;
        }
        write!(f, "total={}", self.total_us)
    }
}

/// One kind, while it is reckoned.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct Track {
    line: StallLine,
    /// Of the period that runs, the part that was a stall.
    in_period_us: u64,
}

/// What goes on in a stretch of time.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Stretch {
    Work,
    Stall,
}

impl Track {
    const NONE: Track = Track {
        line: StallLine {
            averages: [Part(0); 3],
            total_us: 0,
        },
        in_period_us: 0,
    };

    /// `us` of one thing, from `left_us` before the end of a period on.
    fn pass(&mut self, what: Stretch, us: u64, left_us: u64) {
        let stalled = |us| match what {
            Stretch::Work => 0,
            Stretch::Stall => us,
        };
        self.line.total_us = self.line.total_us.saturating_add(stalled(us));
        if us < left_us {
            self.in_period_us += stalled(us);
            return;
        }
        let first = Part::of_period(self.in_period_us + stalled(left_us));
        let rest = us - left_us;
        for (average, kept) in self.line.averages.iter_mut().zip(KEPT) {
            fade(average, first, kept);
            let whole = Part::of_period(stalled(PERIOD_US));
            fade(average, whole, power(kept, rest / PERIOD_US));
        }
        self.in_period_us = stalled(rest % PERIOD_US);
    }
}

/// Of the average `kept` of 2^30 stays, the rest is `part`.
fn fade(average: &mut Part, part: u64, kept: u64) {
    let sum = u64::from(average.0) * kept + part * (ONE - kept);
    average.0 = ((sum + ONE / 2) / ONE) as u32;
}

/// `base` to that power, both in 1/2^30.
fn power(mut base: u64, mut exponent: u64) -> u64 {
    let mut result = ONE;
    while exponent != 0 && result != 0 {
        if exponent & 1 != 0 {
            result = (result * base + ONE / 2) / ONE;
        }
        base = (base * base + ONE / 2) / ONE;
        exponent /= 2;
    }
    result
}

/// The stalls of a machine. Every call says what the clock shows now; a clock that goes back counts
/// as one that stands.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Ledger {
    /// Up to here everything is reckoned.
    now_us: u64,
    /// Tasks in a stall.
    tasks: u32,
    /// How many could work at once, when a stall began or ended last.
    at_once: u32,
    tracks: [Track; 2],
}

impl Ledger {
    /// Nothing has happened.
    pub const NONE: Ledger = Ledger {
        now_us: 0,
        tasks: 0,
        at_once: 1,
        tracks: [Track::NONE; 2],
    };

    /// What goes on.
    const fn state(&self, kind: StallKind) -> Stretch {
        let enough = match kind {
            StallKind::Some => 1,
            StallKind::Full => self.at_once,
        };
        if self.tasks >= enough {
            Stretch::Stall
        } else {
            Stretch::Work
        }
    }

    /// Time passes.
    pub fn pass(&mut self, now_us: u64) {
        let us = now_us.saturating_sub(self.now_us);
        let left_us = PERIOD_US - self.now_us % PERIOD_US;
        for kind in StallKind::ALL {
            let what = self.state(kind);
            self.tracks[kind as usize].pass(what, us, left_us);
        }
        self.now_us += us;
    }

    /// A task begins to stall; `at_once` tasks could work at once.
    pub fn enter(&mut self, now_us: u64, at_once: u32) {
        self.pass(now_us);
        self.tasks = self.tasks.saturating_add(1);
        self.at_once = at_once.max(1);
    }

    /// A task goes on working.
    pub fn leave(&mut self, now_us: u64, at_once: u32) {
        self.pass(now_us);
        self.tasks = self.tasks.saturating_sub(1);
        self.at_once = at_once.max(1);
    }

    /// The tasks that stalled are not there any more.
    pub fn forget_tasks(&mut self, now_us: u64) {
        self.pass(now_us);
        self.tasks = 0;
    }

    /// Tasks in a stall.
    pub const fn tasks(&self) -> u32 {
        self.tasks
    }

    /// What is known, up to the last call.
    pub const fn lines(&self) -> [StallLine; 2] {
        [self.tracks[0].line, self.tracks[1].line]
    }
}

#[cfg(test)]
mod tests;
