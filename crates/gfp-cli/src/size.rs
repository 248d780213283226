//! Sizes as text: `256M` in, `256.0 MiB` out.

/// Smallest budget that a program can start with: the frame table, the zones' reserves and the
/// first blocks of the page and slab layers, with room for the C library's own start.
pub(crate) const MIN_BYTES: u64 = 4 << 20;

/// Largest budget: an eighth of the 128 TiB of addresses that a process has, so that the direct map
/// and the vmalloc space both fit beside the program.
pub(crate) const MAX_BYTES: u64 = 16 << 40;

const HELP: &str = "write bytes, or a number with K, M, G or T: 256M, 1.5G";

/// Parses a `SIZE` within [`MIN_BYTES`] and [`MAX_BYTES`]; the result is a multiple of the page
/// size.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let bytes = parse_bytes(text)?;
    if bytes < u128::from(MIN_BYTES) {
        return Err("too small: a program needs at least 4M".into());
    }
    if bytes > u128::from(MAX_BYTES) {
        return Err("too large: at most 16T".into());
    }
    let bytes = bytes as u64;
    debug_assert!((MIN_BYTES..=MAX_BYTES).contains(&bytes));
    Ok(bytes & !4095)
}

fn parse_bytes(text: &str) -> Result<u128, String> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit: u128 = match unit.to_ascii_lowercase().as_str() {
        "" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" | "mb" | "gb" | "tb" => {
            let letter = unit[..1].to_ascii_uppercase();
            return Err(format!(
                "'{unit}' is ambiguous: write {number}{letter} (powers of 1024)"
            ));
        }
        _ if number.is_empty() => return Err(format!("not a size: {HELP}")),
        _ => return Err(format!("unknown unit '{unit}': {HELP}")),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.contains('.') {
        return Err(format!("not a size: {HELP}"));
    }
    if unit == 1 && number.contains('.') {
        return Err(format!("a fraction of a byte: {HELP}"));
    }
    if whole.len() > 20 || fraction.len() > 12 {
        return Err(format!("too many digits: {HELP}"));
    }
    // At most 20 and 12 decimal digits times 2^40: below 2^107, no overflow.
    let parse = |digits: &str| digits.parse::<u128>().map_err(|error| error.to_string());
    let scale = 10_u128.pow(fraction.len() as u32);
    Ok(parse(whole)? * unit + parse(fraction)? * unit / scale)
}

/// `bytes` for people: three digits or so, and a unit.
pub(crate) fn show(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    // 1023.95 would be printed as 1024.0.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [
            ("4194304", 4 << 20),
            ("4M", 4 << 20),
            ("4m", 4 << 20),
            ("4096K", 4 << 20),
            ("256MiB", 256 << 20),
            ("2G", 2 << 30),
            ("1.5G", 3 << 29),
            ("0.5T", 1 << 39),
            ("16T", 16 << 40),
            ("4194305", 4 << 20),
            ("4.0001M", 4 << 20),
        ] {
            assert_eq!(parse(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn wrong_sizes_name_the_fix() {
        for (text, part) in [
            ("", "256M"),
            ("abc", "256M"),
            ("M", "256M"),
            ("-1M", "256M"),
            ("1..5G", "256M"),
            (".5G", "256M"),
            ("1.G", "256M"),
            ("1.5", "fraction"),
            ("10X", "unknown unit 'X'"),
            ("10 M", "unknown unit ' M'"),
            ("10é", "unknown unit"),
            ("256MB", "write 256M"),
            ("4095K", "at least 4M"),
            ("0", "at least 4M"),
            ("17T", "at most 16T"),
            ("99999999999999999999T", "at most 16T"),
            ("999999999999999999999", "too many digits"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn sizes_are_shown_with_one_digit_after_the_point() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (256 << 20, "256.0 MiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(show(bytes), text);
        }
    }
}
