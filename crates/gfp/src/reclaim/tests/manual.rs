//! Shrinkers are asked because somebody says so.

use super::{Cache, boot, with, with_shrinker};
use crate::platform::Context;
use crate::policy::reclaim::manual::DropCaches;
use crate::policy::reclaim::shrink::{Counted, Scanned, Settings};
use crate::policy::tunable::TunableError;
use crate::reclaim::{Dropped, ReclaimBusy, ShrinkControl, Shrinker};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::vec::Vec;

#[test]
fn a_cache_is_dropped_and_the_memory_is_free() {
    // P417, P716
    let mm = boot();
    let free = mm.pages().free_page_count();
    let cache = Cache::new(&mm);
    with(&cache, Settings::default(), || {
        let objects = cache.fill();
        let vm = mm.tunables();
        vm.write("drop_caches", "1").unwrap();
        assert_eq!(cache.scans.load(Relaxed), 0);
        let dropped = mm.drop_caches(DropCaches::Objects);
        assert_eq!(dropped, Ok(Dropped { pages: 0, objects }));
        assert!(mm.pages().free_page_count() + 64 > free);
        vm.write("drop_caches", "3").unwrap();
        let done = mm.slabs().reclaim().events();
        assert_eq!((done.dropped_pages, done.dropped_objects), (2, 2));
        assert!(done.objects_scanned >= objects as u64);
        assert_eq!(done.runs, 0);
    });
}

#[test]
fn whoever_drops_caches_is_named_until_the_line_is_silenced() {
    // P417, P716, P723
    let mm = boot();
    let cache = Cache::new(&mm);
    with(&cache, Settings::default(), || {
        let said = || core::mem::take(&mut *mm.platform().failures.lock().unwrap());
        let vm = mm.tunables();
        for wrong in ["0", "5", "-1", "7", "", "1 2", "all"] {
            assert!(vm.write("drop_caches", wrong).is_err(), "{wrong}");
        }
        assert_eq!(
            vm.read("drop_caches").unwrap_err(),
            TunableError::WriteOnly {
                name: "drop_caches"
            }
        );
        let done = mm.slabs().reclaim().events();
        assert_eq!((done.dropped_pages, done.dropped_objects), (0, 0));
        assert_eq!(said(), Vec::<&str>::new());
        vm.write("drop_caches", "3").unwrap();
        assert_eq!(said(), ["drop_caches: 3"]);
        vm.write("drop_caches", "4").unwrap();
        vm.write("drop_caches", "2").unwrap();
        assert_eq!(said(), Vec::<&str>::new());
    });
    // An interrupt has nothing to say here.
    mm.platform().play(Context::HardIrq);
    assert_eq!(mm.drop_caches(DropCaches::Both), Err(ReclaimBusy));
    mm.platform().play(Context::Task);
}

/// Gives four objects at each look, for ever.
#[derive(Default)]
struct Spring {
    looks: AtomicUsize,
}

impl Shrinker for Spring {
    fn count(&self, _: &ShrinkControl) -> Counted {
        self.looks.fetch_add(1, Relaxed);
        Counted::Objects(4)
    }

    fn scan(&self, control: &ShrinkControl) -> Scanned {
        Scanned::Done {
            looked_at: control.objects,
            freed: 4,
        }
    }
}

#[test]
fn a_cache_that_fills_up_again_does_not_keep_who_drops_it() {
    // P417
    let mm = boot();
    let spring = Spring::default();
    with_shrinker(&mm, &spring, Settings::default(), || {
        // Four are next to nothing in the third round.
        let dropped = mm.drop_caches(DropCaches::Objects).unwrap();
        assert_eq!((dropped.objects, spring.looks.load(Relaxed)), (12, 3));
    });
}
