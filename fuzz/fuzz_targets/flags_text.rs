//! Text of GFP flags: any text parses or is refused, and what is printed reads back as the same
//! value.

#![no_main]

use gfp::flags::Gfp;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(flags) = text.parse::<Gfp>() {
        let printed = flags.to_string();
        assert_eq!(printed.parse::<Gfp>().ok(), Some(flags), "{printed}");
    }
});
