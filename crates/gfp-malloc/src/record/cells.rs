//! What lies in the file: the cells of a record, its sections and setters.

use core::mem::size_of;
use core::ptr::{self, NonNull};

use super::section::{Bytes, Section, Written};
use super::{
    BUCKETS, CACHES_MAX, CacheTable, Identity, MAGIC, MISUSE_BYTES, State, Text, VERSION,
    VmallocRecord, ZONES_MAX, ZoneRecord, bucket_of,
};
use crate::atomic::{AtomicU32, AtomicU64, Ordering};

#[repr(C)]
pub(super) struct IdentityCells {
    pub(super) comm: Bytes<64>,
    pub(super) cmdline: Bytes<256>,
    pub(super) exe: Bytes<256>,
}

#[repr(C)]
pub(super) struct ZoneCells {
    pub(super) name: Bytes<16>,
    pub(super) node: AtomicU64,
    pub(super) managed_pages: AtomicU64,
    pub(super) free_pages: AtomicU64,
    pub(super) min_pages: AtomicU64,
    pub(super) low_pages: AtomicU64,
    pub(super) high_pages: AtomicU64,
}

#[repr(C)]
pub(super) struct ZoneTableCells {
    pub(super) used: AtomicU64,
    pub(super) rows: [ZoneCells; ZONES_MAX],
}

#[repr(C)]
pub(super) struct CacheCells {
    pub(super) name: Bytes<32>,
    pub(super) objects: AtomicU64,
    pub(super) slabs: AtomicU64,
    pub(super) bytes: AtomicU64,
}

#[repr(C)]
pub(super) struct CacheTableCells {
    pub(super) used: AtomicU64,
    pub(super) total_caches: AtomicU64,
    pub(super) total_bytes: AtomicU64,
    pub(super) rows: [CacheCells; CACHES_MAX],
}

/// The record of one process image: the content of its file.
///
/// Every setter takes `&self`, may be called from any thread and from a signal handler, and neither
/// blocks nor allocates. Relaxed order suffices for the single numbers: no reader infers one from
/// another.
#[repr(C)]
pub struct Record {
    pub(super) magic: AtomicU64,
    pub(super) version: AtomicU32,
    pub(super) size: AtomicU32,
    pub(super) pid: AtomicU32,
    pub(super) ppid: AtomicU32,
    pub(super) started_ns: AtomicU64,
    pub(super) state: AtomicU32,
    pub(super) reserved: AtomicU32,
    pub(super) managed_bytes: AtomicU64,
    pub(super) in_use_bytes: AtomicU64,
    pub(super) peak_bytes: AtomicU64,
    pub(super) vmalloc_areas: AtomicU64,
    pub(super) vmalloc_bytes: AtomicU64,
    pub(super) vmalloc_peak_bytes: AtomicU64,
    pub(super) failed_total: AtomicU64,
    pub(super) failed_largest_bytes: AtomicU64,
    pub(super) failed_by_size: [AtomicU64; BUCKETS],
    pub(super) misuse_total: AtomicU64,
    pub(super) malloc_calls: AtomicU64,
    pub(super) free_calls: AtomicU64,
    pub(super) identity: Section<IdentityCells>,
    pub(super) zones: Section<ZoneTableCells>,
    pub(super) caches: Section<CacheTableCells>,
    pub(super) misuse: Section<Bytes<MISUSE_BYTES>>,
}

const _: () = assert!(size_of::<Record>() <= 4096, "a record is one page");
const _: () = assert!(align_of::<Record>() == 8);

impl Record {
    /// Makes a fresh record for `identity` in the memory at `at`.
    ///
    /// # Safety
    /// `at` is aligned to 8, valid for reads and writes of `size_of::<Record>()` bytes for `'a`,
    /// and from now on written only through the returned reference (other processes may read it).
    pub unsafe fn init_in<'a>(at: NonNull<u8>, identity: &Identity) -> &'a Record {
        debug_assert!(at.as_ptr().addr().is_multiple_of(align_of::<Record>()));
        // SAFETY: the caller's contract: valid, aligned, ours; zero bytes are a valid Record
        // (atomics only).
        let record = unsafe {
            ptr::write_bytes(at.as_ptr(), 0, size_of::<Record>());
            &*at.as_ptr().cast::<Record>()
        };
        record.version.store(VERSION, Ordering::Relaxed);
        record
            .size
            .store(size_of::<Record>() as u32, Ordering::Relaxed);
        record.pid.store(identity.pid, Ordering::Relaxed);
        record.ppid.store(identity.ppid, Ordering::Relaxed);
        record
            .started_ns
            .store(identity.started_ns, Ordering::Relaxed);
        record.state.store(State::Running.word(), Ordering::Relaxed);
        record.set_texts(identity);
        // Pairs with the Acquire load in Snapshot::read.
        record.magic.store(MAGIC, Ordering::Release);
        record
    }

