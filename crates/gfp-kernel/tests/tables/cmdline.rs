//! The words of the command line, and what is said about wrong ones.

use super::tables::cmdline::{Command, Mode};

const CONTROLS: &[&str] = &["ist", "redzone"];

fn refused(line: &str) -> String {
    Command::parse(line, CONTROLS).unwrap_err().to_string()
}

#[test]
fn every_word_is_understood() {
    let command = Command::parse(
        " seed=0x1F\tmode=bench  filter=a=b break=redzone cma=0x10M\n",
        CONTROLS,
    );
    let expected = Command {
        mode: Mode::Bench,
        filter: Some("a=b"),
        broken: Some(1),
        seed: 31,
        cma_bytes: 16 << 20,
    };
    assert_eq!(command, Ok(expected));
    assert_eq!(Command::parse("", CONTROLS), Ok(Command::default()));
    for (word, mode) in [
        ("mode=test", Mode::Test),
        ("mode=bench", Mode::Bench),
        ("mode=shell", Mode::Shell),
        ("mode=idle", Mode::Idle),
    ] {
        assert_eq!(Command::parse(word, CONTROLS).unwrap().mode, mode);
    }
    for (word, bytes) in [
        ("cma=0", 0),
        ("cma=4096", 4096),
        ("cma=8k", 8 << 10),
        ("cma=3G", 3 << 30),
    ] {
        assert_eq!(Command::parse(word, CONTROLS).unwrap().cma_bytes, bytes);
    }
    let seed = Command::parse("seed=18446744073709551615", CONTROLS);
    assert_eq!(seed.unwrap().seed, u64::MAX);
}

#[test]
fn a_wrong_word_says_what_is_right() {
    let keys = "known are KEY=VALUE with mode, filter, break, seed, cma";
    assert_eq!(
        refused("fliter=x"),
        format!("unknown word 'fliter=x': {keys}")
    );
    assert_eq!(refused("quiet"), format!("unknown word 'quiet': {keys}"));
    assert_eq!(refused("=x"), format!("unknown word '=x': {keys}"));
    assert_eq!(
        refused("mode=tset"),
        "mode=tset: mode is one of test, bench, shell, idle"
    );
    assert_eq!(refused("break=x"), "break=x: break is one of ist, redzone");
    assert_eq!(refused("seed=1 mode=idle seed=2"), "seed= is given twice");
    assert_eq!(refused("filter="), "filter= needs a value");
    for size in ["x", "M", "1MB", "-1M", "17179869184G"] {
        let says = format!("cma={size}: cma is a size, such as 64M or 1G");
        assert_eq!(refused(&format!("cma={size}")), says);
    }
    for number in ["x", "-1", "+1", "0x", "0x+1", "1f", "18446744073709551616"] {
        let says = format!("seed={number}: seed is a number of 64 bits, such as 7 or 0x1f");
        assert_eq!(refused(&format!("seed={number}")), says);
    }
}
