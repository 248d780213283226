//! A file that a page shows whole is the file: a block after the line `<!-- file: PATH -->` (PATH
//! from the root) holds its text.

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

/// Blocks that are files: line, path, text.
fn quotes(text: &str) -> Vec<(usize, &str, String)> {
    let mut found = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let path = line.strip_prefix("<!-- file: ");
        let Some(path) = path.and_then(|rest| rest.strip_suffix(" -->")) else {
            continue;
        };
        let block: Vec<&str> = lines
            .by_ref()
            .map(|(_, line)| line)
            .skip_while(|line| !line.starts_with(FENCE))
            .skip(1)
            .take_while(|line| !line.starts_with(FENCE))
            .collect();
        found.push((number + 1, path, block.join("\n")));
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
        let same = page("x\n<!-- file: a/b.rs -->\n```rs\nfn a() {}\n\nfn b() {}\n```\ny\n");
        let other = page("```sh\nls\n```\n<!-- file: a/b.rs -->\n```rs\nfn a() {}\n```\n");
        let missing = page("<!-- file: a/c.rs -->\n```rs\n```\n");
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
