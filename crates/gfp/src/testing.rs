//! A machine for unit tests: RAM from the heap, CPUs that the test switches by hand.

use crate::frame::{CpuId, MAX_PAGE_ORDER, NodeId, PAGE_SIZE, Pfn, PhysAddr};
use crate::page::{BootConfig, MemoryRegion, PageAllocator, RegionKind};
use crate::platform::{
    Context, DirectMap, FsReclaim, Grace, Nested, Platform, Sleep, TaskWord, ThisTask, UserAddr,
    UserMemory, Wake,
};
use crate::policy::reclaim::manual::DropCaches;
use crate::report::{AllocFailure, AllocStall, Report};
use core::ptr::NonNull;
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::boxed::Box;
use std::string::{String, ToString};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::vec::Vec;

/// CPUs of a [`TestPlatform`].
pub(crate) const CPUS: usize = 4;

/// RAM from the heap; one thread plays all CPUs in turn.
pub(crate) struct TestPlatform {
    ram: *mut u8,
    layout: Layout,
    map: DirectMap,
    /// The CPU that the test plays now.
    pub(crate) cpu: AtomicU32,
    /// Fails every [`Platform::enter`]: the test plays an interrupt in the middle of an operation.
    pub(crate) nested: AtomicBool,
    /// The node that every CPU is nearest to.
    pub(crate) near: AtomicU8,
    inside: [AtomicBool; CPUS],
    /// Each CPU runs one task.
    pub(crate) tasks: [TaskWord; CPUS],
    /// What the test plays: index in [`Context::ALL`].
    context: AtomicU8,
    pub(crate) reports: Mutex<Vec<String>>,
    pub(crate) discarded: AtomicUsize,
    /// While true a discard leaves other bytes than zero, and says so.
    pub(crate) spoils: AtomicBool,
    /// While true a discard takes its time; whoever waits ([`Platform::relax`]) ends that.
    pub(crate) slow_discard: AtomicBool,
    /// True once a discard has begun.
    pub(crate) discarding: AtomicBool,
    /// Runs once, when somebody waits: what another CPU would do meanwhile.
    pub(crate) on_relax: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    /// As `on_relax`, before or after somebody takes a lock ([`Platform::step`]).
    pub(crate) on_step: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    /// What [`Platform::report_failure`] and [`Platform::report_stall`] were told, as text.
    pub(crate) failures: Mutex<Vec<String>>,
    /// What happens while a task sleeps, until the deadline or for ever; `None`: tasks cannot.
    pub(crate) on_sleep: Mutex<Option<OnSleep>>,
    /// Addresses of what is only ever read.
    pub(crate) read_only: Mutex<core::ops::Range<usize>>,
    ticks: AtomicU64,
    /// How often the virtual lock "fs reclaim" is held now, and how often it was taken.
    pub(crate) fs_reclaim: (AtomicUsize, AtomicUsize),
    /// While true the machine has grace periods of its own.
    pub(crate) has_grace: AtomicBool,
    /// The moments at which those readers began that run; the moment.
    pub(crate) readers: Mutex<Vec<u64>>,
    moment: AtomicU64,
}

/// See [`TestPlatform::on_sleep`].
pub(crate) type OnSleep = Box<dyn FnMut(&TestPlatform, Option<u64>) + Send>;

// SAFETY: the pointer is only the address of RAM, which the allocator under test governs.
unsafe impl Sync for TestPlatform {}
// SAFETY: as above.
unsafe impl Send for TestPlatform {}

impl TestPlatform {
    /// `bytes` of RAM that are seen at physical address `phys`, a multiple of 4 MiB.
    pub(crate) fn new(phys: u64, bytes: usize) -> TestPlatform {
        let layout = Layout::from_size_align(bytes, PAGE_SIZE << MAX_PAGE_ORDER).unwrap();
        // SAFETY: the size is not zero.
        let ram = unsafe { alloc_zeroed(layout) };
        assert!(!ram.is_null());
        TestPlatform {
            ram,
            layout,
            map: DirectMap::new(ram, PhysAddr(phys)),
            cpu: AtomicU32::new(0),
            nested: AtomicBool::new(false),
            near: AtomicU8::new(0),
            inside: Default::default(),
            tasks: Default::default(),
            context: AtomicU8::new(0),
            reports: Mutex::default(),
            discarded: AtomicUsize::new(0),
            spoils: AtomicBool::new(false),
            slow_discard: AtomicBool::new(false),
            discarding: AtomicBool::new(false),
            on_relax: Mutex::new(None),
            on_step: Mutex::new(None),
            failures: Mutex::default(),
            on_sleep: Mutex::new(None),
            read_only: Mutex::new(0..0),
            ticks: AtomicU64::new(0),
            fs_reclaim: Default::default(),
            has_grace: AtomicBool::new(false),
            readers: Mutex::default(),
            moment: AtomicU64::new(1),
        }
    }

