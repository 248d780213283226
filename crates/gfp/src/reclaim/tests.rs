//! Shrinkers and direct reclaim over a small machine.

extern crate std;

mod compact;
mod compact_tuning;
mod gone;
mod kcompactd;
mod kswapd;
mod manual;
mod pressure;
mod stall;
mod stalls;
mod throttle;

use super::{ShrinkControl, Shrinker};
use crate::Mm;
use crate::flags::{GFP_ATOMIC, GFP_KERNEL, GFP_NOFS, GFP_NOWAIT, Gfp};
use crate::frame::NodeId;
use crate::page::BootConfig;
use crate::policy::oom::Candidate;
use crate::policy::reclaim::Priority;
use crate::policy::reclaim::shrink::{Counted, Scanned, Settings};
use crate::reclaim::oom::{OomId, OomSource};
use crate::testing::{TestPlatform, region};
use std::ops::ControlFlow;
use std::ptr::NonNull;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::vec::Vec;

/// Objects of 4 KiB that can be made again.
struct Cache<'m> {
    mm: &'m Mm<TestPlatform>,
    objects: Mutex<Vec<NonNull<u8>>>,
    scans: AtomicUsize,
    /// It is being filled, and gives nothing.
    asleep: AtomicBool,
    /// Each scan allocates itself.
    allocates: bool,
    /// Requests of a scan that found no memory.
    refused: AtomicUsize,
}

// SAFETY: the objects are the cache's own.
unsafe impl Sync for Cache<'_> {}
// SAFETY: as above.
unsafe impl Send for Cache<'_> {}

impl<'m> Cache<'m> {
    fn new(mm: &'m Mm<TestPlatform>) -> Cache<'m> {
        Cache {
            mm,
            objects: Mutex::new(Vec::new()),
            scans: AtomicUsize::new(0),
            asleep: AtomicBool::new(false),
            allocates: false,
            refused: AtomicUsize::new(0),
        }
    }

    /// Takes all memory that comes while this cache gives nothing.
    fn fill(&self) -> usize {
        self.asleep.store(true, Relaxed);
        let mut objects = Vec::new();
        while let Ok(p) = self.mm.kmalloc(4096, GFP_KERNEL) {
            objects.push(p);
        }
        let mut mine = self.objects.lock().unwrap();
        mine.extend(objects);
        self.asleep.store(false, Relaxed);
        mine.len()
    }

    fn give(&self, n: usize) -> usize {
        let mut objects = self.objects.lock().unwrap();
        let keep = objects.len().saturating_sub(n);
        let given = objects.split_off(keep);
        // SAFETY: the cache's own, freed once.
        given
            .iter()
            .for_each(|p| unsafe { self.mm.kfree(p.as_ptr()) });
        given.len()
    }
}

impl Shrinker for Cache<'_> {
    fn count(&self, _: &ShrinkControl) -> Counted {
        if self.asleep.load(Relaxed) {
            return Counted::Nothing;
        }
        match self.objects.lock().unwrap().len() {
            0 => Counted::Empty,
            n => Counted::Objects(n),
        }
    }

    fn scan(&self, control: &ShrinkControl) -> Scanned {
        self.scans.fetch_add(1, Relaxed);
        if self.allocates {
            // Must neither come back here nor wait for itself.
            match self.mm.kmalloc(4096, GFP_KERNEL) {
                Ok(p) => self.objects.lock().unwrap().push(p),
                Err(_) => _ = self.refused.fetch_add(1, Relaxed),
            }
        }
        Scanned::Done {
            looked_at: control.objects,
            freed: self.give(control.objects),
        }
    }
}

/// A machine of 16 MiB.
fn boot() -> Mm<TestPlatform> {
    const START: u64 = 4 << 30;
    const BYTES: u64 = 16 << 20;
    let platform = TestPlatform::new(START, BYTES as usize);
    let map = [region(START, START + BYTES)];
    Mm::boot(platform, &map, &BootConfig::default()).unwrap()
}

/// Runs `body` while the cache is registered.
fn with<R>(cache: &Cache<'_>, settings: Settings, body: impl FnOnce() -> R) -> R {
    with_shrinker(cache.mm, cache, settings, body)
}

/// Runs `body` while the shrinker is registered.
fn with_shrinker<R>(
    mm: &Mm<TestPlatform>,
    shrinker: &dyn Shrinker,
    settings: Settings,
    body: impl FnOnce() -> R,
) -> R {
    let shrinker = NonNull::from(shrinker);
    // SAFETY: lifetimes only; it is unregistered below, before the cache goes.
    let shrinker = unsafe {
        std::mem::transmute::<NonNull<dyn Shrinker + '_>, NonNull<dyn Shrinker>>(shrinker)
    };
    // SAFETY: as above.
    let id = unsafe { mm.register_shrinker_for(shrinker, settings) }.unwrap();
    let result = body();
    mm.unregister_shrinker(id);
    result
}

