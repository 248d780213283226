//! Text of any length on standard error, without memory.

use crate::sys;
use core::fmt::{self, Write};

const BYTES: usize = 512;

/// Collects a few lines at a time. What is left is written when it is dropped.
pub(crate) struct StandardError {
    bytes: [u8; BYTES],
    used: usize,
}

impl StandardError {
    pub(crate) fn new() -> StandardError {
        StandardError {
            bytes: [0; BYTES],
            used: 0,
        }
    }

    fn flush(&mut self) {
        sys::write(libc::STDERR_FILENO, &self.bytes[..self.used]);
        self.used = 0;
    }
}

impl Write for StandardError {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text.as_bytes();
        while !rest.is_empty() {
            if self.used == BYTES {
                self.flush();
            }
            let taken = rest.len().min(BYTES - self.used);
            let (now, later) = rest.split_at(taken);
            self.bytes[self.used..self.used + taken].copy_from_slice(now);
            self.used += taken;
            rest = later;
        }
        Ok(())
    }
}

impl Drop for StandardError {
    fn drop(&mut self) {
        self.flush();
    }
}
