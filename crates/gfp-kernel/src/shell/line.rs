//! One line from the console.

use crate::arch::serial;
use crate::print;
use alloc::string::String;

const LONGEST: usize = 200;
const BACKSPACE: [u8; 2] = [0x08, 0x7f];
const CTRL_C: u8 = 3;
const CTRL_D: u8 = 4;
const CTRL_U: u8 = 21;
const ESCAPE: u8 = 27;

/// Waits for a byte.
fn next() -> u8 {
    loop {
        match serial::get() {
            Some(byte) => return byte,
            None => super::rest(),
        }
    }
}

/// Reads the rest of a key that sends more than one byte, such as an arrow: `ESC [ 1 ; 5 A`.
fn skip_key() {
    if matches!(next(), b'[' | b'O') {
        while !matches!(next(), b'@'..=b'~') {}
    }
}

/// Reads a line, echoing it; `None` if the user wants to leave.
pub(super) fn read(prompt: &str) -> Option<String> {
    let mut line = String::new();
    print!("{prompt}");
    loop {
        match next() {
            ESCAPE => skip_key(),
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
            byte @ b' '..=b'~' if line.len() < LONGEST => {
                line.push(byte.into());
                print!("{}", char::from(byte));
            }
            _ => {}
        }
    }
}