#[test]
fn a_cache_gives_way_to_a_request_and_not_to_one_that_may_not_reclaim() {
    // P103, P405, P411
    let mm = boot();
    let cache = Cache::new(&mm);
    with(&cache, Settings::default(), || {
        let full = cache.fill();
        assert!(full > 1000);
        assert!(mm.kmalloc(4096, GFP_KERNEL & !Gfp::RECLAIM).is_err());
        assert_eq!(cache.scans.load(Relaxed), 0);
        let p = mm.kmalloc(4096, GFP_KERNEL).unwrap();
        assert!(cache.scans.load(Relaxed) > 0);
        let left = cache.objects.lock().unwrap().len();
        assert!(left < full && left > full / 2, "{left} of {full} are left");
        // SAFETY: freed once.
        unsafe { mm.kfree(p.as_ptr()) };
    });
    let scans = cache.scans.load(Relaxed);
    cache.fill();
    assert!(mm.kmalloc(4096, GFP_KERNEL).is_err());
    assert_eq!(cache.scans.load(Relaxed), scans, "it is asked no more");
    cache.give(usize::MAX);
    mm.verify().unwrap();
}

#[test]
fn a_shrinker_that_needs_fs_is_left_alone_by_nofs_and_its_work_is_kept() {
    // P416, P412
    let mm = boot();
    let cache = Cache::new(&mm);
    let needs_fs = Settings {
        needs: Gfp::FS,
        ..Settings::default()
    };
    with(&cache, needs_fs, || {
        cache.fill();
        assert!(mm.kmalloc(4096, GFP_NOFS).is_err());
        assert_eq!(cache.scans.load(Relaxed), 0);
        let p = mm.kmalloc(4096, GFP_KERNEL).unwrap();
        // SAFETY: freed once.
        unsafe { mm.kfree(p.as_ptr()) };
    });
    cache.give(usize::MAX);
}

#[test]
fn names_and_inodes_are_spared_as_the_administrator_says() {
    // P715
    let mm = boot();
    let vfs = mm.tunables();
    for (keeps_names, percent, gives) in
        [(true, "0", false), (false, "0", true), (true, "100", true)]
    {
        vfs.write("vfs_cache_pressure", percent).unwrap();
        let cache = Cache::new(&mm);
        let settings = Settings {
            vfs: keeps_names,
            ..Settings::default()
        };
        with(&cache, settings, || {
            cache.fill();
            let page = mm.kmalloc(4096, GFP_KERNEL);
            assert_eq!(page.is_ok(), gives, "{keeps_names} {percent}");
            assert_eq!(cache.scans.load(Relaxed) != 0, gives);
            // SAFETY: freed once.
            page.iter().for_each(|p| unsafe { mm.kfree(p.as_ptr()) });
        });
        cache.give(usize::MAX);
    }
    mm.verify().unwrap();
}

#[test]
fn a_shrinker_that_allocates_is_not_entered_again() {
    // P133, P962
    let mm = boot();
    let cache = Cache {
        allocates: true,
        ..Cache::new(&mm)
    };
    with(&cache, Settings::default(), || {
        for _ in 0..10 {
            cache.fill();
            let p = mm.kmalloc(4096, GFP_KERNEL).unwrap();
            // SAFETY: freed once.
            unsafe { mm.kfree(p.as_ptr()) };
        }
    });
    cache.give(usize::MAX);
    mm.verify().unwrap();
}

#[test]
fn a_shrinker_with_nothing_to_give_lets_the_request_fail() {
    // P107, P121
    let mm = boot();
    let (cache, empty) = (Cache::new(&mm), Cache::new(&mm));
    with(&empty, Settings::default(), || {
        cache.fill();
        assert!(mm.kmalloc(4096, GFP_KERNEL).is_err());
        assert!(mm.kmalloc(4096, GFP_KERNEL | Gfp::NORETRY).is_err());
    });
    assert_eq!(empty.scans.load(Relaxed), 0);
    cache.give(usize::MAX);
}

/// Somebody who may be killed, and is not there to be.
#[derive(Default)]
struct Scapegoat {
    kills: AtomicUsize,
}

impl OomSource for Scapegoat {
    fn for_each(&self, visit: &mut dyn FnMut(OomId, &Candidate) -> ControlFlow<()>) {
        let candidate = Candidate {
            rss: 100,
            ..Candidate::default()
        };
        _ = visit(OomId(1), &candidate);
    }
    fn mark(&self, _: OomId) {}
    fn kill(&self, _: OomId) {
        self.kills.fetch_add(1, Relaxed);
    }
    fn has_ended(&self, _: OomId) -> bool {
        true
    }
}

