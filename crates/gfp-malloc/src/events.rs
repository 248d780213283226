//! What a process tells about its memory: misuse on standard error, numbers in its record.
//!
//! This is the process's, not one heap's: the library reports misuse to a plain function.

use crate::env::{AfterMisuse, OutOfMemory};
use crate::heap::Heap;
use crate::record::{
    CacheRecord, CacheTable, Record, State, Text, VmallocRecord, ZONES_MAX, ZoneRecord,
};
use crate::sys;
use core::fmt::{self, Write};
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
use gfp::platform::{Context, Platform};
use gfp::report::Report;

static RECORD: AtomicPtr<Record> = AtomicPtr::new(ptr::null_mut());
static ABORT: AtomicBool = AtomicBool::new(false);
static KILL: AtomicBool = AtomicBool::new(false);
static MISUSES: AtomicU64 = AtomicU64::new(0);
static FAILURES: AtomicU64 = AtomicU64::new(0);
static NO_MACHINE: AtomicBool = AtomicBool::new(false);
/// When the tables of the record were written, and what the peak was then.
static TABLES_NS: AtomicU64 = AtomicU64::new(0);
static TABLES_PEAK: AtomicU64 = AtomicU64::new(0);

/// Tables older than this are written anew: their some 20 us are nothing beside it.
const TABLES_EVERY_NS: u64 = 50_000_000;
/// Growth of the peak in bytes that is worth new tables.
const LEAST_GROWTH: u64 = 256 << 10;

/// Sets what follows a misuse.
pub fn set_after_misuse(what: AfterMisuse) {
    ABORT.store(what == AfterMisuse::Abort, Ordering::Relaxed);
}

/// Sets what follows when memory is used up.
pub fn set_out_of_memory(what: OutOfMemory) {
    KILL.store(what == OutOfMemory::Kill, Ordering::Relaxed);
}

/// True if the process dies when memory is used up.
pub fn kills() -> bool {
    KILL.load(Ordering::Relaxed)
}

/// From now on numbers go to `record`, too; `None`: to none.
pub fn set_record(record: Option<&'static Record>) {
    let place = record.map_or(ptr::null_mut(), |record| ptr::from_ref(record).cast_mut());
    // Release: pairs with the Acquire in `record`.
    RECORD.store(place, Ordering::Release);
}

/// The record of this process, if it keeps one.
pub fn record() -> Option<&'static Record> {
    // SAFETY: null or a record that lives as long as the process. Acquire: as above.
    unsafe { RECORD.load(Ordering::Acquire).as_ref() }
}

/// Misuses seen so far.
pub fn misuses() -> u64 {
    MISUSES.load(Ordering::Relaxed)
}

/// Failed allocations so far.
pub fn failures() -> u64 {
    FAILURES.load(Ordering::Relaxed)
}

/// Says, once, that the process has no memory at all. Any context.
#[cold]
pub fn no_machine(bytes: usize) {
    if !NO_MACHINE.swap(true, Ordering::Relaxed) {
        let mut line = Line::new();
        let _ = write!(
            line,
            "gfp: no machine of {bytes} bytes, nor a smaller one: the system gives no addresses \
             or no memory (look at ulimit -v)"
        );
        let _ = sys::write(libc::STDERR_FILENO, line.finish());
    }
}

/// Counts a request that could not be served. Any context.
#[cold]
pub fn failure(bytes: usize) {
    FAILURES.fetch_add(1, Ordering::Relaxed);
    if let Some(record) = record() {
        record.count_failure(bytes as u64);
    }
}

/// Counts a request that memory is used up for; ends the process if that is asked for. A request
/// for more than the machine has in all only fails: nobody's death would help it.
///
/// Context: outside of the allocator.
#[cold]
pub fn out_of_memory(heap: &Heap, bytes: usize, align: usize, caller: usize) {
    failure(bytes);
    let usage = heap.usage();
    if !kills() || bytes > usage.managed_bytes {
        return;
    }
    update_all(heap);
    let pid = sys::getpid();
    let mut line = Line::new();
    let _ = write!(
        line,
        "gfp: out of memory: process {pid} asked for {bytes} bytes"
    );
    if align > crate::heap::MIN_ALIGN {
        let _ = write!(line, " aligned to {align}");
    }
    if caller != 0 {
        let _ = write!(line, ", called from {caller:#x}");
    }
    let (used, all) = (usage.in_use_bytes >> 10, usage.managed_bytes >> 10);
    let _ = write!(
        line,
        "; {used} of {all} KiB are in use, {} in vmalloc",
        usage.vmalloc_bytes >> 10
    );
    let mut caches = CacheTable::EMPTY;
    offer_caches(heap, &mut caches);
    for (at, cache) in caches.rows().iter().take(3).enumerate() {
        let name = core::str::from_utf8(cache.name.bytes()).unwrap_or("?");
        let before = if at == 0 { "; biggest caches:" } else { "," };
        let _ = write!(line, "{before} {name} {} KiB", cache.bytes >> 10);
    }
    let _ = line.write_str("; killed");
    let _ = sys::write(libc::STDERR_FILENO, line.finish());
    // The record of a parent that lent us its memory (vfork) is not ours.
    if let Some(record) = record().filter(|record| record.pid() == pid) {
        record.set_state(State::OutOfMemory);
    }
    sys::kill_self()
}

