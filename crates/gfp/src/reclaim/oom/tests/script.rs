//! Scripted candidates, and a clock that they move.

extern crate std;

use crate::Mm;
use crate::flags::{GFP_KERNEL, Gfp};
use crate::frame::{NodeId, Order};
use crate::page::{BootConfig, MemoryRegion, PageRequest};
use crate::platform::{Fact, Platform};
use crate::policy::oom::{Candidate, TaskRow};
use crate::reclaim::Nobody;
use crate::reclaim::oom::{OomCaller, OomId, OomReport, OomSettings, OomSource};
use crate::testing::{TestPlatform, region};
use std::ops::ControlFlow;
use std::ptr::NonNull;
use std::string::{String, ToString};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::Relaxed};
use std::vec::Vec;

pub(super) type TestMm = Mm<TestPlatform>;

/// Requests here are not to be reported, unless a test says so.
pub(super) const QUIET: Gfp = GFP_KERNEL.with(Gfp::NOWARN);
pub(super) const NS_PER_MS: u64 = 1_000_000;
/// Time that passes with each look at a victim.
pub(super) const LOOK_MS: u64 = 50;
pub(super) const NEVER: u32 = u32::MAX;

pub(super) struct Task {
    pub(super) id: u64,
    pub(super) memory: Mutex<Vec<NonNull<u8>>>,
    pub(super) candidate: Candidate,
    /// So often it is looked at after its kill before it ends.
    pub(super) looks: AtomicU32,
    pub(super) ended: AtomicBool,
}

/// All of the machine's memory belongs to its tasks.
pub(super) struct Script<'m> {
    pub(super) mm: &'m TestMm,
    pub(super) tasks: Vec<Task>,
    pub(super) settings: OomSettings,
    pub(super) caller: OomCaller,
    pub(super) reaps: bool,
    pub(super) kills: Mutex<Vec<(u64, u64)>>,
    pub(super) marks: Mutex<Vec<u64>>,
    pub(super) looks: AtomicUsize,
    pub(super) reap_attempts: AtomicUsize,
    pub(super) reports: Mutex<Vec<String>>,
    pub(super) deadlocks: AtomicUsize,
}

// SAFETY: the memory is the tasks' own.
unsafe impl Sync for Script<'_> {}

impl<'m> Script<'m> {
    /// Tasks that have so many pages, and after their kill end after so many looks. The last gets
    /// what is left as well.
    pub(super) fn new(mm: &'m TestMm, tasks: &[(u64, usize, u32)]) -> Script<'m> {
        let mut script = Script {
            mm,
            tasks: Vec::new(),
            settings: OomSettings::default(),
            caller: OomCaller::default(),
            reaps: false,
            kills: Mutex::default(),
            marks: Mutex::default(),
            looks: AtomicUsize::new(0),
            reap_attempts: AtomicUsize::new(0),
            reports: Mutex::default(),
            deadlocks: AtomicUsize::new(0),
        };
        for (at, (id, pages, looks)) in tasks.iter().enumerate() {
            let wanted = if at + 1 == tasks.len() {
                usize::MAX
            } else {
                *pages
            };
            let memory = take(mm, wanted);
            assert!(memory.len() >= *pages);
            script.tasks.push(Task {
                id: *id,
                memory: Mutex::new(memory),
                candidate: Candidate {
                    rss: *pages,
                    ..Candidate::default()
                },
                looks: AtomicU32::new(*looks),
                ended: AtomicBool::new(false),
            });
        }
        script
    }

    pub(super) fn task(&self, who: OomId) -> &Task {
        self.tasks.iter().find(|task| task.id == who.0).unwrap()
    }

    pub(super) fn killed(&self) -> Vec<u64> {
        self.kills
            .lock()
            .unwrap()
            .iter()
            .map(|kill| kill.0)
            .collect()
    }

    pub(super) fn free_all(&self, task: &Task) -> usize {
        let memory = core::mem::take(&mut *task.memory.lock().unwrap());
        // SAFETY: the task's own, freed once.
        memory
            .iter()
            .for_each(|p| unsafe { self.mm.kfree(p.as_ptr()) });
        memory.len()
    }

    /// Runs `body` while this is the machine's source.
    pub(super) fn run<R>(&self, body: impl FnOnce() -> R) -> R {
        let reclaim = self.mm.slabs().reclaim();
        let source = NonNull::from(self as &dyn OomSource);
        // SAFETY: lifetimes only; it is unregistered below.
        let source = unsafe {
            core::mem::transmute::<NonNull<dyn OomSource + '_>, NonNull<dyn OomSource>>(source)
        };
        // SAFETY: as above.
        let id = unsafe { reclaim.register_oom_source_for(source) }.unwrap();
        let result = body();
        reclaim.unregister_oom_source(id);
        result
    }
}

impl OomSource for Script<'_> {
    fn for_each(&self, visit: &mut dyn FnMut(OomId, &Candidate) -> ControlFlow<()>) {
        let lives = |task: &&Task| !task.ended.load(Relaxed);
        for task in self.tasks.iter().filter(lives) {
            if visit(OomId(task.id), &task.candidate).is_break() {
                return;
            }
        }
    }

