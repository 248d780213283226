//! What the tests of the allocator share.
//!
//! 1. [`Ledger`]: every frame is accounted for. What is free after all caches were given back is
//!    counted before and after.
//! 2. [`Wrong`]: what handlers and workers find wrong is counted, since they must not panic while
//!    others wait for them; the test looks at the end.

use super::disturb::{self, Quiet};
use super::threads::on_all_cpus;
use crate::arch::{percpu, time, traps};
use crate::controls::{Control, broken};
use crate::memory::mm;
use crate::platform::Machine;
use crate::sched;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use gfp::Mm;
use gfp::flags::{GFP_KERNEL, ZoneKind};
use gfp::frame::{PAGE_SIZE, Pfn, PhysAddr};
use gfp::page::ZoneStats;

/// What was free, and how often memory was misused, when a test began.
#[must_use]
pub(super) struct Ledger {
    free: usize,
    misuses: usize,
}

impl Ledger {
    /// Opens the books. What CPUs keep for ever from their first use on is made before.
    pub(super) fn open() -> Ledger {
        on_all_cpus(|_| {
            for size in [8, 64, 512, 4096] {
                drop(kmalloc(size));
            }
            if let Ok(area) = mm().vmalloc(PAGE_SIZE) {
                // SAFETY: freed once.
                unsafe { mm().vfree(area.as_ptr()) }
            }
        });
        Wrong::forget();
        Ledger {
            free: settled_pages(),
            misuses: mm().pages().misuses(),
        }
    }

    /// Closes them: each frame is free again that was free before, nothing was found wrong, and all
    /// invariants hold.
    ///
    /// # Panics
    /// If not.
    pub(super) fn close(self) {
        if broken(Control::Leak) {
            let _ = mm().alloc_pages(GFP_KERNEL, 0);
        }
        hooks_off();
        Wrong::none();
        assert_eq!(settled_pages(), self.free, "free pages after and before");
        let _quiet = disturb::quiet();
        assert_eq!(mm().pages().misuses(), self.misuses, "misuse was reported");
        mm().verify().expect("all invariants hold");
    }

    /// [`Ledger::close`] after the machine got so many pages more.
    pub(super) fn close_with(mut self, pages: usize) {
        self.free += pages;
        self.close();
    }

    /// [`Ledger::close`] after exactly so many reports of misuse.
    pub(super) fn close_after(mut self, misuses: usize) {
        let now = mm().pages().misuses();
        assert_eq!(now - self.misuses, misuses, "reports of misuse");
        self.misuses = now;
        self.close();
    }
}

/// Free pages when nobody has any at hand, and those that are kept for ever: page tables and
/// descriptors of areas, slots of pages on lists. Counted until the count stays: what one round
/// gives back may empty what the next looks at.
fn settled_pages() -> usize {
    const ROUNDS: usize = 20;
    let mut count = count_settled();
    for _ in 0..ROUNDS {
        let before = count;
        count = count_settled();
        if count == before {
            break;
        }
    }
    count
}

fn count_settled() -> usize {
    sched::wait_for_reaper();
    let _quiet = settle();
    let areas = mm().vmalloc_space().vmalloc_counters();
    let slots = mm().slabs().reclaim().lru_table_pages();
    mm().pages().free_page_count() + areas.table_pages + areas.pool_pages + slots
}

/// Takes the handlers of the test away. When it returns, none is under way: a task has run on each
/// CPU.
pub(super) fn hooks_off() {
    traps::ON_TIMER.set(None);
    traps::ON_NMI.set(None);
    on_all_cpus(|_| ());
}

/// Gives back what all CPUs have at hand. Handlers hold nothing until the result is dropped.
pub(super) fn settle() -> Quiet {
    let quiet = disturb::quiet();
    // Freed areas keep their addresses until all CPUs forgot them.
    let _ = mm().vmalloc_space().vm_unmap_aliases();
    mm().trim();
    quiet
}

/// An object from kmalloc that frees itself.
pub(super) struct Object(core::ptr::NonNull<u8>);

/// `size` bytes with `GFP_KERNEL`.
///
/// # Panics
/// If there are none.
pub(super) fn kmalloc(size: usize) -> Object {
    Object(mm().kmalloc(size, GFP_KERNEL).expect("memory is there"))
}

