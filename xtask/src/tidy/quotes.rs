//! A file that a page shows whole is the file: a block opened with "```rs file=PATH" (PATH from the
//! root) holds its text.

use super::{Finding, Source};

const FENCE: &str = "```";

/// Every block that is not what the file holds.
pub(super) fn check(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for page in sources.iter().filter(|source| source.path.ends_with(".md")) {
        for (line, path, quoted) in quotes(&page.text) {
            let file = sources.iter().find(|source| source.path == path);
            let what = match file {
                None => format!("shows `{path}`, which is not there"),
                Some(file) if file.text.trim_end() != quoted.trim_end() => {
                    format!("does not show what `{path}` holds now: copy it here")
                }
                Some(_) => continue,
            };
            findings.push(Finding::new(page, line, what));
        }
    }
    findings
}

/// Blocks with a `file=`: line, path, text.
fn quotes(text: &str) -> Vec<(usize, &str, String)> {
    let mut found = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let Some(info) = line.strip_prefix(FENCE) else {
            continue;
        };
        let block: Vec<&str> = lines
            .by_ref()
            .map(|(_, line)| line)
            .take_while(|line| !line.starts_with(FENCE))
            .collect();
        if let Some(path) = info.split(' ').find_map(|word| word.strip_prefix("file=")) {
            found.push((number + 1, path, block.join("\n")));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_shown_is_the_file() {
        let file = Source::new("a/b.rs", "fn a() {}\n\nfn b() {}\n");
        let page = |text: &str| Source::new("README.md", text);
        let same = page("x\n```rs file=a/b.rs\nfn a() {}\n\nfn b() {}\n```\ny\n");
        let other = page("```sh\nls\n```\n```rs file=a/b.rs\nfn a() {}\n```\n");
        let missing = page("```rs file=a/c.rs\n```\n");
        let of = |page: Source| check(&[file_again(&file), page]);
        assert!(of(same).is_empty());
        assert!(
            of(other)[0]
                .to_string()
                .starts_with("README.md:4: does not show")
        );
        assert!(of(missing)[0].to_string().contains("is not there"));
    }

    fn file_again(file: &Source) -> Source {
        Source::new(&file.path, &file.text)
    }
}
