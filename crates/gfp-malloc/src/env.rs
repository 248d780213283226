//! What the environment asks for, read without calling anything.
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `GFP_MEMORY` | bytes of managed RAM | half of the machine's |
//! | `GFP_RECORD_DIR` | where to keep its [`Record`](crate::record::Record) | no record |
//! | `GFP_PROC_DIR` | where to keep the text views up to date | no views |
//! | `GFP_OOM` | `fail` or `kill`: what follows a request that memory is used up for | `fail` |
//! | `GFP_MALLOC_REPORT` | `report` or `abort`: what follows the line about a misuse | `report` |
//!
//! `getenv` is not used: the first `malloc` may come before the C library is ready, when `environ`
//! is still null. Then `/proc/self/environ` is read. Everything is copied, since programs
//! overwrite their environment (`setproctitle`) and change it.

use crate::sys::{File, Path};
use core::ffi::{CStr, c_char};

/// What follows the report of a double or wild free.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum AfterMisuse {
    /// The call did nothing; the program goes on.
    Continue,
    /// The process dies by `SIGABRT`.
    Abort,
}

/// What follows a request that fails because the machine's memory is used up.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum OutOfMemory {
    /// The program sees a null pointer and `ENOMEM`.
    Fail,
    /// The process dies by `SIGKILL`, after a report.
    Kill,
}

/// The settings of a process.
pub struct Settings {
    /// Bytes of managed RAM, if the environment says.
    pub memory: Option<usize>,
    /// Directory of the record; empty: none.
    pub record_dir: Path,
    /// Directory of the text views; empty: none.
    pub proc_dir: Path,
    /// What follows a misuse.
    pub after_misuse: AfterMisuse,
    /// What follows when memory is used up.
    pub out_of_memory: OutOfMemory,
}

impl Settings {
    /// What holds where the environment says nothing.
    pub const DEFAULT: Settings = Settings {
        memory: None,
        record_dir: Path::new(),
        proc_dir: Path::new(),
        after_misuse: AfterMisuse::Continue,
        out_of_memory: OutOfMemory::Fail,
    };

    /// Reads the environment into `self`.
    pub fn read_environment(&mut self) {
        unsafe extern "C" {
            static environ: *const *const c_char;
        }
        // SAFETY: the C library's variable; null before it is ready.
        let mut at = unsafe { environ };
        if at.is_null() {
            return self.read_proc();
        }
        loop {
            // SAFETY: `environ` is an array of C strings with a null at its end, which nobody may
            // change while others read it (POSIX: setenv is not thread-safe either).
            let entry = unsafe { *at };
            if entry.is_null() {
                return;
            }
            // SAFETY: as above.
            self.take(unsafe { CStr::from_ptr(entry) }.to_bytes());
            at = at.wrapping_add(1);
        }
    }

    /// From `/proc/self/environ`: strings with a NUL after each. Entries longer than the buffer are
    /// passed over; they cannot be ours, whose paths are shorter.
    fn read_proc(&mut self) {
        let mut path = Path::new();
        if !path.push(b"/proc/self/environ") {
            return;
        }
        let Ok(file) = File::open(&path, libc::O_RDONLY, 0) else {
            return;
        };
        let mut buffer = [0u8; 2 * Path::MAX];
        let (mut used, mut skipping) = (0, false);
        while let Ok(n) = file.read(&mut buffer[used..]) {
            used += n;
            let mut start = 0;
            while let Some(len) = buffer[start..used].iter().position(|b| *b == 0) {
                if !skipping {
                    self.take(&buffer[start..start + len]);
                }
                skipping = false;
                start += len + 1;
            }
            if n == 0 {
                return;
            }
            buffer.copy_within(start..used, 0);
            used -= start;
            if used == buffer.len() {
                (used, skipping) = (0, true);
            }
        }
    }

    /// Takes one `NAME=value`; other names are none of ours.
    fn take(&mut self, entry: &[u8]) {
        let Some(equals) = entry.iter().position(|b| *b == b'=') else {
            return;
        };
        let (name, value) = (&entry[..equals], &entry[equals + 1..]);
        match name {
            b"GFP_MEMORY" => self.memory = number(value),
            b"GFP_RECORD_DIR" => set(&mut self.record_dir, value),
            b"GFP_PROC_DIR" => set(&mut self.proc_dir, value),
            b"GFP_OOM" => {
                self.out_of_memory = match value {
                    b"kill" => OutOfMemory::Kill,
                    _ => OutOfMemory::Fail,
                }
            }
            b"GFP_MALLOC_REPORT" => {
                self.after_misuse = match value {
                    b"abort" => AfterMisuse::Abort,
                    _ => AfterMisuse::Continue,
                }
            }
            _ => {}
        }
    }
}

fn set(path: &mut Path, value: &[u8]) {
    path.truncate(0);
    let _ = path.push(value); // too long for a path: as if not set
}

fn number(text: &[u8]) -> Option<usize> {
    core::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_its_own_names_and_no_others() {
        let mut settings = Settings::DEFAULT;
        for entry in [
            &b"GFP_MEMORY=1048576"[..],
            b"GFP_MEMORYX=7",
            b"GFP_PROC_DIR=/tmp/a b",
            b"NO_EQUALS",
            b"GFP_MALLOC_REPORT=abort",
            b"GFP_OOM=kill",
        ] {
            settings.take(entry);
        }
        assert_eq!(settings.memory, Some(1 << 20));
        assert_eq!(settings.proc_dir.bytes(), b"/tmp/a b");
        assert_eq!(settings.after_misuse, AfterMisuse::Abort);
        assert_eq!(settings.out_of_memory, OutOfMemory::Kill);
        assert_eq!(settings.record_dir.bytes(), b"");
    }

    #[test]
    fn nonsense_is_as_good_as_nothing() {
        let mut settings = Settings::DEFAULT;
        settings.take(b"GFP_MEMORY=64M");
        assert_eq!(settings.memory, None);
        settings.out_of_memory = OutOfMemory::Kill;
        settings.take(b"GFP_OOM=maybe");
        assert_eq!(settings.out_of_memory, OutOfMemory::Fail);
        settings.take(b"GFP_MALLOC_REPORT=loudly");
        assert_eq!(settings.after_misuse, AfterMisuse::Continue);
        let mut long = [b'x'; 5000];
        long[..13].copy_from_slice(b"GFP_PROC_DIR=");
        settings.take(&long);
        assert_eq!(settings.proc_dir.bytes(), b"");
    }
}
