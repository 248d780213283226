//! The one seam: what a machine must offer.
//!
//! 1. [`Platform`] is all that a machine must have: where memory is seen, which CPU this is and how
//!    to keep others off its private state, what context this is, a clock, a way to wait.
//! 2. Capabilities are traits of their own: [`Paging`] for `vmalloc`, [`Sleep`] for tasks that
//!    wait, [`UserMemory`] for copies from user space, [`Grace`] for grace periods that the machine
//!    has anyway. A machine without one loses just those calls, at compile time; without `Grace`
//!    the library counts readers itself.
//! 3. [`TaskWord`] is what a platform keeps for each task: scopes and rights.
//! 4. [`SingleCore`] is a complete platform for one CPU, good enough to boot with.

use crate::frame::{CpuId, NodeId, Pfn, PhysAddr};
use crate::report::{AllocFailure, AllocStall, Report};
use crate::sync::stock::{At, Put, Shelf, Shelves};
use core::ptr::NonNull;

pub use crate::policy::context::Context;
use crate::policy::reclaim::manual::DropCaches;

mod grace;
mod lock_class;
mod scope;
#[cfg(not(loom))]
mod single;
mod sleep;
mod task;
mod user;

pub use grace::Grace;
pub(crate) use lock_class::FsReclaimPass;
pub use lock_class::{FsReclaim, HeldClass, LockClass, ReclaimCycle};
pub(crate) use scope::task_of;
pub use scope::{ScopeError, ScopeGuard, Snapshot};
#[cfg(not(loom))]
pub use single::{SingleCore, SingleSection};
pub use sleep::{Sleep, Wake};
pub(crate) use task::task_in;
pub use task::{Fact, HELD_CLASSES, Reason, TaskWord, ThisTask, caller_of, now_of};
pub use user::{UserAddr, UserMemory};

/// This CPU is already inside the allocator: the caller is an interrupt or a signal handler that
/// came in the middle of an operation. It must do without private caches and without locks.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct Nested;

/// Where physical memory is seen: byte `phys` of RAM stands at `base + phys`.
#[derive(Copy, Clone, Debug)]
pub struct DirectMap {
    base: *mut u8,
}

// SAFETY: only an address; what is behind it is governed by who owns the frame.
unsafe impl Send for DirectMap {}
// SAFETY: as above.
unsafe impl Sync for DirectMap {}

impl DirectMap {
    /// `ram` is where the byte at physical address `phys` is seen.
    pub fn new(ram: *mut u8, phys: PhysAddr) -> DirectMap {
        DirectMap {
            base: ram.wrapping_sub(phys.0 as usize),
        }
    }

    /// Where a physical address is seen. Meaningful for addresses of RAM only.
    #[inline]
    pub fn ptr(self, phys: PhysAddr) -> *mut u8 {
        self.base.wrapping_add(phys.0 as usize)
    }

    /// The physical address that a direct-map address shows; of other addresses, nonsense that no
    /// frame table contains.
    #[inline]
    pub fn phys(self, addr: usize) -> PhysAddr {
        PhysAddr(addr.wrapping_sub(self.base.addr()) as u64)
    }
}

/// A machine: the one thing that a kernel, a process or a simulator must provide.
///
/// # Safety
/// The implementor promises, for as long as the value lives:
/// 1. RAM that the memory map calls usable can be read and written through
///    [`Platform::direct_map`], and nobody else uses it.
/// 2. [INV-PCPU-1] For each CPU at most one `Section` exists at any time, over [`Platform::enter`]
///    and [`Platform::enter_remote`] together; what was written in one section is visible in the
///    next (release on leaving, acquire on entering).
/// 3. The CPU ids given are below [`Platform::nr_cpus`].
/// 4. The thread that entered stays the only one to use its `Section`.
pub unsafe trait Platform: Sync + Sized {
    /// Keeps everyone else off one CPU's private state until it is dropped: interrupts off, or a
    /// thread's busy flag.
    type Section<'a>
    where
        Self: 'a;

    /// Where RAM is seen.
    fn direct_map(&self) -> DirectMap;

    /// How many CPU ids there can be; each may come to own private caches.
    fn nr_cpus(&self) -> u32;

    /// How many CPUs really run at once: for the sizes of caches.
    fn nr_cpus_running(&self) -> u32 {
        self.nr_cpus()
    }

    /// How many tasks can work at once: as many as CPUs run, or as there are tasks, if the platform
    /// knows of fewer. If so many reclaim, nobody does anything else: `full` of memory stalls.
    /// Asked when a task begins or ends to reclaim.
    fn nr_tasks_at_once(&self) -> u32 {
        self.nr_cpus_running()
    }

