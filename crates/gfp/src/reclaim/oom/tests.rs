//! The killer over a machine of 16 MiB with scripted candidates and a clock that the script moves.

extern crate std;

mod mempolicy;
mod notifiers;
mod script;
mod table;

use super::{OomCaller, OomId, OomRegisterError, OomSource};
use crate::flags::{GFP_ATOMIC, GFP_NOFS, Gfp};
use crate::frame::Order;
use crate::page::{Need, PageAllocator, PageRequest, Relief};
use crate::platform::{Fact, Platform};
use crate::policy::effort::Machine;
use crate::policy::oom::{ADJ_NEVER, Candidate, PanicOnOom, Reaper, TABLE_HEADER};
use crate::reclaim::{Nobody, REPORT_EVERY_NS, Reclaim, TICK_NS, Way};
use crate::stat::View;
use crate::testing::TestPlatform;
use script::{LOOK_MS, NEVER, NS_PER_MS, QUIET, Script, boot, one};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::vec::Vec;

#[test]
fn the_largest_die_first_and_the_last_request_fails() {
    // P127, P433, P434, P617
    let mm = boot();
    let mut script = Script::new(&mm, &[(1, 500, 0), (2, 1500, 0), (3, 700, 0), (4, 900, 0)]);
    script.tasks[3].candidate.adj = ADJ_NEVER;
    script.tasks[3].candidate.rss = 9999;
    script.tasks[2].candidate.adj = 300;
    let mut mine = Vec::new();
    script.run(|| {
        while let Ok(page) = mm.kmalloc(4096, QUIET) {
            mine.push(page);
        }
    });
    // 700 pages and 30 % of the machine are more than 1500 pages.
    assert_eq!(script.killed(), [3, 2, 1]);
    assert_eq!(*script.marks.lock().unwrap(), [3, 2, 1]);
    assert!(mine.len() > 2600, "{} pages were there", mine.len());
    assert_eq!(script.deadlocks.load(Relaxed), 1);
    let mut vmstat = std::string::String::new();
    View::Vmstat.write(&mm, &mut vmstat).unwrap();
    assert!(vmstat.contains("\noom_kill 3\n"), "{vmstat}");
    // SAFETY: ours, freed once.
    mine.iter().for_each(|p| unsafe { mm.kfree(p.as_ptr()) });
    drop(script);
    mm.verify().unwrap();
}

#[test]
fn nobody_else_is_killed_while_a_victim_exits() {
    // P433
    let mm = boot();
    let script = Script::new(&mm, &[(1, 500, 0), (2, 2000, 30)]);
    assert!(script.run(|| one(&mm, QUIET)));
    assert_eq!(script.killed(), [2]);
    assert_eq!(script.looks.load(Relaxed), 31);
}

#[test]
fn a_victim_that_never_ends_is_given_up_after_the_stated_time() {
    // P435
    let mm = boot();
    let script = Script::new(&mm, &[(1, 500, 0), (2, 2000, NEVER)]);
    assert!(script.run(|| one(&mm, QUIET)));
    assert_eq!(script.killed(), [2, 1]);
    assert_eq!(script.reap_attempts.load(Relaxed), 10);
    let kills = script.kills.lock().unwrap();
    let waited_ms = (kills[1].1 - kills[0].1) / NS_PER_MS;
    let most = u64::from(Reaper::MS_MAX);
    assert!(
        (most..=most + LOOK_MS).contains(&waited_ms),
        "{waited_ms} ms"
    );
}

#[test]
fn memory_that_is_taken_from_a_victim_ends_the_wait() {
    // P435
    let mm = boot();
    let mut script = Script::new(&mm, &[(1, 500, 0), (2, 2000, NEVER)]);
    script.reaps = true;
    assert!(script.run(|| one(&mm, QUIET)));
    assert_eq!(script.killed(), [2]);
    assert_eq!(script.reap_attempts.load(Relaxed), 1);
    let looks = script.looks.load(Relaxed) as u64;
    // The clock is read before each look.
    assert_eq!(looks, u64::from(Reaper::FIRST_MS) / LOOK_MS + 1);
}

#[test]
fn a_request_that_must_not_fail_goes_on_after_a_kill() {
    // P130, P132
    let mm = boot();
    let script = Script::new(&mm, &[(1, 2000, NEVER)]);
    assert!(script.run(|| one(&mm, QUIET | Gfp::NOFAIL)));
    assert_eq!(script.killed(), [1]);
    assert_eq!(script.looks.load(Relaxed), 0, "it takes from the reserves");
}