impl Object {
    /// Where it is.
    pub(super) fn ptr(&self) -> *mut u8 {
        self.0.as_ptr()
    }

    /// The same, for a call that frees it.
    pub(super) fn into_ptr(self) -> *mut u8 {
        core::mem::ManuallyDrop::new(self).ptr()
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        // SAFETY: ours, freed once.
        unsafe { mm().kfree(self.ptr()) }
    }
}

/// The physical address behind a pointer to the direct map.
pub(super) fn phys(at: *const u8) -> PhysAddr {
    mm().pages().direct_map().phys(at.addr())
}

/// True if all bytes are `byte`.
///
/// # Safety
/// `len` bytes from `at` on can be read.
pub(super) unsafe fn all_bytes(at: *const u8, len: usize, byte: u8) -> bool {
    // SAFETY: promised by the caller.
    unsafe { core::slice::from_raw_parts(at, len) }
        .iter()
        .all(|b| *b == byte)
}

/// Free and managed pages of all zones of one kind.
pub(super) fn zones() -> impl Iterator<Item = ZoneStats> {
    mm().pages().zone_stats()
}

/// The kind of the zone that a frame lies in.
///
/// # Panics
/// If it lies in none.
pub(super) fn kind_of(pfn: Pfn) -> ZoneKind {
    let mut zones = mm().pages().zone_frames();
    let zone = zones.find(|(_, frames)| frames.contains(&pfn));
    zone.expect("each frame has a zone").0
}

/// Frees pages that a test took.
pub(super) fn free_all(pages: &[Pfn], order: u8) {
    for pfn in pages {
        // SAFETY: the tests free each once.
        unsafe { mm().free_frames(*pfn, order) }
    }
}

/// Bytes of 2^order pages.
pub(super) const fn bytes(order: u8) -> usize {
    PAGE_SIZE << order
}

/// The clock when what a test waits for is taken to never come: long, since a busy host lets an
/// emulator's CPU stand still for seconds, but less than the limit of a test.
pub(super) fn patience() -> u64 {
    time::now_ns() + 100_000_000_000
}

/// What was found wrong where nobody may panic.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
#[repr(usize)]
pub(super) enum Wrong {
    /// Memory does not hold what its owner wrote.
    Content,
    /// A frame was given to two owners.
    GivenTwice,
    /// A frame is freed by who does not own it.
    NotOwned,
    /// Memory that must be there was refused.
    Refused,
    /// A section was found under an interrupt.
    InSection,
    /// Something else; the test says what.
    Other,
}

static WRONG: [AtomicUsize; 6] = [const { AtomicUsize::new(0) }; 6];

impl Wrong {
    const ALL: [Wrong; 6] = [
        Wrong::Content,
        Wrong::GivenTwice,
        Wrong::NotOwned,
        Wrong::Refused,
        Wrong::InSection,
        Wrong::Other,
    ];

    /// Counts one.
    pub(super) fn count(self) {
        WRONG[self as usize].fetch_add(1, Relaxed);
    }

    /// Counts one unless `holds`.
    pub(super) fn unless(self, holds: bool) {
        if !holds {
            self.count();
        }
    }

    fn forget() {
        WRONG.iter().for_each(|n| n.store(0, Relaxed));
    }

    /// # Panics
    /// If anything was counted.
    pub(super) fn none() {
        for wrong in Wrong::ALL {
            let n = WRONG[wrong as usize].load(Relaxed);
            assert_eq!(n, 0, "{wrong:?}, so many times");
        }
    }
}

/// Says that this machine lacks what a test needs. The harness of the virtual machines starts one
/// that has it all, and takes this line there for a failure.
pub(super) fn machine_has(what: &str, has: bool) -> bool {
    if !has {
        crate::println!("    needs {what}: this machine has none");
    }
    has
}

/// The machine.
pub(super) fn platform() -> &'static Machine {
    Mm::platform(mm())
}

/// CPUs that run.
pub(super) fn cpus() -> u32 {
    percpu::all().count() as u32
}

/// The numbers of a generator, one after the other (splitmix64).
pub(super) struct Random(pub(super) u64);

impl Random {
    /// The next.
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// The next, below `end`.
    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}
