//! Tests of the report: the keys, and the file.

use super::*;
use crate::records::tests::record;
use crate::records::{Images, TempDir};
use gfp_malloc_core::record::{CacheRecord, CacheTable, State, Text, VmallocRecord, ZoneRecord};
use serde_json::{Value, json};
use std::time::Duration;

fn outcome(dir: &TempDir) -> Outcome {
    let main = record(dir, 5, 100, "prog");
    main.set_managed_bytes(64 << 20);
    main.set_in_use_bytes(8192);
    main.set_vmalloc(VmallocRecord {
        areas: 1,
        bytes: 4096,
        peak_bytes: 8192,
    });
    main.count_failure(1 << 30);
    main.count_failure(u64::MAX);
    main.report_misuse(b"double free \xff");
    main.set_state(State::Exited);
    main.set_zones(&[ZoneRecord {
        name: Text::new(b"DMA32"),
        managed_pages: 16384,
        free_pages: 16000,
        min_pages: 1,
        low_pages: 2,
        high_pages: 3,
        node: 0,
    }]);
    let mut caches = CacheTable::EMPTY;
    let name = Text::new(b"kmalloc-64");
    caches.offer(CacheRecord {
        name,
        objects: 3,
        slabs: 1,
        bytes: 4096,
    });
    main.set_caches(&caches);
    record(dir, 6, 200, "child");
    Outcome {
        command: vec!["prog".into(), "a b".into()],
        main_pid: 5,
        end: End::Status(3),
        elapsed: Duration::from_millis(1500),
        memory_bytes: 64 << 20,
        images: Images::read(dir.path(), |_| false).unwrap(),
    }
}

#[test]
fn the_keys_are_as_documented() {
    let dir = TempDir::new("report").unwrap();
    let report: Value = serde_json::from_str(&render(&outcome(&dir))).unwrap();
    let main = json!({
        "pid": 5, "ppid": 1, "name": "prog", "cmdline": "some command line", "exe": "/bin/some",
        "started_ns": 100, "main": true, "state": "exited",
        "managed_bytes": 64 << 20, "in_use_bytes": 8192, "peak_bytes": 8192,
        "zones": [{"name": "DMA32", "node": 0, "managed_pages": 16384, "free_pages": 16000,
                   "min_pages": 1, "low_pages": 2, "high_pages": 3}],
        "caches": {"total": 1, "total_bytes": 4096, "largest":
                   [{"name": "kmalloc-64", "objects": 3, "slabs": 1, "bytes": 4096}]},
        "vmalloc": {"areas": 1, "bytes": 4096, "peak_bytes": 8192},
        "failed": {"total": 2, "largest_bytes": u64::MAX, "by_size":
                   [{"up_to_bytes": 1 << 30, "count": 1}, {"up_to_bytes": null, "count": 1}]},
        "misuse": {"total": 1, "last": "double free \u{fffd}"},
        "calls": {"malloc": 0, "free": 0},
    });
    assert_eq!(report["processes"][0], main);
    assert_eq!(report["processes"][1]["main"], false);
    assert_eq!(report["processes"][1]["state"], "ended");
    assert_eq!(
        report["processes"][1]["misuse"],
        json!({"total": 0, "last": null})
    );
    let mut head = report.clone();
    head["processes"] = json!([]);
    let expected = json!({
        "schema": "gfp-run/1", "gfp_version": env!("CARGO_PKG_VERSION"),
        "command": ["prog", "a b"], "main_pid": 5, "exit": {"code": 3, "signal": null},
        "elapsed_ms": 1500, "memory_bytes": 64 << 20, "page_bytes": 4096,
        "library_loaded": true, "processes": [], "unreadable_records": [],
    });
    assert_eq!(head, expected);
}

#[test]
fn death_by_signal_and_a_missing_library_are_told() {
    let outcome = Outcome {
        end: End::Signal(9),
        images: Images::default(),
        ..Outcome::default()
    };
    let report: Value = serde_json::from_str(&render(&outcome)).unwrap();
    assert_eq!(report["exit"], json!({"code": null, "signal": 9}));
    assert_eq!(report["library_loaded"], false);
}

#[test]
fn a_report_replaces_the_whole_file() {
    let dir = TempDir::new("report").unwrap();
    let path = dir.path().join("r.json");
    std::fs::write(&path, "x".repeat(100_000)).unwrap();
    let target = Target::open(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().len(), 100_000);
    target.write(&outcome(&dir)).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.ends_with("}\n"));
    serde_json::from_str::<Value>(&text).unwrap();
}

#[test]
fn an_abandoned_report_leaves_things_as_they_were() {
    let dir = TempDir::new("report").unwrap();
    let (old, new) = (dir.path().join("old"), dir.path().join("new"));
    std::fs::write(&old, "text").unwrap();
    Target::open(&old).unwrap().abandon();
    Target::open(&new).unwrap().abandon();
    assert_eq!(std::fs::read_to_string(&old).unwrap(), "text");
    assert!(!new.exists());
    let refused = Target::open(&dir.path().join("none/r.json")).err().unwrap();
    assert!(
        refused.message.contains("cannot write the report"),
        "{refused:?}"
    );
}