    /// Replaces `comm`, `cmdline` and `exe` (the numbers of the identity stay as they were).
    pub fn set_texts(&self, identity: &Identity) -> Written {
        self.identity.write(|cells| {
            cells.comm.store(&identity.comm);
            cells.cmdline.store(&identity.cmdline);
            cells.exe.store(&identity.exe);
        })
    }

    /// The process that the record belongs to.
    pub fn pid(&self) -> u32 {
        self.pid.load(Ordering::Relaxed)
    }

    /// Sets the state.
    pub fn set_state(&self, state: State) {
        self.state.store(state.word(), Ordering::Relaxed);
    }

    /// Sets the bytes of RAM under management.
    pub fn set_managed_bytes(&self, bytes: u64) {
        self.managed_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Sets the bytes in use, and raises the peak to it.
    pub fn set_in_use_bytes(&self, bytes: u64) {
        self.in_use_bytes.store(bytes, Ordering::Relaxed);
        self.raise_peak_bytes(bytes);
    }

    /// Raises the peak to `bytes` if it is lower.
    pub fn raise_peak_bytes(&self, bytes: u64) {
        raise(&self.peak_bytes, bytes);
    }

    /// The peak that was recorded.
    pub fn peak_bytes(&self) -> u64 {
        self.peak_bytes.load(Ordering::Relaxed)
    }

    /// Sets what vmalloc uses, and raises its peak to the greater of `bytes` and `peak_bytes`.
    pub fn set_vmalloc(&self, vmalloc: VmallocRecord) {
        self.vmalloc_areas.store(vmalloc.areas, Ordering::Relaxed);
        self.vmalloc_bytes.store(vmalloc.bytes, Ordering::Relaxed);
        raise(
            &self.vmalloc_peak_bytes,
            vmalloc.peak_bytes.max(vmalloc.bytes),
        );
    }

    /// Counts one failed allocation of `bytes`.
    pub fn count_failure(&self, bytes: u64) {
        self.failed_by_size[bucket_of(bytes)].fetch_add(1, Ordering::Relaxed);
        raise(&self.failed_largest_bytes, bytes);
        self.failed_total.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts one misuse and keeps its text, cut to [`MISUSE_BYTES`], as the last one.
    pub fn report_misuse(&self, text: &[u8]) -> Written {
        self.misuse_total.fetch_add(1, Ordering::Relaxed);
        self.misuse.write(|cells| cells.store(&Text::new(text)))
    }

    /// Sets the call counters; a library that does not count leaves them 0.
    pub fn set_calls(&self, malloc_calls: u64, free_calls: u64) {
        self.malloc_calls.store(malloc_calls, Ordering::Relaxed);
        self.free_calls.store(free_calls, Ordering::Relaxed);
    }

    /// Replaces the zone table; rows past [`ZONES_MAX`] are dropped.
    pub fn set_zones(&self, zones: &[ZoneRecord]) -> Written {
        self.zones.write(|table| {
            for (cells, zone) in table.rows.iter().zip(zones) {
                cells.name.store(&zone.name);
                cells.node.store(u64::from(zone.node), Ordering::Relaxed);
                cells
                    .managed_pages
                    .store(zone.managed_pages, Ordering::Relaxed);
                cells.free_pages.store(zone.free_pages, Ordering::Relaxed);
                cells.min_pages.store(zone.min_pages, Ordering::Relaxed);
                cells.low_pages.store(zone.low_pages, Ordering::Relaxed);
                cells.high_pages.store(zone.high_pages, Ordering::Relaxed);
            }
            table
                .used
                .store(zones.len().min(ZONES_MAX) as u64, Ordering::Relaxed);
        })
    }

    /// Replaces the cache table.
    pub fn set_caches(&self, caches: &CacheTable) -> Written {
        self.caches.write(|table| {
            for (cells, cache) in table.rows.iter().zip(caches.rows()) {
                cells.name.store(&cache.name);
                cells.objects.store(cache.objects, Ordering::Relaxed);
                cells.slabs.store(cache.slabs, Ordering::Relaxed);
                cells.bytes.store(cache.bytes, Ordering::Relaxed);
            }
            table.used.store(caches.used as u64, Ordering::Relaxed);
            table
                .total_caches
                .store(caches.total_caches, Ordering::Relaxed);
            table
                .total_bytes
                .store(caches.total_bytes, Ordering::Relaxed);
        })
    }
}

/// Raises `cell` to `value`; a plain load first, since mostly nothing is to be done.
fn raise(cell: &AtomicU64, value: u64) {
    if cell.load(Ordering::Relaxed) < value {
        cell.fetch_max(value, Ordering::Relaxed);
    }
}
