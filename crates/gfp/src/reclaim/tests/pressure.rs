//! Pressure, from the first lack to enough, and the time that reclaim takes.

use super::{Cache, boot, with};
use crate::Mm;
use crate::flags::{GFP_KERNEL, Gfp};
use crate::policy::pressure::Gauge;
use crate::policy::pressure::Pressure::{self, Critical, Low, Medium, None};
use crate::policy::reclaim::shrink::{Counted, Scanned, Settings};
use crate::reclaim::{ShrinkControl, Shrinker};
use crate::testing::TestPlatform;
use std::cell::Cell;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::vec::Vec;

type Machine = Mm<TestPlatform>;

/// Of what it is asked to look at, this cache gives one in so many.
struct Stingy<'m> {
    cache: Cache<'m>,
    one_in: usize,
    looked_at: AtomicUsize,
}

impl Shrinker for Stingy<'_> {
    fn count(&self, control: &ShrinkControl) -> Counted {
        self.cache.count(control)
    }

    fn scan(&self, control: &ShrinkControl) -> Scanned {
        let before = self.looked_at.fetch_add(control.objects, Relaxed);
        let due = |n: usize| n / self.one_in;
        self.cache.mm.platform().advance(1);
        Scanned::Done {
            looked_at: control.objects,
            freed: self.cache.give(due(before + control.objects) - due(before)),
        }
    }
}

/// Asks until `enough`, while a cache that gives one in so many has all memory. What was measured.
fn ask_of(one_in: usize, mut enough: impl FnMut(&Machine) -> bool) -> Pressure {
    let mm = boot();
    let cache = Stingy {
        cache: Cache::new(&mm),
        one_in,
        looked_at: AtomicUsize::new(0),
    };
    let shrinker = NonNull::from(&cache as &dyn Shrinker);
    // SAFETY: lifetimes only; it is unregistered below, before the cache goes.
    let shrinker = unsafe {
        std::mem::transmute::<NonNull<dyn Shrinker + '_>, NonNull<dyn Shrinker>>(shrinker)
    };
    // SAFETY: as above.
    let id = unsafe { mm.register_shrinker_for(shrinker, Settings::default()) }.unwrap();
    cache.cache.fill();
    mm.slabs().reclaim().pressure.change(|_| Gauge::NONE);
    let mut taken = Vec::new();
    while !enough(&mm) {
        taken.push(mm.kmalloc(4096, GFP_KERNEL).unwrap());
    }
    let measured = Gauge::from_bits(mm.slabs().reclaim().pressure.gauge.load(Relaxed)).level();
    mm.unregister_shrinker(id);
    // SAFETY: freed once.
    let free = |p: NonNull<u8>| unsafe { mm.kfree(p.as_ptr()) };
    taken.into_iter().for_each(free);
    cache.cache.give(usize::MAX);
    assert_eq!(mm.pressure(), None, "enough is free");
    measured
}

#[test]
fn pressure_says_how_much_of_what_is_looked_at_comes() {
    let looks = |mm: &Machine| mm.slabs().reclaim().events().objects_scanned > 2048;
    assert_eq!(ask_of(1, looks), Low);
    assert_eq!(ask_of(2, looks), Low);
    assert_eq!(ask_of(3, looks), Medium);
    assert_eq!(ask_of(30, looks), Critical);
}

#[test]
fn pressure_goes_with_free_memory_and_a_ladder_in_vain_is_critical() {
    let mm = boot();
    assert_eq!(mm.pressure(), None);
    let mut taken = Vec::new();
    let mut seen = [0; 4];
    while let Ok(p) = mm.kmalloc(4096, GFP_KERNEL & !Gfp::RECLAIM) {
        taken.push(p);
        let level = mm.pressure();
        seen[level as usize] += 1;
        assert!(level <= Medium, "nobody reclaimed");
    }
    assert!(seen[0] > 3000 && seen[1] > 10, "{seen:?}");
    assert!(mm.pressure() >= Low);
    while let Ok(p) = mm.kmalloc(4096, GFP_KERNEL) {
        taken.push(p);
    }
    assert_eq!(mm.pressure(), Critical);
    // SAFETY: freed once.
    let mut free = |n: usize| unsafe { taken.drain(..n).for_each(|p| mm.kfree(p.as_ptr())) };
    free(8);
    assert_eq!(mm.pressure(), Critical, "a few pages are not the end of it");
    free(1000);
    assert_eq!(mm.pressure(), None);
    while mm.pressure() == None {
        taken.push(mm.kmalloc(4096, GFP_KERNEL & !Gfp::RECLAIM).unwrap());
    }
    assert_eq!(mm.pressure(), Low, "what was measured is forgotten");
    // SAFETY: freed once.
    taken
        .drain(..)
        .for_each(|p| unsafe { mm.kfree(p.as_ptr()) });
}

#[test]
fn who_waits_for_another_level_is_told_of_it_or_gives_up() {
    let mm = boot();
    assert_eq!(mm.wait_pressure(Critical, Option::None, || false), None);
    let looks = Cell::new(0);
    let later = || {
        looks.set(looks.get() + 1);
        looks.get() == 3
    };
    mm.stop_wait_pressure(); // nobody waits
    assert_eq!(mm.wait_pressure(None, Option::None, later), None);
    assert_eq!(looks.get(), 3);
    assert_eq!(mm.wait_pressure(None, Some(0), || false), None);
    let cache = Cache::new(&mm);
    looks.set(0);
    let full = || {
        looks.set(looks.get() + 1);
        if looks.get() == 2 {
            cache.fill();
        }
        false
    };
    assert_eq!(mm.wait_pressure(None, Option::None, full), Critical);
    assert_eq!(looks.get(), 2);
    cache.give(usize::MAX);
}

#[test]
fn the_time_of_reclaim_is_counted_once_however_many_reclaim() {
    // P409
    let mm = boot();
    let clock = mm.platform();
    let reclaim = mm.slabs().reclaim();
    clock.advance(5);
    assert_eq!(mm.memory_stall_us(), 0);
    let first = reclaim.stall();
    clock.advance(3);
    let second = reclaim.stall();
    clock.advance(4);
    drop(first);
    clock.advance(2);
    assert_eq!(mm.memory_stall_us(), 9_000, "it is still going on");
    drop(second);
    clock.advance(100);
    assert_eq!(mm.memory_stall_us(), 9_000);
    drop(reclaim.stall());
    assert_eq!(mm.memory_stall_us(), 9_000);
}

#[test]
fn direct_reclaim_and_the_background_are_stalls() {
    // P409
    let time = Cell::new(0);
    ask_of(1, |mm| {
        time.set(mm.memory_stall_us());
        mm.slabs().reclaim().events().objects_scanned > 512
    });
    assert!(
        time.get() >= 4_000,
        "each scan took a millisecond: {}",
        time.get()
    );
    let mm = boot();
    let cache = Cache::new(&mm);
    with(&cache, Settings::default(), || {
        cache.fill();
        let before = mm.memory_stall_us();
        let mut called = false;
        super::kswapd::run(&mm, |asleep| {
            if asleep && !called {
                super::kswapd::ask(&mm, crate::flags::GFP_NOWAIT);
                called = true;
            }
            if !asleep {
                mm.platform().advance(1);
            }
            asleep && mm.slabs().reclaim().events().runs != 0
        });
        assert!(mm.memory_stall_us() > before);
    });
    cache.give(usize::MAX);
}
