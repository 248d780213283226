//! The JSON report of `gfp run --report FILE.json`.
//!
//! Keys are stable: later versions add some, and rename or remove none without a new `schema`.
//! Sizes are in the unit that the key ends with. Text of a program that is not UTF-8 has
//! replacement characters.
//!
//! ```text
//! schema            "gfp-run/1"
//! gfp_version       version of gfp
//! command           [program, arguments...]
//! main_pid          process id of the program
//! exit              {code, signal}: one of them null
//! elapsed_ms        from start to end of the program
//! memory_bytes      budget of each process
//! page_bytes        what *_pages are multiples of
//! library_loaded    false: no process made a record, the figures of the run are missing
//! processes         one entry a process image, in order of start:
//!   pid, ppid, name, cmdline, exe, started_ns (CLOCK_MONOTONIC)
//!   main            true for the program's own (last) image
//!   state           exited | ended (by _exit or a signal) | aborted (by the library, after a
//!                   misuse) | out_of_memory (by the library: --oom kill) | replaced (by exec) |
//!                   running (outlived the program)
//!   managed_bytes, in_use_bytes (at the end), peak_bytes
//!   zones           [{name, node, managed_pages, free_pages, min_pages, low_pages, high_pages}]
//!   caches          {total, total_bytes, largest: [{name, objects, slabs, bytes}]}: the ten
//!                   largest
//!   vmalloc         {areas, bytes, peak_bytes}
//!   failed          {total, largest_bytes, by_size: [{up_to_bytes, count}]}: a bucket a power of
//!                   two, those with a count; up_to_bytes of the last possible one is null
//!   misuse          {total, last}: last is null if there was none
//!   calls           {malloc, free}; both 0 if the library does not count
//! unreadable_records [text]: records that could not be read, with the reason
//! ```

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use gfp_malloc_core::record::{BUCKETS, Failures, PAGE_BYTES};
use serde::Serialize;

use crate::failure::Failure;
use crate::records::{Fate, Image};
use crate::run::{End, Outcome};

/// Version of the keys.
const SCHEMA: &str = "gfp-run/1";

#[derive(Serialize)]
struct Report {
    schema: &'static str,
    gfp_version: &'static str,
    command: Vec<String>,
    main_pid: u32,
    exit: Exit,
    elapsed_ms: u64,
    memory_bytes: u64,
    page_bytes: u64,
    library_loaded: bool,
    processes: Vec<Process>,
    unreadable_records: Vec<String>,
}

#[derive(Serialize)]
struct Exit {
    code: Option<u8>,
    signal: Option<i32>,
}

#[derive(Serialize)]
struct Process {
    pid: u32,
    ppid: u32,
    name: String,
    cmdline: String,
    exe: String,
    started_ns: u64,
    main: bool,
    state: &'static str,
    managed_bytes: u64,
    in_use_bytes: u64,
    peak_bytes: u64,
    zones: Vec<Zone>,
    caches: Caches,
    vmalloc: Vmalloc,
    failed: Failed,
    misuse: Misuse,
    calls: Calls,
}

#[derive(Serialize)]
struct Zone {
    name: String,
    node: u32,
    managed_pages: u64,
    free_pages: u64,
    min_pages: u64,
    low_pages: u64,
    high_pages: u64,
}

#[derive(Serialize)]
struct Caches {
    total: u64,
    total_bytes: u64,
    largest: Vec<Cache>,
}

