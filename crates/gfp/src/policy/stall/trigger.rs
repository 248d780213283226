//! "some 150000 1000000": so much stall within such a window (P680).

use super::{StallKind, StallLine};
use core::fmt;
use core::str::FromStr;

/// The shortest window, in microseconds.
pub const WINDOW_MIN_US: u32 = 500_000;
/// The longest window, in microseconds.
pub const WINDOW_MAX_US: u32 = 10_000_000;

/// In a window it is looked so often: a stall that lasts is noticed within a tenth of it.
const LOOKS: u64 = 10;

/// A condition: within a window so much time was lost. Parses from the text that Linux takes in
/// `/proc/pressure/memory`, `some|full STALL_US WINDOW_US`, and prints as that.
///
/// ```
/// use gfp::policy::stall::{StallKind, Trigger, TriggerError};
/// let trigger: Trigger = "some 150000 1000000".parse()?;
/// assert_eq!(trigger, Trigger::new(StallKind::Some, 150_000, 1_000_000)?);
/// assert_eq!("full 1 2".parse::<Trigger>(), Err(TriggerError::Window));
/// # Ok::<(), TriggerError>(())
/// ```
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Trigger {
    kind: StallKind,
    stall_us: u32,
    window_us: u32,
}

/// Why there is no such trigger.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum TriggerError {
    /// The text is none: write `some` or `full` and two numbers.
    Syntax,
    /// The window is shorter than [`WINDOW_MIN_US`] or longer than [`WINDOW_MAX_US`].
    Window,
    /// The stall is 0, or longer than the window.
    Stall,
}

impl fmt::Display for TriggerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TriggerError::Syntax => "not a trigger: write `some STALL_US WINDOW_US`, or `full`",
            TriggerError::Window => "the window must be 500000 to 10000000 microseconds",
            TriggerError::Stall => "the stall must be more than 0 and at most the window",
        })
    }
}

impl core::error::Error for TriggerError {}

impl Trigger {
    /// `stall_us` of stall within `window_us`, both in microseconds.
    ///
    /// # Errors
    /// [`TriggerError::Window`] and [`TriggerError::Stall`].
    pub const fn new(
        kind: StallKind,
        stall_us: u32,
        window_us: u32,
    ) -> Result<Trigger, TriggerError> {
        if window_us < WINDOW_MIN_US || window_us > WINDOW_MAX_US {
            return Err(TriggerError::Window);
        }
        if stall_us == 0 || stall_us > window_us {
            return Err(TriggerError::Stall);
        }
        Ok(Trigger {
            kind,
            stall_us,
            window_us,
        })
    }

    /// Which time counts.
    pub const fn kind(&self) -> StallKind {
        self.kind
    }

    /// In microseconds.
    pub const fn window_us(&self) -> u32 {
        self.window_us
    }

    /// While something stalls it is to be looked at so often, in microseconds.
    pub const fn look_us(&self) -> u64 {
        self.window_us as u64 / LOOKS
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.kind.name();
        write!(f, "{name} {} {}", self.stall_us, self.window_us)
    }
}

impl FromStr for Trigger {
    type Err = TriggerError;

    fn from_str(text: &str) -> Result<Trigger, TriggerError> {
        let mut words = text.split_ascii_whitespace();
        let mut word = || words.next().ok_or(TriggerError::Syntax);
        let name = word()?;
        let mut kinds = StallKind::ALL.into_iter();
        let kind = kinds.find(|kind| kind.name() == name);
        let kind = kind.ok_or(TriggerError::Syntax)?;
        let mut number = || word()?.parse().map_err(|_| TriggerError::Syntax);
        let (stall_us, window_us) = (number()?, number()?);
        match words.next() {
            None => Trigger::new(kind, stall_us, window_us),
            Some(_) => Err(TriggerError::Syntax),
        }
    }
}

/// Says when what a [`Trigger`] asks for was so: at most once in a window.
///
/// The window slides: of the window before this one counts what of it is still covered, as if its
/// stalls were spread evenly. Who looks less often than once a window hears of all that came
/// together since.
#[derive(Copy, Clone, Debug)]
pub struct Watch {
    trigger: Trigger,
    /// Where the window began, and the total then.
    start_us: u64,
    at_start_us: u64,
    /// Stall in the window before.
    before_us: u64,
    /// Nothing is said before this time.
    silent_until_us: u64,
}

impl Watch {
    /// From now on.
    pub const fn new(trigger: Trigger, now_us: u64, lines: &[StallLine; 2]) -> Watch {
        Watch {
            trigger,
            start_us: now_us,
            at_start_us: lines[trigger.kind as usize].total_us,
            before_us: 0,
            silent_until_us: 0,
        }
    }

    /// What is watched for.
    pub const fn trigger(&self) -> &Trigger {
        &self.trigger
    }

    /// Looks. True if it was so, and was not said in this window.
    pub fn look(&mut self, now_us: u64, lines: &[StallLine; 2]) -> bool {
        let window_us = u64::from(self.trigger.window_us);
        let total_us = lines[self.trigger.kind as usize].total_us;
        let elapsed_us = now_us.saturating_sub(self.start_us);
        let grown_us = total_us.saturating_sub(self.at_start_us);
        let mut in_window_us = grown_us;
        if elapsed_us > window_us {
            (self.start_us, self.at_start_us) = (now_us, total_us);
            self.before_us = grown_us.min(window_us);
        } else {
            in_window_us += self.before_us * (window_us - elapsed_us) / window_us;
        }
        let is_so = in_window_us >= u64::from(self.trigger.stall_us);
        if !is_so || now_us < self.silent_until_us {
            return false;
        }
        self.silent_until_us = now_us.saturating_add(window_us);
        true
    }

    /// True if nothing is left to be said, as long as no more stalls: there was none in the last
    /// two windows.
    pub const fn is_cold(&self, lines: &[StallLine; 2]) -> bool {
        self.before_us == 0 && lines[self.trigger.kind as usize].total_us == self.at_start_us
    }
}