/// Writes the sums of `heap` into the record, if there is one. Any context.
pub fn update_sums(heap: &Heap) {
    let Some(record) = record() else { return };
    let usage = heap.usage();
    record.set_managed_bytes(usage.managed_bytes as u64);
    record.set_in_use_bytes(usage.in_use_bytes as u64);
    record.raise_peak_bytes(usage.peak_bytes as u64);
    record.set_vmalloc(VmallocRecord {
        areas: usage.vmalloc_areas as u64,
        bytes: usage.vmalloc_bytes as u64,
        peak_bytes: usage.vmalloc_peak_bytes as u64,
    });
}

/// Writes the sums of `heap` into the record, if there is one; and the tables, when the peak has
/// grown by an eighth or some time has passed, so that a process that is killed leaves tables that
/// are nearly true. Any context.
pub fn update(heap: &Heap) {
    let Some(record) = record() else { return };
    if heap.mm().platform().context() != Context::Task {
        return; // inside the allocator the numbers cannot be read
    }
    update_sums(heap);
    let (peak, seen) = (record.peak_bytes(), TABLES_PEAK.load(Ordering::Relaxed));
    let grown = peak - seen.min(peak) > LEAST_GROWTH.max(seen / 8);
    if grown || sys::coarse_ns().wrapping_sub(TABLES_NS.load(Ordering::Relaxed)) > TABLES_EVERY_NS {
        update_all(heap);
    }
}

/// Writes all numbers of `heap` into the record, if there is one.
pub fn update_all(heap: &Heap) {
    let Some(record) = record() else { return };
    update_sums(heap);
    TABLES_PEAK.store(record.peak_bytes(), Ordering::Relaxed);
    TABLES_NS.store(sys::coarse_ns(), Ordering::Relaxed);
    let source = heap.source();
    let mut zones = [ZoneRecord::EMPTY; ZONES_MAX];
    let mut used = 0;
    source.for_each_node(&mut |node| {
        source.for_each_zone(node.node, &mut |zone| {
            if zone.populated() && used < ZONES_MAX {
                zones[used] = ZoneRecord {
                    name: Text::new(zone.kind.name().as_bytes()),
                    node: zone.node.0.into(),
                    managed_pages: zone.managed as u64,
                    free_pages: zone.free() as u64,
                    min_pages: (zone.min + zone.boost) as u64,
                    low_pages: (zone.low + zone.boost) as u64,
                    high_pages: (zone.high + zone.boost) as u64,
                };
                used += 1;
            }
        });
    });
    let _ = record.set_zones(&zones[..used]);
    let mut caches = CacheTable::EMPTY;
    offer_caches(heap, &mut caches);
    let _ = record.set_caches(&caches);
}

fn offer_caches(heap: &Heap, caches: &mut CacheTable) {
    heap.source().for_each_cache(&mut |cache| {
        caches.offer(CacheRecord {
            name: Text::new(cache.name.as_bytes()),
            objects: cache.in_use() as u64,
            slabs: cache.num_slabs as u64,
            bytes: cache.bytes() as u64,
        });
    });
}

/// One line on standard error, the text in the record, and death if that was asked for. Any
/// context.
#[cold]
pub fn misuse(report: &Report<'_>) {
    MISUSES.fetch_add(1, Ordering::Relaxed);
    let mut line = Line::new();
    let _ = write!(line, "{report}"); // fails when the line is full
    let text = line.finish();
    let _ = sys::write(libc::STDERR_FILENO, text);
    let record = record();
    if let Some(record) = record {
        let _ = record.report_misuse(text.trim_ascii_end());
    }
    if ABORT.load(Ordering::Relaxed) {
        if let Some(record) = record {
            record.set_state(State::Aborted);
        }
        sys::abort();
    }
}

/// A line put together without allocating; cut at 512 bytes.
pub struct Line {
    bytes: [u8; Line::MAX],
    used: usize,
}

impl Line {
    const MAX: usize = 512;

    /// An empty line.
    pub const fn new() -> Line {
        Line {
            bytes: [0; Line::MAX],
            used: 0,
        }
    }

    /// The text, with the end of the line.
    pub fn finish(&mut self) -> &[u8] {
        self.bytes[self.used] = b'\n';
        &self.bytes[..=self.used]
    }
}

impl Default for Line {
    fn default() -> Line {
        Line::new()
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = Line::MAX - 1 - self.used; // one byte for the end of the line
        let taken = text.len().min(room);
        self.bytes[self.used..self.used + taken].copy_from_slice(&text.as_bytes()[..taken]);
        self.used += taken;
        if taken < text.len() {
            Err(fmt::Error)
        } else {
            Ok(())
        }
    }
}