#[derive(Serialize)]
struct Cache {
    name: String,
    objects: u64,
    slabs: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct Vmalloc {
    areas: u64,
    bytes: u64,
    peak_bytes: u64,
}

#[derive(Serialize)]
struct Failed {
    total: u64,
    largest_bytes: u64,
    by_size: Vec<Bucket>,
}

#[derive(Serialize)]
struct Bucket {
    up_to_bytes: Option<u64>,
    count: u64,
}

#[derive(Serialize)]
struct Misuse {
    total: u64,
    last: Option<String>,
}

#[derive(Serialize)]
struct Calls {
    malloc: u64,
    free: u64,
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The buckets that counted something: upper bound (`None`: no bound) and count.
pub(crate) fn buckets(failed: &Failures) -> impl Iterator<Item = (Option<u64>, u64)> {
    let bound = |k| (k + 1 < BUCKETS).then(|| 1_u64 << k);
    let rows = failed.by_size.iter().enumerate();
    rows.filter(|(_, count)| **count > 0)
        .map(move |(k, count)| (bound(k), *count))
}

fn process(image: &Image, is_main: bool) -> Process {
    let record = &image.record;
    let zones = record.zones().iter().map(|zone| Zone {
        name: text(zone.name.bytes()),
        node: zone.node,
        managed_pages: zone.managed_pages,
        free_pages: zone.free_pages,
        min_pages: zone.min_pages,
        low_pages: zone.low_pages,
        high_pages: zone.high_pages,
    });
    let caches = record.caches.rows().iter().map(|cache| Cache {
        name: text(cache.name.bytes()),
        objects: cache.objects,
        slabs: cache.slabs,
        bytes: cache.bytes,
    });
    Process {
        pid: record.identity.pid,
        ppid: record.identity.ppid,
        name: image.name(),
        cmdline: text(record.identity.cmdline.bytes()),
        exe: text(record.identity.exe.bytes()),
        started_ns: record.identity.started_ns,
        main: is_main,
        state: match image.fate {
            Fate::Exited => "exited",
            Fate::Ended => "ended",
            Fate::Aborted => "aborted",
            Fate::OutOfMemory => "out_of_memory",
            Fate::Replaced => "replaced",
            Fate::Running => "running",
        },
        managed_bytes: record.managed_bytes,
        in_use_bytes: record.in_use_bytes,
        peak_bytes: record.peak_bytes,
        zones: zones.collect(),
        caches: Caches {
            total: record.caches.total_caches,
            total_bytes: record.caches.total_bytes,
            largest: caches.collect(),
        },
        vmalloc: Vmalloc {
            areas: record.vmalloc.areas,
            bytes: record.vmalloc.bytes,
            peak_bytes: record.vmalloc.peak_bytes,
        },
        failed: Failed {
            total: record.failed.total,
            largest_bytes: record.failed.largest_bytes,
            by_size: buckets(&record.failed)
                .map(|(up_to_bytes, count)| Bucket { up_to_bytes, count })
                .collect(),
        },
        misuse: Misuse {
            total: record.misuse_total,
            last: (record.misuse_total > 0).then(|| text(record.misuse_last.bytes())),
        },
        calls: Calls {
            malloc: record.malloc_calls,
            free: record.free_calls,
        },
    }
}

/// The report as text.
fn render(outcome: &Outcome) -> String {
    let main = outcome.images.main(outcome.main_pid);
    let processes = outcome.images.all.iter().enumerate();
    let report = Report {
        schema: SCHEMA,
        gfp_version: env!("CARGO_PKG_VERSION"),
        command: outcome
            .command
            .iter()
            .map(|word| word.to_string_lossy().into_owned())
            .collect(),
        main_pid: outcome.main_pid,
        exit: match outcome.end {
            End::Status(code) => Exit {
                code: Some(code),
                signal: None,
            },
            End::Signal(signal) => Exit {
                code: None,
                signal: Some(signal),
            },
        },
        elapsed_ms: outcome.elapsed.as_millis() as u64,
        memory_bytes: outcome.memory_bytes,
        page_bytes: PAGE_BYTES,
        library_loaded: !outcome.images.all.is_empty(),
        processes: processes
            .map(|(at, image)| process(image, Some(at) == main))
            .collect(),
        unreadable_records: outcome.images.unreadable.clone(),
    };
    let mut json = serde_json::to_string_pretty(&report).expect("strings and numbers only");
    json.push('\n');
    json
}

/// The file that the report goes to, opened before the program starts.
pub(crate) struct Target {
    file: File,
    path: PathBuf,
    /// To be removed again if the program does not start.
    is_new: bool,
}

impl Target {
    /// Opens `path` for writing; what it holds stays until there is a report.
    pub(crate) fn open(path: &Path) -> Result<Target, Failure> {
        let is_new = !path.exists();
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path);
        let file = file.map_err(|error| {
            Failure::own(format!(
                "cannot write the report {}: {error}",
                path.display()
            ))
        })?;
        Ok(Target {
            file,
            path: path.to_path_buf(),
            is_new,
        })
    }

    /// The program did not start: leaves no empty file behind.
    pub(crate) fn abandon(self) {
        if self.is_new {
            let _ = std::fs::remove_file(&self.path);
        }
    }

    /// Writes the report.
    pub(crate) fn write(mut self, outcome: &Outcome) -> Result<(), Failure> {
        let written = self.write_text(&render(outcome));
        written.map_err(|error| {
            Failure::own(format!(
                "cannot write the report {}: {error}",
                self.path.display()
            ))
        })
    }

    fn write_text(&mut self, text: &str) -> io::Result<()> {
        // A pipe or terminal has no length to set.
        if self.file.metadata()?.is_file() {
            self.file.set_len(0)?;
        }
        self.file.write_all(text.as_bytes())
    }
}

#[cfg(test)]
mod tests;
