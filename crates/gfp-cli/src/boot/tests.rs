//! The options of `gfp boot`, as machine, command line and limit.

use super::*;
use clap::Parser;

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    args: BootArgs,
}

fn parse(line: &str) -> Result<BootArgs, String> {
    let words = ["boot"].into_iter().chain(line.split_whitespace());
    Line::try_parse_from(words)
        .map(|line| line.args)
        .map_err(|error| error.to_string())
}

#[test]
fn the_modes_are_words_for_the_kernel() {
    for (line, words) in [
        ("", "mode=idle"),
        ("--test", "mode=test"),
        (
            "--test --filter a::b --break nested --seed 7",
            "mode=test filter=a::b break=nested seed=7",
        ),
        ("--bench --filter pair", "mode=bench filter=pair"),
        ("--shell", "mode=shell"),
        ("--cma 64M", "mode=idle cma=67108864"),
        ("--example smallest", ""),
    ] {
        assert_eq!(parse(line).unwrap().words(), words, "{line}");
    }
}

#[test]
fn options_that_do_not_fit_are_refused() {
    for line in [
        "--test --bench",
        "--shell --example smallest",
        "--json",
        "--test --json",
        "--shell --filter x",
        "--break nested",
        "--bench --break nested",
        "--bench --kvm",
        "--cpus 0",
        "--numa 9",
        "--memory 33M",
        "--cma 3M",
        "--cma 64M --example smallest",
        "--memory 1GB",
        "--test --filter=",
    ] {
        assert!(parse(line).is_err(), "{line}");
    }
    assert!(
        parse("--memory 5M")
            .unwrap_err()
            .contains("multiples of 2M")
    );
}

#[test]
fn the_engine_is_chosen_by_the_host() {
    let engine = |line: &str, cores| parse(line).unwrap().machine(cores).unwrap().engine;
    assert_eq!(engine("--cpus 4", 4), Engine::Threads);
    assert_eq!(engine("--cpus 4", 2), Engine::OneThread);
    assert_eq!(engine("--cpus 1", 1), Engine::Threads);
    assert_eq!(engine("--kvm", 8), Engine::Kvm);
    let counting = parse("--bench --cpus 4").unwrap().machine(8).unwrap();
    assert_eq!((counting.engine, counting.cpus), (Engine::Counting, 1));
}

#[test]
fn every_machine_but_a_shell_has_an_end() {
    let seconds = |line: &str| parse(line).unwrap().limit().map(|limit| limit.as_secs());
    assert_eq!(seconds("--test"), Some(LONG_SECONDS));
    assert_eq!(seconds("--bench"), Some(LONG_SECONDS));
    assert_eq!(seconds(""), Some(SHORT_SECONDS));
    assert_eq!(seconds("--shell"), None);
    assert_eq!(seconds("--shell --timeout 5"), Some(5));
}

#[test]
fn kvm_needs_a_module_of_the_host() {
    let dir = crate::records::TempDir::new("kvm").unwrap();
    let missing = check_kvm(dir.path()).unwrap_err();
    assert!(missing.message.contains("leave --kvm out"), "{missing:?}");
    std::fs::create_dir(dir.path().join("kvm_amd")).unwrap();
    assert_eq!(check_kvm(dir.path()), Ok(()));
}
