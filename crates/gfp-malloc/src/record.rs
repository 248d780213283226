//! The shared record: what a process under gfp tells the world about its memory.
//!
//! # Theory
//!
//! 1. **Concept.** `gfp run` starts a program and wants to know, after it is gone, how its memory
//!    did. The library in the program keeps one [`Record`] per *process image*: a page-sized file
//!    of atomics in the directory `GFP_RECORD_DIR`, mapped `MAP_SHARED`, so that it survives
//!    `SIGKILL`, `_exit` and `abort`.
//! 2. **One per image.** A child of `fork` makes a record of its own ([`create_file`] again; the
//!    inherited mapping still belongs to the parent). `execve` starts a new image: a second file,
//!    same pid, later time. File names are `<pid>.<start in monotonic ns>.gfp` ([`FileName`]), made
//!    with `O_EXCL`.
//! 3. **Structure.** Numbers are single atomics. What is more than one number (texts, the zone and
//!    the cache table) sits in a *section*: a sequence word that is odd while a writer is in,
//!    then the data, which is atomics too, so that a torn read is a wrong number at worst and never
//!    undefined behaviour.
//! 4. **Writers** never wait: a writer that finds a section taken (another thread, or itself under
//!    a signal handler) leaves without writing. **Readers** try a bounded number of times, since a
//!    process may have been killed with its section odd, and then take what is there.
//! 5. **Failure.** A reader of a foreign, truncated or older file gets a [`ParseError`]; any byte
//!    pattern is a valid `Record`, counts are clamped to their tables.
//! 6. **Not done.** No history and no lists without bound. Nothing here allocates, blocks or needs
//!    `std`.

#[cfg(not(loom))]
mod cells;
#[cfg(not(loom))]
mod file;
#[cfg(all(test, loom))]
mod interleavings;
mod section;
#[cfg(not(loom))]
mod snapshot;
#[cfg(all(test, not(loom)))]
mod tests;

#[cfg(not(loom))]
pub use cells::Record;
#[cfg(not(loom))]
pub use file::{FileName, create_file};
pub use section::Written;
#[cfg(not(loom))]
pub use snapshot::{ParseError, Snapshot};

use core::fmt;

/// First word of a record: `GFP-REC1` in memory order. Stored last, so that it means "complete".
pub const MAGIC: u64 = u64::from_le_bytes(*b"GFP-REC1");
/// Layout version; a reader refuses any other.
pub const VERSION: u32 = 1;
/// Bytes of one page in every `*_pages` field.
pub const PAGE_BYTES: u64 = 4096;
/// Zones that one record holds.
pub const ZONES_MAX: usize = 16;
/// Caches that one record holds: the largest ones.
pub const CACHES_MAX: usize = 10;
/// Buckets of the failed-allocation histogram, one a power of two.
pub const BUCKETS: usize = 64;
/// Bytes of the text of the last misuse report.
pub const MISUSE_BYTES: usize = 256;

/// Life of the process image that owns the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Alive, or gone in a way the library does not see (`_exit`, `execve`, a fatal signal).
    Running,
    /// Left through `exit`.
    Exited,
    /// The library itself ended the process after a misuse (`GFP_MALLOC_REPORT=abort`).
    Aborted,
    /// The library itself ended the process, whose memory was used up (`GFP_OOM=kill`).
    OutOfMemory,
    /// A value that this version does not know.
    Unknown,
}

impl State {
    const fn word(self) -> u32 {
        match self {
            State::Unknown => 0,
            State::Running => 1,
            State::Exited => 2,
            State::Aborted => 3,
            State::OutOfMemory => 4,
        }
    }

    const fn of(word: u32) -> State {
        match word {
            1 => State::Running,
            2 => State::Exited,
            3 => State::Aborted,
            4 => State::OutOfMemory,
            _ => State::Unknown,
        }
    }
}

/// Fixed-size text: bytes up to the first NUL, or all of them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Text<const N: usize>([u8; N]);

impl<const N: usize> Text<N> {
    /// No text.
    pub const EMPTY: Text<N> = Text([0; N]);

    /// The first `N` bytes of `text`; a NUL ends it early.
    pub fn new(text: &[u8]) -> Text<N> {
        let mut out = [0; N];
        for (to, from) in out.iter_mut().zip(text) {
            if *from == 0 {
                break;
            }
            *to = *from;
        }
        Text(out)
    }