#[test]
fn those_that_may_not_kill_fail() {
    // P128, P129, P971
    let mm = boot();
    let script = Script::new(&mm, &[(1, 500, 0), (2, 2000, 0)]);
    script.run(|| {
        for bits in [Gfp::NORETRY, Gfp::RETRY_MAYFAIL, Gfp::THISNODE] {
            assert!(!one(&mm, QUIET | bits), "{bits}");
        }
        assert!(!one(&mm, QUIET & !Gfp::DIRECT_RECLAIM));
        let costly = PageRequest::new(QUIET, Order::new(4).unwrap());
        assert!(mm.slabs().reclaim().alloc(&costly, &Nobody).is_err());
        assert_eq!(script.killed(), []);
        assert!(one(&mm, QUIET));
    });
    assert_eq!(script.killed(), [2]);
}

/// [`Way`], but memory comes free while the OOM lock is being taken.
struct Late<'a> {
    way: Way<'a, TestPlatform, Nobody>,
    script: &'a Script<'a>,
    unlocks: AtomicUsize,
}

impl Relief<TestPlatform> for Late<'_> {
    fn machine(&self, pages: &PageAllocator<TestPlatform>) -> Machine {
        self.way.machine(pages)
    }

    fn oom_lock(&self, pages: &PageAllocator<TestPlatform>) -> bool {
        self.script.free_all(&self.script.tasks[0]);
        self.way.oom_lock(pages)
    }

    fn oom_unlock(&self, pages: &PageAllocator<TestPlatform>) {
        self.unlocks.fetch_add(1, Relaxed);
        self.way.oom_unlock(pages);
    }

    fn oom_kill(&self, pages: &PageAllocator<TestPlatform>, need: &Need<'_>) -> bool {
        self.way.oom_kill(pages, need)
    }
}

#[test]
fn memory_that_comes_in_between_saves_everybody_and_the_lock_is_given_back() {
    // P128
    let mm = boot();
    let script = Script::new(&mm, &[(1, 1500, 0), (2, 1500, 0)]);
    let reclaim: &Reclaim<TestPlatform> = mm.slabs().reclaim();
    script.run(|| {
        let late = Late {
            way: Way {
                reclaim,
                above: &Nobody,
            },
            script: &script,
            unlocks: AtomicUsize::new(0),
        };
        let page = mm
            .pages()
            .alloc_with(&PageRequest::new(QUIET, Order::ZERO), &late);
        let page = page.unwrap();
        assert_eq!(script.killed(), []);
        assert_eq!(late.unlocks.load(Relaxed), 1);
        assert!(reclaim.oom.try_lock(), "nobody holds it");
        // SAFETY: [INV-OOM-1] taken above.
        unsafe { reclaim.oom.unlock(mm.platform()) };
        // SAFETY: ours, freed once.
        unsafe { mm.pages().free(page, Order::ZERO) }.unwrap();
    });
}

