//! The shell on the serial console: look at the machine's memory, and play with it.
//!
//! 1. A line is edited with backspace, Ctrl-U (clear) and Ctrl-C (drop); Ctrl-D or `exit` ends the
//!    machine.
//! 2. What `alloc` gave is numbered and kept until `free`; what is wrong with a line is said, with
//!    what would be right, and nothing happens.

mod commands;
mod held;
mod line;

use crate::arch::exit::{Outcome, exit};
use crate::arch::{cpu, time};
use crate::{print, println};

/// A writer to the console.
pub(crate) struct Console;

impl core::fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        print!("{text}");
        Ok(())
    }
}

/// Waits a little: the next timer interrupt ends it.
fn rest() {
    // SAFETY: nothing is held here.
    unsafe { cpu::sti_and_halt() }
}

/// Reads lines and does what they say, until the user leaves.
pub fn run() -> ! {
    time::timer_hz(1000);
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
