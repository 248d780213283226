//! The terminal as the console of the guest.
//!
//! Each key goes to the guest as it is pressed, Ctrl-C included; the guest echoes. Ctrl-A is the
//! prefix of our own keys, as in QEMU and minicom: Ctrl-A X ends the machine.

use std::io::{IsTerminal, Read, Write};
use std::mem::MaybeUninit;
use std::process::ChildStdin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex};
use std::thread;

use crate::failure::say;

const CTRL_A: u8 = 1;
const CTRL_D: u8 = 4;
const HELP: &str = "\r\ngfp: Ctrl-A X ends the machine, Ctrl-A Ctrl-A sends Ctrl-A\r\n";

/// The terminal's settings, put back when this is dropped.
pub(super) struct RawTerminal {
    before: libc::termios,
}

impl RawTerminal {
    /// Sets standard input to raw; nothing if it is no terminal. Output keeps its processing, so
    /// that a bare line feed begins a new line.
    pub(super) fn enter() -> Option<RawTerminal> {
        if !std::io::stdin().is_terminal() {
            return None;
        }
        let mut before = MaybeUninit::<libc::termios>::zeroed();
        // SAFETY: tcgetattr writes the settings; all zeroes is a valid value of them.
        let before = unsafe {
            if libc::tcgetattr(libc::STDIN_FILENO, before.as_mut_ptr()) != 0 {
                return None;
            }
            before.assume_init()
        };
        let mut raw = before;
        // SAFETY: both functions take initialised settings of ours.
        unsafe {
            libc::cfmakeraw(&mut raw);
            raw.c_oflag = before.c_oflag;
            libc::tcsetattr(libc::STDIN_FILENO, libc::TCSANOW, &raw);
        }
        Some(RawTerminal { before })
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // SAFETY: the settings are those that we were given.
        unsafe { libc::tcsetattr(libc::STDIN_FILENO, libc::TCSANOW, &self.before) };
    }
}

/// What keys mean.
#[derive(Debug, PartialEq, Eq)]
enum Key {
    /// For the guest.
    Send(u8),
    /// Ctrl-A X.
    Quit,
    /// Ctrl-A and anything that we do not know.
    Help,
    /// The first half of a pair.
    Nothing,
}

/// Tells our own keys from those of the guest.
#[derive(Default)]
struct Keys {
    after_ctrl_a: bool,
}

impl Keys {
    fn press(&mut self, key: u8) -> Key {
        if !self.after_ctrl_a {
            self.after_ctrl_a = key == CTRL_A;
            return if self.after_ctrl_a {
                Key::Nothing
            } else {
                Key::Send(key)
            };
        }
        self.after_ctrl_a = false;
        match key {
            b'x' | b'X' => Key::Quit,
            CTRL_A => Key::Send(CTRL_A),
            _ => Key::Help,
        }
    }
}

/// What the threads of a console share with the one that waits for the machine.
#[derive(Default)]
pub(super) struct Shared {
    /// Ctrl-A X was pressed.
    quit: AtomicBool,
    /// The guest has printed its first prompt: what comes earlier is lost when it sets up its
    /// port.
    prompted: Mutex<bool>,
    changed: Condvar,
}

impl Shared {
    /// The guest waits for input.
    pub(super) fn prompted(&self) {
        *self
            .prompted
            .lock()
            .unwrap_or_else(|poison| poison.into_inner()) = true;
        self.changed.notify_all();
    }

    pub(super) fn has_quit(&self) -> bool {
        // Acquire: pairs with the store in `forward`; the signal that follows it brought us here.
        self.quit.load(Ordering::Acquire)
    }

    fn wait_for_prompt(&self) {
        let mut prompted = self
            .prompted
            .lock()
            .unwrap_or_else(|poison| poison.into_inner());
        while !*prompted {
            prompted = self
                .changed
                .wait(prompted)
                .unwrap_or_else(|poison| poison.into_inner());
        }
    }
}

/// The end of a script ends the shell, as Ctrl-D at a terminal does: on an empty line only.
fn end_of_script(last: u8) -> &'static [u8] {
    match last {
        b'\n' | b'\r' => &[CTRL_D],
        _ => &[b'\n', CTRL_D],
    }
}

/// Copies standard input to the guest, on a thread that nobody waits for: it may be blocked on the
/// terminal when the machine ends.
pub(super) fn forward(mut guest: ChildStdin, shared: &'static Shared) {
    let terminal = std::io::stdin().is_terminal();
    thread::spawn(move || {
        if !terminal {
            shared.wait_for_prompt();
        }
        let mut keys = Keys::default();
        let mut input = std::io::stdin().lock();
        let mut buffer = [0; 256];
        let mut last = b'\n';
        loop {
            let count = match input.read(&mut buffer) {
                Ok(count) if count > 0 => count,
                _ => return drop(guest.write_all(end_of_script(last))),
            };
            last = buffer[count - 1];
            for &byte in &buffer[..count] {
                // A script has no keys of ours.
                let key = if terminal {
                    keys.press(byte)
                } else {
                    Key::Send(byte)
                };
                match key {
                    Key::Send(byte) if guest.write_all(&[byte]).is_err() => return,
                    Key::Send(_) | Key::Nothing => {}
                    Key::Help => say(HELP),
                    Key::Quit => {
                        // Release: pairs with `has_quit`.
                        shared.quit.store(true, Ordering::Release);
                        // SAFETY: a signal to ourselves; all threads block it, so it wakes the
                        // one that waits for the machine.
                        unsafe { libc::kill(libc::getpid(), libc::SIGUSR1) };
                        return;
                    }
                }
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    // Seen to fail: Ctrl-D in the middle of a line is no end, and the machine runs on.
    #[test]
    fn the_last_line_of_a_script_needs_no_line_feed() {
        assert_eq!(end_of_script(b'\n'), [CTRL_D]);
        assert_eq!(end_of_script(b's'), [b'\n', CTRL_D]);
    }

    #[test]
    fn ctrl_a_is_the_prefix_of_our_own_keys() {
        let mut keys = Keys::default();
        let mut press =
            |bytes: &[u8]| -> Vec<Key> { bytes.iter().map(|b| keys.press(*b)).collect() };
        assert_eq!(
            press(b"ax\x03"),
            [Key::Send(b'a'), Key::Send(b'x'), Key::Send(3)]
        );
        assert_eq!(
            press(b"\x01\x01x"),
            [Key::Nothing, Key::Send(1), Key::Send(b'x')]
        );
        assert_eq!(
            press(b"\x01h\x01X"),
            [Key::Nothing, Key::Help, Key::Nothing, Key::Quit]
        );
    }
}
