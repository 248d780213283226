//! Failures of gfp itself: a message that names the fix, and the exit status.

use std::fmt::Display;
use std::io::Write;

/// What gfp ran says that something failed: a test in the virtual machine, or its kernel.
pub(crate) const INSIDE: u8 = 1;
/// gfp itself failed.
pub(crate) const OWN: u8 = 125;
/// The program was found but cannot be executed.
pub(crate) const NOT_EXECUTABLE: u8 = 126;
/// The program was not found.
pub(crate) const NOT_FOUND: u8 = 127;

/// Why gfp did not run the program, or lost it; or what failed inside a virtual machine.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Exit status: 1, or 125, 126, 127 as `env` and `timeout` use them.
    pub(crate) status: u8,
    /// What is wrong and what helps.
    pub(crate) message: String,
}

impl Failure {
    /// What gfp ran failed.
    pub(crate) fn inside(message: impl Display) -> Failure {
        Failure {
            status: INSIDE,
            message: message.to_string(),
        }
    }

    /// gfp itself failed.
    pub(crate) fn own(message: impl Display) -> Failure {
        Failure {
            status: OWN,
            message: message.to_string(),
        }
    }

    /// The program cannot be executed.
    pub(crate) fn not_executable(message: impl Display) -> Failure {
        Failure {
            status: NOT_EXECUTABLE,
            message: message.to_string(),
        }
    }

    /// There is no such program.
    pub(crate) fn not_found(message: impl Display) -> Failure {
        Failure {
            status: NOT_FOUND,
            message: message.to_string(),
        }
    }

    /// Says it on stderr.
    pub(crate) fn print(&self) {
        say(&format!("gfp: {}\n", self.message));
    }
}

/// Writes to stderr at once; a closed stderr is nobody's failure.
pub(crate) fn say(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}
