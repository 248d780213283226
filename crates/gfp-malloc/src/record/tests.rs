//! Tests of the record: what a reader sees, in every order of events that a crash can leave.

use super::snapshot::read_zones;
use super::*;
use core::ptr::{self, NonNull};
use core::sync::atomic::Ordering;
use std::boxed::Box;
use std::string::String;
use std::sync::Mutex;
use std::vec::Vec;

fn identity() -> Identity {
    Identity {
        pid: 42,
        ppid: 7,
        started_ns: 1_000_000_007,
        comm: Text::new(b"python3"),
        cmdline: Text::new(b"python3 -c pass"),
        exe: Text::new(b"/usr/bin/python3"),
    }
}

/// A record in heap memory; leaked, as the real one is.
fn record() -> &'static Record {
    let page: &'static mut [u64; 512] = Box::leak(Box::new([u64::MAX; 512]));
    // SAFETY: a leaked page of our own, aligned to 8, larger than a Record.
    let record = unsafe { Record::init_in(NonNull::from(page).cast(), &identity()) };
    // What is leaked on purpose stays within reach of a leak checker.
    static LEAKED: Mutex<Vec<&'static Record>> = Mutex::new(Vec::new());
    LEAKED.lock().unwrap().push(record);
    record
}

fn bytes_of(record: &Record) -> Vec<u8> {
    // SAFETY: a Record is size_of::<Record>() bytes of atomics, no padding is read by the parser's
    // fields.
    let bytes = unsafe {
        core::slice::from_raw_parts(ptr::from_ref(record).cast::<u8>(), size_of::<Record>())
    };
    bytes.to_vec()
}

#[test]
fn a_fresh_record_names_its_owner_and_nothing_else() {
    let snapshot = Snapshot::read(record()).unwrap();
    assert_eq!(snapshot.identity, identity());
    assert_eq!(snapshot.state, State::Running);
    assert_eq!((snapshot.peak_bytes, snapshot.failed.total), (0, 0));
    assert!(snapshot.zones().is_empty());
    assert!(snapshot.caches.rows().is_empty());
}

#[test]
fn what_is_set_is_read() {
    let record = record();
    let zone = ZoneRecord {
        name: Text::new(b"DMA32"),
        node: 1,
        managed_pages: 100,
        free_pages: 60,
        min_pages: 1,
        low_pages: 2,
        high_pages: 3,
    };
    record.set_managed_bytes(1 << 28);
    record.set_in_use_bytes(5000);
    record.set_in_use_bytes(3000);
    record.set_vmalloc(VmallocRecord {
        areas: 2,
        bytes: 8192,
        peak_bytes: 0,
    });
    record.set_vmalloc(VmallocRecord {
        areas: 1,
        bytes: 4096,
        peak_bytes: 0,
    });
    record.set_calls(9, 8);
    record.set_state(State::Exited);
    assert_eq!(record.set_zones(&[zone; 20]), Written::Yes);
    let snapshot = Snapshot::parse(&bytes_of(record)).unwrap();
    assert_eq!(snapshot.managed_bytes, 1 << 28);
    assert_eq!((snapshot.in_use_bytes, snapshot.peak_bytes), (3000, 5000));
    assert_eq!(
        snapshot.vmalloc,
        VmallocRecord {
            areas: 1,
            bytes: 4096,
            peak_bytes: 8192
        }
    );
    assert_eq!((snapshot.malloc_calls, snapshot.free_calls), (9, 8));
    assert_eq!(snapshot.state, State::Exited);
    assert_eq!(snapshot.zones(), [zone; ZONES_MAX]);
}

#[test]
fn failures_go_to_the_bucket_of_the_next_power_of_two() {
    let sizes = [0, 1, 2, 3, 4096, 4097, 1 << 63, u64::MAX];
    let buckets: Vec<usize> = sizes.iter().map(|bytes| bucket_of(*bytes)).collect();
    assert_eq!(buckets, [0, 0, 1, 2, 12, 13, 63, 63]);
    let record = record();
    sizes.iter().for_each(|bytes| record.count_failure(*bytes));
    let failed = Snapshot::read(record).unwrap().failed;
    assert_eq!((failed.total, failed.largest_bytes), (8, u64::MAX));
    assert_eq!(
        (failed.by_size[0], failed.by_size[12], failed.by_size[63]),
        (2, 1, 2)
    );
    assert_eq!(failed.by_size.iter().sum::<u64>(), failed.total);
}

#[test]
fn the_ten_largest_caches_are_kept_in_order() {
    let mut table = CacheTable::EMPTY;
    for bytes in [5, 1, 9, 13, 2, 11, 3, 12, 4, 10, 6, 8, 7] {
        table.offer(CacheRecord {
            name: Text::new(b"c"),
            objects: bytes,
            slabs: 1,
            bytes,
        });
    }
    let record = record();
    assert_eq!(record.set_caches(&table), Written::Yes);
    let read = Snapshot::read(record).unwrap().caches;
    assert_eq!(read, table);
    let order: Vec<u64> = read.rows().iter().map(|row| row.bytes).collect();
    assert_eq!(order, [13, 12, 11, 10, 9, 8, 7, 6, 5, 4]);
    assert_eq!((read.total_caches, read.total_bytes), (13, 91));
}

