//! The platform of a machine with one CPU.

use super::{DirectMap, Nested, Platform, TaskWord, ThisTask};
use crate::frame::CpuId;
use crate::report::Report;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// One CPU, a direct map, and nothing else: enough to boot with.
///
/// An interrupt handler may call the allocator: if it came in the middle of an operation it is told
/// so and its allocation fails, its free is put off.
pub struct SingleCore {
    map: DirectMap,
    inside: AtomicBool,
    ticks: AtomicU64,
    /// There is one flow of control, so one task.
    task: TaskWord,
    report: Option<fn(&Report<'_>)>,
}

impl SingleCore {
    /// # Safety
    /// All usable memory of the map given to [`Mm::boot`](crate::Mm::boot) must be readable and
    /// writable through `map`, used by nobody else, for as long as the platform lives; and one CPU
    /// at a time may call the allocator.
    pub const unsafe fn new(map: DirectMap) -> SingleCore {
        SingleCore {
            map,
            inside: AtomicBool::new(false),
            ticks: AtomicU64::new(0),
            task: TaskWord::new(),
            report: None,
        }
    }

    /// Hands reports to `f`.
    #[must_use]
    pub const fn with_report(mut self, f: fn(&Report<'_>)) -> SingleCore {
        self.report = Some(f);
        self
    }

    /// A platform with no memory behind it, for tests of what needs none.
    #[cfg(test)]
    pub(crate) fn for_test() -> SingleCore {
        let map = DirectMap::new(core::ptr::null_mut(), crate::frame::PhysAddr(0));
        // SAFETY: no memory map is ever given to this platform.
        unsafe { SingleCore::new(map) }
    }
}

/// Leaves the allocator when dropped.
pub struct SingleSection<'a>(&'a AtomicBool);

impl Drop for SingleSection<'_> {
    #[inline]
    fn drop(&mut self) {
        // Release: pairs with the Acquire in `enter`.
        self.0.store(false, Ordering::Release);
    }
}

// SAFETY: (1) and the single CPU are promised by the caller of `new`; (2) `inside` is true exactly
// while the one section exists: with one CPU no other can read it between the load and the store,
// and an interrupt between them leaves it as it was; (3) the only id is 0.
unsafe impl Platform for SingleCore {
    type Section<'a> = SingleSection<'a>;

    #[inline]
    fn direct_map(&self) -> DirectMap {
        self.map
    }

    fn nr_cpus(&self) -> u32 {
        1
    }

    #[inline]
    fn enter(&self) -> Result<(CpuId, SingleSection<'_>), Nested> {
        // Acquire: pairs with the Release in `SingleSection::drop`.
        if self.inside.load(Ordering::Acquire) {
            return Err(Nested);
        }
        self.inside.store(true, Ordering::Relaxed);
        // Nothing of the section may be moved before the store: an interrupt there would not see
        // it. Only the compiler could; on one CPU an interrupt sees memory in program order.
        core::sync::atomic::compiler_fence(Ordering::SeqCst);
        Ok((CpuId(0), SingleSection(&self.inside)))
    }

    fn this_task(&self) -> Option<ThisTask<'_>> {
        // SAFETY: [INV-TASK-1] one CPU at a time calls, as promised to `new`: there is one task.
        Some(unsafe { ThisTask::new(&self.task) })
    }

    /// Counts its own calls: without a clock, time is what passes between them.
    fn now_ns(&self) -> u64 {
        self.ticks.fetch_add(1, Ordering::Relaxed)
    }

    fn relax(&self, _spins: u32) {
        core::hint::spin_loop();
    }

    fn report(&self, report: &Report<'_>) {
        if let Some(f) = self.report {
            f(report);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nested_entry_is_told_so() {
        let platform = SingleCore::for_test();
        let outer = platform.enter().unwrap();
        assert!(platform.enter().is_err());
        drop(outer);
        assert!(platform.enter().is_ok());
    }
}