    /// Which CPU this is, and the right to its private state.
    ///
    /// # Errors
    /// [`Nested`] if this CPU is inside already.
    fn enter(&self) -> Result<(CpuId, Self::Section<'_>), Nested>;

    /// [`Platform::enter`] where that takes a few plain instructions and no call: what fast paths
    /// ask first. `None` means no more than that [`Platform::enter`] must be asked. It waits for
    /// nobody, so that NMIs and holders of locks may ask: where `enter` may wait, this is not it.
    #[inline(always)]
    fn enter_quick(&self) -> Option<(CpuId, Self::Section<'_>)> {
        self.enter().ok()
    }

    /// Takes the newest number of a stock of this CPU, and counts it
    /// ([`sync::stock`](crate::sync::stock)).
    /// `None` means no more than that a section is to be asked for, and the stock looked at there.
    ///
    /// Here it is a section with [`Shelves::take`] in it. A machine that has restartable sequences,
    /// or another way to keep everybody off for a few instructions, does the same without one.
    ///
    /// # Safety
    /// [INV-PCPU-4] `shelves` were made for this platform, and `at` is that of a stock.
    #[inline(always)]
    unsafe fn take_at_hand(&self, shelves: &Shelves, at: At) -> Option<u32> {
        let (cpu, section) = self.enter_quick()?;
        // SAFETY: [INV-PCPU-1] this is the section of that CPU; else promised by the caller.
        let taken = unsafe { shelves.take(cpu, at) };
        Self::leave(section);
        taken
    }

    /// A CPU has a shelf from now on, for as long as the machine lives. Called inside a section of
    /// that CPU, once for each.
    fn has_shelf(&self, cpu: CpuId, shelf: *mut Shelf) {
        let _ = (cpu, shelf);
    }

    /// Puts a number to the stock of this CPU that is usual for it, counted, and then writes its
    /// word, before anybody can find it there; as [`Platform::take_at_hand`]. False, and the word
    /// is what it was, if that is not usual or there is no room.
    ///
    /// # Safety
    /// [INV-PCPU-4] `shelves` were made for this platform. The word is the caller's.
    #[inline(always)]
    unsafe fn put_at_hand(&self, shelves: &Shelves, put: Put<'_>) -> bool {
        let Some((cpu, section)) = self.enter_quick() else {
            return false;
        };
        // SAFETY: as there.
        let done = unsafe { shelves.put(cpu, put) };
        Self::leave(section);
        done
    }

    /// Ends a section, as dropping it does. Fast paths call it, because glue that drops a value may
    /// be left out of line by the compiler: a platform whose section ends in a few instructions
    /// says them here, `#[inline(always)]`, as well as in `Drop`.
    #[inline(always)]
    fn leave(section: Self::Section<'_>) {
        drop(section);
    }

    /// Takes the place of another CPU: returns when it is outside, and keeps it out until the
    /// section is dropped. The caller must hold no section and no lock. `None`: this machine
    /// cannot, or that CPU id was never used.
    ///
    /// A machine of several CPUs that cannot works, with these limits:
    /// * What another CPU has cached stays there: a drain, a shrink, and a request that is about to
    ///   fail take back only what the caller's own CPU and the zones have.
    /// * `kmem_cache_destroy` answers
    ///   [`CpuBusy`](crate::slab::CacheError::CpuBusy) and changes nothing once another CPU has its
    ///   table of sheaves, which it makes with its first object that is not at hand.
    /// * A CPU that has no such table yet is not waited for. So a cache must not be destroyed while
    ///   another CPU may be inside a call for that cache before it has one: the call would use the
    ///   cache's memory after it was freed. Of a machine that implements this method every CPU is
    ///   waited for.
    fn enter_remote(&self, cpu: CpuId) -> Option<Self::Section<'_>> {
        let _ = cpu;
        None
    }

    /// The node whose memory is nearest to this CPU.
    fn node(&self) -> NodeId {
        NodeId(0)
    }

    /// The context of the caller.
    fn context(&self) -> Context {
        Context::Task
    }

