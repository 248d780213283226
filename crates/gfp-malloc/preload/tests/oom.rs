//! `GFP_OOM=kill`: a process that has used its memory up ends, with a line that says why.

mod common;

use common::{cc, preloaded, scratch, text};
use malloc::record::{Snapshot, State};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output};

const KILLED: i32 = 9;
/// More blocks than there is memory for.
const ALL: usize = 2_000_000;

/// Takes at most `count` blocks of `size` bytes.
fn program(dir: &Path, size: &str, count: usize) -> Command {
    let mut command = preloaded(&cc(dir, "oom_kill.c", "program", &[]));
    command.env("GFP_MEMORY", "67108864").arg(size);
    command.arg(count.to_string());
    command
}

fn killed(out: &Output, size: &str) {
    let (stdout, stderr) = (text(&out.stdout), text(&out.stderr));
    assert_eq!(out.status.signal(), Some(KILLED), "{stdout}{stderr}");
    assert_eq!(stdout, "begun\n");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    let asked = format!(" asked for {size} bytes");
    for part in [
        "gfp: out of memory: process ",
        &asked,
        " KiB are in use",
        "; killed",
    ] {
        assert!(stderr.contains(part), "{part}: {stderr}");
    }
}

/// Seen failing: without the kill.
#[test]
fn small_and_large_requests_end_the_process_and_say_what_was_used() {
    let dir = scratch();
    for size in ["64", "4096", "100000", "3000000"] {
        let out = program(&dir, size, ALL)
            .env("GFP_OOM", "kill")
            .output()
            .unwrap();
        killed(&out, size);
    }
    let out = program(&dir, "4096", ALL)
        .env("GFP_OOM", "kill")
        .output()
        .unwrap();
    let stderr = text(&out.stderr);
    assert!(stderr.contains("biggest caches: kmalloc-4k "), "{stderr}");
}

/// Blocks of 4 KiB that a program gets.
fn fits(dir: &Path, oom: Option<&str>) -> usize {
    let mut command = program(dir, "4096", ALL);
    oom.map(|oom| command.env("GFP_OOM", oom));
    let out = command.output().unwrap();
    assert!(out.status.success() && out.stderr.is_empty());
    let stdout = text(&out.stdout);
    stdout
        .strip_prefix("begun\n")
        .unwrap()
        .trim()
        .parse()
        .unwrap()
}

#[test]
fn without_it_the_program_sees_null() {
    let dir = scratch();
    let blocks = fits(&dir, None);
    assert!((10_000..16_384).contains(&blocks), "{blocks}");
    assert!(fits(&dir, Some("fail")).abs_diff(blocks) < 50);
}

/// Seen failing: without the look at what is free in `resize`.
#[test]
fn a_block_that_shrinks_is_no_reason_to_die() {
    let dir = scratch();
    for left in [50, 100, 500] {
        let count = fits(&dir, None) - left;
        let out = program(&dir, "4096", count)
            .env("GFP_OOM", "kill")
            .output()
            .unwrap();
        assert_eq!(text(&out.stdout), format!("begun\n{count}\n"));
        assert!(out.status.success() && out.stderr.is_empty());
    }
}

#[test]
fn the_record_says_what_ended_the_process() {
    let dir = scratch();
    let mut command = program(&dir, "4096", ALL);
    command.env("GFP_OOM", "kill").env("GFP_RECORD_DIR", &dir);
    killed(&command.output().unwrap(), "4096");
    let files = std::fs::read_dir(&dir)
        .unwrap()
        .map(|file| file.unwrap().path());
    let records: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|end| end == "gfp"))
        .map(|path| Snapshot::parse(&std::fs::read(path).unwrap()).unwrap())
        .collect();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].state, State::OutOfMemory);
    assert_eq!(records[0].failed.by_size[12], 1);
    assert!(records[0].in_use_bytes > records[0].managed_bytes * 9 / 10);
}