    /// Plays another CPU from now on.
    pub(crate) fn on(&self, cpu: u32) {
        assert!((cpu as usize) < CPUS);
        self.cpu.store(cpu, Ordering::Relaxed);
    }

    /// Plays this context from now on.
    pub(crate) fn play(&self, context: Context) {
        let index = Context::ALL.iter().position(|c| *c == context).unwrap();
        self.context.store(index as u8, Ordering::Relaxed);
    }

    /// Lets time pass.
    pub(crate) fn pass_ns(&self, ns: u64) {
        self.ticks.fetch_add(ns, Ordering::Relaxed);
    }

    /// Time passes.
    pub(crate) fn advance(&self, ms: u64) {
        self.ticks.fetch_add(ms * 1_000_000, Ordering::Relaxed);
    }

    /// What was reported so far.
    pub(crate) fn reports(&self) -> Vec<String> {
        self.reports.lock().unwrap().clone()
    }
}

impl Drop for TestPlatform {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout.
        unsafe { dealloc(self.ram, self.layout) };
    }
}

/// Leaves the CPU when dropped.
pub(crate) struct TestSection<'a>(&'a AtomicBool);

impl Drop for TestSection<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

// SAFETY: the buffers of a test stand for user space, all of which is there.
unsafe impl UserMemory for TestPlatform {
    unsafe fn read_user(&self, to: NonNull<u8>, from: UserAddr, n: usize) -> usize {
        let from = core::ptr::with_exposed_provenance::<u8>(from.0);
        // SAFETY: promised by the caller, and by the test.
        unsafe { to.as_ptr().copy_from_nonoverlapping(from, n) };
        0
    }

    unsafe fn write_user(&self, to: UserAddr, from: NonNull<u8>, n: usize) -> usize {
        let to = core::ptr::with_exposed_provenance_mut::<u8>(to.0);
        // SAFETY: promised by the caller, and by the test.
        unsafe { to.copy_from_nonoverlapping(from.as_ptr(), n) };
        0
    }
}

// SAFETY: RAM is ours until drop; `inside` is taken by compare-and-swap, so one section a CPU
// exists.
unsafe impl Platform for TestPlatform {
    type Section<'a> = TestSection<'a>;

    fn direct_map(&self) -> DirectMap {
        self.map
    }

    fn nr_cpus(&self) -> u32 {
        CPUS as u32
    }

    fn enter(&self) -> Result<(CpuId, TestSection<'_>), Nested> {
        let cpu = self.cpu.load(Ordering::Relaxed);
        let inside = &self.inside[cpu as usize];
        if self.nested.load(Ordering::Relaxed) || inside.swap(true, Ordering::Acquire) {
            return Err(Nested);
        }
        Ok((CpuId(cpu), TestSection(inside)))
    }

