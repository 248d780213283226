//! `gfp explain` end to end.

mod support;

use support::run;

#[test]
fn it_prints_and_ends_well() {
    let output = run(&["explain", "GFP_KERNEL|__GFP_NORETRY", "--order", "4"]);
    assert_eq!((output.status, output.stderr.as_str()), (Some(0), ""));
    assert!(output.stdout.contains("level 5"), "{}", output.stdout);
    let json = run(&["explain", "0xcc0", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(value["gfp"], "GFP_KERNEL");
}

#[test]
fn a_mistake_ends_with_125_and_names_the_place() {
    let output = run(&["explain", "GFP_KERNEL|__GFP_NORETY"]);
    assert_eq!((output.status, output.stdout.as_str()), (Some(125), ""));
    assert!(
        output.stderr.contains("did you mean __GFP_NORETRY?"),
        "{}",
        output.stderr
    );
    assert!(
        output.stderr.contains("\n             ^^^^^^^^^^^^\n"),
        "{}",
        output.stderr
    );
    for wrong in [
        &["explain"][..],
        &["explain", "0", "--order", "x"],
        &["explain", "0", "--context", "x"],
    ] {
        assert_eq!(run(wrong).status, Some(125), "{wrong:?}");
    }
}

#[test]
fn odd_expressions_are_no_reason_to_die() {
    for odd in [
        "",
        "(",
        ")",
        "~",
        "|",
        "GFP_KERNEL|",
        "0x",
        "1e9",
        "\u{1f980}",
        "-",
        "~~~~0",
    ] {
        let status = run(&["explain", odd]).status;
        assert!(matches!(status, Some(0 | 125)), "{odd:?}: {status:?}");
    }
}
