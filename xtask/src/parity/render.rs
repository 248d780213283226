//! The table in the book.

use std::fmt::Write;

use super::{Entry, Parity, Status};

const HEAD: &str = "# Parity with Linux\n\n\
<!-- Generated from docs/parity.toml by `cargo xtask parity --bless`; do not edit. -->\n\n\
Every GFP bit, mask, function, file and tunable of the specification, and\n\
where gfp stands with it.\n\n\
* **supported**: the same meaning as in Linux, shown by the test named.\n\
* **differs**: there, with the difference stated and tested.\n\
* **refused**: turned down with an error, for the reason stated, and tested.\n\
* **planned**: not there yet; the issue named has it.\n\n";

/// The whole page.
pub(super) fn table(parity: &Parity) -> String {
    let mut page = format!("{HEAD}At present: {}.\n", counts(parity));
    for (_, title, entries) in parity.sections() {
        page.push_str(&format!(
            "\n## {title}\n\n| name | rule | status | why, and which test shows it |\n"
        ));
        page.push_str("|---|---|---|---|\n");
        for entry in entries {
            page.push_str(&row(entry));
        }
    }
    page
}

fn row(entry: &Entry) -> String {
    let mut last = Vec::new();
    if let Some(issue) = entry.issue {
        last.push(format!("issue {issue}"));
    }
    if let Some(why) = &entry.why {
        last.push(why.trim().replace('|', "\\|"));
    }
    let mut last = last.join(": ");
    if let Some(test) = &entry.test {
        let space = if last.is_empty() { "" } else { " " };
        let _ = write!(last, "{space}(`{test}`)");
    }
    let status = word(entry.status);
    format!(
        "| `{}` | {} | {status} | {last} |\n",
        entry.name.replace('|', "\\|"),
        entry.rule
    )
}

fn word(status: Status) -> &'static str {
    match status {
        Status::Supported => "supported",
        Status::Differs => "differs",
        Status::Refused => "refused",
        Status::Planned => "planned",
    }
}

/// How many entries have which status.
pub(super) fn counts(parity: &Parity) -> String {
    let of = |status: Status| {
        let all = parity.sections();
        all.iter()
            .flat_map(|(.., entries)| entries.iter())
            .filter(|e| e.status == status)
            .count()
    };
    format!(
        "{} supported, {} differ, {} refused, {} planned",
        of(Status::Supported),
        of(Status::Differs),
        of(Status::Refused),
        of(Status::Planned)
    )
}