    fn caller(&self) -> OomCaller {
        self.caller
    }

    fn mark(&self, who: OomId) {
        self.marks.lock().unwrap().push(who.0);
        if self.caller.id == Some(who) {
            let task = self.mm.platform().this_task().unwrap();
            task.note(Fact::OomVictim);
        }
    }

    fn kill(&self, who: OomId) {
        let now = self.mm.platform().now_ns();
        self.kills.lock().unwrap().push((who.0, now));
    }

    fn has_ended(&self, who: OomId) -> bool {
        self.looks.fetch_add(1, Relaxed);
        self.mm.platform().pass_ns(LOOK_MS * NS_PER_MS);
        let task = self.task(who);
        match task.looks.load(Relaxed) {
            NEVER => false,
            0 => {
                self.free_all(task);
                task.ended.store(true, Relaxed);
                true
            }
            looks => {
                task.looks.store(looks - 1, Relaxed);
                false
            }
        }
    }

    fn reap(&self, who: OomId) -> bool {
        self.reap_attempts.fetch_add(1, Relaxed);
        if self.reaps {
            self.free_all(self.task(who));
        }
        self.reaps
    }

    fn settings(&self) -> OomSettings {
        self.settings
    }

    fn describe(&self, who: OomId) -> TaskRow<'_> {
        TaskRow {
            pid: who.0 as u32,
            rss_anon: self.task(who).candidate.rss,
            comm: "hog",
            ..TaskRow::default()
        }
    }

    fn report(&self, report: &OomReport<'_>) {
        self.reports.lock().unwrap().push(report.to_string());
    }

    fn deadlocked(&self, report: &OomReport<'_>) {
        self.deadlocks.fetch_add(1, Relaxed);
        self.report(report);
    }
}

impl Drop for Script<'_> {
    fn drop(&mut self) {
        for task in &self.tasks {
            self.free_all(task);
        }
    }
}

pub(super) fn boot() -> TestMm {
    boot_nodes(1)
}

/// A machine of 16 MiB, cut into nodes.
pub(super) fn boot_nodes(nodes: u8) -> TestMm {
    const START: u64 = 4 << 30;
    const BYTES: u64 = 16 << 20;
    let platform = TestPlatform::new(START, BYTES as usize);
    let each = BYTES / u64::from(nodes);
    let node = |n: u8| MemoryRegion {
        node: NodeId(n),
        ..region(START + u64::from(n) * each, START + u64::from(n + 1) * each)
    };
    let map: Vec<_> = (0..nodes).map(node).collect();
    Mm::boot(platform, &map, &BootConfig::default()).unwrap()
}

/// Up to so many pages, one by one.
pub(super) fn take(mm: &TestMm, pages: usize) -> Vec<NonNull<u8>> {
    let mut taken = Vec::new();
    while taken.len() < pages
        && let Ok(page) = mm.kmalloc(4096, QUIET | Gfp::NORETRY)
    {
        taken.push(page);
    }
    taken
}

/// One page more, which is given back at once.
pub(super) fn one(mm: &TestMm, gfp: Gfp) -> bool {
    let page = mm
        .slabs()
        .reclaim()
        .alloc(&PageRequest::new(gfp, Order::ZERO), &Nobody);
    // SAFETY: ours, freed once.
    page.is_ok_and(|p| unsafe { mm.pages().free(p, Order::ZERO) }.is_ok())
}
