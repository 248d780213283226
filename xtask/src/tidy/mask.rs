//! Rust text with comments, strings and characters blanked out, and its test modules too where
//! asked.

/// Replaces comments and the inside of literals by spaces; newlines stay, so line numbers hold.
pub(crate) fn mask(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out: Vec<char> = Vec::with_capacity(chars.len());
    let mut at = 0;
    while at < chars.len() {
        let end = match skipped_end(&chars, at) {
            Some(end) => end,
            None => {
                out.push(chars[at]);
                at += 1;
                continue;
            }
        };
        debug_assert!(end > at, "a skipped part is never empty");
        out.extend(
            chars[at..end]
                .iter()
                .map(|&c| if c == '\n' { '\n' } else { ' ' }),
        );
        at = end;
    }
    out.into_iter().collect()
}

/// If a comment or literal starts at `at`: where it ends.
fn skipped_end(chars: &[char], at: usize) -> Option<usize> {
    let here = chars[at];
    let next = chars.get(at + 1).copied();
    match (here, next) {
        ('/', Some('/')) => Some(find(chars, at, |c| c == '\n').unwrap_or(chars.len())),
        ('/', Some('*')) => Some(block_comment_end(chars, at)),
        ('"', _) => Some(string_end(chars, at + 1)),
        ('r', Some('"' | '#')) if !in_word(chars, at) => raw_string_end(chars, at + 1),
        ('b' | 'c', Some('r')) if !in_word(chars, at) => raw_string_end(chars, at + 2),
        ('\'', Some('\\')) => find(chars, at + 3, |c| c == '\'').map(|end| end + 1),
        // 'x' is a character, 'x without a second quote a lifetime.
        ('\'', Some(_)) if chars.get(at + 2) == Some(&'\'') => Some(at + 3),
        _ => None,
    }
}

fn find(chars: &[char], from: usize, wanted: impl Fn(char) -> bool) -> Option<usize> {
    (from..chars.len()).find(|&i| wanted(chars[i]))
}

fn in_word(chars: &[char], at: usize) -> bool {
    let word_before = |i: usize| chars[i].is_alphanumeric() || chars[i] == '_';
    // `br"` has its r masked by the arm for b; an r after any other letter is an identifier.
    at > 0 && word_before(at - 1)
}

fn block_comment_end(chars: &[char], start: usize) -> usize {
    let mut depth = 0usize;
    let mut at = start;
    while at + 1 < chars.len() {
        match (chars[at], chars[at + 1]) {
            ('/', '*') => depth += 1,
            ('*', '/') => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    chars.len()
}

fn string_end(chars: &[char], inside: usize) -> usize {
    let mut at = inside;
    while at < chars.len() {
        match chars[at] {
            '\\' => at += 2,
            '"' => return at + 1,
            _ => at += 1,
        }
    }
    chars.len()
}

/// `at` is just behind the `r`; `None` if no raw string starts here (a raw identifier `r#fn`).
fn raw_string_end(chars: &[char], at: usize) -> Option<usize> {
    let hashes = chars[at..].iter().take_while(|&&c| c == '#').count();
    if chars.get(at + hashes) != Some(&'"') {
        return None;
    }
    let mut end = at + hashes + 1;
    while end < chars.len() {
        let closes = chars[end] == '"'
            && chars[end + 1..]
                .iter()
                .take(hashes)
                .filter(|&&c| c == '#')
                .count()
                == hashes;
        end += 1;
        if closes {
            return Some(end + hashes);
        }
    }
    Some(chars.len())
}

/// Blanks the modules under `#[cfg(test)]` out of masked text.
pub(crate) fn without_test_modules(code: &str) -> String {
    let mut out = code.to_owned();
    let mut from = 0;
    while let Some(found) = out[from..].find("#[cfg(test)]") {
        let start = from + found;
        let rest = &out[start..];
        from = start + 1;
        let (Some(open), stop) = (rest.find('{'), rest.find(';').unwrap_or(usize::MAX)) else {
            break;
        };
        if open > stop || !rest[..open].contains("mod ") {
            continue;
        }
        let mut depth = 0usize;
        let mut end = rest.len();
        for (i, c) in rest.char_indices().skip_while(|&(i, _)| i < open) {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                end = i + 1;
                break;
            }
        }
        let blank: String = rest[..end]
            .chars()
            .map(|c| if c == '\n' { '\n' } else { ' ' })
            .collect();
        out = format!("{}{}{}", &out[..start], blank, &out[start + end..]);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_go_and_lines_stay() {
        let text =
            "a // unsafe {\nb /* x /* y */ static */ c\n\"todo!(\\\" z\" d 'q' '\\'' &'static e";
        let masked = mask(text);
        assert_eq!(masked.lines().count(), 3);
        for gone in ["unsafe", "static */", "todo", "x", "y", "z", "q"] {
            assert!(!masked.contains(gone), "{gone} in {masked}");
        }
        for kept in ["a", "b", "c", "d", "&'static", "e"] {
            assert!(masked.contains(kept), "{kept} not in {masked}");
        }
    }

    #[test]
    fn raw_strings_end_at_their_own_hashes() {
        let masked = mask("r#\"in \" side\"# out br\"in\" out2 r#fn var\"in\"");
        assert!(
            !masked.contains("in") && !masked.contains("side"),
            "{masked}"
        );
        assert!(masked.contains("out") && masked.contains("out2") && masked.contains("r#fn"));
    }

    #[test]
    fn test_modules_go_and_code_after_them_stays() {
        let code = "fn a() {}\n#[cfg(test)]\nmod tests {\n fn b() { {} }\n}\nfn c() {}\n\
                    #[cfg(test)]\nmod t;\nfn d() {}";
        let left = without_test_modules(code);
        assert!(!left.contains("fn b"), "{left}");
        assert!(
            left.contains("fn a") && left.contains("fn c") && left.contains("fn d"),
            "{left}"
        );
        assert_eq!(left.lines().count(), code.lines().count());
    }
}
