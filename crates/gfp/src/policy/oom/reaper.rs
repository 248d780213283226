//! Taking a victim's memory without waiting for it to die (P435).

/// P435: the state of the reaping of one victim.
///
/// Bound: [`Reaper::MS_MAX`] after the kill the victim counts as reaped, dead or not, and another
/// may be chosen.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Reaper {
    /// Attempts made.
    attempts: u32,
}

/// What the reaper does next.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Reap {
    /// Try after so many milliseconds.
    After {
        /// The delay.
        ms: u32,
    },
    /// No more: the victim counts as reaped ([`super::Standing::Reaped`]), and nobody waits for it.
    GiveUp,
}

impl Reaper {
    /// P435: before the first attempt, in milliseconds: most victims die by themselves.
    pub const FIRST_MS: u32 = 2000;
    /// P435: between two attempts, in milliseconds.
    pub const RETRY_MS: u32 = 100;
    /// P435: the most attempts.
    pub const ATTEMPTS_MAX: u32 = 10;
    /// The longest that a victim holds the machine up, in milliseconds: nine waits lie between ten
    /// attempts.
    pub const MS_MAX: u32 = Self::FIRST_MS + (Self::ATTEMPTS_MAX - 1) * Self::RETRY_MS;

    /// What comes next.
    pub const fn next(&self) -> Reap {
        match self.attempts {
            0 => Reap::After { ms: Self::FIRST_MS },
            Self::ATTEMPTS_MAX.. => Reap::GiveUp,
            _ => Reap::After { ms: Self::RETRY_MS },
        }
    }

    /// An attempt did not get at the memory (its lock was held). One that did ends the reaping.
    pub const fn failed(&mut self) {
        self.attempts = self.attempts.saturating_add(1);
    }
}