/// When somebody waits next, the first task gives its memory back, and the OOM lock too if it is
/// `locked`.
fn when_somebody_waits(script: &Script<'_>, locked: bool) {
    let raw = core::ptr::from_ref(script).expose_provenance();
    let meanwhile = std::boxed::Box::new(move || {
        // SAFETY: the test keeps `script` until the request has ended that runs this.
        let script = unsafe { &*core::ptr::with_exposed_provenance::<Script<'_>>(raw) };
        script.free_all(&script.tasks[0]);
        if locked {
            let oom = &script.mm.slabs().reclaim().oom;
            // SAFETY: [INV-OOM-1] the test took it.
            unsafe { oom.unlock(script.mm.platform()) };
        }
    });
    *script.mm.platform().on_relax.lock().unwrap() = Some(meanwhile);
}

#[test]
fn who_finds_the_lock_taken_waits_for_the_other() {
    // P128
    let mm = boot();
    let script = Script::new(&mm, &[(1, 2000, 0)]);
    script.run(|| {
        assert!(mm.slabs().reclaim().oom.try_lock());
        when_somebody_waits(&script, true);
        assert!(one(&mm, QUIET));
    });
    assert_eq!(script.killed(), []);
}

#[test]
fn who_finds_the_lock_taken_sleeps_a_tick_where_tasks_can() {
    // P124, P128: who holds it may need this CPU.
    let mm = boot();
    let script = Script::new(&mm, &[(1, 2000, 0)]);
    when_somebody_waits(&script, true);
    let mut release = mm.platform().on_relax.lock().unwrap().take();
    let slept = std::sync::Arc::new(AtomicUsize::new(0));
    let ns = slept.clone();
    *mm.platform().on_sleep.lock().unwrap() = Some(std::boxed::Box::new(move |platform, end| {
        let now = platform.now_ns();
        let tick = end.expect("it is not for ever") - now;
        ns.fetch_add(tick as usize, Relaxed);
        platform.pass_ns(tick);
        if let Some(release) = release.take() {
            release();
        }
    }));
    script.run(|| {
        assert!(mm.slabs().reclaim().oom.try_lock());
        assert!(one(&mm, QUIET));
    });
    // The clock goes on with each look.
    let slept = slept.load(Relaxed) as u64;
    assert!((TICK_NS - 10..=TICK_NS).contains(&slept), "{slept} ns");
    *mm.platform().on_sleep.lock().unwrap() = None;
}

#[test]
fn a_request_without_fs_kills_nobody_and_waits() {
    // P129, P431
    let mm = boot();
    let script = Script::new(&mm, &[(1, 2000, 0)]);
    script.run(|| {
        when_somebody_waits(&script, false);
        assert!(one(&mm, GFP_NOFS | Gfp::NOWARN));
        assert!(
            mm.platform().on_relax.lock().unwrap().is_none(),
            "it waited"
        );
        assert!(mm.slabs().reclaim().oom.try_lock(), "nobody holds it");
        // SAFETY: [INV-OOM-1] taken just now.
        unsafe { mm.slabs().reclaim().oom.unlock(mm.platform()) };
    });
    assert_eq!(script.killed(), []);
}

#[test]
fn a_caller_that_is_chosen_lives_on_reserves_and_then_fails() {
    // P131, P265, P435
    let mm = boot();
    let mut script = Script::new(&mm, &[(1, 500, NEVER), (2, 2000, NEVER)]);
    script.caller.id = Some(OomId(1));
    script.settings.kills_caller = true;
    let mut mine = Vec::new();
    script.run(|| {
        while let Ok(page) = mm.kmalloc(4096, QUIET) {
            mine.push(page);
        }
    });
    assert_eq!(script.killed(), [1]);
    let min = mm
        .pages()
        .zone_stats()
        .map(|z| z.watermarks.min)
        .sum::<usize>();
    assert!(
        mine.len() > min / 2 && mine.len() <= min - min * 3 / 16 + 1,
        "{} of {min}",
        mine.len()
    );
    let task = mm.platform().this_task().unwrap();
    task.forget(Fact::OomVictim);
    // SAFETY: ours, freed once.
    mine.iter().for_each(|p| unsafe { mm.kfree(p.as_ptr()) });
}

#[test]
fn a_caller_that_dies_anyway_is_marked_and_nobody_is_killed() {
    // P430
    let mm = boot();
    let mut script = Script::new(&mm, &[(1, 500, 0), (2, 2000, 0)]);
    script.caller = OomCaller {
        id: Some(OomId(1)),
        is_dying: true,
    };
    assert!(script.run(|| one(&mm, QUIET)));
    assert_eq!(*script.marks.lock().unwrap(), [1]);
    assert_eq!(script.killed(), []);
    let task = mm.platform().this_task().unwrap();
    task.forget(Fact::OomVictim);
}

#[test]
fn the_settings_may_want_a_panic() {
    // P432, P717
    let mm = boot();
    let mut script = Script::new(&mm, &[(1, 2000, 0)]);
    script.settings.panic_on_oom = PanicOnOom::IfUnconstrained;
    assert!(!script.run(|| one(&mm, QUIET)));
    assert_eq!(
        (script.killed(), script.deadlocks.load(Relaxed)),
        (Vec::new(), 1)
    );
    let reports = script.reports.lock().unwrap();
    assert!(
        reports[0].ends_with("panic_on_oom is set"),
        "{}",
        reports[0]
    );
}

struct Nothing;
impl OomSource for Nothing {
    fn for_each(&self, _: &mut dyn FnMut(OomId, &Candidate) -> ControlFlow<()>) {}
    fn mark(&self, _: OomId) {}
    fn kill(&self, _: OomId) {}
    fn has_ended(&self, _: OomId) -> bool {
        true
    }
}

#[test]
fn one_source_a_machine_and_without_it_nobody_dies() {
    // P129
    let mm = boot();
    let script = Script::new(&mm, &[(1, 2000, 0)]);
    let reclaim = mm.slabs().reclaim();
    assert!(!reclaim.oom.can_kill());
    script.run(|| {
        assert!(reclaim.oom.can_kill());
        let second = mm.register_oom_source(&Nothing);
        assert_eq!(second, Err(OomRegisterError::Full));
    });
    assert!(!reclaim.oom.can_kill());
    assert!(!one(&mm, QUIET));
    assert_eq!(script.killed(), []);
    let again = mm.register_oom_source(&Nothing).unwrap();
    mm.unregister_oom_source(again);
}

#[test]
fn a_lock_whose_holder_a_fork_left_behind_ends_the_killing_and_no_request_waits_for_it() {
    // P128: a busy lock would be progress for ever.
    let mm = boot();
    let script = Script::new(&mm, &[(1, 2000, 0)]);
    let oom = &mm.slabs().reclaim().oom;
    script.run(|| {
        mm.oom_holder_is_gone();
        assert!(oom.can_kill(), "nobody held it");
        assert!(oom.try_lock());
        mm.oom_holder_is_gone();
        assert!(!oom.can_kill() && !oom.try_lock());
        assert!(!one(&mm, QUIET));
        assert_eq!(
            mm.register_oom_source(&Nothing),
            Err(OomRegisterError::Lost)
        );
        // `run` unregisters the source here.
    });
    assert_eq!(script.killed(), []);
    // The holder was not left behind: it forked itself, in the killer.
    // SAFETY: [INV-OOM-1] taken above.
    unsafe { oom.unlock(mm.platform()) };
    assert!(oom.can_kill() && oom.try_lock());
    // SAFETY: [INV-OOM-1] as above.
    unsafe { oom.unlock(mm.platform()) };
}

#[test]
#[should_panic(expected = "registered with this machine")]
fn a_source_of_another_machine_is_told_apart() {
    // Its owner would believe that nobody calls it any more.
    let (here, there) = (boot(), boot());
    let theirs = Script::new(&there, &[(1, 9, 0)]);
    let mine = here.register_oom_source(&Nothing).unwrap();
    theirs.run(|| there.unregister_oom_source(mine));
}

#[test]
fn the_report_says_who_and_why() {
    // P435a, P606
    let mm = boot();
    let script = Script::new(&mm, &[(7, 2000, 0)]);
    assert!(script.run(|| one(&mm, QUIET)));
    let reports = script.reports.lock().unwrap();
    let lines: Vec<_> = reports[0].lines().collect();
    assert_eq!(lines.len(), 7, "{}", reports[0]);
    assert!(
        lines[0].contains("invoked oom-killer: gfp_mask=0x"),
        "{}",
        lines[0]
    );
    assert!(lines[0].contains("GFP_KERNEL|__GFP_NOWARN"), "{}", lines[0]);
    assert!(
        lines[1].starts_with("Node 0 Normal: is below its watermark: "),
        "{}",
        lines[1]
    );
    assert!(lines[2].ends_with(" pages are free"), "{}", lines[2]);
    assert_eq!(lines[3], TABLE_HEADER);
    assert!(lines[4].starts_with("[      7] "), "{}", lines[4]);
    assert!(
        lines[5].contains("global_oom,task_memcg=/,task=hog,pid=7"),
        "{}",
        lines[5]
    );
    let line = "Out of memory: Killed process 7 (hog) total-vm:0kB, anon-rss:8000kB";
    assert!(lines[6].starts_with(line), "{}", lines[6]);
}

#[test]
fn a_failure_is_reported_once_in_ten_seconds_and_not_with_nowarn() {
    // P600, P601, P603
    let mm = boot();
    let _script = Script::new(&mm, &[(1, 2000, 0)]);
    let mut urgent = Vec::new();
    while let Ok(page) = mm.kmalloc(4096, GFP_ATOMIC | Gfp::NOWARN) {
        urgent.push(page);
    }
    let failures = || mm.platform().failures.lock().unwrap().clone();
    assert_eq!(failures(), [] as [&str; 0]);
    for _ in 0..3 {
        assert!(!one(&mm, GFP_ATOMIC));
    }
    let first = failures();
    assert_eq!(first.len(), 1);
    let mut lines = first[0].lines();
    let head = lines.next().unwrap();
    assert!(
        head.starts_with("test: page allocation failure: order:0, mode:0x"),
        "{head}"
    );
    assert!(head.ends_with("(GFP_ATOMIC), nodemask=(null)"), "{head}");
    let why = lines.next().unwrap();
    assert!(
        why.starts_with("Node 0 Normal: is below its watermark: "),
        "{why}"
    );
    mm.platform().pass_ns(REPORT_EVERY_NS);
    assert!(!one(&mm, GFP_ATOMIC));
    let second = &failures()[1];
    assert!(second.contains("\n2 more were not reported\n"), "{second}");
    // SAFETY: ours, freed once.
    urgent.iter().for_each(|p| unsafe { mm.kfree(p.as_ptr()) });
}
