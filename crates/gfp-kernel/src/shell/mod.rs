//! The shell on the serial console: look at the machine's memory, and play with it.
//!
//! 1. A line is edited with backspace, Ctrl-U (clear) and Ctrl-C (drop); Ctrl-D or `exit` ends the
//!    machine.
//! 2. What `alloc` gave is numbered and kept until `free`; what is wrong with a line is said, with
//!    what would be right, and nothing happens. `alloc` leaves the shell enough to go on with.

mod commands;
mod held;
mod line;
mod stress;

use crate::arch::exit::{Outcome, exit};
use crate::{print, println, sched};

/// A writer to the console.
pub(crate) struct Console;

impl core::fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        print!("{text}");
        Ok(())
    }
}

/// Waits a little before the console is looked at again.
fn rest() {
    sched::sleep_ns(1_000_000);
}

/// Reads lines and does what they say, until the user leaves.
pub fn run() -> ! {
    println!("gfp shell; `help` lists the commands, Ctrl-D ends the machine");
    let mut held = held::Held::new();
    while let Some(line) = line::read("gfp> ") {
        match commands::run(&line, &mut held) {
            Ok(commands::Next::Again) => {}
            Ok(commands::Next::Exit) => break,
            Err(text) => println!("{text}"),
        }
    }
    println!("bye");
    exit(Outcome::Passed)
}