    /// What is true of the running task: its scopes, and its rights. In a hard interrupt and an NMI
    /// nobody asks; in a softirq it is the softirq's own, if it has one (P152). Must not allocate.
    ///
    /// `None`: this machine keeps nothing of the kind, so no scope can be opened.
    fn this_task(&self) -> Option<ThisTask<'_>> {
        None
    }

    /// Nanoseconds of a clock that never goes back.
    fn now_ns(&self) -> u64;

    /// Waits a little for another CPU; `spins` counts the calls in this wait.
    fn relax(&self, spins: u32);

    /// The capability to let tasks sleep, if this machine has it.
    fn sleep(&self) -> Option<&dyn Sleep> {
        None
    }

    /// The machine's own grace periods, if it has them; without, the library counts readers. Always
    /// the same answer.
    fn grace(&self) -> Option<&dyn Grace> {
        None
    }

    /// Called where another CPU may come in between in a way that matters: before a lock is taken,
    /// and when it has been. Nothing on a real machine, where others come in anywhere; a simulator
    /// decides here who goes on.
    #[inline(always)]
    fn step(&self) {}

    /// Says what went wrong: a double or wild free, a corrupted structure. Must not allocate.
    fn report(&self, report: &Report<'_>) {
        let _ = report;
    }

    /// P600: a request ended without memory, and had not asked for silence; at most one call in
    /// 10 s. Context: that of the request, which may be an interrupt. Must not allocate.
    fn report_failure(&self, failure: &AllocFailure<'_>) {
        let _ = failure;
    }

    /// P117: a request has tried for more than 10 s and goes on; at most one call in 10 s. Context:
    /// a task. Must not allocate.
    fn report_stall(&self, stall: &AllocStall) {
        let _ = stall;
    }

    /// P155: what happens to the virtual lock "fs reclaim", for a machine with a lock checker. In
    /// debug builds each request that may reclaim into file systems takes it and gives it back at
    /// once; in any build a real pass of such reclaim holds it. Context: a task, or a softirq. Must
    /// not allocate.
    #[inline(always)]
    fn fs_reclaim(&self, what: FsReclaim) {
        let _ = what;
    }

    /// P417: somebody has dropped caches, by order; an administrator may want to know that, as it
    /// makes everything slow for a while. Context: a task.
    fn report_drop_caches(&self, what: DropCaches) {
        let _ = what;
    }

    /// True if the byte at this address is only ever read, and stays as long as the machine:
    /// constants of the program. [`Mm::kstrdup_const`](crate::Mm::kstrdup_const) copies no such
    /// string. The answer for an address must always be the same.
    fn is_read_only(&self, addr: usize) -> bool {
        let _ = addr;
        false
    }

    /// Free page reporting: the content of these frames, all free, is not needed until they are
    /// allocated again. True if they read as zero from now on.
    fn discard(&self, first: Pfn, pages: usize) -> bool {
        let _ = (first, pages);
        false
    }
}

/// A run of frames that follow each other.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub struct FrameRun {
    /// First frame.
    pub first: Pfn,
    /// Number of frames, at least 1.
    pub pages: usize,
}

/// Why a mapping could not be made.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum MapError {
    /// No memory for page tables, or the operating system refused.
    NoMemory,
}

/// What the holder of a mapping may do.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Protection {
    /// Read only.
    Read,
    /// Read and write, never execute.
    ReadWrite,
}

/// The capability to map frames at chosen virtual addresses: what `vmalloc` needs.
///
/// # Safety
/// The implementor promises that the range of [`Paging::vmalloc_range`] is used by nobody
/// else, that a mapped page is readable (and writable, as asked) memory of its own until it is
/// unmapped, and that a page of the range that is not mapped faults.
pub unsafe trait Paging: Platform {
    /// The virtual addresses that `vmalloc` may use: start (page aligned) and length in bytes.
    fn vmalloc_range(&self) -> (NonNull<u8>, usize);

    /// Maps `runs` one after the other from `at` on; the answer says what the pages contain.
    /// `table` gives a zeroed frame for a page table.
    ///
    /// # Errors
    /// [`MapError`]; nothing is mapped then.
    ///
    /// # Safety
    /// `at` and the pages after it must be inside the vmalloc range, owned by the caller, not
    /// mapped; the frames must be owned by the caller.
    unsafe fn map(
        &self,
        at: NonNull<u8>,
        runs: &mut dyn Iterator<Item = FrameRun>,
        protection: Protection,
        table: &mut dyn FnMut() -> Option<Pfn>,
    ) -> Result<Mapped, MapError>;

    /// Takes `pages` pages from `at` on out of the mapping. They fault after [`Paging::flush`],
    /// perhaps before.
    ///
    /// The frames may have another owner before the flush, as in Linux: a CPU that remembers the
    /// mapping reaches them through it until then. Only who uses an area after its free does that.
    ///
    /// # Safety
    /// The pages must be mapped by [`Paging::map`] and used by nobody any more.
    unsafe fn unmap(&self, at: NonNull<u8>, pages: usize);

    /// Makes sure that no CPU remembers a mapping of these pages.
    fn flush(&self, at: NonNull<u8>, pages: usize);

    /// [`Paging::flush`] of all these ranges, each its start and pages: `ranges` is to be taken to
    /// its end. A machine that must ask other CPUs to forget does well to ask once for all of them.
    ///
    /// Context: task. Each step of `ranges` enters the allocator: take it outside of sections, and
    /// with no lock held that [`Platform::enter`] or an interrupt handler wants.
    fn flush_ranges(&self, ranges: &mut dyn Iterator<Item = (NonNull<u8>, usize)>) {
        ranges.for_each(|(at, pages)| self.flush(at, pages));
    }

    /// True if [`Paging::unmap`] itself makes all CPUs forget: then nothing is ever asked to be
    /// flushed.
    fn unmap_flushes(&self) -> bool {
        false
    }

    /// True if a mapped page shows the very frame, so that the direct
    /// map sees the same bytes; false if the frame only stands for memory of its own.
    fn aliases_frames(&self) -> bool {
        true
    }
}

/// What a new mapping contains.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Mapped {
    /// What the frames contained.
    Content,
    /// Zeroes.
    Zeroed,
}
