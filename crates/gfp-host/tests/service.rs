//! A machine for a Rust program: buffers, caches that give way, the background.
//!
//! Seen to fail with: a child whose machine still waits for the parent's background (it hangs); a
//! guard whose drop in the child leaves the shrinker in use.
#![cfg(not(loom))]

use gfp::flags::{GFP_KERNEL, GFP_NOWAIT, Gfp};
use gfp::frame::NodeId;
use gfp::platform::Platform;
use gfp::policy::pressure::Pressure;
use gfp::policy::reclaim::shrink::{Counted, Scanned, Settings};
use gfp::policy::watermark::Watermarks;
use gfp::reclaim::{NodeTaskError, ShrinkControl, Shrinker};
use gfp_host::service::BackgroundError;
use gfp_host::{Buffer, FailureReports, Host, HostConfig, ShrinkerGuard, fork};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::thread;
use std::time::{Duration, Instant};

#[path = "common/child.rs"]
mod child;
#[path = "common/shared.rs"]
mod shared;
#[path = "common/stderr.rs"]
mod stderr;
use child::in_child;
use shared::Shared;
use stderr::stderr_of_child;

const RAM: usize = 16 << 20;
const PAGE: usize = 4096;

fn boot() -> Host {
    Host::boot(&HostConfig::new(RAM)).unwrap()
}

/// Pages that can be made again.
#[derive(Default)]
struct Cache {
    values: Shared<Vec<Buffer>>,
    scans: AtomicUsize,
}

impl Cache {
    /// Takes all memory that a request gets which asks nobody.
    fn fill(&self, host: &Host) -> usize {
        let mut values = Vec::new();
        while let Ok(value) = host.buffer(PAGE, GFP_NOWAIT & !Gfp::RECLAIM) {
            values.push(value);
        }
        self.values.with(|mine| {
            mine.extend(values);
            mine.len()
        })
    }

    /// Takes more, from the reserve, until so little is free that the background is to work, and
    /// has it work: with nothing cached anywhere, a request for a page finds that out.
    fn wake_background(&self, host: &Host) {
        loop {
            host.slabs().shrink_all();
            host.pages().drain_all();
            if host.pages().free_page_count() < marks(host).low {
                break;
            }
            let _reserve = host.scope_noreclaim(&"a test").unwrap();
            let value = host.buffer(PAGE, GFP_KERNEL).unwrap();
            self.values.with(|mine| mine.push(value));
        }
        if let Ok(page) = host.get_free_pages(GFP_NOWAIT, 0) {
            // SAFETY: allocated above, freed once.
            unsafe { host.free_pages(page.as_ptr(), 0) };
        }
    }

    fn len(&self) -> usize {
        self.values.with(|values| values.len())
    }

    fn clear(&self) {
        self.values.with(std::mem::take);
    }
}

impl Shrinker for Cache {
    fn count(&self, _: &ShrinkControl) -> Counted {
        Counted::Objects(self.len())
    }

    fn scan(&self, control: &ShrinkControl) -> Scanned {
        self.scans.fetch_add(1, Relaxed);
        let given = self.values.with(|values| {
            let keep = values.len().saturating_sub(control.objects);
            values.split_off(keep)
        });
        Scanned::Done {
            looked_at: control.objects,
            freed: given.len(),
        }
    }
}

fn register(host: &Host, cache: &Arc<Cache>) -> ShrinkerGuard {
    let shrinker: Arc<Cache> = Arc::clone(cache);
    host.register_shrinker(shrinker, Settings::default())
        .unwrap()
}

/// The watermarks, without what may be added to them for a while.
fn marks(host: &Host) -> Watermarks {
    host.pages().zone_stats().next().unwrap().watermarks
}

#[test]
fn a_buffer_reads_as_zero_is_its_owners_alone_and_is_given_back() {
    let host = boot();
    let free = || {
        host.trim();
        host.pages().free_page_count()
    };
    drop(host.buffer(100, GFP_KERNEL));
    let before = free();
    for len in [0, 1, 100, PAGE, 100_000, RAM / 2] {
        let mut first = host.buffer(len, GFP_KERNEL).unwrap();
        assert!(first.len() == len && first.iter().all(|b| *b == 0));
        first.fill(1);
        let second = host.buffer(len.min(PAGE), GFP_KERNEL).unwrap();
        assert!(second.iter().all(|b| *b == 0) && first.iter().all(|b| *b == 1));
        let thread = thread::spawn(move || first.iter().map(|b| usize::from(*b)).sum::<usize>());
        assert_eq!(thread.join().unwrap(), len);
    }
    assert!(host.buffer(2 * RAM, GFP_KERNEL).is_err());
    assert!(before - free() <= 64, "what is kept is little");
    host.verify().unwrap();
}

#[test]
fn a_machine_lives_as_long_as_its_last_buffer() {
    let buffer = boot().buffer(PAGE, GFP_KERNEL).unwrap();
    assert!(buffer.iter().all(|b| *b == 0));
}

