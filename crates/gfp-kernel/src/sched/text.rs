//! A text of bounded length: who dies must not need memory to say why.

use core::fmt;

const MAX_BYTES: usize = 240;

/// A text; what does not fit is cut off.
#[derive(Copy, Clone)]
pub(super) struct Text {
    bytes: [u8; MAX_BYTES],
    len: usize,
}

impl Text {
    pub(super) fn new(args: fmt::Arguments<'_>) -> Text {
        let mut text = Text {
            bytes: [0; MAX_BYTES],
            len: 0,
        };
        let _ = fmt::write(&mut text, args); // an error says that it was cut off
        text
    }

    pub(super) fn as_str(&self) -> &str {
        core::str::from_utf8(&self.bytes[..self.len]).unwrap_or("?")
    }
}

impl fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            let room = &mut self.bytes[self.len..];
            if room.len() < c.len_utf8() {
                return Err(fmt::Error);
            }
            self.len += c.encode_utf8(room).len();
        }
        Ok(())
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
