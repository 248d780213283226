//! Why a tunable was not set.

use core::fmt;

/// Why a tunable was not read or written; nothing was changed.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum TunableError {
    /// Nobody knows the name.
    Unknown {
        /// A known name that is much like it.
        nearest: Option<&'static str>,
    },
    /// Linux has it in `/proc/sys/vm`, this library has it elsewhere or not.
    Elsewhere {
        /// Its name.
        name: &'static str,
        /// Where it is, or why it is nowhere.
        why: &'static str,
    },
    /// What was to be written is not made of decimal numbers.
    NotANumber {
        /// Its name.
        name: &'static str,
    },
    /// No number was written, or more than it has.
    WrongCount {
        /// Its name.
        name: &'static str,
        /// How many it has.
        most: usize,
    },
    /// A number is too small or too large.
    OutOfRange {
        /// Its name.
        name: &'static str,
        /// The least number.
        least: i64,
        /// The largest.
        most: i64,
    },
    /// A number is too large, or less than the least and not 0.
    NeitherZeroNor {
        /// Its name.
        name: &'static str,
        /// The least number that is not 0.
        least: i64,
    },
    /// It has no value that could be read.
    WriteOnly {
        /// Its name.
        name: &'static str,
    },
    /// The call came from inside the allocator; make it from a task.
    Nested,
}

impl fmt::Display for TunableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            TunableError::Unknown { nearest: None } => f.write_str("no such tunable"),
            TunableError::Unknown {
                nearest: Some(name),
            } => {
                write!(f, "no such tunable; did you mean {name}?")
            }
            TunableError::Elsewhere { name, why } => write!(f, "{name} cannot be set here: {why}"),
            TunableError::NotANumber { name } => write!(f, "{name} takes decimal numbers"),
            TunableError::WrongCount { name, most: 1 } => write!(f, "{name} takes one number"),
            TunableError::WrongCount { name, most } => {
                write!(f, "{name} takes one to {most} numbers")
            }
            TunableError::OutOfRange { name, least, most } if least == most => {
                write!(f, "{name} takes nothing but {least}")
            }
            TunableError::OutOfRange { name, least, most } => {
                write!(f, "{name} takes {least} to {most}")
            }
            TunableError::NeitherZeroNor { name, least } => {
                write!(f, "{name} takes 0, or {least} and more")
            }
            TunableError::WriteOnly { name } => write!(f, "{name} can only be written"),
            TunableError::Nested => {
                f.write_str("a tunable was set from inside the allocator: do it from a task")
            }
        }
    }
}

impl core::error::Error for TunableError {}
