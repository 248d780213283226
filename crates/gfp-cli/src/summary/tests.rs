//! Tests of the summary: what is said, and what is kept short.

use super::*;
use crate::records::tests::record;
use crate::records::{Images, TempDir};
use gfp_malloc_core::record::{CacheRecord, CacheTable, Text, VmallocRecord, ZoneRecord};
use std::time::Duration;

fn outcome(images: Images) -> Outcome {
    Outcome {
        command: vec!["prog".into()],
        main_pid: 5,
        end: End::Status(0),
        elapsed: Duration::from_millis(1234),
        memory_bytes: 64 << 20,
        images,
    }
}

fn read(dir: &TempDir) -> Images {
    Images::read(dir.path(), |_| false).unwrap()
}

#[test]
fn the_program_is_shown_in_full() {
    let dir = TempDir::new("summary").unwrap();
    let main = record(&dir, 5, 100, "prog");
    main.set_managed_bytes(64 << 20);
    main.set_in_use_bytes(16 << 20);
    main.set_in_use_bytes(1 << 20);
    main.set_vmalloc(VmallocRecord {
        areas: 2,
        bytes: 8192,
        peak_bytes: 1 << 20,
    });
    main.count_failure(1 << 30);
    main.count_failure((1 << 30) - 5);
    main.count_failure(u64::MAX);
    main.report_misuse(b"double free\n of 0x10");
    main.set_calls(10, 9);
    main.set_zones(&[ZoneRecord {
        name: Text::new(b"DMA32"),
        node: 0,
        managed_pages: 16384,
        free_pages: 256,
        min_pages: 1,
        low_pages: 2,
        high_pages: 3,
    }]);
    let mut caches = CacheTable::EMPTY;
    let name = Text::new(b"kmalloc-64");
    caches.offer(CacheRecord {
        name,
        objects: 70,
        slabs: 2,
        bytes: 8192,
    });
    main.set_caches(&caches);
    let expected = "\
gfp: prog (pid 5): exit status 0, 1.23 s
  memory     managed 64.0 MiB, peak 16.0 MiB (25.0 %), at the end 1.0 MiB (1.6 %)
  zones                      managed        free         min         low        high
    node 0 DMA32            64.0 MiB     1.0 MiB     4.0 KiB     8.0 KiB    12.0 KiB
  caches     1, 8.0 KiB in slabs
    largest                              objects       slabs       bytes
    kmalloc-64                                70           2     8.0 KiB
  vmalloc    2 areas, 8.0 KiB used, peak 1.0 MiB
  failed     3 allocations, largest 16.0 EiB
    up to 1.0 GiB                  2
    larger                         1
  MISUSE     1 report, last: double free\\n of 0x10
  calls      malloc 10, free 9
";
    assert_eq!(render(&outcome(read(&dir))), expected);
}

#[test]
fn a_run_without_records_says_so() {
    let mut without = outcome(Images::default());
    without.end = End::Signal(libc::SIGKILL);
    let text = render(&without);
    assert!(
        text.starts_with("gfp: prog (pid 5): killed by signal 9 (SIGKILL), "),
        "{text}"
    );
    assert!(text.contains("no process left a record"), "{text}");
    let dir = TempDir::new("summary").unwrap();
    record(&dir, 6, 100, "child");
    let text = render(&outcome(read(&dir)));
    assert!(text.contains("the program itself left NO record"), "{text}");
    assert!(text.contains("1 further process,"), "{text}");
}

#[test]
fn further_processes_are_listed_by_peak_up_to_a_limit() {
    let dir = TempDir::new("summary").unwrap();
    record(&dir, 5, 1, "prog");
    for pid in 100..130 {
        record(&dir, pid, u64::from(pid), "child").set_in_use_bytes(u64::from(pid) * 4096);
    }
    let failing = record(&dir, 200, 200, "failing");
    failing.set_in_use_bytes(1 << 30);
    failing.count_failure(100);
    failing.report_misuse(b"x");
    let text = render(&outcome(read(&dir)));
    let lines: Vec<&str> = text.lines().collect();
    let title = lines
        .iter()
        .position(|line| line.contains("31 further processes"))
        .unwrap();
    assert_eq!(
        lines[title + 2],
        "         200 failing                  1.0 GiB           1  MISUSE: 1 report"
    );
    assert!(lines[title + 3].contains("129 child"), "{text}");
    assert!(lines.last().unwrap().contains("and 11 more"), "{text}");
    assert_eq!(lines.len(), title + 2 + FURTHER_MAX + 1);
}

#[test]
fn images_that_were_replaced_are_counted_or_listed_if_they_have_something_to_tell() {
    let dir = TempDir::new("summary").unwrap();
    record(&dir, 5, 1, "sh");
    record(&dir, 5, 2, "failing").count_failure(1);
    record(&dir, 5, 3, "prog");
    record(&dir, 6, 4, "daemon");
    let images = Images::read(dir.path(), |pid| pid == 6).unwrap();
    let text = render(&outcome(images));
    assert!(
        text.contains("gfp: 1 process image replaced by exec\n"),
        "{text}"
    );
    assert!(text.contains("gfp: 2 further processes"), "{text}");
    let ends = |name: &str| {
        text.lines()
            .find(|line| line.contains(name))
            .unwrap()
            .to_string()
    };
    assert!(ends(" 5 failing ").ends_with("replaced by exec"), "{text}");
    assert!(ends(" 6 daemon ").ends_with("still running"), "{text}");
    assert!(!text.contains(" 5 sh "), "{text}");
}

#[test]
fn unreadable_records_are_named_but_few() {
    let images = Images {
        unreadable: (0..5).map(|n| format!("r{n}")).collect(),
        ..Images::default()
    };
    let text = render(&outcome(images));
    assert!(text.contains("unreadable record r2\n"), "{text}");
    assert!(text.contains("and 2 more"), "{text}");
    assert!(!text.contains("r3"), "{text}");
}

#[test]
fn a_machine_smaller_than_asked_for_is_told() {
    for (managed, asked, short) in [
        (362, 12_000, true),
        (60, 64, false),
        (1, 4, false),
        (11_900, 12_000, false),
        (100, 120, true),
    ] {
        assert_eq!(
            is_short(managed << 20, asked << 20),
            short,
            "{managed} of {asked}"
        );
    }
}