#[test]
fn the_last_misuse_is_kept_and_all_are_counted() {
    let record = record();
    record.report_misuse(b"a long text that must be gone afterwards");
    record.report_misuse(b"double free of 0x1000");
    let snapshot = Snapshot::read(record).unwrap();
    assert_eq!(snapshot.misuse_total, 2);
    assert_eq!(snapshot.misuse_last.bytes(), b"double free of 0x1000");
    record.report_misuse(&[b'x'; 1000]);
    assert_eq!(
        Snapshot::read(record).unwrap().misuse_last.bytes(),
        [b'x'; MISUSE_BYTES]
    );
}

#[test]
fn foreign_truncated_and_older_files_are_refused() {
    let good = bytes_of(record());
    for cut in [0, 1, 8, good.len() - 1] {
        let error = Snapshot::parse(&good[..cut]).unwrap_err();
        assert_eq!(error, ParseError::Truncated { bytes: cut });
    }
    assert_eq!(
        Snapshot::parse(&[0; 8192]).unwrap_err(),
        ParseError::Foreign
    );
    assert_eq!(
        Snapshot::parse(&[0xff; 8192]).unwrap_err(),
        ParseError::Foreign
    );
    let mut older = good.clone();
    older[8] = 0;
    assert_eq!(
        Snapshot::parse(&older).unwrap_err(),
        ParseError::Version { found: 0 }
    );
    let mut longer = good;
    longer.extend([7; 100]);
    assert!(Snapshot::parse(&longer).is_ok());
}

#[test]
fn garbage_after_the_header_never_panics() {
    let mut bytes = bytes_of(record());
    for fill in [0xff, 0x55, 0x80, 0x01] {
        bytes[16..].fill(fill);
        let snapshot = Snapshot::parse(&bytes).unwrap();
        assert!(snapshot.zones().len() <= ZONES_MAX);
        assert!(snapshot.caches.rows().len() <= CACHES_MAX);
    }
}

#[test]
fn a_writer_that_died_inside_blocks_neither_readers_nor_writers() {
    let record = record();
    record.report_misuse(b"first");
    record.misuse.sequence.fetch_add(1, Ordering::Relaxed);
    assert_eq!(record.report_misuse(b"second"), Written::Busy);
    let snapshot = Snapshot::read(record).unwrap();
    assert_eq!(snapshot.misuse_last.bytes(), b"first");
    assert_eq!(snapshot.misuse_total, 2);
}

#[test]
fn a_reader_never_sees_half_a_zone_table() {
    let record = record();
    let row = |pages| ZoneRecord {
        managed_pages: pages,
        free_pages: pages,
        min_pages: pages,
        low_pages: pages,
        high_pages: pages,
        ..ZoneRecord::EMPTY
    };
    record.set_zones(&[row(0); ZONES_MAX]);
    let rounds = if cfg!(miri) { 20 } else { 20_000 };
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            (1..rounds).for_each(|pages| {
                record.set_zones(&[row(pages); ZONES_MAX]);
            })
        });
        while !writer.is_finished() {
            let Some((used, rows)) = record.zones.try_read(read_zones) else {
                continue;
            };
            assert_eq!(used, ZONES_MAX);
            assert_eq!(rows, [rows[0]; ZONES_MAX]);
            assert_eq!(rows[0].managed_pages, rows[0].high_pages);
        }
    });
}

#[test]
fn file_names_are_read_back_and_others_refused() {
    for (pid, started_ns) in [(1, 0), (4_194_304, 123_456_789), (u32::MAX, u64::MAX)] {
        let name = FileName::new(pid, started_ns);
        assert_eq!(FileName::parse(name.bytes()), Some((pid, started_ns)));
    }
    assert_eq!(FileName::new(12, 340).bytes(), b"12.340.gfp");
    for foreign in [
        "",
        ".gfp",
        "1.gfp",
        "1.2",
        "1.2.3.gfp",
        "+1.2.gfp",
        "01.2.gfp",
        "-1.2.gfp",
        "a.b.gfp",
    ] {
        assert_eq!(FileName::parse(foreign.as_bytes()), None, "{foreign}");
    }
    assert_eq!(FileName::parse(&[0xff, 0xfe]), None);
}

#[test]
#[cfg_attr(miri, ignore = "makes a file")]
fn a_record_file_is_made_once_and_readable_while_mapped() {
    let dir = std::env::temp_dir().join(std::format!("gfp-record-test-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.to_str().unwrap().as_bytes();
    let record = create_file(path, &identity()).unwrap();
    record.count_failure(77);
    assert_eq!(create_file(path, &identity()).err(), Some(libc::EEXIST));
    let name = String::from_utf8(FileName::new(42, 1_000_000_007).bytes().to_vec()).unwrap();
    let snapshot = Snapshot::parse(&std::fs::read(dir.join(name)).unwrap()).unwrap();
    assert_eq!(snapshot.failed.largest_bytes, 77);
    assert_eq!(snapshot.identity, identity());
    std::fs::remove_dir_all(&dir).unwrap();
    assert_eq!(create_file(path, &identity()).err(), Some(libc::ENOENT));
    assert_eq!(
        create_file(&[b'a'; 5000], &identity()).err(),
        Some(libc::ENAMETOOLONG)
    );
}