    /// The bytes, without the padding. Not necessarily UTF-8: they come from another process.
    pub fn bytes(&self) -> &[u8] {
        let end = self.0.iter().position(|b| *b == 0).unwrap_or(N);
        &self.0[..end]
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.bytes().escape_ascii())
    }
}

/// One zone as the record shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZoneRecord {
    /// Zone name: `DMA32`, `Normal`, ...
    pub name: Text<16>,
    /// NUMA node.
    pub node: u32,
    /// Pages that the page allocator manages.
    pub managed_pages: u64,
    /// Free pages.
    pub free_pages: u64,
    /// Watermark min.
    pub min_pages: u64,
    /// Watermark low.
    pub low_pages: u64,
    /// Watermark high.
    pub high_pages: u64,
}

impl ZoneRecord {
    /// An empty row.
    pub const EMPTY: ZoneRecord = ZoneRecord {
        name: Text::EMPTY,
        node: 0,
        managed_pages: 0,
        free_pages: 0,
        min_pages: 0,
        low_pages: 0,
        high_pages: 0,
    };
}

/// One slab cache as the record shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheRecord {
    /// Cache name: `kmalloc-64`, ...
    pub name: Text<32>,
    /// Objects handed out.
    pub objects: u64,
    /// Slabs.
    pub slabs: u64,
    /// Bytes of its slabs.
    pub bytes: u64,
}

impl CacheRecord {
    /// An empty row.
    pub const EMPTY: CacheRecord = CacheRecord {
        name: Text::EMPTY,
        objects: 0,
        slabs: 0,
        bytes: 0,
    };
}

/// The caches of a machine: the [`CACHES_MAX`] largest, and the sum of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheTable {
    rows: [CacheRecord; CACHES_MAX],
    used: usize,
    /// Caches offered, the small ones too.
    pub total_caches: u64,
    /// Bytes of the slabs of all caches.
    pub total_bytes: u64,
}

impl CacheTable {
    /// A table that no cache was offered to.
    pub const EMPTY: CacheTable = CacheTable {
        rows: [CacheRecord::EMPTY; CACHES_MAX],
        used: 0,
        total_caches: 0,
        total_bytes: 0,
    };

    /// Counts `cache` and keeps it if it is among the largest.
    pub fn offer(&mut self, cache: CacheRecord) {
        self.total_caches += 1;
        self.total_bytes = self.total_bytes.saturating_add(cache.bytes);
        let at = self.rows().partition_point(|row| row.bytes >= cache.bytes);
        if at < CACHES_MAX {
            self.used = (self.used + 1).min(CACHES_MAX);
            self.rows.copy_within(at..self.used - 1, at + 1);
            self.rows[at] = cache;
        }
    }

    /// The largest caches, largest first.
    pub fn rows(&self) -> &[CacheRecord] {
        &self.rows[..self.used]
    }
}

/// vmalloc areas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VmallocRecord {
    /// Areas now.
    pub areas: u64,
    /// Bytes mapped now, guard pages not counted.
    pub bytes: u64,
    /// Most bytes that were mapped at a time.
    pub peak_bytes: u64,
}

/// Who a record belongs to; fixed at its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Process id.
    pub pid: u32,
    /// Process id of the parent.
    pub ppid: u32,
    /// Start of the image, `CLOCK_MONOTONIC`, nanoseconds.
    pub started_ns: u64,
    /// Name as in `/proc/self/comm`.
    pub comm: Text<64>,
    /// Start of the command line, arguments separated by spaces.
    pub cmdline: Text<256>,
    /// Path of the executable.
    pub exe: Text<256>,
}

/// Failed allocations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failures {
    /// How many.
    pub total: u64,
    /// Bytes of the largest one.
    pub largest_bytes: u64,
    /// Count per size; bucket `k` holds requests of more than `2^(k-1)` and up to `2^k` bytes.
    pub by_size: [u64; BUCKETS],
}

/// The bucket of a request: the smallest `k` with `bytes <= 2^k`, at most 63.
pub const fn bucket_of(bytes: u64) -> usize {
    if bytes <= 1 {
        return 0;
    }
    let ceil_log2 = (u64::BITS - (bytes - 1).leading_zeros()) as usize;
    if ceil_log2 < BUCKETS {
        ceil_log2
    } else {
        BUCKETS - 1
    }
}
