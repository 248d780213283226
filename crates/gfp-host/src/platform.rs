//! The process as a machine.

use crate::cpus::Cpus;
use crate::ram::{FailureReports, HostConfig, HostError, Ram};
use crate::slots::{self, Section};
use crate::sys;
use crate::text::StandardError;
use core::fmt::{self, Write};
use core::ops::Deref;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, Ordering};
use gfp::Mm;
use gfp::frame::{CpuId, MAX_NODES, NodeId, Pfn, PhysAddr};
use gfp::page::{MemoryRegion, RegionKind};
use gfp::platform::{Context, DirectMap, Nested, Platform, Sleep, ThisTask};
use gfp::report::{AllocFailure, Report};
use gfp::stat::{MemFilter, show_mem};

/// A machine whose RAM is memory of this process and whose CPUs are its threads.
#[derive(Debug)]
pub struct HostPlatform {
    cpus: Cpus,
    ram: Ram,
    map: DirectMap,
    nr_cpus_running: u32,
    /// [INV-HOST-9] Null, or the machine that this is the platform of, which stays where it is.
    machine: AtomicPtr<Mm<HostPlatform>>,
}

impl HostPlatform {
    /// Reserves the addresses of a machine. Commits no memory.
    ///
    /// # Errors
    /// [`HostError`]: the configuration is impossible, or the operating system refuses.
    pub fn new(config: &HostConfig) -> Result<HostPlatform, HostError> {
        let cpus = Cpus::new(config.chosen_per_cpu())?;
        let ram = Ram::new(config)?;
        let map = DirectMap::new(ram.start().as_ptr(), ram.phys_base());
        Ok(HostPlatform {
            cpus,
            ram,
            map,
            nr_cpus_running: sys::nr_cpus_allowed(),
            machine: AtomicPtr::new(null_mut()),
        })
    }

    /// This is the platform of `machine`: reports show its memory from now on.
    ///
    /// # Safety
    /// [INV-HOST-9] It is, and the machine stays where it is until it is dropped.
    pub(crate) unsafe fn belongs_to(&self, machine: &Mm<HostPlatform>) {
        let machine = core::ptr::from_ref(machine).cast_mut();
        // Release: pairs with the Acquire in `report_failure`.
        self.machine.store(machine, Ordering::Release);
    }

    /// Bytes of RAM.
    pub fn size(&self) -> usize {
        self.ram.size()
    }

    /// The memory map to boot with: one usable region for each node with memory.
    pub fn memory_map(&self) -> MemoryMap {
        let mut map = MemoryMap {
            regions: [NO_REGION; MAX_NODES],
            used: 0,
        };
        for (node, start, end) in self.ram.nodes() {
            map.regions[map.used] = MemoryRegion {
                start,
                end,
                node,
                kind: RegionKind::Usable,
            };
            map.used += 1;
        }
        debug_assert_ne!(map.used, 0);
        map
    }

    pub(crate) fn ram(&self) -> &Ram {
        &self.ram
    }
}

const NO_REGION: MemoryRegion = MemoryRegion {
    start: PhysAddr(0),
    end: PhysAddr(0),
    node: NodeId(0),
    kind: RegionKind::Reserved,
};

/// What [`HostPlatform::memory_map`] answers: a slice of regions.
#[derive(Copy, Clone, Debug)]
pub struct MemoryMap {
    regions: [MemoryRegion; MAX_NODES],
    used: usize,
}

impl Deref for MemoryMap {
    type Target = [MemoryRegion];

    fn deref(&self) -> &[MemoryRegion] {
        &self.regions[..self.used]
    }
}

// SAFETY: (1) [INV-HOST-1] RAM is mapped at `map` and the machine's own until the drop; (2) the
// protocol of `slots/protocol.rs`, or of `slots/place.rs`, by one registry for the process, so also
// for this machine, which has ids of one kind only; (3) `Cpus::count` is one more than the guest's,
// which is the last; (4) `Section` is not `Send`.
unsafe impl Platform for HostPlatform {
    type Section<'a> = Section<'static>;

    #[inline]
    fn direct_map(&self) -> DirectMap {
        self.map
    }

    fn nr_cpus(&self) -> u32 {
        self.cpus.count()
    }

    fn nr_cpus_running(&self) -> u32 {
        self.nr_cpus_running
    }

    /// A thread that has used no machine of this process is not known.
    fn nr_tasks_at_once(&self) -> u32 {
        self.nr_cpus_running.min(slots::owners())
    }

    #[inline(always)]
    fn enter(&self) -> Result<(CpuId, Section<'static>), Nested> {
        self.cpus.enter()
    }

    #[inline(always)]
    fn enter_quick(&self) -> Option<(CpuId, Section<'static>)> {
        self.cpus.enter_quick()
    }

    fn enter_remote(&self, cpu: CpuId) -> Option<Section<'static>> {
        self.cpus.enter_remote(cpu)
    }

    /// [`Context::Nmi`] if the thread is inside a section, which only a signal handler (or the
    /// section itself) can find.
    fn context(&self) -> Context {
        if slots::is_inside() {
            Context::Nmi
        } else {
            Context::Task
        }
    }

    fn this_task(&self) -> Option<ThisTask<'_>> {
        Some(slots::this_task())
    }

    fn now_ns(&self) -> u64 {
        let mut now = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // SAFETY: `now` is a place for the answer. The call cannot fail with this clock.
        let done = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
        debug_assert_eq!(done, 0);
        now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
    }

    fn relax(&self, spins: u32) {
        sys::relax(spins);
    }

    fn sleep(&self) -> Option<&dyn Sleep> {
        Some(self)
    }

    /// One line on standard error, cut at 512 bytes.
    fn report(&self, report: &Report<'_>) {
        let mut line = Line {
            bytes: [0; LINE_BYTES],
            used: 0,
        };
        let _ = write!(line, "{report}"); // fails when the line is full
        line.bytes[line.used] = b'\n';
        sys::write(libc::STDERR_FILENO, &line.bytes[..=line.used]);
    }

    /// On standard error, if the machine was built to
    /// ([`HostConfig::failure_reports`]).
    fn report_failure(&self, failure: &AllocFailure<'_>) {
        if self.ram.failure_reports() == FailureReports::Silent {
            return;
        }
        let mut name = [0; sys::THREAD_NAME_BYTES];
        let mut out = StandardError::new();
        let _ = write!(out, "{}", failure.by(sys::thread_name(&mut name))); // cannot fail
        // Acquire: pairs with the Release in `belongs_to`.
        let machine = self.machine.load(Ordering::Acquire);
        // SAFETY: [INV-HOST-9] it stays where it is, and lives as long as its platform.
        if let Some(machine) = unsafe { machine.as_ref() } {
            let filter = MemFilter {
                highest: failure.shortages.highest(),
                ..MemFilter::ALL
            };
            let _ = show_mem(machine, &filter, &mut out); // as above
        }
    }

    fn is_read_only(&self, addr: usize) -> bool {
        crate::user::in_constants(addr)
    }

    fn discard(&self, first: Pfn, pages: usize) -> bool {
        let Some(bytes) = pages.checked_mul(gfp::frame::PAGE_SIZE) else {
            return false;
        };
        let Some(offset) = self.ram.offset(first.phys(), bytes) else {
            return false;
        };
        // SAFETY: the library says that the frames are free.
        unsafe { self.ram.forget(offset, bytes) }
    }
}

const LINE_BYTES: usize = 512;

struct Line {
    bytes: [u8; LINE_BYTES],
    used: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = LINE_BYTES - 1 - self.used; // one byte for the end of the line
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
