//! One line from the console.

use crate::arch::serial;
use crate::print;
use alloc::string::String;

const LONGEST: usize = 200;
const BACKSPACE: [u8; 2] = [0x08, 0x7f];
const CTRL_C: u8 = 3;
const CTRL_D: u8 = 4;
const CTRL_U: u8 = 21;

/// Reads a line, echoing it; `None` if the user wants to leave.
pub(super) fn read(prompt: &str) -> Option<String> {
    let mut line = String::new();
    print!("{prompt}");
    loop {
        let Some(byte) = serial::get() else {
            super::rest();
            continue;
        };
        match byte {
            b'\r' | b'\n' => {
                print!("\n");
                return Some(line);
            }
            CTRL_D if line.is_empty() => {
                print!("\n");
                return None;
            }
            CTRL_C => {
                line.clear();
                print!("^C\n{prompt}");
            }
            CTRL_U => {
                while line.pop().is_some() {
                    print!("\x08 \x08");
                }
            }
            byte if BACKSPACE.contains(&byte) && line.pop().is_some() => print!("\x08 \x08"),
            b' '..=b'~' if line.len() < LONGEST => {
                line.push(byte.into());
                print!("{}", char::from(byte));
            }
            _ => {}
        }
    }
}
