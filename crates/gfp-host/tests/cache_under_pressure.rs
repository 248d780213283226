//! What the example `cache_under_pressure` says. It starts this very program once more, so there is
//! no test harness.
//!
//! Seen to fail with: no shrinker registered; one that frees nothing; no limit for the plain cache.

#[allow(dead_code, reason = "its `main`")]
#[path = "../examples/cache_under_pressure.rs"]
mod example;

fn main() {
    if cfg!(gfp_tsan) {
        return; // the sanitizer needs more addresses than the plain cache may have
    }
    if std::env::args().any(|argument| argument == example::PLAIN) {
        example::plain().unwrap();
        return;
    }
    let table = example::side_by_side().unwrap();
    print!("{table}");
    let row = |name: &str| -> Vec<&str> {
        let line = table.lines().find_map(|line| line.strip_prefix(name));
        let columns = line.expect("the row is there").split("  ");
        columns.map(str::trim).filter(|c| !c.is_empty()).collect()
    };
    let number = |text: &str| -> u64 { text.parse().unwrap() };
    let answered = row("answered");
    assert!(
        number(answered[0]) < 40_000,
        "without gfp it does not come to the end"
    );
    assert_eq!(answered[1], "40000");
    assert_eq!(row("refused"), ["1", "0"]);
    let given_back = row("values given back");
    assert_eq!(given_back[0], "0");
    // 15,600 values were made at least, and there is room for less than 8,400.
    assert!(number(given_back[1]) > 7_000);
    let end = row("end");
    assert!(end[0].starts_with("died"));
    assert_eq!(end[1], "went on to the end");
}
