//! The words of the kernel's command line: `mode=test filter=zone break=NAME seed=7 cma=64M`.
//!
//! Words are separated by white space. Each key may come once. What is not known is refused: a
//! misspelt `fliter=` would otherwise run the wrong tests and pass.

use core::fmt;

/// What the kernel does after boot.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// Runs the tests, then turns the machine off.
    #[default]
    Test,
    /// Counts instructions, then turns the machine off.
    Bench,
    /// Serves the serial console.
    Shell,
    /// Boots and turns the machine off.
    Idle,
}

impl Mode {
    const ALL: [(&'static str, Mode); 4] = [
        ("test", Mode::Test),
        ("bench", Mode::Bench),
        ("shell", Mode::Shell),
        ("idle", Mode::Idle),
    ];
}

/// The command line, understood.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct Command<'a> {
    /// `mode=test|bench|shell|idle`; test if not given.
    pub mode: Mode,
    /// `filter=SUBSTR`: only tests or benchmarks whose names contain it.
    pub filter: Option<&'a str>,
    /// `break=NAME`: the check to leave out, by its place in the names given to
    /// [`Command::parse`].
    pub broken: Option<usize>,
    /// `seed=N`, decimal or `0x` and hexadecimal; 0 if not given.
    pub seed: u64,
    /// `cma=SIZE`, bytes or with K, M or G: an area for contiguous allocations, as Linux's word; 0
    /// or not given: none.
    pub cma_bytes: u64,
}

const KEYS: &[&str] = &["mode", "filter", "break", "seed", "cma"];
const MODES: &[&str] = &["test", "bench", "shell", "idle"];

/// Why a command line is refused; says what would be right.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum CommandError<'a> {
    /// Not `key=value`, or a key that does not exist.
    UnknownKey {
        /// The word.
        word: &'a str,
    },
    /// The key has no such value.
    UnknownValue {
        /// The key.
        key: &'a str,
        /// The value.
        value: &'a str,
        /// What there is.
        known: &'a [&'a str],
    },
    /// Not a number of 64 bits.
    BadNumber {
        /// The key.
        key: &'a str,
        /// The value.
        value: &'a str,
    },
    /// Not a size of 64 bits.
    BadSize {
        /// The key.
        key: &'a str,
        /// The value.
        value: &'a str,
    },
    /// The key came before.
    Twice {
        /// The key.
        key: &'a str,
    },
    /// Nothing after the `=`.
    Empty {
        /// The key.
        key: &'a str,
    },
}

/// Shows names as `a, b, c`.
struct Names<'a>(&'a [&'a str]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, name) in self.0.iter().enumerate() {
            f.write_str(if i == 0 { "" } else { ", " })?;
            f.write_str(name)?;
        }
        Ok(())
    }
}

impl fmt::Display for CommandError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            CommandError::UnknownKey { word } => {
                write!(f, "unknown word '{word}': known are KEY=VALUE with ")?;
                write!(f, "{}", Names(KEYS))
            }
            CommandError::UnknownValue { key, value, known } => {
                write!(f, "{key}={value}: {key} is one of {}", Names(known))
            }
            CommandError::BadNumber { key, value } => {
                write!(
                    f,
                    "{key}={value}: {key} is a number of 64 bits, such as 7 or 0x1f"
                )
            }
            CommandError::BadSize { key, value } => {
                write!(f, "{key}={value}: {key} is a size, such as 64M or 1G")
            }
            CommandError::Twice { key } => write!(f, "{key}= is given twice"),
            CommandError::Empty { key } => write!(f, "{key}= needs a value"),
        }
    }
}

impl core::error::Error for CommandError<'_> {}

impl<'a> Command<'a> {
    /// Reads the words of `line`; `controls` are the names that `break=` knows.
    ///
    /// # Errors
    /// [`CommandError`]: the first word that is wrong.
    pub fn parse<'e>(
        line: &'a str,
        controls: &'e [&'e str],
    ) -> Result<Command<'a>, CommandError<'e>>
    where
        'a: 'e,
    {
        let mut command = Command::default();
        let mut seen = [""; KEYS.len()];
        for (i, word) in line.split_ascii_whitespace().enumerate() {
            let (key, value) = word
                .split_once('=')
                .filter(|(key, _)| KEYS.contains(key))
                .ok_or(CommandError::UnknownKey { word })?;
            if seen.contains(&key) {
                return Err(CommandError::Twice { key });
            }
            if value.is_empty() {
                return Err(CommandError::Empty { key });
            }
            // As no key comes twice, there are at most as many words as keys.
            seen[i] = key;
            command.set(key, value, controls)?;
        }
        Ok(command)
    }

    fn set<'e>(
        &mut self,
        key: &'a str,
        value: &'a str,
        controls: &'e [&'e str],
    ) -> Result<(), CommandError<'e>>
    where
        'a: 'e,
    {
        let unknown = |known| CommandError::UnknownValue { key, value, known };
        match key {
            "mode" => {
                let mode = Mode::ALL.iter().find(|(name, _)| *name == value);
                self.mode = mode.ok_or(unknown(MODES))?.1;
            }
            "filter" => self.filter = Some(value),
            "break" => {
                let place = controls.iter().position(|name| *name == value);
                self.broken = Some(place.ok_or(unknown(controls))?);
            }
            "cma" => self.cma_bytes = size(value).ok_or(CommandError::BadSize { key, value })?,
            _ => self.seed = number(value).ok_or(CommandError::BadNumber { key, value })?,
        }
        Ok(())
    }
}

/// Bytes: a number, and K, M or G after it or not.
fn size(text: &str) -> Option<u64> {
    let (digits, shift) = match text.as_bytes().last()? {
        b'K' | b'k' => (&text[..text.len() - 1], 10),
        b'M' | b'm' => (&text[..text.len() - 1], 20),
        b'G' | b'g' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    number(digits)?.checked_mul(1 << shift)
}

/// A number, decimal or with `0x` in front hexadecimal. No sign.
fn number(text: &str) -> Option<u64> {
    let (digits, radix) = match text.strip_prefix("0x") {
        Some(digits) => (digits, 16),
        None => (text, 10),
    };
    let plain = digits.bytes().all(|b| b.is_ascii_hexdigit());
    u64::from_str_radix(digits, radix).ok().filter(|_| plain)
}
