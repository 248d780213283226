//! Flag words from text: names, numbers, `|`, `&`, `~` and parentheses.
//!
//! ```text
//! expr  := term  { "|" term }          lowest, as in C
//! term  := unary { "&" unary }
//! unary := "~" unary | "(" expr ")" | NAME | NUMBER
//! ```

use core::fmt;
use core::str::FromStr;

use super::bits::Gfp;
use super::names::known_flags;

/// Nested `~` and parentheses beyond this are refused, so that the parser's stack stays bounded.
const MAX_DEPTH: usize = 32;
/// Names longer than this are not compared with the known ones when a suggestion is looked for.
const MAX_SUGGEST_LEN: usize = 32;

/// Why a text is not a flag word.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ParseErrorKind {
    /// The name is not known; the nearest one that is.
    UnknownName {
        /// The known name with the smallest edit distance, if one is near.
        nearest: Option<&'static str>,
    },
    /// A name, a number, `~` or `(` should stand here.
    ExpectedFlag,
    /// `|`, `&` or the end should stand here.
    ExpectedOperator,
    /// This `(` has no partner.
    UnclosedParenthesis,
    /// This `)` has no partner.
    UnopenedParenthesis,
    /// Not a decimal or `0x` number of 32 bits.
    BadNumber,
    /// The number holds bits that mean nothing.
    UndefinedBits {
        /// Those bits.
        bits: u32,
    },
    /// More than 32 levels of `~` and parentheses.
    TooDeep,
}

/// Where and why a text is not a flag word.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// Byte position of the offending part.
    pub at: usize,
    /// Length of the offending part in bytes; 0 at the end of the text.
    pub len: usize,
    /// What is wrong there.
    pub kind: ParseErrorKind,
}

impl ParseError {
    /// The error with the text it is about, the offending part underlined: three lines for a
    /// terminal.
    pub const fn annotate<'a>(&self, text: &'a str) -> Annotated<'a> {
        Annotated { error: *self, text }
    }
}

/// See [`ParseError::annotate`].
#[derive(Copy, Clone, Debug)]
pub struct Annotated<'a> {
    error: ParseError,
    text: &'a str,
}

impl fmt::Display for Annotated<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let before = self.text.get(..self.error.at).unwrap_or(self.text);
        let end = self.error.at.saturating_add(self.error.len);
        let part = self.text.get(self.error.at..end).unwrap_or("");
        writeln!(f, "{}", self.error)?;
        writeln!(f, "  {}", self.text)?;
        write!(f, "  {:1$}", "", before.chars().count())?;
        for _ in 0..part.chars().count().max(1) {
            f.write_str("^")?;
        }
        Ok(())
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {}: ", self.at)?;
        match self.kind {
            ParseErrorKind::UnknownName {
                nearest: Some(name),
            } => {
                write!(f, "unknown flag name, did you mean {name}?")
            }
            ParseErrorKind::UnknownName { nearest: None } => f.write_str("unknown flag name"),
            ParseErrorKind::ExpectedFlag => f.write_str("expected a flag name, a number, ~ or ("),
            ParseErrorKind::ExpectedOperator => f.write_str("expected |, & or the end"),
            ParseErrorKind::UnclosedParenthesis => f.write_str("this ( is never closed"),
            ParseErrorKind::UnopenedParenthesis => f.write_str("this ) was never opened"),
            ParseErrorKind::BadNumber => f.write_str("not a number of 32 bits"),
            ParseErrorKind::UndefinedBits { bits } => {
                write!(f, "bits {bits:#x} are not defined")
            }
            ParseErrorKind::TooDeep => {
                write!(f, "more than {MAX_DEPTH} levels of ~ and parentheses")
            }
        }
    }
}

impl core::error::Error for ParseError {}

