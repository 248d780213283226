//! Shrinkers and direct reclaim over a small machine.

extern crate std;

mod kswapd;
mod throttle;

use super::{ShrinkControl, Shrinker};
use crate::Mm;
use crate::flags::{GFP_ATOMIC, GFP_KERNEL, GFP_NOFS, Gfp};
use crate::page::BootConfig;
use crate::policy::reclaim::shrink::{Counted, Scanned, Settings};
use crate::testing::{TestPlatform, region};
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
    let mm = cache.mm;
    let shrinker = NonNull::from(cache as &dyn Shrinker);
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
