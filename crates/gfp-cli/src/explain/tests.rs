use clap::Parser;

use super::*;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    args: ExplainArgs,
}

fn explained(line: &[&str]) -> String {
    let line = Line::try_parse_from([&["explain"], line].concat()).unwrap();
    explain(&line.args).unwrap()
}

fn json(line: &[&str]) -> serde_json::Value {
    serde_json::from_str(&explained(&[line, &["--json"]].concat())).unwrap()
}

/// What a composite's line in the guide says, as keys and values.
type Guide<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)]);

const GUIDE: &[Guide<'_>] = &[
    (
        "G4",
        "GFP_KERNEL",
        &[
            ("may_sleep", "true"),
            ("direct_reclaim", "\"until no progress\""),
            ("wake_background", "true"),
            ("io", "true"),
            ("fs", "true"),
            ("oom_kill", "true"),
        ],
    ),
    (
        "G5",
        "GFP_NOWAIT",
        &[
            ("may_sleep", "false"),
            ("direct_reclaim", "\"none\""),
            ("io", "false"),
            ("fs", "false"),
            ("warn", "false"),
            ("watermark", "\"min\""),
            ("may_fail", "true"),
        ],
    ),
    (
        "G6",
        "GFP_ATOMIC",
        &[
            ("may_sleep", "false"),
            ("watermark", "\"37.5 % of min\""),
            ("wake_background", "true"),
            ("warn", "true"),
        ],
    ),
    (
        "G7",
        "GFP_KERNEL_ACCOUNT",
        &[("accounted", "true"), ("may_sleep", "true")],
    ),
    (
        "G8",
        "GFP_USER",
        &[
            ("mobility", "\"unmovable\""),
            ("zones", r#"["Normal","DMA32","DMA"]"#),
        ],
    ),
    ("G8", "GFP_HIGHUSER", &[("mobility", "\"unmovable\"")]),
    (
        "G8",
        "GFP_HIGHUSER_MOVABLE",
        &[
            ("mobility", "\"movable\""),
            ("zones", r#"["Movable","Normal","DMA32","DMA"]"#),
        ],
    ),
    (
        "G9",
        "GFP_NOIO",
        &[("may_sleep", "true"), ("io", "false"), ("fs", "false")],
    ),
    (
        "G9",
        "GFP_NOFS",
        &[("may_sleep", "true"), ("io", "true"), ("fs", "false")],
    ),
    ("G10", "GFP_KERNEL|GFP_DMA", &[("zones", r#"["DMA"]"#)]),
    (
        "G10",
        "GFP_KERNEL|GFP_DMA32",
        &[("zones", r#"["DMA32","DMA"]"#)],
    ),
    (
        "G11",
        "GFP_KERNEL&~__GFP_RECLAIM",
        &[
            ("level", "1"),
            ("direct_reclaim", "\"none\""),
            ("wake_background", "false"),
        ],
    ),
    (
        "G11",
        "GFP_KERNEL&~__GFP_DIRECT_RECLAIM",
        &[
            ("level", "2"),
            ("direct_reclaim", "\"none\""),
            ("wake_background", "true"),
        ],
    ),
    ("G11", "GFP_ATOMIC", &[("level", "3")]),
    ("G11", "GFP_KERNEL", &[("level", "4"), ("may_fail", "true")]),
    (
        "G11",
        "GFP_KERNEL|__GFP_NORETRY",
        &[
            ("level", "5"),
            ("direct_reclaim", "\"one round\""),
            ("oom_kill", "false"),
        ],
    ),
    (
        "G11",
        "GFP_KERNEL|__GFP_RETRY_MAYFAIL",
        &[
            ("level", "6"),
            ("direct_reclaim", "\"until no progress\""),
            ("oom_kill", "false"),
            ("may_fail", "true"),
        ],
    ),
    (
        "G11",
        "GFP_KERNEL|__GFP_NOFAIL",
        &[
            ("level", "7"),
            ("direct_reclaim", "\"for ever\""),
            ("may_fail", "false"),
        ],
    ),
];

#[test]
fn composites_do_what_the_guide_says() {
    // G4-G11
    for (row, word, keys) in GUIDE {
        let json = json(&[word]);
        for (key, value) in *keys {
            assert_eq!(json[key].to_string(), *value, "{row} {word} {key}");
        }
        assert_eq!(json["wrong"].as_array().unwrap().len(), 0, "{row} {word}");
    }
}

#[test]
fn the_text_of_every_composite() {
    // If a change is meant, put what is printed into composites.txt and read the difference.
    let mut text = String::new();
    for line in [
        &["GFP_KERNEL"][..],
        &["GFP_KERNEL", "--order", "4"],
        &["GFP_KERNEL_ACCOUNT", "--order", "1"],
        &["GFP_NOWAIT"],
        &["GFP_ATOMIC", "--order", "1", "--context", "irq"],
        &["GFP_USER"],
        &["GFP_HIGHUSER"],
        &["GFP_HIGHUSER_MOVABLE", "--order", "2"],
        &["GFP_HIGHUSER_MOVABLE", "--scope", "pin"],
        &["GFP_NOIO", "--order", "3"],
        &["GFP_NOFS"],
        &["GFP_KERNEL|GFP_DMA"],
        &["GFP_KERNEL|GFP_DMA32"],
        &["GFP_TRANSHUGE_LIGHT", "--order", "9"],
        &["GFP_TRANSHUGE", "--order", "9"],
        &["GFP_KERNEL|__GFP_NORETRY", "--order", "4"],
        &["GFP_KERNEL|__GFP_RETRY_MAYFAIL", "--order", "4"],
        &["GFP_KERNEL|__GFP_NOFAIL", "--order", "1"],
        &["GFP_KERNEL", "--scope", "noreclaim"],
        &["GFP_KERNEL", "--context", "softirq"],
        &["GFP_NOWAIT|__GFP_NOFAIL"],
        &["GFP_KERNEL|__GFP_DMA|__GFP_DMA32"],
        &["GFP_KERNEL", "--order", "11"],
    ] {
        text += &format!("$ gfp explain {}\n{}\n", line.join(" "), explained(line));
    }
    if text != include_str!("composites.txt") {
        println!("{text}");
        panic!("the text differs from composites.txt");
    }
}

#[test]
fn the_example_in_the_book_is_what_is_printed() {
    let book = include_str!("../../../../docs/book/src/explain.md");
    let text = explained(&["GFP_KERNEL|__GFP_NORETRY", "--order", "4"]);
    assert!(book.contains(&text), "{text}");
    let line = Line::try_parse_from(["explain", "GFP_KERNEL|__GFP_NORETY"]).unwrap();
    assert!(book.contains(&explain(&line.args).unwrap_err().message));
}

#[test]
fn every_line_names_a_rule() {
    let text = include_str!("composites.txt");
    for line in text.lines().filter(|line| line.starts_with("  ")) {
        let rule = line.rsplit_once(" (").map(|(_, rule)| rule).unwrap();
        assert!(rule.starts_with('P') || rule == "gfp)", "{line}");
        assert!(rule.ends_with(')'), "{line}");
    }
}

#[test]
fn every_known_key_is_there() {
    let json = json(&["GFP_KERNEL", "--scope", "nofs,pin", "--order", "3"]);
    for key in [
        "gfp",
        "order",
        "context",
        "may_sleep",
        "wake_background",
        "direct_reclaim",
        "compaction",
        "oom_kill",
        "may_fail",
        "warn",
        "watermark",
        "reserves",
        "zones",
        "mobility",
        "steps",
    ] {
        assert!(!json[key].is_null(), "{key}");
    }
    assert_eq!(json["gfp"], "GFP_NOFS");
    assert_eq!(json["asked"], "GFP_KERNEL");
    assert_eq!(json["scopes"].to_string(), r#"["nofs","pin"]"#);
}

#[test]
fn wrong_words_are_explained_as_they_would_be_served() {
    // P47, P49, P51
    let zone = json(&["GFP_KERNEL|__GFP_DMA|__GFP_DMA32"]);
    assert_eq!(zone["zones"].to_string(), r#"["Normal","DMA32","DMA"]"#);
    assert_eq!(zone["wrong"][0]["rule"], "P47");
    assert_eq!(zone["asked"], "GFP_KERNEL|GFP_DMA|GFP_DMA32");
    let nofail = json(&["GFP_NOWAIT|__GFP_NOFAIL"]);
    assert_eq!(
        (nofail["may_fail"].as_bool(), &nofail["wrong"][0]["rule"]),
        (Some(true), &"P49".into())
    );
    let both = json(&["GFP_KERNEL|__GFP_NOFAIL|__GFP_NORETRY"]);
    assert_eq!(both["may_fail"], false);
    assert_eq!(both["wrong"][0]["rule"], "P51");
    let irq = json(&["GFP_KERNEL", "--context", "irq"]);
    assert_eq!(irq["wrong"][0]["rule"], "P154");
    assert_eq!(irq["may_sleep"], false);
}

#[test]
fn a_mistake_is_shown_in_place() {
    let line = Line::try_parse_from(["explain", "GFP_KERNEL|__GFP_NORETY"]).unwrap();
    let failure = explain(&line.args).unwrap_err();
    let expected = "at byte 11: unknown flag name, did you mean __GFP_NORETRY?\n  \
                    GFP_KERNEL|__GFP_NORETY\n             ^^^^^^^^^^^^";
    assert_eq!(failure, Failure::own(expected));
}
