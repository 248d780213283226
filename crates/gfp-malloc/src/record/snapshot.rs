//! Reading a record: plain copies, from live memory or from the bytes of a file.

use core::fmt;
use core::mem::{MaybeUninit, size_of};
use core::ptr;

use super::cells::{CacheTableCells, Record, ZoneTableCells};
use super::section::Bytes;
use super::{
    CACHES_MAX, CacheRecord, CacheTable, Failures, Identity, MAGIC, MISUSE_BYTES, State, Text,
    VERSION, VmallocRecord, ZONES_MAX, ZoneRecord,
};
use crate::atomic::{AtomicU64, Ordering};

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// Fewer bytes than a record: the process died while making it, or the file is foreign.
    Truncated {
        /// Bytes found.
        bytes: usize,
    },
    /// The first word is not [`MAGIC`]: a foreign file, or a record that was never completed.
    Foreign,
    /// Made by another version of the library; use the `gfp` and `libgfp_malloc.so` of one build.
    Version {
        /// Version found.
        found: u32,
    },
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ParseError::Truncated { bytes } => {
                write!(
                    f,
                    "{bytes} bytes are too few for a record ({})",
                    size_of::<Record>()
                )
            }
            ParseError::Foreign => f.write_str("not a record of gfp"),
            ParseError::Version { found } => write!(
                f,
                "record version {found}, this gfp reads {VERSION}: \
                 use gfp and libgfp_malloc.so of one build"
            ),
        }
    }
}

impl core::error::Error for ParseError {}

/// A plain copy of a [`Record`].
#[derive(Clone, Copy, Debug)]
pub struct Snapshot {
    /// Whose record it is.
    pub identity: Identity,
    /// Life of the image.
    pub state: State,
    /// Bytes of RAM under management.
    pub managed_bytes: u64,
    /// Bytes in use at the last update.
    pub in_use_bytes: u64,
    /// Most bytes in use at a time.
    pub peak_bytes: u64,
    /// vmalloc areas.
    pub vmalloc: VmallocRecord,
    /// Failed allocations.
    pub failed: Failures,
    /// Misuses reported (double free, foreign pointer, ...).
    pub misuse_total: u64,
    /// Text of the last misuse.
    pub misuse_last: Text<MISUSE_BYTES>,
    /// Calls of the malloc family, 0 if not counted.
    pub malloc_calls: u64,
    /// Calls of free, 0 if not counted.
    pub free_calls: u64,
    /// The largest caches.
    pub caches: CacheTable,
    zones: [ZoneRecord; ZONES_MAX],
    zones_used: usize,
}

impl Snapshot {
    /// Copies `record`, which its owner may be writing to.
    pub fn read(record: &Record) -> Result<Snapshot, ParseError> {
        // Acquire pairs with the Release store in Record::init_in.
        if record.magic.load(Ordering::Acquire) != MAGIC {
            return Err(ParseError::Foreign);
        }
        let load = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        let found = record.version.load(Ordering::Relaxed);
        let size = record.size.load(Ordering::Relaxed);
        if found != VERSION || size as usize != size_of::<Record>() {
            return Err(ParseError::Version { found });
        }
        let (comm, cmdline, exe) = record
            .identity
            .read(|cells| (cells.comm.load(), cells.cmdline.load(), cells.exe.load()));
        let (zones_used, zones) = record.zones.read(read_zones);
        Ok(Snapshot {
            identity: Identity {
                pid: record.pid.load(Ordering::Relaxed),
                ppid: record.ppid.load(Ordering::Relaxed),
                started_ns: load(&record.started_ns),
                comm,
                cmdline,
                exe,
            },
            state: State::of(record.state.load(Ordering::Relaxed)),
            managed_bytes: load(&record.managed_bytes),
            in_use_bytes: load(&record.in_use_bytes),
            peak_bytes: load(&record.peak_bytes),
            vmalloc: VmallocRecord {
                areas: load(&record.vmalloc_areas),
                bytes: load(&record.vmalloc_bytes),
                peak_bytes: load(&record.vmalloc_peak_bytes),
            },
            failed: Failures {
                total: load(&record.failed_total),
                largest_bytes: load(&record.failed_largest_bytes),
                by_size: core::array::from_fn(|k| load(&record.failed_by_size[k])),
            },
            misuse_total: load(&record.misuse_total),
            misuse_last: record.misuse.read(Bytes::load),
            malloc_calls: load(&record.malloc_calls),
            free_calls: load(&record.free_calls),
            caches: record.caches.read(read_caches),
            zones,
            zones_used,
        })
    }

    /// Reads the content of a record file. Bytes after the record are ignored.
    pub fn parse(bytes: &[u8]) -> Result<Snapshot, ParseError> {
        if bytes.len() < size_of::<Record>() {
            return Err(ParseError::Truncated { bytes: bytes.len() });
        }
        let mut copy = MaybeUninit::<Record>::uninit();
        // SAFETY: the source has size_of::<Record>() bytes (checked above), the target is a Record
        // of our own; any byte pattern is a valid Record (atomics of integers only), so it is
        // initialised afterwards.
        let record = unsafe {
            let to = copy.as_mut_ptr().cast::<u8>();
            ptr::copy_nonoverlapping(bytes.as_ptr(), to, size_of::<Record>());
            copy.assume_init_ref()
        };
        Snapshot::read(record)
    }

    /// The zones.
    pub fn zones(&self) -> &[ZoneRecord] {
        &self.zones[..self.zones_used]
    }
}

pub(super) fn read_zones(table: &ZoneTableCells) -> (usize, [ZoneRecord; ZONES_MAX]) {
    let used = (table.used.load(Ordering::Relaxed) as usize).min(ZONES_MAX);
    let rows = core::array::from_fn(|at| {
        let cells = &table.rows[at];
        ZoneRecord {
            name: cells.name.load(),
            node: cells.node.load(Ordering::Relaxed) as u32,
            managed_pages: cells.managed_pages.load(Ordering::Relaxed),
            free_pages: cells.free_pages.load(Ordering::Relaxed),
            min_pages: cells.min_pages.load(Ordering::Relaxed),
            low_pages: cells.low_pages.load(Ordering::Relaxed),
            high_pages: cells.high_pages.load(Ordering::Relaxed),
        }
    });
    (used, rows)
}

fn read_caches(table: &CacheTableCells) -> CacheTable {
    CacheTable {
        rows: core::array::from_fn(|at| {
            let cells = &table.rows[at];
            CacheRecord {
                name: cells.name.load(),
                objects: cells.objects.load(Ordering::Relaxed),
                slabs: cells.slabs.load(Ordering::Relaxed),
                bytes: cells.bytes.load(Ordering::Relaxed),
            }
        }),
        used: (table.used.load(Ordering::Relaxed) as usize).min(CACHES_MAX),
        total_caches: table.total_caches.load(Ordering::Relaxed),
        total_bytes: table.total_bytes.load(Ordering::Relaxed),
    }
}