    fn enter_remote(&self, cpu: CpuId) -> Option<TestSection<'_>> {
        let inside = self.inside.get(cpu.0 as usize)?;
        (!inside.swap(true, Ordering::Acquire)).then(|| TestSection(inside))
    }

    fn node(&self) -> NodeId {
        NodeId(self.near.load(Ordering::Relaxed))
    }

    fn context(&self) -> Context {
        Context::ALL[self.context.load(Ordering::Relaxed) as usize]
    }

    fn this_task(&self) -> Option<ThisTask<'_>> {
        let cpu = self.cpu.load(Ordering::Relaxed) as usize;
        // SAFETY: [INV-TASK-1] one thread plays the CPUs, each with one task.
        Some(unsafe { ThisTask::new(&self.tasks[cpu]) })
    }

    fn now_ns(&self) -> u64 {
        self.ticks.fetch_add(1, Ordering::Relaxed)
    }

    fn relax(&self, spins: u32) {
        let meanwhile = self.on_relax.lock().unwrap().take();
        if let Some(meanwhile) = meanwhile {
            return meanwhile();
        }
        if self.slow_discard.swap(false, Ordering::AcqRel)
            || self.discarding.load(Ordering::Acquire)
        {
            return std::thread::yield_now();
        }
        // Some tests play CPUs with real threads: let them run.
        if spins > 64 {
            std::thread::yield_now();
        }
        assert!(spins < 1 << 20, "a test machine waits for ever");
    }

    fn step(&self) {
        let meanwhile = self.on_step.lock().unwrap().take();
        if let Some(meanwhile) = meanwhile {
            meanwhile();
        }
    }

    fn sleep(&self) -> Option<&dyn Sleep> {
        let sleeps = self.on_sleep.lock().unwrap().is_some();
        sleeps.then_some(self as &dyn Sleep)
    }

    fn grace(&self) -> Option<&dyn Grace> {
        let has = self.has_grace.load(Ordering::Relaxed);
        has.then_some(self as &dyn Grace)
    }

    fn report(&self, report: &Report<'_>) {
        self.reports.lock().unwrap().push(report.to_string());
    }

    fn report_failure(&self, failure: &AllocFailure<'_>) {
        let text = failure.by("test").to_string();
        self.failures.lock().unwrap().push(text);
    }

    fn report_drop_caches(&self, what: DropCaches) {
        self.failures.lock().unwrap().push(what.to_string());
    }

    fn report_stall(&self, stall: &AllocStall) {
        let text = stall.by("test").to_string();
        self.failures.lock().unwrap().push(text);
    }

    fn fs_reclaim(&self, what: FsReclaim) {
        let (held, taken) = &self.fs_reclaim;
        match what {
            FsReclaim::Acquire => {
                assert_eq!(held.fetch_add(1, Ordering::Relaxed), 0, "taken twice");
                taken.fetch_add(1, Ordering::Relaxed);
            }
            FsReclaim::Release => assert_eq!(held.fetch_sub(1, Ordering::Relaxed), 1),
        }
    }

    fn is_read_only(&self, addr: usize) -> bool {
        self.read_only.lock().unwrap().contains(&addr)
    }

    fn discard(&self, first: Pfn, pages: usize) -> bool {
        self.discarding.store(true, Ordering::Release);
        while self.slow_discard.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
        let spoils = self.spoils.load(Ordering::Relaxed);
        let byte = if spoils { 0x5a } else { 0 };
        // SAFETY: the frames are free and lent to us by the caller.
        unsafe { (self.map.ptr(first.phys())).write_bytes(byte, pages * PAGE_SIZE) };
        self.discarded.fetch_add(pages, Ordering::Relaxed);
        self.discarding.store(false, Ordering::Release);
        !spoils
    }
}

impl Sleep for TestPlatform {
    fn wait(&self, _: &AtomicU32, _: u32, deadline_ns: Option<u64>) {
        let on_sleep = self.on_sleep.lock().unwrap().take();
        let mut on_sleep = on_sleep.expect("this machine sleeps");
        on_sleep(self, deadline_ns);
        *self.on_sleep.lock().unwrap() = Some(on_sleep);
    }

    fn wake(&self, _: &AtomicU32, _: Wake) {}
}

// SAFETY: a moment has passed when no reader is on the list that began before it, or at it.
unsafe impl Grace for TestPlatform {
    fn read_begin(&self) -> u64 {
        let moment = self.moment.load(Ordering::SeqCst);
        self.readers.lock().unwrap().push(moment);
        moment
    }

    fn read_end(&self, begun: u64) {
        let mut readers = self.readers.lock().unwrap();
        let at = readers.iter().position(|reader| *reader == begun).unwrap();
        readers.swap_remove(at);
    }

    fn cookie(&self) -> u64 {
        self.moment.fetch_add(1, Ordering::SeqCst)
    }

    fn poll(&self, cookie: u64) -> bool {
        let readers = self.readers.lock().unwrap();
        readers.iter().all(|reader| *reader > cookie)
    }
}

/// A usable region of node 0.
pub(crate) fn region(start: u64, end: u64) -> MemoryRegion {
    MemoryRegion {
        start: PhysAddr(start),
        end: PhysAddr(end),
        node: NodeId(0),
        kind: RegionKind::Usable,
    }
}

/// The page allocator of a machine with one zone Normal of about `mib` MiB at 4 GiB.
pub(crate) fn pages(mib: usize) -> PageAllocator<TestPlatform> {
    let start = 4u64 << 30;
    let platform = TestPlatform::new(start, mib << 20);
    let map = [region(start, start + ((mib as u64) << 20))];
    let config = BootConfig {
        memory_is_zero: true,
        ..BootConfig::default()
    };
    PageAllocator::boot(platform, &map, &config).unwrap()
}

/// A small deterministic generator for randomised tests; print the seed in every failure.
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Rng {
        Rng(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// A number below `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 11) as usize) % n
    }
}
