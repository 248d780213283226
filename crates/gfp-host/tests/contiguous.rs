//! What the example `contiguous` says.
//!
//! Seen to fail with: an owner that does not copy; no area at boot; pages that are not movable.
#![cfg(not(loom))]

#[allow(dead_code, reason = "its `main`")]
#[path = "../examples/contiguous.rs"]
mod example;

#[test]
fn an_area_is_lent_and_taken_back_and_no_page_loses_its_content() {
    // P505-P508
    let table = example::report().unwrap();
    print!("{table}");
    let numbers = |begin: &str| -> Vec<usize> {
        let line = table.lines().find_map(|line| line.strip_prefix(begin));
        let words = line.expect("the line is there").split_whitespace();
        words.filter_map(|word| word.parse().ok()).collect()
    };
    assert_eq!(numbers("after boot"), [2048, 0, 0]);
    let full = numbers("the cache takes all");
    // What is left free of it is cached for other orders, or kept back.
    assert!(full[1] > 1500 && full[0] + full[1] == 2048 && full[2] == 0);
    assert_eq!(numbers("the camera takes the area"), [0, 0, 2048]);
    assert_eq!(numbers("and gives it back"), [2048, 0, 0]);
    let last = table.lines().next_back().unwrap();
    let words: Vec<&str> = last.split_whitespace().collect();
    assert_eq!(words[0].parse(), Ok(full[1]), "{last}");
    assert_eq!(words[4], words[6], "{last}");
}