#[test]
fn a_cache_gives_way_until_its_guard_is_dropped() {
    // P411, P415
    let host = boot();
    let cache = Arc::new(Cache::default());
    let guard = register(&host, &cache);
    let full = cache.fill(&host);
    assert_eq!(guard.freed_objects(), 0);
    let buffer = host.buffer(PAGE, GFP_KERNEL).unwrap();
    let freed = guard.freed_objects() as usize;
    assert!(freed >= 32 && freed < full / 2, "{freed} of {full}");
    assert_eq!(cache.len(), full - freed);
    drop((guard, buffer));
    assert_eq!(Arc::strong_count(&cache), 1);
    let scans = cache.scans.load(Relaxed);
    cache.fill(&host);
    let mut more = Vec::new();
    while let Ok(buffer) = host.buffer(PAGE, GFP_KERNEL) {
        more.push(buffer);
    }
    assert_eq!(cache.scans.load(Relaxed), scans);
    drop(more);
    cache.clear();
    host.verify().unwrap();
}

#[test]
fn the_background_gives_to_requests_that_may_not_wait() {
    // P101, P400, P401
    let host = boot();
    let cache = Arc::new(Cache::default());
    let guard = register(&host, &cache);
    let background = host.start_background().unwrap();
    cache.fill(&host);
    cache.wake_background(&host);
    while host.pages().free_page_count() < marks(&host).high {
        thread::yield_now();
    }
    // What it has freed may be on its way to the operating system for a moment.
    while host.buffer(PAGE, GFP_NOWAIT).is_err() {
        thread::yield_now();
    }
    drop(background);
    let events = host.slabs().reclaim().events();
    assert_eq!(events.stalls.iter().sum::<u64>(), 0, "no request reclaimed");
    assert!(events.runs > 0 && guard.freed_objects() > 0);
    drop(guard);
    cache.clear();
    host.verify().unwrap();
}

#[test]
fn a_node_has_one_background_which_can_be_stopped_and_started_again() {
    const BYTES: usize = 16 << 20;
    let config = HostConfig::new(BYTES).node(NodeId(1), BYTES);
    let host = Host::boot(&config).unwrap();
    let first = host.start_background().unwrap();
    let again = host.start_background();
    assert!(matches!(
        again,
        Err(BackgroundError::Task(NodeTaskError::HasOne))
    ));
    drop(first);
    for _ in 0..20 {
        host.start_background().unwrap();
    }
    // Part of it is taken: what was started is stopped again.
    let (asked, stop) = (AtomicBool::new(false), AtomicBool::new(false));
    let stopped = || {
        asked.store(true, Release);
        stop.load(Acquire)
    };
    thread::scope(|scope| {
        scope.spawn(|| host.kswapd(NodeId(1), stopped).unwrap());
        while !asked.load(Acquire) {
            thread::yield_now();
        }
        assert!(host.start_background().is_err());
        stop.store(true, Release);
        host.stop_kswapd(NodeId(1));
    });
    host.start_background().unwrap();
}

/// A cache whose shrinker panics at the first question.
struct Broken {
    asked: AtomicUsize,
}

impl Shrinker for Broken {
    fn count(&self, _: &ShrinkControl) -> Counted {
        self.asked.fetch_add(1, Relaxed);
        panic!("this shrinker is broken");
    }

    fn scan(&self, _: &ShrinkControl) -> Scanned {
        Scanned::Stop
    }
}

#[test]
fn a_shrinker_that_panics_is_asked_no_more_and_the_background_goes_on() {
    let host = boot();
    let broken = Arc::new(Broken {
        asked: AtomicUsize::new(0),
    });
    let settings = Settings::default();
    let broken_guard = host.register_shrinker(broken.clone(), settings).unwrap();
    let cache = Arc::new(Cache::default());
    let guard = register(&host, &cache);
    let background = host.start_background().unwrap();
    cache.fill(&host);
    while !broken_guard.has_panicked() {
        cache.wake_background(&host);
        thread::yield_now();
    }
    while background.panics() == 0 {
        thread::yield_now();
    }
    // Somebody who is called after that frees memory, which is counted a moment later.
    while guard.freed_objects() == 0 {
        cache.wake_background(&host);
        thread::yield_now();
    }
    assert_eq!((background.panics(), broken.asked.load(Relaxed)), (1, 1));
    assert!(!guard.has_panicked());
    // A request that asks itself is not harmed either.
    drop(background);
    cache.fill(&host);
    drop(host.buffer(PAGE, GFP_KERNEL).unwrap());
    drop((broken_guard, guard));
    cache.clear();
    host.verify().unwrap();
}