#[test]
fn nobody_dies_while_a_cache_has_more_to_give_than_one_round_takes() {
    // P121, P127: a round frees 32 pages, and more than that is missing up to the watermark.
    let mm = boot();
    let scapegoat: &'static Scapegoat = std::boxed::Box::leak(std::boxed::Box::default());
    let id = mm.register_oom_source(scapegoat).unwrap();
    let cache = Cache::new(&mm);
    cache.asleep.store(true, Relaxed);
    // So that a pass does not free much more than it was asked for.
    let settings = Settings {
        batch: 8,
        ..Settings::default()
    };
    with(&cache, settings, || {
        let quiet = GFP_KERNEL | Gfp::NORETRY | Gfp::NOWARN;
        let mut objects = cache.objects.lock().unwrap();
        while let Ok(p) = mm.kmalloc(4096, quiet) {
            objects.push(p);
        }
        drop(objects);
        let reserves = mm.scope_noreclaim(&"uses up the reserves").unwrap();
        let mut taken = Vec::new();
        while let Ok(p) = mm.kmalloc(4096, GFP_NOWAIT) {
            taken.push(p);
        }
        drop(reserves);
        let zone = mm.pages().zone_stats().next().unwrap();
        assert!(zone.free.free + 2 * 32 < zone.watermarks.min);
        cache.asleep.store(false, Relaxed);
        let p = mm.kmalloc(4096, GFP_KERNEL).unwrap();
        assert_eq!(scapegoat.kills.load(Relaxed), 0);
        taken.push(p);
        // SAFETY: all freed once.
        taken.iter().for_each(|p| unsafe { mm.kfree(p.as_ptr()) });
    });
    cache.give(usize::MAX);
    mm.unregister_oom_source(id);
    mm.verify().unwrap();
}

/// Says that it has nothing just now, the first time that it is asked.
#[derive(Default)]
struct Busy {
    counts: AtomicUsize,
    asked_for: AtomicUsize,
}

impl Shrinker for Busy {
    fn count(&self, _: &ShrinkControl) -> Counted {
        match self.counts.fetch_add(1, Relaxed) {
            1 => Counted::Nothing,
            _ => Counted::Objects(10_000),
        }
    }
    fn scan(&self, control: &ShrinkControl) -> Scanned {
        self.asked_for.fetch_add(control.objects, Relaxed);
        Scanned::Done {
            looked_at: control.objects,
            freed: 0,
        }
    }
}

#[test]
fn what_was_deferred_waits_while_a_cache_cannot_be_counted() {
    // P411, P412
    let mm = boot();
    let busy: &'static Busy = std::boxed::Box::leak(std::boxed::Box::default());
    let needs_fs = Settings {
        needs: Gfp::FS,
        ..Settings::default()
    };
    let id = mm.register_shrinker(busy, needs_fs).unwrap();
    let pass = |gfp, n| {
        let priority = Priority::new(n).unwrap();
        mm.slabs().reclaim().shrink(gfp, NodeId(0), priority)
    };
    // 2,500 objects at priority 3, which NOFS leaves for later.
    assert_eq!(pass(GFP_NOFS, 3).looked_at, 0);
    assert_eq!(pass(GFP_KERNEL, 3).looked_at, 0, "it cannot be counted");
    // Half of them, and 10,000 of this pass, in whole batches.
    assert_eq!(pass(GFP_KERNEL, 1).looked_at, 11_250 / 128 * 128);
    assert_eq!(busy.asked_for.load(Relaxed), 11_136);
    mm.unregister_shrinker(id);
}

#[test]
#[should_panic(expected = "registered with this machine")]
fn a_shrinker_of_another_machine_is_told_apart() {
    let (here, there) = (boot(), boot());
    let busy: &'static Busy = std::boxed::Box::leak(std::boxed::Box::default());
    let register = |mm: &Mm<TestPlatform>| mm.register_shrinker(busy, Settings::default());
    let (mine, theirs) = (register(&here).unwrap(), register(&there).unwrap());
    here.unregister_shrinker(mine);
    drop(there); // and its slots with it
    here.unregister_shrinker(theirs);
}

#[test]
fn slots_of_shrinkers_are_used_again_and_grow() {
    let mm = boot();
    let caches: Vec<_> = (0..100).map(|_| Cache::new(&mm)).collect();
    let reclaim = mm.slabs().reclaim();
    for _ in 0..3 {
        let register = |cache: &Cache<'_>| {
            let shrinker = NonNull::from(cache as &dyn Shrinker);
            // SAFETY: lifetimes only; all are unregistered below.
            let shrinker = unsafe {
                std::mem::transmute::<NonNull<dyn Shrinker + '_>, NonNull<dyn Shrinker>>(shrinker)
            };
            // SAFETY: as above.
            unsafe { reclaim.register_shrinker_for(shrinker, Settings::default()) }.unwrap()
        };
        let ids: Vec<_> = caches.iter().map(register).collect();
        ids.into_iter()
            .for_each(|id| reclaim.unregister_shrinker(id));
    }
    let free = mm.pages().free_page_count();
    assert!(mm.kmalloc(8, GFP_ATOMIC).is_ok());
    assert!(free > 3500, "slots take a few pages, once");
}