/// Reads what `Display` prints, and expressions over it: `GFP_KERNEL & ~(__GFP_FS | 0x40)`.
///
/// A name may come with its prefix (`GFP_KERNEL`, `__GFP_ZERO`) or without (`KERNEL`, `ZERO`).
/// `none` and `0` are the empty word. Case matters. Undefined bits are refused.
impl FromStr for Gfp {
    type Err = ParseError;
    fn from_str(text: &str) -> Result<Gfp, ParseError> {
        let mut parser = Parser {
            text,
            at: 0,
            depth: 0,
        };
        let gfp = parser.expr()?;
        match parser.peek() {
            None => Ok(gfp),
            Some(b')') => Err(parser.error_here(ParseErrorKind::UnopenedParenthesis)),
            Some(_) => Err(parser.error_here(ParseErrorKind::ExpectedOperator)),
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn expr(&mut self) -> Result<Gfp, ParseError> {
        let mut gfp = self.term()?;
        while self.eat(b'|') {
            gfp |= self.term()?;
        }
        Ok(gfp)
    }

    fn term(&mut self) -> Result<Gfp, ParseError> {
        let mut gfp = self.unary()?;
        while self.eat(b'&') {
            gfp &= self.unary()?;
        }
        Ok(gfp)
    }

    fn unary(&mut self) -> Result<Gfp, ParseError> {
        self.skip_blanks();
        let start = self.at;
        if self.depth == MAX_DEPTH {
            return Err(self.error_here(ParseErrorKind::TooDeep));
        }
        self.depth += 1;
        let gfp = if self.eat(b'~') {
            !self.unary()?
        } else if self.eat(b'(') {
            let inner = self.expr()?;
            match self.peek() {
                Some(b')') => self.at += 1,
                Some(_) => return Err(self.error_here(ParseErrorKind::ExpectedOperator)),
                None => {
                    let kind = ParseErrorKind::UnclosedParenthesis;
                    return Err(ParseError {
                        at: start,
                        len: 1,
                        kind,
                    });
                }
            }
            inner
        } else {
            self.word()?
        };
        self.depth -= 1;
        Ok(gfp)
    }

    /// A name or a number.
    fn word(&mut self) -> Result<Gfp, ParseError> {
        let at = self.at;
        let rest = &self.text[at..];
        let len = rest
            .bytes()
            .position(|b| !(b.is_ascii_alphanumeric() || b == b'_'))
            .unwrap_or(rest.len());
        if len == 0 {
            return Err(self.error_here(ParseErrorKind::ExpectedFlag));
        }
        let word = &rest[..len];
        self.at += len;
        let value = if word.starts_with(|c: char| c.is_ascii_digit()) {
            number(word)
        } else {
            name(word)
        };
        value.map_err(|kind| ParseError { at, len, kind })
    }

    fn skip_blanks(&mut self) {
        let rest = &self.text[self.at..];
        self.at += rest.len() - rest.trim_start().len();
    }

    fn peek(&mut self) -> Option<u8> {
        self.skip_blanks();
        self.text.as_bytes().get(self.at).copied()
    }

    fn eat(&mut self, symbol: u8) -> bool {
        let found = self.peek() == Some(symbol);
        self.at += usize::from(found);
        found
    }

    fn error_here(&self, kind: ParseErrorKind) -> ParseError {
        let len = self.text[self.at..]
            .chars()
            .next()
            .map_or(0, char::len_utf8);
        ParseError {
            at: self.at,
            len,
            kind,
        }
    }
}

fn number(word: &str) -> Result<Gfp, ParseErrorKind> {
    let parsed = match word.strip_prefix("0x").or_else(|| word.strip_prefix("0X")) {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => word.parse(),
    };
    let bits = parsed.map_err(|_| ParseErrorKind::BadNumber)?;
    let undefined = Gfp::from_bits_retain(bits).undefined_bits();
    if undefined != 0 {
        return Err(ParseErrorKind::UndefinedBits { bits: undefined });
    }
    Ok(Gfp::from_bits_retain(bits))
}

fn name(word: &str) -> Result<Gfp, ParseErrorKind> {
    if word == "none" {
        return Ok(Gfp::NONE);
    }
    known_flags()
        .find(|known| known.name == word || bare(known.name) == word)
        .map(|known| known.gfp)
        .ok_or_else(|| ParseErrorKind::UnknownName {
            nearest: nearest(word),
        })
}

/// A known name without its prefix.
fn bare(name: &'static str) -> &'static str {
    name.strip_prefix("__GFP_")
        .or_else(|| name.strip_prefix("GFP_"))
        .unwrap_or(name)
}

/// The known name nearest to `word`, with or without prefix, if at most a third of it differs.
fn nearest(word: &str) -> Option<&'static str> {
    known_flags()
        .filter_map(|known| {
            let full = edit_distance(word, known.name)?;
            let short = edit_distance(word, bare(known.name))?;
            Some((full.min(short), known.name))
        })
        .filter(|&(distance, _)| distance <= word.len().div_ceil(3))
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, name)| name)
}

/// Levenshtein distance, letters compared without case. `None` if `a` has more than
/// [`MAX_SUGGEST_LEN`] bytes.
pub(crate) fn edit_distance(a: &str, b: &str) -> Option<usize> {
    if a.len() > MAX_SUGGEST_LEN {
        return None;
    }
    let mut row = [0; MAX_SUGGEST_LEN + 1];
    for (i, cell) in row.iter_mut().enumerate() {
        *cell = i;
    }
    for (j, y) in b.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = j + 1;
        for (i, x) in a.bytes().enumerate() {
            let substituted = diagonal + usize::from(!x.eq_ignore_ascii_case(&y));
            diagonal = row[i + 1];
            row[i + 1] = substituted.min(row[i] + 1).min(diagonal + 1);
        }
    }
    Some(row[a.len()])
}