#[test]
fn a_child_of_a_fork_has_no_background_and_waits_for_none() {
    // P406
    fork::install().unwrap();
    let host = boot();
    let cache = Arc::new(Cache::default());
    let guard = register(&host, &cache);
    let background = host.start_background().unwrap();
    cache.fill(&host);
    let mut of_child = Some((background, guard));
    let answer = in_child(|| {
        let in_cache = cache.len();
        drop(of_child.take());
        {
            // With the reserve gone a request would wait for the background.
            let _mine = host.scope_noreclaim(&"all of it").unwrap();
            while host.kmalloc(PAGE, GFP_KERNEL).is_ok() {}
        }
        if host.kmalloc(PAGE, GFP_KERNEL).is_ok() || cache.len() != in_cache {
            return 1; // it was asked, though the guard is gone
        }
        cache.clear();
        let tasks = [
            host.kswapd(NodeId(0), || true),
            host.kcompactd(NodeId(0), || true),
        ];
        match tasks {
            [Ok(()), Ok(())] => 0,
            _ => 2, // a place is not free
        }
    });
    assert_eq!(answer, 0);
    // The parent's is there.
    let (background, guard) = of_child.take().unwrap();
    cache.wake_background(&host);
    while host.pages().free_page_count() < marks(&host).high {
        thread::yield_now();
    }
    drop((background, guard));
    cache.clear();
    assert!(host.platform().sleep().is_some());
}

#[test]
fn changes_of_pressure_are_told_until_the_guard_is_dropped() {
    let host = boot();
    let told = Arc::new(Shared::<Vec<Pressure>>::default());
    let teller = Arc::clone(&told);
    let guard = host.on_pressure(move |level| teller.with(|told| told.push(level)));
    let guard = guard.unwrap();
    let until = |level| {
        while told.with(|told| told.last().copied()) != Some(level) {
            thread::yield_now();
        }
    };
    let mut taken = Vec::new();
    while let Ok(buffer) = host.buffer(PAGE, GFP_KERNEL) {
        taken.push(buffer);
    }
    assert_eq!(host.pressure(), Pressure::Critical);
    until(Pressure::Critical);
    taken.clear();
    assert_eq!(host.pressure(), Pressure::None);
    until(Pressure::None);
    drop(guard);
    let told = told.with(|told| told.clone());
    assert!(told.windows(2).all(|pair| pair[0] != pair[1]), "{told:?}");
}

/// Has nothing to give, and takes its time to say so.
struct Slow;

impl Shrinker for Slow {
    fn count(&self, _: &ShrinkControl) -> Counted {
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_millis(1) {
            std::hint::spin_loop();
        }
        Counted::Empty
    }

    fn scan(&self, _: &ShrinkControl) -> Scanned {
        Scanned::Stop
    }
}

#[test]
fn time_that_is_lost_is_told_until_the_guard_is_dropped() {
    // P680
    let host = boot();
    let slow = host.register_shrinker(Arc::new(Slow), Settings::default());
    let told = Arc::new(AtomicUsize::new(0));
    let teller = Arc::clone(&told);
    // A millisecond in a window: any request in need takes longer with that shrinker.
    let trigger = "some 1000 10000000".parse().unwrap();
    let guard = host.on_stall(trigger, move || _ = teller.fetch_add(1, Release));
    let guard = guard.unwrap();
    assert_eq!(told.load(Acquire), 0);
    let mut taken = Vec::new();
    while let Ok(buffer) = host.buffer(PAGE, GFP_KERNEL) {
        taken.push(buffer);
    }
    assert!(host.memory_stall_us() >= 1000);
    while told.load(Acquire) == 0 {
        thread::yield_now();
    }
    drop((guard, slow));
    let times = told.load(Acquire);
    taken.clear();
    while let Ok(buffer) = host.buffer(PAGE, GFP_KERNEL) {
        taken.push(buffer);
    }
    assert_eq!(told.load(Acquire), times);
}

#[test]
fn a_process_of_one_thread_is_stalled_in_full_while_it_reclaims() {
    // P409, P680: its child has one thread, on however many CPUs.
    let host = boot();
    let slow = host.register_shrinker(Arc::new(Slow), Settings::default());
    let answer = in_child(|| {
        while host.kmalloc(PAGE, GFP_KERNEL).is_ok() {}
        let [some, full] = host.memory_stalls().unwrap_or_default();
        i32::from(some.total_us < 1000) + 2 * i32::from(some != full)
    });
    assert_eq!(answer, 0);
    drop(slow);
}

#[test]
fn a_request_that_fails_is_reported_once_if_the_machine_was_built_to() {
    // P600, P601, P606
    let fail = |reports, gfp| {
        let config = HostConfig::new(RAM).failure_reports(reports);
        let host = Host::boot(&config).unwrap();
        stderr_of_child(|| {
            for _ in 0..3 {
                while host.get_free_pages(gfp, 10).is_ok() {}
            }
        })
    };
    let text = fail(FailureReports::StandardError, GFP_KERNEL);
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].contains(": page allocation failure: order:10, mode:0xcc0(GFP_KERNEL), nodemask="),
        "{text}"
    );
    assert!(lines[1].starts_with("Node 0 Normal: "), "{text}");
    let head = lines.iter().filter(|line| **line == "Mem-Info:");
    assert_eq!(head.count(), 1, "{text}");
    assert!(
        text.contains("Node 0 Normal free:") && text.ends_with('\n'),
        "{text}"
    );
    assert_eq!(
        fail(FailureReports::StandardError, GFP_KERNEL | Gfp::NOWARN),
        ""
    );
    assert_eq!(fail(FailureReports::Silent, GFP_KERNEL), "");
}
